//! Record time: lookups, rolls, and what retention takes by time and by size.

use core_log::storage::Storage;
use core_log::storage::memory::{Keep, MemoryStorage};
use core_log::{Durability, FetchBound, Log, PartitionReader, Topic, TopicSettings};

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

/// The index knows records, not their fate: what it finds may be aborted, or a marker.
#[test]
fn a_reader_that_seeks_a_time_stops_at_the_first_record_that_it_may_see() {
    let storage = MemoryStorage::new(1);
    let (log, _) = open_in_memory(&storage);
    let topic = log.create_topic("t", TopicSettings { segment_bytes: 300, ..settings() }).unwrap();
    let mut aborting = log.transactional_producer("aborts", Durability::Sync).unwrap();
    let mut committing = log.transactional_producer("commits", Durability::Sync).unwrap();
    let mut visible: Vec<(i64, i64)> = Vec::new();
    for n in 0..12_i64 {
        let doomed = aborting.begin().unwrap();
        let doomed_at = doomed.append(&topic, 0, &mut batch_at(n * 10, &["gone"])).unwrap();
        assert_eq!(doomed_at.last_offset(), n * 4);
        let kept = committing.begin().unwrap();
        let at = kept.append(&topic, 0, &mut batch_at(n * 10 + 3, &["kept"])).unwrap();
        visible.push((at.last_offset(), n * 10 + 3));
        doomed.abort().unwrap();
        kept.commit(&[]).unwrap();
    }
    let open = committing.begin().unwrap();
    open.append(&topic, 0, &mut batch_at(1_000, &["open"])).unwrap();
    for wanted in -1..=130 {
        let bound = FetchBound::LastStable;
        let mut reader = PartitionReader::new(log.clone(), &topic, 0, 0, bound);
        let expected = visible.iter().copied().find(|(_, time)| *time >= wanted);
        assert_eq!(reader.seek_to_time(wanted).unwrap(), expected, "{wanted}");
        let next = reader.next_batch(1).unwrap().map(|batch| batch.first_wanted_offset());
        assert_eq!(next, expected.map(|(offset, _)| offset), "{wanted}");
    }
    let end = log.offsets(topic.id(), 0).unwrap().last_stable_offset;
    let mut reader = PartitionReader::new(log.clone(), &topic, 0, 0, FetchBound::LastStable);
    assert_eq!(reader.seek_to_time(1_000).unwrap(), None, "its fate is open");
    assert_eq!(reader.position(), end);
    open.commit(&[]).unwrap();
    assert_eq!(reader.next_batch(1).unwrap().unwrap().header().max_timestamp, 1_000);
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
