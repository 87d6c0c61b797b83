//! The open sessions of one key: who joins whom. Pure.
//!
//! ```text
//!   gap 10      [0 .. 8]            [30 .. 35]       open
//!   record at 20: no session         it is 12 and 10 away
//!   record at 16: joins [0 .. 8]     becomes [0 .. 16]
//!   then at 24:   joins both         becomes [0 .. 35]
//! ```
//!
//! Invariants
//! * a record joins a session that it is no further from than the gap, and that was open when its own
//!   source partition had its clock: closed is closed, whichever partition is behind.
//! * a session that was told and is none any more is taken back once, at the next commit.
//! * values are merged in the order of their sessions' starts; the record's own value comes last.
//!
//! Reference: Kafka `KStreamSessionWindowAggregate`, which merges the initial value in front of each record
//! too; here it is only what a session starts from.

use serde::{Deserialize, Serialize};

use super::{KeyWindows, Said, Taken};
use crate::codec::Data;
use crate::operator::fold::Folds;
use crate::time::{Shape, Span, Stamp, Windows};
use crate::topology::Emit;

/// A session that may still grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession<A> {
    /// The time of its first record.
    pub start: i64,
    /// The time of its last record.
    pub end: i64,
    /// What its records have been folded into.
    pub value: A,
    /// Whether it was changed since it was last told.
    #[serde(skip)]
    unsent: bool,
    /// Whether it was never told with this start and end.
    #[serde(skip)]
    untold: bool,
}

/// The open sessions of a key, as their store holds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSessions<A> {
    /// In the order of their starts.
    pub sessions: Vec<OpenSession<A>>,
    /// Sessions that were told and have become part of others since.
    #[serde(skip)]
    gone: Vec<Span>,
}

impl<A> Default for OpenSessions<A> {
    fn default() -> Self {
        Self { sessions: Vec::new(), gone: Vec::new() }
    }
}

impl<A> OpenSession<A> {
    fn span(&self) -> Span {
        Span { start: self.start, end: self.end }
    }
}

fn gap_of(windows: Windows) -> i64 {
    match windows.shape() {
        Shape::Session { gap } => gap,
        _ => 0,
    }
}

impl<A> OpenSessions<A> {
    fn first(&self) -> Option<i64> {
        self.sessions.iter().map(|session| session.end).min()
    }

    /// Says which sessions are no more; one that has come back with the same ends is told anew instead.
    fn take_back(&mut self, say: &mut Vec<Said<A>>) {
        let mut gone = std::mem::take(&mut self.gone);
        gone.sort_unstable();
        gone.dedup();
        for span in gone {
            if self.sessions.iter().all(|session| session.span() != span) {
                say.push(Said { span, timestamp: span.end, value: None });
            }
        }
    }
}

impl<V: Clone, A: Data> KeyWindows<V, A> for OpenSessions<A> {
    fn take(&mut self, windows: Windows, value: V, stamp: Stamp, folds: &Folds<V, A>) -> Taken<V> {
        let (time, gap) = (stamp.timestamp, gap_of(windows));
        let joins = |session: &OpenSession<A>| {
            session.start.saturating_sub(gap) <= time
                && time <= session.end.saturating_add(gap)
                && !windows.is_late(session.span(), stamp.source_time)
        };
        let before = self.first();
        let mut span = Span { start: time, end: time };
        for session in self.sessions.iter().filter(|session| joins(session)) {
            span = Span { start: span.start.min(session.start), end: span.end.max(session.end) };
        }
        if windows.is_late(span, stamp.source_time) {
            return Taken { late: Some(value), is_kept: false, first_end: None };
        }
        let mut whole: Option<A> = None;
        let (mut at, mut untold) = (0, true);
        while at < self.sessions.len() {
            if !joins(&self.sessions[at]) {
                at += 1;
                continue;
            }
            let part = self.sessions.remove(at);
            if part.span() == span {
                untold = part.untold;
            } else if !part.untold {
                self.gone.push(part.span());
            }
            match (&mut whole, &folds.merge) {
                (Some(whole), Some(merge)) => merge(whole, part.value),
                (none, _) => *none = Some(part.value),
            }
        }
        (folds.add)(&mut whole, value);
        let before_it = |session: &OpenSession<A>| session.span() < span;
        let place = self.sessions.partition_point(before_it);
        if let Some(value) = whole {
            let Span { start, end } = span;
            let session = OpenSession { start, end, value, unsent: true, untold };
            self.sessions.insert(place, session);
        }
        let first = self.first().filter(|&first| before.is_none_or(|before| first < before));
        Taken { late: None, is_kept: true, first_end: first }
    }

    fn close(&mut self, _: Windows, end: i64, emit: Emit, _: &Folds<V, A>, say: &mut Vec<Said<A>>) {
        if emit == Emit::OnUpdate {
            self.take_back(say);
        }
        let all = std::mem::take(&mut self.sessions);
        let (closed, open): (Vec<_>, Vec<_>) = all.into_iter().partition(|s| s.end <= end);
        self.sessions = open;
        for session in closed {
            if emit == Emit::OnClose || session.unsent {
                let (span, timestamp) = (session.span(), session.end);
                say.push(Said { span, timestamp, value: Some(session.value) });
            }
        }
    }

    fn updates(&mut self, _: Windows, _: &Folds<V, A>, say: &mut Vec<Said<A>>) {
        self.take_back(say);
        for session in self.sessions.iter_mut().filter(|session| session.unsent) {
            (session.unsent, session.untold) = (false, false);
            let (span, timestamp) = (session.span(), session.end);
            say.push(Said { span, timestamp, value: Some(session.value.clone()) });
        }
    }

    fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    fn first_end(&self, _: Windows) -> Option<i64> {
        self.first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{millis, session};

    fn counting() -> Folds<(), u64> {
        let add = |n: &mut Option<u64>, ()| *n = Some(n.unwrap_or(0) + 1);
        Folds { add: Box::new(add), merge: Some(Box::new(|n, other| *n += other)) }
    }

    fn windows() -> Windows {
        session(millis(10)).grace(millis(5)).into()
    }

    /// Takes records at (timestamp, source time); answers which were late.
    fn take(row: &mut OpenSessions<u64>, at: &[(i64, i64)]) -> Vec<i64> {
        let folds = counting();
        let late = at.iter().filter(|&&(timestamp, source_time)| {
            row.take(windows(), (), Stamp { timestamp, source_time }, &folds).late.is_some()
        });
        late.map(|(timestamp, _)| *timestamp).collect()
    }

    fn spans(row: &OpenSessions<u64>) -> Vec<(i64, i64, u64)> {
        row.sessions.iter().map(|s| (s.start, s.end, s.value)).collect()
    }

    #[test]
    fn a_record_joins_what_is_within_the_gap_and_nothing_that_is_further() {
        let mut row = OpenSessions::default();
        assert!(take(&mut row, &[(0, 0), (10, 10), (21, 21)]).is_empty());
        assert_eq!(spans(&row), [(0, 10, 2), (21, 21, 1)]);
        take(&mut row, &[(15, 21)]);
        assert_eq!(spans(&row), [(0, 21, 4)]);
    }

    #[test]
    fn a_closed_session_takes_no_more_although_another_partition_holds_it_open() {
        let mut row = OpenSessions::default();
        take(&mut row, &[(0, 0)]);
        // The partition of the next record has passed 0 + 10 + 1 + 5.
        assert_eq!(take(&mut row, &[(0, 16), (8, 16), (5, 15)]), [0]);
        assert_eq!(spans(&row), [(0, 8, 3)], "that at 5 came when its own partition was at 15");
    }

    #[test]
    fn what_was_told_and_is_no_more_is_taken_back_once() {
        let (mut row, folds) = (OpenSessions::default(), counting());
        let told = |row: &mut OpenSessions<u64>| {
            let mut said: Vec<Said<u64>> = Vec::new();
            KeyWindows::<(), u64>::updates(row, windows(), &folds, &mut said);
            said.into_iter().map(|s| (s.span.start, s.span.end, s.value)).collect::<Vec<_>>()
        };
        take(&mut row, &[(0, 0), (15, 15)]);
        assert_eq!(told(&mut row), [(0, 0, Some(1)), (15, 15, Some(1))]);
        take(&mut row, &[(8, 15), (9, 15)]);
        assert_eq!(told(&mut row), [(0, 0, None), (15, 15, None), (0, 15, Some(4))]);
        take(&mut row, &[(3, 15)]);
        assert_eq!(told(&mut row), [(0, 15, Some(5))], "its ends are as they were");
        assert_eq!(told(&mut row), []);
    }

    #[test]
    fn a_session_at_the_end_of_time_takes_its_records() {
        let mut row = OpenSessions::default();
        assert!(take(&mut row, &[(i64::MAX, i64::MAX), (i64::MAX - 3, i64::MAX)]).is_empty());
        assert_eq!(spans(&row), [(i64::MAX - 3, i64::MAX, 2)]);
        let mut row = OpenSessions::default();
        assert!(
            take(&mut row, &[(i64::MIN, i64::MIN), (i64::MIN + 3, 0)]).contains(&(i64::MIN + 3))
        );
        assert_eq!(spans(&row), [(i64::MIN, i64::MIN, 1)]);
    }
}
