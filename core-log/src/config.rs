//! What can be chosen: for a topic, for a writer, for the whole log.
//!
//! Why here: each layer owns the options that it uses; this composes them from what a user says, with
//! Kafka's names and defaults.
//!
//! Invariants
//! * Nothing here is for a layer above the log.

mod cleanup;
pub(crate) mod names;
mod producer_settings;
mod topic_names;

use std::time::Duration;

pub use cleanup::{Cleanup, CleanupPolicy, InvalidCleanupPolicy, Ratio};
use names::by_name;
pub use producer_settings::ProducerSettings;
use topic_names::TOPIC_NAMES;

use crate::commit::Broken;
use crate::error::{Error, Result};
use crate::format::CompressionType;
pub use crate::partition::compaction::plan::InvalidRatio;
use crate::partition::retention::RetentionPolicy;
pub use crate::partition::{InvalidTimestampType, TimestampType};
use crate::partition::{PartitionOptions, Promise};
use crate::segment::SegmentOptions;

/// The largest number of partitions that one topic may have.
pub const PARTITIONS_MAX: u32 = 10_000;

/// A segment takes at least a small batch.
const SEGMENT_BYTES_MIN: u32 = 256;

/// What a writer is promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// What is acknowledged survives a power cut.
    #[default]
    Sync,
    /// What is acknowledged survives a killed process at once, a power cut after this time.
    Interval(Duration),
    /// What is acknowledged survives a killed process; the operating system writes it when it likes.
    Os,
}

impl Durability {
    pub(crate) fn promise(self) -> Promise {
        match self {
            Self::Sync => Promise::Durable,
            Self::Interval(interval) => Promise::Within(interval),
            Self::Os => Promise::Nothing,
        }
    }
}

/// How a topic takes and keeps records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// How many partitions it has; default 1.
    pub partitions: u32,
    /// Bytes after which a segment is full; default 1 GiB (`segment.bytes`).
    pub segment_bytes: u32,
    /// Milliseconds of record time after which a segment is full; default 7 days (`segment.ms`).
    pub segment_ms: i64,
    /// Bytes between two entries of a segment's indexes; default 4096 (`index.interval.bytes`).
    pub index_interval_bytes: u32,
    /// Milliseconds for which records are kept, by their own timestamps; default 7 days, `None` for ever
    /// (`retention.ms`). Records with negative timestamps have no age and stay.
    pub retention_ms: Option<i64>,
    /// Bytes that a partition keeps; default `None`, all (`retention.bytes`).
    pub retention_bytes: Option<u64>,
    /// Whether old records are deleted or compacted, and when; by default they are deleted.
    pub cleanup: Cleanup,
    /// Whose time records carry; default the producer's (`message.timestamp.type`).
    pub timestamp_type: TimestampType,
    /// The largest batch in bytes, as it is written (compressed, if it is); default 1 048 588
    /// (`max.message.bytes`).
    pub max_batch_bytes: u32,
    /// How batches are compressed; default as their producers say (`compression.type`).
    pub compression: CompressionType,
    /// How far a timestamp may lie ahead of the clock, in milliseconds; default one hour, `i64::MAX`
    /// for any (`message.timestamp.after.max.ms`).
    pub timestamp_after_max_ms: i64,
    /// How far a timestamp may lie behind the clock, in milliseconds; default `i64::MAX`, any
    /// (`message.timestamp.before.max.ms`).
    pub timestamp_before_max_ms: i64,
}

impl Default for TopicSettings {
    fn default() -> Self {
        const WEEK_MS: i64 = 7 * 24 * 3_600_000;
        Self {
            partitions: 1,
            segment_bytes: 1 << 30,
            segment_ms: WEEK_MS,
            index_interval_bytes: 4096,
            retention_ms: Some(WEEK_MS),
            retention_bytes: None,
            cleanup: Cleanup::default(),
            timestamp_type: TimestampType::Create,
            max_batch_bytes: 1_048_588,
            compression: CompressionType::Producer,
            timestamp_after_max_ms: 3_600_000,
            timestamp_before_max_ms: i64::MAX,
        }
    }
}

by_name!(
    /// ```
    /// use core_log::TopicSettings;
    ///
    /// let settings = TopicSettings::from_kafka([("retention.ms", "-1"), ("segment.bytes", "65536")])?;
    /// assert_eq!((settings.retention_ms, settings.segment_bytes), (None, 65_536));
    /// assert_eq!(settings.get("max.message.bytes").as_deref(), Some("1048588"));
    ///
    /// let refused = TopicSettings::from_kafka([("retention.msec", "1000")]).unwrap_err();
    /// assert!(refused.to_string().ends_with("did you mean \"retention.ms\"?"));
    /// # Ok::<(), core_log::Error>(())
    /// ```
    TopicSettings, TOPIC_NAMES
);

impl TopicSettings {
    /// The defaults, with so many partitions.
    #[must_use]
    pub fn with_partitions(partitions: u32) -> Self {
        Self { partitions, ..Self::default() }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |setting, reason| Err(Error::InvalidSetting { setting, reason });
        if self.partitions == 0 || self.partitions > PARTITIONS_MAX {
            return refuse("partitions", "it must lie between 1 and 10000");
        }
        if self.segment_bytes < SEGMENT_BYTES_MIN || i32::try_from(self.segment_bytes).is_err() {
            return refuse("segment_bytes", "it must lie between 256 bytes and 2 GiB");
        }
        if self.segment_ms <= 0 {
            return refuse("segment_ms", "it must be positive");
        }
        if self.retention_ms.is_some_and(|ms| ms < 0) {
            return refuse("retention_ms", "it must not be negative; None keeps records for ever");
        }
        self.cleanup.validate()?;
        if self.timestamp_after_max_ms < 0 || self.timestamp_before_max_ms < 0 {
            return refuse("timestamp limits", "they must not be negative; i64::MAX allows any");
        }
        Ok(())
    }

    pub(crate) fn partition_options(&self) -> PartitionOptions {
        let Cleanup { policy, max_compaction_lag_ms, .. } = self.cleanup;
        let retention = RetentionPolicy {
            retention_ms: self.retention_ms,
            retention_bytes: self.retention_bytes,
        };
        let lag_ms = if policy.compacts() { max_compaction_lag_ms } else { i64::MAX };
        PartitionOptions {
            segment: SegmentOptions {
                segment_bytes: self.segment_bytes,
                segment_ms: self.segment_ms.min(lag_ms),
                index_interval_bytes: self.index_interval_bytes,
            },
            retention: if policy.deletes() { retention } else { RetentionPolicy::default() },
            compaction: self.cleanup.compaction(),
            file_delete_delay: self.cleanup.file_delete_delay(),
            timestamp_type: self.timestamp_type,
            max_batch_bytes: self.max_batch_bytes,
            compression: self.compression,
            timestamp_before_max_ms: self.timestamp_before_max_ms,
            timestamp_after_max_ms: self.timestamp_after_max_ms,
        }
    }
}

/// How a log runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogSettings {
    pub(crate) create: bool,
    pub(crate) background: bool,
    pub(crate) transaction_timeout: Duration,
    pub(crate) commits_bytes_max: u64,
    /// `None`: the default of the storage.
    pub(crate) reserve_bytes: Option<u64>,
    /// `None`: as the storage says.
    pub(crate) open_files_max: Option<usize>,
    pub(crate) broken: Option<Broken>,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            create: true,
            background: true,
            transaction_timeout: Duration::from_secs(60),
            commits_bytes_max: 1 << 20,
            reserve_bytes: None,
            open_files_max: None,
            broken: None,
        }
    }
}
