//! Which producer may append what: duplicate detection and fencing for one partition. Pure.
//!
//! Why pure: recovery and append must reach the same verdict from the same batches. `check` never
//! changes anything; `apply_batch` and `apply_marker` are called only once the batch is written.
//!
//! ```text
//!   Verdict::Append | Duplicate { first_offset, last_offset }
//!          | OutOfOrder { expected, actual } | Fenced { current } | OutsideTransaction
//! ```
//!
//! Invariants
//! * The last five batches of a producer are known; a producer with an open transaction is never forgotten.
//! * An epoch only grows; its first batch has sequence 0, and after `i32::MAX` comes 0.
//!
//! On crash: read from the newest snapshot that proves itself, then replayed from the batches behind it.
//! Reference: KIP-98, KIP-360, KIP-890; Kafka `ProducerStateManager`, `ProducerAppendInfo`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ids::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// How many batches of each producer are remembered.
pub(crate) const BATCHES_KEPT: usize = 5;

/// What a batch says about its producer, before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) first_sequence: i32,
    pub(crate) record_count: i32,
    pub(crate) is_transactional: bool,
}

impl Claim {
    /// The sequence of the last record: sequences wrap from `i32::MAX` to 0.
    pub(crate) fn last_sequence(&self) -> i32 {
        advance_sequence(self.first_sequence, self.record_count - 1)
    }
}

/// What may be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Write it.
    Append,
    /// It is there already, at these offsets.
    Duplicate { first_offset: Offset, last_offset: Offset },
    /// Batches before it are missing.
    OutOfOrder { expected: i32, actual: i32 },
    /// A later epoch of its producer has written to this partition.
    Fenced { current: ProducerEpoch },
    /// It does not belong to the transaction that its producer has open here.
    OutsideTransaction,
}

/// Sequences and offsets of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchSpan {
    pub(crate) first_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) first_offset: Offset,
    pub(crate) last_offset: Offset,
}

/// What is known of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProducerEntry {
    pub(crate) producer_epoch: ProducerEpoch,
    /// Oldest first, all of `producer_epoch`.
    pub(crate) batches: VecDeque<BatchSpan>,
    /// The last marker's, -1 before the first.
    pub(crate) coordinator_epoch: i32,
    /// When it was last heard of, by the clock of the log.
    pub(crate) last_seen: Timestamp,
    /// First offset and end offset of the data of its open transaction.
    pub(crate) open: Option<OpenSpan>,
}

/// Where the data of an open transaction lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenSpan {
    pub(crate) first_offset: Offset,
    /// Exclusive.
    pub(crate) end_offset: Offset,
}

impl ProducerEntry {
    fn new(producer_epoch: ProducerEpoch, now: Timestamp) -> Self {
        Self {
            producer_epoch,
            batches: VecDeque::with_capacity(BATCHES_KEPT),
            coordinator_epoch: -1,
            last_seen: now,
            open: None,
        }
    }

    fn raise_epoch(&mut self, epoch: ProducerEpoch) {
        if epoch != self.producer_epoch {
            self.producer_epoch = epoch;
            self.batches.clear();
        }
    }
}

/// What is known of the producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProducerState {
    producers: BTreeMap<ProducerId, ProducerEntry>,
    /// First offsets of all open transactions.
    open_from: BTreeSet<Offset>,
}

impl ProducerState {
    /// What may be done with a batch that makes this claim.
    pub(crate) fn check(&self, claim: &Claim) -> Verdict {
        let Some(entry) = self.producers.get(&claim.producer_id) else {
            return Verdict::Append;
        };
        if claim.producer_epoch < entry.producer_epoch {
            return Verdict::Fenced { current: entry.producer_epoch };
        }
        let last = claim.last_sequence();
        if claim.producer_epoch == entry.producer_epoch {
            let written = entry
                .batches
                .iter()
                .find(|b| b.first_sequence == claim.first_sequence && b.last_sequence == last);
            if let Some(batch) = written {
                return Verdict::Duplicate {
                    first_offset: batch.first_offset,
                    last_offset: batch.last_offset,
                };
            }
        }
        let expected = self.next_sequence(claim.producer_id, claim.producer_epoch);
        if claim.first_sequence != expected {
            return Verdict::OutOfOrder { expected, actual: claim.first_sequence };
        }
        if entry.open.is_some() && !claim.is_transactional {
            return Verdict::OutsideTransaction;
        }
        Verdict::Append
    }

    /// The sequence that the next batch of this producer must start with.
    pub(crate) fn next_sequence(&self, id: ProducerId, epoch: ProducerEpoch) -> i32 {
        self.producers
            .get(&id)
            .filter(|entry| entry.producer_epoch == epoch)
            .and_then(|entry| entry.batches.back())
            .map_or(0, |last| advance_sequence(last.last_sequence, 1))
    }

    /// Remembers a batch that has been written.
    pub(crate) fn apply_batch(
        &mut self,
        claim: &Claim,
        first_offset: Offset,
        last_offset: Offset,
        now: Timestamp,
    ) {
        let entry = self
            .producers
            .entry(claim.producer_id)
            .or_insert_with(|| ProducerEntry::new(claim.producer_epoch, now));
        entry.raise_epoch(claim.producer_epoch);
        if entry.batches.len() == BATCHES_KEPT {
            entry.batches.pop_front();
        }
        entry.batches.push_back(BatchSpan {
            first_sequence: claim.first_sequence,
            last_sequence: claim.last_sequence(),
            first_offset,
            last_offset,
        });
        entry.last_seen = now;
        if claim.is_transactional {
            let first = entry.open.map_or(first_offset, |open| open.first_offset);
            entry.open = Some(OpenSpan { first_offset: first, end_offset: last_offset + 1 });
            self.open_from.insert(first);
        }
    }

    /// Whether a marker with this epoch may be written: `Fenced` when a later epoch is known, or when
    /// the epoch is not a raised one (KIP-890) and there is a transaction that it would end.
    pub(crate) fn check_marker(&self, id: ProducerId, epoch: ProducerEpoch) -> Verdict {
        match self.producers.get(&id) {
            Some(entry)
                if epoch < entry.producer_epoch
                    || (epoch == entry.producer_epoch && entry.open.is_some()) =>
            {
                Verdict::Fenced { current: entry.producer_epoch }
            }
            _ => Verdict::Append,
        }
    }

    /// Ends a producer's transaction with a marker that has been written; answers where its data lay.
    pub(crate) fn apply_marker(
        &mut self,
        id: ProducerId,
        epoch: ProducerEpoch,
        coordinator_epoch: i32,
        now: Timestamp,
    ) -> Option<OpenSpan> {
        let entry = self.producers.entry(id).or_insert_with(|| ProducerEntry::new(epoch, now));
        entry.raise_epoch(epoch);
        entry.coordinator_epoch = coordinator_epoch;
        entry.last_seen = now;
        let ended = entry.open.take();
        if let Some(span) = ended {
            self.open_from.remove(&span.first_offset);
        }
        ended
    }

    /// The entry of one producer.
    pub(crate) fn get(&self, id: ProducerId) -> Option<&ProducerEntry> {
        self.producers.get(&id)
    }

    /// All producers, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerEntry)> {
        self.producers.iter().map(|(id, entry)| (*id, entry))
    }

    /// Puts back what a snapshot holds of one producer.
    pub(crate) fn insert(&mut self, id: ProducerId, entry: ProducerEntry) {
        if let Some(span) = entry.open {
            self.open_from.insert(span.first_offset);
        }
        self.producers.insert(id, entry);
    }

    /// Producers that have a transaction open here.
    pub(crate) fn open(&self) -> impl Iterator<Item = (ProducerId, ProducerEpoch, OpenSpan)> {
        self.iter().filter_map(|(id, entry)| Some((id, entry.producer_epoch, entry.open?)))
    }

    /// First offset of the oldest open transaction.
    pub(crate) fn first_open_offset(&self) -> Option<Offset> {
        self.open_from.first().copied()
    }

    /// Forgets one producer, whatever it has open.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn forget(&mut self, id: ProducerId) {
        self.producers.remove(&id);
    }

    /// Forgets producers not heard of since `before`, unless they have a transaction open.
    pub(crate) fn expire(&mut self, before: Timestamp) {
        self.producers.retain(|_, entry| entry.open.is_some() || entry.last_seen > before);
    }
}

/// The sequence `by` records after `sequence`.
fn advance_sequence(sequence: i32, by: i32) -> i32 {
    let next = (i64::from(sequence) + i64::from(by)) % (i64::from(i32::MAX) + 1);
    i32::try_from(next).expect("a remainder of 2^31 fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(producer: i64, epoch: i16, first_sequence: i32, record_count: i32) -> Claim {
        Claim {
            producer_id: ProducerId(producer),
            producer_epoch: ProducerEpoch(epoch),
            first_sequence,
            record_count,
            is_transactional: false,
        }
    }

    fn transactional(producer: i64, epoch: i16, first_sequence: i32) -> Claim {
        Claim { is_transactional: true, ..claim(producer, epoch, first_sequence, 1) }
    }

    fn write(state: &mut ProducerState, claim: Claim, at: Offset) {
        assert_eq!(state.check(&claim), Verdict::Append, "{claim:?}");
        state.apply_batch(&claim, at, at + Offset::from(claim.record_count) - 1, 0);
    }

    #[test]
    fn the_last_five_batches_are_duplicates_and_older_ones_are_out_of_order() {
        let mut state = ProducerState::default();
        for n in 0..6 {
            write(&mut state, claim(1, 0, n * 2, 2), Offset::from(n) * 2);
        }
        assert_eq!(
            state.check(&claim(1, 0, 2, 2)),
            Verdict::Duplicate { first_offset: 2, last_offset: 3 }
        );
        assert_eq!(
            state.check(&claim(1, 0, 0, 2)),
            Verdict::OutOfOrder { expected: 12, actual: 0 }
        );
        assert_eq!(
            state.check(&claim(1, 0, 13, 2)),
            Verdict::OutOfOrder { expected: 12, actual: 13 }
        );
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_fences_the_old_one() {
        let mut state = ProducerState::default();
        write(&mut state, claim(1, 0, 0, 1), 0);
        assert_eq!(state.check(&claim(1, 1, 1, 1)), Verdict::OutOfOrder { expected: 0, actual: 1 });
        write(&mut state, claim(1, 1, 0, 1), 1);
        assert_eq!(state.check(&claim(1, 0, 1, 1)), Verdict::Fenced { current: ProducerEpoch(1) });
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere_and_sequences_wrap_to_zero() {
        let mut state = ProducerState::default();
        write(&mut state, claim(7, 3, i32::MAX - 1, 4), 0);
        assert_eq!(state.get(ProducerId(7)).unwrap().batches[0].last_sequence, 1);
        write(&mut state, claim(7, 3, 2, 1), 4);
    }

    #[test]
    fn a_marker_ends_the_transaction_and_fences_what_comes_late() {
        let mut state = ProducerState::default();
        write(&mut state, transactional(1, 4, 0), 10);
        write(&mut state, transactional(1, 4, 1), 12);
        assert_eq!(state.first_open_offset(), Some(10));
        assert_eq!(
            state.check_marker(ProducerId(1), ProducerEpoch(4)),
            Verdict::Fenced { current: ProducerEpoch(4) }
        );
        assert_eq!(state.check_marker(ProducerId(1), ProducerEpoch(5)), Verdict::Append);
        let span = state.apply_marker(ProducerId(1), ProducerEpoch(5), 0, 0);
        assert_eq!(span, Some(OpenSpan { first_offset: 10, end_offset: 13 }));
        assert_eq!(
            state.check(&transactional(1, 4, 2)),
            Verdict::Fenced { current: ProducerEpoch(5) }
        );
        write(&mut state, transactional(1, 5, 0), 14);
    }

    #[test]
    fn plain_batches_are_refused_inside_a_transaction_of_the_same_producer() {
        let mut state = ProducerState::default();
        write(&mut state, transactional(1, 0, 0), 0);
        assert_eq!(state.check(&claim(1, 0, 1, 1)), Verdict::OutsideTransaction);
    }

    #[test]
    fn idle_producers_are_forgotten_unless_a_transaction_is_open() {
        let mut state = ProducerState::default();
        write(&mut state, claim(1, 0, 0, 1), 0);
        write(&mut state, transactional(2, 0, 0), 1);
        state.expire(0);
        assert!(state.get(ProducerId(1)).is_none());
        assert!(state.get(ProducerId(2)).is_some());
    }
}
