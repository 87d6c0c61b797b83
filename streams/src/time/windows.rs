//! The kinds of windows: which records share one, when it closes, and how its key shows it. Pure.
//!
//! ```text
//!              a record at t is in                           key shows           e: closes at e + grace
//!   tumbling   [n size, (n + 1) size)                        [start, end)        end
//!   hopping    [n step, n step + size), each that covers t   [start, end)        end
//!              not before 1970 if t is not
//!   since      [start, for ever)                             [start, i64::MAX]   never
//!   sliding    [s, s + difference], s = u - difference       [start, end]        end + 1
//!              or u + 1 for a record at u, where not empty
//!   session    [first, last], gaps no longer than gap        [first, last]       last + gap + 1
//! ```
//!
//! Why two kinds of ends: a tumbling window ends where the next one begins; a sliding one and a session
//! end with a record that belongs to them, and are shown so, as Kafka does.
//!
//! Invariants
//! * sums are taken in `i128`: a window that would start before `i64::MIN` starts there, one that would end
//!   after `i64::MAX` is shown as ending there and never closes.
//! * a deadline depends on the window alone, and of two windows of one kind the one that ends first closes
//!   first.
//!
//! Reference: Kafka `TimeWindows`, `UnlimitedWindows`, `SlidingWindows`, `SessionWindows`.

use std::time::Duration;

use super::{Instant, Ms, Span, clamp, duration_ms};

/// In how many hopping windows a record may be at most: each of them costs a row that is changed.
const OVERLAPS_MAX: i64 = 10_000;

/// What tells windows of one kind from another; in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Tumbling { size: i64 },
    Hopping { size: i64, step: i64 },
    Since { start: i64 },
    Sliding { difference: i64 },
    Session { gap: i64 },
}

/// Windows of any kind, as `.window(..)` takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    shape: Shape,
    grace_ms: i64,
}

impl Windows {
    /// Windows of this shape and grace; `None`: there can be none.
    pub(crate) fn of(shape: Shape, grace_ms: i64) -> Option<Self> {
        let windows = Self { shape, grace_ms };
        windows.mistake().is_none().then_some(windows)
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Grace in milliseconds.
    #[must_use]
    pub fn grace_ms(&self) -> i64 {
        self.grace_ms
    }

    /// The same windows with another grace.
    pub(crate) fn with_grace(self, grace_ms: i64) -> Self {
        Self { grace_ms, ..self }
    }

    /// Whether both have the same windows, whatever their grace.
    pub(crate) fn are_like(&self, other: &Self) -> bool {
        self.shape == other.shape
    }

    /// Whether the end of a key's window is the last moment in it, rather than the first behind it.
    pub(crate) fn end_inside(&self) -> bool {
        matches!(self.shape, Shape::Sliding { .. } | Shape::Session { .. })
    }

    /// Whether no window ever closes.
    pub(crate) fn never_close(&self) -> bool {
        matches!(self.shape, Shape::Since { .. })
    }

    /// Why there can be no such windows, and what to write instead.
    pub(crate) fn mistake(&self) -> Option<(String, &'static str)> {
        let said = |what: &str, help| Some((what.to_owned(), help));
        match self.shape {
            Shape::Tumbling { size } if size < 1 => Some((
                format!("have a size of {}", Ms(size)),
                "use at least one millisecond: `tumbling(secs(10))`",
            )),
            Shape::Hopping { size, .. } if size < 1 => Some((
                format!("have a size of {}", Ms(size)),
                "use at least one millisecond: `hopping(mins(10), mins(1))`",
            )),
            Shape::Hopping { size, step } if step < 1 || step > size => Some((
                format!("of {} begin every {}", Ms(size), Ms(step)),
                "let them begin at least every millisecond, and as often as they are long: \
                 `hopping(mins(10), mins(1))`",
            )),
            Shape::Hopping { size, step } if size.div_euclid(step) >= OVERLAPS_MAX => Some((
                format!(
                    "of {} begin every {}: each record would be in {} of them, and more than \
                     {OVERLAPS_MAX} are refused",
                    Ms(size),
                    Ms(step),
                    i128::from(size).div_euclid(i128::from(step))
                ),
                "let them begin less often, or make them shorter",
            )),
            _ if self.grace_ms < 0 => said("have a negative grace", "use `.grace(secs(10))`"),
            Shape::Sliding { difference } if difference < 0 => {
                said("have a negative difference", "use `sliding(secs(10))`")
            }
            Shape::Session { gap } if gap < 0 => {
                said("have a negative gap", "use `session(mins(30))`")
            }
            _ => None,
        }
    }

    /// The windows that a record belongs to whatever others there are, the first one first. None of sliding
    /// windows and sessions, which follow from all records.
    pub(crate) fn windows_of(
        &self,
        timestamp: i64,
    ) -> impl DoubleEndedIterator<Item = Span> + use<> {
        let (first, step, count, size) = match self.shape {
            Shape::Tumbling { size } => {
                // Divided in 64 bits, as a division of 128 is a call; only the product needs more.
                let index = timestamp.div_euclid(size);
                (i128::from(index) * i128::from(size), 0, 1, size)
            }
            Shape::Hopping { size, step } => {
                let index = timestamp.div_euclid(step);
                // Starts lie in (timestamp - size, timestamp].
                let way = size - 1 - timestamp.rem_euclid(step);
                let mut before = way.div_euclid(step).max(-1);
                if timestamp >= 0 {
                    before = before.min(index);
                }
                let first = i128::from(index) - i128::from(before);
                (first * i128::from(step), step, before + 1, size)
            }
            Shape::Since { start } if timestamp >= start => (i128::from(start), 0, 1, i64::MAX),
            Shape::Since { .. } | Shape::Sliding { .. } | Shape::Session { .. } => (0, 0, 0, 0),
        };
        let end = if matches!(self.shape, Shape::Since { .. }) { Some(i64::MAX) } else { None };
        (0..count).map(move |n| {
            let start = first + i128::from(n) * i128::from(step);
            let end = end.unwrap_or_else(|| clamp(start + i128::from(size)));
            Span { start: clamp(start), end }
        })
    }

    /// The time at which a window closes and from which on its records are late.
    pub(crate) fn deadline(&self, span: Span) -> i128 {
        let (start, end) = (i128::from(span.start), i128::from(span.end));
        // A window that would end after the last timestamp is shown as ending there.
        let end_of = |size: i64| if span.end == i64::MAX { start + i128::from(size) } else { end };
        let end = match self.shape {
            Shape::Tumbling { size } | Shape::Hopping { size, .. } => end_of(size),
            Shape::Since { .. } => return i128::MAX,
            Shape::Sliding { difference } => end_of(difference) + 1,
            Shape::Session { gap } => end + i128::from(gap) + 1,
        };
        end + i128::from(self.grace_ms)
    }

    /// How long after the end that its key shows a window closes.
    pub(crate) fn delay_ms(&self) -> i64 {
        let behind = match self.shape {
            Shape::Tumbling { .. } | Shape::Hopping { .. } => 0,
            Shape::Since { .. } => i64::MAX,
            Shape::Sliding { .. } => 1,
            Shape::Session { gap } => gap.saturating_add(1),
        };
        behind.saturating_add(self.grace_ms)
    }

    /// Whether a record with this source time is late for the window.
    pub(crate) fn is_late(&self, span: Span, source_time: i64) -> bool {
        i128::from(source_time) >= self.deadline(span)
    }

    /// By how much the watermark behind these windows lags the operator's time: results carry the
    /// largest timestamp of their records, which may be as small as the start of an open window.
    /// Windows that never close pass on what has come now.
    pub(crate) fn lag_ms(&self) -> i64 {
        let width = match self.shape {
            Shape::Tumbling { size } | Shape::Hopping { size, .. } => size,
            Shape::Since { .. } => return 0,
            Shape::Sliding { difference } => difference,
            Shape::Session { gap } => gap,
        };
        width.saturating_add(self.grace_ms)
    }

    /// The first time of records that have a say in what a window holds, and whether it is there.
    pub(crate) fn depends_from(&self, span: Span) -> i128 {
        let start = i128::from(span.start);
        match self.shape {
            Shape::Tumbling { .. } | Shape::Hopping { .. } | Shape::Since { .. } => start,
            // It may begin just behind a record.
            Shape::Sliding { .. } => start - 1,
            // One within the gap would be in it.
            Shape::Session { gap } => start - i128::from(gap),
        }
    }
}

impl std::fmt::Display for Windows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.shape {
            Shape::Tumbling { size } => write!(f, "tumbling {}", Ms(size))?,
            Shape::Hopping { size, step } => write!(f, "hopping {} every {}", Ms(size), Ms(step))?,
            Shape::Since { start } => return write!(f, "since {}", Instant(start)),
            Shape::Sliding { difference } => write!(f, "sliding {}", Ms(difference))?,
            Shape::Session { gap } => write!(f, "session, gap {}", Ms(gap))?,
        }
        write!(f, ", grace {}", Ms(self.grace_ms))
    }
}

/// A kind of windows as a user makes it: a name of its own around [`Windows`].
macro_rules! kind {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(Windows);

        impl From<$name> for Windows {
            fn from(kind: $name) -> Self {
                kind.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! with_grace {
    ($name:ident) => {
        impl $name {
            /// How much later than a window's end, by the clock of its own source partition, a record
            /// is still counted. 0 where nothing is said.
            #[must_use]
            pub fn grace(self, grace: Duration) -> Self {
                Self(self.0.with_grace(duration_ms(grace)))
            }

            /// Grace in milliseconds.
            #[must_use]
            pub fn grace_ms(&self) -> i64 {
                self.0.grace_ms
            }
        }
    };
}

kind! {
    /// Windows of one size that follow each other without gap, from 0 on: `[0, size)`, `[size, 2 size)`.
    ///
    /// Made by [`tumbling`].
    Tumbling
}
kind! {
    /// Windows of one size that begin at each multiple of a step, and overlap where it is shorter.
    ///
    /// Made by [`hopping`].
    Hopping
}
kind! {
    /// One window from a moment on, without an end.
    ///
    /// Made by [`since`].
    Since
}
kind! {
    /// A window for each set of records that lie no further apart than a difference.
    ///
    /// Made by [`sliding`].
    Sliding
}
kind! {
    /// Records of a key, one after the other, with no longer gap between them than this.
    ///
    /// Made by [`session`].
    Session
}
with_grace!(Tumbling);
with_grace!(Hopping);
with_grace!(Sliding);
with_grace!(Session);

/// Tumbling windows of this size (milliseconds are the unit; at least 1).
///
/// ```
/// use streams::prelude::*;
/// let window = tumbling(mins(1)).grace(secs(10));
/// assert_eq!(window.to_string(), "tumbling 1m, grace 10s");
/// ```
#[must_use]
pub fn tumbling(size: Duration) -> Tumbling {
    Tumbling(Windows { shape: Shape::Tumbling { size: duration_ms(size) }, grace_ms: 0 })
}

/// Windows of this size that begin every `step`: `[0, size)`, `[step, step + size)`, and so on.
///
/// A record is in each window that covers it, `size / step` of them and at most 10 000 (S018). As with
/// Kafka, windows of records from 1970 on do not begin before 1970. A record counts as late, once, if one of
/// its windows had closed without it.
///
/// ```
/// use streams::prelude::*;
/// const CLICKS: Topic<String, u64> = topic("clicks");
/// const COUNTS: Topic<Windowed<String>, u64> = topic("counts");
/// fn topology(t: &mut Topology) {
///     t.stream(CLICKS).window(hopping(secs(10), secs(5))).count("n").on_update().to(COUNTS);
/// }
/// let mut d = TestDriver::new(topology);
/// d.send_at(CLICKS, "/".into(), 1, 7_000);
/// let window = |start| Windowed { key: "/".to_string(), start, end: start + 10_000 };
/// assert_eq!(d.read(COUNTS), [(window(0), 1), (window(5_000), 1)]);
/// ```
#[must_use]
pub fn hopping(size: Duration, step: Duration) -> Hopping {
    let shape = Shape::Hopping { size: duration_ms(size), step: duration_ms(step) };
    Hopping(Windows { shape, grace_ms: 0 })
}

/// One window per key from this moment on (milliseconds since 1970), which never closes: its results speak
/// with `.on_update()`. Its key shows `i64::MAX` as its end. Records before it are counted as filtered.
///
/// ```
/// use streams::prelude::*;
/// const CLICKS: Topic<String, u64> = topic("clicks");
/// const COUNTS: Topic<Windowed<String>, u64> = topic("counts");
/// fn topology(t: &mut Topology) {
///     t.stream(CLICKS).window(since(1_000)).count("n").on_update().to(COUNTS);
/// }
/// let mut d = TestDriver::new(topology);
/// d.send_at(CLICKS, "/".into(), 1, 999).send_at(CLICKS, "/".into(), 1, 1_000);
/// let window = Windowed { key: "/".to_string(), start: 1_000, end: i64::MAX };
/// assert_eq!(d.read(COUNTS), [(window, 1)]);
/// ```
#[must_use]
pub fn since(start: i64) -> Since {
    Since(Windows { shape: Shape::Since { start }, grace_ms: 0 })
}

/// Windows `[s, s + difference]`, both ends included, one for each set of records of a key that lie no
/// further apart than this: one that ends with each record, and one that begins a millisecond after it,
/// where there are records in it.
///
/// A window's key shows `s + difference` as its end. As with Kafka, windows of records from 1970 on do not
/// begin before 1970. A record counts as late, once, if a window with it had closed without it.
///
/// ```
/// use streams::prelude::*;
/// const CLICKS: Topic<String, u64> = topic("clicks");
/// const COUNTS: Topic<Windowed<String>, u64> = topic("counts");
/// fn topology(t: &mut Topology) {
///     t.stream(CLICKS).window(sliding(millis(10))).count("n").on_close().to(COUNTS);
/// }
/// let mut d = TestDriver::new(topology);
/// for at in [20, 25, 100] {
///     d.send_at(CLICKS, "/".into(), 1, at);
/// }
/// let window = |start| Windowed { key: "/".to_string(), start, end: start + 10 };
/// assert_eq!(d.read(COUNTS), [(window(10), 1), (window(15), 2), (window(21), 1)]);
/// ```
#[must_use]
pub fn sliding(difference: Duration) -> Sliding {
    let shape = Shape::Sliding { difference: duration_ms(difference) };
    Sliding(Windows { shape, grace_ms: 0 })
}

/// Sessions: a record joins those of its key that it is within the gap of, and brings them together.
///
/// A session's key shows the times of its first and its last record, both included. It closes when nothing
/// that could still come would join it: at its last record + gap + 1 + grace. A closed session is never
/// opened again: a later record begins another one, if it is not late itself.
///
/// ```
/// use streams::prelude::*;
/// const CLICKS: Topic<String, u64> = topic("clicks");
/// const COUNTS: Topic<Windowed<String>, u64> = topic("counts");
/// fn topology(t: &mut Topology) {
///     t.stream(CLICKS).window(session(mins(30))).count("n").on_close().to(COUNTS);
/// }
/// let mut d = TestDriver::new(topology);
/// for at in [0, 60_000, 9_000_000] {
///     d.send_at(CLICKS, "ana".into(), 1, at);
/// }
/// assert_eq!(d.read(COUNTS), [(Windowed { key: "ana".to_string(), start: 0, end: 60_000 }, 2)]);
/// ```
#[must_use]
pub fn session(gap: Duration) -> Session {
    Session(Windows { shape: Shape::Session { gap: duration_ms(gap) }, grace_ms: 0 })
}

#[cfg(test)]
mod tests;
