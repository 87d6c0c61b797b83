//! Streams that look something up in tables.
//!
//! ```text
//!   clicks -- key_by(user) -- clicks-users-repartition --+
//!   users --- table("users") ------------------------- join -- seen
//! ```
//!
//! Invariants
//! * only the stream's records give results, and only its inputs are the operator's time: a table's
//!   topic moves no clock of a stream.

use std::rc::Rc;

use super::{Stream, Table};
use crate::codec::Data;
use crate::key::{Key, RecordKey};
use crate::operator::TableJoin;
use crate::processor::Next;
use crate::topology::{JoinKind, Kind};

impl<K: RecordKey, V: Data> Stream<K, V> {
    /// Looks up each record's key in a table and passes on what the closure makes of both. A record
    /// whose key is not there gives nothing; null keys and null values are counted and skipped.
    ///
    /// The table is as this record finds it: tables are read up to a record's timestamp before it. Both
    /// sides must have the same number of partitions (S003); behind `key_by` the stream goes through a
    /// repartition topic, which takes the table's.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const CLICKS: Topic<NoKey, (String, String)> = topic("clicks");
    /// const USERS: Topic<String, String> = topic("users");
    /// const SEEN: Topic<String, String> = topic("seen");
    /// fn topology(t: &mut Topology) {
    ///     let users = t.table(USERS, "users");
    ///     t.stream(CLICKS)
    ///         .key_by(|(user, _)| user.clone())
    ///         .join(&users, |(_, page), country| format!("{page} from {country}"))
    ///         .to(SEEN);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(4);
    /// d.send(USERS, "ana".into(), "Chile".into()).run()?;
    /// d.send(CLICKS, NoKey, ("ana".into(), "/home".into()));
    /// d.send(CLICKS, NoKey, ("bob".into(), "/home".into()));
    /// assert_eq!(d.read(SEEN), [("ana".to_string(), "/home from Chile".to_string())]);
    /// # Ok::<(), streams::Error>(())
    /// ```
    pub fn join<T: Data, R: Data>(
        self,
        table: &Table<K, T>,
        join: impl Fn(V, T) -> R + Send + 'static,
    ) -> Stream<K, R>
    where
        K: Key,
    {
        self.look_up(table, JoinKind::Inner, move |v, t: Option<T>| t.map(|t| join(v, t)))
    }

    /// As [`join`](Self::join), but a record whose key is not in the table is passed on too, and so is
    /// one with a null key: the closure gets `None`.
    pub fn left_join<T: Data, R: Data>(
        self,
        table: &Table<K, T>,
        join: impl Fn(V, Option<T>) -> R + Send + 'static,
    ) -> Stream<K, R>
    where
        K: Key,
    {
        self.look_up(table, JoinKind::Left, move |v, t| Some(join(v, t)))
    }

    fn look_up<T: Data, R: Data>(
        self,
        table: &Table<K, T>,
        join: JoinKind,
        f: impl Fn(V, Option<T>) -> Option<R> + 'static,
    ) -> Stream<K, R>
    where
        K: Key,
    {
        let between = format!("{}-{}", self.origin, table.store);
        let stream = self.by_key(&between);
        let store = table.store.clone();
        let kind = Kind::TableJoin { store, join };
        let node = stream.assembly.borrow_mut().graph.add(kind, &[stream.node, table.node]);
        let (attach, rows) = (stream.attach, Rc::clone(&table.rows));
        let key_of =
            |key: Option<&K>, _: &V, out: &mut Vec<u8>| key.is_some_and(|key| key.encode(out));
        Stream {
            assembly: stream.assembly,
            node,
            inputs: stream.inputs,
            rekeyed: false,
            origin: stream.origin,
            attach: Box::new(move |next: Next<K, R>| {
                attach(Box::new(TableJoin::new(join, rows, key_of, f, next)));
            }),
            source: None,
        }
    }
}
