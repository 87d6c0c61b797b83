//! Which records share a window, and when it closes, up to the ends of time.

use proptest::prelude::*;

use super::*;
use crate::time::{days, millis, mins, secs};

fn only(windows: impl Into<Windows>, timestamp: i64) -> Span {
    let all: Vec<Span> = windows.into().windows_of(timestamp).collect();
    assert_eq!(all.len(), 1);
    all[0]
}

#[test]
fn windows_tile_the_whole_range_of_timestamps() {
    let w = tumbling(mins(1));
    for t in [i64::MIN, i64::MIN + 1, -60_001, -60_000, -1, 0, 59_999, 60_000, i64::MAX] {
        let s = only(w, t);
        assert!(s.start <= t && (t < s.end || s.end == i64::MAX), "{t}: {s:?}");
    }
    assert_eq!(only(w, -1), Span { start: -60_000, end: 0 });
    assert_eq!(only(w, i64::MIN).start, i64::MIN);
    assert_eq!(only(w, i64::MAX).end, i64::MAX);
}

#[test]
fn a_window_past_the_last_timestamp_takes_its_records_and_never_closes() {
    for w in [Windows::from(tumbling(mins(1)).grace(secs(10))), hopping(mins(2), mins(1)).into()] {
        for s in w.windows_of(i64::MAX).filter(|s| s.end == i64::MAX) {
            assert!(!w.is_late(s, i64::MAX));
            assert!(w.deadline(s) > i128::from(i64::MAX));
        }
    }
    let last = Span { start: i64::MAX, end: i64::MAX };
    for w in [Windows::from(session(secs(0))), sliding(secs(0)).into(), since(0).into()] {
        assert!(!w.is_late(last, i64::MAX), "{w}");
    }
}

#[test]
fn late_begins_exactly_where_the_windows_close() {
    let at = |w: Windows, span| (w.is_late(span, 69_999), w.is_late(span, 70_000));
    let span = Span { start: 0, end: 60_000 };
    assert_eq!(at(tumbling(secs(60)).grace(secs(10)).into(), span), (false, true));
    assert_eq!(at(hopping(secs(60), secs(1)).grace(secs(10)).into(), span), (false, true));
    assert_eq!(at(sliding(secs(60)).grace(millis(9_999)).into(), span), (false, true));
    assert_eq!(at(session(secs(5)).grace(millis(4_999)).into(), span), (false, true));
    assert_eq!(at(since(0).into(), span), (false, false));
}

#[test]
fn windows_that_cannot_be_say_why() {
    let said = |w: Windows| w.mistake().map(|(what, _)| what);
    assert_eq!(said(tumbling(secs(0)).into()).unwrap(), "have a size of 0s");
    assert_eq!(said(hopping(secs(1), secs(2)).into()).unwrap(), "of 1s begin every 2s");
    assert_eq!(said(hopping(secs(1), secs(0)).into()).unwrap(), "of 1s begin every 0s");
    let many = said(hopping(days(3_650), millis(1)).into()).unwrap();
    assert!(many.contains("315360000000 of them"), "{many}");
    assert_eq!(said(hopping(secs(9), millis(1)).into()), None);
    assert_eq!(said(session(secs(0)).into()), None);
    assert_eq!(said(sliding(secs(0)).into()), None);
}

#[test]
fn each_kind_is_told_in_words() {
    let said = |w: Windows| w.to_string();
    assert_eq!(said(hopping(mins(10), mins(1)).into()), "hopping 10m every 1m, grace 0s");
    assert_eq!(said(since(0).into()), "since 1970-01-01T00:00:00Z");
    assert_eq!(said(sliding(secs(5)).grace(secs(1)).into()), "sliding 5s, grace 1s");
    assert_eq!(said(session(mins(30)).into()), "session, gap 30m, grace 0s");
}

proptest! {
    #[test]
    fn a_record_is_in_exactly_the_hopping_windows_that_cover_it(
        t in prop_oneof![any::<i64>(), -500_i64..500],
        size in 1_i64..200,
        step in 1_i64..200,
    ) {
        prop_assume!(step <= size);
        let w = Windows::of(Shape::Hopping { size, step }, 0).unwrap();
        let found: Vec<Span> = w.windows_of(t).collect();
        // Every multiple of the step that can be a start, the long way.
        let (wide, size) = (i128::from(t), i128::from(size));
        let first = (wide - size).div_euclid(i128::from(step)) - 1;
        let starts = (0..2 * size + 4).map(|n| (first + n) * i128::from(step));
        let since = if t < 0 { i128::MIN } else { 0 };
        let covering = starts.filter(|s| *s <= wide && wide < s + size && *s >= since);
        let expected: Vec<Span> =
            covering.map(|s| Span { start: clamp(s), end: clamp(s + size) }).collect();
        prop_assert_eq!(found, expected);
    }
}
