//! Where records go that came after a window of their own had closed.
//!
//! ```text
//!   stream --(repartition with values and headers)--> step with windows --late--> sink
//!                                                          `--> results
//! ```
//!
//! Why through the step with the windows: only it knows the source time of a record and its windows.

use std::rc::Rc;

use super::super::assembly::TopicTypes;
use super::super::stream::KeyedPlace;
use super::super::{Stream, Topic};
use super::finish_table;
use crate::codec::{Bincode, Codec, Data};
use crate::key::{Key, Windowed};
use crate::operator::{
    Folds, KeptRecords, KeyedWithHeaders, LateTo, Sink, WithHeaders, decode_key,
};
use crate::processor::{Context, Next, Record};
use crate::time::Stamp;
use crate::topology::Kind;

/// A topic for late records, and what writes them there as output number so and so.
pub(super) struct LateRoute<K, V> {
    topic: String,
    types: TopicTypes,
    sink: Box<dyn FnOnce(usize) -> Next<K, V>>,
}

impl<K: Key, V: Data> LateRoute<K, V> {
    pub(super) fn to<C: Codec<V>>(topic: Topic<K, V, C>) -> Self {
        let name = topic.name().to_owned();
        let of = name.clone();
        Self {
            topic: name,
            types: TopicTypes::of::<K, V, C>(),
            sink: Box::new(move |output| Box::new(Sink::<K, V, C>::new(of, output))),
        }
    }
}

/// Puts a step with windows in its place, whose late records go to a topic.
pub(super) fn finish<K: Key, V: Data, V2: Data, A: Data>(
    stream: Stream<K, V>,
    route: LateRoute<K, V>,
    kind: Kind,
    convert: fn(V) -> V2,
    folds: Folds<V2, A>,
) -> Stream<Windowed<K>, A> {
    let store = kind.stores()[0].clone();
    let stream = stream.by_key(store.as_str());
    let assembly = Rc::clone(&stream.assembly);
    let attach = stream.attach;
    let place = KeyedPlace {
        node: stream.node,
        inputs: stream.inputs,
        attach: Box::new(move |op| attach(Box::new(KeyedWithHeaders::new(op)))),
    };
    let Folds { add, merge } = folds;
    let add = move |known: &mut Option<A>, record: WithHeaders<V>| {
        add(known, convert(record.value));
    };
    let folds = Folds { add: Box::new(add), merge };
    let kept = TopicTypes::of::<K, KeptRecords<V>, Bincode>();
    let LateRoute { topic, types, sink } = route;
    let mut next = sink(assembly.borrow_mut().output(&topic));
    let to: LateTo<WithHeaders<V>> = Box::new(move |ctx: &mut Context, key, record, stamp| {
        let record = late_record(decode_key(&store, key)?, record, stamp);
        next.process(ctx, record)
    });
    let results = finish_table(Rc::clone(&assembly), place, kind, folds, Some(to), kept);
    let mut assembly = assembly.borrow_mut();
    let late = assembly.graph.add(Kind::Late, &[results.node]);
    assembly.graph.add(Kind::Sink { topic: topic.clone() }, &[late]);
    assembly.types.insert(topic, types);
    drop(assembly);
    results
}

fn late_record<K, V>(key: Option<K>, record: WithHeaders<V>, stamp: Stamp) -> Record<K, V> {
    Record {
        key,
        value: Some(record.value),
        timestamp: stamp.timestamp,
        source_time: stamp.source_time,
        headers: record.headers,
    }
}
