//! Reading one partition from a position on: committed records, whole batches, no copies.
//!
//! Why a trait below it: the owner of a log and whoever looks at it through the owner's socket read
//! in the same way.
//!
//! Invariants
//! * A batch that is handed out or skipped has its checksum verified; one that is handed out is no
//!   marker, and is not aborted.
//! * The position only moves over what was handed out or skipped for good: after an error the same
//!   call gives the same error.

use std::time::Duration;

use bytes::Bytes;

use crate::commit::OffsetCommit;
use crate::error::Result;
use crate::format::{BatchHeader, DecodeError, RecordBatch, RecordRef};
use crate::ids::{GroupId, Offset, Timestamp, TopicId};
use crate::log::Log;
use crate::partition::open_transactions::AbortedList;
use crate::partition::{FetchBound, Fetched, PartitionOffsets};
use crate::topic::Topic;

/// How much is fetched at a time to look for a timestamp: it is near to where the index points.
const SEEK_BYTES: usize = 64 << 10;

/// Something that records can be fetched from.
pub trait FetchSource {
    /// All topics, by name.
    ///
    /// # Errors
    ///
    /// What keeps the source from answering.
    fn topics(&self) -> Result<Vec<Topic>>;

    /// See [`Log::fetch`].
    ///
    /// # Errors
    ///
    /// As there.
    fn fetch(
        &self,
        topic: TopicId,
        partition: u32,
        offset: Offset,
        max_bytes: usize,
        bound: FetchBound,
    ) -> Result<Fetched>;

    /// See [`Log::offsets`].
    ///
    /// # Errors
    ///
    /// As there.
    fn offsets(&self, topic: TopicId, partition: u32) -> Result<PartitionOffsets>;

    /// See [`Log::offset_for_time`].
    ///
    /// # Errors
    ///
    /// As there.
    fn offset_for_time(
        &self,
        topic: TopicId,
        partition: u32,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>>;

    /// See [`Log::committed`].
    ///
    /// # Errors
    ///
    /// As there.
    fn committed(&self, group: &GroupId) -> Result<Vec<OffsetCommit>>;

    /// A counter that moves whenever something becomes readable.
    ///
    /// # Errors
    ///
    /// What keeps the source from answering.
    fn changes(&self) -> Result<u64>;

    /// Waits until the counter differs from `seen`, at most `timeout`; it may return early.
    ///
    /// # Errors
    ///
    /// What keeps the source from answering.
    fn wait(&self, seen: u64, timeout: Duration) -> Result<u64>;
}

impl FetchSource for Log {
    fn topics(&self) -> Result<Vec<Topic>> {
        Log::topics(self)
    }

    fn fetch(
        &self,
        topic: TopicId,
        partition: u32,
        offset: Offset,
        max_bytes: usize,
        bound: FetchBound,
    ) -> Result<Fetched> {
        Log::fetch(self, topic, partition, offset, max_bytes, bound)
    }

    fn offsets(&self, topic: TopicId, partition: u32) -> Result<PartitionOffsets> {
        Log::offsets(self, topic, partition)
    }

    fn offset_for_time(
        &self,
        topic: TopicId,
        partition: u32,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>> {
        Log::offset_for_time(self, topic, partition, timestamp)
    }

    fn committed(&self, group: &GroupId) -> Result<Vec<OffsetCommit>> {
        Log::committed(self, group)
    }

    fn changes(&self) -> Result<u64> {
        Ok(Log::changes(self))
    }

    fn wait(&self, seen: u64, timeout: Duration) -> Result<u64> {
        Ok(self.wait_for_change(seen, timeout))
    }
}

impl<S: FetchSource + ?Sized> FetchSource for &S {
    fn topics(&self) -> Result<Vec<Topic>> {
        (**self).topics()
    }

    fn fetch(
        &self,
        topic: TopicId,
        partition: u32,
        offset: Offset,
        max_bytes: usize,
        bound: FetchBound,
    ) -> Result<Fetched> {
        (**self).fetch(topic, partition, offset, max_bytes, bound)
    }

    fn offsets(&self, topic: TopicId, partition: u32) -> Result<PartitionOffsets> {
        (**self).offsets(topic, partition)
    }

    fn offset_for_time(
        &self,
        topic: TopicId,
        partition: u32,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>> {
        (**self).offset_for_time(topic, partition, timestamp)
    }

    fn committed(&self, group: &GroupId) -> Result<Vec<OffsetCommit>> {
        (**self).committed(group)
    }

    fn changes(&self) -> Result<u64> {
        (**self).changes()
    }

    fn wait(&self, seen: u64, timeout: Duration) -> Result<u64> {
        (**self).wait(seen, timeout)
    }
}

/// Reads one partition, batch after batch, from an offset or a time on.
///
/// ```
/// use core_log::{BatchBuilder, Durability, FetchBound, Log, NO_HEADERS, PartitionReader};
/// use core_log::TopicSettings;
///
/// let dir = tempfile::tempdir()?;
/// let log = Log::open(dir.path())?;
/// let clicks = log.create_topic("clicks", TopicSettings::default())?;
/// let mut producer = log.producer(Durability::Sync)?;
/// let mut batch = BatchBuilder::new();
/// for (time, page) in [(1_000, "/a"), (2_000, "/b"), (3_000, "/c")] {
///     batch.push(time, None, Some(page.as_bytes()), NO_HEADERS)?;
/// }
/// producer.append(&clicks, 0, &mut batch)?;
///
/// let values = |reader: &mut PartitionReader<Log>| -> core_log::Result<Vec<Vec<u8>>> {
///     let mut values = Vec::new();
///     while let Some(batch) = reader.next_batch(1 << 20)? {
///         for record in batch.records() {
///             values.push(record?.value.unwrap_or_default().to_vec());
///         }
///     }
///     Ok(values)
/// };
/// // From an offset on.
/// let mut reader = PartitionReader::new(log.clone(), &clicks, 0, 1, FetchBound::LastStable);
/// assert_eq!(values(&mut reader)?, [b"/b", b"/c"]);
/// // From a time on.
/// assert_eq!(reader.seek_to_time(2_500)?, Some((2, 3_000)));
/// assert_eq!(values(&mut reader)?, [b"/c"]);
/// assert_eq!(reader.seek_to_time(3_001)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PartitionReader<S> {
    source: S,
    topic: TopicId,
    partition: u32,
    bound: FetchBound,
    position: Offset,
    fetched: Bytes,
    aborted: AbortedList,
}

impl<S: FetchSource> PartitionReader<S> {
    /// Reads `topic`-`partition` from `offset` on.
    pub fn new(
        source: S,
        topic: &Topic,
        partition: u32,
        offset: Offset,
        bound: FetchBound,
    ) -> Self {
        Self {
            source,
            topic: topic.id(),
            partition,
            bound,
            position: offset,
            fetched: Bytes::new(),
            aborted: AbortedList::default(),
        }
    }

    /// The offset of the next record that [`next_batch`](Self::next_batch) may hand out; what lies
    /// before it was handed out or skipped.
    #[must_use]
    pub fn position(&self) -> Offset {
        self.position
    }

    /// Goes on from `offset`.
    pub fn seek(&mut self, offset: Offset) {
        self.position = offset;
        self.fetched = Bytes::new();
    }

    /// What it reads from.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Goes on from the first record that it may hand out and whose timestamp is at or behind
    /// `timestamp`; answers that record's offset and timestamp. Without one it goes on from the bound,
    /// as that is now, so that only what is written later is read.
    ///
    /// What [`FetchSource::offset_for_time`] finds may be a marker or a record that was aborted; this
    /// looks on from there.
    ///
    /// # Errors
    ///
    /// As [`next_batch`](Self::next_batch) and [`FetchSource::offset_for_time`].
    pub fn seek_to_time(&mut self, timestamp: Timestamp) -> Result<Option<(Offset, Timestamp)>> {
        let end = self.source.offsets(self.topic, self.partition)?.end(self.bound);
        let found = self.source.offset_for_time(self.topic, self.partition, timestamp)?;
        let Some((candidate, _)) = found.filter(|(offset, _)| *offset < end) else {
            self.seek(end);
            return Ok(None);
        };
        self.seek(candidate);
        while let Some(batch) = self.next_batch(SEEK_BYTES)? {
            if batch.header().max_timestamp < timestamp {
                continue;
            }
            for record in batch.records() {
                let record = record?;
                if record.timestamp >= timestamp {
                    let found = (record.offset, record.timestamp);
                    self.seek(record.offset);
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The next batch with records; `None` at the bound. A fetch asks for about `max_bytes`.
    ///
    /// # Errors
    ///
    /// * [`Error::OffsetOutOfRange`](crate::Error::OffsetOutOfRange): the records are gone; seek.
    /// * [`Error::Damaged`](crate::Error::Damaged), [`Error::Decode`](crate::Error::Decode).
    pub fn next_batch(&mut self, max_bytes: usize) -> Result<Option<ReadBatch>> {
        loop {
            if self.fetched.is_empty() {
                let (topic, partition) = (self.topic, self.partition);
                let fetched =
                    self.source.fetch(topic, partition, self.position, max_bytes, self.bound)?;
                if fetched.batches.is_empty() {
                    return Ok(None);
                }
                self.fetched = fetched.batches;
                self.aborted = AbortedList::new(fetched.aborted);
            }
            let taken = self.take_fetched();
            if let Some(found) = taken.inspect_err(|_bad| self.fetched.clear())? {
                return Ok(Some(found));
            }
        }
    }

    /// The next batch with records of what was fetched; an error when nothing in it leads on.
    fn take_fetched(&mut self) -> Result<Option<ReadBatch>, DecodeError> {
        let before = self.position;
        while let Some(batch) = RecordBatch::split_from(&mut self.fetched)? {
            // Must be BEFORE anything that the header says is believed, or else rot could make records
            // look like a marker, or like aborted ones.
            batch.verify_crc()?;
            let header = batch.header();
            let next = header.next_offset();
            if next <= self.position {
                continue;
            }
            let first_wanted_offset = self.position;
            self.position = next;
            if !header.is_control() && !self.aborted.contains(header) {
                return Ok(Some(ReadBatch { batch, first_wanted_offset }));
            }
        }
        if self.position == before {
            return Err(DecodeError::InvalidField { field: "fetched up to offset", value: before });
        }
        Ok(None)
    }
}

/// A batch of records that its reader may see.
#[derive(Clone, Debug)]
pub struct ReadBatch {
    batch: RecordBatch,
    first_wanted_offset: Offset,
}

impl ReadBatch {
    /// The batch's header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        self.batch.header()
    }

    /// The whole batch, compressed if it is.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        self.batch.bytes()
    }

    /// The bytes that its records point into: those of the batch, or what they were decompressed to.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]: the records cannot be decompressed.
    pub fn record_bytes(&self) -> Result<&Bytes, DecodeError> {
        self.batch.record_bytes()
    }

    /// Records below this offset are in the batch but were not asked for.
    #[must_use]
    pub fn first_wanted_offset(&self) -> Offset {
        self.first_wanted_offset
    }

    /// The same batch without the records below `offset`.
    pub(crate) fn starting_at(mut self, offset: Offset) -> Self {
        self.first_wanted_offset = offset;
        self
    }

    /// The records that were asked for.
    pub fn records(&self) -> impl Iterator<Item = Result<RecordRef<'_>, DecodeError>> + '_ {
        let first = self.first_wanted_offset;
        let is_wanted = move |record: &Result<RecordRef<'_>, DecodeError>| match record {
            Ok(record) => record.offset >= first,
            Err(_) => true,
        };
        self.batch.records().filter(is_wanted)
    }
}
