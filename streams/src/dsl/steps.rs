//! Steps that look at records, part them, or may refuse them.

use std::fmt::Display;

use super::Stream;
use crate::codec::Data;
use crate::error::Error;
use crate::key::RecordKey;
use crate::on_error::OnError;
use crate::operator::{Branch, Children, Inspect, Print, TryMap};
use crate::processor::Next;
use crate::topology::{Kind, NodeId, Way};

impl<K: RecordKey, V: Data> Stream<K, V> {
    /// Replaces each value, or refuses it with a reason: then [`on_error`](Self::on_error) right behind
    /// this step decides, or what the whole job says. By default the job stops (S031).
    ///
    /// A refused record counts for the clock of its partition, as one does that a filter drops. A null
    /// value passes untouched.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const TEXTS: Topic<NoKey, String> = topic("texts");
    /// const NUMBERS: Topic<NoKey, u64> = topic("numbers");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(TEXTS)
    ///         .try_map(|text| text.parse::<u64>())
    ///         .on_error(OnError::DeadLetter)
    ///         .to(NUMBERS);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// for text in ["7", "seven", "8"] {
    ///     d.send(TEXTS, NoKey, text.into());
    /// }
    /// let numbers: Vec<u64> = d.read(NUMBERS).into_iter().map(|(_, n)| n).collect();
    /// assert_eq!(numbers, [7, 8]);
    ///
    /// let letters = d.dead_letters();
    /// assert_eq!(letters.len(), 1);
    /// assert_eq!(letters[0].value.as_deref(), Some(&b"\"seven\""[..]));
    /// assert_eq!(letters[0].source.as_ref().unwrap().to_string(), "texts-0@1");
    /// assert!(letters[0].message.ends_with("invalid digit found in string"));
    /// ```
    pub fn try_map<V2: Data, E: Display>(
        self,
        map: impl Fn(V) -> Result<V2, E> + Send + 'static,
    ) -> Stream<K, V2> {
        let step = self.assembly.borrow().graph.nodes.len();
        self.step(Kind::TryMap, move |next| Box::new(TryMap { step, map, next }))
    }

    /// What the step before this one does with records that it cannot take, instead of what the job
    /// says for all steps ([`App::on_error`](crate::App::on_error)).
    ///
    /// Only directly behind [`Topology::stream`](super::Topology::stream) or its
    /// [`event_time`](Self::event_time), for records of that topic that do not decode or whose event
    /// time lies too far ahead, and behind [`try_map`](Self::try_map) (S018 elsewhere). A topic that is
    /// read twice is decoded once: it has one policy.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const IN: Topic<NoKey, u64> = topic("in");
    /// const OUT: Topic<NoKey, u64> = topic("out");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(IN).on_error(OnError::Skip).to(OUT);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(IN, NoKey, 1).send_bytes("in", 0, b"{no number").send(IN, NoKey, 2);
    /// assert_eq!(d.read(OUT), [(NoKey, 1), (NoKey, 2)]);
    /// assert_eq!(d.skipped(), 1);
    /// ```
    pub fn on_error(self, policy: OnError) -> Self {
        let mut assembly = self.assembly.borrow_mut();
        let steps: Vec<NodeId> = match &self.source {
            Some(sources) => sources.iter().map(|(node, _)| *node).collect(),
            None => vec![self.node],
        };
        let nodes = || steps.iter().map(|node| node.0);
        let mistake = if !nodes().all(|i| assembly.graph.nodes[i].kind.may_refuse()) {
            Some((
                "`.on_error(..)` does not directly follow a step that may refuse a record",
                "say it right behind `t.stream(..)`, `.event_time(..)` or `.try_map(..)`",
            ))
        } else if nodes()
            .any(|i| assembly.graph.nodes[i].on_error.is_some_and(|said| said != policy))
        {
            Some((
                "two policies are said for the records that one step refuses",
                "say one: a topic that is read twice is decoded once",
            ))
        } else {
            nodes().for_each(|i| assembly.graph.nodes[i].on_error = Some(policy));
            None
        };
        if let Some((reason, help)) = mistake {
            assembly.mistake(Error::Topology { reason: reason.to_owned(), help: help.to_owned() });
        }
        drop(assembly);
        self
    }

    /// Shows each value to a closure and passes the records on. It runs again for records whose
    /// transaction is repeated after a crash. A null value passes without a call.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use streams::prelude::*;
    /// const IN: Topic<NoKey, u64> = topic("in");
    /// const OUT: Topic<NoKey, u64> = topic("out");
    /// let seen = Arc::new(Mutex::new(Vec::new()));
    /// let list = Arc::clone(&seen);
    /// let mut d = TestDriver::new(move |t: &mut Topology| {
    ///     let list = Arc::clone(&list);
    ///     t.stream(IN).inspect(move |n| list.lock().unwrap().push(*n)).map(|n| n + 1).to(OUT);
    /// });
    /// d.send(IN, NoKey, 6);
    /// assert_eq!(d.read(OUT), [(NoKey, 7)]);
    /// assert_eq!(*seen.lock().unwrap(), [6]);
    /// ```
    pub fn inspect(self, look: impl Fn(&V) + Send + 'static) -> Self {
        self.step(Kind::Inspect, |next| Box::new(Inspect { look, next }))
    }

    /// Prints a line for each record on standard output, `[label] key value` in JSON, tombstones
    /// included: to look at a stream while a job is written. Lines come as records are processed, so
    /// those of a transaction that is repeated after a crash come again. When nobody reads standard
    /// output any more, nothing is printed and the job goes on. In a test the lines are in
    /// [`TestDriver::printed`](crate::testing::TestDriver::printed).
    ///
    /// ```
    /// use streams::prelude::*;
    /// const IN: Topic<String, u64> = topic("in");
    /// let mut d = TestDriver::new(|t: &mut Topology| t.stream(IN).map(|n| n + 1).print("plus one"));
    /// d.send(IN, "a".into(), 6);
    /// assert_eq!(d.printed(), ["[plus one] \"a\" 7"]);
    /// ```
    pub fn print(self, label: &str) {
        let print = Print::new(label);
        let kind = Kind::Print { label: print.label.clone() };
        self.assembly.borrow_mut().graph.add(kind, &[self.node]);
        (self.attach)(Box::new(print));
    }

    /// Parts the records: those whose value answers yes, and the rest. Each record goes one way. Null
    /// values go with the rest, without calling the closure. Records of a stream that is not used are
    /// counted as filtered.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const IN: Topic<String, u64> = topic("in");
    /// const EVEN: Topic<String, u64> = topic("even");
    /// const ODD: Topic<String, u64> = topic("odd");
    /// fn topology(t: &mut Topology) {
    ///     let (even, odd) = t.stream(IN).branch(|n| n % 2 == 0);
    ///     even.to(EVEN);
    ///     odd.map(|n| n * 10).to(ODD);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(IN, "a".into(), 1).send(IN, "a".into(), 2);
    /// assert_eq!(d.read(EVEN), [("a".to_string(), 2)]);
    /// assert_eq!(d.read(ODD), [("a".to_string(), 10)]);
    /// ```
    pub fn branch(self, is_first: impl Fn(&V) -> bool + Send + 'static) -> (Self, Self) {
        let (first, rest) = (Children::new(), Children::new());
        let of = |way, children: Children<K, V>| Stream {
            assembly: std::rc::Rc::clone(&self.assembly),
            node: self.assembly.borrow_mut().graph.add(Kind::Branch(way), &[self.node]),
            inputs: self.inputs.clone(),
            rekeyed: self.rekeyed,
            origin: self.origin.clone(),
            attach: Box::new(move |next: Next<K, V>| children.add(next)),
            source: None,
        };
        let ways = (of(Way::First, first.clone()), of(Way::Rest, rest.clone()));
        (self.attach)(Box::new(Branch { is_first, first, rest }));
        ways
    }
}
