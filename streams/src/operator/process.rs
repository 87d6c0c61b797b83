//! A user's processor as a step of a task: records and due timers in, forwarded records out.
//!
//! ```text
//!   record --> Processor::record --.                          .--> every output      ctx.forward
//!   due timer --> Processor::timer --> Ctx (time, stores) ----+--> one output        ctx.forward_to
//!   boundary --> Processor::punctuate                         '--> timer rows        ctx.timer_event
//! ```
//!
//! Invariants
//! * timers fire in (time, key) order, each in the transaction that deletes it. What a timer sets fires
//!   after it: for a time that is not later than its own, one millisecond later; so a round of timers ends.
//! * what is forwarded has the source time of the record at hand, or the time of the timer: never below a
//!   watermark that was sent.
//! * an error of the crate stops the job; any other is the processor's own, and the step's policy decides.

use std::rc::Rc;
use std::time::Duration;

use super::children::Children;
use super::kept::Now;
use super::timers::{Due, TimerKind, TimerRows};
use super::try_map::refuse;
use crate::codec::Data;
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::letter::cut;
use crate::processor::{Context, Process, Record, Shared, Timed};
use crate::record::{Headers, RecordPosition};
use crate::store::StoreError;
use crate::time::{Stamp, TimeInputs, duration_ms};
use crate::topology::NodeId;

/// Any error that a processor may return.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the methods of a [`Processor`] return: an error of its own goes to
/// [`on_error`](crate::Stream::on_error), as one of [`try_map`](crate::Stream::try_map) does; one of this
/// crate (a store that failed) stops the job.
pub type Processed = std::result::Result<(), BoxError>;

/// Code of a user that takes records one by one, with stores and timers of its own.
///
/// ```
/// use streams::prelude::*;
///
/// const PAYMENTS: Topic<String, u64> = topic("payments");
/// const TOTALS: Topic<String, u64> = topic("totals");
///
/// /// Adds up what a card pays until it has been quiet for a minute.
/// struct Total { sums: KeyValueStore<String, u64> }
///
/// impl Processor<String, u64> for Total {
///     type Key = String;
///     type Out = u64;
///
///     fn stores(&self) -> Vec<&dyn StateStore> {
///         vec![&self.sums]
///     }
///
///     fn timers(&self) -> Timers {
///         Timers::per_key()
///     }
///
///     fn record(&mut self, ctx: &mut Ctx<'_, String, u64>, record: Record<String, u64>) -> Processed {
///         let (Some(card), Some(paid)) = (record.key, record.value) else { return Ok(()) };
///         let sum = self.sums.get(&card)?.unwrap_or(0);
///         self.sums.put(&card, sum + paid)?;
///         if sum == 0 {
///             ctx.timer_event(record.timestamp + 60_000)?;
///         }
///         Ok(())
///     }
///
///     fn timer(&mut self, ctx: &mut Ctx<'_, String, u64>, timer: Timer<String>) -> Processed {
///         if let Some(sum) = self.sums.delete(&timer.key)? {
///             ctx.forward(timer.key, sum)?;
///         }
///         Ok(())
///     }
/// }
///
/// fn topology(t: &mut Topology) {
///     let sums = t.store("sums");
///     t.stream(PAYMENTS).process("total", Total { sums }).to(TOTALS);
/// }
///
/// let mut d = TestDriver::new(topology).partitions(3).seed(7).crash_every(3);
/// d.send_at(PAYMENTS, "a".into(), 5, 1_000).send_at(PAYMENTS, "a".into(), 7, 2_000);
/// assert_eq!(d.read(TOTALS), []);
/// d.advance_to(61_000);
/// assert_eq!(d.read(TOTALS), [("a".to_string(), 12)]);
/// ```
pub trait Processor<K, V>: 'static {
    /// The key of what it forwards.
    type Key: RecordKey;
    /// The value of what it forwards.
    type Out: Data;

    /// The stores that it uses: those of one processor, or those that processors of one sub-topology
    /// share. With a store, records of one key must meet: behind `key_by` they go through a repartition
    /// topic that has the processor's name.
    fn stores(&self) -> Vec<&dyn StateStore> {
        Vec::new()
    }

    /// Which timers it uses; none if it does not say.
    fn timers(&self) -> Timers {
        Timers::none()
    }

    /// Takes a record. A null value comes as `None`; where records have keys, a null key is counted and
    /// left out if the processor has stores or timers.
    ///
    /// # Errors
    ///
    /// Its own; see [`Processed`]. What it has put and forwarded before stays.
    fn record(
        &mut self,
        ctx: &mut Ctx<'_, Self::Key, Self::Out>,
        record: Record<K, V>,
    ) -> Processed;

    /// A timer of a key has come due.
    ///
    /// # Errors
    ///
    /// As [`record`](Self::record).
    fn timer(&mut self, ctx: &mut Ctx<'_, Self::Key, Self::Out>, timer: Timer<K>) -> Processed {
        let (_, _) = (ctx, timer);
        Ok(())
    }

    /// A boundary of [`Timers::every`] or [`Timers::every_clock`] has been passed.
    ///
    /// # Errors
    ///
    /// As [`record`](Self::record).
    fn punctuate(&mut self, ctx: &mut Ctx<'_, Self::Key, Self::Out>, tick: Tick) -> Processed {
        let (_, _) = (ctx, tick);
        Ok(())
    }
}

/// A store, or a table that is looked up, as [`Processor::stores`] names it.
pub trait StateStore {
    /// What ties it to the processor.
    fn link(&self) -> StoreLink;
}

/// A store and its place in the topology; only stores of this crate have one.
pub struct StoreLink {
    pub(crate) node: NodeId,
    /// What expires as its users' time passes; `None`: it is only looked up.
    pub(crate) used: Option<Shared<dyn UsedStore>>,
    /// The same, as a step that acts when its time comes.
    pub(crate) timed: Option<Shared<dyn Timed>>,
    /// Whether records of one key must meet for it.
    pub(crate) is_keyed: bool,
}

/// A store as the processors see it that use it.
pub(crate) trait UsedStore {
    fn used_by(&mut self, inputs: &TimeInputs);
    fn keeps_for_ever(&self) -> bool;
}

impl<A: Data> UsedStore for super::kept::Kept<A> {
    fn used_by(&mut self, inputs: &TimeInputs) {
        self.used_by(inputs);
    }

    fn keeps_for_ever(&self) -> bool {
        self.keeps_for_ever()
    }
}

/// Which timers a processor uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timers {
    pub(crate) per_key: bool,
    pub(crate) every_ms: Option<i64>,
    pub(crate) every_clock_ms: Option<i64>,
}

impl Timers {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Durable timers of keys: [`Ctx::timer_event`], [`Ctx::timer_clock`]. They are kept in the store
    /// `<processor>-timers`.
    #[must_use]
    pub fn per_key() -> Self {
        Self { per_key: true, ..Self::default() }
    }

    /// Calls [`Processor::punctuate`] when event time passes a multiple of `d`: once, with the last one,
    /// where it passes several at a time. How far it goes at a time depends on how records come; what has
    /// to happen at a time of its own is a timer of a key.
    #[must_use]
    pub fn every(self, d: Duration) -> Self {
        Self { every_ms: Some(duration_ms(d).max(1)), ..self }
    }

    /// The same by the clock on the wall. Boundaries that pass while the job is down are not made up for.
    #[must_use]
    pub fn every_clock(self, d: Duration) -> Self {
        Self { every_clock_ms: Some(duration_ms(d).max(1)), ..self }
    }
}

/// A timer of a key that has come due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer<K> {
    /// Whose it is.
    pub key: K,
    /// For when it was set, in milliseconds since 1970.
    pub due: i64,
    /// By which time it goes.
    pub kind: TimerKind,
}

/// A boundary that has been passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The boundary, a multiple of the interval, in milliseconds since 1970.
    pub at: i64,
    /// By which time.
    pub kind: TimerKind,
}

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
    core: &'a mut Core<KO, VO>,
    task: &'a mut Context,
    key: Option<&'a [u8]>,
    headers: Headers,
    /// A timer that fires: what it sets comes after it.
    firing: Option<(TimerKind, i64)>,
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
    /// hand. It is looked at every few records, and reads otherwise when the job runs again.
    #[must_use]
    pub fn clock(&self) -> i64 {
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

    /// Calls [`Processor::timer`] for the key at hand when event time passes `at`, once; now, if it has
    /// passed already. What is set twice for one key and time is one timer.
    ///
    /// The timer carries `at`, or the source time of the record that set it, if that is later. A timer that
    /// sets another for a time not after its own gets it a millisecond later.
    ///
    /// # Errors
    ///
    /// S018: [`Processor::timers`] does not say that it has timers of keys, or there is no key at hand.
    pub fn timer_event(&mut self, at: i64) -> Result<()> {
        self.set(TimerKind::Event, at)
    }

    /// The same when the clock on the wall has gone on by `after`; the answer is when that will be.
    ///
    /// # Errors
    ///
    /// As [`timer_event`](Self::timer_event).
    pub fn timer_clock(&mut self, after: Duration) -> Result<i64> {
        let at = self.task.now_ms.saturating_add(duration_ms(after));
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

fn timers_store<KO, VO>(core: &Core<KO, VO>) -> crate::ids::StoreName {
    use crate::processor::Stateful;
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
