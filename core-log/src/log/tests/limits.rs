//! Numbers that are large or run out.

use super::{append, batch, committed, group, open, position, read};
use crate::OffsetCommit;
use crate::config::{Durability, TopicSettings};
use crate::partition::FetchBound;
use crate::storage::memory::{Keep, MemoryStorage};

#[test]
fn the_epochs_of_a_producer_run_out_without_a_pause() {
    let log = open(&MemoryStorage::new(1));
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Os).unwrap();
    let mut ids = std::collections::BTreeSet::new();
    let commits = i32::from(i16::MAX) + 3;
    for n in 0..commits {
        let transaction = producer.begin().unwrap();
        ids.insert(transaction.producer_id());
        append(&transaction, &topic, &[&n.to_string()]);
        transaction.commit(&[]).unwrap();
    }
    assert_eq!(ids.len(), 2);
    let values = committed(&log, &topic);
    assert_eq!(values.len(), usize::try_from(commits).unwrap());
    assert_eq!(values.last().unwrap(), &(commits - 1).to_string());
}

#[test]
fn a_commit_of_many_partitions_is_one_commit() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::with_partitions(10_000)).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Os).unwrap();
    let transaction = producer.begin().unwrap();
    let offsets: Vec<_> = (0..10_000)
        .map(|partition| {
            transaction.append(&topic, partition, &mut batch(&["x"])).unwrap();
            OffsetCommit { partition, ..position(&topic, 1) }
        })
        .collect();
    transaction.commit(&offsets).unwrap();
    drop((log, producer));
    let log = open(&storage.kill_image());
    assert_eq!(log.committed(&group()).unwrap().len(), 10_000);
    assert_eq!(read(&log, &topic, 9_999, FetchBound::LastStable), ["x"]);
}

#[test]
fn a_commit_record_larger_than_any_batch_commits() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::with_partitions(600)).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let transaction = producer.begin().unwrap();
    let offsets: Vec<_> = (0..600)
        .map(|partition| OffsetCommit {
            partition,
            metadata: vec![7; 4_096].into(),
            ..position(&topic, 0)
        })
        .collect();
    append(&transaction, &topic, &["a"]);
    transaction.commit(&offsets).unwrap();
    let log = open(&storage.crash_image(Keep::None));
    assert_eq!(log.committed(&group()).unwrap(), offsets);
    assert_eq!(committed(&log, &topic), ["a"]);
}
