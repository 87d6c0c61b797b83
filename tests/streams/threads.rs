//! Threads on a real directory with RocksDB: the same answers with 1, 2 and 4 of them, and what a handle
//! says while they work.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use core_log::{BatchBuilder, Durability, FetchBound, Log, PartitionReader, TopicSettings};
use streams::prelude::*;

use crate::jobs::{CLICKS, Click, GRACE, MINUTE, clicks, clickstream, model};

fn write(log: &Log, input: &[(u32, Click)]) {
    let topic = log.topic("clicks").unwrap();
    let mut producer = log.producer(Durability::Os).unwrap();
    let mut batch = BatchBuilder::new();
    for (partition, click) in input {
        let value = serde_json::to_vec(click).unwrap();
        let none: &[(&str, Option<&[u8]>)] = &[];
        batch.push(1_700_000_000_000, None, Some(&value), none).unwrap();
        producer.append(&topic, *partition, &mut batch).unwrap();
        batch.clear();
    }
}

fn counts(dir: &Path) -> BTreeMap<(String, i64), (u64, i64)> {
    let log = Log::open(dir).unwrap();
    let topic = log.topic("page-counts").unwrap();
    let mut counts = BTreeMap::new();
    for partition in 0..topic.partitions() {
        let bound = FetchBound::LastStable;
        let mut reader = PartitionReader::new(log.clone(), &topic, partition, 0, bound);
        while let Some(batch) = reader.next_batch(1 << 20).unwrap() {
            for record in batch.records() {
                let record = record.unwrap();
                let key = Windowed::<String>::decode(record.key).unwrap().unwrap();
                let count: u64 = serde_json::from_slice(record.value.unwrap()).unwrap();
                let twice = counts.insert((key.key, key.start), (count, record.timestamp));
                assert!(twice.is_none(), "a window closed twice");
            }
        }
    }
    log.close().unwrap();
    counts
}

#[test]
fn threads_change_neither_the_counts_nor_what_is_late() {
    let mut input = clicks(11, 4, 2_000, MINUTE);
    let end = input.iter().map(|(_, c)| c.at).max().unwrap() + MINUTE + GRACE;
    for partition in 0..4 {
        input.push((partition, crate::jobs::click("bot-last", "/", end)));
    }
    let (expected, late) = model(&input);
    for threads in [1, 2, 4] {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path()).unwrap();
        let settings = TopicSettings { partitions: 4, ..TopicSettings::default() };
        log.create_topic("clicks", settings).unwrap();
        write(&log, &input);
        log.close().unwrap();
        drop(log);
        let handle = App::new("clickstream", clickstream)
            .log(dir.path())
            .threads(threads)
            .commit_every(millis(5))
            .start()
            .unwrap();
        while !handle.is_idle_for(millis(200)) {
            assert!(!handle.wait_timeout(millis(20)), "the job ended by itself");
        }
        handle.stop();
        let progress = handle.wait().unwrap();
        assert_eq!(progress.late, late, "{threads} threads");
        assert_eq!(counts(dir.path()), expected, "{threads} threads");
    }
}

/// A job that took a second over its first step looked idle until the step was done, and `run
/// --until-idle 500ms` ended it, successfully, with nothing read.
#[test]
fn a_job_in_the_middle_of_its_first_record_is_not_idle() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    log.create_topic("clicks", TopicSettings::default()).unwrap();
    write(&log, &[(0, crate::jobs::click("ana", "/", 1))]);
    log.close().unwrap();
    drop(log);
    let (entered, has_entered) = std::sync::mpsc::channel();
    let (leave, may_leave) = std::sync::mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new((entered, may_leave)));
    let topology = move |t: &mut Topology| {
        let gate = Arc::clone(&gate);
        t.stream(CLICKS).for_each(move |_| {
            let gate = gate.lock().unwrap();
            gate.0.send(()).unwrap();
            gate.1.recv().unwrap();
        });
    };
    let handle = App::new("slow", topology).log(dir.path()).start().unwrap();
    has_entered.recv().unwrap();
    for _ in 0..30 {
        assert!(!handle.wait_timeout(millis(20)), "the job ended by itself");
        assert!(!handle.is_idle_for(millis(300)), "the record is not processed yet");
    }
    leave.send(()).unwrap();
    while !handle.is_idle_for(millis(50)) {
        assert!(!handle.wait_timeout(millis(5)), "the job ended by itself");
    }
    handle.stop();
    assert_eq!(handle.wait().unwrap().records_in, 1);
}
