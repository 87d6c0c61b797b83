//! What a processor works with: times, outputs, timers.
//!
//! Invariants
//! * what is forwarded has the source time of the record or timer at hand, whatever timestamp it is given.

use std::rc::Rc;
use std::time::Duration;

use crate::codec::Data;
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::operator::children::Children;
use crate::operator::kept::Now;
use crate::operator::timers::{TimerKind, TimerRows};
use crate::processor::{Context, Process, Record, Shared};
use crate::record::{Headers, RecordPosition};
use crate::time::{Stamp, TimeInputs, duration_ms};

/// What a processor has besides the record.
pub(crate) struct Core<KO, VO> {
    pub(crate) node: usize,
    pub(crate) name: String,
    pub(crate) outputs: Vec<(String, Children<KO, VO>)>,
    pub(crate) timers: Option<Shared<TimerRows>>,
    pub(crate) inputs: TimeInputs,
    pub(crate) now: Rc<Now>,
}

/// What a processor works with: the times of the record at hand, its outputs and timers.
pub struct Ctx<'a, KO, VO> {
    pub(super) core: &'a mut Core<KO, VO>,
    pub(super) task: &'a mut Context,
    /// The encoded key at hand.
    pub(super) key: Option<&'a [u8]>,
    pub(super) headers: Headers,
    /// A timer that fires: what it sets comes after it.
    pub(super) firing: Option<(TimerKind, i64)>,
}

impl<KO: RecordKey, VO: Data> Ctx<'_, KO, VO> {
    /// The timestamp of the record at hand, or the time of the timer: what is forwarded carries it.
    #[must_use]
    pub fn timestamp(&self) -> i64 {
        self.core.now.get().timestamp
    }

    /// The processor's time: the smallest clock of the source partitions that it depends on; `None` while
    /// one of them is unknown.
    #[must_use]
    pub fn stream_time(&self) -> Option<i64> {
        Some(self.core.inputs.time(&self.task.clocks)).filter(|&time| time > i64::MIN)
    }

    /// The clock on the wall as the job has it, in milliseconds since 1970: that of a test is moved by
    /// hand. It is looked at every few records. What was read is written down, so that a replay reads the
    /// same; not behind a repartition topic, where a replay has no clock ([`i64::MIN`]).
    #[must_use]
    pub fn clock(&self) -> i64 {
        self.task.has_read_clock.set(true);
        self.task.now_ms
    }

    /// Where the record at hand was read; behind a repartition topic, its place there. `None` for timers.
    #[must_use]
    pub fn position(&self) -> Option<RecordPosition> {
        self.task.position()
    }

    /// The partition of the task.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.task.task.partition
    }

    /// Passes a record on to every output, with the time and the headers of the one at hand.
    ///
    /// # Errors
    ///
    /// What a step behind it says.
    pub fn forward(&mut self, key: KO, value: VO) -> Result<()> {
        let record = self.stamped(key, value);
        self.forward_record(record)
    }

    /// The same to one of the outputs that were named to [`process_to`](crate::Stream::process_to).
    ///
    /// # Errors
    ///
    /// S018: there is no such output; else what a step behind it says.
    pub fn forward_to(&mut self, output: &str, key: KO, value: VO) -> Result<()> {
        let record = self.stamped(key, value);
        self.forward_record_to(output, record)
    }

    fn stamped(&self, key: KO, value: VO) -> Record<KO, VO> {
        let Stamp { timestamp, source_time } = self.core.now.get();
        let headers = self.headers.clone();
        Record { key: Some(key), value: Some(value), timestamp, source_time, headers }
    }

    /// Passes a record on to every output as it is: with its own timestamp and headers, and null where it
    /// says so. Its source time is that of the record at hand.
    ///
    /// # Errors
    ///
    /// What a step behind it says.
    pub fn forward_record(&mut self, record: Record<KO, VO>) -> Result<()> {
        let record = Record { source_time: self.core.now.get().source_time, ..record };
        let Some(((_, last), first)) = self.core.outputs.split_last_mut() else { return Ok(()) };
        for (_, output) in first {
            output.process(self.task, record.clone())?;
        }
        last.process(self.task, record)
    }

    /// The same to one output.
    ///
    /// # Errors
    ///
    /// S018: there is no such output; else what a step behind it says.
    pub fn forward_record_to(&mut self, output: &str, record: Record<KO, VO>) -> Result<()> {
        let record = Record { source_time: self.core.now.get().source_time, ..record };
        let found = self.core.outputs.iter_mut().find(|(name, _)| name == output);
        match found {
            Some((_, children)) => children.process(self.task, record),
            None => Err(Error::Topology {
                reason: format!("processor `{}` has no output `{output}`", self.core.name),
                help: format!("name it: `.process_to(\"{}\", .., [\"{output}\"])`", self.core.name),
            }),
        }
    }

    /// Calls [`Processor::timer`](crate::Processor::timer) for the key at hand when event time passes `at`, once; now, if it has
    /// passed already. What is set twice for one key and time is one timer.
    ///
    /// The timer carries `at`, or the source time of the record that set it, if that is later. A timer that
    /// sets another for a time not after its own gets it a millisecond later.
    ///
    /// # Errors
    ///
    /// S018: [`Processor::timers`](crate::Processor::timers) does not say that it has timers of keys, or there is no key at hand.
    pub fn timer_event(&mut self, at: i64) -> Result<()> {
        self.set(TimerKind::Event, at)
    }

    /// The same when the clock on the wall has gone on by `after`; the answer is when that will be.
    ///
    /// # Errors
    ///
    /// As [`timer_event`](Self::timer_event).
    pub fn timer_clock(&mut self, after: Duration) -> Result<i64> {
        let at = self.clock().saturating_add(duration_ms(after));
        self.set(TimerKind::Clock, at)?;
        Ok(at)
    }

    /// Takes a timer of the key at hand back; whether it was set.
    ///
    /// # Errors
    ///
    /// As [`timer_event`](Self::timer_event).
    pub fn cancel(&mut self, kind: TimerKind, at: i64) -> Result<bool> {
        let (timers, key) = self.timers()?;
        timers.borrow_mut().cancel(kind, at, key)
    }

    fn set(&mut self, kind: TimerKind, at: i64) -> Result<()> {
        let after = self.firing.filter(|(firing, _)| *firing == kind);
        let at = after.map_or(at, |(_, due)| at.max(due.saturating_add(1)));
        let set_at = self.core.now.get().source_time;
        let (timers, key) = self.timers()?;
        timers.borrow_mut().set(kind, at, key, set_at)
    }

    fn timers(&self) -> Result<(Shared<TimerRows>, &[u8])> {
        let name = &self.core.name;
        let mistake =
            |reason: String, help: &str| Error::Topology { reason, help: help.to_owned() };
        let timers = self.core.timers.as_ref().ok_or_else(|| {
            mistake(
                format!("processor `{name}` sets a timer and has none"),
                "say so: `fn timers(&self) -> Timers { Timers::per_key() }`",
            )
        })?;
        let key = self.key.ok_or_else(|| {
            mistake(
                format!("processor `{name}` sets a timer of no key, as it punctuates"),
                "set timers of keys where a record or a timer of the key is at hand",
            )
        })?;
        Ok((Rc::clone(timers), key))
    }
}
