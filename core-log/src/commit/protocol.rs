//! How one transaction is committed: what comes before the point of no return, and what follows it.
//!
//! Why apart: these are the steps whose order is the protocol; see the parent for the picture.
//!
//! Invariants
//! * An error in front of the append of the commit record aborts the transaction; behind it nothing does.
//! * A `Sync` commit has synced all that it wrote and consumed before its record is appended.
//!
//! On crash: see `recovery`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::record::{CommitRecord, CommitsRecord, PartitionOffset};
use super::{
    Broken, Commits, Directory, Live, OffsetCommit, TransactionRef, commit_claim, next_epoch,
    sync_all,
};
use crate::error::{Error, Result};
use crate::format::{ControlType, EndTransactionMarker};
use crate::ids::{Offset, TopicPartition};
use crate::partition::{Partition, Promise};

impl Commits {
    /// Commits a transaction and the offsets it consumed; answers whether there was anything to commit.
    ///
    /// # Errors
    ///
    /// Before the commit record is appended the transaction is aborted; afterwards an error is a crash
    /// of the log, and recovery decides.
    pub(crate) fn commit(
        &self,
        log: &dyn Directory,
        transaction: &TransactionRef,
        offsets: &[OffsetCommit],
    ) -> Result<bool> {
        let prepared = self.prepare(log, transaction, offsets);
        let (written, consumed) = match prepared {
            Ok(parts) => parts,
            Err(error) => {
                if let Err(also) = self.abort(log, transaction.producer_id) {
                    tracing::warn!(error = %also, "recovery must abort what could not be committed");
                }
                return Err(error);
            }
        };
        if written.is_empty() && offsets.is_empty() {
            self.finish(transaction.producer_id);
            return Ok(false);
        }
        let outcome = self.decide(transaction, &written, &consumed, offsets);
        if outcome.is_err() && self.settings.makes(Broken::AbortDecided) {
            self.abort_decided(transaction, &written)?;
        }
        self.finish(transaction.producer_id);
        outcome?;
        if self.is_large() {
            // The commit stands, whatever becomes of this: a failure is a crash of the log.
            if let Err(error) = self.write_snapshot(log) {
                tracing::warn!(%error, "no snapshot of the commits was written");
            }
        }
        Ok(true)
    }

    /// What must never happen; see [`Broken::AbortDecided`].
    fn abort_decided(
        &self,
        transaction: &TransactionRef,
        written: &[Arc<Partition>],
    ) -> Result<()> {
        let marker =
            EndTransactionMarker { control_type: ControlType::Abort, coordinator_epoch: 0 };
        let epoch = next_epoch(transaction.producer_epoch);
        written.iter().try_for_each(|partition| {
            partition.end_transaction(transaction.producer_id, epoch, marker).map(drop)
        })
    }

    /// Everything before the point of no return.
    fn prepare(
        &self,
        log: &dyn Directory,
        transaction: &TransactionRef,
        offsets: &[OffsetCommit],
    ) -> Result<(Vec<Arc<Partition>>, Vec<Consumed>)> {
        self.shared.health.check()?;
        self.shared.reserve.require()?;
        let (producer, epoch) = (transaction.producer_id, transaction.producer_epoch);
        let refused = |refusal| transaction.refused(refusal);
        let joined = self.table.lock().partitions(producer, epoch).map_err(refused)?;
        let written: Vec<_> = joined.iter().filter_map(|id| log.partition(*id)).collect();
        let consumed = consumed(log, offsets)?;
        if transaction.survives_power_loss() {
            let mut targets: Vec<_> = written
                .iter()
                .filter_map(|p| Some((Arc::clone(p), p.open_end(producer)?)))
                .collect();
            if !self.settings.makes(Broken::SkipConsumedSync) {
                targets.extend(consumed.iter().map(|c| (Arc::clone(&c.partition), c.offset)));
            }
            sync_all(&targets, self.settings.parallel_syncs)?;
        }
        self.table.lock().decide(producer, epoch).map_err(refused)?;
        Ok((written, consumed))
    }

    /// The commit point and what follows it.
    pub(super) fn decide(
        &self,
        transaction: &TransactionRef,
        written: &[Arc<Partition>],
        consumed: &[Consumed],
        offsets: &[OffsetCommit],
    ) -> Result<()> {
        let producer = transaction.producer_id;
        let is_synced = transaction.survives_power_loss();
        let ends: Vec<_> =
            written.iter().filter_map(|p| Some((Arc::clone(p), p.open_end(producer)?))).collect();
        let at = {
            let mut state = self.state.lock();
            self.shared.health.check()?;
            let record = self.commit_record(transaction, &ends, consumed, offsets);
            let entry = CommitsRecord::Commit(record);
            let appended = state.journal.append(&entry, self.shared.clock.now_ms());
            let at = self.shared.health.guard(appended)?;
            if let CommitsRecord::Commit(record) = entry {
                state.live.insert(at, Live { record, needs: None });
            }
            at
        };
        if is_synced {
            self.syncs.wait(at + 1, self.shared.clock.as_ref(), || self.lead_sync())?;
        }
        self.state.lock().offsets.apply(at, offsets);
        let mut needs = Vec::new();
        let marker = EndTransactionMarker {
            control_type: ControlType::Commit,
            coordinator_epoch: commit_claim(at, is_synced),
        };
        let lost = usize::from(self.settings.makes(Broken::LoseMarker));
        for (partition, _) in ends.iter().skip(lost) {
            let marker_epoch = next_epoch(transaction.producer_epoch);
            if let Some(offset) = partition.end_transaction(producer, marker_epoch, marker)? {
                needs.push(PartitionOffset { partition: partition.id(), offset: offset + 1 });
            }
        }
        if !is_synced {
            needs.extend(
                consumed
                    .iter()
                    .map(|c| PartitionOffset { partition: c.partition.id(), offset: c.offset }),
            );
        }
        let mut state = self.state.lock();
        if let Some(live) = state.live.get_mut(&at) {
            live.needs = Some(needs);
        }
        if let Promise::Within(interval) = transaction.promise {
            // Must be AFTER its needs are known, or else the sync would leave them out.
            let due = self.shared.clock.monotonic().saturating_add(interval);
            state.sync_due = Some(state.sync_due.map_or(due, |earlier| earlier.min(due)));
        }
        drop(state);
        self.shared.changes.notify();
        Ok(())
    }

    fn commit_record(
        &self,
        transaction: &TransactionRef,
        ends: &[(Arc<Partition>, Offset)],
        consumed: &[Consumed],
        offsets: &[OffsetCommit],
    ) -> CommitRecord {
        let written = ends
            .iter()
            .map(|(partition, end)| PartitionOffset { partition: partition.id(), offset: *end })
            .collect();
        let witnesses: BTreeMap<TopicPartition, Offset> = ends
            .iter()
            .map(|(partition, _)| partition)
            .chain(consumed.iter().map(|c| &c.partition))
            .map(|partition| (partition.id(), self.witness(partition)))
            .collect();
        CommitRecord {
            transactional_id: transaction.transactional_id.clone(),
            producer_id: transaction.producer_id,
            producer_epoch: transaction.producer_epoch,
            survives_power_loss: transaction.survives_power_loss(),
            commits_synced: self.syncs.durable(),
            written,
            witnesses: witnesses
                .into_iter()
                .map(|(partition, offset)| PartitionOffset { partition, offset })
                .collect(),
            offsets: offsets.to_vec(),
        }
    }

    /// Up to where a partition is on the disk.
    fn witness(&self, partition: &Partition) -> Offset {
        if self.settings.makes(Broken::WitnessUnsynced) {
            return partition.log_end();
        }
        partition.synced()
    }

    pub(super) fn lead_sync(&self) -> Result<Offset> {
        self.shared.health.check()?;
        let ((file, path), end) = {
            let state = self.state.lock();
            (state.journal.file(), state.journal.next_offset())
        };
        let synced = file.sync().map_err(|e| Error::io(&path, "sync", e));
        if self.settings.makes(Broken::AbortDecided) {
            return synced.map(|()| end);
        }
        self.shared.health.guard(synced)?;
        Ok(end)
    }
}

/// A partition that was read, up to an offset.
#[derive(Debug)]
pub(super) struct Consumed {
    pub(super) partition: Arc<Partition>,
    pub(super) offset: Offset,
}

/// Finds the consumed partitions; no offset may lie beyond its partition's end.
pub(super) fn consumed(log: &dyn Directory, offsets: &[OffsetCommit]) -> Result<Vec<Consumed>> {
    let mut seen = BTreeSet::new();
    let mut consumed = Vec::with_capacity(offsets.len());
    for commit in offsets {
        let id = commit.topic_partition();
        let unknown = || Error::UnknownPartition {
            topic: id.topic.to_string(),
            partition: id.partition,
            partitions: 0,
        };
        let partition = log.partition(id).ok_or_else(unknown)?;
        let (start, end) = (0, partition.log_end());
        if commit.offset < start || commit.offset > end {
            return Err(Error::OffsetOutOfRange { requested: commit.offset, start, end });
        }
        if !seen.insert((commit.group.clone(), id)) {
            return Err(Error::DuplicateOffset { group: commit.group.clone(), partition: id });
        }
        consumed.push(Consumed { partition, offset: commit.offset });
    }
    Ok(consumed)
}
