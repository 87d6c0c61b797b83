//! What owner and client say to each other: a line of JSON, and raw batches behind it.
//!
//! ```text
//!   request:  one line, at most 64 KiB:  {"get":"offsets","topic":"UUID","partition":0}
//!   answer:   one line; `bytes` of a fetch, or of a text answered, says how many raw bytes follow it
//! ```
//!
//! Invariants
//! * No length read from the line sizes a buffer beyond what this side allows.

use std::io::{self, BufRead, Read};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::lines::{OutcomeLine, ProducerLine, TransactionLine};
use crate::commit::OffsetCommit;
use crate::config::TopicSettings;
use crate::error::Error;
use crate::ids::{GroupId, Offset, ProducerId, Timestamp, TopicName};
use crate::partition::{FetchBound, Fetched, PartitionOffsets};
use crate::segment::AbortedTransaction;
use crate::topic::Topic;

/// The longest line in either direction; a list of ten thousand topics fits an answer.
pub(super) const REQUEST_BYTES_MAX: usize = 64 << 10;
pub(super) const ANSWER_LINE_BYTES_MAX: usize = 16 << 20;
/// About how many bytes of batches an answer carries; one batch may be larger.
pub(super) const BATCHES_BYTES_MAX: usize = 1 << 20;
/// The largest batch that any topic can hold.
pub(super) const BATCH_BYTES_LIMIT: usize = 2 << 30;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "get", rename_all = "snake_case")]
pub(super) enum Request {
    Topics,
    Fetch { topic: String, partition: u32, offset: Offset, max_bytes: usize, bound: Bound },
    Offsets { topic: String, partition: u32 },
    OffsetForTime { topic: String, partition: u32, timestamp: Timestamp },
    Committed { group: String },
    Changes,
    Wait { seen: u64, timeout_ms: u64 },
    Ask { question: String },
    Transactions,
    Producers { topic: String, partition: u32 },
    AbortTransaction { id: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bound {
    LogEnd,
    HighWatermark,
    LastStable,
}

impl From<FetchBound> for Bound {
    fn from(bound: FetchBound) -> Self {
        match bound {
            FetchBound::LogEnd => Self::LogEnd,
            FetchBound::HighWatermark => Self::HighWatermark,
            FetchBound::LastStable => Self::LastStable,
        }
    }
}

impl From<Bound> for FetchBound {
    fn from(bound: Bound) -> Self {
        match bound {
            Bound::LogEnd => Self::LogEnd,
            Bound::HighWatermark => Self::HighWatermark,
            Bound::LastStable => Self::LastStable,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    Topics(Vec<TopicLine>),
    Fetched(FetchedLine),
    Offsets(OffsetsLine),
    OffsetForTime(Option<(Offset, Timestamp)>),
    Committed(Vec<CommittedLine>),
    Changes(u64),
    /// So many bytes of text follow.
    Answered(usize),
    NobodyAnswers,
    Transactions(Vec<TransactionLine>),
    Producers(Vec<ProducerLine>),
    TransactionAborted(OutcomeLine),
    UnknownTransactionalId(String),
    OutOfRange {
        requested: Offset,
        start: Offset,
        end: Offset,
    },
    UnknownPartition {
        topic: String,
        partition: u32,
        partitions: u32,
    },
    Damaged {
        topic: String,
        partition: u32,
        path: String,
        position: u64,
        offset: Offset,
        reason: String,
    },
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TopicLine {
    name: String,
    id: String,
    partitions: u32,
    /// By Kafka's names.
    settings: Vec<(String, String)>,
}

impl From<&Topic> for TopicLine {
    fn from(topic: &Topic) -> Self {
        let settings = topic.settings().to_kafka();
        Self {
            name: topic.name().to_string(),
            id: topic.id().to_string(),
            partitions: topic.partitions(),
            settings: settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }
}

impl TopicLine {
    /// `None` when name, id or settings are not valid.
    pub(super) fn to_topic(&self) -> Option<Topic> {
        let mut settings = TopicSettings::with_partitions(self.partitions);
        for (name, value) in &self.settings {
            settings.set(name, value).ok()?;
        }
        settings.validate().ok()?;
        Some(Topic::new(TopicName::new(&self.name).ok()?, self.id.parse().ok()?, settings))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FetchedLine {
    pub(super) bytes: usize,
    /// Producer id, first offset, last offset, last stable offset.
    aborted: Vec<(i64, Offset, Offset, Offset)>,
    log_start_offset: Offset,
    high_watermark: Offset,
    last_stable_offset: Offset,
    log_end_offset: Offset,
}

impl From<&Fetched> for FetchedLine {
    fn from(fetched: &Fetched) -> Self {
        let fields = |a: &AbortedTransaction| {
            (a.producer_id.0, a.first_offset, a.last_offset, a.last_stable_offset)
        };
        Self {
            bytes: fetched.batches.len(),
            aborted: fetched.aborted.iter().map(fields).collect(),
            log_start_offset: fetched.log_start_offset,
            high_watermark: fetched.high_watermark,
            last_stable_offset: fetched.last_stable_offset,
            log_end_offset: fetched.log_end_offset,
        }
    }
}

impl FetchedLine {
    pub(super) fn into_fetched(self, batches: Bytes) -> Fetched {
        let transaction =
            |(id, first_offset, last_offset, last_stable_offset)| AbortedTransaction {
                producer_id: ProducerId(id),
                first_offset,
                last_offset,
                last_stable_offset,
            };
        Fetched {
            batches,
            aborted: self.aborted.into_iter().map(transaction).collect(),
            log_start_offset: self.log_start_offset,
            high_watermark: self.high_watermark,
            last_stable_offset: self.last_stable_offset,
            log_end_offset: self.log_end_offset,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OffsetsLine {
    log_start_offset: Offset,
    high_watermark: Offset,
    last_stable_offset: Offset,
    log_end_offset: Offset,
    leader_epoch: i32,
}

impl From<PartitionOffsets> for OffsetsLine {
    fn from(offsets: PartitionOffsets) -> Self {
        Self {
            log_start_offset: offsets.log_start_offset,
            high_watermark: offsets.high_watermark,
            last_stable_offset: offsets.last_stable_offset,
            log_end_offset: offsets.log_end_offset,
            leader_epoch: offsets.leader_epoch,
        }
    }
}

impl From<OffsetsLine> for PartitionOffsets {
    fn from(line: OffsetsLine) -> Self {
        Self {
            log_start_offset: line.log_start_offset,
            high_watermark: line.high_watermark,
            last_stable_offset: line.last_stable_offset,
            log_end_offset: line.log_end_offset,
            leader_epoch: line.leader_epoch,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CommittedLine {
    topic: String,
    partition: u32,
    offset: Offset,
    leader_epoch: i32,
    metadata: Vec<u8>,
}

impl From<OffsetCommit> for CommittedLine {
    fn from(commit: OffsetCommit) -> Self {
        Self {
            topic: commit.topic.to_string(),
            partition: commit.partition,
            offset: commit.offset,
            leader_epoch: commit.leader_epoch,
            metadata: commit.metadata.to_vec(),
        }
    }
}

impl CommittedLine {
    /// `None` when the topic's id is none.
    pub(super) fn into_commit(self, group: &GroupId) -> Option<OffsetCommit> {
        Some(OffsetCommit {
            group: group.clone(),
            topic: self.topic.parse().ok()?,
            partition: self.partition,
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata.into(),
        })
    }
}

impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        match error {
            Error::OffsetOutOfRange { requested, start, end } => {
                Self::OutOfRange { requested, start, end }
            }
            Error::UnknownPartition { topic, partition, partitions } => {
                Self::UnknownPartition { topic, partition, partitions }
            }
            Error::UnknownTransactionalId { name } => Self::UnknownTransactionalId(name),
            Error::Damaged { topic, partition, path, position, offset, reason } => Self::Damaged {
                topic,
                partition,
                path: path.to_string_lossy().into_owned(),
                position,
                offset,
                reason,
            },
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Reads a request as the owner does.
#[cfg(any(test, feature = "test-util"))]
pub(crate) fn fuzz_request(mut bytes: &[u8]) {
    if let Ok(Some(line)) = read_line(&mut bytes, REQUEST_BYTES_MAX) {
        drop(serde_json::from_str::<Request>(&line));
    }
}

/// Reads an answer as a client does.
#[cfg(any(test, feature = "test-util"))]
pub(crate) fn fuzz_answer(mut bytes: &[u8]) {
    let Ok(Some(line)) = read_line(&mut bytes, ANSWER_LINE_BYTES_MAX) else { return };
    match serde_json::from_str::<Answer>(&line) {
        Ok(Answer::Fetched(line)) => {
            if let Ok(batches) = read_bytes(&mut bytes, line.bytes, BATCH_BYTES_LIMIT) {
                assert_eq!(batches.len(), line.bytes);
                drop(line.into_fetched(batches));
            }
        }
        Ok(Answer::Topics(lines)) => lines.iter().for_each(|line| drop(line.to_topic())),
        Ok(_) | Err(_) => {}
    }
}

/// Reads one line of at most `most` bytes; `None` at the end of the stream.
pub(super) fn read_line(input: &mut impl BufRead, most: usize) -> io::Result<Option<String>> {
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    let mut line = String::new();
    input.by_ref().take(limit).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(text) => Ok(Some(text.to_owned())),
        None if line.is_empty() => Ok(None),
        None => Err(io::Error::other("the line is too long or not whole")),
    }
}

/// Reads exactly `length` raw bytes, which grow as they come.
pub(super) fn read_bytes(input: &mut impl Read, length: usize, most: usize) -> io::Result<Bytes> {
    if length > most {
        return Err(io::Error::other("the answer is too large"));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    if input.by_ref().take(limit).read_to_end(&mut bytes)? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Bytes::from(bytes))
}
