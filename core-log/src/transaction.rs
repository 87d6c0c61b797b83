//! Transactions for anybody: single records to any topic and consumed positions, all or nothing.
//!
//! ```text
//!   log.transaction("id") -send.. append.. offset..-> commit(self) | abort(self) | dropped: abort
//!
//!   send --> a batch for each partition, in memory --(full, flush, commit)--> Transaction::append
//! ```
//!
//! Why above [`Transaction`]: that one takes whole batches and is shared by threads; this one belongs
//! to whoever has a record at a time.
//!
//! Invariants
//! * Whatever was accepted is in the log when the commit is, or the commit is an error: a batch that
//!   could not be appended stays, and is appended before anything else of its partition.
//! * A partition is joined at its first record, so the time-out counts from then on and others see it.
//! * What waits in memory is at most about [`BUFFER_BYTES`](buffer::BUFFER_BYTES).
//!
//! On crash: as with any transaction; what was in memory only was not committed.
//! Reference: KIP-98, KIP-447, KIP-890; Kafka `KafkaProducer`.

pub(crate) mod buffer;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::commit::{METADATA_BYTES_MAX, OffsetCommit};
use crate::config::Durability;
use crate::error::{Error, GroupError, Result};
use crate::format::BatchBuilder;
use crate::ids::{GroupId, Offset, ProducerEpoch, ProducerId, TopicPartition, TransactionalId};
use crate::log::Log;
use crate::partition::append::Appended;
use crate::producer::{CommitOutcome, CommitWith, Record, Transaction};
use crate::topic::Topic;
use buffer::Buffers;

/// The longest time for which a transaction may be allowed to be open (`transaction.max.timeout.ms`).
pub const TRANSACTION_TIMEOUT_MAX: Duration = Duration::from_secs(15 * 60);

/// How a transaction runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionSettings {
    /// What a commit promises; default [`Durability::Sync`]: it survives a power cut.
    pub durability: Durability,
    /// How long it may be open, counted from its first record by a clock that does not jump, before it
    /// is aborted; more than zero, at most 15 minutes. Default `None`: as long as the log says, which
    /// is 60 s if nobody chose otherwise (`transaction.timeout.ms`).
    pub timeout: Option<Duration>,
}

impl TransactionSettings {
    fn validate(&self) -> Result<()> {
        match self.timeout {
            Some(timeout) if timeout.is_zero() || timeout > TRANSACTION_TIMEOUT_MAX => {
                Err(Error::InvalidSetting {
                    setting: "the time-out of a transaction (transaction.timeout.ms)",
                    reason: "it must be more than zero and at most 15 minutes",
                })
            }
            _ => Ok(()),
        }
    }
}

impl Log {
    /// Begins a transaction under this id: see [`BufferedTransaction`]. Whoever holds the id is fenced
    /// and its open transaction aborted, in this process as well as after a crash of another; a commit
    /// that is on its way is waited for. Use few ids, again and again: the id says whose work this is,
    /// not which work.
    ///
    /// ```
    /// use core_log::{Log, Record, TopicSettings};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let log = Log::open(dir.path())?;
    /// let accounts = log.create_topic("accounts", TopicSettings::with_partitions(4))?;
    /// let mut transfer = log.transaction("transfers")?;
    /// transfer.send(&accounts, Record::keyed(b"alice", b"-10"))?;
    /// transfer.send(&accounts, Record::keyed(b"bob", b"+10"))?;
    /// transfer.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// * [`Error::InvalidName`]: 1 to 249 letters, digits, `.`, `_` and `-` make an id.
    /// * [`Error::ProducerFenced`]: another thread took the id in the same moment.
    /// * [`Error::Damaged`]: the commit records are. [`Error::DiskFull`].
    pub fn transaction(&self, transactional_id: &str) -> Result<BufferedTransaction> {
        self.transaction_with(transactional_id, TransactionSettings::default())
    }

    /// The same, with settings.
    ///
    /// ```
    /// use std::time::Duration;
    /// use core_log::{Durability, Error, Log, TransactionSettings};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let log = Log::open(dir.path())?;
    /// let settings = TransactionSettings {
    ///     durability: Durability::Os,
    ///     timeout: Some(Duration::from_secs(5)),
    /// };
    /// let import = log.transaction_with("import", settings)?;
    /// assert_eq!(import.transactional_id().as_str(), "import");
    /// let hours = TransactionSettings { timeout: Some(Duration::from_secs(7_200)), ..settings };
    /// let refused = log.transaction_with("import", hours);
    /// assert!(matches!(refused, Err(Error::InvalidSetting { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction); [`Error::InvalidSetting`]: the time-out.
    pub fn transaction_with(
        &self,
        transactional_id: &str,
        settings: TransactionSettings,
    ) -> Result<BufferedTransaction> {
        settings.validate()?;
        let id = TransactionalId::new(transactional_id)?;
        let TransactionSettings { durability, timeout } = settings;
        let running = Transaction::acquire(&self.inner, &id, durability, timeout)?;
        let (producer, epoch) = (running.producer_id(), running.producer_epoch());
        let start = producer.0.unsigned_abs().wrapping_add(u64::from(epoch.0.unsigned_abs()));
        Ok(BufferedTransaction { running, buffers: Buffers::new(start), offsets: BTreeMap::new() })
    }
}

/// A transaction that takes single records. Readers of committed records see all of it once
/// [`commit`](Self::commit) has returned, or nothing, for ever; so it is after a crash at any moment.
/// Dropping it aborts it.
///
/// ```
/// use core_log::{Error, FetchBound, Log, PartitionReader, Record, TopicSettings};
///
/// let dir = tempfile::tempdir()?;
/// let log = Log::open(dir.path())?;
/// let orders = log.create_topic("orders", TopicSettings::default())?;
/// let bills = log.create_topic("bills", TopicSettings::default())?;
///
/// let mut first = log.transaction("shop")?;
/// first.send(&orders, Record::keyed(b"1", b"tea"))?;
/// first.send(&bills, Record::keyed(b"1", b"3 euros"))?;
/// first.commit()?;
///
/// let mut lost = log.transaction("shop")?;
/// lost.send(&orders, Record::keyed(b"2", b"never"))?;
/// drop(lost);
///
/// let mut old = log.transaction("shop")?;
/// old.send(&orders, Record::keyed(b"3", b"never"))?;
/// // Somebody else takes the id: the older holder can commit nothing any more.
/// let new = log.transaction("shop")?;
/// assert!(matches!(old.commit(), Err(Error::ProducerFenced { .. })));
/// new.abort()?;
///
/// let mut reader = PartitionReader::new(log.clone(), &orders, 0, 0, FetchBound::LastStable);
/// let batch = reader.next_batch(1 << 20)?.expect("one was committed");
/// assert_eq!(batch.records().count(), 1);
/// assert!(reader.next_batch(1 << 20)?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BufferedTransaction {
    running: Transaction,
    buffers: Buffers,
    offsets: BTreeMap<(GroupId, TopicPartition), OffsetCommit>,
}

impl BufferedTransaction {
    /// Under which id it runs.
    #[must_use]
    pub fn transactional_id(&self) -> &TransactionalId {
        self.running.transactional_id()
    }

    /// The producer id that its batches carry.
    #[must_use]
    pub fn producer_id(&self) -> ProducerId {
        self.running.producer_id()
    }

    /// The epoch that its batches carry: the next transaction under the id has a larger one, or
    /// another producer id.
    #[must_use]
    pub fn producer_epoch(&self) -> ProducerEpoch {
        self.running.producer_epoch()
    }

    /// Sends a record; answers its partition, which is that of its key by murmur2, as with Kafka's
    /// clients, unless it says another one. Records without a key stay together until a batch is full.
    /// A record waits in memory until then, or until the transaction is flushed or committed.
    ///
    /// ```
    /// # use core_log::{FetchBound, Log, PartitionReader, Record, TopicSettings, partition_for};
    /// # let dir = tempfile::tempdir()?;
    /// # let log = Log::open(dir.path())?;
    /// let clicks = log.create_topic("clicks", TopicSettings::with_partitions(8))?;
    /// let mut transaction = log.transaction("web")?;
    /// let partition = transaction.send(&clicks, Record::keyed(b"user-7", b"/home"))?;
    /// assert_eq!(partition, partition_for(b"user-7", 8));
    /// let record = Record {
    ///     headers: &[("source", Some(b"web"))],
    ///     partition: Some(3),
    ///     timestamp: Some(5),
    ///     ..Record::new(b"/home")
    /// };
    /// assert_eq!(transaction.send(&clicks, record)?, 3);
    /// transaction.commit()?;
    /// let mut reader = PartitionReader::new(log.clone(), &clicks, 3, 0, FetchBound::LastStable);
    /// let batch = reader.next_batch(1 << 20)?.expect("it was committed");
    /// let record = batch.records().next().expect("it has one record")?;
    /// assert_eq!((record.timestamp, record.headers.count()), (5, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// * [`Error::UnknownPartition`], [`Error::TimestampTooFarAhead`], [`Error::KeyMissing`],
    ///   [`Error::BatchTooLarge`]: this record was refused; the transaction goes on without it.
    /// * [`Error::ProducerFenced`], [`Error::TransactionTimedOut`], [`Error::TransactionAborted`],
    ///   [`Error::TransactionDoomed`]: nothing of the transaction will be committed. That shows at the
    ///   next batch, not at each record.
    /// * [`Error::DiskFull`], [`Error::LogCrashed`] and what the disk says: as with
    ///   [`Transaction::append`]; this record was not taken.
    pub fn send(&mut self, topic: &Topic, record: Record<'_>) -> Result<u32> {
        let partition = self.buffers.partition_of(topic, &record);
        let id = topic.partition(partition);
        let timestamp = record.timestamp.unwrap_or_else(|| self.running.now());
        if !self.buffers.knows(id) {
            let target = self.running.partition(id)?;
            self.running.join(id)?;
            self.buffers.open(topic, partition, target);
        }
        if self.buffers.must_flush_before(id, &record, timestamp)? {
            self.flush_one(id)?;
        }
        // Must be BEFORE the record is taken, or else whoever is told of an error would send it again.
        if self.buffers.are_full() {
            self.flush()?;
        }
        self.buffers.push(id, &record, timestamp)?;
        Ok(partition)
    }

    /// Appends a whole batch, behind the records that were sent to its partition before.
    ///
    /// ```
    /// # use core_log::{BatchBuilder, Log, NO_HEADERS, Record, TopicSettings};
    /// # let dir = tempfile::tempdir()?;
    /// # let log = Log::open(dir.path())?;
    /// let clicks = log.create_topic("clicks", TopicSettings::default())?;
    /// let mut batch = BatchBuilder::new();
    /// batch.push(1, None, Some(b"/b"), NO_HEADERS)?;
    /// let mut transaction = log.transaction("web")?;
    /// transaction.send(&clicks, Record::new(b"/a"))?;
    /// assert_eq!(transaction.append(&clicks, 0, &mut batch)?.first_offset(), 1);
    /// transaction.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Transaction::append`].
    pub fn append(
        &mut self,
        topic: &Topic,
        partition: u32,
        batch: &mut BatchBuilder,
    ) -> Result<Appended> {
        self.flush_one(topic.partition(partition))?;
        self.running.append(topic, partition, batch)
    }

    /// Commits, with the transaction, that `group` has read `topic`-`partition` up to `offset`, the
    /// next one to read. A later position of the same group and partition replaces an earlier one.
    ///
    /// ```
    /// # use core_log::{GroupId, Log, Record, TopicSettings};
    /// # let dir = tempfile::tempdir()?;
    /// # let log = Log::open(dir.path())?;
    /// # let (input, output) = (
    /// #     log.create_topic("in", TopicSettings::default())?,
    /// #     log.create_topic("out", TopicSettings::default())?,
    /// # );
    /// let mut first = log.transaction("writer")?;
    /// first.send(&input, Record::new(b"7"))?;
    /// first.commit()?;
    /// // What was read, and what follows from it, are committed together.
    /// let mut transaction = log.transaction("doubler")?;
    /// transaction.send(&output, Record::new(b"14"))?;
    /// transaction.offset("doubler", &input, 0, 1)?;
    /// transaction.commit()?;
    /// let committed = log.committed(&GroupId::new("doubler")?)?;
    /// assert_eq!((committed[0].topic, committed[0].offset), (input.id(), 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`offsets`](Self::offsets); [`Error::InvalidName`]: the group.
    pub fn offset(
        &mut self,
        group: &str,
        topic: &Topic,
        partition: u32,
        offset: Offset,
    ) -> Result<()> {
        let group = GroupId::new(group)?;
        self.offsets([OffsetCommit::new(group, topic.id(), partition, offset)])
    }

    /// The same for many positions, with leader epochs and metadata: all of them, or on an error none.
    ///
    /// ```
    /// # use core_log::{Error, GroupError, GroupId, Log, OffsetCommit, TopicSettings};
    /// # let dir = tempfile::tempdir()?;
    /// # let log = Log::open(dir.path())?;
    /// let input = log.create_topic("in", TopicSettings::default())?;
    /// let group = GroupId::new("readers")?;
    /// let mut transaction = log.transaction("reader")?;
    /// let position = OffsetCommit {
    ///     leader_epoch: 0,
    ///     metadata: "by reader 1".into(),
    ///     ..OffsetCommit::new(group.clone(), input.id(), 0, 0)
    /// };
    /// transaction.offsets([position.clone()])?;
    /// let large = OffsetCommit { metadata: vec![0; 4_097].into(), ..position.clone() };
    /// let refused = transaction.offsets([large]);
    /// assert!(matches!(refused, Err(Error::Group(GroupError::MetadataTooLarge { .. }))));
    /// transaction.commit()?;
    /// assert_eq!(log.committed(&group)?, [position]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// * [`Error::UnknownPartition`]; [`Error::OffsetOutOfRange`]: beyond the end of the partition, or
    ///   negative; [`GroupError::MetadataTooLarge`]: the transaction goes on without them.
    /// * [`Error::ProducerFenced`], [`Error::TransactionTimedOut`], [`Error::TransactionAborted`],
    ///   [`Error::TransactionDoomed`]: nothing of the transaction will be committed.
    pub fn offsets(&mut self, positions: impl IntoIterator<Item = OffsetCommit>) -> Result<()> {
        self.running.check_open()?;
        let positions: Vec<OffsetCommit> = positions.into_iter().collect();
        for position in &positions {
            let id = position.topic_partition();
            let target = self.running.partition(id)?;
            let (requested, start, end) = (position.offset, 0, target.log_end());
            if requested < start || requested > end {
                return Err(Error::OffsetOutOfRange { requested, start, end });
            }
            let (bytes, max_bytes) = (position.metadata.len(), METADATA_BYTES_MAX);
            if bytes > max_bytes {
                let (topic, partition) = (target.place().topic.clone(), id.partition);
                let refused = GroupError::MetadataTooLarge { topic, partition, bytes, max_bytes };
                return Err(refused.into());
            }
        }
        for position in positions {
            self.offsets.insert((position.group.clone(), position.topic_partition()), position);
        }
        Ok(())
    }

    /// Appends what waits in memory, so that readers of uncommitted records see it, and whoever was
    /// fenced notices.
    ///
    /// # Errors
    ///
    /// As [`Transaction::append`]. What was not appended waits on.
    pub fn flush(&mut self) -> Result<()> {
        for id in self.buffers.waiting() {
            self.flush_one(id)?;
        }
        self.buffers.shrink();
        self.running.check_open()
    }

    fn flush_one(&mut self, id: TopicPartition) -> Result<()> {
        let Some((topic, batch)) = self.buffers.batch(id) else { return Ok(()) };
        self.running.append(topic, id.partition, batch)?;
        self.buffers.flushed(id);
        Ok(())
    }

    /// Ends the transaction: all records and positions become visible together, as durable as the
    /// settings say when this returns.
    ///
    /// # Errors
    ///
    /// * Before the commit record is written, the transaction is aborted:
    ///   [`Error::ProducerFenced`], [`Error::TransactionTimedOut`], [`Error::TransactionAborted`],
    ///   [`Error::TransactionDoomed`], [`Error::DiskFull`].
    /// * [`Error::LogCrashed`] and what the disk says: recovery decides. What was decided shows in
    ///   [`Log::committed`], if the transaction carried a position.
    pub fn commit(mut self) -> Result<CommitOutcome> {
        self.flush()?;
        let offsets: Vec<OffsetCommit> = self.offsets.into_values().collect();
        self.running.commit(&offsets)
    }

    /// Ends the transaction: nothing of it will be seen by readers of committed records.
    ///
    /// # Errors
    ///
    /// [`Error::LogCrashed`] and what the disk says: it is aborted all the same, by recovery.
    pub fn abort(self) -> Result<()> {
        self.running.abort()
    }
}

impl CommitWith for BufferedTransaction {
    fn commit_with(mut self, positions: &[OffsetCommit]) -> Result<CommitOutcome> {
        self.offsets(positions.iter().cloned())?;
        self.commit()
    }
}
