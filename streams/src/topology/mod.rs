//! The topology as data: a graph of named nodes, split into sub-topologies. Pure.
//!
//! Why data: a topology must be printed, compared and cut into tasks without running it, and two
//! builds of the same code must give the same names.
//!
//! ```text
//!   Source(clicks) -> Filter -> KeyBy -> RepartitionSink(t)        sub-topology 0
//!                                             |  topic t
//!   RepartitionSource(t) -> WindowAggregate(store) -> Sink(out)    sub-topology 1
//! ```
//!
//! Invariants
//! * nodes are numbered in the order of the user's calls; edges point from lower to higher numbers.
//! * a repartition topic has one sink node and one source node, with no edge between them.
//! * names of topics and stores come from names that the user gave, never from node numbers.

mod describe;
mod subtopology;
mod validate;

pub(crate) use subtopology::{SourceDecl, Subtopology, partition_counts};

use crate::ids::StoreName;
use crate::time::Tumbling;

/// Index of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub(crate) usize);

/// When a windowed result speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Emit {
    /// Once, when the window has closed.
    OnClose,
    /// The latest value of each changed key, once per commit.
    OnUpdate,
}

/// What a repartition topic carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    /// Key and times: the consumer counts.
    Key,
    /// Key, value, headers and times.
    Value,
}

/// What a node does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Source { topic: String, event_time: bool },
    Filter,
    Map,
    FlatMap,
    KeyBy,
    Merge,
    RepartitionSink { topic: String, carries: Carries },
    RepartitionSource { topic: String },
    Aggregate { store: StoreName, what: &'static str },
    WindowAggregate { store: StoreName, what: &'static str, window: Tumbling, emit: Emit },
    Sink { topic: String },
    ForEach,
}

/// One node and where its records come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) inputs: Vec<NodeId>,
}

/// The whole graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Graph {
    pub(crate) id: String,
    pub(crate) nodes: Vec<Node>,
}

impl Graph {
    pub(crate) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), nodes: Vec::new() }
    }

    pub(crate) fn add(&mut self, kind: Kind, inputs: &[NodeId]) -> NodeId {
        self.nodes.push(Node { kind, inputs: inputs.to_vec() });
        NodeId(self.nodes.len() - 1)
    }

    /// The topic that is named first as an input.
    pub(crate) fn first_source(&self) -> Option<&str> {
        self.nodes.iter().find_map(|node| match &node.kind {
            Kind::Source { topic, .. } => Some(topic.as_str()),
            _ => None,
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(i, node)| (NodeId(i), node))
    }
}

/// The changelog topic of a store.
pub(crate) fn changelog_topic(id: &str, store: &StoreName) -> String {
    format!("{id}-{store}-changelog")
}

/// The topic that keeps which silent partitions were passed over.
pub(crate) fn clock_topic(id: &str) -> String {
    format!("{id}-clock")
}

/// The repartition topic in front of a store.
pub(crate) fn repartition_topic(id: &str, store: &StoreName) -> String {
    format!("{id}-{store}-repartition")
}
