//! Reading: whole batches up to a bound, and what to skip in them.
//!
//! Why bounds: each reader says what it may see: what is committed, what is as durable as promised,
//! or everything (a job its own repartition records).
//!
//! Invariants
//! * No lock is held while a file is read; a segment that retention removes meanwhile stays readable.
//! * The bound is taken before the list of aborted transactions, so the list covers the bound.
//!
//! Reference: Kafka `LocalLog.read`, `UnifiedLog.collectAbortedTransactions`.

use std::sync::Arc;

use bytes::Bytes;

use super::Partition;
use crate::error::{Error, Result};
use crate::format::{BatchHeader, HEADER_LEN};
use crate::ids::{Offset, Timestamp};
use crate::segment::{AbortedTransaction, Segment};

/// How far a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchBound {
    /// Everything appended, also by transactions that are still open.
    LogEnd,
    /// Everything as durable as it was promised (Kafka's read uncommitted).
    HighWatermark,
    /// Committed records only (Kafka's read committed).
    LastStable,
}

/// What a fetch answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Whole batches, the first one containing the offset; empty at the bound.
    pub batches: Bytes,
    /// Transactions whose records in `batches` must be skipped.
    pub aborted: Vec<AbortedTransaction>,
    /// The first offset that there is.
    pub log_start_offset: Offset,
    /// The first offset not yet as durable as promised.
    pub high_watermark: Offset,
    /// The first offset whose fate is open.
    pub last_stable_offset: Offset,
    /// The next offset that will be written.
    pub log_end_offset: Offset,
}

/// The positions of a partition; ends are exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionOffsets {
    /// The first offset that there is.
    pub log_start_offset: Offset,
    /// The first offset not yet as durable as promised.
    pub high_watermark: Offset,
    /// The first offset whose fate is open.
    pub last_stable_offset: Offset,
    /// The next offset that will be written.
    pub log_end_offset: Offset,
    /// The epoch in which the log writes now; a cut raises it.
    pub leader_epoch: i32,
}

impl PartitionOffsets {
    /// The first offset that a reader with this bound does not see.
    #[must_use]
    pub fn end(&self, bound: FetchBound) -> Offset {
        match bound {
            FetchBound::LogEnd => self.log_end_offset,
            FetchBound::HighWatermark => self.high_watermark,
            FetchBound::LastStable => self.last_stable_offset,
        }
    }
}

impl Partition {
    /// Whether a reader at `offset` has read all that it may see. False where only a fetch can tell.
    pub(crate) fn is_read_up_to(&self, offset: Offset, bound: FetchBound) -> bool {
        let is_down = self.shared.health.is_down();
        !is_down && self.damage.is_none() && self.offsets().end(bound) == offset
    }

    /// Whole batches from the one that contains `offset`, at least one, up to the bound.
    ///
    /// # Errors
    ///
    /// * [`Error::OffsetOutOfRange`]: below the log start or above the log end.
    /// * [`Error::Damaged`]: the partition cannot be read from `offset` on.
    pub(crate) fn fetch(
        &self,
        offset: Offset,
        max_bytes: usize,
        bound: FetchBound,
    ) -> Result<Fetched> {
        let offsets = self.offsets();
        let PartitionOffsets {
            log_start_offset,
            high_watermark,
            last_stable_offset,
            log_end_offset,
            ..
        } = offsets;
        let out_of_range = Error::OffsetOutOfRange {
            requested: offset,
            start: log_start_offset,
            end: log_end_offset,
        };
        if let Some(damage) = self.damage.as_ref().filter(|damage| offset >= damage.offset) {
            return Err(self.place.damaged(damage));
        }
        if offset < log_start_offset || offset > log_end_offset {
            return Err(out_of_range);
        }
        let limit = offsets.end(bound);
        let mut fetched = Fetched {
            batches: Bytes::new(),
            aborted: Vec::new(),
            log_start_offset,
            high_watermark,
            last_stable_offset,
            log_end_offset,
        };
        if offset >= limit {
            return Ok(fetched);
        }
        let segments = Arc::clone(&self.segments.read());
        let behind = segments.partition_point(|segment| segment.base_offset() <= offset);
        let first = behind.checked_sub(1).ok_or(out_of_range)?;
        for segment in &segments[first..] {
            fetched.batches = segment.read(offset, max_bytes, limit)?;
            if !fetched.batches.is_empty() {
                break;
            }
        }
        let end = end_of(&fetched.batches).unwrap_or(offset);
        fetched.aborted = collect_aborted(&segments[first..], offset, end)?;
        Ok(fetched)
    }

    /// The first record at or behind `timestamp`, among those that are as durable as promised.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`]: it may lie behind the damage.
    pub(crate) fn offset_for_time(
        &self,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>> {
        let PartitionOffsets { log_start_offset, high_watermark, .. } = self.offsets();
        let segments = Arc::clone(&self.segments.read());
        for segment in segments.iter() {
            if segment.largest_timestamp().is_none_or(|largest| largest < timestamp) {
                continue;
            }
            let found = segment.offset_for_time(timestamp, log_start_offset, high_watermark)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        self.damage.as_ref().map_or(Ok(None), |damage| Err(self.place.damaged(damage)))
    }
}

/// The offset behind the last of whole batches.
fn end_of(batches: &[u8]) -> Option<Offset> {
    let mut rest = batches;
    let mut end = None;
    while rest.len() >= HEADER_LEN {
        let header = BatchHeader::parse(rest).ok()?;
        end = Some(header.next_offset());
        rest = rest.get(header.total_len()..)?;
    }
    end
}

pub(super) fn collect_aborted(
    segments: &[Arc<Segment>],
    from: Offset,
    to: Offset,
) -> Result<Vec<AbortedTransaction>> {
    let mut aborted = Vec::new();
    if from < to {
        for segment in segments {
            if segment.collect_aborted(from, to, &mut aborted)? {
                break;
            }
        }
    }
    Ok(aborted)
}
