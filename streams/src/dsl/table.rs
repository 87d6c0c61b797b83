//! The latest value of each key.

use super::Topic;
use super::assembly::{Assembly, TopicTypes};
use crate::codec::{Codec, Data};
use crate::key::RecordKey;
use crate::operator::{Children, Sink};
use crate::processor::Shared;
use crate::topology::{Kind, NodeId};

/// A table. Its store is kept up to date whether or not anything follows.
pub struct Table<K, V> {
    pub(crate) assembly: Shared<Assembly>,
    pub(crate) node: NodeId,
    pub(crate) children: Children<K, V>,
}

impl<K: RecordKey, V: Data> Table<K, V> {
    /// Writes each changed row to a topic, once per commit, with its latest value.
    pub fn to<C: Codec<V>>(self, topic: Topic<K, V, C>) {
        let mut assembly = self.assembly.borrow_mut();
        assembly.graph.add(Kind::Sink { topic: topic.name().to_owned() }, &[self.node]);
        assembly.types.insert(topic.name().to_owned(), TopicTypes::of::<K, V, C>());
        let output = assembly.output(topic.name());
        drop(assembly);
        self.children.add(Box::new(Sink::<K, V, C>::new(topic.name().to_owned(), output)));
    }
}
