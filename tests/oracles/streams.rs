//! Traces that were recorded from Kafka Streams, replayed through the public API.
//!
//! ```text
//!   case --> plan (what is asked, or what is missing) --> TestDriver, one partition, seed 0
//!        --> each step: one record, one commit --> its outputs, compared with the recorded ones
//! ```
//!
//! Why one record per commit: Kafka emits for each record, Headwater each changed row once per
//! commit. With one record per commit both say the same.
//!
//! Invariants
//! * Outputs are compared in order, or as multisets where the case says so: key, value, timestamp and
//!   headers. Order is that within a topic: a transaction has none between topics.
//! * A difference by design is shown, not claimed: the case is run again without the inputs that the
//!   rule names, and must then give the recorded outputs.

mod build;
mod plan;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ::streams::prelude::*;
use serde_json::{Value, json};

use self::build::{Ports, build};
use self::plan::{Emit, Plan, Window};
use self::values::OracleKey;
use crate::json;
use crate::report::{Outcome, Stop, failed, unsupported};

/// Key, value, timestamp, headers.
type Row = [Value; 4];

/// Why outputs differ on purpose.
type Differences = BTreeSet<&'static str>;

const NULL_KEYS_COUNT: &str =
    "source time counts every record that a task reads, also those with a null key";
const FINAL_RESULTS_KEPT: &str = "every window gives its final result; Kafka loses those that one record takes past the \
     retention of its store (size + grace)";

/// One case of streams-trace/1.
pub(crate) fn case(case: &Value) -> Outcome {
    let plan = Plan::of(case)?;
    let steps = Step::all(case)?;
    match plan.key_type.as_str() {
        "string" => judge::<String>(case, &plan, &steps),
        "i32" => judge::<i32>(case, &plan, &steps),
        "i64" => judge::<i64>(case, &plan, &steps),
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

    fn has_null_key(&self) -> bool {
        matches!(&self.input, Input::Record { key: Value::Null, .. })
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

/// Runs the case; a failure that a rule explains is a difference.
fn judge<K: OracleKey>(case: &Value, plan: &Plan, steps: &[Step]) -> Outcome {
    let reason = match run::<K>(plan, steps) {
        Ok(differences) => return differs(differences),
        Err(Stop::Failed(reason)) => reason,
        Err(stop) => return Err(stop),
    };
    if case["implementation_specific"] == true {
        return Err(Stop::Differs(format!("implementation specific; {reason}")));
    }
    if let Some(quirk) = case["quirk"].as_str() {
        return Err(Stop::Differs(format!("quirk of Kafka: {quirk}; {reason}")));
    }
    let counted: Vec<Step> =
        steps.iter().filter(|s| !s.has_null_key() || !s.out.is_empty()).cloned().collect();
    if counted.len() < steps.len()
        && let Ok(mut differences) = run::<K>(plan, &counted)
    {
        differences.insert(NULL_KEYS_COUNT);
        return differs(differences);
    }
    Err(Stop::Failed(reason))
}

fn differs(differences: Differences) -> Outcome {
    if differences.is_empty() {
        return Ok(());
    }
    Err(Stop::Differs(differences.into_iter().collect::<Vec<_>>().join("; ")))
}

/// Replays the steps; answers what differed on purpose.
fn run<K: OracleKey>(plan: &Plan, steps: &[Step]) -> Outcome<Differences> {
    let ports: Ports<K> = build(plan);
    let mut driver = TestDriver::new(ports.topology);
    let mut differences = Differences::new();
    let mut newest = i64::MIN;
    for step in steps {
        let at = |reason: String| failed(format!("step {}: {reason}", step.index));
        match &step.input {
            Input::WallClock(ms) => drop(driver.wall_clock(Duration::from_millis(*ms))),
            Input::Record { topic, key, value, timestamp, headers } => {
                let send = ports.inputs.get(topic.as_str());
                let send = send.ok_or_else(|| unsupported(format!("input to topic {topic}")))?;
                let key = match key {
                    Value::Null => None,
                    key => Some(K::from_json(key).ok_or_else(|| unsupported("format: `k`"))?),
                };
                newest = newest.max(if key.is_some() { *timestamp } else { i64::MIN });
                send(&mut driver, key, value, *timestamp, headers.clone())?;
            }
        }
        driver.run().map_err(|error| at(format!("the job failed: {error}")))?;
        for output in &ports.outputs {
            let found = (output.read)(&mut driver);
            let expected = step.out.get(output.topic).cloned().unwrap_or_default();
            if compare(plan.is_unordered, &expected, &found) {
                continue;
            }
            let kept: Vec<Row> = found
                .iter()
                .filter(|row| !is_lost_by_kafka(output.window, row, newest))
                .cloned()
                .collect();
            if !compare(plan.is_unordered, &expected, &kept) {
                let (topic, expected, found) = (output.topic, json!(expected), json!(found));
                return Err(at(format!("to {topic}: expected {expected}, got {found}")));
            }
            differences.insert(FINAL_RESULTS_KEPT);
        }
        let is_sink = |topic: &str| ports.outputs.iter().any(|output| output.topic == topic);
        if let Some(topic) = step.out.keys().find(|topic| !is_sink(topic)) {
            return Err(unsupported(format!("format: output to {topic}, which is no sink")));
        }
    }
    Ok(differences)
}

/// Kafka keeps a window of emit-final for size + grace behind the newest window's start. When one
/// record takes the time further than that, the window leaves the store before it has spoken.
fn is_lost_by_kafka(window: Option<Window>, row: &Row, newest: i64) -> bool {
    let (Some(window), Some(start)) = (window, row[0]["start"].as_i64()) else { return false };
    let size_ms = i64::try_from(window.size_ms).unwrap_or(i64::MAX);
    let kept_ms = size_ms.saturating_add(i64::try_from(window.grace_ms).unwrap_or(i64::MAX));
    let newest_start = newest.saturating_sub(newest.rem_euclid(size_ms));
    window.emit == Emit::Final && start <= newest_start.saturating_sub(kept_ms)
}

fn compare(is_unordered: bool, expected: &[Row], found: &[Row]) -> bool {
    if !is_unordered {
        return expected == found;
    }
    let sorted = |rows: &[Row]| {
        let mut texts: Vec<String> = rows.iter().map(|row| json!(row).to_string()).collect();
        texts.sort();
        texts
    };
    sorted(expected) == sorted(found)
}
