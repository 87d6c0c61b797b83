//! Tables joined with tables, against plain maps of the same input.
//!
//! A result follows from the latest rows of both sides, whatever the commits and the partitions were.

use std::collections::BTreeMap;

use streams::prelude::*;

use crate::equal::latest;

const LEFT: Topic<String, String> = topic("left");
const RIGHT: Topic<String, String> = topic("right");
const CLICKS: Topic<String, String> = topic("clicks");
const OUT: Topic<String, String> = topic("out");
const COUNTS: Topic<String, u64> = topic("counts");

type Rows = BTreeMap<String, String>;
type Both = (Option<String>, Option<String>);

/// A change of one side, left where `true`.
#[derive(Clone, Debug)]
struct Sent {
    to_left: bool,
    key: String,
    value: Option<String>,
}

fn input(seed: u64, count: u64) -> Vec<Sent> {
    let mut state = seed;
    let mut below = move |limit: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let mut all = Vec::new();
    for i in 0..count {
        let (to_left, key) = (below(2) == 0, format!("k{}", below(8)));
        all.push(Sent { to_left, key, value: (below(3) > 0).then(|| format!("v{i}")) });
    }
    all
}

fn send(d: &mut TestDriver, input: &[Sent]) {
    for (at, Sent { to_left, key, value }) in (0..).zip(input.iter().cloned()) {
        let topic = if to_left { LEFT } else { RIGHT };
        d.send_record(topic, Some(key), value, at, Headers::none());
    }
}

/// The latest rows of both sides.
fn sides(input: &[Sent]) -> BTreeMap<String, Both> {
    let mut rows: BTreeMap<String, Both> = BTreeMap::new();
    for Sent { to_left, key, value } in input.iter().cloned() {
        let row = rows.entry(key).or_default();
        *(if to_left { &mut row.0 } else { &mut row.1 }) = value;
    }
    rows
}

fn said(both: Both) -> String {
    let show = |side: Option<String>| side.unwrap_or_else(|| "none".to_owned());
    format!("{}-{}", show(both.0), show(both.1))
}

fn model(input: &[Sent], kind: &str) -> Rows {
    let wanted = |both: &Both| match kind {
        "inner" => both.0.is_some() && both.1.is_some(),
        "left" => both.0.is_some(),
        _ => both.0.is_some() || both.1.is_some(),
    };
    let rows = sides(input).into_iter().filter(|(_, both)| wanted(both));
    rows.map(|(key, both)| (key, said(both))).collect()
}

fn inner(t: &mut Topology) {
    let (left, right) = (t.table(LEFT, "left"), t.table(RIGHT, "right"));
    left.join(&right, "both", |l, r| said((Some(l), Some(r)))).to(OUT);
}

fn left(t: &mut Topology) {
    let (left, right) = (t.table(LEFT, "left"), t.table(RIGHT, "right"));
    left.left_join(&right, "both", |l, r| said((Some(l), r))).to(OUT);
}

fn outer(t: &mut Topology) {
    let (left, right) = (t.table(LEFT, "left"), t.table(RIGHT, "right"));
    left.outer_join(&right, "both", |l, r| said((l, r))).to(OUT);
}

type Job = fn(&mut Topology);

#[test]
fn a_result_follows_from_the_latest_rows_in_every_interleaving_and_crash() {
    let topologies: [(&str, Job); 3] = [("inner", inner), ("left", left), ("outer", outer)];
    for (kind, topology) in topologies {
        for partitions in 1..=3 {
            for seed in 0..6 {
                let input = input(seed, 120);
                let mut d = TestDriver::new(topology).partitions(partitions).seed(seed);
                if seed % 2 == 1 {
                    d = d.crash_every(15);
                }
                send(&mut d, &input);
                let told = latest(&d.read_records(OUT));
                assert_eq!(
                    told,
                    model(&input, kind),
                    "{kind}, seed {seed}, {partitions} partitions"
                );
            }
        }
    }
}

/// One transaction takes all of the input: each key is said once, whatever happened to it on the way.
#[test]
fn what_has_changed_on_both_sides_since_the_last_commit_comes_out_once() {
    fn diamond(t: &mut Topology) {
        let (left, right) = (t.table(LEFT, "left"), t.table(RIGHT, "right"));
        let both = left.outer_join(&right, "both", |l, r| said((l, r)));
        let again = both.outer_join(&right, "again", |b, r| said((b, r)));
        again
            .join(&both.filter(|text| !text.is_empty()), "third", |a, b| format!("{a}|{b}"))
            .to(OUT);
    }
    for seed in 0..10 {
        let mut d = TestDriver::new(diamond).partitions(2).seed(seed);
        let sends = [(LEFT, "a"), (RIGHT, "b"), (LEFT, "c"), (RIGHT, "d")];
        for (at, (topic, value)) in (0..).zip(sends) {
            d.send_at(topic, "k".into(), value.into(), at);
        }
        d.run().unwrap();
        let commits = d.commits();
        let told = d.read_records(OUT);
        assert_eq!(latest(&told)["k"], "c-d-d|c-d", "seed {seed}");
        assert!(u64::try_from(told.len()).unwrap() <= commits, "{} in {commits}", told.len());
        assert_eq!(told.last().unwrap().timestamp, 3, "the larger one of both");
    }
}

#[test]
fn a_delete_is_passed_on_only_where_there_was_a_result() {
    let mut d = TestDriver::new(inner);
    let mut say = |topic, value: Option<&str>, at| {
        d.send_record(topic, Some("k".to_owned()), value.map(str::to_owned), at, Headers::none());
        d.run().unwrap();
        let told = d.read_records(OUT).into_iter().map(|r| (r.value, r.timestamp));
        told.collect::<Vec<_>>()
    };
    assert_eq!(say(LEFT, Some("a"), 1), []);
    assert_eq!(say(LEFT, None, 2), [], "there was no pair");
    assert_eq!(say(RIGHT, Some("b"), 9), []);
    let pair = (Some("c-b".to_owned()), 9);
    assert_eq!(say(LEFT, Some("c"), 4), [pair], "the larger timestamp");
    assert_eq!(say(RIGHT, None, 10), [(None, 10)]);
    assert_eq!(say(RIGHT, None, 11), [], "it is gone already");
}

/// A stream finds the joined row as it is at its own record, not as of the last commit.
#[test]
fn a_stream_looks_up_a_joined_table_as_the_running_transaction_has_it() {
    fn seen(t: &mut Topology) {
        let (left, right) = (t.table(LEFT, "left"), t.table(RIGHT, "right"));
        let both = left.left_join(&right, "both", |l, r| said((Some(l), r)));
        t.stream(CLICKS).left_join(&both, |page, row| format!("{page} {row:?}")).to(OUT);
    }
    for seed in 0..4 {
        let mut d = TestDriver::new(seen).partitions(2).seed(seed);
        d.send_at(CLICKS, "k".into(), "/1".into(), 0);
        d.send_at(LEFT, "k".into(), "a".into(), 1).send_at(CLICKS, "k".into(), "/2".into(), 2);
        d.send_at(RIGHT, "k".into(), "b".into(), 3).send_at(CLICKS, "k".into(), "/3".into(), 4);
        let told: Vec<String> = d.read(OUT).into_iter().map(|(_, text)| text).collect();
        assert_eq!(told, ["/1 None", "/2 Some(\"a-none\")", "/3 Some(\"a-b\")"], "seed {seed}");
    }
}

/// A joined table is a table: what it was is taken out of the group when it changes.
#[test]
fn a_joined_table_can_be_grouped() {
    fn grouped(t: &mut Topology) {
        let (left, right) = (t.table(LEFT, "left"), t.table(RIGHT, "right"));
        let both = left.outer_join(&right, "both", |l, r| (l.is_some(), r.is_some()));
        let name = |both: &(bool, bool)| match both {
            (true, true) => "both".to_owned(),
            (true, false) => "left".to_owned(),
            _ => "right".to_owned(),
        };
        both.group_by(move |_, row| (name(row), ())).count("sizes").to(COUNTS);
    }
    for partitions in 1..=3 {
        for seed in 0..6 {
            let input = input(seed, 100);
            let mut d = TestDriver::new(grouped).partitions(partitions).seed(seed);
            if seed % 2 == 0 {
                d = d.crash_every(15);
            }
            send(&mut d, &input);
            let mut expected: BTreeMap<String, u64> = BTreeMap::new();
            for both in sides(&input).into_values() {
                let name = match both {
                    (Some(_), Some(_)) => "both",
                    (Some(_), None) => "left",
                    (None, Some(_)) => "right",
                    (None, None) => continue,
                };
                *expected.entry(name.to_owned()).or_default() += 1;
            }
            let mut told: BTreeMap<String, u64> = latest(&d.read_records(COUNTS));
            told.retain(|_, n| *n > 0);
            assert_eq!(told, expected, "seed {seed}, {partitions} partitions");
        }
    }
}

#[test]
fn tables_of_different_partitions_are_refused() {
    let mut d = TestDriver::new(inner).partitions_of(LEFT, 2).partitions_of(RIGHT, 3);
    d.send(LEFT, "k".into(), "a".into());
    let refused = d.run().unwrap_err();
    assert_eq!(refused.code(), "S003", "{refused}");
}

#[test]
fn a_table_can_be_joined_with_itself() {
    fn itself(t: &mut Topology) {
        let left = t.table(LEFT, "left");
        left.join(&left, "twice", |l, r| format!("{l}{r}")).to(OUT);
    }
    let mut d = TestDriver::new(itself);
    d.send(LEFT, "k".into(), "a".into());
    assert_eq!(d.read(OUT), [("k".to_owned(), "aa".to_owned())]);
}
