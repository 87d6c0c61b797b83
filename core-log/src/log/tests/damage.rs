//! Bytes that were synced once and are wrong: named, never cut, and the rest stays in service.

use std::path::{Path, PathBuf};

use super::variants::{Variant, holds_unless};
use super::{DIR, append, batch, committed, group, open, position, read};
use crate::commit::Broken;
use crate::config::{Durability, TopicSettings};
use crate::error::Error;
use crate::partition::FetchBound;
use crate::storage::Storage;
use crate::storage::memory::{Keep, MemoryStorage};

fn log_file(storage: &MemoryStorage, dir: &str) -> PathBuf {
    let dir = Path::new(DIR).join(dir);
    let names = storage.list(&dir).unwrap();
    dir.join(names.iter().rfind(|name| name.ends_with(".log")).unwrap())
}

#[test]
fn rot_below_a_witness_makes_one_partition_read_only_up_to_it() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::with_partitions(2)).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    for value in ["a", "b", "c"] {
        for partition in 0..2 {
            producer.append(&topic, partition, &mut batch(&[value])).unwrap();
        }
    }
    log.close().unwrap();
    let path = log_file(&storage, "t-0");
    let size = storage.read_file(&path).unwrap().len();
    // The header of the second batch: its base offset.
    storage.rot(&path, size / 3 + 7, 0x40).unwrap();
    let before = storage.read_file(&path).unwrap();
    let log = open(&storage);
    let report = log.recovery();
    let [hurt] = &report.partitions[..] else { panic!("{report}") };
    assert_eq!((hurt.topic.as_str(), hurt.partition, hurt.log_end_offset), ("t", 0, 1));
    assert!(hurt.damage.is_some() && !report.is_clean(), "{report}");
    assert_eq!(storage.read_file(&path).unwrap(), before, "damage is never cut");
    let mut producer = log.producer(Durability::Sync).unwrap();
    let refused = producer.append(&topic, 0, &mut batch(&["d"]));
    let Err(Error::Damaged { topic: name, partition: 0, offset: 1, position, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((name.as_str(), position), ("t", size as u64 / 3));
    let fetched = log.fetch(topic.id(), 0, 0, 1 << 20, FetchBound::LastStable).unwrap();
    assert_eq!(fetched.batches.len(), size / 3);
    let behind = log.fetch(topic.id(), 0, 1, 1 << 20, FetchBound::LastStable);
    assert!(matches!(behind, Err(Error::Damaged { offset: 1, .. })));
    // A record that is young enough may lie behind the damage: none is no answer.
    assert_eq!(log.offset_for_time(topic.id(), 0, 0).unwrap(), Some((0, 1_000_000)));
    let younger = log.offset_for_time(topic.id(), 0, 1_000_001);
    assert!(matches!(younger, Err(Error::Damaged { offset: 1, .. })), "{younger:?}");
    producer.append(&topic, 1, &mut batch(&["d"])).unwrap();
    assert_eq!(read(&log, &topic, 1, FetchBound::LastStable), ["a", "b", "c", "d"]);
    log.close().unwrap();
    assert!(open(&storage).recovery().partitions[0].damage.is_some());
}

#[test]
fn rot_in_a_record_is_found_by_its_reader() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    log.producer(Durability::Sync).unwrap().append(&topic, 0, &mut batch(&["value"])).unwrap();
    log.close().unwrap();
    let path = log_file(&storage, "t-0");
    let size = storage.read_file(&path).unwrap().len();
    storage.rot(&path, size - 3, 1).unwrap();
    let log = open(&storage);
    let mut reader = crate::PartitionReader::new(log, &topic, 0, 0, FetchBound::LastStable);
    assert!(matches!(reader.next_batch(1 << 20), Err(Error::Decode(_))));
}

/// Rot that makes records look like a marker, or like a batch that goes on for ever: no reader passes.
#[test]
fn rot_in_a_header_lets_no_reader_skip_records_however_often_it_tries() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    for value in ["a", "b", "c"] {
        producer.append(&topic, 0, &mut batch(&[value])).unwrap();
    }
    let path = log_file(&storage, "t-0");
    let second = storage.read_file(&path).unwrap().len() / 3;
    // The control bit, and the highest bit of the last offset delta.
    for (position, mask) in [(second + 22, 1 << 5), (second + 23, 1 << 6)] {
        storage.rot(&path, position, mask).unwrap();
        let mut reader =
            crate::PartitionReader::new(log.clone(), &topic, 0, 0, FetchBound::LastStable);
        assert!(reader.next_batch(1 << 20).unwrap().is_some());
        for _ in 0..3 {
            let refused = reader.next_batch(1 << 20);
            assert!(matches!(refused, Err(Error::Decode(_))), "{refused:?}");
            assert_eq!(reader.position(), 1);
        }
        storage.rot(&path, position, mask).unwrap();
    }
}

/// The marker lies behind the damage, so nobody knows that the records in front of it were aborted.
#[test]
fn damage_in_front_of_a_marker_shows_no_records_of_its_transaction() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let settings = TopicSettings { segment_bytes: 400, ..TopicSettings::default() };
    let topic = log.create_topic("t", settings).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let mut plain = log.producer(Durability::Sync).unwrap();
    for n in 0..6 {
        let transaction = producer.begin().unwrap();
        append(&transaction, &topic, &["never"]);
        plain.append(&topic, 0, &mut batch(&[&n.to_string()])).unwrap();
        transaction.abort().unwrap();
    }
    plain.append(&topic, 0, &mut batch(&["last"])).unwrap();
    log.close().unwrap();
    let dir = Path::new(DIR).join("t-0");
    let names = storage.list(&dir).unwrap();
    let logs: Vec<_> = names.iter().filter(|name| name.ends_with(".log")).collect();
    assert!(logs.len() > 3);
    for name in logs {
        let size = storage.read_file(&dir.join(name)).unwrap().len() as u64;
        for cut in (0..size).step_by(20) {
            let image = storage.kill_image();
            image.open(&dir.join(name)).unwrap().set_len(cut).unwrap();
            let log = open(&image);
            assert!(log.recovery().partitions[0].damage.is_some(), "{name} cut to {cut}");
            let mut reader = crate::PartitionReader::new(log, &topic, 0, 0, FetchBound::LastStable);
            while let Ok(Some(found)) = reader.next_batch(1 << 20) {
                let is_aborted = |r: crate::RecordRef<'_>| r.value == Some(b"never");
                let is_wrong = found.records().any(|record| is_aborted(record.unwrap()));
                assert!(!is_wrong, "{name} cut to {cut}: an aborted record is seen");
            }
        }
    }
}

fn lose_the_last_commit_record(variant: Variant) {
    let storage = MemoryStorage::new(1);
    let log = variant.open(&storage);
    let topic = log.create_topic("t", TopicSettings::with_partitions(2)).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let transaction = producer.begin().unwrap();
    append(&transaction, &topic, &["a"]);
    transaction.append(&topic, 1, &mut batch(&["b"])).unwrap();
    transaction.commit(&[position(&topic, 1)]).unwrap();
    // Rot in the last synced record, which no later witness covers; only one marker survived.
    log.producer(Durability::Sync).unwrap().append(&topic, 0, &mut batch(&["synced"])).unwrap();
    let image = storage.crash_image(Keep::None);
    let path = log_file(&image, "__commits-0");
    let size = image.read_file(&path).unwrap().len();
    image.rot(&path, size - 5, 1).unwrap();
    for _ in 0..2 {
        let log = variant.open(&image);
        let report = log.recovery();
        assert!(report.commits_damage.is_some(), "{report}");
        assert!(report.aborted.is_empty() && report.markers_written.is_empty());
        // Nothing is decided: the other half stays open, and is neither seen nor aborted.
        assert_eq!(committed(&log, &topic), ["a", "synced"]);
        assert!(read(&log, &topic, 1, FetchBound::LastStable).is_empty());
        assert_eq!(read(&log, &topic, 1, FetchBound::LogEnd), ["b"]);
        assert!(matches!(log.committed(&group()), Err(Error::Damaged { .. })));
        assert!(matches!(log.producer(Durability::Sync), Err(Error::Damaged { .. })));
        assert_eq!(image.read_file(&path).unwrap().len(), size, "damage is never cut");
    }
}

#[test]
fn a_commit_marker_without_its_record_shows_that_the_commit_records_are_damaged() {
    let wrong = Variant::Mistake(Broken::TakeDamageForTorn);
    holds_unless(lose_the_last_commit_record, &[wrong]);
}

fn rot_in_a_snapshot(variant: Variant) {
    let storage = MemoryStorage::new(1);
    let log = variant.open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let transaction = producer.begin().unwrap();
    append(&transaction, &topic, &["a"]);
    transaction.commit(&[position(&topic, 1)]).unwrap();
    let image = storage.crash_image(Keep::All);
    image.rot(&log_file(&image, "__commits-0"), 70, 1).unwrap();
    let log = variant.open(&image);
    assert!(log.recovery().commits_damage.is_some());
    assert_eq!(committed(&log, &topic), ["a"]);
    assert!(matches!(log.committed(&group()), Err(Error::Damaged { .. })));
}

#[test]
fn rot_in_a_snapshot_of_the_commit_records_is_named_and_nothing_is_decided() {
    holds_unless(rot_in_a_snapshot, &[Variant::Mistake(Broken::TakeDamageForTorn)]);
}

fn rot_in_a_block_of_producer_ids(variant: Variant) {
    let storage = MemoryStorage::new(1);
    let log = variant.open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut last = log.producer(Durability::Sync).unwrap();
    // The first block is in the snapshot; the second one has a record of its own.
    while last.producer_id().0 < 1_000 {
        last = log.producer(Durability::Sync).unwrap();
    }
    last.append(&topic, 0, &mut batch(&["a"])).unwrap();
    let image = storage.crash_image(Keep::None);
    let path = log_file(&image, "__commits-0");
    let size = image.read_file(&path).unwrap().len();
    image.rot(&path, size - 3, 1).unwrap();
    let log = variant.open(&image);
    assert!(log.producer(Durability::Sync).unwrap().producer_id() > last.producer_id());
}

#[test]
fn rot_in_a_block_of_producer_ids_gives_no_id_out_twice() {
    holds_unless(rot_in_a_block_of_producer_ids, &[Variant::Mistake(Broken::ForgetSeenIds)]);
}

#[test]
fn missing_indexes_snapshots_and_epochs_are_made_again() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let settings = TopicSettings { segment_bytes: 400, ..TopicSettings::default() };
    let topic = log.create_topic("t", settings).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    for n in 0..12 {
        let transaction = producer.begin().unwrap();
        append(&transaction, &topic, &[&n.to_string()]);
        if n % 2 == 0 {
            transaction.commit(&[]).unwrap();
        } else {
            transaction.abort().unwrap();
        }
    }
    let values = committed(&log, &topic);
    assert_eq!(values.len(), 6);
    log.close().unwrap();
    let dir = Path::new(DIR).join("t-0");
    for suffix in [".snapshot", ".txnindex", ".index", ".timeindex", ".seal"] {
        let image = storage.kill_image();
        let names = image.list(&dir).unwrap();
        let gone: Vec<_> = names.iter().filter(|name| name.ends_with(suffix)).collect();
        assert!(!gone.is_empty(), "{suffix}");
        gone.iter().for_each(|name| image.remove_file(&dir.join(name)).unwrap());
        let log = open(&image);
        assert_eq!(committed(&log, &topic), values, "{suffix}");
        assert!(log.recovery().partitions.is_empty(), "{}", log.recovery());
    }
}

/// A partition that ends too early because it is damaged is no power cut: repaired, it is whole again.
#[test]
fn damage_rolls_no_commit_back() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    producer.append(&topic, 0, &mut batch(&["a"])).unwrap();
    producer.append(&topic, 0, &mut batch(&["b"])).unwrap();
    let mut lazy = log.transactional_producer("job", Durability::Os).unwrap();
    lazy.begin().unwrap().commit(&[position(&topic, 2)]).unwrap();
    let image = storage.kill_image();
    let path = log_file(&image, "t-0");
    let size = image.read_file(&path).unwrap().len();
    image.rot(&path, size / 2 + 7, 0x40).unwrap();
    let log = open(&image);
    let report = log.recovery();
    assert!(report.partitions[0].damage.is_some(), "{report}");
    assert!(report.rolled_back.is_empty(), "{report}");
    assert_eq!(log.committed(&group()).unwrap(), [position(&topic, 2)]);
}

/// Its first segment is on the disk before a topic is in the list: without it something was lost, also
/// where no witness says so.
#[test]
fn a_partition_without_files_is_damaged_and_not_an_empty_one() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::with_partitions(2)).unwrap();
    log.producer(Durability::Sync).unwrap().append(&topic, 0, &mut batch(&["a"])).unwrap();
    let dir = Path::new(DIR).join("t-0");
    let without_file = storage.kill_image();
    without_file.remove_file(&log_file(&storage, "t-0")).unwrap();
    let without_dir = storage.kill_image();
    without_dir.remove_dir_all(&dir).unwrap();
    for image in [without_file, without_dir.clone()] {
        let log = open(&image);
        let [hurt] = &log.recovery().partitions[..] else { panic!("{}", log.recovery()) };
        assert!(hurt.damage.is_some() && hurt.partition == 0);
        let read = log.fetch(topic.id(), 0, 0, 100, FetchBound::LogEnd);
        assert!(matches!(read, Err(Error::Damaged { offset: 0, .. })), "{read:?}");
        let mut producer = log.producer(Durability::Sync).unwrap();
        assert!(producer.append(&topic, 0, &mut batch(&["b"])).is_err());
        producer.append(&topic, 1, &mut batch(&["b"])).unwrap();
        log.close().unwrap();
    }
    assert!(!without_dir.exists(&dir).unwrap(), "nothing was changed");
}
