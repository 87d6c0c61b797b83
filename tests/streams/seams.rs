//! Where tables, joins, windows, resets and crashes meet: each piece has its own tests, these are for
//! what lies between them.

use std::collections::BTreeMap;

use streams::prelude::*;

const USERS: Topic<String, String> = topic("users");
const CLICKS: Topic<String, String> = topic("clicks");
const RATES: Topic<String, u64> = topic("rates");
const OUT: Topic<String, String> = topic("out");
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
        assert!(error.to_string().contains(said), "{error}");
    }
}
