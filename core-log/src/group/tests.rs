//! Groups on the in-memory storage: one step after the other, then threads, streams and power cuts.

mod crashes;
mod plain;
mod shared;
mod streams;
mod threads;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::clock::ManualClock;
use crate::config::{Durability, TopicSettings};
use crate::format::{BatchBuilder, NO_HEADERS};
use crate::ids::Offset;
use crate::owner::LogOptions;
use crate::storage::memory::{At, Call, Effect, Fault, MemoryStorage};
use crate::topic::Topic;

const DIR: &str = "/data";

/// A log on storage and with a clock of the test's own.
fn open(storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Log {
    LogOptions::new()
        .storage(Arc::new(storage.clone()))
        .clock(Arc::<ManualClock>::clone(clock))
        .background(false)
        .open(DIR)
        .unwrap()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(1_000_000))
}

fn new_log() -> Log {
    open(&MemoryStorage::new(1), &clock())
}

fn topic(log: &Log, name: &str, partitions: u32) -> Topic {
    log.create_topic(name, TopicSettings::with_partitions(partitions)).unwrap()
}

/// Appends values in one batch; their timestamps are their numbers.
fn write(log: &Log, topic: &Topic, partition: u32, values: &[i64], durability: Durability) {
    let mut batch = BatchBuilder::new();
    for value in values {
        batch.push(*value, None, Some(value.to_string().as_bytes()), NO_HEADERS).unwrap();
    }
    log.producer(durability).unwrap().append(topic, partition, &mut batch).unwrap();
}

/// The next write of a commit record fails, which is a crash of the log.
fn fail_one_write_of_commits(storage: &MemoryStorage) {
    let at = At::Path(Call::Write, "__commits-0".to_owned());
    storage.inject(Fault::once(at, Effect::Error(std::io::ErrorKind::Other)));
}

/// The last byte of a partition is not what was written.
fn rot_last_byte(storage: &MemoryStorage, partition: u32) {
    let path = format!("{DIR}/t-{partition}/00000000000000000000.log");
    let path = std::path::Path::new(&path);
    let size = storage.read_file(path).unwrap().len();
    storage.rot(path, size - 1, 0x40).unwrap();
}

fn manual() -> ConsumerSettings {
    ConsumerSettings {
        auto_offset_reset: OffsetReset::Earliest,
        enable_auto_commit: false,
        ..ConsumerSettings::default()
    }
}

fn member(log: &Log, settings: ConsumerSettings) -> Consumer {
    let mut consumer = log.group("g").unwrap().consumer(settings);
    consumer.subscribe(&["t"]).unwrap();
    consumer
}

/// What one poll without waiting hands out, by partition.
fn poll(consumer: &mut Consumer) -> BTreeMap<u32, Vec<i64>> {
    values(&consumer.poll(Duration::ZERO).unwrap())
}

fn values(polled: &Polled) -> BTreeMap<u32, Vec<i64>> {
    let mut values: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
    for record in polled.records() {
        let record = record.unwrap();
        let value = std::str::from_utf8(record.value.unwrap()).unwrap().parse().unwrap();
        values.entry(record.partition).or_default().push(value);
    }
    values
}

fn partitions(consumer: &Consumer) -> Vec<u32> {
    consumer.assignment().iter().map(|name| name.partition).collect()
}

fn name(partition: u32) -> PartitionName {
    PartitionName { topic: crate::ids::TopicName::new("t").unwrap(), partition }
}

fn committed_in(log: &Log) -> BTreeMap<u32, Offset> {
    let committed = log.group("g").unwrap().committed().unwrap();
    committed.into_iter().map(|(name, at)| (name.partition, at.offset)).collect()
}
