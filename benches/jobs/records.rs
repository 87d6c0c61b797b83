//! What the jobs of this benchmark read and write.

use std::ops::Range;
use std::path::Path;

use streams::prelude::*;

use crate::job::{self, Written};

pub(crate) const PARTITIONS: u32 = 4;
pub(crate) const MODE: Durability = Durability::Sync;
pub(crate) const START_MS: i64 = 1_700_000_000_000;
/// Keys that are looked up and changed, of a store that may have many more.
pub(crate) const WARM: u64 = 50_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) item: String,
    pub(crate) note: String,
    pub(crate) cents: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) item: String,
    pub(crate) cents: u64,
}

pub(crate) const ORDERS: Topic<String, Order, Bincode> = topic("orders").bincode();
pub(crate) const RECEIPTS: Topic<String, Receipt, Bincode> = topic("receipts").bincode();
pub(crate) const COUNTS: Topic<String, u64, Bincode> = topic("counts").bincode();

pub(crate) fn app(topology: fn(&mut Topology)) -> App {
    App::new("bench", topology).threads(1).durability(MODE)
}

fn mixed(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

/// The key of the `n`th order, one of so many users.
pub(crate) fn user(n: u64, users: u64) -> String {
    format!("user-{}", mixed(n) % users)
}

pub(crate) fn order(n: u64) -> Order {
    Order {
        item: format!("item-{}", mixed(n) % 1_000),
        note: "please ring twice and leave it with the neighbours if nobody opens".into(),
        cents: mixed(n) % 100_000,
    }
}

pub(crate) fn encoded<V: Data>(value: &V) -> Vec<u8> {
    let mut bytes = Vec::new();
    <Bincode as Codec<V>>::encode(value, &mut bytes).expect("a value of the benchmark");
    bytes
}

pub(crate) fn time(n: u64) -> i64 {
    START_MS + i64::try_from(n / 1_000).expect("a small number")
}

/// Writes records with keys, each with its time.
pub(crate) fn write<V: Data>(
    dir: &Path,
    topic: Topic<String, V, Bincode>,
    numbers: Range<u64>,
    record: impl Fn(u64) -> (String, V, i64),
) {
    job::write(dir, topic.name(), PARTITIONS, numbers, |n, write| {
        let (key, value, time) = record(n);
        write(Written { time, key: Some(key.as_bytes()), value: &encoded(&value) });
    });
}

/// Orders of so many users.
pub(crate) fn write_orders(dir: &Path, users: u64, orders: Range<u64>) {
    write(dir, ORDERS, orders, |n| (user(n, users), order(n), time(n)));
}
