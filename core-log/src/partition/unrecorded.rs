//! Commit markers that have no commit record, in one partition. Pure.
//!
//! ```text
//!           witness: all that lies below was on the disk when a record or a snapshot of
//!              |      `__commits` said so, and so were the records of its markers
//!   |== M == M |== M === M ==|
//!                  ^     ^ each must have a record that is still there
//! ```
//!
//! Why: a commit without sync writes its record first, but the disk may keep the marker and not the
//! record. Then the transaction stands here, and is rolled back wherever its marker is lost: nobody can
//! mend that, so it must be said.
//!
//! Invariants
//! * No false alarm: a record is dropped only after its markers are synced, and the snapshot that drops
//!   it witnesses them; what another log wrote is left out.
//! * Only the first one is kept, and how many there are: a tail may hold millions.
//!
//! On crash: looked for again at the next start, as long as nothing witnesses the markers.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::format::{BatchHeader, ControlType, EndTransactionMarker};
use crate::ids::{Offset, ProducerEpoch, ProducerId};

/// Whose commits have a record: the producer, and the epoch of the transaction.
pub(crate) type Recorded = Arc<BTreeSet<(ProducerId, ProducerEpoch)>>;

/// The commit markers without a record in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnrecordedMarkers {
    /// Where the first marker lies.
    pub(crate) offset: Offset,
    pub(crate) producer_id: ProducerId,
    /// The epoch of the transaction, one below that of the marker.
    pub(crate) producer_epoch: ProducerEpoch,
    /// How many more there are.
    pub(crate) others: u64,
}

/// Looks for them, batch by batch, in any order.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// `None`: nobody knows what was committed, so nothing is looked for.
    recorded: Option<Recorded>,
    from: Offset,
    found: Option<UnrecordedMarkers>,
}

impl Search {
    /// Every commit marker from `from` on must be one of `recorded`.
    pub(crate) fn new(recorded: Option<Recorded>, from: Offset) -> Self {
        Self { recorded, from, found: None }
    }

    /// Where to look first; `None` when there is nothing to look for.
    pub(crate) fn from(&self) -> Option<Offset> {
        self.recorded.as_ref().map(|_| self.from)
    }

    pub(crate) fn visit(&mut self, header: &BatchHeader, marker: EndTransactionMarker) {
        let Some(recorded) = &self.recorded else { return };
        let offset = header.base_offset;
        if marker.control_type != ControlType::Commit || offset < self.from {
            return;
        }
        let producer_id = header.producer_id;
        let producer_epoch = ProducerEpoch(header.producer_epoch.0.saturating_sub(1));
        if recorded.contains(&(producer_id, producer_epoch)) {
            return;
        }
        let found = UnrecordedMarkers { offset, producer_id, producer_epoch, others: 0 };
        self.found = Some(match self.found {
            None => found,
            Some(known) if known.offset <= offset => {
                UnrecordedMarkers { others: known.others + 1, ..known }
            }
            Some(known) => UnrecordedMarkers { others: known.others + 1, ..found },
        });
    }

    pub(crate) fn found(&self) -> Option<UnrecordedMarkers> {
        self.found
    }
}
