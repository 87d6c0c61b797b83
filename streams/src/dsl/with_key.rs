//! Steps whose closures see the key beside the value.
//!
//! Why names that end in `_with_key`: most steps look at values only, and theirs are the short names.
//!
//! ```text
//!   |&key, &value|   filter_with_key, inspect_with_key, for_each_with_key, key_by_with_key
//!   |&key, value|    map_values_with_key, flat_map_values_with_key      the key stays
//!   |key, value|     map_with_key, flat_map_with_key                    a new key: the records move
//! ```
//!
//! Invariants
//! * a record without a key, of a topic whose type needs one, is counted and left out by all of them.

use super::Stream;
use crate::codec::Data;
use crate::key::{Key, RecordKey};
use crate::operator::{
    FilterWithKey, FlatMapValuesWithKey, FlatMapWithKey, ForEachWithKey, InspectWithKey,
    KeyByWithKey, MapValuesWithKey, MapWithKey,
};
use crate::processor::Next;
use crate::topology::Kind;

impl<K: RecordKey, V: Data> Stream<K, V> {
    /// A step behind which records have another key.
    fn rekey<K2: Key, V2: Data>(
        self,
        kind: Kind,
        operator: impl FnOnce(Next<K2, V2>) -> Next<K, V> + 'static,
    ) -> Stream<K2, V2> {
        let node = self.assembly.borrow_mut().graph.add(kind, &[self.node]);
        let attach = self.attach;
        Stream {
            assembly: self.assembly,
            node,
            inputs: self.inputs,
            rekeyed: true,
            origin: self.origin,
            attach: Box::new(move |next| attach(operator(next))),
            source: None,
        }
    }

    /// Keeps the records whose key and value answer yes. The others are counted as filtered. A null value
    /// is kept without a call, as in [`filter`](Self::filter); a record without a key is counted and left
    /// out.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const IN: Topic<String, u64> = topic("in");
    /// const OUT: Topic<String, u64> = topic("out");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(IN).filter_with_key(|user, n| user != "bot" && *n > 0).to(OUT);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(IN, "bot".into(), 1).send(IN, "ana".into(), 2);
    /// assert_eq!(d.read(OUT), [("ana".to_string(), 2)]);
    /// ```
    pub fn filter_with_key(self, keep: impl Fn(&K, &V) -> bool + Send + 'static) -> Self {
        self.step(Kind::Filter, |next| Box::new(FilterWithKey { keep, next }))
    }

    /// Shows each key and value to a closure and passes the records on; as [`inspect`](Self::inspect). A
    /// record without a key is counted and left out.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use streams::prelude::*;
    /// const IN: Topic<String, u64> = topic("in");
    /// const OUT: Topic<String, u64> = topic("out");
    /// let seen = Arc::new(Mutex::new(Vec::new()));
    /// let list = Arc::clone(&seen);
    /// let mut d = TestDriver::new(move |t: &mut Topology| {
    ///     let list = Arc::clone(&list);
    ///     let look = move |user: &String, n: &u64| list.lock().unwrap().push(format!("{user} {n}"));
    ///     t.stream(IN).inspect_with_key(look).to(OUT);
    /// });
    /// d.send(IN, "ana".into(), 6);
    /// assert_eq!(d.read(OUT), [("ana".to_string(), 6)]);
    /// assert_eq!(*seen.lock().unwrap(), ["ana 6"]);
    /// ```
    pub fn inspect_with_key(self, look: impl Fn(&K, &V) + Send + 'static) -> Self {
        self.step(Kind::Inspect, |next| Box::new(InspectWithKey { look, next }))
    }

    /// Calls a closure for each key and value: the end of the stream; as [`for_each`](Self::for_each). A
    /// record without a key is counted and left out.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use streams::prelude::*;
    /// const IN: Topic<String, u64> = topic("in");
    /// let seen = Arc::new(Mutex::new(Vec::new()));
    /// let list = Arc::clone(&seen);
    /// let mut d = TestDriver::new(move |t: &mut Topology| {
    ///     let list = Arc::clone(&list);
    ///     t.stream(IN).for_each_with_key(move |user, n| list.lock().unwrap().push((user.clone(), *n)));
    /// });
    /// d.send(IN, "ana".into(), 6).run()?;
    /// assert_eq!(*seen.lock().unwrap(), [("ana".to_string(), 6)]);
    /// # Ok::<(), streams::Error>(())
    /// ```
    pub fn for_each_with_key(self, call: impl Fn(&K, &V) + Send + 'static) {
        self.assembly.borrow_mut().graph.add(Kind::ForEach, &[self.node]);
        (self.attach)(Box::new(ForEachWithKey { call }));
    }

    /// Replaces each value by one that follows from the key too; the key stays, so nothing moves. A null
    /// value passes untouched; a record without a key is counted and left out.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const IN: Topic<String, u64> = topic("in");
    /// const OUT: Topic<String, String> = topic("out");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(IN).map_values_with_key(|user, n| format!("{user} has {n}")).to(OUT);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(IN, "ana".into(), 2);
    /// assert_eq!(d.read(OUT), [("ana".to_string(), "ana has 2".to_string())]);
    /// ```
    pub fn map_values_with_key<V2: Data>(
        self,
        map: impl Fn(&K, V) -> V2 + Send + 'static,
    ) -> Stream<K, V2> {
        self.step(Kind::Map, |next| Box::new(MapValuesWithKey { map, next }))
    }

    /// Replaces each value by any number of values that follow from the key too, in order; the key stays. A
    /// null value passes untouched; a record without a key is counted and left out.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const IN: Topic<String, u64> = topic("in");
    /// const OUT: Topic<String, String> = topic("out");
    /// fn topology(t: &mut Topology) {
    ///     let each = |user: &String, n| (0..n).map(|i| format!("{user}{i}")).collect::<Vec<_>>();
    ///     t.stream(IN).flat_map_values_with_key(each).to(OUT);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(IN, "a".into(), 2);
    /// assert_eq!(d.read(OUT), [("a".into(), "a0".into()), ("a".into(), "a1".into())]);
    /// ```
    pub fn flat_map_values_with_key<V2: Data, I: IntoIterator<Item = V2> + 'static>(
        self,
        map: impl Fn(&K, V) -> I + Send + 'static,
    ) -> Stream<K, V2> {
        self.step(Kind::FlatMap, |next| Box::new(FlatMapValuesWithKey { map, next }))
    }

    /// Replaces key and value. As behind [`key_by`](Self::key_by), records go through a repartition topic
    /// before the next step that keeps state. Records without a key or a value are counted and left out.
    ///
    /// Where the key stays, [`map_values_with_key`](Self::map_values_with_key) moves nothing.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const CLICKS: Topic<String, String> = topic("clicks");
    /// const COUNTS: Topic<String, u64> = topic("counts");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(CLICKS)
    ///         .map_with_key(|user, page| (page, user))
    ///         .count("clicks-by-page")
    ///         .to(COUNTS);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(3);
    /// d.send(CLICKS, "ana".into(), "/".into()).send(CLICKS, "bob".into(), "/".into());
    /// assert_eq!(d.read(COUNTS).last(), Some(&("/".to_string(), 2)));
    /// ```
    pub fn map_with_key<K2: Key, V2: Data>(
        self,
        map: impl Fn(K, V) -> (K2, V2) + Send + 'static,
    ) -> Stream<K2, V2> {
        self.rekey(Kind::MapWithKey, |next| Box::new(MapWithKey { map, next }))
    }

    /// Replaces each record by any number of keys and values, in order; else as
    /// [`map_with_key`](Self::map_with_key).
    ///
    /// ```
    /// use streams::prelude::*;
    /// const LINES: Topic<u64, String> = topic("lines");
    /// const COUNTS: Topic<String, u64> = topic("counts");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(LINES)
    ///         .flat_map_with_key(|line, text| {
    ///             text.split(' ').map(|word| (word.to_owned(), line)).collect::<Vec<_>>()
    ///         })
    ///         .count("lines-by-word")
    ///         .to(COUNTS);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(3);
    /// d.send(LINES, 1, "to be".into()).send(LINES, 2, "be".into());
    /// let counts = d.read(COUNTS);
    /// assert!(counts.contains(&("to".to_string(), 1)) && counts.contains(&("be".to_string(), 2)));
    /// ```
    pub fn flat_map_with_key<K2: Key, V2: Data, I: IntoIterator<Item = (K2, V2)> + 'static>(
        self,
        map: impl Fn(K, V) -> I + Send + 'static,
    ) -> Stream<K2, V2> {
        self.rekey(Kind::FlatMapWithKey, |next| Box::new(FlatMapWithKey { map, next }))
    }

    /// Gives each record a new key that follows from the old one and the value; else as
    /// [`key_by`](Self::key_by). Records without a key or a value are counted and left out.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const CLICKS: Topic<String, u32> = topic("clicks");
    /// const COUNTS: Topic<(String, u32), u64> = topic("counts");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(CLICKS)
    ///         .key_by_with_key(|user, shop| (user.clone(), *shop))
    ///         .count("clicks-by-user-and-shop")
    ///         .to(COUNTS);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(3);
    /// d.send(CLICKS, "ana".into(), 7).send(CLICKS, "ana".into(), 7);
    /// assert_eq!(d.read(COUNTS).last(), Some(&(("ana".to_string(), 7), 2)));
    /// ```
    pub fn key_by_with_key<K2: Key>(
        self,
        key: impl Fn(&K, &V) -> K2 + Send + 'static,
    ) -> Stream<K2, V> {
        self.rekey(Kind::KeyBy, |next| Box::new(KeyByWithKey { key, next }))
    }
}
