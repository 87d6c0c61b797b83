//! The record batch: unit of write, of checksum and of duplicate detection.
//!
//! Why: producers fill one, the log stamps and writes it as a whole, and readers get it as it is.
//!
//! ```text
//!   header, 61 bytes (header.rs) | record | record | ... (record.rs)
//! ```
//!
//! Invariants
//! * Decoding records never reads behind the batch, and yields exactly as many as the header says,
//!   or an error.
//! * The log stamps a builder in place: the records are encoded once and checksummed once.
//!
//! Reference: Kafka `DefaultRecordBatch`.

use bytes::Bytes;

use super::header::{Attributes, BatchHeader, CHECKSUM_END, HEADER_LEN, LENGTH_END};
use super::record::{self, RawRecord, RecordRef};
use super::{Compression, DecodeError};
use crate::ids::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// A whole batch, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The batch at the front of `bytes`, which may go on behind it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]: the header is malformed, or the batch is not there as a whole.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let header = BatchHeader::parse(bytes)?;
        let needed = header.total_len();
        let truncated = DecodeError::Truncated { needed, available: bytes.len() };
        let bytes = bytes.get(..needed).ok_or(truncated)?;
        Ok(Self { header, bytes })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All bytes of the batch.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Checks that the bytes are the ones that were written.
    ///
    /// # Errors
    ///
    /// [`DecodeError::ChecksumMismatch`].
    pub fn verify_crc(&self) -> Result<(), DecodeError> {
        let (expected, actual) = (self.header.crc, crc32c::crc32c(&self.bytes[CHECKSUM_END..]));
        if expected == actual {
            Ok(())
        } else {
            Err(DecodeError::ChecksumMismatch { expected, actual })
        }
    }

    /// The records. A compressed batch yields one error, which names the codec.
    #[must_use]
    pub fn records(&self) -> Records<'a> {
        Records::new(&self.header, &self.bytes[HEADER_LEN..])
    }
}

/// A whole batch that shares its bytes.
#[derive(Clone, Debug)]
pub struct RecordBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl RecordBatch {
    /// Takes the first batch off `bytes`, which hold whole batches; `None` when they are empty.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]: the header is malformed, or the batch is not there as a whole.
    pub fn split_from(bytes: &mut Bytes) -> Result<Option<Self>, DecodeError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let header = *BatchView::parse(bytes)?.header();
        Ok(Some(Self { header, bytes: bytes.split_to(header.total_len()) }))
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All bytes of the batch; slices of its records point into them.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same batch, borrowed.
    #[must_use]
    pub fn view(&self) -> BatchView<'_> {
        BatchView { header: self.header, bytes: &self.bytes }
    }

    /// Checks that the bytes are the ones that were written.
    ///
    /// # Errors
    ///
    /// [`DecodeError::ChecksumMismatch`].
    pub fn verify_crc(&self) -> Result<(), DecodeError> {
        self.view().verify_crc()
    }

    /// The records. A compressed batch yields one error, which names the codec.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        self.view().records()
    }
}

/// Iterates over the records of a batch; ends after the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    input: &'a [u8],
    base_offset: Offset,
    base_timestamp: Timestamp,
    stamped: Option<Timestamp>,
    last_offset_delta: i32,
    next: i32,
    count: i32,
    refused: Option<DecodeError>,
}

impl<'a> Records<'a> {
    fn new(header: &BatchHeader, input: &'a [u8]) -> Self {
        let stamped = header.attributes.contains(Attributes::LOG_APPEND_TIME);
        let codec = header.attributes.compression();
        let refused = codec.and_then(Compression::require_supported).err();
        Self {
            input,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            stamped: stamped.then_some(header.max_timestamp),
            last_offset_delta: header.last_offset_delta,
            next: 0,
            count: if refused.is_some() { 0 } else { header.record_count },
            refused,
        }
    }

    #[inline]
    fn read(&mut self) -> Result<RecordRef<'a>, DecodeError> {
        let index = self.next;
        let raw = RawRecord::read(&mut self.input, index)?;
        if raw.offset_delta < 0 || raw.offset_delta > self.last_offset_delta {
            let reason = "its offset lies outside of the batch";
            return Err(DecodeError::InvalidRecord { index, reason });
        }
        if index + 1 == self.count && !self.input.is_empty() {
            let reason = "bytes follow the last record";
            return Err(DecodeError::InvalidRecord { index, reason });
        }
        let timestamp = match self.stamped {
            Some(stamp) => stamp,
            None => self.base_timestamp.wrapping_add(raw.timestamp_delta),
        };
        Ok(RecordRef {
            offset: self.base_offset + Offset::from(raw.offset_delta),
            timestamp,
            key: raw.key,
            value: raw.value,
            headers: raw.headers,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordRef<'a>, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.count {
            return self.refused.take().map(Err);
        }
        let record = self.read();
        self.next = if record.is_ok() { self.next + 1 } else { self.count };
        Some(record)
    }
}

/// What the log adds to a batch that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The log's current leader epoch.
    pub leader_epoch: i32,
    /// Flags; batches are not compressed.
    pub attributes: Attributes,
    /// Who writes it.
    pub producer_id: ProducerId,
    /// In which life.
    pub producer_epoch: ProducerEpoch,
    /// The producer's number of the first record, -1 without a producer id and for markers.
    pub base_sequence: i32,
}

/// A record would make the batch larger than any batch may be; nothing was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a batch of {bytes} bytes is larger than the {max_bytes} bytes that a batch may have")]
pub struct BatchOverflow {
    /// The size that the batch would have.
    pub bytes: usize,
    /// The largest size of a batch.
    pub max_bytes: usize,
}

/// The largest size of a batch in bytes: its length field is a positive i32.
const BATCH_BYTES_MAX: usize = (i32::MAX as usize) + LENGTH_END;

/// Encodes records into a batch; the buffer is used again after [`clear`](Self::clear).
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    /// Room for the header, then the records.
    buffer: Vec<u8>,
    count: i32,
    base_timestamp: Timestamp,
    min_timestamp: Timestamp,
    max_timestamp: Timestamp,
    max_timestamp_delta: i32,
    first_without_key: Option<i32>,
    append_time: Option<Timestamp>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// A batch without records.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buffer: vec![0; HEADER_LEN],
            count: 0,
            base_timestamp: -1,
            min_timestamp: Timestamp::MAX,
            max_timestamp: Timestamp::MIN,
            max_timestamp_delta: 0,
            first_without_key: None,
            append_time: None,
        }
    }

    /// Forgets all records and keeps the buffer.
    pub fn clear(&mut self) {
        self.buffer.truncate(HEADER_LEN);
        self.count = 0;
        self.base_timestamp = -1;
        self.min_timestamp = Timestamp::MAX;
        self.max_timestamp = Timestamp::MIN;
        self.max_timestamp_delta = 0;
        self.first_without_key = None;
    }

    /// Adds a record.
    ///
    /// # Errors
    ///
    /// [`BatchOverflow`]: no batch may be that large; the record was not added. Recourse: a new
    /// batch, or a smaller record.
    pub fn push<N: AsRef<str>, V: AsRef<[u8]>>(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(N, Option<V>)],
    ) -> Result<(), BatchOverflow> {
        let base_timestamp = if self.count == 0 { timestamp } else { self.base_timestamp };
        let deltas = (timestamp.wrapping_sub(base_timestamp), self.count);
        let body_len = record::body_len(deltas.0, deltas.1, key, value, headers);
        let bytes = self.buffer.len().saturating_add(body_len).saturating_add(5);
        let overflow = BatchOverflow { bytes, max_bytes: BATCH_BYTES_MAX };
        if bytes > BATCH_BYTES_MAX || self.count == i32::MAX {
            return Err(overflow);
        }
        let body_len = i32::try_from(body_len).map_err(|_too_large| overflow)?;
        record::write(&mut self.buffer, body_len, deltas, key, value, headers);
        self.base_timestamp = base_timestamp;
        if self.count == 0 || timestamp > self.max_timestamp {
            self.max_timestamp = timestamp;
            self.max_timestamp_delta = self.count;
        }
        self.min_timestamp = self.min_timestamp.min(timestamp);
        if key.is_none() {
            self.first_without_key.get_or_insert(self.count);
        }
        self.count += 1;
        Ok(())
    }

    /// How many records there are.
    #[must_use]
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The size of the batch in bytes, with its header.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The smallest timestamp, `None` without records.
    #[must_use]
    pub fn min_timestamp(&self) -> Option<Timestamp> {
        (self.count > 0).then_some(self.min_timestamp)
    }

    /// The largest timestamp, `None` without records.
    #[must_use]
    pub fn max_timestamp(&self) -> Option<Timestamp> {
        (self.count > 0).then_some(self.max_timestamp)
    }

    /// Which record, counted from 0, is the first without a key; `None` when all have one.
    #[must_use]
    pub fn first_without_key(&self) -> Option<i32> {
        self.first_without_key
    }

    /// From now on the batch says that all its records were appended at this time; `None`: that they
    /// carry their own.
    pub fn stamp_append_time(&mut self, time: Option<Timestamp>) {
        self.append_time = time;
    }

    /// Which record, counted from 0, is the first with the largest timestamp.
    #[must_use]
    pub fn max_timestamp_offset_delta(&self) -> i32 {
        self.max_timestamp_delta
    }

    /// The header that [`stamp`](Self::stamp) will write, its checksum left 0: what is decided
    /// before a batch is taken needs no checksum.
    ///
    /// # Panics
    ///
    /// When there are no records: such a batch has no offset.
    #[must_use]
    pub fn header(&self, stamp: &Stamp) -> BatchHeader {
        assert!(self.count > 0, "an empty batch is never stamped");
        let length = self.buffer.len() - LENGTH_END;
        BatchHeader {
            base_offset: stamp.base_offset,
            length: i32::try_from(length).expect("push keeps the batch within i32"),
            leader_epoch: stamp.leader_epoch,
            crc: 0,
            attributes: match self.append_time {
                Some(_) => stamp.attributes.with(Attributes::LOG_APPEND_TIME),
                None => stamp.attributes,
            },
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.append_time.unwrap_or(self.max_timestamp),
            producer_id: stamp.producer_id,
            producer_epoch: stamp.producer_epoch,
            base_sequence: stamp.base_sequence,
            record_count: self.count,
        }
    }

    /// Writes the header in place, with the checksum, which is computed here and only here.
    /// A builder may be stamped again, for instance when the same batch is sent once more.
    ///
    /// # Panics
    ///
    /// When there are no records: such a batch has no offset.
    pub fn stamp(&mut self, stamp: &Stamp) -> BatchHeader {
        let mut header = self.header(stamp);
        let space = self.buffer.first_chunk_mut().expect("a builder begins with room for it");
        header.write(space);
        header.crc = crc32c::crc32c(&self.buffer[CHECKSUM_END..]);
        self.buffer[17..CHECKSUM_END].copy_from_slice(&header.crc.to_be_bytes());
        header
    }

    /// The batch, valid once it was [stamped](Self::stamp).
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }
}

#[cfg(test)]
#[path = "batch/tests.rs"]
mod tests;
