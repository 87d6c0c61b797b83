//! Commits of positions: at once, later in order, or with a transaction.
//!
//! ```text
//!   commit        waits for the ones before it, then commits on this thread
//!   commit_async  queue --> the log's thread: all that waits, in one record --> acknowledged
//!   commit_in     the transaction's commit record carries the positions
//! ```
//!
//! Why a check around each: between the check that a member owns a partition and the end of its commit it
//! is in a call, so it cannot be taken for silent and lose the partition in between.
//!
//! Invariants
//! * Commits of one consumer are done in the order in which they were asked for.
//! * A member commits only partitions that it owns; a consumer with partitions of its own choice only
//!   while nobody subscribes in the group, or shares records.
//! * Partitions are handed over only when no commit of theirs is on its way.
//!
//! On crash: what was acknowledged is as durable as the settings promise; the rest may be there or not.
//! Reference: Kafka `ConsumerCoordinator`, `OffsetMetadataManager`.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::locks::{Condvar, Mutex};
use bytes::Bytes;

use super::consumer::Consumer;
use super::shared;
use crate::commit::{METADATA_BYTES_MAX, OffsetCommit};
use crate::config::Durability;
use crate::error::{Error, GroupError, Result};
use crate::ids::{GroupId, Offset, TopicPartition};
use crate::log::Log;
use crate::members::table::{Handed, MemberId};
use crate::members::{GroupState, PartitionName};
use crate::producer::{CommitOutcome, CommitWith};

/// Asynchronous commits of one consumer that wait at most; the next one waits for the first of them.
const PENDING_MAX: usize = 1_000;

/// A position and what the group keeps beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// The next offset to read.
    pub offset: Offset,
    /// At most 4096 bytes.
    pub metadata: Bytes,
}

impl From<Offset> for OffsetAndMetadata {
    fn from(offset: Offset) -> Self {
        Self { offset, metadata: Bytes::new() }
    }
}

/// The committed offsets of a group, by name.
pub(super) fn committed(
    log: &Log,
    group: &GroupId,
) -> Result<BTreeMap<PartitionName, OffsetAndMetadata>> {
    let topics: BTreeMap<_, _> =
        log.topics()?.into_iter().map(|topic| (topic.id(), topic.name().clone())).collect();
    let named = |commit: OffsetCommit| {
        let OffsetCommit { topic, partition, offset, metadata, .. } = commit;
        let topic = topics.get(&topic)?.clone();
        Some((PartitionName { topic, partition }, OffsetAndMetadata { offset, metadata }))
    };
    Ok(log.committed(group)?.into_iter().filter_map(named).collect())
}

/// The committed offsets of a group, as places to begin at.
pub(super) fn committed_positions(
    log: &Log,
    group: &GroupId,
) -> Result<BTreeMap<TopicPartition, Handed>> {
    let position = |commit: OffsetCommit| {
        let handed = Handed { offset: commit.offset, leader_epoch: commit.leader_epoch };
        (commit.topic_partition(), handed)
    };
    Ok(log.committed(group)?.into_iter().map(position).collect())
}

/// Who commits.
#[derive(Clone, Debug)]
struct Who {
    group: Arc<GroupState>,
    member: Option<MemberId>,
    name: String,
    generation: u64,
}

impl Who {
    /// A commit begins: refused, if somebody else may own one of the partitions.
    fn begin(&self, log: &Log, names: &[PartitionName]) -> Result<()> {
        let mut membership = self.group.membership.lock();
        let Some(member) = self.member else {
            let (group, members) = (self.group.id.clone(), membership.count());
            if self.group.shares.lock().count > 0 {
                let (inside, outside) = (shared::SHARE_RECORDS, shared::SHARE_PARTITIONS);
                return Err(GroupError::OtherKind { group, inside, outside }.into());
            }
            let refused = (members > 0).then_some(GroupError::Subscribed { group, members });
            return refused.map_or(Ok(()), |refused| Err(refused.into()));
        };
        if let Some(lost) = names.iter().find(|name| !membership.owns(member, name)) {
            return Err(GroupError::Fenced {
                group: self.group.id.clone(),
                member: self.name.clone(),
                topic: lost.topic.clone(),
                partition: lost.partition,
                generation: self.generation,
                current: membership.generation(),
            }
            .into());
        }
        membership.begin_call(member, log.inner.clock().monotonic());
        Ok(())
    }

    fn end(&self, log: &Log, names: &[PartitionName], is_committed: bool) {
        let Some(member) = self.member else { return };
        let mut membership = self.group.membership.lock();
        membership.end_call(member, log.inner.clock().monotonic());
        if is_committed {
            membership.committed(member, names);
        }
    }

    /// Commits positions on this thread.
    fn commit(&self, log: &Log, positions: &Positions, durability: Durability) -> Result<()> {
        self.begin(log, &positions.names)?;
        let committed = log.inner.engine().and_then(|engine| {
            let promise = durability.promise();
            let commits = engine.commits()?;
            commits.commit_offsets(engine.as_ref(), &self.group.id, promise, &positions.offsets)
        });
        self.end(log, &positions.names, committed.is_ok());
        committed
    }
}

/// What is to be committed: names and offsets, in the same order.
#[derive(Clone, Debug, Default)]
struct Positions {
    names: Vec<PartitionName>,
    offsets: Vec<OffsetCommit>,
}

impl Positions {
    /// Takes over what `later` says of its partitions.
    fn overtake(&mut self, later: &Self) {
        for (name, offset) in later.names.iter().zip(&later.offsets) {
            match self.names.iter().position(|known| known == name) {
                Some(at) => self.offsets[at] = offset.clone(),
                None => {
                    self.names.push(name.clone());
                    self.offsets.push(offset.clone());
                }
            }
        }
    }
}

/// Commits that wait for the log's thread.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Vec<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    who: Who,
    positions: Positions,
    durability: Durability,
    slot: Arc<Slot>,
}

impl Queue {
    /// Commits all that waits, in one record if it can be.
    fn drain(&self, log: Log) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        let mut outcomes = Vec::with_capacity(waiting.len());
        if let [first, others @ ..] = &waiting[..]
            && others.iter().all(|other| other.who.member == first.who.member)
            && !others.is_empty()
        {
            let mut all = first.positions.clone();
            others.iter().for_each(|later| all.overtake(&later.positions));
            if first.who.commit(&log, &all, first.durability).is_ok() {
                outcomes.extend(waiting.iter().map(|_| Ok(())));
            }
        }
        // One of them is refused, or the log has crashed: each gets an answer of its own.
        let left = &waiting[outcomes.len()..];
        outcomes
            .extend(left.iter().map(|one| one.who.commit(&log, &one.positions, one.durability)));
        // Must be BEFORE anybody is told: who is told may open the same directory again.
        drop(log);
        for (one, outcome) in waiting.into_iter().zip(outcomes) {
            let Waiting { who, slot, .. } = one;
            if let Err(error) = &outcome {
                tracing::warn!(group = %who.group.id, member = who.name, %error, "a commit failed");
            }
            drop(who);
            slot.acknowledge(outcome);
        }
    }
}

/// Where the outcome of a commit is left.
#[derive(Debug, Default)]
pub(super) struct Slot {
    state: Mutex<SlotState>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct SlotState {
    is_done: bool,
    has_failed: bool,
    outcome: Option<Result<()>>,
    waker: Option<Waker>,
}

impl Slot {
    fn acknowledge(&self, outcome: Result<()>) {
        let mut state = self.state.lock();
        state.is_done = true;
        state.has_failed = outcome.is_err();
        state.outcome = Some(outcome);
        let waker = state.waker.take();
        self.done.notify_all();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wait(&self) {
        let mut state = self.state.lock();
        while !state.is_done {
            self.done.wait(&mut state);
        }
    }

    fn take(&self) -> Result<()> {
        self.state.lock().outcome.take().unwrap_or(Ok(()))
    }
}

/// A commit that was asked for: wait for it, or await it. Dropping it does not take it back.
#[derive(Debug)]
#[must_use = "whether the commit succeeded is known only here"]
pub struct PendingCommit {
    slot: Arc<Slot>,
}

impl PendingCommit {
    /// Waits until the commit is as durable as promised.
    ///
    /// # Errors
    ///
    /// As [`Consumer::commit`].
    pub fn wait(self) -> Result<()> {
        self.slot.wait();
        self.slot.take()
    }
}

impl Future for PendingCommit {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut state = self.slot.state.lock();
        if state.is_done {
            return Poll::Ready(state.outcome.take().unwrap_or(Ok(())));
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Consumer {
    /// Commits the positions of all its partitions: that everything which was handed out is done with.
    /// Waits until that is as durable as the settings promise.
    ///
    /// # Errors
    ///
    /// * [`GroupError::Fenced`]: it lost a partition, as it did not poll for too long; nothing is committed.
    /// * [`GroupError::NoGroup`], [`GroupError::Subscribed`], [`GroupError::OtherKind`]: nothing is
    ///   committed.
    /// * [`Error::LogCrashed`] and what the disk says: recovery decides; commit again.
    pub fn commit(&mut self) -> Result<()> {
        self.commit_lanes(|_all| true)
    }

    pub(super) fn commit_lanes(&mut self, chosen: impl Fn(&PartitionName) -> bool) -> Result<()> {
        let who = self.who()?;
        let positions = self.positions_of(chosen);
        self.settle();
        who.commit(&self.log, &positions, self.settings.durability)?;
        self.remember(&positions);
        Ok(())
    }

    /// Commits these positions, with metadata beside them: those of partitions that it has.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit); [`GroupError::NotAssigned`], [`GroupError::MetadataTooLarge`],
    /// [`Error::OffsetOutOfRange`]: nothing is committed.
    pub fn commit_offsets(
        &mut self,
        offsets: &BTreeMap<PartitionName, OffsetAndMetadata>,
    ) -> Result<()> {
        let who = self.who()?;
        let positions = self.positions_from(offsets)?;
        self.settle();
        who.commit(&self.log, &positions, self.settings.durability)?;
        self.remember(&positions);
        Ok(())
    }

    /// As [`commit`](Self::commit), without waiting. Commits are done in the order in which they were asked
    /// for; several that wait become one. When 1000 of them wait, this waits for the first.
    ///
    /// # Errors
    ///
    /// [`GroupError::NoGroup`]; all others come with the acknowledgement.
    pub fn commit_async(&mut self) -> Result<PendingCommit> {
        let (who, positions) = (self.who()?, self.positions_of(|_all| true));
        let slot = Arc::new(Slot::default());
        self.look_at_pending();
        if self.pending.len() >= PENDING_MAX
            && let Some(first) = self.pending.pop_front()
        {
            first.wait();
        }
        self.remember(&positions);
        self.pending.push_back(Arc::clone(&slot));
        let durability = self.settings.durability;
        let waiting = Waiting { who, positions, durability, slot: Arc::clone(&slot) };
        self.queue.waiting.lock().push(waiting);
        let (queue, log) = (Arc::clone(&self.queue), self.log.clone());
        if self.log.inner.settings().background {
            self.log.inner.jobs().submit(Box::new(move || queue.drain(log)));
        } else {
            queue.drain(log);
        }
        Ok(PendingCommit { slot })
    }

    /// Commits the positions of all its partitions with a transaction: its records and these positions
    /// become visible together or not at all.
    ///
    /// Commit before the next poll: that says that what was handed out before is done with, and may hand a
    /// partition over to another member, behind records that this transaction has not committed yet. When
    /// the commit fails, or the transaction is aborted, the positions stay where they are:
    /// [`seek_to_committed`](Self::seek_to_committed) reads its records again.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit) and [`Transaction::commit`](crate::Transaction::commit); the
    /// transaction is aborted.
    pub fn commit_in(&mut self, transaction: impl CommitWith) -> Result<CommitOutcome> {
        let who = self.who()?;
        let positions = self.positions_of(|_all| true);
        self.settle();
        who.begin(&self.log, &positions.names)?;
        let outcome = transaction.commit_with(&positions.offsets);
        who.end(&self.log, &positions.names, outcome.is_ok());
        if outcome.is_ok() {
            self.remember(&positions);
        }
        outcome
    }

    /// The committed offsets of its group.
    ///
    /// # Errors
    ///
    /// [`GroupError::NoGroup`]; [`Error::Damaged`]: the commit records are.
    pub fn committed(&self) -> Result<BTreeMap<PartitionName, OffsetAndMetadata>> {
        let seat = self.seat.as_ref().ok_or(GroupError::NoGroup)?;
        committed(&self.log, &seat.group.id)
    }

    /// Waits for the commits that it has asked for.
    pub(super) fn settle(&mut self) {
        self.pending.iter().for_each(|slot| slot.wait());
        self.look_at_pending();
    }

    /// Forgets the commits that are acknowledged; what failed is not taken for committed.
    pub(super) fn look_at_pending(&mut self) {
        while let Some(first) = self.pending.front() {
            let (is_done, has_failed) = {
                let state = first.state.lock();
                (state.is_done, state.has_failed)
            };
            if !is_done {
                return;
            }
            if has_failed {
                self.lanes.values_mut().for_each(|lane| lane.committed = None);
            }
            self.pending.pop_front();
        }
    }

    fn who(&self) -> Result<Who> {
        let seat = self.seat.as_ref().ok_or(GroupError::NoGroup)?;
        Ok(Who {
            group: Arc::clone(&seat.group),
            member: seat.member,
            name: seat.name.clone(),
            generation: seat.generation,
        })
    }

    fn remember(&mut self, positions: &Positions) {
        for (name, commit) in positions.names.iter().zip(&positions.offsets) {
            if let Some(lane) = self.lanes.get_mut(name) {
                lane.committed = Some(commit.offset);
            }
        }
    }

    fn positions_of(&self, chosen: impl Fn(&PartitionName) -> bool) -> Positions {
        let mut positions = Positions::default();
        let Some(seat) = &self.seat else { return positions };
        for (name, lane) in self.lanes.iter().filter(|(name, _)| chosen(name)) {
            if let Some(Handed { offset, leader_epoch }) = lane.position() {
                let TopicPartition { topic, partition } = lane.id();
                let (group, metadata) = (seat.group.id.clone(), Bytes::new());
                let commit =
                    OffsetCommit { group, topic, partition, offset, leader_epoch, metadata };
                positions.names.push(name.clone());
                positions.offsets.push(commit);
            }
        }
        positions
    }

    fn positions_from(
        &self,
        offsets: &BTreeMap<PartitionName, OffsetAndMetadata>,
    ) -> Result<Positions> {
        let seat = self.seat.as_ref().ok_or(GroupError::NoGroup)?;
        let mut positions = Positions::default();
        for (name, OffsetAndMetadata { offset, metadata }) in offsets {
            let lane = self.lanes.get(name).ok_or_else(|| GroupError::NotAssigned {
                topic: name.topic.to_string(),
                partition: name.partition,
                assigned: self.lanes.len(),
            })?;
            if metadata.len() > METADATA_BYTES_MAX {
                return Err(Error::Group(GroupError::MetadataTooLarge {
                    topic: name.topic.clone(),
                    partition: name.partition,
                    bytes: metadata.len(),
                    max_bytes: METADATA_BYTES_MAX,
                }));
            }
            let TopicPartition { topic, partition } = lane.id();
            let epoch = self.log.leader_epoch_at(topic, partition, *offset)?;
            positions.names.push(name.clone());
            positions.offsets.push(OffsetCommit {
                group: seat.group.id.clone(),
                topic,
                partition,
                offset: *offset,
                leader_epoch: epoch.unwrap_or(-1),
                metadata: metadata.clone(),
            });
        }
        Ok(positions)
    }
}
