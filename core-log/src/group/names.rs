//! The settings of a consumer by Kafka's names.
//!
//! Why refuse what has no meaning here: a setting that is taken and does nothing is a promise that is
//! not kept.
//!
//! Invariants
//! * Every name of Kafka's consumer is in the table: as a knob, with its one value, or with the reason why
//!   it means nothing here.
//!
//! Reference: Kafka `ConsumerConfig`; KIP-1106 for `by_duration`.

use std::time::Duration;

use super::settings::{ConsumerSettings, IsolationLevel, OffsetReset};
use crate::config::names::{Meaning, Name, Names, number};
use crate::members::Assignor;

type Line = Name<ConsumerSettings>;

const fn knob(
    name: &'static str,
    get: fn(&ConsumerSettings) -> String,
    set: fn(&mut ConsumerSettings, &str) -> Result<(), &'static str>,
) -> Line {
    Name { name, meaning: Meaning::Knob { get, set } }
}

const fn fixed(name: &'static str, value: &'static str, reason: &'static str) -> Line {
    Name { name, meaning: Meaning::Fixed { value, reason } }
}

const fn refused(name: &'static str, reason: &'static str) -> Line {
    Name { name, meaning: Meaning::Refused { reason } }
}

const NO_NETWORK: &str = "the log is in this process, there is no network";
const NO_SESSION: &str = "members are values of this process: one that is dropped has left";
const NO_METRICS: &str = "there are no metric reporters; see Consumer::lag and Group::lag";
const NO_WAITING: &str = "a poll answers as soon as there is a record; give it the time to wait";
const NO_TYPES: &str = "records are bytes here; typed topics are in the crate streams";
const NO_PLUGINS: &str = "there are no plug-ins";
const SHARED: &str = "it belongs to share groups: see SharedSettings";

const BYTES: &str = "it must be a count of bytes";
const MS: &str = "it must be a number of milliseconds";
const POSITIVE: &str = "it must be a whole number of at least 1";
const RESET: &str = "it must be earliest, latest, none, or by_duration:PnDTnHnMn.nS";
const ISOLATION: &str = "it must be read_committed or read_uncommitted";
const ASSIGNOR: &str = "it must be range, roundrobin or sticky";

/// The table.
pub(super) const CONSUMER_NAMES: Names<ConsumerSettings> = Names { of: "consumer", table: TABLE };

const TABLE: &[Line] = &[
    knob(
        "auto.offset.reset",
        |s| reset_text(s.auto_offset_reset),
        |s, text| {
            s.auto_offset_reset = offset_reset(text).ok_or(RESET)?;
            Ok(())
        },
    ),
    knob(
        "enable.auto.commit",
        |s| s.enable_auto_commit.to_string(),
        |s, text| {
            s.enable_auto_commit = number(text, |_| true, "it must be true or false")?;
            Ok(())
        },
    ),
    knob(
        "auto.commit.interval.ms",
        |s| ms_text(s.auto_commit_interval),
        |s, text| {
            s.auto_commit_interval = Duration::from_millis(number(text, |_| true, MS)?);
            Ok(())
        },
    ),
    knob(
        "isolation.level",
        |s| isolation_text(s.isolation_level).to_owned(),
        |s, text| {
            s.isolation_level = isolation(text).ok_or(ISOLATION)?;
            Ok(())
        },
    ),
    knob(
        "max.poll.records",
        |s| s.max_poll_records.to_string(),
        |s, text| {
            s.max_poll_records = number(text, |count| *count > 0, POSITIVE)?;
            Ok(())
        },
    ),
    knob(
        "fetch.max.bytes",
        |s| s.fetch_max_bytes.to_string(),
        |s, text| {
            s.fetch_max_bytes = number(text, |_| true, BYTES)?;
            Ok(())
        },
    ),
    knob(
        "max.partition.fetch.bytes",
        |s| s.max_partition_fetch_bytes.to_string(),
        |s, text| {
            s.max_partition_fetch_bytes = number(text, |_| true, BYTES)?;
            Ok(())
        },
    ),
    knob(
        "max.poll.interval.ms",
        |s| ms_text(s.max_poll_interval),
        |s, text| {
            s.max_poll_interval = Duration::from_millis(number(text, |ms| *ms > 0, POSITIVE)?);
            Ok(())
        },
    ),
    knob(
        "partition.assignment.strategy",
        |s| s.assignor.to_kafka().to_owned(),
        |s, text| {
            s.assignor = Assignor::from_kafka(text).ok_or(ASSIGNOR)?;
            Ok(())
        },
    ),
    knob(
        "client.id",
        |s| s.client_id.clone(),
        |s, text| {
            text.clone_into(&mut s.client_id);
            Ok(())
        },
    ),
    fixed("allow.auto.create.topics", "false", "topics are made by Log::create_topic only"),
    refused("bootstrap.resolve.timeout.ms", NO_NETWORK),
    refused("bootstrap.servers", NO_NETWORK),
    fixed("check.crcs", "true", "checksums are always verified"),
    refused("client.dns.lookup", NO_NETWORK),
    refused("client.rack", NO_NETWORK),
    refused("config.providers", NO_PLUGINS),
    refused("connections.max.idle.ms", NO_NETWORK),
    refused("default.api.timeout.ms", "calls end when the disk has answered"),
    refused("enable.metrics.push", NO_METRICS),
    fixed("exclude.internal.topics", "true", "the log's own records are never a topic"),
    refused("fetch.max.wait.ms", NO_WAITING),
    fixed("fetch.min.bytes", "1", NO_WAITING),
    refused("group.id", "the group is the one that the consumer is taken from: log.group(..)"),
    refused("group.instance.id", NO_SESSION),
    refused("group.protocol", "members share one table of the group, there is no protocol"),
    refused("group.remote.assignor", "set partition.assignment.strategy"),
    refused("heartbeat.interval.ms", NO_SESSION),
    refused("interceptor.classes", NO_PLUGINS),
    refused("internal.throw.on.fetch.stable.offset.unsupported", NO_NETWORK),
    refused("key.deserializer", NO_TYPES),
    refused("metadata.cluster.check.enable", NO_NETWORK),
    refused("metadata.max.age.ms", "new topics are seen at the next poll"),
    refused("metadata.recovery.rebootstrap.trigger.ms", NO_NETWORK),
    refused("metadata.recovery.strategy", NO_NETWORK),
    refused("metric.reporters", NO_METRICS),
    refused("metrics.num.samples", NO_METRICS),
    refused("metrics.recording.level", NO_METRICS),
    refused("metrics.sample.window.ms", NO_METRICS),
    refused("receive.buffer.bytes", NO_NETWORK),
    refused("reconnect.backoff.max.ms", NO_NETWORK),
    refused("reconnect.backoff.ms", NO_NETWORK),
    refused("request.timeout.ms", NO_NETWORK),
    refused("retry.backoff.max.ms", NO_NETWORK),
    refused("retry.backoff.ms", NO_NETWORK),
    refused("sasl.mechanism", NO_NETWORK),
    refused("security.protocol", NO_NETWORK),
    refused("send.buffer.bytes", NO_NETWORK),
    refused("session.timeout.ms", NO_SESSION),
    refused("share.acknowledgement.mode", SHARED),
    refused("share.acquire.mode", SHARED),
    refused("socket.connection.setup.timeout.max.ms", NO_NETWORK),
    refused("socket.connection.setup.timeout.ms", NO_NETWORK),
    refused("ssl.keystore.location", NO_NETWORK),
    refused("ssl.truststore.location", NO_NETWORK),
    refused("value.deserializer", NO_TYPES),
];

fn ms_text(duration: Duration) -> String {
    duration.as_millis().to_string()
}

fn isolation(text: &str) -> Option<IsolationLevel> {
    match text {
        "read_committed" => Some(IsolationLevel::ReadCommitted),
        "read_uncommitted" => Some(IsolationLevel::ReadUncommitted),
        _ => None,
    }
}

fn isolation_text(level: IsolationLevel) -> &'static str {
    match level {
        IsolationLevel::ReadCommitted => "read_committed",
        IsolationLevel::ReadUncommitted => "read_uncommitted",
    }
}

fn reset_text(reset: OffsetReset) -> String {
    match reset {
        OffsetReset::Earliest => "earliest".to_owned(),
        OffsetReset::Latest => "latest".to_owned(),
        OffsetReset::None => "none".to_owned(),
        OffsetReset::ByDuration(back) => {
            format!("by_duration:PT{}.{:09}S", back.as_secs(), back.subsec_nanos())
        }
    }
}

fn offset_reset(text: &str) -> Option<OffsetReset> {
    match text {
        "earliest" => Some(OffsetReset::Earliest),
        "latest" => Some(OffsetReset::Latest),
        "none" => Some(OffsetReset::None),
        _ => text.strip_prefix("by_duration:").and_then(iso_duration).map(OffsetReset::ByDuration),
    }
}

/// Reads `PnDTnHnMn.nS`; anything that overflows, is negative or says nothing is none.
fn iso_duration(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('P')?;
    let (date, time) = text.split_once('T').unwrap_or((text, ""));
    let mut total = Duration::ZERO;
    let mut parts = 0;
    for (mut rest, units) in [(date, &[('D', 86_400)][..]), (time, &[('H', 3_600), ('M', 60)])] {
        for (unit, seconds) in units {
            if let Some((number, behind)) = rest.split_once(*unit) {
                let number: u64 = digits(number)?.parse().ok()?;
                total = total.checked_add(Duration::from_secs(number.checked_mul(*seconds)?))?;
                (rest, parts) = (behind, parts + 1);
            }
        }
        if let Some(number) = rest.strip_suffix('S').filter(|_| units.len() == 2) {
            let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
            let nanos = format!("{:0<9}", digits(part)?);
            let nanos = nanos.get(..9)?.parse().ok()?;
            total = total.checked_add(Duration::new(digits(whole)?.parse().ok()?, nanos))?;
            (rest, parts) = ("", parts + 1);
        }
        if !rest.is_empty() {
            return None;
        }
    }
    (parts > 0).then_some(total)
}

fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
}
