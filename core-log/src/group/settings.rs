//! How a consumer reads and commits, by the names that Kafka gives its settings.
//!
//! ```text
//!   ("max.poll.records", "100") --set--> ConsumerSettings { max_poll_records: 100, .. }
//!   ("fetch.min.bytes", "1")    --set--> NotTaken, with the reason
//!   ("max.pol.records", "100")  --set--> Unknown, with a hint
//! ```
//!
//! Why refuse what has no meaning here: a setting that is taken and does nothing is a promise that is
//! not kept.
//!
//! Invariants
//! * Every name of Kafka's consumer is taken or refused with a reason; none is unknown.
//! * Defaults are Kafka's, but for the assignor: ours moves the fewest partitions.
//!
//! Reference: Kafka `ConsumerConfig`; KIP-1106 for `by_duration`.

use std::time::Duration;

use crate::config::Durability;
use crate::error::SettingError;
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
/// let settings = ConsumerSettings::default()
///     .set("auto.offset.reset", "earliest")?
///     .set("enable.auto.commit", "false")?;
/// assert_eq!(settings.auto_offset_reset, OffsetReset::Earliest);
/// assert_eq!(settings.auto_commit(), AutoCommit::Off);
///
/// let refused = settings.set("max.poll.record", "100").unwrap_err();
/// assert_eq!(
///     refused.to_string(),
///     "there is no setting \"max.poll.record\": did you mean \"max.poll.records\"?"
/// );
/// # Ok::<(), core_log::SettingError>(())
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

/// The names that are taken.
const TAKEN: [&str; 10] = [
    "auto.offset.reset",
    "enable.auto.commit",
    "auto.commit.interval.ms",
    "isolation.level",
    "max.poll.records",
    "fetch.max.bytes",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "partition.assignment.strategy",
    "client.id",
];

const NO_NETWORK: &str = "the log is in this process, there is no network";
const NO_SESSION: &str = "members are values of this process: one that is dropped has left";
const NO_METRICS: &str = "there are no metric reporters; see Consumer::lag and Group::lag";
const NO_WAITING: &str = "a poll answers as soon as there is a record; give it the time to wait";
const NO_TYPES: &str = "records are bytes here; typed topics are in the crate streams";
const NO_PLUGINS: &str = "there are no plug-ins";
const SHARED: &str = "it belongs to share groups: see SharedSettings";

/// What Kafka's consumer takes and this one does not.
const NOT_TAKEN: [(&str, &str); 46] = [
    ("allow.auto.create.topics", "topics are made by Log::create_topic only"),
    ("bootstrap.resolve.timeout.ms", NO_NETWORK),
    ("bootstrap.servers", NO_NETWORK),
    ("check.crcs", "checksums are always verified"),
    ("client.dns.lookup", NO_NETWORK),
    ("client.rack", NO_NETWORK),
    ("config.providers", NO_PLUGINS),
    ("connections.max.idle.ms", NO_NETWORK),
    ("default.api.timeout.ms", "calls end when the disk has answered"),
    ("enable.metrics.push", NO_METRICS),
    ("exclude.internal.topics", "the log's own records are never a topic"),
    ("fetch.max.wait.ms", NO_WAITING),
    ("fetch.min.bytes", NO_WAITING),
    ("group.id", "the group is the one that the consumer is taken from: log.group(..)"),
    ("group.instance.id", NO_SESSION),
    ("group.protocol", "members share one table of the group, there is no protocol"),
    ("group.remote.assignor", "set partition.assignment.strategy"),
    ("heartbeat.interval.ms", NO_SESSION),
    ("interceptor.classes", NO_PLUGINS),
    ("internal.throw.on.fetch.stable.offset.unsupported", NO_NETWORK),
    ("key.deserializer", NO_TYPES),
    ("metadata.cluster.check.enable", NO_NETWORK),
    ("metadata.max.age.ms", "new topics are seen at the next poll"),
    ("metadata.recovery.rebootstrap.trigger.ms", NO_NETWORK),
    ("metadata.recovery.strategy", NO_NETWORK),
    ("metric.reporters", NO_METRICS),
    ("metrics.num.samples", NO_METRICS),
    ("metrics.recording.level", NO_METRICS),
    ("metrics.sample.window.ms", NO_METRICS),
    ("receive.buffer.bytes", NO_NETWORK),
    ("reconnect.backoff.max.ms", NO_NETWORK),
    ("reconnect.backoff.ms", NO_NETWORK),
    ("request.timeout.ms", NO_NETWORK),
    ("retry.backoff.max.ms", NO_NETWORK),
    ("retry.backoff.ms", NO_NETWORK),
    ("sasl.mechanism", NO_NETWORK),
    ("security.protocol", NO_NETWORK),
    ("send.buffer.bytes", NO_NETWORK),
    ("session.timeout.ms", NO_SESSION),
    ("share.acknowledgement.mode", SHARED),
    ("share.acquire.mode", SHARED),
    ("socket.connection.setup.timeout.max.ms", NO_NETWORK),
    ("socket.connection.setup.timeout.ms", NO_NETWORK),
    ("ssl.keystore.location", NO_NETWORK),
    ("ssl.truststore.location", NO_NETWORK),
    ("value.deserializer", NO_TYPES),
];

impl ConsumerSettings {
    /// Every name that [`set`](Self::set) takes.
    #[must_use]
    pub fn names() -> &'static [&'static str] {
        &TAKEN
    }

    /// Whether positions are committed without being asked, and how often.
    #[must_use]
    pub fn auto_commit(&self) -> AutoCommit {
        match self.enable_auto_commit {
            true => AutoCommit::Every(self.auto_commit_interval),
            false => AutoCommit::Off,
        }
    }

    /// Sets what Kafka calls `name`.
    ///
    /// # Errors
    ///
    /// * [`SettingError::Unknown`]: nothing is called so; with the name that was probably meant.
    /// * [`SettingError::NotTaken`]: it has no meaning here, with the reason.
    /// * [`SettingError::Value`]: it takes other values.
    pub fn set(mut self, name: &str, value: &str) -> Result<Self, SettingError> {
        let Some(known) = TAKEN.into_iter().find(|known| *known == name) else {
            return Err(refused(name));
        };
        let bad = |expected| SettingError::Value { name: known, value: value.to_owned(), expected };
        let size = || value.parse().map_err(|_bad| bad("a count of bytes"));
        let ms = || {
            let ms = value.parse().map_err(|_bad| bad("a number of milliseconds"));
            ms.map(Duration::from_millis)
        };
        match known {
            "auto.offset.reset" => {
                let expected = "earliest, latest, none, or by_duration:PnDTnHnMn.nS";
                self.auto_offset_reset = offset_reset(value).ok_or_else(|| bad(expected))?;
            }
            "enable.auto.commit" => {
                self.enable_auto_commit = value.parse().map_err(|_bad| bad("true or false"))?;
            }
            "auto.commit.interval.ms" => self.auto_commit_interval = ms()?,
            "isolation.level" => {
                self.isolation_level = match value {
                    "read_committed" => IsolationLevel::ReadCommitted,
                    "read_uncommitted" => IsolationLevel::ReadUncommitted,
                    _ => return Err(bad("read_committed or read_uncommitted")),
                };
            }
            "max.poll.records" => {
                let count = value.parse().ok().filter(|count| *count > 0);
                self.max_poll_records = count.ok_or_else(|| bad("a count of at least 1"))?;
            }
            "fetch.max.bytes" => self.fetch_max_bytes = size()?,
            "max.partition.fetch.bytes" => self.max_partition_fetch_bytes = size()?,
            "max.poll.interval.ms" => {
                self.max_poll_interval = ms()?;
                if self.max_poll_interval.is_zero() {
                    return Err(bad("at least 1 millisecond"));
                }
            }
            "partition.assignment.strategy" => {
                let assignor = Assignor::from_kafka(value);
                self.assignor = assignor.ok_or_else(|| bad("range, roundrobin or sticky"))?;
            }
            _ => value.clone_into(&mut self.client_id),
        }
        Ok(self)
    }
}

/// Why a name is refused.
fn refused(name: &str) -> SettingError {
    match NOT_TAKEN.into_iter().find(|(known, _)| *known == name) {
        Some((name, reason)) => SettingError::NotTaken { name, reason },
        None => SettingError::unknown(name, TAKEN),
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

#[cfg(test)]
mod tests;
