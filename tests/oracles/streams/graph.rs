//! What a case's topology asks for: its nodes by id, and what follows from them alone. Pure.
//!
//! ```text
//!   sink --> from --> .. --> stream | table | global_table      walked backwards, by ids
//! ```
//!
//! Why before building: a node that is not known must be named, inputs must know how their nulls are
//! read, and the judge asks which windows reach a sink.
//!
//! Invariants
//! * The families of `ops` say what a node means; here stand only its edges.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::ops::fk::ForeignJoin;
use super::ops::stream_joins::Join;
use super::ops::windows::{Emit, Window};
use super::ops::{self, FOLDS};
use crate::json;
use crate::report::{Outcome, Stop, unsupported};

/// A whole case.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    /// Of all keys; `any` if they are of several types.
    pub(super) key_type: String,
    pub(super) is_unordered: bool,
    /// Source topics.
    pub(super) topics: BTreeMap<String, Input>,
    pub(super) sinks: Vec<Sink>,
    /// Whether two streams meet somewhere.
    pub(super) has_stream_join: bool,
    /// Whether a table is given other values somewhere.
    pub(super) maps_a_table: bool,
    nodes: BTreeMap<String, Value>,
}

/// How the records of a source topic are written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Input {
    /// Null is a value to what reads them, and no deletion.
    pub(super) nulls_are_values: bool,
    /// Records are given their keys again: those without one are left out.
    is_keyed_again: bool,
    /// Null is a deletion to what reads them.
    nulls_are_deletes: bool,
}

/// Where results go.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    pub(super) topic: String,
    /// The node in front of it.
    pub(super) from: String,
    /// Whether keys are those of windows.
    pub(super) is_windowed: bool,
    /// The windows whose results come as they are.
    pub(super) window: Option<Window>,
    /// The windows of tables that are joined.
    pub(super) joined_window: Option<Window>,
}

/// The one join between two topics and a sink that a case is made of.
pub(super) struct OnlyJoin<'a> {
    pub(super) left: &'a str,
    pub(super) right: &'a str,
    pub(super) join: Join,
    pub(super) sink: &'a str,
}

/// The one join by foreign key, between two tables and a sink, that a case is made of.
pub(super) struct OnlyForeignJoin<'a> {
    pub(super) left: &'a str,
    pub(super) right: &'a str,
    /// How long each side keeps old rows, if it is versioned.
    pub(super) retention_ms: (Option<i64>, Option<i64>),
    pub(super) join: ForeignJoin,
    pub(super) sink: &'a str,
}

/// What null values of a topic are to a node that reads them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nulls {
    Value,
    Delete,
    /// Passed over, or passed on.
    Nothing,
}

/// Whether a node gives keys that are texts of values.
fn is_keyed_by_text(node: &Value) -> bool {
    matches!(node["mapper"].as_str(), Some("value_as_key" | "aggtest_group"))
}

/// Nodes that keep records by their time.
const TIMED: [&str; 4] = ["windowed", "suppress", "stream_stream_join", "stream_table_join"];

/// Nodes that are topics.
const SOURCES: [&str; 3] = ["stream", "table", "global_table"];

/// The kind of a node; empty if it has none.
pub(super) fn op(node: &Value) -> &str {
    node["op"].as_str().unwrap_or_default()
}

/// The nodes that a node is given.
pub(super) fn inputs(node: &Value) -> Vec<&str> {
    let parts = node["parts"].as_array().into_iter().flatten().map(|part| &part["from"]);
    let fields = [&node["from"], &node["left"], &node["right"]];
    let listed = fields.into_iter().chain(parts).flat_map(|field| match field {
        Value::Array(ids) => ids.iter().collect(),
        other => vec![other],
    });
    listed.filter_map(Value::as_str).collect()
}

impl Graph {
    pub(super) fn of(case: &Value) -> Outcome<Self> {
        let list = json::list(case, "topology")?;
        let by_id = list.iter().filter_map(|node| Some((node["id"].as_str()?.to_owned(), node)));
        let mut graph = Self {
            key_type: String::new(),
            is_unordered: case["unordered"] == true,
            topics: BTreeMap::new(),
            sinks: Vec::new(),
            has_stream_join: list.iter().any(|node| op(node) == "stream_stream_join"),
            maps_a_table: list.iter().any(|node| op(node) == "table_map_values_upper"),
            nodes: by_id.map(|(id, node)| (id, node.clone())).collect(),
        };
        graph.check_known(list)?;
        for node in list.iter().filter(|node| SOURCES.contains(&op(node))) {
            let key_type = json::text(node, "key")?;
            if graph.key_type.is_empty() {
                key_type.clone_into(&mut graph.key_type);
            } else if graph.key_type != key_type {
                "any".clone_into(&mut graph.key_type);
            }
            graph.topics.insert(json::text(node, "topic")?.to_owned(), Input::default());
        }
        if graph.key_type != "string" && list.iter().any(is_keyed_by_text) {
            "any".clone_into(&mut graph.key_type);
        }
        let mut topics = std::mem::take(&mut graph.topics);
        for node in list.iter().filter(|node| op(node) == "sink") {
            let (topic, from) = (json::text(node, "to")?, json::text(node, "from")?);
            graph.settle(from, Nulls::Nothing, list.len(), &mut topics)?;
            let sink = Sink {
                topic: topic.to_owned(),
                from: from.to_owned(),
                is_windowed: graph.is_windowed(from)?,
                window: graph.window_of(from)?,
                joined_window: graph.joined_window_of(from)?,
            };
            graph.sinks.push(sink);
        }
        if topics.values().any(|input| input.nulls_are_values && input.nulls_are_deletes) {
            return Err(unsupported("one topic folded with windows and taken as a table"));
        }
        graph.topics = topics;
        Ok(graph)
    }

    pub(super) fn node(&self, id: &str) -> Outcome<&Value> {
        let node = self.nodes.get(id);
        node.ok_or_else(|| unsupported(format!("format: there is no node `{id}`")))
    }

    /// The node that a field names.
    pub(super) fn before(&self, node: &Value, field: &str) -> Outcome<&Value> {
        self.node(json::text(node, field)?)
    }

    /// The kind of the node that a field names; empty if there is none.
    pub(super) fn op_before(&self, node: &Value, field: &str) -> &str {
        self.before(node, field).map(op).unwrap_or_default()
    }

    /// How many nodes a path can have.
    pub(super) fn depth(&self) -> usize {
        self.nodes.len()
    }

    /// Names everything that is missing.
    fn check_known(&self, list: &[Value]) -> Outcome {
        let missing = list.iter().filter(|node| op(node) != "sink");
        let mut names: Vec<String> = missing.filter_map(|node| ops::missing(self, node)).collect();
        names.sort();
        names.dedup();
        if names.is_empty() { Ok(()) } else { Err(Stop::Unsupported(names.join(", "))) }
    }

    /// Windowed folds of Kafka's are given null values, other steps are not. Cogroups skip them.
    fn settle(
        &self,
        id: &str,
        nulls: Nulls,
        depth: usize,
        topics: &mut BTreeMap<String, Input>,
    ) -> Outcome {
        let depth = depth.checked_sub(1).ok_or_else(|| unsupported("format: a ring"))?;
        let node = self.node(id)?;
        let nulls = match op(node) {
            kind if FOLDS.contains(&kind) => {
                let before = self.before(node, "from")?;
                // Sliding windows skip them too.
                let is_value = op(before) == "windowed" && before["window"]["type"] != "sliding";
                if is_value { Nulls::Value } else { Nulls::Nothing }
            }
            "table" | "global_table" | "to_table" => Nulls::Delete,
            "windowed"
            | "group_by_key"
            | "group_by"
            | "merge"
            | "repartition"
            | "map_identity_marks_repartition"
            | "stream" => nulls,
            _ => Nulls::Nothing,
        };
        if let Some(input) = node["topic"].as_str().and_then(|topic| topics.get_mut(topic)) {
            input.nulls_are_values |= nulls == Nulls::Value;
            input.nulls_are_deletes |= nulls == Nulls::Delete;
        }
        for before in inputs(node) {
            if op(node) == "map_identity_marks_repartition"
                && let Some(topic) = self.node(before)?["topic"].as_str()
                && let Some(input) = topics.get_mut(topic)
            {
                input.is_keyed_again = true;
            }
            self.settle(before, nulls, depth, topics)?;
        }
        Ok(())
    }

    /// Whether the keys behind a node are those of windows.
    pub(super) fn is_windowed(&self, id: &str) -> Outcome<bool> {
        let node = self.node(id)?;
        match op(node) {
            kind if FOLDS.contains(&kind) => Ok(self.op_before(node, "from") == "windowed"),
            kind if SOURCES.contains(&kind) => Ok(false),
            "group_by" | "table_group_by" => Ok(false),
            _ => inputs(node).first().map_or(Ok(false), |before| self.is_windowed(before)),
        }
    }

    /// Whether each step that goes by the time is reached by one topic alone, or is Kafka's fold in windows
    /// of each part of a cogroup, which has a time of its own.
    pub(super) fn times_are_of_topics(&self) -> bool {
        for node in self.nodes.values().filter(|node| TIMED.contains(&op(node))) {
            if op(node) == "windowed"
                && node["emit"] != "final"
                && self.op_before(node, "from") == "cogroup"
            {
                continue;
            }
            let mut topics = BTreeSet::new();
            // A table answers, and waits for nothing.
            let is_look_up = op(node) == "stream_table_join";
            for before in inputs(node).into_iter().take(if is_look_up { 1 } else { usize::MAX }) {
                topics.extend(self.topics_before(before));
            }
            if topics.len() > 1 {
                return false;
            }
        }
        true
    }

    /// The topics whose records reach a node.
    pub(super) fn topics_before<'a>(&'a self, id: &'a str) -> BTreeSet<&'a str> {
        let (mut topics, mut seen, mut ahead) = (BTreeSet::new(), BTreeSet::new(), vec![id]);
        while let Some(id) = ahead.pop() {
            let node = self.nodes.get(id).filter(|_| seen.insert(id));
            let Some(node) = node else { continue };
            topics.extend(node["topic"].as_str());
            ahead.extend(inputs(node));
        }
        topics
    }

    /// The type of the keys of what a field names.
    pub(super) fn key_type_before(&self, node: &Value, field: &str) -> Outcome<String> {
        let node = self.before(node, field)?;
        match (node["key"].as_str(), is_keyed_by_text(node), inputs(node).first()) {
            (Some(key_type), ..) => Ok(key_type.to_owned()),
            (None, true, _) | (None, false, None) => Ok("string".to_owned()),
            (None, false, Some(_)) => {
                let field = if node["left"].is_string() { "left" } else { "from" };
                self.key_type_before(node, field)
            }
        }
    }

    /// The windows whose results a node passes on as they are.
    fn window_of(&self, id: &str) -> Outcome<Option<Window>> {
        let node = self.node(id)?;
        match op(node) {
            kind if FOLDS.contains(&kind) && self.op_before(node, "from") == "windowed" => {
                Window::of(self.before(node, "from")?).map(Some)
            }
            "to_stream" => self.window_of(json::text(node, "from")?),
            "suppress" => {
                let window = self.window_of(json::text(node, "from")?)?;
                Ok(window.map(|window| Window { emit: Emit::Suppressed, ..window }))
            }
            _ => Ok(None),
        }
    }

    /// The windows of what two tables in windows make together.
    fn joined_window_of(&self, id: &str) -> Outcome<Option<Window>> {
        let node = self.node(id)?;
        match op(node) {
            "table_table_join" => self.window_of(json::text(node, "left")?),
            "to_stream" => self.joined_window_of(json::text(node, "from")?),
            _ => Ok(None),
        }
    }

    /// Whether a step's topic is given its keys again.
    pub(super) fn is_keyed_again(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|input| input.is_keyed_again)
    }

    /// The topic of a stream that waits before it looks a table up.
    pub(super) fn waiting_topic(&self) -> Option<&str> {
        let waits = |node: &&Value| op(node) == "stream_table_join" && node["grace_ms"].is_number();
        self.nodes.values().find(waits).and_then(|node| self.topic_of(node, "left"))
    }

    /// Whether a node gives what two tables make together.
    pub(super) fn joins_tables(&self, id: &str) -> bool {
        self.node(id).is_ok_and(|node| match op(node) {
            "to_stream" => self.op_before(node, "from") == "table_table_join",
            op => op == "table_table_join",
        })
    }

    /// The stream-stream join, if there is nothing else.
    pub(super) fn only_join(&self) -> Option<OnlyJoin<'_>> {
        let [sink] = self.sinks.as_slice() else { return None };
        let node = self.node(&sink.from).ok().filter(|node| op(node) == "stream_stream_join")?;
        Some(OnlyJoin {
            left: self.topic_of(node, "left")?,
            right: self.topic_of(node, "right")?,
            join: Join::of(node).ok()?,
            sink: &sink.topic,
        })
    }

    /// The join by foreign key, if there is nothing else.
    pub(super) fn only_foreign_join(&self) -> Option<OnlyForeignJoin<'_>> {
        let [sink] = self.sinks.as_slice() else { return None };
        let node = self.node(&sink.from).ok().filter(|node| op(node) == "fk_join")?;
        let side = |field: &str| {
            let table = self.before(node, field).ok().filter(|node| op(node) == "table")?;
            let retention = table["history_retention_ms"].as_i64();
            Some((table["topic"].as_str()?, retention.filter(|_| table["store"] == "versioned")))
        };
        let ((left, left_ms), (right, right_ms)) = (side("left")?, side("right")?);
        let join = ForeignJoin::of(node).ok()?;
        Some(OnlyForeignJoin {
            left,
            right,
            retention_ms: (left_ms, right_ms),
            join,
            sink: &sink.topic,
        })
    }

    /// The topic whose records a field names, if they come as they are.
    fn topic_of(&self, node: &Value, field: &str) -> Option<&str> {
        let node = self.before(node, field).ok()?;
        match op(node) {
            "stream" => node["topic"].as_str(),
            "map_identity_marks_repartition" => self.topic_of(node, "from"),
            _ => None,
        }
    }
}
