//! What a running job tells those who watch it.
//!
//! Invariants
//! * all counts but `records_read` speak of committed transactions only.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::processor::Counters;

/// Commits whose times are kept.
const COMMITS_KEPT: usize = 1_000;

/// How far a job is, since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// Records read from source topics, whether or not their transaction is committed yet.
    pub records_read: u64,
    /// Records of source topics whose transaction is committed.
    pub records_in: u64,
    /// Records written to output topics.
    pub records_out: u64,
    /// Records that a filter dropped.
    pub filtered: u64,
    /// Records that came after their window had closed.
    pub late: u64,
    /// Records without a key where one was needed.
    pub null_keys: u64,
    /// Null values where a value was needed.
    pub null_values: u64,
    /// Records that a step could not take and that were left out: [`OnError::Skip`](crate::OnError).
    pub skipped: u64,
    /// Records that a step could not take and that went to the topic of dead letters.
    pub dead_letters: u64,
    /// Transactions committed.
    pub commits: u64,
    /// Changelog records that stores were restored from at the start.
    pub restored_records: u64,
    /// How often the job started over from the last commit after a passing failure.
    pub restarts: u64,
}

/// Counts that threads share.
#[derive(Debug)]
pub(crate) struct ProgressCell {
    records_read: AtomicU64,
    records_in: AtomicU64,
    records_out: AtomicU64,
    filtered: AtomicU64,
    late: AtomicU64,
    null_keys: AtomicU64,
    null_values: AtomicU64,
    skipped: AtomicU64,
    dead_letters: AtomicU64,
    commits: AtomicU64,
    restored_records: AtomicU64,
    restarts: AtomicU64,
    /// How long the last commits took, in microseconds.
    commit_us: Mutex<VecDeque<u64>>,
    /// Since when there has been nothing to do, in milliseconds of the monotonic clock; -1: busy.
    idle_since_ms: AtomicI64,
}

impl Default for ProgressCell {
    fn default() -> Self {
        Self {
            records_read: AtomicU64::new(0),
            records_in: AtomicU64::new(0),
            records_out: AtomicU64::new(0),
            filtered: AtomicU64::new(0),
            late: AtomicU64::new(0),
            null_keys: AtomicU64::new(0),
            null_values: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            restored_records: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            commit_us: Mutex::default(),
            idle_since_ms: AtomicI64::new(-1),
        }
    }
}

impl ProgressCell {
    pub(crate) fn read(&self, records: u64) {
        self.records_read.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn committed(&self, counters: &Counters) {
        self.records_in.fetch_add(counters.records_in, Ordering::Relaxed);
        self.records_out.fetch_add(counters.records_out, Ordering::Relaxed);
        self.filtered.fetch_add(counters.filtered, Ordering::Relaxed);
        self.late.fetch_add(counters.late, Ordering::Relaxed);
        self.null_keys.fetch_add(counters.null_keys, Ordering::Relaxed);
        self.null_values.fetch_add(counters.null_values, Ordering::Relaxed);
        self.skipped.fetch_add(counters.skipped, Ordering::Relaxed);
        self.dead_letters.fetch_add(counters.dead_letters, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn commit_took(&self, time: Duration) {
        let mut times = self.commit_us.lock();
        if times.len() == COMMITS_KEPT {
            times.pop_front();
        }
        times.push_back(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// The median of the last commits' times, and what one in a hundred exceeds.
    pub(crate) fn commit_us(&self) -> Option<(u64, u64)> {
        let mut times: Vec<u64> = self.commit_us.lock().iter().copied().collect();
        times.sort_unstable();
        let at =
            |percent: usize| times.get((times.len() * percent / 100).min(times.len() - 1)).copied();
        if times.is_empty() { None } else { Some((at(50)?, at(99)?)) }
    }

    pub(crate) fn restored(&self, records: u64) {
        self.restored_records.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn busy(&self) {
        self.idle_since_ms.store(-1, Ordering::Relaxed);
    }

    pub(crate) fn idle(&self, since: Duration) {
        let since = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        self.idle_since_ms.store(since, Ordering::Relaxed);
    }

    pub(crate) fn idle_for(&self, now: Duration) -> Option<Duration> {
        let since = u64::try_from(self.idle_since_ms.load(Ordering::Relaxed)).ok()?;
        Some(now.saturating_sub(Duration::from_millis(since)))
    }

    pub(crate) fn get(&self) -> Progress {
        let of = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Progress {
            records_read: of(&self.records_read),
            records_in: of(&self.records_in),
            records_out: of(&self.records_out),
            filtered: of(&self.filtered),
            late: of(&self.late),
            null_keys: of(&self.null_keys),
            null_values: of(&self.null_values),
            skipped: of(&self.skipped),
            dead_letters: of(&self.dead_letters),
            commits: of(&self.commits),
            restored_records: of(&self.restored_records),
            restarts: of(&self.restarts),
        }
    }
}
