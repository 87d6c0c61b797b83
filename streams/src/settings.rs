//! What a job can be told besides its topology.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::Durability;
use crate::ids::StoreName;
use crate::on_error::OnError;
use crate::printer::Printer;
use crate::store::{BrokenFlush, CacheOptions};
use crate::time::InForce;

/// Memtables of all stores together.
const WRITE_BUFFER_BYTES: usize = 64 * 1024 * 1024;
/// Size of the commit records beyond which a snapshot replaces them.
const COMMITS_BYTES_MAX: u64 = 1 << 20;
/// What an ordered repartition partition holds back in memory.
const HELD_BYTES_MAX: usize = 32 * 1024 * 1024;

const IDLE_AFTER: Duration = Duration::from_secs(10);
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
    /// How long a source partition may be silent while others move before it is passed over.
    pub(crate) idle_after: Duration,
    /// How durable a commit is.
    pub(crate) durability: Durability,
    /// How far an event time may lie past its record's timestamp.
    pub(crate) event_time_ahead_max_ms: i64,
    /// What becomes of records that a step cannot take, where it says nothing itself.
    pub(crate) on_error: OnError,
    /// Where `.print(..)` writes.
    pub(crate) printer: Printer,
    /// Limits of the row cache of each store partition.
    pub(crate) cache: CacheOptions,
    /// Rows changed in one transaction after which it is committed.
    pub(crate) changed_rows_max: usize,
    /// When the log and RocksDB clear up behind the job.
    pub(crate) limits: Limits,
    /// Without transactions, to measure what they cost.
    #[cfg(feature = "test-util")]
    pub(crate) at_least_once: bool,
    /// The windows that stores had when the job ran first: a replay asks who was late then.
    pub(crate) windows_then: Arc<BTreeMap<StoreName, InForce>>,
    /// A deliberate mistake for the checkers of the test suites.
    pub(crate) mistake: Option<Mistake>,
}

/// How much may gather before the log or RocksDB clears up. A test with little data lowers it, so that
/// what is rare happens often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Committed rows of one store partition that may wait before they are flushed. Default 131 072.
    pub dirty_rows_max: usize,
    /// Memtables of all stores together, in bytes; full ones go to the disk. Default 64 MiB.
    pub write_buffer_bytes: usize,
    /// Commit records in bytes, before a snapshot replaces them. Default 1 MiB.
    pub commits_bytes_max: u64,
    /// Records of one partition that an ordered repartition holds back in memory, in bytes. More are read
    /// again from the topic when it is their turn. Default 32 MiB.
    pub held_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            dirty_rows_max: CacheOptions::default().dirty_rows_max,
            write_buffer_bytes: WRITE_BUFFER_BYTES,
            commits_bytes_max: COMMITS_BYTES_MAX,
            held_bytes_max: HELD_BYTES_MAX,
        }
    }
}

/// A deliberately broken variant of the runtime: each checker must catch it, or it proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Stores are written and synced before the commit point.
    StoreBeforeCommit,
    /// The first changelog record of each commit and store is left out.
    SkipChangelogRecord,
    /// The next flush of a store begins before the last one has ended.
    OverlapFlushes,
    /// A store's checkpoint is taken when its flush ends, not when its rows were committed.
    LateCheckpoint,
    /// Rows whose commit is not decided are flushed with the others.
    FlushUndecidedRows,
    /// Rows become committed as the next transaction has changed them since.
    CommitChangedRows,
}

impl Settings {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            threads: 0,
            commit_every_ms: 100,
            idle_after: IDLE_AFTER,
            durability: Durability::Sync,
            event_time_ahead_max_ms: AHEAD_MAX_MS,
            on_error: OnError::default(),
            printer: Printer::stdout(),
            cache: CacheOptions::default(),
            changed_rows_max: 128 * 1024,
            limits: Limits::default(),
            #[cfg(feature = "test-util")]
            at_least_once: false,
            windows_then: Arc::default(),
            mistake: None,
        }
    }

    /// Limits of the row cache of each store partition, with its deliberate mistake if there is one.
    pub(crate) fn cache_options(&self) -> CacheOptions {
        let broken = match self.mistake {
            Some(Mistake::OverlapFlushes) => Some(BrokenFlush::Overlap),
            Some(Mistake::LateCheckpoint) => Some(BrokenFlush::LateCheckpoint),
            Some(Mistake::FlushUndecidedRows) => Some(BrokenFlush::Undecided),
            Some(Mistake::CommitChangedRows) => Some(BrokenFlush::ChangedRows),
            _ => None,
        };
        CacheOptions { broken, ..self.cache }
    }

    /// How often a busy job commits.
    pub(crate) fn commit_every(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.commit_every_ms).unwrap_or(0))
    }
}
