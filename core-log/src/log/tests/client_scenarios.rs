//! What clients of transactions see, scenario by scenario, as recorded from Kafka's own tests
//! (`txn_client_scenarios.json`); those about fencing are in `fencing_scenarios`.
//!
//! Why by hand: the records are partly prose. Each test has the name of its scenario. "Uncommitted" is
//! everything below the high watermark, aborted or not: Kafka's read uncommitted. A
//! [`PartitionReader`] hands out less there: it leaves out what is known to be aborted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::DIR;
use crate::OffsetCommit;
use crate::clock::ManualClock;
use crate::config::{Durability, TopicSettings};
use crate::consumer::PartitionReader;
use crate::error::Error;
use crate::format::RecordBatch;
use crate::ids::{GroupId, Offset};
use crate::log::Log;
use crate::owner::LogOptions;
use crate::partition::FetchBound;
use crate::producer::{CommitOutcome, Record};
use crate::storage::memory::{At, Call, Effect, Fault, MemoryStorage};
use crate::topic::Topic;
use crate::transaction::{BufferedTransaction, TransactionSettings};

pub(super) const NOW: i64 = 1_000_000;
const PARTITIONS: u32 = 4;

/// A log in memory with the two topics of the scenarios.
pub(super) struct World {
    pub(super) storage: MemoryStorage,
    pub(super) clock: Arc<ManualClock>,
    pub(super) log: Log,
    pub(super) topic1: Topic,
    pub(super) topic2: Topic,
}

pub(super) fn world() -> World {
    let storage = MemoryStorage::new(1);
    let clock = Arc::new(ManualClock::new(NOW));
    let options = LogOptions::new().storage(Arc::new(storage.clone())).background(false);
    let log = options.clock(Arc::<ManualClock>::clone(&clock)).open(DIR).unwrap();
    let topic = |name| log.create_topic(name, TopicSettings::with_partitions(PARTITIONS)).unwrap();
    let (topic1, topic2) = (topic("topic1"), topic("topic2"));
    World { storage, clock, log, topic1, topic2 }
}

/// Sends one record to a partition.
pub(super) fn put(
    transaction: &mut BufferedTransaction,
    (topic, partition): (&Topic, u32),
    key: &str,
    value: &str,
) {
    let record = Record {
        key: Some(key.as_bytes()),
        value: Some(value.as_bytes()),
        partition: Some(partition),
        ..Record::default()
    };
    transaction.send(topic, record).unwrap();
}

/// Sends one record to wherever its key belongs.
pub(super) fn send(transaction: &mut BufferedTransaction, topic: &Topic, key: &str, value: &str) {
    transaction.send(topic, Record::keyed(key.as_bytes(), value.as_bytes())).unwrap();
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap()
}

/// Key, value and offset of what a reader of committed records sees in a partition.
fn committed_in(log: &Log, topic: &Topic, partition: u32) -> Vec<(String, String, Offset)> {
    let mut reader = PartitionReader::new(log.clone(), topic, partition, 0, FetchBound::LastStable);
    let mut found = Vec::new();
    while let Some(batch) = reader.next_batch(1 << 20).unwrap() {
        for record in batch.records() {
            let record = record.unwrap();
            found.push((text(record.key), text(record.value), record.offset));
        }
    }
    found
}

/// The values that a reader of committed records sees in these topics, sorted.
pub(super) fn committed(log: &Log, topics: &[&Topic]) -> Vec<String> {
    let in_topic = |topic: &&Topic| {
        let topic = (*topic).clone();
        (0..topic.partitions()).flat_map(move |p| committed_in(log, &topic, p))
    };
    let mut values: Vec<_> = topics.iter().flat_map(in_topic).map(|(_, value, _)| value).collect();
    values.sort();
    values
}

/// The values that a reader of uncommitted records sees in these topics, sorted.
pub(super) fn uncommitted(log: &Log, topics: &[&Topic]) -> Vec<String> {
    let mut values = Vec::new();
    for topic in topics {
        for partition in 0..topic.partitions() {
            let mut position = 0;
            loop {
                let bound = FetchBound::HighWatermark;
                let fetched = log.fetch(topic.id(), partition, position, 1 << 20, bound).unwrap();
                let mut bytes = fetched.batches;
                if bytes.is_empty() {
                    break;
                }
                while let Some(batch) = RecordBatch::split_from(&mut bytes).unwrap() {
                    position = batch.header().next_offset();
                    if !batch.header().is_control() {
                        values.extend(batch.records().map(|record| text(record.unwrap().value)));
                    }
                }
            }
        }
    }
    values.sort();
    values
}

#[test]
fn basic_transactions() {
    let World { log, topic1, topic2, .. } = world();
    let mut a = log.transaction("A").unwrap();
    put(&mut a, (&topic2, 2), "2", "2");
    put(&mut a, (&topic1, 1), "4", "4");
    a.flush().unwrap();
    a.abort().unwrap();
    let mut a = log.transaction("A").unwrap();
    put(&mut a, (&topic1, 1), "1", "1");
    put(&mut a, (&topic2, 2), "3", "3");
    assert_eq!(a.commit().unwrap(), CommitOutcome::Committed);
    assert_eq!(committed(&log, &[&topic1, &topic2]), ["1", "3"]);
    assert_eq!(uncommitted(&log, &[&topic1, &topic2]), ["1", "2", "3", "4"]);
    assert_eq!(log.offsets(topic1.id(), 1).unwrap().log_end_offset, 4);
    assert_eq!(log.offsets(topic2.id(), 2).unwrap().log_end_offset, 4);
}

#[test]
fn read_committed_consumer_should_not_see_undecided_data() {
    let World { log, topic1, topic2, .. } = world();
    let (mut a, mut b) = (log.transaction("A").unwrap(), log.transaction("B").unwrap());
    let send = |transaction: &mut BufferedTransaction, topic: &Topic, key: &str, value: &str, t| {
        let record = Record {
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            partition: Some(0),
            timestamp: Some(t),
            ..Record::default()
        };
        transaction.send(topic, record).unwrap();
    };
    send(&mut b, &topic1, "x", "1", NOW);
    send(&mut b, &topic2, "x", "1", NOW);
    b.flush().unwrap();
    for (topic, key, value) in
        [(&topic1, "a", "1"), (&topic1, "b", "2"), (&topic2, "c", "3"), (&topic2, "d", "4")]
    {
        send(&mut a, topic, key, value, NOW + 1);
    }
    a.flush().unwrap();
    send(&mut b, &topic1, "x", "2", NOW + 1);
    send(&mut b, &topic2, "x", "2", NOW + 1);
    b.commit().unwrap();
    assert_eq!(uncommitted(&log, &[&topic1, &topic2]).len(), 8);
    for topic in [&topic1, &topic2] {
        assert_eq!(committed_in(&log, topic, 0), [("x".into(), "1".into(), 0)]);
        assert_eq!(log.offsets(topic.id(), 0).unwrap().last_stable_offset, 1);
        let seek = |bound| {
            PartitionReader::new(log.clone(), topic, 0, 0, bound).seek_to_time(NOW + 1).unwrap()
        };
        assert_eq!(seek(FetchBound::LastStable), None);
        assert_eq!(seek(FetchBound::HighWatermark), Some((1, NOW + 1)));
    }
    drop(a);
}

#[test]
fn delayed_fetch_includes_aborted_transaction() {
    let World { log, topic1, .. } = world();
    let (mut a, mut b) = (log.transaction("A").unwrap(), log.transaction("B").unwrap());
    put(&mut b, (&topic1, 0), "x", "1");
    b.flush().unwrap();
    put(&mut a, (&topic1, 0), "y", "1");
    put(&mut a, (&topic1, 0), "y", "2");
    a.flush().unwrap();
    put(&mut b, (&topic1, 0), "x", "2");
    b.flush().unwrap();
    // The reader finds nothing and waits; what it is woken to must name the aborted transaction.
    let seen = log.changes();
    assert!(committed_in(&log, &topic1, 0).is_empty());
    let (log2, topic) = (log.clone(), topic1.clone());
    let waits = std::thread::spawn(move || {
        let mut seen = seen;
        loop {
            let fetched = log2.fetch(topic.id(), 0, 0, 100_000, FetchBound::LastStable).unwrap();
            if !fetched.batches.is_empty() {
                return fetched;
            }
            seen = log2.wait_for_change(seen, Duration::from_secs(10));
        }
    });
    let aborted = a.producer_id();
    a.abort().unwrap();
    b.commit().unwrap();
    let fetched = waits.join().unwrap();
    assert_eq!(fetched.aborted.len(), 1);
    assert_eq!((fetched.aborted[0].producer_id, fetched.aborted[0].first_offset), (aborted, 1));
    let expected = [("x".into(), "1".into(), 0), ("x".into(), "2".into(), 3)];
    assert_eq!(committed_in(&log, &topic1, 0), expected);
}

#[test]
fn send_offsets_with_group_metadata() {
    let World { log, topic1: src, topic2: dst, .. } = world();
    let group = GroupId::new("foobarGroup").unwrap();
    let mut seed = log.transaction("seed").unwrap();
    for n in 0..500 {
        put(&mut seed, (&src, n % PARTITIONS), "key", &n.to_string());
    }
    seed.commit().unwrap();
    let mut rounds = 0;
    loop {
        // Go on from what is committed: after an abort that is a step back.
        let mut positions: Vec<Offset> = vec![0; PARTITIONS as usize];
        for position in log.committed(&group).unwrap() {
            positions[position.partition as usize] = position.offset;
        }
        let mut copy = log.transaction("copier").unwrap();
        let mut read = 0;
        for partition in 0..PARTITIONS {
            let from = positions[partition as usize];
            let records = committed_in(&log, &src, partition);
            let new: Vec<_> = records.iter().filter(|(_, _, at)| *at >= from).take(7).collect();
            for (key, value, at) in &new {
                send(&mut copy, &dst, key, value);
                positions[partition as usize] = at + 1;
            }
            read += new.len();
        }
        if read == 0 {
            break;
        }
        let commit = |partition: u32| OffsetCommit {
            leader_epoch: 0,
            metadata: rounds.to_string().into(),
            ..OffsetCommit::new(group.clone(), src.id(), partition, positions[partition as usize])
        };
        copy.offsets((0..PARTITIONS).map(commit)).unwrap();
        if rounds % 2 == 0 {
            copy.commit().unwrap();
        } else {
            copy.flush().unwrap();
            copy.abort().unwrap();
        }
        rounds += 1;
    }
    assert!(rounds > 30, "{rounds}");
    let values = committed(&log, &[&dst]);
    assert_eq!(values.len(), 500);
    assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), 500);
    assert!(uncommitted(&log, &[&dst]).len() > 900);
}

#[test]
fn multiple_markers_one_leader() {
    let World { log, .. } = world();
    let ten = || TopicSettings::with_partitions(10);
    let large = log.create_topic("largeTopic", ten()).unwrap();
    let other = log.create_topic("largeTopicOneReplica", ten()).unwrap();
    let mut a = log.transaction("A").unwrap();
    for n in 0..5_000 {
        send(&mut a, &large, &n.to_string(), &n.to_string());
    }
    for n in 5_000..10_000 {
        send(&mut a, &other, &n.to_string(), &n.to_string());
    }
    a.flush().unwrap();
    a.abort().unwrap();
    let mut a = log.transaction("A").unwrap();
    for n in 10_000..11_000 {
        send(&mut a, &large, &n.to_string(), &n.to_string());
    }
    a.commit().unwrap();
    assert_eq!(committed(&log, &[&large, &other]).len(), 1_000);
    assert_eq!(uncommitted(&log, &[&large, &other]).len(), 11_000);
}

#[test]
fn offset_metadata_in_send_offsets_to_transaction() {
    let World { log, topic1, .. } = world();
    let mut write = log.transaction("writer").unwrap();
    put(&mut write, (&topic1, 0), "k", "v");
    write.commit().unwrap();
    let position = OffsetCommit {
        leader_epoch: 0,
        metadata: "some metadata string".into(),
        ..OffsetCommit::new(GroupId::new("group").unwrap(), topic1.id(), 0, 1)
    };
    let mut a = log.transaction("A").unwrap();
    a.offsets([position.clone()]).unwrap();
    a.commit().unwrap();
    let _b = log.transaction("A").unwrap();
    assert_eq!(log.committed(&position.group).unwrap(), [position]);
}

/// The write of a partition fails where Kafka's leader is killed. The log reopens, and everybody begins
/// with a fresh producer id then; Kafka's producer keeps its id and raises the epoch.
#[test]
fn bump_transactional_epoch_with_tv2_enabled() {
    let World { storage, log, topic1, topic2, .. } = world();
    let test = log.create_topic("test-topic", TopicSettings::default()).unwrap();
    let mut a = log.transaction("A").unwrap();
    let before = (a.producer_id(), a.producer_epoch());
    send(&mut a, &test, "4", "4");
    a.commit().unwrap();
    let mut a = log.transaction("A").unwrap();
    assert!((a.producer_id(), a.producer_epoch()) > before);
    send(&mut a, &topic1, "1", "never");
    a.flush().unwrap();
    let failing = At::Path(Call::Write, "/test-topic-0/".to_owned());
    storage.inject(Fault::once(failing, Effect::Error(std::io::ErrorKind::Other)));
    send(&mut a, &test, "3", "never");
    assert!(matches!(a.flush(), Err(Error::Io { .. })));
    assert!(matches!(a.flush(), Err(Error::TransactionDoomed { .. })));
    // It is aborted all the same.
    assert!(matches!(a.abort(), Err(Error::LogCrashed { .. })));
    let mut a = log.transaction("A").unwrap();
    assert!((a.producer_id(), a.producer_epoch()) > before);
    send(&mut a, &topic2, "1", "1");
    send(&mut a, &topic1, "4", "4");
    send(&mut a, &test, "1", "1");
    send(&mut a, &test, "3", "3");
    a.commit().unwrap();
    assert_eq!(committed(&log, &[&topic1, &topic2, &test]), ["1", "1", "3", "4", "4"]);
}

#[test]
fn empty_abort_after_commit() {
    let World { log, topic1, .. } = world();
    let mut a = log.transaction("A").unwrap();
    send(&mut a, &topic1, "1", "1");
    a.commit().unwrap();
    log.transaction("A").unwrap().abort().unwrap();
    assert_eq!(committed(&log, &[&topic1]), ["1"]);
}

#[test]
fn transaction_after_producer_id_expires() {
    let World { log, clock, topic1, topic2, .. } = world();
    let mut a = log.transaction("A").unwrap();
    let (producer, epoch) = (a.producer_id(), a.producer_epoch());
    put(&mut a, (&topic1, 0), "1", "1");
    put(&mut a, (&topic2, 0), "3", "3");
    a.flush().unwrap();
    a.abort().unwrap();
    assert_eq!(log.producers(topic1.id(), 0).unwrap()[0].producer_id, producer);
    clock.advance(Duration::from_secs(86_401));
    log.maintain(NOW + 86_401_000).unwrap();
    assert!(log.producers(topic1.id(), 0).unwrap().is_empty());
    let settings = TransactionSettings { durability: Durability::Os, timeout: None };
    let mut b = log.transaction_with("A", settings).unwrap();
    assert_eq!(b.producer_id(), producer);
    assert!(b.producer_epoch() > epoch);
    put(&mut b, (&topic1, 0), "4", "4");
    put(&mut b, (&topic2, 0), "3", "3");
    b.commit().unwrap();
    assert_eq!(committed(&log, &[&topic1, &topic2]), ["3", "4"]);
}
