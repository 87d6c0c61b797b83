//! The records of one key that open sliding windows are made of. Pure.
//!
//! ```text
//!   difference 10, records at 20 and 25
//!
//!   ends with 20        [10 ........ 20]
//!   ends with 25             [15 ........ 25]        20, 25
//!   begins behind 20               [21 ........ 31]  25
//!   begins behind 25                    [26 ..       nothing in it: it is not there
//! ```
//!
//! Why the records and not a value per window: a record changes every window that it is in, two for each
//! other record that is near. Kept once, it is folded into those that speak, when they speak; and which
//! records a window has does not depend on the order in which they came.
//!
//! Invariants
//! * a window has the records of its stretch whose source partitions had not passed its deadline when they
//!   were read, folded in the order in which they came. It is there if such a record ends it, or lies
//!   just in front of it, and it has any.
//! * windows that start no later than `closed` have spoken.
//! * a record goes when the window behind it has closed.
//!
//! Reference: Kafka `KStreamSlidingWindowAggregate`; as there, windows of records from 1970 on do not begin
//! before 1970.

use serde::{Deserialize, Serialize};

use super::{KeyWindows, Said, Taken};
use crate::codec::Data;
use crate::operator::fold::Folds;
use crate::time::{Shape, Span, Stamp, Windows};
use crate::topology::Emit;

/// A record that an open sliding window may hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRecord<V> {
    /// Its event time.
    pub timestamp: i64,
    /// The clock of its source partition when it was read.
    pub source_time: i64,
    /// Its value; nothing where records are counted.
    pub value: V,
}

/// The records of a key that open sliding windows are made of, as their store holds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRecords<V> {
    /// In the order in which they came.
    pub records: Vec<KeptRecord<V>>,
    /// Windows that start no later have closed.
    pub closed: Option<i64>,
    /// How many of the last records have not been told of yet.
    #[serde(skip)]
    fresh: usize,
}

impl<V> Default for KeptRecords<V> {
    fn default() -> Self {
        Self { records: Vec::new(), closed: None, fresh: 0 }
    }
}

fn difference_of(windows: Windows) -> i64 {
    match windows.shape() {
        Shape::Sliding { difference } => difference,
        _ => 0,
    }
}

/// The window that starts there.
fn span_from(start: i64, windows: Windows) -> Span {
    Span { start, end: start.saturating_add(difference_of(windows)) }
}

/// The window that ends with a record.
fn ending_with(timestamp: i64, windows: Windows) -> Span {
    let start = timestamp.saturating_sub(difference_of(windows));
    span_from(if timestamp < 0 { start } else { start.max(0) }, windows)
}

impl<V> KeptRecord<V> {
    /// The windows that are there because of it, if they have any record.
    fn makes(&self, windows: Windows) -> impl Iterator<Item = Span> + use<V> {
        let ends = Some(ending_with(self.timestamp, windows));
        let ends = ends.filter(|span| !windows.is_late(*span, self.source_time));
        let begins = self.timestamp.checked_add(1).map(|start| span_from(start, windows));
        ends.into_iter().chain(begins)
    }

    fn is_in(&self, span: Span, windows: Windows) -> bool {
        span.start <= self.timestamp
            && self.timestamp <= span.end
            && !windows.is_late(span, self.source_time)
    }
}

impl<V: Clone> KeptRecords<V> {
    fn is_open(&self, span: Span) -> bool {
        self.closed.is_none_or(|closed| span.start > closed)
    }

    /// What a window's records are folded into, with the largest of their times.
    fn said<A>(&self, span: Span, windows: Windows, folds: &Folds<V, A>) -> Option<Said<A>> {
        let (mut value, mut timestamp) = (None, i64::MIN);
        for record in self.records.iter().filter(|record| record.is_in(span, windows)) {
            timestamp = timestamp.max(record.timestamp);
            (folds.add)(&mut value, record.value.clone());
        }
        value.map(|value| Said { span, timestamp, value: Some(value) })
    }

    /// Whether a window holds what was not told of yet, or is there only because of it.
    fn is_unsent(&self, span: Span, windows: Windows) -> bool {
        let (told, fresh) = self.records.split_at(self.records.len() - self.fresh);
        let makes = |record: &KeptRecord<V>| record.makes(windows).any(|made| made == span);
        fresh.iter().any(|record| record.is_in(span, windows)) || !told.iter().any(makes)
    }

    /// The open windows that may be there and end no later than that, in the order of time, each once.
    fn open(&self, windows: Windows, end: i64) -> Vec<Span> {
        let made = self.records.iter().flat_map(|record| record.makes(windows));
        let mut open: Vec<Span> =
            made.filter(|span| span.end <= end && self.is_open(*span)).collect();
        open.sort_unstable();
        open.dedup();
        open
    }
}

impl<V: Data, A: Data> KeyWindows<V, A> for KeptRecords<V> {
    fn take(&mut self, windows: Windows, value: V, stamp: Stamp, _: &Folds<V, A>) -> Taken<V> {
        let Stamp { timestamp, source_time } = stamp;
        let record = KeptRecord { timestamp, source_time, value };
        // The last window that has a say in it, or it in that.
        let last = timestamp.checked_add(1).map(|start| span_from(start, windows));
        if last.is_some_and(|last| windows.is_late(last, source_time)) {
            return Taken { late: Some(record.value), is_kept: false, first_end: None };
        }
        let is_late = windows.is_late(ending_with(timestamp, windows), source_time);
        let late = is_late.then(|| record.value.clone());
        let first_end = record.makes(windows).map(|span| span.end).min();
        self.records.push(record);
        self.fresh += 1;
        Taken { late, is_kept: true, first_end }
    }

    fn close(
        &mut self,
        windows: Windows,
        end: i64,
        emit: Emit,
        folds: &Folds<V, A>,
        say: &mut Vec<Said<A>>,
    ) {
        for span in self.open(windows, end) {
            if emit == Emit::OnClose || self.is_unsent(span, windows) {
                say.extend(self.said(span, windows, folds));
            }
            self.closed = Some(span.start);
        }
        let (told, closed) = (self.records.len() - self.fresh, self.closed);
        let is_over = |record: &KeptRecord<V>| closed.is_some_and(|c| record.timestamp < c);
        let fresh = self.records.iter().skip(told).filter(|record| !is_over(record)).count();
        self.records.retain(|record| !is_over(record));
        self.fresh = fresh;
    }

    fn updates(&mut self, windows: Windows, folds: &Folds<V, A>, say: &mut Vec<Said<A>>) {
        for span in self.open(windows, i64::MAX) {
            if self.is_unsent(span, windows) {
                say.extend(self.said(span, windows, folds));
            }
        }
        self.fresh = 0;
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn first_end(&self, windows: Windows) -> Option<i64> {
        let made = self.records.iter().flat_map(|record| record.makes(windows));
        made.filter(|span| self.is_open(*span)).map(|span| span.end).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{millis, sliding};

    fn listing() -> Folds<i64, Vec<i64>> {
        let add = |all: &mut Option<Vec<i64>>, value| all.get_or_insert_default().push(value);
        Folds { add: Box::new(add), merge: None }
    }

    fn windows() -> Windows {
        sliding(millis(10)).grace(millis(5)).into()
    }

    fn take(row: &mut KeptRecords<i64>, timestamp: i64, source_time: i64) -> Taken<i64> {
        row.take(windows(), timestamp, Stamp { timestamp, source_time }, &listing())
    }

    type Told = Vec<(i64, i64, i64, Vec<i64>)>;

    fn told(said: Vec<Said<Vec<i64>>>) -> Told {
        let flat = |s: Said<Vec<i64>>| (s.span.start, s.span.end, s.timestamp, s.value.unwrap());
        said.into_iter().map(flat).collect()
    }

    fn updates(row: &mut KeptRecords<i64>) -> Told {
        let mut said = Vec::new();
        row.updates(windows(), &listing(), &mut said);
        told(said)
    }

    fn close(row: &mut KeptRecords<i64>, end: i64) -> Told {
        let mut said = Vec::new();
        row.close(windows(), end, Emit::OnClose, &listing(), &mut said);
        told(said)
    }

    #[test]
    fn there_is_a_window_for_each_set_of_records_and_none_without_any() {
        let mut row = KeptRecords::default();
        take(&mut row, 20, 20);
        assert_eq!(updates(&mut row), [(10, 20, 20, vec![20])]);
        take(&mut row, 25, 25);
        assert_eq!(updates(&mut row), [(15, 25, 25, vec![20, 25]), (21, 31, 25, vec![25])]);
        take(&mut row, 18, 25);
        // It comes too late for the window that ends with it; the one behind it is there because of it.
        let expected = [
            (10, 20, 20, vec![20, 18]),
            (15, 25, 25, vec![20, 25, 18]),
            (19, 29, 25, vec![20, 25]),
        ];
        assert_eq!(updates(&mut row), expected);
        assert_eq!(updates(&mut row), []);
    }

    #[test]
    fn windows_close_in_order_once_and_records_go_when_nothing_needs_them() {
        let mut row = KeptRecords::default();
        take(&mut row, 20, 20);
        take(&mut row, 25, 25);
        assert_eq!(KeyWindows::<i64, Vec<i64>>::first_end(&row, windows()), Some(20));
        assert_eq!(close(&mut row, 20), [(10, 20, 20, vec![20])]);
        assert_eq!(close(&mut row, 24), []);
        let rest = [(15, 25, 25, vec![20, 25]), (21, 31, 25, vec![25])];
        assert_eq!(close(&mut row, 31), rest);
        assert_eq!(row.records.len(), 1, "the window behind 25 is still open");
        assert_eq!(close(&mut row, 36), []);
        assert!(row.records.is_empty());
    }

    #[test]
    fn a_record_is_in_the_windows_that_it_is_in_time_for() {
        let mut row = KeptRecords::default();
        take(&mut row, 20, 20);
        // 12 ends a window that closed at 18, and is in time for [10, 20] until 26.
        let taken = take(&mut row, 12, 25);
        assert_eq!((taken.late, taken.is_kept), (Some(12), true));
        assert_eq!(updates(&mut row), [(10, 20, 20, vec![20, 12]), (13, 23, 20, vec![20])]);
        let taken = take(&mut row, 12, 29);
        assert_eq!((taken.late, taken.is_kept), (Some(12), false));
    }

    #[test]
    fn windows_do_not_begin_before_1970_for_records_that_do_not() {
        let mut row = KeptRecords::default();
        take(&mut row, 3, 3);
        take(&mut row, -2, 3);
        let told = updates(&mut row);
        assert_eq!(told, [(-12, -2, -2, vec![-2]), (-1, 9, 3, vec![3]), (0, 10, 3, vec![3])]);
    }

    #[test]
    fn times_at_the_ends_of_the_range_are_times() {
        for at in [i64::MIN, i64::MAX] {
            let mut row = KeptRecords::default();
            assert!(take(&mut row, at, at).late.is_none());
            let told = updates(&mut row);
            assert_eq!(told.len(), 1, "{told:?}");
            assert_eq!((told[0].2, &told[0].3), (at, &vec![at]));
        }
    }
}
