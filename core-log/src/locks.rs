//! The locks and waits of this crate: those of `parking_lot` and `std`, or, for tests of interleavings, locks whose holder a
//! test chooses.
//!
//! Why here: every lock and every wait must be one that the explorer sees, or else it would explore
//! nothing behind it.
//!
//! Invariants
//! * Without the feature `shuttle` these are the types of `parking_lot`, nothing around them.

#[cfg(feature = "shuttle")]
pub(crate) use chosen::{Condvar, Mutex, MutexGuard, RwLock, park_timeout};
#[cfg(not(feature = "shuttle"))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
#[cfg(feature = "shuttle")]
pub(crate) use shuttle::thread::{Thread, current, park};
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::thread::{Thread, current, park, park_timeout};

/// The same calls on the locks of `shuttle`. A thread that panics with a lock fails the test, so none
/// is ever found poisoned.
#[cfg(feature = "shuttle")]
mod chosen {
    use std::fmt;
    use std::ops::{Deref, DerefMut};
    use std::time::Duration;

    use shuttle::sync;

    const NOT_POISONED: &str = "a thread that panics ends the test";

    /// No time passes: whoever waits for a while lets others go on.
    pub(crate) fn park_timeout(_timeout: Duration) {
        shuttle::thread::yield_now();
    }

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
