//! What an operator asks of a running log: which transactions run, who writes to a partition, and that
//! a transaction that hangs be aborted.
//!
//! ```text
//!   Log::transactions, transaction_info   id, producer, state, since when, which partitions
//!   Log::abort_transaction                open: aborted, its holder fenced; else what is true of it
//!   Log::producers                        of one partition: epoch, last sequence, first open offset
//! ```
//!
//! Why apart: these are questions of people, not of the data path; nothing here may slow that down.
//! [`AttachedLog`](crate::AttachedLog) asks them of the process that owns the log.
//!
//! Invariants
//! * A transaction that is being committed is never aborted.
//!
//! Reference: KIP-664; Kafka `kafka-transactions.sh`.

use std::fmt;
use std::time::Duration;

use crate::commit::Directory;
use crate::commit::transactions::{Dismissal, Listed, Phase};
use crate::error::{Error, Result};
use crate::ids::{
    Offset, ProducerEpoch, ProducerId, Timestamp, TopicId, TopicPartition, TransactionalId,
};
use crate::log::Log;
use crate::log::engine::Engine;
use crate::partition::producer_state::ProducerEntry;

/// How far the transaction of a transactional id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionState {
    /// None runs. Kafka calls that Empty, `CompleteCommit` or `CompleteAbort`.
    Idle,
    /// One runs, and may hold back readers of committed records (Ongoing).
    Open,
    /// It is being committed: nothing aborts it any more (`PrepareCommit`).
    Committing,
    /// It is being aborted (`PrepareAbort`).
    Aborting,
}

impl fmt::Display for TransactionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Idle => "idle",
            Self::Open => "open",
            Self::Committing => "committing",
            Self::Aborting => "aborting",
        })
    }
}

/// A partition that a running transaction writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The transaction's first offset there, where readers of committed records wait for its end;
    /// `None`: nothing of it is in the log yet.
    pub first_offset: Option<Offset>,
}

/// A transactional id and what its holder does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionInfo {
    /// The id.
    pub transactional_id: TransactionalId,
    /// The producer that holds it, or held it last.
    pub producer_id: ProducerId,
    /// The epoch of its transaction; of the next one when none runs.
    pub producer_epoch: ProducerEpoch,
    /// How far its transaction is.
    pub state: TransactionState,
    /// Since when it is open, by the date; `None` unless it is.
    pub since: Option<Timestamp>,
    /// How long it is open, by the clock that time-outs follow.
    pub open_for: Option<Duration>,
    /// How long it may be open.
    pub timeout: Duration,
    /// Where it writes.
    pub partitions: Vec<TransactionPartition>,
}

/// What became of [`Log::abort_transaction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortOutcome {
    /// It was open and is aborted; its holder gets [`Error::TransactionAborted`].
    Aborted,
    /// It was on its way to an end, which has come; [`Log::committed`] and readers see which.
    HasEnded,
    /// No transaction of this id is running.
    Idle,
}

/// What a partition knows of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerInfo {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch; batches with a lower one are refused.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of its last record; `None`: none of this epoch.
    pub last_sequence: Option<i32>,
    /// The offset of its last record; `None`: none of this epoch is remembered.
    pub last_offset: Option<Offset>,
    /// When it was last heard of, by the log's clock.
    pub last_seen: Timestamp,
    /// What its last marker said beside its type; -1 before the first.
    pub coordinator_epoch: i32,
    /// The first offset of its open transaction; `None`: it has none open here.
    pub open_from: Option<Offset>,
}

impl Log {
    /// All transactional ids that were used since the log was opened, by name: those that are held, and
    /// the last 1 000 that nobody holds.
    ///
    /// ```
    /// use core_log::{Log, Record, TopicSettings, TransactionState};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let log = Log::open(dir.path())?;
    /// let orders = log.create_topic("orders", TopicSettings::default())?;
    /// let mut hangs = log.transaction("shop")?;
    /// hangs.send(&orders, Record::new(b"tea"))?;
    /// hangs.flush()?;
    ///
    /// let listed = log.transactions()?;
    /// assert_eq!(listed.len(), 1);
    /// let shop = &listed[0];
    /// assert_eq!((shop.transactional_id.as_str(), shop.state), ("shop", TransactionState::Open));
    /// assert_eq!(shop.partitions[0].topic, "orders");
    /// assert_eq!(shop.partitions[0].first_offset, Some(0));
    /// assert!(shop.since.is_some() && shop.open_for < Some(shop.timeout));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`]: the commit records are; then no transaction can run.
    pub fn transactions(&self) -> Result<Vec<TransactionInfo>> {
        let engine = self.inner.engine()?;
        let (listed, now) = engine.commits()?.list();
        let most = self.inner.settings().transaction_timeout;
        let date = self.inner.clock().now_ms();
        Ok(listed.into_iter().map(|holder| describe(&engine, holder, most, now, date)).collect())
    }

    /// The transaction of one id.
    ///
    /// ```
    /// use core_log::{Error, Log, TransactionState};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let log = Log::open(dir.path())?;
    /// log.transaction("shop")?.commit()?;
    /// assert_eq!(log.transaction_info("shop")?.state, TransactionState::Idle);
    /// let unknown = log.transaction_info("ship");
    /// assert!(matches!(unknown, Err(Error::UnknownTransactionalId { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTransactionalId`]; as [`transactions`](Self::transactions).
    pub fn transaction_info(&self, transactional_id: &str) -> Result<TransactionInfo> {
        let mut of_id: Vec<_> = self
            .transactions()?
            .into_iter()
            .filter(|info| info.transactional_id.as_str() == transactional_id)
            .collect();
        // An older holder whose end is being written comes first: it holds the id back.
        let running = of_id.iter().position(|info| info.state != TransactionState::Idle);
        match running.or_else(|| of_id.len().checked_sub(1)) {
            Some(index) => Ok(of_id.swap_remove(index)),
            None => Err(Error::UnknownTransactionalId { name: transactional_id.to_owned() }),
        }
    }

    /// Aborts the open transaction of an id, for whoever finds that it hangs. Its holder gets
    /// [`Error::TransactionAborted`] and cannot commit any more; the id can be taken again. A
    /// transaction that is being committed or aborted is waited for.
    ///
    /// ```
    /// use core_log::{AbortOutcome, Error, Log, Record, TopicSettings};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let log = Log::open(dir.path())?;
    /// let orders = log.create_topic("orders", TopicSettings::default())?;
    /// let mut hangs = log.transaction("shop")?;
    /// hangs.send(&orders, Record::new(b"tea"))?;
    /// assert_eq!(log.abort_transaction("shop")?, AbortOutcome::Aborted);
    /// assert!(matches!(hangs.commit(), Err(Error::TransactionAborted { .. })));
    /// let mut next = log.transaction("shop")?;
    /// next.send(&orders, Record::new(b"coffee"))?;
    /// next.commit()?;
    /// assert_eq!(log.abort_transaction("shop")?, AbortOutcome::Idle);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// * [`Error::UnknownTransactionalId`], [`Error::InvalidName`].
    /// * [`Error::LogCrashed`] and what the disk says: it is aborted all the same, by recovery.
    pub fn abort_transaction(&self, transactional_id: &str) -> Result<AbortOutcome> {
        let id = TransactionalId::new(transactional_id)?;
        let engine = self.inner.engine()?;
        Ok(match engine.commits()?.dismiss(engine.as_ref(), &id)? {
            Dismissal::Abort(_) => AbortOutcome::Aborted,
            Dismissal::Ending(_) => AbortOutcome::HasEnded,
            Dismissal::Idle | Dismissal::Unknown => AbortOutcome::Idle,
        })
    }

    /// The producers that a partition knows, by id: those heard of in the last day, and all that have a
    /// transaction open there.
    ///
    /// ```
    /// use core_log::{Log, Record, TopicSettings};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let log = Log::open(dir.path())?;
    /// let orders = log.create_topic("orders", TopicSettings::default())?;
    /// let mut open = log.transaction("shop")?;
    /// open.send(&orders, Record::new(b"tea"))?;
    /// open.send(&orders, Record::new(b"milk"))?;
    /// open.flush()?;
    /// let producers = log.producers(orders.id(), 0)?;
    /// assert_eq!(producers[0].producer_id, open.producer_id());
    /// assert_eq!((producers[0].last_sequence, producers[0].open_from), (Some(1), Some(0)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPartition`].
    pub fn producers(&self, topic: TopicId, partition: u32) -> Result<Vec<ProducerInfo>> {
        let partition = self.inner.engine()?.require(TopicPartition { topic, partition })?;
        let info = |(producer_id, entry): (ProducerId, ProducerEntry)| ProducerInfo {
            producer_id,
            producer_epoch: entry.producer_epoch,
            last_sequence: entry.batches.back().map(|batch| batch.last_sequence),
            last_offset: entry.batches.back().map(|batch| batch.last_offset),
            last_seen: entry.last_seen,
            coordinator_epoch: entry.coordinator_epoch,
            open_from: entry.open.map(|span| span.first_offset),
        };
        Ok(partition.producers().into_iter().map(info).collect())
    }
}

fn describe(
    engine: &Engine,
    holder: Listed,
    most: Duration,
    now: Duration,
    date: Timestamp,
) -> TransactionInfo {
    let producer_id = holder.producer_id;
    let (state, open_for) = match holder.phase {
        Phase::Idle => (TransactionState::Idle, None),
        Phase::Open { since } => (TransactionState::Open, Some(now.saturating_sub(since))),
        Phase::Deciding => (TransactionState::Committing, None),
        Phase::Aborting => (TransactionState::Aborting, None),
    };
    let ago_ms = |d: Duration| Timestamp::try_from(d.as_millis()).unwrap_or(Timestamp::MAX);
    let partitions = holder.partitions.iter().map(|id| {
        let partition = engine.partition(*id);
        TransactionPartition {
            topic: partition
                .as_ref()
                .map_or_else(|| id.topic.to_string(), |p| p.place().topic.to_string()),
            partition: id.partition,
            first_offset: partition.and_then(|p| p.open_start(producer_id)),
        }
    });
    TransactionInfo {
        partitions: partitions.collect(),
        transactional_id: holder.transactional_id,
        producer_id,
        producer_epoch: holder.producer_epoch,
        state,
        since: open_for.map(|open_for| date.saturating_sub(ago_ms(open_for))),
        open_for,
        timeout: holder.timeout.unwrap_or(most),
    }
}
