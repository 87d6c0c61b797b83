//! How the topics of a case are written and read.
//!
//! ```text
//!   k, v, ts, headers --> Topic<K, Val> --> the topology --> Topic<K, Val> | Topic<Windowed<K>, Val> --> row
//! ```
//!
//! Invariants
//! * Building is a function of the graph alone: a driver builds the topology as often as it likes.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use ::streams::prelude::*;
use ::streams::testing::TestRecord;
use serde_json::{Value, json};

use super::Row;
use super::build::Building;
use super::graph::{Graph, Input, Sink};
use super::values::{OracleKey, Val};
use crate::report::{Outcome, Stop, unsupported};

type Send<K> = Box<dyn Fn(&mut TestDriver, Option<K>, &Value, i64, Headers) -> Outcome>;
type Read = Box<dyn Fn(&mut TestDriver) -> Vec<Row>>;

/// A topology and its topics.
pub(super) struct Ports<K> {
    pub(super) topology: Box<dyn Fn(&mut Topology) + std::marker::Send + Sync>,
    /// What the topology was found to need that is not there, once it has been built.
    pub(super) stop: Arc<OnceLock<Stop>>,
    pub(super) inputs: BTreeMap<&'static str, Send<K>>,
    pub(super) outputs: BTreeMap<&'static str, Read>,
}

pub(super) fn ports<K: OracleKey>(graph: &Graph) -> Ports<K> {
    let names = Names::of(graph);
    let inputs = graph.topics.iter().map(|(name, written)| {
        let name = names.get(name);
        (name, input(name, *written))
    });
    let outputs = graph.sinks.iter().map(|sink| {
        let name = names.get(&sink.topic);
        (name, output::<K>(name, sink))
    });
    let (inputs, outputs) = (inputs.collect(), outputs.collect());
    let (graph, stop) = (graph.clone(), Arc::new(OnceLock::new()));
    let stopped = Arc::clone(&stop);
    let topology = move |t: &mut Topology| {
        if let Err(stop) = Building::<K>::new(t, &graph, &names).sinks() {
            // Every building stops at the same node: the first one has said so.
            stopped.get_or_init(|| stop);
        }
    };
    Ports { topology: Box::new(topology), stop, inputs, outputs }
}

/// Topic names as constants have them; a run leaks a few bytes for each.
pub(super) struct Names(BTreeMap<String, &'static str>);

impl Names {
    fn of(graph: &Graph) -> Self {
        let names = graph.topics.keys().chain(graph.sinks.iter().map(|sink| &sink.topic));
        Self(names.map(|name| (name.clone(), &*name.clone().leak())).collect())
    }

    pub(super) fn get(&self, name: &str) -> &'static str {
        self.0[name]
    }
}

fn input<K: OracleKey>(name: &'static str, written: Input) -> Send<K> {
    Box::new(move |driver, key, value, timestamp, headers| {
        let value = Val::from_json(value)
            .ok_or_else(|| unsupported("format: `v`"))
            .map(|value| Some(value).filter(|v| written.nulls_are_values || *v != Val::Null))?;
        driver.send_record(topic::<K, Val>(name), key, value, timestamp, headers);
        Ok(())
    })
}

fn output<K: OracleKey>(name: &'static str, sink: &Sink) -> Read {
    if sink.is_windowed {
        reader(topic::<Windowed<K>, Val>(name), windowed)
    } else {
        reader(topic::<K, Val>(name), K::to_json)
    }
}

fn windowed<K: OracleKey>(key: &Windowed<K>) -> Value {
    json!({ "key": key.key.to_json(), "start": key.start, "end": key.end })
}

fn reader<K: RecordKey>(topic: Topic<K, Val>, key: fn(&K) -> Value) -> Read {
    Box::new(move |driver| {
        let row = |record: TestRecord<K, Val>| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers = record.headers.iter();
            [
                record.key.as_ref().map_or(Value::Null, key),
                record.value.as_ref().map_or(Value::Null, Val::to_json),
                json!(record.timestamp),
                headers.map(|h| json!([h.key, h.value.as_deref().map(text)])).collect(),
            ]
        };
        driver.read_committed(topic).into_iter().map(row).collect()
    })
}
