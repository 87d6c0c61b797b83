//! The topology of a plan, through the public API, and how to reach its topics.
//!
//! Invariants
//! * Building is a function of the plan alone: a driver builds the topology as often as it likes.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::streams::prelude::*;
use ::streams::testing::TestRecord;
use serde_json::{Value, json};

use super::Row;
use super::plan::{Emit, Flow, Fold, Plan, Source, Window};
use super::values::{OracleKey, Val};
use crate::report::{Outcome, unsupported};

type Send<K> = Box<dyn Fn(&mut TestDriver, Option<K>, &Value, i64, Headers) -> Outcome>;
type Read = Box<dyn Fn(&mut TestDriver) -> Vec<Row>>;
type Add = Box<dyn Fn(&mut Val, Val) + std::marker::Send>;

/// A topology and its topics.
pub(super) struct Ports<K> {
    pub(super) topology: Box<dyn Fn(&mut Topology) + std::marker::Send + Sync>,
    pub(super) inputs: BTreeMap<&'static str, Send<K>>,
    pub(super) outputs: Vec<Output>,
}

/// A sink.
pub(super) struct Output {
    pub(super) topic: &'static str,
    /// The window of its results, if they have one.
    pub(super) window: Option<Window>,
    pub(super) read: Read,
}

pub(super) fn build<K: OracleKey>(plan: &Plan) -> Ports<K> {
    let names = Arc::new(Names::of(plan));
    let inputs = plan.topics.iter().map(|(name, nulls_are_values)| {
        let name = names.get(name);
        (name, input(name, *nulls_are_values))
    });
    let outputs = plan.sinks.iter().map(|(name, flow)| {
        let name = names.get(name);
        let window = match flow {
            Flow::Windowed(_, window, _) => Some(*window),
            _ => None,
        };
        Output { topic: name, window, read: output::<K>(name, flow) }
    });
    let (inputs, outputs) = (inputs.collect(), outputs.collect());
    let sinks = plan.sinks.clone();
    let topology = move |t: &mut Topology| {
        for (index, (name, flow)) in sinks.iter().enumerate() {
            sink::<K>(t, &names, &format!("store-{index}"), names.get(name), flow);
        }
    };
    Ports { topology: Box::new(topology), inputs, outputs }
}

/// Topic names as constants have them; a run leaks a few bytes for each.
struct Names(BTreeMap<String, &'static str>);

impl Names {
    fn of(plan: &Plan) -> Self {
        let names = plan.topics.keys().chain(plan.sinks.iter().map(|(name, _)| name));
        Self(names.map(|name| (name.clone(), &*name.clone().leak())).collect())
    }

    fn get(&self, name: &str) -> &'static str {
        self.0[name]
    }
}

fn input<K: OracleKey>(name: &'static str, nulls_are_values: bool) -> Send<K> {
    Box::new(move |driver, key, value, timestamp, headers| {
        let value = Val::from_json(value).ok_or_else(|| unsupported("format: `v`"))?;
        let value = Some(value).filter(|value| nulls_are_values || *value != Val::Null);
        driver.send_record(topic::<K, Val>(name), key, value, timestamp, headers);
        Ok(())
    })
}

fn output<K: OracleKey>(name: &'static str, flow: &Flow) -> Read {
    match flow {
        Flow::Stream(_) | Flow::Folded(_, Fold::Aggregate(..) | Fold::Reduce(_)) => {
            reader(topic::<K, Val>(name), K::to_json, Val::to_json)
        }
        Flow::Folded(_, Fold::Count) => reader(topic::<K, u64>(name), K::to_json, |n| json!(n)),
        Flow::Windowed(..) => reader(topic::<Windowed<K>, Val>(name), windowed, Val::to_json),
    }
}

fn windowed<K: OracleKey>(key: &Windowed<K>) -> Value {
    json!({ "key": key.key.to_json(), "start": key.start, "end": key.end })
}

fn reader<K: RecordKey, V: Data>(
    topic: Topic<K, V>,
    key: fn(&K) -> Value,
    value: impl Fn(&V) -> Value + 'static,
) -> Read {
    Box::new(move |driver| {
        let row = |record: TestRecord<K, V>| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers = record.headers.iter();
            [
                record.key.as_ref().map_or(Value::Null, key),
                record.value.as_ref().map_or(Value::Null, &value),
                json!(record.timestamp),
                headers.map(|h| json!([h.key, h.value.as_deref().map(text)])).collect(),
            ]
        };
        driver.read_committed(topic).into_iter().map(row).collect()
    })
}

fn sink<K: OracleKey>(t: &mut Topology, names: &Names, store: &str, to: &'static str, flow: &Flow) {
    match flow {
        Flow::Stream(source) => stream::<K>(t, names, source).to(topic(to)),
        Flow::Folded(source, fold) => {
            let stream = stream::<K>(t, names, source);
            match adder(fold) {
                None => stream.count(store).to(topic(to)),
                Some(add) => stream.aggregate(store, add).to(topic(to)),
            }
        }
        Flow::Windowed(source, window, fold) => {
            let windows = tumbling(millis(window.size_ms)).grace(millis(window.grace_ms));
            let stream = stream::<K>(t, names, source).window(windows);
            match adder(fold) {
                None => speak(stream.count(store), *window).map(Val::Number).to(topic(to)),
                Some(add) => speak(stream.aggregate(store, add), *window).to(topic(to)),
            }
        }
    }
}

fn speak<K: Key, A: Data>(table: WindowTable<K, A>, window: Window) -> Stream<Windowed<K>, A> {
    match window.emit {
        Emit::Update => table.on_update(),
        Emit::Final | Emit::Suppressed => table.on_close(),
    }
}

/// What adds a value to a row; `None` for a count.
fn adder(fold: &Fold) -> Option<Add> {
    match fold.clone() {
        Fold::Count => None,
        Fold::Aggregate(init, add) => Some(Box::new(move |row, value| {
            *row = if *row == Val::Null { add(&init, &value) } else { add(row, &value) };
        })),
        Fold::Reduce(add) => Some(Box::new(move |row, value| {
            *row = if *row == Val::Null { value } else { add(row, &value) };
        })),
    }
}

fn stream<K: OracleKey>(t: &mut Topology, names: &Names, source: &Source) -> Stream<K, Val> {
    match source {
        Source::Topic(name) => t.stream(topic::<K, Val>(names.get(name))),
        Source::Merge(sources) => {
            let streams: Vec<_> = sources.iter().map(|s| stream::<K>(t, names, s)).collect();
            let merged = streams.into_iter().reduce(Stream::merge);
            merged.expect("a merge of nothing is refused by the plan")
        }
        Source::ValueAsKey(source) => stream::<K>(t, names, source)
            .key_by(|value| K::from_text(&value.text()).expect("the keys of a case are texts")),
    }
}
