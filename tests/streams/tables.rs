//! Tables, and streams that look them up, against a plain map.
//!
//! The model reads the records of one partition as a task must: by (timestamp, tables first, offset).

use std::collections::BTreeMap;

use streams::prelude::*;
use streams::testing::TestRecord;

use crate::equal::{latest, per_key};

const CLICKS: Topic<String, String> = topic("clicks");
const USERS: Topic<String, String> = topic("users");
const SEEN: Topic<String, String> = topic("seen");
const NAMES: Topic<String, String> = topic("names");

fn inner(t: &mut Topology) {
    let clicks = t.stream(CLICKS);
    let users = t.table(USERS, "users");
    clicks.join(&users, |click, user| format!("{click} {user}")).to(SEEN);
}

fn left(t: &mut Topology) {
    let clicks = t.stream(CLICKS);
    let users = t.table(USERS, "users");
    clicks.left_join(&users, said).to(SEEN);
}

fn said(click: String, user: Option<String>) -> String {
    format!("{click} {}", user.unwrap_or_else(|| "nobody".to_owned()))
}

/// One record of the input.
#[derive(Clone, Debug)]
enum Sent {
    Click(String, Option<String>, i64),
    User(String, Option<String>, i64),
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Clicks and users of a few keys, with ties, nulls and records out of order.
fn input(seed: u64, count: u64) -> Vec<Sent> {
    let mut random = Random(seed);
    let mut all = Vec::new();
    for i in 0..count {
        let key = format!("u{}", random.below(6));
        let at = i64::try_from(i / 2 * 10).unwrap() - i64::try_from(random.below(5) * 10).unwrap();
        let value = (random.below(6) > 0).then(|| format!("v{i}"));
        all.push(if random.below(3) == 0 {
            Sent::User(key, value, at)
        } else {
            Sent::Click(key, value, at)
        });
    }
    all
}

fn send(d: &mut TestDriver, input: &[Sent]) {
    for sent in input.iter().cloned() {
        match sent {
            Sent::Click(key, value, at) => {
                d.send_record(CLICKS, Some(key), value, at, Headers::none());
            }
            Sent::User(key, value, at) => {
                d.send_record(USERS, Some(key), value, at, Headers::none());
            }
        }
    }
}

/// What is said for each key, in order.
type Said = BTreeMap<Option<String>, Vec<(Option<String>, i64)>>;

/// Merges the two topics of each partition by timestamp, users first where they are equal.
fn model(input: &[Sent], partitions: u32, is_left: bool) -> Said {
    let mut said = Said::new();
    for partition in 0..partitions {
        let (mut clicks, mut users) = (Vec::new(), Vec::new());
        for sent in input {
            let (Sent::Click(key, value, at) | Sent::User(key, value, at)) = sent;
            if core_log::partition_for(key.as_bytes(), partitions) == partition {
                let of = if matches!(sent, Sent::User(..)) { &mut users } else { &mut clicks };
                of.push((key.clone(), value.clone(), *at));
            }
        }
        let (mut clicks, mut users) = (clicks.into_iter().peekable(), users.into_iter().peekable());
        let mut table: BTreeMap<String, String> = BTreeMap::new();
        loop {
            let users_first = match (clicks.peek(), users.peek()) {
                (None, None) => break,
                (Some(click), Some(user)) => user.2 <= click.2,
                (click, _) => click.is_none(),
            };
            if users_first {
                match users.next().unwrap() {
                    (key, Some(value), _) => drop(table.insert(key, value)),
                    (key, None, _) => drop(table.remove(&key)),
                }
                continue;
            }
            let (key, value, at) = clicks.next().unwrap();
            let (Some(value), user) = (value, table.get(&key)) else { continue };
            if is_left || user.is_some() {
                let text = self::said(value, user.cloned());
                said.entry(Some(key)).or_default().push((Some(text), at));
            }
        }
    }
    said
}

#[test]
fn a_stream_finds_the_rows_of_its_time_in_every_interleaving_and_crash() {
    for partitions in 1..=4 {
        for seed in 0..8 {
            let input = input(seed, 120);
            for is_left in [false, true] {
                let mut d = if is_left { TestDriver::new(left) } else { TestDriver::new(inner) };
                d = d.partitions(partitions).seed(seed);
                if seed % 2 == 1 {
                    d = d.crash_every(25);
                }
                send(&mut d, &input);
                let told = per_key(&d.read_records(SEEN));
                let story = format!("seed {seed}, {partitions} partitions, left {is_left}");
                assert_eq!(told, model(&input, partitions, is_left), "{story}");
                let nulls = input.iter().filter(|s| matches!(s, Sent::Click(_, None, _))).count();
                assert_eq!(d.nulls(), (0, u64::try_from(nulls).unwrap()), "{story}");
            }
        }
    }
}

/// The order in which a topology names its topics must not decide what it writes.
#[test]
fn a_table_wins_a_tie_however_the_topics_are_named_and_sent() {
    fn table_first(t: &mut Topology) {
        let users = t.table(USERS, "users");
        t.stream(CLICKS).join(&users, |click, user| format!("{click} {user}")).to(SEEN);
    }
    for topology in [table_first, inner] {
        for users_sent_first in [false, true] {
            let mut d = TestDriver::new(topology);
            if users_sent_first {
                d.send_at(USERS, "ana".into(), "Chile".into(), 5);
            }
            d.send_at(CLICKS, "ana".into(), "/".into(), 5);
            if !users_sent_first {
                d.send_at(USERS, "ana".into(), "Chile".into(), 5);
            }
            d.send_at(USERS, "ana".into(), "Peru".into(), 6);
            assert_eq!(d.read(SEEN), [("ana".to_owned(), "/ Chile".to_owned())]);
        }
    }
}

#[test]
fn a_chain_of_tables_is_read_from_its_far_end() {
    const ACCOUNTS: Topic<String, String> = topic("accounts");
    fn chain(t: &mut Topology) {
        let clicks = t.stream(CLICKS);
        let accounts = t.stream(ACCOUNTS);
        let users = t.table(USERS, "users");
        let named = accounts.join(&users, |account, user| format!("{account} of {user}"));
        let named = named.table("named");
        clicks.join(&named, |click, account| format!("{click}: {account}")).to(SEEN);
    }
    let mut d = TestDriver::new(chain).partitions(2);
    d.send_at(CLICKS, "1".into(), "/".into(), 5);
    d.send_at(ACCOUNTS, "1".into(), "gold".into(), 5);
    d.send_at(USERS, "1".into(), "ana".into(), 5);
    assert_eq!(d.read(SEEN), [("1".to_owned(), "/: gold of ana".to_owned())]);
}

#[test]
fn a_tables_topic_moves_no_clock_of_a_stream_that_looks_it_up() {
    const COUNTS: Topic<Windowed<String>, u64> = topic("counts");
    fn counted(t: &mut Topology) {
        let users = t.table(USERS, "users");
        let seen = t.stream(CLICKS).left_join(&users, said);
        seen.window(tumbling(secs(1))).count("per-second").on_close().to(COUNTS);
    }
    let mut d = TestDriver::new(counted);
    d.send_at(CLICKS, "ana".into(), "/".into(), 100);
    d.send_at(USERS, "ana".into(), "Chile".into(), 1 << 40);
    assert_eq!(d.read(COUNTS), [], "a user of the far future closes nothing");
    d.send_at(CLICKS, "ana".into(), "/".into(), 200);
    d.send_at(CLICKS, "ana".into(), "/".into(), 1_000);
    let second = Windowed { key: "ana".to_owned(), start: 0, end: 1_000 };
    assert_eq!(d.read(COUNTS), [(second, 2)]);
    assert_eq!(d.late(), 0);
}

/// The other way round: an empty table topic holds back no window.
#[test]
fn a_table_without_records_holds_no_window_open() {
    const COUNTS: Topic<Windowed<String>, u64> = topic("counts");
    fn counted(t: &mut Topology) {
        let users = t.table(USERS, "users");
        let seen = t.stream(CLICKS).left_join(&users, said);
        seen.window(tumbling(secs(1))).count("per-second").on_close().to(COUNTS);
    }
    let mut d = TestDriver::new(counted);
    d.send_at(CLICKS, "ana".into(), "/".into(), 100);
    d.send_at(CLICKS, "ana".into(), "/".into(), 5_000);
    assert_eq!(d.read(COUNTS).len(), 1);
}

#[test]
fn null_keys_are_counted_and_a_left_join_passes_them_on() {
    let mut d = TestDriver::new(left);
    d.send_record(CLICKS, None::<String>, Some("/".to_owned()), 7, Headers::none());
    d.send_record(USERS, None::<String>, Some("x".to_owned()), 7, Headers::none());
    let told = d.read_records(SEEN);
    assert_eq!(d.nulls(), (1, 0), "a user without a key");
    let [TestRecord { key: None, value: Some(text), timestamp: 7, .. }] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(text, "/ nobody");
    let mut d = TestDriver::new(inner);
    d.send_record(CLICKS, None::<String>, Some("/".to_owned()), 7, Headers::none());
    assert_eq!(d.read(SEEN), []);
    assert_eq!(d.nulls(), (1, 0), "a click without a key");
}

#[test]
fn updates_say_the_latest_value_once_per_commit_and_deletes_as_nulls() {
    fn names(t: &mut Topology) {
        let users = t.table(USERS, "users");
        users.updates().map(|name| name.to_uppercase()).to(NAMES);
    }
    for seed in 0..10 {
        let mut d = TestDriver::new(names).partitions(3).seed(seed);
        if seed > 4 {
            d = d.crash_every(10);
        }
        let input = input(seed, 90);
        send(&mut d, &input);
        let mut expected = BTreeMap::new();
        for sent in &input {
            match sent {
                Sent::User(key, Some(value), _) => {
                    drop(expected.insert(key.clone(), value.to_uppercase()));
                }
                Sent::User(key, None, _) => drop(expected.remove(key)),
                Sent::Click(..) => {}
            }
        }
        // Latest by offset: the driver's log keeps the order in which it was sent.
        assert_eq!(latest(&d.read_records(NAMES)), expected, "seed {seed}");
    }
    let mut d = TestDriver::new(names);
    d.send_at(USERS, "ana".into(), "a".into(), 9).send_at(USERS, "ana".into(), "b".into(), 3);
    let told = d.read_records(NAMES);
    let last = told.last().unwrap();
    assert_eq!((last.value.as_deref(), last.timestamp), (Some("B"), 3), "by offset, not by time");
    d.send_record(USERS, Some("ana".to_owned()), None::<String>, 10, Headers::none());
    let told = d.read_records(NAMES);
    assert_eq!(told.last().unwrap().value, None);
}

/// What a table passes on may look something up in the same table.
#[test]
fn updates_can_be_joined_with_the_table_that_they_are_of() {
    fn same(t: &mut Topology) {
        let users = t.table(USERS, "users");
        users.updates().left_join(&users, said).to(SEEN);
    }
    let mut d = TestDriver::new(same).partitions(2);
    d.send(USERS, "ana".into(), "Chile".into());
    assert_eq!(d.read(SEEN).last().unwrap().1, "Chile Chile");
}

#[test]
fn one_table_serves_several_streams_and_a_count_is_a_table_too() {
    fn both(t: &mut Topology) {
        let users = t.table(USERS, "users");
        let counts = t.stream(CLICKS).count("clicks-by-user");
        let clicks = t.stream(CLICKS).join(&users, |click, user| format!("{click} {user}"));
        clicks.join(&counts, |text, n| format!("{text} {n}")).to(SEEN);
        t.stream(CLICKS).left_join(&users, said).to(NAMES);
    }
    let mut d = TestDriver::new(both).partitions(2).crash_every(2);
    d.send_at(USERS, "ana".into(), "Chile".into(), 1);
    d.send_at(CLICKS, "ana".into(), "/a".into(), 2).send_at(CLICKS, "ana".into(), "/b".into(), 3);
    let seen: Vec<_> = d.read(SEEN).into_iter().map(|(_, text)| text).collect();
    assert_eq!(seen, ["/a Chile 1", "/b Chile 2"], "the count includes the record itself");
    assert_eq!(d.read(NAMES).len(), 2);
}

/// A click that carries its user, for joins behind a repartition.
type Visit = (String, String);
const VISITS: Topic<NoKey, Visit> = topic("visits");

fn rekeyed(t: &mut Topology) {
    let users = t.table(USERS, "users");
    t.stream(VISITS)
        .key_by(|(user, _)| user.clone())
        .left_join(&users, |(_, page), user| said(page, user))
        .to(SEEN);
}

#[test]
fn a_rekeyed_stream_takes_the_partitions_of_the_table_that_it_meets() {
    for seed in 0..12 {
        let mut d = TestDriver::new(rekeyed).partitions(4).partitions_of(USERS, 6).seed(seed);
        if seed % 2 == 1 {
            d = d.crash_every(20);
        }
        for user in 0..20 {
            d.send_at(USERS, format!("u{user}"), format!("name {user}"), 1);
        }
        d.run().unwrap();
        for i in 0..100_u32 {
            let visit = (format!("u{}", i % 25), format!("/{i}"));
            d.send_to(VISITS, i % 4, NoKey, visit);
        }
        let told = d.read(SEEN);
        assert_eq!(told.len(), 100, "seed {seed}");
        for (key, text) in told {
            let user: u32 = key[1..].parse().unwrap();
            let page = text.split(' ').next().unwrap();
            let name = if user < 20 { format!("name {user}") } else { "nobody".to_owned() };
            assert_eq!(text, format!("{page} {name}"), "seed {seed}");
        }
    }
}

#[test]
fn a_table_of_a_rekeyed_stream_is_looked_up_before_a_later_repartition() {
    const PAGES: Topic<String, u64> = topic("pages");
    fn job(t: &mut Topology) {
        let last = t.stream(VISITS).key_by(|(user, _)| user.clone()).table("last-visit");
        t.stream(CLICKS)
            .join(&last, |_, (_, page)| page)
            .key_by(|page| page.clone())
            .count("clicks-by-page")
            .to(PAGES);
    }
    let mut d = TestDriver::new(job).partitions(3).crash_every(5);
    for i in 0..12_u32 {
        d.send_to(VISITS, i % 3, NoKey, (format!("u{i}"), format!("/{}", i % 2)));
    }
    d.run().unwrap();
    for i in 0..12 {
        d.send(CLICKS, format!("u{i}"), "click".into());
    }
    let counts = latest(&d.read_records(PAGES));
    assert_eq!(counts, BTreeMap::from([("/0".to_owned(), 6), ("/1".to_owned(), 6)]));
}

#[test]
fn topics_of_different_counts_are_refused_with_the_edit_that_helps() {
    let mut d = TestDriver::new(inner).partitions(4).partitions_of(USERS, 6);
    d.send(CLICKS, "ana".into(), "/".into());
    let error = d.run().unwrap_err();
    assert_eq!(error.code(), "S003");
    assert_eq!(
        format!("{error}"),
        "cannot join clicks (4 partitions) with users (6 partitions) on the key"
    );
    let help = error.help().join("\n");
    assert!(help.contains(".repartition(\"clicks-6\", 6)"), "{help}");
    assert!(help.contains("t.global_table("), "{help}");

    fn mended(t: &mut Topology) {
        let users = t.table(USERS, "users");
        t.stream(CLICKS).repartition("clicks-6", 6).left_join(&users, said).to(SEEN);
    }
    let mut d = TestDriver::new(mended).partitions(4).partitions_of(USERS, 6);
    for i in 0..20 {
        d.send(CLICKS, format!("u{i}"), "/".into());
    }
    assert_eq!(d.read(SEEN).len(), 20);

    fn chosen_wrong(t: &mut Topology) {
        let users = t.table(USERS, "users");
        t.stream(CLICKS).repartition("clicks-5", 5).left_join(&users, said).to(SEEN);
    }
    let mut d = TestDriver::new(chosen_wrong).partitions(4).partitions_of(USERS, 6);
    assert_eq!(d.run().unwrap_err().code(), "S003", "a count that was chosen does not adapt");
}

#[test]
fn two_ways_of_one_name_are_refused_with_the_edit_that_helps() {
    fn twice(t: &mut Topology) {
        let users = t.table(USERS, "users");
        let visits = || |(user, _): &Visit| user.clone();
        t.stream(VISITS).key_by(visits()).left_join(&users, |v, _| v.1).to(SEEN);
        t.stream(VISITS).key_by(visits()).left_join(&users, |v, _| v.1).to(NAMES);
    }
    let error = TestDriver::new(twice).run().unwrap_err();
    assert_eq!(error.code(), "S018");
    assert!(format!("{error}").contains("test-visits-users-repartition"), "{error}");
    assert!(error.help().join("\n").contains(".repartition("), "{:?}", error.help());
}

#[test]
fn headers_and_times_of_the_stream_pass_through_a_join_and_its_repartition() {
    let mut d = TestDriver::new(rekeyed).partitions(2);
    let mut headers = Headers::none();
    headers.push("trace", Some("7".into()));
    let visit = ("ana".to_owned(), "/".to_owned());
    d.send_record(VISITS, None, Some(visit), 77, headers.clone());
    let told = d.read_records(SEEN);
    assert_eq!((told[0].timestamp, &told[0].headers), (77, &headers));
}
