//! Several streams folded into one table, or into one set of windows.
//!
//! ```text
//!   orders ---------------------------- Left --.
//!                                               merge -- fold in store "s": f or g
//!   payments -- (repartition, by key) - Right -'
//! ```
//!
//! Why one stream of either: a row, and a window, has one operator that owns it, whatever comes in; and
//! sliding windows keep records of all streams in one order.
//!
//! Invariants
//! * a null value is counted and skipped; so is a null key.
//! * each stream behind `key_by` goes its own way, called after where it comes from and the store.

use serde::{Deserialize, Serialize};

use super::fold::{folded, from_default};
use super::stream::decode_carried;
use super::windowed::{Sessions, Spans, Window, WindowedStream};
use super::{Stream, Table, WindowTable};
use crate::codec::Data;
use crate::key::{Key, Windowed};
use crate::operator::{Folds, Map};
use crate::processor::Next;
use crate::topology::Carries;

/// Several streams that are to be folded into one table: `.with(stream, fold)` for each, then
/// [`table`](Cogrouped::table), or [`window`](Cogrouped::window).
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

/// A value of one stream or of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Either<L, R> {
    /// Of those that came first in the topology.
    Left(L),
    /// Of the one that came last.
    Right(R),
}

type Add<V, A> = Box<dyn Fn(&mut A, V) + Send>;

/// Streams that are folded together; see [`cogroup`].
#[must_use = "say where the rows are kept: `.table()`, or in which windows: `.window(..)`"]
pub struct Cogrouped<K, A, V> {
    store: String,
    stream: Stream<K, V>,
    add: Add<V, A>,
}

/// Streams that are folded together in windows; see [`Cogrouped::window`].
#[must_use = "say when windows speak: `.on_close()` or `.on_update()`; of sessions, first how two become one: `.merged_by(..)`"]
pub struct CogroupedWindows<K, A, V, G> {
    store: String,
    stream: WindowedStream<K, V, G>,
    add: Add<V, A>,
}

impl Cogroup {
    /// The first stream, and how its values are folded in.
    pub fn with<K: Key, V: Data, A: Data + Default>(
        self,
        stream: Stream<K, V>,
        add: impl Fn(&mut A, V) + Send + 'static,
    ) -> Cogrouped<K, A, V> {
        let stream = beside(stream, &self.store);
        Cogrouped { store: self.store, stream, add: Box::new(add) }
    }
}

/// A stream on its own way to the rows.
fn beside<K: Key, V: Data>(stream: Stream<K, V>, store: &str) -> Stream<K, V> {
    let way = format!("{}-{store}", stream.origin);
    stream.by_key(&way)
}

/// The same records with values of another type, which is nothing that a picture would show.
fn as_one_of<K: 'static, V: 'static, V2: 'static>(
    stream: Stream<K, V>,
    wrap: fn(V) -> V2,
) -> Stream<K, V2> {
    let attach = stream.attach;
    Stream {
        assembly: stream.assembly,
        node: stream.node,
        inputs: stream.inputs,
        rekeyed: stream.rekeyed,
        origin: stream.origin,
        attach: Box::new(move |next: Next<K, V2>| attach(Box::new(Map { map: wrap, next }))),
        source: None,
    }
}

impl<K: Key, A: Data + Default, V: Data> Cogrouped<K, A, V> {
    /// One more stream, and how its values are folded in.
    pub fn with<V2: Data>(
        self,
        stream: Stream<K, V2>,
        add: impl Fn(&mut A, V2) + Send + 'static,
    ) -> Cogrouped<K, A, Either<V, V2>> {
        let last = as_one_of(beside(stream, &self.store), Either::Right);
        let others = self.add;
        let either = move |row: &mut A, value| match value {
            Either::Left(value) => others(row, value),
            Either::Right(value) => add(row, value),
        };
        let stream = as_one_of(self.stream, Either::Left).merge(last);
        Cogrouped { store: self.store, stream, add: Box::new(either) }
    }

    /// The rows as a table.
    pub fn table(self) -> Table<K, A> {
        folded(self.stream.with_values(&self.store), "cogroup", from_default(self.add))
    }

    /// Folds the records of each key and window. The windows say when they speak; of sessions it must be
    /// said first how two of them become one: [`merged_by`](CogroupedWindows::merged_by).
    ///
    /// ```
    /// use streams::prelude::*;
    /// const SALES: Topic<String, u64> = topic("sales");
    /// const RETURNS: Topic<String, i64> = topic("returns");
    /// const NET: Topic<Windowed<String>, i64> = topic("net");
    /// fn topology(t: &mut Topology) {
    ///     let (sales, returns) = (t.stream(SALES), t.stream(RETURNS));
    ///     cogroup("net")
    ///         .with(sales, |net: &mut i64, cents| *net += cents.cast_signed())
    ///         .with(returns, |net, cents| *net -= cents)
    ///         .window(tumbling(mins(1)))
    ///         .on_close()
    ///         .to(NET);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(2);
    /// d.send_at(SALES, "chair".into(), 90, 5_000).send_at(RETURNS, "chair".into(), 40, 50_000);
    /// d.advance_to(60_000);
    /// let minute = Windowed { key: "chair".to_string(), start: 0, end: 60_000 };
    /// assert_eq!(d.read(NET), [(minute, 50)]);
    /// ```
    pub fn window<W: Window>(self, window: W) -> CogroupedWindows<K, A, V, W::Grouping> {
        let stream = WindowedStream::new(self.stream, window.into());
        CogroupedWindows { store: self.store, stream, add: self.add }
    }
}

impl<K: Key, A: Data + Default, V: Data> CogroupedWindows<K, A, V, Spans> {
    /// One final record per window, when it closes; see [`WindowTable::on_close`].
    pub fn on_close(self) -> Stream<Windowed<K>, A> {
        self.results().on_close()
    }

    /// The latest value of each changed window, once per commit; see [`WindowTable::on_update`].
    pub fn on_update(self) -> Stream<Windowed<K>, A> {
        self.results().on_update()
    }

    fn results(self) -> WindowTable<K, A> {
        let folds = Folds { add: from_default(self.add), merge: None };
        let (store, carries) = (self.store, Carries::Value);
        self.stream.fold(&store, "cogroup", carries, (|v| v, decode_carried::<V>), folds)
    }
}

impl<K: Key, A: Data + Default, V: Data> CogroupedWindows<K, A, V, Sessions> {
    /// How two sessions become one, where a record brings them together: the value of the later one is
    /// added to that of the earlier one.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const CLICKS: Topic<String, String> = topic("clicks");
    /// const BUYS: Topic<String, u64> = topic("buys");
    /// const VISITS: Topic<Windowed<String>, (u64, u64)> = topic("visits");
    /// fn topology(t: &mut Topology) {
    ///     let (clicks, buys) = (t.stream(CLICKS), t.stream(BUYS));
    ///     cogroup("visits")
    ///         .with(clicks, |visit: &mut (u64, u64), _page| visit.0 += 1)
    ///         .with(buys, |visit, cents| visit.1 += cents)
    ///         .window(session(secs(30)))
    ///         .merged_by(|visit, later| *visit = (visit.0 + later.0, visit.1 + later.1))
    ///         .on_close()
    ///         .to(VISITS);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send_at(CLICKS, "ana".into(), "/".into(), 0).send_at(CLICKS, "ana".into(), "/".into(), 50_000);
    /// d.send_at(BUYS, "ana".into(), 90, 25_000);
    /// d.advance_to(100_000);
    /// let visit = Windowed { key: "ana".to_string(), start: 0, end: 50_000 };
    /// assert_eq!(d.read(VISITS), [(visit, (2, 90))]);
    /// ```
    pub fn merged_by(self, merge: impl Fn(&mut A, A) + Send + 'static) -> WindowTable<K, A> {
        let folds = Folds { add: from_default(self.add), merge: Some(Box::new(merge)) };
        let (store, carries) = (self.store, Carries::Value);
        self.stream.fold(&store, "cogroup", carries, (|v| v, decode_carried::<V>), folds)
    }
}
