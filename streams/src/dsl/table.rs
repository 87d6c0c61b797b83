//! The latest value of each key.
//!
//! Invariants
//! * a table's rows are looked up as the running transaction has them; its updates are passed on once
//!   per commit.

use std::cell::RefCell;
use std::rc::Rc;

use super::assembly::{Assembly, TopicTypes};
use super::stream::{KeyedPlace, decode_carried, store_name};
use super::{Stream, Topic, Topology};
use crate::codec::{Bincode, Codec, Data};
use crate::ids::StoreName;
use crate::key::{Key, RecordKey};
use crate::operator::{Change, Children, Keyed, NewValue, Sink, TableStore, TableWriter};
use crate::processor::{Next, ProcessKeyed, Shared, Stateful};
use crate::store::{Overlay, View};
use crate::time::TimeInputs;
use crate::topology::{Carries, Kind, NodeId, changelog_topic};

/// A table. Its store is kept up to date whether or not anything follows, and any number of streams
/// may look it up: [`Stream::join`], [`Stream::left_join`].
pub struct Table<K, V> {
    pub(crate) assembly: Shared<Assembly>,
    pub(crate) node: NodeId,
    pub(crate) inputs: TimeInputs,
    pub(crate) store: StoreName,
    /// Where its rows are looked up.
    pub(crate) rows: Rc<dyn View<V>>,
    /// What takes its changes, once per commit.
    pub(crate) changes: Children<K, Change<V>>,
}

impl Topology {
    /// The latest value of each key of a topic, which must exist when the job starts (S004).
    ///
    /// The latest is the one with the largest offset, whatever its timestamp says. A null value deletes
    /// its row; a null key is counted and skipped. Where a record of the topic and one of a stream that
    /// looks it up have the same timestamp, the table's goes first. The topic moves no clock of a
    /// stream.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const USERS: Topic<String, String> = topic("users");
    /// const NAMES: Topic<String, String> = topic("names");
    /// fn topology(t: &mut Topology) {
    ///     let users = t.table(USERS, "users");
    ///     users.updates().map(|name| name.to_uppercase()).to(NAMES);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(USERS, "1".into(), "ana".into());
    /// assert_eq!(d.read(NAMES), [("1".to_string(), "ANA".to_string())]);
    /// ```
    pub fn table<K: Key, V: Data, C: Codec<V>>(
        &mut self,
        topic: Topic<K, V, C>,
        store: &str,
    ) -> Table<K, V> {
        let Ok(store) = store_name(&self.assembly, store) else {
            return Table::nowhere(Rc::clone(&self.assembly));
        };
        let mut assembly = self.assembly.borrow_mut();
        let Some((node, input, typed)) = assembly.source::<K, V, C>(topic.name()) else {
            assembly.two_types(topic.name());
            return Table::nowhere(Rc::clone(&self.assembly));
        };
        let children = typed.children.clone();
        drop(assembly);
        let place = KeyedPlace {
            node,
            inputs: TimeInputs(vec![(input, 0)]),
            attach: Box::new(move |op| children.add(Box::new(Keyed::new(|v| v, op)))),
        };
        let kind = Kind::Table { store: store.clone() };
        let writer = |rows| -> Box<dyn ProcessKeyed<V>> { Box::new(TableWriter::new(rows)) };
        Table::behind(Rc::clone(&self.assembly), place, store, kind, writer)
    }
}

impl<K: RecordKey, V: Data> Stream<K, V> {
    /// The latest value of each key. A null value deletes its row; a null key is counted and skipped.
    ///
    /// Behind `key_by` the records go through a repartition topic first, and null values are left out.
    pub fn table(self, store: &str) -> Table<K, V>
    where
        K: Key,
    {
        let store = match store_name(&self.assembly, store) {
            Ok(store) => store,
            Err(assembly) => return Table::nowhere(assembly),
        };
        let (assembly, place) = self.keyed(&store, Carries::Value, |v| v, decode_carried::<V>);
        let kind = Kind::Table { store: store.clone() };
        Table::behind(assembly, place, store, kind, |rows| Box::new(TableWriter::new(rows)))
    }
}

impl Assembly {
    /// Adds the node of a table, and its store with what it is made of.
    pub(super) fn table<K: Key, V: Data>(
        &mut self,
        kind: Kind,
        inputs: &[NodeId],
        kept: TableStore<K, V>,
    ) -> NodeId {
        let node = self.graph.add(kind, inputs);
        let topic = changelog_topic(&self.graph.id, kept.store());
        self.types.insert(topic, TopicTypes::of::<K, V, Bincode>());
        let stateful: Shared<dyn Stateful> = Rc::new(RefCell::new(kept));
        self.stateful.push((node, stateful));
        node
    }
}

impl<K: RecordKey, V: Data> Table<K, V> {
    /// Puts a table in place, with the operator that writes its rows.
    pub(super) fn behind<V2>(
        assembly: Shared<Assembly>,
        place: KeyedPlace<V2>,
        store: StoreName,
        kind: Kind,
        writer: impl FnOnce(Shared<Overlay<V>>) -> Box<dyn ProcessKeyed<V2>>,
    ) -> Self
    where
        K: Key,
    {
        let (table, rows) = Self::written_by(assembly, &[place.node], place.inputs, store, kind);
        (place.attach)(writer(rows));
        table
    }

    /// A table whose rows these nodes write.
    pub(super) fn written_by(
        assembly: Shared<Assembly>,
        nodes: &[NodeId],
        inputs: TimeInputs,
        store: StoreName,
        kind: Kind,
    ) -> (Self, Shared<Overlay<V>>)
    where
        K: Key,
    {
        let changes = Children::new();
        let rows = Rc::new(RefCell::new(Overlay::new(store.clone())));
        let kept = TableStore::<K, V>::new(store.clone(), Rc::clone(&rows), changes.clone());
        let node = assembly.borrow_mut().table(kind, nodes, kept);
        let seen: Rc<dyn View<V>> = Rc::<RefCell<_>>::clone(&rows) as _;
        (Self { assembly, node, inputs, store, rows: seen, changes }, rows)
    }

    /// What stands for a table whose name or topic was refused.
    pub(super) fn nowhere(assembly: Shared<Assembly>) -> Self {
        let store = StoreName::new("refused").expect("letters are a good name");
        let (inputs, changes) = (TimeInputs::default(), Children::new());
        let rows = Rc::new(RefCell::new(Overlay::new(store.clone())));
        Self { assembly, node: NodeId(0), inputs, store, rows, changes }
    }

    /// The changed rows as a stream, each once per commit with its latest value; a deleted row as a
    /// null value.
    pub fn updates(&self) -> Stream<K, V> {
        let changes = self.changes.clone();
        Stream {
            assembly: Rc::clone(&self.assembly),
            node: self.node,
            inputs: self.inputs.clone(),
            rekeyed: false,
            origin: self.store.to_string(),
            attach: Box::new(move |next: Next<K, V>| changes.add(Box::new(NewValue::new(next)))),
            source: None,
        }
    }

    /// Writes each changed row to a topic, once per commit, with its latest value; a deleted row as a
    /// null value.
    pub fn to<C: Codec<V>>(self, topic: Topic<K, V, C>) {
        let mut assembly = self.assembly.borrow_mut();
        assembly.graph.add(Kind::Sink { topic: topic.name().to_owned() }, &[self.node]);
        assembly.types.insert(topic.name().to_owned(), TopicTypes::of::<K, V, C>());
        let output = assembly.output(topic.name());
        drop(assembly);
        let sink = Sink::<K, V, C>::new(topic.name().to_owned(), output);
        self.changes.add(Box::new(NewValue::new(Box::new(sink))));
    }
}
