//! What can go wrong between the members of a group.
//!
//! Why its own enum: it speaks of members and generations, which nothing else in a log knows.
//!
//! Invariants
//! * Topics and members are named, never numbered by ids that only the log knows.

use super::Recourse;
use crate::ids::{GroupId, Offset, TopicName};

/// A call of a consumer that its group refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// Another member may read the partition by now. Recourse: [`Recourse::Retry`]: poll again, which
    /// joins the group again; what was not committed is read again, by whoever has the partition.
    #[error(
        "member {member} of group {group} lost {topic}-{partition}: the group is at generation {current}, this member at {generation}; poll again to go on"
    )]
    Fenced {
        /// The group.
        group: GroupId,
        /// The member that was refused.
        member: String,
        /// The topic.
        topic: TopicName,
        /// The partition that it lost.
        partition: u32,
        /// The generation that the member knew.
        generation: u64,
        /// The group's.
        current: u64,
    },
    /// The partition is not this consumer's. Recourse: [`Recourse::FixInput`].
    #[error("{topic}-{partition} is not assigned to this consumer; it has {assigned} partitions")]
    NotAssigned {
        /// The topic, as it was given.
        topic: String,
        /// The partition.
        partition: u32,
        /// How many partitions it has.
        assigned: usize,
    },
    /// Nothing was committed, and `auto.offset.reset` is `none`. Recourse: [`Recourse::FixInput`].
    #[error("no offset is committed for {topic}-{partition} and auto.offset.reset is none: seek")]
    NoOffset {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: u32,
    },
    /// The position is no longer, or not yet, in the partition, and `auto.offset.reset` is `none`.
    /// Recourse: [`Recourse::FixInput`].
    #[error(
        "the position {requested} of {topic}-{partition} is out of range: it holds {start} to {end} (exclusive), and auto.offset.reset is none: seek"
    )]
    PositionOutOfRange {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: u32,
        /// The position.
        requested: Offset,
        /// The log start offset.
        start: Offset,
        /// The end of what may be read, exclusive.
        end: Offset,
    },
    /// The consumer has no group. Recourse: [`Recourse::FixInput`].
    #[error("a consumer without a group has nothing to commit: take it from log.group(..)")]
    NoGroup,
    /// The group has members that subscribe. Recourse: [`Recourse::FixInput`].
    #[error(
        "group {group} has {members} members that subscribe: a consumer with partitions of its own choice needs another group to commit"
    )]
    Subscribed {
        /// The group.
        group: GroupId,
        /// How many members.
        members: usize,
    },
    /// The group reads in another way. Recourse: [`Recourse::FixInput`].
    #[error("group {group} is in use by {inside}: {outside} need another group")]
    OtherKind {
        /// The group.
        group: GroupId,
        /// Who is in it.
        inside: &'static str,
        /// Who wants in.
        outside: &'static str,
    },
    /// Metadata beside a committed offset is too large. Recourse: [`Recourse::FixInput`].
    #[error("{bytes} bytes of metadata for {topic}-{partition}: {max_bytes} are allowed")]
    MetadataTooLarge {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: u32,
        /// How many bytes.
        bytes: usize,
        /// The limit (`offset.metadata.max.bytes`).
        max_bytes: usize,
    },
    /// The pattern is no regular expression. Recourse: [`Recourse::FixInput`].
    #[error("{pattern:?} is no regular expression: {reason}")]
    InvalidPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The consumer neither subscribes nor has partitions. Recourse: [`Recourse::FixInput`].
    #[error("the consumer reads nothing: subscribe to topics or assign partitions first")]
    NothingToRead,
    /// A record is not held by this consumer any more: its lock ended, or it was acknowledged.
    /// Recourse: [`Recourse::FixInput`]: it is, or will be, delivered again, unless it was acknowledged.
    #[error("{topic}-{partition} offset {offset} is not held by this consumer (any more)")]
    NotHeld {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: u32,
        /// The record's offset.
        offset: Offset,
    },
}

impl GroupError {
    /// What the one who gets this error can do about it.
    #[must_use]
    pub fn recourse(&self) -> Recourse {
        match self {
            Self::Fenced { .. } => Recourse::Retry,
            _ => Recourse::FixInput,
        }
    }
}
