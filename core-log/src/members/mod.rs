//! Who reads what in a group: assignors, the table of members, and windows of records that are shared.
//! Pure but for the locks around it.
//!
//! ```text
//!   subscriptions, topics --assign--> target      what each member should have
//!                                       |
//!   owners   what each member has   <---+  a partition changes hands when its owner lets go of it
//! ```
//!
//! Why below the log: the log keeps one table per group for all handles, and every rule of a hand-over
//! can be tried without threads and files.
//!
//! Invariants
//! * A partition has at most one owner.
//! * An assignment depends on its arguments alone.
//! * A group is known as long as somebody holds it; nothing is done while its lock is held.
//!
//! On crash: nothing of this is kept; groups come back with their committed offsets.
//! Reference: Kafka `AbstractCoordinator`, `ConsumerPartitionAssignor`, KIP-429.

pub(crate) mod assign;
pub(crate) mod share;
pub(crate) mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::locks::Mutex;

pub use assign::{Assignor, PartitionName, Subscriber, assign};
pub use share::Acknowledge;
use share::Window;
use table::Membership;

use crate::ids::GroupId;

/// What the handles of one group share.
#[derive(Debug)]
pub(crate) struct GroupState {
    pub(crate) id: GroupId,
    /// Locked before `shares`.
    pub(crate) membership: Mutex<Membership>,
    pub(crate) shares: Mutex<Shares>,
    /// Commits of a share group come one after the other: the version of `shares` that is committed.
    pub(crate) shares_committed: Mutex<u64>,
}

/// The other way to share: records, not partitions.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    /// Holders that there ever were, and that there are.
    pub(crate) joined: u64,
    pub(crate) count: usize,
    pub(crate) windows: BTreeMap<PartitionName, Window>,
    /// Moves with everything that is to be committed.
    pub(crate) version: u64,
}

/// The groups of a log that somebody holds.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    known: Mutex<BTreeMap<GroupId, Weak<GroupState>>>,
}

impl Groups {
    /// The group of this name, known or new.
    pub(crate) fn get(&self, id: &GroupId) -> Arc<GroupState> {
        let mut known = self.known.lock();
        if let Some(group) = known.get(id).and_then(Weak::upgrade) {
            return group;
        }
        known.retain(|_, group| group.strong_count() > 0);
        let group = Arc::new(GroupState {
            id: id.clone(),
            membership: Mutex::default(),
            shares: Mutex::default(),
            shares_committed: Mutex::default(),
        });
        known.insert(id.clone(), Arc::downgrade(&group));
        group
    }

    /// Removes members that were silent for too long; answers whether anybody is to be woken.
    pub(crate) fn expire(&self, now: Duration) -> bool {
        let known = self.known.lock();
        let groups: Vec<_> = known.values().filter_map(Weak::upgrade).collect();
        drop(known);
        let mut is_due = false;
        for group in groups {
            let (names, due) = group.membership.lock().expire(now);
            for name in names {
                tracing::warn!(group = %group.id, member = name, "a member did not poll for too long and loses its partitions");
            }
            is_due |= due;
        }
        is_due
    }
}
