//! Fills a batch: records are encoded as they come, compressed once, stamped by the log.
//!
//! Why in place: what a producer has encoded is what the log writes; nothing is copied in between
//! but what a codec copies.
//!
//! ```text
//!   push* -> pack (the codec of producer or topic) -> stamp (offset, epochs, checksum) -> bytes
//! ```
//!
//! Invariants
//! * The records are encoded once and checksummed once.
//! * The encoded records stay, so that the same batch can be sent again, or packed otherwise.
//!
//! Reference: Kafka `MemoryRecordsBuilder`.

use super::header::{Attributes, BatchHeader, CHECKSUM_END, HEADER_LEN, LENGTH_END};
use super::{Compression, DECOMPRESSED_BYTES_MAX, compression, record};
use crate::ids::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// What the log adds to a batch that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The log's current leader epoch.
    pub leader_epoch: i32,
    /// Flags; the codec is the one that the builder was [packed](BatchBuilder::pack) with.
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
    /// What the producer asks for.
    compression: Compression,
    /// Room for the header, then the records as they are compressed.
    packed: Vec<u8>,
    /// How `packed` was made; none: the batch is `buffer`.
    packed_with: Compression,
    count: i32,
    base_timestamp: Timestamp,
    min_timestamp: Timestamp,
    max_timestamp: Timestamp,
    first_without_key: Option<i32>,
    append_time: Option<Timestamp>,
    max_timestamp_delta: i32,
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
            compression: Compression::None,
            packed: Vec::new(),
            packed_with: Compression::None,
            count: 0,
            base_timestamp: -1,
            min_timestamp: Timestamp::MAX,
            max_timestamp: Timestamp::MIN,
            first_without_key: None,
            append_time: None,
            max_timestamp_delta: 0,
        }
    }

    /// A batch without records that its producer wants to be compressed; a topic may say otherwise
    /// (`compression.type`).
    ///
    /// ```
    /// use core_log::format::Compression;
    /// use core_log::{BatchBuilder, Durability, FetchBound, Log, NO_HEADERS, TopicSettings};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let log = Log::open(dir.path())?;
    /// let pages = log.create_topic("pages", TopicSettings::default())?;
    /// let mut batch = BatchBuilder::with_compression(Compression::Zstd);
    /// for _ in 0..1_000 {
    ///     batch.push(0, None, Some(b"the same text again"), NO_HEADERS)?;
    /// }
    /// log.producer(Durability::Sync)?.append(&pages, 0, &mut batch)?;
    /// let fetched = log.fetch(pages.id(), 0, 0, 1 << 20, FetchBound::LastStable)?;
    /// assert!(fetched.batches.len() < 1_000);
    /// assert!(batch.len_bytes() > 20_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_compression(compression: Compression) -> Self {
        Self { compression, ..Self::new() }
    }

    /// The codec that the producer asks for.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Forgets all records and keeps the buffer.
    pub fn clear(&mut self) {
        self.buffer.truncate(HEADER_LEN);
        self.packed_with = Compression::None;
        self.count = 0;
        self.base_timestamp = -1;
        self.min_timestamp = Timestamp::MAX;
        self.max_timestamp = Timestamp::MIN;
        self.first_without_key = None;
        self.max_timestamp_delta = 0;
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
        self.packed_with = Compression::None;
        self.base_timestamp = base_timestamp;
        if key.is_none() {
            self.first_without_key.get_or_insert(self.count);
        }
        if self.count == 0 || timestamp > self.max_timestamp {
            self.max_timestamp = timestamp;
            self.max_timestamp_delta = self.count;
        }
        self.min_timestamp = self.min_timestamp.min(timestamp);
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

    /// The size of the batch in bytes, with its header, before it is compressed.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The records as they stand in an uncompressed batch.
    pub(crate) fn plain_records(&self) -> &[u8] {
        &self.buffer[HEADER_LEN..]
    }

    /// Compresses the records, as the log does with each batch that it takes; packing again with the
    /// same codec costs nothing. A record that is added undoes it.
    ///
    /// # Errors
    ///
    /// [`BatchOverflow`]: the records take more than [`DECOMPRESSED_BYTES_MAX`] bytes, so nobody could
    /// read them again. Recourse: a smaller batch, or none that is compressed.
    pub fn pack(&mut self, codec: Compression) -> Result<(), BatchOverflow> {
        if codec == self.packed_with {
            return Ok(());
        }
        if codec != Compression::None {
            let bytes = self.buffer.len() - HEADER_LEN;
            if bytes > DECOMPRESSED_BYTES_MAX {
                return Err(BatchOverflow { bytes, max_bytes: DECOMPRESSED_BYTES_MAX });
            }
            self.packed.clear();
            self.packed.resize(HEADER_LEN, 0);
            compression::compress(codec, &self.buffer[HEADER_LEN..], &mut self.packed);
        }
        self.packed_with = codec;
        Ok(())
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
        let length = self.bytes().len() - LENGTH_END;
        BatchHeader {
            base_offset: stamp.base_offset,
            length: i32::try_from(length).expect("push keeps the batch within i32"),
            leader_epoch: stamp.leader_epoch,
            crc: 0,
            attributes: match self.append_time {
                Some(_) => stamp.attributes.with(Attributes::LOG_APPEND_TIME),
                None => stamp.attributes,
            }
            .with_compression(self.packed_with),
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
        let is_plain = self.packed_with == Compression::None;
        let bytes = if is_plain { &mut self.buffer } else { &mut self.packed };
        let space = bytes.first_chunk_mut().expect("a builder begins with room for it");
        header.write(space);
        header.crc = crc32c::crc32c(&bytes[CHECKSUM_END..]);
        bytes[17..CHECKSUM_END].copy_from_slice(&header.crc.to_be_bytes());
        header
    }

    /// The batch, compressed if it was [packed](Self::pack); valid once it was
    /// [stamped](Self::stamp).
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        if self.packed_with == Compression::None { &self.buffer } else { &self.packed }
    }
}

#[cfg(test)]
mod tests;
