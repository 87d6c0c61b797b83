//! Writing: idempotent producers, and transactional ones with their transactions.
//!
//! ```text
//!   Producer             append -> acknowledged as durable as promised; again -> Duplicate
//!   TransactionalProducer -begin-> Transaction -append..-> commit(self) | abort(self) | dropped: abort
//! ```
//!
//! Why a transaction is a value: it can be shared by threads while it runs, and ends by being taken.
//!
//! Invariants
//! * A producer that starts again has a fresh id; the one before is fenced.
//! * No batch is written twice: a batch that is sent again after a crash of the log has its old number.
//!
//! On crash: a plain producer outlives a crash of the log, a transaction does not.
//! Reference: KIP-98, KIP-360, KIP-890.

mod accumulator;
mod acknowledgement;
mod batching;
mod commit_with;
mod rate_limit;
mod record;
mod sender;
mod turns;

use std::sync::Arc;
use std::time::Duration;

pub use acknowledgement::{Acknowledged, Acknowledgement};
pub use batching::{BatchingProducer, Flush, ProducerStatistics, SendAsync, TrySendError};
pub use commit_with::CommitWith;
pub use record::Record;

use hashbrown::HashMap;

use crate::commit::{OffsetCommit, TransactionRef};
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::format::BatchBuilder;
use crate::ids::{ProducerEpoch, ProducerId, Timestamp, TopicPartition, TransactionalId};
use crate::log::engine::Engine;
use crate::log::{Inner, Log};
use crate::partition::append::{Appended, AuthorKind, Outcome};
use crate::partition::{Author, Partition};
use crate::topic::Topic;

impl Log {
    /// A producer whose appends are written once, however often they are sent.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`]: the commit records are, from which producer ids come.
    pub fn producer(&self, durability: Durability) -> Result<Producer> {
        let producer_id = self.inner.engine()?.commits()?.new_producer_id()?;
        Ok(Producer {
            log: Arc::clone(&self.inner),
            durability,
            producer_id,
            sequences: HashMap::new(),
        })
    }

    /// The producer that holds this transactional id from now on. The one before is fenced; its
    /// transaction is aborted, or waited for when its commit is on the way.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`]; [`Error::Damaged`]: the commit records are.
    pub fn transactional_producer(
        &self,
        transactional_id: &str,
        durability: Durability,
    ) -> Result<TransactionalProducer> {
        let transactional_id = TransactionalId::new(transactional_id)?;
        let engine = self.inner.engine()?;
        let producer_id = engine.commits()?.take_over(engine.as_ref(), &transactional_id)?;
        Ok(TransactionalProducer {
            log: Arc::clone(&self.inner),
            engine,
            durability,
            current: TransactionRef {
                transactional_id,
                producer_id,
                producer_epoch: ProducerEpoch(0),
                promise: durability.promise(),
            },
        })
    }
}

/// Appends batches, each of them once.
#[derive(Debug)]
pub struct Producer {
    log: Arc<Inner>,
    durability: Durability,
    producer_id: ProducerId,
    sequences: HashMap<TopicPartition, Sequence>,
}

/// Where a producer is in one partition.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    /// The id that numbers the batches of this partition.
    producer_id: ProducerId,
    next: i32,
    /// Checksum of the records whose append failed: they may have been written.
    in_doubt: Option<u32>,
}

/// A batch that is in the log, and perhaps not yet on the disk.
#[derive(Debug)]
struct Written {
    target: Arc<Partition>,
    appended: Appended,
    /// Where the producer was before, and where it is once the batch is settled.
    sequence: Sequence,
    settled: Sequence,
}

impl Producer {
    /// The producer's id: in partitions that it has not written to yet, and in others as long as it
    /// needs no fresh one.
    #[must_use]
    pub fn producer_id(&self) -> ProducerId {
        self.producer_id
    }

    /// Appends a batch and waits until it is as durable as this producer promises. The batch keeps
    /// its records, for another try.
    ///
    /// # Errors
    ///
    /// * [`Error::LogCrashed`], [`Error::DiskFull`], [`Error::Io`]: it is not known whether the batch
    ///   was written. Recourse: append the same batch again; it will be there once.
    /// * [`Error::EmptyBatch`], [`Error::BatchTooLarge`], [`Error::TimestampTooFarAhead`],
    ///   [`Error::UnknownPartition`], [`Error::Damaged`]: nothing was written.
    pub fn append(
        &mut self,
        topic: &Topic,
        partition: u32,
        batch: &mut BatchBuilder,
    ) -> Result<Appended> {
        let written = self.write(topic, partition, batch)?;
        if self.durability == Durability::Sync
            && let Err(error) = written.target.sync_to(written.appended.last_offset() + 1)
        {
            self.doubt(&written, batch);
            return Err(error);
        }
        self.settle(&written);
        Ok(written.appended)
    }

    /// Appends a batch and does not wait for the disk: [`settle`](Self::settle) it once it is as durable
    /// as promised, or [`doubt`](Self::doubt) it, before the next one of its partition.
    fn write(
        &mut self,
        topic: &Topic,
        partition: u32,
        batch: &mut BatchBuilder,
    ) -> Result<Written> {
        let id = topic.partition(partition);
        let engine = self.log.engine()?;
        let target = engine.require(id)?;
        let sequence = self.sequence_for(&engine, id, batch)?;
        let author = Author {
            producer_id: sequence.producer_id,
            producer_epoch: ProducerEpoch(0),
            kind: AuthorKind::Idempotent { first_sequence: sequence.next },
        };
        match target.append(batch, author, self.durability.promise()) {
            Ok(Outcome::Appended(appended)) => {
                let next = advance(sequence.next, batch.count());
                let settled = Sequence { next, in_doubt: None, ..sequence };
                Ok(Written { target, appended, sequence, settled })
            }
            Ok(Outcome::MustJoin) => Err(Error::InvalidTxnState {
                producer_id: sequence.producer_id,
                reason: "a plain producer joins no transaction",
            }),
            Err(error) => {
                let is_down = engine.shared.health.is_down();
                let in_doubt = if is_down { Some(fingerprint(batch)) } else { sequence.in_doubt };
                self.sequences.insert(id, Sequence { in_doubt, ..sequence });
                Err(error)
            }
        }
    }

    /// The batch is as durable as promised.
    fn settle(&mut self, written: &Written) {
        self.sequences.insert(written.target.id(), written.settled);
    }

    /// It is not known whether the batch is in the log: the next one of this partition is the same, or
    /// goes on with a fresh id.
    fn doubt(&mut self, written: &Written, batch: &BatchBuilder) {
        let in_doubt = Some(fingerprint(batch));
        self.sequences.insert(written.target.id(), Sequence { in_doubt, ..written.sequence });
    }

    /// Whether the last batch of this partition may be in the log without being settled.
    fn is_in_doubt(&self, id: TopicPartition) -> bool {
        self.sequences.get(&id).is_some_and(|sequence| sequence.in_doubt.is_some())
    }

    /// The number for this batch. When another batch is in doubt its number cannot be given away, so
    /// this partition goes on with a fresh id; batches that are in doubt elsewhere keep theirs.
    fn sequence_for(
        &mut self,
        engine: &Engine,
        id: TopicPartition,
        batch: &BatchBuilder,
    ) -> Result<Sequence> {
        let first = |producer_id| Sequence { producer_id, next: 0, in_doubt: None };
        let known = self.sequences.get(&id).copied();
        let known = known.unwrap_or_else(|| first(self.producer_id));
        if known.in_doubt.is_none_or(|doubtful| doubtful == fingerprint(batch)) {
            return Ok(known);
        }
        self.producer_id = engine.commits()?.new_producer_id()?;
        Ok(first(self.producer_id))
    }
}

/// Tells batches apart: by their records, which count time from the first one, and by that time.
fn fingerprint(batch: &BatchBuilder) -> u32 {
    let newest = batch.max_timestamp().unwrap_or(-1);
    crc32c::crc32c_append(crc32c::crc32c(batch.plain_records()), &newest.to_be_bytes())
}

fn advance(sequence: i32, records: i32) -> i32 {
    sequence.wrapping_add(records) & i32::MAX
}

/// Begins transactions, one after the other.
#[derive(Debug)]
pub struct TransactionalProducer {
    log: Arc<Inner>,
    engine: Arc<Engine>,
    durability: Durability,
    current: TransactionRef,
}

impl TransactionalProducer {
    /// The id under which this producer is known.
    #[must_use]
    pub fn transactional_id(&self) -> &TransactionalId {
        &self.current.transactional_id
    }

    /// Begins a transaction; each has an epoch of its own, so that a late call of one can never touch
    /// the next.
    ///
    /// # Errors
    ///
    /// * [`Error::ProducerFenced`]: another producer holds the transactional id, or a time-out took it.
    /// * [`Error::InvalidTxnState`]: the transaction before has not ended.
    /// * [`Error::LogCrashed`]: open a new producer.
    pub fn begin(&mut self) -> Result<Transaction> {
        let commits = self.engine.commits()?;
        let epoch = match commits.begin(&self.current, None)? {
            Some(epoch) => epoch,
            None => {
                let id = &self.current.transactional_id;
                self.current.producer_id = commits.take_over(self.engine.as_ref(), id)?;
                commits.begin(&self.current, None)?.ok_or(Error::InvalidTxnState {
                    producer_id: self.current.producer_id,
                    reason: "a fresh producer has no epoch left",
                })?
            }
        };
        self.current.producer_epoch = epoch;
        Ok(Transaction {
            log: Arc::clone(&self.log),
            engine: Arc::clone(&self.engine),
            durability: self.durability,
            reference: self.current.clone(),
            holder: Holder::Producer,
            has_ended: false,
        })
    }
}

impl Drop for TransactionalProducer {
    fn drop(&mut self) {
        if let Ok(commits) = self.engine.commits() {
            commits.release(self.current.producer_id);
        }
    }
}

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The records and offsets are committed.
    Committed,
    /// There was nothing to commit.
    Empty,
}

/// A running transaction. Threads may share it by reference; dropping it aborts it.
#[derive(Debug)]
pub struct Transaction {
    /// Keeps the directory owned while the transaction runs.
    log: Arc<Inner>,
    engine: Arc<Engine>,
    durability: Durability,
    reference: TransactionRef,
    holder: Holder,
    has_ended: bool,
}

/// Who holds the transactional id of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// A producer, which begins others.
    Producer,
    /// The transaction itself: when it has ended nobody does.
    Itself,
}

impl Transaction {
    /// A transaction that holds its transactional id itself, for as long as it runs.
    pub(crate) fn acquire(
        log: &Arc<Inner>,
        id: &TransactionalId,
        durability: Durability,
        timeout: Option<Duration>,
    ) -> Result<Self> {
        let engine = log.engine()?;
        let commits = engine.commits()?;
        let reference = commits.acquire(engine.as_ref(), id, durability.promise(), timeout)?;
        Ok(Self {
            log: Arc::clone(log),
            engine,
            durability,
            reference,
            holder: Holder::Itself,
            has_ended: false,
        })
    }

    /// Makes a partition part of the transaction, which counts from then on as open.
    pub(crate) fn join(&self, id: TopicPartition) -> Result<()> {
        self.check()?;
        self.engine.commits()?.join(&self.reference, id)
    }

    /// Whether it can still be written to and committed.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.check()?;
        self.engine.commits()?.check_open(&self.reference)
    }

    /// A partition of the log in which it runs.
    pub(crate) fn partition(&self, id: TopicPartition) -> Result<Arc<Partition>> {
        self.engine.require(id)
    }

    /// What the log's clock shows.
    pub(crate) fn now(&self) -> Timestamp {
        self.engine.shared.clock.now_ms()
    }

    /// Under which id.
    #[must_use]
    pub fn transactional_id(&self) -> &TransactionalId {
        &self.reference.transactional_id
    }

    /// Whose transaction.
    #[must_use]
    pub fn producer_id(&self) -> ProducerId {
        self.reference.producer_id
    }

    /// Its epoch.
    #[must_use]
    pub fn producer_epoch(&self) -> ProducerEpoch {
        self.reference.producer_epoch
    }

    /// The directory of the log.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        self.log.dir()
    }

    fn check(&self) -> Result<()> {
        self.engine.shared.health.check().map_err(|error| match error {
            Error::LogCrashed { cause } => {
                Error::TransactionDoomed { producer_id: self.producer_id(), reason: cause }
            }
            other => other,
        })
    }

    /// A partition knows only that another epoch was seen; who raised it is known here.
    fn explained(&self, error: Error) -> Error {
        match error {
            Error::ProducerFenced { .. } => self.check_open().err().unwrap_or(error),
            other => other,
        }
    }

    /// Appends a batch as part of this transaction. Does not wait for the disk: the commit does.
    ///
    /// # Errors
    ///
    /// * [`Error::ProducerFenced`], [`Error::TransactionTimedOut`], [`Error::TransactionAborted`],
    ///   [`Error::TransactionDoomed`]: the transaction will not commit.
    /// * [`Error::EmptyBatch`], [`Error::BatchTooLarge`], [`Error::TimestampTooFarAhead`],
    ///   [`Error::UnknownPartition`], [`Error::Damaged`]: nothing was written.
    /// * [`Error::LogCrashed`] and what the disk says: the transaction is doomed.
    pub fn append(
        &self,
        topic: &Topic,
        partition: u32,
        batch: &mut BatchBuilder,
    ) -> Result<Appended> {
        self.check()?;
        let id = topic.partition(partition);
        let target = self.engine.require(id)?;
        let author = |kind| Author {
            producer_id: self.reference.producer_id,
            producer_epoch: self.reference.producer_epoch,
            kind,
        };
        let promise = self.durability.promise();
        let appended = target.append(batch, author(AuthorKind::Joining), promise);
        match appended.map_err(|error| self.explained(error))? {
            Outcome::Appended(appended) => return Ok(appended),
            Outcome::MustJoin => self.engine.commits()?.join(&self.reference, id)?,
        }
        match target.append(batch, author(AuthorKind::Joined), promise)? {
            Outcome::Appended(appended) => Ok(appended),
            Outcome::MustJoin => Err(Error::InvalidTxnState {
                producer_id: self.producer_id(),
                reason: "a partition that was joined asked to be joined again",
            }),
        }
    }

    /// Ends the transaction: all its records, and the offsets it consumed, become visible together or
    /// not at all. Waits until that is as durable as the transaction promises.
    ///
    /// # Errors
    ///
    /// * [`Error::ProducerFenced`], [`Error::TransactionTimedOut`], [`Error::TransactionAborted`]:
    ///   another producer took over, the time was up, or somebody aborted it.
    /// * [`Error::OffsetOutOfRange`], [`Error::DuplicateOffset`], [`Error::UnknownPartition`]: the
    ///   offsets are wrong; it is aborted.
    /// * [`Error::TransactionDoomed`]: the log crashed before; it is aborted.
    /// * [`Error::LogCrashed`] and what the disk says: recovery decides. After the log has reopened
    ///   [`Log::committed`] says what it decided.
    pub fn commit(mut self, offsets: &[OffsetCommit]) -> Result<CommitOutcome> {
        self.has_ended = true;
        self.check()?;
        let committed =
            self.engine.commits()?.commit(self.engine.as_ref(), &self.reference, offsets)?;
        Ok(if committed { CommitOutcome::Committed } else { CommitOutcome::Empty })
    }

    /// Ends the transaction: none of its records will be seen by readers of committed records.
    ///
    /// # Errors
    ///
    /// [`Error::LogCrashed`] and what the disk says: it is aborted all the same, by recovery.
    pub fn abort(mut self) -> Result<()> {
        self.end_by_abort()
    }

    fn end_by_abort(&mut self) -> Result<()> {
        self.has_ended = true;
        self.engine.commits()?.abort_own(self.engine.as_ref(), &self.reference)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.has_ended
            && let Err(error) = self.end_by_abort()
        {
            tracing::warn!(%error, "a transaction was dropped and recovery must abort it");
        }
        if self.holder == Holder::Itself
            && let Ok(commits) = self.engine.commits()
        {
            commits.park(self.reference.producer_id);
        }
    }
}
