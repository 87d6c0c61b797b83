//! Orders joined with their payments: paid within ten minutes, or known to be unpaid.
//!
//! ```text
//!   orders    (key: order) --.
//!                             +-- left join within 10 min, grace 1 min --> settled
//!   payments  (key: order) --'
//! ```
//!
//! An order that is paid in time comes out at once, with its payment. One that is not comes out alone, as
//! soon as no payment in time can come any more: when event time has passed it by ten minutes and the
//! grace. A payment that comes later than that changes nothing.
//!
//! ```console
//! $ cargo run --example orders_and_payments                 # writes, runs, verifies
//! $ cargo run --example orders_and_payments -- topology
//! $ cargo run --example orders_and_payments -- status
//! $ cargo run --example orders_and_payments -- tail settled
//! ```

mod support;
#[path = "support/undisturbed.rs"]
mod undisturbed;

use std::collections::BTreeMap;
use std::process::ExitCode;

use streams::prelude::*;
use support::{Outcome, PARTITIONS, dir_of, new_log, say, write};
use undisturbed::run_to_the_end;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    cents: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Payment {
    method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Settled {
    cents: u64,
    /// `None`: not paid in time.
    method: Option<String>,
}

const ORDERS: Topic<u64, Order> = topic("orders");
const PAYMENTS: Topic<u64, Payment> = topic("payments");
const SETTLED: Topic<u64, Settled> = topic("settled");

fn topology(t: &mut Topology) {
    let payments = t.stream(PAYMENTS);
    let in_time = within(mins(10)).before(secs(0)).grace(mins(1));
    t.stream(ORDERS)
        .left_join_within(payments, in_time, "order-payment", |order, payment| Settled {
            cents: order.cents,
            method: payment.map(|payment| payment.method),
        })
        .to(SETTLED);
}

fn app() -> App {
    App::new("orders-and-payments", topology).log(dir_of("orders_and_payments"))
}

fn main() -> ExitCode {
    support::main(app(), demo)
}

const START_MS: i64 = 1_767_607_200_000;
const ORDER_COUNT: u64 = 20_000;
/// An order every 100 ms of event time.
const STEP_MS: i64 = 100;
const MINUTE_MS: i64 = 60_000;
/// Numbers that no order has: their records only show that time has passed in every partition.
const LAST: u64 = 1_000_000;

fn ordered_at(order: u64) -> i64 {
    START_MS + i64::try_from(order).unwrap_or(0) * STEP_MS
}

/// How long after the order it is paid: most within minutes, some too late, every fifth never.
fn paid_after(order: u64) -> Option<i64> {
    match order % 5 {
        0 => None,
        1 => Some(11 * MINUTE_MS),
        _ => Some(i64::try_from(order % 600).unwrap_or(0) * 1_000),
    }
}

/// One record of each partition long after all others, or else the last orders would wait for ever.
fn closing<V: Clone>(value: &V, at: i64) -> Vec<(u64, V, i64)> {
    let mut of_partition = BTreeMap::new();
    for number in LAST.. {
        let mut key = Vec::new();
        RecordKey::encode(&number, &mut key);
        of_partition.entry(core_log::partition_for(&key, PARTITIONS)).or_insert(number);
        if of_partition.len() == usize::try_from(PARTITIONS).unwrap_or(1) {
            break;
        }
    }
    of_partition.into_values().map(|number| (number, value.clone(), at)).collect()
}

fn demo() -> Outcome<bool> {
    let dir = dir_of("orders_and_payments");
    let log = new_log(&dir)?;
    let end = ordered_at(ORDER_COUNT) + 60 * MINUTE_MS;
    let orders = (0..ORDER_COUNT).map(|n| (n, Order { cents: 100 + n }, ordered_at(n)));
    write(&log, ORDERS, orders.chain(closing(&Order { cents: 0 }, end)))?;
    let payment = |method: &str| Payment { method: method.to_owned() };
    let mut payments: Vec<(u64, Payment, i64)> = (0..ORDER_COUNT)
        .filter_map(|n| Some((n, payment("card"), ordered_at(n) + paid_after(n)?)))
        .collect();
    payments.sort_by_key(|(_, _, at)| *at);
    write(&log, PAYMENTS, payments.into_iter().chain(closing(&payment("none"), end)))?;
    log.close()?;
    say(&format!("orders and payments \u{b7} {ORDER_COUNT} orders \u{b7} log {}", dir.display()));
    run_to_the_end(app())?;

    let mut found: BTreeMap<u64, Vec<Settled>> = BTreeMap::new();
    for record in Log::open(&dir)?.read(SETTLED) {
        let record = record?;
        let (Some(order), Some(settled)) = (record.key, record.value) else {
            return Err("a settled order has a number and a value".into());
        };
        if order < LAST {
            found.entry(order).or_default().push(settled);
        }
    }
    let expected: BTreeMap<u64, Vec<Settled>> = (0..ORDER_COUNT)
        .map(|n| {
            let in_time = paid_after(n).is_some_and(|after| after <= 10 * MINUTE_MS);
            (n, vec![Settled { cents: 100 + n, method: in_time.then(|| "card".to_owned()) }])
        })
        .collect();
    let paid = found.values().flatten().filter(|settled| settled.method.is_some()).count();
    let unpaid = found.values().flatten().count() - paid;
    say(&format!("  {paid:>6} paid within ten minutes"));
    say(&format!("  {unpaid:>6} not paid in time"));
    let exact = found == expected;
    let verdict = if exact { "verified" } else { "WRONG" };
    say(&format!("{verdict}: each of {ORDER_COUNT} orders settled once"));
    Ok(exact)
}
