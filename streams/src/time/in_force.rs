//! Which windows a store had, and from when on: what tells a replay who was late then. Pure.
//!
//! ```text
//!   a job starts with another grace:     all clocks of its sources lie between
//!                                        time                read_to
//!   event time  ----- period 0 decides ---|-- both do, perhaps --|--- period 1 decides -----> now
//! ```
//!
//! Why by event time: what decides about a window is which of its records were processed under which
//! grace. None had been read when `read_to` was smaller than its start. Those that come behind `time`
//! were read after it, so they are late for a window whose end plus grace it had reached.
//!
//! Invariants
//! * `read_to` never goes back from one period to the next.
//! * a window that more than one period may have decided is told of none.

use super::{Span, Windows};

/// How many periods are kept: of what lies in front of them nothing is known.
const PERIODS_MAX: usize = 8;

/// A run of a job, or several, with the same windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) window: Windows,
    /// No event time that was read before it began is larger; `i64::MIN`: none was read.
    pub(crate) read_to: i64,
    /// The operator's time when it began; `i64::MIN` while unknown.
    pub(crate) time: i64,
}

/// The windows of one store, one period after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InForce(Vec<Period>);

impl InForce {
    /// Periods as they were kept; `None`: more than there can be.
    pub(crate) fn of(periods: Vec<Period>) -> Option<Self> {
        (periods.len() <= PERIODS_MAX).then_some(Self(periods))
    }

    /// The oldest one first.
    pub(crate) fn periods(&self) -> &[Period] {
        &self.0
    }

    /// The windows of the last period.
    pub(crate) fn latest(&self) -> Option<Windows> {
        self.0.last().map(|period| period.window)
    }

    /// Another period begins.
    pub(crate) fn begin(&mut self, period: Period) {
        let read_to = self.0.last().map_or(i64::MIN, |last| last.read_to).max(period.read_to);
        if self.0.len() == PERIODS_MAX {
            self.0.remove(0);
        }
        self.0.push(Period { read_to, ..period });
    }

    /// The same after a reset: what was written of earlier windows may be of any earlier run.
    pub(crate) fn reset(&self, period: Period) -> Self {
        let mut all = self.clone();
        all.begin(period);
        Self(all.0.into_iter().next_back().into_iter().collect())
    }

    /// Whether a record can have been judged otherwise than by these windows.
    pub(crate) fn differ_from(&self, window: Windows) -> bool {
        let is_other = |period: &Period| period.window.are_like(&window) && period.window != window;
        self.0.iter().any(is_other)
    }

    /// The only period that may have decided about a window that starts there: its windows.
    pub(crate) fn counted_by(&self, start: i64) -> Option<Windows> {
        self.place(start).map(|place| self.0[place].window)
    }

    fn place(&self, start: i64) -> Option<usize> {
        self.0.iter().rposition(|period| period.read_to < start)
    }

    /// The windows of the period that has decided about this one, when the operator's time is `now`;
    /// `None`: it is not decided, or another period had a part in it.
    pub(crate) fn decided(&self, span: Span, now: i64) -> Option<Windows> {
        let place = self.place(span.start)?;
        let window = self.0[place].window;
        let is_over = |time: i64, other: Windows| {
            i128::from(time) >= window.deadline(span).max(other.deadline(span))
        };
        let later = self.0[place + 1..].iter().all(|period| is_over(period.time, period.window));
        (later && is_over(now, window)).then_some(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{mins, secs, tumbling};

    fn minute(grace: u64) -> Windows {
        tumbling(mins(1)).grace(secs(grace)).into()
    }

    fn span(minute: i64) -> Span {
        Span { start: minute * 60_000, end: (minute + 1) * 60_000 }
    }

    /// Grace 0 until the clocks were at 10:00 to 11:00 minutes, then grace 30 s.
    fn two() -> InForce {
        let mut all = InForce::default();
        all.begin(Period { window: minute(0), read_to: i64::MIN, time: i64::MIN });
        all.begin(Period { window: minute(30), read_to: 660_000, time: 600_000 });
        all
    }

    #[test]
    fn a_window_belongs_to_the_period_that_alone_has_decided_it() {
        let (all, now) = (two(), 1_200_000);
        assert_eq!(all.decided(span(0), now), Some(minute(0)));
        assert_eq!(all.decided(span(8), now), Some(minute(0)), "its end + 30 s lies before 10:00");
        assert_eq!(all.decided(span(9), now), None, "a record may be late by 0 s and not by 30 s");
        assert_eq!(all.decided(span(11), now), None, "a record may have been read before");
        assert_eq!(all.decided(span(12), now), Some(minute(30)));
        assert_eq!(all.decided(span(18), now), Some(minute(30)));
        assert_eq!(all.decided(span(19), now), None, "it is open");
    }

    #[test]
    fn without_a_period_nothing_is_known_and_a_reset_makes_the_past_unknown() {
        assert_eq!(InForce::default().decided(span(1), i64::MAX), None);
        let begins = Period { window: minute(30), read_to: 700_000, time: i64::MIN };
        let after = two().reset(begins);
        assert_eq!(after.periods(), [begins]);
        assert_eq!(after.decided(span(11), i64::MAX), None);
        assert_eq!(after.decided(span(12), i64::MAX), Some(minute(30)));
        // The clocks are back where they were; what was read before has not become less.
        let again = Period { window: minute(0), read_to: 60_000, time: 0 };
        let mut later = after.clone();
        later.begin(again);
        assert_eq!(later.periods(), [begins, Period { read_to: 700_000, ..again }]);
        assert_eq!(later.decided(span(11), i64::MAX), None);
    }

    #[test]
    fn a_few_periods_are_kept_and_what_lies_before_them_is_not_known() {
        let mut all = InForce::default();
        for at in 0..20 {
            let time = i64::from(at) * 600_000;
            let window = minute(u64::from(at % 2 == 0));
            all.begin(Period { window, read_to: time, time });
        }
        assert_eq!(all.periods().len(), PERIODS_MAX);
        assert_eq!(all.counted_by(12 * 600_000), None);
        assert_eq!(all.counted_by(12 * 600_000 + 1), Some(minute(1)));
        assert!(all.differ_from(minute(0)) && all.differ_from(minute(1)));
        assert!(
            !all.differ_from(tumbling(mins(2)).into()),
            "windows of another size are no other grace"
        );
    }
}
