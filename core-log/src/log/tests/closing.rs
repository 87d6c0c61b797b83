//! A log that is closed: beside writers, after a failure, and for good.

use std::sync::Arc;

use super::{DIR, batch, committed, open, position};
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
