//! The commit protocol: one record decides a transaction over any number of partitions.
//!
//! ```text
//!   append data (transactional)          readers of committed records do not see it
//!   sync written and consumed partitions -- in parallel
//!   append ONE commit record, sync       <- commit point
//!   append markers                       synced by whoever syncs that partition next
//! ```
//!
//! Why: two records that decide together can disagree after a crash; one cannot.
//!
//! Invariants
//! * From the append of the commit record on nothing aborts its transaction: a failure is a crash of
//!   the log, and recovery decides by what it finds.
//! * A commit record is folded into a snapshot only once its markers are synced, and an unsynced one
//!   (`Os`, `Interval`) only once everything it speaks of is.
//! * `__commits` is synced before a snapshot replaces it, and the snapshot before it gets its name.
//! * Locks, in this order: the table of transactions, the state, a partition's writer.
//!
//! On crash: see `recovery`.
//! Reference: design.md "The log" 3 and 4; KIP-98, KIP-890.

mod holders;
pub(crate) mod journal;
pub(crate) mod offsets;
mod positions;
mod protocol;
pub(crate) mod record;
pub(crate) mod recovery;
pub(crate) mod salvage;
mod snapshots;
pub(crate) mod transactions;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::locks::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::format::{ControlType, EndTransactionMarker};
use crate::ids::{GroupId, Offset, ProducerEpoch, ProducerId, TopicPartition, TransactionalId};
use crate::partition::sync_group::SyncGroup;
use crate::partition::{Partition, Promise, Shared};
use crate::segment::Damage;
use journal::Journal;
use offsets::OffsetTable;
use record::{CommitRecord, CommitsRecord, PartitionOffset};
pub use record::{METADATA_BYTES_MAX, OffsetCommit};
use transactions::{Ending, Refusal, TransactionTable};

/// The directory of the commit records, and what errors call it.
pub(crate) const COMMITS: &str = "__commits";

/// Producer ids are reserved in blocks of this size.
const PRODUCER_ID_BLOCK: i64 = 1_000;

/// Finds partitions; the log knows them all.
pub(crate) trait Directory {
    /// The partition, if there is one.
    fn partition(&self, id: TopicPartition) -> Option<Arc<Partition>>;
    /// All partitions.
    fn partitions(&self) -> Vec<Arc<Partition>>;
}

/// A deliberate mistake, to show that a checker can fail.
#[cfg_attr(
    not(any(test, feature = "test-util")),
    expect(unreachable_pub, reason = "only the feature test-util hands it out")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A commit leaves out one marker, and recovery does not write it either.
    LoseMarker,
    /// Partitions that were consumed are not synced before the commit record.
    SkipConsumedSync,
    /// A transaction is aborted when the sync of its commit record fails, and the log goes on.
    AbortDecided,
    /// A snapshot drops commit records whose markers are not synced, or not written.
    FoldEarly,
    /// A commit record commits any open transaction of its producer, whatever its epoch.
    IgnoreEpochs,
    /// A start forgets the block of producer ids that may have been handed out.
    ReuseProducerIds,
    /// A commit record witnesses what was written as if it had been synced.
    WitnessUnsynced,
    /// Damage in the commit records is taken for a torn tail, and cut.
    TakeDamageForTorn,
    /// Producer ids start where the commit records say, also below one that a partition has seen.
    ForgetSeenIds,
    /// The next owner of a partition begins at the committed offset, whatever position came with it.
    ForgetHandOver,
    /// Compaction removes the last record of a key with those that it replaces.
    DropLast,
    /// Retention takes the date for one far ahead.
    RetainTooEarly,
}

/// How the protocol runs.
#[derive(Clone, Debug)]
pub(crate) struct CommitSettings {
    pub(crate) boot_id: String,
    /// A larger file is replaced by a snapshot.
    pub(crate) file_bytes_max: u64,
    /// How many partitions are synced at the same time.
    pub(crate) parallel_syncs: usize,
    pub(crate) broken: Option<Broken>,
}

impl CommitSettings {
    fn makes(&self, mistake: Broken) -> bool {
        self.broken == Some(mistake)
    }
}

/// The transactions and committed offsets of one log.
#[derive(Debug)]
pub(crate) struct Commits {
    shared: Shared,
    settings: CommitSettings,
    table: Mutex<TransactionTable>,
    /// Signalled whenever a transaction has ended.
    ended: Condvar,
    state: Mutex<State>,
    syncs: SyncGroup,
}

/// What the file says, in memory.
#[derive(Debug)]
struct State {
    journal: Journal,
    /// What a snapshot would hold apart from the live records.
    base: OffsetTable,
    /// All decided commits applied.
    offsets: OffsetTable,
    /// Commits whose markers may not be synced yet, by the offset of their record.
    live: BTreeMap<Offset, Live>,
    producer_id_next: i64,
    producer_ids_end: i64,
    /// The size right after the last snapshot.
    size_after_snapshot: u64,
    /// When the interval of a commit ends, by the monotonic clock.
    sync_due: Option<Duration>,
}

#[derive(Debug)]
struct Live {
    record: CommitRecord,
    /// Up to where partitions must be synced before this record is folded; `None` while its markers
    /// are being written.
    needs: Option<Vec<PartitionOffset>>,
}

/// A transaction that is running.
#[derive(Clone, Debug)]
pub(crate) struct TransactionRef {
    pub(crate) transactional_id: TransactionalId,
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    /// How durable its commit is.
    pub(crate) promise: Promise,
}

impl TransactionRef {
    /// Whether its commit survives a power cut from the moment on at which it is acknowledged.
    fn survives_power_loss(&self) -> bool {
        self.promise == Promise::Durable
    }

    fn refused(&self, refusal: Refusal) -> Error {
        let (producer_id, producer_epoch) = (self.producer_id, self.producer_epoch);
        match refusal {
            Refusal::Fenced => Error::ProducerFenced {
                transactional_id: Some(self.transactional_id.clone()),
                producer_id,
                producer_epoch,
                current_epoch: next_epoch(producer_epoch),
            },
            Refusal::TimedOut(timeout) => Error::TransactionTimedOut {
                transactional_id: self.transactional_id.clone(),
                producer_id,
                timeout,
            },
            Refusal::Dismissed => Error::TransactionAborted {
                transactional_id: self.transactional_id.clone(),
                producer_id,
            },
            Refusal::Running => {
                Error::InvalidTxnState { producer_id, reason: "a transaction is running already" }
            }
            Refusal::Ended => {
                Error::InvalidTxnState { producer_id, reason: "the transaction has ended" }
            }
            Refusal::EpochsUsedUp => {
                Error::InvalidTxnState { producer_id, reason: "all epochs are used up" }
            }
        }
    }
}

/// The epoch of a transaction's marker, and of the producer's next transaction.
pub(crate) fn next_epoch(epoch: ProducerEpoch) -> ProducerEpoch {
    ProducerEpoch(epoch.0.saturating_add(1))
}

/// What a commit marker says beside its type: one more than the offset of its commit record, when
/// that record was synced before the marker was written; else 0. So a marker proves its record.
fn commit_claim(record_offset: Offset, is_synced: bool) -> i32 {
    if is_synced { i32::try_from(record_offset + 1).unwrap_or(0) } else { 0 }
}

impl Commits {
    /// Takes a producer id that nobody ever had.
    pub(crate) fn new_producer_id(&self) -> Result<ProducerId> {
        let mut state = self.state.lock();
        self.shared.health.check()?;
        if state.producer_id_next >= state.producer_ids_end {
            self.shared.reserve.require()?;
            let end = state.producer_id_next.saturating_add(PRODUCER_ID_BLOCK);
            if end == i64::MAX {
                let producer_id = ProducerId(state.producer_id_next);
                let reason = "there are no producer ids above it";
                return Err(Error::InvalidTxnState { producer_id, reason });
            }
            let commits_synced = self.syncs.durable();
            let now = self.shared.clock.now_ms();
            let record = CommitsRecord::ProducerIds { end, commits_synced };
            self.shared.health.guard(state.journal.append(&record, now))?;
            // Must be BEFORE the first id is handed out, or else a crash could give it out again.
            self.sync_journal(&state)?;
            state.producer_ids_end = end;
        }
        let id = ProducerId(state.producer_id_next);
        state.producer_id_next += 1;
        Ok(id)
    }

    fn sync_journal(&self, state: &State) -> Result<()> {
        let (file, path) = state.journal.file();
        self.shared.health.guard(file.sync().map_err(|e| Error::io(&path, "sync", e)))?;
        self.syncs.raise(state.journal.next_offset());
        Ok(())
    }

    /// Makes a partition part of a transaction; must come before its first append.
    pub(crate) fn join(
        &self,
        transaction: &TransactionRef,
        partition: TopicPartition,
    ) -> Result<()> {
        let now = self.shared.clock.monotonic();
        self.table
            .lock()
            .join(transaction.producer_id, transaction.producer_epoch, partition, now)
            .map_err(|refusal| transaction.refused(refusal))
    }

    fn finish(&self, producer: ProducerId) {
        self.table.lock().finish(producer);
        self.ended.notify_all();
    }

    /// Aborts a producer's transaction, if it is open and not being decided.
    pub(crate) fn abort(&self, log: &dyn Directory, producer: ProducerId) -> Result<()> {
        let ending = self.table.lock().abort(producer);
        match ending {
            Some(ending) => self.write_aborts(log, producer, &ending),
            None => Ok(()),
        }
    }

    /// Aborts a transaction at the wish of its owner; one that was aborted by others stays so.
    pub(crate) fn abort_own(
        &self,
        log: &dyn Directory,
        transaction: &TransactionRef,
    ) -> Result<()> {
        let (producer, epoch) = (transaction.producer_id, transaction.producer_epoch);
        if self.table.lock().is_at(producer, epoch) { self.abort(log, producer) } else { Ok(()) }
    }

    /// Aborts are presumed: they need no record and no sync.
    fn write_aborts(
        &self,
        log: &dyn Directory,
        producer: ProducerId,
        ending: &Ending,
    ) -> Result<()> {
        let marker =
            EndTransactionMarker { control_type: ControlType::Abort, coordinator_epoch: 0 };
        let epoch = next_epoch(ending.producer_epoch);
        let write = |id: &TopicPartition| match log.partition(*id) {
            // A partition without data of the transaction gets its marker too: it fences an append
            // that is on its way.
            Some(partition) => partition.end_transaction(producer, epoch, marker).map(drop),
            None => Ok(()),
        };
        let outcome = ending.partitions.iter().try_for_each(write);
        self.finish(producer);
        outcome
    }

    /// Aborts whatever is open and waits for what is being decided: the log is about to close.
    pub(crate) fn abort_all(&self, log: &dyn Directory) -> Result<()> {
        let mut table = self.table.lock();
        for producer in table.fence_all() {
            while table.is_ending(producer) {
                self.shared.health.check()?;
                self.ended.wait(&mut table);
            }
            if let Some(ending) = table.abort(producer) {
                drop(table);
                self.write_aborts(log, producer, &ending)?;
                table = self.table.lock();
            }
        }
        Ok(())
    }

    /// The committed offsets of a group.
    pub(crate) fn committed(&self, group: &GroupId) -> Vec<OffsetCommit> {
        self.state.lock().offsets.group(group)
    }

    /// Every record below this offset is on the disk: the witness of a clean close.
    pub(crate) fn synced(&self) -> Offset {
        self.syncs.durable()
    }

    /// Waits until nobody writes or syncs; the log has crashed, so nobody begins again.
    pub(crate) fn quiesce(&self) {
        drop(self.state.lock());
        self.syncs.stop();
        drop(self.table.lock());
        self.ended.notify_all();
    }
}

/// Syncs partitions up to the given offsets, some at the same time.
pub(crate) fn sync_all(targets: &[(Arc<Partition>, Offset)], parallel: usize) -> Result<()> {
    let mut furthest: BTreeMap<TopicPartition, (&Arc<Partition>, Offset)> = BTreeMap::new();
    for (partition, offset) in targets {
        if partition.synced() < *offset {
            let entry = furthest.entry(partition.id()).or_insert((partition, *offset));
            entry.1 = entry.1.max(*offset);
        }
    }
    let pending: Vec<_> = furthest.into_values().collect();
    let lanes = parallel.clamp(1, pending.len().max(1));
    let sync_lane = |lane: usize| {
        pending.iter().skip(lane).step_by(lanes).try_for_each(|(p, offset)| p.sync_to(*offset))
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..lanes).map(|lane| scope.spawn(move || sync_lane(lane))).collect();
        let mut outcome = sync_lane(0);
        for other in others {
            let finished = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcome = outcome.and(finished);
        }
        outcome
    })
}

/// Where `__commits` lies, for errors.
#[derive(Clone, Debug)]
pub(crate) struct CommitsDamage {
    pub(crate) damage: Damage,
}

impl CommitsDamage {
    pub(crate) fn error(&self) -> Error {
        Error::Damaged {
            topic: COMMITS.to_owned(),
            partition: 0,
            path: PathBuf::clone(&self.damage.path),
            position: self.damage.position,
            offset: self.damage.offset,
            reason: self.damage.reason.clone(),
        }
    }
}
