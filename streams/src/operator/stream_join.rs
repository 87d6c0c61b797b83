//! Brings records of two streams together that have one key and lie close to each other in time.
//!
//! ```text
//!   left record at t --- late? --> counted
//!      |                                     right rows from t - before to t + after: one result each
//!      `--> meets the right buffer,          the operator's time reaches t + after + 1 + grace, and
//!           then lies in the left one        nothing has matched: it speaks alone (left, outer)
//! ```
//!
//! The time of a record is up at its timestamp + 1 + grace + the difference of its side, where records
//! without a match speak alone, and + both differences where they do not. A record is late if its source
//! time has reached that point. Two records meet if they are within reach and neither was read when the
//! time of the other was up. So whether they meet does not depend on which of them comes first, and
//! nothing speaks alone and matches later.
//!
//! Invariants
//! * results carry the larger timestamp of the two, also as source time. The watermark lags so far that
//!   none of them is behind it: by the larger difference plus grace where records speak alone, else by
//!   both differences plus grace.
//! * records speak alone in (time, key) order, whichever side they are of.
//!
//! Reference: Kafka Streams `KStreamKStreamJoin`, whose rows stay for both differences plus grace in every
//! join, so that some of them match after they have spoken alone. Lateness by source time is ours.

use super::join_buffer::{Due, JoinBuffer, Probe};
use super::join_row;
use super::window_aggregate::decode_key;
use crate::codec::Data;
use crate::error::Result;
use crate::key::Key;
use crate::processor::{Context, Next, Process, Record, Shared, Timed};
use crate::record::Headers;
use crate::store::StoreError;
use crate::time::TimeInputs;

/// What a join has to say something of.
pub(crate) enum Pair<L, R> {
    Both(L, R),
    Left(L),
    Right(R),
}

/// What is said of a pair; nothing of those that the join leaves out.
pub(crate) type Says<L, R, V> = Box<dyn Fn(Pair<L, R>) -> Option<V>>;

/// Both sides, and what follows.
pub(crate) struct StreamJoin<K, L, R, V> {
    inputs: TimeInputs,
    left: Shared<JoinBuffer<L>>,
    right: Shared<JoinBuffer<R>>,
    says: Says<L, R, V>,
    next: Next<K, V>,
    key: Vec<u8>,
}

impl<K: Key, L: Data, R: Data, V> StreamJoin<K, L, R, V> {
    pub(crate) fn new(
        inputs: TimeInputs,
        left: Shared<JoinBuffer<L>>,
        right: Shared<JoinBuffer<R>>,
        says: Says<L, R, V>,
        next: Next<K, V>,
    ) -> Self {
        Self { inputs, left, right, says, next, key: Vec::new() }
    }

    fn say(
        &mut self,
        ctx: &mut Context,
        key: Option<K>,
        timestamp: i64,
        pair: Pair<L, R>,
    ) -> Result<()> {
        let Some(value) = (self.says)(pair) else { return Ok(()) };
        let headers = Headers::none();
        let record = Record { key, value: Some(value), timestamp, source_time: timestamp, headers };
        self.next.process(ctx, record)
    }

    fn say_alone<A>(
        &mut self,
        ctx: &mut Context,
        due: Due<A>,
        pair: fn(A) -> Pair<L, R>,
    ) -> Result<()> {
        let store = self.left.borrow().store_name().clone();
        let corrupt = || StoreError::Corrupt {
            store: store.clone(),
            reason: format!("no key of a row: {}", due.row.escape_ascii()),
        };
        let (key, _) = join_row::split_row(&due.row).ok_or_else(corrupt)?;
        let key = decode_key::<K>(&store, key)?;
        self.say(ctx, key, due.timestamp, pair(due.value))
    }

    /// Everything that speaks alone at the operator's present time.
    fn speak(&mut self, ctx: &mut Context, time: i64) -> Result<()> {
        let mut left = self.left.borrow_mut().take_due(time)?;
        let mut right = self.right.borrow_mut().take_due(time)?;
        loop {
            let is_left = match (&left, &right) {
                (None, None) => return Ok(()),
                (Some(l), Some(r)) => (l.at, &l.row) <= (r.at, &r.row),
                (l, _) => l.is_some(),
            };
            if is_left {
                if let Some(due) = left.take() {
                    self.say_alone(ctx, due, Pair::Left)?;
                }
                left = self.left.borrow_mut().take_due(time)?;
            } else {
                if let Some(due) = right.take() {
                    self.say_alone(ctx, due, Pair::Right)?;
                }
                right = self.right.borrow_mut().take_due(time)?;
            }
        }
    }
}

/// A record of one side: it meets what the other has, and is kept; its value goes if it met nothing.
fn take<K: Key, A: Data, B: Data>(
    ctx: &mut Context,
    own: &Shared<JoinBuffer<A>>,
    other: &Shared<JoinBuffer<B>>,
    key: &[u8],
    record: &mut Record<K, A>,
    found: &mut Vec<(i64, B)>,
) -> Result<()> {
    let (stamp, mut own) = (record.stamp(), own.borrow_mut());
    if own.is_late(stamp) {
        ctx.late(own.store_name(), key, stamp.timestamp, stamp.source_time);
        return Ok(());
    }
    let probe = Probe { key, stamp, until: own.until(stamp.timestamp) };
    other.borrow_mut().meet(probe, found)?;
    // Where there is something to say, the value is needed once more.
    let kept = if found.is_empty() { record.value.take() } else { record.value.clone() };
    kept.map_or(Ok(()), |value| own.put(key, stamp, value, !found.is_empty()))
}

/// Whether a record has what a join needs; what has not is counted.
fn is_whole<K, V>(ctx: &mut Context, record: &Record<K, V>) -> bool {
    if record.value.is_none() {
        ctx.counters.null_values += 1;
    } else if record.key.is_none() {
        ctx.counters.null_keys += 1;
    }
    record.value.is_some() && record.key.is_some()
}

macro_rules! side {
    ($name:ident, $own:ident, $value:ident, $other:ident, $alone:expr, $both:expr) => {
        /// Where the records of one side arrive.
        pub(crate) struct $name<K, L, R, V>(pub(crate) Shared<StreamJoin<K, L, R, V>>);

        impl<K: Key, L: Data, R: Data, V> Process<K, $value> for $name<K, L, R, V> {
            fn process(&mut self, ctx: &mut Context, mut record: Record<K, $value>) -> Result<()> {
                let this = &mut *self.0.borrow_mut();
                if record.key.is_none() && this.$own.borrow().speaks() {
                    // Nothing can ever match it: it speaks at once (KIP-962).
                    let said = record.value.take().and_then(|value| (this.says)($alone(value)));
                    if said.is_none() {
                        ctx.counters.null_values += 1;
                        return Ok(());
                    }
                    return this.next.process(ctx, record.with_value(said));
                }
                if !is_whole(ctx, &record) {
                    return Ok(());
                }
                let mut key = std::mem::take(&mut this.key);
                key.clear();
                let keyed =
                    record.key.as_ref().is_some_and(|record_key| record_key.encode(&mut key));
                let mut found = Vec::new();
                let taken = if keyed {
                    take(ctx, &this.$own, &this.$other, &key, &mut record, &mut found)
                } else {
                    Ok(())
                };
                this.key = key;
                taken?;
                let (Some(value), Some((last, other))) = (record.value, found.pop()) else {
                    return Ok(());
                };
                for (timestamp, other) in found {
                    let timestamp = timestamp.max(record.timestamp);
                    this.say(ctx, record.key.clone(), timestamp, $both(value.clone(), other))?;
                }
                this.say(ctx, record.key, last.max(record.timestamp), $both(value, other))
            }
        }
    };
}

side!(LeftSide, left, L, right, Pair::Left, Pair::Both);
side!(RightSide, right, R, left, Pair::Right, |right, left| Pair::Both(left, right));

impl<K: Key, L: Data, R: Data, V> Timed for StreamJoin<K, L, R, V> {
    fn fire(&mut self, ctx: &mut Context) -> Result<()> {
        let time = self.inputs.time(&ctx.clocks);
        self.speak(ctx, time)?;
        self.left.borrow_mut().expire(time)?;
        self.right.borrow_mut().expire(time)
    }

    fn inputs(&self) -> &TimeInputs {
        &self.inputs
    }
}
