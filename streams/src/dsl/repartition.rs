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

use std::rc::Rc;

use super::Stream;
use super::assembly::{Assembly, RepartitionDecl, TopicTypes};
use crate::codec::Data;
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
        assembly.repartitions.push(RepartitionDecl { topic: topic.to_owned(), sink, inputs });
        assembly.types.insert(topic.to_owned(), types);
        let output = assembly.output(topic);
        Self { output, node, input }
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
        (self.attach)(Box::new(RepartitionSink::<K, V>::new(topic.clone(), cut.output, carries)));
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
