//! How much may be written in a second. Pure.
//!
//! Why a debt: a batch may be taken when nothing is owed, and then owes the time that it is worth. So
//! a batch of any size passes, and over time no more than the rate does.
//!
//! Invariants
//! * Time that nobody used is not saved up: after a pause there is no burst.

use std::time::Duration;

/// A rate, and when the next unit may pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateLimit {
    per_second: Option<u64>,
    free_at: Duration,
}

impl RateLimit {
    /// `None` is no limit.
    pub(super) fn new(per_second: Option<u64>) -> Self {
        Self { per_second, free_at: Duration::ZERO }
    }

    /// From when on the next batch may pass.
    pub(super) fn free_at(&self) -> Duration {
        self.free_at
    }

    /// So many units pass at `now`.
    pub(super) fn take(&mut self, units: u64, now: Duration) {
        let Some(per_second) = self.per_second else { return };
        let nanos = u128::from(units) * 1_000_000_000 / u128::from(per_second.max(1));
        let worth = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free_at = self.free_at.max(now).saturating_add(worth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_time_no_more_than_the_rate_passes_and_pauses_are_not_saved() {
        let mut limit = RateLimit::new(Some(100));
        let (mut now, mut passed) = (Duration::from_secs(50), 0);
        while now < Duration::from_secs(60) {
            if limit.free_at() <= now {
                limit.take(7, now);
                passed += 7;
            }
            now += Duration::from_millis(1);
        }
        assert!((993..=1_007).contains(&passed), "{passed} in ten seconds");
    }

    #[test]
    fn without_a_rate_everything_passes() {
        let mut limit = RateLimit::new(None);
        limit.take(u64::MAX, Duration::from_secs(1));
        assert_eq!(limit.free_at(), Duration::ZERO);
    }
}
