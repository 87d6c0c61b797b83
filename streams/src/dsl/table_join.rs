//! Tables joined with tables, by their key.
//!
//! Why a store: what the result was is what a change of it takes back, and what can be asked for.

use std::cell::RefCell;
use std::rc::Rc;

use super::Table;
use super::stream::store_name;
use crate::codec::Data;
use crate::key::{Key, RecordKey};
use crate::operator::{
    Children, JoinView, LeftChanges, RightChanges, RowOf, TableStore, TableTableJoin,
};
use crate::store::Overlay;
use crate::topology::{JoinKind, Kind};

impl<K: RecordKey, V: Data> Table<K, V> {
    /// The keys that both tables have, with what the closure makes of both values. The result is a
    /// table with a store of its own.
    ///
    /// A change of either side makes the row again; where both sides have changed since the last commit,
    /// the result changes once. A row carries the larger timestamp of both. Both sides must have the
    /// same number of partitions (S003).
    ///
    /// ```
    /// use streams::prelude::*;
    /// const USERS: Topic<u64, String> = topic("users");
    /// const PLANS: Topic<u64, String> = topic("plans");
    /// const BOTH: Topic<u64, String> = topic("both");
    /// fn topology(t: &mut Topology) {
    ///     let users = t.table(USERS, "users");
    ///     let plans = t.table(PLANS, "plans");
    ///     users.join(&plans, "users-with-plans", |user, plan| format!("{user}: {plan}")).to(BOTH);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(2);
    /// d.send(USERS, 1, "ana".into()).send(USERS, 2, "bob".into()).run()?;
    /// d.send(PLANS, 1, "gold".into());
    /// assert_eq!(d.read(BOTH), [(1, "ana: gold".to_string())]);
    /// # Ok::<(), streams::Error>(())
    /// ```
    pub fn join<V2: Data, R: Data>(
        &self,
        other: &Table<K, V2>,
        store: &str,
        join: impl Fn(V, V2) -> R + Send + 'static,
    ) -> Table<K, R>
    where
        K: Key,
    {
        let row_of = move |left, right| Some(join(left?, right?));
        self.by_both(other, store, JoinKind::Inner, Box::new(row_of))
    }

    /// As [`join`](Self::join), with every key of this table: the closure gets `None` where the other one
    /// has no such row.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const USERS: Topic<u64, String> = topic("users");
    /// const PLANS: Topic<u64, String> = topic("plans");
    /// const BOTH: Topic<u64, String> = topic("both");
    /// fn topology(t: &mut Topology) {
    ///     let (users, plans) = (t.table(USERS, "users"), t.table(PLANS, "plans"));
    ///     let said = |user, plan: Option<String>| format!("{user}: {}", plan.unwrap_or("free".into()));
    ///     users.left_join(&plans, "users-with-plans", said).to(BOTH);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(PLANS, 2, "gold".into()).send(USERS, 1, "ana".into());
    /// assert_eq!(d.read(BOTH), [(1, "ana: free".to_string())]);
    /// ```
    pub fn left_join<V2: Data, R: Data>(
        &self,
        other: &Table<K, V2>,
        store: &str,
        join: impl Fn(V, Option<V2>) -> R + Send + 'static,
    ) -> Table<K, R>
    where
        K: Key,
    {
        let row_of = move |left: Option<V>, right| left.map(|left| join(left, right));
        self.by_both(other, store, JoinKind::Left, Box::new(row_of))
    }

    /// As [`left_join`](Self::left_join), with every key of both tables. The closure is called with at
    /// least one value.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const HERE: Topic<u64, u32> = topic("here");
    /// const THERE: Topic<u64, u32> = topic("there");
    /// const ALL: Topic<u64, u32> = topic("all");
    /// fn topology(t: &mut Topology) {
    ///     let (here, there) = (t.table(HERE, "here"), t.table(THERE, "there"));
    ///     let sum = |here: Option<u32>, there: Option<u32>| here.unwrap_or(0) + there.unwrap_or(0);
    ///     here.outer_join(&there, "all", sum).to(ALL);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(THERE, 1, 5).run()?;
    /// d.send(HERE, 1, 2);
    /// assert_eq!(d.read(ALL), [(1, 5), (1, 7)]);
    /// # Ok::<(), streams::Error>(())
    /// ```
    pub fn outer_join<V2: Data, R: Data>(
        &self,
        other: &Table<K, V2>,
        store: &str,
        join: impl Fn(Option<V>, Option<V2>) -> R + Send + 'static,
    ) -> Table<K, R>
    where
        K: Key,
    {
        let row_of = move |left: Option<V>, right: Option<V2>| {
            (left.is_some() || right.is_some()).then(|| join(left, right))
        };
        self.by_both(other, store, JoinKind::Outer, Box::new(row_of))
    }

    fn by_both<V2: Data, R: Data>(
        &self,
        other: &Table<K, V2>,
        store: &str,
        join: JoinKind,
        row_of: RowOf<V, V2, R>,
    ) -> Table<K, R>
    where
        K: Key,
    {
        let store = match store_name(&self.assembly, store) {
            Ok(store) => store,
            Err(assembly) => return Table::nowhere(assembly),
        };
        let (rows, changes) = (Rc::new(RefCell::new(Overlay::new(store.clone()))), Children::new());
        let kept = TableStore::<K, R>::new(store.clone(), Rc::clone(&rows), changes.clone());
        let kind = Kind::TableTableJoin { store: store.clone(), join };
        let node =
            self.assembly.borrow_mut().table(kind, &[self.node, other.node], kept.of_results());
        let (left, right) = (Rc::clone(&self.rows), Rc::clone(&other.rows));
        let both = Rc::new(TableTableJoin::new(left, right, row_of, rows));
        self.changes.add(Box::new(LeftChanges { join: Rc::clone(&both), key: Vec::new() }));
        other.changes.add(Box::new(RightChanges { join: Rc::clone(&both), key: Vec::new() }));
        Table {
            assembly: Rc::clone(&self.assembly),
            node,
            inputs: self.inputs.union(&other.inputs),
            store,
            rows: Rc::new(JoinView(both)),
            changes,
        }
    }
}
