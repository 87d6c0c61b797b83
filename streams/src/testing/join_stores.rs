//! What stream-stream joins leave in their stores: nothing that no record can meet any more.

use std::collections::BTreeMap;

use super::TestDriver;
use crate::dsl::{Topic, Topology, topic};
use crate::time::{millis, within};

const LEFT: Topic<String, u64> = topic("left");
const RIGHT: Topic<String, u64> = topic("right");
const OUT: Topic<String, u64> = topic("out");
const LATER: i64 = 1 << 40;

fn outer(t: &mut Topology) {
    let right = t.stream(RIGHT);
    let says = |l: Option<u64>, r: Option<u64>| l.unwrap_or(0) + r.unwrap_or(0);
    t.stream(LEFT).outer_join_within(right, within(millis(500)), "j", says).to(OUT);
}

fn inner(t: &mut Topology) {
    let right = t.stream(RIGHT);
    t.stream(LEFT).join_within(right, within(millis(500)), "j", |l, r| l + r).to(OUT);
}

fn rows(d: &mut TestDriver) -> BTreeMap<u8, usize> {
    let mut all = d.engine.rows_on_disk("j-left").unwrap();
    for (kind, count) in d.engine.rows_on_disk("j-right").unwrap() {
        *all.entry(kind).or_default() += count;
    }
    all
}

/// Records 10 ms apart, keys in turn.
fn send(d: &mut TestDriver, keys: u64, from: u64, count: u64) {
    for i in from..from + count {
        let to = if i % 2 == 0 { LEFT } else { RIGHT };
        d.send_at(to, format!("k{}", i % keys), i, i64::try_from(i * 10).unwrap());
    }
}

#[test]
fn rows_that_nothing_can_meet_go_and_the_store_does_not_grow() {
    for topology in [outer, inner] {
        // Keys of their own, a few, and one: rows that slices name, and rows that they do not.
        for keys in [1_000_000, 7, 1] {
            let mut d = TestDriver::new(topology);
            send(&mut d, keys, 0, 1_500);
            d.stop();
            let (at_first, mut last) = (rows(&mut d), BTreeMap::new());
            for round in 1..4 {
                send(&mut d, keys, round * 1_500, 1_500);
                d.stop();
                last = rows(&mut d);
            }
            let most = |rows: &BTreeMap<u8, usize>| rows.values().sum::<usize>();
            assert!(most(&last) <= most(&at_first) + 20, "{keys} keys: {at_first:?}, {last:?}");
            assert!(most(&last) < 1_200, "{keys} keys: {last:?}");
        }
    }
}

#[test]
fn when_all_has_been_said_nothing_is_left_whatever_crashes_there_were() {
    for topology in [outer, inner] {
        for seed in 0..16 {
            let mut d = TestDriver::new(topology).partitions(2).seed(seed).crash_every(40);
            send(&mut d, if seed % 2 == 0 { 3 } else { 300 }, 0, 400);
            d.stop();
            assert!(!rows(&mut d).is_empty(), "seed {seed}");
            send(&mut d, 5, 400, 100);
            d.advance_to(LATER);
            d.advance_to(LATER + 1);
            d.stop();
            assert_eq!(rows(&mut d), BTreeMap::new(), "seed {seed}");
        }
    }
}

#[test]
fn rows_of_one_key_are_met_wherever_they_lie_and_whatever_was_restored() {
    for topology in [outer, inner] {
        // The first row of a slice, those beside it that it names, and those that must be looked for: some
        // on disk, some only in the changelog.
        for (on_disk, behind) in [(1, 0), (0, 1), (1, 1), (2, 1), (1, 2), (40, 0), (40, 2), (2, 40)]
        {
            let mut d = TestDriver::new(topology);
            let at = |i: u64| 100 + i64::try_from(i % 3).unwrap();
            for i in 0..on_disk {
                d.send_at(LEFT, "k".to_owned(), i, at(i));
            }
            d.stop();
            for i in on_disk..on_disk + behind {
                d.send_at(LEFT, "k".to_owned(), i, at(i));
            }
            d.run().unwrap();
            d.crash();
            d.send_at(RIGHT, "k".to_owned(), 1_000, 150);
            let mut met: Vec<u64> = d.read(OUT).iter().map(|(_, sum)| *sum).collect();
            met.sort_unstable();
            let all: Vec<u64> = (1_000..1_000 + on_disk + behind).collect();
            assert_eq!(met, all, "{on_disk} rows on disk, {behind} in the changelog");
        }
    }
}
