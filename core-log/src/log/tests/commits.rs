//! Commits without sync, and commits of nothing.

use std::sync::Arc;
use std::time::Duration;

use super::{DIR, append, batch, committed, group, open, position};
use crate::OffsetCommit;
use crate::clock::ManualClock;
use crate::config::{Durability, TopicSettings};
use crate::log::Log;
use crate::owner::LogOptions;
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

/// A marker reaches the disk with the sync of another writer, its commit record does not: what the
/// transaction wrote here stays, what it wrote elsewhere and its positions are gone. That is said.
#[test]
fn a_commit_marker_whose_record_a_power_cut_took_is_named() {
    for segment_bytes in [1 << 20, 256] {
        let storage = MemoryStorage::new(1);
        let log = open(&storage);
        let settings = TopicSettings { segment_bytes, ..TopicSettings::default() };
        let kept = log.create_topic("kept", settings).unwrap();
        let lost = log.create_topic("lost", TopicSettings::default()).unwrap();
        let mut synced = log.transactional_producer("synced", Durability::Sync).unwrap();
        let whole = synced.begin().unwrap();
        append(&whole, &kept, &["whole"]);
        whole.commit(&[]).unwrap();
        let mut lazy = log.transactional_producer("lazy", Durability::Os).unwrap();
        let mut torn = Vec::new();
        for value in ["torn", "torn again"] {
            let transaction = lazy.begin().unwrap();
            torn.push((transaction.producer_id(), transaction.producer_epoch()));
            append(&transaction, &kept, &[value]);
            append(&transaction, &lost, &[value]);
            transaction.commit(&[position(&kept, 1)]).unwrap();
        }
        // Makes the markers durable, and not the commit records.
        let mut plain = log.producer(Durability::Sync).unwrap();
        plain.append(&kept, 0, &mut batch(&["plain"])).unwrap();
        let killed = open(&storage.kill_image());
        assert!(killed.recovery().unrecorded.is_empty(), "{}", killed.recovery());
        let image = storage.crash_image(Keep::None);
        let log = open(&image);
        assert_eq!(committed(&log, &kept), ["whole", "torn", "torn again", "plain"]);
        assert!(committed(&log, &lost).is_empty() && log.committed(&group()).unwrap().is_empty());
        let report = log.recovery();
        let [found] = &report.unrecorded[..] else { panic!("{report}") };
        assert_eq!((found.topic.as_str(), found.partition), ("kept", 0), "{report}");
        assert_eq!((found.producer_id, found.producer_epoch), torn[0], "{report}");
        assert_eq!((found.marker_offset, found.others), (3, 1), "{report}");
        let line = report.to_string();
        let names = format!("kept-0: producer {}, epoch {}", torn[0].0, torn[0].1);
        assert!(line.contains(&names) && line.contains("at offset 3"), "{line}");
        // Said once: from now on the partition is witnessed as it is.
        let again = open(&image.crash_image(Keep::None));
        assert!(again.recovery().unrecorded.is_empty(), "{}", again.recovery());
    }
}

/// Markers outlive their commit records: those that a snapshot has dropped were on the disk by then.
#[test]
fn markers_of_commits_that_a_snapshot_has_dropped_are_not_named() {
    let storage = MemoryStorage::new(1);
    let clock = Arc::new(ManualClock::new(1_000_000));
    let options = LogOptions::new().storage(Arc::new(storage.clone())).background(false);
    let log = options.clock(clock).commits_bytes_max(0).open(DIR).unwrap();
    let small = TopicSettings { segment_bytes: 300, ..TopicSettings::default() };
    let topics = ["t", "u"].map(|name| log.create_topic(name, small.clone()).unwrap());
    for promise in [Durability::Os, Durability::Sync] {
        let mut producer = log.transactional_producer("job", promise).unwrap();
        for n in 0..6 {
            let transaction = producer.begin().unwrap();
            topics.iter().take(1 + n % 2).for_each(|topic| append(&transaction, topic, &["a"]));
            transaction.commit(&[]).unwrap();
        }
    }
    for seed in 0..30 {
        let log = open(&storage.crash_image(Keep::Random(seed)));
        assert!(log.recovery().unrecorded.is_empty(), "seed {seed}: {}", log.recovery());
        assert_eq!(committed(&log, &topics[0]).len(), 12, "seed {seed}");
    }
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

/// What was consumed is gone, and the commit that says so is not: the group is sent back, loudly.
#[test]
fn a_position_beyond_the_recovered_end_is_taken_back_and_the_epoch_shows_it() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let input = log.create_topic("in", TopicSettings::default()).unwrap();
    let other = log.create_topic("other", TopicSettings::default()).unwrap();
    let mut lazy = log.producer(Durability::Os).unwrap();
    lazy.append(&input, 0, &mut batch(&["a", "b"])).unwrap();
    let mut job = log.transactional_producer("job", Durability::Os).unwrap();
    job.begin().unwrap().commit(&[position(&input, 2)]).unwrap();
    // The commit records reach the disk, what was consumed does not.
    let mut sync = log.transactional_producer("sync", Durability::Sync).unwrap();
    let transaction = sync.begin().unwrap();
    append(&transaction, &other, &["x"]);
    transaction.commit(&[]).unwrap();
    let image = storage.crash_image(Keep::None);
    let log = open(&image);
    let report = log.recovery();
    let [rolled_back] = &report.rolled_back[..] else { panic!("{report}") };
    assert_eq!(rolled_back.transactional_id.as_str(), "job");
    assert_eq!(rolled_back.groups, [group()]);
    assert_eq!(rolled_back.short, Some((input.partition(0), 0, 2)));
    assert!(!report.is_clean());
    assert!(log.committed(&group()).unwrap().is_empty());
    assert_eq!(committed(&log, &other), ["x"]);
    // The offsets go to other records: whoever remembers epoch 0 beside them sees that.
    lazy = log.producer(Durability::Sync).unwrap();
    lazy.append(&input, 0, &mut batch(&["c", "d"])).unwrap();
    assert_eq!(log.leader_epoch_at(input.id(), 0, 2).unwrap(), Some(1));
    assert_eq!(log.offsets(input.id(), 0).unwrap().leader_epoch, 1);
}

/// A group that a power cut sends back must find the records that it goes back to.
#[test]
fn a_purge_behind_an_unsynced_commit_makes_the_commit_durable_first() {
    for seed in 0..20 {
        let storage = MemoryStorage::new(1);
        let log = open(&storage);
        let small = TopicSettings { segment_bytes: 300, ..TopicSettings::default() };
        let rep = log.create_topic("rep", small).unwrap();
        let mut lazy = log.producer(Durability::Os).unwrap();
        for n in 0..9 {
            lazy.append(&rep, 0, &mut batch(&[&n.to_string()])).unwrap();
        }
        let mut job = log.transactional_producer("job", Durability::Os).unwrap();
        job.begin().unwrap().commit(&[position(&rep, 7)]).unwrap();
        assert!(log.purge(rep.id(), 0, 7).unwrap() > 0);
        let keep = if seed == 0 { Keep::None } else { Keep::Random(seed) };
        let log = open(&storage.crash_image(keep));
        let goes_on_at = log.committed(&group()).unwrap().first().map_or(0, |found| found.offset);
        let start = log.offsets(rep.id(), 0).unwrap().log_start_offset;
        assert!(start <= goes_on_at, "{keep:?}: {start} > {goes_on_at}");
    }
}

/// A clean close says that everything is on the disk; an append that slips in makes it say nothing.
#[test]
fn an_append_beside_a_close_is_synced_or_the_close_is_not_clean() {
    for seed in 0..200 {
        let storage = MemoryStorage::new(seed);
        let log = open(&storage);
        let topic = log.create_topic("t", TopicSettings::default()).unwrap();
        let mut lazy = log.producer(Durability::Os).unwrap();
        let end = std::thread::scope(|scope| {
            let appending = scope.spawn(|| {
                let mut end = 0;
                while let Ok(at) = lazy.append(&topic, 0, &mut batch(&["x"])) {
                    end = at.last_offset() + 1;
                }
                end
            });
            while log.offsets(topic.id(), 0).unwrap().log_end_offset == 0 {
                std::thread::yield_now();
            }
            log.close().unwrap();
            appending.join().unwrap()
        });
        let log = open(&storage.crash_image(Keep::None));
        let found = log.offsets(topic.id(), 0).unwrap();
        if log.recovery().was_closed {
            assert_eq!((found.log_end_offset, found.leader_epoch), (end, 0), "seed {seed}");
        } else {
            assert_eq!(found.leader_epoch, 1, "seed {seed}");
        }
    }
}

/// What is acknowledged survives a power cut once the interval is over: records, markers, positions.
#[test]
fn a_commit_with_an_interval_survives_a_power_cut_after_it() {
    let storage = MemoryStorage::new(1);
    let clock = Arc::new(ManualClock::new(1_000_000));
    let options = LogOptions::new().storage(Arc::new(storage.clone())).background(false);
    let log = options.clock(Arc::<ManualClock>::clone(&clock)).open(DIR).unwrap();
    let input = log.create_topic("in", TopicSettings::default()).unwrap();
    let out = log.create_topic("out", TopicSettings::default()).unwrap();
    log.producer(Durability::Os).unwrap().append(&input, 0, &mut batch(&["read"])).unwrap();
    let interval = Durability::Interval(Duration::from_millis(100));
    let mut producer = log.transactional_producer("job", interval).unwrap();
    let transaction = producer.begin().unwrap();
    append(&transaction, &out, &["a"]);
    transaction.commit(&[position(&input, 1)]).unwrap();
    clock.advance(Duration::from_millis(99));
    log.maintain(0).unwrap();
    let before = open(&storage.crash_image(Keep::None));
    assert!(committed(&before, &out).is_empty() && before.committed(&group()).unwrap().is_empty());
    clock.advance(Duration::from_millis(1));
    log.maintain(0).unwrap();
    let operations = storage.operations();
    log.maintain(0).unwrap();
    assert_eq!(storage.operations(), operations, "once is enough");
    let after = open(&storage.crash_image(Keep::None));
    assert_eq!(committed(&after, &out), ["a"]);
    assert_eq!(after.committed(&group()).unwrap(), [position(&input, 1)]);
    assert!(after.recovery().rolled_back.is_empty());
}
