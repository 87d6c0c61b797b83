//! Tables that remember what they were, against plain maps of all versions.

use std::collections::BTreeMap;

use streams::prelude::*;

use crate::equal::{latest, per_key};

const CLICKS: Topic<String, String> = topic("clicks");
const USERS: Topic<String, String> = topic("users");
const SEEN: Topic<String, String> = topic("seen");
const COUNTS: Topic<String, u64> = topic("counts");
const FAR: i64 = 1 << 40;

fn said(click: String, user: Option<String>) -> String {
    format!("{click} {}", user.unwrap_or_else(|| "nobody".to_owned()))
}

fn as_of(t: &mut Topology) {
    let users = t.versioned_table(USERS, "users", hours(1));
    t.stream(CLICKS).left_join(&users, said).to(SEEN);
}

fn with_grace(t: &mut Topology) {
    let users = t.versioned_table(USERS, "users", hours(1));
    t.stream(CLICKS).left_join_with_grace(&users, secs(1), "waiting", said).to(SEEN);
}

fn inner_with_grace(t: &mut Topology) {
    let users = t.versioned_table(USERS, "users", hours(1));
    let both = |click: String, user: String| said(click, Some(user));
    t.stream(CLICKS).join_with_grace(&users, secs(1), "waiting", both).to(SEEN);
}

#[derive(Clone, Debug)]
struct Sent {
    is_user: bool,
    key: String,
    value: Option<String>,
    at: i64,
}

/// Clicks and users of a few keys, out of order by up to 90 ms, with ties and nulls.
fn input(seed: u64, count: i64) -> Vec<Sent> {
    let mut state = seed;
    let mut below = move |limit: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let mut all = Vec::new();
    for i in 0..count {
        let (is_user, key) = (below(2) == 0, format!("u{}", below(5)));
        let at = i / 2 * 10 - i64::try_from(below(10) * 10).unwrap();
        all.push(Sent { is_user, key, value: (below(6) > 0).then(|| format!("v{i}")), at });
    }
    all
}

fn send(d: &mut TestDriver, input: &[Sent]) {
    for Sent { is_user, key, value, at } in input.iter().cloned() {
        let topic = if is_user { USERS } else { CLICKS };
        d.send_record(topic, Some(key), value, at, Headers::none());
    }
}

type Versions = BTreeMap<(String, i64), Option<String>>;
type Told = BTreeMap<Option<String>, Vec<(Option<String>, i64)>>;

fn at(versions: &Versions, key: &str, time: i64) -> Option<String> {
    let range = (key.to_owned(), i64::MIN)..=(key.to_owned(), time);
    versions.range(range).next_back().and_then(|(_, value)| value.clone())
}

/// Merges the two topics of each partition by timestamp, users first where they are equal.
fn model_as_of(input: &[Sent], partitions: u32) -> Told {
    let mut told = Told::new();
    for partition in 0..partitions {
        let here =
            |sent: &&Sent| core_log::partition_for(sent.key.as_bytes(), partitions) == partition;
        let (users, clicks): (Vec<&Sent>, Vec<&Sent>) =
            input.iter().filter(here).partition(|sent| sent.is_user);
        let (mut users, mut clicks) = (users.into_iter().peekable(), clicks.into_iter().peekable());
        let mut versions = Versions::new();
        loop {
            let user_first = match (clicks.peek(), users.peek()) {
                (None, None) => break,
                (Some(click), Some(user)) => user.at <= click.at,
                (click, _) => click.is_none(),
            };
            if user_first {
                let user = users.next().unwrap().clone();
                versions.insert((user.key, user.at), user.value);
            } else {
                let Sent { key, value, at: time, .. } = clicks.next().unwrap().clone();
                let Some(value) = value else { continue };
                let text = said(value, at(&versions, &key, time));
                told.entry(Some(key)).or_default().push((Some(text), time));
            }
        }
    }
    told
}

/// All users are known before any click is looked up; clicks leave in the order of their times.
fn model_with_grace(input: &[Sent], is_left: bool) -> Told {
    let users = input.iter().filter(|sent| sent.is_user).cloned();
    let versions: Versions = users.map(|user| ((user.key, user.at), user.value)).collect();
    let mut clicks: Vec<&Sent> = input.iter().filter(|sent| !sent.is_user).collect();
    clicks.sort_by_key(|click| click.at);
    let mut told = Told::new();
    for Sent { key, value, at: time, .. } in clicks.into_iter().cloned() {
        let user = at(&versions, &key, time);
        if let Some(value) = value
            && (is_left || user.is_some())
        {
            told.entry(Some(key)).or_default().push((Some(said(value, user)), time));
        }
    }
    told
}

#[test]
fn a_stream_finds_the_version_of_its_own_time_in_every_interleaving_and_crash() {
    for partitions in 1..=3 {
        for seed in 0..6 {
            let input = input(seed, 150);
            let mut d = TestDriver::new(as_of).partitions(partitions).seed(seed);
            if seed % 2 == 1 {
                d = d.crash_every(20);
            }
            send(&mut d, &input);
            let told = per_key(&d.read_records(SEEN));
            assert_eq!(
                told,
                model_as_of(&input, partitions),
                "seed {seed}, {partitions} partitions"
            );
        }
    }
}

#[test]
fn a_stream_that_waits_finds_what_the_table_heard_late() {
    for partitions in 1..=3 {
        for seed in 0..6 {
            for is_left in [true, false] {
                // Longer than the grace, so that some leave while others come.
                let input = input(seed, 400);
                let topology = if is_left { with_grace } else { inner_with_grace };
                let mut d = TestDriver::new(topology).partitions(partitions).seed(seed);
                if seed % 2 == 1 {
                    d = d.crash_every(20);
                }
                send(&mut d, &input);
                d.advance_to(FAR);
                let told = per_key(&d.read_records(SEEN));
                let story = format!("seed {seed}, {partitions} partitions, left {is_left}");
                assert_eq!(told, model_with_grace(&input, is_left), "{story}");
            }
        }
    }
}

/// What follows a join that waits is as far behind as the join: nothing is late for its windows.
#[test]
fn nothing_behind_a_join_that_waits_is_late_because_it_waited() {
    const TOTALS: Topic<Windowed<String>, u64> = topic("totals");
    fn counted(t: &mut Topology) {
        let users = t.versioned_table(USERS, "users", hours(1));
        let seen = t.stream(CLICKS).left_join_with_grace(&users, millis(300), "waiting", said);
        let windows = tumbling(millis(100)).grace(millis(100));
        seen.key_by(|_| String::from("all")).window(windows).count("totals").on_close().to(TOTALS);
    }
    for partitions in 1..=3 {
        for seed in 0..4 {
            let input = input(seed, 300);
            let mut d = TestDriver::new(counted).partitions(partitions).seed(seed).crash_every(40);
            send(&mut d, &input);
            d.advance_to(FAR);
            let total: u64 = d.read(TOTALS).into_iter().map(|(_, n)| n).sum();
            let clicks = input.iter().filter(|sent| !sent.is_user && sent.value.is_some()).count();
            let story = format!("seed {seed}, {partitions} partitions");
            assert_eq!((total, d.late()), (u64::try_from(clicks).unwrap(), 0), "{story}");
        }
    }
}

#[test]
fn equal_records_that_wait_are_all_kept_in_their_order_with_their_headers() {
    let mut d = TestDriver::new(with_grace);
    let mut headers = Headers::none();
    headers.push("trace", Some("x".into()));
    for i in 0..40 {
        // Another key between, so that the next one has to find its place again.
        d.send_record(CLICKS, Some("a".to_owned()), Some(format!("{i:02}")), 5, headers.clone());
        d.send_record(CLICKS, Some("b".to_owned()), Some(format!("{i:02}")), 5, Headers::none());
        d.run().unwrap();
    }
    d.crash();
    d.send_record(CLICKS, None::<String>, Some("no key".to_owned()), 6, Headers::none());
    let told = d.read_records(SEEN);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].value.as_deref(), Some("no key nobody"), "it has nothing to wait for");
    d.send_at(CLICKS, "c".into(), "x".into(), 1_005);
    let told: Vec<_> = d.read_records(SEEN);
    let of = |key: &str| -> Vec<String> {
        let of_key = told.iter().filter(|record| record.key.as_deref() == Some(key));
        of_key.map(|record| record.value.clone().unwrap()).collect()
    };
    let expected: Vec<String> = (0..40).map(|i| format!("{i:02} nobody")).collect();
    assert_eq!((of("a"), of("b")), (expected.clone(), expected));
    assert!(told.iter().filter(|r| r.key.as_deref() == Some("a")).all(|r| r.headers == headers));
}

#[test]
fn what_comes_out_of_order_is_history_and_what_is_too_old_is_late() {
    fn counted(t: &mut Topology) {
        let users = t.versioned_table(USERS, "users", millis(100));
        users.group_by(|_, name| (name.clone(), ())).count("counts").to(COUNTS);
        users.to(SEEN);
    }
    let mut d = TestDriver::new(counted).partitions(2);
    for (name, at) in [("new", 500), ("old", 450), ("older", 399), ("newest", 501)] {
        d.send_at(USERS, "k".into(), name.into(), at).run().unwrap();
    }
    let told: Vec<String> = d.read(SEEN).into_iter().map(|(_, name)| name).collect();
    assert_eq!(told, ["new", "newest"]);
    assert_eq!(d.late(), 1, "399 is more than 100 before 500");
    let counts: BTreeMap<String, u64> = latest(&d.read_records(COUNTS));
    assert_eq!(counts, BTreeMap::from([("new".to_owned(), 0), ("newest".to_owned(), 1)]));
}

#[test]
fn a_mapped_table_remembers_too() {
    fn mapped(t: &mut Topology) {
        let users = t.versioned_table(USERS, "users", hours(1)).map(|name| name.to_uppercase());
        t.stream(CLICKS).left_join(&users.filter(|name| name != "BOT"), said).to(SEEN);
    }
    let mut d = TestDriver::new(mapped);
    for (name, at) in [("ana", 10), ("bot", 20), ("eva", 30)] {
        d.send_at(USERS, "u".into(), name.into(), at);
    }
    d.run().unwrap();
    for at in [5, 15, 25, 35] {
        d.send_at(CLICKS, "u".into(), format!("/{at}"), at);
    }
    let told: Vec<String> = d.read(SEEN).into_iter().map(|(_, text)| text).collect();
    assert_eq!(told, ["/5 nobody", "/15 ANA", "/25 nobody", "/35 EVA"]);
}

#[test]
fn a_table_that_does_not_reach_back_far_enough_is_refused() {
    fn forgets(t: &mut Topology) {
        let users = t.table(USERS, "users");
        t.stream(CLICKS).left_join_with_grace(&users, secs(1), "waiting", said).to(SEEN);
    }
    fn too_short(t: &mut Topology) {
        let users = t.versioned_table(USERS, "users", millis(900));
        t.stream(CLICKS).left_join_with_grace(&users, secs(1), "waiting", said).to(SEEN);
    }
    let refused = |topology: fn(&mut Topology)| {
        let refused = TestDriver::new(topology).run().unwrap_err();
        assert_eq!(refused.code(), "S018");
        refused.to_string()
    };
    assert!(refused(forgets).contains("table `users` does not keep what it was"));
    let said = refused(too_short);
    assert!(said.contains("waits 1s") && said.contains("for 900ms"), "{said}");
}

/// Gives each record the time that its value says.
struct Timed;

impl Processor<String, String> for Timed {
    type Key = String;
    type Out = String;

    fn record(
        &mut self,
        ctx: &mut Ctx<'_, String, String>,
        record: Record<String, String>,
    ) -> Processed {
        let timestamp = record.value.as_deref().unwrap_or_default().parse()?;
        Ok(ctx.forward_record(Record { timestamp, ..record })?)
    }
}

#[test]
fn what_waited_for_a_time_to_come_is_in_order_behind_it_wherever_commits_fall() {
    let job = |t: &mut Topology| {
        let users = t.versioned_table(USERS, "users", hours(1));
        let clicks = t.stream(CLICKS).process("timed", Timed);
        let met = clicks.left_join_with_grace(&users, secs(1), "waiting", said);
        met.repartition("in-order", 1).ordered().to(SEEN);
    };
    for commits in [false, true] {
        let mut d = TestDriver::new(job);
        for (at, time) in [(0, "10000"), (5_000, "5000"), (7_000, "7000"), (20_000, "20000")] {
            d.send_at(CLICKS, "k".into(), time.into(), at);
            if commits {
                d.run().unwrap();
            }
        }
        d.advance_to(FAR);
        let seen: Vec<String> = d.read(SEEN).into_iter().map(|(_, text)| text).collect();
        let wanted = ["5000 nobody", "7000 nobody", "10000 nobody", "20000 nobody"];
        assert_eq!(seen, wanted, "commits between: {commits}");
    }
}
