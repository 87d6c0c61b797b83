//! The aborted transactions whose markers are in one segment.
//!
//! Why: a reader that sees committed records only must know which data to drop before it comes to
//! the marker that says so.
//!
//! Entry (34 bytes, big-endian), in the order of the markers:
//!
//! ```text
//!   0         2             10             18            26                   34
//!   +---------+-------------+--------------+-------------+--------------------+
//!   | version | producer id | first offset | last offset | last stable offset |
//!   +---------+-------------+--------------+-------------+--------------------+
//!     i16: 0    i64           i64            i64: marker   i64: once it was written
//! ```
//!
//! On crash: rebuilt by the partition, which alone knows where transactions began. Covered by the
//! checksum in the seal.
//! Reference: Kafka `TransactionIndex`, `AbortedTxn`.

use crate::ids::{Offset, ProducerId};

pub(crate) const ENTRY_LEN: usize = 34;

/// A transaction that was aborted, as readers need to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose transaction it was.
    pub producer_id: ProducerId,
    /// Its first offset in the partition.
    pub first_offset: Offset,
    /// The offset of its marker.
    pub last_offset: Offset,
    /// The last stable offset once the marker was written.
    pub last_stable_offset: Offset,
}

pub(crate) fn encode(entries: &[AbortedTransaction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_LEN);
    for entry in entries {
        bytes.extend_from_slice(&0_i16.to_be_bytes());
        bytes.extend_from_slice(&entry.producer_id.0.to_be_bytes());
        bytes.extend_from_slice(&entry.first_offset.to_be_bytes());
        bytes.extend_from_slice(&entry.last_offset.to_be_bytes());
        bytes.extend_from_slice(&entry.last_stable_offset.to_be_bytes());
    }
    bytes
}

/// The entries, or `None` when the bytes are no such file.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<AbortedTransaction>> {
    let (entries, rest) = bytes.as_chunks::<ENTRY_LEN>();
    if !rest.is_empty() {
        return None;
    }
    let mut decoded = Vec::with_capacity(entries.len());
    for entry in entries {
        let number =
            |at: usize| i64::from_be_bytes(*entry[at..].first_chunk().expect("within the entry"));
        if entry[..2] != [0, 0] {
            return None;
        }
        decoded.push(AbortedTransaction {
            producer_id: ProducerId(number(2)),
            first_offset: number(10),
            last_offset: number(18),
            last_stable_offset: number(26),
        });
    }
    Some(decoded)
}

/// Adds those that a reader of `from..to` must know. True: no later segment has any for it.
pub(crate) fn collect(
    entries: &[AbortedTransaction],
    from: Offset,
    to: Offset,
    aborted: &mut Vec<AbortedTransaction>,
) -> bool {
    // They are in the order of their markers, and none that ended before the range is of interest.
    let first = entries.partition_point(|entry| entry.last_offset < from);
    for entry in &entries[first..] {
        if entry.last_offset >= from && entry.first_offset < to {
            aborted.push(*entry);
        }
        if entry.last_stable_offset >= to {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aborted(first: Offset, last: Offset, stable: Offset) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: ProducerId(2000),
            first_offset: first,
            last_offset: last,
            last_stable_offset: stable,
        }
    }

    #[test]
    fn entries_have_kafkas_bytes() {
        let entries = [aborted(3, 4, 5)];
        let bytes = encode(&entries);
        let expected = "000000000000000007d0000000000000000300000000000000040000000000000005";
        assert_eq!(crate::format::hex::to_hex(&bytes), expected);
        assert_eq!(decode(&bytes), Some(entries.to_vec()));
        assert_eq!(decode(&bytes[1..]), None);
        assert_eq!(decode(&[1; ENTRY_LEN]), None);
    }

    #[test]
    fn a_reader_is_told_of_what_overlaps_its_range_and_when_that_is_all() {
        let entries = [aborted(0, 4, 5), aborted(6, 9, 8), aborted(8, 12, 13)];
        let collected = |from, to| {
            let mut found = Vec::new();
            let complete = collect(&entries, from, to, &mut found);
            (found.iter().map(|entry| entry.first_offset).collect::<Vec<_>>(), complete)
        };
        assert_eq!(collected(0, 5), (vec![0], true));
        assert_eq!(collected(5, 6), (vec![], true));
        assert_eq!(collected(5, 9), (vec![6, 8], true));
        assert_eq!(collected(0, 20), (vec![0, 6, 8], false));
    }

    /// Every range, against a search through all of them: three transactions at a time, each open for
    /// longer than the one before it ends.
    #[test]
    fn no_transaction_of_a_range_is_missed_however_many_ended_before_it() {
        let entries: Vec<_> = (0..40).map(|n| aborted(n * 5, n * 5 + 12, n * 5 + 5)).collect();
        for (from, to) in (0..210).flat_map(|from| (from + 1..212).map(move |to| (from, to))) {
            let mut found = Vec::new();
            collect(&entries, from, to, &mut found);
            let overlaps = |e: &&AbortedTransaction| e.last_offset >= from && e.first_offset < to;
            assert_eq!(found, entries.iter().filter(overlaps).copied().collect::<Vec<_>>());
        }
    }
}
