//! Prints a topology as text: what `topology` shows. Pure.
//!
//! Invariants
//! * the same calls print the same text.

use std::fmt::Write as _;

use super::{Carries, Emit, Graph, Kind, Node, NodeId, changelog_topic};

impl Graph {
    /// The sub-topologies, their steps and the topics between them.
    pub(crate) fn describe_text(&self) -> String {
        let mut text = format!("topology {}\n", self.id);
        let membership = self.membership();
        for part in 0..self.subtopologies().len() {
            writeln!(text, "sub-topology {part}").expect("a string takes everything");
            for (id, node) in self.iter().filter(|(id, _)| membership[id.0] == part) {
                let from = self.from(node);
                let step = format!("  {:<4}{}", id.0, self.step(node));
                writeln!(text, "{}", format!("{step}{from}").trim_end())
                    .expect("a string takes everything");
            }
        }
        text
    }

    fn from(&self, node: &Node) -> String {
        let inputs: Vec<String> = node.inputs.iter().map(|NodeId(i)| i.to_string()).collect();
        if inputs.is_empty() { String::new() } else { format!("   <- {}", inputs.join(", ")) }
    }

    fn step(&self, node: &Node) -> String {
        match &node.kind {
            Kind::Source { topic, event_time: true } => {
                format!("read {topic} (event time from the value)")
            }
            Kind::Source { topic, .. } => format!("read {topic}"),
            Kind::Filter => "filter".into(),
            Kind::Map => "map".into(),
            Kind::FlatMap => "flat map".into(),
            Kind::KeyBy => "key by".into(),
            Kind::Merge => "merge".into(),
            Kind::RepartitionSink { topic, carries: Carries::Key } => {
                format!("write {topic} (key and times, no value)")
            }
            Kind::RepartitionSink { topic, .. } => format!("write {topic}"),
            Kind::RepartitionSource { topic } => format!("read {topic}"),
            Kind::Aggregate { store, what } => {
                format!("{what} in {store} (changelog {})", changelog_topic(&self.id, store))
            }
            Kind::WindowAggregate { store, what, window, emit } => {
                let speaks = match emit {
                    Emit::OnClose => "one result per closed window",
                    Emit::OnUpdate => "each changed window once per commit",
                };
                let changelog = changelog_topic(&self.id, store);
                format!("{what} in {store} per {window}, {speaks} (changelog {changelog})")
            }
            Kind::Sink { topic } => format!("write {topic}"),
            Kind::ForEach => "for each".into(),
        }
    }
}
