//! How a consumer reads and commits.
//!
//! Why typed fields and names: a program sets fields, a file of settings has names; the table in `names`
//! keeps both together.
//!
//! Invariants
//! * Defaults are Kafka's, but for the assignor: ours moves the fewest partitions.
//!
//! Reference: Kafka `ConsumerConfig`; KIP-1106 for `by_duration`.

use std::time::Duration;

use super::names::CONSUMER_NAMES;
use crate::config::Durability;
use crate::config::names::by_name;
use crate::members::Assignor;
use crate::partition::FetchBound;

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IsolationLevel {
    /// Records of open and aborted transactions too.
    #[default]
    ReadUncommitted,
    /// Records that were written outside of transactions, and by those that were committed.
    ReadCommitted,
}

impl IsolationLevel {
    /// How far a reader of this level may see.
    #[must_use]
    pub fn bound(self) -> FetchBound {
        match self {
            Self::ReadUncommitted => FetchBound::HighWatermark,
            Self::ReadCommitted => FetchBound::LastStable,
        }
    }
}

/// Where to begin when no offset is committed, or the position is not in the partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the first record that there is.
    Earliest,
    /// Behind the last record that there is now.
    #[default]
    Latest,
    /// Nowhere: the poll is refused until somebody seeks.
    None,
    /// At the first record of this last stretch of time, by the log's clock.
    ByDuration(Duration),
}

/// Whether positions are committed without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCommit {
    /// They are not.
    Off,
    /// A poll commits what the polls before it have handed out, when this long has passed since the
    /// last time.
    Every(Duration),
}

/// How a consumer reads and commits.
///
/// ```
/// use core_log::{AutoCommit, ConsumerSettings, OffsetReset};
///
/// let mut settings = ConsumerSettings::from_kafka([
///     ("auto.offset.reset", "earliest"),
///     ("enable.auto.commit", "false"),
/// ])?;
/// assert_eq!(settings.auto_offset_reset, OffsetReset::Earliest);
/// assert_eq!(settings.auto_commit(), AutoCommit::Off);
///
/// let refused = settings.set("max.poll.record", "100").unwrap_err();
/// assert!(refused.to_string().ends_with("did you mean \"max.poll.records\"?"));
/// # Ok::<(), core_log::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// Where to begin; default `Latest` (`auto.offset.reset`).
    pub auto_offset_reset: OffsetReset,
    /// Whether polls commit; default yes (`enable.auto.commit`).
    pub enable_auto_commit: bool,
    /// How often they do; default 5 s (`auto.commit.interval.ms`).
    pub auto_commit_interval: Duration,
    /// Which records are seen; default read uncommitted (`isolation.level`).
    pub isolation_level: IsolationLevel,
    /// The most records that one poll hands out; default 500 (`max.poll.records`).
    pub max_poll_records: usize,
    /// About the most bytes that one poll hands out; default 50 MiB (`fetch.max.bytes`). A batch
    /// that is larger than this is handed out all the same, alone.
    pub fetch_max_bytes: usize,
    /// About the most bytes that one poll hands out of one partition; default 1 MiB
    /// (`max.partition.fetch.bytes`).
    pub max_partition_fetch_bytes: usize,
    /// A member that does not poll for longer than this loses its partitions; default 5 min
    /// (`max.poll.interval.ms`).
    pub max_poll_interval: Duration,
    /// How partitions are shared out; default sticky (`partition.assignment.strategy`).
    pub assignor: Assignor,
    /// What the member is called, in front of its number; default `consumer` (`client.id`).
    pub client_id: String,
    /// How durable an acknowledged commit is; default `Sync`. Kafka has no such setting.
    pub durability: Durability,
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        Self {
            auto_offset_reset: OffsetReset::default(),
            enable_auto_commit: true,
            auto_commit_interval: Duration::from_secs(5),
            isolation_level: IsolationLevel::default(),
            max_poll_records: 500,
            fetch_max_bytes: 50 << 20,
            max_partition_fetch_bytes: 1 << 20,
            max_poll_interval: Duration::from_secs(300),
            assignor: Assignor::default(),
            client_id: String::new(),
            durability: Durability::Sync,
        }
    }
}

by_name!(
    /// ```
    /// use core_log::{ConsumerSettings, IsolationLevel};
    ///
    /// let settings = ConsumerSettings::from_kafka([("isolation.level", "read_committed")])?;
    /// assert_eq!(settings.isolation_level, IsolationLevel::ReadCommitted);
    /// assert_eq!(settings.get("max.poll.records").as_deref(), Some("500"));
    /// # Ok::<(), core_log::Error>(())
    /// ```
    ConsumerSettings, CONSUMER_NAMES
);

impl ConsumerSettings {
    /// Whether positions are committed without being asked, and how often.
    #[must_use]
    pub fn auto_commit(&self) -> AutoCommit {
        match self.enable_auto_commit {
            true => AutoCommit::Every(self.auto_commit_interval),
            false => AutoCommit::Off,
        }
    }
}

#[cfg(test)]
mod tests;
