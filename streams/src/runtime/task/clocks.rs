//! The clocks of a task: those of its inputs, who holds windows open, raises of those that are silent, and
//! what fires by the clock on the wall.
//!
//! Invariants
//! * the topic of a table moves no clock, and no clock waits for it.
//! * a raise is a part of the transaction in which it happens, and of its positions.

use std::sync::Arc;
use std::time::Duration;

use super::Task;
use crate::broker::Headers;
use crate::error::Result;
use crate::runtime::clock_log::{RaiseRecord, ReadingRecord};
use crate::runtime::report::{SourceState, WindowState};
use crate::runtime::silence::Raise;
use crate::time::OpenWindows;

impl Task {
    /// Raises the clock of an input as an earlier run of the job did before its next record.
    pub(super) fn repeat_raises(&mut self, place: usize) -> bool {
        let input = &mut self.inputs[place];
        let clock = &mut self.ctx.clocks[input.number];
        let Some(to) = input.repeat_raises().filter(|to| to > clock) else { return false };
        *clock = to;
        (input.moved, self.raised) = (true, true);
        true
    }

    /// Raises the clock of each source partition to at least `to`; its position carries it.
    pub(crate) fn raise(&mut self, to: i64) -> Result<()> {
        let sources = self.inputs.iter_mut();
        for input in sources.filter(|input| input.watermarks.is_none() && !input.is_global) {
            if self.ctx.clocks[input.number] < to {
                self.ctx.clocks[input.number] = to;
                input.moved = true;
                self.raised = true;
            }
        }
        self.fire()
    }

    /// The clock on the wall stands at `now_ms`: fires what is due by it; whether anything was.
    pub(crate) fn tick(&mut self, now_ms: i64) -> Result<bool> {
        if self.repeats_clock {
            return Ok(false);
        }
        self.ctx.now_ms = now_ms;
        if self.next_tick().is_none_or(|at| at > now_ms) {
            return Ok(false);
        }
        // A transaction without a position would be given up, and what fired with it.
        let Some(own) = self.inputs.iter().position(|input| !input.is_global) else {
            return Ok(false);
        };
        let any = self.fire_by_the_clock(own)?;
        if any {
            self.log_reading(own)?;
        }
        Ok(any)
    }

    /// Fires what is due by the clock on the wall, and has it committed with a position in this input.
    fn fire_by_the_clock(&mut self, place: usize) -> Result<bool> {
        let mut any = false;
        for step in &self.timed {
            any |= step.op.borrow_mut().tick(&mut self.ctx)?;
        }
        if any {
            (self.inputs[place].moved, self.raised) = (true, true);
            self.fire()?;
        }
        Ok(any)
    }

    /// Reads from the clock on the wall what an earlier run of the job did before the next record of an
    /// input; whether anything was due by it.
    pub(super) fn repeat_readings(&mut self, place: usize) -> Result<bool> {
        let mut any = false;
        while let Some(now_ms) = self.inputs[place].repeat_reading() {
            self.ctx.now_ms = now_ms;
            any |= self.fire_by_the_clock(place)?;
        }
        Ok(any)
    }

    /// Writes down what the clock on the wall has said, before the next record of an input of ours: not
    /// of a repartition topic, as another run finds its records elsewhere.
    pub(super) fn log_reading(&mut self, place: usize) -> Result<()> {
        let Some((topic, batch)) = &mut self.clock_log else { return Ok(()) };
        let input = &self.inputs[place];
        if self.repeats_clock || input.watermarks.is_some() || input.is_global {
            return Ok(());
        }
        let now_ms = self.ctx.now_ms;
        let reading = ReadingRecord {
            topic: input.topic.name.to_string(),
            partition: input.partition,
            next_offset: input.position(),
            now_ms,
        };
        let (key, value) = reading.encode();
        batch.push(now_ms, Some(&key), Some(&value), &Headers::none())?;
        self.logged_reading = now_ms;
        self.ctx.append(topic, 0, batch.as_mut())
    }

    /// When [`tick`](Self::tick) has something to do; `None`: never.
    pub(crate) fn next_tick(&self) -> Option<i64> {
        if self.repeats_clock {
            return None;
        }
        self.timed.iter().filter_map(|step| step.op.borrow().next_tick()).min()
    }

    /// Raises the clocks of those silent inputs of its own that are still silent, and writes that down in
    /// the running transaction; whether there were any.
    pub(crate) fn pass_over(
        &mut self,
        raises: &[Raise],
        now: Duration,
        now_ms: i64,
    ) -> Result<bool> {
        let Some((topic, batch)) = &mut self.clock_log else { return Ok(false) };
        for input in self.inputs.iter_mut().filter(|input| input.watermarks.is_none()) {
            let is_ours = |raise: &&Raise| {
                raise.partition == input.partition && raise.topic == input.topic.name
            };
            let Some(raise) = raises.iter().find(is_ours) else { continue };
            let clock = &mut self.ctx.clocks[input.number];
            // What has come since the decision was made speaks for itself.
            if raise.to <= *clock || input.has_read || input.fill()? {
                continue;
            }
            let record = RaiseRecord {
                topic: raise.topic.to_string(),
                partition: raise.partition,
                next_offset: input.position(),
                raised_to: raise.to,
            };
            if input.raised_at.is_none() {
                let silent_for = now.saturating_sub(input.read_at);
                tracing::info!(
                    topic = %record.topic, partition = record.partition, from = *clock,
                    to = record.raised_to, next_offset = record.next_offset, ?silent_for,
                    "a silent partition is passed over"
                );
            }
            let (key, value) = record.encode();
            batch.push(now_ms, Some(&key), Some(&value), &Headers::none())?;
            *clock = raise.to;
            (input.moved, input.raised_at) = (true, Some(now));
        }
        if batch.is_empty() {
            return Ok(false);
        }
        self.ctx.append(topic, 0, batch.as_mut())?;
        self.raised = true;
        self.fire()?;
        Ok(true)
    }

    /// How far its source partitions are.
    pub(crate) fn sources(&mut self) -> Result<Vec<SourceState>> {
        let mut sources = Vec::new();
        for input in self.inputs.iter_mut().filter(|input| input.watermarks.is_none()) {
            let holds_windows = self.timed_inputs.contains(&input.number);
            sources.push(SourceState {
                topic: Arc::clone(&input.topic.name),
                partition: input.partition,
                is_at_end: !input.fill()?,
                position: input.position(),
                clock: self.ctx.clocks[input.number],
                read_at: input.read_at,
                raised_at: input.raised_at,
                holds_windows,
            });
        }
        Ok(sources)
    }

    /// How far the windows of its stores are.
    pub(crate) fn windows(&self) -> impl Iterator<Item = WindowState> + '_ {
        self.stores.iter().filter_map(|store| {
            let op = store.op.borrow();
            let OpenWindows { earliest_end, closed_to } = op.windows(&self.ctx.clocks)?;
            let (store, partition) = (op.store().clone(), self.id.partition);
            Some(WindowState { store, partition, earliest_end, closed_to })
        })
    }
}
