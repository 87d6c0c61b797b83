//! Streams that wait before they look a versioned table up.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::assembly::TopicTypes;
use super::stream::store_name;
use super::windowed::nowhere;
use super::{Stream, Table};
use crate::codec::Data;
use crate::error::Error;
use crate::key::{Key, RecordKey};
use crate::operator::{GraceJoin, Matched, Patience};
use crate::processor::{Next, Shared, Stateful, Timed};
use crate::time::{Ms, duration_ms};
use crate::topology::{JoinKind, Kind, changelog_topic};

impl<K: RecordKey, V: Data> Stream<K, V> {
    /// As [`join`](Self::join) with a [`versioned_table`](super::Topology::versioned_table), but each
    /// record waits until all clocks of the stream have passed its timestamp by `grace`, so that values
    /// which the table hears late still count. Records leave in the order of their timestamps.
    ///
    /// What waits is kept in a store called `name`, and survives crashes. The table must keep at least
    /// as much history as `grace` (S018). The watermark behind lags by `grace`.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const ORDERS: Topic<String, u64> = topic("orders");
    /// const RATES: Topic<String, u64> = topic("rates");
    /// const PAID: Topic<String, u64> = topic("paid");
    /// fn topology(t: &mut Topology) {
    ///     let rates = t.versioned_table(RATES, "rates", hours(1));
    ///     t.stream(ORDERS)
    ///         .join_with_grace(&rates, secs(5), "orders-waiting", |sum, rate| sum * rate)
    ///         .to(PAID);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send_at(RATES, "eur".into(), 2, 0).send_at(ORDERS, "eur".into(), 10, 4_000).run()?;
    /// d.send_at(RATES, "eur".into(), 3, 3_000).run()?;
    /// assert_eq!(d.read(PAID), []);
    /// d.send_at(ORDERS, "usd".into(), 10, 9_000);
    /// assert_eq!(d.read(PAID), [("eur".to_string(), 30)]);
    /// # Ok::<(), streams::Error>(())
    /// ```
    pub fn join_with_grace<T: Data, R: Data>(
        self,
        table: &Table<K, T>,
        grace: Duration,
        name: &str,
        join: impl Fn(V, T) -> R + Send + 'static,
    ) -> Stream<K, R>
    where
        K: Key,
    {
        let join: Matched<V, T, R> = Box::new(move |v, t| t.map(|t| join(v, t)));
        self.wait_for(table, grace, name, JoinKind::Inner, join)
    }

    /// As [`join_with_grace`](Self::join_with_grace), but a record whose key was not in the table at its
    /// time is passed on too, and so is one with a null key, at once: the closure gets `None`.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const ORDERS: Topic<String, u64> = topic("orders");
    /// const RATES: Topic<String, u64> = topic("rates");
    /// const PAID: Topic<String, u64> = topic("paid");
    /// fn topology(t: &mut Topology) {
    ///     let rates = t.versioned_table(RATES, "rates", hours(1));
    ///     let pay = |sum, rate: Option<u64>| sum * rate.unwrap_or(1);
    ///     t.stream(ORDERS).left_join_with_grace(&rates, secs(5), "waiting", pay).to(PAID);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send_at(ORDERS, "eur".into(), 10, 0).send_at(RATES, "eur".into(), 3, 1).run()?;
    /// d.send_at(ORDERS, "eur".into(), 10, 5_000);
    /// assert_eq!(d.read(PAID), [("eur".to_string(), 10)]);
    /// # Ok::<(), streams::Error>(())
    /// ```
    pub fn left_join_with_grace<T: Data, R: Data>(
        self,
        table: &Table<K, T>,
        grace: Duration,
        name: &str,
        join: impl Fn(V, Option<T>) -> R + Send + 'static,
    ) -> Stream<K, R>
    where
        K: Key,
    {
        let join: Matched<V, T, R> = Box::new(move |v, t| Some(join(v, t)));
        self.wait_for(table, grace, name, JoinKind::Left, join)
    }

    fn wait_for<T: Data, R: Data>(
        self,
        table: &Table<K, T>,
        grace: Duration,
        name: &str,
        join: JoinKind,
        matched: Matched<V, T, R>,
    ) -> Stream<K, R>
    where
        K: Key,
    {
        let grace_ms = duration_ms(grace);
        let store = match store_name(&self.assembly, name) {
            Ok(store) => store,
            Err(assembly) => return nowhere(assembly),
        };
        if let Some(mistake) = too_short(table, grace_ms, name) {
            self.assembly.borrow_mut().mistake(mistake);
            return nowhere(self.assembly);
        }
        let stream = self.by_key(store.as_str());
        let node = {
            let mut assembly = stream.assembly.borrow_mut();
            let (buffer, table_store) = (store.clone(), table.store.clone());
            let kind = Kind::GraceJoin { store: buffer, table: table_store, join, grace_ms };
            let topic = changelog_topic(&assembly.graph.id, &store);
            assembly.types.insert(topic, TopicTypes::of_held::<K, V>());
            assembly.graph.add(kind, &[stream.node, table.node])
        };
        let behind = stream.inputs.behind(grace_ms);
        let patience = Patience { grace_ms, inputs: stream.inputs };
        let (attach, rows, lists) =
            (stream.attach, Rc::clone(&table.rows), Rc::clone(&stream.assembly));
        Stream {
            assembly: stream.assembly,
            node,
            inputs: behind,
            rekeyed: false,
            origin: name.to_owned(),
            attach: Box::new(move |next: Next<K, R>| {
                let op = GraceJoin::<K, V, T, R>::new(join, patience, store, rows, matched, next);
                let op = Rc::new(RefCell::new(op));
                let mut lists = lists.borrow_mut();
                let stateful: Shared<dyn Stateful> = Rc::<RefCell<_>>::clone(&op) as _;
                let timed: Shared<dyn Timed> = Rc::<RefCell<_>>::clone(&op) as _;
                lists.stateful.push((node, stateful));
                lists.timed.push((node, timed));
                drop(lists);
                attach(Box::new(op));
            }),
            source: None,
        }
    }
}

/// Why a table cannot say what it was that long ago.
fn too_short<K, T>(table: &Table<K, T>, grace_ms: i64, name: &str) -> Option<Error> {
    let store = &table.store;
    let (reason, help) = match table.rows.history_ms() {
        None => (
            format!("the join `{name}` waits, but table `{store}` does not keep what it was"),
            "use `t.versioned_table(TOPIC, \"users\", hours(1))`, or a join without grace"
                .to_owned(),
        ),
        Some(history_ms) if history_ms < grace_ms => (
            format!(
                "the join `{name}` waits {}, but table `{store}` keeps what it was for {}",
                Ms(grace_ms),
                Ms(history_ms)
            ),
            format!("keep at least {} of history in `{store}`", Ms(grace_ms)),
        ),
        Some(_) => return None,
    };
    Some(Error::Topology { reason, help })
}
