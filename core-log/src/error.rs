//! Everything that can go wrong with a log, and what its caller can do about it.
//!
//! Why one enum: a caller matches on what happened, never on text. The layers below feed it with
//! their own errors, and each variant keeps what a person needs: path, position, offsets, cause.
//!
//! Invariants
//! * Outcomes that are expected (a duplicate, the end of a partition) are values, not errors.
//! * [`Error::recourse`] knows every variant.
//!
//! On crash: a failed write or sync is a crash of the log, [`Error::LogCrashed`] for its callers.
//! Reference: KIP-1050 (error classes).

mod from;
mod group;
mod text;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use group::GroupError;
use text::{damaged, did_you_mean, doubt, owner};

use crate::format::DecodeError;
use crate::ids::{
    GroupId, NameKind, Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition,
    TransactionalId,
};

/// The result of everything that can fail in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the one who gets an error can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recourse {
    /// The same call may succeed later.
    Retry,
    /// Abort the transaction, begin another one and do its work again.
    AbortTransaction,
    /// Nothing that this handle can do: open a new producer or log, repair, or stop.
    Fatal,
    /// The call itself is wrong: change what is passed in.
    FixInput,
}

/// Everything that can go wrong with a log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No topic has this name. Recourse: [`Recourse::FixInput`].
    #[error("there is no topic {name:?}")]
    UnknownTopic {
        /// The name that was asked for.
        name: String,
        /// The names of the topics that there are.
        known: Vec<String>,
    },
    /// A topic of this name exists already. Recourse: [`Recourse::FixInput`].
    #[error("topic {name:?} exists already")]
    TopicExists {
        /// The topic's name.
        name: String,
    },
    /// A name breaks the rules for names. Recourse: [`Recourse::FixInput`].
    #[error("{name:?} is not a valid {kind}: {reason}")]
    InvalidName {
        /// What the name was for.
        kind: NameKind,
        /// The name as it was given.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The topic has fewer partitions. Recourse: [`Recourse::FixInput`].
    #[error("topic {topic:?} has {partitions} partitions, there is no partition {partition}")]
    UnknownPartition {
        /// The topic's name, or its id where the topic itself is unknown.
        topic: String,
        /// The partition that was asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// The offset lies below the log start or beyond the end. Recourse: [`Recourse::FixInput`].
    #[error("offset {requested} is out of range: the partition holds {start} to {end} (exclusive)")]
    OffsetOutOfRange {
        /// The offset that was asked for.
        requested: Offset,
        /// The log start offset.
        start: Offset,
        /// The end of what may be asked for, exclusive.
        end: Offset,
    },
    /// Another process owns the directory. Recourse: [`Recourse::Retry`].
    #[error("{} is in use by {}", path.display(), owner(*pid))]
    DirectoryLocked {
        /// The log directory.
        path: PathBuf,
        /// The process that owns it, when it could be read.
        pid: Option<u32>,
        /// Since when, when it could be read.
        since_ms: Option<Timestamp>,
    },
    /// The directory holds something else than a log. Recourse: [`Recourse::FixInput`].
    #[error("{} is not a log directory: it holds {found:?} and no meta.properties", path.display())]
    NotALog {
        /// The directory.
        path: PathBuf,
        /// The name of something that lies in it.
        found: String,
    },
    /// What is to be taken over is no partition. Recourse: [`Recourse::FixInput`].
    #[error("{} cannot be taken over: {reason}", path.display())]
    NotAPartition {
        /// The directory, or a file in it.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The directory is not there, or empty. Recourse: [`Recourse::FixInput`].
    #[error("there is no log in {}", path.display())]
    DirectoryMissing {
        /// The directory.
        path: PathBuf,
    },
    /// A file lies where a directory is wanted. Recourse: [`Recourse::FixInput`].
    #[error("{} is no directory, or lies in something that is none", path.display())]
    NotADirectory {
        /// What was to be a directory, or to lie in one.
        path: PathBuf,
    },
    /// The directory cannot be written. Recourse: [`Recourse::FixInput`].
    #[error("{} cannot be written", path.display())]
    ReadOnlyDirectory {
        /// The directory or file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No space is left. Recourse: [`Recourse::Retry`], once there is space again.
    #[error("no space left to write {}", path.display())]
    DiskFull {
        /// The file that was written.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Bytes that were once synced are gone or wrong. Recourse: [`Recourse::Fatal`]; repair.
    #[error("{}; what can be done: log_dump --repair", damaged(topic, *partition, path, *position, *offset, reason))]
    Damaged {
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: u32,
        /// The damaged file.
        path: PathBuf,
        /// The first byte of the first bad batch.
        position: u64,
        /// The first offset that cannot be read.
        offset: Offset,
        /// What is wrong there.
        reason: String,
    },
    /// Another producer took over. Recourse: [`Recourse::Fatal`]; open a new producer.
    #[error("{}", fenced(transactional_id.as_ref(), *producer_id, *producer_epoch, *current_epoch))]
    ProducerFenced {
        /// The transactional id, where there is one.
        transactional_id: Option<TransactionalId>,
        /// The producer.
        producer_id: ProducerId,
        /// Its epoch.
        producer_epoch: ProducerEpoch,
        /// The epoch that fences it.
        current_epoch: ProducerEpoch,
    },
    /// A batch of this producer is missing in front. Recourse: [`Recourse::AbortTransaction`].
    #[error("producer {producer_id} sent sequence {actual} where {expected} was expected")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// The sequence that would have continued.
        expected: i32,
        /// The sequence that came.
        actual: i32,
    },
    /// The call does not fit the producer's transaction. Recourse: [`Recourse::AbortTransaction`].
    #[error("producer {producer_id}: {reason}")]
    InvalidTxnState {
        /// The producer.
        producer_id: ProducerId,
        /// What does not fit.
        reason: &'static str,
    },
    /// A record's timestamp lies outside of the topic's limits. Recourse: [`Recourse::FixInput`].
    #[error(
        "timestamp {timestamp} lies too far from the clock ({now_ms}): {limit_ms} ms are allowed"
    )]
    TimestampTooFarAhead {
        /// The record's timestamp.
        timestamp: Timestamp,
        /// What the log's clock showed.
        now_ms: Timestamp,
        /// The topic's limit.
        limit_ms: i64,
    },
    /// The batch is larger than the topic allows. Recourse: [`Recourse::FixInput`].
    #[error("a batch of {bytes} bytes is larger than the {max_bytes} bytes allowed")]
    BatchTooLarge {
        /// The batch's size.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// The topic keeps the last record of each key, and this one has none. Recourse:
    /// [`Recourse::FixInput`].
    #[error("record {record} of the batch has no key, and topic {topic:?} is compacted")]
    KeyMissing {
        /// The topic's name.
        topic: String,
        /// Which record of the batch, from 0.
        record: i32,
    },
    /// The batch has no records. Recourse: [`Recourse::FixInput`].
    #[error("an empty batch cannot be appended")]
    EmptyBatch,
    /// A setting has a value that it cannot have. Recourse: [`Recourse::FixInput`].
    #[error("{setting} is refused: {reason}")]
    InvalidSetting {
        /// Which setting.
        setting: &'static str,
        /// What it must be.
        reason: &'static str,
    },
    /// No setting has this name. Recourse: [`Recourse::FixInput`].
    #[error("there is no {of} setting {name:?}{}", did_you_mean(*similar))]
    UnknownSetting {
        /// Whose setting: `topic`, `producer`.
        of: &'static str,
        /// The name that was asked for.
        name: String,
        /// The name that was probably meant.
        similar: Option<&'static str>,
    },
    /// A setting cannot have this value, or means nothing here. Recourse: [`Recourse::FixInput`].
    #[error("{setting}={value} is refused: {reason}")]
    SettingRefused {
        /// The setting, by Kafka's name.
        setting: &'static str,
        /// The value as it was given.
        value: String,
        /// What it must be, or what to use instead.
        reason: &'static str,
    },
    /// A record that was sent is not acknowledged. Recourse: that of the cause.
    #[error("a record for {topic}-{partition} is not acknowledged, and {}", doubt(*is_in_doubt))]
    NotAcknowledged {
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: u32,
        /// Whether it may be in the log all the same: then sending it again may write it twice.
        is_in_doubt: bool,
        /// Why.
        #[source]
        cause: Arc<Self>,
    },
    /// Something did not happen in time. Recourse: [`Recourse::Retry`].
    #[error("{what} took longer than {} ms", after.as_millis())]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The producer was closed or dropped. Recourse: [`Recourse::Fatal`]; open a new producer.
    #[error("the producer is closed")]
    ProducerClosed,
    /// One commit names a position twice. Recourse: [`Recourse::FixInput`].
    #[error("group {group} commits two offsets for {partition}")]
    DuplicateOffset {
        /// The group.
        group: GroupId,
        /// The partition.
        partition: TopicPartition,
    },
    /// A write or sync failed: the log drops what it holds in memory and reopens by recovery.
    /// Recourse: [`Recourse::Retry`] with new handles; running transactions are doomed.
    #[error("the log crashed and reopens by recovery: {cause}")]
    LogCrashed {
        /// What failed.
        cause: String,
    },
    /// The log crashed under this transaction. Recourse: [`Recourse::AbortTransaction`].
    #[error("the transaction of producer {producer_id} cannot be committed any more: {reason}")]
    TransactionDoomed {
        /// The producer.
        producer_id: ProducerId,
        /// Why.
        reason: String,
    },
    /// The transaction was open for too long and was aborted. Recourse:
    /// [`Recourse::AbortTransaction`]; give the next one more time, or less to do. A
    /// [`TransactionalProducer`](crate::TransactionalProducer) has lost its id: open a new one.
    #[error(
        "transaction {transactional_id} of producer {producer_id} was open for more than \
         {timeout:?} and was aborted: begin another one, with less to do or a longer time-out"
    )]
    TransactionTimedOut {
        /// Under which id it ran.
        transactional_id: TransactionalId,
        /// The producer.
        producer_id: ProducerId,
        /// How long it could be open.
        timeout: Duration,
    },
    /// Somebody aborted the transaction by its id. Recourse: [`Recourse::AbortTransaction`]; a
    /// [`TransactionalProducer`](crate::TransactionalProducer) has lost its id: open a new one.
    #[error(
        "transaction {transactional_id} of producer {producer_id} was aborted from outside: begin \
         another one"
    )]
    TransactionAborted {
        /// Under which id it ran.
        transactional_id: TransactionalId,
        /// The producer.
        producer_id: ProducerId,
    },
    /// No transaction ran under this id since the log was opened, or it was long ago. Recourse:
    /// [`Recourse::FixInput`].
    #[error("there is no transaction {name:?} in this log: list the ids that there are")]
    UnknownTransactionalId {
        /// The id that was asked for.
        name: String,
    },
    /// The log was closed. Recourse: [`Recourse::Fatal`]; open it again.
    #[error("the log is closed")]
    Closed,
    /// The operating system refused. Recourse: [`Recourse::Fatal`].
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another version of this library wrote the file. Recourse: [`Recourse::Fatal`].
    #[error("{} has format version {found}, this build reads {supported}", path.display())]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: String,
        /// The version that this build reads.
        supported: String,
    },
    /// The owner of the directory did not answer as it should. Recourse: [`Recourse::Retry`].
    #[error("the owner of {} answered: {reason}", path.display())]
    Owner {
        /// The socket.
        path: PathBuf,
        /// What it said, or what went wrong.
        reason: String,
    },
    /// The process that owns the directory answers no questions: it only looks at the log, or is no
    /// program that does. Recourse: [`Recourse::Retry`].
    #[error("the owner of {} answers no questions", path.display())]
    NobodyAnswers {
        /// The socket.
        path: PathBuf,
    },
    /// Bytes are not a record batch. Recourse: [`Recourse::Fatal`].
    #[error(transparent)]
    Decode(DecodeError),
    /// A group refuses a call of a consumer. Recourse: [`GroupError::recourse`].
    #[error(transparent)]
    Group(#[from] GroupError),
}

/// Operations that change nothing.
const READS: [&str; 5] = ["read", "list", "look for", "find", "open"];

fn fenced(
    transactional_id: Option<&TransactionalId>,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    current_epoch: ProducerEpoch,
) -> String {
    match transactional_id {
        Some(id) => format!(
            "producer {producer_id} with epoch {producer_epoch} is fenced: another one took over \
             transactional id {id}, and its transaction is aborted; stop, or take the id over again"
        ),
        None => format!(
            "producer {producer_id} with epoch {producer_epoch} is fenced: epoch {current_epoch} is \
             in use"
        ),
    }
}

impl Error {
    /// An error of the operating system on `path`, told apart by what it means.
    #[must_use]
    pub fn io(path: &Path, operation: &'static str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::DiskFull { path, source },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnlyDirectory { path, source },
            // A file that may not even be read is another matter.
            io::ErrorKind::PermissionDenied if !READS.contains(&operation) => {
                Self::ReadOnlyDirectory { path, source }
            }
            io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            _ => Self::Io { path, operation, source },
        }
    }

    /// What the one who gets this error can do about it.
    #[must_use]
    pub fn recourse(&self) -> Recourse {
        match self {
            Self::NotAcknowledged { cause, .. } => cause.recourse(),
            Self::DirectoryLocked { .. }
            | Self::DiskFull { .. }
            | Self::LogCrashed { .. }
            | Self::TimedOut { .. }
            | Self::Owner { .. }
            | Self::NobodyAnswers { .. } => Recourse::Retry,
            Self::OutOfOrderSequence { .. }
            | Self::InvalidTxnState { .. }
            | Self::TransactionTimedOut { .. }
            | Self::TransactionAborted { .. }
            | Self::TransactionDoomed { .. } => Recourse::AbortTransaction,
            Self::Damaged { .. }
            | Self::ProducerFenced { .. }
            | Self::Closed
            | Self::ProducerClosed
            | Self::Io { .. }
            | Self::UnsupportedVersion { .. }
            | Self::Decode(_) => Recourse::Fatal,
            Self::Group(refused) => refused.recourse(),
            Self::UnknownTopic { .. }
            | Self::TopicExists { .. }
            | Self::InvalidName { .. }
            | Self::UnknownPartition { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::NotALog { .. }
            | Self::NotADirectory { .. }
            | Self::NotAPartition { .. }
            | Self::DirectoryMissing { .. }
            | Self::ReadOnlyDirectory { .. }
            | Self::TimestampTooFarAhead { .. }
            | Self::BatchTooLarge { .. }
            | Self::KeyMissing { .. }
            | Self::EmptyBatch
            | Self::InvalidSetting { .. }
            | Self::UnknownSetting { .. }
            | Self::SettingRefused { .. }
            | Self::UnknownTransactionalId { .. }
            | Self::DuplicateOffset { .. } => Recourse::FixInput,
        }
    }
}

#[cfg(test)]
mod tests;
