//! Prints a topology as text: what `topology` shows. Pure.
//!
//! ```text
//!   sub-topology 1
//!      4  read clicks-per-page-repartition
//!      5  count in clicks-per-page
//!           tumbling 1m, grace 10s, one result per closed window
//!      6  write page-counts
//! ```
//!
//! Invariants
//! * the same calls print the same text;
//! * a step takes what the step above it gives, unless `<- n` says otherwise.

use std::fmt::Write as _;

use super::{Carries, Emit, Graph, JoinKind, Kind, Node, NodeId, changelog_topic};

/// A step, and what else is to be said of it.
type Step = (String, Vec<String>);

impl Graph {
    /// The sub-topologies, their steps and the topics between them.
    pub(crate) fn describe_text(&self) -> String {
        let mut text = format!("topology {}\n", self.id);
        let membership = self.membership();
        for part in 0..self.subtopologies().len() {
            writeln!(text, "\nsub-topology {part}").expect("a string takes everything");
            let mut above = None;
            for (id, node) in self.iter().filter(|(id, _)| membership[id.0] == part) {
                let (step, details) = self.step(node);
                let from = from(node, above);
                writeln!(text, "  {:>2}  {step}{from}", id.0).expect("a string takes everything");
                for detail in details {
                    writeln!(text, "        {detail}").expect("a string takes everything");
                }
                above = Some(id);
            }
        }
        text
    }

    fn step(&self, node: &Node) -> Step {
        let changelog = |store| format!("changelog {}", changelog_topic(&self.id, store));
        let (step, details) = match &node.kind {
            Kind::Source { topic, event_time: true } => {
                (format!("read {topic}"), vec!["event time from the value".into()])
            }
            Kind::Source { topic, .. } | Kind::RepartitionSource { topic } => {
                (format!("read {topic}"), vec![])
            }
            Kind::Filter => ("filter".into(), vec![]),
            Kind::Map => ("map".into(), vec![]),
            Kind::FlatMap => ("flat map".into(), vec![]),
            Kind::KeyBy => ("key by".into(), vec![]),
            Kind::Merge => ("merge".into(), vec![]),
            Kind::RepartitionSink { topic, carries: Carries::Key } => {
                (format!("write {topic}"), vec!["key and times, no value".into()])
            }
            Kind::RepartitionSink { topic, .. } | Kind::Sink { topic } => {
                (format!("write {topic}"), vec![])
            }
            Kind::Aggregate { store, what } => {
                (format!("{what} in {store}"), vec![changelog(store)])
            }
            Kind::WindowAggregate { store, what, window, emit } => {
                let speaks = match emit {
                    Emit::OnClose => "one result per closed window",
                    Emit::OnUpdate => "each changed window once per commit",
                };
                let windows = format!("{window}, {speaks}");
                (format!("{what} in {store}"), vec![windows, changelog(store)])
            }
            Kind::Table { store } => (format!("table {store}"), vec![changelog(store)]),
            Kind::GlobalTable { topic, store } => {
                let whole = format!("all partitions of {topic}, in every task");
                (format!("global table {store}"), vec![whole, changelog(store)])
            }
            Kind::TableJoin { store, join } => (format!("{} {store}", said(*join)), vec![]),
            Kind::StreamJoin { left, right, join, window } => (
                format!("{} in {left} and {right}", said(*join)),
                vec![window.to_string(), changelog(left), changelog(right)],
            ),
            Kind::ForEach => ("for each".into(), vec![]),
        };
        (step, details)
    }
}

fn said(join: JoinKind) -> &'static str {
    match join {
        JoinKind::Inner => "join",
        JoinKind::Left => "left join",
        JoinKind::Outer => "outer join",
    }
}

fn from(node: &Node, above: Option<NodeId>) -> String {
    if node.inputs.iter().copied().eq(above) {
        return String::new();
    }
    let inputs: Vec<String> = node.inputs.iter().map(|NodeId(i)| i.to_string()).collect();
    if inputs.is_empty() { String::new() } else { format!("  <- {}", inputs.join(", ")) }
}
