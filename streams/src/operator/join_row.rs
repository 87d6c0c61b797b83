//! How the rows of a stream-stream join lie in its two stores. Pure.
//!
//! ```text
//!   first row    slice number (8) | encoded key                the first row of a key in a slice
//!   listed row   encoded key | timestamp (8) | sequence (4)    each other one
//!   row value    0       1
//!                +-------+----------------------------------------+-------+
//!                | flags | source time - timestamp, zigzag varint | value |    bit 0: it has matched
//!                +-------+----------------------------------------+-------+    bit 1: it is a first row,
//!                                                                             and there are listed ones
//!   slice        slice number (8) | encoded key      value: its listed rows, timestamp (8) | sequence (4)
//!                                                    each, or nothing: too many, or not known
//!   unmatched    timestamp (8) | encoded key | timestamp (8) | sequence (4)      value: nothing
//! ```
//!
//! Why slices: event time is cut into slices as long as a join reaches, so what one record can meet lies
//! in at most two of them. Whether there is anything is one lookup of a key, which a back end answers from
//! its filters, and nearly always it answers with the only row there is; a range scan is paid for only
//! where many rows come of it.
//!
//! A record of the changelog has its row's key with the kind in front: first and listed rows are told apart
//! by it.
//!
//! Invariants
//! * numbers are big-endian with the sign bit flipped, so rows of a key and slices lie in the order of
//!   time.
//! * a sequence tells records of one key and timestamp apart, in the order in which they came. That of a
//!   first row is 0.
//! * there is a first row wherever there are listed ones.
//! * slices and unmatched entries follow from the rows: the changelog does not carry them.

use crate::key::{decode_i64, encode_i64};
use crate::operator::envelope::{put_varint, take_varint, unzigzag, zigzag};
use crate::store::layout::{KIND_FIRST, KIND_LISTED, KIND_SLICE, KIND_TIME_INDEX};

const TAIL_BYTES: usize = 12;
const MATCHED: u8 = 1;
const CROWDED: u8 = 2;

/// What tells the rows of one key apart: timestamp and sequence.
pub(crate) type Tail = (i64, u32);

/// What a row says beside its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) matched: bool,
    /// Whether there are listed rows beside a first one.
    pub(crate) crowded: bool,
    pub(crate) source_time: i64,
}

fn put_tail((timestamp, sequence): Tail, out: &mut Vec<u8>) {
    out.extend_from_slice(&encode_i64(timestamp));
    out.extend_from_slice(&sequence.to_be_bytes());
}

fn tail_of(bytes: [u8; TAIL_BYTES]) -> Tail {
    let (mut time, mut sequence) = ([0; 8], [0; 4]);
    time.copy_from_slice(&bytes[..8]);
    sequence.copy_from_slice(&bytes[8..]);
    (decode_i64(time), u32::from_be_bytes(sequence))
}

/// A row's key, in place of what `out` held.
pub(super) fn row_key(key: &[u8], tail: Tail, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(key);
    put_tail(tail, out);
}

/// The encoded key, the timestamp and the sequence of a row's key.
pub(crate) fn split_row(row: &[u8]) -> Option<(&[u8], Tail)> {
    let (key, tail) = row.split_last_chunk::<TAIL_BYTES>()?;
    Some((key, tail_of(*tail)))
}

/// A row's key as a row cache takes it, in place of what `out` held.
pub(super) fn listed_key(key: &[u8], tail: Tail, out: &mut Vec<u8>) {
    out.clear();
    out.push(KIND_LISTED);
    out.extend_from_slice(key);
    put_tail(tail, out);
}

/// The key of a slice, as a row cache takes it, in place of what `out` held.
pub(super) fn slice_key(slice: i64, key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(KIND_SLICE);
    out.extend_from_slice(&encode_i64(slice));
    out.extend_from_slice(key);
}

/// The key of a first row, as a row cache takes it, in place of what `out` held.
pub(super) fn first_key(slice: i64, key: &[u8], out: &mut Vec<u8>) {
    slice_key(slice, key, out);
    out[0] = KIND_FIRST;
}

/// The number of the slice and the encoded key of a first row.
pub(crate) fn split_first(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (slice, key) = bytes.strip_prefix(&[KIND_FIRST])?.split_first_chunk::<8>()?;
    Some((decode_i64(*slice), key))
}

/// The encoded key, the timestamp and the sequence of a listed row.
pub(crate) fn split_listed(bytes: &[u8]) -> Option<(&[u8], Tail)> {
    split_row(bytes.strip_prefix(&[KIND_LISTED])?)
}

/// The key of an unmatched entry, as a row cache takes it.
pub(super) fn unmatched_key(timestamp: i64, row: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + row.len());
    out.push(KIND_TIME_INDEX);
    out.extend_from_slice(&encode_i64(timestamp));
    out.extend_from_slice(row);
    out
}

/// The timestamp and the row of an unmatched entry.
pub(super) fn split_unmatched(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (time, row) = bytes.strip_prefix(&[KIND_TIME_INDEX])?.split_first_chunk::<8>()?;
    Some((decode_i64(*time), row))
}

/// Starts a row's value; the encoded value follows.
pub(super) fn put_head(head: Head, timestamp: i64, out: &mut Vec<u8>) {
    let matched = if head.matched { MATCHED } else { 0 };
    out.push(matched | if head.crowded { CROWDED } else { 0 });
    put_varint(zigzag(head.source_time.wrapping_sub(timestamp)), out);
}

/// The head of a row's value and the encoded value behind it.
pub(crate) fn take_head(mut bytes: &[u8], timestamp: i64) -> Option<(Head, &[u8])> {
    let (&flags, rest) = bytes.split_first()?;
    bytes = rest;
    if flags & !(MATCHED | CROWDED) != 0 {
        return None;
    }
    let source_time = timestamp.wrapping_add(unzigzag(take_varint(&mut bytes).ok()?));
    let (matched, crowded) = (flags & MATCHED != 0, flags & CROWDED != 0);
    Some((Head { matched, crowded, source_time }, bytes))
}

/// The rows of a slice; `None`: look for them.
pub(super) fn rows_of_slice(bytes: &[u8]) -> Option<Vec<Tail>> {
    let (tails, []) = bytes.as_chunks::<TAIL_BYTES>() else { return None };
    if tails.is_empty() { None } else { Some(tails.iter().map(|&tail| tail_of(tail)).collect()) }
}

/// What [`rows_of_slice`] reads.
pub(super) fn put_rows_of_slice(rows: &[Tail], out: &mut Vec<u8>) {
    for &tail in rows {
        put_tail(tail, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes_of_rows_slices_and_entries() {
        let mut out = Vec::new();
        row_key(b"k", (1, 2), &mut out);
        assert_eq!(out, b"k\x80\0\0\0\0\0\0\x01\0\0\0\x02");
        assert_eq!(split_row(&out), Some((&b"k"[..], (1, 2))));
        let entry = unmatched_key(1, &out);
        assert_eq!(entry, b"\x02\x80\0\0\0\0\0\0\x01k\x80\0\0\0\0\0\0\x01\0\0\0\x02");
        assert_eq!(split_unmatched(&entry), Some((1, &out[..])));
        slice_key(-1, b"k", &mut out);
        assert_eq!(out, b"\x05\x7f\xff\xff\xff\xff\xff\xff\xffk");
        assert_eq!(split_first(&out), None);
        first_key(-1, b"k", &mut out);
        assert_eq!(out, b"\x04\x7f\xff\xff\xff\xff\xff\xff\xffk");
        assert_eq!(split_first(&out), Some((-1, &b"k"[..])));
        assert_eq!(split_listed(&out), None);
        listed_key(b"k", (1, 2), &mut out);
        assert_eq!(split_listed(&out), Some((&b"k"[..], (1, 2))));
        out.clear();
        put_head(Head { matched: true, crowded: false, source_time: 12 }, 10, &mut out);
        assert_eq!(out, [1, 4]);
        out.clear();
        put_head(Head { matched: true, crowded: true, source_time: 12 }, 10, &mut out);
        assert_eq!(out, [3, 4]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            matched: bool, crowded: bool, source_time: i64, timestamp: i64, tails: Vec<(i64, u32)>, value: Vec<u8>,
        ) {
            let mut out = Vec::new();
            let head = Head { matched, crowded, source_time };
            put_head(head, timestamp, &mut out);
            out.extend_from_slice(&value);
            let expected = (head, &value[..]);
            prop_assert_eq!(take_head(&out, timestamp), Some(expected));
            out.clear();
            put_rows_of_slice(&tails, &mut out);
            let expected = if tails.is_empty() { None } else { Some(tails) };
            prop_assert_eq!(rows_of_slice(&out), expected);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, timestamp: i64) {
            let _row = split_row(&bytes);
            let _first = split_first(&bytes);
            let _listed = split_listed(&bytes);
            let _entry = split_unmatched(&bytes);
            let _head = take_head(&bytes, timestamp);
            let _rows = rows_of_slice(&bytes);
        }
    }
}
