//! What a case's topology asks for, or the name of what is missing. Pure.
//!
//! ```text
//!   topic --> stream --> group_by_key --> windowed --> count | aggregate | reduce --> suppress --> sink
//!                  \--> merge, joins  \-> (no window) ----^                              /
//! ```
//!
//! Why before building: a node that is not known must be named, and building cannot fail then.
//!
//! Invariants
//! * Each sink is planned from its end back to the sources; what two sinks share is built twice, with
//!   stores of its own, which changes no output.

use std::collections::BTreeMap;

use serde_json::Value;

use super::values::{Adder, Joiner, Val, adder, joiner, reducer};
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
    /// The records of a topic under their keys again, so that a repartition topic follows.
    SameKey(String),
    /// The changes of a table.
    Updates(Box<Rows>),
    /// A stream that looks its keys up in a table.
    TableJoin(Box<Source>, Rows, Matches, Joiner),
    /// A stream that looks up the text behind the comma in a table that is whole everywhere.
    GlobalJoin(Box<Source>, String, Matches, Joiner),
    /// Two streams that meet within a time.
    StreamJoin(Box<Source>, Box<Source>, Within, Matches, Joiner),
}

/// How far apart records of two streams may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Within {
    pub(super) before_ms: u64,
    pub(super) after_ms: u64,
    pub(super) grace_ms: u64,
}

/// What a table holds.
#[derive(Clone, Debug)]
pub(super) enum Rows {
    /// A topic's.
    Topic(String),
    /// A stream's.
    Stream(Box<Source>),
}

/// Which records of a join speak without a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matches {
    /// None.
    Inner,
    /// The left side's.
    Left,
    /// Those of both sides.
    Outer,
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
    pub(super) topics: BTreeMap<String, Input>,
    pub(super) sinks: Vec<(String, Flow)>,
    /// Stream-stream joins, by which records speak alone.
    pub(super) stream_joins: Vec<Matches>,
}

/// How the records of a source topic are written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Input {
    /// Null is a value to what reads them, and no deletion.
    pub(super) nulls_are_values: bool,
    /// The value repeats the key, for steps that see values only.
    pub(super) carries_key: bool,
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
            stream_joins: Vec::new(),
        };
        for node in nodes.iter().filter(|node| node["op"] == "stream_stream_join") {
            plan.stream_joins.push(matches_of(node)?);
        }
        for node in nodes.iter().filter(|node| SOURCES.contains(&node["op"].as_str().unwrap_or("")))
        {
            let key_type = json::text(node, "key")?;
            if !plan.key_type.is_empty() && plan.key_type != key_type {
                return Err(unsupported("topics with keys of different types"));
            }
            key_type.clone_into(&mut plan.key_type);
            plan.topics.insert(json::text(node, "topic")?.to_owned(), Input::default());
        }
        for node in nodes.iter().filter(|node| node["op"] == "sink") {
            let flow = graph.flow(graph.before(node, "from")?, nodes.len())?;
            plan.sinks.push((json::text(node, "to")?.to_owned(), flow));
        }
        plan.settle_inputs()?;
        Ok(plan)
    }

    /// Windowed folds of Kafka's are given null values, other steps are not.
    fn settle_inputs(&mut self) -> Outcome {
        let mut topics = std::mem::take(&mut self.topics);
        let mut plain = Vec::new();
        for (_, flow) in &self.sinks {
            let (source, is_windowed) = match flow {
                Flow::Windowed(source, _, _) => (source, true),
                Flow::Stream(source) | Flow::Folded(source, _) => (source, false),
            };
            source.topics(&mut |topic, carries_key| {
                if let Some(input) = topics.get_mut(topic) {
                    input.nulls_are_values |= is_windowed;
                    input.carries_key |= carries_key;
                }
                plain.extend((!is_windowed).then(|| topic.to_owned()));
            });
        }
        if plain.iter().any(|topic| topics.get(topic).is_some_and(|input| input.nulls_are_values)) {
            return Err(unsupported("one topic folded with windows and without"));
        }
        self.topics = topics;
        Ok(())
    }
}

/// The one join between two topics and a sink that a case is made of.
pub(super) struct OnlyJoin<'a> {
    pub(super) left: &'a str,
    pub(super) right: &'a str,
    pub(super) within: Within,
    pub(super) matches: Matches,
    pub(super) joiner: Joiner,
    pub(super) sink: &'a str,
}

impl Plan {
    /// Topics of sinks, and the windows of what goes there.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (&str, Option<Window>)> {
        self.sinks.iter().map(|(topic, flow)| match flow {
            Flow::Windowed(_, window, _) => (topic.as_str(), Some(*window)),
            Flow::Stream(_) | Flow::Folded(..) => (topic.as_str(), None),
        })
    }

    /// Whether a step's topic is given its keys again.
    pub(super) fn is_keyed_again(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|input| input.carries_key)
    }

    /// The stream-stream join, if there is nothing else.
    pub(super) fn only_join(&self) -> Option<OnlyJoin<'_>> {
        let [(sink, Flow::Stream(Source::StreamJoin(left, right, within, matches, joiner)))] =
            self.sinks.as_slice()
        else {
            return None;
        };
        let (within, matches, joiner) = (*within, *matches, *joiner);
        Some(OnlyJoin { left: left.topic()?, right: right.topic()?, within, matches, joiner, sink })
    }
}

/// Nodes that are topics.
const SOURCES: [&str; 3] = ["stream", "table", "global_table"];

impl Source {
    /// The topic, if its records come as they are.
    fn topic(&self) -> Option<&str> {
        match self {
            Self::Topic(topic) | Self::SameKey(topic) => Some(topic),
            _ => None,
        }
    }

    /// Shows the topics, and whether a step needs their keys in their values.
    fn topics(&self, see: &mut dyn FnMut(&str, bool)) {
        match self {
            Self::Topic(topic) => see(topic, false),
            Self::SameKey(topic) => see(topic, true),
            Self::Merge(sources) => sources.iter().for_each(|source| source.topics(see)),
            Self::ValueAsKey(source) => source.topics(see),
            Self::Updates(rows) => rows.topics(see),
            Self::TableJoin(source, rows, _, _) => {
                source.topics(see);
                rows.topics(see);
            }
            Self::GlobalJoin(source, topic, _, _) => {
                source.topics(see);
                see(topic, false);
            }
            Self::StreamJoin(left, right, ..) => {
                left.topics(see);
                right.topics(see);
            }
        }
    }
}

impl Rows {
    fn topics(&self, see: &mut dyn FnMut(&str, bool)) {
        match self {
            Self::Topic(topic) => see(topic, false),
            Self::Stream(source) => source.topics(see),
        }
    }
}

impl<'a> Nodes<'a> {
    fn node(&self, id: &str) -> Outcome<&'a Value> {
        let node = self.by_id.get(id).copied();
        node.ok_or_else(|| unsupported(format!("format: there is no node `{id}`")))
    }

    /// The node that a field names.
    fn before(&self, node: &Value, field: &str) -> Outcome<&'a Value> {
        self.node(json::text(node, field)?)
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
            "suppress" => match self.flow(self.before(node, "from")?, depth)? {
                // Only the last result of a window, when it closes: that is what final results are.
                Flow::Windowed(source, window, fold) if node["until"] == "window_closes" => {
                    Ok(Flow::Windowed(source, Window { emit: Emit::Suppressed, ..window }, fold))
                }
                _ => Err(unsupported("suppress")),
            },
            "to_stream" => self.flow(self.before(node, "from")?, depth),
            "table" | "to_table" => {
                Ok(Flow::Stream(Source::Updates(Box::new(self.rows(node, depth)?))))
            }
            _ => Ok(Flow::Stream(self.source(node, depth)?)),
        }
    }

    fn folded(&self, node: &'a Value, fold: Fold, depth: usize) -> Outcome<Flow> {
        let before = self.before(node, "from")?;
        if before["op"] != "windowed" {
            return Ok(Flow::Folded(self.grouped(before, depth)?, fold));
        }
        let shape = &before["window"];
        let window = Window {
            size_ms: json::narrow(shape, "size_ms")?,
            grace_ms: json::narrow(shape, "grace_ms")?,
            emit: if before["emit"] == "final" { Emit::Final } else { Emit::Update },
        };
        Ok(Flow::Windowed(self.grouped(self.before(before, "from")?, depth)?, window, fold))
    }

    fn grouped(&self, node: &'a Value, depth: usize) -> Outcome<Source> {
        let depth = depth.checked_sub(1).ok_or_else(|| unsupported("format: a ring"))?;
        let source = self.source(self.before(node, "from")?, depth)?;
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
            "map_identity_marks_repartition" => match self.before(node, "from")? {
                before if before["op"] == "stream" => {
                    Ok(Source::SameKey(json::text(before, "topic")?.to_owned()))
                }
                _ => Err(unsupported("map_identity_marks_repartition behind another step")),
            },
            "to_stream" => self.source(self.before(node, "from")?, depth),
            "table" | "to_table" => Ok(Source::Updates(Box::new(self.rows(node, depth)?))),
            "stream_table_join" => {
                let left = self.source(self.before(node, "left")?, depth)?;
                let right = self.rows(self.before(node, "right")?, depth)?;
                Ok(Source::TableJoin(Box::new(left), right, matches_of(node)?, joiner_of(node)?))
            }
            "stream_global_join" => {
                let left = self.source(self.before(node, "left")?, depth)?;
                let right = self.before(node, "right")?;
                let topic = json::text(right, "topic")?.to_owned();
                match (right["op"].as_str(), node["key_mapper"].as_str()) {
                    (Some("global_table"), Some("after_comma")) => {}
                    (_, mapper) => {
                        return Err(unsupported(format!("key_mapper {}", mapper.unwrap_or("?"))));
                    }
                }
                let (matches, join) = (matches_of(node)?, joiner_of(node)?);
                Ok(Source::GlobalJoin(Box::new(left), topic, matches, join))
            }
            "stream_stream_join" => {
                let left = Box::new(self.source(self.before(node, "left")?, depth)?);
                let right = Box::new(self.source(self.before(node, "right")?, depth)?);
                let within = Within {
                    before_ms: json::narrow(node, "before_ms")?,
                    after_ms: json::narrow(node, "after_ms")?,
                    grace_ms: json::narrow(node, "grace_ms")?,
                };
                let (matches, join) = (matches_of(node)?, joiner_of(node)?);
                Ok(Source::StreamJoin(left, right, within, matches, join))
            }
            other => Err(unsupported(format!("{other} in front of a stream's step"))),
        }
    }

    fn rows(&self, node: &'a Value, depth: usize) -> Outcome<Rows> {
        let depth = depth.checked_sub(1).ok_or_else(|| unsupported("format: a ring"))?;
        match json::text(node, "op")? {
            "table" => Ok(Rows::Topic(json::text(node, "topic")?.to_owned())),
            "to_table" => {
                let source = self.source(self.before(node, "from")?, depth)?;
                Ok(Rows::Stream(Box::new(source)))
            }
            other => Err(unsupported(format!("{other} as a table"))),
        }
    }
}

fn matches_of(node: &Value) -> Outcome<Matches> {
    match json::text(node, "kind")? {
        "inner" => Ok(Matches::Inner),
        "left" => Ok(Matches::Left),
        "outer" => Ok(Matches::Outer),
        other => Err(unsupported(format!("{other} join"))),
    }
}

fn joiner_of(node: &Value) -> Outcome<Joiner> {
    let name = json::text(node, "joiner")?;
    joiner(name).ok_or_else(|| unsupported(format!("joiner {name}")))
}

/// Names everything that is missing.
fn check_known(nodes: &[Value]) -> Outcome {
    let mut names: Vec<String> = nodes.iter().filter_map(missing).collect();
    names.sort();
    names.dedup();
    if names.is_empty() { Ok(()) } else { Err(Stop::Unsupported(names.join(", "))) }
}

/// What a node needs that is not there.
fn missing(node: &Value) -> Option<String> {
    let op = node["op"].as_str().unwrap_or("a node without `op`");
    match op {
        "stream"
        | "sink"
        | "merge"
        | "group_by_key"
        | "group_by"
        | "count"
        | "aggregate"
        | "reduce"
        | "to_stream"
        | "to_table"
        | "map_identity_marks_repartition" => node.get("subtractor").map(|_| format!("table {op}")),
        "suppress" if node["until"] == "window_closes" => None,
        "suppress" => Some("suppress (until a time limit)".to_owned()),
        "windowed" => window_missing(&node["window"]),
        "table" if node["store"] == "versioned" => Some("versioned table".to_owned()),
        "table" | "global_table" | "stream_global_join" => None,
        // A window may lie wholly before or behind its record, which a `Duration` cannot say.
        "stream_stream_join"
            if node["before_ms"].as_i64() < Some(0) || node["after_ms"].as_i64() < Some(0) =>
        {
            Some("stream_stream_join with a negative difference".to_owned())
        }
        "stream_stream_join" => None,
        "stream_table_join" if node["grace_ms"].is_null() => None,
        "stream_table_join" => Some("stream_table_join with grace".to_owned()),
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
