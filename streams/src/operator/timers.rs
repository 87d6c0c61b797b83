//! Durable timers: what is due when, by event time and by the clock, as rows in the order in which they fire.
//!
//! ```text
//!   key     +------------------+----------------+-----+        as the key (String, i64, K) of a topic
//!           | "event", "clock" | due (8, i64)   | key |
//!           +------------------+----------------+-----+
//!   value   the time when it was set, i64
//!
//!   pop:    ready (due rows that were listed together) -> else the rows from `lower` on -> ready
//! ```
//!
//! Why the due time in front of the key: what is due is then the beginning of a range, and a timer that is
//! set twice is one row.
//!
//! Invariants
//! * no row that is not in `ready` is due before `lower`; `None`: there is none.
//! * a timer is deleted in the transaction in which it fires: it fires once.
//!
//! On crash: rows come back from the changelog, with everything else that the transaction did.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::error::Result;
use crate::ids::StoreName;
use crate::key::{decode_i64, encode_i64};
use crate::processor::{Changelog, RowKinds, Stateful};
use crate::store::{Checkpoint, OrderedOverlay, RowCache, StoreError, Stored};

/// How many due timers are listed at a time.
const DUE_AT_A_TIME: usize = 256;

/// By which time a timer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimerKind {
    /// Event time: it fires when the processor's time, the smallest clock of its inputs, has passed it.
    Event,
    /// The clock on the wall.
    Clock,
}

impl TimerKind {
    fn prefix(self) -> &'static [u8; 7] {
        match self {
            Self::Event => b"event\0\0",
            Self::Clock => b"clock\0\0",
        }
    }
}

#[derive(Default)]
struct Lane {
    ready: BTreeSet<Vec<u8>>,
    lower: Option<i64>,
}

/// A timer that is due, and no longer kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) at: i64,
    pub(crate) key: Vec<u8>,
    /// The time when it was set.
    pub(crate) set_at: i64,
}

/// The timers of one processor in one task.
pub(crate) struct TimerRows {
    rows: OrderedOverlay<i64>,
    event: Lane,
    clock: Lane,
}

fn row_of(kind: TimerKind, at: i64, key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(15 + key.len());
    row.extend_from_slice(kind.prefix());
    row.extend_from_slice(&encode_i64(at));
    row.extend_from_slice(key);
    row
}

fn split(kind: TimerKind, row: &[u8]) -> Option<(i64, &[u8])> {
    let (at, key) = row.strip_prefix(kind.prefix())?.split_first_chunk::<8>()?;
    Some((decode_i64(*at), key))
}

/// The kind, the due time and the key of a timer's row.
pub(crate) fn split_timer(row: &[u8]) -> Option<(&'static str, i64, &[u8])> {
    let event = split(TimerKind::Event, row).map(|(at, key)| ("event", at, key));
    event.or_else(|| split(TimerKind::Clock, row).map(|(at, key)| ("clock", at, key)))
}

impl TimerRows {
    pub(crate) fn new(store: StoreName) -> Self {
        let (event, clock) = (Lane::default(), Lane::default());
        Self { rows: OrderedOverlay::new(store), event, clock }
    }

    fn lane(&mut self, kind: TimerKind) -> &mut Lane {
        match kind {
            TimerKind::Event => &mut self.event,
            TimerKind::Clock => &mut self.clock,
        }
    }

    /// No timer is due before this.
    pub(crate) fn earliest(&self, kind: TimerKind) -> Option<i64> {
        let lane = match kind {
            TimerKind::Event => &self.event,
            TimerKind::Clock => &self.clock,
        };
        let ready = lane.ready.first().and_then(|row| split(kind, row)).map(|(at, _)| at);
        ready.into_iter().chain(lane.lower).min()
    }

    /// Sets a timer; one that is set already stays as it is.
    pub(crate) fn set(&mut self, kind: TimerKind, at: i64, key: &[u8], now: i64) -> Result<()> {
        let row = row_of(kind, at, key);
        if self.rows.get(&row)?.is_some() {
            return Ok(());
        }
        self.rows.put(&row, Some(Stored { timestamp: now, value: now }));
        let lane = self.lane(kind);
        if lane.ready.last().is_some_and(|last| row < *last) {
            lane.ready.insert(row);
        } else {
            lane.lower = Some(lane.lower.map_or(at, |lower| lower.min(at)));
        }
        Ok(())
    }

    /// Takes a timer back; whether it was set.
    pub(crate) fn cancel(&mut self, kind: TimerKind, at: i64, key: &[u8]) -> Result<bool> {
        let row = row_of(kind, at, key);
        let was_set = self.rows.get(&row)?.is_some();
        if was_set {
            self.rows.put(&row, None);
            self.lane(kind).ready.remove(&row);
        }
        Ok(was_set)
    }

    /// The first timer that is due at `time`, in the order of (time, key). It is not kept any more.
    pub(crate) fn pop(&mut self, kind: TimerKind, time: i64) -> Result<Option<Due>> {
        if self.lane(kind).ready.is_empty() {
            self.list(kind, time)?;
        }
        let Some(row) = self.lane(kind).ready.pop_first() else { return Ok(None) };
        let set_at = self.rows.get(&row)?.map_or(i64::MIN, |set| set.value);
        self.rows.put(&row, None);
        let (at, key) = split(kind, &row).ok_or_else(|| self.damaged(&row))?;
        Ok(Some(Due { at, key: key.to_vec(), set_at }))
    }

    /// Lists timers that are due at `time`, and looks when the next one is.
    fn list(&mut self, kind: TimerKind, time: i64) -> Result<()> {
        let Some(lower) = self.lane(kind).lower.filter(|&lower| lower <= time) else {
            return Ok(());
        };
        let (ready, next) = self.from(kind, lower, time)?;
        *self.lane(kind) = Lane { ready, lower: next };
        Ok(())
    }

    /// Timers from a time on that are due at another, and the time of the one after them.
    fn from(
        &self,
        kind: TimerKind,
        from: i64,
        time: i64,
    ) -> Result<(BTreeSet<Vec<u8>>, Option<i64>)> {
        let (mut ready, mut next, mut strange) = (BTreeSet::new(), None, None);
        let mut end = kind.prefix().to_vec();
        end[6] = 1;
        self.rows.scan(&row_of(kind, from, &[]), Some(&end), &mut |row, _| {
            match split(kind, row) {
                Some((at, _)) if at <= time && ready.len() < DUE_AT_A_TIME => {
                    ready.insert(row.to_vec());
                    return ControlFlow::Continue(());
                }
                Some((at, _)) => next = Some(at),
                None => strange = Some(row.to_vec()),
            }
            ControlFlow::Break(())
        })?;
        strange.map_or(Ok((ready, next)), |row| Err(self.damaged(&row)))
    }

    fn damaged(&self, row: &[u8]) -> crate::error::Error {
        let reason = format!("{} is no timer", row.escape_ascii());
        StoreError::Corrupt { store: self.rows.store().clone(), reason }.into()
    }
}

impl Stateful for TimerRows {
    fn store(&self) -> &StoreName {
        self.rows.store()
    }

    fn open(&mut self, rows: RowCache) -> Result<()> {
        self.rows.open(rows);
        for kind in [TimerKind::Event, TimerKind::Clock] {
            // Nothing is due before the beginning of time: only the next one is looked for.
            let (ready, next) = self.from(kind, i64::MIN, i64::MIN)?;
            *self.lane(kind) = Lane { ready, lower: next };
        }
        Ok(())
    }

    fn row_kinds(&self) -> RowKinds {
        RowKinds::One(self.rows.kind())
    }

    fn prepare(&mut self, changelog: &mut Changelog<'_>) -> Result<()> {
        self.rows.prepare(|timestamp, key, value| changelog.push(timestamp, key, value))
    }

    fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) -> Result<()> {
        self.rows.committed(checkpoint, now_ms);
        Ok(())
    }

    fn changed_rows(&self) -> usize {
        self.rows.len()
    }

    fn with_rows(&mut self, look: &mut dyn FnMut(&mut RowCache) -> Result<()>) -> Result<()> {
        look(self.rows.behind())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::{Backend, CacheOptions, Flusher, MemoryBackend};

    fn opened() -> TimerRows {
        let name = StoreName::new("timers").unwrap();
        let store = MemoryBackend::new(0).open(std::slice::from_ref(&name)).unwrap().remove(0);
        let mut timers = TimerRows::new(name);
        let flusher = Flusher::thread().unwrap();
        timers.open(RowCache::open(store, 0, CacheOptions::default(), flusher)).unwrap();
        timers
    }

    fn commit(timers: &mut TimerRows, offset: i64) {
        timers.rows.prepare(|_, _, _| Ok::<_, StoreError>(())).unwrap();
        let checkpoint = Checkpoint { log_id: [0; 16], topic_id: [0; 16], leader_epoch: 0, offset };
        timers.rows.committed(Some(checkpoint), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(i64, u8),
        Cancel(i64, u8),
        /// Fires at most so many of those that are due then.
        Fire(i64, u8),
        Commit,
        Flush,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let (at, key) = (-20_i64..20, 0u8..3);
        let step = prop_oneof![
            (at.clone(), key.clone()).prop_map(|(at, key)| Step::Set(at, key)),
            (at.clone(), key).prop_map(|(at, key)| Step::Cancel(at, key)),
            (at, 0u8..6).prop_map(|(at, most)| Step::Fire(at, most)),
            Just(Step::Commit),
            Just(Step::Flush),
        ];
        prop::collection::vec(step, 0..120)
    }

    proptest! {
        /// Timers fire as a sorted set says, whatever is set or taken back between two of them.
        #[test]
        fn what_is_due_comes_in_order_and_once(steps in steps()) {
            let (mut timers, mut model) = (opened(), BTreeSet::new());
            // Of the other kind: never to be seen.
            timers.set(TimerKind::Clock, -30, b"other", 0).unwrap();
            let mut now = i64::MIN;
            for (i, step) in (1..).zip(steps) {
                match step {
                    Step::Set(at, key) => {
                        timers.set(TimerKind::Event, at, &[key], 7).unwrap();
                        model.insert((at, vec![key]));
                    }
                    Step::Cancel(at, key) => {
                        let was_set = timers.cancel(TimerKind::Event, at, &[key]).unwrap();
                        prop_assert_eq!(was_set, model.remove(&(at, vec![key])));
                    }
                    Step::Fire(time, most) => {
                        // A task's time never goes back.
                        now = now.max(time);
                        for _ in 0..most {
                            let due = timers.pop(TimerKind::Event, now).unwrap();
                            let wanted = model.first().filter(|(at, _)| *at <= now).cloned();
                            model.retain(|timer| Some(timer) != wanted.as_ref());
                            prop_assert_eq!(due.map(|due| (due.at, due.key)), wanted);
                        }
                    }
                    Step::Commit => commit(&mut timers, i),
                    Step::Flush => timers.rows.behind().flush_all().unwrap(),
                }
                let first = model.first().map(|(at, _)| *at);
                let earliest = timers.earliest(TimerKind::Event);
                prop_assert!(first.is_none_or(|first| earliest.is_some_and(|e| e <= first)));
            }
            prop_assert_eq!(timers.earliest(TimerKind::Clock), Some(-30));
        }
    }
}
