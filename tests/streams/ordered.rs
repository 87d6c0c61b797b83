//! `.ordered()`: what depends on the order of records behind a repartition gives one answer.
//!
//! The model sorts what the source partitions hold by (source time, partition, place), and shares no
//! code with `streams`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use streams::Error;
use streams::prelude::*;
use streams::testing::Limits;

use crate::equal::{latest, per_key};

type Move = (String, u64);

const MOVES: Topic<NoKey, Move> = topic("moves");
const PLACES: Topic<NoKey, Move> = topic("places");
const OUT: Topic<String, u64> = topic("out");
const MET: Topic<String, (u64, u64)> = topic("met");
const END: i64 = 1_000_000;

/// A record: its partition, time, key and value.
type Sent = (u32, i64, String, u64);

/// Records out of order and with ties, partitions `skew_ms` apart.
fn sent(seed: u64, skew_ms: i64) -> Vec<Sent> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = move |limit: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let mut all = Vec::new();
    for i in 0..25i64 {
        for partition in 0..3 {
            let at = 1_000 + 10 * i + i64::from(partition) * skew_ms;
            let at = at - i64::try_from(next(4)).unwrap() * 10;
            all.push((partition, at, format!("k{}", next(3)), u64::try_from(all.len()).unwrap()));
        }
    }
    all
}

/// The records in the order in which they are to be taken.
fn in_order(sent: &[Sent]) -> Vec<Sent> {
    let mut clocks = BTreeMap::new();
    let place = |(i, (partition, at, ..)): (usize, &Sent)| {
        let clock = clocks.entry(*partition).or_insert(i64::MIN);
        *clock = (*clock).max(*at);
        (*clock, *partition, i)
    };
    let mut places: Vec<_> = sent.iter().enumerate().map(place).collect();
    places.sort_unstable();
    places.into_iter().map(|(_, _, i)| sent[i].clone()).collect()
}

fn send(d: &mut TestDriver, topic: Topic<NoKey, Move>, all: &[Sent]) {
    for (partition, at, key, value) in all {
        d.send_record_to(topic, *partition, Some((key.clone(), *value)), *at);
    }
}

fn driver(job: fn(&mut Topology), seed: u64) -> TestDriver {
    let d = TestDriver::new(job).partitions(3).seed(seed);
    if seed.is_multiple_of(2) { d.crash_every(25) } else { d }
}

fn by_key(t: &mut Topology, from: Topic<NoKey, Move>, name: &str) -> Stream<String, u64> {
    t.stream(from).key_by(|(key, _)| key.clone()).map(|(_, n)| n).repartition(name, 2)
}

#[test]
fn records_behind_an_ordered_repartition_come_in_the_order_of_the_model() {
    fn job(t: &mut Topology) {
        by_key(t, MOVES, "by-key").ordered().to(OUT);
    }
    for seed in 0..12 {
        let all = sent(seed, [0, 40, 900][usize::try_from(seed % 3).unwrap()]);
        let mut expected: BTreeMap<Option<String>, Vec<(Option<u64>, i64)>> = BTreeMap::new();
        for (_, at, key, value) in in_order(&all) {
            expected.entry(Some(key)).or_default().push((Some(value), at));
        }
        // Little memory: most of what is held is read again from the topic.
        let limits = Limits { held_bytes_max: 1_000, ..Limits::default() };
        let mut d = driver(job, seed);
        d = if seed % 4 < 2 { d.limits(limits) } else { d };
        send(&mut d, MOVES, &all);
        d.run().unwrap();
        d.advance_to(END);
        assert_eq!(per_key(&d.read_records(OUT)), expected, "seed {seed}");
    }
}

fn keep_last(t: &mut Topology, ordered: bool) {
    let moves = by_key(t, MOVES, "by-key");
    let moves = if ordered { moves.ordered() } else { moves };
    moves.aggregate("last", |last: &mut u64, n| *last = n).to(OUT);
}

fn keep_last_in_order(t: &mut Topology) {
    keep_last(t, true);
}

fn keep_last_as_it_comes(t: &mut Topology) {
    keep_last(t, false);
}

#[test]
fn the_last_value_of_a_key_is_the_last_in_order_and_by_chance_without() {
    let mut wrong_without = 0;
    for seed in 0..12 {
        let all = sent(seed, 5);
        let expected: BTreeMap<String, u64> =
            in_order(&all).into_iter().map(|(_, _, key, value)| (key, value)).collect();
        let run = |job: fn(&mut Topology)| {
            let mut d = driver(job, seed);
            send(&mut d, MOVES, &all);
            d.advance_to(END);
            latest(&d.read_records(OUT))
        };
        assert_eq!(run(keep_last_in_order), expected, "seed {seed}");
        wrong_without += u32::from(run(keep_last_as_it_comes) != expected);
    }
    assert!(wrong_without > 0, "the test can fail: without order some seed gives another answer");
}

/// Two streams that meet, or a stream that looks up a table, all behind repartitions.
fn meet(t: &mut Topology, ordered: bool, table: bool) {
    let (left, right) = (by_key(t, MOVES, "left"), by_key(t, PLACES, "right"));
    let (left, right) = if ordered { (left.ordered(), right.ordered()) } else { (left, right) };
    if table {
        let places = right.table("places");
        left.left_join(&places, |n, place| (n, place.unwrap_or(0))).to(MET);
    } else {
        left.left_join_within(right, millis(30), "met", |n, m| (n, m.unwrap_or(0))).to(MET);
    }
}

fn streams_in_order(t: &mut Topology) {
    meet(t, true, false);
}

fn streams_as_they_come(t: &mut Topology) {
    meet(t, false, false);
}

fn table_in_order(t: &mut Topology) {
    meet(t, true, true);
}

fn table_as_it_comes(t: &mut Topology) {
    meet(t, false, true);
}

#[test]
fn joins_and_tables_behind_ordered_repartitions_say_the_same_in_every_run() {
    for (job, without) in [
        (streams_in_order as fn(&mut Topology), streams_as_they_come as fn(&mut Topology)),
        (table_in_order, table_as_it_comes),
    ] {
        let few = |seed| sent(seed, 20).into_iter().take(45).collect::<Vec<_>>();
        let (left, right) = (few(1), few(2));
        let run = |job: fn(&mut Topology), seed: u64| {
            let mut d = driver(job, seed);
            send(&mut d, MOVES, &left);
            send(&mut d, PLACES, &right);
            d.advance_to(END);
            per_key(&d.read_records(MET))
        };
        let first = run(job, 0);
        assert!(first.values().map(Vec::len).sum::<usize>() >= left.len());
        for seed in 1..6 {
            assert_eq!(run(job, seed), first, "seed {seed}");
        }
        let chance = run(without, 1);
        let differs = (3..12).step_by(2).any(|seed| run(without, seed) != chance);
        assert!(differs, "the test can fail: without order some run says something else");
    }
}

#[test]
fn windows_behind_an_ordered_repartition_close_with_all_their_records() {
    const WINDOWS: Topic<Windowed<String>, Vec<u64>> = topic("windows");
    fn job(t: &mut Topology) {
        by_key(t, MOVES, "by-key")
            .ordered()
            .window(tumbling(millis(50)))
            .aggregate("lists", |list: &mut Vec<u64>, n| list.push(n))
            .on_close()
            .to(WINDOWS);
    }
    for seed in 0..8 {
        let all = sent(seed, 15);
        let mut expected: BTreeMap<(String, i64), Vec<u64>> = BTreeMap::new();
        let mut clocks = BTreeMap::new();
        let late = |(partition, at, ..): &Sent| {
            let clock = clocks.entry(*partition).or_insert(i64::MIN);
            *clock = (*clock).max(*at);
            *clock >= at.div_euclid(50) * 50 + 50
        };
        let is_late: Vec<bool> = all.iter().map(late).collect();
        for (_, at, key, value) in in_order(&all) {
            let i = usize::try_from(value).unwrap();
            if !is_late[i] {
                expected.entry((key, at.div_euclid(50) * 50)).or_default().push(value);
            }
        }
        let mut d = driver(job, seed);
        send(&mut d, MOVES, &all);
        d.advance_to(END);
        let said: BTreeMap<_, _> =
            d.read(WINDOWS).into_iter().map(|(w, list)| ((w.key, w.start), list)).collect();
        assert_eq!(said, expected, "seed {seed}");
        assert_eq!(d.late(), u64::try_from(is_late.iter().filter(|late| **late).count()).unwrap());
    }
}

#[test]
fn a_topic_that_was_ordered_is_not_read_as_it_comes() {
    let ordered = Arc::new(AtomicBool::new(true));
    let said = Arc::clone(&ordered);
    let mut d = TestDriver::new(move |t: &mut Topology| {
        let moves = by_key(t, MOVES, "by-key");
        if said.load(Ordering::Relaxed) { moves.ordered().to(OUT) } else { moves.to(OUT) }
    });
    send(&mut d, MOVES, &[(0, 1_000, "k".to_owned(), 1)]);
    d.run().unwrap();
    ordered.store(false, Ordering::Relaxed);
    d.crash();
    let error = d.run().unwrap_err();
    assert_eq!(error.code(), "S018");
    let is_reason = |reason: &str| reason.contains("`test-by-key-repartition` was read in order");
    assert!(matches!(&error, Error::Topology { reason, .. } if is_reason(reason)), "{error}");
}

#[test]
fn what_cannot_be_ordered_is_refused() {
    let code = |job: fn(&mut Topology)| TestDriver::new(job).run().unwrap_err().code();
    assert_eq!(code(|t| t.stream(OUT).ordered().to(MET_AS_OUT)), "S018");
    assert_eq!(
        code(|t| t.stream(OUT).repartition_as("r").map(|n| n).ordered().to(MET_AS_OUT)),
        "S018"
    );
    assert_eq!(code(|t| t.stream(OUT).repartition_as("a b").ordered().to(MET_AS_OUT)), "S024");
}

const MET_AS_OUT: Topic<String, u64> = topic("met-as-out");
