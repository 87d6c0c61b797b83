//! Steps that keep state behind each other in one sub-topology, and inputs of different sizes.

use std::collections::BTreeMap;

use streams::prelude::*;

use crate::equal::latest;

const IN: Topic<String, u64> = topic("in");
const ALSO: Topic<String, u64> = topic("also");
const TWICE: Topic<Windowed<Windowed<String>>, u64> = topic("twice");

/// A window right behind a window, without a repartition: the outer one must have the results of the
/// inner one before it looks at its own clock, or else it closes twice.
#[test]
fn a_window_behind_a_window_has_its_results_before_it_closes() {
    fn topology(t: &mut Topology) {
        t.stream(IN)
            .window(tumbling(secs(1)))
            .count("inner")
            .on_close()
            .window(tumbling(secs(10)))
            .aggregate("outer", |sum: &mut u64, n| *sum += n)
            .on_close()
            .to(TWICE);
    }
    for seed in 0..4 {
        let mut d = TestDriver::new(topology).seed(seed).crash_every(3);
        for at in [500, 600, 1_500, 100_000, 100_500, 200_000] {
            d.send_at(IN, "a".into(), 1, at);
        }
        let said: Vec<(i64, u64)> =
            d.read(TWICE).into_iter().map(|(w, n)| (w.key.start, n)).collect();
        assert_eq!(said, [(0, 2), (1_000, 1), (100_000, 2)], "seed {seed}");
        assert_eq!(d.late(), 0);
    }
}

#[test]
fn advancing_the_clock_closes_windows_behind_windows_at_once() {
    const OUT: Topic<String, u64> = topic("out");
    fn topology(t: &mut Topology) {
        t.stream(IN)
            .window(tumbling(secs(1)))
            .count("inner")
            .on_close()
            .window(tumbling(secs(10)))
            .aggregate("outer", |sum: &mut u64, n| *sum += n)
            .on_close()
            .key_by(|_| "all".to_owned())
            .aggregate("all", |sum: &mut u64, n| *sum += n)
            .to(OUT);
    }
    let mut d = TestDriver::new(topology);
    d.send_at(IN, "a".into(), 1, 500).send_at(IN, "a".into(), 1, 1_500);
    d.advance_to(1_000_000);
    assert_eq!(latest(&d.read_records(OUT)), BTreeMap::from([("all".to_owned(), 2)]));
}

#[test]
fn updates_of_a_window_reach_the_window_behind_it_in_the_same_commit() {
    fn topology(t: &mut Topology) {
        t.stream(IN)
            .window(tumbling(secs(1)))
            .count("inner")
            .on_update()
            .window(tumbling(secs(10)))
            .aggregate("outer", |last: &mut u64, n| *last = n)
            .on_update()
            .to(TWICE);
    }
    for seed in 0..4 {
        let mut d = TestDriver::new(topology).seed(seed);
        for _ in 0..50 {
            d.send_at(IN, "a".into(), 1, 500);
        }
        let rows = latest(&d.read_records(TWICE));
        assert_eq!(rows.values().copied().collect::<Vec<_>>(), [50], "seed {seed}");
    }
}

/// Two topics of different sizes in one sub-topology: a task that has no partition of the smaller one
/// does not wait for it.
#[test]
fn a_partition_that_one_input_does_not_have_holds_no_window_open() {
    const COUNTS: Topic<Windowed<String>, u64> = topic("counts");
    fn topology(t: &mut Topology) {
        let all = t.stream(IN).merge(t.stream(ALSO));
        all.key_by(|n| format!("k{n}")).window(tumbling(secs(1))).count("n").on_close().to(COUNTS);
    }
    let mut d = TestDriver::new(topology).partitions(4);
    for partition in 0..4 {
        d.send_to(IN, partition, "x".into(), 1);
    }
    let mut d = d.partitions(2);
    for partition in 0..2 {
        d.send_to(ALSO, partition, "x".into(), 1);
    }
    d.advance_to(i64::MAX / 2);
    let counted: u64 = d.read(COUNTS).iter().map(|(_, n)| n).sum();
    assert_eq!(counted, 6);
}
