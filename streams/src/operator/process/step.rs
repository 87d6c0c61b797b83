//! A processor in its place: records and due timers in, errors to where they belong.
//!
//! Invariants
//! * the time at hand is set before the processor is called: its stores go by it.
//! * an error of the crate stops the job; any other is the processor's own.

use super::ctx::{Core, Ctx};
use super::{Processed, Processor, Tick, Timer, Timers};
use crate::codec::Data;
use crate::error::{Error, Result};
use crate::ids::StoreName;
use crate::key::RecordKey;
use crate::letter::cut;
use crate::operator::timers::{Due, TimerKind};
use crate::operator::try_map::refuse;
use crate::processor::{Context, Process, Record, Shared, Stateful, Timed};
use crate::record::Headers;
use crate::store::StoreError;
use crate::time::{Stamp, TimeInputs};

/// A boundary of an interval: the last one that was passed.
#[derive(Clone, Copy, Debug, Default)]
struct Boundary {
    last: Option<i64>,
}

impl Boundary {
    fn of(time: i64, every_ms: i64) -> i64 {
        time.div_euclid(every_ms).saturating_mul(every_ms)
    }

    /// The boundary that `time` has passed since it was last asked.
    fn pass(&mut self, time: i64, every_ms: i64) -> Option<i64> {
        let at = Self::of(time, every_ms);
        let passed = self.last.is_some_and(|last| last < at);
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
        passed.then_some(at)
    }
}

/// The step.
pub(crate) struct ProcessStep<K, V, P: Processor<K, V>> {
    processor: P,
    core: Core<P::Key, P::Out>,
    /// Whether records of one key have met here.
    is_keyed: bool,
    schedule: Timers,
    event: Boundary,
    clock: Boundary,
    key: Vec<u8>,
    types: std::marker::PhantomData<fn(K, V)>,
}

impl<K: RecordKey, V: Data, P: Processor<K, V>> ProcessStep<K, V, P> {
    pub(crate) fn new(processor: P, core: Core<P::Key, P::Out>, is_keyed: bool) -> Self {
        Self {
            schedule: processor.timers(),
            processor,
            core,
            is_keyed,
            event: Boundary::default(),
            clock: Boundary::default(),
            key: Vec::new(),
            types: std::marker::PhantomData,
        }
    }

    /// Whether anything happens here as time passes.
    pub(crate) fn has_time(&self) -> bool {
        self.schedule != Timers::none()
    }

    fn take(&mut self, task: &mut Context, record: Record<K, V>) -> Result<()> {
        self.key.clear();
        let has_key = record.key.as_ref().is_some_and(|key| key.encode(&mut self.key));
        if self.is_keyed && !has_key {
            task.counters.null_keys += 1;
            return Ok(());
        }
        self.core.now.set(record.stamp());
        let kept = task.keeps_refused(self.core.node).then(|| record.clone());
        let headers = record.headers.clone();
        let key = has_key.then_some(&self.key[..]);
        let mut ctx = Ctx { core: &mut self.core, task, key, headers, firing: None };
        let outcome = self.processor.record(&mut ctx, record);
        self.settle(task, outcome, kept)
    }

    /// What becomes of an error, and of puts that came too late.
    fn settle(
        &self,
        task: &mut Context,
        outcome: Processed,
        record: Option<Record<K, V>>,
    ) -> Result<()> {
        task.counters.late += self.core.now.take_too_old();
        let Err(error) = outcome else { return Ok(()) };
        let error = match error.downcast::<Error>() {
            Ok(ours) => return Err(*ours),
            Err(theirs) => theirs,
        };
        let error = match error.downcast::<StoreError>() {
            Ok(ours) => return Err((*ours).into()),
            Err(theirs) => theirs,
        };
        let error = Error::Refused {
            step: task.step_name(self.core.node),
            record: task.position(),
            reason: cut(&error.to_string()).to_owned(),
        };
        let Stamp { timestamp, source_time } = self.core.now.get();
        let none =
            Record { key: None, value: None, timestamp, source_time, headers: Headers::none() };
        refuse(task, self.core.node, error, &record.unwrap_or(none))
    }

    fn fire_timers(&mut self, task: &mut Context, kind: TimerKind, time: i64) -> Result<bool> {
        let Some(timers) = self.core.timers.clone() else { return Ok(false) };
        let mut any = false;
        loop {
            let due = timers.borrow_mut().pop(kind, time)?;
            let Some(due) = due else { return Ok(any) };
            any = true;
            self.fire_one(task, kind, due)?;
        }
    }

    fn fire_one(&mut self, task: &mut Context, kind: TimerKind, due: Due) -> Result<()> {
        let stamp = match kind {
            TimerKind::Event => {
                let time = due.at.max(due.set_at);
                Stamp { timestamp: time, source_time: time }
            }
            TimerKind::Clock => {
                let source_time = self.core.inputs.time(&task.clocks).max(due.set_at);
                Stamp { timestamp: due.at, source_time }
            }
        };
        self.core.now.set(stamp);
        let decoded = K::decode(Some(&due.key)).ok().flatten();
        let key = decoded.ok_or_else(|| StoreError::Corrupt {
            store: timers_store(&self.core),
            reason: format!("{} is no key of a timer", due.key.escape_ascii()),
        })?;
        let firing = Some((kind, due.at));
        let (headers, bytes) = (Headers::none(), Some(&due.key[..]));
        let mut ctx = Ctx { core: &mut self.core, task, key: bytes, headers, firing };
        let outcome = self.processor.timer(&mut ctx, Timer { key, due: due.at, kind });
        self.settle(task, outcome, None)
    }

    fn punctuate(&mut self, task: &mut Context, tick: Tick) -> Result<()> {
        let time = self.core.inputs.time(&task.clocks);
        let timestamp = if tick.kind == TimerKind::Event { time } else { tick.at };
        self.core.now.set(Stamp { timestamp, source_time: time });
        let headers = Headers::none();
        let mut ctx = Ctx { core: &mut self.core, task, key: None, headers, firing: None };
        let outcome = self.processor.punctuate(&mut ctx, tick);
        self.settle(task, outcome, None)
    }
}

fn timers_store<KO, VO>(core: &Core<KO, VO>) -> StoreName {
    let timers = core.timers.as_ref().expect("a timer fires where there are timers");
    timers.borrow().store().clone()
}

impl<K: RecordKey, V: Data, P: Processor<K, V>> Process<K, V> for Shared<ProcessStep<K, V, P>> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        self.borrow_mut().take(ctx, record)
    }
}

impl<K: RecordKey, V: Data, P: Processor<K, V>> Timed for ProcessStep<K, V, P> {
    fn fire(&mut self, ctx: &mut Context) -> Result<()> {
        let time = self.core.inputs.time(&ctx.clocks);
        if time == i64::MIN {
            return Ok(());
        }
        self.fire_timers(ctx, TimerKind::Event, time)?;
        let passed = self.schedule.every_ms.and_then(|every| self.event.pass(time, every));
        match passed {
            Some(at) => self.punctuate(ctx, Tick { at, kind: TimerKind::Event }),
            None => Ok(()),
        }
    }

    fn resume(&mut self, ctx: &Context) {
        let time = self.core.inputs.time(&ctx.clocks);
        if let Some(every) = self.schedule.every_ms.filter(|_| time > i64::MIN) {
            self.event.pass(time, every);
        }
    }

    fn tick(&mut self, ctx: &mut Context) -> Result<bool> {
        let now = ctx.now_ms;
        let mut any = self.fire_timers(ctx, TimerKind::Clock, now)?;
        let passed = self.schedule.every_clock_ms.and_then(|every| self.clock.pass(now, every));
        if let Some(at) = passed {
            self.punctuate(ctx, Tick { at, kind: TimerKind::Clock })?;
            any = true;
        }
        Ok(any)
    }

    fn next_tick(&self) -> Option<i64> {
        let timers = self.core.timers.as_ref();
        let timer = timers.and_then(|timers| timers.borrow().earliest(TimerKind::Clock));
        let boundary = self
            .schedule
            .every_clock_ms
            .map(|every| self.clock.last.map_or(i64::MIN, |last| last.saturating_add(every)));
        timer.into_iter().chain(boundary).min()
    }

    fn inputs(&self) -> &TimeInputs {
        &self.core.inputs
    }
}
