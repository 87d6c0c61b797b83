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

mod ctx;
mod step;

use std::time::Duration;

pub(crate) use ctx::Core;
pub use ctx::Ctx;
pub(crate) use step::ProcessStep;

use super::timers::TimerKind;
use crate::codec::Data;
use crate::key::RecordKey;
use crate::processor::{Record, Shared, Timed};
use crate::time::{TimeInputs, duration_ms};
use crate::topology::NodeId;

/// Any error that a processor may return.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the methods of a [`Processor`] return: an error of its own goes to
/// [`on_error`](crate::Stream::on_error), as one of [`try_map`](crate::Stream::try_map) does; one of this
/// crate (a store that failed) stops the job.
pub type Processed = Result<(), BoxError>;

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
