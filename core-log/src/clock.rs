//! Time, as something that is passed in.
//!
//! Why: decisions never read a clock, so that a test can say what time it is; and waiting is
//! measured by a clock that does not jump when somebody sets the date.
//!
//! Invariants
//! * `now_ms` may jump in both directions; nothing but record timestamps and retention may use it.
//! * `monotonic` never goes back; time-outs and intervals use it.
//!
//! Reference: Kafka `Time`, `MockTime`.

use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time of day, and how long something took.
pub trait Clock: Send + Sync + Debug + 'static {
    /// The time of day in milliseconds since 1970; it may jump.
    fn now_ms(&self) -> i64;

    /// Time since some fixed moment; it never goes back.
    fn monotonic(&self) -> Duration;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the machine's clock"
    )]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the machine's clock"
    )]
    fn now_ms(&self) -> i64 {
        let now = SystemTime::now();
        match now.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that stands still until a test moves it.
#[cfg(any(test, feature = "memory"))]
#[derive(Debug)]
pub struct ManualClock {
    times: crate::locks::Mutex<(i64, Duration)>,
}

#[cfg(any(test, feature = "memory"))]
impl ManualClock {
    /// A clock that shows `now_ms`.
    #[must_use]
    pub fn new(now_ms: i64) -> Self {
        Self { times: crate::locks::Mutex::new((now_ms, Duration::ZERO)) }
    }

    /// Sets the time of day, as an administrator would: monotonic time does not move.
    pub fn set(&self, now_ms: i64) {
        self.times.lock().0 = now_ms;
    }

    /// Lets `duration` pass, on both clocks.
    pub fn advance(&self, duration: Duration) {
        let mut times = self.times.lock();
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        times.0 = times.0.saturating_add(ms);
        times.1 = times.1.saturating_add(duration);
    }
}

#[cfg(any(test, feature = "memory"))]
impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.times.lock().0
    }

    fn monotonic(&self) -> Duration {
        self.times.lock().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_a_manual_clock_moves_the_date_only() {
        let clock = ManualClock::new(1_000);
        clock.advance(Duration::from_millis(5));
        clock.set(50);
        assert_eq!((clock.now_ms(), clock.monotonic()), (50, Duration::from_millis(5)));
    }

    #[test]
    fn the_system_clock_lives_after_2020_and_does_not_go_back() {
        let clock = SystemClock::new();
        assert!(clock.now_ms() > 1_577_836_800_000);
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
    }
}
