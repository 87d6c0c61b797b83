//! The public API on the in-memory storage: the plain path.

mod buffered;
mod client_scenarios;
mod closing;
mod commits;
mod compaction;
mod compression;
mod coordinator;
mod damage;
mod descriptors;
mod disk;
mod faults;
mod fencing_scenarios;
mod full_disk;
mod hazards;
mod in_turn;
mod limits;
mod mutations;
mod opening;
mod operators;
mod power_cut;
mod replaced;
mod settings;
mod threads;
mod told;
mod variants;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Log;
use crate::OffsetCommit;
use crate::clock::ManualClock;
use crate::config::{Durability, TopicSettings};
use crate::consumer::PartitionReader;
use crate::error::Error;
use crate::format::{BatchBuilder, NO_HEADERS};
use crate::ids::{GroupId, Offset};
use crate::owner::LogOptions;
use crate::partition::FetchBound;
use crate::partition::append::Appended;
use crate::producer::{CommitOutcome, Transaction};
use crate::storage::memory::{Keep, MemoryStorage};
use crate::topic::Topic;

const DIR: &str = "/data";

fn open(storage: &MemoryStorage) -> Log {
    let clock = Arc::new(ManualClock::new(1_000_000));
    LogOptions::new()
        .storage(Arc::new(storage.clone()))
        .clock(clock)
        .background(false)
        .open(DIR)
        .unwrap()
}

fn batch(values: &[&str]) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    for value in values {
        batch.push(1_000_000, None, Some(value.as_bytes()), NO_HEADERS).unwrap();
    }
    batch
}

fn read(log: &Log, topic: &Topic, partition: u32, bound: FetchBound) -> Vec<String> {
    let start = log.offsets(topic.id(), partition).unwrap().log_start_offset;
    let mut reader = PartitionReader::new(log.clone(), topic, partition, start, bound);
    let mut values = Vec::new();
    while let Some(batch) = reader.next_batch(1 << 20).unwrap() {
        for record in batch.records() {
            values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    values
}

fn committed(log: &Log, topic: &Topic) -> Vec<String> {
    read(log, topic, 0, FetchBound::LastStable)
}

fn group() -> GroupId {
    GroupId::new("g").unwrap()
}

fn position(topic: &Topic, offset: Offset) -> OffsetCommit {
    OffsetCommit {
        group: group(),
        topic: topic.id(),
        partition: 0,
        offset,
        leader_epoch: 0,
        metadata: Bytes::new(),
    }
}

fn append(transaction: &Transaction, topic: &Topic, values: &[&str]) {
    transaction.append(topic, 0, &mut batch(values)).unwrap();
}

#[test]
fn what_is_appended_is_read_back_also_after_a_start() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::with_partitions(2)).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    let appended = producer.append(&topic, 0, &mut batch(&["a", "b"])).unwrap();
    assert_eq!(appended, Appended::At { first_offset: 0, last_offset: 1 });
    producer.append(&topic, 1, &mut batch(&["x"])).unwrap();
    producer.append(&topic, 0, &mut batch(&["c"])).unwrap();
    assert_eq!(committed(&log, &topic), ["a", "b", "c"]);
    log.close().unwrap();
    assert!(matches!(log.topics(), Err(Error::Closed)));
    let log = open(&storage);
    assert!(log.recovery().was_closed && log.recovery().is_clean(), "{}", log.recovery());
    let topic = log.topic("t").unwrap();
    assert_eq!(committed(&log, &topic), ["a", "b", "c"]);
    assert_eq!(read(&log, &topic, 1, FetchBound::LastStable), ["x"]);
}

#[test]
fn a_transaction_shows_all_of_itself_or_nothing() {
    let log = open(&MemoryStorage::new(1));
    let (a, b) = (
        log.create_topic("a", TopicSettings::default()).unwrap(),
        log.create_topic("b", TopicSettings::default()).unwrap(),
    );
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let first = producer.begin().unwrap();
    append(&first, &a, &["a1"]);
    append(&first, &b, &["b1"]);
    assert!(committed(&log, &a).is_empty());
    assert_eq!(read(&log, &a, 0, FetchBound::LogEnd), ["a1"]);
    assert_eq!(first.commit(&[position(&a, 1)]).unwrap(), CommitOutcome::Committed);
    assert_eq!((committed(&log, &a), committed(&log, &b)), (vec!["a1".into()], vec!["b1".into()]));
    assert_eq!(log.committed(&group()).unwrap(), [position(&a, 1)]);
    let second = producer.begin().unwrap();
    append(&second, &a, &["a2"]);
    second.abort().unwrap();
    drop({
        let third = producer.begin().unwrap();
        append(&third, &a, &["a3"]);
        third
    });
    let fourth = producer.begin().unwrap();
    append(&fourth, &a, &["a4"]);
    fourth.commit(&[]).unwrap();
    assert_eq!(committed(&log, &a), ["a1", "a4"]);
    assert_eq!(read(&log, &a, 0, FetchBound::LogEnd), ["a1", "a4"]);
    assert_eq!(producer.begin().unwrap().commit(&[]).unwrap(), CommitOutcome::Empty);
}

#[test]
fn a_transaction_is_shared_by_threads() {
    let log = open(&MemoryStorage::new(1));
    let topic = log.create_topic("t", TopicSettings::with_partitions(4)).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let transaction = producer.begin().unwrap();
    std::thread::scope(|scope| {
        for partition in 0..8_u32 {
            let (transaction, topic) = (&transaction, &topic);
            scope.spawn(move || {
                for n in 0..20 {
                    let mut batch = batch(&[&n.to_string()]);
                    transaction.append(topic, partition % 4, &mut batch).unwrap();
                }
            });
        }
    });
    transaction.commit(&[]).unwrap();
    for partition in 0..4 {
        assert_eq!(read(&log, &topic, partition, FetchBound::LastStable).len(), 40);
    }
}

#[test]
fn a_second_owner_is_refused_and_harms_nothing() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let operations = storage.operations();
    let again = LogOptions::new().storage(Arc::new(storage.clone())).background(false).open(DIR);
    let Err(Error::DirectoryLocked { pid, since_ms, .. }) = again else { panic!("{again:?}") };
    assert_eq!((pid, since_ms), (Some(std::process::id()), Some(1_000_000)));
    assert_eq!(storage.operations(), operations);
    drop(log);
    open(&storage);
}

#[test]
fn a_directory_that_is_not_a_log_is_not_touched() {
    let storage = MemoryStorage::new(1);
    let files: Arc<dyn crate::storage::Storage> = Arc::new(storage.clone());
    files.create_dir_all(Path::new(DIR)).unwrap();
    files.create(&Path::new(DIR).join("holiday.jpg")).unwrap();
    let operations = storage.operations();
    let opened = LogOptions::new().storage(Arc::clone(&files)).background(false).open(DIR);
    assert!(matches!(opened, Err(Error::NotALog { found, .. }) if found == "holiday.jpg"));
    let absent =
        LogOptions::new().storage(files).background(false).create(false).open("/elsewhere");
    assert!(matches!(absent, Err(Error::DirectoryMissing { .. })));
    assert_eq!(storage.operations(), operations);
}

#[test]
fn an_unknown_topic_is_named_with_those_there_are() {
    let log = open(&MemoryStorage::new(1));
    log.create_topic("clicks", TopicSettings::default()).unwrap();
    let Err(Error::UnknownTopic { name, known }) = log.topic("click") else { panic!() };
    assert_eq!((name.as_str(), known), ("click", vec!["clicks".to_owned()]));
    assert!(matches!(
        log.create_topic("clicks", TopicSettings::default()),
        Err(Error::TopicExists { .. })
    ));
    assert!(matches!(
        log.create_topic("../etc", TopicSettings::default()),
        Err(Error::InvalidName { .. })
    ));
}

#[test]
fn a_newer_holder_fences_the_older_and_aborts_its_transaction() {
    let log = open(&MemoryStorage::new(1));
    let topic = log.create_topic("t", TopicSettings::with_partitions(2)).unwrap();
    let mut old = log.transactional_producer("job", Durability::Os).unwrap();
    let transaction = old.begin().unwrap();
    append(&transaction, &topic, &["zombie"]);
    let mut new = log.transactional_producer("job", Durability::Os).unwrap();
    for partition in 0..2 {
        let late = transaction.append(&topic, partition, &mut batch(&["late"]));
        assert!(matches!(late, Err(Error::ProducerFenced { .. })), "{late:?}");
    }
    assert!(matches!(transaction.commit(&[]), Err(Error::ProducerFenced { .. })));
    assert!(matches!(old.begin(), Err(Error::ProducerFenced { .. })));
    let transaction = new.begin().unwrap();
    append(&transaction, &topic, &["new"]);
    transaction.commit(&[]).unwrap();
    assert_eq!(committed(&log, &topic), ["new"]);
}

#[test]
fn offsets_beyond_the_end_or_named_twice_are_refused_and_the_transaction_is_aborted() {
    let log = open(&MemoryStorage::new(1));
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let transaction = producer.begin().unwrap();
    append(&transaction, &topic, &["a"]);
    let beyond = transaction.commit(&[position(&topic, 99)]);
    assert!(matches!(beyond, Err(Error::OffsetOutOfRange { requested: 99, .. })), "{beyond:?}");
    let twice = producer.begin().unwrap().commit(&[position(&topic, 0), position(&topic, 1)]);
    assert!(matches!(twice, Err(Error::DuplicateOffset { .. })));
    assert!(committed(&log, &topic).is_empty());
    assert!(log.committed(&group()).unwrap().is_empty());
    let stable = log.offsets(topic.id(), 0).unwrap();
    assert_eq!(stable.last_stable_offset, stable.log_end_offset);
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_fenced() {
    let clock = Arc::new(ManualClock::new(0));
    let log = LogOptions::new()
        .storage(Arc::new(MemoryStorage::new(1)))
        .clock(Arc::<ManualClock>::clone(&clock))
        .background(false)
        .transaction_timeout(Duration::from_secs(5))
        .open(DIR)
        .unwrap();
    let topic = log
        .create_topic("t", TopicSettings { timestamp_after_max_ms: i64::MAX, ..Default::default() })
        .unwrap();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let transaction = producer.begin().unwrap();
    append(&transaction, &topic, &["slow"]);
    // The date jumps a year: only the monotonic clock counts.
    clock.set(365 * 86_400_000);
    log.maintain(0).unwrap();
    append(&transaction, &topic, &["in time"]);
    clock.advance(Duration::from_secs(6));
    log.maintain(0).unwrap();
    assert!(matches!(transaction.commit(&[]), Err(Error::TransactionTimedOut { .. })));
    assert!(matches!(producer.begin(), Err(Error::ProducerFenced { .. })));
    assert!(committed(&log, &topic).is_empty());
    assert_eq!(log.offsets(topic.id(), 0).unwrap().last_stable_offset, 3);
}

#[test]
fn readers_see_a_record_only_once_it_is_as_durable_as_promised() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut transactional = log.transactional_producer("job", Durability::Sync).unwrap();
    let mut lazy = log.producer(Durability::Os).unwrap();
    lazy.append(&topic, 0, &mut batch(&["os"])).unwrap();
    let offsets = |log: &Log| log.offsets(topic.id(), 0).unwrap();
    assert_eq!(offsets(&log).high_watermark, 1);
    let transaction = transactional.begin().unwrap();
    append(&transaction, &topic, &["sync"]);
    lazy.append(&topic, 0, &mut batch(&["os"])).unwrap();
    assert_eq!((offsets(&log).high_watermark, offsets(&log).log_end_offset), (1, 3));
    // An aborted transaction promises nothing any more.
    transaction.abort().unwrap();
    assert_eq!((offsets(&log).high_watermark, offsets(&log).last_stable_offset), (4, 4));
}

#[test]
fn an_interval_is_synced_when_it_has_passed() {
    let storage = MemoryStorage::new(1);
    let clock = Arc::new(ManualClock::new(1_000_000));
    let options = LogOptions::new().storage(Arc::new(storage.clone())).background(false);
    let log = options.clock(Arc::<ManualClock>::clone(&clock)).open(DIR).unwrap();
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.producer(Durability::Interval(Duration::from_secs(1))).unwrap();
    producer.append(&topic, 0, &mut batch(&["a"])).unwrap();
    log.maintain(1_000_000).unwrap();
    assert!(committed(&open(&storage.crash_image(Keep::None)), &topic).is_empty());
    clock.advance(Duration::from_secs(1));
    log.maintain(1_000_000).unwrap();
    assert_eq!(committed(&open(&storage.crash_image(Keep::None)), &topic), ["a"]);
}
