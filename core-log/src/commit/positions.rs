//! Commits of positions alone, which no transaction carries.
//!
//! Why the same record: a position is committed in one place and recovered in one way, whoever commits it.
//!
//! Invariants
//! * A `Sync` commit has synced what was consumed before its record is appended, so no committed offset
//!   can lie beyond the end that a power cut leaves.
//! * Its record names no producer and no partition that was written: there is nothing to mark.
//!
//! On crash: see `recovery`; without a promise, positions beyond a recovered end go back, with a report.

use std::sync::Arc;

use super::protocol::consumed;
use super::{Broken, Commits, Directory, OffsetCommit, TransactionRef, sync_all};
use crate::error::Result;
use crate::ids::{GroupId, ProducerEpoch, ProducerId, TransactionalId};
use crate::partition::Promise;

impl Commits {
    /// Commits positions of a group, all of them or none; they are as durable as promised when this
    /// returns.
    ///
    /// # Errors
    ///
    /// Before the record is appended nothing is changed; afterwards an error is a crash of the log, and
    /// recovery decides.
    pub(crate) fn commit_offsets(
        &self,
        log: &dyn Directory,
        group: &GroupId,
        promise: Promise,
        offsets: &[OffsetCommit],
    ) -> Result<()> {
        self.shared.health.check()?;
        if offsets.is_empty() {
            return Ok(());
        }
        self.shared.reserve.require()?;
        let consumed = consumed(log, offsets)?;
        let reference = TransactionRef {
            transactional_id: TransactionalId::new(group.as_str())?,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            promise,
        };
        if reference.survives_power_loss() && !self.settings.makes(Broken::SkipConsumedSync) {
            let targets: Vec<_> =
                consumed.iter().map(|c| (Arc::clone(&c.partition), c.offset)).collect();
            sync_all(&targets, self.settings.parallel_syncs)?;
        }
        self.decide(&reference, &[], &consumed, offsets)?;
        if self.is_large()
            && let Err(error) = self.write_snapshot(log)
        {
            // The commit stands, whatever becomes of this: a failure is a crash of the log.
            tracing::warn!(%error, "no snapshot of the commits was written");
        }
        Ok(())
    }
}
