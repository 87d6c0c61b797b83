//! One partition: its segments, its producers, and how far readers may see. One writer at a time.
//!
//! ```text
//!   log start                     last stable   high watermark      log end
//!      |== sealed ==|== sealed ==|=====active======|==== ....======|
//!      readers: committed only ---->|
//!      readers: as durable as promised ----------->|
//!      a job's own repartition records ------------------------->  |
//! ```
//!
//! Why one lock: whoever appends must see the producers' state, the end and the epoch as one; readers
//! take no lock that a writer holds while it writes.
//!
//! Invariants
//! * `log_start <= last_stable <= high_watermark <= log_end`; each only grows while the log is open.
//! * Nothing is written after the log has crashed: the writer asks under its own lock.
//! * A sync never holds the writer's lock.
//!
//! On crash: see `recovery`.
//! Reference: Kafka `UnifiedLog`.

pub(crate) mod append;
pub(crate) mod changes;
pub(crate) mod compaction;
pub(crate) mod fetch;
pub(crate) mod first_files;
pub(crate) mod health;
#[cfg(any(test, feature = "test-util"))]
pub(crate) mod layer;
pub(crate) mod leader_epochs;
pub(crate) mod open_transactions;
pub(crate) mod producer_state;
pub(crate) mod promises;
pub(crate) mod recovery;
mod replay;
pub(crate) mod reserve;
pub(crate) mod retention;
pub(crate) mod snapshot;
pub(crate) mod sync_group;
pub(crate) mod text_file;
pub(crate) mod topic_id;
pub(crate) mod trim;
pub(crate) mod unrecorded;
pub(crate) mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use crate::locks::{Mutex, RwLock};

pub(crate) use append::{Author, Promise};
pub use fetch::{FetchBound, Fetched, PartitionOffsets};

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::format::CompressionType;
use crate::ids::{Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition};
use crate::segment::{Damage, Place, Segment, SegmentOptions, SegmentWriter};
use crate::storage::Storage;
use changes::Changes;
use compaction::plan::CompactionPolicy;
use health::Health;
use leader_epochs::LeaderEpochs;
use producer_state::{OpenSpan, ProducerEntry, ProducerState};
use promises::Promises;
use reserve::Reserve;
use retention::RetentionPolicy;
use sync_group::SyncGroup;
use upkeep::Upkeep;

/// What all partitions of one life of a log share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) health: Arc<Health>,
    pub(crate) changes: Arc<Changes>,
    /// Whether somebody may wait for the end of an interval: looking at thousands of partitions each
    /// time that nobody does would cost more than the syncs.
    pub(crate) has_intervals: Arc<AtomicBool>,
    pub(crate) reserve: Arc<Reserve>,
}

/// How a partition takes and keeps records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartitionOptions {
    pub(crate) segment: SegmentOptions,
    pub(crate) retention: RetentionPolicy,
    /// `None`: the topic is not compacted.
    pub(crate) compaction: Option<CompactionPolicy>,
    /// How long files stay that are no part of the partition any more.
    pub(crate) file_delete_delay: Duration,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) max_batch_bytes: u32,
    pub(crate) compression: CompressionType,
    pub(crate) timestamp_before_max_ms: i64,
    pub(crate) timestamp_after_max_ms: i64,
}

/// Whose time a record carries (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's (`CreateTime`).
    #[default]
    Create,
    /// The log's, when it takes the batch (`LogAppendTime`).
    LogAppend,
}

impl std::fmt::Display for TimestampType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "CreateTime",
            Self::LogAppend => "LogAppendTime",
        })
    }
}

impl std::str::FromStr for TimestampType {
    type Err = InvalidTimestampType;

    fn from_str(text: &str) -> Result<Self, InvalidTimestampType> {
        match text {
            "CreateTime" => Ok(Self::Create),
            "LogAppendTime" => Ok(Self::LogAppend),
            _ => Err(InvalidTimestampType),
        }
    }
}

/// Neither `CreateTime` nor `LogAppendTime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be CreateTime or LogAppendTime")]
pub struct InvalidTimestampType;

/// One partition of a topic.
#[derive(Debug)]
pub(crate) struct Partition {
    id: TopicPartition,
    place: Arc<Place>,
    shared: Shared,
    options: RwLock<PartitionOptions>,
    writer: Mutex<Writer>,
    /// Oldest first. Taken before it is changed: the writer's lock; held: never while writing.
    segments: RwLock<Arc<Vec<Arc<Segment>>>>,
    trimming: Mutex<()>,
    /// Locks, in this order: a pass of compaction, `trimming`, the writer's.
    upkeep: Upkeep,
    log_start: AtomicI64,
    last_stable: AtomicI64,
    high_watermark: AtomicI64,
    log_end: AtomicI64,
    syncs: SyncGroup,
    epochs: LeaderEpochs,
    damage: Option<Damage>,
}

/// What the writer's lock protects.
#[derive(Debug)]
struct Writer {
    /// `None` when the partition is damaged, or once a roll has failed.
    log: Option<SegmentWriter>,
    producers: ProducerState,
    promises: Promises,
    /// When somebody's interval ends, by the monotonic clock.
    sync_due: Option<Duration>,
}

impl Partition {
    /// Which partition this is.
    pub(crate) fn id(&self) -> TopicPartition {
        self.id
    }

    /// Where its files are.
    pub(crate) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// What is wrong with it, if something is.
    pub(crate) fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    fn options(&self) -> PartitionOptions {
        *self.options.read()
    }

    /// Takes and keeps records in another way from now on; what is there already stays as it is until
    /// retention looks at it again.
    pub(crate) fn set_options(&self, options: PartitionOptions) {
        let mut writer = self.writer.lock();
        *self.options.write() = options;
        if let Some(log) = &mut writer.log {
            log.set_options(options.segment);
        }
    }

    /// Everything below this offset is on the disk.
    pub(crate) fn synced(&self) -> Offset {
        self.syncs.durable()
    }

    pub(crate) fn log_end(&self) -> Offset {
        self.log_end.load(Ordering::Acquire)
    }

    pub(crate) fn log_start(&self) -> Offset {
        self.log_start.load(Ordering::Acquire)
    }

    /// All segments but the active one.
    #[cfg(test)]
    pub(crate) fn sealed_segments(&self) -> Vec<Arc<Segment>> {
        let segments = Arc::clone(&self.segments.read());
        segments[..segments.len() - 1].to_vec()
    }

    /// The four positions.
    pub(crate) fn offsets(&self) -> PartitionOffsets {
        // In this order: each only grows, so that a later load is never below an earlier one.
        let log_start_offset = self.log_start();
        let last_stable_offset = self.last_stable.load(Ordering::Acquire);
        let high_watermark = self.high_watermark.load(Ordering::Acquire);
        PartitionOffsets {
            log_start_offset,
            last_stable_offset: last_stable_offset.max(log_start_offset),
            high_watermark: high_watermark.max(log_start_offset),
            log_end_offset: self.log_end(),
            leader_epoch: self.epochs.current(),
        }
    }

    /// The epoch in which the record just before `offset` was written; `None` when it is not there.
    pub(crate) fn leader_epoch_at(&self, offset: Offset) -> Option<i32> {
        let is_there = offset > self.log_start() && offset <= self.log_end();
        is_there.then(|| self.epochs.at(offset - 1))
    }

    /// Transactions that are open here, with the epoch that wrote them.
    pub(crate) fn open_transactions(&self) -> Vec<(ProducerId, ProducerEpoch, OpenSpan)> {
        self.writer.lock().producers.open().collect()
    }

    /// Where the data of this producer's open transaction ends, if it has written here.
    pub(crate) fn open_end(&self, producer: ProducerId) -> Option<Offset> {
        Some(self.writer.lock().producers.get(producer)?.open?.end_offset)
    }

    /// Where the data of this producer's open transaction begins, if it has written here.
    pub(crate) fn open_start(&self, producer: ProducerId) -> Option<Offset> {
        Some(self.writer.lock().producers.get(producer)?.open?.first_offset)
    }

    /// What is known of all producers, by id.
    pub(crate) fn producers(&self) -> Vec<(ProducerId, ProducerEntry)> {
        let writer = self.writer.lock();
        writer.producers.iter().map(|(id, entry)| (id, entry.clone())).collect()
    }

    /// Waits until everything below `target` is on the disk.
    ///
    /// # Errors
    ///
    /// [`Error::LogCrashed`] and what the disk said: the log has crashed.
    pub(crate) fn sync_to(&self, target: Offset) -> Result<()> {
        match self.syncs.wait(target, self.shared.clock.as_ref(), || self.sync_now()) {
            // Whoever waited for another's sync is told why the log went down, or that it was closed.
            Err(Error::LogCrashed { cause }) => {
                self.shared.health.check()?;
                Err(Error::LogCrashed { cause })
            }
            outcome => outcome,
        }
    }

    fn sync_now(&self) -> Result<Offset> {
        self.shared.health.check()?;
        let (segment, end) = {
            let mut writer = self.writer.lock();
            writer.sync_due = None;
            let Some(log) = &writer.log else { return Err(self.unwritable()) };
            (Arc::clone(log.segment()), self.log_end())
        };
        self.shared.health.guard(segment.sync_data())?;
        let mut writer = self.writer.lock();
        // Must be AFTER the sync, or else readers could see what a power cut takes back.
        writer.promises.keep_below(end);
        self.publish(&writer, self.log_end());
        if let Some(log) = &mut writer.log {
            log.seal_front();
        }
        Ok(end)
    }

    /// Syncs if somebody's interval has ended.
    pub(crate) fn sync_if_due(&self, monotonic: Duration) -> Result<()> {
        let due = self.writer.lock().sync_due;
        match due {
            Some(due) if due <= monotonic => self.sync_to(self.log_end()),
            Some(_later) => {
                self.shared.has_intervals.store(true, Ordering::Release);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Lets readers see as far as the writer's state allows.
    fn publish(&self, writer: &Writer, log_end: Offset) {
        let high_watermark = writer.promises.high_watermark(log_end);
        let first_open = writer.producers.first_open_offset();
        let stable = open_transactions::last_stable_offset(first_open, high_watermark);
        // In this order: a reader that loads them in the other one finds them ascending.
        self.log_end.store(log_end, Ordering::Release);
        self.high_watermark.fetch_max(high_watermark, Ordering::Release);
        self.last_stable.fetch_max(stable, Ordering::Release);
        self.shared.changes.notify();
    }

    /// Why nothing can be written.
    fn unwritable(&self) -> Error {
        match (&self.damage, self.shared.health.check()) {
            (Some(damage), _) => self.place.damaged(damage),
            (None, Err(crashed)) => crashed,
            (None, Ok(())) => Error::LogCrashed { cause: "a roll failed".to_owned() },
        }
    }

    /// Waits until nobody writes or syncs; the log has crashed, so nobody begins again.
    pub(crate) fn quiesce(&self) {
        drop(self.writer.lock());
        self.syncs.stop();
        drop(self.upkeep.cleaning.lock());
        drop(self.trimming.lock());
    }

    /// Leaves the indexes and what is known of the producers in their files, for a clean close.
    pub(crate) fn write_indexes(&self) -> Result<()> {
        self.remove_due_files(Duration::MAX)?;
        let mut writer = self.writer.lock();
        let Writer { log: Some(log), producers, .. } = &mut *writer else { return Ok(()) };
        self.shared.health.guard(log.write_indexes())?;
        if log.segment().size() == 0 {
            // That of the roll is there, or nothing is known yet.
            return Ok(());
        }
        let storage = self.shared.storage.as_ref();
        let left = snapshot::leave(storage, &self.place.dir, self.log_end(), producers);
        self.shared.health.guard(left)
    }

    /// Forgets all producers: they wrote to another log, which this partition was taken over from.
    pub(crate) fn forget_producers(&self) {
        self.writer.lock().producers = ProducerState::default();
    }

    /// Forgets producers that were not heard of since `before`.
    pub(crate) fn expire_producers(&self, before: Timestamp) {
        self.writer.lock().producers.expire(before);
    }
}
