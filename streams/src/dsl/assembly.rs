//! A topology while it is built: the graph, and the typed operators beside it.
//!
//! Why both: the graph is what is printed, compared and cut into tasks; the operators are what a task
//! runs. Both come from the same calls, so they cannot disagree.
//!
//! Invariants
//! * input `n` of the graph is entry `n` here and clock `n` in a task's context.
//! * `timed` and `stateful` are in the order of their nodes once the topology is finished: a step comes
//!   before those that take its results.
//! * the first mistake is kept and reported when the topology is finished; later ones may follow from
//!   it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;

use super::{RowTypes, Stream, Topic};
use crate::codec::{Bincode, Codec, Data};
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::on_error::OnError;
use crate::operator::envelope::{self, Envelope};
use crate::operator::{Children, Combines, Now, SourceEntry, SourceSettings};
use crate::operator::{join_row, split_timer};
use crate::processor::{Entry, FallibleStep, Faults, Next, Shared, Stateful, Timed};
use crate::time::TimeInputs;
use crate::topology::{Graph, Kind, NodeId, Pattern};

/// How the records of a topic are shown to a person.
#[derive(Clone, Copy, Debug)]
pub struct TopicTypes {
    /// The key as JSON; bytes that are no key of the type as escaped text.
    pub key: fn(Option<&[u8]>) -> Value,
    /// The value as JSON, or why it does not decode.
    pub value: fn(Option<&[u8]>) -> Result<Value, String>,
    /// The Rust types themselves, for whoever asks with types.
    pub(crate) rows: RowTypes,
}

impl TopicTypes {
    pub(crate) fn of<K: RecordKey, V: Data, C: Codec<V>>() -> Self {
        Self { key: show_key::<K>, value: show_value::<V, C>, rows: RowTypes::of::<K, V>() }
    }

    /// The changelog of one side of a stream-stream join.
    pub(crate) fn of_join<K: RecordKey, V: Data>() -> Self {
        Self {
            key: show_join_key::<K>,
            value: show_join_value::<V>,
            rows: RowTypes::of_join::<K, V>(),
        }
    }

    /// The changelog of the timers of a processor.
    pub(crate) fn of_timers<K: RecordKey>() -> Self {
        Self {
            key: show_timer_key::<K>,
            value: show_value::<i64, Bincode>,
            rows: RowTypes::of_timers::<K>(),
        }
    }

    pub(crate) fn of_repartition<K: RecordKey, V: Data>() -> Self {
        Self { key: show_key::<K>, value: show_envelope::<V>, rows: RowTypes::of::<K, V>() }
    }
}

fn show_join_key<K: RecordKey>(bytes: Option<&[u8]>) -> Value {
    // The timestamp of the first row of a slice is no part of its key.
    if let Some((slice, key)) = bytes.and_then(join_row::split_first) {
        return serde_json::json!({ "key": show_key::<K>(Some(key)), "slice": slice });
    }
    let Some((key, (timestamp, _))) = bytes.and_then(join_row::split_listed) else {
        return show_key::<Vec<u8>>(bytes);
    };
    serde_json::json!({ "key": show_key::<K>(Some(key)), "timestamp": timestamp })
}

fn show_join_value<V: Data>(bytes: Option<&[u8]>) -> Result<Value, String> {
    let Some(bytes) = bytes else { return Ok(Value::Null) };
    let (head, value) =
        join_row::take_head(bytes, 0).ok_or_else(|| "no row of a join".to_owned())?;
    let value = show_value::<V, Bincode>(Some(value))?;
    Ok(serde_json::json!({ "value": value, "matched": head.matched }))
}

fn show_timer_key<K: RecordKey>(bytes: Option<&[u8]>) -> Value {
    match bytes.and_then(split_timer) {
        None => show_key::<Vec<u8>>(bytes),
        Some((kind, due, key)) => {
            serde_json::json!({ "timer": kind, "due": due, "key": show_key::<K>(Some(key)) })
        }
    }
}

pub(super) fn show_key<K: RecordKey>(bytes: Option<&[u8]>) -> Value {
    let shown = K::decode(bytes).ok().and_then(|key| serde_json::to_value(key).ok());
    match (shown, bytes) {
        (_, None) => Value::Null,
        (Some(value), _) => value,
        (None, Some(bytes)) => Value::String(bytes.escape_ascii().to_string()),
    }
}

pub(super) fn show_value<V: Data, C: Codec<V>>(bytes: Option<&[u8]>) -> Result<Value, String> {
    let Some(bytes) = bytes else { return Ok(Value::Null) };
    let value = C::decode(bytes).map_err(|e| e.to_string())?;
    serde_json::to_value(value).map_err(|e| e.to_string())
}

fn show_envelope<V: Data>(bytes: Option<&[u8]>) -> Result<Value, String> {
    let Some(bytes) = bytes else { return Ok(Value::Null) };
    match envelope::decode(bytes, 0)? {
        Envelope::KeyOnly { .. } | Envelope::Record { value: None, .. } => Ok(Value::Null),
        Envelope::Record { value, .. } => show_value::<V, Bincode>(value),
        Envelope::Watermarks(list) => Ok(serde_json::json!({ "watermarks": list })),
    }
}

/// A repartition topic and what its writer knows of time.
#[derive(Clone, Debug)]
pub(crate) struct RepartitionDecl {
    pub(crate) topic: String,
    /// The node that writes it.
    pub(crate) sink: NodeId,
    /// The operator's time there: the watermark that its tasks send.
    pub(crate) inputs: TimeInputs,
    /// Whether its reader takes records in the order of source time.
    pub(crate) ordered: Rc<Cell<bool>>,
}

struct Source {
    node: NodeId,
    input: usize,
    typed: Box<dyn Any>,
}

pub(super) struct Typed<K, V, C> {
    pub(super) settings: Rc<SourceSettings<V>>,
    pub(super) children: Children<K, V>,
    codec: std::marker::PhantomData<fn() -> C>,
}

/// Everything that the calls of a user have put together.
pub(crate) struct Assembly {
    pub(crate) graph: Graph,
    pub(crate) entries: Vec<Option<Box<dyn Entry>>>,
    pub(crate) timed: Vec<(NodeId, Shared<dyn Timed>)>,
    pub(crate) stateful: Vec<(NodeId, Shared<dyn Stateful>)>,
    /// Topics written, by the index that sinks know them by.
    pub(crate) outputs: Vec<String>,
    /// The output for dead letters, if there can be any.
    pub(crate) letters: Option<usize>,
    pub(crate) repartitions: Vec<RepartitionDecl>,
    /// What gathers records before they leave, and the node whose records it takes.
    pub(crate) combiners: Vec<(NodeId, Shared<dyn Combines>)>,
    pub(crate) types: BTreeMap<String, TopicTypes>,
    /// The time at which processors work, and their stores with them.
    pub(crate) now: Rc<Now>,
    ahead_max_ms: Rc<Cell<i64>>,
    sources: BTreeMap<String, Source>,
    mistake: Option<Error>,
    /// The topics of the log, if it is known.
    pub(super) known: Option<Arc<[String]>>,
}

impl Assembly {
    fn new(id: &str, ahead_max_ms: i64, on_error: OnError) -> Self {
        Self {
            graph: Graph { on_error, ..Graph::new(id) },
            entries: Vec::new(),
            timed: Vec::new(),
            stateful: Vec::new(),
            outputs: Vec::new(),
            letters: None,
            repartitions: Vec::new(),
            combiners: Vec::new(),
            types: BTreeMap::new(),
            now: Rc::default(),
            ahead_max_ms: Rc::new(Cell::new(ahead_max_ms)),
            sources: BTreeMap::new(),
            mistake: None,
            known: None,
        }
    }

    /// Notes that one topic is used with two types.
    pub(super) fn two_types(&mut self, topic: &str) {
        self.mistake(Error::Topology {
            reason: format!("topic `{topic}` is read with two types"),
            help: "use one `Topic` constant for it".to_owned(),
        });
    }

    pub(crate) fn mistake(&mut self, error: Error) {
        self.mistake.get_or_insert(error);
    }

    /// The types of a topic, also of one that a pattern takes.
    pub(crate) fn types_of(&self, topic: &str) -> Option<&TopicTypes> {
        let patterns = || self.graph.patterns.iter();
        let takes = |pattern: &&String| Pattern::new(pattern).is_ok_and(|p| p.takes(topic));
        self.types.get(topic).or_else(|| self.types.get(patterns().find(takes)?))
    }

    /// The index by which sinks know a topic.
    pub(crate) fn output(&mut self, topic: &str) -> usize {
        if let Some(index) = self.outputs.iter().position(|known| known == topic) {
            return index;
        }
        self.outputs.push(topic.to_owned());
        self.outputs.len() - 1
    }

    /// What becomes of records that a step cannot take, for all steps: a task has the entries of some.
    pub(crate) fn faults(&self) -> Faults {
        let graph = &self.graph;
        let fallible = graph.iter().filter_map(|(id, node)| {
            let policy = graph.policy(node)?;
            Some(FallibleStep { node: id.0, name: graph.step_name(id), policy })
        });
        let inputs = graph.inputs().into_iter().map(|(_, topic)| Arc::from(topic)).collect();
        Faults::new(fallible.collect(), inputs, self.letters)
    }

    /// Reserves the next input for a node that was just added.
    pub(crate) fn input(&mut self) -> usize {
        self.entries.push(None);
        self.entries.len() - 1
    }

    pub(super) fn source<K: RecordKey, V: Data, C: Codec<V>>(
        &mut self,
        topic: &str,
    ) -> Option<(NodeId, usize, &Typed<K, V, C>)> {
        if !self.sources.contains_key(topic) {
            let kind = Kind::Source { topic: topic.to_owned(), event_time: false };
            let node = self.graph.add(kind, &[]);
            let input = self.input();
            let settings = Rc::new(SourceSettings {
                event_time: RefCell::new(None),
                ahead_max_ms: Rc::clone(&self.ahead_max_ms),
            });
            let children = Children::new();
            let entry =
                SourceEntry::<K, V, C>::new(topic, node.0, Rc::clone(&settings), children.clone());
            self.entries[input] = Some(Box::new(entry));
            let codec = std::marker::PhantomData;
            let typed: Box<dyn Any> = Box::new(Typed::<K, V, C> { settings, children, codec });
            self.types.insert(topic.to_owned(), TopicTypes::of::<K, V, C>());
            self.sources.insert(topic.to_owned(), Source { node, input, typed });
        }
        let source = self.sources.get(topic)?;
        Some((source.node, source.input, source.typed.downcast_ref()?))
    }
}

/// A job under construction: where its streams begin.
///
/// ```
/// use streams::prelude::*;
/// const IN: Topic<String, u64> = topic("in");
/// const OUT: Topic<String, u64> = topic("out");
/// fn topology(t: &mut Topology) {
///     t.stream(IN).filter(|n| *n > 1).to(OUT);
/// }
/// # let mut d = TestDriver::new(topology);
/// # d.send(IN, "a".into(), 1).send(IN, "b".into(), 2);
/// # assert_eq!(d.read(OUT), [("b".to_string(), 2)]);
/// ```
pub struct Topology {
    pub(super) assembly: Shared<Assembly>,
}

impl Topology {
    pub(crate) fn build(
        id: &str,
        ahead_max_ms: i64,
        on_error: OnError,
        build: &dyn Fn(&mut Topology),
    ) -> Result<Assembly> {
        let assembly = Rc::new(RefCell::new(Assembly::new(id, ahead_max_ms, on_error)));
        let mut topology = Self { assembly: Rc::clone(&assembly) };
        build(&mut topology);
        drop(topology);
        let finished = Rc::try_unwrap(assembly).ok().map(RefCell::into_inner);
        let mut finished = finished.ok_or_else(|| Error::Topology {
            reason: "a stream outlives the function that builds the topology".to_owned(),
            help: "end each stream inside the function".to_owned(),
        })?;
        if let Some(mistake) = finished.mistake.take() {
            return Err(mistake);
        }
        finished.graph.validate()?;
        if let Some(topic) = finished.graph.letters_topic() {
            finished.letters = Some(finished.output(&topic));
        }
        // Operators are attached from the end of a stream to its source. A window that looked at its
        // clock before the window above it had passed on its results would close without them.
        finished.timed.sort_by_key(|(node, _)| *node);
        finished.stateful.sort_by_key(|(node, _)| *node);
        Ok(finished)
    }

    /// The records of a topic, which must exist when the job starts (S004).
    ///
    /// Asking for a topic twice gives two streams over one reading of it.
    pub fn stream<K: RecordKey, V: Data, C: Codec<V>>(
        &mut self,
        topic: Topic<K, V, C>,
    ) -> Stream<K, V> {
        self.stream_of::<K, V, C>(topic.name())
    }

    /// The records of a topic of this name.
    pub(super) fn stream_of<K: RecordKey, V: Data, C: Codec<V>>(
        &mut self,
        topic: &str,
    ) -> Stream<K, V> {
        let mut assembly = self.assembly.borrow_mut();
        let children;
        let (node, input, settings);
        match assembly.source::<K, V, C>(topic) {
            Some((n, i, typed)) => {
                (node, input, settings) = (n, i, Rc::clone(&typed.settings));
                children = typed.children.clone();
            }
            None => {
                assembly.two_types(topic);
                let ahead_max_ms = Rc::new(Cell::new(i64::MAX));
                settings = Rc::new(SourceSettings { event_time: RefCell::new(None), ahead_max_ms });
                (node, input, children) = (NodeId(0), 0, Children::new());
            }
        }
        drop(assembly);
        Stream {
            assembly: Rc::clone(&self.assembly),
            node,
            inputs: TimeInputs(vec![(input, 0)]),
            rekeyed: false,
            origin: topic.to_owned(),
            attach: Box::new(move |next: Next<K, V>| children.add(next)),
            source: Some(vec![(node, settings)]),
        }
    }
}
