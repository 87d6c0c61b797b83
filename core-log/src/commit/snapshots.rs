//! When and how `__commits` is replaced by a snapshot of what is live.
//!
//! Why: every start reads the file whole, so it must stay small.
//!
//! Invariants
//! * A commit is folded only once everything that it needs is synced: its markers, and for one without
//!   sync all that it wrote and consumed. Until then the snapshot carries its record.
//!
//! On crash: the snapshot is synced before it gets its name, so either file is whole; see `journal`.

use std::sync::Arc;
use std::time::Duration;

use super::record::{PartitionOffset, Snapshot};
use super::{Broken, Commits, Directory, Live, State, sync_all};
use crate::error::Result;
use crate::ids::Offset;
use crate::partition::Partition;

impl Commits {
    pub(super) fn is_large(&self) -> bool {
        let state = self.state.lock();
        let most = self.settings.file_bytes_max.max(state.size_after_snapshot.saturating_mul(2));
        state.journal.size_bytes() > most
    }

    /// Makes commits without sync survive a power cut, as a whole.
    pub(crate) fn settle(&self, log: &dyn Directory) -> Result<()> {
        let is_lazy = |live: &Live| !live.record.survives_power_loss;
        let has_lazy = self.state.lock().live.values().any(is_lazy);
        if has_lazy { self.write_snapshot(log) } else { Ok(()) }
    }

    /// Makes commits whose interval has ended survive a power cut, as a whole.
    pub(crate) fn sync_if_due(&self, log: &dyn Directory, monotonic: Duration) -> Result<()> {
        let (targets, end) = {
            let mut state = self.state.lock();
            if state.sync_due.is_none_or(|due| due > monotonic) {
                return Ok(());
            }
            state.sync_due = None;
            (state.needed(log), state.journal.next_offset())
        };
        // Must be BEFORE the records, or else a power cut in between would roll them back.
        sync_all(&targets, self.settings.parallel_syncs)?;
        self.syncs.wait(end, self.shared.clock.as_ref(), || self.lead_sync())
    }

    /// Replaces the file by a snapshot of what is live.
    pub(crate) fn write_snapshot(&self, log: &dyn Directory) -> Result<()> {
        let targets = self.state.lock().needed(log);
        let folds_early = self.settings.makes(Broken::FoldEarly);
        if !folds_early {
            sync_all(&targets, self.settings.parallel_syncs)?;
        }
        let mut state = self.state.lock();
        self.shared.health.check()?;
        // Must be BEFORE anything is folded: an undecided record must not be taken for a decided one.
        self.sync_journal(&state)?;
        if folds_early {
            state.live.values_mut().for_each(|live| live.needs = Some(Vec::new()));
        }
        state.fold(|need| {
            log.partition(need.partition)
                .is_none_or(|p| p.synced() >= need.offset || p.log_start() >= need.offset)
        });
        let snapshot = state.snapshot(log, &self.settings.boot_id);
        self.shared.health.guard(state.journal.replace(snapshot, self.shared.clock.now_ms()))?;
        state.size_after_snapshot = state.journal.size_bytes();
        self.syncs.raise(state.journal.next_offset());
        Ok(())
    }
}

impl State {
    /// Up to where partitions must be synced so that all that is live is whole on the disk.
    fn needed(&self, log: &dyn Directory) -> Vec<(Arc<Partition>, Offset)> {
        let needs = self.live.values().filter_map(|live| live.needs.as_ref()).flatten();
        needs
            .filter_map(|need| Some((log.partition(need.partition)?, need.offset)))
            .filter(|(partition, _)| partition.damage().is_none())
            .collect()
    }

    /// Folds commits of which everything they need is synced.
    fn fold(&mut self, is_synced: impl Fn(&PartitionOffset) -> bool) {
        let Self { live, base, .. } = self;
        live.retain(|at, commit| {
            let is_done = commit.needs.as_ref().is_some_and(|needs| needs.iter().all(&is_synced));
            if is_done {
                base.apply(*at, &commit.record.offsets);
            }
            !is_done
        });
    }

    fn snapshot(&self, log: &dyn Directory, boot_id: &str) -> Snapshot {
        let witness = |partition: Arc<Partition>| PartitionOffset {
            partition: partition.id(),
            offset: partition.synced(),
        };
        Snapshot {
            boot_id: boot_id.to_owned(),
            producer_ids_end: self.producer_ids_end,
            offsets: self.base.iter().cloned().collect(),
            witnesses: log.partitions().into_iter().map(witness).collect(),
            live: self.live.iter().map(|(at, live)| (*at, live.record.clone())).collect(),
        }
    }
}
