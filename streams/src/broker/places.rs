//! Where a place that a person names lies in each partition.
//!
//! ```text
//!   log start            from                    until         end of what is committed
//!   |--------------------|=======================|-------------|
//!   S007 in front of it: retention has cut the range           S032 behind it
//! ```
//!
//! Invariants
//! * the ends are those at the time of the asking: a busy writer cannot keep a reading alive.
//! * `from <= until` in each partition.

use core_log::{FetchBound, FetchSource, LogView, PartitionReader, Topic};

use super::stretch::Span;
use crate::at::At;
use crate::error::{Error, Result};
use crate::time::Instant;

/// How many bytes, and offsets before the end, are looked at to find how new the newest record is.
const LOOK_BYTES: usize = 256 << 10;
const LOOK_BACK: i64 = 64;

/// What one partition has.
#[derive(Clone, Copy, Debug)]
struct Ends {
    start: i64,
    end: i64,
}

fn ends(log: &LogView, topic: &Topic, partition: u32) -> Result<Ends> {
    let offsets = log.offsets(topic.id(), partition)?;
    Ok(Ends { start: offsets.log_start_offset, end: offsets.last_stable_offset })
}

fn reader(log: &LogView, topic: &Topic, partition: u32, offset: i64) -> PartitionReader<LogView> {
    PartitionReader::new(log.clone(), topic, partition, offset, FetchBound::LastStable)
}

/// The first committed record at or behind a time, in front of `end`: offset and timestamp.
pub(crate) fn first_not_older(
    log: &LogView,
    topic: &Topic,
    partition: u32,
    time: i64,
    end: i64,
) -> Result<Option<(i64, i64)>> {
    let found = reader(log, topic, partition, 0).seek_to_time(time)?;
    Ok(found.filter(|&(offset, _)| offset < end))
}

/// The timestamp of the first committed record at or behind an offset; `None` at the end.
pub(crate) fn timestamp_at(
    log: &LogView,
    topic: &Topic,
    partition: u32,
    offset: i64,
) -> Result<Option<i64>> {
    let batch = reader(log, topic, partition, offset).next_batch(LOOK_BYTES)?;
    let first = batch.as_ref().and_then(|batch| batch.records().next());
    Ok(first.transpose().map_err(core_log::Error::from)?.map(|record| record.timestamp))
}

/// The timestamps of the first records and of the newest one, as the text of an error tells them; `None`
/// where there are no records.
pub(crate) fn extent(log: &LogView, topic: &Topic) -> Result<Option<String>> {
    let all = whole(log, topic)?;
    let mut first: Option<i64> = None;
    for (partition, span) in (0..).zip(&all) {
        let time = timestamp_at(log, topic, partition, span.next)?;
        first = first.into_iter().chain(time).min();
    }
    let ends = all.iter().map(|span| Ends { start: span.next, end: span.end });
    let extent = first.zip(newest(log, topic, ends));
    Ok(extent.map(|(first, newest)| {
        format!("{} has records of {} to {}", topic.name(), Instant(first), Instant(newest))
    }))
}

/// All of each partition, as it is now.
pub(crate) fn whole(log: &LogView, topic: &Topic) -> Result<Vec<Span>> {
    let span = |partition| {
        let Ends { start, end } = ends(log, topic, partition)?;
        Ok(Span { next: start, end })
    };
    (0..topic.partitions()).map(span).collect()
}

/// A stretch as it lies in the partitions.
#[derive(Debug)]
pub(crate) struct Located {
    /// By partition; empty ones where nothing lies between the two places.
    pub(crate) spans: Vec<Span>,
    /// S032, where the beginning lies behind the end of all partitions. What follows from that is the
    /// caller's to say: a time of which there is nothing yet may be all right.
    pub(crate) past: Option<Error>,
}

/// The stretch from one place to another in each partition.
///
/// # Errors
///
/// * S032: `from` lies behind `until`; a time that is none.
/// * S007: retention has removed records behind `from`.
pub(crate) fn locate(
    log: &LogView,
    topic: &Topic,
    from: &At,
    until: &At,
    now_ms: i64,
) -> Result<Located> {
    if let (Some(first), Some(last)) = (from.time_ms(now_ms)?, until.time_ms(now_ms)?)
        && last < first
    {
        return Err(backwards(topic, from, until));
    }
    let mut spans = Vec::new();
    let mut is_past = true;
    for partition in 0..topic.partitions() {
        let ends = ends(log, topic, partition)?;
        let next = match begin(log, topic, partition, ends, from, now_ms)? {
            Some(next) => {
                is_past = false;
                next
            }
            None => ends.end,
        };
        let end = finish(log, topic, partition, ends, until, now_ms)?;
        spans.push((ends, Span { next, end }));
    }
    let past = is_past.then(|| past_the_end(log, topic, from, &spans));
    if spans.iter().any(|(_, span)| span.end < span.next) {
        return Err(backwards(topic, from, until));
    }
    Ok(Located { spans: spans.into_iter().map(|(_, span)| span).collect(), past })
}

/// The offset of `from` in a partition; `None`: behind its end.
fn begin(
    log: &LogView,
    topic: &Topic,
    partition: u32,
    Ends { start, end }: Ends,
    from: &At,
    now_ms: i64,
) -> Result<Option<i64>> {
    let cut = |wanted: String| Error::RangeCut {
        topic: topic.name().to_string(),
        partition,
        wanted,
        start,
        end,
    };
    match from {
        At::Start => return Ok(Some(start)),
        At::End => return Ok(Some(end)),
        At::Offset(offset) if *offset < start => return Err(cut(format!("offset {offset}"))),
        At::Offset(offset) => return Ok((*offset <= end).then_some(*offset)),
        At::Time(_) | At::Ago(_) => {}
    }
    let time = from.time_ms(now_ms)?.unwrap_or(i64::MIN);
    let Some((offset, timestamp)) = first_not_older(log, topic, partition, time, end)? else {
        return Ok(None);
    };
    // Whether a record between that time and this one was removed can not be known any more.
    let is_first =
        reader(log, topic, partition, start).next_batch(LOOK_BYTES)?.is_some_and(|batch| {
            batch.records().flatten().next().is_some_and(|record| record.offset == offset)
        });
    if start > 0 && is_first && timestamp > time {
        return Err(cut(Instant(time).to_string()));
    }
    Ok(Some(offset))
}

/// The offset of `until` in a partition.
fn finish(
    log: &LogView,
    topic: &Topic,
    partition: u32,
    Ends { start, end }: Ends,
    until: &At,
    now_ms: i64,
) -> Result<i64> {
    match until {
        At::Start => return Ok(start),
        At::End => return Ok(end),
        At::Offset(offset) => return Ok((*offset).clamp(start, end)),
        At::Time(_) | At::Ago(_) => {}
    }
    let time = until.time_ms(now_ms)?.unwrap_or(i64::MAX);
    Ok(first_not_older(log, topic, partition, time, end)?.map_or(end, |(offset, _)| offset))
}

fn backwards(topic: &Topic, from: &At, until: &At) -> Error {
    Error::BadPosition {
        reason: format!("the stretch of {} ends ({until}) before it begins ({from})", topic.name()),
        help: "choose an end behind the beginning".to_owned(),
    }
}

fn past_the_end(log: &LogView, topic: &Topic, from: &At, spans: &[(Ends, Span)]) -> Error {
    let list: Vec<String> =
        (0..).zip(spans).map(|(p, (ends, _)): (u32, _)| format!("{p}: {}", ends.end)).collect();
    let mut reason = format!(
        "{from} lies behind the end of {} (partition ends {})",
        topic.name(),
        list.join(", ")
    );
    if let Some(newest) = newest(log, topic, spans.iter().map(|(ends, _)| *ends)) {
        reason.push_str(&format!("; its newest record is of {}", Instant(newest)));
    }
    Error::BadPosition { reason, help: "begin earlier: --from start, or a time before that".into() }
}

/// The timestamp of the newest among the last records; for the text of an error.
fn newest(log: &LogView, topic: &Topic, ends: impl Iterator<Item = Ends>) -> Option<i64> {
    let mut newest = None;
    for (partition, Ends { start, end }) in (0..).zip(ends) {
        let from = end.saturating_sub(LOOK_BACK).max(start);
        let mut reader = reader(log, topic, partition, from);
        while let Ok(Some(batch)) = reader.next_batch(LOOK_BYTES) {
            newest = newest.max(Some(batch.header().max_timestamp));
        }
    }
    newest
}
