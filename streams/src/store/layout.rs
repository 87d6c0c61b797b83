//! How rows, the time index and the checkpoint lie in one ordered byte store.
//!
//! Why: all partitions of a store share one key space, and what must be atomic together (rows and
//! the checkpoint that speaks for them) must be in it together.
//!
//! ```text
//!   key of a store         key of a row cache begins here
//!   0           4          |   5
//!   +-----------+----------+---+------------------------------+
//!   | partition | kind (u8)    | by kind                      |    partition: u32 big-endian
//!   +-----------+--------------+------------------------------+
//!                 0 checkpoint   nothing                           value: the checkpoint, below
//!                 1 row          the encoded key                   value: the row, below
//!                 2 time index   end (8, i64) | the encoded key    value: empty
//!                 3 listed row   as a row, for those that are looked up by range
//!                 4 first row    of a key in a slice of time: see operator/join_row.rs
//!                 5 slice        which other rows, listed, it has there
//!
//!   checkpoint                                                row
//!   0   1        17         33             37       45        0           8
//!   +---+--------+----------+--------------+--------+         +-----------+------------+
//!   | 1 | log id | topic id | leader epoch | offset |         | timestamp | value ...  |
//!   +---+--------+----------+--------------+--------+         +-----------+------------+
//!    version      all numbers big-endian, i32 and i64          i64 big-endian
//! ```
//!
//! What is in the rows of windows:
//!
//! ```text
//!   tumbling, hopping, since   key: inner key, start, end     value: the aggregate      one row a window
//!   session                    key: the stream's own          value: its open sessions  one row a key
//!   sliding                    key: the stream's own          value: its records        one row a key
//! ```
//!
//! Why one row a key: a record must find every session that it joins, and every window that it is in. One
//! row is found by hash, where rows of their own would have to be searched for by range; and of each key
//! only what is open is kept.
//!
//! Invariants
//! * the end in a time index key has its sign bit flipped, so index rows lie in the order of time.
//! * a partition's keys lie between its prefix with kind 0 and its prefix with kind 0xff, exclusive.
//!
//! On crash: the back end keeps whole batches; this file adds no checksum of its own.

use crate::key::{decode_i64, encode_i64};

/// The kind of a partition's one checkpoint row.
pub(crate) const KIND_CHECKPOINT: u8 = 0;
/// The kind of the rows that users see.
pub(crate) const KIND_ROW: u8 = 1;
/// The kind of the rows that list windows by their end.
pub(crate) const KIND_TIME_INDEX: u8 = 2;

/// The kind of rows that are looked up by range while a job runs, and so are kept in order in memory.
pub(crate) const KIND_LISTED: u8 = 3;
/// The kind of the first row of a key in a slice of time.
pub(crate) const KIND_FIRST: u8 = 4;
/// The kind of the rows that say which listed rows there are beside the first one.
pub(crate) const KIND_SLICE: u8 = 5;

const KIND_LIMIT: u8 = 0xff;
const VERSION: u8 = 1;
/// The size of an encoded checkpoint.
pub(crate) const CHECKPOINT_BYTES: usize = 45;

/// How far a store on disk reflects its changelog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The log that the changelog belongs to.
    pub log_id: [u8; 16],
    /// The changelog topic: another id under the same name is a topic that was created again.
    pub topic_id: [u8; 16],
    /// The leader epoch of the last record that is reflected.
    pub leader_epoch: i32,
    /// The first changelog offset that is not reflected.
    pub offset: i64,
}

impl Checkpoint {
    /// The value of a checkpoint row.
    #[must_use]
    pub(crate) fn encode(&self) -> [u8; CHECKPOINT_BYTES] {
        let mut bytes = [0; CHECKPOINT_BYTES];
        bytes[0] = VERSION;
        bytes[1..17].copy_from_slice(&self.log_id);
        bytes[17..33].copy_from_slice(&self.topic_id);
        bytes[33..37].copy_from_slice(&self.leader_epoch.to_be_bytes());
        bytes[37..45].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    /// The checkpoint in a row's value; `None` for another size or version.
    #[must_use]
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first_chunk::<1>()?;
        let (log_id, rest) = rest.split_first_chunk::<16>()?;
        let (topic_id, rest) = rest.split_first_chunk::<16>()?;
        let (leader_epoch, rest) = rest.split_first_chunk::<4>()?;
        let offset = <[u8; 8]>::try_from(rest).ok()?;
        (version[0] == VERSION).then(|| Checkpoint {
            log_id: *log_id,
            topic_id: *topic_id,
            leader_epoch: i32::from_be_bytes(*leader_epoch),
            offset: i64::from_be_bytes(offset),
        })
    }
}

/// The key of a row, as a row cache takes it.
#[cfg(test)]
pub(crate) fn row_key(key: &[u8], out: &mut Vec<u8>) {
    key_of(KIND_ROW, key, out);
}

/// The key of a row of any kind, as a row cache takes it.
pub(crate) fn key_of(kind: u8, key: &[u8], out: &mut Vec<u8>) {
    out.reserve(1 + key.len());
    out.push(kind);
    out.extend_from_slice(key);
}

/// The key of the index row that lists `key` under `end`, as a row cache takes it.
pub(crate) fn time_index_key(end: i64, key: &[u8], out: &mut Vec<u8>) {
    out.reserve(9 + key.len());
    out.extend_from_slice(&time_index_bound(end));
    out.extend_from_slice(key);
}

/// The smallest possible index key under `end`: scans start at one bound and stop before another.
#[must_use]
pub(crate) fn time_index_bound(end: i64) -> [u8; 9] {
    let mut bound = [KIND_TIME_INDEX; 9];
    bound[1..].copy_from_slice(&encode_i64(end));
    bound
}

/// The bound behind every index row: stop before it to scan to the end of time.
pub(crate) const TIME_INDEX_END: [u8; 1] = [KIND_TIME_INDEX + 1];

/// The end and the encoded key in an index key; `None` if it is of another kind.
#[must_use]
pub(crate) fn split_time_index(index_key: &[u8]) -> Option<(i64, &[u8])> {
    let rest = index_key.strip_prefix(&[KIND_TIME_INDEX])?;
    let (end, key) = rest.split_first_chunk::<8>()?;
    Some((decode_i64(*end), key))
}

/// The value of a row.
pub(crate) fn encode_row(timestamp: i64, value: &[u8], out: &mut Vec<u8>) {
    out.reserve(8 + value.len());
    out.extend_from_slice(&timestamp.to_be_bytes());
    out.extend_from_slice(value);
}

/// The timestamp and the value in a row's value; `None` if it is too short.
#[must_use]
pub(crate) fn decode_row(row: &[u8]) -> Option<(i64, &[u8])> {
    let (timestamp, value) = row.split_first_chunk::<8>()?;
    Some((i64::from_be_bytes(*timestamp), value))
}

/// The size of the prefix that tells partitions apart.
pub(super) const PREFIX_BYTES: usize = 4;

/// Writes the store's key for a row cache's key into `out`, in place of what it held.
pub(super) fn store_key(partition: u32, key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&partition.to_be_bytes());
    out.extend_from_slice(key);
}

/// The first key of a partition and the key that no key of it reaches.
pub(super) fn partition_range(partition: u32) -> ([u8; 5], [u8; 5]) {
    let mut from = [KIND_CHECKPOINT; 5];
    from[..4].copy_from_slice(&partition.to_be_bytes());
    let mut to = from;
    to[4] = KIND_LIMIT;
    (from, to)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_bytes_of_a_checkpoint() {
        let checkpoint = Checkpoint {
            log_id: [0xaa; 16],
            topic_id: [0xbb; 16],
            leader_epoch: 7,
            offset: 0x0102_0304_0506_0708,
        };
        let mut expected = vec![1];
        expected.extend_from_slice(&[0xaa; 16]);
        expected.extend_from_slice(&[0xbb; 16]);
        expected.extend_from_slice(&[0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(checkpoint.encode().as_slice(), expected);
        assert_eq!(Checkpoint::decode(&expected), Some(checkpoint));
    }

    #[test]
    fn a_checkpoint_of_another_size_or_version_is_none() {
        let good = Checkpoint { log_id: [0; 16], topic_id: [1; 16], leader_epoch: -1, offset: 0 };
        let mut bytes = good.encode().to_vec();
        assert_eq!(Checkpoint::decode(&bytes[..44]), None);
        bytes.push(0);
        assert_eq!(Checkpoint::decode(&bytes), None);
        bytes.pop();
        bytes[0] = 2;
        assert_eq!(Checkpoint::decode(&bytes), None);
    }

    #[test]
    fn golden_bytes_of_keys_and_rows() {
        let mut out = Vec::new();
        row_key(b"k", &mut out);
        assert_eq!(out, b"\x01k");
        out.clear();
        time_index_key(1, b"k", &mut out);
        assert_eq!(out, b"\x02\x80\0\0\0\0\0\0\x01k");
        assert_eq!(split_time_index(&out), Some((1, b"k".as_slice())));
        out.clear();
        encode_row(-2, b"v", &mut out);
        assert_eq!(out, b"\xff\xff\xff\xff\xff\xff\xff\xfev");
        assert_eq!(decode_row(&out), Some((-2, b"v".as_slice())));
        store_key(258, b"\x01k", &mut out);
        assert_eq!(out, b"\0\0\x01\x02\x01k");
        assert_eq!(partition_range(u32::MAX).1, [0xff; 5]);
    }

    proptest! {
        #[test]
        fn index_keys_lie_in_the_order_of_time(a: i64, b: i64, x: Vec<u8>, y: Vec<u8>) {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            time_index_key(a, &x, &mut left);
            time_index_key(b, &y, &mut right);
            prop_assert_eq!(left.cmp(&right), (a, &x).cmp(&(b, &y)));
            prop_assert!(time_index_bound(a).as_slice() <= left.as_slice());
            prop_assert!(left.as_slice() < TIME_INDEX_END.as_slice());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _checkpoint = Checkpoint::decode(&bytes);
            let _index = split_time_index(&bytes);
            let _row = decode_row(&bytes);
        }
    }
}
