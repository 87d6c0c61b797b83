//! Partitions that Kafka wrote, taken over, read, written on and opened again.

use std::path::PathBuf;

use super::*;
use crate::clock::ManualClock;
use crate::config::Durability;
use crate::consumer::PartitionReader;
use crate::format::{BatchBuilder, NO_HEADERS};
use crate::inspect::tests::{of_kafka, put};
use crate::log::Log;
use crate::owner::LogOptions;
use crate::partition::FetchBound;
use crate::storage::Storage;
use crate::storage::memory::{Keep, MemoryStorage};

const DIR: &str = "/data";

fn open(storage: &MemoryStorage) -> Log {
    LogOptions::new()
        .storage(Arc::new(storage.clone()))
        .clock(Arc::new(ManualClock::new(1_700_000_000_000)))
        .background(false)
        .open(DIR)
        .unwrap()
}

fn dir(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn read(log: &Log, topic: &Topic, partition: u32) -> Vec<(Offset, String)> {
    let start = log.offsets(topic.id(), partition).unwrap().log_start_offset;
    let bound = FetchBound::LastStable;
    let mut reader = PartitionReader::new(log.clone(), topic, partition, start, bound);
    let mut found = Vec::new();
    while let Some(batch) = reader.next_batch(1 << 20).unwrap() {
        for record in batch.records().map(Result::unwrap) {
            let key = String::from_utf8_lossy(record.key.unwrap_or_default()).into_owned();
            found.push((record.offset, key));
        }
    }
    found
}

fn append(log: &Log, topic: &Topic, partition: u32, key: &str) -> Offset {
    let mut batch = BatchBuilder::new();
    batch.push(1_700_000_000_000, Some(key.as_bytes()), None, NO_HEADERS).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    producer.append(topic, partition, &mut batch).unwrap().first_offset()
}

/// Offsets of the records that a read-committed reader sees in each of the recorded directories.
fn committed_in(case: &str) -> Vec<Offset> {
    match case {
        "transaction spanning segments, abort index and reopen" => vec![2],
        "segment roll by size and offset index" => (0..120).collect(),
        "leader epoch checkpoint" => (0..5).collect(),
        _ => vec![0, 1, 2, 5],
    }
}

#[test]
fn what_kafka_wrote_is_read_written_on_and_opened_again() {
    for (case, files) in of_kafka() {
        let storage = MemoryStorage::new(1);
        let log = open(&storage);
        put(&storage, &dir("t-0"), &files);
        let AdoptedTopic { topic, aborted, .. } =
            log.adopt_topic("t", TopicSettings::default()).unwrap();
        let mut expected = committed_in(&case);
        let offsets = |log: &Log| -> Vec<Offset> {
            read(log, &topic, 0).into_iter().map(|(offset, _)| offset).collect()
        };
        assert_eq!(offsets(&log), expected, "{case}");
        assert_eq!(aborted, [], "{case}");
        // It goes on in the epoch and at the offset where Kafka stopped, under ids that Kafka used too.
        let before = log.offsets(topic.id(), 0).unwrap();
        for n in 0..2000 {
            let offset = append(&log, &topic, 0, "ours");
            assert_eq!(offset, before.log_end_offset + n);
            expected.push(offset);
        }
        assert_eq!(offsets(&log), expected, "{case}");
        // After a kill, a power cut and a close.
        let names = log.topics().unwrap();
        drop(log);
        let log = open(&storage.kill_image());
        assert_eq!((log.topics().unwrap(), offsets(&log)), (names, expected.clone()), "{case}");
        let log = open(&storage.crash_image(Keep::None));
        let report = log.recovery();
        assert!(report.commits_damage.is_none(), "{case}: {report}");
        assert!(report.unrecorded.is_empty(), "{case}: markers of Kafka's are no commits of ours");
        assert_eq!(offsets(&log), expected, "{case}");
        log.close().unwrap();
    }
}

#[test]
fn the_bytes_of_adopted_batches_stay_as_they_are() {
    for (case, files) in of_kafka() {
        let storage = MemoryStorage::new(1);
        let log = open(&storage);
        put(&storage, &dir("t-0"), &files);
        // Indexes are made again, as dense as this topic's.
        let index_interval_bytes = match case.as_str() {
            "segment roll by size and offset index" => 200,
            "file bytes: idempotent + transactional + markers, one segment" => 64,
            _ => 4096,
        };
        let settings = TopicSettings { index_interval_bytes, ..TopicSettings::default() };
        log.adopt_topic("t", settings).unwrap();
        log.close().unwrap();
        for (name, bytes) in files {
            let found = storage.read_file(&dir("t-0").join(&name)).unwrap();
            // Its producers are forgotten, and so is what was known of them at the end.
            let is_of_the_end = name.ends_with(".snapshot") && found != bytes;
            if is_of_the_end {
                assert!(found.len() < bytes.len(), "{case}: {name}");
            } else {
                assert_eq!(found, bytes, "{case}: {name}");
            }
        }
    }
}

#[test]
fn room_set_aside_in_indexes_a_missing_index_and_missing_snapshots_are_no_obstacle() {
    for (case, mut files) in of_kafka() {
        files.retain(|name, _| !name.ends_with(".snapshot") && !name.ends_with(".timeindex"));
        for (name, bytes) in &mut files {
            if name.ends_with(".index") {
                bytes.resize(10 << 20, 0);
            }
        }
        files.remove("leader-epoch-checkpoint");
        let storage = MemoryStorage::new(1);
        let log = open(&storage);
        put(&storage, &dir("t-0"), &files);
        let adopted = log.adopt_topic("t", TopicSettings::default()).unwrap();
        let found: Vec<_> =
            read(&log, &adopted.topic, 0).into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(found, committed_in(&case), "{case}");
    }
}

#[test]
fn partitions_that_lost_their_front_begin_at_their_first_segment() {
    let (_, mut files) = of_kafka().remove(1);
    files.retain(|name, _| !name.starts_with("00000000000000000000"));
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    put(&storage, &dir("t-0"), &files);
    let topic = log.adopt_topic("t", TopicSettings::default()).unwrap().topic;
    let offsets = log.offsets(topic.id(), 0).unwrap();
    assert_eq!((offsets.log_start_offset, offsets.log_end_offset), (50, 120));
    assert_eq!(read(&log, &topic, 0).len(), 70);
}

#[test]
fn an_open_transaction_is_aborted_and_said() {
    let (_, mut files) = of_kafka().remove(0);
    // Without the segment that holds its marker.
    files.retain(|name, _| !name.contains("03.") && !name.contains("04."));
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    put(&storage, &dir("t-0"), &files);
    let AdoptedTopic { topic, aborted, .. } =
        log.adopt_topic("t", TopicSettings::default()).unwrap();
    let producers: Vec<_> = aborted.iter().map(|ended| ended.producer_id.0).collect();
    assert_eq!(producers, [1]);
    let found: Vec<_> = read(&log, &topic, 0).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(found, [2]);
    let log = open(&storage.kill_image());
    let found: Vec<_> = read(&log, &topic, 0).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(found, [2]);
}

#[test]
fn ids_of_kafka_are_kept_and_must_agree() {
    let (_, files) = of_kafka().remove(2);
    let with_id = |id: &str| {
        let mut files = files.clone();
        let text = format!("version: 0\ntopic_id: {id}");
        files.insert(topic_id::FILE_NAME.to_owned(), text.into_bytes());
        files
    };
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    put(&storage, &dir("a-0"), &with_id("AAAAAAAAAAAAAAAAAAAAAQ"));
    put(&storage, &dir("a-1"), &with_id("AAAAAAAAAAAAAAAAAAAAAQ"));
    let topic = log.adopt_topic("a", TopicSettings::default()).unwrap().topic;
    assert_eq!((topic.partitions(), topic.id()), (2, TopicId(1_u128.to_be_bytes())));
    let adopt = |name: &str| log.adopt_topic(name, TopicSettings::default()).unwrap_err();
    let reason = |error: Error| match error {
        Error::NotAPartition { path, reason } => (path, reason),
        other => panic!("{other}"),
    };
    put(&storage, &dir("b-0"), &with_id("AAAAAAAAAAAAAAAAAAAAAQ"));
    assert!(reason(adopt("b")).1.contains("another topic"));
    put(&storage, &dir("c-0"), &with_id("AAAAAAAAAAAAAAAAAAAAAg"));
    put(&storage, &dir("c-1"), &with_id("AAAAAAAAAAAAAAAAAAAAAw"));
    assert!(reason(adopt("c")).1.contains("partitions before it"));
    put(&storage, &dir("d-0"), &with_id("short"));
    assert_eq!(reason(adopt("d")).0, dir("d-0").join(topic_id::FILE_NAME));
    put(&storage, &dir("e-0"), &files);
    put(&storage, &dir("e-2"), &files);
    assert_eq!(reason(adopt("e")), (dir("e-1"), "it is missing"));
    assert_eq!(reason(adopt("nothing")), (dir("nothing-0"), "it is missing"));
    storage.create_dir_all(&dir("f-0")).unwrap();
    assert_eq!(reason(adopt("f")), (dir("f-0"), "there is no .log file in it"));
    assert!(matches!(adopt("a"), Error::TopicExists { .. }));
    assert!(matches!(adopt("../a"), Error::InvalidName { .. }));
    assert_eq!(log.topics().unwrap().len(), 1);
}

#[test]
fn damage_is_refused_and_a_torn_end_is_cut_and_said() {
    let (_, files) = of_kafka().remove(1);
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let mut broken = files.clone();
    broken.get_mut("00000000000000000050.log").unwrap()[100] ^= 1;
    put(&storage, &dir("bad-0"), &broken);
    let refused = log.adopt_topic("bad", TopicSettings::default()).unwrap_err();
    assert!(matches!(refused, Error::Damaged { offset: 50, .. }), "{refused}");
    let mut torn = files;
    torn.get_mut("00000000000000000100.log").unwrap().truncate(200);
    put(&storage, &dir("torn-0"), &torn);
    let adopted = log.adopt_topic("torn", TopicSettings::default()).unwrap();
    let [report] = &adopted.partitions[..] else { panic!("{adopted:?}") };
    assert_eq!((report.log_end_offset, report.cut_bytes), (110, 29));
    assert!(report.quarantine_path.is_some());
}

#[test]
fn a_power_cut_at_any_operation_leaves_the_topic_or_lets_it_be_adopted_again() {
    let (case, files) = of_kafka().remove(0);
    let prepare = || {
        let storage = MemoryStorage::new(1);
        open(&storage).close().unwrap();
        put(&storage, &dir("t-0"), &files);
        storage.sync_dir(Path::new(DIR)).unwrap();
        storage
    };
    let storage = prepare();
    let log = open(&storage);
    let before = storage.operations();
    log.adopt_topic("t", TopicSettings::default()).unwrap();
    let operations = storage.operations() - before;
    for operation in 1..=operations {
        let storage = prepare();
        let log = open(&storage);
        storage.stop_after(storage.operations() + operation);
        let outcome = log.adopt_topic("t", TopicSettings::default());
        drop(log);
        // What was copied in and not synced is the caller's; so all of it is kept here.
        let after = storage.crash_image(Keep::All);
        let log = open(&after);
        let topic = match log.topic("t") {
            Ok(topic) => topic,
            Err(_not_listed) => {
                assert!(outcome.is_err(), "operation {operation}");
                log.adopt_topic("t", TopicSettings::default()).unwrap().topic
            }
        };
        let found: Vec<_> = read(&log, &topic, 0).into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(found, committed_in(&case), "operation {operation}");
    }
}
