//! Transactions of single records: where they go, when they leave memory, what is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::client_scenarios::{NOW, World, committed, put, uncommitted, world};
use super::{append, open};
use crate::commit::{METADATA_BYTES_MAX, OffsetCommit};
use crate::config::{Durability, TopicSettings};
use crate::consumer::PartitionReader;
use crate::error::{Error, GroupError, Recourse};
use crate::format::{BatchBuilder, NO_HEADERS};
use crate::ids::GroupId;
use crate::log::Log;
use crate::partition::FetchBound;
use crate::partitioner::partition_for;
use crate::producer::{CommitOutcome, Record};
use crate::storage::memory::{Keep, MemoryStorage};
use crate::topic::Topic;
use crate::transaction::TransactionSettings;
use crate::transaction::buffer::BUFFER_BYTES;

fn end(log: &Log, topic: &Topic, partition: u32) -> i64 {
    log.offsets(topic.id(), partition).unwrap().log_end_offset
}

#[test]
fn a_record_keeps_key_value_headers_and_timestamp() {
    let World { log, topic1, .. } = world();
    let headers: &[(&str, Option<&[u8]>)] = &[("a", Some(b"1")), ("a", None), ("", Some(b""))];
    let records = [
        Record { key: Some(b"k"), value: Some(b"v"), headers, ..Record::default() },
        Record { key: Some(b"k"), timestamp: Some(-7), ..Record::default() },
        Record { key: Some(b"k"), value: Some(b""), ..Record::default() },
    ];
    let mut transaction = log.transaction("A").unwrap();
    for record in &records {
        transaction.send(&topic1, *record).unwrap();
    }
    transaction.commit().unwrap();
    let partition = partition_for(b"k", topic1.partitions());
    let mut reader =
        PartitionReader::new(log.clone(), &topic1, partition, 0, FetchBound::LastStable);
    let batch = reader.next_batch(1 << 20).unwrap().unwrap();
    let read: Vec<_> = batch.records().map(|record| record.unwrap()).collect();
    assert_eq!(read.len(), 3);
    for (read, sent) in read.iter().zip(&records) {
        assert_eq!((read.key, read.value), (sent.key, sent.value));
        assert_eq!(read.timestamp, sent.timestamp.unwrap_or(NOW));
        assert_eq!(read.headers.count(), sent.headers.len());
    }
    let kept: Vec<_> = read[0].headers.iter().collect();
    assert_eq!(kept.iter().map(|h| h.1).collect::<Vec<_>>(), [Some(&b"1"[..]), None, Some(b"")]);
    assert!(reader.next_batch(1 << 20).unwrap().is_none());
}

/// Records without keys fill one partition's batch, then the next one's; another transaction begins
/// with another partition.
#[test]
fn records_without_keys_stay_together_until_a_batch_is_full() {
    let World { log, topic1, .. } = world();
    let value = vec![b'x'; 1_000];
    let mut starts = BTreeSet::new();
    for _ in 0..8 {
        let mut transaction = log.transaction("A").unwrap();
        let mut runs: Vec<(u32, usize)> = Vec::new();
        for _ in 0..300 {
            let partition = transaction.send(&topic1, Record::new(&value)).unwrap();
            match runs.last_mut() {
                Some((last, count)) if *last == partition => *count += 1,
                _ => runs.push((partition, 1)),
            }
        }
        starts.insert(runs[0].0);
        transaction.commit().unwrap();
        let visited: BTreeSet<_> = runs.iter().map(|(partition, _)| *partition).collect();
        assert_eq!(visited.len(), 4, "{runs:?}");
        assert!(runs.iter().rev().skip(1).all(|(_, count)| (60..=66).contains(count)), "{runs:?}");
    }
    assert_eq!(starts.len(), 4);
}

#[test]
fn batches_leave_when_they_are_full_and_the_rest_at_the_commit() {
    let World { log, topic1, .. } = world();
    let mut transaction = log.transaction("A").unwrap();
    let value = "x".repeat(20_000);
    for n in 0..10 {
        put(&mut transaction, (&topic1, 2), &n.to_string(), &value);
    }
    assert_eq!(end(&log, &topic1, 2), 9);
    transaction.commit().unwrap();
    assert_eq!(committed(&log, &[&topic1]).len(), 10);
    assert_eq!(end(&log, &topic1, 2), 11);
}

/// However many partitions there are, memory is bounded: everything leaves before it is too much.
#[test]
fn many_partitions_with_little_each_do_not_hold_more_than_a_bound() {
    let log = open(&MemoryStorage::new(1));
    let wide = log.create_topic("wide", TopicSettings::with_partitions(1_000)).unwrap();
    let mut transaction = log.transaction("A").unwrap();
    let value = vec![7; 30_000];
    let mut sent = 0;
    while (0..1_000).all(|partition| end(&log, &wide, partition) == 0) {
        let record =
            Record { value: Some(&value), partition: Some(sent % 1_000), ..Record::default() };
        transaction.send(&wide, record).unwrap();
        sent += 1;
        assert!(usize::try_from(sent).unwrap() * value.len() < BUFFER_BYTES + 2 * value.len());
    }
    let in_log: i64 = (0..1_000).map(|partition| end(&log, &wide, partition)).sum();
    // All but the one for which there was no room.
    assert_eq!(in_log, i64::from(sent) - 1);
    transaction.commit().unwrap();
}

#[test]
fn a_whole_batch_lies_behind_what_was_sent_before_it() {
    let World { log, topic1, .. } = world();
    let mut transaction = log.transaction("A").unwrap();
    put(&mut transaction, (&topic1, 0), "k", "1");
    let mut batch = BatchBuilder::new();
    batch.push(NOW, None, Some(b"2"), NO_HEADERS).unwrap();
    transaction.append(&topic1, 0, &mut batch).unwrap();
    put(&mut transaction, (&topic1, 0), "k", "3");
    transaction.commit().unwrap();
    assert_eq!(super::read(&log, &topic1, 0, FetchBound::LastStable), ["1", "2", "3"]);
}

/// What cannot be taken is refused when it is sent; the rest of the transaction goes on.
#[test]
fn a_refused_record_leaves_the_transaction_as_it_was() {
    let World { log, topic2: good, .. } = world();
    let strict = TopicSettings {
        max_batch_bytes: 1_000,
        timestamp_before_max_ms: 1_000,
        ..TopicSettings::default()
    };
    let small = log.create_topic("small", strict).unwrap();
    let mut transaction = log.transaction("A").unwrap();
    put(&mut transaction, (&good, 0), "k", "good");
    put(&mut transaction, (&small, 0), "k", "good");
    for size in [931, 1_000, 5_000_000] {
        let value = vec![1; size];
        let refused = transaction.send(&small, Record::new(&value)).unwrap_err();
        let is_right = matches!(refused, Error::BatchTooLarge { max_bytes: 1_000, .. });
        assert!(is_right && refused.recourse() == Recourse::FixInput, "{size} {refused}");
    }
    for timestamp in [NOW - 1_001, NOW + 3_600_001, i64::MAX, i64::MIN] {
        let record = Record { timestamp: Some(timestamp), ..Record::default() };
        let refused = transaction.send(&small, record);
        assert!(matches!(refused, Err(Error::TimestampTooFarAhead { .. })), "{timestamp}");
    }
    let nowhere = Record { partition: Some(4), ..Record::default() };
    let refused = transaction.send(&good, nowhere);
    assert!(matches!(refused, Err(Error::UnknownPartition { partition: 4, partitions: 4, .. })));
    for _ in 0..5 {
        put(&mut transaction, (&small, 0), "k", &"x".repeat(300));
    }
    transaction.commit().unwrap();
    let values = committed(&log, &[&small, &good]);
    assert_eq!(values.len(), 7);
    assert_eq!(values.iter().filter(|value| *value == "good").count(), 2);
}

#[test]
fn positions_are_checked_when_they_are_given_and_the_last_one_counts() {
    let World { log, topic1, .. } = world();
    let mut fill = log.transaction("fill").unwrap();
    put(&mut fill, (&topic1, 0), "k", "v");
    fill.commit().unwrap();
    let mut transaction = log.transaction("A").unwrap();
    for bad in [-1, 3, i64::MAX] {
        let refused = transaction.offset("g", &topic1, 0, bad);
        let is_right = matches!(refused, Err(Error::OffsetOutOfRange { start: 0, end: 2, .. }));
        assert!(is_right, "{bad} {refused:?}");
    }
    let refused = transaction.offset("g", &topic1, 9, 0);
    assert!(matches!(refused, Err(Error::UnknownPartition { partition: 9, .. })));
    assert!(matches!(transaction.offset("a b", &topic1, 0, 0), Err(Error::InvalidName { .. })));
    let group = GroupId::new("g").unwrap();
    let with = |offset, bytes| OffsetCommit {
        metadata: vec![b'm'; bytes].into(),
        ..OffsetCommit::new(group.clone(), topic1.id(), 0, offset)
    };
    let most = METADATA_BYTES_MAX;
    // One that is wrong keeps the others out too.
    let refused = transaction.offsets([with(2, 0), with(1, most + 1)]).unwrap_err();
    assert!(
        matches!(refused, Error::Group(GroupError::MetadataTooLarge { bytes: 4_097, .. })),
        "{refused}"
    );
    transaction.offsets([with(1, most)]).unwrap();
    transaction.offsets([with(2, 5), with(1, 6)]).unwrap();
    assert_eq!(transaction.commit().unwrap(), CommitOutcome::Committed);
    assert_eq!(log.committed(&group).unwrap(), [with(1, 6)]);
}

#[test]
fn a_commit_survives_what_its_durability_says() {
    let cases = [
        (Durability::Sync, [true, true]),
        (Durability::Interval(Duration::from_secs(1)), [true, false]),
        (Durability::Os, [true, false]),
    ];
    for (durability, [survives_kill, survives_power_cut]) in cases {
        let World { storage, log, clock, topic1, .. } = world();
        let settings = TransactionSettings { durability, timeout: None };
        let mut transaction = log.transaction_with("A", settings).unwrap();
        put(&mut transaction, (&topic1, 0), "k", "v");
        transaction.offset("g", &topic1, 1, 0).unwrap();
        transaction.commit().unwrap();
        let count = |log: Log| committed(&log, &[&topic1]).len();
        assert_eq!(count(open(&storage.kill_image())), usize::from(survives_kill));
        let image = storage.crash_image(Keep::None);
        assert_eq!(count(open(&image)), usize::from(survives_power_cut), "{durability:?}");
        clock.advance(Duration::from_secs(1));
        log.maintain(NOW).unwrap();
        let is_lazy = durability == Durability::Os;
        let image = storage.crash_image(Keep::None);
        assert_eq!(count(open(&image)), usize::from(!is_lazy), "{durability:?}");
    }
}

/// Ids that nobody holds do not pile up, and the memory of partitions is not filled by one id.
#[test]
fn a_thousand_transactions_of_one_id_leave_one_producer_behind() {
    let World { log, topic1, .. } = world();
    for n in 0..1_000 {
        let mut transaction = log.transaction("A").unwrap();
        put(&mut transaction, (&topic1, 0), "k", &n.to_string());
        match n % 3 {
            0 => drop(transaction.commit().unwrap()),
            1 => transaction.abort().unwrap(),
            _ => drop(transaction),
        }
    }
    assert_eq!(committed(&log, &[&topic1]).len(), 334);
    assert_eq!(log.producers(topic1.id(), 0).unwrap().len(), 1);
    assert_eq!(log.transactions().unwrap().len(), 1);
}

/// Threads of one id take it from each other; what one was told is committed is there, once, and
/// nothing of the others.
#[test]
fn threads_that_contend_for_one_id_commit_what_they_were_told() {
    let World { log, topic1, topic2, .. } = world();
    let told: Vec<Vec<String>> = std::thread::scope(|scope| {
        let work = |thread: usize| {
            let (log, topic1, topic2) = (&log, &topic1, &topic2);
            scope.spawn(move || {
                let mut told = Vec::new();
                for n in 0..200 {
                    let value = format!("{thread}-{n}");
                    let attempt = || -> crate::Result<CommitOutcome> {
                        let mut transaction = log.transaction("shared")?;
                        for topic in [topic1, topic2] {
                            transaction.send(topic, Record::keyed(b"k", value.as_bytes()))?;
                        }
                        transaction.commit()
                    };
                    match attempt() {
                        Ok(_) => told.push(value),
                        Err(error) => {
                            assert!(matches!(error, Error::ProducerFenced { .. }), "{error}");
                        }
                    }
                }
                told
            })
        };
        let threads: Vec<_> = (0..4).map(work).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut expected: Vec<String> = told.into_iter().flatten().collect();
    expected.sort();
    assert_eq!(committed(&log, &[&topic1]), expected);
    assert_eq!(committed(&log, &[&topic2]), expected);
}

/// A file of commit records larger than one snapshot may be, positions of many groups, and the plug
/// pulled behind each commit: what was acknowledged is there whole.
#[test]
fn a_power_cut_behind_any_commit_keeps_records_and_positions_together() {
    let World { storage, log, topic1, topic2, .. } = world();
    let mut model: BTreeMap<String, i64> = BTreeMap::new();
    for n in 0..40_i64 {
        let mut transaction = log.transaction(&format!("id-{}", n % 3)).unwrap();
        put(&mut transaction, (&topic1, 0), "k", &n.to_string());
        put(&mut transaction, (&topic2, 1), "k", &n.to_string());
        transaction.flush().unwrap();
        let group = format!("group-{}", n % 5);
        transaction.offset(&group, &topic1, 0, n).unwrap();
        if n % 4 == 3 {
            transaction.abort().unwrap();
        } else {
            transaction.commit().unwrap();
            model.insert(group, n);
        }
        let image = open(&storage.crash_image(Keep::Random(n.unsigned_abs())));
        let count = usize::try_from(n + 1 - (n + 1) / 4).unwrap();
        assert_eq!(committed(&image, &[&topic1]).len(), count, "{n}");
        assert_eq!(committed(&image, &[&topic2]).len(), count, "{n}");
        for (group, offset) in &model {
            let found = image.committed(&GroupId::new(group).unwrap()).unwrap();
            assert_eq!(found[0].offset, *offset);
        }
    }
    assert!(uncommitted(&log, &[&topic1]).len() >= 30);
}

#[test]
fn a_transaction_of_a_log_that_was_closed_is_refused() {
    let World { log, topic1, .. } = world();
    let mut running = log.transaction("A").unwrap();
    put(&mut running, (&topic1, 0), "k", "v");
    log.close().unwrap();
    assert!(matches!(running.flush(), Err(Error::Closed)));
    assert!(matches!(running.commit(), Err(Error::Closed)));
    assert!(matches!(log.transaction("A"), Err(Error::Closed)));
}

/// Both kinds of transactions may run beside each other.
#[test]
fn single_records_and_whole_batches_of_two_ids_share_a_partition() {
    let World { log, topic1, .. } = world();
    let mut job = log.transactional_producer("job", Durability::Sync).unwrap();
    let batches = job.begin().unwrap();
    append(&batches, &topic1, &["a"]);
    let mut records = log.transaction("A").unwrap();
    put(&mut records, (&topic1, 0), "k", "b");
    records.commit().unwrap();
    assert!(committed(&log, &[&topic1]).is_empty());
    batches.commit(&[]).unwrap();
    assert_eq!(super::read(&log, &topic1, 0, FetchBound::LastStable), ["a", "b"]);
}
