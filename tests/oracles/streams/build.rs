//! The topology of a case, through the public API: nodes become streams and tables, sinks first.
//!
//! ```text
//!   sink --> build(from) --> the family of its op (ops/<family>.rs) --> build(its inputs) --> ..
//! ```
//!
//! **To add an op**: write its arm in the file of its family below `ops`, and take its name out of that
//! file's `missing`. Nothing else changes, unless it gives a new kind of thing: then [`Built`] gets a
//! variant, and `sink` says how it is written.
//!
//! Invariants
//! * A table is built once, however many nodes take it. A stream can go one way only, so each node that
//!   takes it builds it again, with stores of its own, which changes no output.
//! * Stores are numbered in the order of building, so each building of a case gives them the same names.

use std::collections::BTreeMap;
use std::rc::Rc;

use ::streams::prelude::*;
use serde_json::Value;

use super::graph::{Graph, Sink, op};
use super::ops;
use super::ops::windows::Windows;
use super::ports::Names;
use super::values::{OracleKey, Val};
use crate::json;
use crate::report::{Outcome, Stop, unsupported};

/// What a node gives to the nodes behind it.
pub(super) enum Built<K: OracleKey> {
    Stream(Stream<K, Val>),
    Table(Rc<Table<K, Val>>),
    /// What `count` gives.
    Counts(Rc<Table<K, u64>>),
    Global(Rc<GlobalTable<K, Val>>),
    /// Results in windows that have yet to say when they speak.
    Windows(Windows<K>),
    WindowedStream(Stream<Windowed<K>, Val>),
    WindowedTable(Rc<Table<Windowed<K>, Val>>),
}

impl<K: OracleKey> Built<K> {
    /// The same again, for what any number of nodes can take.
    fn shared(&self) -> Option<Self> {
        match self {
            Self::Table(table) => Some(Self::Table(Rc::clone(table))),
            Self::Counts(table) => Some(Self::Counts(Rc::clone(table))),
            Self::Global(table) => Some(Self::Global(Rc::clone(table))),
            Self::WindowedTable(table) => Some(Self::WindowedTable(Rc::clone(table))),
            Self::Stream(_) | Self::Windows(_) | Self::WindowedStream(_) => None,
        }
    }

    /// Its rows.
    pub(super) fn table(self) -> Option<Rc<Table<K, Val>>> {
        match self {
            Self::Table(table) => Some(table),
            Self::Counts(counts) => Some(Rc::new(counts.map(Val::count))),
            _ => None,
        }
    }

    /// Its records; of a table, its changes.
    pub(super) fn stream(self) -> Option<Stream<K, Val>> {
        match self {
            Self::Stream(stream) => Some(stream),
            Self::Table(table) => Some(table.updates()),
            Self::Counts(table) => Some(table.updates().map(Val::count)),
            Self::Global(_)
            | Self::Windows(_)
            | Self::WindowedStream(_)
            | Self::WindowedTable(_) => None,
        }
    }
}

/// A topology while it grows.
pub(super) struct Building<'a, K: OracleKey> {
    pub(super) t: &'a mut Topology,
    pub(super) graph: &'a Graph,
    names: &'a Names,
    stores: usize,
    depth: usize,
    tables: BTreeMap<String, Built<K>>,
}

impl<'a, K: OracleKey> Building<'a, K> {
    pub(super) fn new(t: &'a mut Topology, graph: &'a Graph, names: &'a Names) -> Self {
        Self { t, graph, names, stores: 0, depth: graph.depth() + 1, tables: BTreeMap::new() }
    }

    pub(super) fn sinks(mut self) -> Outcome {
        let graph = self.graph;
        graph.sinks.iter().try_for_each(|sink| self.sink(sink))
    }

    fn sink(&mut self, sink: &Sink) -> Outcome {
        let to = self.names.get(&sink.topic);
        match self.build(&sink.from)? {
            Built::Stream(stream) => stream.to(topic(to)),
            Built::Table(table) => table.updates().to(topic(to)),
            Built::Counts(table) => table.updates().map(Val::count).to(topic(to)),
            Built::Windows(windows) => windows.speak().to(topic(to)),
            Built::WindowedStream(stream) => stream.to(topic(to)),
            Built::WindowedTable(table) => table.updates().to(topic(to)),
            Built::Global(_) => return Err(unsupported("a global table as an output")),
        }
        Ok(())
    }

    /// The name of the next store.
    pub(super) fn store(&mut self) -> String {
        self.stores += 1;
        format!("store-{}", self.stores)
    }

    /// The topic that a source node names.
    pub(super) fn topic(&self, node: &Value) -> Outcome<Topic<K, Val>> {
        Ok(topic(self.names.get(json::text(node, "topic")?)))
    }

    /// What a node gives.
    pub(super) fn build(&mut self, id: &str) -> Outcome<Built<K>> {
        if let Some(known) = self.tables.get(id).and_then(Built::shared) {
            return Ok(known);
        }
        self.depth = self.depth.checked_sub(1).ok_or_else(|| unsupported("format: a ring"))?;
        let graph = self.graph;
        let built = ops::build(self, graph.node(id)?)?;
        self.depth += 1;
        if let Some(table) = built.shared() {
            self.tables.insert(id.to_owned(), table);
        }
        Ok(built)
    }

    /// What the node that a field names gives.
    pub(super) fn before(&mut self, node: &Value, field: &str) -> Outcome<Built<K>> {
        self.build(json::text(node, field)?)
    }

    /// The stream that a field names; of a table, its changes.
    pub(super) fn stream(&mut self, node: &Value, field: &str) -> Outcome<Stream<K, Val>> {
        let stream = self.before(node, field)?.stream();
        stream.ok_or_else(|| self.no(node, field, "a stream"))
    }

    /// The table that a field names.
    pub(super) fn table(&mut self, node: &Value, field: &str) -> Outcome<Rc<Table<K, Val>>> {
        let before = self.before(node, field)?;
        before.table().ok_or_else(|| self.no(node, field, "a table"))
    }

    /// The table of results in windows that a field names.
    pub(super) fn windowed_table(
        &mut self,
        node: &Value,
        field: &str,
    ) -> Outcome<Rc<Table<Windowed<K>, Val>>> {
        match self.before(node, field)? {
            Built::WindowedTable(table) => Ok(table),
            Built::Windows(windows) => Ok(Rc::new(windows.speak().table(&self.store()))),
            _ => Err(self.no(node, field, "a table in windows")),
        }
    }

    /// The records of a stream, without those whose null is a value to another node.
    pub(super) fn values(&mut self, node: &Value, field: &str) -> Outcome<Stream<K, Val>> {
        let stream = self.stream(node, field)?;
        let topics = self.graph.topics_before(json::text(node, field)?);
        let with_nulls = topics.iter().any(|topic| self.graph.topics[*topic].nulls_are_values);
        Ok(if with_nulls { stream.filter(|value| *value != Val::Null) } else { stream })
    }

    /// Why a node cannot take what is in front of it.
    pub(super) fn no(&self, node: &Value, field: &str, wanted: &str) -> Stop {
        let before = self.graph.op_before(node, field);
        unsupported(format!("{before} as {wanted} in front of {}", op(node)))
    }
}
