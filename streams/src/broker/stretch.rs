//! Stretches of partitions, read through a view of their log, a few megabytes at a time.
//!
//! ```text
//!   view (own for a moment, or attached) --- refill ---> blocks of records, by partition
//!                                                          |        |
//!                                            poll(part) <--'        `--> Merged: by (timestamp, partition)
//! ```
//!
//! Why blocks: the log is held only while they are filled; see `view`.
//!
//! Invariants
//! * only committed records come out, each once, in the order of their partition, and none at or beyond
//!   the end that was set.
//! * what is buffered is bounded, whatever the number of partitions.

use std::collections::VecDeque;

use core_log::{FetchBound, LogView, PartitionReader, Topic};

use super::embedded::records_of;
use super::view::View;
use crate::error::{Error, Result};
use crate::record::{RawRecord, Records};

/// What all partitions together may hold.
const OWNED_BYTES: usize = 32 << 20;
/// The least that one of them may hold.
const OWNED_BYTES_MIN: usize = 16 << 10;
/// The most that one partition takes from an owner at a time: its answers carry as much.
const ATTACHED_BYTES: usize = 1 << 20;

/// Where to read in one partition: from the next record to the end, exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) next: i64,
    pub(crate) end: i64,
}

/// One partition and what was read of it ahead.
#[derive(Debug)]
struct Part {
    topic: Topic,
    partition: u32,
    /// Where the next fetch begins.
    next: i64,
    end: i64,
    ready: VecDeque<(Records, usize)>,
    ready_bytes: usize,
    /// The offset behind everything that was handed out.
    handed: i64,
}

/// Stretches of any number of partitions.
#[derive(Debug)]
pub(crate) struct Stretches {
    view: View,
    parts: Vec<Part>,
}

impl Stretches {
    /// Reads these partitions of the log behind a view.
    pub(crate) fn new(view: View, parts: impl IntoIterator<Item = (Topic, u32, Span)>) -> Self {
        let part = |(topic, partition, span)| Part::new(topic, partition, span);
        Self { view, parts: parts.into_iter().map(part).collect() }
    }

    /// How many partitions there are.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// The partition number of a part.
    pub(crate) fn partition(&self, part: usize) -> u32 {
        self.parts[part].partition
    }

    /// The offset behind everything that was handed out or skipped.
    pub(crate) fn position(&self, part: usize) -> i64 {
        let part = &self.parts[part];
        if part.ready.is_empty() { part.next } else { part.handed }
    }

    /// What it reads from.
    pub(crate) fn view(&mut self) -> &mut View {
        &mut self.view
    }

    /// Goes on to another end.
    pub(crate) fn extend(&mut self, part: usize, end: i64) {
        self.parts[part].end = end;
    }

    /// Goes on through another view of the same log.
    pub(crate) fn attach(&mut self, view: View) {
        self.view = view;
    }

    /// Reads one more partition; answers the number of the part.
    pub(crate) fn add(&mut self, topic: &Topic, partition: u32, span: Span) -> usize {
        self.parts.push(Part::new(topic.clone(), partition, span));
        self.parts.len() - 1
    }

    /// A part that nobody reads any more keeps its number and nothing else.
    pub(crate) fn remove(&mut self, part: usize) {
        let part = &mut self.parts[part];
        part.next = part.end;
        part.ready = VecDeque::new();
    }

    /// The next records of a part; `None` at its end.
    ///
    /// # Errors
    ///
    /// S007: retention has removed records that were to be read; the log's own.
    pub(crate) fn poll(&mut self, part: usize) -> Result<Option<Records>> {
        if self.parts[part].ready.is_empty() && self.parts[part].next < self.parts[part].end {
            self.refill(part)?;
        }
        let part = &mut self.parts[part];
        let Some((records, bytes)) = part.ready.pop_front() else { return Ok(None) };
        part.ready_bytes -= bytes;
        let last = records.len().checked_sub(1).and_then(|last| records.get(last));
        part.handed = last.map_or(part.handed, |record| record.offset + 1);
        Ok(Some(records))
    }

    /// Fills the part that is wanted. When the log must be opened for it, the others too.
    fn refill(&mut self, wanted: usize) -> Result<()> {
        let Self { view, parts } = self;
        let share = (OWNED_BYTES / parts.len().max(1)).max(OWNED_BYTES_MIN);
        view.with(|log| match log {
            LogView::Attached(_) => parts[wanted].fill(log, share.min(ATTACHED_BYTES)),
            LogView::Owned(_) => {
                parts[wanted].fill(log, share)?;
                // Where another one fails, its own error is told when it is asked for.
                parts.iter_mut().for_each(|part| drop(part.fill(log, share)));
                Ok(())
            }
        })
    }
}

impl Part {
    fn new(topic: Topic, partition: u32, span: Span) -> Self {
        Self {
            topic,
            partition,
            next: span.next,
            end: span.end,
            ready: VecDeque::new(),
            ready_bytes: 0,
            handed: span.next,
        }
    }

    /// Reads on until so many bytes are ready, or to the end. What was read is kept where it fails.
    fn fill(&mut self, log: &LogView, bytes_max: usize) -> Result<()> {
        if self.next >= self.end {
            return Ok(());
        }
        let bound = FetchBound::LastStable;
        let mut reader =
            PartitionReader::new(log.clone(), &self.topic, self.partition, self.next, bound);
        while self.next < self.end && self.ready_bytes < bytes_max {
            let batch = match reader.next_batch(bytes_max - self.ready_bytes) {
                Ok(Some(batch)) => batch,
                Ok(None) => {
                    // Nothing that is committed is left in front of the end.
                    self.next = reader.position().max(self.next).min(self.end);
                    return Ok(());
                }
                Err(error) => return Err(self.lost(error)),
            };
            let records = records_of(&batch, self.end)?;
            // Must be AFTER the records are known to be whole, or else an error would skip them. Must not
            // lie behind the end, which may lie inside of a batch, or else the records there would be
            // missing once the part goes on to another end.
            self.next = reader.position().min(self.end);
            if !records.is_empty() {
                let bytes = batch.bytes().len();
                self.ready_bytes += bytes;
                self.ready.push_back((records, bytes));
            }
        }
        Ok(())
    }

    /// A range that is gone, with names.
    fn lost(&self, error: core_log::Error) -> Error {
        match error {
            core_log::Error::OffsetOutOfRange { requested, start, end } => Error::RangeCut {
                topic: self.topic.name().to_string(),
                partition: self.partition,
                wanted: format!("offset {requested}"),
                start,
                end,
            },
            other => other.into(),
        }
    }
}

/// The partitions of one topic as one sequence: by timestamp, then by partition.
#[derive(Debug)]
pub(crate) struct Merged {
    stretches: Stretches,
    heads: Vec<(Records, usize)>,
}

impl Merged {
    pub(crate) fn new(stretches: Stretches) -> Self {
        let heads = (0..stretches.len()).map(|_| (Records::default(), 0)).collect();
        Self { stretches, heads }
    }

    /// What it reads from.
    pub(crate) fn stretches(&mut self) -> &mut Stretches {
        &mut self.stretches
    }

    /// Hands the next record, and the number of its partition, to `take`; `None` at the ends.
    ///
    /// # Errors
    ///
    /// As [`Stretches::poll`]; the record before was handed over, and the same call gives the same
    /// error.
    pub(crate) fn next<T>(
        &mut self,
        take: impl FnOnce(u32, &RawRecord<'_>) -> T,
    ) -> Result<Option<T>> {
        for (part, (records, next)) in self.heads.iter_mut().enumerate() {
            while *next == records.len() {
                match self.stretches.poll(part)? {
                    Some(more) => (*records, *next) = (more, 0),
                    None => break,
                }
            }
        }
        let heads = self.heads.iter().enumerate();
        let first = heads
            .filter_map(|(part, (records, next))| Some((records.get(*next)?.timestamp, part)))
            .min();
        let Some((_, part)) = first else { return Ok(None) };
        let (records, next) = &mut self.heads[part];
        let record = records.get(*next).expect("it has a timestamp");
        let taken = take(self.stretches.partition(part), &record);
        *next += 1;
        Ok(Some(taken))
    }
}
