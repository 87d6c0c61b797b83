//! `tail`: records of a topic as people and scripts read them, also while a job is running.
//!
//! Why through a view of the log: one process owns the directory; where that is a running job, the view
//! asks it over its socket, and opens the log itself otherwise.
//!
//! Records of several partitions are merged by timestamp; within a partition the order is the log's.
//!
//! Invariants
//! * only committed records are shown;
//! * without `--follow` the ends are taken once, so that a busy writer cannot keep the command alive.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use core_log::{FetchBound, FetchSource, LogView, Offset, PartitionReader, Topic};

use super::args::{Start, Tail};
use super::decode::Shown;
use super::{Ended, print};
use crate::app::App;
use crate::dsl::TopicTypes;
use crate::error::{Error, Result};

const READ_BYTES: usize = 256 << 10;
/// How many offsets to go back at first for each record wanted from the end; markers take offsets too.
const BACK_FACTOR: i64 = 4;
const WAIT: Duration = Duration::from_millis(500);

/// Prints the records that the options ask for.
pub(super) fn tail(app: &App, options: &Tail) -> Result<Ended> {
    let view = LogView::open(app.log_dir())?;
    let topic = find(&view, &options.topic, app)?;
    let assembly = app.assemble()?;
    let types = assembly.types.get(&options.topic);
    let show = |shown: &Shown| if options.json { shown.to_json() } else { shown.to_text() };

    let mut merged = Merged::open(&view, &topic, options.start, types)?;
    let mut last = VecDeque::new();
    let keep = match options.start {
        Start::Last(count) => Some(count),
        Start::Offset(_) | Start::Time(_) => None,
    };
    let mut failed = None;
    let ended = print::output(|out| {
        failed = each(&mut merged, |shown| match keep {
            None => writeln!(out, "{}", show(&shown)),
            Some(count) => {
                last.push_back(shown);
                if last.len() > count {
                    last.pop_front();
                }
                Ok(())
            }
        })?;
        last.iter().try_for_each(|shown| writeln!(out, "{}", show(shown)))
    })?;
    match failed {
        Some(e) => return Err(e),
        None if ended == Ended::OutputClosed || !options.follow => return Ok(ended),
        None => {}
    }
    follow(&view, merged, show)
}

fn find(view: &LogView, name: &str, app: &App) -> Result<Topic> {
    let topics = view.topics()?;
    let known = || topics.iter().map(|topic| topic.name().to_string()).collect();
    match topics.iter().find(|topic| topic.name().as_str() == name) {
        Some(topic) => Ok(topic.clone()),
        None => Err(Error::UnknownTopic {
            name: name.to_owned(),
            log: app.log_dir().display().to_string(),
            known: known(),
        }),
    }
}

/// Hands every record up to the end to `visit`, which may find the output closed.
fn each(
    merged: &mut Merged<'_>,
    mut visit: impl FnMut(Shown) -> io::Result<()>,
) -> io::Result<Option<Error>> {
    loop {
        match merged.next() {
            Ok(Some(shown)) => visit(shown)?,
            Ok(None) => return Ok(None),
            Err(e) => return Ok(Some(e)),
        }
    }
}

fn follow(
    view: &LogView,
    mut merged: Merged<'_>,
    show: impl Fn(&Shown) -> String,
) -> Result<Ended> {
    let mut seen = 0;
    loop {
        merged.extend(view)?;
        let mut failed = None;
        let ended = print::output(|out| {
            failed = each(&mut merged, |shown| writeln!(out, "{}", show(&shown)))?;
            Ok(())
        })?;
        match failed {
            Some(e) => return Err(e),
            None if ended == Ended::OutputClosed => return Ok(ended),
            None => seen = view.wait(seen, WAIT)?,
        }
    }
}

/// One partition: a reader, and what it has read and not yet given out.
struct Part<'a> {
    partition: u32,
    reader: PartitionReader<&'a LogView>,
    end: Offset,
    heads: VecDeque<Shown>,
}

/// The partitions of a topic as one sequence.
struct Merged<'a> {
    topic: Topic,
    types: Option<&'a TopicTypes>,
    parts: Vec<Part<'a>>,
}

impl<'a> Merged<'a> {
    fn open(
        view: &'a LogView,
        topic: &Topic,
        start: Start,
        types: Option<&'a TopicTypes>,
    ) -> Result<Self> {
        let mut parts = Vec::new();
        for partition in 0..topic.partitions() {
            let offsets = view.offsets(topic.id(), partition)?;
            let (first, end) = (offsets.log_start_offset, offsets.last_stable_offset);
            let from = match start {
                Start::Offset(offset) => offset,
                Start::Time(time) => match view.offset_for_time(topic.id(), partition, time)? {
                    Some((offset, _timestamp)) => offset,
                    None => end,
                },
                Start::Last(count) => start_of_last(view, topic, partition, (first, end), count)?,
            };
            let from = from.clamp(first, end);
            let reader = PartitionReader::new(view, topic, partition, from, FetchBound::LastStable);
            parts.push(Part { partition, reader, end, heads: VecDeque::new() });
        }
        Ok(Self { topic: topic.clone(), types, parts })
    }

    /// Takes the ends anew.
    fn extend(&mut self, view: &LogView) -> Result<()> {
        for part in &mut self.parts {
            part.end = view.offsets(self.topic.id(), part.partition)?.last_stable_offset;
        }
        Ok(())
    }

    /// The next record by timestamp, none at the ends.
    fn next(&mut self) -> Result<Option<Shown>> {
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

impl Part<'_> {
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

/// An offset with `count` records between it and the end, or the log start. Offsets that markers and
/// aborted records take are found out by reading.
fn start_of_last(
    view: &LogView,
    topic: &Topic,
    partition: u32,
    (first, end): (Offset, Offset),
    count: usize,
) -> Result<Offset> {
    let mut back = i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(BACK_FACTOR);
    loop {
        let from = end.saturating_sub(back).max(first);
        if from == first || records_between(view, topic, partition, from, end)? >= count {
            return Ok(from);
        }
        back = back.saturating_mul(BACK_FACTOR);
    }
}

fn records_between(
    view: &LogView,
    topic: &Topic,
    partition: u32,
    from: Offset,
    end: Offset,
) -> Result<usize> {
    let mut reader = PartitionReader::new(view, topic, partition, from, FetchBound::LastStable);
    let mut count = 0;
    while reader.position() < end {
        let Some(batch) = reader.next_batch(READ_BYTES)? else { break };
        count += batch.records().count();
    }
    Ok(count)
}
