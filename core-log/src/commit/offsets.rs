//! The committed offsets of all groups. Pure.
//!
//! Why: what a group has read is part of what a transaction decides, so it is kept by the commit
//! protocol, not by a topic of its own.
//!
//! Invariants
//! * The commit that comes later in `__commits` wins, in whatever order they are applied.
//!
//! On crash: rebuilt from the snapshot and the commit records behind it.
//! Reference: Kafka `OffsetMetadataManager`.

use std::collections::BTreeMap;

use super::record::{OffsetCommit, StoredOffset};
use crate::ids::{GroupId, Offset, TopicPartition};

/// Committed offsets per group.
#[derive(Clone, Debug, Default)]
pub(crate) struct OffsetTable {
    groups: BTreeMap<GroupId, BTreeMap<TopicPartition, StoredOffset>>,
}

impl OffsetTable {
    /// Puts in what a snapshot holds.
    pub(crate) fn from_snapshot(stored: Vec<StoredOffset>) -> Self {
        let mut table = Self::default();
        for offset in stored {
            table.put(offset);
        }
        table
    }

    /// Applies the offsets of the commit record at `set_by`.
    pub(crate) fn apply(&mut self, set_by: Offset, offsets: &[OffsetCommit]) {
        for commit in offsets {
            self.put(StoredOffset { commit: commit.clone(), set_by });
        }
    }

    fn put(&mut self, stored: StoredOffset) {
        let group = self.groups.entry(stored.commit.group.clone()).or_default();
        let partition = stored.commit.topic_partition();
        if group.get(&partition).is_none_or(|known| known.set_by <= stored.set_by) {
            group.insert(partition, stored);
        }
    }

    /// All positions of one group, by topic id and partition.
    pub(crate) fn group(&self, group: &GroupId) -> Vec<OffsetCommit> {
        self.groups
            .get(group)
            .into_iter()
            .flat_map(|partitions| partitions.values().map(|stored| stored.commit.clone()))
            .collect()
    }

    /// Everything, for a snapshot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &StoredOffset> {
        self.groups.values().flat_map(BTreeMap::values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TopicId;
    use bytes::Bytes;

    fn commit(partition: u32, offset: Offset) -> OffsetCommit {
        OffsetCommit {
            group: GroupId::new("g").unwrap(),
            topic: TopicId([1; 16]),
            partition,
            offset,
            leader_epoch: 0,
            metadata: Bytes::new(),
        }
    }

    #[test]
    fn the_commit_that_comes_later_in_the_file_wins_in_either_order() {
        for order in [[4, 9], [9, 4]] {
            let mut table = OffsetTable::default();
            for set_by in order {
                table.apply(set_by, &[commit(0, set_by * 100)]);
            }
            assert_eq!(table.group(&GroupId::new("g").unwrap()), [commit(0, 900)]);
        }
    }

    #[test]
    fn a_commit_of_some_partitions_leaves_the_others() {
        let mut table = OffsetTable::default();
        table.apply(1, &[commit(0, 10), commit(1, 11)]);
        table.apply(2, &[commit(1, 21)]);
        assert_eq!(table.group(&GroupId::new("g").unwrap()), [commit(0, 10), commit(1, 21)]);
        assert!(table.group(&GroupId::new("other").unwrap()).is_empty());
    }
}
