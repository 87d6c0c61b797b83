//! Appending: validate, stamp, write, remember; and the markers that end transactions.
//!
//! Why in this order: a batch that is refused leaves nothing behind, and what is remembered of a
//! producer never runs ahead of what is in the file.
//!
//! Invariants
//! * One lock per batch, no allocation per record, one pass for the checksum. Records are compressed
//!   before the lock is taken.
//! * A partition is joined to a transaction before the transaction's first batch is written to it.
//!
//! On crash: an unfinished write is a torn tail, which recovery cuts.
//! Reference: Kafka `UnifiedLog.append`; KIP-890 for the epochs of markers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::open_transactions::aborted_entry;
use super::producer_state::{Claim, Verdict};
use super::{Partition, PartitionOptions, TimestampType, Writer, snapshot};
use crate::error::{Error, Result};
use crate::format::{
    Attributes, BatchBuilder, BatchHeader, ControlType, EndTransactionMarker, Stamp,
};
use crate::ids::{Offset, ProducerEpoch, ProducerId, Timestamp, TopicName};
use crate::segment::SegmentWriter;

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It was written.
    At {
        /// The offset of its first record.
        first_offset: Offset,
        /// The offset of its last record.
        last_offset: Offset,
    },
    /// It had been written before; nothing was written now.
    Duplicate {
        /// The offset of its first record.
        first_offset: Offset,
        /// The offset of its last record.
        last_offset: Offset,
    },
}

impl Appended {
    /// The offset of the first record.
    #[must_use]
    pub fn first_offset(&self) -> Offset {
        match self {
            Self::At { first_offset, .. } | Self::Duplicate { first_offset, .. } => *first_offset,
        }
    }

    /// The offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        match self {
            Self::At { last_offset, .. } | Self::Duplicate { last_offset, .. } => *last_offset,
        }
    }
}

/// What an append promises its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Readers see it only once it is on the disk.
    Durable,
    /// It goes to the disk at the end of the interval.
    Within(Duration),
    /// Nothing: the operating system decides.
    Nothing,
}

/// Who appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Author {
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) kind: AuthorKind,
}

/// How its batches are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthorKind {
    /// The producer numbers its batches, so that it can send one again.
    Idempotent { first_sequence: i32 },
    /// The partition numbers the batches of a transaction, which has joined it.
    Joined,
    /// The same, but the transaction may not have joined yet.
    Joining,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Appended(Appended),
    /// The transaction must join this partition first.
    MustJoin,
}

impl Partition {
    /// Appends a batch. Does not wait for the disk.
    ///
    /// # Errors
    ///
    /// Refusals leave nothing behind; a failed write is a crash of the log.
    pub(crate) fn append(
        &self,
        batch: &mut BatchBuilder,
        author: Author,
        promise: Promise,
    ) -> Result<Outcome> {
        batch.pack(self.options().compression.codec(batch.compression()))?;
        self.validate(batch)?;
        self.shared.reserve.require()?;
        self.sync_before_roll(batch)?;
        let mut writer = self.writer.lock();
        self.shared.health.check()?;
        let producers = &writer.producers;
        let claim = Claim {
            producer_id: author.producer_id,
            producer_epoch: author.producer_epoch,
            first_sequence: match author.kind {
                AuthorKind::Idempotent { first_sequence } => first_sequence,
                _ => producers.next_sequence(author.producer_id, author.producer_epoch),
            },
            record_count: batch.count(),
            is_transactional: !matches!(author.kind, AuthorKind::Idempotent { .. }),
        };
        match producers.check(&claim) {
            Verdict::Append => {}
            Verdict::Duplicate { first_offset, last_offset } => {
                return Ok(Outcome::Appended(Appended::Duplicate { first_offset, last_offset }));
            }
            refused => return Err(refusal(&claim, refused)),
        }
        if author.kind == AuthorKind::Joining && !is_open(&writer, &claim) {
            return Ok(Outcome::MustJoin);
        }
        self.write_batch(&mut writer, batch, &claim, promise).map(Outcome::Appended)
    }

    pub(super) fn write_batch(
        &self,
        writer: &mut Writer,
        batch: &mut BatchBuilder,
        claim: &Claim,
        promise: Promise,
    ) -> Result<Appended> {
        let first_offset = self.log_end();
        batch.stamp_append_time(match self.options().timestamp_type {
            TimestampType::Create => None,
            TimestampType::LogAppend => Some(self.now()),
        });
        let attributes =
            if claim.is_transactional { Attributes::TRANSACTIONAL } else { Attributes::NONE };
        let stamp = Stamp {
            base_offset: first_offset,
            leader_epoch: self.epochs.current(),
            attributes,
            producer_id: claim.producer_id,
            producer_epoch: claim.producer_epoch,
            base_sequence: claim.first_sequence,
        };
        let header = self.write(writer, batch, &stamp)?;
        let (last_offset, end) = (header.last_offset(), header.next_offset());
        writer.producers.apply_batch(claim, first_offset, last_offset, self.now());
        match promise {
            Promise::Durable => writer.promises.add(first_offset, end, claim.producer_id),
            Promise::Within(interval) => {
                let due = self.shared.clock.monotonic().saturating_add(interval);
                writer.sync_due = Some(writer.sync_due.map_or(due, |earlier| earlier.min(due)));
                self.shared.has_intervals.store(true, Ordering::Release);
            }
            Promise::Nothing => {}
        }
        self.publish(writer, end);
        Ok(Appended::At { first_offset, last_offset })
    }

    /// Rolls if needed, stamps and writes. An error is a crash of the log.
    fn write(
        &self,
        writer: &mut Writer,
        batch: &mut BatchBuilder,
        stamp: &Stamp,
    ) -> Result<BatchHeader> {
        let log = writer.log.as_ref().ok_or_else(|| self.unwritable())?;
        if log.should_roll(&batch.header(stamp)) {
            self.roll(writer)?;
        }
        let header = batch.stamp(stamp);
        let log = writer.log.as_mut().ok_or_else(|| self.unwritable())?;
        self.shared.health.guard(log.append(batch.bytes(), &header))?;
        Ok(header)
    }

    /// Ends a producer's transaction here with a marker; answers the marker's offset, `None` when a
    /// later epoch shows that it has ended before.
    ///
    /// # Errors
    ///
    /// A failed write is a crash of the log.
    pub(crate) fn end_transaction(
        &self,
        producer_id: ProducerId,
        marker_epoch: ProducerEpoch,
        marker: EndTransactionMarker,
    ) -> Result<Option<Offset>> {
        let mut writer = self.writer.lock();
        self.shared.health.check()?;
        if writer.producers.check_marker(producer_id, marker_epoch) != Verdict::Append {
            return Ok(None);
        }
        self.write_marker(&mut writer, producer_id, marker_epoch, marker).map(Some)
    }

    pub(super) fn write_marker(
        &self,
        writer: &mut Writer,
        producer_id: ProducerId,
        marker_epoch: ProducerEpoch,
        marker: EndTransactionMarker,
    ) -> Result<Offset> {
        let offset = self.log_end();
        let now = self.now();
        let stamp = Stamp {
            base_offset: offset,
            leader_epoch: self.epochs.current(),
            attributes: EndTransactionMarker::ATTRIBUTES,
            producer_id,
            producer_epoch: marker_epoch,
            base_sequence: -1,
        };
        self.write(writer, &mut marker.to_batch(now), &stamp)?;
        let ended =
            writer.producers.apply_marker(producer_id, marker_epoch, marker.coordinator_epoch, now);
        if marker.control_type == ControlType::Abort {
            writer.promises.take_back(producer_id);
            let first_open = writer.producers.first_open_offset();
            if let (Some(span), Some(log)) = (ended, &mut writer.log) {
                // Must be BEFORE the new offsets are published, or else a reader could pass the last
                // stable offset without knowing what to skip.
                log.append_aborted(aborted_entry(producer_id, span, offset, first_open));
            }
        }
        self.publish(writer, offset + 1);
        Ok(offset)
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now_ms()
    }

    pub(super) fn validate(&self, batch: &BatchBuilder) -> Result<()> {
        let (Some(oldest), Some(newest)) = (batch.min_timestamp(), batch.max_timestamp()) else {
            return Err(Error::EmptyBatch);
        };
        let options = self.options();
        if let (Some(record), Some(_)) = (batch.first_without_key(), options.compaction) {
            let topic = self.place.topic.to_string();
            return Err(Error::KeyMissing { topic, record });
        }
        let bytes = batch.bytes().len();
        for most in [options.max_batch_bytes, options.segment.segment_bytes] {
            let max_bytes = usize::try_from(most).unwrap_or(usize::MAX);
            if bytes > max_bytes {
                return Err(Error::BatchTooLarge { bytes, max_bytes });
            }
        }
        options.check_times(oldest, newest, self.now())
    }

    /// The largest batch that is taken.
    pub(crate) fn batch_bytes_max(&self) -> usize {
        let options = self.options();
        let most = options.max_batch_bytes.min(options.segment.segment_bytes);
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// Whether this record is taken now, whatever batch it comes in.
    pub(crate) fn check_record(&self, key: Option<&[u8]>, timestamp: Timestamp) -> Result<()> {
        self.options().check_record(&self.place.topic, key, timestamp, self.now())
    }

    /// A roll syncs what it seals, under the writer's lock; so most of that is synced before.
    fn sync_before_roll(&self, batch: &BatchBuilder) -> Result<()> {
        let size = self.segments.read().last().map_or(0, |active| active.size());
        let full = u64::from(self.options().segment.segment_bytes);
        let added = u64::try_from(batch.bytes().len()).unwrap_or(u64::MAX);
        if size.saturating_add(added) > full && self.damage.is_none() {
            self.sync_to(self.log_end())?;
        }
        Ok(())
    }

    /// Seals the active segment and begins the next one.
    pub(super) fn roll(&self, writer: &mut Writer) -> Result<()> {
        let log = writer.log.take().ok_or_else(|| self.unwritable())?;
        let next = self.shared.health.guard(self.try_roll(writer, log))?;
        let mut segments = Vec::clone(&self.segments.read());
        segments.push(Arc::clone(next.segment()));
        *self.segments.write() = Arc::new(segments);
        writer.log = Some(next);
        let end = self.log_end();
        writer.promises.keep_below(end);
        self.syncs.raise(end);
        Ok(())
    }

    fn try_roll(&self, writer: &Writer, log: SegmentWriter) -> Result<SegmentWriter> {
        let (storage, end) = (&self.shared.storage, self.log_end());
        // Must be BEFORE the next segment exists: its base offset witnesses that all below is synced.
        log.seal()?;
        snapshot::write(storage.as_ref(), &self.place.dir, end, &writer.producers)?;
        SegmentWriter::create(storage, &self.place, end, self.options().segment)
    }
}

impl PartitionOptions {
    /// Whether a record is taken at `now_ms`, whatever batch it comes in.
    pub(crate) fn check_record(
        &self,
        topic: &TopicName,
        key: Option<&[u8]>,
        timestamp: Timestamp,
        now_ms: Timestamp,
    ) -> Result<()> {
        if key.is_none() && self.compaction.is_some() {
            return Err(Error::KeyMissing { topic: topic.to_string(), record: 0 });
        }
        self.check_times(timestamp, timestamp, now_ms)
    }

    /// Whether records with these timestamps are taken at `now_ms`.
    fn check_times(&self, oldest: Timestamp, newest: Timestamp, now_ms: Timestamp) -> Result<()> {
        if self.timestamp_type == TimestampType::LogAppend {
            return Ok(());
        }
        let refuse =
            |timestamp, limit_ms| Err(Error::TimestampTooFarAhead { timestamp, now_ms, limit_ms });
        let (ahead, behind) = (self.timestamp_after_max_ms, self.timestamp_before_max_ms);
        if newest.saturating_sub(now_ms) > ahead {
            return refuse(newest, ahead);
        }
        if now_ms.saturating_sub(oldest) > behind {
            return refuse(oldest, behind);
        }
        Ok(())
    }
}

fn is_open(writer: &Writer, claim: &Claim) -> bool {
    writer
        .producers
        .get(claim.producer_id)
        .is_some_and(|entry| entry.producer_epoch == claim.producer_epoch && entry.open.is_some())
}

pub(super) fn refusal(claim: &Claim, verdict: Verdict) -> Error {
    let Claim { producer_id, producer_epoch, .. } = *claim;
    match verdict {
        Verdict::Fenced { current } => Error::ProducerFenced {
            transactional_id: None,
            producer_id,
            producer_epoch,
            current_epoch: current,
        },
        Verdict::OutOfOrder { expected, actual } => {
            Error::OutOfOrderSequence { producer_id, expected, actual }
        }
        Verdict::Append | Verdict::Duplicate { .. } | Verdict::OutsideTransaction => {
            Error::InvalidTxnState {
                producer_id,
                reason: "the batch does not belong to the open transaction",
            }
        }
    }
}
