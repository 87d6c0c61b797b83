//! Where tables, joins, windows, resets and crashes meet: each piece has its own tests, these are for
//! what lies between them.

use std::collections::BTreeMap;

use streams::prelude::*;

use crate::equal::latest;

type Latest = BTreeMap<String, String>;

const USERS: Topic<String, String> = topic("users");
const CLICKS: Topic<String, String> = topic("clicks");
const RATES: Topic<String, u64> = topic("rates");
const OUT: Topic<String, String> = topic("out");
const PAYMENTS: Topic<String, String> = topic("payments");
const LATEST: Topic<String, String> = topic("latest");
const TWICE: Topic<Windowed<Windowed<String>>, u64> = topic("twice");
const COUNTS: Topic<Windowed<String>, u64> = topic("counts");

fn windowed_updates(t: &mut Topology) {
    let users = t.table(USERS, "users");
    users.updates().window(tumbling(secs(10))).count("changes").on_close().to(COUNTS);
}

/// Updates come once per commit: what they count for must wait for them, or else it closes twice.
#[test]
fn a_window_behind_the_updates_of_a_table_closes_once() {
    for seed in 0..20 {
        let mut d = TestDriver::new(windowed_updates).seed(seed);
        if seed % 2 == 1 {
            d = d.crash_every(3);
        }
        d.send_at(USERS, "ana".into(), "a".into(), 1);
        d.run().unwrap();
        d.send_at(USERS, "ana".into(), "b".into(), 2);
        d.send_at(USERS, "bob".into(), "c".into(), 100_000);
        d.run().unwrap();
        let window = |start| Windowed { key: "ana".to_owned(), start, end: start + 10_000 };
        assert_eq!(d.read(COUNTS), [(window(0), 2)], "seed {seed}");
        assert_eq!(d.late(), 0);
    }
}

/// The same for tables and windows in a row, and for two streams that meet behind updates.
#[test]
fn nothing_behind_the_updates_of_tables_closes_or_speaks_twice() {
    fn job(t: &mut Topology) {
        let users = t.table(USERS, "users");
        let clicks = t.stream(CLICKS);
        let both = users.updates().outer_join_within(clicks, millis(50), "both", |user, click| {
            assert!(user.is_some() || click.is_some());
            format!("{user:?} {click:?}")
        });
        both.to(OUT);
        let first = users.updates().window(tumbling(millis(100))).count("first").on_close();
        let kept = first.map(|n| n).table("kept");
        kept.updates().window(tumbling(millis(300))).count("second").on_close().to(TWICE);
    }
    for seed in 0..24 {
        let mut d = TestDriver::new(job).partitions(2).seed(seed);
        if seed % 2 == 1 {
            d = d.crash_every(20);
        }
        for i in 0..200_i64 {
            let (key, at) = (format!("u{}", i % 5), i * 7 - i * 31 % 90);
            d.send_at(USERS, key.clone(), format!("name {i}"), at);
            d.send_at(CLICKS, key, format!("click {i}"), at + 3);
            if i % 40 == 0 {
                d.run().unwrap();
            }
        }
        d.advance_to(1 << 30);
        let mut alone = BTreeMap::new();
        for (_, text) in d.read(OUT).into_iter().filter(|(_, text)| !text.ends_with("None")) {
            let click = text.rsplit(' ').next().unwrap().to_owned();
            let (is_alone, said) = (text.starts_with("None"), alone.get(&click));
            assert!(said.is_none_or(|before| !before && !is_alone), "seed {seed}: {text}");
            alone.insert(click, is_alone);
        }
        assert_eq!(alone.len(), 200, "seed {seed}: every click has met a user or spoken alone");
        let mut closed = BTreeMap::new();
        for (window, n) in d.read(TWICE) {
            assert_eq!(closed.insert(window.clone(), n), None, "seed {seed}: {window:?}");
        }
        assert!(closed.len() > 10, "{closed:?}");
    }
}

/// A task's places in two copies of one topic could not be told apart: after a crash one would miss rows.
#[test]
fn a_topic_of_a_global_table_is_read_once() {
    fn two_copies(t: &mut Topology) {
        let (a, b) = (t.global_table(RATES, "a"), t.global_table(RATES, "b"));
        let clicks = t.stream(CLICKS).join_global(&a, |c| c.clone(), |c, _| c);
        clicks.join_global(&b, |c| c.clone(), |c, _| c).to(OUT);
    }
    fn a_stream_too(t: &mut Topology) {
        let rates = t.global_table(RATES, "a");
        let own = t.stream(RATES).map(|rate| rate.to_string());
        own.join_global(&rates, |c| c.clone(), |c, _| c).to(OUT);
    }
    for topology in [two_copies, a_stream_too] {
        let error = TestDriver::new(topology).run().unwrap_err();
        assert_eq!(error.code(), "S018");
        let said = "a global table is kept of topic `rates`, which is read twice";
        assert!(format!("{error}").contains(said), "{error}");
    }
}

/// A job with a table, a global table, two streams that meet, a repartition and windows.
fn everything(t: &mut Topology) {
    let users = t.table(USERS, "users");
    let rates = t.global_table(RATES, "rates");
    let clicks = t.stream(CLICKS);
    let named = clicks
        .left_join(&users, |click, user| format!("{click} {}", user.unwrap_or_default()))
        .left_join_global(
            &rates,
            |text| text.split(' ').next().map(str::to_owned),
            |text, rate| format!("{text} {rate:?}"),
        );
    let paid = t.stream(PAYMENTS);
    let met = named.left_join_within(paid, within(millis(40)).grace(millis(15)), "met", |l, r| {
        format!("{l} + {}", r.unwrap_or_default())
    });
    let shared = met.table("latest");
    shared.updates().to(LATEST);
    let again = t.stream(CLICKS).left_join(&shared, |click, all| format!("{click}: {all:?}"));
    again
        .key_by(|text| text.split(':').next().unwrap_or_default().to_owned())
        .window(tumbling(millis(200)).grace(millis(100)))
        .count("per-click")
        .on_close()
        .to(COUNTS);
    let users = t.stream(USERS).map(|name| name.len().to_string());
    users.key_by(|n| n.clone()).count("lengths").updates().map(|n| n.to_string()).to(OUT);
}

/// Sends clicks, payments, users and rates, some of which are deletes, some out of order.
fn send_everything(d: &mut TestDriver, seed: u64, count: i64) {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut below = move |limit: i64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(state >> 34).unwrap() % limit
    };
    for i in 0..15_i64 {
        d.send_at(RATES, format!("c{i}"), i.unsigned_abs(), 1 << 30);
    }
    for i in 0..count {
        let (key, at) = (format!("u{}", below(9)), i * 3 - below(60));
        match below(4) {
            0 => d.send_at(CLICKS, key, format!("c{}", below(20)), at),
            1 => d.send_at(PAYMENTS, key, format!("p{i}"), at),
            2 => {
                let user = (below(4) > 0).then(|| "x".repeat(usize::try_from(below(5)).unwrap()));
                d.send_record(USERS, Some(key), user, at, Headers::none())
            }
            _ => d.send_at(CLICKS, key, format!("c{}", below(20)), at + 30),
        };
    }
}

/// What it says in the end: the last value of each key, and every window.
fn said(d: &mut TestDriver) -> (Latest, Latest, Vec<(Windowed<String>, u64)>) {
    let mut windows = d.read(COUNTS);
    windows.sort();
    assert!(windows.windows(2).all(|two| two[0].0 != two[1].0), "a window closed twice");
    (latest(&d.read_records(LATEST)), latest(&d.read_records(OUT)), windows)
}

/// Wherever it crashes, however its partitions and workers take turns, and after a reset: one answer.
#[test]
fn tables_joins_windows_and_global_tables_give_one_answer_in_every_crash() {
    for (partitions, seeds, count) in [(1, 6, 400), (3, 4, 300), (10, 1, 150)] {
        let mut calm = TestDriver::new(everything).partitions(partitions).partitions_of(RATES, 5);
        send_everything(&mut calm, 7, count);
        calm.run().unwrap();
        calm.advance_to(1 << 40);
        let expected = said(&mut calm);
        assert!(expected.0.len() > 5 && expected.1.len() > 2 && expected.2.len() > 20);
        for seed in 0..seeds {
            let story = format!("seed {seed}, {partitions} partitions");
            let mut d = TestDriver::new(everything).partitions(partitions).partitions_of(RATES, 5);
            d = d.seed(seed).crash_every([150, 40][usize::from(seed % 2 == 1)]);
            send_everything(&mut d, 7, count);
            d.run().unwrap();
            d.advance_to(1 << 40);
            assert_eq!(said(&mut d), expected, "{story}");
            if seed % 2 == 0 {
                d.reset_to(0).unwrap();
                d.advance_to(1 << 40);
                assert_eq!(said(&mut d), expected, "{story}: after a reset");
            }
        }
    }
}

/// More keys at one time than are dropped, or read ahead, at once.
#[test]
fn thousands_of_lonely_records_of_one_moment_speak_once_each_in_every_crash() {
    fn lonely(t: &mut Topology) {
        let paid = t.stream(PAYMENTS);
        t.stream(CLICKS)
            .outer_join_within(paid, millis(5), "met", |l, r| format!("{l:?} {r:?}"))
            .to(OUT);
    }
    for seed in 0..3 {
        let mut d = TestDriver::new(lonely).partitions(2).seed(seed).crash_every(900);
        let mut expected = BTreeMap::new();
        for i in 0..5_000_i64 {
            let key = format!("k{i}");
            d.send_at(CLICKS, key.clone(), "c".into(), i % 3);
            let text = if i % 7 == 0 {
                d.send_at(PAYMENTS, key.clone(), "p".into(), 4);
                "Some(\"c\") Some(\"p\")"
            } else {
                "Some(\"c\") None"
            };
            expected.insert(key, text.to_owned());
        }
        d.run().unwrap();
        d.advance_to(100_000);
        for i in 0..40 {
            d.send_at(CLICKS, format!("late {i}"), "c".into(), 1);
            d.send_at(PAYMENTS, format!("late {i}"), "c".into(), 1);
        }
        let told = d.read(OUT);
        assert_eq!(told.len(), expected.len(), "seed {seed}");
        assert_eq!(told.into_iter().collect::<BTreeMap<_, _>>(), expected, "seed {seed}");
        assert_eq!(d.late(), 80);
        d.crash();
        d.send_at(CLICKS, "new".into(), "c".into(), 100_000);
        d.send_at(PAYMENTS, "new".into(), "p".into(), 100_001);
        assert_eq!(d.read(OUT).len(), 1, "seed {seed}");
    }
}

/// A table and a global table are silent for ever: neither holds a window open, and no raise names them.
#[test]
fn silent_tables_are_not_passed_over_and_hold_nothing() {
    type Bytes8 = [u8; 8];
    const CLOCK: Topic<(String, u32), (u8, Bytes8, Bytes8), Bincode> =
        topic("test-clock").bincode();
    fn job(t: &mut Topology) {
        let users = t.table(USERS, "users");
        let rates = t.global_table(RATES, "rates");
        t.stream(CLICKS)
            .left_join(&users, |c, _| c)
            .left_join_global(&rates, |c| c.clone(), |c, _| c)
            .window(tumbling(millis(100)))
            .count("counts")
            .on_close()
            .to(COUNTS);
    }
    for seed in 0..8 {
        let mut d = TestDriver::new(job).partitions(2).seed(seed).idle_after(secs(10));
        if seed % 2 == 1 {
            d = d.crash_every(4);
        }
        d.send(USERS, "a".into(), "x".into()).send(RATES, "a".into(), 1);
        d.run().unwrap();
        d.wall_clock(secs(11));
        // One key, and so one partition; the other is empty.
        for at in [10, 20, 250] {
            d.send_at(CLICKS, "a".into(), "c".into(), at);
        }
        let first = Windowed { key: "a".to_owned(), start: 0, end: 100 };
        d.run().unwrap();
        d.wall_clock(secs(11));
        d.send_at(CLICKS, "a".into(), "c".into(), 260);
        assert_eq!(d.read(COUNTS), [(first, 2)], "seed {seed}");
        let raised: Vec<_> = d.read_records(CLOCK).into_iter().filter_map(|r| r.key).collect();
        assert!(!raised.is_empty() && raised.iter().all(|(t, _)| t == "clicks"), "{raised:?}");
    }
}
