//! Where records are counted: directly, or behind a repartition topic that carries counts.

use std::cell::RefCell;
use std::rc::Rc;

use super::Stream;
use super::assembly::TopicTypes;
use super::repartition::Cut;
use super::stream::{KeyedPlace, Placed};
use crate::codec::Data;
use crate::ids::StoreName;
use crate::key::{Key, RecordKey};
use crate::operator::{Combines, CountSink, Keyed, RepartitionEntry, decode_count};
use crate::processor::Shared;
use crate::time::{TimeInputs, Windows};
use crate::topology::{Carries, repartition_topic};

impl<K: RecordKey, V: Data> Stream<K, V> {
    /// A place for an operator that adds up how many records there are of each key. Where the key has
    /// changed, records of one key, and of the same ones of these tumbling or hopping windows, are counted in
    /// front of the repartition topic already.
    pub(super) fn counted(self, store: &StoreName, windows: Option<Windows>) -> Placed<u64>
    where
        K: Key,
    {
        let attach = self.attach;
        if !self.rekeyed {
            let place = KeyedPlace {
                node: self.node,
                inputs: self.inputs,
                attach: Box::new(move |op| attach(Box::new(Keyed::new(|_: V| 1, op)))),
            };
            return (self.assembly, place);
        }
        let topic = repartition_topic(&self.assembly.borrow().graph.id, store);
        let types = TopicTypes::of_repartition::<K, u64>();
        let (from, carries) = (self.node, Carries::Key);
        let cut = Cut::new(&self.assembly, from, self.inputs, &topic, carries, types);
        let sink = Rc::new(RefCell::new(CountSink::<K>::new(topic.clone(), cut.output, windows)));
        let combines: Shared<dyn Combines> = Rc::<RefCell<_>>::clone(&sink) as _;
        self.assembly.borrow_mut().combiners.push((from, combines));
        attach(Box::new(sink));
        let entries = Rc::clone(&self.assembly);
        let place = KeyedPlace {
            node: cut.node,
            inputs: TimeInputs(vec![(cut.input, 0)]),
            attach: Box::new(move |op| {
                let entry = RepartitionEntry::new(&topic, op, decode_count);
                entries.borrow_mut().entries[cut.input] = Some(Box::new(entry));
            }),
        };
        (self.assembly, place)
    }
}
