//! Stores of every kind in a processor, beside many other rows.
//!
//! ```text
//!   key-value    get and put of the user's row
//!   window       get and put of the user's row of this second
//!   session      the user's session around this order, put in place of what it was
//!   versioned    put of the user's row from now on, get as of 100 ms before
//! ```
//!
//! Each order passes on what its user's row says then; what was passed on is compared with plain maps.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

use streams::prelude::*;

use crate::beside::{Beside, Compared, same_records};
use crate::records::{COUNTS, ORDERS, Order, WARM, order, time, user, write, write_orders};

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60_000;
const BEFORE_MS: i64 = 100;

const fn beside(
    what: &'static str,
    topology: fn(&mut Topology),
    verify: fn(&Path, u64) -> Compared,
) -> Beside {
    Beside { what, topology, build: others, fill: fresh_orders, records_each: 1, verify }
}

pub(crate) const KINDS: [Beside; 4] = [
    beside(
        "key-value store",
        |t| keep(t, |t| t.store("kept")),
        |dir, numbers| {
            let mut counts: HashMap<String, u64> = HashMap::new();
            same_figures(dir, numbers, |user, _| {
                let count = counts.entry(user).or_default();
                *count += 1;
                *count
            })
        },
    ),
    beside(
        "window store",
        |t| keep(t, |t| t.window_store("kept", secs(1), days(1))),
        |dir, numbers| {
            let mut counts: HashMap<(String, i64), u64> = HashMap::new();
            same_figures(dir, numbers, |user, at| {
                let count = counts.entry((user, at.div_euclid(SECOND_MS))).or_default();
                *count += 1;
                *count
            })
        },
    ),
    beside(
        "session store",
        |t| keep(t, |t| t.session_store("kept", days(1))),
        |dir, numbers| {
            let mut sessions: HashMap<String, (i64, u64)> = HashMap::new();
            same_figures(dir, numbers, |user, at| {
                let (end, count) = sessions.entry(user).or_insert((at, 0));
                *count = if at - *end > MINUTE_MS { 1 } else { *count + 1 };
                *end = at;
                *count
            })
        },
    ),
    beside(
        "versioned store",
        |t| keep(t, |t| t.versioned_store("kept", days(1))),
        |dir, numbers| {
            let mut versions: HashMap<String, BTreeMap<i64, u64>> = HashMap::new();
            same_figures(dir, numbers, |user, at| {
                let versions = versions.entry(user).or_default();
                let count = versions.values().next_back().map_or(1, |count| count + 1);
                versions.insert(at, count);
                versions.range(..=at - BEFORE_MS).next_back().map_or(0, |(_, count)| *count)
            })
        },
    ),
];

/// A store that knows something of each user.
#[expect(clippy::ptr_arg, reason = "stores are asked with keys as they are typed")]
trait Keeps: StateStore + 'static {
    /// Notes an order at this time; answers what is passed on.
    fn note(&self, user: &String, at: i64) -> streams::Result<u64>;
}

impl Keeps for KeyValueStore<String, u64> {
    fn note(&self, user: &String, _: i64) -> streams::Result<u64> {
        let count = self.get(user)?.unwrap_or(0) + 1;
        self.put(user, count)?;
        Ok(count)
    }
}

impl Keeps for WindowStore<String, u64> {
    fn note(&self, user: &String, at: i64) -> streams::Result<u64> {
        let start = at.div_euclid(SECOND_MS) * SECOND_MS;
        let count = self.get(user, start)?.unwrap_or(0) + 1;
        self.put(user, start, count)?;
        Ok(count)
    }
}

impl Keeps for SessionStore<String, u64> {
    fn note(&self, user: &String, at: i64) -> streams::Result<u64> {
        let (mut start, mut end, mut count) = (at, at, 1);
        for (session, n) in self.find(user, at - MINUTE_MS, at + MINUTE_MS)? {
            self.delete(user, session.start, session.end)?;
            (start, end, count) = (start.min(session.start), end.max(session.end), count + n);
        }
        self.put(user, start, end, count)?;
        Ok(count)
    }
}

impl Keeps for VersionedStore<String, u64> {
    fn note(&self, user: &String, at: i64) -> streams::Result<u64> {
        let count = self.get(user)?.map_or(1, |(count, _)| count + 1);
        self.put(user, Some(count), at)?;
        Ok(self.get_as_of(user, at - BEFORE_MS)?.map_or(0, |(count, _)| count))
    }
}

struct Keep<S> {
    store: S,
}

impl<S: Keeps> Processor<String, Order> for Keep<S> {
    type Key = String;
    type Out = u64;

    fn stores(&self) -> Vec<&dyn StateStore> {
        vec![&self.store]
    }

    fn record(
        &mut self,
        ctx: &mut Ctx<'_, String, u64>,
        record: Record<String, Order>,
    ) -> Processed {
        let (Some(user), at) = (record.key, record.timestamp) else { return Ok(()) };
        let figure = self.store.note(&user, at)?;
        ctx.forward(user, figure)?;
        Ok(())
    }
}

fn keep<S: Keeps>(t: &mut Topology, store: impl FnOnce(&mut Topology) -> S) {
    let store = store(t);
    let figures = t.stream(ORDERS).process("keep", Keep { store });
    figures.filter_with_key(|user, _| user.starts_with("user-")).to(COUNTS);
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

fn same_figures(dir: &Path, numbers: u64, mut figure: impl FnMut(String, i64) -> u64) -> Compared {
    let expected = (0..numbers).map(|n| {
        let user = user(n, WARM);
        (user.clone(), figure(user, time(n)))
    });
    same_records(dir, COUNTS, expected)
}
