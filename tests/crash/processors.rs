//! A processor with a store and both kinds of timers, killed again and again: each timer fires exactly once,
//! and the store has counted each record once.
//!
//! ```text
//!   orders (key: order) --> process "reminders" --> reminders     "event" when event time has gone on by a
//!                             |  counted: partition, group          second, "clock" when the clock has
//!                             '- two timers per order               gone on by a tenth of one
//! ```
//!
//! The model is a sum: every order once under each name. Where a kill falls depends on the machine; what is
//! left behind must not.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use core_log::{BatchBuilder, Durability, NO_HEADERS, TopicSettings};
use streams::prelude::*;

use crate::child::{Child, number, say};
use crate::directory::{LOG_TIME_MS, open};

const VARIABLE: &str = "CRASH_REMINDERS";
const TEST: &str = "processors::timers_of_a_killed_processor_fire_exactly_once";
const PARTITIONS: u32 = 4;
const ORDERS: i64 = 24_000;
const GROUPS: i64 = 50;
const KILLS: u64 = 10;
/// Orders with numbers from here on only show that time has passed.
const LAST: i64 = 1_000_000;

const ORDER: Topic<i64, u64> = topic("orders");
const REMINDERS: Topic<i64, String> = topic("reminders");
const COUNTED: Topic<(u32, i64), u64, Bincode> = topic("reminders-counted-changelog").bincode();
const TIMERS: Topic<Vec<u8>, i64, Bincode> =
    topic("reminders-reminders-timers-changelog").bincode();

struct Reminders {
    counted: KeyValueStore<(u32, i64), u64>,
}

impl Processor<i64, u64> for Reminders {
    type Key = i64;
    type Out = String;

    fn stores(&self) -> Vec<&dyn StateStore> {
        vec![&self.counted]
    }

    fn timers(&self) -> Timers {
        Timers::per_key()
    }

    fn record(&mut self, ctx: &mut Ctx<'_, i64, String>, record: Record<i64, u64>) -> Processed {
        let Some(order) = record.key.filter(|order| *order < LAST) else { return Ok(()) };
        let group = (ctx.partition(), order % GROUPS);
        let counted = self.counted.get(&group)?.unwrap_or(0);
        self.counted.put(&group, counted + 1)?;
        ctx.timer_event(record.timestamp + 1_000)?;
        ctx.timer_clock(millis(100))?;
        Ok(())
    }

    fn timer(&mut self, ctx: &mut Ctx<'_, i64, String>, timer: Timer<i64>) -> Processed {
        let name = if timer.kind == TimerKind::Event { "event" } else { "clock" };
        ctx.forward(timer.key, name.to_owned())?;
        Ok(())
    }
}

fn topology(t: &mut Topology) {
    let counted = t.store("counted");
    t.stream(ORDER).process("reminders", Reminders { counted }).to(REMINDERS);
}

/// The child: the job until nothing has happened for longer than a clock timer takes.
fn run(dir: &Path) {
    let app = App::new("reminders", topology).log(dir).commit_every(millis(3));
    let handle = app.start().unwrap();
    let mut shown = 0;
    while !handle.is_idle_for(millis(600)) && !handle.wait_timeout(millis(1)) {
        let read = handle.progress().records_read;
        if read > shown {
            shown = read;
            say(&format!("read={read}"));
        }
    }
    handle.stop();
    handle.wait().unwrap();
}

fn write_orders(dir: &Path) {
    let log = open(dir);
    let settings =
        TopicSettings { partitions: PARTITIONS, retention_ms: None, ..Default::default() };
    let created = log.create_topic(ORDER.name(), settings).unwrap();
    let mut producer = log.producer(Durability::Os).unwrap();
    let closing = (0..PARTITIONS).map(|partition| {
        let of = |order: &i64| partition_of(*order) == partition;
        ((LAST..).find(of).unwrap(), ORDERS + 1_000_000)
    });
    for (order, step) in (0..ORDERS).map(|order| (order, order)).chain(closing) {
        let (mut batch, mut key) = (BatchBuilder::new(), Vec::new());
        order.encode(&mut key);
        batch.push(LOG_TIME_MS + step, Some(&key), Some(b"1"), NO_HEADERS).unwrap();
        producer.append(&created, partition_of(order), &mut batch).unwrap();
    }
    log.close().unwrap();
}

fn partition_of(order: i64) -> u32 {
    let mut key = Vec::new();
    order.encode(&mut key);
    core_log::partition_for(&key, PARTITIONS)
}

/// The rows that a changelog leaves, all partitions together.
fn rows<K: Key, V: Data>(dir: &Path, changelog: Topic<K, V, Bincode>) -> BTreeMap<K, V> {
    let mut rows = BTreeMap::new();
    for record in Log::open(dir).unwrap().read(changelog) {
        let record = record.unwrap();
        match (record.key, record.value) {
            (Some(key), Some(value)) => drop(rows.insert(key, value)),
            (Some(key), None) => drop(rows.remove(&key)),
            (None, _) => panic!("a row has a key"),
        }
    }
    rows
}

#[test]
fn timers_of_a_killed_processor_fire_exactly_once() {
    if let Some(dir) = std::env::var_os(VARIABLE) {
        return run(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    write_orders(dir.path());
    let spawn = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", TEST, "--nocapture"]).env(VARIABLE, dir.path());
        Child::spawn(&mut command)
    };
    let mut kills = 0;
    for kill in 0..KILLS {
        let mut child = spawn();
        // The first kills come early, when few timers are set; the last while only timers are left.
        let wanted = 1 + kill * 700;
        let came = child.wait_for(|line| number(line, "read").is_some_and(|read| read >= wanted));
        child.kill();
        kills += u64::from(came);
    }
    assert!(kills >= 3, "{kills} kills on the way");
    let mut last = spawn();
    last.wait_for(|_| false);
    assert!(last.is_done(), "{:?}", last.lines);

    let mut fired: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for record in Log::open(dir.path()).unwrap().read(REMINDERS) {
        let record = record.unwrap();
        fired.entry(record.key.unwrap()).or_default().push(record.value.unwrap());
    }
    assert_eq!(fired.len(), usize::try_from(ORDERS).unwrap());
    for (order, mut names) in fired {
        names.sort();
        assert_eq!(names, ["clock", "event"], "order {order}");
    }
    let counted: u64 = rows(dir.path(), COUNTED).into_values().sum();
    assert_eq!(i64::try_from(counted).unwrap(), ORDERS);
    assert_eq!(rows(dir.path(), TIMERS).len(), 0, "no timer is left");
}
