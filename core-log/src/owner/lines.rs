//! What owner and client say to each other about transactions and producers: plain fields, as JSON.
//!
//! Why apart from the types that a user sees: names and numbers that come from outside are checked
//! when they become those.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Offset, ProducerEpoch, ProducerId, Timestamp, TransactionalId};
use crate::operators::{
    AbortOutcome, ProducerInfo, TransactionInfo, TransactionPartition, TransactionState,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StateLine {
    Idle,
    Open,
    Committing,
    Aborting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OutcomeLine {
    Aborted,
    HasEnded,
    Idle,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TransactionLine {
    id: String,
    producer_id: i64,
    producer_epoch: i16,
    state: StateLine,
    since: Option<Timestamp>,
    open_for_ms: Option<u64>,
    timeout_ms: u64,
    /// Topic, partition, first offset.
    partitions: Vec<(String, u32, Option<Offset>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProducerLine {
    producer_id: i64,
    producer_epoch: i16,
    last_sequence: Option<i32>,
    last_offset: Option<Offset>,
    last_seen: Timestamp,
    coordinator_epoch: i32,
    open_from: Option<Offset>,
}

fn to_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<&TransactionInfo> for TransactionLine {
    fn from(info: &TransactionInfo) -> Self {
        let partition = |p: &TransactionPartition| (p.topic.clone(), p.partition, p.first_offset);
        Self {
            id: info.transactional_id.to_string(),
            producer_id: info.producer_id.0,
            producer_epoch: info.producer_epoch.0,
            state: match info.state {
                TransactionState::Idle => StateLine::Idle,
                TransactionState::Open => StateLine::Open,
                TransactionState::Committing => StateLine::Committing,
                TransactionState::Aborting => StateLine::Aborting,
            },
            since: info.since,
            open_for_ms: info.open_for.map(to_ms),
            timeout_ms: to_ms(info.timeout),
            partitions: info.partitions.iter().map(partition).collect(),
        }
    }
}

impl TransactionLine {
    /// `None` when the id is not valid.
    pub(super) fn into_info(self) -> Option<TransactionInfo> {
        let partition = |(topic, partition, first_offset)| TransactionPartition {
            topic,
            partition,
            first_offset,
        };
        Some(TransactionInfo {
            transactional_id: TransactionalId::new(&self.id).ok()?,
            producer_id: ProducerId(self.producer_id),
            producer_epoch: ProducerEpoch(self.producer_epoch),
            state: match self.state {
                StateLine::Idle => TransactionState::Idle,
                StateLine::Open => TransactionState::Open,
                StateLine::Committing => TransactionState::Committing,
                StateLine::Aborting => TransactionState::Aborting,
            },
            since: self.since,
            open_for: self.open_for_ms.map(Duration::from_millis),
            timeout: Duration::from_millis(self.timeout_ms),
            partitions: self.partitions.into_iter().map(partition).collect(),
        })
    }
}

impl From<ProducerInfo> for ProducerLine {
    fn from(info: ProducerInfo) -> Self {
        Self {
            producer_id: info.producer_id.0,
            producer_epoch: info.producer_epoch.0,
            last_sequence: info.last_sequence,
            last_offset: info.last_offset,
            last_seen: info.last_seen,
            coordinator_epoch: info.coordinator_epoch,
            open_from: info.open_from,
        }
    }
}

impl From<ProducerLine> for ProducerInfo {
    fn from(line: ProducerLine) -> Self {
        Self {
            producer_id: ProducerId(line.producer_id),
            producer_epoch: ProducerEpoch(line.producer_epoch),
            last_sequence: line.last_sequence,
            last_offset: line.last_offset,
            last_seen: line.last_seen,
            coordinator_epoch: line.coordinator_epoch,
            open_from: line.open_from,
        }
    }
}

impl From<AbortOutcome> for OutcomeLine {
    fn from(outcome: AbortOutcome) -> Self {
        match outcome {
            AbortOutcome::Aborted => Self::Aborted,
            AbortOutcome::HasEnded => Self::HasEnded,
            AbortOutcome::Idle => Self::Idle,
        }
    }
}

impl From<OutcomeLine> for AbortOutcome {
    fn from(line: OutcomeLine) -> Self {
        match line {
            OutcomeLine::Aborted => Self::Aborted,
            OutcomeLine::HasEnded => Self::HasEnded,
            OutcomeLine::Idle => Self::Idle,
        }
    }
}
