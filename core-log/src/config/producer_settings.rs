//! How a batching producer gathers and sends records, also by Kafka's names.
//!
//! Why beside the topics' table: both are lists of the same kind, and a name that belongs to a broker
//! connection is refused with the reason here, instead of being believed to act.
//!
//! Invariants
//! * Every name of Kafka's producer that means something in one process is a knob or has its one
//!   value; defaults are Kafka's.
//!
//! Reference: Kafka `ProducerConfig`.

use std::time::Duration;

use super::Durability;
use super::names::{Meaning, Name, Names, by_name, number};
use crate::error::{Error, Result};
use crate::format::Compression;

/// The largest batch that a batch header can describe, and far more than one should be.
const BYTES_MAX: usize = 1 << 30;

/// How a [`BatchingProducer`](crate::BatchingProducer) gathers and sends records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerSettings {
    /// What an acknowledgement means; default [`Durability::Sync`] (`acks=all`; `acks=1` is
    /// [`Durability::Os`]).
    pub durability: Durability,
    /// Bytes at which a batch is sent; default 16 384 (`batch.size`). While the batch before is on its
    /// way, one grows further, up to `record_bytes_max`.
    pub batch_bytes: usize,
    /// How long a batch that is not full waits for more records; default 5 ms (`linger.ms`).
    pub linger: Duration,
    /// Bytes of records that may wait; default 32 MiB (`buffer.memory`).
    pub buffer_bytes: usize,
    /// How long `send` waits for room in the buffer; default 60 s (`max.block.ms`).
    pub block_max: Duration,
    /// How long a record may wait for its acknowledgement before its batch is given up; default 2
    /// minutes (`delivery.timeout.ms`).
    pub delivery_timeout: Duration,
    /// Bytes that a batch, and so a record, may have; default 1 MiB (`max.request.size`). The topic's
    /// own limit applies too.
    pub record_bytes_max: usize,
    /// How long to wait after a failure before the batch is tried again, doubled each time; default
    /// 100 ms (`retry.backoff.ms`).
    pub retry_backoff: Duration,
    /// The longest of those waits; default 1 s (`retry.backoff.max.ms`).
    pub retry_backoff_max: Duration,
    /// How batches are compressed, unless the topic says otherwise; default not at all
    /// (`compression.type`).
    pub compression: Compression,
    /// Records that are written in a second; default any number.
    pub records_per_second_max: Option<u64>,
    /// Bytes that are written in a second; default any number (`producer_byte_rate`).
    pub bytes_per_second_max: Option<u64>,
}

impl Default for ProducerSettings {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            batch_bytes: 16_384,
            linger: Duration::from_millis(5),
            buffer_bytes: 32 << 20,
            block_max: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            record_bytes_max: 1 << 20,
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            compression: Compression::None,
            records_per_second_max: None,
            bytes_per_second_max: None,
        }
    }
}

by_name!(
    /// ```
    /// use core_log::{Durability, Error, ProducerSettings};
    ///
    /// let settings = ProducerSettings::from_kafka([("linger.ms", "20"), ("acks", "1")])?;
    /// assert_eq!(settings.linger.as_millis(), 20);
    /// assert_eq!(settings.durability, Durability::Os);
    ///
    /// let refused = ProducerSettings::from_kafka([("bootstrap.servers", "localhost:9092")]);
    /// assert!(matches!(refused, Err(Error::SettingRefused { .. })));
    /// # Ok::<(), core_log::Error>(())
    /// ```
    ProducerSettings, PRODUCER_NAMES
);

impl ProducerSettings {
    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |setting, reason| Err(Error::InvalidSetting { setting, reason });
        if self.batch_bytes > BYTES_MAX || self.record_bytes_max > BYTES_MAX {
            return refuse("batch_bytes or record_bytes_max", "it must not exceed 1 GiB");
        }
        if self.record_bytes_max < 256 {
            return refuse("record_bytes_max", "a batch with one record takes 256 bytes or more");
        }
        if self.buffer_bytes < self.record_bytes_max {
            return refuse("buffer_bytes", "it must have room for the largest batch");
        }
        if self.delivery_timeout < self.linger {
            return refuse("delivery_timeout", "it must not be shorter than linger");
        }
        if self.records_per_second_max == Some(0) || self.bytes_per_second_max == Some(0) {
            return refuse("rate limit", "it must be positive; None is no limit");
        }
        Ok(())
    }
}

const fn knob(
    name: &'static str,
    get: fn(&ProducerSettings) -> String,
    set: fn(&mut ProducerSettings, &str) -> Result<(), &'static str>,
) -> Name<ProducerSettings> {
    Name { name, meaning: Meaning::Knob { get, set } }
}

const fn fixed(
    name: &'static str,
    value: &'static str,
    reason: &'static str,
) -> Name<ProducerSettings> {
    Name { name, meaning: Meaning::Fixed { value, reason } }
}

const fn refused(name: &'static str, reason: &'static str) -> Name<ProducerSettings> {
    Name { name, meaning: Meaning::Refused { reason } }
}

const BYTES: &str = "it must be a whole number of bytes";
const MILLIS: &str = "it must be a whole number of milliseconds";
const RATE: &str = "it must be a positive whole number of bytes in a second";
const NO_NETWORK: &str = "the log is in this process: there is no connection";
const NO_REPLICAS: &str = "the log is in this process: there are no replicas to choose among";
const TYPED: &str = "records are bytes: encode keys and values before they are sent";
const ONE_LEVEL: &str = "each codec has one level";
const TRANSACTIONS: &str = "open a transactional producer instead";

/// The table.
const PRODUCER_NAMES: Names<ProducerSettings> = Names { of: "producer", table: TABLE };

const TABLE: &[Name<ProducerSettings>] = &[
    knob(
        "acks",
        |s| if s.durability == Durability::Sync { "all" } else { "1" }.to_owned(),
        |s, text| {
            s.durability = match text {
                "all" | "-1" => Durability::Sync,
                "1" => Durability::Os,
                "0" => return Err("every record is acknowledged; let the acknowledgement go"),
                _ => return Err("it must be all (synced) or 1 (given to the operating system)"),
            };
            Ok(())
        },
    ),
    knob(
        "batch.size",
        |s| s.batch_bytes.to_string(),
        |s, text| {
            s.batch_bytes = number(text, |_| true, BYTES)?;
            Ok(())
        },
    ),
    knob(
        "linger.ms",
        |s| millis(s.linger),
        |s, text| {
            s.linger = duration(text)?;
            Ok(())
        },
    ),
    knob(
        "buffer.memory",
        |s| s.buffer_bytes.to_string(),
        |s, text| {
            s.buffer_bytes = number(text, |_| true, BYTES)?;
            Ok(())
        },
    ),
    knob(
        "max.block.ms",
        |s| millis(s.block_max),
        |s, text| {
            s.block_max = duration(text)?;
            Ok(())
        },
    ),
    knob(
        "delivery.timeout.ms",
        |s| millis(s.delivery_timeout),
        |s, text| {
            s.delivery_timeout = duration(text)?;
            Ok(())
        },
    ),
    knob(
        "max.request.size",
        |s| s.record_bytes_max.to_string(),
        |s, text| {
            s.record_bytes_max = number(text, |_| true, BYTES)?;
            Ok(())
        },
    ),
    knob(
        "retry.backoff.ms",
        |s| millis(s.retry_backoff),
        |s, text| {
            s.retry_backoff = duration(text)?;
            Ok(())
        },
    ),
    knob(
        "retry.backoff.max.ms",
        |s| millis(s.retry_backoff_max),
        |s, text| {
            s.retry_backoff_max = duration(text)?;
            Ok(())
        },
    ),
    knob(
        "producer_byte_rate",
        |s| s.bytes_per_second_max.unwrap_or(i64::MAX.cast_unsigned()).to_string(),
        |s, text| {
            let rate: i64 = number(text, |rate| *rate > 0, RATE)?;
            s.bytes_per_second_max = u64::try_from(rate).ok().filter(|_| rate < i64::MAX);
            Ok(())
        },
    ),
    knob(
        "compression.type",
        |s| s.compression.to_string(),
        |s, text| {
            let found = Compression::ALL.into_iter().find(|codec| codec.name() == text);
            s.compression = found.ok_or("it must be none, gzip, snappy, lz4 or zstd")?;
            Ok(())
        },
    ),
    fixed("enable.idempotence", "true", "a batch that is sent again is always written once"),
    fixed(
        "max.in.flight.requests.per.connection",
        "5",
        "one batch of a partition is on its way at a time, so that order is kept",
    ),
    fixed("retries", "2147483647", "delivery.timeout.ms says how long a batch is tried"),
    fixed("compression.gzip.level", "-1", ONE_LEVEL),
    fixed("compression.lz4.level", "9", ONE_LEVEL),
    fixed("compression.zstd.level", "3", ONE_LEVEL),
    fixed("partitioner.class", "null", "murmur2 of the key, or one partition for each batch"),
    fixed("partitioner.ignore.keys", "false", "name the partition of each record instead"),
    fixed("partitioner.adaptive.partitioning.enable", "true", NO_REPLICAS),
    fixed("partitioner.availability.timeout.ms", "0", NO_REPLICAS),
    fixed("partitioner.rack.aware", "false", NO_REPLICAS),
    fixed("transaction.two.phase.commit.enable", "false", TRANSACTIONS),
    refused("transactional.id", TRANSACTIONS),
    refused("transaction.timeout.ms", "it is a setting of the log: LogOptions"),
    refused("key.serializer", TYPED),
    refused("value.serializer", TYPED),
    refused("interceptor.classes", "call it before send"),
    refused("request.timeout.ms", NO_NETWORK),
    refused("bootstrap.servers", NO_NETWORK),
    refused("bootstrap.resolve.timeout.ms", NO_NETWORK),
    refused("client.id", NO_NETWORK),
    refused("client.rack", NO_NETWORK),
    refused("client.dns.lookup", NO_NETWORK),
    refused("connections.max.idle.ms", NO_NETWORK),
    refused("metadata.max.age.ms", NO_NETWORK),
    refused("metadata.max.idle.ms", NO_NETWORK),
    refused("metadata.cluster.check.enable", NO_NETWORK),
    refused("metadata.recovery.strategy", NO_NETWORK),
    refused("metadata.recovery.rebootstrap.trigger.ms", NO_NETWORK),
    refused("receive.buffer.bytes", NO_NETWORK),
    refused("send.buffer.bytes", NO_NETWORK),
    refused("reconnect.backoff.ms", NO_NETWORK),
    refused("reconnect.backoff.max.ms", NO_NETWORK),
    refused("socket.connection.setup.timeout.ms", NO_NETWORK),
    refused("socket.connection.setup.timeout.max.ms", NO_NETWORK),
    refused("config.providers", "pass the values themselves"),
    refused("enable.metrics.push", "ask the producer for its statistics"),
    refused("metric.reporters", "ask the producer for its statistics"),
    refused("metrics.num.samples", "ask the producer for its statistics"),
    refused("metrics.recording.level", "ask the producer for its statistics"),
    refused("metrics.sample.window.ms", "ask the producer for its statistics"),
];

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    // Java's long: what is longer could not be said there, and would not fit other clocks here.
    number(text, |ms| i64::try_from(*ms).is_ok(), MILLIS).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_name_of_kafkas_producer_is_known_and_defaults_are_kafkas() {
        let text = include_str!("../../../tests/oracles/config_defaults.json");
        let oracle: Value = serde_json::from_str(text).unwrap();
        let configs = oracle["classes"]["ProducerConfig"]["configs"].as_object().unwrap();
        let defaults = ProducerSettings::default();
        let mut compared = 0;
        for (name, config) in configs {
            let is_internal = config["internal"].as_bool() == Some(true);
            let known = PRODUCER_NAMES.table.iter().any(|line| line.name == name);
            assert!(known || is_internal, "{name} is not in the table");
            let kafkas = match &config["default"] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            if let Some(ours) = defaults.get(name) {
                assert_eq!(ours, kafkas, "{name}");
                compared += 1;
            }
        }
        assert!(compared >= 20, "only {compared} defaults");
    }

    #[test]
    fn all_settings_read_back_from_their_names() {
        let settings = ProducerSettings {
            durability: Durability::Os,
            batch_bytes: 0,
            linger: Duration::ZERO,
            bytes_per_second_max: Some(5),
            compression: Compression::Lz4,
            ..ProducerSettings::default()
        };
        let mut read = ProducerSettings::default();
        for (name, value) in settings.to_kafka() {
            read.set(name, &value).unwrap();
        }
        assert_eq!(read, settings);
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let refused = |change: fn(&mut ProducerSettings)| {
            let mut settings = ProducerSettings::default();
            change(&mut settings);
            assert!(matches!(settings.validate(), Err(Error::InvalidSetting { .. })));
        };
        refused(|s| s.buffer_bytes = 1000);
        refused(|s| s.record_bytes_max = 10);
        refused(|s| s.batch_bytes = usize::MAX);
        refused(|s| s.delivery_timeout = Duration::ZERO);
        refused(|s| s.records_per_second_max = Some(0));
        assert!(ProducerSettings::default().validate().is_ok());
    }
}
