//! Streams that meet within a time, against a model of pairs.
//!
//! The model knows nothing of stores or order: two records meet if they have one key, are within reach,
//! and neither was read when the time of the other, or its own, was up. Clocks are per partition of each
//! topic.

use std::collections::BTreeMap;

use streams::prelude::*;

use crate::equal::per_key;

const LEFT: Topic<String, String> = topic("left");
const RIGHT: Topic<String, String> = topic("right");
const PAIRS: Topic<String, String> = topic("pairs");
/// Far past every record of the suite.
const LATER: i64 = 1 << 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Inner,
    Left,
    Outer,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    before: i64,
    after: i64,
    grace: i64,
}

impl Window {
    fn to_window(self) -> JoinWindow {
        let ms = |t: i64| millis(t.unsigned_abs());
        within(ms(0)).before(ms(self.before)).after(ms(self.after)).grace(ms(self.grace))
    }
}

fn text(left: Option<String>, right: Option<String>) -> String {
    let or = |side: Option<String>| side.unwrap_or_else(|| "-".to_owned());
    format!("{}+{}", or(left), or(right))
}

fn join(
    left: Stream<String, String>,
    right: Stream<String, String>,
    kind: Kind,
    window: Window,
) -> Stream<String, String> {
    let window = window.to_window();
    match kind {
        Kind::Inner => left.join_within(right, window, "pairs", |l, r| text(Some(l), Some(r))),
        Kind::Left => left.left_join_within(right, window, "pairs", |l, r| text(Some(l), r)),
        Kind::Outer => left.outer_join_within(right, window, "pairs", text),
    }
}

#[derive(Clone, Debug)]
struct Sent {
    is_left: bool,
    key: String,
    value: String,
    at: i64,
    /// The clock of its partition when it is read.
    clock: i64,
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Records of both sides, out of order, some far behind, several with one key and timestamp.
fn input(seed: u64, partitions: u32, count: u64) -> Vec<Sent> {
    let mut random = Random(seed);
    let mut clocks: BTreeMap<(bool, u32), i64> = BTreeMap::new();
    let mut all = Vec::new();
    for i in 0..count {
        let is_left = random.below(2) == 0;
        let key = format!("k{}", random.below(5));
        let behind = match random.below(10) {
            0 => random.below(400),
            1..=4 => random.below(80),
            _ => 0,
        };
        let at = i64::try_from(i * 6).unwrap() - i64::try_from(behind).unwrap();
        let at = at / 10 * 10;
        let partition = core_log::partition_for(key.as_bytes(), partitions);
        let clock = clocks.entry((is_left, partition)).or_insert(i64::MIN);
        *clock = (*clock).max(at);
        let value = format!("{}{i}", if is_left { "l" } else { "r" });
        all.push(Sent { is_left, key, value, at, clock: *clock });
    }
    all
}

/// What is said of each key: text and timestamp, sorted; and how many records are late.
fn model(input: &[Sent], kind: Kind, w: Window) -> (BTreeMap<String, Vec<(String, i64)>>, u64) {
    let speaks = |s: &Sent| kind == Kind::Outer || (kind == Kind::Left && s.is_left);
    let until = |s: &Sent| {
        let (own, both) = (if s.is_left { w.after } else { w.before }, w.before + w.after);
        s.at + if speaks(s) { own } else { both } + 1 + w.grace
    };
    let mut said: BTreeMap<String, Vec<(String, i64)>> = BTreeMap::new();
    let mut matched = vec![false; input.len()];
    let mut late = 0;
    for (i, l) in input.iter().enumerate() {
        if l.clock >= until(l) {
            late += 1;
            continue;
        }
        for (j, r) in input.iter().enumerate().filter(|(_, r)| l.is_left && !r.is_left) {
            let within = l.at - w.before <= r.at && r.at <= l.at + w.after;
            let in_time = r.clock < until(r) && r.clock < until(l) && l.clock < until(r);
            if l.key == r.key && within && in_time {
                (matched[i], matched[j]) = (true, true);
                let pair = text(Some(l.value.clone()), Some(r.value.clone()));
                said.entry(l.key.clone()).or_default().push((pair, l.at.max(r.at)));
            }
        }
    }
    for (s, _) in input.iter().zip(&matched).filter(|(s, matched)| !**matched && speaks(s)) {
        if s.clock < until(s) {
            let value = Some(s.value.clone());
            let alone = if s.is_left { text(value, None) } else { text(None, value) };
            said.entry(s.key.clone()).or_default().push((alone, s.at));
        }
    }
    said.values_mut().for_each(|list| list.sort());
    (said, late)
}

const WINDOWS: [Window; 4] = [
    Window { before: 50, after: 50, grace: 0 },
    Window { before: 20, after: 60, grace: 30 },
    Window { before: 0, after: 100, grace: 0 },
    Window { before: 0, after: 0, grace: 40 },
];
const KINDS: [Kind; 3] = [Kind::Inner, Kind::Left, Kind::Outer];

fn send(d: &mut TestDriver, input: &[Sent]) {
    for s in input {
        let topic = if s.is_left { LEFT } else { RIGHT };
        d.send_at(topic, s.key.clone(), s.value.clone(), s.at);
    }
}

fn sorted(d: &mut TestDriver) -> BTreeMap<String, Vec<(String, i64)>> {
    let mut said: BTreeMap<String, Vec<(String, i64)>> = BTreeMap::new();
    for record in d.read_records(PAIRS) {
        let list = said.entry(record.key.unwrap()).or_default();
        list.push((record.value.unwrap(), record.timestamp));
    }
    said.values_mut().for_each(|list| list.sort());
    said
}

#[test]
fn pairs_and_lonely_records_are_those_of_the_model_in_every_interleaving_and_crash() {
    for kind in KINDS {
        for (number, window) in WINDOWS.into_iter().enumerate() {
            for seed in 0..8 {
                let partitions = 1 + u32::try_from(seed % 4).unwrap();
                let input = input(seed * 7 + number as u64, partitions, 150);
                let topology = move |t: &mut Topology| {
                    let (left, right) = (t.stream(LEFT), t.stream(RIGHT));
                    join(left, right, kind, window).to(PAIRS);
                };
                let mut d = TestDriver::new(topology).partitions(partitions).seed(seed);
                if seed % 2 == 1 {
                    d = d.crash_every(20);
                }
                send(&mut d, &input);
                d.advance_to(LATER);
                let (expected, late) = model(&input, kind, window);
                let story = format!("{kind:?} {window:?} seed {seed}, {partitions} partitions");
                assert_eq!(sorted(&mut d), expected, "{story}");
                assert_eq!(d.late(), late, "{story}");
            }
        }
    }
}

/// Not only what is said of a key, also the order, is the same in every interleaving.
#[test]
fn what_is_said_of_a_key_comes_in_one_order_whatever_the_seed_and_the_crashes() {
    for kind in KINDS {
        let window = WINDOWS[1];
        let topology = move |t: &mut Topology| {
            let (left, right) = (t.stream(LEFT), t.stream(RIGHT));
            join(left, right, kind, window).to(PAIRS);
        };
        let input = input(3, 2, 200);
        let run = |seed: u64| {
            let mut d = TestDriver::new(topology).partitions(2).seed(seed);
            if seed > 3 {
                d = d.crash_every(15);
            }
            send(&mut d, &input);
            d.advance_to(LATER);
            per_key(&d.read_records(PAIRS))
        };
        let first = run(0);
        for seed in 1..8 {
            assert_eq!(run(seed), first, "{kind:?} seed {seed}");
        }
    }
}

/// Behind repartitions records arrive in any order; which pairs meet is decided by their own clocks.
#[test]
fn rekeyed_streams_meet_whom_they_meet_in_whatever_order_they_arrive() {
    /// Key, value.
    type Keyed = (String, String);
    const LEFTS: Topic<NoKey, Keyed> = topic("lefts");
    const RIGHTS: Topic<NoKey, Keyed> = topic("rights");
    for kind in KINDS {
        for (seed, window) in (0..12).zip(WINDOWS.into_iter().cycle()) {
            let partitions = 1 + u32::try_from(seed % 3).unwrap();
            let topology = move |t: &mut Topology| {
                let left = t.stream(LEFTS).key_by(|(k, _)| k.clone()).map(|(_, v)| v);
                let right = t.stream(RIGHTS).key_by(|(k, _)| k.clone()).map(|(_, v)| v);
                join(left, right, kind, window).to(PAIRS);
            };
            let mut d = TestDriver::new(topology).partitions(partitions).seed(seed);
            if seed % 2 == 1 {
                d = d.crash_every(30);
            }
            let mut input = input(seed, partitions, 120);
            let mut clocks: BTreeMap<(bool, u32), i64> = BTreeMap::new();
            let mut turn: BTreeMap<bool, u32> = BTreeMap::new();
            for s in &mut input {
                // Where it lies is not where its key belongs; partitions stand far apart in time.
                let turn = turn.entry(s.is_left).or_default();
                *turn += 1;
                let partition = *turn % partitions;
                s.at += i64::from(partition) * 35;
                let clock = clocks.entry((s.is_left, partition)).or_insert(i64::MIN);
                *clock = (*clock).max(s.at);
                s.clock = *clock;
                let value = Some((s.key.clone(), s.value.clone()));
                let topic = if s.is_left { LEFTS } else { RIGHTS };
                d.send_record_to(topic, partition, value, s.at);
            }
            d.advance_to(LATER);
            let (expected, late) = model(&input, kind, window);
            let story = format!("{kind:?} {window:?} seed {seed}, {partitions} partitions");
            assert_eq!(sorted(&mut d), expected, "{story}");
            assert_eq!(d.late(), late, "{story}");
        }
    }
}

fn outer(t: &mut Topology) {
    let right = t.stream(RIGHT);
    t.stream(LEFT).outer_join_within(right, millis(10), "pairs", text).to(PAIRS);
}

fn told(d: &mut TestDriver) -> Vec<(String, i64)> {
    let records = d.read_records(PAIRS);
    records.into_iter().map(|r| (r.value.unwrap(), r.timestamp)).collect()
}

#[test]
fn a_record_speaks_alone_exactly_when_no_match_can_come_any_more() {
    let mut d = TestDriver::new(outer);
    d.send_at(LEFT, "k".into(), "l".into(), 100).send_at(RIGHT, "k".into(), "r".into(), 200);
    d.advance_to(110);
    assert_eq!(told(&mut d), []);
    d.advance_to(111);
    assert_eq!(told(&mut d), [("l+-".to_owned(), 100)]);
    d.advance_to(211);
    assert_eq!(told(&mut d), [("-+r".to_owned(), 200)]);
}

/// One topic an hour ahead of the other: no record of the slow one is late because of the fast one.
#[test]
fn a_side_that_runs_ahead_makes_nothing_of_the_other_late() {
    let mut d = TestDriver::new(outer);
    d.send_at(RIGHT, "k".into(), "far".into(), 3_600_000);
    for at in [0, 10, 20, 3_600_005] {
        d.send_at(LEFT, "k".into(), format!("l{at}"), at);
    }
    d.advance_to(LATER);
    assert_eq!(d.late(), 0);
    let all = told(&mut d);
    let expected = [("l0+-", 0), ("l10+-", 10), ("l20+-", 20), ("l3600005+far", 3_600_005)];
    for (text, at) in expected {
        assert!(all.contains(&(text.to_owned(), at)), "{all:?}");
    }
    assert_eq!(all.len(), 4);
}

#[test]
fn records_of_one_key_and_timestamp_are_all_kept_over_restarts() {
    let mut d = TestDriver::new(outer);
    for i in 0..30 {
        d.send_at(LEFT, "k".into(), format!("l{i}"), 100);
        if i % 7 == 0 {
            d.run().unwrap();
            d.crash();
        }
    }
    d.run().unwrap();
    d.stop();
    d.send_at(RIGHT, "k".into(), "r".into(), 105);
    let all: Vec<String> = told(&mut d).into_iter().map(|(text, _)| text).collect();
    let expected: Vec<String> = (0..30).map(|i| format!("l{i}+r")).collect();
    assert_eq!(all, expected, "in the order in which they came");
    d.advance_to(LATER);
    assert_eq!(told(&mut d), [], "all of them have matched");
}

/// Rows of a longer key may lie between those of a shorter one.
#[test]
fn keys_that_begin_like_others_do_not_meet_their_records() {
    const L: Topic<Vec<u8>, String> = topic("l");
    const R: Topic<Vec<u8>, String> = topic("r");
    const OUT: Topic<Vec<u8>, String> = topic("out");
    fn job(t: &mut Topology) {
        let right = t.stream(R);
        t.stream(L).join_within(right, secs(1), "j", |l, r| format!("{l}{r}")).to(OUT);
    }
    let keys: Vec<Vec<u8>> =
        vec![vec![], vec![0x80], vec![0x80, 0], vec![0x80, 0, 0, 0, 0, 0, 0, 0], vec![0; 12]];
    let mut d = TestDriver::new(job);
    for round in 0..12 {
        for (i, key) in keys.iter().enumerate() {
            d.send_at(L, key.clone(), format!("{i}-{round}:"), 0);
        }
    }
    for (i, key) in keys.iter().enumerate() {
        d.send_at(R, key.clone(), format!("{i}"), 1);
    }
    let all = d.read(OUT);
    assert_eq!(all.len(), 12 * keys.len());
    for (key, text) in all {
        let i = keys.iter().position(|k| *k == key).unwrap();
        assert!(text.starts_with(&format!("{i}-")) && text.ends_with(&format!(":{i}")), "{text}");
    }
}

#[test]
fn a_stream_meets_itself() {
    fn itself(t: &mut Topology) {
        let again = t.stream(LEFT);
        t.stream(LEFT).join_within(again, millis(10), "pairs", |l, r| l + &r).to(PAIRS);
    }
    let mut d = TestDriver::new(itself);
    d.send_at(LEFT, "k".into(), "a".into(), 100).send_at(LEFT, "k".into(), "b".into(), 105);
    d.send_at(LEFT, "k".into(), "c".into(), 200);
    let mut all: Vec<String> = told(&mut d).into_iter().map(|(text, _)| text).collect();
    all.sort();
    assert_eq!(all, ["aa", "ab", "ba", "bb", "cc"]);
}

#[test]
fn null_keys_and_values_are_counted_and_lonely_sides_pass_null_keys_on() {
    let mut d = TestDriver::new(outer);
    d.send_record(LEFT, None::<String>, Some("l".to_owned()), 7, Headers::none());
    d.send_record(RIGHT, Some("k".to_owned()), None::<String>, 7, Headers::none());
    assert_eq!(told(&mut d), [("l+-".to_owned(), 7)]);
    assert_eq!(d.nulls(), (0, 1));
    fn left(t: &mut Topology) {
        let right = t.stream(RIGHT);
        let says = |l, r| text(Some(l), r);
        t.stream(LEFT).left_join_within(right, millis(10), "pairs", says).to(PAIRS);
    }
    let mut d = TestDriver::new(left);
    d.send_record(RIGHT, None::<String>, Some("r".to_owned()), 7, Headers::none());
    d.send_record(LEFT, None::<String>, Some("l".to_owned()), 7, Headers::none());
    d.send_record(LEFT, None::<String>, None::<String>, 7, Headers::none());
    assert_eq!(told(&mut d), [("l+-".to_owned(), 7)]);
    assert_eq!(d.nulls(), (1, 1));
}

/// Results speak up to the differences and grace behind the clock: the next window must wait for them.
#[test]
fn results_are_in_time_for_the_next_window_with_grace_0() {
    const COUNTS: Topic<Windowed<String>, u64> = topic("counts");
    const WINDOW: Window = Window { before: 30, after: 50, grace: 20 };
    for (seed, kind) in (0..12).zip(KINDS.into_iter().cycle()) {
        let job = move |t: &mut Topology| {
            let (left, right) = (t.stream(LEFT), t.stream(RIGHT));
            join(left, right, kind, WINDOW)
                .window(tumbling(millis(20)))
                .count("counts")
                .on_close()
                .to(COUNTS);
        };
        let input = input(seed, 2, 150);
        let mut d = TestDriver::new(job).partitions(2).seed(seed);
        send(&mut d, &input);
        d.advance_to(LATER).advance_to(2 * LATER);
        let (expected, late) = model(&input, kind, WINDOW);
        assert_eq!(d.late(), late, "seed {seed}: only what the join itself calls late");
        let mut counts = BTreeMap::new();
        for (window, n) in d.read(COUNTS) {
            let story = format!("seed {seed}, {kind:?}: {window:?}");
            assert_eq!(counts.insert(window, n), None, "{story}: a window closed twice");
        }
        let counted: u64 = counts.into_values().sum();
        let said: usize = expected.values().map(Vec::len).sum();
        assert_eq!(counted, u64::try_from(said).unwrap(), "seed {seed}");
    }
}

#[test]
fn records_at_the_ends_of_time_meet_and_speak() {
    for at in [i64::MIN, -1, 0, i64::MAX] {
        let mut d = TestDriver::new(outer);
        d.send_at(LEFT, "k".into(), "l".into(), at).send_at(RIGHT, "k".into(), "r".into(), at);
        assert_eq!(told(&mut d), [("l+r".to_owned(), at)]);
        let mut d = TestDriver::new(outer);
        d.send_at(LEFT, "k".into(), "l".into(), at);
        d.advance_to(i64::MAX);
        let expected = if at == i64::MAX { vec![] } else { vec![("l+-".to_owned(), at)] };
        assert_eq!(told(&mut d), expected, "{at}");
    }
}
