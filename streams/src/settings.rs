//! What a job can be told besides its topology.

use crate::broker::Durability;
use crate::store::CacheOptions;

/// One hour.
const AHEAD_MAX_MS: i64 = 3_600_000;

/// Settings of one job; each has a default that is right for most.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Names the job: its group, its transactional id, its internal topics.
    pub(crate) id: String,
    /// Worker threads; 0: one per core, at most one per task.
    pub(crate) threads: usize,
    /// A busy job commits this often, in milliseconds. Kafka: `commit.interval.ms`.
    pub(crate) commit_every_ms: i64,
    /// How durable a commit is.
    pub(crate) durability: Durability,
    /// How far an event time may lie past its record's timestamp.
    pub(crate) event_time_ahead_max_ms: i64,
    /// Limits of the row cache of each store partition.
    pub(crate) cache: CacheOptions,
    /// Rows changed in one transaction after which it is committed.
    pub(crate) changed_rows_max: usize,
    /// A deliberate mistake for the checkers of the test suites.
    pub(crate) mistake: Option<Mistake>,
}

/// A deliberately broken variant of the runtime: each checker must catch it, or it proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Stores are written and synced before the commit point.
    StoreBeforeCommit,
    /// The first changelog record of each commit and store is left out.
    SkipChangelogRecord,
}

impl Settings {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            threads: 0,
            commit_every_ms: 100,
            durability: Durability::Sync,
            event_time_ahead_max_ms: AHEAD_MAX_MS,
            cache: CacheOptions::default(),
            changed_rows_max: 128 * 1024,
            mistake: None,
        }
    }
}
