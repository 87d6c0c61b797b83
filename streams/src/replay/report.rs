//! What a replay did, as data.

use std::path::PathBuf;

use crate::runtime::Progress;

/// What a replay did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The scratch log, in which the topics lie.
    pub dir: PathBuf,
    /// The topics that it wrote, with their suffix.
    pub topics: Vec<String>,
    /// What it read, by partition.
    pub stretch: Vec<Stretch>,
    /// Records that it read and committed in this run.
    pub records: u64,
    /// Whether it went on where an earlier run was killed.
    pub resumed: bool,
    /// The counters of this run.
    pub progress: Progress,
    /// What was compared, by output topic; empty unless it was asked for.
    pub compared: Vec<Compared>,
}

/// The part of one partition that was read again; the end is exclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The first offset.
    pub from: i64,
    /// The offset behind the last.
    pub until: i64,
}

/// One output topic, then and now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The live topic.
    pub then: String,
    /// The topic of the replay.
    pub now: String,
    /// What came out.
    pub comparison: Comparison,
}

/// What a comparison came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Comparison {
    /// The results that the stretch alone decides: the last of each key, and window where there are
    /// windows; every record of each key where no step keeps state.
    Counted {
        /// How many are the same.
        same: u64,
        /// How many differ.
        differ: u64,
        /// How many the job wrote then and not now.
        only_then: u64,
        /// How many it writes now and did not then.
        only_now: u64,
        /// The first [`DIFFERENCES_MAX`](Report::DIFFERENCES_MAX) that are not the same, by window and
        /// key.
        differences: Vec<Difference>,
    },
    /// It was not compared: what it says also depends on what the stretch does not hold.
    Left {
        /// On what.
        reason: String,
    },
}

/// A result that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key, as text.
    pub key: String,
    /// The window's start and end, where there is one.
    pub window: Option<(i64, i64)>,
    /// What was written then, as JSON. Where there are several records of a key: those that were not
    /// also written now, and of how many, `[1, 2] of 7`.
    pub then: Option<String>,
    /// What was written now, in the same way.
    pub now: Option<String>,
    /// Why, where that is known, as in `4 records were late then: grace 10 s`: the job had another grace
    /// when it wrote the window, and that many records were late by one of both and not by the other. A
    /// window that the job has not written is told of retention, or that the job may not be so far.
    pub reason: Option<String>,
}

impl Report {
    /// How many differences of a topic are kept; they are counted all the same.
    pub const DIFFERENCES_MAX: usize = 100;

    /// Whether anything that was compared is not the same.
    #[must_use]
    pub fn has_differences(&self) -> bool {
        self.compared.iter().any(|compared| match compared.comparison {
            Comparison::Counted { differ, only_then, only_now, .. } => {
                differ + only_then + only_now > 0
            }
            Comparison::Left { .. } => false,
        })
    }
}

impl Stretch {
    /// How many offsets it has: as many records, less what markers and aborted records take.
    #[must_use]
    pub fn len(&self) -> u64 {
        u64::try_from(self.until.saturating_sub(self.from)).unwrap_or(0)
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
