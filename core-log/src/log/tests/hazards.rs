//! The ways in which the commit protocol broke on paper, each as a test.

use super::variants::{Variant, holds_unless};
use super::{DIR, append, batch, committed, group, open, position, read};
use crate::commit::Broken;
use crate::config::{Durability, TopicSettings};
use crate::error::{Error, Recourse};
use crate::partition::FetchBound;
use crate::partition::append::Appended;
use crate::storage::careless::Neglect;
use crate::storage::memory::{At, Call, Effect, Fault, Keep, MemoryStorage};
use crate::topic::Topic;

fn small_segments() -> TopicSettings {
    TopicSettings { segment_bytes: 300, ..TopicSettings::default() }
}

fn fail_sync(storage: &MemoryStorage, path: &str, effect: Effect) {
    storage.inject(Fault::once(At::Path(Call::Sync, path.to_owned()), effect));
}

const REFUSED: Effect = Effect::Error(std::io::ErrorKind::Other);

fn consume_and_commit(variant: Variant) {
    let storage = MemoryStorage::new(1);
    let log = variant.open(&storage);
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
    let log = variant.open(&storage.crash_image(Keep::None));
    for commit in log.committed(&group()).unwrap() {
        assert_eq!(commit.offset, 2);
        assert_eq!(log.offsets(commit.topic, 0).unwrap().log_end_offset, 2);
    }
    assert_eq!(committed(&log, &input), ["a", "b"]);
}

#[test]
fn what_was_consumed_is_synced_before_its_offset_is_committed() {
    holds_unless(consume_and_commit, &[Variant::Mistake(Broken::SkipConsumedSync)]);
}

fn fail_a_sync_under_two_writers(variant: Variant) {
    let storage = MemoryStorage::new(1);
    let log = variant.open(&storage);
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
    let log = variant.open(&storage.crash_image(Keep::None));
    assert_eq!(committed(&log, &a), ["again"]);
}

#[test]
fn a_failed_sync_dooms_every_running_transaction() {
    let wrong = Variant::Careless(Neglect::FailedSync);
    holds_unless(fail_a_sync_under_two_writers, &[wrong]);
}

/// What was read and is cut by the recovery that follows must not be committed as read.
#[test]
fn a_failed_sync_dooms_a_transaction_that_only_consumed() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let input = log.create_topic("in", TopicSettings::default()).unwrap();
    let out = log.create_topic("out", TopicSettings::default()).unwrap();
    let mut lazy = log.producer(Durability::Os).unwrap();
    lazy.append(&input, 0, &mut batch(&["a"])).unwrap();
    let mut job = log.transactional_producer("job", Durability::Os).unwrap();
    let transaction = job.begin().unwrap();
    assert_eq!(committed(&log, &input), ["a"]);
    append(&transaction, &out, &["from a"]);
    let at = At::Path(Call::Write, "/in-0/".to_owned());
    storage.inject(Fault::once(at, Effect::ShortWrite { keep: 40 }));
    assert!(lazy.append(&input, 0, &mut batch(&["torn"])).is_err());
    let refused = transaction.commit(&[position(&input, 1)]).unwrap_err();
    assert_eq!(refused.recourse(), Recourse::AbortTransaction);
    assert!(log.committed(&group()).unwrap().is_empty() && committed(&log, &out).is_empty());
    assert_eq!(log.recovery().partitions[0].cut_bytes, 40);
}

fn fail_behind_the_commit_record(variant: Variant) {
    for effect in [REFUSED, Effect::LoseSync] {
        let storage = MemoryStorage::new(1);
        let log = variant.open(&storage);
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
        let log = variant.open(&storage.crash_image(Keep::None));
        assert_eq!(committed(&log, &topic), ["a"], "{effect:?}");
        assert_eq!(log.committed(&group()).unwrap(), [position(&topic, 1)]);
    }
}

#[test]
fn an_error_after_the_commit_record_aborts_nothing() {
    holds_unless(fail_behind_the_commit_record, &[Variant::Mistake(Broken::AbortDecided)]);
}

/// Each commit replaces the commit records by a snapshot, while its markers are not on the disk.
fn snapshot_after_each_commit(variant: Variant) {
    let storage = MemoryStorage::new(1);
    let log = variant.options(&storage).commits_bytes_max(0).open(DIR).unwrap();
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    for n in 0..6 {
        let transaction = producer.begin().unwrap();
        append(&transaction, &topic, &[&n.to_string()]);
        transaction.commit(&[position(&topic, n)]).unwrap();
        let log = variant.open(&storage.crash_image(Keep::None));
        let values: Vec<_> = (0..=n).map(|n| n.to_string()).collect();
        assert_eq!(committed(&log, &topic), values);
        assert_eq!(log.committed(&group()).unwrap(), [position(&topic, n)]);
    }
}

#[test]
fn a_snapshot_keeps_commit_records_until_their_markers_are_synced() {
    holds_unless(snapshot_after_each_commit, &[Variant::Mistake(Broken::FoldEarly)]);
}

#[test]
fn snapshots_between_concurrent_commits_lose_none_of_them() {
    let storage = MemoryStorage::new(1);
    let log = Variant::Right.options(&storage).commits_bytes_max(400).open(DIR).unwrap();
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

fn purge_below_a_live_record(variant: Variant) {
    for keep in [Keep::All, Keep::None, Keep::Random(3), Keep::Random(4)] {
        let storage = MemoryStorage::new(1);
        let log = variant.open(&storage);
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
        let log = variant.open(&image);
        let values = committed(&log, &rep);
        assert!(!values.contains(&"second".to_owned()), "{keep:?}: {values:?}");
        let offsets = log.offsets(rep.id(), 0).unwrap();
        assert!(offsets.log_start_offset > 0);
        assert_eq!(offsets.last_stable_offset, offsets.log_end_offset);
    }
}

#[test]
fn a_live_commit_record_does_not_commit_a_later_transaction_of_its_producer() {
    holds_unless(purge_below_a_live_record, &[Variant::Mistake(Broken::IgnoreEpochs)]);
}

fn lose_markers(variant: Variant) {
    let storage = MemoryStorage::new(1);
    let log = variant.open(&storage);
    let a = log.create_topic("a", TopicSettings::default()).unwrap();
    let b = log.create_topic("b", TopicSettings::default()).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    for (topic, value) in [(&a, "one"), (&b, "two"), (&b, "three")] {
        let transaction = producer.begin().unwrap();
        append(&transaction, topic, &[value]);
        transaction.commit(&[]).unwrap();
    }
    let log = variant.open(&storage.crash_image(Keep::None));
    // The first one's marker and the last one's were never synced.
    assert_eq!(log.recovery().markers_written.len(), 2);
    assert_eq!(
        (committed(&log, &a), committed(&log, &b)),
        (vec!["one".into()], vec!["two".into(), "three".into()])
    );
}

#[test]
fn the_marker_of_a_transaction_is_written_even_when_later_ones_went_elsewhere() {
    holds_unless(lose_markers, &[Variant::Mistake(Broken::LoseMarker)]);
}

fn die_with_a_transaction_open(variant: Variant) {
    let storage = MemoryStorage::new(1);
    let log = variant.open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let dead = producer.begin().unwrap();
    append(&dead, &topic, &["dead"]);
    let plain = log.producer(Durability::Sync).unwrap().producer_id();
    for keep in [Keep::None, Keep::All] {
        let log = variant.open(&storage.crash_image(keep));
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
fn ids_and_epochs_of_unrecorded_transactions_are_not_used_again() {
    holds_unless(die_with_a_transaction_open, &[Variant::Mistake(Broken::ReuseProducerIds)]);
}

/// The process is killed: what it wrote can be read, and is not on the disk yet.
fn append_behind_what_was_kept(variant: Variant) {
    let storage = MemoryStorage::new(1);
    let log = variant.open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut lazy = log.producer(Durability::Os).unwrap();
    for value in ["a", "b", "c"] {
        lazy.append(&topic, 0, &mut batch(&[value])).unwrap();
    }
    fail_sync(&storage, "/t-0/", Effect::LoseSync);
    let mut eager = log.producer(Durability::Sync).unwrap();
    assert!(eager.append(&topic, 0, &mut batch(&["lost"])).is_err());
    let images = (0..60).map(|seed| storage.crash_image(Keep::Random(seed)));
    for (seed, image) in images.chain([storage.kill_image()]).enumerate() {
        let log = variant.open(&image);
        let kept = committed(&log, &topic);
        let mut producer = log.producer(Durability::Sync).unwrap();
        producer.append(&topic, 0, &mut batch(&["d"])).unwrap();
        let log = variant.open(&image.crash_image(Keep::None));
        assert_eq!(committed(&log, &topic), [kept, vec!["d".to_owned()]].concat(), "seed {seed}");
    }
}

#[test]
fn what_recovery_kept_survives_a_second_crash_behind_new_records() {
    holds_unless(append_behind_what_was_kept, &[Variant::Careless(Neglect::Rewrite)]);
}

/// The process dies between the append of a commit record and its sync; then its recovery dies too, at
/// any operation, and what is left must still be one thing: everywhere committed, everywhere not.
fn die_again_during_recovery(variant: Variant) {
    let storage = MemoryStorage::new(1);
    let log = variant.open(&storage);
    let topic = log.create_topic("t", TopicSettings::with_partitions(2)).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let transaction = producer.begin().unwrap();
    append(&transaction, &topic, &["a"]);
    transaction.append(&topic, 1, &mut batch(&["b"])).unwrap();
    let path = "__commits-0".to_owned();
    storage.inject(Fault::forever(At::Path(Call::Sync, path), Effect::LoseSync));
    assert!(transaction.commit(&[position(&topic, 1)]).is_err());
    let killed = storage.kill_image();
    let recovery = {
        let whole = storage.kill_image();
        drop(variant.open(&whole));
        whole.operations()
    };
    for stop in 0..=recovery {
        for keep in [Keep::None, Keep::All, Keep::Random(stop), Keep::Random(stop + 1_000)] {
            let image = killed.kill_image();
            image.stop_after(stop);
            let seen = variant.options(&image).open(DIR).map(|log| committed(&log, &topic));
            let log = variant.open(&image.crash_image(keep));
            assert_eq!(log.recovery().commits_damage, None, "{stop} {keep:?}");
            let here = committed(&log, &topic).len();
            let there = read(&log, &topic, 1, FetchBound::LastStable).len();
            let group = log.committed(&group()).unwrap().len();
            assert!(here == there && there == group, "{stop} {keep:?}: {here} {there} {group}");
            if let Ok(seen) = seen {
                assert_eq!((seen.len(), here), (1, 1), "{stop} {keep:?}");
            }
        }
    }
}

#[test]
fn what_a_reader_saw_after_recovery_is_not_taken_back_by_a_second_crash() {
    holds_unless(die_again_during_recovery, &[Variant::Careless(Neglect::Rewrite)]);
}

fn persist_a_later_batch_first(variant: Variant) {
    let storage = MemoryStorage::new(1);
    let log = variant.open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut lazy = log.producer(Durability::Os).unwrap();
    let long = "x".repeat(2_000);
    for _ in 0..3 {
        lazy.append(&topic, 0, &mut batch(&[&long])).unwrap();
    }
    // A commit that speaks of the partition, with witnesses that are on the disk themselves.
    let other = log.create_topic("other", TopicSettings::default()).unwrap();
    let mut job = log.transactional_producer("job", Durability::Sync).unwrap();
    let transaction = job.begin().unwrap();
    append(&transaction, &other, &["o"]);
    transaction.commit(&[position(&topic, 0)]).unwrap();
    let mut quarantined = 0;
    for seed in 0..80 {
        let image = storage.crash_image(Keep::Random(seed));
        let log = variant.open(&image);
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
fn a_second_batch_that_reached_the_disk_without_the_first_is_no_damage() {
    holds_unless(persist_a_later_batch_first, &[Variant::Mistake(Broken::WitnessUnsynced)]);
}

fn append_again_after_a_failed_sync(variant: Variant) {
    let storage = MemoryStorage::new(1);
    let log = variant.open(&storage);
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
    assert_eq!(committed(&variant.open(&image), &topic), ["a", "b"]);
}

#[test]
fn a_failed_sync_whose_pages_were_marked_clean_loses_nothing() {
    let wrong = [Neglect::Rewrite, Neglect::FailedSync].map(Variant::Careless);
    holds_unless(append_again_after_a_failed_sync, &wrong);
}
