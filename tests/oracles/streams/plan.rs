//! What a case's topology asks for, or the name of what is missing. Pure.
//!
//! ```text
//!   stream --> group_by_key --> windowed --> count | aggregate | reduce --> suppress --> sink
//!          \-> merge                     \-> (no window)                             /
//! ```
//!
//! Why before building: a node that is not known must be named, and building cannot fail then.
//!
//! Invariants
//! * Each sink is planned from its end back to the sources; what two sinks share is built twice, with
//!   stores of its own, which changes no output.

use std::collections::BTreeMap;

use serde_json::Value;

use super::values::{Adder, Val, adder, reducer};
use crate::json;
use crate::report::{Outcome, Stop, unsupported};

/// Where a stream comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A topic's records.
    Topic(String),
    /// The records of several streams.
    Merge(Vec<Source>),
    /// The values become the keys.
    ValueAsKey(Box<Source>),
}

/// How the records of a key are folded.
#[derive(Clone, Debug)]
pub(super) enum Fold {
    /// Counted.
    Count,
    /// Added to a first value.
    Aggregate(Val, Adder),
    /// The first one, and the others added to it.
    Reduce(Adder),
}

/// A tumbling window, and when its results speak.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) size_ms: u64,
    pub(super) grace_ms: u64,
    pub(super) emit: Emit,
}

/// When a window speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Emit {
    /// At each change.
    Update,
    /// When it closes.
    Final,
    /// When it closes, out of Kafka's suppression buffer.
    Suppressed,
}

/// What reaches a sink.
#[derive(Clone, Debug)]
pub(super) enum Flow {
    /// Records as they are.
    Stream(Source),
    /// The changes of a fold without windows.
    Folded(Source, Fold),
    /// The results of a fold in windows.
    Windowed(Source, Window, Fold),
}

/// A whole case.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) key_type: String,
    pub(super) is_unordered: bool,
    /// Source topics; whether a null value is a value to what reads them.
    pub(super) topics: BTreeMap<String, bool>,
    pub(super) sinks: Vec<(String, Flow)>,
}

struct Nodes<'a> {
    by_id: BTreeMap<&'a str, &'a Value>,
}

impl Plan {
    pub(super) fn of(case: &Value) -> Outcome<Self> {
        let nodes = json::list(case, "topology")?;
        check_known(nodes)?;
        let by_id = nodes.iter().filter_map(|node| Some((node["id"].as_str()?, node)));
        let graph = Nodes { by_id: by_id.collect() };
        let mut plan = Self {
            key_type: String::new(),
            is_unordered: case["unordered"] == true,
            topics: BTreeMap::new(),
            sinks: Vec::new(),
        };
        for node in nodes.iter().filter(|node| node["op"] == "stream") {
            let key_type = json::text(node, "key")?;
            if !plan.key_type.is_empty() && plan.key_type != key_type {
                return Err(unsupported("topics with keys of different types"));
            }
            key_type.clone_into(&mut plan.key_type);
            plan.topics.insert(json::text(node, "topic")?.to_owned(), false);
        }
        for node in nodes.iter().filter(|node| node["op"] == "sink") {
            let flow = graph.flow(graph.before(node, nodes.len())?, nodes.len())?;
            if let Flow::Windowed(source, _, _) = &flow {
                // Windowed folds of Kafka's are given null values, other folds are not.
                source.topics(&mut |topic| {
                    plan.topics.insert(topic.to_owned(), true);
                });
            }
            plan.sinks.push((json::text(node, "to")?.to_owned(), flow));
        }
        for (_, flow) in &plan.sinks {
            if let Flow::Stream(source) | Flow::Folded(source, _) = flow {
                let mut is_mixed = false;
                source.topics(&mut |topic| is_mixed |= plan.topics[topic]);
                if is_mixed {
                    return Err(unsupported("one topic folded with windows and without"));
                }
            }
        }
        Ok(plan)
    }
}

impl Source {
    pub(super) fn topics(&self, see: &mut impl FnMut(&str)) {
        match self {
            Self::Topic(topic) => see(topic),
            Self::Merge(sources) => sources.iter().for_each(|source| source.topics(see)),
            Self::ValueAsKey(source) => source.topics(see),
        }
    }
}

impl<'a> Nodes<'a> {
    fn node(&self, id: &str) -> Outcome<&'a Value> {
        let node = self.by_id.get(id).copied();
        node.ok_or_else(|| unsupported(format!("format: there is no node `{id}`")))
    }

    /// The node in front; `depth` ends a ring.
    fn before(&self, node: &Value, depth: usize) -> Outcome<&'a Value> {
        if depth == 0 {
            return Err(unsupported("format: the topology is a ring"));
        }
        self.node(json::text(node, "from")?)
    }

    fn flow(&self, node: &'a Value, depth: usize) -> Outcome<Flow> {
        let depth = depth.checked_sub(1).ok_or_else(|| unsupported("format: a ring"))?;
        match json::text(node, "op")? {
            "count" => self.folded(node, Fold::Count, depth),
            "aggregate" => {
                let name = json::text(node, "adder")?;
                let add = adder(name).ok_or_else(|| unsupported(format!("adder {name}")))?;
                let init = Val::from_json(&node["init"]).unwrap_or_default();
                self.folded(node, Fold::Aggregate(init, add), depth)
            }
            "reduce" => {
                let name = json::text(node, "reducer")?;
                let add = reducer(name).ok_or_else(|| unsupported(format!("reducer {name}")))?;
                self.folded(node, Fold::Reduce(add), depth)
            }
            "suppress" => match self.flow(self.before(node, depth)?, depth)? {
                // Only the last result of a window, when it closes: that is what final results are.
                Flow::Windowed(source, window, fold) if node["until"] == "window_closes" => {
                    Ok(Flow::Windowed(source, Window { emit: Emit::Suppressed, ..window }, fold))
                }
                _ => Err(unsupported("suppress")),
            },
            "to_stream" => self.flow(self.before(node, depth)?, depth),
            _ => Ok(Flow::Stream(self.source(node, depth)?)),
        }
    }

    fn folded(&self, node: &'a Value, fold: Fold, depth: usize) -> Outcome<Flow> {
        let before = self.before(node, depth)?;
        if before["op"] != "windowed" {
            return Ok(Flow::Folded(self.grouped(before, depth)?, fold));
        }
        let shape = &before["window"];
        let window = Window {
            size_ms: json::narrow(shape, "size_ms")?,
            grace_ms: json::narrow(shape, "grace_ms")?,
            emit: if before["emit"] == "final" { Emit::Final } else { Emit::Update },
        };
        Ok(Flow::Windowed(self.grouped(self.before(before, depth)?, depth)?, window, fold))
    }

    fn grouped(&self, node: &'a Value, depth: usize) -> Outcome<Source> {
        let depth = depth.checked_sub(1).ok_or_else(|| unsupported("format: a ring"))?;
        let source = self.source(self.before(node, depth)?, depth)?;
        match (json::text(node, "op")?, node["mapper"].as_str()) {
            // The same key again: a repartition topic of one partition changes nothing.
            ("group_by_key", _) | ("group_by", Some("noop")) => Ok(source),
            ("group_by", Some("value_as_key")) => Ok(Source::ValueAsKey(Box::new(source))),
            (op, mapper) => Err(unsupported(format!("{op} {}", mapper.unwrap_or_default()))),
        }
    }

    fn source(&self, node: &'a Value, depth: usize) -> Outcome<Source> {
        let depth = depth.checked_sub(1).ok_or_else(|| unsupported("format: a ring"))?;
        match json::text(node, "op")? {
            "stream" => Ok(Source::Topic(json::text(node, "topic")?.to_owned())),
            "merge" => {
                let ids: Vec<&str> = match node["from"].as_array() {
                    Some(ids) => ids.iter().filter_map(Value::as_str).collect(),
                    None => vec![json::text(node, "left")?, json::text(node, "right")?],
                };
                let sources = ids.into_iter().map(|id| self.source(self.node(id)?, depth));
                let sources = sources.collect::<Outcome<Vec<_>>>()?;
                if sources.is_empty() {
                    return Err(unsupported("format: a merge of nothing"));
                }
                Ok(Source::Merge(sources))
            }
            other => Err(unsupported(format!("{other} in front of a stream's step"))),
        }
    }
}

/// Names everything that is missing, the steps before the tables they work on.
fn check_known(nodes: &[Value]) -> Outcome {
    let mut missing: Vec<String> = nodes.iter().filter_map(missing).collect();
    if missing.iter().any(|name| !name.contains("table (")) {
        missing.retain(|name| !name.contains("table ("));
    }
    missing.dedup();
    if missing.is_empty() { Ok(()) } else { Err(Stop::Unsupported(missing.join(", "))) }
}

/// What a node needs that is not there.
fn missing(node: &Value) -> Option<String> {
    let op = node["op"].as_str().unwrap_or("a node without `op`");
    match op {
        "stream" | "sink" | "merge" | "group_by_key" | "group_by" | "count" | "aggregate"
        | "reduce" | "to_stream" => node.get("subtractor").map(|_| format!("table {op}")),
        "suppress" if node["until"] == "window_closes" => None,
        "suppress" => Some("suppress (until a time limit)".to_owned()),
        "windowed" => window_missing(&node["window"]),
        "table" if node["store"] == "versioned" => Some("versioned table (source)".to_owned()),
        "table" | "global_table" => Some(format!("{op} (source)")),
        other => Some(other.to_owned()),
    }
}

fn window_missing(window: &Value) -> Option<String> {
    let size = window["size_ms"].as_i64();
    match window["type"].as_str().unwrap_or("no type") {
        "time" if window["advance_ms"].is_null() || window["advance_ms"].as_i64() == size => None,
        "time" => Some("hopping windows".to_owned()),
        other => Some(format!("{other} windows")),
    }
}
