//! The same input over 1, 2 and 4 threads, on a real directory with RocksDB.

use std::collections::BTreeMap;
use std::path::Path;

use core_log::{BatchBuilder, Durability, FetchBound, Log, PartitionReader, TopicSettings};
use streams::prelude::*;

use crate::jobs::{Click, GRACE, MINUTE, clicks, clickstream, model};

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
