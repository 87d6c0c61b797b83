//! A record on its way into a batch, borrowed from whoever sends it.
//!
//! Why borrowed: its bytes are copied once, into the batch; nothing is allocated for a record.

use crate::ids::Timestamp;

/// What is sent; the bytes are copied before `send` returns.
///
/// ```
/// use core_log::Record;
///
/// let record = Record { headers: &[("trace", Some(b"7"))], ..Record::keyed(b"user", b"page") };
/// assert_eq!((record.partition, record.timestamp), (None, None));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// The key; records with one go to the partition of its murmur2 hash, those without stay together
    /// in one partition for each batch.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Names, in order and with repetitions, each with a value or none.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// Milliseconds since 1970; none is the time at which it is sent, by the log's clock.
    pub timestamp: Option<Timestamp>,
    /// The partition, where key and batch are not to choose it.
    pub partition: Option<u32>,
}

impl<'a> Record<'a> {
    /// A record without a key.
    #[must_use]
    pub fn new(value: &'a [u8]) -> Self {
        Self { value: Some(value), ..Self::default() }
    }

    /// A record with a key.
    #[must_use]
    pub fn keyed(key: &'a [u8], value: &'a [u8]) -> Self {
        Self { key: Some(key), value: Some(value), ..Self::default() }
    }

    /// Bytes of its key, value and headers.
    pub(crate) fn payload_bytes(&self) -> usize {
        let of = |field: Option<&[u8]>| field.map_or(0, <[u8]>::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + of(*value));
        of(self.key) + of(self.value) + headers.sum::<usize>()
    }

    /// More bytes than it can take in a batch: numbers and lengths at their longest.
    pub(crate) fn bytes_bound(&self) -> usize {
        const FIXED: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
        const PER_HEADER: usize = 5 + 5;
        self.payload_bytes() + FIXED + PER_HEADER * self.headers.len()
    }
}
