//! What the batches of a partition say of its producers, taken in order.
//!
//! Why apart: recovery decides which segments are read again; what a batch means is the same in each.
//!
//! Invariants
//! * What another log wrote is no claim of this one, and its producers are forgotten where this log begins.
//!
//! On crash: nothing is kept; the next start reads the same batches.
//! Reference: Kafka `ProducerStateManager`, `LogLoader`.

use super::leader_epochs::LeaderEpochs;
use super::open_transactions::aborted_entry;
use super::producer_state::{Claim, ProducerState};
use super::unrecorded::Search;
use crate::error::{Error, Result};
use crate::format::{BatchHeader, ControlType, EndTransactionMarker};
use crate::ids::{Offset, Timestamp};
use crate::segment::{AbortedTransaction, Damage, Segment};

/// What the batches say, in order.
#[derive(Debug)]
pub(super) struct Replay {
    now: Timestamp,
    pub(super) producers: ProducerState,
    pub(super) aborted: Vec<AbortedTransaction>,
    pub(super) epochs: LeaderEpochs,
    pub(super) epochs_lost: bool,
    pub(super) adopted_below: Offset,
    pub(super) producer_id_max: i64,
    pub(super) commit_claim: i32,
    /// For commit markers without a commit record.
    pub(super) search: Search,
}

impl Replay {
    pub(super) fn new(now: Timestamp, epochs: Option<LeaderEpochs>) -> Self {
        Self {
            now,
            producers: ProducerState::default(),
            aborted: Vec::new(),
            epochs_lost: epochs.is_none(),
            epochs: epochs.unwrap_or_default(),
            adopted_below: 0,
            producer_id_max: -1,
            commit_claim: 0,
            search: Search::default(),
        }
    }

    pub(super) fn start_from(&mut self, producers: ProducerState) {
        let largest = producers.iter().map(|(id, _)| id.0).max();
        self.producer_id_max = self.producer_id_max.max(largest.unwrap_or(-1));
        self.producers = producers;
    }

    /// Whoever wrote what was adopted never writes here; this log may use the same ids.
    pub(super) fn forget_adopted(&mut self, end: Offset) {
        if self.adopted_below > 0 && end >= self.adopted_below {
            self.adopted_below = 0;
            self.producers = ProducerState::default();
        }
    }

    pub(super) fn visit(&mut self, header: &BatchHeader, marker: Option<EndTransactionMarker>) {
        self.epochs.observe(header.leader_epoch, header.base_offset);
        self.forget_adopted(header.base_offset);
        if !header.has_producer_id() {
            return;
        }
        let id = header.producer_id;
        self.producer_id_max = self.producer_id_max.max(id.0);
        let Some(marker) = marker else {
            if !header.is_control() {
                let claim = claim_of(header);
                self.producers.apply_batch(
                    &claim,
                    header.base_offset,
                    header.last_offset(),
                    self.now,
                );
            }
            return;
        };
        self.search.visit(header, marker);
        let (epoch, coordinator_epoch) = (header.producer_epoch, marker.coordinator_epoch);
        let ended = self.producers.apply_marker(id, epoch, coordinator_epoch, self.now);
        match (marker.control_type, ended) {
            (ControlType::Commit, _) if self.adopted_below > 0 => {}
            (ControlType::Commit, _) => {
                self.commit_claim = self.commit_claim.max(coordinator_epoch)
            }
            (ControlType::Abort, Some(span)) => {
                let first_open = self.producers.first_open_offset();
                self.aborted.push(aborted_entry(id, span, header.base_offset, first_open));
            }
            (ControlType::Abort, None) => {}
        }
    }

    /// Looks for commit markers without a record in a sealed segment whose producers are known. Without
    /// a producer that ended a transaction there are none.
    pub(super) fn search_sealed(&mut self, segment: &Segment) -> Result<()> {
        let Some(from) = self.search.from() else { return Ok(()) };
        if !self.producers.iter().any(|(_, producer)| producer.coordinator_epoch >= 0) {
            return Ok(());
        }
        let mut visitor = |header: &BatchHeader, marker: Option<EndTransactionMarker>| {
            marker.into_iter().for_each(|marker| self.search.visit(header, marker));
        };
        match segment.visit(from.max(segment.base_offset()), &mut visitor) {
            // Whoever reads there is told; opening does not depend on it.
            Ok(()) | Err(Error::Damaged { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Replays a sealed segment up to its end, or to damage; answers what was aborted in it.
    pub(super) fn segment(
        &mut self,
        segment: &Segment,
    ) -> Result<(Vec<AbortedTransaction>, Option<Damage>)> {
        let base_offset = segment.base_offset();
        let visited = segment.visit(base_offset, &mut |header, marker| self.visit(header, marker));
        let damage = match visited {
            Ok(()) => None,
            Err(Error::Damaged { path, position, offset, reason, .. }) => {
                Some(Damage { path, position, offset, reason })
            }
            Err(error) => return Err(error),
        };
        Ok((std::mem::take(&mut self.aborted), damage))
    }
}

fn claim_of(header: &BatchHeader) -> Claim {
    Claim {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        first_sequence: header.base_sequence,
        record_count: header.last_offset_delta.saturating_add(1),
        is_transactional: header.is_transactional(),
    }
}
