//! One partition without the log around it, for conformance runners.
//!
//! Why: recorded scenarios of other implementations name producer ids, epochs, sequences and high
//! watermarks, which the public API settles by itself. There is no stability here: this module
//! exists with the feature `test-util` only.
//!
//! ```text
//!   scenario --> PartitionLayer --> the partition that a log opens, appends to and recovers
//! ```
//!
//! Invariants
//! * Nothing is decided here: every answer is the partition's own. Only what the layer above
//!   settles (what is durable, when a marker may be written) is taken from the scenario.
//!
//! On crash: as for every partition; [`PartitionLayer::open`] recovers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::append::{Appended, refusal};
use super::changes::Changes;
use super::compaction::TO_THE_END;
use super::compaction::plan::{CompactionPolicy, Ratio};
use super::health::Health;
use super::open_transactions::last_stable_offset;
use super::producer_state::{Claim, Verdict};
use super::recovery::{OpenRequest, open};
use super::reserve::Reserve;
use super::retention::RetentionPolicy;
use super::{
    FetchBound, Fetched, Partition, PartitionOffsets, PartitionOptions, Promise, Shared,
    TimestampType, leader_epochs, snapshot, text_file,
};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::format::{BatchBuilder, CompressionType, EndTransactionMarker};
use crate::ids::{
    Offset, ProducerEpoch, ProducerId, Timestamp, TopicId, TopicName, TopicPartition,
};
use crate::segment::{Place, SegmentOptions, cleaned};
use crate::storage::Storage;

/// How the partition takes and keeps records.
#[derive(Clone, Copy, Debug)]
pub struct LayerOptions {
    /// When segments are rolled and how dense their indexes are.
    pub segment: SegmentOptions,
    /// How long records are kept, in milliseconds; `None` for ever (`retention.ms`).
    pub retention_ms: Option<i64>,
    /// How large the partition may grow, in bytes; `None` without limit (`retention.bytes`).
    pub retention_bytes: Option<u64>,
    /// How far behind the clock timestamps may be, in milliseconds.
    pub timestamp_before_max_ms: i64,
    /// How far ahead of the clock timestamps may be, in milliseconds.
    pub timestamp_after_max_ms: i64,
    /// The largest batch, in bytes (`max.message.bytes`).
    pub max_batch_bytes: u32,
    /// Whose time records carry (`message.timestamp.type`).
    pub timestamp_type: TimestampType,
    /// When the partition is compacted and what stays; `None`: it is not (`cleanup.policy`).
    pub compaction: Option<LayerCompaction>,
}

/// What compaction keeps.
#[derive(Clone, Copy, Debug)]
pub struct LayerCompaction {
    /// For how long tombstones stay, in milliseconds (`delete.retention.ms`).
    pub delete_retention_ms: i64,
    /// For how long records are not compacted, in milliseconds (`min.compaction.lag.ms`).
    pub min_lag_ms: i64,
}

/// What a pass of compaction may clean, and where it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionPass {
    /// The first offset that is dirty.
    pub clean_from: Offset,
    /// The first offset that may not be cleaned.
    pub uncleanable_from: Offset,
    /// Bytes between the two.
    pub cleanable_bytes: u64,
    /// Those, and what was clean before.
    pub total_bytes: u64,
    /// The first dirty offset behind the pass; `None`: nothing was dirty.
    pub first_dirty_after: Option<Offset>,
}

/// What a batch says of its producer.
#[derive(Clone, Copy, Debug)]
pub struct BatchClaim {
    /// Who writes; [`ProducerId::NONE`] for a batch without a producer.
    pub producer_id: ProducerId,
    /// The producer's epoch.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of the first record.
    pub first_sequence: i32,
    /// Whether it belongs to a transaction.
    pub is_transactional: bool,
}

/// Which epochs a marker may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerRule {
    /// That of the transaction, or a later one (transaction versions 0 and 1).
    Current,
    /// A later one; that of the producer only where no transaction is open (version 2, KIP-890).
    Raised,
}

/// What became of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerOutcome {
    /// It is there.
    At(Offset),
    /// A later coordinator has written one: there is one coordinator in a process, so that the log
    /// itself never asks.
    CoordinatorFenced {
        /// The epoch of the last marker.
        current: i32,
    },
}

/// What the partition knows of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownProducer {
    /// Who.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// First and last sequence, first and last offset; oldest first.
    pub batches: Vec<(i32, i32, Offset, Offset)>,
    /// The coordinator epoch of its last marker, -1 before the first.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins.
    pub open_from: Option<Offset>,
}

/// One partition, in a directory of its own.
#[derive(Debug)]
pub struct PartitionLayer {
    partition: Partition,
    dir: PathBuf,
}

impl PartitionLayer {
    /// Opens the partition in `dir`, with recovery if `witness` does not cover its end.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub fn open(
        storage: &Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: &LayerOptions,
        witness: Offset,
    ) -> Result<Self> {
        let shared = Shared {
            storage: Arc::clone(storage),
            clock,
            health: Arc::new(Health::default()),
            changes: Arc::new(Changes::default()),
            has_intervals: Arc::default(),
            reserve: Arc::new(Reserve::new(storage, "/.reserve".into(), 0)),
        };
        let topic = TopicName::new("t")?;
        let request = OpenRequest {
            id: TopicPartition { topic: TopicId([1; 16]), partition: 0 },
            place: Arc::new(Place { dir: dir.to_owned(), topic, partition: 0 }),
            options: PartitionOptions {
                segment: options.segment,
                retention: RetentionPolicy {
                    retention_ms: options.retention_ms,
                    retention_bytes: options.retention_bytes,
                },
                compaction: options.compaction.map(|compaction| CompactionPolicy {
                    delete_retention_ms: compaction.delete_retention_ms,
                    min_lag_ms: compaction.min_lag_ms,
                    max_lag_ms: i64::MAX,
                    min_dirty_ratio: Ratio::percent(0),
                    record_ttl_ms: None,
                }),
                file_delete_delay: std::time::Duration::ZERO,
                timestamp_type: options.timestamp_type,
                max_batch_bytes: options.max_batch_bytes,
                compression: CompressionType::Producer,
                timestamp_before_max_ms: options.timestamp_before_max_ms,
                timestamp_after_max_ms: options.timestamp_after_max_ms,
            },
            witness,
            may_have_lost: false,
            is_new: true,
            adopted_below: 0,
            recorded: None,
        };
        Ok(Self { partition: open(&shared, request)?.partition, dir: dir.to_owned() })
    }

    /// Where its files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Appends a batch that promises nothing.
    ///
    /// # Errors
    ///
    /// The partition's refusals.
    pub fn append(&self, batch: &mut BatchBuilder, claim: &BatchClaim) -> Result<Appended> {
        batch.pack(batch.compression())?;
        self.partition.validate(batch)?;
        let claim = Claim {
            producer_id: claim.producer_id,
            producer_epoch: claim.producer_epoch,
            first_sequence: claim.first_sequence,
            record_count: batch.count(),
            is_transactional: claim.is_transactional,
        };
        self.partition.append_as(batch, &claim)
    }

    /// Ends a producer's transaction with a marker.
    ///
    /// # Errors
    ///
    /// [`Error::ProducerFenced`]: a later epoch is known.
    pub fn write_marker(
        &self,
        producer_id: ProducerId,
        epoch: ProducerEpoch,
        marker: EndTransactionMarker,
        rule: MarkerRule,
    ) -> Result<MarkerOutcome> {
        self.partition.write_marker_of(producer_id, epoch, marker, rule)
    }

    /// The last stable offset for a high watermark, by the transactions that are open.
    #[must_use]
    pub fn stable_below(&self, high_watermark: Offset) -> Offset {
        self.partition.stable_below(high_watermark)
    }

    /// Lets readers see up to here, as the layer above would.
    pub fn set_readable(&self, high_watermark: Offset, last_stable_offset: Offset) {
        self.partition.set_readable(high_watermark, last_stable_offset);
    }

    /// Writes in this leader epoch from now on, as a cut or another log would.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub fn set_leader_epoch(&mut self, epoch: i32) -> Result<()> {
        let before = self.partition.epochs.current();
        self.partition.epochs.observe(epoch, self.partition.log_end());
        if self.partition.epochs.current() == before {
            return Ok(());
        }
        let text = self.partition.epochs.to_text();
        let storage = self.partition.shared.storage.as_ref();
        text_file::replace(storage, &self.dir, leader_epochs::FILE_NAME, text.as_bytes())
    }

    /// Begins a new segment.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub fn roll(&self) -> Result<()> {
        self.partition.roll_now()
    }

    /// Syncs everything.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub fn sync(&self) -> Result<()> {
        self.partition.sync_to(self.partition.log_end())
    }

    /// Closes cleanly: everything synced, indexes and a snapshot of the producers in their files.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub fn close(&self) -> Result<()> {
        self.sync()?;
        self.partition.write_indexes()
    }

    /// Gives up what retention does not keep, as of `now`; answers the log start.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub fn retain(&self, now: Timestamp) -> Result<Offset> {
        self.partition.retain(now)
    }

    /// Cleans what may be cleaned, as of `now`.
    ///
    /// # Errors
    ///
    /// What the storage says; a batch that cannot be read.
    pub fn compact(&self, now: Timestamp) -> Result<CompactionPass> {
        let cleanable = self.partition.cleanable(now)?.ok_or(Error::InvalidSetting {
            setting: "cleanup.policy",
            reason: "the partition is not compacted",
        })?;
        let cleaned = self.partition.compact(now, &TO_THE_END)?;
        Ok(CompactionPass {
            clean_from: cleanable.first_dirty,
            uncleanable_from: cleanable.first_uncleanable,
            cleanable_bytes: cleanable.cleanable_bytes,
            total_bytes: cleanable.total_bytes,
            first_dirty_after: cleaned.map(|cleaned| cleaned.first_dirty),
        })
    }

    /// Moves the log start.
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutOfRange`]: beyond the high watermark.
    pub fn delete_records(&self, before: Offset) -> Result<Offset> {
        self.partition.delete_records(before)
    }

    /// Forgets producers not heard of since `before`.
    pub fn expire_producers(&self, before: Timestamp) {
        self.partition.expire_producers(before);
    }

    /// Whole batches from the one that contains `offset`.
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutOfRange`].
    pub fn fetch(&self, offset: Offset, max_bytes: usize, bound: FetchBound) -> Result<Fetched> {
        self.partition.fetch(offset, max_bytes, bound)
    }

    /// The first record at or behind a time.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub fn offset_for_time(&self, timestamp: Timestamp) -> Result<Option<(Offset, Timestamp)>> {
        self.partition.offset_for_time(timestamp)
    }

    /// The first record with the largest timestamp, among those that are readable.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub fn offset_of_largest_time(&self) -> Result<Option<(Offset, Timestamp)>> {
        let summaries = self.partition.summaries();
        let filled = summaries.iter().filter(|segment| segment.size_bytes > 0);
        match filled.map(|segment| segment.largest_timestamp).max() {
            Some(largest) => self.partition.offset_for_time(largest),
            None => Ok(None),
        }
    }

    /// Cuts everything from `to` on, and opens what is left.
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutOfRange`]: below the log start. What the storage says.
    pub fn truncate(&mut self, to: Offset) -> Result<()> {
        let PartitionOffsets { log_start_offset, log_end_offset, .. } = self.offsets();
        if to >= log_end_offset {
            return Ok(());
        }
        if to < log_start_offset {
            let (start, end) = (log_start_offset, log_end_offset);
            return Err(Error::OffsetOutOfRange { requested: to, start, end });
        }
        let shared = self.partition.shared.clone();
        let (id, place) = (self.partition.id, Arc::clone(&self.partition.place));
        let (options, dir) = (self.partition.options(), self.dir.clone());
        cleaned::truncate(&shared.storage, &place, to)?;
        for base in snapshot::list(shared.storage.as_ref(), &dir)?.into_iter().filter(|b| *b > to) {
            let path = snapshot::path(&dir, base);
            shared.storage.remove_file(&path).map_err(|e| Error::io(&path, "remove", e))?;
        }
        let request = OpenRequest {
            id,
            place,
            options,
            witness: 0,
            may_have_lost: false,
            is_new: true,
            adopted_below: 0,
            recorded: None,
        };
        self.partition = open(&shared, request)?.partition;
        Ok(())
    }

    /// The four positions.
    #[must_use]
    pub fn offsets(&self) -> PartitionOffsets {
        self.partition.offsets()
    }

    /// Base offsets, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<Offset> {
        self.partition.summaries().iter().map(|segment| segment.base_offset).collect()
    }

    /// All producers, by id.
    #[must_use]
    pub fn producers(&self) -> Vec<KnownProducer> {
        self.partition.known_producers()
    }
}

impl Partition {
    fn append_as(&self, batch: &mut BatchBuilder, claim: &Claim) -> Result<Appended> {
        let mut writer = self.writer.lock();
        let is_anonymous = claim.producer_id == ProducerId::NONE;
        let verdict = if is_anonymous { Verdict::Append } else { writer.producers.check(claim) };
        match verdict {
            Verdict::Append => {
                let promise = Promise::Nothing;
                let written = self.write_batch(&mut writer, batch, claim, promise);
                if is_anonymous {
                    writer.producers.forget(ProducerId::NONE);
                }
                written
            }
            Verdict::Duplicate { first_offset, last_offset } => {
                Ok(Appended::Duplicate { first_offset, last_offset })
            }
            refused => Err(refusal(claim, refused)),
        }
    }

    fn write_marker_of(
        &self,
        producer_id: ProducerId,
        epoch: ProducerEpoch,
        marker: EndTransactionMarker,
        rule: MarkerRule,
    ) -> Result<MarkerOutcome> {
        let mut writer = self.writer.lock();
        if let Verdict::Fenced { current } = writer.producers.check_marker(producer_id, epoch)
            && (current != epoch || rule == MarkerRule::Raised)
        {
            return Err(Error::ProducerFenced {
                transactional_id: None,
                producer_id,
                producer_epoch: epoch,
                current_epoch: current,
            });
        }
        let last = writer.producers.get(producer_id).map(|entry| entry.coordinator_epoch);
        if let Some(current) = last.filter(|last| *last > marker.coordinator_epoch) {
            return Ok(MarkerOutcome::CoordinatorFenced { current });
        }
        self.write_marker(&mut writer, producer_id, epoch, marker).map(MarkerOutcome::At)
    }

    fn stable_below(&self, high_watermark: Offset) -> Offset {
        last_stable_offset(self.writer.lock().producers.first_open_offset(), high_watermark)
    }

    fn set_readable(&self, high_watermark: Offset, last_stable_offset: Offset) {
        self.high_watermark.store(high_watermark, Ordering::Release);
        self.last_stable.store(last_stable_offset, Ordering::Release);
    }

    fn roll_now(&self) -> Result<()> {
        self.roll(&mut self.writer.lock())
    }

    fn known_producers(&self) -> Vec<KnownProducer> {
        let writer = self.writer.lock();
        let known = writer.producers.iter().map(|(producer_id, entry)| KnownProducer {
            producer_id,
            producer_epoch: entry.producer_epoch,
            batches: entry
                .batches
                .iter()
                .map(|b| (b.first_sequence, b.last_sequence, b.first_offset, b.last_offset))
                .collect(),
            coordinator_epoch: entry.coordinator_epoch,
            open_from: entry.open.map(|span| span.first_offset),
        });
        known.collect()
    }
}
