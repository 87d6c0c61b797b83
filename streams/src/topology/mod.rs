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
mod lineage;
mod order;
mod partitions;
mod pattern;
mod refusal;
mod subtopology;
mod told;
mod validate;

pub(crate) use describe::Format;
pub(crate) use lineage::{Closing, Nature};
pub(crate) use partitions::{PartitionCounts, partition_counts};
pub(crate) use pattern::Pattern;
pub(crate) use subtopology::{SourceDecl, Subtopology};
pub(crate) use told::Told;

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::StoreName;
use crate::on_error::OnError;
use crate::time::{JoinWindow, Windows};

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

/// Which records of a join speak although nothing matches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinKind {
    /// None.
    Inner,
    /// Those of the left side.
    Left,
    /// Those of both sides.
    Outer,
}

/// Which records of a branch a node passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Those whose value answers yes.
    First,
    /// Those that this case of several takes, counted from 1.
    Case(usize),
    /// All others.
    Rest,
}

/// What a node does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Source {
        topic: String,
        event_time: bool,
    },
    Filter,
    Map,
    FlatMap,
    KeyBy,
    /// Both values of a table's change go to the groups that they belong to.
    GroupBy,
    /// Key and value are replaced.
    MapWithKey,
    /// The same by any number of them.
    FlatMapWithKey,
    Merge,
    RepartitionSink {
        topic: String,
        carries: Carries,
    },
    RepartitionSource {
        topic: String,
    },
    Aggregate {
        store: StoreName,
        what: &'static str,
    },
    WindowAggregate {
        store: StoreName,
        what: &'static str,
        window: Windows,
        emit: Emit,
    },
    /// Records that came after a window of their own had closed.
    Late,
    /// The latest value of each key.
    Table {
        store: StoreName,
    },
    /// The same, with what the rows were.
    VersionedTable {
        store: StoreName,
        history: StoreName,
        history_ms: i64,
    },
    /// A table whose rows change at most once in a period.
    AtMostEvery {
        store: StoreName,
        every_ms: i64,
    },
    /// A topic that each task reads whole, from all of its partitions.
    GlobalTable {
        topic: String,
        store: StoreName,
    },
    /// A stream looks up a table, or a global table; its inputs are the stream and the table.
    TableJoin {
        store: StoreName,
        join: JoinKind,
    },
    /// A stream waits, in a store, before it looks a versioned table up; its inputs are both.
    GraceJoin {
        store: StoreName,
        table: StoreName,
        join: JoinKind,
        grace_ms: i64,
    },
    /// Two tables by their key; its inputs are the left and the right one, its result is a table.
    TableTableJoin {
        store: StoreName,
        join: JoinKind,
    },
    /// Two streams within a time; its inputs are the left and the right one, in a store each.
    StreamJoin {
        left: StoreName,
        right: StoreName,
        join: JoinKind,
        window: JoinWindow,
    },
    /// A store that processors work on; they are its consumers.
    Store {
        store: StoreName,
        /// Its layout, as a person calls it.
        what: &'static str,
    },
    /// A user's processor; its inputs are a stream, and then the stores and tables that it uses.
    Process {
        name: StoreName,
        timers: Option<StoreName>,
    },
    /// The right side of a join by foreign key: which left rows name which right one. Its inputs are the
    /// questions of the left side and the right table.
    Subscriptions {
        store: StoreName,
    },
    /// The left side: a table of the results. Its inputs are the answers and the left table.
    ForeignJoin {
        store: StoreName,
        join: JoinKind,
    },
    Sink {
        topic: String,
    },
    /// To topics that the records name.
    SinkOf,
    ForEach,
    TryMap,
    Inspect,
    Branch(Way),
    Print {
        label: String,
    },
}

impl Kind {
    /// The stores that it keeps.
    pub(crate) fn stores(&self) -> Vec<&StoreName> {
        match self {
            Self::Aggregate { store, .. }
            | Self::WindowAggregate { store, .. }
            | Self::Table { store }
            | Self::AtMostEvery { store, .. }
            | Self::GraceJoin { store, .. }
            | Self::TableTableJoin { store, .. }
            | Self::Subscriptions { store }
            | Self::ForeignJoin { store, .. }
            | Self::GlobalTable { store, .. } => vec![store],
            Self::StreamJoin { left, right, .. } => vec![left, right],
            Self::Store { store, .. } => vec![store],
            Self::Process { timers, .. } => timers.iter().collect(),
            Self::VersionedTable { store, history, .. } => vec![store, history],
            _ => Vec::new(),
        }
    }

    /// Whether records of one key must meet in one task for it.
    pub(crate) fn is_keyed(&self) -> bool {
        !self.stores().is_empty() && !matches!(self, Self::GlobalTable { .. })
    }
}

/// One node and where its records come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) inputs: Vec<NodeId>,
    /// What becomes of records that it refuses, where that was said of this step.
    pub(crate) on_error: Option<OnError>,
}

/// The whole graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Graph {
    pub(crate) id: String,
    pub(crate) nodes: Vec<Node>,
    /// Partitions of the repartition topics for which the user chose them.
    pub(crate) chosen: BTreeMap<String, u32>,
    /// Repartition topics whose records are taken in the order of source time.
    pub(crate) ordered: BTreeSet<String>,
    /// Patterns by which topics are read; where none was found, one stands for its topics.
    pub(crate) patterns: BTreeSet<String>,
    /// What becomes of refused records where a step says nothing.
    pub(crate) on_error: OnError,
}

impl Graph {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            nodes: Vec::new(),
            chosen: BTreeMap::new(),
            ordered: BTreeSet::new(),
            patterns: BTreeSet::new(),
            on_error: OnError::default(),
        }
    }

    pub(crate) fn add(&mut self, kind: Kind, inputs: &[NodeId]) -> NodeId {
        self.nodes.push(Node { kind, inputs: inputs.to_vec(), on_error: None });
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

/// The topic in which a replay counts what was late then.
pub(crate) fn late_topic(id: &str) -> String {
    format!("{id}-late-then")
}

/// The repartition topic in front of a store, or of a name that the user gave.
pub(crate) fn repartition_topic(id: &str, name: impl std::fmt::Display) -> String {
    format!("{id}-{name}-repartition")
}
