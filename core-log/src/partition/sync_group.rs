//! Many wait, one syncs: concurrent syncs of one file are grouped.
//!
//! Why: a sync costs milliseconds and covers everything written before it, so whoever waits first
//! leads, and all that were written meanwhile are covered by one sync more.
//!
//! ```text
//!   leader:  sync ........ | hands over to one who is not covered, then wakes all who are
//!   next:    parked ...... | gathers: those just woken write again, at most half a sync long | sync ..
//!   others:  parked ...... | return, write, park again
//! ```
//!
//! Why each waiter is parked by itself: woken through one lock they would come out of it one behind the
//! other, which takes longer than a sync of a fast disk. Why the next leader gathers, whether the lead was
//! handed over or found free: those who were just woken would otherwise miss its sync by a hair, and each
//! sync would cover half of all.
//!
//! Invariants
//! * `durable` only grows, and only by a sync that returned without an error.
//! * After one sync has failed no other is tried: the kernel may have marked its pages clean, and the
//!   next sync would succeed without them.
//! * Whoever is alone does not gather.
//!
//! On crash: gone with the process; what was synced is found out by recovery.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::ids::Offset;
use crate::locks::{self, Condvar, Mutex, Thread};

#[derive(Debug)]
struct State {
    durable: Offset,
    is_led: bool,
    has_failed: bool,
    waiting: Vec<Waiting>,
    /// How many there were around the last sync, and until when the next leader gathers as many again.
    goal: usize,
    gather_until: Duration,
}

/// Somebody who is parked until `call` says what to do.
#[derive(Debug)]
struct Waiting {
    target: Offset,
    thread: Thread,
    call: Arc<AtomicU8>,
}

/// How long a sync is put off for those whom the one before, which took so long, has just let go.
pub(crate) fn patience(took: Duration) -> Duration {
    // A slow disk, or a clock that leaps, must not make anybody wait much longer.
    (took / 2).min(Duration::from_millis(5))
}

const WAIT: u8 = 0;
const COVERED: u8 = 1;
const LEAD: u8 = 2;
const FAILED: u8 = 3;

impl Waiting {
    fn wake(self, call: u8) {
        self.call.store(call, Ordering::Release);
        self.thread.unpark();
    }
}

impl State {
    fn take_covered(&mut self) -> Vec<Waiting> {
        let durable = self.durable;
        self.waiting.extract_if(.., |waiting| waiting.target <= durable).collect()
    }
}

/// The durable end of one file.
#[derive(Debug)]
pub(crate) struct SyncGroup {
    state: Mutex<State>,
    /// Nobody leads any more.
    idle: Condvar,
    /// As many wait as the leader gathers.
    gathered: Condvar,
}

impl SyncGroup {
    /// Everything below `durable` is on the disk already.
    pub(crate) fn new(durable: Offset) -> Self {
        let state = State {
            durable,
            is_led: false,
            has_failed: false,
            waiting: Vec::new(),
            goal: 0,
            gather_until: Duration::ZERO,
        };
        Self { state: Mutex::new(state), idle: Condvar::new(), gathered: Condvar::new() }
    }

    /// The offset below which everything is on the disk.
    pub(crate) fn durable(&self) -> Offset {
        self.state.lock().durable
    }

    /// Waits until everything below `target` is on the disk. The caller that finds nobody syncing
    /// runs `sync`, which answers what it covered.
    pub(crate) fn wait(
        &self,
        target: Offset,
        clock: &dyn Clock,
        sync: impl Fn() -> Result<Offset>,
    ) -> Result<()> {
        loop {
            let mut state = self.state.lock();
            if state.durable >= target {
                return Ok(());
            }
            if state.has_failed {
                return Err(failed());
            }
            if state.is_led {
                let call = state.wait_for(target);
                if state.waiting.len() + 1 >= state.goal {
                    self.gathered.notify_one();
                }
                drop(state);
                match parked(&call) {
                    COVERED => return Ok(()),
                    LEAD => {}
                    _failed => return Err(failed()),
                }
            } else {
                state.is_led = true;
                drop(state);
            }
            self.gather(clock);
            self.lead(clock, &sync)?;
        }
    }

    fn lead(&self, clock: &dyn Clock, sync: &impl Fn() -> Result<Offset>) -> Result<()> {
        let begun = clock.monotonic();
        // Whoever took the lead over may have been stopped on the way.
        let is_stopped = self.state.lock().has_failed;
        let synced = if is_stopped { Err(failed()) } else { sync() };
        let ended = clock.monotonic();
        let mut state = self.state.lock();
        match &synced {
            Ok(durable) => state.durable = state.durable.max(*durable),
            Err(_) => state.has_failed = true,
        }
        let covered = state.take_covered();
        // This caller, and all who were covered or wait, may be there again in a moment.
        state.goal = state.waiting.len() + covered.len() + 1;
        state.gather_until = ended.saturating_add(patience(ended.saturating_sub(begun)));
        let (mut next, mut lost) = (None, Vec::new());
        if state.has_failed {
            lost = std::mem::take(&mut state.waiting);
        } else if !state.waiting.is_empty() {
            next = Some(state.waiting.remove(0));
        }
        state.is_led = next.is_some();
        drop(state);
        // Must be first: the others find a leader at work.
        next.into_iter().for_each(|next| next.wake(LEAD));
        covered.into_iter().for_each(|waiting| waiting.wake(COVERED));
        lost.into_iter().for_each(|waiting| waiting.wake(FAILED));
        self.idle.notify_all();
        synced.map(|_durable| ())
    }

    /// Lets those who were just woken come again, so that one sync covers them all.
    fn gather(&self, clock: &dyn Clock) {
        let mut state = self.state.lock();
        while state.waiting.len() + 1 < state.goal && !state.has_failed {
            let left = state.gather_until.saturating_sub(clock.monotonic());
            if left.is_zero() || self.gathered.wait_for(&mut state, left).timed_out() {
                break;
            }
        }
    }

    /// Somebody else has made everything below `durable` safe.
    pub(crate) fn raise(&self, durable: Offset) {
        let mut state = self.state.lock();
        state.durable = state.durable.max(durable);
        let covered = state.take_covered();
        drop(state);
        covered.into_iter().for_each(|waiting| waiting.wake(COVERED));
    }

    /// Waits until nobody syncs, and lets nobody begin.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.has_failed = true;
        self.gathered.notify_one();
        while state.is_led {
            self.idle.wait(&mut state);
        }
    }
}

impl State {
    fn wait_for(&mut self, target: Offset) -> Arc<AtomicU8> {
        let call = Arc::new(AtomicU8::new(WAIT));
        let thread = locks::current();
        self.waiting.push(Waiting { target, thread, call: Arc::clone(&call) });
        call
    }
}

/// Parks this thread until it is called.
fn parked(call: &AtomicU8) -> u8 {
    loop {
        match call.load(Ordering::Acquire) {
            WAIT => locks::park(),
            called => return called,
        }
    }
}

fn failed() -> Error {
    Error::LogCrashed { cause: "a sync failed".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, SystemClock};
    use std::cell::Cell;
    use std::sync::atomic::AtomicI64;

    #[test]
    fn what_is_durable_already_is_not_synced_again() {
        let group = SyncGroup::new(5);
        let clock = ManualClock::new(0);
        group.wait(5, &clock, || panic!("nothing to sync")).unwrap();
        group.wait(6, &clock, || Ok(9)).unwrap();
        group.wait(9, &clock, || panic!("nothing to sync")).unwrap();
    }

    #[test]
    fn after_a_failed_sync_a_second_one_is_not_tried() {
        let group = SyncGroup::new(0);
        let (syncs, clock) = (Cell::new(0), ManualClock::new(0));
        let sync = || {
            syncs.set(syncs.get() + 1);
            Err(Error::Closed)
        };
        assert!(matches!(group.wait(1, &clock, sync), Err(Error::Closed)));
        assert!(matches!(group.wait(1, &clock, sync), Err(Error::LogCrashed { .. })));
        assert_eq!((syncs.get(), group.durable()), (1, 0));
    }

    #[test]
    fn all_who_wait_are_covered_by_few_syncs() {
        let group = SyncGroup::new(0);
        let (syncs, clock) = (AtomicI64::new(0), ManualClock::new(0));
        std::thread::scope(|scope| {
            for target in 1..=8 {
                let (group, syncs, clock) = (&group, &syncs, &clock);
                scope.spawn(move || {
                    let sync = || {
                        syncs.fetch_add(1, Ordering::Relaxed);
                        Ok(8)
                    };
                    group.wait(target, clock, sync).unwrap();
                });
            }
        });
        assert_eq!(group.durable(), 8);
        assert_eq!(syncs.into_inner(), 1);
    }

    /// Writers that come again and again: each return is covered, leadership is never lost.
    #[test]
    fn leadership_passes_on_until_everybody_is_covered() {
        let group = SyncGroup::new(0);
        let (written, syncs, clock) = (AtomicI64::new(0), AtomicI64::new(0), SystemClock::new());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let target = written.fetch_add(1, Ordering::SeqCst) + 1;
                        let sync = || {
                            syncs.fetch_add(1, Ordering::Relaxed);
                            let end = written.load(Ordering::SeqCst);
                            std::thread::yield_now();
                            Ok(end)
                        };
                        group.wait(target, &clock, sync).unwrap();
                        assert!(group.durable() >= target);
                    }
                });
            }
        });
        assert_eq!(group.durable(), 4_000);
        assert!(syncs.into_inner() <= 4_000);
    }

    /// Also the one who finds nobody leading, and whatever the scheduler does meanwhile.
    #[test]
    fn a_leader_gathers_as_many_as_there_were_around_the_last_sync() {
        let (group, clock) = (SyncGroup::new(0), ManualClock::new(0));
        let around = |count: usize, end| {
            std::thread::scope(|scope| {
                for _ in 0..count {
                    let (group, clock) = (&group, &clock);
                    scope.spawn(move || {
                        let sync = || {
                            while group.state.lock().waiting.len() + 1 < count {
                                std::thread::yield_now();
                            }
                            clock.advance(Duration::from_millis(4));
                            Ok(end)
                        };
                        group.wait(end, clock, sync).unwrap();
                    });
                }
            });
        };
        around(3, 1);
        let until = clock.monotonic() + Duration::from_millis(2);
        {
            let mut state = group.state.lock();
            assert_eq!((state.goal, state.gather_until), (3, until));
            state.gather_until = Duration::from_secs(3_600);
        }
        let seen = AtomicI64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let (group, clock, seen) = (&group, &clock, &seen);
                scope.spawn(move || {
                    let sync = || {
                        let waiting = i64::try_from(group.state.lock().waiting.len()).unwrap();
                        seen.store(waiting, Ordering::Relaxed);
                        Ok(2)
                    };
                    group.wait(2, clock, sync).unwrap();
                });
            }
        });
        assert_eq!(seen.into_inner(), 2, "all of them were there when it was synced");
        around(1, 3);
        assert_eq!(group.state.lock().goal, 1, "whoever is alone does not gather");
    }

    #[test]
    fn all_who_wait_for_a_sync_that_fails_are_told_and_stopping_waits_for_it() {
        let group = SyncGroup::new(0);
        let (syncs, clock) = (AtomicI64::new(0), ManualClock::new(0));
        std::thread::scope(|scope| {
            let wait = |target| {
                let (group, syncs, clock) = (&group, &syncs, &clock);
                scope.spawn(move || {
                    let sync = || {
                        syncs.fetch_add(1, Ordering::Relaxed);
                        while group.state.lock().waiting.len() < 3 {
                            std::thread::yield_now();
                        }
                        Err(Error::Closed)
                    };
                    group.wait(target, clock, sync)
                })
            };
            let waiters: Vec<_> = (1..=4).map(wait).collect();
            let outcomes = waiters.into_iter().map(|waiter| waiter.join().unwrap());
            assert_eq!(outcomes.filter(Result::is_err).count(), 4);
            group.stop();
        });
        assert_eq!((syncs.into_inner(), group.durable()), (1, 0));
    }
}
