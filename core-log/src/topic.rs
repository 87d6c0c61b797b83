//! A topic: its name, its id, how many partitions it has and how they are kept.
//!
//! Why a value of its own: whoever has a `Topic` has asked the log for it once; appends and fetches
//! need no name any more.

use std::sync::Arc;

use crate::config::TopicSettings;
use crate::ids::{Offset, TopicId, TopicName, TopicPartition};

/// A topic of a log; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    inner: Arc<Inner>,
}

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    name: TopicName,
    id: TopicId,
    settings: TopicSettings,
    adopted_below: Vec<Offset>,
}

impl Topic {
    pub(crate) fn new(name: TopicName, id: TopicId, settings: TopicSettings) -> Self {
        Self::adopted(name, id, settings, Vec::new())
    }

    /// A topic whose first records another log wrote: for each partition, where its own ones begin.
    pub(crate) fn adopted(
        name: TopicName,
        id: TopicId,
        settings: TopicSettings,
        adopted_below: Vec<Offset>,
    ) -> Self {
        Self { inner: Arc::new(Inner { name, id, settings, adopted_below }) }
    }

    /// The same topic, kept otherwise.
    pub(crate) fn with_settings(&self, settings: TopicSettings) -> Self {
        let Inner { name, id, adopted_below, .. } = &*self.inner;
        Self::adopted(name.clone(), *id, settings, adopted_below.clone())
    }

    /// Where the records begin that this log itself wrote to a partition; empty when it wrote all.
    pub(crate) fn adopted_below(&self) -> &[Offset] {
        &self.inner.adopted_below
    }

    /// Where in this partition the records begin that this log itself wrote.
    pub(crate) fn adopted_below_in(&self, partition: u32) -> Offset {
        let index = usize::try_from(partition).ok();
        index.and_then(|index| self.inner.adopted_below.get(index).copied()).unwrap_or(0)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &TopicName {
        &self.inner.name
    }

    /// Its id: a topic that is deleted and created again has another one.
    #[must_use]
    pub fn id(&self) -> TopicId {
        self.inner.id
    }

    /// How many partitions it has.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.inner.settings.partitions
    }

    /// How it takes and keeps records.
    #[must_use]
    pub fn settings(&self) -> &TopicSettings {
        &self.inner.settings
    }

    /// One of its partitions, as an id; it need not be there.
    #[must_use]
    pub fn partition(&self, partition: u32) -> TopicPartition {
        TopicPartition { topic: self.id(), partition }
    }
}
