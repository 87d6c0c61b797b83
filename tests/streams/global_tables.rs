//! Global tables: whole in every task, whatever the partitions.

use std::collections::BTreeMap;

use streams::prelude::*;

use crate::equal::per_key;

/// An order: its currency, if it has one, and its sum.
type Order = (Option<String>, u64);
const ORDERS: Topic<u64, Order> = topic("orders");
const RATES: Topic<String, u64> = topic("rates");
const PRICES: Topic<u64, Option<u64>> = topic("prices");

fn left(t: &mut Topology) {
    let orders = t.stream(ORDERS);
    let rates = t.global_table(RATES, "rates");
    orders
        .left_join_global(
            &rates,
            |(currency, _)| currency.clone(),
            |(_, sum), rate| rate.map(|rate| rate * sum),
        )
        .to(PRICES);
}

fn inner(t: &mut Topology) {
    let rates = t.global_table(RATES, "rates");
    t.stream(ORDERS)
        .join_global(&rates, |(currency, _)| currency.clone(), |(_, sum), rate| Some(rate * sum))
        .to(PRICES);
}

fn order(currency: &str, sum: u64) -> Order {
    (Some(currency.to_owned()), sum)
}

/// Everything that is in the table's topic is in the table before the first order is looked up, in
/// every task, with crashes anywhere, and rates that come later are found by orders that come later.
#[test]
fn every_order_finds_the_whole_table_in_every_task_and_after_every_crash() {
    for (partitions, of_rates) in [(1, 1), (3, 1), (2, 5), (4, 3)] {
        for seed in 0..10 {
            let mut d = TestDriver::new(left)
                .partitions(partitions)
                .partitions_of(RATES, of_rates)
                .seed(seed);
            if seed % 2 == 1 {
                d = d.crash_every(15);
            }
            let mut expected = BTreeMap::new();
            for round in 0..3_u64 {
                for i in 0..30_u64 {
                    let (number, currency) = (round * 100 + i, i % 12);
                    d.send_at(ORDERS, number, order(&format!("c{currency}"), 10), 5);
                    // Rates 0 to 9; in the last round, rate 0 is gone again.
                    let rate = (currency < 10).then_some(currency + round);
                    let rate = rate.filter(|_| currency > 0 || round < 2);
                    let said = (Some(rate.map(|rate| rate * 10)), 5);
                    expected.insert(Some(number), vec![said]);
                }
                for currency in 0..10_u64 {
                    let rate = (currency > 0 || round < 2).then_some(currency + round);
                    let key = format!("c{currency}");
                    d.send_record(RATES, Some(key), rate, 1 << 40, Headers::none());
                }
                d.run().unwrap();
            }
            let told = per_key(&d.read_records(PRICES));
            let story = format!("seed {seed}, {partitions} partitions, {of_rates} of rates");
            assert_eq!(told, expected, "{story}");
            assert_eq!(d.late(), 0, "{story}: rates of the far future move no clock");
        }
    }
}

#[test]
fn without_a_key_to_look_up_an_order_is_counted_or_passed_on() {
    let mut d = TestDriver::new(inner);
    d.send(RATES, "EUR".into(), 7).send(ORDERS, 1, (None, 5)).send(ORDERS, 2, order("EUR", 5));
    d.send(ORDERS, 3, order("USD", 5));
    d.send_record(ORDERS, Some(4), None::<Order>, 0, Headers::none());
    assert_eq!(d.read(PRICES), [(2, Some(35))]);
    assert_eq!(d.nulls(), (1, 1));
    let mut d = TestDriver::new(left);
    d.send(ORDERS, 1, (None, 5));
    assert_eq!(d.read(PRICES), [(1, None)]);
    assert_eq!(d.nulls(), (0, 0));
}

/// A table's position travels with a task's first own input: it must move on although only the table
/// did, or a restart would read the table's topic again and again.
#[test]
fn what_was_read_of_the_table_alone_is_committed_too() {
    let mut d = TestDriver::new(left).partitions(2).partitions_of(RATES, 3);
    for i in 0..20 {
        d.send(RATES, format!("c{i}"), i);
    }
    d.run().unwrap();
    let commits = d.commits();
    assert!(commits > 0);
    d.stop();
    d.run().unwrap();
    assert_eq!(d.commits(), commits, "nothing new was read");
    d.send(ORDERS, 1, order("c7", 1));
    assert_eq!(d.read(PRICES), [(1, Some(7))]);
}

#[test]
fn one_global_table_serves_streams_of_different_partitions() {
    const RETURNS: Topic<u64, Order> = topic("returns");
    const PER_PRICE: Topic<Option<u64>, u64> = topic("unused");
    let _unused: Topic<_, _> = PER_PRICE;
    const REFUNDS: Topic<u64, u64> = topic("refunds");
    fn both(t: &mut Topology) {
        let rates = t.global_table(RATES, "rates");
        let currency = |(currency, _): &Order| currency.clone();
        t.stream(ORDERS).join_global(&rates, currency, |(_, sum), r| Some(sum * r)).to(PRICES);
        t.stream(RETURNS)
            .join_global(&rates, currency, |(_, sum), r| sum * r)
            .count("refunds")
            .to(REFUNDS);
    }
    let mut d = TestDriver::new(both)
        .partitions_of(RATES, 2)
        .partitions_of(ORDERS, 2)
        .partitions_of(RETURNS, 5)
        .crash_every(7);
    d.send(RATES, "EUR".into(), 3);
    for i in 0..20 {
        d.send(ORDERS, i, order("EUR", 2)).send(RETURNS, i, order("EUR", 1));
    }
    assert_eq!(d.read(PRICES).len(), 20);
    assert_eq!(d.read(REFUNDS).len(), 20);
}

#[test]
fn a_rate_that_does_not_decode_names_the_partition_that_it_lies_in() {
    let mut d = TestDriver::new(left).partitions(1).partitions_of(RATES, 3);
    d.send_bytes("rates", 2, b"not a number");
    let error = d.run().unwrap_err();
    assert_eq!(error.code(), "S002");
    assert!(format!("{error}").starts_with("rates-2@0"), "{error}");
}
