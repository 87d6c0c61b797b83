//! The settings of a topic by Kafka's names.
//!
//! Why: who knows Kafka knows these, and tools and files that speak of topics use them. One table is
//! what a topic's line in `topics.checkpoint`, the owner's socket and `TopicSettings::set` go by.
//!
//! Invariants
//! * Every topic-level name of Kafka is in the table: as a knob, with its one value, or with the reason
//!   why it means nothing here. Defaults are Kafka's.
//!
//! Reference: Kafka `LogConfig`, `TopicConfig`.

use super::names::{Meaning, Name, Names, number};
use super::{InvalidCleanupPolicy, InvalidRatio, InvalidTimestampType, TopicSettings};
use crate::format::UnknownCompression;

const fn knob(
    name: &'static str,
    get: fn(&TopicSettings) -> String,
    set: fn(&mut TopicSettings, &str) -> Result<(), &'static str>,
) -> Name<TopicSettings> {
    Name { name, meaning: Meaning::Knob { get, set } }
}

const fn fixed(
    name: &'static str,
    value: &'static str,
    reason: &'static str,
) -> Name<TopicSettings> {
    Name { name, meaning: Meaning::Fixed { value, reason } }
}

const fn refused(name: &'static str, reason: &'static str) -> Name<TopicSettings> {
    Name { name, meaning: Meaning::Refused { reason } }
}

const NOT_NEGATIVE: &str = "it must be a whole number, not negative";
const FOR_EVER: &str = "it must be a whole number, or -1 for no limit";
const COMPRESSION: &str = "it must be producer, uncompressed, gzip, snappy, lz4 or zstd";
const POLICY: &str = "it must be delete, compact, compact,delete or none";
const RATIO: &str = "it must lie between 0 and 1, like 0.5";
const TIMES: &str = "it must be CreateTime or LogAppendTime";
const ONE_LEVEL: &str = "each codec has one level: gzip 6, zstd 3, the fast one of lz4";
const REMOTE: &str = "there is no remote storage";
const NO_REPLICAS: &str = "a log has no replicas: run on a Kafka cluster for those";

/// The table.
pub(super) const TOPIC_NAMES: Names<TopicSettings> = Names { of: "topic", table: TABLE };

const TABLE: &[Name<TopicSettings>] = &[
    knob(
        "segment.bytes",
        |s| s.segment_bytes.to_string(),
        |s, text| {
            let fits = |bytes: &u32| (256..=i32::MAX.cast_unsigned()).contains(bytes);
            s.segment_bytes = number(text, fits, "it must lie between 256 bytes and 2 GiB")?;
            Ok(())
        },
    ),
    knob(
        "segment.ms",
        |s| s.segment_ms.to_string(),
        |s, text| {
            s.segment_ms = number(text, |ms| *ms > 0, "it must be a positive whole number")?;
            Ok(())
        },
    ),
    knob(
        "index.interval.bytes",
        |s| s.index_interval_bytes.to_string(),
        |s, text| {
            s.index_interval_bytes = number(text, |_| true, NOT_NEGATIVE)?;
            Ok(())
        },
    ),
    knob(
        "retention.ms",
        |s| or_minus_one(s.retention_ms),
        |s, text| {
            let ms: i64 = number(text, |ms| *ms >= -1, FOR_EVER)?;
            s.retention_ms = (ms >= 0).then_some(ms);
            Ok(())
        },
    ),
    knob(
        "retention.bytes",
        |s| or_minus_one(s.retention_bytes),
        |s, text| {
            let bytes: i64 = number(text, |bytes| *bytes >= -1, FOR_EVER)?;
            s.retention_bytes = u64::try_from(bytes).ok();
            Ok(())
        },
    ),
    knob(
        "max.message.bytes",
        |s| s.max_batch_bytes.to_string(),
        |s, text| {
            s.max_batch_bytes = number(text, |_| true, NOT_NEGATIVE)?;
            Ok(())
        },
    ),
    knob(
        "message.timestamp.after.max.ms",
        |s| s.timestamp_after_max_ms.to_string(),
        |s, text| {
            s.timestamp_after_max_ms = number(text, |ms| *ms >= 0, NOT_NEGATIVE)?;
            Ok(())
        },
    ),
    knob(
        "message.timestamp.before.max.ms",
        |s| s.timestamp_before_max_ms.to_string(),
        |s, text| {
            s.timestamp_before_max_ms = number(text, |ms| *ms >= 0, NOT_NEGATIVE)?;
            Ok(())
        },
    ),
    knob(
        "cleanup.policy",
        |s| s.cleanup.policy.to_string(),
        |s, text| {
            s.cleanup.policy = text.parse().map_err(|_unknown: InvalidCleanupPolicy| POLICY)?;
            Ok(())
        },
    ),
    knob(
        "delete.retention.ms",
        |s| s.cleanup.delete_retention_ms.to_string(),
        |s, text| {
            s.cleanup.delete_retention_ms = number(text, |ms| *ms >= 0, NOT_NEGATIVE)?;
            Ok(())
        },
    ),
    knob(
        "min.cleanable.dirty.ratio",
        |s| s.cleanup.min_dirty_ratio.to_string(),
        |s, text| {
            s.cleanup.min_dirty_ratio = text.parse().map_err(|_invalid: InvalidRatio| RATIO)?;
            Ok(())
        },
    ),
    knob(
        "min.compaction.lag.ms",
        |s| s.cleanup.min_compaction_lag_ms.to_string(),
        |s, text| {
            s.cleanup.min_compaction_lag_ms = number(text, |ms| *ms >= 0, NOT_NEGATIVE)?;
            Ok(())
        },
    ),
    knob(
        "max.compaction.lag.ms",
        |s| s.cleanup.max_compaction_lag_ms.to_string(),
        |s, text| {
            let positive = "it must be a positive whole number";
            s.cleanup.max_compaction_lag_ms = number(text, |ms| *ms > 0, positive)?;
            Ok(())
        },
    ),
    knob(
        "record.ttl.ms",
        |s| or_minus_one(s.cleanup.record_ttl_ms),
        |s, text| {
            let ms: i64 = number(text, |ms| *ms == -1 || *ms > 0, FOR_EVER)?;
            s.cleanup.record_ttl_ms = (ms > 0).then_some(ms);
            Ok(())
        },
    ),
    knob(
        "file.delete.delay.ms",
        |s| s.cleanup.file_delete_delay_ms.to_string(),
        |s, text| {
            s.cleanup.file_delete_delay_ms = number(text, |ms| *ms >= 0, NOT_NEGATIVE)?;
            Ok(())
        },
    ),
    knob(
        "message.timestamp.type",
        |s| s.timestamp_type.to_string(),
        |s, text| {
            s.timestamp_type = text.parse().map_err(|_unknown: InvalidTimestampType| TIMES)?;
            Ok(())
        },
    ),
    knob(
        "compression.type",
        |s| s.compression.to_string(),
        |s, text| {
            s.compression = text.parse().map_err(|_unknown: UnknownCompression| COMPRESSION)?;
            Ok(())
        },
    ),
    fixed("compression.gzip.level", "-1", ONE_LEVEL),
    fixed("compression.lz4.level", "9", ONE_LEVEL),
    fixed("compression.zstd.level", "3", ONE_LEVEL),
    fixed("flush.messages", "9223372036854775807", "the writer chooses: see Durability"),
    fixed("flush.ms", "9223372036854775807", "the writer chooses: see Durability"),
    fixed("preallocate", "false", "segments grow with what is written"),
    fixed("segment.index.bytes", "10485760", "indexes grow with their segment"),
    fixed("segment.jitter.ms", "0", "segments are rolled by size and record time alone"),
    fixed("min.insync.replicas", "1", NO_REPLICAS),
    fixed("unclean.leader.election.enable", "false", NO_REPLICAS),
    fixed("leader.replication.throttled.replicas", "", NO_REPLICAS),
    fixed("follower.replication.throttled.replicas", "", NO_REPLICAS),
    fixed("remote.storage.enable", "false", REMOTE),
    fixed("remote.log.copy.disable", "false", REMOTE),
    fixed("remote.log.delete.on.disable", "false", REMOTE),
    fixed("remote.copy.lag.ms", "0", REMOTE),
    fixed("remote.copy.lag.bytes", "-1", REMOTE),
    fixed("local.retention.ms", "-2", REMOTE),
    fixed("local.retention.bytes", "-2", REMOTE),
    fixed(
        "errors.deadletterqueue.group.enable",
        "false",
        "a job names its dead-letter topic itself",
    ),
    refused("partitions", "it is no setting: give it when the topic is made"),
    refused("num.partitions", "it is no setting of a topic: give partitions when it is made"),
    refused("replication.factor", NO_REPLICAS),
    refused("internal.segment.bytes", "use segment.bytes, which may be as small as 256 bytes"),
    refused("log.segment.bytes", "that is a broker's default: use segment.bytes"),
    refused("log.roll.ms", "that is a broker's default: use segment.ms"),
    refused("log.roll.hours", "that is a broker's default: use segment.ms"),
    refused("log.roll.jitter.ms", "that is a broker's default: use segment.jitter.ms"),
    refused("log.roll.jitter.hours", "that is a broker's default: use segment.jitter.ms"),
    refused("log.retention.ms", "that is a broker's default: use retention.ms"),
    refused("log.retention.minutes", "that is a broker's default: use retention.ms"),
    refused("log.retention.hours", "that is a broker's default: use retention.ms"),
    refused("log.retention.bytes", "that is a broker's default: use retention.bytes"),
    refused("log.cleanup.policy", "that is a broker's default: use cleanup.policy"),
    refused("log.index.interval.bytes", "that is a broker's default: use index.interval.bytes"),
    refused("log.index.size.max.bytes", "that is a broker's default: use segment.index.bytes"),
    refused("log.preallocate", "that is a broker's default: use preallocate"),
    refused("log.segment.delete.delay.ms", "that is a broker's default: use file.delete.delay.ms"),
    refused("log.flush.interval.messages", "the writer chooses: see Durability"),
    refused("log.flush.interval.ms", "the writer chooses: see Durability"),
    refused("log.message.timestamp.type", "that is a broker's default: use message.timestamp.type"),
    refused(
        "log.message.timestamp.after.max.ms",
        "that is a broker's default: use message.timestamp.after.max.ms",
    ),
    refused(
        "log.message.timestamp.before.max.ms",
        "that is a broker's default: use message.timestamp.before.max.ms",
    ),
];

fn or_minus_one<T: ToString>(limit: Option<T>) -> String {
    limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::format::{Compression, CompressionType};
    use serde_json::Value;

    /// Names of Kafka's that concern a broker, not a topic.
    fn is_of_a_broker(name: &str) -> bool {
        let prefixes = ["log.", "alter.", "create.", "cordoned.", "auto.create.", "num."];
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    }

    #[test]
    fn every_topic_level_name_is_known_and_has_kafkas_default() {
        let text = include_str!("../../../tests/oracles/config_defaults.json");
        let oracle: Value = serde_json::from_str(text).unwrap();
        let configs = oracle["classes"]["LogConfig"]["configs"].as_object().unwrap();
        let defaults = TopicSettings::default();
        let mut seen = 0;
        for (name, config) in configs {
            if is_of_a_broker(name) || config["internal"].as_bool() == Some(true) {
                continue;
            }
            seen += 1;
            let kafkas = match &config["default"] {
                Value::Array(list) => {
                    let words: Vec<_> = list.iter().map(|word| word.as_str().unwrap()).collect();
                    words.join(",")
                }
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(TOPIC_NAMES.get(&defaults, name), Some(kafkas.clone()), "{name}");
            TOPIC_NAMES.set(&mut defaults.clone(), name, &kafkas).unwrap();
        }
        assert!(seen >= 36, "only {seen} names");
    }

    #[test]
    fn all_settings_read_back_from_their_names() {
        let settings = TopicSettings {
            segment_bytes: 300,
            segment_ms: 1,
            index_interval_bytes: 0,
            retention_ms: None,
            retention_bytes: Some(7),
            max_batch_bytes: 9,
            timestamp_after_max_ms: i64::MAX,
            timestamp_before_max_ms: 0,
            compression: CompressionType::Always(Compression::None),
            timestamp_type: crate::config::TimestampType::LogAppend,
            cleanup: crate::config::Cleanup {
                policy: crate::config::CleanupPolicy::CompactAndDelete,
                delete_retention_ms: 1,
                min_compaction_lag_ms: 2,
                max_compaction_lag_ms: 3,
                min_dirty_ratio: crate::config::Ratio::percent(7),
                record_ttl_ms: Some(4),
                file_delete_delay_ms: 5,
            },
            ..TopicSettings::default()
        };
        let mut read = TopicSettings::default();
        for (name, value) in TOPIC_NAMES.all(&settings) {
            assert!(!value.contains(char::is_whitespace), "{name}");
            TOPIC_NAMES.set(&mut read, name, &value).unwrap();
        }
        assert_eq!(read, settings);
    }

    #[test]
    fn what_is_refused_says_what_to_use_instead() {
        let mut settings = TopicSettings::default();
        for (name, value) in [
            ("log.retention.hours", "1"),
            ("segment.bytes", "255"),
            ("retention.ms", "-2"),
            ("retention.ms", "a week"),
            ("max.message.bytes", "-1"),
            ("remote.storage.enable", "true"),
            ("compression.type", "none"),
        ] {
            let refused = TOPIC_NAMES.set(&mut settings, name, value);
            assert!(matches!(refused, Err(Error::SettingRefused { .. })), "{name}={value}");
        }
        assert_eq!(settings, TopicSettings::default());
        let refused = TOPIC_NAMES.set(&mut settings, "log.retention.hours", "1").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "log.retention.hours=1 is refused: that is a broker's default: use retention.ms"
        );
        let unknown = TOPIC_NAMES.set(&mut settings, "retention.msec", "1").unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "there is no topic setting \"retention.msec\": did you mean \"retention.ms\"?"
        );
    }
}
