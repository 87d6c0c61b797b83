//! Event time: windows, lateness, and how far an operator is. Pure.
//!
//! Why pure: the rule by which a record is late and the rule by which a window closes must never
//! disagree, whichever thread, task or restart applies them.
//!
//! ```text
//!   late:    source time   >= window end + grace      (the clock of the record's own partition)
//!   closes:  operator time >= window end + grace      (the smallest clock of all inputs)
//! ```
//!
//! For windows that end with a record (sliding, session) the exclusive end lies behind it; see `windows`.
//!
//! The operator's time is never above the source time of a record that can still come, so a record
//! that arrives after its window has closed is late by the first rule.
//!
//! Invariants
//! * sums of times are taken in `i128`, so timestamps at `i64::MIN` and `i64::MAX` are inputs like any
//!   other: a window that would start before `i64::MIN` starts there, one that would end after
//!   `i64::MAX` is shown as ending there and never closes.
//!
//! Reference: Kafka `TimeWindows`; lateness by source time is ours.

mod in_force;
mod windows;

use std::time::Duration;

pub(crate) use in_force::{InForce, Period};
pub(crate) use windows::Shape;
pub use windows::{
    Hopping, Session, Since, Sliding, Tumbling, Windows, hopping, session, since, sliding, tumbling,
};

/// A duration of `n` seconds.
#[must_use]
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A duration of `n` milliseconds.
#[must_use]
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A duration of `n` minutes.
#[must_use]
pub const fn mins(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// A duration of `n` hours.
#[must_use]
pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(3_600 * n)
}

/// A duration of `n` days.
#[must_use]
pub const fn days(n: u64) -> Duration {
    Duration::from_secs(86_400 * n)
}

/// Whole milliseconds of a duration, at most `i64::MAX`.
#[must_use]
pub(crate) fn duration_ms(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

/// The two times of a record, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Its event time.
    pub(crate) timestamp: i64,
    /// The clock of its source partition when it was read.
    pub(crate) source_time: i64,
}

/// How far apart in event time two records may be that a stream-stream join brings together.
///
/// Made by [`within`], or from a `Duration`: that far in both directions, grace 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinWindow {
    before_ms: i64,
    after_ms: i64,
    grace_ms: i64,
}

/// Records of the right side at most this much earlier or later than the left one.
///
/// A left record at `t` meets right records from `t - before` to `t + after`, both included.
///
/// ```
/// use streams::prelude::*;
/// let window = within(mins(5)).before(mins(0)).grace(secs(10));
/// assert_eq!(window.to_string(), "right 0s before to 5m after left, grace 10s");
/// assert_eq!(JoinWindow::from(mins(5)), within(mins(5)));
/// ```
#[must_use]
pub fn within(difference: Duration) -> JoinWindow {
    let ms = duration_ms(difference);
    JoinWindow { before_ms: ms, after_ms: ms, grace_ms: 0 }
}

impl From<Duration> for JoinWindow {
    fn from(difference: Duration) -> Self {
        within(difference)
    }
}

impl JoinWindow {
    /// How much earlier than the left record a right one may be.
    #[must_use]
    pub fn before(self, before: Duration) -> Self {
        Self { before_ms: duration_ms(before), ..self }
    }

    /// How much later than the left record a right one may be.
    #[must_use]
    pub fn after(self, after: Duration) -> Self {
        Self { after_ms: duration_ms(after), ..self }
    }

    /// How much longer, by the clock of its own source partition, a record is still taken.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace_ms: duration_ms(grace), ..self }
    }

    /// How far before its own timestamp a record of a side meets the other side, and how far after.
    pub(crate) fn reach(&self, side: JoinSide) -> (i64, i64) {
        match side {
            JoinSide::Left => (self.before_ms, self.after_ms),
            JoinSide::Right => (self.after_ms, self.before_ms),
        }
    }

    /// When a record of a side with this timestamp speaks, if nothing has matched it.
    pub(crate) fn deadline(&self, side: JoinSide, timestamp: i64) -> i128 {
        let (_, after_ms) = self.reach(side);
        i128::from(timestamp) + i128::from(after_ms) + 1 + i128::from(self.grace_ms)
    }

    /// How long a record with this timestamp is kept where none speaks alone.
    pub(crate) fn retention(&self, timestamp: i64) -> i128 {
        let reach = i128::from(self.before_ms) + i128::from(self.after_ms);
        i128::from(timestamp) + reach + 1 + i128::from(self.grace_ms)
    }

    /// The longest way between two records that meet, both ends included.
    pub(crate) fn width_ms(&self) -> i64 {
        self.before_ms.saturating_add(self.after_ms).saturating_add(1)
    }

    /// By how much the watermark behind the join lags the operator's time where records speak alone:
    /// they do so that late, with their own timestamp.
    pub(crate) fn lag_ms(&self) -> i64 {
        self.before_ms.max(self.after_ms).saturating_add(self.grace_ms)
    }

    /// The same where none speaks alone: two records of one time may meet that late.
    pub(crate) fn inner_lag_ms(&self) -> i64 {
        self.before_ms.saturating_add(self.after_ms).saturating_add(self.grace_ms)
    }
}

impl std::fmt::Display for JoinWindow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (before, after, grace) = (Ms(self.before_ms), Ms(self.after_ms), Ms(self.grace_ms));
        write!(f, "right {before} before to {after} after left, grace {grace}")
    }
}

/// The two sides of a stream-stream join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum JoinSide {
    Left,
    Right,
}

/// A stretch of event time, the end exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

fn clamp(t: i128) -> i64 {
    i64::try_from(t).unwrap_or(if t < 0 { i64::MIN } else { i64::MAX })
}

/// Milliseconds as a person writes them.
pub(crate) struct Ms(pub(crate) i64);

impl std::fmt::Display for Ms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.0;
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.iter().find(|(unit, _)| ms != 0 && ms % unit == 0) {
            Some((unit, name)) => write!(f, "{}{name}", ms / unit),
            None if ms == 0 => f.write_str("0s"),
            None => write!(f, "{ms}ms"),
        }
    }
}

/// A moment as a person reads it: a date, or milliseconds where there is none.
pub(crate) struct Instant(pub(crate) i64);

impl std::fmt::Display for Instant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) if self.0.rem_euclid(1_000) == 0 => write!(f, "{time}"),
            // All three digits, so that times in one column are read at a glance.
            Ok(time) => write!(f, "{}", time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")),
            Err(_no_date) => write!(f, "{} ms", self.0),
        }
    }
}

/// How far the inputs of an operator are: the smallest of their clocks, each less its lag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimeInputs(pub(crate) Vec<(usize, i64)>);

impl TimeInputs {
    /// The operator's time over the clocks of the task's inputs; `i64::MIN` while one is unknown.
    pub(crate) fn time(&self, clocks: &[i64]) -> i64 {
        self.0.iter().map(|&(input, lag)| lagged(clocks[input], lag)).min().unwrap_or(i64::MIN)
    }

    /// The same inputs behind an operator that lags them.
    pub(crate) fn behind(&self, lag_ms: i64) -> Self {
        Self(self.0.iter().map(|&(input, lag)| (input, lag.saturating_add(lag_ms))).collect())
    }

    /// The inputs of both.
    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut all = self.0.clone();
        all.extend_from_slice(&other.0);
        all.sort_unstable();
        all.dedup();
        Self(all)
    }
}

/// What an operator with windows says of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenWindows {
    /// No open window ends before this; `None`: none is open.
    pub(crate) earliest_end: Option<i64>,
    /// Windows that end up to here are closed; `i64::MIN` while a clock is unknown.
    pub(crate) closed_to: i64,
}

/// A clock that runs `lag` behind; an unknown clock stays unknown.
pub(crate) fn lagged(clock: i64, lag: i64) -> i64 {
    clock.saturating_sub(lag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_as_far_as_its_slowest_input() {
        let inputs = TimeInputs(vec![(0, 0), (1, 10)]);
        assert_eq!(inputs.time(&[100, 105]), 95);
        assert_eq!(inputs.time(&[100, i64::MIN]), i64::MIN);
        assert_eq!(inputs.behind(5).time(&[100, 105]), 90);
    }
}
