//! Groups: consumers that share the partitions of topics, and what they have read.
//!
//! ```text
//!   log.group("g") --consumer(..)--> Consumer  poll, seek, pause, commit      one partition, one member
//!                  --shared(..)----> SharedConsumer  poll, acknowledge        one record, one member
//!   log.consumer(..) --------------> Consumer  without a group                everybody reads everything
//! ```
//!
//! Why no protocol: all members live in this process, so they share one table (`members`); a member is a
//! value that a thread or a task owns.
//!
//! What a member that polls again, or closes, has said: it is done with what it was handed out before. So
//! its position goes over to the next owner of a partition as it is, and nothing is read twice. A member
//! that is dropped, or is silent for longer than `max.poll.interval.ms`, has said nothing: the next owner
//! begins at the committed offset, and what was not committed is read again. Nothing is skipped.
//!
//! Invariants
//! * A partition has one owner; nobody else commits its position.
//! * No lock of a group is held while a file is read or written, but for the one that makes commits of a
//!   share group take turns.
//! * A committed offset is never beyond its partition's end, not even after a power cut (`Sync`).
//!
//! On crash: positions in memory are gone; groups begin at their committed offsets.
//! Reference: Kafka `KafkaConsumer`; KIP-429, KIP-848, KIP-932.

mod commit;
mod consumer;
mod held;
mod lane;
mod names;
mod poll;
mod polled;
mod position;
mod settings;
mod shared;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use commit::{OffsetAndMetadata, PendingCommit};
pub use consumer::{Consumer, Wakeup};
pub use held::{Shared, SharedRecord, SharedSettings};
pub use polled::{Polled, PolledBatch, PolledRecord};
pub use position::Lag;
pub use settings::{AutoCommit, ConsumerSettings, IsolationLevel, OffsetReset};
pub use shared::SharedConsumer;

use crate::error::Result;
use crate::ids::GroupId;
use crate::log::Log;
use crate::members::{GroupState, PartitionName};

/// A consumer group of a log. Cheap to clone; all handles of one name are the same group.
#[derive(Clone, Debug)]
pub struct Group {
    log: Log,
    state: Arc<GroupState>,
}

/// A member of a group and what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// What it is called: `client.id` and a number.
    pub name: String,
    /// The partitions that it owns.
    pub partitions: BTreeSet<PartitionName>,
}

impl Log {
    /// The group of this name, for consumers that share partitions.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`](crate::Error::InvalidName).
    pub fn group(&self, name: &str) -> Result<Group> {
        let id = GroupId::new(name)?;
        Ok(Group { log: self.clone(), state: self.inner.groups().get(&id) })
    }

    /// A consumer without a group: it reads all partitions of the topics to which it subscribes, as does
    /// every other one, and its positions are its own. Without a group nothing is committed; settings
    /// of commits are not looked at.
    #[must_use]
    pub fn consumer(&self, settings: ConsumerSettings) -> Consumer {
        Consumer::new(self.clone(), None, settings)
    }
}

impl Group {
    /// The group's name.
    #[must_use]
    pub fn id(&self) -> &GroupId {
        &self.state.id
    }

    /// A consumer of this group; it becomes a member when it subscribes.
    #[must_use]
    pub fn consumer(&self, settings: ConsumerSettings) -> Consumer {
        Consumer::new(self.log.clone(), Some(Arc::clone(&self.state)), settings)
    }

    /// A consumer that shares records, not partitions, with the others of its kind: each record goes to
    /// one of them.
    ///
    /// # Errors
    ///
    /// * [`GroupError::OtherKind`](crate::GroupError::OtherKind): the group has members that share
    ///   partitions.
    /// * [`Error::UnknownTopic`](crate::Error::UnknownTopic).
    pub fn shared<T: AsRef<str>>(
        &self,
        topics: &[T],
        settings: SharedSettings,
    ) -> Result<SharedConsumer> {
        SharedConsumer::new(self.log.clone(), Arc::clone(&self.state), topics, settings)
    }

    /// How often partitions were shared out since the group was first used in this process.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.state.membership.lock().generation()
    }

    /// The members, in the order in which they joined.
    #[must_use]
    pub fn members(&self) -> Vec<MemberDescription> {
        let membership = self.state.membership.lock();
        let member =
            |(name, partitions): (&str, _)| MemberDescription { name: name.to_owned(), partitions };
        membership.describe().map(member).collect()
    }

    /// The committed offsets of the topics that there are.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`](crate::Error::Damaged): the commit records are.
    pub fn committed(&self) -> Result<BTreeMap<PartitionName, OffsetAndMetadata>> {
        commit::committed(&self.log, &self.state.id)
    }

    /// How far the committed offsets are behind what readers of this isolation level may see.
    ///
    /// # Errors
    ///
    /// As [`committed`](Self::committed).
    pub fn lag(&self, isolation_level: IsolationLevel) -> Result<BTreeMap<PartitionName, Lag>> {
        position::group_lag(&self.log, &self.committed()?, isolation_level.bound())
    }
}
