//! A stream in as many ways as there are cases, and the rest.
//!
//! ```text
//!   clicks.split().case(is_bot).case(is_fast).rest()  ->  (bots, fast, others)
//! ```
//!
//! Why a tuple that grows: each way is a stream of its own, and the compiler knows how many there are.

use std::rc::Rc;

use super::Stream;
use crate::codec::Data;
use crate::key::RecordKey;
use crate::operator::{Case, Children, Split as Splitting};
use crate::processor::Next;
use crate::topology::{Kind, Way};

/// A stream that is being split: say its cases, then [`rest`](Split::rest).
#[must_use = "a split does nothing until `.rest()` gives its streams"]
pub struct Split<K, V, W> {
    stream: Stream<K, V>,
    cases: Vec<(Case<K, V>, Children<K, V>)>,
    ways: W,
}

/// The streams of a split so far: a tuple of at most eight.
pub trait Ways<S> {
    /// The same with one more.
    type And;
    /// Adds one.
    fn and(self, one: S) -> Self::And;
}

macro_rules! ways {
    ($s:ident; $($name:ident)*; $($more:ident)+) => {
        impl<$s> Ways<$s> for ($($more,)+) {
            type And = ($($more,)+ $s);
            fn and(self, one: $s) -> Self::And {
                let ($($name,)*) = self;
                ($($name,)* one)
            }
        }
    };
}

impl<S> Ways<S> for () {
    type And = (S,);
    fn and(self, one: S) -> Self::And {
        (one,)
    }
}

ways!(S; a; S);
ways!(S; a b; S S);
ways!(S; a b c; S S S);
ways!(S; a b c d; S S S S);
ways!(S; a b c d e; S S S S S);
ways!(S; a b c d e f; S S S S S S);
ways!(S; a b c d e f g; S S S S S S S);

impl<K: RecordKey, V: Data> Stream<K, V> {
    /// Parts the records by cases, asked in order: each record goes the way of the first that says yes,
    /// and else with the rest. Null values go with the rest, without calling a closure. Records of a
    /// stream that is not used are counted as filtered. At most seven cases.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const IN: Topic<String, u64> = topic("in");
    /// const SMALL: Topic<String, u64> = topic("small");
    /// const LARGE: Topic<String, u64> = topic("large");
    /// const OTHERS: Topic<String, u64> = topic("others");
    /// fn topology(t: &mut Topology) {
    ///     let (small, large, others) =
    ///         t.stream(IN).split().case(|n| *n < 10).case(|n| *n > 99).rest();
    ///     small.to(SMALL);
    ///     large.to(LARGE);
    ///     others.to(OTHERS);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(IN, "a".into(), 5).send(IN, "a".into(), 50).send(IN, "a".into(), 500);
    /// assert_eq!(d.read(SMALL), [("a".to_string(), 5)]);
    /// assert_eq!(d.read(LARGE), [("a".to_string(), 500)]);
    /// assert_eq!(d.read(OTHERS), [("a".to_string(), 50)]);
    /// ```
    pub fn split(self) -> Split<K, V, ()> {
        Split { stream: self, cases: Vec::new(), ways: () }
    }

    /// One way out of a split: a node whose records come through these children.
    fn way(&self, way: Way, children: Children<K, V>) -> Self {
        Stream {
            assembly: Rc::clone(&self.assembly),
            node: self.assembly.borrow_mut().graph.add(Kind::Branch(way), &[self.node]),
            inputs: self.inputs.clone(),
            rekeyed: self.rekeyed,
            origin: self.origin.clone(),
            attach: Box::new(move |next: Next<K, V>| children.add(next)),
            source: None,
        }
    }
}

impl<K: RecordKey, V: Data, W: Ways<Stream<K, V>>> Split<K, V, W> {
    /// A way for the records whose value answers yes, and for which no case before it has.
    pub fn case(self, takes: impl Fn(&V) -> bool + Send + 'static) -> Split<K, V, W::And> {
        self.add(Box::new(move |_, value| takes(value)))
    }

    /// A way for the records whose key and value answer yes. A record without a key is not asked about.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const IN: Topic<String, u64> = topic("in");
    /// const BOTS: Topic<String, u64> = topic("bots");
    /// fn topology(t: &mut Topology) {
    ///     let (bots, _rest) = t.stream(IN).split().case_with_key(|user, _| user == "bot").rest();
    ///     bots.to(BOTS);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(IN, "bot".into(), 1).send(IN, "ana".into(), 2);
    /// assert_eq!(d.read(BOTS), [("bot".to_string(), 1)]);
    /// ```
    pub fn case_with_key(
        self,
        takes: impl Fn(&K, &V) -> bool + Send + 'static,
    ) -> Split<K, V, W::And> {
        self.add(Box::new(move |key, value| key.is_some_and(|key| takes(key, value))))
    }

    fn add(mut self, takes: Case<K, V>) -> Split<K, V, W::And> {
        let children = Children::new();
        self.cases.push((takes, children.clone()));
        let way = self.stream.way(Way::Case(self.cases.len()), children);
        Split { stream: self.stream, cases: self.cases, ways: self.ways.and(way) }
    }

    /// The streams: one for each case, in order, and the rest.
    pub fn rest(self) -> W::And {
        let rest = Children::new();
        let way = self.stream.way(Way::Rest, rest.clone());
        (self.stream.attach)(Box::new(Splitting { cases: self.cases, rest }));
        self.ways.and(way)
    }
}
