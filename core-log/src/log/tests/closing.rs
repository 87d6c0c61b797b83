//! A log that is closed: beside writers, after a failure, and for good.

use std::sync::Arc;
use std::time::Duration;

use super::{DIR, append, batch, committed, open, position};
use crate::config::{Durability, TopicSettings};
use crate::error::Error;
use crate::owner::LogOptions;
use crate::storage::memory::{At, Call, Effect, Fault, Keep, MemoryStorage};

/// The directory is another owner's from then on: a handle that stayed must not recover it.
#[test]
fn a_close_that_fails_lets_go_of_the_directory_for_good() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    log.producer(Durability::Os).unwrap().append(&topic, 0, &mut batch(&["a"])).unwrap();
    let at = At::Path(Call::Sync, "/t-0/".to_owned());
    storage.inject(Fault::once(at, Effect::Error(std::io::ErrorKind::Other)));
    assert!(matches!(log.close(), Err(Error::Io { .. })));
    let next = open(&storage);
    let operations = storage.operations();
    assert!(matches!(log.topics(), Err(Error::Closed)));
    assert!(matches!(log.producer(Durability::Os), Err(Error::Closed)));
    log.close().unwrap();
    assert_eq!(storage.operations(), operations);
    assert_eq!(committed(&next, &topic), ["a"]);
    let third = LogOptions::new().storage(Arc::new(storage)).background(false).open(DIR);
    assert!(matches!(third, Err(Error::DirectoryLocked { .. })));
}

/// A log that crashed and was closed before anybody looked is closed, and its files are let alone.
#[test]
fn a_crashed_log_that_is_closed_does_not_reopen() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    let at = At::Path(Call::Sync, "/t-0/".to_owned());
    storage.inject(Fault::once(at, Effect::Error(std::io::ErrorKind::Other)));
    assert!(producer.append(&topic, 0, &mut batch(&["a"])).is_err());
    assert!(matches!(log.close(), Err(Error::LogCrashed { .. })));
    let operations = storage.operations();
    assert!(matches!(producer.append(&topic, 0, &mut batch(&["a"])), Err(Error::Closed)));
    assert_eq!(storage.operations(), operations);
}

/// The word of a clean close says what is on the disk. A commit without sync that slips in behind the
/// last sync is not: were it counted, its loss would be taken for damage.
#[test]
fn a_commit_beside_a_close_is_not_taken_for_synced() {
    for seed in 0..300 {
        let storage = MemoryStorage::new(seed);
        let log = open(&storage);
        let topic = log.create_topic("t", TopicSettings::default()).unwrap();
        let commit = |n: usize| {
            let mut producer = log.transactional_producer(&format!("job-{n}"), Durability::Os)?;
            producer.begin()?.commit(&[position(&topic, 0)])
        };
        std::thread::scope(|scope| {
            let committing = scope.spawn(|| (0..).take_while(|n| commit(*n).is_ok()).count());
            while log.committed(&super::group()).unwrap().is_empty() {
                std::thread::yield_now();
            }
            log.close().unwrap();
            assert!(committing.join().unwrap() > 0);
        });
        let log = open(&storage.crash_image(Keep::None));
        assert_eq!(log.recovery().commits_damage, None, "seed {seed}");
    }
}

/// Whoever waits for a sync that another one led is told why the log went down.
#[test]
fn a_failed_sync_is_told_with_its_cause_to_all_who_wait() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let partition = log.inner.engine().unwrap().require(topic.partition(0)).unwrap();
    let at = At::Path(Call::Sync, "/t-0/".to_owned());
    storage.inject(Fault::once(at, Effect::Error(std::io::ErrorKind::Other)));
    let mut producer = log.producer(Durability::Sync).unwrap();
    assert!(producer.append(&topic, 0, &mut batch(&["a"])).is_err());
    let Err(Error::LogCrashed { cause }) = partition.sync_to(1) else { panic!() };
    assert!(cause.contains("injected fault"), "{cause}");
    let next = log.inner.engine().unwrap().require(topic.partition(0)).unwrap();
    log.producer(Durability::Os).unwrap().append(&topic, 0, &mut batch(&["b"])).unwrap();
    log.close().unwrap();
    assert!(matches!(next.sync_to(99), Err(Error::Closed)));
}

/// The time-out is what was asked for, not the pace of retention.
#[test]
fn the_background_thread_ends_a_transaction_soon_after_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions::new().transaction_timeout(Duration::from_millis(30));
    let log = options.open(dir.path()).unwrap();
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Os).unwrap();
    let transaction = producer.begin().unwrap();
    append(&transaction, &topic, &["slow"]);
    let is_open = || log.offsets(topic.id(), 0).unwrap().last_stable_offset == 0;
    let mut waits = 0;
    while is_open() {
        let seen = log.changes();
        if is_open() {
            log.wait_for_change(seen, Duration::from_secs(1));
        }
        waits += 1;
        assert!(waits < 20, "it is still open");
    }
    assert!(matches!(transaction.commit(&[]), Err(Error::TransactionTimedOut { .. })));
}
