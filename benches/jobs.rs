//! What single steps of a job cost: no state, a count, and joins beside much other state.
//!
//! ```text
//!   filter, map          log to log, exactly-once          beside: hand-written loop over the same log
//!   count by key         topic, changelog, RocksDB         beside: hand-written loop with a hash map
//!   stream-table join    a table with ROWS other rows      beside: itself with fewer rows
//!   stream-stream join   ROWS other rows waiting           beside: itself with fewer rows
//! ```
//!
//! Keys are their topic's, so nothing goes through a repartition topic. The state of the joins is
//! built once for each number of rows, outside of the measured time, and lies in RocksDB then: the cost
//! must not depend on it. Printed as in `clickstream`; commits wait for the disk (`Sync`).
//!
//! Run it with `make bench`, or with `RECORDS`, `RUNS`, and `ROWS` (a list of numbers of rows) set:
//! `RECORDS=200000 ROWS=0,100000 cargo bench --profile dev --bench jobs -- stream-table`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "support/compare.rs"]
mod compare;
#[path = "support/cost.rs"]
mod cost;
#[path = "support/hand_loop.rs"]
mod hand_loop;
#[path = "support/job.rs"]
mod job;

use std::collections::HashMap;
use std::path::Path;

use compare::{Work, in_turn, report};
use core_log::RecordRef;
use cost::{Cost, is_chosen, setting};
use hand_loop::Out;
use job::Written;
use streams::prelude::*;

const PARTITIONS: u32 = 4;
const MODE: Durability = Durability::Sync;
const START_MS: i64 = 1_700_000_000_000;
/// Keys that are counted, as hot as pages are.
const HOT: u64 = 1_000;
/// Keys that are looked up, of a table that may have many more.
const WARM: u64 = 50_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    item: String,
    note: String,
    cents: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Receipt {
    item: String,
    cents: u64,
}

const ORDERS: Topic<String, Order, Bincode> = topic("orders").bincode();
const RECEIPTS: Topic<String, Receipt, Bincode> = topic("receipts").bincode();
const COUNTS: Topic<String, u64, Bincode> = topic("counts").bincode();
const USERS: Topic<String, String, Bincode> = topic("users").bincode();
const PAYMENTS: Topic<String, u64, Bincode> = topic("payments").bincode();

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

fn with_users(t: &mut Topology) {
    let users = t.table(USERS, "users");
    t.stream(ORDERS)
        .join(&users, |order, country| Receipt { item: country, cents: order.cents })
        .to(RECEIPTS);
}

fn with_payments(t: &mut Topology) {
    let payments = t.stream(PAYMENTS);
    t.stream(ORDERS)
        .join_within(payments, hours(1), "paid", |order, cents| Receipt { item: order.item, cents })
        .to(RECEIPTS);
}

fn mixed(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

fn order(n: u64) -> Order {
    Order {
        item: format!("item-{}", mixed(n) % 1_000),
        note: "please ring twice and leave it with the neighbours if nobody opens".into(),
        cents: mixed(n) % 100_000,
    }
}

fn encoded<V: Data>(value: &V) -> Vec<u8> {
    let mut bytes = Vec::new();
    <Bincode as Codec<V>>::encode(value, &mut bytes).expect("a value of the benchmark");
    bytes
}

fn time(n: u64) -> i64 {
    START_MS + i64::try_from(n / 1_000).expect("a small number")
}

/// Orders of so many users.
fn write_orders(dir: &Path, users: u64, orders: std::ops::Range<u64>) {
    job::write(dir, ORDERS.name(), PARTITIONS, orders, |n, write| {
        let (key, value) = (format!("user-{}", mixed(n) % users), encoded(&order(n)));
        write(Written { time: time(n), key: Some(key.as_bytes()), value: &value });
    });
}

fn app(topology: fn(&mut Topology)) -> App {
    App::new("bench", topology).threads(1).durability(MODE)
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

/// Runs a join over fresh records beside `rows` other rows.
fn beside_rows(
    what: &str,
    rows: u64,
    runs: u64,
    topology: fn(&mut Topology),
    build: impl Fn(&Path),
    fill: impl Fn(&Path, u64) -> u64,
) -> f64 {
    let dir = tempfile::tempdir().expect("a temporary directory");
    build(dir.path());
    let mut costs: Vec<Cost> = Vec::new();
    let mut records = 0;
    for run in 0..=runs {
        records = fill(dir.path(), run);
        let cost = job::run(app(topology), dir.path(), records);
        if run > 0 {
            costs.push(cost);
        }
    }
    report(&format!("{what}: job, {rows} other rows"), records as f64, &costs)
}

fn table_join(records: u64, rows: u64, runs: u64) -> f64 {
    let build = |dir: &Path| {
        job::write(dir, USERS.name(), PARTITIONS, 0..WARM + rows, |n, write| {
            let (key, value) = (format!("user-{n}"), encoded(&format!("country-{}", n % 200)));
            write(Written { time: START_MS, key: Some(key.as_bytes()), value: &value });
        });
        write_orders(dir, WARM, 0..1);
        job::run(app(with_users), dir, WARM + rows + 1);
    };
    let fill = |dir: &Path, run: u64| {
        write_orders(dir, WARM, 1 + run * records..1 + (run + 1) * records);
        records
    };
    beside_rows("stream-table join", rows, runs, with_users, build, fill)
}

fn stream_join(records: u64, rows: u64, runs: u64) -> f64 {
    let each = records / 2;
    let orders = |dir: &Path, orders: std::ops::Range<u64>, name: &'static str| {
        job::write(dir, ORDERS.name(), PARTITIONS, orders, |n, write| {
            let (key, value) = (format!("{name}-{n}"), encoded(&order(n)));
            write(Written { time: time(n), key: Some(key.as_bytes()), value: &value });
        });
    };
    let payments = |dir: &Path, payments: std::ops::Range<u64>| {
        job::write(dir, PAYMENTS.name(), PARTITIONS, payments, |n, write| {
            let (key, value) = (format!("order-{n}"), encoded(&(n % 10_000)));
            write(Written { time: time(n), key: Some(key.as_bytes()), value: &value });
        });
    };
    let build = |dir: &Path| {
        orders(dir, 0..rows, "other");
        orders(dir, 0..1, "order");
        payments(dir, 0..1);
        job::run(app(with_payments), dir, rows + 2);
    };
    let fill = |dir: &Path, run: u64| {
        let range = 1 + run * each..1 + (run + 1) * each;
        orders(dir, range.clone(), "order");
        payments(dir, range);
        2 * each
    };
    beside_rows("stream-stream join", rows, runs, with_payments, build, fill)
}

fn main() {
    let (records, runs) = (setting("RECORDS", 1_000_000), setting("RUNS", 5));
    let rows = std::env::var("ROWS").unwrap_or_else(|_| "0,1000000,10000000".to_owned());
    let rows: Vec<u64> = rows.split(',').filter_map(|number| number.trim().parse().ok()).collect();
    println!("jobs: {records} records, {PARTITIONS} partitions, Sync, {runs} runs after a warm-up");
    if is_chosen("filter, map") {
        beside_a_loop("filter, map", records, runs, stateless, || Stateless);
    }
    if is_chosen("count by key") {
        beside_a_loop("count by key", records, runs, count, Counts::default);
    }
    type Join = fn(u64, u64, u64) -> f64;
    let joins: [(&str, Join); 2] =
        [("stream-table join", table_join), ("stream-stream join", stream_join)];
    for (_, join) in joins.iter().filter(|(name, _)| is_chosen(name)) {
        let mut fewest = None;
        for rows in &rows {
            let reached = join(records, *rows, runs);
            let fewest = *fewest.get_or_insert(reached);
            println!("{:<42} ratio to the fewest rows {:.2}", "", reached / fewest);
        }
    }
}
