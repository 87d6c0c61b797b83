//! How far the job's inputs and windows were at its last commit: what holds windows open, since when.
//!
//! Why plain data: the coordinator decides by it over silent partitions, and whoever watches the job
//! reads the same, without asking a worker.
//!
//! Invariants
//! * a report is taken while all workers stand at a record boundary, and shown once its transaction is
//!   committed.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::ids::StoreName;

/// One partition of a source topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceState {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    /// The next offset to read.
    pub(crate) position: i64,
    /// Its stream time; `i64::MIN` while unknown.
    pub(crate) clock: i64,
    /// Whether everything in it has been read.
    pub(crate) is_at_end: bool,
    /// When records were last read from it, or the job began, by the monotonic clock.
    pub(crate) read_at: Duration,
    /// When it was last passed over since then.
    pub(crate) raised_at: Option<Duration>,
    /// Whether windows depend on its clock.
    pub(crate) holds_windows: bool,
}

/// The windows of one store partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WindowState {
    pub(crate) store: StoreName,
    pub(crate) partition: u32,
    /// No open window ends before this; `None`: none is open.
    pub(crate) earliest_end: Option<i64>,
    /// Windows that end up to here are closed; `i64::MIN` while a clock is unknown.
    pub(crate) closed_to: i64,
}

/// What a commit knew of inputs and windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) sources: Vec<SourceState>,
    pub(crate) windows: Vec<WindowState>,
    /// When it was taken, by the monotonic clock.
    pub(crate) taken_at: Duration,
}

/// A source partition whose clock holds windows open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldingBack {
    /// The source topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The next offset to read.
    pub position: i64,
    /// The largest event time read from it, or to which it was raised; `None`: nothing yet.
    pub clock: Option<i64>,
    /// Whether everything in it has been read.
    pub is_at_end: bool,
    /// For how long nothing has been read from it.
    pub silent_for: Duration,
}

impl Report {
    /// The source partitions that hold windows open: those that are furthest behind, while a window is
    /// open at all.
    fn holding_back(&self, now: Duration) -> Vec<HoldingBack> {
        if self.windows.iter().all(|windows| windows.earliest_end.is_none()) {
            return Vec::new();
        }
        let sources = || self.sources.iter().filter(|source| source.holds_windows);
        let least = sources().map(|source| source.clock).min();
        let behind = sources().filter(|source| Some(source.clock) == least);
        let held = behind.map(|source| HoldingBack {
            topic: source.topic.to_string(),
            partition: source.partition,
            position: source.position,
            clock: Some(source.clock).filter(|&clock| clock > i64::MIN),
            is_at_end: source.is_at_end,
            silent_for: now.saturating_sub(source.read_at),
        });
        held.collect()
    }
}

/// The last report, for those who watch.
#[derive(Debug, Default)]
pub(crate) struct ReportCell(Mutex<Arc<Report>>);

impl ReportCell {
    /// The report of the last commit; an empty one before the first.
    pub(crate) fn get(&self) -> Arc<Report> {
        Arc::clone(&self.0.lock())
    }

    /// See [`Report::holding_back`]; nothing before the first commit.
    pub(crate) fn holding_back(&self, now: Duration) -> Vec<HoldingBack> {
        self.get().holding_back(now)
    }

    pub(super) fn set(&self, report: Report) {
        *self.0.lock() = Arc::new(report);
    }
}
