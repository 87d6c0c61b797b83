//! One record inside a batch.
//!
//! ```text
//!   length           varint    bytes behind this field
//!   attributes       i8        0
//!   timestamp delta  varlong   to the batch's base timestamp, wrapping
//!   offset delta     varint    to the batch's base offset
//!   key length       varint    -1: no key        key
//!   value length     varint    -1: no value      value
//!   header count     varint
//!     key length     varint    key (UTF-8)       value length varint, -1: none   value
//! ```
//!
//! Invariants
//! * A record ends exactly where its length says.
//! * Headers of a decoded record are valid: iterating over them cannot fail.
//!
//! Reference: Kafka `DefaultRecord`.

use std::fmt;

use super::DecodeError;
use super::varint::{
    read_varint, read_varlong, varint_len, varlong_len, write_varint, write_varlong,
};
use crate::ids::{Offset, Timestamp};

/// What a record without headers passes to [`BatchBuilder::push`](super::BatchBuilder::push).
pub const NO_HEADERS: &[(&str, Option<&[u8]>)] = &[];

/// A record, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// The record's offset.
    pub offset: Offset,
    /// Its timestamp; in batches that are stamped by the log, the time of the append.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// The headers of a record: names, in order and with repetitions, each with a value or none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a> {
    count: i32,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::try_from(self.count).expect("checked when the record was decoded")
    }

    /// The headers as they stand in the record, without their count.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The headers one by one.
    #[must_use]
    pub fn iter(&self) -> HeaderIter<'a> {
        HeaderIter { left: self.count, input: self.bytes }
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

/// Iterates over the headers of a record.
#[derive(Clone, Debug)]
pub struct HeaderIter<'a> {
    left: i32,
    input: &'a [u8],
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1).filter(|left| *left >= 0)?;
        Some(read_header(&mut self.input).expect("checked when the record was decoded"))
    }
}

fn read_header<'a>(input: &mut &'a [u8]) -> Result<(&'a str, Option<&'a [u8]>), &'static str> {
    let name = take_field(input)?.ok_or("a header has no name")?;
    let name = str::from_utf8(name).map_err(|_invalid| "a header's name is not UTF-8")?;
    Ok((name, take_field(input)?))
}

/// Takes a length and as many bytes; a length of -1 is no field at all.
#[inline]
fn take_field<'a>(input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, &'static str> {
    let length = read_varint(input).map_err(|_invalid| "a length does not end")?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_negative| "a length is negative")?;
    let (field, rest) =
        input.split_at_checked(length).ok_or("a field is longer than its record")?;
    *input = rest;
    Ok(Some(field))
}

/// A record as it stands in the bytes, before its batch gives it an offset and a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawRecord<'a> {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Headers<'a>,
}

impl<'a> RawRecord<'a> {
    /// Takes the record at the front of `input`, which is number `index` of its batch.
    #[inline]
    pub(crate) fn read(input: &mut &'a [u8], index: i32) -> Result<Self, DecodeError> {
        let invalid = |reason| DecodeError::InvalidRecord { index, reason };
        let mut body = take_field(input).map_err(invalid)?.ok_or_else(|| invalid("no length"))?;
        let record = Self::read_body(&mut body).map_err(invalid)?;
        if body.is_empty() { Ok(record) } else { Err(invalid("bytes are left over")) }
    }

    #[inline]
    fn read_body(body: &mut &'a [u8]) -> Result<Self, &'static str> {
        let (_attributes, rest) = body.split_first().ok_or("it is empty")?;
        *body = rest;
        let number = |_invalid| "a number does not end";
        let timestamp_delta = read_varlong(body).map_err(number)?;
        let offset_delta = read_varint(body).map_err(number)?;
        let key = take_field(body)?;
        let value = take_field(body)?;
        let count = read_varint(body).map_err(number)?;
        if count < 0 {
            return Err("the number of headers is negative");
        }
        let bytes = *body;
        for _header in 0..count {
            read_header(body)?;
        }
        let bytes = &bytes[..bytes.len() - body.len()];
        Ok(Self { timestamp_delta, offset_delta, key, value, headers: Headers { count, bytes } })
    }
}

/// The bytes that a record takes in a batch, without its own length in front.
pub(crate) fn body_len<N: AsRef<str>, V: AsRef<[u8]>>(
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(N, Option<V>)],
) -> usize {
    let mut len = 1 + varlong_len(timestamp_delta) + varint_len(offset_delta);
    len += field_len(key) + field_len(value) + varint_len(field_count(headers.len()));
    for (name, value) in headers {
        len += field_len(Some(name.as_ref().as_bytes()));
        len += field_len(value.as_ref().map(AsRef::as_ref));
    }
    len
}

/// Appends a record; `body_len` is what [`body_len`] gave for it.
pub(crate) fn write<N: AsRef<str>, V: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    body_len: i32,
    (timestamp_delta, offset_delta): (i64, i32),
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(N, Option<V>)],
) {
    write_varint(out, body_len);
    out.push(0);
    write_varlong(out, timestamp_delta);
    write_varint(out, offset_delta);
    write_field(out, key);
    write_field(out, value);
    write_varint(out, field_count(headers.len()));
    for (name, value) in headers {
        write_field(out, Some(name.as_ref().as_bytes()));
        write_field(out, value.as_ref().map(AsRef::as_ref));
    }
}

/// A length as the format knows it. One that is too large saturates, which the check of the
/// record's whole length then refuses before anything is written.
fn field_count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn field_len(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| varint_len(field_count(bytes.len())) + bytes.len())
}

#[inline]
fn write_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => out.push(1),
        Some(bytes) => {
            write_varint(out, field_count(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}
