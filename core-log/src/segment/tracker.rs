//! What follows from the headers of a segment's batches: index entries, digest, largest timestamp.
//! Pure.
//!
//! Why: append, rebuild and recovery must reach the same indexes and the same seal from the same
//! batches.
//!
//! Invariants
//! * Batches are noted in order, each once.
//!
//! Reference: Kafka `LogSegment.append`, `LogSegment.recover`.

use super::offset_index::OffsetEntry;
use super::time_index::TimeEntry;
use crate::format::{BatchHeader, HEADER_LEN};
use crate::ids::{Offset, Timestamp};

/// New index entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NewEntries {
    pub(super) offset: OffsetEntry,
    pub(super) time: Option<TimeEntry>,
}

#[derive(Clone, Debug)]
pub(super) struct Tracker {
    base_offset: Offset,
    index_interval_bytes: u32,
    bytes_since_entry: u64,
    headers_digest: u32,
    first_batch_timestamp: Option<Timestamp>,
    /// The largest timestamp so far and the last offset of the first batch that had it.
    largest: Option<(Timestamp, u32)>,
    last_time_entry: Timestamp,
}

impl Tracker {
    pub(super) fn new(base_offset: Offset, index_interval_bytes: u32) -> Self {
        Self {
            base_offset,
            index_interval_bytes,
            bytes_since_entry: 0,
            headers_digest: 0,
            first_batch_timestamp: None,
            largest: None,
            last_time_entry: -1,
        }
    }

    pub(super) fn headers_digest(&self) -> u32 {
        self.headers_digest
    }

    pub(super) fn largest_timestamp(&self) -> Option<Timestamp> {
        self.largest.map(|(timestamp, _)| timestamp)
    }

    pub(super) fn first_batch_timestamp(&self) -> Option<Timestamp> {
        self.first_batch_timestamp
    }

    /// Whether the indexes can express this batch.
    pub(super) fn can_hold(&self, header: &BatchHeader) -> bool {
        i32::try_from(header.last_offset() - self.base_offset).is_ok()
    }

    /// Notes the next batch, which begins at `position`.
    pub(super) fn note(
        &mut self,
        header: &BatchHeader,
        header_bytes: &[u8; HEADER_LEN],
        position: u32,
    ) -> Option<NewEntries> {
        let relative = u32::try_from(header.last_offset() - self.base_offset)
            .expect("the segment was rolled before a batch that it cannot hold");
        self.headers_digest = crc32c::crc32c_append(self.headers_digest, header_bytes);
        self.first_batch_timestamp.get_or_insert(header.max_timestamp);
        if self.largest.is_none_or(|(timestamp, _)| header.max_timestamp > timestamp) {
            self.largest = Some((header.max_timestamp, relative));
        }
        let due = self.bytes_since_entry > u64::from(self.index_interval_bytes);
        let entries = due.then(|| NewEntries {
            offset: OffsetEntry { relative, position },
            time: self.next_time_entry(),
        });
        if due {
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += header.total_len() as u64;
        entries
    }

    /// The entry that the time index lacks to know the largest timestamp.
    pub(super) fn next_time_entry(&mut self) -> Option<TimeEntry> {
        let (timestamp, relative) = self.largest?;
        if timestamp <= self.last_time_entry {
            return None;
        }
        self.last_time_entry = timestamp;
        Some(TimeEntry { timestamp, relative })
    }
}
