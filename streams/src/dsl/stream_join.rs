//! Streams that meet within a time.
//!
//! ```text
//!   orders ---- name-left  --+
//!                            join_within(.., mins(10), "name", ..) -- results
//!   payments -- name-right --+
//! ```
//!
//! Invariants
//! * each side has a store, called after the join: `<name>-left`, `<name>-right`.

use std::cell::RefCell;
use std::rc::Rc;

use super::Stream;
use super::assembly::TopicTypes;
use super::windowed::nowhere;
use crate::codec::Data;
use crate::ids::StoreName;
use crate::key::{Key, RecordKey};
use crate::operator::{JoinBuffer, LeftSide, Pair, RightSide, Says, StreamJoin};
use crate::processor::{Next, Shared, Stateful, Timed};
use crate::time::{JoinSide, JoinWindow};
use crate::topology::{JoinKind, Kind, changelog_topic};

impl<K: RecordKey, V: Data> Stream<K, V> {
    /// Brings each record together with those of another stream that have its key and lie within a
    /// time: one result for each such pair, with the larger timestamp of the two.
    ///
    /// `window` is a `Duration`, or [`within`](crate::within) with `before`, `after` and `grace`. A
    /// record is late, and counted, once the clock of its source partition has passed its own timestamp
    /// by both differences plus grace (as long as Kafka keeps it). Null keys and null values are counted and skipped. Both sides must
    /// have the same number of partitions (S003); behind `key_by` they go through repartition topics.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const ORDERS: Topic<u64, String> = topic("orders");
    /// const PAID: Topic<u64, u64> = topic("payments");
    /// const SHIP: Topic<u64, String> = topic("ship");
    /// fn topology(t: &mut Topology) {
    ///     let payments = t.stream(PAID);
    ///     t.stream(ORDERS)
    ///         .join_within(payments, mins(10), "paid", |what, sum| format!("{what} for {sum}"))
    ///         .to(SHIP);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(2);
    /// d.send_at(ORDERS, 1, "a chair".into(), 0).send_at(PAID, 1, 50, 600_000);
    /// d.send_at(ORDERS, 2, "a table".into(), 0).send_at(PAID, 2, 90, 600_001);
    /// assert_eq!(d.read(SHIP), [(1, "a chair for 50".to_string())]);
    /// ```
    pub fn join_within<V2: Data, R: Data>(
        self,
        other: Stream<K, V2>,
        window: impl Into<JoinWindow>,
        name: &str,
        join: impl Fn(V, V2) -> R + Send + 'static,
    ) -> Stream<K, R>
    where
        K: Key,
    {
        let says = move |pair| match pair {
            Pair::Both(left, right) => Some(join(left, right)),
            Pair::Left(_) | Pair::Right(_) => None,
        };
        self.meet(other, window.into(), name, JoinKind::Inner, Box::new(says))
    }

    /// As [`join_within`](Self::join_within), and a record of this stream that nothing matches speaks
    /// alone, with its own timestamp: the closure gets `None`. It does so when all clocks that the join
    /// depends on have passed its timestamp by `after` plus grace; it never matches after that, and is
    /// late if it comes after that. One with a null key speaks at once.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const ORDERS: Topic<u64, String> = topic("orders");
    /// const PAID: Topic<u64, u64> = topic("payments");
    /// const UNPAID: Topic<u64, String> = topic("unpaid");
    /// fn topology(t: &mut Topology) {
    ///     let payments = t.stream(PAID);
    ///     let window = within(mins(10)).before(mins(0)).grace(secs(30));
    ///     t.stream(ORDERS)
    ///         .left_join_within(payments, window, "paid", |what, sum| (what, sum))
    ///         .filter(|(_, sum)| sum.is_none())
    ///         .map(|(what, _)| what)
    ///         .to(UNPAID);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send_at(ORDERS, 1, "a chair".into(), 0).send_at(ORDERS, 2, "a table".into(), 0);
    /// d.send_at(PAID, 1, 50, 1_000);
    /// d.advance_to(630_000);
    /// assert_eq!(d.read(UNPAID), []);
    /// d.advance_to(630_001);
    /// assert_eq!(d.read(UNPAID), [(2, "a table".to_string())]);
    /// ```
    pub fn left_join_within<V2: Data, R: Data>(
        self,
        other: Stream<K, V2>,
        window: impl Into<JoinWindow>,
        name: &str,
        join: impl Fn(V, Option<V2>) -> R + Send + 'static,
    ) -> Stream<K, R>
    where
        K: Key,
    {
        let says = move |pair| match pair {
            Pair::Both(left, right) => Some(join(left, Some(right))),
            Pair::Left(left) => Some(join(left, None)),
            Pair::Right(_) => None,
        };
        self.meet(other, window.into(), name, JoinKind::Left, Box::new(says))
    }

    /// As [`left_join_within`](Self::left_join_within), where records of both streams speak alone if
    /// nothing matches them.
    pub fn outer_join_within<V2: Data, R: Data>(
        self,
        other: Stream<K, V2>,
        window: impl Into<JoinWindow>,
        name: &str,
        join: impl Fn(Option<V>, Option<V2>) -> R + Send + 'static,
    ) -> Stream<K, R>
    where
        K: Key,
    {
        let says = move |pair| match pair {
            Pair::Both(left, right) => Some(join(Some(left), Some(right))),
            Pair::Left(left) => Some(join(Some(left), None)),
            Pair::Right(right) => Some(join(None, Some(right))),
        };
        self.meet(other, window.into(), name, JoinKind::Outer, Box::new(says))
    }

    fn meet<V2: Data, R: Data>(
        self,
        other: Stream<K, V2>,
        window: JoinWindow,
        name: &str,
        join: JoinKind,
        says: Says<V, V2, R>,
    ) -> Stream<K, R>
    where
        K: Key,
    {
        let names = StoreName::new(&format!("{name}-left"))
            .and_then(|left| Ok((left, StoreName::new(&format!("{name}-right"))?)));
        let (left_name, right_name) = match names {
            Ok(names) => names,
            Err(mistake) => {
                self.assembly.borrow_mut().mistake(mistake.into());
                return nowhere(self.assembly);
            }
        };
        let left = self.by_key(left_name.as_str());
        let right = other.by_key(right_name.as_str());
        let inputs = left.inputs.union(&right.inputs);
        let node = {
            let mut assembly = left.assembly.borrow_mut();
            for (store, types) in [
                (&left_name, TopicTypes::of_join::<K, V>()),
                (&right_name, TopicTypes::of_join::<K, V2>()),
            ] {
                let topic = changelog_topic(&assembly.graph.id, store);
                assembly.types.insert(topic, types);
            }
            let (left_name, right_name) = (left_name.clone(), right_name.clone());
            let kind = Kind::StreamJoin { left: left_name, right: right_name, join, window };
            assembly.graph.add(kind, &[left.node, right.node])
        };
        let lag_ms = if join == JoinKind::Inner { window.inner_lag_ms() } else { window.lag_ms() };
        let behind = inputs.behind(lag_ms);
        let lists = Rc::clone(&left.assembly);
        let (attach_left, attach_right) = (left.attach, right.attach);
        let attach = move |next: Next<K, R>| {
            let speaks = (join != JoinKind::Inner, join == JoinKind::Outer);
            let buffer = JoinBuffer::<V>::new(left_name, JoinSide::Left, window, speaks.0);
            let left = Rc::new(RefCell::new(buffer));
            let buffer = JoinBuffer::<V2>::new(right_name, JoinSide::Right, window, speaks.1);
            let right = Rc::new(RefCell::new(buffer));
            {
                let mut lists = lists.borrow_mut();
                let stateful: Shared<dyn Stateful> = Rc::<RefCell<_>>::clone(&left) as _;
                lists.stateful.push((node, stateful));
                let stateful: Shared<dyn Stateful> = Rc::<RefCell<_>>::clone(&right) as _;
                lists.stateful.push((node, stateful));
            }
            let op = StreamJoin::new(inputs, left, right, says, next);
            let op = Rc::new(RefCell::new(op));
            let timed: Shared<dyn Timed> = Rc::<RefCell<_>>::clone(&op) as _;
            lists.borrow_mut().timed.push((node, timed));
            attach_left(Box::new(LeftSide(Rc::clone(&op))));
            attach_right(Box::new(RightSide(op)));
        };
        Stream {
            assembly: left.assembly,
            node,
            inputs: behind,
            rekeyed: false,
            origin: name.to_owned(),
            attach: Box::new(attach),
            source: None,
        }
    }
}
