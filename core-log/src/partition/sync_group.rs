//! Many wait, one syncs: concurrent syncs of one file are grouped.
//!
//! Why: a sync costs milliseconds and covers everything written before it, so whoever waits first
//! leads, and all that were written meanwhile are covered by one sync more.
//!
//! Invariants
//! * `durable` only grows, and only by a sync that returned without an error.
//! * After one sync has failed no other is tried: the kernel may have marked its pages clean, and the
//!   next sync would succeed without them.
//!
//! On crash: gone with the process; what was synced is found out by recovery.

use crate::locks::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::ids::Offset;

#[derive(Debug)]
struct State {
    durable: Offset,
    is_led: bool,
    has_failed: bool,
}

/// The durable end of one file.
#[derive(Debug)]
pub(crate) struct SyncGroup {
    state: Mutex<State>,
    done: Condvar,
}

impl SyncGroup {
    /// Everything below `durable` is on the disk already.
    pub(crate) fn new(durable: Offset) -> Self {
        Self {
            state: Mutex::new(State { durable, is_led: false, has_failed: false }),
            done: Condvar::new(),
        }
    }

    /// The offset below which everything is on the disk.
    pub(crate) fn durable(&self) -> Offset {
        self.state.lock().durable
    }

    /// Waits until everything below `target` is on the disk. The caller that finds nobody syncing
    /// runs `sync`, which answers what it covered.
    pub(crate) fn wait(&self, target: Offset, sync: impl Fn() -> Result<Offset>) -> Result<()> {
        let mut state = self.state.lock();
        loop {
            if state.durable >= target {
                return Ok(());
            }
            if state.has_failed {
                return Err(Error::LogCrashed { cause: "a sync failed".to_owned() });
            }
            if state.is_led {
                self.done.wait(&mut state);
                continue;
            }
            state.is_led = true;
            drop(state);
            let synced = sync();
            state = self.state.lock();
            state.is_led = false;
            match &synced {
                Ok(durable) => state.durable = state.durable.max(*durable),
                Err(_) => state.has_failed = true,
            }
            self.done.notify_all();
            synced?;
        }
    }

    /// Somebody else has made everything below `durable` safe.
    pub(crate) fn raise(&self, durable: Offset) {
        let mut state = self.state.lock();
        state.durable = state.durable.max(durable);
        self.done.notify_all();
    }

    /// Waits until nobody syncs, and lets nobody begin.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.has_failed = true;
        while state.is_led {
            self.done.wait(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn what_is_durable_already_is_not_synced_again() {
        let group = SyncGroup::new(5);
        group.wait(5, || panic!("nothing to sync")).unwrap();
        group.wait(6, || Ok(9)).unwrap();
        group.wait(9, || panic!("nothing to sync")).unwrap();
    }

    #[test]
    fn after_a_failed_sync_a_second_one_is_not_tried() {
        let group = SyncGroup::new(0);
        let syncs = Cell::new(0);
        let sync = || {
            syncs.set(syncs.get() + 1);
            Err(Error::Closed)
        };
        assert!(matches!(group.wait(1, sync), Err(Error::Closed)));
        assert!(matches!(group.wait(1, sync), Err(Error::LogCrashed { .. })));
        assert_eq!((syncs.get(), group.durable()), (1, 0));
    }

    #[test]
    fn all_who_wait_are_covered_by_few_syncs() {
        let group = SyncGroup::new(0);
        let syncs = std::sync::atomic::AtomicI64::new(0);
        std::thread::scope(|scope| {
            for target in 1..=8 {
                let (group, syncs) = (&group, &syncs);
                scope.spawn(move || {
                    group
                        .wait(target, || {
                            syncs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            Ok(8)
                        })
                        .unwrap();
                });
            }
        });
        assert_eq!(group.durable(), 8);
        assert_eq!(syncs.into_inner(), 1);
    }
}
