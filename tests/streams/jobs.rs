//! The topologies that the suite runs, their inputs, and what a model says of them.
//!
//! The model shares no code with `streams`: it applies the rule of lateness to each partition's records
//! in order.

use std::collections::BTreeMap;

use streams::prelude::*;
use streams::testing::TestRecord;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Click {
    pub(crate) user: String,
    pub(crate) page: String,
    pub(crate) at: i64,
}

pub(crate) const CLICKS: Topic<NoKey, Click> = topic("clicks");
pub(crate) const COUNTS: Topic<Windowed<String>, u64> = topic("page-counts");
pub(crate) const PER_PAGE: Topic<Windowed<String>, u64> = topic("visitors-per-page");

pub(crate) const MINUTE: i64 = 60_000;
pub(crate) const GRACE: i64 = 10_000;

/// The first job of the README.
pub(crate) fn clickstream(t: &mut Topology) {
    t.stream(CLICKS)
        .event_time(|c| c.at)
        .filter(|c| !c.user.starts_with("bot-"))
        .key_by(|c| c.page.clone())
        .window(tumbling(mins(1)).grace(secs(10)))
        .count("clicks-per-page")
        .on_close()
        .to(COUNTS);
}

/// Two repartitions: clicks per page and user, then users per page.
pub(crate) fn two_hops(t: &mut Topology) {
    t.stream(CLICKS)
        .event_time(|c| c.at)
        .key_by(|c| format!("{} {}", c.page, c.user))
        .window(tumbling(mins(1)).grace(secs(10)))
        .aggregate("visits-per-user", |visit: &mut (String, u64), c: Click| {
            visit.0 = c.page;
            visit.1 += 1;
        })
        .on_close()
        .key_by(|(page, _)| page.clone())
        .window(tumbling(mins(1)))
        .count("users-per-page")
        .on_close()
        .to(PER_PAGE);
}

/// A click by its user, page and second.
pub(crate) fn click(user: &str, page: &str, at: i64) -> Click {
    Click { user: user.to_owned(), page: page.to_owned(), at }
}

/// Clicks for each partition: `skew_ms` apart in event time from one partition to the next, out of
/// order by up to `jitter_ms`.
pub(crate) fn clicks(seed: u64, partitions: u32, each: u64, skew_ms: i64) -> Vec<(u32, Click)> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = move |limit: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let mut all = Vec::new();
    for i in 0..each {
        for partition in 0..partitions {
            let base = i64::from(partition) * skew_ms + i64::try_from(i).unwrap() * 4_000;
            let at = base - i64::try_from(next(25_000)).unwrap();
            let user = if next(20) == 0 { "bot-1".to_owned() } else { format!("u{}", next(4)) };
            all.push((partition, click(&user, &format!("/{}", next(3)), at)));
        }
    }
    all
}

/// Count and largest time by (page, window start).
pub(crate) type Counts = BTreeMap<(String, i64), (u64, i64)>;

/// Counts, and how many clicks are late, by the rule: late when the largest
/// time read from the record's partition has reached the window's end plus grace.
pub(crate) fn model(input: &[(u32, Click)]) -> (Counts, u64) {
    let mut clocks: BTreeMap<u32, i64> = BTreeMap::new();
    let (mut counts, mut late) = (BTreeMap::new(), 0);
    for (partition, click) in input {
        let clock = clocks.entry(*partition).or_insert(i64::MIN);
        *clock = (*clock).max(click.at);
        if click.user.starts_with("bot-") {
            continue;
        }
        let start = click.at.div_euclid(MINUTE) * MINUTE;
        if *clock >= start + MINUTE + GRACE {
            late += 1;
            continue;
        }
        let row = counts.entry((click.page.clone(), start)).or_insert((0, i64::MIN));
        *row = (row.0 + 1, row.1.max(click.at));
    }
    (counts, late)
}

/// The same shape for what a job wrote.
pub(crate) fn written(records: &[TestRecord<Windowed<String>, u64>]) -> Counts {
    let mut counts = BTreeMap::new();
    for record in records {
        let (key, count) = (record.key.clone().unwrap(), record.value.unwrap());
        let twice = counts.insert((key.key, key.start), (count, record.timestamp));
        assert!(twice.is_none(), "a window closed twice");
    }
    counts
}

/// Sends a prepared input to the partitions that it names.
pub(crate) fn send_all(d: &mut TestDriver, input: &[(u32, Click)]) {
    for (partition, click) in input {
        d.send_to(CLICKS, *partition, NoKey, click.clone());
    }
}
