//! Ordered inputs of a task: their records are read at once and processed when it is their turn.
//!
//! ```text
//!   read:     partition -> held                   watermarks are heard, in whatever order they come
//!   release:  held -> operators                   the smallest (source time, input, upstream task, offset)
//! ```
//!
//! Why one order for all ordered inputs of a task: what meets behind them (two streams that join, a
//! stream and the table that it looks up) has to come in one order too.
//!
//! Invariants
//! * the clock of an ordered input is the source time of the next record that will be released, and at
//!   most the smallest watermark of all ordered inputs: what is held is not passed by.
//! * nothing is released before everything that had been read at the last commit has been read again.

use super::Task;
use crate::broker::{RawRecord, Scope};
use crate::error::{Error, Result};
use crate::operator::envelope::{self, Envelope};
use crate::runtime::input::{Input, Ordering, smallest};

/// What is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Nothing,
    /// To process the head of this input.
    Record(usize),
    /// To take the head of this ordered input to those that it holds.
    Read(usize),
    /// To process what this ordered input holds back.
    Release(usize),
}

impl Task {
    /// What is next where an input is ordered.
    pub(super) fn choose_ordered(&mut self) -> Result<Choice> {
        let turn = self.turn();
        if let Some(place) = turn {
            self.read_again(place)?;
        }
        let (mut best, mut unread) = (None, None);
        for (place, input) in self.inputs.iter_mut().enumerate() {
            let number = input.number;
            let timestamp = if let Some(ordering) = &input.ordering {
                let first = ordering.held.first().filter(|_| turn == Some(place));
                let first = first.map(|(_, record)| record.timestamp());
                if first.is_none() && input.fill()? {
                    unread.get_or_insert(place);
                }
                first
            } else {
                let head = if input.fill()? { input.head() } else { None };
                if input.is_global && head.is_some() {
                    return Ok(Choice::Record(place));
                }
                match (head, &mut self.entries[number]) {
                    (Some(record), Some(entry)) => {
                        Some(entry.timestamp(&self.ctx, number, &record)?)
                    }
                    (head, _) => head.map(|record| record.timestamp),
                }
            };
            let found = timestamp.map(|timestamp| (timestamp, place));
            best = [best, found].into_iter().flatten().min();
        }
        Ok(match (best, turn, unread) {
            (Some((_, place)), Some(turn), _) if place == turn => Choice::Release(place),
            (Some((_, place)), Some(_), _) => Choice::Record(place),
            (_, _, Some(place)) => Choice::Read(place),
            (Some((_, place)), ..) => Choice::Record(place),
            (None, ..) => Choice::Nothing,
        })
    }

    /// The input whose held record may be released next, if there is one.
    pub(super) fn turn(&self) -> Option<usize> {
        let common = self.common_watermark();
        let next = self.inputs.iter().enumerate().filter_map(|(place, input)| {
            let next = input.ordering.as_ref()?.held.next_place()?;
            (next.source_time < common).then_some((next.source_time, place))
        });
        next.min().map(|(_, place)| place)
    }

    /// The smallest watermark of all ordered inputs; `i64::MIN` until all have read again what they had.
    fn common_watermark(&self) -> i64 {
        let said = self.inputs.iter().filter_map(|input| {
            let ordering = input.ordering.as_ref()?;
            let is_behind = input.read_position() < ordering.before_to;
            Some(if is_behind { i64::MIN } else { ordering.watermark })
        });
        said.min().unwrap_or(i64::MIN)
    }

    /// Raises the clocks of ordered inputs to the next record that they will release; whether one rose.
    pub(super) fn order_clocks(&mut self) -> bool {
        let held = self
            .inputs
            .iter()
            .filter_map(|input| Some(input.ordering.as_ref()?.held.next_place()?.source_time));
        let to = held.chain([self.common_watermark()]).min().unwrap_or(i64::MIN);
        let mut rose = false;
        for input in self.inputs.iter_mut().filter(|input| input.ordering.is_some()) {
            let clock = &mut self.ctx.clocks[input.number];
            if *clock < to {
                *clock = to;
                // Its position carries it, also where nothing was read from this input.
                input.moved = true;
                rose = true;
            }
        }
        rose
    }

    /// Takes the head of an ordered input to those that it holds, or hears its watermarks.
    pub(super) fn read_ordered(&mut self, place: usize) -> Result<()> {
        self.inputs[place].hold_head()?;
        self.order_clocks();
        self.fire()
    }

    /// Processes the record whose turn it is.
    pub(super) fn release(&mut self, place: usize) -> Result<()> {
        // After a restart the last that was to be read again may have been no record: then nothing has
        // looked at the clocks since, and what is due before this record has not fired.
        if self.order_clocks() {
            self.fire()?;
        }
        let input = &mut self.inputs[place];
        let ordering = input.ordering.as_mut().expect("only ordered inputs hold records");
        if let Some(record) = ordering.held.release() {
            let (raw, number) = (record.raw(), input.number);
            (input.moved, input.has_read) = (true, true);
            if let Some(entry) = &mut self.entries[number] {
                self.ctx.faults.begin_record(number, input.partition, false, &raw);
                entry.process(&mut self.ctx, number, &raw)?;
                self.ctx.faults.end_record();
            }
        }
        self.order_clocks();
        self.fire()
    }

    /// Reads once more what an input has given up for want of room, if that is what comes next.
    fn read_again(&mut self, place: usize) -> Result<()> {
        let input = &mut self.inputs[place];
        let read_to = input.read_position();
        let Some(ordering) = &mut input.ordering else { return Ok(()) };
        let Some(from) = ordering.held.begin_again() else { return Ok(()) };
        let (topic, partition) = (&input.topic, input.partition);
        let mut reader = ordering.broker.reader(topic, partition, from, Scope::Own)?;
        'all: while let Some(records) = reader.poll()? {
            for record in (0..records.len()).filter_map(|i| records.get(i)) {
                if record.offset >= read_to {
                    break 'all;
                }
                if record.key.is_some() {
                    let place = place_of(&record).map_err(|why| damaged(input, &record, why))?;
                    let ordering = input.ordering.as_mut().expect("it was there before");
                    ordering.held.take(place, &record);
                }
            }
        }
        let ordering = input.ordering.as_mut().expect("it was there before");
        ordering.held.read_again(read_to);
        Ok(())
    }
}

fn place_of(record: &RawRecord<'_>) -> Result<crate::runtime::held::Place, &'static str> {
    let bytes = record.value.ok_or("a repartition record has no envelope")?;
    let (source_time, upstream) = envelope::order(bytes, record.timestamp)?;
    Ok(crate::runtime::held::Place { source_time, upstream, offset: record.offset })
}

/// A record in a repartition topic that the job has not written.
pub(super) fn damaged(input: &Input, record: &RawRecord<'_>, reason: &'static str) -> Error {
    let (topic, partition) = (input.topic.name.to_string(), input.partition);
    Error::Internal { topic, partition, offset: record.offset, reason }
}

/// The watermarks that a record without a key carries.
pub(super) fn watermarks_in(input: &Input, record: &RawRecord<'_>) -> Result<Vec<(u32, i64)>> {
    match envelope::decode(record.value.unwrap_or_default(), record.timestamp) {
        Ok(Envelope::Watermarks(said)) => Ok(said),
        Ok(_) | Err(_) => Err(damaged(input, record, "a record without a key is no watermark")),
    }
}

impl Input {
    /// The same ordered input once it holds what it held when its position was committed.
    pub(super) fn holding_again(mut self) -> Result<Self> {
        let read_to = self.ordering.as_ref().map_or(i64::MIN, |ordering| ordering.before_to);
        while self.read_position() < read_to && self.fill()? {
            self.hold_head()?;
        }
        // Nothing of it is new.
        (self.moved, self.has_read) = (false, false);
        self.look_again();
        Ok(self)
    }

    /// Takes the head to those that are held, or hears its watermarks.
    fn hold_head(&mut self) -> Result<()> {
        let record = self.head().expect("an input with a record was chosen");
        if record.key.is_none() {
            let said = watermarks_in(self, &record)?;
            let heard = self.heard(&said);
            if let Some(ordering) = &mut self.ordering {
                ordering.watermark = ordering.watermark.max(heard);
            }
        } else {
            let place = place_of(&record).map_err(|why| damaged(self, &record, why))?;
            self.take_head(place);
        }
        self.advance();
        Ok(())
    }
}

impl Ordering {
    /// What the watermarks of an input say when it is opened.
    pub(super) fn with_watermarks(self, watermarks: &[i64]) -> Self {
        Self { watermark: smallest(watermarks), ..self }
    }
}
