//! Tables that every task has whole, and streams that look them up by any key.
//!
//! ```text
//!   rates (any number of partitions)  --all-->  every task: its own copy, with its own changelog
//!   orders --------------------------------- join_global(&rates, |order| order.currency, ..)
//! ```
//!
//! Why a copy for each task: a task owns its state, so that a commit is one cut through the job and a
//! restart finds each task's table as it was at its commit.
//!
//! Invariants
//! * a task takes every record of the topic that there is before it goes on with a stream.
//! * the topic moves no clock.
//!
//! Reference: Kafka Streams `GlobalKTable`, which keeps one copy per process and reads it uncommitted
//! with the job's positions.

use std::cell::RefCell;
use std::rc::Rc;

use super::assembly::TopicTypes;
use super::stream::store_name;
use super::{Stream, Topic, Topology};
use crate::codec::{Bincode, Codec, Data};
use crate::ids::StoreName;
use crate::key::{Key, RecordKey};
use crate::operator::{
    Children, GlobalEntry, Keyed, SourceEntry, SourceSettings, TableJoin, TableStore, TableWriter,
};
use crate::processor::{Next, Shared, Stateful};
use crate::store::{Overlay, View};
use crate::topology::{JoinKind, Kind, NodeId, changelog_topic};

/// A table that every task has whole: [`Stream::join_global`], [`Stream::left_join_global`].
pub struct GlobalTable<K, V> {
    node: NodeId,
    rows: Shared<Overlay<V>>,
    key: std::marker::PhantomData<fn() -> K>,
}

impl<K, V: Data> GlobalTable<K, V> {
    /// Its place, and where its rows are looked up.
    pub(super) fn parts(&self) -> (NodeId, Rc<dyn View<V>>) {
        (self.node, Rc::<RefCell<_>>::clone(&self.rows) as _)
    }
}

impl Topology {
    /// The latest value of each key of a topic, whole in every task: streams look it up by any key,
    /// whatever its partitions and theirs.
    ///
    /// A task reads the topic to its end before it goes on with a stream. Each task that looks it up
    /// keeps a copy of its own, in its store and in its changelog, so it costs as many times the disk as
    /// there are tasks: for small tables that change rarely. Null values delete, null keys are counted
    /// and skipped.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const ORDERS: Topic<u64, (String, u64)> = topic("orders");
    /// const RATES: Topic<String, u64> = topic("rates");
    /// const PRICES: Topic<u64, u64> = topic("prices");
    /// fn topology(t: &mut Topology) {
    ///     let rates = t.global_table(RATES, "rates");
    ///     t.stream(ORDERS)
    ///         .join_global(&rates, |(currency, _)| currency.clone(), |(_, sum), rate| sum * rate)
    ///         .to(PRICES);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(3);
    /// d.send(ORDERS, 1, ("EUR".into(), 5)).send(RATES, "EUR".into(), 7);
    /// assert_eq!(d.read(PRICES), [(1, 35)]);
    /// ```
    pub fn global_table<K: Key, V: Data, C: Codec<V>>(
        &mut self,
        topic: Topic<K, V, C>,
        store: &str,
    ) -> GlobalTable<K, V> {
        let key = std::marker::PhantomData;
        let Ok(store) = store_name(&self.assembly, store) else {
            let store = StoreName::new("refused").expect("letters are a good name");
            let rows = Rc::new(RefCell::new(Overlay::new(store)));
            return GlobalTable { node: NodeId(0), rows, key };
        };
        let rows = Rc::new(RefCell::new(Overlay::new(store.clone())));
        let mut assembly = self.assembly.borrow_mut();
        let kind = Kind::GlobalTable { topic: topic.name().to_owned(), store: store.clone() };
        let node = assembly.graph.add(kind, &[]);
        let input = assembly.input();
        let settings = Rc::new(SourceSettings::default());
        let children = Children::new();
        let writer = Box::new(TableWriter::new(Rc::clone(&rows)));
        children.add(Box::new(Keyed::new(|v: V| v, writer)));
        let entry = SourceEntry::<K, V, C>::new(topic.name(), node.0, settings, children);
        assembly.entries[input] = Some(Box::new(GlobalEntry { entry }));
        let changelog = changelog_topic(&assembly.graph.id, &store);
        assembly.types.insert(topic.name().to_owned(), TopicTypes::of::<K, V, C>());
        assembly.types.insert(changelog, TopicTypes::of::<K, V, Bincode>());
        let kept = TableStore::<K, V>::new(store, Rc::clone(&rows), Children::new()).replicated();
        let stateful: Shared<dyn Stateful> = Rc::new(RefCell::new(kept));
        assembly.stateful.push((node, stateful));
        GlobalTable { node, rows, key }
    }
}

impl<K: RecordKey, V: Data> Stream<K, V> {
    /// Looks up a global table by a key taken from the value, or by none (`None`), and passes on what
    /// the closure makes of both. A key that is not there gives nothing; no key and a null value are
    /// counted and skipped. The stream keeps its key and is not repartitioned.
    pub fn join_global<K2: Key, T: Data, R: Data, Q: Into<Option<K2>>>(
        self,
        table: &GlobalTable<K2, T>,
        key: impl Fn(&V) -> Q + Send + 'static,
        join: impl Fn(V, T) -> R + Send + 'static,
    ) -> Stream<K, R> {
        self.look_up_global(table, JoinKind::Inner, key, move |v, t: Option<T>| {
            t.map(|t| join(v, t))
        })
    }

    /// As [`join_global`](Self::join_global), but a record without a match, or without a key to look up,
    /// is passed on too: the closure gets `None`.
    pub fn left_join_global<K2: Key, T: Data, R: Data, Q: Into<Option<K2>>>(
        self,
        table: &GlobalTable<K2, T>,
        key: impl Fn(&V) -> Q + Send + 'static,
        join: impl Fn(V, Option<T>) -> R + Send + 'static,
    ) -> Stream<K, R> {
        self.look_up_global(table, JoinKind::Left, key, move |v, t| Some(join(v, t)))
    }

    fn look_up_global<K2: Key, T: Data, R: Data, Q: Into<Option<K2>>>(
        self,
        table: &GlobalTable<K2, T>,
        join: JoinKind,
        key: impl Fn(&V) -> Q + 'static,
        f: impl Fn(V, Option<T>) -> Option<R> + 'static,
    ) -> Stream<K, R> {
        let store = table.rows.borrow().store().clone();
        let kind = Kind::TableJoin { store, join };
        let node = self.assembly.borrow_mut().graph.add(kind, &[self.node, table.node]);
        let attach = self.attach;
        let rows: Rc<dyn View<T>> = Rc::<RefCell<_>>::clone(&table.rows);
        let key_of = move |_: Option<&K>, value: &V, out: &mut Vec<u8>| {
            key(value).into().is_some_and(|key| key.encode(out))
        };
        Stream {
            assembly: self.assembly,
            node,
            inputs: self.inputs,
            rekeyed: self.rekeyed,
            origin: self.origin,
            attach: Box::new(move |next: Next<K, R>| {
                attach(Box::new(TableJoin::new(join, rows, key_of, f, next)));
            }),
            source: None,
        }
    }
}
