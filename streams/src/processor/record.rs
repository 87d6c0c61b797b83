//! A record on its way through a task.
//!
//! Invariants
//! * `source_time` is the stream time of the source partition that the record came from, at that
//!   record: lateness is decided by it, wherever the record is by then.

use crate::record::Headers;
use crate::time::Stamp;

/// A typed record. A null value (`None`) is a tombstone for tables.
#[derive(Clone, Debug, PartialEq)]
pub struct Record<K, V> {
    /// The key; `None` where the topic has a null key although its type needs one.
    pub key: Option<K>,
    /// The value; `None` is null.
    pub value: Option<V>,
    /// Event time, in milliseconds since 1970.
    pub timestamp: i64,
    /// The clock of the record's source partition when it was read.
    pub source_time: i64,
    /// The headers.
    pub headers: Headers,
}

impl<K, V> Record<K, V> {
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { timestamp: self.timestamp, source_time: self.source_time }
    }

    /// The same record with another value.
    #[must_use]
    pub fn with_value<V2>(self, value: Option<V2>) -> Record<K, V2> {
        Record {
            key: self.key,
            value,
            timestamp: self.timestamp,
            source_time: self.source_time,
            headers: self.headers,
        }
    }

    /// The same record with another key.
    #[must_use]
    pub fn with_key<K2>(self, key: Option<K2>) -> Record<K2, V> {
        Record {
            key,
            value: self.value,
            timestamp: self.timestamp,
            source_time: self.source_time,
            headers: self.headers,
        }
    }
}
