//! The commit records, and what the partitions say about them.
//!
//! Why both: a marker proves its record, and a record that is gone may be proved by the marker of its
//! transaction in another partition.
//!
//! Invariants
//! * Nothing is changed.

use std::collections::BTreeMap;

use super::partition::PartitionLook;
use crate::commit::record::PartitionOffset;
use crate::commit::recovery::Loaded;
use crate::commit::salvage::{Proven, Salvage, salvage};
use crate::format::ControlType;
use crate::ids::{Offset, ProducerEpoch, ProducerId};

/// What can be said of the commit records.
#[derive(Debug)]
pub(super) struct CommitsLook {
    pub(super) loaded: Loaded,
    pub(super) salvage: Salvage,
    /// No record that is written from now on may have an offset below.
    pub(super) next_offset: Offset,
    pub(super) producer_id_max: i64,
    /// Transactions that are open somewhere although a marker elsewhere says that they are committed.
    pub(super) proven: Vec<Proven>,
    /// Transactions that nothing decides any more.
    pub(super) undecided: Vec<(String, ProducerId)>,
    /// Whether a commit marker and whether an abort marker was seen, by producer and marker's epoch.
    ended: BTreeMap<(ProducerId, i16), (bool, bool)>,
    /// Transactions of which one partition says that they were committed and another one that they were
    /// aborted.
    pub(super) torn: Vec<(ProducerId, ProducerEpoch)>,
}

impl CommitsLook {
    pub(super) fn new(mut loaded: Loaded, closed_at: Offset, partitions: &[PartitionLook]) -> Self {
        let claims = partitions.iter().map(|look| Offset::from(look.replay.commit_claim));
        let claimed = claims.max().unwrap_or(0).max(closed_at);
        loaded.contents.require_up_to(claimed);
        let salvage = salvage(&loaded.contents);
        let mut ended: BTreeMap<(ProducerId, i16), (bool, bool)> = BTreeMap::new();
        for (key, control_type) in partitions.iter().flat_map(|look| &look.replay.ended) {
            let (committed, aborted) = ended.entry(*key).or_default();
            *committed |= *control_type == ControlType::Commit;
            *aborted |= *control_type == ControlType::Abort;
        }
        let torn = ended.iter().filter(|(_, ways)| **ways == (true, true));
        let torn = torn.map(|((id, epoch), _)| (*id, ProducerEpoch(epoch - 1))).collect();
        let mut look = Self {
            ended,
            next_offset: claimed.max(loaded.contents.next_offset).max(salvage.next_offset),
            producer_id_max: partitions
                .iter()
                .map(|l| l.replay.producer_id_max)
                .max()
                .unwrap_or(-1),
            loaded,
            salvage,
            proven: Vec::new(),
            undecided: Vec::new(),
            torn,
        };
        for partition in partitions {
            look.note_open(partition);
        }
        look
    }

    /// How a transaction ended, as markers anywhere and the commit records say.
    pub(super) fn outcome(&self, id: ProducerId, epoch: ProducerEpoch) -> Option<ControlType> {
        if self.salvage.decides(id, epoch) {
            return Some(ControlType::Commit);
        }
        match self.ended.get(&(id, epoch.0.saturating_add(1)))? {
            (true, false) => Some(ControlType::Commit),
            (false, true) => Some(ControlType::Abort),
            _ => None,
        }
    }

    fn note_open(&mut self, partition: &PartitionLook) {
        for (producer_id, producer_epoch, span) in partition.replay.producers.open() {
            if self.salvage.decides(producer_id, producer_epoch) {
                continue;
            }
            let marker = self.ended.get(&(producer_id, producer_epoch.0.saturating_add(1)));
            if marker != Some(&(true, false)) {
                self.undecided.push((partition.name(), producer_id));
                continue;
            }
            let written = PartitionOffset { partition: partition.id, offset: span.end_offset };
            let known = self
                .proven
                .iter_mut()
                .find(|p| (p.producer_id, p.producer_epoch) == (producer_id, producer_epoch));
            match known {
                Some(proven) => proven.written.push(written),
                None => {
                    self.proven.push(Proven { producer_id, producer_epoch, written: vec![written] })
                }
            }
        }
    }
}
