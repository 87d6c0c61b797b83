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
use super::plan::{Emit, Flow, Fold, Input, Matches, Plan, Rows, Source, Window};
use super::values::{OracleKey, Val};
use crate::report::{Outcome, unsupported};

type Send<K> = Box<dyn Fn(&mut TestDriver, Option<K>, &Value, i64, Headers) -> Outcome>;
type Read = Box<dyn Fn(&mut TestDriver) -> Vec<Row>>;
type Add = Box<dyn Fn(&mut Val, Val) + std::marker::Send>;

/// A topology and its topics.
pub(super) struct Ports<K> {
    pub(super) topology: Box<dyn Fn(&mut Topology) + std::marker::Send + Sync>,
    pub(super) inputs: BTreeMap<&'static str, Send<K>>,
    pub(super) outputs: BTreeMap<&'static str, Read>,
}

pub(super) fn build<K: OracleKey>(plan: &Plan) -> Ports<K> {
    let names = Arc::new(Names::of(plan));
    let inputs = plan.topics.iter().map(|(name, written)| {
        let name = names.get(name);
        (name, input(name, *written))
    });
    let outputs = plan.sinks.iter().map(|(name, flow)| {
        let name = names.get(name);
        (name, output::<K>(name, flow))
    });
    let (inputs, outputs) = (inputs.collect(), outputs.collect());
    let plan = plan.clone();
    let topology = move |t: &mut Topology| {
        let mut building = Building { t, plan: &plan, names: &names, stores: 0 };
        for (name, flow) in &plan.sinks {
            building.sink::<K>(names.get(name), flow);
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

fn input<K: OracleKey>(name: &'static str, written: Input) -> Send<K> {
    Box::new(move |driver, key, value, timestamp, headers| {
        let mut value = Val::from_json(value)
            .ok_or_else(|| unsupported("format: `v`"))
            .map(|value| Some(value).filter(|v| written.nulls_are_values || *v != Val::Null))?;
        if written.carries_key {
            let key = key.as_ref().map(|key| key.to_json().to_string());
            value = value.map(|value| Val::Keyed(key, Box::new(value)));
        }
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

/// A topology while it grows.
struct Building<'a> {
    t: &'a mut Topology,
    plan: &'a Plan,
    names: &'a Names,
    stores: usize,
}

impl Building<'_> {
    /// The name of the next store: the same in each building of one plan.
    fn store(&mut self) -> String {
        self.stores += 1;
        format!("store-{}", self.stores)
    }

    fn sink<K: OracleKey>(&mut self, to: &'static str, flow: &Flow) {
        match flow {
            Flow::Stream(source) => self.stream::<K>(source).to(topic(to)),
            Flow::Folded(source, fold) => {
                let (stream, store) = (self.stream::<K>(source), self.store());
                match adder(fold) {
                    None => stream.count(&store).to(topic(to)),
                    Some(add) => stream.aggregate(&store, add).to(topic(to)),
                }
            }
            Flow::Windowed(source, window, fold) => {
                let windows = tumbling(millis(window.size_ms)).grace(millis(window.grace_ms));
                let (stream, store) = (self.stream::<K>(source).window(windows), self.store());
                match adder(fold) {
                    None => speak(stream.count(&store), *window).map(Val::Number).to(topic(to)),
                    Some(add) => speak(stream.aggregate(&store, add), *window).to(topic(to)),
                }
            }
        }
    }

    fn stream<K: OracleKey>(&mut self, source: &Source) -> Stream<K, Val> {
        match source {
            Source::Topic(name) => {
                let stream = self.t.stream(topic::<K, Val>(self.names.get(name)));
                let carries_key = self.plan.topics[name].carries_key;
                if carries_key { stream.map(Val::plain) } else { stream }
            }
            Source::SameKey(name) => {
                let stream = self.t.stream(topic::<K, Val>(self.names.get(name)));
                // A record without a key has none to be given again.
                let keyed = stream.filter(|value| value.key::<K>().is_some());
                let key = |value: &Val| value.key::<K>().expect("the others were filtered out");
                keyed.key_by(key).map(Val::plain)
            }
            Source::Merge(sources) => {
                let streams: Vec<_> = sources.iter().map(|s| self.stream::<K>(s)).collect();
                let merged = streams.into_iter().reduce(Stream::merge);
                merged.expect("a merge of nothing is refused by the plan")
            }
            Source::ValueAsKey(source) => self
                .stream::<K>(source)
                .key_by(|value| K::from_text(&value.text()).expect("keys of such cases are texts")),
            Source::Updates(rows) => self.table::<K>(rows).updates(),
            Source::TableJoin(source, rows, matches, join) => {
                let (table, stream) = (self.table::<K>(rows), self.stream::<K>(source));
                let join = *join;
                match matches {
                    Matches::Inner => stream.join(&table, move |l, r| join(&l, &r)),
                    _ => stream.left_join(&table, move |l, r| join(&l, &r.unwrap_or_default())),
                }
            }
            Source::GlobalJoin(source, name, matches, join) => {
                let (store, stream, join) = (self.store(), self.stream::<K>(source), *join);
                let table = self.t.global_table(topic::<K, Val>(self.names.get(name)), &store);
                let key = |value: &Val| K::from_text(value.text().split_once(',')?.1);
                match matches {
                    Matches::Inner => stream.join_global(&table, key, move |l, r| join(&l, &r)),
                    _ => stream.left_join_global(&table, key, move |l, r| {
                        join(&l, &r.unwrap_or_default())
                    }),
                }
            }
            Source::StreamJoin(left, right, apart, matches, join) => {
                let (left, right) = (self.stream::<K>(left), self.stream::<K>(right));
                let (name, join) = (self.store(), *join);
                let window = within(millis(apart.before_ms))
                    .after(millis(apart.after_ms))
                    .grace(millis(apart.grace_ms));
                match matches {
                    Matches::Inner => {
                        left.join_within(right, window, &name, move |l, r| join(&l, &r))
                    }
                    Matches::Left => left.left_join_within(right, window, &name, move |l, r| {
                        join(&l, &r.unwrap_or_default())
                    }),
                    Matches::Outer => left.outer_join_within(right, window, &name, move |l, r| {
                        join(&l.unwrap_or_default(), &r.unwrap_or_default())
                    }),
                }
            }
        }
    }

    fn table<K: OracleKey>(&mut self, rows: &Rows) -> Table<K, Val> {
        let store = self.store();
        match rows {
            Rows::Topic(name) => self.t.table(topic::<K, Val>(self.names.get(name)), &store),
            Rows::Stream(source) => self.stream::<K>(source).table(&store),
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
