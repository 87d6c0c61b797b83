//! Commits without sync, and commits of nothing.

use super::{append, committed, group, open, position};
use crate::OffsetCommit;
use crate::config::{Durability, TopicSettings};
use crate::log::Log;
use crate::producer::CommitOutcome;
use crate::storage::memory::{Keep, MemoryStorage};
use crate::topic::Topic;

/// Commits what `Os` promises: nothing of it is synced.
fn lazy_commit(log: &Log, topic: &Topic, value: &str, offset: i64) {
    let mut producer = log.transactional_producer("job", Durability::Os).unwrap();
    let transaction = producer.begin().unwrap();
    append(&transaction, topic, &[value]);
    transaction.commit(&[position(topic, offset)]).unwrap();
}

#[test]
fn an_unsynced_commit_survives_a_killed_process() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    lazy_commit(&log, &topic, "a", 1);
    let log = open(&storage.kill_image());
    assert_eq!(committed(&log, &topic), ["a"]);
    assert_eq!(log.committed(&group()).unwrap(), [position(&topic, 1)]);
    assert!(log.recovery().rolled_back.is_empty());
}

#[test]
fn an_unsynced_commit_that_a_power_cut_left_incomplete_is_rolled_back_and_named() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    lazy_commit(&log, &topic, "a", 1);
    let mut sync = log.transactional_producer("other", Durability::Sync).unwrap();
    let elsewhere = log.create_topic("u", TopicSettings::default()).unwrap();
    let first = sync.begin().unwrap();
    append(&first, &topic, &["whole"]);
    first.commit(&[]).unwrap();
    lazy_commit(&log, &topic, "b", 3);
    lazy_commit(&log, &elsewhere, "c", 1);
    // Makes the commit records durable, and not the data of the lazy commits.
    sync.begin()
        .unwrap()
        .commit(&[OffsetCommit { group: crate::GroupId::new("h").unwrap(), ..position(&topic, 0) }])
        .unwrap();
    let image = storage.crash_image(Keep::None);
    let log = open(&image);
    let report = log.recovery();
    assert_eq!(report.rolled_back.len(), 2, "{report}");
    assert_eq!(report.rolled_back[0].short.map(|(id, _, _)| id), Some(topic.partition(0)));
    assert!(report.rolled_back.iter().all(|commit| commit.groups == [group()]), "{report}");
    assert_eq!(log.committed(&group()).unwrap(), [position(&topic, 1)]);
    assert_eq!(committed(&log, &topic), ["a", "whole"]);
    assert!(committed(&log, &elsewhere).is_empty());
    // Said once, and for good.
    let again = open(&image.crash_image(Keep::None));
    assert!(again.recovery().rolled_back.is_empty());
    assert_eq!(again.committed(&group()).unwrap(), [position(&topic, 1)]);
}

#[test]
fn an_empty_commit_writes_nothing_and_the_next_transaction_goes_on() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let operations = storage.operations();
    for _ in 0..3 {
        assert_eq!(producer.begin().unwrap().commit(&[]).unwrap(), CommitOutcome::Empty);
    }
    assert_eq!(storage.operations(), operations);
    let transaction = producer.begin().unwrap();
    append(&transaction, &topic, &["a"]);
    assert_eq!(transaction.commit(&[]).unwrap(), CommitOutcome::Committed);
    // A commit of offsets alone is not empty.
    let offsets = [position(&topic, 1)];
    assert_eq!(producer.begin().unwrap().commit(&offsets).unwrap(), CommitOutcome::Committed);
    let log = open(&storage.crash_image(Keep::None));
    assert_eq!(log.committed(&group()).unwrap(), offsets);
    assert_eq!(committed(&log, &topic), ["a"]);
}
