//! What replays of the log are decided by: settings, the names of errors, and what differs on purpose.
//!
//! Invariants
//! * A difference is a rule with its reason; it is found by what happens, never by a case's name.

use core_log::conformance::{LayerCompaction, LayerOptions};
use core_log::segment::SegmentOptions;
use core_log::{CleanupPolicy, Error, TimestampType};
use serde_json::Value;

use crate::json;
use crate::report::{Outcome, Stop, failed, unsupported};

/// Where the answers differ on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Difference {
    DuplicatesKnownAfterAStart,
    StableBeforeTheMarkerIsDurable,
    SegmentsOfRefusedAppends,
    OneBatchAtLeast,
    AbortedBehindTheRange,
    LookupBelowTheHighWatermark,
}

impl Difference {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::DuplicatesKnownAfterAStart => {
                "a start reads the last segment again and knows up to five batches of a producer, \
                 Kafka's snapshot knows one"
            }
            Self::StableBeforeTheMarkerIsDurable => {
                "what a marker decides was synced before it, so it is stable with the marker; Kafka \
                 waits until the marker is below the high watermark"
            }
            Self::SegmentsOfRefusedAppends => {
                "an append that is refused leaves nothing behind; Kafka begins a segment first"
            }
            Self::OneBatchAtLeast => "a fetch answers one batch at least, or its reader is stuck",
            Self::AbortedBehindTheRange => {
                "Kafka also names aborted transactions that do not touch the records it answers"
            }
            Self::LookupBelowTheHighWatermark => {
                "a lookup by time answers records that are as durable as promised"
            }
        }
    }
}

/// Settings that are followed, or that change nothing here.
const SETTINGS: [&str; 20] = [
    "cleanup.policy",
    "message.timestamp.type",
    "delete.retention.ms",
    "min.compaction.lag.ms",
    "max.compaction.lag.ms",
    "min.cleanable.dirty.ratio",
    "flush.messages",
    "flush.ms",
    "internal.segment.bytes",
    "segment.bytes",
    "segment.ms",
    "index.interval.bytes",
    "retention.ms",
    "retention.bytes",
    "message.timestamp.before.max.ms",
    "message.timestamp.after.max.ms",
    "producer.id.expiration.ms",
    "file.delete.delay.ms",
    "max.message.bytes",
    "segment.index.bytes",
];

pub(super) fn check_config(config: &Value) -> Outcome {
    for (name, value) in config.as_object().into_iter().flatten() {
        match (name.as_str(), value.as_str()) {
            ("compression.type", Some("producer" | "uncompressed")) => {}
            (known, _) if SETTINGS.contains(&known) => {}
            (other, _) => return Err(unsupported(format!("setting {other}"))),
        }
    }
    Ok(())
}

pub(super) fn options(config: &Value) -> Outcome<LayerOptions> {
    let any = |name: &str| json::optional_number(config, name);
    let policy = match config["cleanup.policy"].as_str() {
        Some(text) => text.parse().map_err(|_| unsupported(format!("cleanup.policy={text}")))?,
        None => CleanupPolicy::Delete,
    };
    let deletes = matches!(policy, CleanupPolicy::Delete | CleanupPolicy::CompactAndDelete);
    let compacts = matches!(policy, CleanupPolicy::Compact | CleanupPolicy::CompactAndDelete);
    let timestamp_type = match config["message.timestamp.type"].as_str() {
        Some(text) => {
            text.parse().map_err(|_| unsupported(format!("message.timestamp.type={text}")))?
        }
        None => TimestampType::Create,
    };
    let size =
        if config["segment.bytes"].is_null() { "internal.segment.bytes" } else { "segment.bytes" };
    Ok(LayerOptions {
        segment: SegmentOptions {
            segment_bytes: any(size).map_or(Ok(1 << 30), |_| json::narrow(config, size))?,
            segment_ms: any("segment.ms").unwrap_or(i64::MAX),
            index_interval_bytes: any("index.interval.bytes")
                .map_or(Ok(4_096), |_| json::narrow(config, "index.interval.bytes"))?,
        },
        retention_ms: any("retention.ms").filter(|ms| *ms >= 0 && deletes),
        retention_bytes: any("retention.bytes")
            .and_then(|bytes| u64::try_from(bytes).ok())
            .filter(|_| deletes),
        timestamp_before_max_ms: any("message.timestamp.before.max.ms").unwrap_or(i64::MAX),
        timestamp_after_max_ms: any("message.timestamp.after.max.ms").unwrap_or(i64::MAX),
        max_batch_bytes: any("max.message.bytes")
            .map_or(Ok(1_048_588), |_| json::narrow(config, "max.message.bytes"))?,
        timestamp_type,
        compaction: compacts.then(|| LayerCompaction {
            delete_retention_ms: any("delete.retention.ms").unwrap_or(86_400_000),
            min_lag_ms: any("min.compaction.lag.ms").unwrap_or(0),
        }),
    })
}

/// The variant that stands for one of Kafka's exceptions.
fn exception(error: &Error) -> &'static str {
    match error {
        Error::OutOfOrderSequence { .. } => "OutOfOrderSequenceException",
        Error::ProducerFenced { .. } => "InvalidProducerEpochException",
        Error::InvalidTxnState { .. } => "InvalidTxnStateException",
        Error::TimestampTooFarAhead { .. } | Error::KeyMissing { .. } => {
            "RecordValidationException"
        }
        Error::OffsetOutOfRange { .. } => "OffsetOutOfRangeException",
        Error::BatchTooLarge { .. } => "RecordTooLargeException",
        _ => "no exception of Kafka's",
    }
}

pub(super) fn stopped(error: Error) -> Stop {
    failed(format!("{error}"))
}

/// Compares an error with the one that is expected, if one is.
pub(super) fn refused(error: &Error, expect: &Value) -> Outcome {
    let expected = expect["error"].as_str().unwrap_or("no error");
    if exception(error) == expected {
        return Ok(());
    }
    Err(failed(format!("expected {expected}, got {} ({error})", exception(error))))
}
