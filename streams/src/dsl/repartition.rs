//! Streams through a repartition topic, so that records of one key meet in one task.
//!
//! ```text
//!   node -> RepartitionSink(topic)      sub-topology of the stream
//!              |  topic
//!           RepartitionSource(topic) -> what follows
//! ```
//!
//! Invariants
//! * topics are called after names that the user gave; two that would have one name are refused (S018).

use std::cell::Cell;
use std::rc::Rc;

use super::Stream;
use super::assembly::{Assembly, RepartitionDecl, TopicTypes};
use crate::codec::Data;
use crate::error::Error;
use crate::ids::StoreName;
use crate::key::{Key, RecordKey};
use crate::operator::{RepartitionSink, StreamEntry};
use crate::processor::{Next, Shared};
use crate::time::TimeInputs;
use crate::topology::{Carries, Kind, NodeId, repartition_topic};

/// Where the graph goes on behind a repartition topic.
pub(super) struct Cut {
    pub(super) output: usize,
    pub(super) node: NodeId,
    pub(super) input: usize,
    /// To be set if records are to be taken in the order of source time.
    pub(super) ordered: Rc<Cell<bool>>,
}

impl Cut {
    pub(super) fn new(
        assembly: &Shared<Assembly>,
        from: NodeId,
        inputs: TimeInputs,
        topic: &str,
        carries: Carries,
        types: TopicTypes,
    ) -> Self {
        let mut assembly = assembly.borrow_mut();
        let kind = Kind::RepartitionSink { topic: topic.to_owned(), carries };
        let sink = assembly.graph.add(kind, &[from]);
        let node = assembly.graph.add(Kind::RepartitionSource { topic: topic.to_owned() }, &[]);
        let input = assembly.input();
        let (name, ordered) = (topic.to_owned(), Rc::<Cell<bool>>::default());
        let said = Rc::clone(&ordered);
        assembly.repartitions.push(RepartitionDecl { topic: name, sink, inputs, ordered: said });
        assembly.types.insert(topic.to_owned(), types);
        let output = assembly.output(topic);
        Self { output, node, input, ordered }
    }
}

impl<K: RecordKey, V: Data> Stream<K, V> {
    /// Sends the records through a topic of its own with this many partitions, by their keys: what
    /// follows has as many tasks.
    ///
    /// The topic is called `<job>-<name>-repartition`. Joins and tables repartition by themselves after
    /// `key_by`; say it where another number of partitions is wanted, or where two steps would use one
    /// topic (S018). Null keys are counted and left out.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const CLICKS: Topic<String, u64> = topic("clicks");
    /// const TOTALS: Topic<String, u64> = topic("totals");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(CLICKS).repartition("clicks-6", 6).count("clicks-by-user").to(TOTALS);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(4);
    /// d.send(CLICKS, "ana".into(), 1).send(CLICKS, "ana".into(), 1);
    /// assert_eq!(d.read(TOTALS).last(), Some(&("ana".to_string(), 2)));
    /// ```
    pub fn repartition(self, name: &str, partitions: u32) -> Self
    where
        K: Key,
    {
        let topic = match StoreName::new(name) {
            Ok(name) => repartition_topic(&self.assembly.borrow().graph.id, name),
            Err(mistake) => {
                self.assembly.borrow_mut().mistake(mistake.into());
                return self;
            }
        };
        self.assembly.borrow_mut().graph.chosen.insert(topic.clone(), partitions);
        self.through(topic)
    }

    /// The same with as many partitions as the largest source topic in front of it, or as what the
    /// records meet behind it.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const CLICKS: Topic<NoKey, String> = topic("clicks");
    /// const PAGES: Topic<String, String> = topic("pages");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(CLICKS).key_by(|page| page.clone()).repartition_as("by-page").to(PAGES);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(3);
    /// d.send(CLICKS, NoKey, "/".into());
    /// assert_eq!(d.read(PAGES), [("/".to_string(), "/".to_string())]);
    /// ```
    pub fn repartition_as(self, name: &str) -> Self
    where
        K: Key,
    {
        match StoreName::new(name) {
            Ok(name) => {
                let topic = repartition_topic(&self.assembly.borrow().graph.id, name);
                self.through(topic)
            }
            Err(mistake) => {
                self.assembly.borrow_mut().mistake(mistake.into());
                self
            }
        }
    }

    /// Takes the records of a repartition in the order of (source time, upstream task, offset), not as the
    /// upstream tasks happened to send them: what follows gives the same answer in every run, also where
    /// order counts (the last value of a key, tables, joins).
    ///
    /// Only directly behind [`repartition`](Self::repartition) and [`repartition_as`](Self::repartition_as)
    /// (S018). The price is waiting: a record is held back until the watermark has passed its source time,
    /// so the last ones wait for the next. Ordered inputs of one sub-topology come in one order. What is
    /// held is bounded in memory; the rest of it is read again from the topic. A topic that was ordered
    /// once stays so: to take it back, give the repartition another name.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const MOVES: Topic<NoKey, (String, u64)> = topic("moves");
    /// const LAST: Topic<String, u64> = topic("last");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(MOVES)
    ///         .key_by(|(user, _)| user.clone())
    ///         .repartition_as("by-user")
    ///         .ordered()
    ///         .aggregate("last-place", |last: &mut u64, (_, place)| *last = place)
    ///         .to(LAST);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(2);
    /// // The later place lies in a partition that may be read first.
    /// d.send_record_to(MOVES, 0, Some(("ana".into(), 2)), 2_000);
    /// d.send_record_to(MOVES, 1, Some(("ana".into(), 1)), 1_000);
    /// d.advance_to(3_000);
    /// assert_eq!(d.read(LAST).last(), Some(&("ana".to_string(), 2)));
    /// ```
    pub fn ordered(self) -> Self {
        let mut assembly = self.assembly.borrow_mut();
        let topic = match &assembly.graph.nodes[self.node.0].kind {
            Kind::RepartitionSource { topic } => Some(topic.clone()),
            _ => None,
        };
        let decl = topic.and_then(|t| assembly.repartitions.iter().find(|decl| decl.topic == t));
        if let Some((topic, ordered)) =
            decl.map(|decl| (decl.topic.clone(), Rc::clone(&decl.ordered)))
        {
            ordered.set(true);
            assembly.graph.ordered.insert(topic);
        } else {
            assembly.mistake(Error::Topology {
                reason: "`.ordered()` does not directly follow a repartition".to_owned(),
                help: "say it right behind one: `.repartition_as(\"by-user\").ordered()`"
                    .to_owned(),
            });
        }
        drop(assembly);
        self
    }

    /// Behind a repartition topic if the key has changed, else as it is.
    pub(super) fn by_key(self, name: &str) -> Self
    where
        K: Key,
    {
        if !self.rekeyed {
            return self;
        }
        let topic = repartition_topic(&self.assembly.borrow().graph.id, name);
        self.through(topic)
    }

    /// The same for a stream that only then shows whether it has keys: one without any has not changed it.
    pub(super) fn by_any_key(self, name: &StoreName) -> Self {
        if !self.rekeyed {
            return self;
        }
        let topic = repartition_topic(&self.assembly.borrow().graph.id, name);
        self.through(topic)
    }

    fn through(self, topic: String) -> Self {
        let types = TopicTypes::of_repartition::<K, V>();
        let carries = Carries::Value;
        let cut = Cut::new(&self.assembly, self.node, self.inputs, &topic, carries, types);
        let sink = RepartitionSink::<K, V>::new(topic.clone(), cut.output, carries);
        (self.attach)(Box::new(sink.asked_by(cut.ordered)));
        let entries = Rc::clone(&self.assembly);
        Stream {
            assembly: self.assembly,
            node: cut.node,
            inputs: TimeInputs(vec![(cut.input, 0)]),
            rekeyed: false,
            origin: self.origin,
            attach: Box::new(move |next: Next<K, V>| {
                let entry = StreamEntry::new(&topic, next);
                entries.borrow_mut().entries[cut.input] = Some(Box::new(entry));
            }),
            source: None,
        }
    }
}
