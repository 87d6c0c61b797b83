//! Tells waiting readers that something became readable.
//!
//! Why: readers must neither poll nor miss a wake-up. A reader remembers the counter it saw, looks at
//! the log, and waits only while the counter has not moved since.
//!
//! Invariants
//! * The counter moves after the change is visible. A writer that sees no waiter takes no lock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A counter of changes that can be waited for.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    counter: AtomicU64,
    waiting: AtomicUsize,
    lock: Mutex<()>,
    moved: Condvar,
}

impl Changes {
    /// How many changes there were.
    pub(crate) fn seen(&self) -> u64 {
        self.counter.load(Ordering::SeqCst)
    }

    /// Something became readable.
    pub(crate) fn notify(&self) {
        // SeqCst on both sides: either this load sees the waiter, or the waiter sees the counter.
        self.counter.fetch_add(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let _held = self.lock.lock();
            self.moved.notify_all();
        }
    }

    /// Waits until the counter differs from `seen`, at most `timeout`; answers the counter.
    pub(crate) fn wait(&self, seen: u64, timeout: Duration) -> u64 {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut held = self.lock.lock();
        // A wake-up without a change is rare and harmless: the caller looks again.
        if self.seen() == seen {
            self.moved.wait_for(&mut held, timeout);
        }
        drop(held);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.seen()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_before_the_wait_is_not_missed() {
        let changes = Changes::default();
        let seen = changes.seen();
        changes.notify();
        assert_eq!(changes.wait(seen, Duration::from_secs(3600)), seen + 1);
    }

    #[test]
    fn a_waiting_reader_is_woken() {
        let changes = Changes::default();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| changes.wait(0, Duration::from_secs(3600)));
            while changes.waiting.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            changes.notify();
            assert_eq!(waiter.join().unwrap(), 1);
        });
    }
}
