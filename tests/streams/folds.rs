//! Streams folded into tables without windows: reduce, and several streams into one.

use std::collections::BTreeMap;

use streams::prelude::*;

use crate::equal::latest;

const BIDS: Topic<String, u64> = topic("bids");
const BEST: Topic<String, u64> = topic("best");
const ORDERS: Topic<String, u64> = topic("orders");
const PAID: Topic<NoKey, (String, i64)> = topic("paid");
const ACCOUNTS: Topic<String, Account> = topic("accounts");

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Account {
    orders: Vec<u64>,
    paid: i64,
}

fn accounts(t: &mut Topology) {
    let orders = t.stream(ORDERS);
    let paid = t.stream(PAID).key_by(|(user, _)| user.clone());
    cogroup("accounts")
        .with(orders, |account: &mut Account, order| account.orders.push(order))
        .with(paid, |account, (_, sum)| account.paid += sum)
        .table()
        .to(ACCOUNTS);
}

#[test]
fn reduce_begins_with_the_first_value_of_each_key_and_skips_nulls() {
    fn topology(t: &mut Topology) {
        // No zero to begin with: the smallest bid is one of the bids.
        let bids = t.stream(BIDS).map(|n| n + 1).key_by(|n| format!("k{}", n % 2));
        bids.merge(t.stream(ORDERS)).reduce("least", |a, b| a.min(b)).to(BEST);
    }
    for seed in 0..6 {
        let mut d = TestDriver::new(topology).partitions(3).seed(seed).crash_every(5);
        for bid in [17, 4, 9, 30] {
            d.send_at(BIDS, "x".into(), bid, 10);
        }
        d.send_record(ORDERS, Some("k0".into()), None, 99, Headers::none());
        let said = d.read_records(BEST);
        assert_eq!(latest(&said), [("k0".to_owned(), 10), ("k1".to_owned(), 5)].into());
        assert!(said.iter().all(|record| record.timestamp == 10), "a null value is not counted");
        assert_eq!(d.nulls(), (0, 1), "seed {seed}");
    }
}

#[test]
fn streams_of_different_values_meet_in_one_row_in_every_interleaving_and_crash() {
    for seed in 0..12 {
        let mut d = TestDriver::new(accounts).partitions(1 + u32::try_from(seed % 4).unwrap());
        d = d.seed(seed);
        if seed % 2 == 1 {
            d = d.crash_every(15);
        }
        let mut wanted: BTreeMap<String, Account> = BTreeMap::new();
        for i in 0..120 {
            let user = format!("u{}", (i * 7 + seed) % 9);
            let account = wanted.entry(user.clone()).or_default();
            if i % 3 == 0 {
                account.paid += 5;
                d.send(PAID, NoKey, (user, 5));
            } else {
                account.orders.push(i);
                d.send(ORDERS, user, i);
            }
        }
        d.send_record(ORDERS, None, Some(1), 0, Headers::none());
        d.send_record(ORDERS, Some("u1".into()), None, 0, Headers::none());
        assert_eq!(latest(&d.read_records(ACCOUNTS)), wanted, "seed {seed}");
        assert_eq!(d.nulls(), (1, 1), "seed {seed}");
    }
}

const SEEN: Topic<Windowed<String>, Vec<i64>> = topic("seen");

type Both = streams::Cogrouped<String, Vec<i64>, streams::Either<u64, (String, i64)>>;

/// The records of both streams by key and time, whatever the windows.
fn windowed(windows: fn(Both) -> Stream<Windowed<String>, Vec<i64>>) -> impl Fn(&mut Topology) {
    move |t| {
        let orders = t.stream(ORDERS);
        let paid = t.stream(PAID).key_by(|(user, _)| user.clone());
        let both = cogroup("seen")
            .with(orders, |seen: &mut Vec<i64>, order| put(seen, order.cast_signed()))
            .with(paid, |seen, (_, sum)| put(seen, -sum));
        windows(both).to(SEEN);
    }
}

/// In an order of their own: that between the streams is free.
fn put(seen: &mut Vec<i64>, value: i64) {
    seen.push(value);
    seen.sort_unstable();
}

/// What windows see of records in them: `spans` says in which windows a time lies.
fn seen_in(
    records: &[(String, i64, i64)],
    spans: impl Fn(i64) -> Vec<(i64, i64)>,
) -> BTreeMap<Windowed<String>, Vec<i64>> {
    let mut seen: BTreeMap<Windowed<String>, Vec<i64>> = BTreeMap::new();
    for (key, value, at) in records {
        for (start, end) in spans(*at) {
            put(seen.entry(Windowed { key: key.clone(), start, end }).or_default(), *value);
        }
    }
    seen
}

/// Bursts of records 5 ms apart, with pauses of 45 ms between them.
fn bursts() -> Vec<(String, i64, i64)> {
    let value = |i: i64| if i % 2 == 0 { i } else { -i };
    (1..200).map(|i| (format!("u{}", i % 3), value(i), i / 8 * 80 + i % 8 * 5)).collect()
}

/// What a job says of them in windows that have closed.
fn closed(
    topology: impl Fn(&mut Topology) + Send + Sync + 'static,
    seed: u64,
) -> BTreeMap<Windowed<String>, Vec<i64>> {
    let mut d = TestDriver::new(topology).partitions(3).seed(seed).crash_every(40);
    for (key, value, at) in bursts() {
        if value > 0 {
            d.send_at(ORDERS, key, value.unsigned_abs(), at);
        } else {
            d.send_at(PAID, NoKey, (key, -value), at);
        }
    }
    d.advance_to(1_000_000);
    assert_eq!(d.late(), 0, "seed {seed}");
    let said = d.read_records(SEEN);
    let rows = latest(&said);
    assert_eq!(rows.len(), said.len(), "seed {seed}: each window closes once");
    rows
}

#[test]
fn streams_of_different_values_meet_in_windows_of_every_kind() {
    let first = |at: i64, step: i64| at.div_euclid(step) * step;
    let in_tumbling = seen_in(&bursts(), |at| vec![(first(at, 100), first(at, 100) + 100)]);
    let in_hopping = seen_in(&bursts(), |at| {
        let last = first(at, 50);
        let spans = [(last - 50, last + 50), (last, last + 100)];
        // As in Kafka, windows of records from 1970 on do not begin before 1970.
        spans.into_iter().filter(|(start, _)| *start >= 0).collect()
    });
    // Records of one key in one burst are at most 20 ms apart, and 55 ms from those of the next.
    let burst = |at: i64| at / 80;
    let mut in_sessions: BTreeMap<(String, i64), (i64, i64, Vec<i64>)> = BTreeMap::new();
    for (key, value, at) in bursts() {
        let session = in_sessions.entry((key, burst(at))).or_insert((at, at, Vec::new()));
        (session.0, session.1) = (session.0.min(at), session.1.max(at));
        put(&mut session.2, value);
    }
    let in_sessions: BTreeMap<Windowed<String>, Vec<i64>> = in_sessions
        .into_iter()
        .map(|((key, _), (start, end, seen))| (Windowed { key, start, end }, seen))
        .collect();
    for seed in 0..6 {
        let tumbling = windowed(|both| both.window(tumbling(millis(100))).on_close());
        assert_eq!(closed(tumbling, seed), in_tumbling, "tumbling, seed {seed}");
        let hopping = windowed(|both| both.window(hopping(millis(100), millis(50))).on_close());
        assert_eq!(closed(hopping, seed), in_hopping, "hopping, seed {seed}");
        let sessions = windowed(|both| {
            let merge = |seen: &mut Vec<i64>, later: Vec<i64>| {
                later.into_iter().for_each(|value| put(seen, value));
            };
            both.window(session(millis(30))).merged_by(merge).on_close()
        });
        assert_eq!(closed(sessions, seed), in_sessions, "sessions, seed {seed}");
    }
}

#[test]
fn a_cogroup_of_topics_with_different_partitions_is_refused() {
    fn topology(t: &mut Topology) {
        let (orders, bids) = (t.stream(ORDERS), t.stream(BIDS));
        cogroup("both")
            .with(orders, |sum: &mut u64, n| *sum += n)
            .with(bids, |sum, n| *sum += n)
            .table()
            .to(BEST);
    }
    let mut d = TestDriver::new(topology).partitions_of(ORDERS, 2).partitions_of(BIDS, 3);
    let error = d.run().unwrap_err();
    assert!(matches!(error, streams::Error::NotCopartitioned { .. }), "{error}");
}

#[test]
fn a_cogroup_needs_a_good_name_and_a_way_for_each_stream() {
    fn named(t: &mut Topology) {
        let orders = t.stream(ORDERS);
        cogroup("no/name").with(orders, |sum: &mut u64, n| *sum += n).table().to(BEST);
    }
    fn same_way(t: &mut Topology) {
        let (a, b) = (t.stream(ORDERS), t.stream(ORDERS));
        let (a, b) = (a.key_by(|n| *n), b.key_by(|n| n + 1));
        let sums = cogroup("sums").with(a, |sum: &mut u64, n| *sum += n);
        sums.with(b, |sum, n| *sum += n).table().updates().for_each(|_| ());
    }
    for (build, code) in [(named as fn(&mut Topology), "S024"), (same_way, "S018")] {
        let error = TestDriver::new(build).run().unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
}
