//! Short writes, full disks, and the front of a partition that is given back.

use std::path::Path;

use super::{DIR, batch, committed, open, read};
use crate::config::{Durability, TopicSettings};
use crate::error::{Error, Recourse};
use crate::format::{BatchBuilder, NO_HEADERS};
use crate::partition::FetchBound;
use crate::partition::append::Appended;
use crate::storage::Storage;
use crate::storage::memory::{At, Call, Effect, Fault, Keep, MemoryStorage};

#[test]
fn a_short_write_is_a_crash_of_the_log_and_nobody_sees_half_a_batch() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    producer.append(&topic, 0, &mut batch(&["a"])).unwrap();
    let at = At::Path(Call::Write, "/t-0/".to_owned());
    storage.inject(Fault::once(at, Effect::ShortWrite { keep: 30 }));
    let mut second = batch(&["b"]);
    assert!(producer.append(&topic, 0, &mut second).is_err());
    assert_eq!(committed(&log, &topic), ["a"]);
    assert_eq!(log.recovery().partitions[0].cut_bytes, 30);
    let appended = producer.append(&topic, 0, &mut second).unwrap();
    assert_eq!(appended, Appended::At { first_offset: 1, last_offset: 1 });
    assert_eq!(committed(&open(&storage.crash_image(Keep::None)), &topic), ["a", "b"]);
}

#[test]
fn a_full_disk_is_named_and_the_log_goes_on_once_there_is_space() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    producer.append(&topic, 0, &mut batch(&["a"])).unwrap();
    storage.limit_space(10);
    let mut second = batch(&["b"]);
    let full = producer.append(&topic, 0, &mut second).unwrap_err();
    assert!(matches!(&full, Error::DiskFull { path, .. } if path.starts_with(DIR)), "{full}");
    assert_eq!(full.recourse(), Recourse::Retry);
    storage.clear_faults();
    producer.append(&topic, 0, &mut second).unwrap();
    assert_eq!(committed(&log, &topic), ["a", "b"]);
}

#[test]
fn a_purge_gives_back_whole_segments_and_stays_durable() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log
        .create_topic("t", TopicSettings { segment_bytes: 300, ..TopicSettings::default() })
        .unwrap();
    let mut lazy = log.producer(Durability::Os).unwrap();
    for n in 0..12 {
        lazy.append(&topic, 0, &mut batch(&[&format!("value-{n}")])).unwrap();
    }
    let start = log.purge(topic.id(), 0, 7).unwrap();
    assert!((4..=7).contains(&start), "{start}");
    let operations = storage.operations();
    assert_eq!(log.purge(topic.id(), 0, start + 1).unwrap(), start);
    assert_eq!(storage.operations(), operations);
    assert_eq!(log.delete_records(topic.id(), 0, 11).unwrap(), 11);
    let beyond = log.delete_records(topic.id(), 0, 99);
    assert!(matches!(beyond, Err(Error::OffsetOutOfRange { requested: 99, .. })));
    let log = open(&storage.crash_image(Keep::None));
    let offsets = log.offsets(topic.id(), 0).unwrap();
    assert_eq!(offsets.log_start_offset, 11);
    let below = log.fetch(topic.id(), 0, 10, 100, FetchBound::LogEnd);
    assert!(matches!(below, Err(Error::OffsetOutOfRange { requested: 10, start: 11, .. })));
    assert!(read(&log, &topic, 0, FetchBound::LogEnd).len() <= 1);
    let files = storage.crash_image(Keep::None);
    let names = Storage::list(&files, &Path::new(DIR).join("t-0")).unwrap();
    assert!(!names.contains(&"00000000000000000000.log".to_owned()), "{names:?}");
}

#[test]
fn another_batch_after_a_doubtful_one_is_not_taken_for_it() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    let before = producer.producer_id();
    let at = At::Path(Call::Sync, "/t-0/".to_owned());
    storage.inject(Fault::once(at, Effect::Error(std::io::ErrorKind::Other)));
    assert!(producer.append(&topic, 0, &mut batch(&["a"])).is_err());
    let other = producer.append(&topic, 0, &mut batch(&["z"])).unwrap();
    assert_eq!(other, Appended::At { first_offset: 1, last_offset: 1 });
    assert_ne!(producer.producer_id(), before);
    assert_eq!(committed(&log, &topic), ["a", "z"]);
}

fn fail_next_sync(storage: &MemoryStorage, path: &str) {
    let at = At::Path(Call::Sync, path.to_owned());
    storage.inject(Fault::once(at, Effect::Error(std::io::ErrorKind::Other)));
}

/// Two ticks of a clock differ by their time alone.
#[test]
fn a_batch_that_differs_from_a_doubtful_one_by_its_time_only_is_another_one() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    fail_next_sync(&storage, "/t-0/");
    let mut tick = batch(&["tick"]);
    assert!(producer.append(&topic, 0, &mut tick).is_err());
    let mut later = BatchBuilder::new();
    later.push(1_000_005, None, Some(b"tick"), NO_HEADERS).unwrap();
    let appended = producer.append(&topic, 0, &mut later).unwrap();
    assert_eq!(appended, Appended::At { first_offset: 1, last_offset: 1 });
    assert_eq!(committed(&log, &topic), ["tick", "tick"]);
}

/// The producer gives up on one partition's batch; that of the other one is still sent again.
#[test]
fn a_fresh_id_in_one_partition_leaves_the_doubts_about_others() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::with_partitions(2)).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    let (mut first, mut second) = (batch(&["given up"]), batch(&["once"]));
    fail_next_sync(&storage, "/t-0/");
    assert!(producer.append(&topic, 0, &mut first).is_err());
    fail_next_sync(&storage, "/t-1/");
    assert!(producer.append(&topic, 1, &mut second).is_err());
    producer.append(&topic, 0, &mut batch(&["instead"])).unwrap();
    let again = producer.append(&topic, 1, &mut second).unwrap();
    assert_eq!(again, Appended::Duplicate { first_offset: 0, last_offset: 0 });
    assert_eq!(read(&log, &topic, 1, FetchBound::LastStable), ["once"]);
}

/// A power cut in the middle of a removal leaves any of a segment's files; the next start removes the
/// rest, and needs no space for that.
#[test]
fn what_a_removal_left_goes_at_the_next_start_also_on_a_full_disk() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let small = TopicSettings { segment_bytes: 300, ..TopicSettings::default() };
    let topic = log.create_topic("t", small).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    for n in 0..12 {
        producer.append(&topic, 0, &mut batch(&[&format!("value-{n}")])).unwrap();
    }
    let dir = Path::new(DIR).join("t-0");
    let below = |image: &MemoryStorage, offset: i64| {
        let mut names = Storage::list(image, &dir).unwrap();
        let base_offset = |name: &str| name.get(..20)?.parse::<i64>().ok();
        names.retain(|name| base_offset(name).is_some_and(|base| base < offset));
        names.retain(|name| !name.ends_with(".snapshot"));
        names
    };
    assert!(below(&storage, 7).len() > 6);
    // The log start is durable, and no file is gone yet.
    let at = At::Path(Call::Name, "/t-0/00000000000000000000".to_owned());
    storage.inject(Fault::once(at, Effect::Error(std::io::ErrorKind::Other)));
    log.delete_records(topic.id(), 0, 7).unwrap();
    assert!(log.maintain(1_000_000).is_err());
    for gone in ["seal", "log"] {
        let image = storage.kill_image();
        image.remove_file(&dir.join(format!("{:020}.{gone}", 0))).unwrap();
        for suffix in [".index", ".timeindex", ".seal"] {
            let full = Effect::Error(std::io::ErrorKind::StorageFull);
            image.inject(Fault::forever(At::Path(Call::Write, suffix.to_owned()), full));
        }
        let log = open(&image);
        let start = log.offsets(topic.id(), 0).unwrap().log_start_offset;
        assert_eq!(start, 7);
        let first_kept = below(&image, 99)[0].clone();
        assert!(first_kept[..20].parse::<i64>().unwrap() > 0, "{gone}: {first_kept}");
    }
}
