//! The locks and waits of this crate: those of `parking_lot` and `std`, or, for tests of interleavings, locks whose holder a
//! test chooses.
//!
//! Why here: every lock and every wait must be one that the explorer sees, or else it would explore
//! nothing behind it.
//!
//! Invariants
//! * Without the feature `shuttle` these are the types of `parking_lot`, nothing around them, and for
//!   a [`Crowd`] those of `std`.

#[cfg(feature = "shuttle")]
pub(crate) use chosen::{Condvar, Mutex, MutexGuard, RwLock};
#[cfg(not(feature = "shuttle"))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
#[cfg(feature = "shuttle")]
use shuttle::sync;
#[cfg(feature = "shuttle")]
pub(crate) use shuttle::thread::{Thread, current, park};
#[cfg(not(feature = "shuttle"))]
use std::sync;
use std::sync::PoisonError;
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::thread::{Thread, current, park};
use std::time::Duration;

/// A value for whose change many wait. One call of the system wakes them all; a [`Condvar`] wakes the
/// first, and each lets out the next, which for 64 takes longer than a sync.
#[derive(Debug, Default)]
pub(crate) struct Crowd<T> {
    value: sync::Mutex<T>,
    changed: sync::Condvar,
}

impl<T> Crowd<T> {
    /// The value. A panic of another holder is no reason to panic here: what is kept in a crowd is
    /// whole whenever it is let go.
    pub(crate) fn lock(&self) -> sync::MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the value is so, at most as long as `timeout` says.
    pub(crate) fn wait_while<'a>(
        &self,
        value: sync::MutexGuard<'a, T>,
        timeout: Option<Duration>,
        is_so: impl FnMut(&mut T) -> bool,
    ) -> sync::MutexGuard<'a, T> {
        match timeout {
            None => self.changed.wait_while(value, is_so).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                let waited = self.changed.wait_timeout_while(value, timeout, is_so);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Wakes all who wait. Best called without the lock: they need it.
    pub(crate) fn notify_all(&self) {
        self.changed.notify_all();
    }
}

/// Runs a future on this thread.
#[cfg(test)]
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(current())));
    let (mut future, mut context) = (std::pin::pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => park(),
        }
    }
}

/// The same calls on the locks of `shuttle`. A thread that panics with a lock fails the test, so none
/// is ever found poisoned.
#[cfg(feature = "shuttle")]
mod chosen {
    use std::fmt;
    use std::ops::{Deref, DerefMut};
    use std::time::Duration;

    use shuttle::sync;

    const NOT_POISONED: &str = "a thread that panics ends the test";

    #[derive(Default)]
    pub(crate) struct Mutex<T>(sync::Mutex<T>);

    /// Empty only inside of a wait.
    pub(crate) struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect(NOT_POISONED)))
        }
    }

    impl<T> fmt::Debug for Mutex<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Mutex")
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_deref().expect("it is not waiting")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_deref_mut().expect("it is not waiting")
        }
    }

    #[derive(Default)]
    pub(crate) struct RwLock<T>(sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(sync::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> sync::RwLockReadGuard<'_, T> {
            self.0.read().expect(NOT_POISONED)
        }

        pub(crate) fn write(&self) -> sync::RwLockWriteGuard<'_, T> {
            self.0.write().expect(NOT_POISONED)
        }

        pub(crate) fn try_write(&self) -> Option<sync::RwLockWriteGuard<'_, T>> {
            self.0.try_write().ok()
        }
    }

    impl<T> fmt::Debug for RwLock<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("RwLock")
        }
    }

    #[derive(Default)]
    pub(crate) struct Condvar(sync::Condvar);

    /// Whether a wait ended by its time: here never, as no time passes.
    pub(crate) struct TimedOut;

    impl TimedOut {
        pub(crate) fn timed_out(&self) -> bool {
            false
        }
    }

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let held = guard.0.take().expect("it is not waiting");
            guard.0 = Some(self.0.wait(held).expect(NOT_POISONED));
        }

        pub(crate) fn wait_for<T>(
            &self,
            guard: &mut MutexGuard<'_, T>,
            _timeout: Duration,
        ) -> TimedOut {
            self.wait(guard);
            TimedOut
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    impl fmt::Debug for Condvar {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Condvar")
        }
    }
}
