//! Everything that can go wrong, with a code, names and numbers.
//!
//! Why one enum: a job stops with exactly one error, and whoever reads it (a person at a terminal, a
//! supervisor, a test) needs the code, what happened, and what to do, in the same place each time.
//!
//! Invariants
//! * `code()` never changes its meaning between versions.
//! * `help()` is an edit or a command that a user can carry out.
//!
//! Reference: KIP-1050 for the classes of `core_log::Error::recourse`.

mod help;

use std::any::Any;
use std::fmt;
use std::path::PathBuf;

use crate::ids::InvalidName;
use crate::record::RecordPosition;
use crate::store::StoreError;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A record does not decode as the type of its topic.
    #[error("{topic}-{partition}@{offset} does not decode as {kind}: {reason}")]
    Decode {
        /// The topic read.
        topic: String,
        /// Its partition.
        partition: u32,
        /// The record's offset.
        offset: i64,
        /// What was expected: the name of the key's or value's type.
        kind: &'static str,
        /// What the decoder said.
        reason: String,
        /// The bytes, as text where they are text, cut at 200 bytes.
        evidence: String,
    },
    /// Two inputs that one task must read together have different partition counts.
    #[error(
        "cannot join {left} ({left_partitions} partitions) with {right} ({right_partitions} partitions) on the key"
    )]
    NotCopartitioned {
        /// One topic.
        left: String,
        /// Its partitions.
        left_partitions: u32,
        /// The other topic.
        right: String,
        /// Its partitions.
        right_partitions: u32,
    },
    /// A topic that must exist does not.
    #[error("topic `{name}` does not exist in {log}")]
    UnknownTopic {
        /// The topic asked for.
        name: String,
        /// The log it was looked for in.
        log: String,
        /// The topics that are there.
        known: Vec<String>,
    },
    /// No topic has a name that a pattern takes.
    #[error("no topic of {log} matches `{pattern}`")]
    NoTopicMatches {
        /// The pattern asked for.
        pattern: String,
        /// The log it was looked for in.
        log: String,
        /// The topics that are there.
        known: Vec<String>,
    },
    /// The job's position lies outside of what the log still has.
    #[error(
        "{topic}-{partition}: the job stopped at offset {position} but the log has {start} to {end}"
    )]
    PositionLost {
        /// The topic read.
        topic: String,
        /// Its partition.
        partition: u32,
        /// Where the job wants to go on.
        position: i64,
        /// The first offset that is there.
        start: i64,
        /// The log end offset.
        end: i64,
    },
    /// What is to be read again begins with records that retention has removed.
    #[error(
        "{topic}-{partition}: records from {wanted} on are wanted but the log has offsets {start} to {end}"
    )]
    RangeCut {
        /// The topic read.
        topic: String,
        /// Its partition.
        partition: u32,
        /// The offset or the time that was wanted.
        wanted: String,
        /// The first offset that is there.
        start: i64,
        /// The end of the committed records.
        end: i64,
    },
    /// A place in the log that cannot be read from.
    #[error("{reason}")]
    BadPosition {
        /// What is wrong with it.
        reason: String,
        /// The place to say instead.
        help: String,
    },
    /// A directory in which a replay was to be put holds something else.
    #[error("{} holds {found}, which no replay has written", path.display())]
    NotAReplay {
        /// The directory.
        path: PathBuf,
        /// What was found in it.
        found: String,
    },
    /// A closure of the job panicked.
    #[error("the job panicked: {reason}")]
    Panicked {
        /// What the panic said.
        reason: String,
    },
    /// An event time lies further ahead of its record's log timestamp than allowed.
    #[error(
        "{topic}-{partition}@{offset}: event time {event_time} is {ahead_ms} ms past the record's log timestamp {log_timestamp} (at most {limit_ms} ms)"
    )]
    EventTimeAhead {
        /// The topic read.
        topic: String,
        /// Its partition.
        partition: u32,
        /// The record's offset.
        offset: i64,
        /// What the extractor returned, in milliseconds since 1970.
        event_time: i64,
        /// The record's own timestamp.
        log_timestamp: i64,
        /// The difference.
        ahead_ms: i64,
        /// The setting that it exceeds.
        limit_ms: i64,
    },
    /// A closure of the job refused a record.
    #[error("step {step} refused {}: {reason}", Shown(record.as_ref()))]
    Refused {
        /// The step, with its number as `topology` prints it.
        step: String,
        /// Where the record was read; `None` for what came from state, as the result of a window does.
        record: Option<RecordPosition>,
        /// What the closure said, cut at 1 KiB.
        reason: String,
    },
    /// The topology contradicts itself.
    #[error("the topology cannot run: {reason}")]
    Topology {
        /// What is wrong, naming the step.
        reason: String,
        /// The edit that mends it.
        help: String,
    },
    /// A name that cannot become part of a topic's name.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// A value that cannot be written in the codec of its topic.
    #[error("a value for {topic} cannot be encoded: {reason}")]
    Encode {
        /// The topic or store to be written.
        topic: String,
        /// What the encoder said.
        reason: String,
    },
    /// Bytes that only this library writes do not have the layout that it writes.
    #[error("{topic}-{partition}@{offset}: {reason}")]
    Internal {
        /// The internal topic.
        topic: String,
        /// Its partition.
        partition: u32,
        /// The record's offset.
        offset: i64,
        /// What does not fit.
        reason: &'static str,
    },
    /// A state store failed.
    #[error("state: {0}")]
    Store(#[from] StoreError),
    /// Another instance took over the job's transactional ids.
    #[error("job `{job}` is fenced: {source}")]
    Fenced {
        /// The job.
        job: String,
        /// Which producer, and by which epoch.
        source: Box<core_log::Error>,
    },
    /// The log failed or refused.
    #[error(transparent)]
    Log(#[from] core_log::Error),
    /// A store that the job does not have.
    #[error("the job has no store `{name}`")]
    UnknownStore {
        /// The store asked for.
        name: String,
        /// The stores that it has.
        known: Vec<String>,
    },
    /// A store was asked for with other types than it has.
    #[error("store `{store}` holds {held}, and was asked for {asked}")]
    StoreTypes {
        /// The store.
        store: String,
        /// The types of its keys and values.
        held: String,
        /// The types that were asked for.
        asked: String,
    },
    /// The job was asked something and did not answer.
    #[error("the job did not answer: {reason}")]
    Unanswered {
        /// Why not.
        reason: String,
    },
    /// A job is to go back to records that retention has removed.
    #[error("{topic}-{partition} begins at offset {start}: {wanted} lies before it")]
    ResetCut {
        /// The topic read.
        topic: String,
        /// Its partition.
        partition: u32,
        /// The offset or the time that was wanted.
        wanted: String,
        /// The first offset that is there.
        start: i64,
    },
    /// The rows of a store were written by a build with other types.
    #[error("store `{store}` holds {held}; this build has {wanted}")]
    StoreVersion {
        /// The store.
        store: String,
        /// The types of its rows.
        held: String,
        /// The types that this build has.
        wanted: String,
    },
    /// The job is to be changed while it runs.
    #[error("{id} is running (pid {pid})")]
    JobRunning {
        /// The job.
        id: String,
        /// The process that runs it.
        pid: u32,
    },
    /// A command line that cannot be carried out.
    #[error("{reason}")]
    Usage {
        /// What is wrong with it.
        reason: String,
    },
    /// A file that the user named cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A thread or a signal handler could not be set up.
    #[error("the operating system refused {what}: {source}")]
    System {
        /// What was asked of it.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// A record, as an error names it.
struct Shown<'a>(Option<&'a RecordPosition>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(position) => position.fmt(f),
            None => f.write_str("a result that came from state"),
        }
    }
}

impl Error {
    /// What a thread died of.
    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Panicked { reason: text.unwrap_or_else(|| "without a message".to_owned()) }
    }

    /// The same error, told of a job: it knows its name, the log only its producers.
    pub(crate) fn of_job(self, job: &str) -> Self {
        match self {
            Self::Log(source @ core_log::Error::ProducerFenced { .. }) => {
                Self::Fenced { job: job.to_owned(), source: Box::new(source) }
            }
            other => other,
        }
    }

    /// The stable code that a person can look up: `S002`, `S004`, ...
    #[must_use]
    pub fn code(&self) -> &'static str {
        use core_log::Error as Log;
        match self {
            Self::Decode { .. } => "S002",
            Self::NotCopartitioned { .. } => "S003",
            Self::UnknownTopic { .. }
            | Self::NoTopicMatches { .. }
            | Self::Log(Log::UnknownTopic { .. }) => "S004",
            Self::Log(Log::DirectoryLocked { .. }) => "S006",
            Self::ResetCut { .. }
            | Self::RangeCut { .. }
            | Self::PositionLost { .. }
            | Self::Log(Log::OffsetOutOfRange { .. }) => "S007",
            Self::Panicked { .. } => "S008",
            Self::Fenced { .. } | Self::Log(Log::ProducerFenced { .. }) => "S009",
            Self::Log(Log::DiskFull { .. }) => "S013",
            Self::Log(Log::ReadOnlyDirectory { .. }) => "S014",
            Self::NotAReplay { .. }
            | Self::Log(Log::NotALog { .. } | Log::NotADirectory { .. }) => "S015",
            Self::Unreadable { .. } | Self::Log(Log::DirectoryMissing { .. }) => "S016",
            Self::Topology { .. } => "S018",
            Self::Log(Log::Damaged { .. }) | Self::Internal { .. } => "S019",
            Self::Log(Log::Decode(
                core_log::DecodeError::Decompress { .. }
                | core_log::DecodeError::DecompressedTooLarge { .. },
            )) => "S020",
            Self::EventTimeAhead { .. } | Self::Log(Log::TimestampTooFarAhead { .. }) => "S022",
            Self::Log(Log::TopicExists { .. }) => "S023",
            Self::InvalidName(_) | Self::Log(Log::InvalidName { .. }) => "S024",
            Self::Encode { .. }
            | Self::Store(StoreError::Encode { .. })
            | Self::Log(Log::BatchTooLarge { .. }) => "S025",
            Self::Store(_) => "S026",
            Self::Usage { .. } => "S027",
            Self::BadPosition { .. } => "S032",
            Self::StoreVersion { .. } => "S005",
            Self::JobRunning { .. } => "S017",
            Self::UnknownStore { .. } => "S030",
            Self::StoreTypes { .. } => "S033",
            Self::Unanswered { .. } => "S034",
            Self::System { .. } => "S028",
            Self::Refused { .. } => "S031",
            Self::Log(_) => "S029",
        }
    }

    /// Whether dropping everything in memory and starting over from the last commit may help. After a
    /// failed write or sync the log has reopened by itself: a disk that stays broken shows soon enough.
    #[must_use]
    pub(crate) fn is_passing(&self) -> bool {
        use core_log::{Error as Log, Recourse};
        match self {
            Self::Log(Log::Io { .. }) => true,
            // There is no room for the next attempt either, or no more time.
            Self::Log(Log::DiskFull { .. } | Log::TransactionTimedOut { .. }) => false,
            Self::Log(e) => matches!(e.recourse(), Recourse::Retry | Recourse::AbortTransaction),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::help::nearest;
    use super::*;

    #[test]
    fn what_stops_a_job_says_what_to_do_and_the_advice_fits() {
        let store = || crate::ids::StoreName::new("counts").expect("a good name");
        let reason = || "why".to_owned();
        let (topic, partition, offset) = ("t".to_owned(), 0, 7);
        let large = StoreError::Encode { store: store(), reason: reason() };
        let damaged = StoreError::Corrupt { store: store(), reason: reason() };
        let cases: [(Error, &str, &str); 6] = [
            (Error::Panicked { reason: reason() }, "S008", "mend the closure"),
            (Error::Encode { topic: topic.clone(), reason: reason() }, "S025", "mend the type"),
            (Error::Store(large), "S025", "mend the type"),
            (Error::Store(damaged), "S026", "move the `state` directory away"),
            (Error::Internal { topic, partition, offset, reason: "why" }, "S019", "only the job"),
            (Error::Topology { reason: reason(), help: reason() }, "S018", "why"),
        ];
        for (error, code, advice) in cases {
            assert_eq!(error.code(), code, "{error}");
            assert!(error.help().iter().any(|line| line.contains(advice)), "{error}");
        }
    }

    #[test]
    fn a_mistyped_topic_finds_its_neighbour() {
        let known = ["clicks", "page-counts", "users"].map(String::from);
        assert_eq!(nearest("click", &known), Some("clicks"));
        assert_eq!(nearest("orders", &known), None);
        let of_a_join = ["pay-left", "pay-right"].map(str::to_owned);
        assert_eq!(nearest("pay", &of_a_join), Some("pay-left"));
    }
}
