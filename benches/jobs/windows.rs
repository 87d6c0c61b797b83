//! Windows of every kind, beside many other open windows.
//!
//! ```text
//!   tumbling, hopping, session    orders by user; ROWS other users have a window open
//! ```
//!
//! Grace is so long that none closes: what is measured is a record that changes its windows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use streams::prelude::*;

use crate::beside::{Beside, Compared, same_rows};
use crate::records::{ORDERS, Order, WARM, order, time, user, write, write_orders};

pub(crate) const WINDOWS: Topic<Windowed<String>, u64, Bincode> = topic("windows").bincode();

pub(crate) const KINDS: [Beside; 3] = [
    Beside {
        what: "tumbling count",
        topology: |t| count(t.stream(ORDERS).window(tumbling(mins(1)).grace(days(1)))),
        build: others,
        fill: fresh_orders,
        records_each: 1,
        verify: |dir, numbers| same_counts(dir, numbers, |at| vec![minute(at)]),
    },
    Beside {
        what: "hopping count, 3 windows each",
        topology: |t| count(t.stream(ORDERS).window(hopping(mins(1), secs(20)).grace(days(1)))),
        build: others,
        fill: fresh_orders,
        records_each: 1,
        verify: |dir, numbers| same_counts(dir, numbers, three_minutes),
    },
    Beside {
        what: "session count",
        topology: |t| count(t.stream(ORDERS).window(session(mins(1)).grace(days(1)))),
        build: others,
        fill: fresh_orders,
        records_each: 1,
        verify: same_sessions,
    },
];

fn count<G>(windows: WindowedStream<String, Order, G>) {
    windows.count("orders-by-user").on_update().to(WINDOWS);
}

/// Orders of users that order once.
fn others(dir: &Path, rows: u64) -> u64 {
    write(dir, ORDERS, 0..rows, |n| (format!("other-{n}"), order(n), time(0)));
    rows
}

fn fresh_orders(dir: &Path, numbers: Range<u64>) -> u64 {
    write_orders(dir, WARM, numbers.clone());
    numbers.end - numbers.start
}

fn is_user(window: &Windowed<String>) -> bool {
    window.key.starts_with("user-")
}

const MINUTE_MS: i64 = 60_000;

fn minute(at: i64) -> (i64, i64) {
    let start = at.div_euclid(MINUTE_MS) * MINUTE_MS;
    (start, start + MINUTE_MS)
}

fn three_minutes(at: i64) -> Vec<(i64, i64)> {
    let last = at.div_euclid(MINUTE_MS / 3);
    let start = |step: i64| step * MINUTE_MS / 3;
    (last - 2..=last).map(|step| (start(step), start(step) + MINUTE_MS)).collect()
}

/// Counts by user in the windows that hold each order.
fn same_counts(dir: &Path, numbers: u64, windows: fn(i64) -> Vec<(i64, i64)>) -> Compared {
    let mut counts = BTreeMap::new();
    for n in 0..numbers {
        for (start, end) in windows(time(n)) {
            *counts.entry(Windowed { key: user(n, WARM), start, end }).or_insert(0) += 1;
        }
    }
    same_rows(dir, WINDOWS, is_user, &counts)
}

/// Counts by user from the first to the last order of a session; orders come in order of time.
fn same_sessions(dir: &Path, numbers: u64) -> Compared {
    let mut open: BTreeMap<String, (i64, i64, u64)> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for n in 0..numbers {
        let (key, at) = (user(n, WARM), time(n));
        let session = open.entry(key.clone()).or_insert((at, at, 0));
        if at - session.1 > MINUTE_MS {
            let (start, end, count) = std::mem::replace(session, (at, at, 0));
            counts.insert(Windowed { key, start, end }, count);
        }
        *session = (session.0, at, session.2 + 1);
    }
    let open = open.into_iter();
    counts.extend(open.map(|(key, (start, end, count))| (Windowed { key, start, end }, count)));
    same_rows(dir, WINDOWS, is_user, &counts)
}
