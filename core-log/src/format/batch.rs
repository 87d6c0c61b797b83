//! The record batch: unit of write, of checksum and of duplicate detection.
//!
//! Why: the log writes it as a whole (`builder.rs` fills one), and readers get it as it is.
//!
//! ```text
//!   header, 61 bytes (header.rs) | record | record | ... (record.rs)
//! ```
//!
//! Invariants
//! * Decoding records never reads behind the batch, and yields exactly as many as the header says,
//!   or an error.
//! * Records of an uncompressed batch point into its bytes. Those of a compressed one point into a
//!   buffer that the batch keeps from the first look at them on.
//!
//! Reference: Kafka `DefaultRecordBatch`.

use std::sync::OnceLock;

use bytes::Bytes;

use super::header::{Attributes, BatchHeader, CHECKSUM_END, HEADER_LEN};
use super::record::{RawRecord, RecordRef};
use super::{Compression, DECOMPRESSED_BYTES_MAX, DecodeError, compression};
use crate::ids::{Offset, Timestamp};

/// A whole batch, borrowed.
#[derive(Clone, Debug)]
pub struct BatchView<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
    plain: OnceLock<Result<Vec<u8>, DecodeError>>,
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
        Ok(Self { header, bytes, plain: OnceLock::new() })
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

    /// The records; those of a compressed batch are decompressed at the first call, into at most
    /// [`DECOMPRESSED_BYTES_MAX`] bytes. What cannot be read is one error, the last item.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        self.records_within(DECOMPRESSED_BYTES_MAX)
    }

    /// The same, with a limit of the caller's on what is decompressed. The first call decides.
    pub(crate) fn records_within(&self, max_bytes: usize) -> Records<'_> {
        let input = match self.header.attributes.compression() {
            Ok(Compression::None) => Ok(&self.bytes[HEADER_LEN..]),
            Ok(codec) => {
                let packed = &self.bytes[HEADER_LEN..];
                let plain = self.plain.get_or_init(|| unpack(codec, packed, max_bytes));
                plain.as_deref().map_err(Clone::clone)
            }
            Err(unassigned) => Err(unassigned),
        };
        Records::new(&self.header, input)
    }
}

/// An empty batch, of which compaction has kept the header alone, has nothing to decompress.
fn unpack(codec: Compression, packed: &[u8], max_bytes: usize) -> Result<Vec<u8>, DecodeError> {
    if packed.is_empty() {
        return Ok(Vec::new());
    }
    compression::decompress(codec, packed, max_bytes)
}

/// A whole batch that shares its bytes.
#[derive(Clone, Debug)]
pub struct RecordBatch {
    header: BatchHeader,
    bytes: Bytes,
    plain: OnceLock<Result<Bytes, DecodeError>>,
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
        let bytes = bytes.split_to(header.total_len());
        Ok(Some(Self { header, bytes, plain: OnceLock::new() }))
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All bytes of the batch, compressed if it is.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes that its records point into: the batch's own, or what they were decompressed to.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]: the records cannot be decompressed, or into more than
    /// [`DECOMPRESSED_BYTES_MAX`] bytes.
    pub fn record_bytes(&self) -> Result<&Bytes, DecodeError> {
        match self.header.attributes.compression()? {
            Compression::None => Ok(&self.bytes),
            codec => {
                let packed = &self.bytes[HEADER_LEN..];
                let unpacked = || unpack(codec, packed, DECOMPRESSED_BYTES_MAX).map(Bytes::from);
                self.plain.get_or_init(unpacked).as_ref().map_err(Clone::clone)
            }
        }
    }

    /// The same batch, borrowed.
    #[must_use]
    pub fn view(&self) -> BatchView<'_> {
        BatchView { header: self.header, bytes: &self.bytes, plain: OnceLock::new() }
    }

    /// Checks that the bytes are the ones that were written.
    ///
    /// # Errors
    ///
    /// [`DecodeError::ChecksumMismatch`].
    pub fn verify_crc(&self) -> Result<(), DecodeError> {
        self.view().verify_crc()
    }

    /// The records; those of a compressed batch are decompressed at the first call. What cannot be
    /// read is one error, the last item.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        let is_plain = self.header.attributes.compression() == Ok(Compression::None);
        let skipped = if is_plain { HEADER_LEN } else { 0 };
        Records::new(&self.header, self.record_bytes().map(|bytes| &bytes[skipped..]))
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
    fn new(header: &BatchHeader, input: Result<&'a [u8], DecodeError>) -> Self {
        let stamped = header.attributes.contains(Attributes::LOG_APPEND_TIME);
        let (input, refused) = match input {
            Ok(input) => (input, None),
            Err(error) => (&[][..], Some(error)),
        };
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

#[cfg(test)]
#[path = "batch/tests.rs"]
mod tests;
