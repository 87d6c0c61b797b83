//! Tables made of tables: filtered, mapped, grouped; against a plain map of the same input.
//!
//! The model is the latest value of each key; what is derived from it is derived at the end. Whatever
//! way the job took there, with however many partitions, interleavings and crashes, must end at the same.

use std::collections::BTreeMap;

use streams::prelude::*;

use crate::equal::latest;

const USERS: Topic<String, String> = topic("users");
const CLICKS: Topic<String, String> = topic("clicks");
const NAMES: Topic<String, String> = topic("names");
const SEEN: Topic<String, String> = topic("seen");
const COUNTS: Topic<String, u64> = topic("counts");
const MEMBERS: Topic<String, Vec<String>> = topic("members");

/// A change of one key: its new value, or none.
type Sent = (String, Option<String>);
/// What is where at the end.
type Groups<T> = BTreeMap<String, T>;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Changes of a few keys that move between a few groups, with deletes.
fn input(seed: u64, count: u64) -> Vec<Sent> {
    let mut random = Random(seed);
    let change = |random: &mut Random| {
        let key = format!("k{}", random.below(12));
        let group = random.below(5);
        (key, (random.below(5) > 0).then(|| format!("g{group}")))
    };
    (0..count).map(|_| change(&mut random)).collect()
}

fn send(d: &mut TestDriver, input: &[Sent]) {
    for (at, (key, value)) in (0..).zip(input.iter().cloned()) {
        d.send_record(USERS, Some(key), value, at, Headers::none());
    }
}

/// The latest value of each key.
fn rows(input: &[Sent]) -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for (key, value) in input.iter().cloned() {
        match value {
            Some(value) => drop(rows.insert(key, value)),
            None => drop(rows.remove(&key)),
        }
    }
    rows
}

/// Who is in which group.
fn members(input: &[Sent]) -> Groups<Vec<String>> {
    let mut groups: Groups<Vec<String>> = BTreeMap::new();
    for (key, group) in rows(input) {
        groups.entry(group).or_default().push(key);
    }
    groups
}

/// Every run of a topology: partitions, seeds, with crashes and without.
fn each_run(topology: fn(&mut Topology), mut check: impl FnMut(&mut TestDriver, &[Sent], &str)) {
    for partitions in 1..=4 {
        for seed in 0..8 {
            let input = input(seed, 150);
            let mut d = TestDriver::new(topology).partitions(partitions).seed(seed);
            if seed % 2 == 1 {
                d = d.crash_every(20);
            }
            send(&mut d, &input);
            check(&mut d, &input, &format!("seed {seed}, {partitions} partitions"));
        }
    }
}

fn in_and_out(t: &mut Topology) {
    let add = |members: &mut Vec<String>, key| members.push(key);
    let subtract = |members: &mut Vec<String>, key: String| match members
        .iter()
        .position(|member| *member == key)
    {
        Some(at) => drop(members.remove(at)),
        None => members.push(format!("{key} was never added")),
    };
    let users = t.table(USERS, "users");
    let by_group = users.group_by(|key, group| (group.clone(), key.clone()));
    by_group.aggregate("members", add, subtract).to(MEMBERS);
}

/// A row is in one group, the one that it says: never lost, never twice, whenever it moves.
#[test]
fn no_member_is_lost_or_doubled_when_rows_move_between_groups() {
    each_run(in_and_out, |d, input, story| {
        let mut told: Groups<Vec<String>> = latest(&d.read_records(MEMBERS));
        told.values_mut().for_each(|members| members.sort());
        told.retain(|_, members| !members.is_empty());
        assert_eq!(told, members(input), "{story}");
    });
}

#[test]
fn a_count_of_groups_goes_down_as_rows_leave_and_stays_at_0() {
    fn counted(t: &mut Topology) {
        let users = t.table(USERS, "users");
        users.group_by(|_, group| (group.clone(), ())).count("counts").to(COUNTS);
    }
    each_run(counted, |d, input, story| {
        let mut told: Groups<u64> = latest(&d.read_records(COUNTS));
        told.retain(|_, count| *count > 0);
        let expected: Groups<u64> =
            members(input).into_iter().map(|(k, v)| (k, u64::try_from(v.len()).unwrap())).collect();
        assert_eq!(told, expected, "{story}");
    });
    let mut d = TestDriver::new(counted).partitions(3);
    for group in ["a", "b", "a"] {
        d.send(USERS, "k".into(), group.into()).run().unwrap();
    }
    let counts: Groups<u64> = latest(&d.read_records(COUNTS));
    assert_eq!(counts, BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 0)]));
}

/// With the group unchanged nothing between old and new is ever said.
#[test]
fn a_change_inside_a_group_is_one_step() {
    const SUMS: Topic<String, i64> = topic("sums");
    fn sums(t: &mut Topology) {
        let users = t.table(USERS, "users").map(|n| n.parse::<i64>().unwrap_or(0));
        let sums = users.group_by(|_, n| (String::from("all"), *n));
        sums.reduce("sums", |a, b| a + b, |a, b| a - b).to(SUMS);
    }
    let mut d = TestDriver::new(sums).partitions(2);
    for (key, n) in [("a", "5"), ("b", "7"), ("a", "6"), ("b", "1")] {
        d.send(USERS, key.into(), n.into()).run().unwrap();
    }
    let told: Vec<i64> = d.read(SUMS).into_iter().map(|(_, sum)| sum).collect();
    assert_eq!(told, [5, 12, 13, 7]);
}

/// What is subtracted is what was last passed on, not what the transaction saw between.
#[test]
fn values_between_two_commits_reach_no_group() {
    let mut d = TestDriver::new(in_and_out).partitions(2);
    for group in ["a", "b", "c"] {
        d.send(USERS, "k".into(), group.into());
    }
    d.run().unwrap();
    for group in ["d", "e", "c", "a"] {
        d.send(USERS, "k".into(), group.into());
    }
    let told: Groups<Vec<String>> = latest(&d.read_records(MEMBERS));
    let filled: Vec<&String> = told.iter().filter(|(_, m)| !m.is_empty()).map(|(g, _)| g).collect();
    assert_eq!(filled, ["a"]);
    assert!(!told.contains_key("b") || told["b"].is_empty(), "{told:?}");
}

#[test]
fn a_filtered_table_forgets_what_it_no_longer_wants() {
    fn kept(t: &mut Topology) {
        let users = t.table(USERS, "users");
        let kept = users.filter_with_key(|key, _| key != "k3").filter(|group| group != "g0");
        kept.map(|group| group.to_uppercase()).map_with_key(|k, g| format!("{k}:{g}")).to(NAMES);
    }
    each_run(kept, |d, input, story| {
        let mut expected = rows(input);
        expected.retain(|key, group| key != "k3" && group != "g0");
        expected.iter_mut().for_each(|(k, g)| *g = format!("{k}:{}", g.to_uppercase()));
        assert_eq!(latest(&d.read_records(NAMES)), expected, "{story}");
    });
    let mut d = TestDriver::new(kept);
    d.send(USERS, "a".into(), "g0".into()).run().unwrap();
    assert!(d.read_records(NAMES).is_empty(), "there is nothing to forget");
    d.send(USERS, "k3".into(), "g1".into()).run().unwrap();
    d.send_record(USERS, Some("k3".to_owned()), None::<String>, 5, Headers::none());
    assert!(d.read_records(NAMES).is_empty());
}

/// A look-up sees the running transaction through the filter, not the last commit.
#[test]
fn a_mapped_table_is_looked_up_as_the_running_transaction_has_it() {
    fn seen(t: &mut Topology) {
        let users = t.table(USERS, "users").filter(|name| name != "bot").map(|n| n.to_uppercase());
        t.stream(CLICKS).left_join(&users, |page, name| format!("{page} {name:?}")).to(SEEN);
    }
    let mut d = TestDriver::new(seen).partitions(2);
    for (at, name) in [(1, "ana"), (3, "bot"), (5, "eva")] {
        d.send_at(USERS, "u".into(), name.into(), at);
        d.send_at(CLICKS, "u".into(), format!("/{at}"), at + 1);
    }
    let told: Vec<String> = d.read(SEEN).into_iter().map(|(_, text)| text).collect();
    assert_eq!(told, ["/1 Some(\"ANA\")", "/3 None", "/5 Some(\"EVA\")"]);
}
