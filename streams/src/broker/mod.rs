//! The few things that a job needs of a log.
//!
//! Why a trait family of our own: the runtime must not know whether records lie in the embedded log
//! or on a cluster, so what it may ask for is written down here, in terms of records, partitions and
//! offsets, by the side that needs it.
//!
//! ```text
//!   runtime --- Broker ------ topics, positions, bounds, hold, purge, watch
//!                 |--- Reader ------ records of one partition, in order, under a scope
//!                 `--- Producer ---- Transaction ---- append batches, commit with positions
//! ```
//!
//! Invariants
//! * offsets are numbers of records; an end is exclusive.
//! * a transaction is committed or aborted once; dropping it aborts it.
//! * whatever error a commit returns, its outcome is unknown until the broker is opened again.

mod embedded;
mod places;
mod replay;
mod scratch;
mod simulated;
mod stretch;
mod view;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

pub use crate::record::{Header, Headers, RawRecord, Records};
pub(crate) use core_log::{LogView, Topic as LogTopic};
pub use embedded::{Durability, EmbeddedBroker};
pub(crate) use embedded::{open_log, own_log, partition_for};
pub(crate) use places::{Located, extent, first_not_older, locate, timestamp_at, whole};
pub(crate) use replay::{LoggedClock, ReplayBroker, SourceSpan, SourceTopic};
pub(crate) use scratch::{LOCK, ScratchLog, hold};
pub(crate) use stretch::{Merged, Span, Stretches};
pub(crate) use view::{View, committed, find_topic, has_left, topics_of};

#[cfg(feature = "test-util")]
pub use simulated::Broken;
pub(crate) use simulated::{Call, SimulatedLog, StoredRecord};

use crate::error::Result;

/// A topic as the broker knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRef {
    /// Its name.
    pub name: Arc<str>,
    /// Its id: a topic that is deleted and created again has another.
    pub id: [u8; 16],
    /// How many partitions it has.
    pub partitions: u32,
    /// The largest batch that it takes, in bytes.
    pub batch_bytes_max: usize,
}

/// What a topic that the job creates is for; it decides how long its records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicKind {
    /// Read by others: the log's own retention.
    Output,
    /// Records that the job could not take: kept, as their timestamps may be of any age, until somebody
    /// deletes them. Whatever its source took, it takes.
    DeadLetters,
    /// Records on their way between two sub-topologies: purged behind the commit.
    Repartition,
    /// A store's rows: kept.
    Changelog,
}

/// A position to be committed, or committed: where to go on in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The topic.
    pub topic: [u8; 16],
    /// The partition.
    pub partition: u32,
    /// The next offset to read.
    pub offset: i64,
    /// What the runtime wants to find again beside the offset.
    pub metadata: Vec<u8>,
}

/// What a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Committed records only.
    Committed,
    /// A job's own repartition records up to the log end, those of its running transaction too,
    /// without those of aborted ones.
    Own,
}

/// First and last of what a partition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The log start offset.
    pub start: i64,
    /// The end of the committed records, exclusive.
    pub committed_end: i64,
    /// The log end offset, exclusive.
    pub end: i64,
}

/// How far a partition reached with a transaction, and in which leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The offset after the last record of ours.
    pub offset: i64,
    /// The leader epoch in which it was written.
    pub leader_epoch: i32,
}

/// Records for one partition, encoded as they are pushed.
pub trait Batch: Send {
    /// Adds a record; `None` is a null key or value.
    ///
    /// # Errors
    ///
    /// No batch may be that large.
    fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> Result<()>;
    /// Bytes so far.
    fn len_bytes(&self) -> usize;
    /// Whether there is no record.
    fn is_empty(&self) -> bool;
    /// The implementation's own type.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// The records of one partition, in order.
pub trait Reader: Send {
    /// The next records; `None` when there are none yet.
    ///
    /// # Errors
    ///
    /// [`crate::Error::PositionLost`] when the position is not there any more; the log's own errors.
    fn poll(&mut self) -> Result<Option<Records>>;
    /// The offset after everything that was polled or skipped (markers, aborted records).
    fn position(&self) -> i64;
}

/// A running transaction; shared by the workers of a job.
pub trait Transaction: Send + Sync {
    /// Appends a batch and empties it. The records become visible with the commit.
    ///
    /// # Errors
    ///
    /// The log's own; the transaction can then only be aborted.
    fn append(&self, topic: &TopicRef, partition: u32, batch: &mut dyn Batch) -> Result<()>;
    /// Where the records appended so far to a partition end; `None` if there are none.
    ///
    /// # Errors
    ///
    /// The log's own.
    fn end(&self, topic: &TopicRef, partition: u32) -> Result<Option<End>>;
    /// Ends the transaction: its records and these positions become visible together. The workers
    /// have let go of it by then; it takes nothing more.
    ///
    /// # Errors
    ///
    /// Any error leaves the outcome unknown to the caller: drop everything, open again, ask for the
    /// committed positions.
    fn commit(&self, group: &str, positions: &[Position]) -> Result<()>;
    /// Ends the transaction without a trace.
    ///
    /// # Errors
    ///
    /// The log's own; the transaction does not become visible all the same.
    fn abort(&self) -> Result<()>;
}

/// Who may write transactions under one transactional id.
pub trait Producer: Send {
    /// Begins the next transaction.
    ///
    /// # Errors
    ///
    /// The log's own; fenced when another producer took the transactional id.
    fn begin(&mut self) -> Result<Arc<dyn Transaction>>;
}

/// A log as a job sees it.
pub trait Broker: Send + Sync {
    /// The wall clock, in milliseconds since 1970.
    fn now_ms(&self) -> i64;
    /// A clock that never jumps.
    fn monotonic(&self) -> Duration;
    /// What a person calls it: a directory, or addresses.
    fn describe(&self) -> String;
    /// Which log this is; checkpoints of stores name it.
    fn log_id(&self) -> [u8; 16];
    /// All topics.
    ///
    /// # Errors
    ///
    /// The log's own.
    fn topics(&self) -> Result<Vec<TopicRef>>;
    /// Creates a topic.
    ///
    /// # Errors
    ///
    /// The log's own.
    fn create_topic(&self, name: &str, partitions: u32, kind: TopicKind) -> Result<TopicRef>;
    /// Creates a topic with one partition whose records are kept at least as long as those of each of
    /// these topics.
    ///
    /// # Errors
    ///
    /// The log's own.
    fn create_topic_kept_as(&self, name: &str, others: &[TopicRef]) -> Result<TopicRef>;
    /// The positions that a group has committed.
    ///
    /// # Errors
    ///
    /// The log's own.
    fn committed(&self, group: &str) -> Result<Vec<Position>>;
    /// Takes a transactional id: an older holder is fenced, its open transaction aborted.
    ///
    /// # Errors
    ///
    /// The log's own.
    fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>>;
    /// An empty batch.
    fn batch(&self) -> Box<dyn Batch>;
    /// Reads a partition from an offset on.
    ///
    /// # Errors
    ///
    /// The log's own.
    fn reader(
        &self,
        topic: &TopicRef,
        partition: u32,
        offset: i64,
        scope: Scope,
    ) -> Result<Box<dyn Reader>>;
    /// What a partition has.
    ///
    /// # Errors
    ///
    /// The log's own.
    fn bounds(&self, topic: &TopicRef, partition: u32) -> Result<Bounds>;
    /// The leader epoch in which the record before `offset` was written, if the log still knows.
    ///
    /// # Errors
    ///
    /// The log's own.
    fn leader_epoch_at(&self, topic: &TopicRef, partition: u32, offset: i64)
    -> Result<Option<i32>>;
    /// Raises of a source partition's clock that are to be repeated: each, before the record at this
    /// offset, to this time. None, unless the job runs again.
    fn logged_raises(&self, _topic: &TopicRef, _partition: u32) -> Vec<(i64, i64)> {
        Vec::new()
    }
    /// What was read from the clock on the wall, each before the record at an offset of a partition: (offset,
    /// time). `None`: the clock is to be looked at; nothing else unless the job runs again.
    fn logged_readings(&self, _topic: &TopicRef, _partition: u32) -> Option<Vec<(i64, i64)>> {
        None
    }
    /// Gives up records before `offset`, when that is worth it.
    ///
    /// # Errors
    ///
    /// The log's own.
    fn purge(&self, topic: &TopicRef, partition: u32, offset: i64) -> Result<()>;
    /// Keeps a partition from `offset` on for `holder`, who reflects what lies below: neither retention nor
    /// compaction passes it, until it is moved by the same call or let go. Kept also while nothing runs.
    ///
    /// # Errors
    ///
    /// The log's own.
    fn hold(&self, topic: &TopicRef, partition: u32, holder: &str, offset: i64) -> Result<()>;
    /// Keeps nothing in all partitions of a topic for `holder` any more.
    ///
    /// # Errors
    ///
    /// The log's own.
    fn release(&self, topic: &TopicRef, holder: &str) -> Result<()>;
    /// Below this offset compaction may have taken records out, tombstones too. Behind what is held it
    /// takes none from now on.
    ///
    /// # Errors
    ///
    /// The log's own.
    fn compacted_below(&self, topic: &TopicRef, partition: u32) -> Result<i64>;
    /// A clean end: everything is synced and the next open needs no recovery.
    ///
    /// # Errors
    ///
    /// The log's own; the next open recovers.
    fn close(&self) -> Result<()>;
    /// A number that grows whenever something becomes readable; waits until it differs from `seen`
    /// or the timeout has passed.
    fn watch(&self, seen: u64, timeout: Duration) -> u64;
}
