//! The value of a record in a repartition topic: the envelope that carries source time.
//!
//! Why: whether a record is late is decided by the clock of the source partition that it came from, so
//! that clock travels with it. Watermarks travel in the same topic, so that they are ordered with the
//! records that they speak about.
//!
//! ```text
//!   0     1
//!   +-----+---------------------------------+----------------+
//!   | tag | zigzag varint                   | value          |
//!   |     | source time - timestamp         | (tag 0 only)   |
//!   +-----+---------------------------------+----------------+
//!   tag: 0 value, 1 null value, 2 no value needed, 3 watermarks; the first three + 4: the upstream task,
//!        a varint, stands behind the times (the topic is read in order)
//!
//!   tag 3:  count varint, then per upstream task: partition varint, watermark zigzag varint
//! ```
//!
//! Invariants
//! * differences wrap, so that every pair of times can be carried.
//! * a watermark says: no record that I will still send has a source time below this.

use crate::time::Stamp;

const VALUE: u8 = 0;
const NULL: u8 = 1;
const KEY_ONLY: u8 = 2;
const WATERMARKS: u8 = 3;
const SENT_BY: u8 = 4;

/// What a repartition record holds beside its key and timestamp.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Envelope<'a> {
    /// A record; the value is `None` where it is null.
    Record { source_time: i64, value: Option<&'a [u8]> },
    /// A record whose value the consumer does not need.
    KeyOnly { source_time: i64 },
    /// How far the upstream tasks are: (partition, watermark).
    Watermarks(Vec<(u32, i64)>),
}

/// Starts the envelope of a record with a value, which the caller appends.
pub(crate) fn begin_value(stamp: Stamp, out: &mut Vec<u8>) {
    begin(VALUE, stamp, out);
}

/// The envelope of a null value.
pub(crate) fn null(stamp: Stamp, out: &mut Vec<u8>) {
    begin(NULL, stamp, out);
}

/// The envelope of a record whose value is not needed.
pub(crate) fn key_only(stamp: Stamp, out: &mut Vec<u8>) {
    begin(KEY_ONLY, stamp, out);
}

/// Adds the upstream task to an envelope that has just been started in an empty `out`.
pub(crate) fn sent_by(upstream: u32, out: &mut Vec<u8>) {
    if let Some(tag) = out.first_mut() {
        *tag |= SENT_BY;
        put_varint(u64::from(upstream), out);
    }
}

/// The envelope of watermarks.
pub(crate) fn watermarks(of: &[(u32, i64)], out: &mut Vec<u8>) {
    out.push(WATERMARKS);
    put_varint(u64::try_from(of.len()).expect("a count fits 64 bits"), out);
    for &(partition, watermark) in of {
        put_varint(u64::from(partition), out);
        put_varint(zigzag(watermark), out);
    }
}

fn begin(tag: u8, stamp: Stamp, out: &mut Vec<u8>) {
    out.push(tag);
    put_varint(zigzag(stamp.source_time.wrapping_sub(stamp.timestamp)), out);
}

/// Reads an envelope.
///
/// # Errors
///
/// What does not fit.
pub(crate) fn decode(bytes: &[u8], timestamp: i64) -> Result<Envelope<'_>, &'static str> {
    let (&tag, mut rest) = bytes.split_first().ok_or("the envelope is empty")?;
    if tag == WATERMARKS {
        return decode_watermarks(rest);
    }
    let (source_time, _upstream) = times(tag, timestamp, &mut rest)?;
    match tag & !SENT_BY {
        VALUE => Ok(Envelope::Record { source_time, value: Some(rest) }),
        NULL => Ok(Envelope::Record { source_time, value: None }),
        KEY_ONLY => Ok(Envelope::KeyOnly { source_time }),
        _ => Err("the envelope has an unknown tag"),
    }
}

/// The source time of a record and the task that sent it: its place among those of a partition. Where the
/// sender did not say who it is, it counts as the first.
///
/// # Errors
///
/// What does not fit.
pub(crate) fn order(bytes: &[u8], timestamp: i64) -> Result<(i64, u32), &'static str> {
    let (&tag, mut rest) = bytes.split_first().ok_or("the envelope is empty")?;
    if tag == WATERMARKS {
        return Err("watermarks have no place among records");
    }
    times(tag, timestamp, &mut rest)
}

fn times(tag: u8, timestamp: i64, rest: &mut &[u8]) -> Result<(i64, u32), &'static str> {
    let source_time = timestamp.wrapping_add(unzigzag(take_varint(rest)?));
    let upstream = if tag & SENT_BY == 0 { 0 } else { take_varint(rest)? };
    let upstream =
        u32::try_from(upstream).map_err(|_e| "an upstream task has a number above 2^32")?;
    Ok((source_time, upstream))
}

fn decode_watermarks(mut rest: &[u8]) -> Result<Envelope<'_>, &'static str> {
    let count = take_varint(&mut rest)?;
    let mut list = Vec::new();
    for _ in 0..count {
        let partition = u32::try_from(take_varint(&mut rest)?)
            .map_err(|_e| "a watermark names a partition above 2^32")?;
        list.push((partition, unzigzag(take_varint(&mut rest)?)));
    }
    Ok(Envelope::Watermarks(list))
}

pub(crate) fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)).cast_unsigned()
}

pub(crate) fn unzigzag(v: u64) -> i64 {
    (v >> 1).cast_signed() ^ -((v & 1).cast_signed())
}

pub(crate) fn put_varint(mut v: u64, out: &mut Vec<u8>) {
    while v >= 0x80 {
        out.push(u8::try_from(v & 0x7f).expect("seven bits fit a byte") | 0x80);
        v >>= 7;
    }
    out.push(u8::try_from(v).expect("what is left is below 128"));
}

pub(crate) fn take_varint(bytes: &mut &[u8]) -> Result<u64, &'static str> {
    let mut v = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or("a number is cut off")?;
        *bytes = rest;
        v |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(v);
        }
    }
    Err("a number has more than ten bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_pair_of_times_survives(timestamp: i64, source_time: i64, value: Vec<u8>) {
            let mut bytes = Vec::new();
            begin_value(Stamp { timestamp, source_time }, &mut bytes);
            bytes.extend_from_slice(&value);
            let expected = Envelope::Record { source_time, value: Some(&value) };
            prop_assert_eq!(decode(&bytes, timestamp), Ok(expected));
        }

        #[test]
        fn every_list_of_watermarks_survives(list: Vec<(u32, i64)>) {
            let mut bytes = Vec::new();
            watermarks(&list, &mut bytes);
            prop_assert_eq!(decode(&bytes, 0), Ok(Envelope::Watermarks(list)));
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_mean_what_they_say(bytes: Vec<u8>, timestamp: i64) {
            let mut again = Vec::new();
            match decode(&bytes, timestamp) {
                Ok(Envelope::Record { source_time, value: Some(value) }) => {
                    begin_value(Stamp { timestamp, source_time }, &mut again);
                    again.extend_from_slice(value);
                }
                Ok(Envelope::Record { source_time, value: None }) => {
                    null(Stamp { timestamp, source_time }, &mut again);
                }
                Ok(Envelope::KeyOnly { source_time }) => {
                    key_only(Stamp { timestamp, source_time }, &mut again);
                }
                Ok(Envelope::Watermarks(list)) => watermarks(&list, &mut again),
                Err(_) => return Ok(()),
            }
            prop_assert_eq!(decode(&again, timestamp), decode(&bytes, timestamp));
        }
    }

    #[test]
    fn the_task_that_sent_a_record_stands_behind_its_times() {
        let mut bytes = Vec::new();
        begin_value(Stamp { timestamp: 10, source_time: 12 }, &mut bytes);
        sent_by(300, &mut bytes);
        bytes.push(7);
        assert_eq!(bytes, [4, 4, 0xac, 2, 7]);
        assert_eq!(order(&bytes, 10), Ok((12, 300)));
        let seven = Envelope::Record { source_time: 12, value: Some(&[7]) };
        assert_eq!(decode(&bytes, 10), Ok(seven));
        assert!(decode(&[7, 0, 0], 0).is_err());
    }

    #[test]
    fn a_record_that_is_its_own_clock_costs_two_bytes() {
        let mut bytes = Vec::new();
        key_only(Stamp { timestamp: 1_000, source_time: 1_000 }, &mut bytes);
        assert_eq!(bytes, [KEY_ONLY, 0]);
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused_without_allocating_for_it() {
        let bytes = [WATERMARKS, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(decode(&bytes, 0), Err("a number is cut off"));
    }
}
