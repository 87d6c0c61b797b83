//! Streams folded into a table: count, reduce, aggregate, and several streams into one.
//!
//! ```text
//!   count, reduce, aggregate    stream -- (repartition, behind key_by) -- fold in store -- table
//!
//!   cogroup("s")                clicks -- fold f --+
//!                                                  +-- rows of store "s" -- table
//!                               orders -- fold g --+
//! ```
//!
//! Invariants
//! * a null value is counted and skipped; so is a null key.
//! * a row's timestamp is the largest of its records.

use std::marker::PhantomData;
use std::rc::Rc;

use super::assembly::Assembly;
use super::stream::{Placed, decode_carried, store_name};
use super::{Stream, Table};
use crate::codec::Data;
use crate::ids::StoreName;
use crate::key::{Key, RecordKey};
use crate::operator::{Aggregate, Fold};
use crate::processor::Shared;
use crate::store::Overlay;
use crate::time::TimeInputs;
use crate::topology::{Carries, Kind, NodeId};

impl<K: RecordKey, V: Data> Stream<K, V> {
    /// Counts the records of each key. A null value is counted as such and skipped.
    pub fn count(self, store: &str) -> Table<K, u64>
    where
        K: Key,
    {
        let place = store_name(&self.assembly, store).map(|name| {
            let place = self.keyed(&name, Carries::Key, |_| (), |_| Ok(()));
            (name, place)
        });
        let add = |n: &mut Option<u64>, ()| *n.get_or_insert_default() += 1;
        folded(place, "count", Box::new(add))
    }

    /// Folds the records of each key into a value that starts from `A::default()`.
    pub fn aggregate<A: Data + Default>(
        self,
        store: &str,
        add: impl Fn(&mut A, V) + Send + 'static,
    ) -> Table<K, A>
    where
        K: Key,
    {
        folded(self.with_values(store), "aggregate", from_default(add))
    }

    /// Folds the records of each key into one value of their own type: the first one, then what the
    /// closure makes of it and the next. A null value is counted and skipped.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const BIDS: Topic<String, u64> = topic("bids");
    /// const BEST: Topic<String, u64> = topic("best");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(BIDS).reduce("best", |best, bid| best.max(bid)).to(BEST);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(2);
    /// d.send(BIDS, "chair".into(), 20).send(BIDS, "chair".into(), 35).send(BIDS, "chair".into(), 30);
    /// assert_eq!(d.read(BEST).last(), Some(&("chair".to_string(), 35)));
    /// ```
    pub fn reduce(self, store: &str, fold: impl Fn(V, V) -> V + Send + 'static) -> Table<K, V>
    where
        K: Key,
    {
        let reduce = move |row: &mut Option<V>, value| {
            *row = Some(match row.take() {
                None => value,
                Some(so_far) => fold(so_far, value),
            });
        };
        folded(self.with_values(store), "reduce", Box::new(reduce))
    }

    /// The place of a fold that needs the values.
    fn with_values(self, store: &str) -> Result<(StoreName, Placed<V>), Shared<Assembly>>
    where
        K: Key,
    {
        store_name(&self.assembly, store).map(|name| {
            let place = self.keyed(&name, Carries::Value, |v| v, decode_carried::<V>);
            (name, place)
        })
    }
}

fn from_default<V, A: Default>(add: impl Fn(&mut A, V) + 'static) -> Fold<V, A> {
    Box::new(move |row, value| add(row.get_or_insert_default(), value))
}

fn folded<K: Key, V2: 'static, A: Data>(
    place: Result<(StoreName, Placed<V2>), Shared<Assembly>>,
    what: &'static str,
    fold: Fold<V2, A>,
) -> Table<K, A> {
    match place {
        Err(assembly) => Table::nowhere(assembly),
        Ok((store, (assembly, place))) => {
            let kind = Kind::Aggregate { store: store.clone(), what };
            Table::behind(assembly, place, store, kind, |rows| Box::new(Aggregate::new(fold, rows)))
        }
    }
}

/// Several streams that are to be folded into one table: `.with(stream, fold)` for each, then
/// [`Cogrouped::table`].
///
/// The streams have the same type of keys; their values may differ. Records of one key meet in one row,
/// each folded in by the closure of its stream; the row starts from `A::default()`. Streams behind
/// `key_by` go through a repartition topic each, `<job>-<topic>-<store>-repartition`; all must have the
/// same number of partitions (S003). Null keys and null values are counted and skipped.
///
/// ```
/// use streams::prelude::*;
/// #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
/// struct Account { orders: u64, paid: i64 }
/// const ORDERS: Topic<String, u64> = topic("orders");
/// const PAYMENTS: Topic<NoKey, (String, i64)> = topic("payments");
/// const ACCOUNTS: Topic<String, Account> = topic("accounts");
/// fn topology(t: &mut Topology) {
///     let orders = t.stream(ORDERS);
///     let payments = t.stream(PAYMENTS).key_by(|(user, _)| user.clone());
///     cogroup("accounts")
///         .with(orders, |account: &mut Account, lines| account.orders += lines)
///         .with(payments, |account, (_, sum)| account.paid += sum)
///         .table()
///         .to(ACCOUNTS);
/// }
/// let mut d = TestDriver::new(topology).partitions(2);
/// d.send(ORDERS, "ana".into(), 2).send(PAYMENTS, NoKey, ("ana".into(), 50));
/// let ana = Account { orders: 2, paid: 50 };
/// assert_eq!(d.read(ACCOUNTS).last(), Some(&("ana".to_string(), ana)));
/// ```
#[must_use = "a cogroup does nothing until it has streams: `.with(stream, fold)`"]
pub fn cogroup(store: &str) -> Cogroup {
    Cogroup { store: store.to_owned() }
}

/// The beginning of a [`cogroup`].
#[derive(Clone, Debug)]
#[must_use = "a cogroup does nothing until it has streams: `.with(stream, fold)`"]
pub struct Cogroup {
    store: String,
}

impl Cogroup {
    /// The first stream, and how its values are folded in.
    pub fn with<K: Key, V: Data, A: Data + Default>(
        self,
        stream: Stream<K, V>,
        add: impl Fn(&mut A, V) + Send + 'static,
    ) -> Cogrouped<K, A> {
        let assembly = Rc::clone(&stream.assembly);
        let store = store_name(&assembly, &self.store).ok();
        Cogrouped { assembly, store, streams: Vec::new(), key: PhantomData }.with(stream, add)
    }
}

/// One stream of a cogroup in its place, waiting for the rows to fold into.
struct Member<A> {
    node: NodeId,
    inputs: TimeInputs,
    attach: Box<dyn FnOnce(Shared<Overlay<A>>)>,
}

/// Streams that are folded together; see [`cogroup`].
#[must_use = "say where the rows are kept: `.table()`"]
pub struct Cogrouped<K, A> {
    assembly: Shared<Assembly>,
    /// `None`: its name was refused.
    store: Option<StoreName>,
    streams: Vec<Box<dyn FnOnce(&StoreName) -> Member<A>>>,
    key: PhantomData<fn() -> K>,
}

impl<K: Key, A: Data + Default> Cogrouped<K, A> {
    /// One more stream, and how its values are folded in.
    pub fn with<V: Data>(
        mut self,
        stream: Stream<K, V>,
        add: impl Fn(&mut A, V) + Send + 'static,
    ) -> Self {
        self.streams.push(Box::new(move |store| {
            let between = format!("{}-{store}", stream.origin);
            let (_, place) = stream.keyed(between, Carries::Value, |v| v, decode_carried::<V>);
            let attach = place.attach;
            Member {
                node: place.node,
                inputs: place.inputs,
                attach: Box::new(move |rows| {
                    attach(Box::new(Aggregate::new(from_default(add), rows)));
                }),
            }
        }));
        self
    }

    /// The rows as a table.
    pub fn table(self) -> Table<K, A> {
        let Some(store) = self.store else { return Table::nowhere(self.assembly) };
        let members: Vec<_> = self.streams.into_iter().map(|stream| stream(&store)).collect();
        let nodes: Vec<NodeId> = members.iter().map(|member| member.node).collect();
        let none = TimeInputs::default();
        let inputs = members.iter().fold(none, |all, member| all.union(&member.inputs));
        let kind = Kind::Aggregate { store: store.clone(), what: "cogroup" };
        let (table, rows) = Table::written_by(self.assembly, &nodes, inputs, store, kind);
        for member in members {
            (member.attach)(Rc::clone(&rows));
        }
        table
    }
}
