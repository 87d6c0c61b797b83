//! Who may append to, commit and abort which transaction. Pure.
//!
//! ```text
//!   Idle --begin--> Open --decide--> Deciding --finish--> Idle        (the next epoch)
//!                    |
//!                    +--abort------> Aborting --finish--> Idle        (the next epoch)
//! ```
//!
//! Why: from the append of a commit record on, nothing may abort its transaction; so who decides and
//! who aborts must be settled in one place, before anything is written.
//!
//! Invariants
//! * A producer id has one holder; a new holder of its transactional id fences it for ever.
//! * `decide` and `abort` exclude each other; a partition is joined before it is written.
//! * Epochs 0 to 32766 are used for data; the marker of epoch e carries e + 1.
//!
//! On crash: nothing of this is kept. Every open transaction is aborted by recovery and every
//! transactional producer starts with a fresh producer id.
//! Reference: KIP-98, KIP-890; Kafka `TransactionMetadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::{ProducerEpoch, ProducerId, TopicPartition, TransactionalId};

/// The last epoch that a transaction can use: its marker carries one more.
const EPOCH_LAST: i16 = i16::MAX - 1;

/// Why something may not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another holder of the transactional id, or a time-out, took the right away.
    Fenced,
    /// The producer has a transaction running.
    Running,
    /// The transaction has ended.
    Ended,
    /// All epochs of the producer id are used; a new id must be taken.
    EpochsUsedUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Open { since: Duration },
    Deciding,
    Aborting,
}

#[derive(Clone, Debug)]
struct Holder {
    transactional_id: TransactionalId,
    epoch: i16,
    phase: Phase,
    partitions: BTreeSet<TopicPartition>,
}

/// An open transaction whose end has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) transactional_id: TransactionalId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) partitions: BTreeSet<TopicPartition>,
}

/// All transactional producers of one log.
#[derive(Debug, Default)]
pub(crate) struct TransactionTable {
    holders: BTreeMap<ProducerId, Holder>,
    current: BTreeMap<TransactionalId, ProducerId>,
}

impl TransactionTable {
    /// Makes `producer` the holder of `id`, and fences those before; answers the ones whose transaction
    /// has not ended. There can be several: the last holder may itself still wait for one before it.
    pub(crate) fn take_over(
        &mut self,
        id: &TransactionalId,
        producer: ProducerId,
    ) -> Vec<ProducerId> {
        let is_before = |holder: &Holder| holder.transactional_id == *id;
        self.holders.retain(|_, holder| !(is_before(holder) && holder.phase == Phase::Idle));
        let running = self.holders.iter().filter(|(_, holder)| is_before(holder));
        let running = running.map(|(producer, _)| *producer).collect();
        self.holders.insert(
            producer,
            Holder {
                transactional_id: id.clone(),
                epoch: 0,
                phase: Phase::Idle,
                partitions: BTreeSet::new(),
            },
        );
        self.current.insert(id.clone(), producer);
        running
    }

    fn is_current(&self, producer: ProducerId, holder: &Holder) -> bool {
        self.current.get(&holder.transactional_id) == Some(&producer)
    }

    /// Starts a transaction.
    pub(crate) fn begin(
        &mut self,
        producer: ProducerId,
        now: Duration,
    ) -> Result<ProducerEpoch, Refusal> {
        let holder = self.holders.get(&producer).ok_or(Refusal::Fenced)?;
        if !self.is_current(producer, holder) {
            return Err(Refusal::Fenced);
        }
        if holder.phase != Phase::Idle {
            return Err(Refusal::Running);
        }
        if holder.epoch > EPOCH_LAST {
            return Err(Refusal::EpochsUsedUp);
        }
        let holder = self.holders.get_mut(&producer).expect("it was found above");
        holder.phase = Phase::Open { since: now };
        Ok(ProducerEpoch(holder.epoch))
    }

    fn open(&mut self, producer: ProducerId, epoch: ProducerEpoch) -> Result<&mut Holder, Refusal> {
        let holder = self.holders.get(&producer).ok_or(Refusal::Fenced)?;
        if !self.is_current(producer, holder) {
            return Err(Refusal::Fenced);
        }
        if holder.epoch != epoch.0 {
            return Err(Refusal::Ended);
        }
        let holder = self.holders.get_mut(&producer).expect("it was found above");
        match holder.phase {
            Phase::Open { .. } => Ok(holder),
            Phase::Aborting => Err(Refusal::Fenced),
            Phase::Idle | Phase::Deciding => Err(Refusal::Ended),
        }
    }

    /// Makes `partition` part of a transaction: must come before the first append to it. The time-out
    /// of the transaction counts from its first partition.
    pub(crate) fn join(
        &mut self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        partition: TopicPartition,
        now: Duration,
    ) -> Result<(), Refusal> {
        let holder = self.open(producer, epoch)?;
        if holder.partitions.is_empty() {
            holder.phase = Phase::Open { since: now };
        }
        holder.partitions.insert(partition);
        Ok(())
    }

    /// The partitions of an open transaction.
    pub(crate) fn partitions(
        &mut self,
        producer: ProducerId,
        epoch: ProducerEpoch,
    ) -> Result<BTreeSet<TopicPartition>, Refusal> {
        Ok(self.open(producer, epoch)?.partitions.clone())
    }

    /// The point of no return of a commit: from here on nothing aborts it.
    pub(crate) fn decide(
        &mut self,
        producer: ProducerId,
        epoch: ProducerEpoch,
    ) -> Result<(), Refusal> {
        self.open(producer, epoch)?.phase = Phase::Deciding;
        Ok(())
    }

    /// Begins to abort an open transaction, whoever holds the transactional id by now; `None` when
    /// there is nothing to abort.
    pub(crate) fn abort(&mut self, producer: ProducerId) -> Option<Ending> {
        let holder = self.holders.get_mut(&producer)?;
        let Phase::Open { .. } = holder.phase else { return None };
        holder.phase = Phase::Aborting;
        Some(Ending {
            transactional_id: holder.transactional_id.clone(),
            producer_epoch: ProducerEpoch(holder.epoch),
            partitions: holder.partitions.clone(),
        })
    }

    /// The end of a transaction is written: the producer may begin the next one, with the next epoch.
    pub(crate) fn finish(&mut self, producer: ProducerId) {
        let Some(holder) = self.holders.get_mut(&producer) else { return };
        holder.phase = Phase::Idle;
        holder.epoch = holder.epoch.saturating_add(1);
        holder.partitions.clear();
        if self.current.get(&self.holders[&producer].transactional_id) != Some(&producer) {
            self.holders.remove(&producer);
        }
    }

    /// Fences a producer for ever without a new holder: its transaction timed out.
    pub(crate) fn fence(&mut self, producer: ProducerId) {
        if let Some(holder) = self.holders.get(&producer)
            && self.current.get(&holder.transactional_id) == Some(&producer)
        {
            self.current.remove(&holder.transactional_id);
        }
    }

    /// Whether this producer's transaction, running or next, has this epoch.
    pub(crate) fn is_at(&self, producer: ProducerId, epoch: ProducerEpoch) -> bool {
        self.holders.get(&producer).is_some_and(|holder| holder.epoch == epoch.0)
    }

    /// Fences everybody; answers all producers.
    pub(crate) fn fence_all(&mut self) -> Vec<ProducerId> {
        self.current.clear();
        self.holders.keys().copied().collect()
    }

    /// Whether a transaction of this producer is on its way to an end.
    pub(crate) fn is_ending(&self, producer: ProducerId) -> bool {
        self.holders
            .get(&producer)
            .is_some_and(|holder| matches!(holder.phase, Phase::Deciding | Phase::Aborting))
    }

    /// Producers whose transactions have written something and are open for longer than `most`.
    pub(crate) fn timed_out(&self, now: Duration, most: Duration) -> Vec<ProducerId> {
        let is_late = |holder: &Holder| match holder.phase {
            Phase::Open { since } => {
                !holder.partitions.is_empty() && now.saturating_sub(since) > most
            }
            _ => false,
        };
        self.holders.iter().filter(|(_, holder)| is_late(holder)).map(|(id, _)| *id).collect()
    }

    /// Forgets a producer that is given up; its transaction, if any, has been aborted.
    pub(crate) fn release(&mut self, producer: ProducerId) {
        let Some(holder) = self.holders.get(&producer) else { return };
        if holder.phase == Phase::Idle {
            if self.current.get(&holder.transactional_id) == Some(&producer) {
                self.current.remove(&holder.transactional_id);
            }
            self.holders.remove(&producer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TopicId;

    const P: ProducerId = ProducerId(1);
    const E: ProducerEpoch = ProducerEpoch(0);

    fn id() -> TransactionalId {
        TransactionalId::new("job").unwrap()
    }

    fn partition(n: u32) -> TopicPartition {
        TopicPartition { topic: TopicId([1; 16]), partition: n }
    }

    fn open() -> TransactionTable {
        let mut table = TransactionTable::default();
        assert_eq!(table.take_over(&id(), P), []);
        assert_eq!(table.begin(P, Duration::ZERO), Ok(E));
        table.join(P, E, partition(0), Duration::ZERO).unwrap();
        table
    }

    #[test]
    fn nothing_aborts_a_transaction_that_is_being_decided() {
        let mut table = open();
        table.decide(P, E).unwrap();
        assert_eq!(table.abort(P), None);
        assert_eq!(table.take_over(&id(), ProducerId(2)), [P]);
        assert_eq!(table.abort(P), None);
        assert!(table.timed_out(Duration::MAX, Duration::ZERO).is_empty());
        assert!(table.is_ending(P));
        table.finish(P);
        assert!(!table.is_ending(P));
        assert_eq!(table.begin(P, Duration::ZERO), Err(Refusal::Fenced));
    }

    #[test]
    fn a_new_holder_fences_the_one_before() {
        let mut table = open();
        assert_eq!(table.take_over(&id(), ProducerId(2)), [P]);
        assert_eq!(table.join(P, E, partition(1), Duration::ZERO), Err(Refusal::Fenced));
        assert_eq!(table.decide(P, E), Err(Refusal::Fenced));
        let ending = table.abort(P).unwrap();
        assert_eq!(ending.partitions, BTreeSet::from([partition(0)]));
        table.finish(P);
        assert_eq!(table.begin(ProducerId(2), Duration::ZERO), Ok(E));
    }

    /// The second holder waits for the first one's commit; a third must too, or it would read positions
    /// that the commit on its way is about to replace.
    #[test]
    fn a_third_holder_is_told_of_a_commit_that_the_second_still_waits_for() {
        let mut table = open();
        table.decide(P, E).unwrap();
        assert_eq!(table.take_over(&id(), ProducerId(2)), [P]);
        assert_eq!(table.take_over(&id(), ProducerId(3)), [P]);
        assert_eq!(table.begin(ProducerId(2), Duration::ZERO), Err(Refusal::Fenced));
        table.finish(P);
        assert_eq!(table.take_over(&id(), ProducerId(4)), []);
        assert_eq!(table.holders.len(), 1);
    }

    #[test]
    fn each_transaction_has_the_next_epoch_until_they_are_used_up() {
        let mut table = TransactionTable::default();
        table.take_over(&id(), P);
        for epoch in 0..i16::MAX {
            assert_eq!(table.begin(P, Duration::ZERO), Ok(ProducerEpoch(epoch)));
            table.decide(P, ProducerEpoch(epoch)).unwrap();
            table.finish(P);
        }
        assert_eq!(table.begin(P, Duration::ZERO), Err(Refusal::EpochsUsedUp));
    }

    #[test]
    fn an_old_transaction_can_not_touch_the_next_one() {
        let mut table = open();
        table.decide(P, E).unwrap();
        table.finish(P);
        assert_eq!(table.begin(P, Duration::ZERO), Ok(ProducerEpoch(1)));
        assert_eq!(table.join(P, E, partition(0), Duration::ZERO), Err(Refusal::Ended));
        assert_eq!(table.decide(P, E), Err(Refusal::Ended));
    }

    #[test]
    fn a_transaction_times_out_from_its_first_write_on() {
        let second = Duration::from_secs(1);
        let mut table = TransactionTable::default();
        table.take_over(&id(), P);
        table.begin(P, Duration::ZERO).unwrap();
        assert!(table.timed_out(second * 9, second).is_empty());
        table.join(P, E, partition(0), second * 9).unwrap();
        assert!(table.timed_out(second * 10, second).is_empty());
        assert_eq!(table.timed_out(second * 11, second), [P]);
        table.fence(P);
        assert_eq!(table.decide(P, E), Err(Refusal::Fenced));
        assert!(table.abort(P).is_some());
    }

    #[test]
    fn one_transaction_at_a_time() {
        let mut table = open();
        assert_eq!(table.begin(P, Duration::ZERO), Err(Refusal::Running));
    }
}
