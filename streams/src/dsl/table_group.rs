//! Tables grouped by another key than their own.
//!
//! ```text
//!   orders -- group_by(country) -- <store>-repartition -- count("store") -- a table by country
//! ```
//!
//! Invariants
//! * the repartition topic is called after the store.

use std::rc::Rc;

use super::Table;
use super::assembly::{Assembly, TopicTypes};
use super::repartition::Cut;
use super::stream::{KeyedPlace, decode_carried, store_name};
use crate::codec::Data;
use crate::ids::StoreName;
use crate::key::{Key, RecordKey};
use crate::operator::{
    Change, ChangeFold, GroupOf, Regroup, RepartitionEntry, RepartitionSink, TableAggregate,
    Valueless,
};
use crate::processor::{Next, Shared};
use crate::time::TimeInputs;
use crate::topology::{Carries, Kind, NodeId, repartition_topic};

/// How the changes of a table reach what takes them, as (group, change).
type Changes<K2, V2> = Box<dyn FnOnce(Next<K2, Change<V2>>)>;

/// A table whose rows have been sent to groups: [`Table::group_by`].
#[must_use = "a grouped table does nothing until it is counted, reduced or aggregated"]
pub struct GroupedTable<K2, V2> {
    assembly: Shared<Assembly>,
    node: NodeId,
    inputs: TimeInputs,
    attach: Changes<K2, V2>,
}

impl<K: RecordKey, V: Data> Table<K, V> {
    /// Groups the rows by a key made of their own key and value; each row has a part in one group, with
    /// the second half of what the closure answers.
    ///
    /// When a row changes, what it brought to its old group is taken out of it, and what it brings now
    /// is put into its new group. Both happen in one step where the group stays the same. Where it
    /// changes, the two groups are rows of different tasks: each gets its change in a commit of its own,
    /// so the sum over all groups may be off by one row for a moment, and never for longer. Rows that
    /// should be in no group are left out by a [`filter`](Self::filter) in front.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const ORDERS: Topic<u64, (String, i64)> = topic("orders");
    /// const TOTALS: Topic<String, i64> = topic("totals");
    /// fn topology(t: &mut Topology) {
    ///     t.table(ORDERS, "orders")
    ///         .group_by(|_, (country, sum)| (country.clone(), *sum))
    ///         .aggregate("totals", |total: &mut i64, sum| *total += sum, |total, sum| *total -= sum)
    ///         .to(TOTALS);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(4);
    /// d.send(ORDERS, 1, ("Chile".into(), 50)).send(ORDERS, 2, ("Chile".into(), 20)).run()?;
    /// d.send(ORDERS, 1, ("Peru".into(), 50)).run()?;
    /// let totals: std::collections::BTreeMap<_, _> = d.read(TOTALS).into_iter().collect();
    /// assert_eq!((totals["Chile"], totals["Peru"]), (20, 50));
    /// # Ok::<(), streams::Error>(())
    /// ```
    pub fn group_by<K2: Key, V2: Data>(
        &self,
        group_of: impl Fn(&K, &V) -> (K2, V2) + Send + 'static,
    ) -> GroupedTable<K2, V2> {
        let node = self.assembly.borrow_mut().graph.add(Kind::GroupBy, &[self.node]);
        let changes = self.changes.clone();
        let group_of: GroupOf<K, V, K2, V2> = Box::new(group_of);
        GroupedTable {
            assembly: Rc::clone(&self.assembly),
            node,
            inputs: self.inputs.clone(),
            attach: Box::new(move |next| changes.add(Box::new(Regroup::new(group_of, next)))),
        }
    }
}

impl<K2: Key, V2: Data> GroupedTable<K2, V2> {
    /// Counts the rows of each group. A group that has lost all of its rows stays, with 0.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const USERS: Topic<u64, String> = topic("users");
    /// const COUNTS: Topic<String, u64> = topic("counts");
    /// fn topology(t: &mut Topology) {
    ///     let by_country = t.table(USERS, "users").group_by(|_, country| (country.clone(), ()));
    ///     by_country.count("users-by-country").to(COUNTS);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(2);
    /// d.send(USERS, 1, "Chile".into()).run()?;
    /// d.send(USERS, 1, "Peru".into()).run()?;
    /// let counts: std::collections::BTreeMap<_, _> = d.read(COUNTS).into_iter().collect();
    /// assert_eq!((counts["Chile"], counts["Peru"]), (0, 1));
    /// # Ok::<(), streams::Error>(())
    /// ```
    pub fn count(self, store: &str) -> Table<K2, u64> {
        let fold = |count: Option<u64>, Change { old, new }: Change<()>| {
            let without = count.map(|n| n.saturating_sub(u64::from(old.is_some())));
            match new {
                Some(()) => Some(without.unwrap_or(0).saturating_add(1)),
                None => without,
            }
        };
        self.valueless().finish(store, "count", Box::new(fold))
    }

    /// Brings the rows of each group together, two at a time; `subtract` takes one out again.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const ORDERS: Topic<u64, (String, i64)> = topic("orders");
    /// const TOTALS: Topic<String, i64> = topic("totals");
    /// fn topology(t: &mut Topology) {
    ///     t.table(ORDERS, "orders")
    ///         .group_by(|_, (country, sum)| (country.clone(), *sum))
    ///         .reduce("totals", |total, sum| total + sum, |total, sum| total - sum)
    ///         .to(TOTALS);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(ORDERS, 1, ("Chile".into(), 50)).run()?;
    /// d.send(ORDERS, 1, ("Chile".into(), 30)).run()?;
    /// let told: Vec<i64> = d.read(TOTALS).into_iter().map(|(_, total)| total).collect();
    /// assert_eq!(told, [50, 30], "in one step: there was no 0 between");
    /// # Ok::<(), streams::Error>(())
    /// ```
    pub fn reduce(
        self,
        store: &str,
        add: impl Fn(V2, V2) -> V2 + Send + 'static,
        subtract: impl Fn(V2, V2) -> V2 + Send + 'static,
    ) -> Table<K2, V2> {
        let fold = move |group: Option<V2>, Change { old, new }| {
            let without = match (group, old) {
                (Some(group), Some(old)) => Some(subtract(group, old)),
                (group, _) => group,
            };
            match (without, new) {
                (Some(group), Some(new)) => Some(add(group, new)),
                (group, new) => group.or(new),
            }
        };
        self.finish(store, "reduce", Box::new(fold))
    }

    /// Folds the rows of each group into a value that starts from `A::default()`; `subtract` takes one
    /// out again. A group that has lost all of its rows stays, with what is left.
    ///
    /// What a row brought is subtracted before what it brings now is added. For the order of rows among
    /// each other nothing is promised: use what does not depend on it. See
    /// [`group_by`](Table::group_by) for an example.
    pub fn aggregate<A: Data + Default>(
        self,
        store: &str,
        add: impl Fn(&mut A, V2) + Send + 'static,
        subtract: impl Fn(&mut A, V2) + Send + 'static,
    ) -> Table<K2, A> {
        let fold = move |mut group: Option<A>, Change { old, new }| {
            if let (Some(group), Some(old)) = (&mut group, old) {
                subtract(group, old);
            }
            if let Some(new) = new {
                add(group.get_or_insert_default(), new);
            }
            group
        };
        self.finish(store, "aggregate", Box::new(fold))
    }

    /// The same groups, without what the rows bring to them.
    fn valueless(self) -> GroupedTable<K2, ()> {
        let attach = self.attach;
        GroupedTable {
            assembly: self.assembly,
            node: self.node,
            inputs: self.inputs,
            attach: Box::new(move |next| attach(Box::new(Valueless { next }))),
        }
    }

    fn finish<A: Data>(
        self,
        store: &str,
        what: &'static str,
        fold: ChangeFold<V2, A>,
    ) -> Table<K2, A> {
        let store = match store_name(&self.assembly, store) {
            Ok(store) => store,
            Err(assembly) => return Table::nowhere(assembly),
        };
        let place = through(&self.assembly, &store, self.node, self.inputs, self.attach);
        let kind = Kind::Aggregate { store: store.clone(), what };
        Table::behind(self.assembly, place, store, kind, |rows| {
            Box::new(TableAggregate::new(fold, rows))
        })
    }
}

/// The place behind a repartition topic that carries changes to their groups.
fn through<K2: Key, V2: Data>(
    assembly: &Shared<Assembly>,
    store: &StoreName,
    node: NodeId,
    inputs: TimeInputs,
    attach: Changes<K2, V2>,
) -> KeyedPlace<Change<V2>> {
    let topic = repartition_topic(&assembly.borrow().graph.id, store);
    let types = TopicTypes::of_repartition::<K2, Change<V2>>();
    let cut = Cut::new(assembly, node, inputs, &topic, Carries::Value, types);
    attach(Box::new(RepartitionSink::new(topic.clone(), cut.output, Carries::Value)));
    let entries = Rc::clone(assembly);
    KeyedPlace {
        node: cut.node,
        inputs: TimeInputs(vec![(cut.input, 0)]),
        attach: Box::new(move |op| {
            let entry = RepartitionEntry::new(&topic, op, decode_carried::<Change<V2>>);
            entries.borrow_mut().entries[cut.input] = Some(Box::new(entry));
        }),
    }
}
