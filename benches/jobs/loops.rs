//! Jobs without a join beside what a careful person would write by hand, over the same log.

use std::collections::HashMap;

use core_log::RecordRef;
use streams::prelude::*;

use crate::compare::{Work, in_turn, report};
use crate::hand_loop::{self, Out};
use crate::job;
use crate::records::{
    COUNTS, MODE, ORDERS, Order, RECEIPTS, Receipt, START_MS, app, encoded, write_orders,
};

/// Keys that are counted, as hot as pages are.
const HOT: u64 = 1_000;

pub(crate) fn filter_map(records: u64, runs: u64) {
    beside_a_loop("filter, map", records, runs, stateless, || Stateless);
}

pub(crate) fn count_by_key(records: u64, runs: u64) {
    beside_a_loop("count by key", records, runs, count, Counts::default);
}

fn is_paid(order: &Order) -> bool {
    !order.cents.is_multiple_of(10)
}

fn receipt(order: Order) -> Receipt {
    Receipt { item: order.item, cents: order.cents }
}

fn stateless(t: &mut Topology) {
    t.stream(ORDERS).filter(is_paid).map(receipt).to(RECEIPTS);
}

fn count(t: &mut Topology) {
    t.stream(ORDERS).count("orders-by-user").to(COUNTS);
}

struct Stateless;

impl hand_loop::Work for Stateless {
    fn record(&mut self, _: usize, record: &RecordRef<'_>, out: &mut Out) {
        let order: Order = decoded(record);
        if is_paid(&order) {
            out.push(record.timestamp, record.key, &encoded(&receipt(order)));
        }
    }

    fn commit(&mut self, _: &mut Out) {}
}

fn decoded(record: &RecordRef<'_>) -> Order {
    <Bincode as Codec<Order>>::decode(record.value.expect("a value")).expect("an order")
}

#[derive(Default)]
struct Counts {
    counts: HashMap<Vec<u8>, (u64, bool)>,
    changed: Vec<Vec<u8>>,
}

impl hand_loop::Work for Counts {
    /// Reads the topic with its types, as the job does and the loop of `clickstream`.
    fn record(&mut self, _: usize, record: &RecordRef<'_>, _: &mut Out) {
        std::hint::black_box(decoded(record));
        let key = record.key.expect("a key");
        let Some((count, is_changed)) = self.counts.get_mut(key) else {
            self.counts.insert(key.to_vec(), (1, true));
            return self.changed.push(key.to_vec());
        };
        *count += 1;
        if !std::mem::replace(is_changed, true) {
            self.changed.push(key.to_vec());
        }
    }

    /// Each changed count once, as the job writes it.
    fn commit(&mut self, out: &mut Out) {
        for key in self.changed.drain(..) {
            if let Some((count, is_changed)) = self.counts.get_mut(&key) {
                *is_changed = false;
                out.push(START_MS, Some(&key), &encoded(count));
            }
        }
    }
}

fn beside_a_loop<W: hand_loop::Work>(
    what: &str,
    records: u64,
    runs: u64,
    topology: fn(&mut Topology),
    work: impl Fn() -> W,
) {
    let filled = || {
        let dir = tempfile::tempdir().expect("a temporary directory");
        write_orders(dir.path(), HOT, 0..records);
        dir
    };
    let by_job = || job::run(app(topology), filled().path(), records);
    let by_loop = || hand_loop::run(filled().path(), ORDERS.name(), MODE, &mut work());
    let works: [Work<'_>; 2] = [Box::new(by_job), Box::new(by_loop)];
    let [by_job, by_loop] = in_turn(runs, works);
    let raw = report(&format!("{what}: hand-written loop"), records as f64, &by_loop);
    let reached = report(&format!("{what}: job, 1 thread"), records as f64, &by_job);
    println!("{:<42} ratio to the loop {:.2}", "", reached / raw);
}
