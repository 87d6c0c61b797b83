//! Sparse map from timestamps to offsets in one segment.
//!
//! Why: a lookup by time must not read the segment from its beginning.
//!
//! Entry (12 bytes, big-endian), timestamps strictly increasing:
//!
//! ```text
//!   0            8        12
//!   +------------+--------+
//!   | timestamp  | offset |   timestamp: the largest so far (i64)
//!   +------------+--------+   offset: last of the batch that has it, less the base offset (u32)
//! ```
//!
//! Invariants
//! * All records in front of the batch that an entry points at are older than the entry.
//! * Timestamps below 0 have no entries; a lookup then begins at the segment's start.
//!
//! On crash: rebuilt from the `.log` file. Covered by the checksum in the seal, which each lookup
//! in a sealed segment verifies.
//! Reference: Kafka `TimeIndex`.

use crate::ids::Timestamp;

pub(crate) const ENTRY_LEN: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: Timestamp,
    pub(crate) relative: u32,
}

pub(crate) fn encode(entries: &[TimeEntry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_LEN);
    for entry in entries {
        bytes.extend_from_slice(&entry.timestamp.to_be_bytes());
        bytes.extend_from_slice(&entry.relative.to_be_bytes());
    }
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Vec<TimeEntry> {
    let entry = |&[a, b, c, d, e, f, g, h, i, j, k, l]: &[u8; ENTRY_LEN]| TimeEntry {
        timestamp: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
        relative: u32::from_be_bytes([i, j, k, l]),
    };
    bytes.as_chunks::<ENTRY_LEN>().0.iter().map(entry).collect()
}

/// Where to begin to look for a record that is at least this old, relative to the base offset.
pub(crate) fn floor(entries: &[TimeEntry], timestamp: Timestamp) -> u32 {
    let behind = entries.partition_point(|entry| entry.timestamp <= timestamp);
    behind.checked_sub(1).map_or(0, |index| entries[index].relative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_kafkas_bytes() {
        let entries = [TimeEntry { timestamp: 1_700_000_000_000, relative: 9 }];
        let bytes = encode(&entries);
        assert_eq!(crate::format::hex::to_hex(&bytes), "0000018bcfe5680000000009");
        assert_eq!(decode(&bytes), entries);
    }

    #[test]
    fn a_lookup_begins_at_the_last_entry_that_is_not_younger() {
        let entries =
            [(10, 3), (20, 7)].map(|(timestamp, relative)| TimeEntry { timestamp, relative });
        let found = [-1, 9, 10, 19, 20, i64::MAX].map(|timestamp| floor(&entries, timestamp));
        assert_eq!(found, [0, 0, 3, 3, 7, 7]);
    }
}
