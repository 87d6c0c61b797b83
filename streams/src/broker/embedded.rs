//! The broker traits on `core-log`: one process, one directory.
//!
//! Why so thin: what the traits ask for is what the log does; only names and types are translated.
//!
//! Invariants
//! * a batch is encoded once, in the format that the log writes.
//! * own repartition records are read to the log end, without aborted ones.
//!
//! On crash: everything here is memory.

#[cfg(feature = "test-util")]
mod plain;
mod transaction;

use std::any::Any;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use core_log::{
    BatchBuilder, Clock, FetchBound, GroupId, Log, LogOptions, NO_HEADERS, OffsetCommit,
    PartitionReader, ReadBatch, SystemClock, Topic, TopicId, TopicSettings,
};
use hashbrown::HashMap;
use parking_lot::RwLock;

use self::transaction::EmbeddedProducer;
use super::{Batch, Bounds, Broker, Position, Producer, Reader, Scope, TopicKind, TopicRef};
use crate::error::{Error, Result};
use crate::record::{Header, Headers, RawRecord, Records};

pub use core_log::Durability;

/// How long a job waits for a directory: who looks at a log that nobody runs owns it for a moment.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
/// A transaction lasts as long as the commit interval says, and as the commit of the one before it takes;
/// beyond the interval and this, which covers two commits, it hangs. The log aborts it then, and the job could not tell that from another instance that took over.
const TRANSACTION_PATIENCE: Duration = Duration::from_secs(60);
/// How much is fetched at a time from one partition.
const FETCH_BYTES: usize = 256 * 1024;
/// Size of the segments of repartition topics: what is behind the commit is given up a segment at a
/// time.
const REPARTITION_SEGMENT_BYTES: u32 = 32 * 1024 * 1024;
/// A value in bincode may be larger than it was in its topic, as JSON: whatever the codec can write, with
/// its key and headers, goes into one batch of a job's own topics.
const INTERNAL_BATCH_BYTES_MAX: u32 = 20 * 1024 * 1024;

/// No record of a batch is smaller.
const RECORD_BYTES_MIN: usize = 7;

/// The partition of a key, as Kafka's default partitioner chooses it.
pub(crate) fn partition_for(key: &[u8], partitions: u32) -> u32 {
    core_log::partition_for(key, partitions)
}

/// Opens the log of a directory for a job; `None` where there is none. Makes none: a job reads topics
/// that are there already.
pub(crate) fn open_log(
    dir: &Path,
    durability: Durability,
    event_time_ahead_max_ms: i64,
    commits_bytes_max: u64,
    commit_every: Duration,
) -> Result<Option<EmbeddedBroker>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = LogOptions::new().clock(Arc::clone(&clock)).lock_timeout(LOCK_PATIENCE);
    let timeout = commit_every.saturating_add(TRANSACTION_PATIENCE);
    let options = options.commits_bytes_max(commits_bytes_max).transaction_timeout(timeout);
    match options.create(false).open(dir) {
        Ok(log) => Ok(Some(EmbeddedBroker::new(log, clock, durability, event_time_ahead_max_ms))),
        Err(core_log::Error::DirectoryMissing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens the log of a job that does not run: a missing one is an error, and is not made.
pub(crate) fn own_log(
    dir: &Path,
    event_time_ahead_max_ms: i64,
    patience: Duration,
) -> Result<EmbeddedBroker> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = LogOptions::new().clock(Arc::clone(&clock)).lock_timeout(patience);
    let log = options.create(false).open(dir)?;
    Ok(EmbeddedBroker::new(log, clock, Durability::Sync, event_time_ahead_max_ms))
}

/// An embedded log as a job sees it.
pub struct EmbeddedBroker {
    log: Log,
    clock: Arc<dyn Clock>,
    durability: Durability,
    event_time_ahead_max_ms: i64,
    topics: RwLock<HashMap<[u8; 16], Topic>>,
    #[cfg(feature = "test-util")]
    is_plain: bool,
    /// A deliberate mistake: nothing is kept for anybody, and nobody hears of it.
    #[cfg(test)]
    forgets_holders: bool,
}

impl EmbeddedBroker {
    /// A broker on an open log. Output topics that it creates take records whose timestamps lie up to
    /// this many milliseconds ahead of the clock.
    #[must_use]
    pub fn new(
        log: Log,
        clock: Arc<dyn Clock>,
        durability: Durability,
        event_time_ahead_max_ms: i64,
    ) -> Self {
        Self {
            log,
            clock,
            durability,
            event_time_ahead_max_ms,
            topics: RwLock::new(HashMap::new()),
            #[cfg(feature = "test-util")]
            is_plain: false,
            #[cfg(test)]
            forgets_holders: false,
        }
    }

    /// The same without transactions: at-least-once, to be measured against.
    #[cfg(feature = "test-util")]
    pub(crate) fn plain(self) -> Self {
        Self { is_plain: true, ..self }
    }

    #[cfg(test)]
    pub(super) fn forgetting_holders(self) -> Self {
        Self { forgets_holders: true, ..self }
    }

    fn topic(&self, topic: &TopicRef) -> Result<Topic> {
        if let Some(known) = self.topics.read().get(&topic.id) {
            return Ok(known.clone());
        }
        let found = self.log.topic(&topic.name)?;
        self.topics.write().insert(topic.id, found.clone());
        Ok(found)
    }

    /// Offset and timestamp of the first record of a partition that is not older than a time.
    pub(crate) fn first_not_older(
        &self,
        topic: &TopicRef,
        partition: u32,
        time: i64,
    ) -> Result<Option<(i64, i64)>> {
        Ok(self.log.offset_for_time(TopicId(topic.id), partition, time)?)
    }

    /// Has `handler` answer what other processes ask the one that owns this log.
    pub fn answer_with(&self, handler: impl Fn(&str) -> String + Send + Sync + 'static) {
        self.log.answer_with(handler);
    }

    /// What the recovery at the last open did, one line for each thing worth telling.
    #[must_use]
    pub fn recovery(&self) -> Vec<String> {
        self.log.recovery().to_string().lines().map(str::to_owned).collect()
    }
}

pub(super) fn topic_ref(topic: &Topic) -> TopicRef {
    let settings = topic.settings();
    let batch_bytes_max = settings.max_batch_bytes.min(settings.segment_bytes);
    TopicRef {
        name: Arc::from(topic.name().as_str()),
        id: topic.id().0,
        partitions: topic.partitions(),
        batch_bytes_max: usize::try_from(batch_bytes_max).unwrap_or(usize::MAX),
    }
}

pub(super) fn position(commit: OffsetCommit) -> Position {
    let OffsetCommit { topic, partition, offset, metadata, .. } = commit;
    Position { topic: topic.0, partition, offset, metadata: metadata.to_vec() }
}

impl Broker for EmbeddedBroker {
    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn describe(&self) -> String {
        self.log.dir().display().to_string()
    }

    fn log_id(&self) -> [u8; 16] {
        self.log.id().0
    }

    fn topics(&self) -> Result<Vec<TopicRef>> {
        Ok(self.log.topics()?.iter().map(topic_ref).collect())
    }

    fn create_topic(&self, name: &str, partitions: u32, kind: TopicKind) -> Result<TopicRef> {
        let defaults = TopicSettings { partitions, ..TopicSettings::default() };
        let kept = TopicSettings {
            retention_ms: None,
            segment_ms: i64::MAX,
            timestamp_after_max_ms: i64::MAX,
            max_batch_bytes: INTERNAL_BATCH_BYTES_MAX,
            ..defaults.clone()
        };
        let settings = match kind {
            TopicKind::Output => {
                TopicSettings { timestamp_after_max_ms: self.event_time_ahead_max_ms, ..defaults }
            }
            // By the time of its record a letter may be years old on the day that it is written.
            TopicKind::DeadLetters => kept,
            TopicKind::Repartition => {
                TopicSettings { segment_bytes: REPARTITION_SEGMENT_BYTES, ..kept }
            }
            TopicKind::Changelog => kept,
        };
        Ok(topic_ref(&self.log.create_topic(name, settings)?))
    }

    fn create_topic_kept_as(&self, name: &str, others: &[TopicRef]) -> Result<TopicRef> {
        let mut retention_ms = Some(0);
        for other in others {
            let kept_ms = self.topic(other)?.settings().retention_ms;
            retention_ms = retention_ms.zip(kept_ms).map(|(most, kept): (i64, i64)| most.max(kept));
        }
        let settings = TopicSettings {
            retention_ms,
            timestamp_after_max_ms: i64::MAX,
            ..TopicSettings::default()
        };
        Ok(topic_ref(&self.log.create_topic(name, settings)?))
    }

    fn committed(&self, group: &str) -> Result<Vec<Position>> {
        let group = GroupId::new(group).map_err(core_log::Error::from)?;
        Ok(self.log.committed(&group)?.into_iter().map(position).collect())
    }

    fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>> {
        #[cfg(feature = "test-util")]
        if self.is_plain {
            let plain = plain::PlainProducer::open(&self.log, transactional_id, self.durability)?;
            return Ok(Box::new(plain));
        }
        let producer = self.log.transactional_producer(transactional_id, self.durability)?;
        Ok(Box::new(EmbeddedProducer { producer, log: self.log.clone() }))
    }

    fn batch(&self) -> Box<dyn Batch> {
        Box::new(EmbeddedBatch(BatchBuilder::new()))
    }

    fn reader(
        &self,
        topic: &TopicRef,
        partition: u32,
        offset: i64,
        scope: Scope,
    ) -> Result<Box<dyn Reader>> {
        let bound = match scope {
            Scope::Committed => FetchBound::LastStable,
            Scope::Own => FetchBound::LogEnd,
        };
        let reader =
            PartitionReader::new(self.log.clone(), &self.topic(topic)?, partition, offset, bound);
        Ok(Box::new(EmbeddedReader { reader, topic: Arc::clone(&topic.name), partition }))
    }

    fn bounds(&self, topic: &TopicRef, partition: u32) -> Result<Bounds> {
        let offsets = self.log.offsets(TopicId(topic.id), partition)?;
        Ok(Bounds {
            start: offsets.log_start_offset,
            committed_end: offsets.last_stable_offset,
            end: offsets.log_end_offset,
        })
    }

    fn leader_epoch_at(
        &self,
        topic: &TopicRef,
        partition: u32,
        offset: i64,
    ) -> Result<Option<i32>> {
        Ok(self.log.leader_epoch_at(TopicId(topic.id), partition, offset)?)
    }

    fn purge(&self, topic: &TopicRef, partition: u32, offset: i64) -> Result<()> {
        self.log.purge(TopicId(topic.id), partition, offset)?;
        Ok(())
    }

    fn hold(&self, topic: &TopicRef, partition: u32, holder: &str, offset: i64) -> Result<()> {
        #[cfg(test)]
        if self.forgets_holders {
            return Ok(());
        }
        let holder = GroupId::new(holder).map_err(core_log::Error::from)?;
        Ok(self.log.hold(TopicId(topic.id), partition, &holder, offset)?)
    }

    fn release(&self, topic: &TopicRef, holder: &str) -> Result<()> {
        let holder = GroupId::new(holder).map_err(core_log::Error::from)?;
        for partition in 0..topic.partitions {
            self.log.release(TopicId(topic.id), partition, &holder)?;
        }
        Ok(())
    }

    fn compacted_below(&self, topic: &TopicRef, partition: u32) -> Result<i64> {
        #[cfg(test)]
        if self.forgets_holders {
            return Ok(0);
        }
        Ok(self.log.compacted_below(TopicId(topic.id), partition)?)
    }

    fn close(&self) -> Result<()> {
        Ok(self.log.close()?)
    }

    fn watch(&self, seen: u64, timeout: Duration) -> u64 {
        self.log.wait_for_change(seen, timeout)
    }
}

struct EmbeddedBatch(BatchBuilder);

impl Batch for EmbeddedBatch {
    fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> Result<()> {
        let pushed = if headers.is_empty() {
            self.0.push(timestamp, key, value, NO_HEADERS)
        } else {
            let list: Vec<(&str, Option<&[u8]>)> =
                headers.iter().map(|h| (h.key.as_str(), h.value.as_deref())).collect();
            self.0.push(timestamp, key, value, &list)
        };
        Ok(pushed.map_err(core_log::Error::from)?)
    }

    fn len_bytes(&self) -> usize {
        self.0.len_bytes()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// An owned header.
pub(super) fn header((key, value): (&str, Option<&[u8]>)) -> Header {
    Header { key: key.to_owned(), value: value.map(Bytes::copy_from_slice) }
}

/// The records of a batch that were asked for and lie in front of `end`.
pub(super) fn records_of(batch: &ReadBatch, end: i64) -> Result<Records> {
    let bytes = batch.record_bytes().map_err(core_log::Error::from)?;
    let count = usize::try_from(batch.header().record_count).unwrap_or(0);
    // The header may claim any count; the bytes bound what is set aside for it.
    let count = count.min(bytes.len() / RECORD_BYTES_MIN);
    let mut records = Records::over(bytes.clone(), count);
    for record in batch.records() {
        let record = record.map_err(core_log::Error::from)?;
        if record.offset >= end {
            break;
        }
        let headers = if record.headers.is_empty() {
            Headers::none()
        } else {
            record.headers.iter().map(header).collect()
        };
        let raw = RawRecord {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key,
            value: record.value,
            headers: None,
        };
        records.push(raw, headers);
    }
    Ok(records)
}

struct EmbeddedReader {
    reader: PartitionReader<Log>,
    topic: Arc<str>,
    partition: u32,
}

impl Reader for EmbeddedReader {
    fn poll(&mut self) -> Result<Option<Records>> {
        let batch = match self.reader.next_batch(FETCH_BYTES) {
            Ok(batch) => batch,
            Err(core_log::Error::OffsetOutOfRange { requested, start, end, .. }) => {
                return Err(Error::PositionLost {
                    topic: self.topic.to_string(),
                    partition: self.partition,
                    position: requested,
                    start,
                    end,
                });
            }
            Err(error) => return Err(error.into()),
        };
        let Some(batch) = batch else { return Ok(None) };
        Ok(Some(records_of(&batch, i64::MAX)?))
    }

    fn position(&self) -> i64 {
        self.reader.position()
    }
}
