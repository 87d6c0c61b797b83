//! What becomes of old records of a topic: deleted, compacted, both or kept.
//!
//! Invariants
//! * Names, defaults and limits are Kafka's; `record.ttl.ms` is ours.
//!
//! Reference: Kafka `TopicConfig`, `LogConfig`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::partition::compaction::plan::CompactionPolicy;
pub use crate::partition::compaction::plan::Ratio;

/// What becomes of old records (`cleanup.policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CleanupPolicy {
    /// They are deleted by time and size (`delete`).
    #[default]
    Delete,
    /// Of each key the last record stays (`compact`); time and size delete nothing.
    Compact,
    /// Both (`compact,delete`).
    CompactAndDelete,
    /// They stay until somebody deletes them by name (an empty list).
    None,
}

impl CleanupPolicy {
    pub(crate) fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::CompactAndDelete)
    }

    pub(crate) fn compacts(self) -> bool {
        matches!(self, Self::Compact | Self::CompactAndDelete)
    }
}

impl fmt::Display for CleanupPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::CompactAndDelete => "compact,delete",
            Self::None => "",
        })
    }
}

impl FromStr for CleanupPolicy {
    type Err = InvalidCleanupPolicy;

    /// Kafka's list: `delete`, `compact`, both separated by a comma, or nothing; also `none`.
    fn from_str(text: &str) -> Result<Self, InvalidCleanupPolicy> {
        let (mut deletes, mut compacts) = (false, false);
        let words = text.split(',').map(str::trim);
        for word in words.filter(|word| !word.is_empty() && text.trim() != "none") {
            match word {
                "delete" => deletes = true,
                "compact" => compacts = true,
                _ => return Err(InvalidCleanupPolicy),
            }
        }
        Ok(match (deletes, compacts) {
            (true, true) => Self::CompactAndDelete,
            (true, false) => Self::Delete,
            (false, true) => Self::Compact,
            (false, false) => Self::None,
        })
    }
}

/// Not one of `delete`, `compact`, `compact,delete` and `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be delete, compact, compact,delete or none")]
pub struct InvalidCleanupPolicy;

/// When and how a topic is cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// Whether records are deleted, compacted, both or neither; default delete (`cleanup.policy`).
    /// A compacted topic refuses records without a key.
    pub policy: CleanupPolicy,
    /// Milliseconds for which a tombstone stays behind the pass that came by it first; default one day
    /// (`delete.retention.ms`). Who reads the topic from its beginning must be done within that time.
    pub delete_retention_ms: i64,
    /// Milliseconds for which a record is not compacted; default 0 (`min.compaction.lag.ms`).
    pub min_compaction_lag_ms: i64,
    /// Milliseconds after which a record is compacted, however little is dirty; default `i64::MAX`,
    /// never (`max.compaction.lag.ms`). Segments are full after this time too.
    pub max_compaction_lag_ms: i64,
    /// How much of the log must be dirty before it is compacted; default 0.5
    /// (`min.cleanable.dirty.ratio`).
    pub min_dirty_ratio: Ratio,
    /// Milliseconds after which compaction removes a record, by its own timestamp, although it is the
    /// last of its key; default `None`, never (`record.ttl.ms`, which Kafka does not have). It leaves no
    /// tombstone, keeps to whole passes of compaction and needs a policy that compacts. A segment all
    /// of whose records are that old makes a pass due.
    pub record_ttl_ms: Option<i64>,
    /// Milliseconds for which files stay that are not part of the log any more; default one minute
    /// (`file.delete.delay.ms`).
    pub file_delete_delay_ms: i64,
}

impl Default for Cleanup {
    fn default() -> Self {
        Self {
            policy: CleanupPolicy::Delete,
            delete_retention_ms: 86_400_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_dirty_ratio: Ratio::percent(50),
            record_ttl_ms: None,
            file_delete_delay_ms: 60_000,
        }
    }
}

impl Cleanup {
    /// The defaults, with this policy.
    #[must_use]
    pub fn with_policy(policy: CleanupPolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |setting, reason| Err(Error::InvalidSetting { setting, reason });
        if self.delete_retention_ms < 0 || self.file_delete_delay_ms < 0 {
            let reason = "they must not be negative";
            return refuse("delete_retention_ms and file_delete_delay_ms", reason);
        }
        if self.min_compaction_lag_ms < 0 || self.max_compaction_lag_ms < 1 {
            return refuse(
                "compaction lags",
                "the least must not be negative, the most be positive",
            );
        }
        if self.min_compaction_lag_ms > self.max_compaction_lag_ms {
            return refuse("compaction lags", "the least must not be more than the most");
        }
        match self.record_ttl_ms {
            Some(ttl_ms) if ttl_ms < 1 => {
                refuse("record_ttl_ms", "it must be positive; None keeps the last of each key")
            }
            Some(_) if !self.policy.compacts() => {
                refuse("record_ttl_ms", "only compaction removes single records: use retention_ms")
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn compaction(&self) -> Option<CompactionPolicy> {
        self.policy.compacts().then_some(CompactionPolicy {
            delete_retention_ms: self.delete_retention_ms,
            min_lag_ms: self.min_compaction_lag_ms,
            max_lag_ms: self.max_compaction_lag_ms,
            min_dirty_ratio: self.min_dirty_ratio,
            record_ttl_ms: self.record_ttl_ms,
        })
    }

    pub(crate) fn file_delete_delay(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.file_delete_delay_ms).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_read_as_kafka_writes_them() {
        let policy = |text: &str| text.parse::<CleanupPolicy>();
        assert_eq!(policy("delete, compact"), Ok(CleanupPolicy::CompactAndDelete));
        assert_eq!(
            (policy(""), policy("none")),
            (Ok(CleanupPolicy::None), Ok(CleanupPolicy::None))
        );
        assert_eq!(policy("compacted"), Err(InvalidCleanupPolicy));
        assert_eq!(policy("delete,none"), Err(InvalidCleanupPolicy));
    }

    #[test]
    fn what_no_topic_can_have_is_refused() {
        let bad = [
            Cleanup { record_ttl_ms: Some(1), ..Cleanup::default() },
            Cleanup { delete_retention_ms: -1, ..Cleanup::default() },
            Cleanup { max_compaction_lag_ms: 0, ..Cleanup::default() },
            Cleanup { min_compaction_lag_ms: 2, max_compaction_lag_ms: 1, ..Cleanup::default() },
        ];
        for settings in bad {
            let refused = settings.validate();
            assert!(matches!(refused, Err(Error::InvalidSetting { .. })), "{settings:?}");
        }
    }
}
