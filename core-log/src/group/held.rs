//! What consumers that share records are told, and what they hand out.
//!
//! Why apart from `shared`: plain values, without the group.
//!
//! Invariants
//! * Only records that were taken are handed out, whatever else their batches hold.
//!
//! Reference: Kafka `ShareGroupConfig`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::polled::{PolledBatch, PolledRecord};
use super::settings::{IsolationLevel, OffsetReset};
use crate::config::Durability;
use crate::error::Result;
use crate::ids::Offset;
use crate::members::share::Limits;

/// How records are shared. Names in brackets are those of Kafka's share groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedSettings {
    /// How long a record is held; default 30 s (`group.share.record.lock.duration.ms`).
    pub lock_duration: Duration,
    /// So often a record is delivered at most; default 5 (`group.share.delivery.count.limit`). It is then
    /// given up, with a warning that names it.
    pub delivery_limit: u32,
    /// So many records of one partition are held at most, or done with one in front of them that is not;
    /// default 2000 (`group.share.partition.max.record.locks`).
    pub max_record_locks: usize,
    /// The most records that one poll hands out; default 500 (`max.poll.records`).
    pub max_poll_records: usize,
    /// Which records are seen; default read uncommitted (`share.isolation.level`).
    pub isolation_level: IsolationLevel,
    /// Where a group without a committed offset begins; default `Latest` (`share.auto.offset.reset`).
    pub auto_offset_reset: OffsetReset,
    /// How durable an acknowledged commit is; default `Sync`.
    pub durability: Durability,
}

impl Default for SharedSettings {
    fn default() -> Self {
        Self {
            lock_duration: Duration::from_secs(30),
            delivery_limit: 5,
            max_record_locks: 2_000,
            max_poll_records: 500,
            isolation_level: IsolationLevel::default(),
            auto_offset_reset: OffsetReset::default(),
            durability: Durability::Sync,
        }
    }
}

impl SharedSettings {
    pub(super) fn limits(&self) -> Limits {
        let Self { lock_duration, delivery_limit, max_record_locks, .. } = self;
        Limits {
            lock: *lock_duration,
            deliveries: (*delivery_limit).max(1),
            records: (*max_record_locks).max(1),
        }
    }
}

/// Records that a poll has taken; they are held.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    pub(super) batches: Vec<(PolledBatch, BTreeMap<Offset, u32>)>,
}

/// A record that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedRecord<'a> {
    /// The record.
    pub record: PolledRecord<'a>,
    /// How often it was delivered, this time included.
    pub deliveries: u32,
}

impl Shared {
    /// Whether nothing came in time.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// How many records there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.batches.iter().map(|(_, deliveries)| deliveries.len()).sum()
    }

    /// The records.
    ///
    /// # Errors
    ///
    /// A record that cannot be decoded: its batch ends there.
    pub fn records(&self) -> impl Iterator<Item = Result<SharedRecord<'_>>> + '_ {
        self.batches.iter().flat_map(|(batch, deliveries)| {
            batch.records().filter_map(|record| match record {
                Ok(record) => deliveries
                    .get(&record.offset)
                    .map(|deliveries| Ok(SharedRecord { record, deliveries: *deliveries })),
                Err(bad) => Some(Err(bad)),
            })
        })
    }
}
