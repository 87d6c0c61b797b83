//! A stream whose records name the topics that they go to.
//!
//! Why a codec is said here: elsewhere it belongs to the topic's constant, and these have none.

use super::Stream;
use crate::codec::{Codec, Data};
use crate::key::RecordKey;
use crate::operator::SinkOf;
use crate::processor::Record;
use crate::topology::Kind;

impl<K: RecordKey, V: Data> Stream<K, V> {
    /// Writes each record to the topic that the closure names, with values in this codec.
    ///
    /// A topic that is missing is created when the first record names it, with as many partitions as
    /// the tasks that write it. That is no part of the transaction: one that is rolled back, or repeated
    /// after a crash, may leave an empty topic, never a record. The closure sees whole records, also
    /// those without a value, so that a tombstone can follow its key.
    ///
    /// A record is refused, so that the job's [`OnError`](crate::OnError) decides, where its name is none
    /// for a topic (S024), where it is a topic that the job reads or keeps for itself, or where the task
    /// has named 256 others already (S031). A replay writes under the same names in its own log and does
    /// not compare them.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const ORDERS: Topic<u64, String> = topic("orders");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(ORDERS).to_topic_of(Json, |order| match &order.value {
    ///         Some(country) => format!("orders-{country}"),
    ///         None => "orders-cancelled".to_owned(),
    ///     });
    /// }
    /// let mut d = TestDriver::new(topology).partitions(2);
    /// d.send(ORDERS, 1, "fr".into()).send(ORDERS, 2, "nz".into());
    /// assert_eq!(d.read(topic("orders-fr")), [(1u64, "fr".to_string())]);
    /// assert_eq!(d.read(topic("orders-nz")), [(2u64, "nz".to_string())]);
    /// ```
    pub fn to_topic_of<C: Codec<V>, N: AsRef<str>>(
        self,
        codec: C,
        name: impl Fn(&Record<K, V>) -> N + Send + 'static,
    ) {
        // Its type says everything.
        let _: C = codec;
        let node = self.assembly.borrow_mut().graph.add(Kind::SinkOf, &[self.node]);
        (self.attach)(Box::new(SinkOf::<_, C>::new(node.0, name)));
    }
}
