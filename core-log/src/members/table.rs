//! The members of one group, and who owns which partition. Pure.
//!
//! ```text
//!   join, subscribe, leave, expire --> rebalance: a new target for everybody, generation + 1
//!
//!   a partition:   owner A --release(position)--> handed over --acquire--> owner B
//!                     |                                           starts at the position
//!                     +--leave without a word, or expired------> starts at the committed offset
//! ```
//!
//! Why owners apart from targets: a partition changes hands only when its owner has come by and let go,
//! so two members never read it at the same time; everybody else reads on meanwhile.
//!
//! Invariants
//! * A partition has at most one owner; only its owner may commit its position.
//! * A position that was handed over is given to exactly one member. It is kept only while some member is
//!   meant to have the partition: a group that was left by all begins at its committed offsets.
//! * A member that died gives back what it was handed, unless it has committed since.
//! * A stream that waits is no silent member, but one that does not come when it is woken is.
//!
//! On crash: nothing is kept.
//! Reference: KIP-429 (cooperative rebalancing); Kafka `GroupMetadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::assign::{Assignor, PartitionName, Subscriber, assign};
use crate::ids::{Offset, TopicName};

/// A member of a group: never used twice within one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MemberId(u64);

/// Where a member was in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handed {
    pub(crate) offset: Offset,
    /// Leader epoch of the record in front; -1 when unknown.
    pub(crate) leader_epoch: i32,
}

#[derive(Debug)]
struct Member {
    name: String,
    assignor: Assignor,
    topics: BTreeSet<TopicName>,
    target: BTreeSet<PartitionName>,
    /// How long it may be silent.
    patience: Duration,
    heard: Duration,
    /// Calls of its that are running.
    calls: u32,
    waits: Waits,
    /// When it wants to be woken.
    wake_at: Option<Duration>,
}

/// Whether a stream of a member has left its waker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    No,
    /// It is not silent: it says nothing because there is nothing.
    Asleep,
    /// It was woken to see whether it comes by.
    Woken(Duration),
}

#[derive(Debug)]
struct Owner {
    member: MemberId,
    /// With what it began; `None` once it has committed.
    handed: Option<Handed>,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    generation: u64,
    /// Moves with everything that a member may have to follow.
    version: u64,
    joined: u64,
    members: BTreeMap<MemberId, Member>,
    topics: BTreeMap<TopicName, u32>,
    owners: BTreeMap<PartitionName, Owner>,
    handed_over: BTreeMap<PartitionName, Handed>,
}

impl Membership {
    /// How often partitions were shared out.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// A number that moves whenever somebody may have something to let go of, or to take.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// How many members there are.
    pub(crate) fn count(&self) -> usize {
        self.members.len()
    }

    /// Takes in a member without topics.
    pub(crate) fn join(
        &mut self,
        called: &str,
        assignor: Assignor,
        patience: Duration,
        now: Duration,
    ) -> MemberId {
        self.joined += 1;
        let called = if called.is_empty() { "consumer" } else { called };
        let name = format!("{called}-{}", self.joined);
        let member = Member {
            name,
            assignor,
            topics: BTreeSet::new(),
            target: BTreeSet::new(),
            patience,
            heard: now,
            calls: 0,
            waits: Waits::No,
            wake_at: None,
        };
        let id = MemberId(self.joined);
        self.members.insert(id, member);
        id
    }

    /// What a member is called; `None` when it is none any more.
    pub(crate) fn name(&self, member: MemberId) -> Option<&str> {
        self.members.get(&member).map(|known| known.name.as_str())
    }

    /// Members by name, with what they own.
    pub(crate) fn describe(&self) -> impl Iterator<Item = (&str, BTreeSet<PartitionName>)> {
        self.members.iter().map(|(id, member)| (member.name.as_str(), self.owned(*id).collect()))
    }

    fn owned(&self, member: MemberId) -> impl Iterator<Item = PartitionName> + '_ {
        let is_owner = move |owner: &Owner| owner.member == member;
        let owned = self.owners.iter().filter(move |(_, owner)| is_owner(owner));
        owned.map(|(partition, _)| partition.clone())
    }

    /// The topics that a member reads from now on, with their counts of partitions.
    pub(crate) fn subscribe(&mut self, member: MemberId, topics: &BTreeMap<TopicName, u32>) {
        let Some(known) = self.members.get_mut(&member) else { return };
        known.topics = topics.keys().cloned().collect();
        self.topics.extend(topics.iter().map(|(name, count)| (name.clone(), *count)));
        self.rebalance();
    }

    /// A new target for everybody. The assignor is that of the member that is there for the longest.
    fn rebalance(&mut self) {
        self.generation += 1;
        self.version += 1;
        let wanted = |name: &TopicName| self.members.values().any(|m| m.topics.contains(name));
        let gone: Vec<_> = self.topics.keys().filter(|name| !wanted(name)).cloned().collect();
        for name in &gone {
            self.topics.remove(name);
        }
        let Some(first) = self.members.values().next() else {
            self.handed_over.clear();
            return;
        };
        let subscriber = |(id, member): (&MemberId, &Member)| Subscriber {
            member: *id,
            topics: member.topics.clone(),
            owned: member.target.clone(),
        };
        let subscribers: Vec<_> = self.members.iter().map(subscriber).collect();
        for (id, target) in assign(first.assignor, &self.topics, &subscribers) {
            if let Some(member) = self.members.get_mut(&id) {
                member.target = target;
            }
        }
        let members = &self.members;
        self.handed_over.retain(|partition, _| is_meant_for_somebody(members, partition));
    }

    /// A call of a member begins: until it ends the member is not silent. False: it is no member.
    pub(crate) fn begin_call(&mut self, member: MemberId, now: Duration) -> bool {
        let Some(known) = self.members.get_mut(&member) else { return false };
        known.calls += 1;
        known.heard = now;
        true
    }

    /// A member polls: a call that also ends what it waited for.
    pub(crate) fn begin_poll(&mut self, member: MemberId, now: Duration) -> bool {
        if let Some(known) = self.members.get_mut(&member) {
            known.waits = Waits::No;
            known.wake_at = None;
        }
        self.begin_call(member, now)
    }

    /// A call of a member ends.
    pub(crate) fn end_call(&mut self, member: MemberId, now: Duration) {
        if let Some(known) = self.members.get_mut(&member) {
            known.calls = known.calls.saturating_sub(1);
            known.heard = now;
        }
    }

    /// A poll ends without anything, and the member waits to be woken. The waker may lead to a task that is
    /// not there any more, so it is tried now and then.
    pub(crate) fn begin_wait(&mut self, member: MemberId, now: Duration) {
        self.end_call(member, now);
        if let Some(known) = self.members.get_mut(&member) {
            known.waits = Waits::Asleep;
        }
    }

    /// A waiting member has something to do at this time, whatever happens until then.
    pub(crate) fn wake_at(&mut self, member: MemberId, at: Duration) {
        if let Some(known) = self.members.get_mut(&member) {
            known.wake_at = Some(at);
        }
    }

    /// What a member must let go of.
    pub(crate) fn revoked(&self, member: MemberId) -> Vec<PartitionName> {
        let Some(known) = self.members.get(&member) else { return Vec::new() };
        self.owned(member).filter(|partition| !known.target.contains(partition)).collect()
    }

    /// A member lets go of partitions, with its positions in them.
    pub(crate) fn release(
        &mut self,
        member: MemberId,
        positions: impl IntoIterator<Item = (PartitionName, Option<Handed>)>,
    ) {
        self.version += 1;
        for (partition, position) in positions {
            if self.owner_of(&partition) == Some(member) {
                self.owners.remove(&partition);
                if let Some(handed) = position
                    && is_meant_for_somebody(&self.members, &partition)
                {
                    self.handed_over.insert(partition, handed);
                }
            }
        }
    }

    fn owner_of(&self, partition: &PartitionName) -> Option<MemberId> {
        self.owners.get(partition).map(|owner| owner.member)
    }

    /// Whether a member is meant to have something that nobody owns.
    pub(crate) fn has_free(&self, member: MemberId) -> bool {
        let is_free = |partition: &PartitionName| !self.owners.contains_key(partition);
        self.members.get(&member).is_some_and(|known| known.target.iter().any(is_free))
    }

    /// Takes what a member is meant to have and nobody owns, with the positions that were handed over.
    pub(crate) fn acquire(&mut self, member: MemberId) -> Vec<(PartitionName, Option<Handed>)> {
        let Some(known) = self.members.get(&member) else { return Vec::new() };
        let is_free = |partition: &&PartitionName| !self.owners.contains_key(*partition);
        let free: Vec<_> = known.target.iter().filter(is_free).cloned().collect();
        let mut acquired = Vec::with_capacity(free.len());
        for partition in free {
            let handed = self.handed_over.remove(&partition);
            self.owners.insert(partition.clone(), Owner { member, handed });
            acquired.push((partition, handed));
        }
        acquired
    }

    /// Whether a member may commit the position of a partition.
    pub(crate) fn owns(&self, member: MemberId, partition: &PartitionName) -> bool {
        self.owner_of(partition) == Some(member)
    }

    /// A member has committed positions: what it was handed is in them.
    pub(crate) fn committed<'a>(
        &mut self,
        member: MemberId,
        partitions: impl IntoIterator<Item = &'a PartitionName>,
    ) {
        for partition in partitions {
            if let Some(owner) = self.owners.get_mut(partition)
                && owner.member == member
            {
                owner.handed = None;
            }
        }
    }

    /// A member goes. With its positions it hands its partitions over; without, what it has not
    /// committed is read again.
    pub(crate) fn leave(
        &mut self,
        member: MemberId,
        positions: &BTreeMap<PartitionName, Option<Handed>>,
    ) {
        if self.members.remove(&member).is_none() {
            return;
        }
        let owned: Vec<_> = self.owned(member).collect();
        self.rebalance();
        for partition in owned {
            let Some(owner) = self.owners.remove(&partition) else { continue };
            let handed = positions.get(&partition).copied().unwrap_or(owner.handed);
            if let Some(handed) = handed
                && is_meant_for_somebody(&self.members, &partition)
            {
                self.handed_over.insert(partition, handed);
            }
        }
    }

    /// Removes members that were silent for too long; answers their names, and whether anybody is to be
    /// woken.
    pub(crate) fn expire(&mut self, now: Duration) -> (Vec<String>, bool) {
        let is_late = |member: &Member| {
            let since = match member.waits {
                Waits::No => member.heard,
                Waits::Asleep => return false,
                Waits::Woken(at) => at,
            };
            member.calls == 0 && now.saturating_sub(since) > member.patience
        };
        let late: Vec<_> =
            self.members.iter().filter(|(_, member)| is_late(member)).map(|(id, _)| *id).collect();
        let mut names = Vec::with_capacity(late.len());
        for id in late {
            names.extend(self.name(id).map(str::to_owned));
            self.leave(id, &BTreeMap::new());
        }
        let mut is_due = !names.is_empty();
        for member in self.members.values_mut() {
            let is_quiet = now.saturating_sub(member.heard) > member.patience / 2;
            if member.waits == Waits::Asleep && is_quiet {
                member.waits = Waits::Woken(now);
                is_due = true;
            }
            if member.wake_at.is_some_and(|at| at <= now) {
                member.wake_at = None;
                is_due = true;
            }
        }
        (names, is_due)
    }
}

fn is_meant_for_somebody(members: &BTreeMap<MemberId, Member>, partition: &PartitionName) -> bool {
    members.values().any(|member| member.target.contains(partition))
}

#[cfg(test)]
mod tests;
