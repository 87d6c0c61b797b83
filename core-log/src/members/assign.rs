//! Which member of a group reads which partitions. Pure.
//!
//! Why a function of members, topics and what there was before: the same answer everywhere, and no
//! member is asked.
//!
//! Invariants
//! * Each partition of a topic to which somebody subscribes goes to exactly one of its subscribers.
//! * `Range` and `RoundRobin` answer what Kafka's assignors of these names answer.
//! * `Sticky`: no single move of a partition would make the counts more even, and a partition moves
//!   only for that reason.
//!
//! Reference: Kafka `RangeAssignor`, `RoundRobinAssignor`, `CooperativeStickyAssignor`; KIP-54, KIP-429.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::ids::TopicName;

/// A partition by its topic's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionName {
    /// The topic.
    pub topic: TopicName,
    /// The partition's number, from 0.
    pub partition: u32,
}

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// How the partitions of a group are shared out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Topic by topic, a range of partitions to each subscriber: the same numbers of topics with the
    /// same count of partitions meet in one member.
    Range,
    /// One partition after the other, in turn.
    RoundRobin,
    /// As even as single moves make it, and nobody loses a partition without need.
    #[default]
    Sticky,
}

impl Assignor {
    /// The short name that Kafka gives it.
    pub(crate) fn to_kafka(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "cooperative-sticky",
        }
    }

    /// The assignor that Kafka means: by its short name, its class, or a list with one of them first.
    pub(crate) fn from_kafka(text: &str) -> Option<Self> {
        let first = text.split(',').next()?.trim();
        let class = first.rsplit('.').next()?;
        match class {
            "range" | "RangeAssignor" => Some(Self::Range),
            "roundrobin" | "RoundRobinAssignor" => Some(Self::RoundRobin),
            "sticky" | "cooperative-sticky" | "StickyAssignor" | "CooperativeStickyAssignor" => {
                Some(Self::Sticky)
            }
            _ => None,
        }
    }
}

/// A member, as an assignor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber<M> {
    /// Who; members are sorted by it.
    pub member: M,
    /// The topics to which it subscribes.
    pub topics: BTreeSet<TopicName>,
    /// What it had before; only `Sticky` looks at it.
    pub owned: BTreeSet<PartitionName>,
}

/// Shares out the partitions of `topics` (name and count of partitions) among the subscribers; each of
/// them gets an entry, with partitions sorted by topic and number.
///
/// ```
/// use std::collections::{BTreeMap, BTreeSet};
/// use core_log::{Assignor, Subscriber, TopicName, assign};
///
/// let clicks = TopicName::new("clicks")?;
/// let topics = BTreeMap::from([(clicks.clone(), 3)]);
/// let member = |member| Subscriber {
///     member,
///     topics: BTreeSet::from([clicks.clone()]),
///     owned: BTreeSet::new(),
/// };
/// let shares = assign(Assignor::Range, &topics, &[member("a"), member("b")]);
/// assert_eq!((shares["a"].len(), shares["b"].len()), (2, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn assign<M: Clone + Ord>(
    assignor: Assignor,
    topics: &BTreeMap<TopicName, u32>,
    subscribers: &[Subscriber<M>],
) -> BTreeMap<M, BTreeSet<PartitionName>> {
    let mut sorted: Vec<&Subscriber<M>> = subscribers.iter().collect();
    sorted.sort_by(|a, b| a.member.cmp(&b.member));
    let shares = match assignor {
        Assignor::Range => range(topics, &sorted),
        Assignor::RoundRobin => round_robin(topics, &sorted),
        Assignor::Sticky => sticky(topics, &sorted),
    };
    sorted.iter().map(|subscriber| subscriber.member.clone()).zip(shares).collect()
}

/// What each subscriber gets, in the order of the subscribers.
type Shares = Vec<BTreeSet<PartitionName>>;

fn partitions_of(topic: &TopicName, count: u32) -> impl Iterator<Item = PartitionName> + '_ {
    (0..count).map(|partition| PartitionName { topic: topic.clone(), partition })
}

fn range<M>(topics: &BTreeMap<TopicName, u32>, sorted: &[&Subscriber<M>]) -> Shares {
    let mut shares = vec![BTreeSet::new(); sorted.len()];
    for (topic, count) in topics {
        let takers: Vec<usize> =
            (0..sorted.len()).filter(|at| sorted[*at].topics.contains(topic)).collect();
        let Ok(among) = u32::try_from(takers.len()) else { continue };
        if among == 0 {
            continue;
        }
        let (each, left_over) = (count / among, count % among);
        let mut partitions = partitions_of(topic, *count);
        for (rank, at) in (0..among).zip(takers) {
            let share = each + u32::from(rank < left_over);
            shares[at].extend(partitions.by_ref().take(usize::try_from(share).unwrap_or(0)));
        }
    }
    shares
}

fn round_robin<M>(topics: &BTreeMap<TopicName, u32>, sorted: &[&Subscriber<M>]) -> Shares {
    let mut shares = vec![BTreeSet::new(); sorted.len()];
    let mut turn = 0;
    for (topic, count) in topics {
        if !sorted.iter().any(|subscriber| subscriber.topics.contains(topic)) {
            continue;
        }
        for partition in partitions_of(topic, *count) {
            while !sorted[turn].topics.contains(topic) {
                turn = (turn + 1) % sorted.len();
            }
            shares[turn].insert(partition);
            turn = (turn + 1) % sorted.len();
        }
    }
    shares
}

fn sticky<M>(topics: &BTreeMap<TopicName, u32>, sorted: &[&Subscriber<M>]) -> Shares {
    let mut shares: Shares = vec![BTreeSet::new(); sorted.len()];
    let mut taken = BTreeSet::new();
    for (share, subscriber) in shares.iter_mut().zip(sorted) {
        for owned in &subscriber.owned {
            let is_there = topics.get(&owned.topic).is_some_and(|count| owned.partition < *count);
            // Two that claim one partition: the first keeps it.
            if is_there && subscriber.topics.contains(&owned.topic) && taken.insert(owned.clone()) {
                share.insert(owned.clone());
            }
        }
    }
    let free: Vec<PartitionName> = topics
        .iter()
        .flat_map(|(topic, count)| partitions_of(topic, *count))
        .filter(|partition| !taken.contains(partition))
        .collect();
    for partition in free {
        let takers = (0..sorted.len()).filter(|at| sorted[*at].topics.contains(&partition.topic));
        if let Some(least) = takers.min_by_key(|at| shares[*at].len()) {
            shares[least].insert(partition);
        }
    }
    while let Some((from, to, partition)) = better_move(sorted, &shares) {
        shares[from].remove(&partition);
        shares[to].insert(partition);
    }
    shares
}

/// A move that makes the counts more even, from the member with the most. Each one lowers the sum of
/// the squares of the counts, so there is a last one.
fn better_move<M>(
    sorted: &[&Subscriber<M>],
    shares: &Shares,
) -> Option<(usize, usize, PartitionName)> {
    let mut by_count: Vec<usize> = (0..sorted.len()).collect();
    by_count.sort_by_key(|at| shares[*at].len());
    for from in by_count.iter().rev() {
        for to in &by_count {
            if shares[*to].len() + 1 >= shares[*from].len() {
                break;
            }
            // The last one first: what was added last goes first.
            let mut candidates = shares[*from].iter().rev();
            let fits = candidates.find(|owned| sorted[*to].topics.contains(&owned.topic));
            if let Some(partition) = fits {
                return Some((*from, *to, partition.clone()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(n: usize) -> TopicName {
        TopicName::new(&format!("t{n}")).unwrap()
    }

    fn members(
        subscriptions: &[BTreeSet<usize>],
        owned: &BTreeMap<usize, BTreeSet<PartitionName>>,
    ) -> Vec<Subscriber<usize>> {
        let of = |(member, topics): (usize, &BTreeSet<usize>)| Subscriber {
            member,
            topics: topics.iter().map(|n| name(*n)).collect(),
            owned: owned.get(&member).cloned().unwrap_or_default(),
        };
        subscriptions.iter().enumerate().map(of).collect()
    }

    fn counts(shares: &BTreeMap<usize, BTreeSet<PartitionName>>) -> Vec<usize> {
        shares.values().map(BTreeSet::len).collect()
    }

    #[test]
    fn a_member_that_joins_takes_only_what_makes_it_even() {
        let topics = BTreeMap::from([(name(0), 6)]);
        let two = [BTreeSet::from([0]), BTreeSet::from([0])];
        let before = assign(Assignor::Sticky, &topics, &members(&two, &BTreeMap::new()));
        assert_eq!(counts(&before), [3, 3]);
        let three = [BTreeSet::from([0]), BTreeSet::from([0]), BTreeSet::from([0])];
        let after = assign(Assignor::Sticky, &topics, &members(&three, &before));
        assert_eq!(counts(&after), [2, 2, 2]);
        assert!(after[&0].is_subset(&before[&0]) && after[&1].is_subset(&before[&1]));
        let again = assign(Assignor::Sticky, &topics, &members(&three, &after));
        assert_eq!(again, after);
    }

    fn subscriptions() -> impl Strategy<Value = Vec<BTreeSet<usize>>> {
        proptest::collection::vec(proptest::collection::btree_set(0..4_usize, 0..4), 1..6)
    }

    proptest! {
        #[test]
        fn every_partition_goes_to_one_subscriber_and_no_move_makes_it_more_even(
            sizes in proptest::collection::vec(0..7_u32, 4),
            before in subscriptions(),
            after in subscriptions(),
        ) {
            let topics: BTreeMap<_, _> =
                sizes.iter().enumerate().map(|(n, size)| (name(n), *size)).collect();
            for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky] {
                let owned = assign(assignor, &topics, &members(&before, &BTreeMap::new()));
                let subscribers = members(&after, &owned);
                let shares = assign(assignor, &topics, &subscribers);
                prop_assert_eq!(shares.len(), after.len());
                let mut seen = BTreeSet::new();
                for (member, share) in &shares {
                    for partition in share {
                        prop_assert!(subscribers[*member].topics.contains(&partition.topic));
                        prop_assert!(partition.partition < topics[&partition.topic]);
                        prop_assert!(seen.insert(partition.clone()), "{} twice", partition);
                    }
                }
                let wanted: BTreeSet<_> = after.iter().flatten().collect();
                let all: u32 = wanted.iter().map(|n| sizes[**n]).sum();
                prop_assert_eq!(seen.len(), all as usize);
                if assignor != Assignor::Sticky {
                    continue;
                }
                for (member, share) in &shares {
                    for (other, theirs) in &shares {
                        let could = theirs.iter().any(|p| subscribers[*member].topics.contains(&p.topic));
                        prop_assert!(!could || member == other || theirs.len() <= share.len() + 1);
                    }
                }
                prop_assert_eq!(&assign(assignor, &topics, &members(&after, &shares)), &shares);
            }
        }
    }
}
