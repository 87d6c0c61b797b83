//! Records of one partition as they were read: one block of bytes and where each record lies in it.
//!
//! Why: keys and values are borrowed from the block until an operator decides to own something.
//!
//! Invariants
//! * ranges lie inside the block.
//! * `headers` holds an entry only for records that have headers, in ascending order.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// Where a record was read. Shown as `clicks-0@771`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordPosition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The record's offset.
    pub offset: i64,
}

impl fmt::Display for RecordPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}@{}", self.topic, self.partition, self.offset)
    }
}

/// One header: a name, and a value that may be null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name; names may repeat.
    pub key: String,
    /// The value.
    pub value: Option<Bytes>,
}

/// The headers of a record, in order. Most records have none, which costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<Header>);

impl Headers {
    /// No headers.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The headers in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Header> {
        self.0.iter()
    }

    /// Adds one at the end.
    pub fn push(&mut self, key: impl Into<String>, value: Option<Bytes>) {
        self.0.push(Header { key: key.into(), value });
    }
}

impl FromIterator<Header> for Headers {
    fn from_iter<I: IntoIterator<Item = Header>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

#[derive(Clone, Debug)]
struct Slot {
    offset: i64,
    timestamp: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
}

/// Records that were read together.
#[derive(Clone, Debug, Default)]
pub struct Records {
    data: Bytes,
    slots: Vec<Slot>,
    headers: Vec<(usize, Headers)>,
}

/// A record whose key and value still lie in the block that was read.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in the log, in milliseconds since 1970.
    pub timestamp: i64,
    /// The key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null.
    pub value: Option<&'a [u8]>,
    /// The headers, if it has any.
    pub headers: Option<&'a Headers>,
}

impl Records {
    /// An empty list over a block of bytes.
    #[must_use]
    pub fn over(data: Bytes, capacity: usize) -> Self {
        Self { data, slots: Vec::with_capacity(capacity), headers: Vec::new() }
    }

    /// Adds a record whose key and value lie in the block.
    ///
    /// # Panics
    ///
    /// If a slice is not part of the block: that is a mistake of a broker.
    pub fn push(&mut self, record: RawRecord<'_>, headers: Headers) {
        let range = |part: Option<&[u8]>| part.map(|part| self.range_of(part));
        let slot = Slot {
            offset: record.offset,
            timestamp: record.timestamp,
            key: range(record.key),
            value: range(record.value),
        };
        if !headers.is_empty() {
            self.headers.push((self.slots.len(), headers));
        }
        self.slots.push(slot);
    }

    fn range_of(&self, part: &[u8]) -> Range<usize> {
        if part.is_empty() {
            return 0..0;
        }
        let start = part.as_ptr().addr().wrapping_sub(self.data.as_ptr().addr());
        let inside = start.checked_add(part.len()).is_some_and(|end| end <= self.data.len());
        assert!(inside, "a record's bytes lie outside of the block they were read with");
        start..start + part.len()
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The record at an index, 0-based.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<RawRecord<'_>> {
        let slot = self.slots.get(index)?;
        let headers = if self.headers.is_empty() {
            None
        } else {
            let at = self.headers.binary_search_by_key(&index, |(i, _)| *i).ok();
            at.map(|at| &self.headers[at].1)
        };
        Some(RawRecord {
            offset: slot.offset,
            timestamp: slot.timestamp,
            key: slot.key.clone().map(|r| &self.data[r]),
            value: slot.value.clone().map(|r| &self.data[r]),
            headers,
        })
    }
}
