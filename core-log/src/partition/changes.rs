//! Tells waiting readers that something became readable.
//!
//! Why: readers must neither poll nor miss a wake-up. A reader remembers the counter it saw, looks at
//! the log, and waits only while the counter has not moved since. A thread waits in `wait`; a task leaves
//! its waker and needs no thread.
//!
//! Invariants
//! * The counter moves after the change is visible. A writer that sees no waiter takes no lock.
//! * A waker is woken once for each time that it was left; wakers run without the lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use crate::locks::{Condvar, Mutex};

/// A counter of changes that can be waited for.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    counter: AtomicU64,
    waiting: AtomicUsize,
    tasks: Mutex<Tasks>,
    moved: Condvar,
}

/// Tasks that wait, each in a place of its own.
#[derive(Debug, Default)]
struct Tasks {
    places: u64,
    waiting: BTreeMap<u64, Waker>,
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
            let mut tasks = self.tasks.lock();
            self.moved.notify_all();
            let woken = std::mem::take(&mut tasks.waiting);
            self.waiting.fetch_sub(woken.len(), Ordering::SeqCst);
            drop(tasks);
            woken.into_values().for_each(Waker::wake);
        }
    }

    /// A place in which a task can leave its waker.
    pub(crate) fn place(&self) -> u64 {
        let mut tasks = self.tasks.lock();
        tasks.places += 1;
        tasks.places
    }

    /// Wakes the task when the counter moves from `seen`; false: it has moved already, and nothing is left.
    pub(crate) fn wake(&self, place: u64, seen: u64, waker: &Waker) -> bool {
        let mut tasks = self.tasks.lock();
        if tasks.waiting.insert(place, waker.clone()).is_none() {
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
        // Must be AFTER the waiter is counted, or else a writer could see neither.
        if self.seen() == seen {
            return true;
        }
        drop(tasks);
        self.forget(place);
        false
    }

    /// Nobody waits in this place any more.
    pub(crate) fn forget(&self, place: u64) {
        if self.tasks.lock().waiting.remove(&place).is_some() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Waits until the counter differs from `seen`, at most `timeout`; answers the counter.
    pub(crate) fn wait(&self, seen: u64, timeout: Duration) -> u64 {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut held = self.tasks.lock();
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

    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_waiting_task_is_woken_once_and_one_that_is_gone_is_not() {
        let changes = Changes::default();
        let count = std::sync::Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(std::sync::Arc::clone(&count));
        let (here, gone) = (changes.place(), changes.place());
        assert!(changes.wake(here, 0, &waker) && changes.wake(here, 0, &waker));
        assert!(changes.wake(gone, 0, &waker));
        changes.forget(gone);
        changes.notify();
        changes.notify();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(!changes.wake(here, 0, &waker), "the counter has moved: look again");
        assert_eq!(changes.waiting.load(Ordering::SeqCst), 0);
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
