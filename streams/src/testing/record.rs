//! What a test reads from a topic.

use crate::record::Headers;

/// A record as a test sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct TestRecord<K, V> {
    /// The partition that it was read from.
    pub partition: u32,
    /// Its offset there.
    pub offset: i64,
    /// Its key; `None` is null.
    pub key: Option<K>,
    /// Its value; `None` is null.
    pub value: Option<V>,
    /// Its timestamp, in milliseconds since 1970.
    pub timestamp: i64,
    /// Its headers.
    pub headers: Headers,
}
