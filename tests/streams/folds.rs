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
