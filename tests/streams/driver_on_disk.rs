//! The same input through a `TestDriver` and through an `App` on a real directory: Equal.
//!
//! ```text
//!   records --> TestDriver: log in memory, seeds, crashes -----------> outputs
//!           --> App: log and RocksDB on disk, threads, stopped twice -> outputs
//! ```
//!
//! Why: what a user's test says must hold in production, or the driver is a toy.

use std::collections::BTreeMap;
use std::path::Path;

use core_log::{BatchBuilder, Durability, NO_HEADERS, TopicSettings};
use streams::prelude::*;

const PARTITIONS: u32 = 3;

const CLICKS: Topic<String, u64> = topic("clicks");
const USERS: Topic<String, String> = topic("users");
const OUT: Topic<String, String> = topic("out");
const COUNTS: Topic<String, u64> = topic("counts");
const CLOSED: Topic<Windowed<String>, u64> = topic("closed");

/// Steps without state, and a table that is looked up.
fn enriched(t: &mut Topology) {
    let users = t.table(USERS, "users");
    t.stream(CLICKS)
        .filter(|n| n % 7 != 0)
        .left_join(&users, |n, user| format!("{n} {}", user.unwrap_or_default()))
        .to(OUT);
    t.stream(CLICKS).count("clicks-by-user").to(COUNTS);
}

/// A repartition, and windows that close.
fn windowed(t: &mut Topology) {
    let by_end = t.stream(CLICKS).key_by(|n| format!("end-{}", n % 10));
    by_end.window(tumbling(secs(5)).grace(secs(1))).count("by-end").on_close().to(CLOSED);
    t.stream(USERS).map(|user| user.to_uppercase()).to(OUT);
    t.stream(CLICKS).aggregate("sums", |sum: &mut u64, n| *sum += n).to(COUNTS);
}

/// Two streams that meet, and sessions.
fn joined(t: &mut Topology) {
    let users = t.stream(USERS);
    t.stream(CLICKS)
        .left_join_within(users, within(millis(700)).grace(secs(1)), "pairs", |n, user| {
            format!("{n} {}", user.unwrap_or_default())
        })
        .to(OUT);
    t.stream(CLICKS).window(session(secs(2))).count("visits").on_close().to(CLOSED);
    t.stream(CLICKS).count("clicks-by-user").to(COUNTS);
}

/// A record of either topic: key, value as JSON, timestamp.
struct Input {
    topic: &'static str,
    key: String,
    value: serde_json::Value,
    timestamp: i64,
}

fn inputs() -> Vec<Input> {
    let mut inputs: Vec<Input> = (0..600_i64)
        .map(|i| {
            let key = format!("user-{}", i % 11);
            let timestamp = i * 90 - (i % 4) * 25;
            match i % 6 {
                0 => Input { topic: "users", key, value: format!("u{i}").into(), timestamp },
                _ => Input { topic: "clicks", key, value: i.into(), timestamp },
            }
        })
        .collect();
    // In each partition of each topic one that is much younger, so that everything closes.
    for (topic, value) in [("users", "last".into()), ("clicks", 0.into())] {
        for partition in 0..PARTITIONS {
            let key = (0..).map(|n| format!("last-{n}")).find(|key| place(key) == partition);
            let (key, value) = (key.unwrap(), serde_json::Value::clone(&value));
            inputs.push(Input { topic, key, value, timestamp: 10_000_000 });
        }
    }
    inputs
}

fn place(key: &str) -> u32 {
    core_log::partition_for(key.as_bytes(), PARTITIONS)
}

type Told<K, V> = BTreeMap<K, Vec<(Option<V>, i64, Headers)>>;

/// What Equal compares of all outputs.
#[derive(Debug, PartialEq)]
struct Outputs {
    /// Each record of a key, in order.
    out: Told<String, String>,
    closed: Told<Windowed<String>, u64>,
    /// Of what tells each change, the last value.
    counts: BTreeMap<String, u64>,
}

fn told<K: Ord, V>(
    records: impl Iterator<Item = (Option<K>, Option<V>, i64, Headers)>,
) -> Told<K, V> {
    let mut told = Told::new();
    for (key, value, timestamp, headers) in records {
        told.entry(key.unwrap()).or_default().push((value, timestamp, headers));
    }
    told
}

fn in_driver(topology: fn(&mut Topology), seed: u64, crash_every: u64) -> Outputs {
    let mut d = TestDriver::new(topology).partitions(PARTITIONS).seed(seed);
    if crash_every > 0 {
        d = d.crash_every(crash_every);
    }
    for Input { topic, key, value, timestamp } in inputs() {
        match topic {
            "users" => {
                d.send_at(USERS, key, value.as_str().unwrap().to_owned(), timestamp);
            }
            _ => {
                d.send_at(CLICKS, key, value.as_u64().unwrap(), timestamp);
            }
        }
    }
    let out = d.read_records(OUT).into_iter();
    let closed = d.read_records(CLOSED).into_iter();
    Outputs {
        out: told(out.map(|r| (r.key, r.value, r.timestamp, r.headers))),
        closed: told(closed.map(|r| (r.key, r.value, r.timestamp, r.headers))),
        counts: d.table(COUNTS),
    }
}

fn write(dir: &Path) {
    let log = core_log::Log::open(dir).unwrap();
    let mut producer = log.producer(Durability::Os).unwrap();
    let kept = TopicSettings { partitions: PARTITIONS, retention_ms: None, ..Default::default() };
    for name in ["clicks", "users"] {
        log.create_topic(name, kept.clone()).unwrap();
    }
    for Input { topic, key, value, timestamp } in inputs() {
        let mut batch = BatchBuilder::new();
        let value = value.to_string();
        batch.push(timestamp, Some(key.as_bytes()), Some(value.as_bytes()), NO_HEADERS).unwrap();
        producer.append(&log.topic(topic).unwrap(), place(&key), &mut batch).unwrap();
    }
    log.close().unwrap();
}

fn on_disk(topology: fn(&mut Topology)) -> Outputs {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    // Stopped and started again: the second start goes on from the state directory.
    for _ in 0..2 {
        let app = App::new("app", topology).log(dir.path()).threads(2);
        let handle = app.start().unwrap();
        while !handle.is_idle_for(millis(50)) && !handle.wait_timeout(millis(5)) {}
        handle.stop();
        handle.wait().unwrap();
    }
    let log = Log::open(dir.path()).unwrap();
    let mut counts = BTreeMap::new();
    for record in log.read(COUNTS).into_iter().map(Result::unwrap) {
        counts.insert(record.key.unwrap(), record.value.unwrap());
    }
    // A topic that this job does not write is not there.
    let is_there = |code: &streams::Error| code.code() != "S004";
    let out = log.read(OUT).into_iter().map(Result::unwrap);
    let closed = log.read(CLOSED).into_iter().filter(|r| r.as_ref().err().is_none_or(is_there));
    let closed = closed.map(Result::unwrap);
    Outputs {
        out: told(out.map(|r| (r.key, r.value, r.timestamp, r.headers))),
        closed: told(closed.map(|r| (r.key, r.value, r.timestamp, r.headers))),
        counts,
    }
}

fn equal(topology: fn(&mut Topology)) {
    let expected = on_disk(topology);
    assert!(expected.out.len() >= 11 && expected.counts.len() >= 11, "{expected:?}");
    assert_eq!(in_driver(topology, 0, 0), expected, "without crashes");
    for seed in 1..6 {
        assert_eq!(in_driver(topology, seed, 80), expected, "seed {seed}");
    }
}

#[test]
fn steps_and_tables_are_equal_in_the_driver_and_on_disk() {
    equal(enriched);
}

#[test]
fn windows_behind_a_repartition_are_equal_in_the_driver_and_on_disk() {
    equal(windowed);
}

#[test]
fn joins_and_sessions_are_equal_in_the_driver_and_on_disk() {
    equal(joined);
}
