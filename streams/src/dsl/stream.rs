//! A stream of records and the steps that can follow it.
//!
//! Why a chain of closures: each step knows how to attach what comes after it, so the operators of a
//! task are nested from the end to the source, without queues between them.

use std::fmt::Display;
use std::rc::Rc;

use super::assembly::{Assembly, TopicTypes};
use super::repartition::Cut;
use super::{Topic, Window, WindowedStream};
use crate::codec::{Bincode, Codec, Data};
use crate::error::Error;
use crate::ids::StoreName;
use crate::key::{Key, RecordKey};
use crate::operator::{
    Filter, FlatMap, ForEach, KeyBy, Keyed, Map, RepartitionEntry, RepartitionSink, SharedNext,
    Sink, SourceSettings,
};
use crate::processor::{Next, ProcessKeyed, Shared};
use crate::time::TimeInputs;
use crate::topology::{Carries, Kind, NodeId, repartition_topic};

/// The sources directly in front of a stream: their nodes, and what may still be said of them.
pub(crate) type Sources<V> = Vec<(NodeId, Rc<SourceSettings<V>>)>;

/// Records on their way. A null value passes through every step untouched, without calling closures.
#[must_use = "a stream does nothing until it reaches `.to(topic)`, `.count(name)` or `.for_each(..)`"]
pub struct Stream<K, V> {
    pub(crate) assembly: Shared<Assembly>,
    pub(crate) node: NodeId,
    pub(crate) inputs: TimeInputs,
    pub(crate) rekeyed: bool,
    /// The topic or store that it comes from: implicit repartition topics are called after it.
    pub(crate) origin: String,
    pub(crate) attach: Box<dyn FnOnce(Next<K, V>)>,
    pub(crate) source: Option<Sources<V>>,
}

/// An operator's place in the graph, and how to put it there.
pub(crate) struct KeyedPlace<V> {
    pub(crate) node: NodeId,
    pub(crate) inputs: TimeInputs,
    pub(crate) attach: Box<dyn FnOnce(Box<dyn ProcessKeyed<V>>)>,
}

/// The topology, and a place in it.
pub(crate) type Placed<V> = (Shared<Assembly>, KeyedPlace<V>);

impl<K: RecordKey, V: Data> Stream<K, V> {
    pub(super) fn step<V2>(
        self,
        kind: Kind,
        operator: impl FnOnce(Next<K, V2>) -> Next<K, V> + 'static,
    ) -> Stream<K, V2> {
        let node = self.assembly.borrow_mut().graph.add(kind, &[self.node]);
        let attach = self.attach;
        Stream {
            assembly: self.assembly,
            node,
            inputs: self.inputs,
            rekeyed: self.rekeyed,
            origin: self.origin,
            attach: Box::new(move |next| attach(operator(next))),
            source: None,
        }
    }

    /// Takes event time from the value, in milliseconds since 1970, instead of the record's timestamp.
    ///
    /// Only directly after [`Topology::stream`](super::Topology::stream) (S018): the clock of a source
    /// partition counts every record, also those that later steps drop. A record whose event time lies
    /// more than an hour past its timestamp in the log stops the job (S022).
    pub fn event_time(self, extract: impl Fn(&V) -> i64 + Send + 'static) -> Self {
        let mut assembly = self.assembly.borrow_mut();
        let mistake = match &self.source {
            None => Some("`.event_time(..)` does not directly follow `t.stream(..)`"),
            Some(sources) if sources.iter().any(|(_, s)| s.event_time.borrow().is_some()) => {
                Some("two steps take the event time of one topic")
            }
            Some(sources) => {
                let extract = Rc::new(extract);
                for (node, source) in sources {
                    let extract = Rc::clone(&extract);
                    *source.event_time.borrow_mut() = Some(Box::new(move |v| extract(v)));
                    if let Kind::Source { event_time, .. } = &mut assembly.graph.nodes[node.0].kind
                    {
                        *event_time = true;
                    }
                }
                None
            }
        };
        if let Some(reason) = mistake {
            assembly.mistake(Error::Topology {
                reason: reason.to_owned(),
                help: "say it once, right behind the source".to_owned(),
            });
        }
        drop(assembly);
        self
    }

    /// Keeps the records whose value answers yes. The others are counted as filtered.
    pub fn filter(self, keep: impl Fn(&V) -> bool + Send + 'static) -> Self {
        self.step(Kind::Filter, |next| Box::new(Filter { keep, next }))
    }

    /// Replaces each value.
    pub fn map<V2: Data>(self, map: impl Fn(V) -> V2 + Send + 'static) -> Stream<K, V2> {
        self.step(Kind::Map, |next| Box::new(Map { map, next }))
    }

    /// Replaces each value by any number of values, in order.
    pub fn flat_map<V2: Data, I: IntoIterator<Item = V2> + 'static>(
        self,
        map: impl Fn(V) -> I + Send + 'static,
    ) -> Stream<K, V2> {
        self.step(Kind::FlatMap, |next| Box::new(FlatMap { map, next }))
    }

    /// Gives each record a new key. Before the next step that keeps state, records go through a
    /// repartition topic, so that those with one key meet. Null values have no key: they are counted
    /// and left out.
    pub fn key_by<K2: Key>(self, key: impl Fn(&V) -> K2 + Send + 'static) -> Stream<K2, V> {
        let node = self.assembly.borrow_mut().graph.add(Kind::KeyBy, &[self.node]);
        let attach = self.attach;
        Stream {
            assembly: self.assembly,
            node,
            inputs: self.inputs,
            rekeyed: true,
            origin: self.origin,
            attach: Box::new(move |next| attach(Box::new(KeyBy { key, next }))),
            source: None,
        }
    }

    /// The records of both streams. Records of one source partition keep their order.
    pub fn merge(self, other: Self) -> Self {
        let node = self.assembly.borrow_mut().graph.add(Kind::Merge, &[self.node, other.node]);
        let (ours, theirs) = (self.attach, other.attach);
        Stream {
            assembly: self.assembly,
            node,
            inputs: self.inputs.union(&other.inputs),
            rekeyed: self.rekeyed || other.rekeyed,
            origin: self.origin,
            attach: Box::new(move |next| {
                let shared = SharedNext::new(next);
                ours(Box::new(shared.handle()));
                theirs(Box::new(shared));
            }),
            source: None,
        }
    }

    /// Calls a closure for each value. It runs again for records whose transaction is repeated after a
    /// crash: effects outside of the job are not exactly-once.
    pub fn for_each(self, call: impl Fn(&V) + Send + 'static) {
        self.assembly.borrow_mut().graph.add(Kind::ForEach, &[self.node]);
        (self.attach)(Box::new(ForEach { call }));
    }

    /// Writes the records to a topic, which is created if it is missing.
    pub fn to<C: Codec<V>>(self, topic: Topic<K, V, C>) {
        let output = {
            let mut assembly = self.assembly.borrow_mut();
            assembly.graph.add(Kind::Sink { topic: topic.name().to_owned() }, &[self.node]);
            let types = TopicTypes::of::<K, V, C>();
            assembly.types.insert(topic.name().to_owned(), types);
            assembly.output(topic.name())
        };
        (self.attach)(Box::new(Sink::<K, V, C>::new(topic.name().to_owned(), output)));
    }

    /// Groups the records of each key into windows of event time: [`tumbling`](crate::tumbling),
    /// [`hopping`](crate::hopping), [`sliding`](crate::sliding), [`session`](crate::session) or
    /// [`since`](crate::since).
    pub fn window<W: Window>(self, window: W) -> WindowedStream<K, V, W::Grouping>
    where
        K: Key,
    {
        WindowedStream::new(self, window.into())
    }

    /// Puts an operator that works on encoded keys behind this stream: directly, or behind a
    /// repartition topic, called after this name, when the key has changed.
    pub(crate) fn keyed<V2: 'static>(
        self,
        name: impl Display,
        carries: Carries,
        convert: fn(V) -> V2,
        decode: fn(Option<&[u8]>) -> Result<V2, String>,
    ) -> Placed<V2>
    where
        K: Key,
    {
        let attach = self.attach;
        if !self.rekeyed {
            let place = KeyedPlace {
                node: self.node,
                inputs: self.inputs,
                attach: Box::new(move |op| attach(Box::new(Keyed::new(convert, op)))),
            };
            return (self.assembly, place);
        }
        let topic = repartition_topic(&self.assembly.borrow().graph.id, name);
        let types = TopicTypes::of_repartition::<K, V>();
        let cut = Cut::new(&self.assembly, self.node, self.inputs, &topic, carries, types);
        attach(Box::new(RepartitionSink::<K, V>::new(topic.clone(), cut.output, carries)));
        let entries = Rc::clone(&self.assembly);
        let place = KeyedPlace {
            node: cut.node,
            inputs: TimeInputs(vec![(cut.input, 0)]),
            attach: Box::new(move |op| {
                let entry = RepartitionEntry::new(&topic, op, decode);
                entries.borrow_mut().entries[cut.input] = Some(Box::new(entry));
            }),
        };
        (self.assembly, place)
    }
}

/// A checked store name; a wrong one is kept as the topology's mistake.
pub(crate) fn store_name(
    assembly: &Shared<Assembly>,
    store: &str,
) -> Result<StoreName, Shared<Assembly>> {
    StoreName::new(store).map_err(|mistake| {
        assembly.borrow_mut().mistake(mistake.into());
        Rc::clone(assembly)
    })
}

/// The value that a repartition record carries.
pub(crate) fn decode_carried<V: Data>(bytes: Option<&[u8]>) -> Result<V, String> {
    let bytes = bytes.ok_or_else(|| "the record carries no value".to_owned())?;
    Bincode::decode(bytes).map_err(|e| e.to_string())
}
