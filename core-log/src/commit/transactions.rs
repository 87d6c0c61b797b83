//! Who may append to, commit and abort which transaction. Pure.
//!
//! ```text
//!   Idle --begin--> Open --decide--> Deciding --finish--> Idle        (the next epoch)
//!    |  ^            |
//!    |  |            +--abort------> Aborting --finish--> Idle        (the next epoch)
//!    +--park/resume: nobody holds it; whoever wants the id next goes on with its producer id
//! ```
//!
//! Why: from the append of a commit record on, nothing may abort its transaction; so who decides and
//! who aborts must be settled in one place, before anything is written.
//!
//! Invariants
//! * A producer id has one holder; a new holder of its transactional id fences it for ever.
//! * `decide` and `abort` exclude each other; a partition is joined before it is written.
//! * At most [`PARKED_MAX`] ids are kept that nobody holds; the one parked longest ago goes first.
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

/// How many transactional ids are remembered while nobody holds them. One that is forgotten takes a
/// fresh producer id the next time.
pub(crate) const PARKED_MAX: usize = 1_000;

/// Why something may not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another holder of the transactional id took the right away.
    Fenced,
    /// The transaction was open for longer than this.
    TimedOut(Duration),
    /// Somebody aborted it by its transactional id.
    Dismissed,
    /// The producer has a transaction running.
    Running,
    /// The transaction has ended.
    Ended,
    /// All epochs of the producer id are used; a new id must be taken.
    EpochsUsedUp,
}

/// How far a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
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
    /// `None`: that of the log.
    timeout: Option<Duration>,
    partitions: BTreeSet<TopicPartition>,
    /// Its place among those that nobody holds.
    parked: Option<u64>,
}

/// One holder, as others may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) transactional_id: TransactionalId,
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) phase: Phase,
    pub(crate) timeout: Option<Duration>,
    pub(crate) partitions: BTreeSet<TopicPartition>,
}

/// What became of an abort by transactional id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dismissal {
    /// It was open: it is to be aborted, and its holder is fenced.
    Abort(ProducerId),
    /// It is on its way to an end that nothing changes.
    Ending(ProducerId),
    /// The id has no transaction running.
    Idle,
    /// Nobody had this id since the log was opened.
    Unknown,
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
    /// Why holders that were not followed by another one lost the right, until they let go.
    ousted: BTreeMap<ProducerId, Refusal>,
    /// Those that nobody holds, the one parked longest ago first.
    parked: BTreeMap<u64, ProducerId>,
    parked_next: u64,
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
        let parked = &mut self.parked;
        self.holders.retain(|_, holder| {
            let stays = !is_before(holder) || holder.phase != Phase::Idle;
            if let (false, Some(place)) = (stays, holder.parked) {
                parked.remove(&place);
            }
            stays
        });
        let running = self.holders.iter().filter(|(_, holder)| is_before(holder));
        let running = running.map(|(producer, _)| *producer).collect();
        self.holders.insert(
            producer,
            Holder {
                transactional_id: id.clone(),
                epoch: 0,
                phase: Phase::Idle,
                timeout: None,
                partitions: BTreeSet::new(),
                parked: None,
            },
        );
        self.current.insert(id.clone(), producer);
        running
    }

    fn is_current(&self, producer: ProducerId, holder: &Holder) -> bool {
        self.current.get(&holder.transactional_id) == Some(&producer)
    }

    /// Starts a transaction; without a time-out of its own it has the log's.
    pub(crate) fn begin(
        &mut self,
        producer: ProducerId,
        now: Duration,
        timeout: Option<Duration>,
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
        holder.timeout = timeout;
        Ok(ProducerEpoch(holder.epoch))
    }

    /// Starts a transaction of an id that nobody holds, with the producer id that it had.
    pub(crate) fn resume(
        &mut self,
        id: &TransactionalId,
        now: Duration,
        timeout: Option<Duration>,
    ) -> Option<(ProducerId, ProducerEpoch)> {
        let producer = *self.current.get(id)?;
        let place = self.holders.get_mut(&producer)?.parked.take()?;
        self.parked.remove(&place);
        let epoch = self.begin(producer, now, timeout).ok()?;
        Some((producer, epoch))
    }

    /// Lets go of a producer whose transaction has ended, so that the id can go on with it.
    pub(crate) fn park(&mut self, producer: ProducerId) {
        let can_go_on = self.holders.get(&producer).is_some_and(|holder| {
            holder.phase == Phase::Idle
                && holder.epoch <= EPOCH_LAST
                && self.is_current(producer, holder)
        });
        if !can_go_on {
            self.release(producer);
            return;
        }
        let place = self.parked_next;
        self.parked_next += 1;
        self.parked.insert(place, producer);
        if let Some(holder) = self.holders.get_mut(&producer) {
            holder.parked = Some(place);
        }
        if self.parked.len() > PARKED_MAX
            && let Some((_, oldest)) = self.parked.pop_first()
        {
            self.release(oldest);
        }
    }

    /// Why a producer has no right any more.
    fn ousted(&self, producer: ProducerId) -> Refusal {
        self.ousted.get(&producer).copied().unwrap_or(Refusal::Fenced)
    }

    fn open(&mut self, producer: ProducerId, epoch: ProducerEpoch) -> Result<&mut Holder, Refusal> {
        let why = self.ousted(producer);
        let holder = self.holders.get(&producer).ok_or(why)?;
        if !self.is_current(producer, holder) {
            return Err(why);
        }
        if holder.epoch != epoch.0 {
            return Err(Refusal::Ended);
        }
        let holder = self.holders.get_mut(&producer).expect("it was found above");
        match holder.phase {
            Phase::Open { .. } => Ok(holder),
            Phase::Aborting => Err(why),
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

    /// Whether a transaction is open, and its own.
    pub(crate) fn check_open(
        &mut self,
        producer: ProducerId,
        epoch: ProducerEpoch,
    ) -> Result<(), Refusal> {
        self.open(producer, epoch).map(drop)
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

    /// Fences a producer for ever without a new holder, and remembers why until it lets go.
    pub(crate) fn fence(&mut self, producer: ProducerId, why: Refusal) {
        if let Some(holder) = self.holders.get(&producer)
            && self.current.get(&holder.transactional_id) == Some(&producer)
        {
            self.current.remove(&holder.transactional_id);
            self.ousted.insert(producer, why);
        }
    }

    /// Fences the holder of an id whose transaction is open.
    pub(crate) fn dismiss(&mut self, id: &TransactionalId) -> Dismissal {
        let of_id = self.holders.iter().filter(|(_, holder)| holder.transactional_id == *id);
        let mut found = Dismissal::Unknown;
        for (producer, holder) in of_id {
            match holder.phase {
                Phase::Open { .. } => {
                    found = Dismissal::Abort(*producer);
                    break;
                }
                Phase::Deciding | Phase::Aborting => found = Dismissal::Ending(*producer),
                Phase::Idle if found == Dismissal::Unknown => found = Dismissal::Idle,
                Phase::Idle => {}
            }
        }
        if let Dismissal::Abort(producer) = found {
            self.fence(producer, Refusal::Dismissed);
        }
        found
    }

    /// All holders, by transactional id.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let listed = self.holders.iter().map(|(producer, holder)| Listed {
            transactional_id: holder.transactional_id.clone(),
            producer_id: *producer,
            producer_epoch: ProducerEpoch(holder.epoch),
            phase: holder.phase,
            timeout: holder.timeout,
            partitions: holder.partitions.clone(),
        });
        let mut listed: Vec<_> = listed.collect();
        listed.sort_by(|a, b| {
            (&a.transactional_id, a.producer_id).cmp(&(&b.transactional_id, b.producer_id))
        });
        listed
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

    /// Producers whose transactions have joined a partition and are open for longer than they may be,
    /// `most` where they do not say, and how long that is.
    pub(crate) fn timed_out(&self, now: Duration, most: Duration) -> Vec<(ProducerId, Duration)> {
        let late = |(producer, holder): (&ProducerId, &Holder)| {
            let Phase::Open { since } = holder.phase else { return None };
            let timeout = holder.timeout.unwrap_or(most);
            let is_late = !holder.partitions.is_empty() && now.saturating_sub(since) > timeout;
            is_late.then_some((*producer, timeout))
        };
        self.holders.iter().filter_map(late).collect()
    }

    /// Forgets a producer that is given up; its transaction, if any, has been aborted.
    pub(crate) fn release(&mut self, producer: ProducerId) {
        self.ousted.remove(&producer);
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
mod tests;
