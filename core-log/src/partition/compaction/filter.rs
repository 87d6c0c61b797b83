//! What stays of each batch when a partition is compacted. Pure.
//!
//! ```text
//!   batch --> aborted?  its records go at once
//!         --> marker?   stays while data of its transaction is there, then until its delete horizon
//!         --> record    stays when it is the last of its key: with a value as long as it may become,
//!                       without one (a tombstone) until its delete horizon
//!         --> nothing left: the batch goes, unless it is the last of its producer or of the pass
//! ```
//!
//! The delete horizon is set by the first pass that keeps a tombstone, or a marker whose data is gone:
//! whoever reads at least every `delete.retention.ms` sees them.
//!
//! Invariants
//! * Offsets never change, and a batch that stays keeps its first and last one.
//! * The last batch of a producer stays, if need be without records: its sequence and epoch must be
//!   known after a start. So does the last batch of the pass, so that readers come to its end.
//! * Batches come in order, each once.
//!
//! Reference: Kafka `Cleaner.cleanInto`, `CleanedTransactionMetadata`; KIP-534.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Limits;
use super::offset_map::OffsetMap;
use super::plan::{CompactionPolicy, has_outlived};
use crate::error::Result;
use crate::format::rewrite::rewrite;
use crate::format::{BatchHeader, BatchView, ControlType, EndTransactionMarker, RecordRef};
use crate::ids::{Offset, ProducerEpoch, ProducerId, Timestamp};
use crate::segment::AbortedTransaction;

/// The transactions that a pass has come by.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// Those that lie ahead, by their first offset.
    ahead: VecDeque<AbortedTransaction>,
    /// Aborted ones whose marker lies ahead, and whether any of their data was there.
    aborted: BTreeMap<ProducerId, (AbortedTransaction, bool)>,
    /// Producers of other transactions whose data was there, and whose marker lies ahead.
    other: BTreeSet<ProducerId>,
}

impl Transactions {
    /// A pass over a stretch that these aborted transactions touch.
    pub(crate) fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_by_key(|entry| (entry.first_offset, entry.last_offset));
        aborted.dedup();
        Self { ahead: aborted.into(), ..Self::default() }
    }

    fn begin_up_to(&mut self, offset: Offset) {
        while let Some(entry) = self.ahead.pop_front_if(|entry| entry.first_offset <= offset) {
            self.aborted.entry(entry.producer_id).or_insert((entry, false));
        }
    }

    /// Comes by a batch of records; answers whether it was aborted.
    pub(crate) fn pass_data(&mut self, header: &BatchHeader) -> bool {
        self.begin_up_to(header.last_offset());
        if !header.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&header.producer_id) {
            Some((_, has_data)) => {
                *has_data = true;
                true
            }
            None => {
                self.other.insert(header.producer_id);
                false
            }
        }
    }

    /// Comes by a marker; answers whether nothing of its transaction is left, and the entry of the index
    /// of aborted transactions that it needs.
    pub(crate) fn pass_marker(
        &mut self,
        header: &BatchHeader,
        control: Control,
    ) -> (bool, Option<AbortedTransaction>) {
        self.begin_up_to(header.last_offset());
        match control {
            Control::End(ControlType::Abort) => match self.aborted.remove(&header.producer_id) {
                Some((entry, true)) => (false, Some(entry)),
                Some((_, false)) | None => (true, None),
            },
            Control::End(ControlType::Commit) => (!self.other.remove(&header.producer_id), None),
            Control::Emptied => (true, None),
            Control::Unknown => (false, None),
        }
    }
}

/// What a control batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    End(ControlType),
    /// An earlier pass has emptied it.
    Emptied,
    /// Something that does not end a transaction.
    Unknown,
}

impl Control {
    pub(crate) fn of(batch: &BatchView<'_>) -> Self {
        if batch.header().record_count == 0 {
            return Self::Emptied;
        }
        let marker = EndTransactionMarker::from_batch(batch);
        marker.map_or(Self::Unknown, |marker| Self::End(marker.control_type))
    }
}

/// Which batch says most of a producer that may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastOf {
    /// The batch of records that ends with this offset.
    Data(Offset),
    /// It has written none in this epoch: a marker of the epoch.
    Marker(ProducerEpoch),
}

/// What one pass decides by.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    pub(crate) map: &'a OffsetMap,
    pub(crate) policy: CompactionPolicy,
    pub(crate) now: Timestamp,
    pub(crate) last_of: BTreeMap<ProducerId, LastOf>,
    /// The end of what may be cleaned.
    pub(crate) upper_bound: Offset,
    /// How many records without a key were removed.
    pub(crate) keyless: Cell<u64>,
    pub(crate) limits: &'a Limits<'a>,
}

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Gone,
    /// It stays as it is.
    Kept,
    /// This stays of it.
    Rewritten(Vec<u8>, BatchHeader),
}

impl Pass<'_> {
    /// What becomes of the next batch; and the entry that the index of aborted transactions needs.
    ///
    /// # Errors
    ///
    /// The batch cannot be read.
    pub(crate) fn judge(
        &self,
        transactions: &mut Transactions,
        batch: &BatchView<'_>,
    ) -> Result<(Fate, Option<AbortedTransaction>)> {
        let header = batch.header();
        let (is_void, entry) = if header.is_control() {
            transactions.pass_marker(header, Control::of(batch))
        } else {
            (transactions.pass_data(header), None)
        };
        let horizon = header.delete_horizon();
        let is_void_marker = is_void && header.is_control();
        let drops_all = match (header.is_control(), horizon) {
            (true, horizon) => is_void && horizon.is_some_and(|horizon| horizon <= self.now),
            (false, _) => is_void,
        };
        let must_stay = self.must_stay(header);
        if drops_all && !must_stay {
            return Ok((Fate::Gone, entry));
        }
        let mut records: Vec<RecordRef<'_>> = Vec::new();
        let (mut count, mut has_tombstone) = (0, false);
        for record in batch.records() {
            let record = record?;
            count += 1;
            if !drops_all && (header.is_control() || self.stays(header, &record)) {
                has_tombstone |= record.value.is_none() && !header.is_control();
                records.push(record);
            }
        }
        if records.is_empty() {
            if !must_stay {
                return Ok((Fate::Gone, entry));
            }
            let (bytes, header) = rewrite(header, &[], None)?;
            return Ok((Fate::Rewritten(bytes, header), entry));
        }
        let sets_horizon = horizon.is_none() && (has_tombstone || is_void_marker);
        if records.len() == count && !sets_horizon {
            return Ok((Fate::Kept, entry));
        }
        let new = sets_horizon.then(|| self.now.saturating_add(self.policy.delete_retention_ms));
        let (bytes, header) = rewrite(header, &records, new.or(horizon))?;
        Ok((Fate::Rewritten(bytes, header), entry))
    }

    /// Whether the batch stays even when nothing is left in it.
    fn must_stay(&self, header: &BatchHeader) -> bool {
        let is_last_of_producer = match self.last_of.get(&header.producer_id) {
            Some(LastOf::Data(offset)) => *offset == header.last_offset(),
            Some(LastOf::Marker(epoch)) => header.is_control() && *epoch == header.producer_epoch,
            None => false,
        };
        is_last_of_producer || header.next_offset() == self.upper_bound
    }

    fn stays(&self, header: &BatchHeader, record: &RecordRef<'_>) -> bool {
        if record.offset > self.map.latest() {
            return true;
        }
        // The log takes no record without a key while it compacts the topic.
        let Some(key) = record.key else {
            self.keyless.set(self.keyless.get() + 1);
            return false;
        };
        let last = self.map.get(key);
        if last.is_some_and(|last| record.offset < last || self.limits.drops_last) {
            return false;
        }
        let ttl_ms = self.policy.record_ttl_ms;
        match (record.value, header.delete_horizon()) {
            (Some(_), _) => ttl_ms.is_none_or(|ttl| !has_outlived(record.timestamp, ttl, self.now)),
            (None, Some(horizon)) => self.now < horizon,
            (None, None) => true,
        }
    }
}
