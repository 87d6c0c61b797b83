//! Tables that change at most once in a period, against a plain map of the same input.

use std::collections::BTreeMap;

use streams::prelude::*;

use crate::equal::latest;

const PRICES: Topic<String, String> = topic("prices");
const OTHERS: Topic<String, String> = topic("others");
const CLICKS: Topic<String, String> = topic("clicks");
const SHOWN: Topic<String, String> = topic("shown");
const MEMBERS: Topic<String, Vec<String>> = topic("members");
const FAR: i64 = 1 << 40;

type Sent = (String, Option<String>, i64);
type Rows = BTreeMap<String, String>;

/// Changes of a few keys, one a millisecond, some of them out of order by a little.
fn input(seed: u64, count: i64) -> Vec<Sent> {
    let mut state = seed;
    let mut below = move |limit: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let mut all = Vec::new();
    for at in 0..count {
        let key = format!("k{}", below(6));
        let value = (below(5) > 0).then(|| format!("g{}", below(4)));
        all.push((key, value, at - i64::try_from(below(4)).unwrap()));
    }
    all
}

fn send(d: &mut TestDriver, input: &[Sent]) {
    for (key, value, at) in input.iter().cloned() {
        d.send_record(PRICES, Some(key), value, at, Headers::none());
    }
}

fn rows(input: &[Sent]) -> Rows {
    let mut rows = Rows::new();
    for (key, value, _) in input.iter().cloned() {
        match value {
            Some(value) => drop(rows.insert(key, value)),
            None => drop(rows.remove(&key)),
        }
    }
    rows
}

fn shown(t: &mut Topology) {
    t.table(PRICES, "prices").at_most_every(millis(40)).to(SHOWN);
}

fn grouped(t: &mut Topology) {
    let slow = t.table(PRICES, "prices").at_most_every(millis(40));
    let subtract = |members: &mut Vec<String>, key: String| match members
        .iter()
        .position(|member| *member == key)
    {
        Some(at) => drop(members.remove(at)),
        None => members.push(format!("{key} was never added")),
    };
    let by_group = slow.group_by(|key, group| (group.clone(), key.clone()));
    by_group.aggregate("members", |m: &mut Vec<String>, key| m.push(key), subtract).to(MEMBERS);
}

#[test]
fn rows_change_rarely_and_the_last_value_is_said_in_every_interleaving_and_crash() {
    for partitions in 1..=3 {
        for seed in 0..6 {
            let input = input(seed, 200);
            let mut d = TestDriver::new(shown).partitions(partitions).seed(seed);
            if seed % 2 == 1 {
                d = d.crash_every(15);
            }
            send(&mut d, &input);
            d.advance_to(FAR);
            let told = d.read_records(SHOWN);
            let story = format!("seed {seed}, {partitions} partitions");
            assert_eq!(latest(&told), rows(&input), "{story}");
            let mut times: BTreeMap<_, usize> = BTreeMap::new();
            told.iter().for_each(|record| *times.entry(&record.key).or_default() += 1);
            assert!(times.values().all(|times| *times <= 6), "{story}: {times:?} in 5 periods");
        }
    }
}

#[test]
fn groups_of_a_slow_table_lose_and_double_nothing() {
    for partitions in 1..=3 {
        for seed in 0..6 {
            let input = input(seed, 150);
            let mut d = TestDriver::new(grouped).partitions(partitions).seed(seed).crash_every(20);
            send(&mut d, &input);
            d.advance_to(FAR);
            let mut told: BTreeMap<String, Vec<String>> = latest(&d.read_records(MEMBERS));
            told.values_mut().for_each(|members| members.sort());
            told.retain(|_, members| !members.is_empty());
            let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (key, group) in rows(&input) {
                expected.entry(group).or_default().push(key);
            }
            assert_eq!(told, expected, "seed {seed}, {partitions} partitions");
        }
    }
}

fn say(d: &mut TestDriver, topic: Topic<String, String>, key: &str, value: &str, at: i64) {
    d.send_at(topic, key.into(), value.into(), at).run().unwrap();
}

fn texts(d: &mut TestDriver) -> Vec<(Option<String>, i64)> {
    d.read_records(SHOWN).into_iter().map(|record| (record.value, record.timestamp)).collect()
}

#[test]
fn the_first_change_begins_the_period_and_what_waits_survives_a_crash() {
    let mut d = TestDriver::new(shown);
    say(&mut d, PRICES, "a", "1", 100);
    say(&mut d, PRICES, "a", "2", 139);
    d.crash();
    say(&mut d, PRICES, "b", "x", 139);
    assert_eq!(texts(&mut d), []);
    d.crash();
    say(&mut d, PRICES, "b", "y", 140);
    assert_eq!(texts(&mut d), [(Some("2".to_owned()), 139)], "100 + 40");
    say(&mut d, PRICES, "a", "3", 150);
    say(&mut d, PRICES, "c", "z", 179);
    assert_eq!(texts(&mut d), [(Some("y".to_owned()), 140)], "139 + 40");
    d.send_record(PRICES, Some("a".to_owned()), None::<String>, 160, Headers::none());
    say(&mut d, PRICES, "c", "z", 190);
    assert_eq!(texts(&mut d), [(None, 160)], "150 + 40, the latest of the period");
    d.send_record(PRICES, Some("d".to_owned()), Some("new".to_owned()), 200, Headers::none());
    d.send_record(PRICES, Some("d".to_owned()), None::<String>, 201, Headers::none());
    d.advance_to(FAR);
    let told = d.read_records(SHOWN);
    assert!(told.iter().all(|record| record.key.as_deref() != Some("d")), "{told:?}");
}

/// What is looked up is what was said, for tables and for streams; and what is joined changes when it is.
#[test]
fn a_slow_table_is_looked_up_as_it_was_said() {
    fn joined(t: &mut Topology) {
        let slow = t.table(PRICES, "prices").at_most_every(millis(10));
        let others = t.table(OTHERS, "others");
        let both = others.outer_join(&slow, "both", |other, slow| format!("{other:?} {slow:?}"));
        both.to(SHOWN);
        let seen = |page, slow: Option<String>| vec![page, slow.unwrap_or_default()];
        t.stream(CLICKS).left_join(&slow, seen).to(MEMBERS);
    }
    let mut d = TestDriver::new(joined);
    say(&mut d, PRICES, "a", "1", 0);
    say(&mut d, OTHERS, "a", "x", 5);
    assert_eq!(texts(&mut d), [(Some("Some(\"x\") None".to_owned()), 5)]);
    say(&mut d, PRICES, "tick", "1", 10);
    assert_eq!(texts(&mut d), [(Some("Some(\"x\") Some(\"1\")".to_owned()), 5)]);
    say(&mut d, PRICES, "a", "2", 11);
    say(&mut d, OTHERS, "a", "y", 12);
    assert_eq!(texts(&mut d), [(Some("Some(\"y\") Some(\"1\")".to_owned()), 12)]);
    // The click comes in one transaction with a change that nobody has been told of.
    d.send_at(PRICES, "a".into(), "3".into(), 13).send_at(CLICKS, "a".into(), "/".into(), 14);
    let seen: Vec<Vec<String>> = d.read(MEMBERS).into_iter().map(|(_, seen)| seen).collect();
    assert_eq!(seen, [["/", "1"]]);
    say(&mut d, PRICES, "tick", "2", 21);
    let told = texts(&mut d);
    assert!(told.contains(&(Some("Some(\"y\") Some(\"3\")".to_owned()), 13)), "{told:?}");
}

#[test]
fn a_period_of_0_changes_nothing() {
    fn same(t: &mut Topology) {
        t.table(PRICES, "prices").at_most_every(secs(0)).to(SHOWN);
    }
    let mut d = TestDriver::new(same);
    say(&mut d, PRICES, "a", "1", 0);
    assert_eq!(texts(&mut d), [(Some("1".to_owned()), 0)]);
}
