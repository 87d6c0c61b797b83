//! The partitions of a topic as one sequence of records.
//!
//! Records of several partitions are merged by timestamp; within a partition the order is the log's.
//!
//! Invariants
//! * a record is shown once, also where the reading goes on through another view of the log.

use std::collections::VecDeque;
use std::ops::Range;

use core_log::{FetchBound, FetchSource, Offset, PartitionReader, Timestamp, Topic};

use super::args::Start;
use super::decode::Shown;
use crate::dsl::TopicTypes;
use crate::error::Result;

const READ_BYTES: usize = 256 << 10;
/// How many offsets to go back at first for each record wanted from the end; markers take offsets too.
const BACK_FACTOR: i64 = 4;

/// Where to read in one partition: from the next record to the end, exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) next: Offset,
    pub(super) end: Offset,
}

/// Where `start` lies in each partition, and where each ends now.
pub(super) fn cursors<S: FetchSource>(log: &S, topic: &Topic, start: Start) -> Result<Vec<Cursor>> {
    let mut cursors = Vec::new();
    for partition in 0..topic.partitions() {
        let offsets = log.offsets(topic.id(), partition)?;
        let (first, end) = (offsets.log_start_offset, offsets.last_stable_offset);
        let next = match start {
            Start::Offset(offset) => offset,
            Start::Time(time) => match log.offset_for_time(topic.id(), partition, time)? {
                Some((offset, _timestamp)) => {
                    first_not_older(log, topic, partition, offset..end, time)?
                }
                None => end,
            },
            Start::Last(count) => start_of_last(log, topic, partition, (first, end), count)?,
        };
        cursors.push(Cursor { next: next.clamp(first, end), end });
    }
    Ok(cursors)
}

/// One partition: a reader, and what it has read and not yet given out.
struct Part<'a, S> {
    partition: u32,
    reader: PartitionReader<&'a S>,
    end: Offset,
    heads: VecDeque<Shown>,
}

/// All partitions.
pub(super) struct Merged<'a, S> {
    log: &'a S,
    topic: &'a Topic,
    types: Option<&'a TopicTypes>,
    parts: Vec<Part<'a, S>>,
}

impl<'a, S: FetchSource> Merged<'a, S> {
    pub(super) fn new(
        log: &'a S,
        topic: &'a Topic,
        cursors: Vec<Cursor>,
        types: Option<&'a TopicTypes>,
    ) -> Self {
        let part = |(partition, Cursor { next, end })| {
            let bound = FetchBound::LastStable;
            let reader = PartitionReader::new(log, topic, partition, next, bound);
            Part { partition, reader, end, heads: VecDeque::new() }
        };
        Self { log, topic, types, parts: (0..).zip(cursors).map(part).collect() }
    }

    /// Where to go on.
    pub(super) fn into_cursors(self) -> Vec<Cursor> {
        let cursor = |part: &Part<'_, S>| {
            let head = part.heads.front().map(|shown| shown.offset);
            Cursor { next: head.unwrap_or_else(|| part.reader.position()), end: part.end }
        };
        self.parts.iter().map(cursor).collect()
    }

    /// Takes the ends anew.
    pub(super) fn extend(&mut self) -> Result<()> {
        for part in &mut self.parts {
            part.end = self.log.offsets(self.topic.id(), part.partition)?.last_stable_offset;
        }
        Ok(())
    }

    /// The next record by timestamp, none at the ends.
    pub(super) fn next(&mut self) -> Result<Option<Shown>> {
        for part in &mut self.parts {
            part.fill(self.types)?;
        }
        let first = self
            .parts
            .iter_mut()
            .filter(|part| !part.heads.is_empty())
            .min_by_key(|part| part.heads.front().map(|head| head.timestamp));
        Ok(first.and_then(|part| part.heads.pop_front()))
    }
}

impl<S: FetchSource> Part<'_, S> {
    fn fill(&mut self, types: Option<&TopicTypes>) -> Result<()> {
        while self.heads.is_empty() && self.reader.position() < self.end {
            let Some(batch) = self.reader.next_batch(READ_BYTES)? else { break };
            for record in batch.records() {
                let record = record.map_err(core_log::Error::from)?;
                self.heads.push_back(Shown::new(self.partition, &record, types));
            }
        }
        Ok(())
    }
}

/// The first record of a range that a reader sees and that is not older than `time`; the end without
/// one. What the log found by its index may be a marker, or a record that was aborted.
fn first_not_older<S: FetchSource>(
    log: &S,
    topic: &Topic,
    partition: u32,
    range: Range<Offset>,
    time: Timestamp,
) -> Result<Offset> {
    let mut reader =
        PartitionReader::new(log, topic, partition, range.start, FetchBound::LastStable);
    while reader.position() < range.end {
        let Some(batch) = reader.next_batch(READ_BYTES)? else { break };
        for record in batch.records() {
            let record = record.map_err(core_log::Error::from)?;
            if record.timestamp >= time {
                return Ok(record.offset);
            }
        }
    }
    Ok(range.end)
}

/// An offset with `count` records between it and the end, or the log start. Offsets that markers and
/// aborted records take are found out by reading.
fn start_of_last<S: FetchSource>(
    log: &S,
    topic: &Topic,
    partition: u32,
    (first, end): (Offset, Offset),
    count: usize,
) -> Result<Offset> {
    let mut back = i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(BACK_FACTOR);
    loop {
        let from = end.saturating_sub(back).max(first);
        if from == first || records_between(log, topic, partition, from, end)? >= count {
            return Ok(from);
        }
        back = back.saturating_mul(BACK_FACTOR);
    }
}

fn records_between<S: FetchSource>(
    log: &S,
    topic: &Topic,
    partition: u32,
    from: Offset,
    end: Offset,
) -> Result<usize> {
    let mut reader = PartitionReader::new(log, topic, partition, from, FetchBound::LastStable);
    let mut count = 0;
    while reader.position() < end {
        let Some(batch) = reader.next_batch(READ_BYTES)? else { break };
        count += batch.records().count();
    }
    Ok(count)
}
