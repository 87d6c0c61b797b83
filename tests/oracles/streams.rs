//! Traces that were recorded from Kafka Streams, replayed through the public API.
//!
//! ```text
//!   case --> graph (what is asked, or what is missing) --> TestDriver, one partition, seed 0,
//!                                                          in memory, and again on RocksDB
//!        --> each step: one record, one commit --> its outputs, compared with the recorded ones
//! ```
//!
//! Why one record per commit: Kafka emits for each record, Headwater each changed row once per
//! commit. With one record per commit both say the same.
//!
//! Invariants
//! * Outputs are compared in order, or as multisets where the case says so: key, value, timestamp and
//!   headers. Order is that within a topic: a transaction has none between topics.

mod build;
mod fk_model;
mod graph;
mod join_model;
mod judge;
mod ops;
mod ports;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ::streams::prelude::*;
use serde_json::{Value, json};

use self::graph::Graph;
use self::judge::judge;
use self::ports::{Ports, ports};
use self::values::{AnyKey, OracleKey};
use crate::json;
use crate::report::{Outcome, failed, same, unsupported};

/// Key, value, timestamp, headers.
type Row = [Value; 4];

/// The outputs of one step, by topic.
type Found = BTreeMap<&'static str, Vec<Row>>;

/// One case of streams-trace/1.
pub(crate) fn case(case: &Value) -> Outcome {
    let graph = Graph::of(case)?;
    let steps = Step::all(case)?;
    match graph.key_type.as_str() {
        "string" => judge::<String>(case, &graph, &steps),
        "i32" => judge::<i32>(case, &graph, &steps),
        "i64" => judge::<i64>(case, &graph, &steps),
        "any" => judge::<AnyKey>(case, &graph, &steps),
        other => Err(unsupported(format!("keys of type {other}"))),
    }
}

/// One input and what it must lead to.
#[derive(Clone)]
struct Step {
    index: usize,
    input: Input,
    out: BTreeMap<String, Vec<Row>>,
}

#[derive(Clone)]
enum Input {
    Record { topic: String, key: Value, value: Value, timestamp: i64, headers: Headers },
    WallClock(u64),
}

impl Step {
    fn all(case: &Value) -> Outcome<Vec<Self>> {
        json::list(case, "steps")?
            .iter()
            .enumerate()
            .map(|(i, step)| Self::parse(i, step))
            .collect()
    }

    fn parse(index: usize, step: &Value) -> Outcome<Self> {
        let mut out: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for row in step["out"].as_array().into_iter().flatten() {
            let topic =
                row[0].as_str().ok_or_else(|| unsupported("format: `out` without a topic"))?;
            let row = [row[1].clone(), row[2].clone(), row[3].clone(), header_list(&row[4])];
            out.entry(topic.to_owned()).or_default().push(row);
        }
        let input = match step["advance_wall_clock_ms"].as_u64() {
            Some(ms) => Input::WallClock(ms),
            None => Input::Record {
                topic: json::text(step, "in")?.to_owned(),
                key: step["k"].clone(),
                value: step["v"].clone(),
                timestamp: json::number(step, "ts")?,
                headers: headers_of(&step["headers"]),
            },
        };
        Ok(Self { index, input, out })
    }

    /// The topic of a record without a value.
    fn null_value_to(&self) -> Option<&str> {
        match &self.input {
            Input::Record { topic, value: Value::Null, .. } => Some(topic),
            _ => None,
        }
    }

    fn has_null_key(&self) -> bool {
        self.null_key_to().is_some()
    }

    /// The topic of a record without a key.
    fn null_key_to(&self) -> Option<&str> {
        match &self.input {
            Input::Record { topic, key: Value::Null, .. } => Some(topic),
            _ => None,
        }
    }
}

/// Headers as a list of name and value, also where the file has a map.
fn header_list(headers: &Value) -> Value {
    match headers {
        Value::Object(map) => map.iter().map(|(name, value)| json!([name, value])).collect(),
        Value::Array(_) => headers.clone(),
        _ => json!([]),
    }
}

fn headers_of(headers: &Value) -> Headers {
    let mut found = Headers::none();
    for pair in header_list(headers).as_array().into_iter().flatten() {
        let value = pair[1].as_str().map(|text| text.as_bytes().to_vec().into());
        found.push(pair[0].as_str().unwrap_or_default(), value);
    }
    found
}

/// Replays the steps; answers what each led to.
fn execute<K: OracleKey>(graph: &Graph, steps: &[Step]) -> Outcome<Vec<Found>> {
    let in_memory = execute_on::<K>(graph, steps, |driver| driver)?;
    let on_disk = execute_on::<K>(graph, steps, |driver| driver.stores_on_disk(scratch()))?;
    for (step, (in_memory, on_disk)) in steps.iter().zip(in_memory.iter().zip(&on_disk)) {
        same(&format!("step {}: on RocksDB, not as in memory", step.index), in_memory, on_disk)?;
    }
    Ok(in_memory)
}

/// Where nobody waits for a disk, if there is such a place: what is asked here is not what survives.
fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

fn execute_on<K: OracleKey>(
    graph: &Graph,
    steps: &[Step],
    stores: impl Fn(TestDriver) -> TestDriver,
) -> Outcome<Vec<Found>> {
    let ports: Ports<K> = ports(graph);
    // A silent input is raised to the largest at once: Kafka's rule for a step that several reach. Where
    // each step is reached by one, it has a time of its own, as our source time is.
    let idle_after = if graph.times_are_of_topics() { Duration::MAX } else { Duration::ZERO };
    let mut driver = stores(TestDriver::new(ports.topology).idle_after(idle_after));
    // Builds the topology, and shows whether it can be built.
    let started = driver.run();
    if let Some(stop) = ports.stop.get() {
        return Err(stop.clone());
    }
    started.map_err(|error| failed(format!("the job did not start: {error}")))?;
    let mut all = Vec::new();
    for step in steps {
        match &step.input {
            Input::WallClock(ms) => drop(driver.wall_clock(Duration::from_millis(*ms))),
            Input::Record { topic, key, value, timestamp, headers } => {
                let send = ports.inputs.get(topic.as_str());
                let send = send.ok_or_else(|| unsupported(format!("input to topic {topic}")))?;
                let key = match key {
                    Value::Null => None,
                    key => Some(K::from_json(key).ok_or_else(|| unsupported("format: `k`"))?),
                };
                send(&mut driver, key, value, *timestamp, headers.clone())?;
            }
        }
        driver
            .run()
            .map_err(|error| failed(format!("step {}: the job failed: {error}", step.index)))?;
        if let Some(topic) =
            step.out.keys().find(|topic| !ports.outputs.contains_key(topic.as_str()))
        {
            return Err(unsupported(format!("format: output to {topic}, which is no sink")));
        }
        all.push(ports.outputs.iter().map(|(name, read)| (*name, read(&mut driver))).collect());
    }
    Ok(all)
}
