//! Where `tail` starts in each partition, and where each ends now.
//!
//! Why apart from the places of a replay: whoever looks at a log wants to see what is there; a start
//! that lies outside is moved inside.

use core_log::{FetchBound, FetchSource, LogView, Offset, PartitionReader, Topic};

use super::args::Start;
use crate::broker::{Span, first_not_older, whole};
use crate::error::Result;

const READ_BYTES: usize = 256 << 10;
/// How many offsets to go back at first for each record wanted from the end; markers take offsets too.
const BACK_FACTOR: i64 = 4;

/// The stretch from `start` to the end, by partition.
pub(super) fn spans(log: &LogView, topic: &Topic, start: Start) -> Result<Vec<Span>> {
    let mut spans = whole(log, topic)?;
    for (partition, span) in (0..).zip(&mut spans) {
        let (first, end) = (span.next, span.end);
        let next = match start {
            Start::Offset(offset) => offset,
            Start::Time(time) => first_not_older(log, topic, partition, time, end)?
                .map_or(end, |(offset, _timestamp)| offset),
            Start::Last(count) => start_of_last(log, topic, partition, (first, end), count)?,
        };
        span.next = next.clamp(first, end);
    }
    Ok(spans)
}

/// Where each partition ends now.
pub(super) fn ends(log: &LogView, topic: &Topic) -> Result<Vec<Offset>> {
    let end = |partition| Ok(log.offsets(topic.id(), partition)?.last_stable_offset);
    (0..topic.partitions()).map(end).collect()
}

/// An offset with `count` records between it and the end, or the log start. Offsets that markers and
/// aborted records take are found out by reading.
fn start_of_last(
    log: &LogView,
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

fn records_between(
    log: &LogView,
    topic: &Topic,
    partition: u32,
    from: Offset,
    end: Offset,
) -> Result<usize> {
    let bound = FetchBound::LastStable;
    let mut reader = PartitionReader::new(log.clone(), topic, partition, from, bound);
    let mut count = 0;
    while reader.position() < end {
        let Some(batch) = reader.next_batch(READ_BYTES)? else { break };
        count += batch.records().count();
    }
    Ok(count)
}
