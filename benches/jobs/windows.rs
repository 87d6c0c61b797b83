//! Windows of every kind, beside many other open windows.
//!
//! ```text
//!   tumbling    orders by user and minute; ROWS other users have a window open
//! ```
//!
//! Grace is so long that none closes: what is measured is a record that changes its windows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use streams::prelude::*;

use crate::beside::{Beside, Compared, same_rows};
use crate::records::{ORDERS, WARM, order, time, user, write, write_orders};

const WINDOWS: Topic<Windowed<String>, u64, Bincode> = topic("windows").bincode();

pub(crate) const KINDS: [Beside; 1] = [Beside {
    what: "tumbling count",
    topology: tumbling_count,
    build: others,
    fill: fresh_orders,
    records_each: 1,
    verify: tumbling_counts,
}];

fn tumbling_count(t: &mut Topology) {
    let by_user = t.stream(ORDERS).window(tumbling(mins(1)).grace(days(1)));
    by_user.count("orders-by-user").on_update().to(WINDOWS);
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

/// Counts by user in the windows that hold each order, in a plain loop.
fn counts(
    numbers: u64,
    windows: impl Fn(i64) -> Vec<(i64, i64)>,
) -> BTreeMap<Windowed<String>, u64> {
    let mut counts = BTreeMap::new();
    for n in 0..numbers {
        for (start, end) in windows(time(n)) {
            *counts.entry(Windowed { key: user(n, WARM), start, end }).or_insert(0) += 1;
        }
    }
    counts
}

fn is_user(window: &Windowed<String>) -> bool {
    window.key.starts_with("user-")
}

fn tumbling_counts(dir: &Path, numbers: u64) -> Compared {
    let minute =
        |at: i64| vec![(at.div_euclid(60_000) * 60_000, (at.div_euclid(60_000) + 1) * 60_000)];
    same_rows(dir, WINDOWS, is_user, &counts(numbers, minute))
}
