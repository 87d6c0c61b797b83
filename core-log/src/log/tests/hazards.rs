//! The ways in which the commit protocol broke on paper, each as a test.

use std::path::Path;

use super::{DIR, append, batch, committed, group, open, position, read};
use crate::OffsetCommit;
use crate::config::{Durability, TopicSettings};
use crate::error::{Error, Recourse};
use crate::log::Log;
use crate::owner::LogOptions;
use crate::partition::FetchBound;
use crate::partition::append::Appended;
use crate::storage::memory::{At, Call, Effect, Fault, Keep, MemoryStorage};
use crate::topic::Topic;
use std::sync::Arc;

fn small_segments() -> TopicSettings {
    TopicSettings { segment_bytes: 300, ..TopicSettings::default() }
}

fn fail_sync(storage: &MemoryStorage, path: &str, effect: Effect) {
    storage.inject(Fault::once(At::Path(Call::Sync, path.to_owned()), effect));
}

const REFUSED: Effect = Effect::Error(std::io::ErrorKind::Other);

#[test]
fn what_was_consumed_is_synced_before_its_offset_is_committed() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let input = log.create_topic("in", TopicSettings::default()).unwrap();
    let rep = log.create_topic("rep", TopicSettings::default()).unwrap();
    log.producer(Durability::Os).unwrap().append(&input, 0, &mut batch(&["a", "b"])).unwrap();
    // Of `rep` only aborted records were skipped.
    let mut other = log.transactional_producer("other", Durability::Os).unwrap();
    let aborted = other.begin().unwrap();
    append(&aborted, &rep, &["never"]);
    aborted.abort().unwrap();
    let mut job = log.transactional_producer("job", Durability::Sync).unwrap();
    job.begin().unwrap().commit(&[position(&input, 2), position(&rep, 2)]).unwrap();
    let log = open(&storage.crash_image(Keep::None));
    for commit in log.committed(&group()).unwrap() {
        assert_eq!(commit.offset, 2);
        assert_eq!(log.offsets(commit.topic, 0).unwrap().log_end_offset, 2);
    }
    assert_eq!(committed(&log, &input), ["a", "b"]);
}

#[test]
fn a_failed_sync_dooms_every_running_transaction() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let a = log.create_topic("a", TopicSettings::default()).unwrap();
    let b = log.create_topic("b", TopicSettings::default()).unwrap();
    let mut one = log.transactional_producer("one", Durability::Sync).unwrap();
    let mut two = log.transactional_producer("two", Durability::Sync).unwrap();
    let (first, second) = (one.begin().unwrap(), two.begin().unwrap());
    append(&first, &a, &["first"]);
    append(&second, &a, &["second"]);
    fail_sync(&storage, "/a-0/", Effect::LoseSync);
    assert!(matches!(first.commit(&[]), Err(Error::Io { .. })));
    let doomed = second.append(&b, 0, &mut batch(&["more"]));
    assert!(matches!(doomed, Err(Error::TransactionDoomed { .. })));
    let refused = second.commit(&[position(&a, 2)]).unwrap_err();
    assert_eq!(refused.recourse(), Recourse::AbortTransaction);
    assert!(matches!(one.begin(), Err(Error::LogCrashed { .. })));
    // The log itself is back.
    assert!(committed(&log, &a).is_empty());
    assert_eq!(log.recovery().aborted.len(), 2);
    let mut one = log.transactional_producer("one", Durability::Sync).unwrap();
    let again = one.begin().unwrap();
    append(&again, &a, &["again"]);
    again.commit(&[]).unwrap();
    let log = open(&storage.crash_image(Keep::None));
    assert_eq!(committed(&log, &a), ["again"]);
}

#[test]
fn an_error_after_the_commit_record_aborts_nothing() {
    for effect in [REFUSED, Effect::LoseSync] {
        let storage = MemoryStorage::new(1);
        let log = open(&storage);
        let topic = log.create_topic("t", TopicSettings::default()).unwrap();
        let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
        let transaction = producer.begin().unwrap();
        append(&transaction, &topic, &["a"]);
        fail_sync(&storage, "__commits-0", effect);
        assert!(transaction.commit(&[position(&topic, 1)]).is_err());
        // The record was written; recovery finds it, and from then on it holds.
        assert_eq!(committed(&log, &topic), ["a"], "{effect:?}");
        assert_eq!(log.committed(&group()).unwrap(), [position(&topic, 1)]);
        assert_eq!(log.recovery().markers_written.len(), 1);
        let log = open(&storage.crash_image(Keep::None));
        assert_eq!(committed(&log, &topic), ["a"], "{effect:?}");
        assert_eq!(log.committed(&group()).unwrap(), [position(&topic, 1)]);
    }
}

#[test]
fn snapshots_between_concurrent_commits_lose_none_of_them() {
    let storage = MemoryStorage::new(1);
    let log = LogOptions::new()
        .storage(Arc::new(storage.clone()))
        .clock(Arc::new(crate::ManualClock::new(1_000_000)))
        .background(false)
        .commits_bytes_max(400)
        .open(DIR)
        .unwrap();
    let topics: Vec<Topic> = (0..4)
        .map(|n| log.create_topic(&format!("t{n}"), TopicSettings::default()).unwrap())
        .collect();
    std::thread::scope(|scope| {
        for (n, topic) in topics.iter().enumerate() {
            let log = &log;
            scope.spawn(move || {
                let id = format!("job-{n}");
                let mut producer = log.transactional_producer(&id, Durability::Sync).unwrap();
                for round in 0..30 {
                    let transaction = producer.begin().unwrap();
                    append(&transaction, topic, &[&round.to_string()]);
                    transaction.commit(&[position(topic, round)]).unwrap();
                }
            });
        }
    });
    let log = open(&storage.crash_image(Keep::None));
    for topic in &topics {
        assert_eq!(committed(&log, topic).len(), 30);
    }
    let positions = log.committed(&group()).unwrap();
    assert!(positions.len() == 4 && positions.iter().all(|commit| commit.offset == 29));
}

#[test]
fn a_live_commit_record_does_not_commit_a_later_transaction_of_its_producer() {
    for keep in [Keep::All, Keep::None, Keep::Random(3), Keep::Random(4)] {
        let storage = MemoryStorage::new(1);
        let log = open(&storage);
        let rep = log.create_topic("rep", small_segments()).unwrap();
        let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
        let first = producer.begin().unwrap();
        for _ in 0..6 {
            append(&first, &rep, &["first"]);
        }
        first.commit(&[position(&rep, 6)]).unwrap();
        // Its marker is not synced, so its record is live; its records go.
        log.purge(rep.id(), 0, 6).unwrap();
        let second = producer.begin().unwrap();
        append(&second, &rep, &["second"]);
        let image = storage.crash_image(keep);
        let log = open(&image);
        let values = committed(&log, &rep);
        assert!(!values.contains(&"second".to_owned()), "{keep:?}: {values:?}");
        let offsets = log.offsets(rep.id(), 0).unwrap();
        assert!(offsets.log_start_offset > 0);
        assert_eq!(offsets.last_stable_offset, offsets.log_end_offset);
    }
}

#[test]
fn the_marker_of_a_transaction_is_written_even_when_later_ones_went_elsewhere() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let a = log.create_topic("a", TopicSettings::default()).unwrap();
    let b = log.create_topic("b", TopicSettings::default()).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    for (topic, value) in [(&a, "one"), (&b, "two"), (&b, "three")] {
        let transaction = producer.begin().unwrap();
        append(&transaction, topic, &[value]);
        transaction.commit(&[]).unwrap();
    }
    let log = open(&storage.crash_image(Keep::None));
    // The first one's marker and the last one's were never synced.
    assert_eq!(log.recovery().markers_written.len(), 2);
    assert_eq!(
        (committed(&log, &a), committed(&log, &b)),
        (vec!["one".into()], vec!["two".into(), "three".into()])
    );
}

#[test]
fn ids_and_epochs_of_unrecorded_transactions_are_not_used_again() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let dead = producer.begin().unwrap();
    append(&dead, &topic, &["dead"]);
    let plain = log.producer(Durability::Sync).unwrap().producer_id();
    for keep in [Keep::None, Keep::All] {
        let log = open(&storage.crash_image(keep));
        let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
        let next = producer.begin().unwrap();
        assert!(next.producer_id() > dead.producer_id().max(plain), "{keep:?}");
        let appended = next.append(&topic, 0, &mut batch(&["dead"])).unwrap();
        assert!(matches!(appended, Appended::At { .. }), "{keep:?}");
        next.commit(&[]).unwrap();
        assert_eq!(committed(&log, &topic), ["dead"]);
    }
}

#[test]
fn what_recovery_kept_survives_a_second_crash_behind_new_records() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut lazy = log.producer(Durability::Os).unwrap();
    for value in ["a", "b", "c"] {
        lazy.append(&topic, 0, &mut batch(&[value])).unwrap();
    }
    for seed in 0..60 {
        let image = storage.crash_image(Keep::Random(seed));
        let log = open(&image);
        let kept = committed(&log, &topic);
        let mut producer = log.producer(Durability::Sync).unwrap();
        producer.append(&topic, 0, &mut batch(&["d"])).unwrap();
        let log = open(&image.crash_image(Keep::None));
        assert_eq!(committed(&log, &topic), [kept, vec!["d".to_owned()]].concat(), "seed {seed}");
    }
}

#[test]
fn what_a_reader_saw_after_recovery_is_not_taken_back_by_a_second_crash() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let transaction = producer.begin().unwrap();
    append(&transaction, &topic, &["a"]);
    // The process dies between the append of the record and its sync.
    let path = "__commits-0".to_owned();
    storage.inject(Fault::forever(At::Path(Call::Sync, path), REFUSED));
    assert!(transaction.commit(&[]).is_err());
    let killed = storage.kill_image();
    let recovery = {
        let whole = storage.kill_image();
        open(&whole);
        whole.operations()
    };
    for stop in 0..=recovery {
        let image = killed.kill_image();
        image.stop_after(stop);
        let Ok(log) =
            LogOptions::new().storage(Arc::new(image.clone())).background(false).open(DIR)
        else {
            continue;
        };
        let seen = committed(&log, &topic);
        assert_eq!(seen, ["a"]);
        for keep in [Keep::None, Keep::Random(stop)] {
            assert_eq!(committed(&open(&image.crash_image(keep)), &topic), seen, "{stop} {keep:?}");
        }
    }
}

#[test]
fn a_second_batch_that_reached_the_disk_without_the_first_is_no_damage() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut lazy = log.producer(Durability::Os).unwrap();
    let long = "x".repeat(2_000);
    for _ in 0..3 {
        lazy.append(&topic, 0, &mut batch(&[&long])).unwrap();
    }
    let mut quarantined = 0;
    for seed in 0..80 {
        let image = storage.crash_image(Keep::Random(seed));
        let log = open(&image);
        let report = log.recovery();
        assert!(report.partitions.iter().all(|partition| partition.damage.is_none()), "{report}");
        for partition in &report.partitions {
            let Some(path) = &partition.quarantine_path else { continue };
            assert_eq!(image.read_file(path).unwrap().len() as u64, partition.cut_bytes);
            quarantined += 1;
        }
        let kept = committed(&log, &topic).len();
        // The offsets go to other records now, which the epoch shows.
        let mut producer = log.producer(Durability::Sync).unwrap();
        let at = producer.append(&topic, 0, &mut batch(&["new"])).unwrap().first_offset();
        assert_eq!(at, i64::try_from(kept).unwrap());
        assert_eq!(log.leader_epoch_at(topic.id(), 0, at + 1).unwrap(), Some(1));
        assert_eq!(log.leader_epoch_at(topic.id(), 0, at).unwrap(), (at > 0).then_some(0));
    }
    assert!(quarantined > 5, "{quarantined}");
}

#[test]
fn a_failed_sync_whose_pages_were_marked_clean_loses_nothing() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    fail_sync(&storage, "/t-0/", Effect::LoseSync);
    let mut first = batch(&["a"]);
    assert!(matches!(producer.append(&topic, 0, &mut first), Err(Error::Io { .. })));
    // The same batch again: it is there once. Another one instead is another one.
    let again = producer.append(&topic, 0, &mut first).unwrap();
    assert_eq!(again, Appended::Duplicate { first_offset: 0, last_offset: 0 });
    producer.append(&topic, 0, &mut batch(&["b"])).unwrap();
    let image = storage.crash_image(Keep::None);
    assert_eq!(committed(&open(&image), &topic), ["a", "b"]);
}

#[test]
fn another_batch_after_a_doubtful_one_is_not_taken_for_it() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    let before = producer.producer_id();
    fail_sync(&storage, "/t-0/", REFUSED);
    assert!(producer.append(&topic, 0, &mut batch(&["a"])).is_err());
    let other = producer.append(&topic, 0, &mut batch(&["z"])).unwrap();
    assert_eq!(other, Appended::At { first_offset: 1, last_offset: 1 });
    assert_ne!(producer.producer_id(), before);
    assert_eq!(committed(&log, &topic), ["a", "z"]);
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
    let topic = log.create_topic("t", small_segments()).unwrap();
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
    let names = crate::storage::Storage::list(&files, &Path::new(DIR).join("t-0")).unwrap();
    assert!(!names.contains(&"00000000000000000000.log".to_owned()), "{names:?}");
}
