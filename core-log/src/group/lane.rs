//! One partition of one consumer: where it is, and what is read ahead.
//!
//! ```text
//!   unset --resolve: handed over, committed, auto.offset.reset--> position --take--> position ..
//!                                                                    |
//!   the leader epoch in front of it has changed, or it is out of     |
//!   range: go back to where the log was cut, or reset  <-------------+
//! ```
//!
//! Why the leader epoch: a log that lost its unsynced tail gives the same offsets again; who had read that
//! tail goes back to where it was cut, and skips nothing of what came instead.
//!
//! Invariants
//! * The position only moves over what was handed out, or has nothing to hand out.

use std::sync::Arc;

use crate::consumer::{PartitionReader, ReadBatch};
use crate::error::{Error, GroupError, Result};
use crate::ids::{Offset, TopicPartition};
use crate::log::Log;
use crate::members::PartitionName;
use crate::members::table::Handed;
use crate::partition::{FetchBound, Partition};
use crate::topic::Topic;

use super::polled::PolledBatch;
use super::settings::OffsetReset;

/// One partition of a consumer.
#[derive(Debug)]
pub(super) struct Lane {
    name: PartitionName,
    id: TopicPartition,
    bound: FetchBound,
    reader: PartitionReader<Log>,
    /// `None` until it is known where to begin.
    position: Option<Handed>,
    /// The rest of a batch that was cut.
    ahead: Option<ReadBatch>,
    /// The partition, in the life of the log in which it was read last.
    target: Option<Arc<Partition>>,
    /// Where the partition's leader epoch was seen last.
    epoch_seen: i32,
    pub(super) is_paused: bool,
    /// What was committed last, by this consumer.
    pub(super) committed: Option<Offset>,
}

/// What a poll may still hand out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub(super) records: usize,
    pub(super) bytes: usize,
    /// Of one partition, and of one fetch.
    pub(super) partition_bytes: usize,
}

impl Lane {
    /// A partition that begins where it is told, or where its policy says.
    pub(super) fn new(
        log: &Log,
        topic: &Topic,
        partition: u32,
        bound: FetchBound,
        start: Option<Handed>,
    ) -> Self {
        let offset = start.map_or(0, |start| start.offset);
        Self {
            name: PartitionName { topic: topic.name().clone(), partition },
            id: topic.partition(partition),
            bound,
            reader: PartitionReader::new(log.clone(), topic, partition, offset, bound),
            position: start,
            ahead: None,
            target: None,
            epoch_seen: -1,
            is_paused: false,
            committed: None,
        }
    }

    pub(super) fn id(&self) -> TopicPartition {
        self.id
    }

    /// The next offset to hand out, once it is known.
    pub(super) fn position(&self) -> Option<Handed> {
        self.position
    }

    /// Whether there is something to look for. A member may have thousands of partitions, and few have
    /// news.
    pub(super) fn may_have_news(&self) -> bool {
        let (Some(position), Some(target)) = (self.position, &self.target) else { return true };
        self.ahead.is_some() || !target.is_read_up_to(position.offset, self.bound)
    }

    /// Goes on from `offset`.
    pub(super) fn seek(&mut self, offset: Offset) {
        self.position = Some(Handed { offset, leader_epoch: -1 });
        self.ahead = None;
        self.reader.seek(offset);
    }

    /// Begins again where the policy says.
    pub(super) fn unset(&mut self) {
        self.position = None;
    }

    /// Goes on from the first record at or behind a time; answers where that is.
    pub(super) fn seek_to_time(&mut self, timestamp: i64) -> Result<Option<(Offset, i64)>> {
        let found = self.reader.seek_to_time(timestamp)?;
        self.seek(self.reader.position());
        Ok(found)
    }

    /// Finds out where to begin, if that is not known.
    pub(super) fn resolve(&mut self, reset: OffsetReset) -> Result<Offset> {
        if let Some(position) = self.position {
            return Ok(position.offset);
        }
        let name = &self.name;
        let log = self.reader.source();
        let offsets = log.offsets(self.id.topic, self.id.partition)?;
        let offset = match reset {
            OffsetReset::Earliest => offsets.log_start_offset,
            OffsetReset::Latest => offsets.end(self.bound),
            OffsetReset::None => {
                let (topic, partition) = (name.topic.clone(), name.partition);
                return Err(GroupError::NoOffset { topic, partition }.into());
            }
            OffsetReset::ByDuration(back) => {
                let now = log.inner.clock().now_ms();
                let back = i64::try_from(back.as_millis()).unwrap_or(i64::MAX);
                self.seek_to_time(now.saturating_sub(back))?;
                self.reader.position()
            }
        };
        self.seek(offset);
        Ok(offset)
    }

    /// What a reader may see beyond the position.
    pub(super) fn end(&self) -> Result<Offset> {
        let offsets = self.reader.source().offsets(self.id.topic, self.id.partition)?;
        Ok(offsets.end(self.bound))
    }

    /// Takes as much as it may. What it took stands, and counts, also when an error ends it.
    pub(super) fn take(
        &mut self,
        reset: OffsetReset,
        budget: &mut Budget,
        out: &mut Vec<PolledBatch>,
    ) -> Result<()> {
        self.resolve(reset)?;
        self.go_back_if_cut()?;
        self.target = Some(self.reader.source().inner.engine()?.require(self.id)?);
        let mut left = budget.partition_bytes.min(budget.bytes);
        let mut is_first = true;
        while budget.records > 0 && (is_first || left > 0) {
            let Some(batch) = self.next_batch(reset, budget.partition_bytes)? else { break };
            let bytes = batch.bytes().len();
            if bytes > left && !(is_first && out.is_empty()) {
                self.ahead = Some(batch);
                break;
            }
            let taken = self.cut(batch, budget.records)?;
            budget.records = budget.records.saturating_sub(taken.count);
            budget.bytes = budget.bytes.saturating_sub(bytes);
            left = left.saturating_sub(bytes);
            is_first = false;
            if taken.count > 0 {
                out.push(taken);
            }
        }
        Ok(())
    }

    /// The next batch with records; the position follows where there is none.
    fn next_batch(&mut self, reset: OffsetReset, bytes: usize) -> Result<Option<ReadBatch>> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        // Twice: a position that is out of range is reset once, and the policy says where to.
        for is_reset in [false, true] {
            match self.reader.next_batch(bytes) {
                Ok(Some(batch)) => return Ok(Some(batch)),
                Ok(None) => {
                    self.pass_over_markers()?;
                    return Ok(None);
                }
                Err(Error::OffsetOutOfRange { requested, start, end }) if !is_reset => {
                    self.out_of_range(reset, requested, start, end)?;
                }
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }

    /// Markers and aborted records are read without being handed out.
    fn pass_over_markers(&mut self) -> Result<()> {
        let offset = self.reader.position();
        if self.position.is_some_and(|position| position.offset != offset) {
            let TopicPartition { topic, partition } = self.id;
            let epoch = self.reader.source().leader_epoch_at(topic, partition, offset)?;
            self.position = Some(Handed { offset, leader_epoch: epoch.unwrap_or(-1) });
        }
        Ok(())
    }

    fn out_of_range(
        &mut self,
        reset: OffsetReset,
        requested: Offset,
        start: Offset,
        end: Offset,
    ) -> Result<()> {
        let name = &self.name;
        if reset == OffsetReset::None {
            let (topic, partition) = (name.topic.clone(), name.partition);
            let error = GroupError::PositionOutOfRange { topic, partition, requested, start, end };
            return Err(error.into());
        }
        tracing::warn!(%name, requested, start, end, "a position is out of range and is reset");
        self.unset();
        self.resolve(reset).map(drop)
    }

    /// A log that was cut below the position goes on from the cut with other records.
    fn go_back_if_cut(&mut self) -> Result<()> {
        let log = self.reader.source().clone();
        let (topic, partition) = (self.id.topic, self.id.partition);
        let offsets = log.offsets(topic, partition)?;
        let Some(position) = self.position else { return Ok(()) };
        let is_same = self.epoch_seen == offsets.leader_epoch;
        self.epoch_seen = offsets.leader_epoch;
        if is_same || position.leader_epoch < 0 {
            return Ok(());
        }
        let fits = |offset| {
            let epoch = log.leader_epoch_at(topic, partition, offset)?;
            Ok::<_, Error>(epoch.is_some_and(|epoch| epoch <= position.leader_epoch))
        };
        if position.offset <= offsets.log_start_offset || fits(position.offset)? {
            return Ok(());
        }
        // Epochs ascend with offsets: the last offset that still fits is where the log was cut.
        let (mut low, mut high) = (offsets.log_start_offset, position.offset);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if fits(middle)? { low = middle } else { high = middle }
        }
        tracing::warn!(name = %self.name, position = position.offset, cut = low, "the log was cut below a position, which goes back");
        self.seek(low);
        Ok(())
    }

    /// Hands out at most `most` records of a batch and keeps the rest.
    fn cut(&mut self, batch: ReadBatch, most: usize) -> Result<PolledBatch> {
        let header = batch.header();
        let leader_epoch = header.leader_epoch;
        let cut = match whole_count(&batch).filter(|count| *count <= most) {
            Some(count) => Ok((count, None)),
            None => count_up_to(&batch, most),
        };
        let (count, rest) = match cut {
            Ok(cut) => cut,
            Err(bad) => {
                self.ahead = Some(batch);
                return Err(bad);
            }
        };
        let next_offset = rest.unwrap_or(header.next_offset());
        if rest.is_some() {
            self.ahead = Some(batch.clone().starting_at(next_offset));
        }
        self.position = Some(Handed { offset: next_offset, leader_epoch });
        Ok(PolledBatch { name: self.name.clone(), batch, next_offset, count })
    }
}

/// How many records a batch has of which none is skipped; `None` when they must be counted.
fn whole_count(batch: &ReadBatch) -> Option<usize> {
    let header = batch.header();
    let is_whole = batch.first_wanted_offset() <= header.base_offset;
    usize::try_from(header.record_count).ok().filter(|_| is_whole)
}

/// How many records are wanted, at most `most`, and the offset of the next one, if there is one.
fn count_up_to(batch: &ReadBatch, most: usize) -> Result<(usize, Option<Offset>)> {
    let mut count = 0;
    for record in batch.records() {
        let offset = record?.offset;
        if count == most {
            return Ok((count, Some(offset)));
        }
        count += 1;
    }
    Ok((count, None))
}
