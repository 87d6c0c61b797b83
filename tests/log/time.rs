//! Record time: lookups, rolls, and what retention takes by time and by size.

use core_log::storage::Storage;
use core_log::storage::memory::{Keep, MemoryStorage};
use core_log::{Durability, Log, Topic, TopicSettings};

use crate::support::{NOW_MS, batch_at, open_in_memory, values};

fn settings() -> TopicSettings {
    TopicSettings { retention_ms: None, timestamp_after_max_ms: i64::MAX, ..Default::default() }
}

/// Appends one record per timestamp; the value is its place.
fn fill(log: &Log, topic: &Topic, times: impl IntoIterator<Item = i64>) {
    let mut producer = log.producer(Durability::Sync).unwrap();
    for (n, time) in times.into_iter().enumerate() {
        producer.append(topic, 0, &mut batch_at(time, &[&n.to_string()])).unwrap();
    }
}

fn segments(storage: &MemoryStorage) -> Vec<i64> {
    let names = storage.list(std::path::Path::new("/data/t-0")).unwrap();
    names.iter().filter_map(|name| name.strip_suffix(".log")?.parse().ok()).collect()
}

#[test]
fn a_lookup_by_time_finds_the_first_record_at_or_behind_it_in_any_segment() {
    let storage = MemoryStorage::new(1);
    let (log, _) = open_in_memory(&storage);
    let small = TopicSettings { segment_bytes: 300, index_interval_bytes: 1, ..settings() };
    let topic = log.create_topic("t", small).unwrap();
    // Not in order, with the ends of the range among them.
    let times = [5, 1, 9, -1, 20, 7, i64::MIN, 20, 3, 40, i64::MAX, 0, 41];
    fill(&log, &topic, times);
    assert!(segments(&storage).len() > 3);
    let check = |log: &Log, from: usize| {
        for wanted in [i64::MIN, -1, 0, 1, 5, 6, 9, 10, 20, 21, 40, 41, 42, i64::MAX] {
            let first = (from..times.len()).find(|n| times[*n] >= wanted);
            let expected = first.map(|n| (i64::try_from(n).unwrap(), times[n]));
            assert_eq!(log.offset_for_time(topic.id(), 0, wanted).unwrap(), expected, "{wanted}");
        }
    };
    check(&log, 0);
    log.delete_records(topic.id(), 0, 6).unwrap();
    check(&log, 6);
    log.close().unwrap();
    check(&open_in_memory(&storage).0, 6);
}

#[test]
fn segments_end_by_size_and_by_record_time() {
    let storage = MemoryStorage::new(1);
    let (log, _) = open_in_memory(&storage);
    let topic = log.create_topic("t", TopicSettings { segment_ms: 1_000, ..settings() }).unwrap();
    fill(&log, &topic, [0, 999, 1_000, 1_001, 1_500, 5_000, 4_000]);
    assert_eq!(segments(&storage), [0, 3, 5]);
    let storage = MemoryStorage::new(1);
    let (log, _) = open_in_memory(&storage);
    let topic = log.create_topic("t", TopicSettings { segment_bytes: 256, ..settings() }).unwrap();
    fill(&log, &topic, 0..7);
    // Three batches of 70 bytes fit.
    assert_eq!(segments(&storage), [0, 3, 6]);
}

#[test]
fn retention_by_time_takes_whole_segments_that_are_too_old() {
    let storage = MemoryStorage::new(1);
    let (log, _) = open_in_memory(&storage);
    let kept = TopicSettings { segment_bytes: 256, retention_ms: Some(1_000), ..settings() };
    let topic = log.create_topic("t", kept).unwrap();
    fill(&log, &topic, (0..9).map(|n| NOW_MS + n * 100));
    log.maintain(NOW_MS + 1_200).unwrap();
    assert_eq!(log.offsets(topic.id(), 0).unwrap().log_start_offset, 0);
    log.maintain(NOW_MS + 1_201).unwrap();
    assert_eq!(log.offsets(topic.id(), 0).unwrap().log_start_offset, 3);
    assert_eq!(segments(&storage), [3, 6]);
    // The last segment goes too when all of it is old, and the offsets go on.
    log.maintain(NOW_MS + 10_000).unwrap();
    let offsets = log.offsets(topic.id(), 0).unwrap();
    assert_eq!((offsets.log_start_offset, offsets.log_end_offset), (9, 9));
    let (log, _) = open_in_memory(&storage.crash_image(Keep::None));
    assert_eq!(log.offsets(topic.id(), 0).unwrap().log_start_offset, 9);
    fill(&log, &topic, [NOW_MS]);
    assert_eq!(values(&log, &topic, 0), ["0"]);
}

#[test]
fn retention_by_size_keeps_at_least_what_was_asked_for() {
    let storage = MemoryStorage::new(1);
    let (log, _) = open_in_memory(&storage);
    let kept = TopicSettings { segment_bytes: 256, retention_bytes: Some(300), ..settings() };
    let topic = log.create_topic("t", kept).unwrap();
    fill(&log, &topic, 0..10);
    log.maintain(NOW_MS).unwrap();
    assert_eq!(segments(&storage), [3, 6, 9]);
    assert_eq!(values(&log, &topic, 0).len(), 7);
}

#[test]
fn retention_takes_nothing_of_an_open_transaction() {
    let storage = MemoryStorage::new(1);
    let (log, _) = open_in_memory(&storage);
    let kept = TopicSettings { segment_bytes: 256, retention_ms: Some(0), ..settings() };
    let topic = log.create_topic("t", kept).unwrap();
    fill(&log, &topic, [NOW_MS; 4]);
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let transaction = producer.begin().unwrap();
    transaction.append(&topic, 0, &mut batch_at(NOW_MS, &["open"])).unwrap();
    fill(&log, &topic, [NOW_MS; 4]);
    log.maintain(NOW_MS + 86_400_000).unwrap();
    assert_eq!(log.offsets(topic.id(), 0).unwrap().log_start_offset, 3);
    transaction.commit(&[]).unwrap();
    assert!(values(&log, &topic, 0).contains(&"open".to_owned()));
    log.maintain(NOW_MS + 86_400_000).unwrap();
    assert!(values(&log, &topic, 0).is_empty());
}
