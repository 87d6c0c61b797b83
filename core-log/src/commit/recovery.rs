//! What a start does with `__commits`: every transaction is decided before anything is served.
//!
//! ```text
//!   read __commits (nothing changed yet) -> witnesses -> partitions are recovered
//!     -> __commits is rewritten, synced, its torn tail cut
//!     -> unsynced commits that a power cut left incomplete are rolled back, durably
//!     -> commit markers that are missing are written, all other open transactions aborted, synced
//!     -> snapshot
//! ```
//!
//! Why this order: a marker is visible to readers, so the record behind it must be on the disk first;
//! and a roll-back must be on the disk before anything is appended that could make the rolled back
//! commit look whole.
//!
//! Invariants
//! * A commit record that is there decides, whether its writer was told or not.
//! * A marker is missing exactly where the transaction is open in the partition's own batches: then
//!   its data lies beyond the log start, and no later epoch of its producer is known there.
//! * While `__commits` is damaged nothing is decided.
//!
//! On crash: each step can be done again.
//! Reference: design.md "The log" 3, 4 and 5.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::locks::{Condvar, Mutex};

use super::journal::{self, Contents, Journal, Repair};
use super::offsets::OffsetTable;
use super::record::{CommitRecord, CommitsRecord, PartitionOffset, Snapshot};
use super::transactions::TransactionTable;
use super::{
    Broken, CommitSettings, Commits, Directory, Live, PRODUCER_ID_BLOCK, State, commit_claim,
    next_epoch, sync_all,
};
use crate::error::Result;
use crate::format::{ControlType, EndTransactionMarker};
use crate::ids::{GroupId, Offset, ProducerEpoch, ProducerId, TopicPartition, TransactionalId};
use crate::partition::sync_group::SyncGroup;
use crate::partition::unrecorded::Recorded;
use crate::partition::{Partition, Shared};
use crate::storage::Storage;

/// What `__commits` says.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) contents: Contents,
    base: OffsetTable,
    live: BTreeMap<Offset, CommitRecord>,
    producer_ids_end: i64,
}

/// A commit that a power cut left incomplete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// Whose commit.
    pub transactional_id: TransactionalId,
    /// The groups whose positions go back to their last whole commit.
    pub groups: Vec<GroupId>,
    /// The partition that ends too early, where it ends and where it should end; `None` when an
    /// earlier commit of a group was rolled back.
    pub short: Option<(TopicPartition, Offset, Offset)>,
}

/// What was decided.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decisions {
    pub(crate) repair: Repair,
    pub(crate) committed: Vec<(TopicPartition, ProducerId)>,
    pub(crate) aborted: Vec<(TopicPartition, ProducerId)>,
    pub(crate) rolled_back: Vec<RolledBack>,
}

/// Reads `__commits` without changing anything. What is not there at all is damaged too.
pub(crate) fn load(storage: &Arc<dyn Storage>, dir: &Path) -> Result<Loaded> {
    let contents = journal::read(storage.as_ref(), dir)?;
    let contents = contents.unwrap_or_else(|| Contents::missing(dir));
    let Snapshot { producer_ids_end, offsets, live, .. } = contents.snapshot.clone();
    let mut loaded = Loaded {
        base: OffsetTable::from_snapshot(offsets),
        live: live.into_iter().collect(),
        producer_ids_end,
        contents,
    };
    for (at, record) in &loaded.contents.records {
        match record {
            CommitsRecord::Commit(commit) => {
                loaded.live.insert(*at, commit.clone());
            }
            CommitsRecord::ProducerIds { end, .. } => {
                loaded.producer_ids_end = loaded.producer_ids_end.max(*end);
            }
            CommitsRecord::Snapshot(_) => {}
        }
    }
    Ok(loaded)
}

impl Loaded {
    /// Up to where each partition was synced, as far as anybody wrote it down.
    pub(crate) fn witnesses(&self) -> BTreeMap<TopicPartition, Offset> {
        let mut witnesses = BTreeMap::new();
        let of_commits = self.live.values().flat_map(|commit| &commit.witnesses);
        for PartitionOffset { partition, offset } in
            self.contents.snapshot.witnesses.iter().chain(of_commits)
        {
            let known = witnesses.entry(*partition).or_insert(*offset);
            *known = (*known).max(*offset);
        }
        witnesses
    }

    /// The commits that have a record.
    pub(crate) fn recorded(&self) -> Recorded {
        let commits = self.live.values();
        Arc::new(commits.map(|commit| (commit.producer_id, commit.producer_epoch)).collect())
    }

    /// The start of the machine in which the log was last recovered or closed.
    pub(crate) fn boot_id(&self) -> &str {
        &self.contents.snapshot.boot_id
    }
}

/// Decides every transaction; afterwards the log can be served.
pub(crate) fn decide(
    shared: &Shared,
    settings: CommitSettings,
    dir: &Path,
    log: &dyn Directory,
    loaded: Loaded,
    producer_id_max: i64,
) -> Result<(Commits, Decisions)> {
    let (journal, repair) = loaded.contents.repair(&shared.storage, dir)?;
    let mut decisions = Decisions { repair, ..Decisions::default() };
    let mut live = loaded.live;
    decisions.rolled_back = roll_back(&mut live, log);
    let reserved =
        if settings.makes(Broken::ReuseProducerIds) { 0 } else { loaded.producer_ids_end };
    let seen = if settings.makes(Broken::ForgetSeenIds) { -1 } else { producer_id_max };
    let producer_id_next = reserved.max(seen.saturating_add(1));
    let synced = journal.next_offset();
    let commits = Commits {
        shared: shared.clone(),
        settings,
        table: Mutex::new(TransactionTable::default()),
        ended: Condvar::new(),
        state: Mutex::new(state(journal, loaded.base, live, producer_id_next)),
        syncs: SyncGroup::new(synced),
    };
    if !decisions.rolled_back.is_empty() {
        commits.write_snapshot(log)?;
    }
    commits.write_missing_markers(log, &mut decisions)?;
    commits.write_snapshot(log)?;
    Ok((commits, decisions))
}

fn state(
    journal: Journal,
    base: OffsetTable,
    live: BTreeMap<Offset, CommitRecord>,
    producer_id_next: i64,
) -> State {
    let mut offsets = base.clone();
    for (at, record) in &live {
        offsets.apply(*at, &record.offsets);
    }
    State {
        size_after_snapshot: journal.size_bytes(),
        sync_due: None,
        journal,
        base,
        offsets,
        live: live.into_iter().map(|(at, record)| (at, Live { record, needs: None })).collect(),
        producer_id_next,
        // The snapshot at the end of recovery makes the block durable.
        producer_ids_end: producer_id_next.saturating_add(PRODUCER_ID_BLOCK),
    }
}

/// The first file of a new log.
pub(crate) fn create(shared: &Shared, dir: &Path, boot_id: &str) -> Result<()> {
    let snapshot = Snapshot { boot_id: boot_id.to_owned(), ..Snapshot::default() };
    Journal::create(&shared.storage, dir, snapshot, 0, shared.clock.now_ms()).map(drop)
}

/// Takes back unsynced commits that a power cut left incomplete, and those of the same groups that
/// build on them. A synced commit always stays: it was promised.
fn roll_back(live: &mut BTreeMap<Offset, CommitRecord>, log: &dyn Directory) -> Vec<RolledBack> {
    let mut rolled_back = Vec::new();
    let mut groups: BTreeSet<GroupId> = BTreeSet::new();
    live.retain(|_, commit| {
        if commit.survives_power_loss {
            return true;
        }
        let short = first_short(commit, log);
        let builds_on = commit.offsets.iter().any(|offset| groups.contains(&offset.group));
        if short.is_none() && !builds_on {
            return true;
        }
        let own: BTreeSet<_> = commit.offsets.iter().map(|offset| offset.group.clone()).collect();
        groups.extend(own.iter().cloned());
        rolled_back.push(RolledBack {
            transactional_id: commit.transactional_id.clone(),
            groups: own.into_iter().collect(),
            short,
        });
        false
    });
    rolled_back
}

/// The first partition that ends before what the commit speaks of.
fn first_short(
    commit: &CommitRecord,
    log: &dyn Directory,
) -> Option<(TopicPartition, Offset, Offset)> {
    let written = commit.written.iter().map(|written| (written.partition, written.offset));
    let consumed = commit.offsets.iter().map(|offset| (offset.topic_partition(), offset.offset));
    written.chain(consumed).find_map(|(id, expected)| {
        // What is damaged was on the disk once: the power cut has not taken it.
        let partition = log.partition(id).filter(|partition| partition.damage().is_none())?;
        let end = partition.log_end();
        (end < expected).then_some((id, end, expected))
    })
}

impl Commits {
    /// Ends every transaction that is open anywhere, as its commit record or its absence says.
    fn write_missing_markers(&self, log: &dyn Directory, decisions: &mut Decisions) -> Result<()> {
        let ignored = self.settings.makes(Broken::IgnoreEpochs);
        let epoch_of = |epoch: ProducerEpoch| if ignored { 0 } else { epoch.0 };
        let records: BTreeMap<(ProducerId, i16), (Offset, bool)> = {
            let state = self.state.lock();
            let entry = |(at, live): (&Offset, &Live)| {
                let record = &live.record;
                let key = (record.producer_id, epoch_of(record.producer_epoch));
                (key, (*at, record.survives_power_loss))
            };
            state.live.iter().map(entry).collect()
        };
        let mut written: Vec<(Arc<Partition>, Offset)> = Vec::new();
        for partition in log.partitions() {
            if partition.damage().is_some() {
                continue;
            }
            for (producer, epoch, _) in partition.open_transactions() {
                let record = records.get(&(producer, epoch_of(epoch)));
                if record.is_some() && self.settings.makes(Broken::LoseMarker) {
                    continue;
                }
                let marker = match record {
                    Some((at, is_synced)) => EndTransactionMarker {
                        control_type: ControlType::Commit,
                        coordinator_epoch: commit_claim(*at, *is_synced),
                    },
                    None => EndTransactionMarker {
                        control_type: ControlType::Abort,
                        coordinator_epoch: 0,
                    },
                };
                partition.end_transaction(producer, next_epoch(epoch), marker)?;
                match record {
                    Some(_) => decisions.committed.push((partition.id(), producer)),
                    None => decisions.aborted.push((partition.id(), producer)),
                }
            }
            written.push((Arc::clone(&partition), partition.log_end()));
        }
        sync_all(&written, self.settings.parallel_syncs)?;
        let damaged = |id: TopicPartition| log.partition(id).is_some_and(|p| p.damage().is_some());
        for live in self.state.lock().live.values_mut() {
            // A partition that cannot be written keeps its commits live until it is repaired.
            let is_marked = !live.record.written.iter().any(|written| damaged(written.partition));
            live.needs = is_marked.then(Vec::new);
        }
        Ok(())
    }
}
