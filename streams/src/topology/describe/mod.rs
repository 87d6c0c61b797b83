//! What there is to say of a topology, before anybody decides how: what `topology` shows. Pure.
//!
//! ```text
//!   Graph --describe--> Description: sub-topologies of steps, stores beside them, topics between them
//!                           |---- text      for a terminal
//!                           |---- json      for a program
//!                           |---- mermaid   for a page that draws it
//!                           |---- dot       for Graphviz
//!                           `---- svg       drawn by us: layers.rs places the boxes
//! ```
//!
//! Why one description: a new kind of step has its words in one place, [`Graph::step`], and the formats
//! cannot disagree.
//!
//! Invariants
//! * the same calls give the same text, byte for byte;
//! * labels may hold anything: each format escapes what it gives a meaning to.

mod dot;
mod json;
mod layers;
mod mermaid;
mod svg;
mod text;

use serde::Serialize;

use super::{Carries, Emit, Graph, JoinKind, Kind, Node, NodeId, Way, changelog_topic};
use crate::ids::StoreName;
use crate::on_error::OnError;
use crate::time::Ms;

/// How a topology is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Mermaid,
    Dot,
    Svg,
    Json,
}

/// A topology in words.
#[derive(Debug, PartialEq, Serialize)]
struct Description {
    id: String,
    subtopologies: Vec<Part>,
    /// Topics that steps read or write, in the order in which they are named.
    topics: Vec<TopicBox>,
}

/// A sub-topology.
#[derive(Debug, PartialEq, Serialize)]
struct Part {
    number: usize,
    steps: Vec<Step>,
}

/// A step: its words, and what it is connected to.
#[derive(Debug, PartialEq, Serialize)]
struct Step {
    id: usize,
    title: String,
    details: Vec<String>,
    /// The steps that it takes records from.
    inputs: Vec<usize>,
    reads: Option<String>,
    writes: Option<String>,
    /// Where records go that it refuses.
    dead_letters: Option<String>,
    stores: Vec<StoreBox>,
}

/// A store, and the topic that it can be rebuilt from.
#[derive(Debug, PartialEq, Serialize)]
struct StoreBox {
    name: String,
    changelog: String,
}

/// A topic.
#[derive(Debug, PartialEq, Serialize)]
struct TopicBox {
    name: String,
    role: Role,
}

/// What a topic is to the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Role {
    Source,
    Output,
    Repartition,
    DeadLetters,
}

impl Graph {
    /// The topology, as the format has it.
    pub(crate) fn describe(&self, format: Format) -> String {
        let description = self.description();
        match format {
            Format::Text => text::write(&description),
            Format::Mermaid => mermaid::write(&description),
            Format::Dot => dot::write(&description),
            Format::Svg => svg::write(&description),
            Format::Json => json::write(&description),
        }
    }

    /// A step by the number that `topology` prints, and its words.
    pub(crate) fn step_name(&self, id: NodeId) -> String {
        format!("{} {}", id.0, self.step(&self.nodes[id.0]).0)
    }

    fn description(&self) -> Description {
        let membership = self.membership();
        let mut subtopologies: Vec<Part> = Vec::new();
        let mut topics = Vec::new();
        for (id, node) in self.iter() {
            let step = self.described(id, node);
            let is_repartition =
                matches!(node.kind, Kind::RepartitionSink { .. } | Kind::RepartitionSource { .. });
            let role = |role| if is_repartition { Role::Repartition } else { role };
            let named = [
                (&step.reads, role(Role::Source)),
                (&step.writes, role(Role::Output)),
                (&step.dead_letters, Role::DeadLetters),
            ];
            for (topic, role) in named {
                let Some(name) = topic else { continue };
                if !topics.iter().any(|known: &TopicBox| known.name == *name) {
                    topics.push(TopicBox { name: name.clone(), role });
                }
            }
            let part = membership[id.0];
            while subtopologies.len() <= part {
                subtopologies.push(Part { number: subtopologies.len(), steps: Vec::new() });
            }
            subtopologies[part].steps.push(step);
        }
        Description { id: self.id.clone(), subtopologies, topics }
    }

    fn described(&self, id: NodeId, node: &Node) -> Step {
        let (title, mut details) = self.step(node);
        details.extend(self.refuses(node));
        let topic = |topic: &str| Some(topic.to_owned());
        let inputs = self.inputs();
        let reads = inputs.iter().find(|(input, _)| *input == id).and_then(|(_, t)| topic(t));
        let store = |store: &StoreName| StoreBox {
            name: store.to_string(),
            changelog: changelog_topic(&self.id, store),
        };
        Step {
            id: id.0,
            title,
            details,
            inputs: node.inputs.iter().map(|&NodeId(input)| input).collect(),
            reads,
            writes: node.kind.writes().and_then(topic),
            dead_letters: self.writes_letters(node).then(|| self.letters_topic()).flatten(),
            stores: node.kind.stores().into_iter().map(store).collect(),
        }
    }

    /// What it does with records that it cannot take, where that is not to stop.
    fn refuses(&self, node: &Node) -> Option<String> {
        let taken = match node.kind {
            Kind::Source { .. } => "undecodable",
            _ => "refused",
        };
        match self.policy(node)? {
            OnError::Fail => None,
            OnError::Skip => Some(format!("{taken} records are skipped")),
            OnError::DeadLetter => {
                Some(format!("{taken} records go to {}", self.letters_topic().unwrap_or_default()))
            }
        }
    }

    /// The words for a step: what it is, and what else is to be said of it.
    fn step(&self, node: &Node) -> (String, Vec<String>) {
        match &node.kind {
            Kind::Source { topic, event_time: true } => {
                (format!("read {topic}"), vec!["event time from the value".into()])
            }
            Kind::RepartitionSource { topic } if self.ordered.contains(topic) => {
                (format!("read {topic}"), vec!["in the order of source time".into()])
            }
            Kind::Source { topic, .. } | Kind::RepartitionSource { topic } => {
                (format!("read {topic}"), vec![])
            }
            Kind::Filter => ("filter".into(), vec![]),
            Kind::Map => ("map".into(), vec![]),
            Kind::TryMap => ("try map".into(), vec![]),
            Kind::FlatMap => ("flat map".into(), vec![]),
            Kind::Inspect => ("inspect".into(), vec![]),
            Kind::Branch(way) => (way_said(*way), vec![]),
            Kind::KeyBy => ("key by".into(), vec![]),
            Kind::GroupBy => ("group by".into(), vec![]),
            Kind::MapWithKey => ("map with key".into(), vec![]),
            Kind::FlatMapWithKey => ("flat map with key".into(), vec![]),
            Kind::Merge => ("merge".into(), vec![]),
            Kind::RepartitionSink { topic, carries: Carries::Key } => {
                (format!("write {topic}"), vec!["key and times, no value".into()])
            }
            Kind::RepartitionSink { topic, .. } | Kind::Sink { topic } => {
                (format!("write {topic}"), vec![])
            }
            Kind::Aggregate { store, what } => (format!("{what} in {store}"), vec![]),
            Kind::WindowAggregate { store, what, window, emit } => {
                (format!("{what} in {store}"), vec![format!("{window}, {}", speaks(*emit))])
            }
            Kind::Late => ("late records".into(), vec![]),
            Kind::Table { store } => (format!("table {store}"), vec![]),
            Kind::VersionedTable { store, history, history_ms } => {
                let kept = format!("what rows were for {} in {history}", Ms(*history_ms));
                (format!("table {store}"), vec![kept])
            }
            Kind::AtMostEvery { store, every_ms } => {
                (format!("at most every {}", Ms(*every_ms)), vec![format!("what waits in {store}")])
            }
            Kind::GlobalTable { topic, store } => {
                let whole = format!("all partitions of {topic}, in every task");
                (format!("global table {store}"), vec![whole])
            }
            Kind::Subscriptions { store } => (
                format!("subscriptions in {store}"),
                vec!["answers who names a row, now and at each change".into()],
            ),
            joins @ (Kind::GraceJoin { .. }
            | Kind::TableJoin { .. }
            | Kind::TableTableJoin { .. }
            | Kind::ForeignJoin { .. }
            | Kind::StreamJoin { .. }) => joined(joins),
            Kind::Store { store, what } => (format!("store {store}"), vec![(*what).into()]),
            Kind::Process { name, timers } => {
                (format!("process {name}"), timers.iter().map(|_| "timers by key".into()).collect())
            }
            Kind::SinkOf => ("write to the topic that each record names".into(), vec![]),
            Kind::ForEach => ("for each".into(), vec![]),
            Kind::Print { label } => (format!("print [{label}]"), vec![]),
        }
    }
}

fn way_said(way: Way) -> String {
    match way {
        Way::First => "branch: yes".to_owned(),
        Way::Case(number) => format!("split: case {number}"),
        Way::Rest => "branch: the rest".to_owned(),
    }
}

fn speaks(emit: Emit) -> &'static str {
    match emit {
        Emit::OnClose => "one result per closed window",
        Emit::OnUpdate => "each changed window once per commit",
    }
}

/// The words for a join.
fn joined(kind: &Kind) -> (String, Vec<String>) {
    match kind {
        Kind::GraceJoin { store, table, join, grace_ms } => {
            let waits = format!("as of each record's time, after {} in {store}", Ms(*grace_ms));
            (format!("{} {table}", said(*join)), vec![waits])
        }
        Kind::TableJoin { store, join } => (format!("{} {store}", said(*join)), vec![]),
        Kind::TableTableJoin { store, join } => {
            (format!("{} of tables in {store}", said(*join)), vec![])
        }
        Kind::ForeignJoin { store, join } => {
            (format!("{} by foreign key in {store}", said(*join)), vec![])
        }
        Kind::StreamJoin { left, right, join, window } => {
            (format!("{} in {left} and {right}", said(*join)), vec![window.to_string()])
        }
        _ => ("join".into(), vec![]),
    }
}

fn said(join: JoinKind) -> &'static str {
    match join {
        JoinKind::Inner => "join",
        JoinKind::Left => "left join",
        JoinKind::Outer => "outer join",
    }
}

impl Kind {
    /// The topic that it writes its records to.
    fn writes(&self) -> Option<&str> {
        match self {
            Self::Sink { topic } | Self::RepartitionSink { topic, .. } => Some(topic),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
