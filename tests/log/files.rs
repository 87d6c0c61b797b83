//! What the log says when its directory or its disk is not as it should be.

use std::io::ErrorKind;
use std::sync::Arc;

use core_log::storage::Storage;
use core_log::storage::memory::{At, Call, Effect, Fault, Keep, MemoryStorage};
use core_log::{Durability, Error, Log, LogOptions, Recourse, TopicSettings};

use crate::support::{batch, open_in_memory, values};

#[test]
fn a_directory_of_something_else_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let photo = dir.path().join("holiday.jpg");
    std::fs::write(&photo, b"sun").unwrap();
    let refused = Log::open(dir.path()).unwrap_err();
    assert_eq!(refused.recourse(), Recourse::FixInput);
    assert!(matches!(&refused, Error::NotALog { found, .. } if found == "holiday.jpg"));
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!((names.len(), std::fs::read(&photo).unwrap().as_slice()), (1, &b"sun"[..]));
}

#[test]
fn a_directory_that_cannot_be_written_is_named_as_such() {
    for kind in [ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied] {
        let storage = MemoryStorage::new(1);
        let (log, _) = open_in_memory(&storage);
        let topic = log.create_topic("t", TopicSettings::default()).unwrap();
        let mut producer = log.producer(Durability::Sync).unwrap();
        producer.append(&topic, 0, &mut batch(&["a"])).unwrap();
        for call in [Call::Write, Call::Name] {
            storage.inject(Fault::forever(At::Path(call, "/data".to_owned()), Effect::Error(kind)));
        }
        let refused = producer.append(&topic, 0, &mut batch(&["b"])).unwrap_err();
        assert!(matches!(&refused, Error::ReadOnlyDirectory { .. }), "{refused}");
        drop((log, producer));
        let options = LogOptions::new().storage(Arc::new(storage.clone())).background(false);
        let refused = options.open("/data").unwrap_err();
        assert!(matches!(&refused, Error::ReadOnlyDirectory { .. }), "{refused}");
        assert_eq!(refused.recourse(), Recourse::FixInput);
        storage.clear_faults();
        assert_eq!(values(&open_in_memory(&storage).0, &topic, 0), ["a"]);
    }
}

/// The disk fills up after every possible number of bytes; whatever is acknowledged stays, and with
/// space the same log takes more.
#[test]
fn a_full_disk_takes_nothing_that_was_acknowledged_and_the_log_goes_on_with_space() {
    let mut refused = 0;
    for space in (0..1_600).step_by(9) {
        let storage = MemoryStorage::new(1);
        let (log, _) = open_in_memory(&storage);
        let small = TopicSettings { segment_bytes: 300, ..TopicSettings::default() };
        let topic = log.create_topic("t", small).unwrap();
        let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
        storage.limit_space(space);
        let mut acknowledged = Vec::new();
        for n in 0..6 {
            let value = n.to_string();
            let commit = || {
                let transaction = producer.begin()?;
                transaction.append(&topic, 0, &mut batch(&[&value]))?;
                transaction.commit(&[])
            };
            match { commit }() {
                Ok(_) => acknowledged.push(value),
                Err(error) => {
                    let is_named = matches!(error, Error::DiskFull { .. });
                    assert!(is_named, "space {space}: {error}");
                    assert_eq!(error.recourse(), Recourse::Retry);
                    refused += 1;
                    break;
                }
            }
        }
        storage.clear_faults();
        // A commit whose outcome was not told may be there; it was the last one.
        let found = values(&log, &topic, 0);
        assert_eq!(found[..acknowledged.len()], acknowledged, "space {space}");
        assert!(found.len() <= acknowledged.len() + 1, "space {space}");
        let mut next = log.transactional_producer("job", Durability::Sync).unwrap();
        let transaction = next.begin().unwrap();
        transaction.append(&topic, 0, &mut batch(&["more"])).unwrap();
        transaction.commit(&[]).unwrap();
        let (log, _) = open_in_memory(&storage.crash_image(Keep::None));
        assert_eq!(values(&log, &topic, 0), [found, vec!["more".to_owned()]].concat());
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn a_missing_list_of_topics_is_damage_and_not_an_empty_log() {
    let storage = MemoryStorage::new(1);
    let (log, _) = open_in_memory(&storage);
    log.create_topic("t", TopicSettings::default()).unwrap();
    log.close().unwrap();
    storage.remove_file(std::path::Path::new("/data/topics.checkpoint")).unwrap();
    let options = LogOptions::new().storage(Arc::new(storage.clone())).background(false);
    let refused = options.open("/data").unwrap_err();
    assert!(matches!(&refused, Error::Damaged { topic, .. } if topic == "topics.checkpoint"));
}

/// Only the front of a partition is ever given up, and that is written down first.
#[test]
fn a_first_segment_that_is_missing_is_damage_and_not_a_later_start() {
    let storage = MemoryStorage::new(1);
    let (log, _) = open_in_memory(&storage);
    let small = TopicSettings { segment_bytes: 300, ..TopicSettings::default() };
    let topic = log.create_topic("t", small).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    for n in 0..9 {
        producer.append(&topic, 0, &mut batch(&[&n.to_string()])).unwrap();
    }
    log.close().unwrap();
    let first = std::path::Path::new("/data/t-0/00000000000000000000.log");
    storage.remove_file(first).unwrap();
    let (log, _) = open_in_memory(&storage);
    assert_eq!(log.offsets(topic.id(), 0).unwrap().log_start_offset, 0);
    let read = log.fetch(topic.id(), 0, 0, 100, core_log::FetchBound::LogEnd);
    let Err(Error::Damaged { path, offset: 0, .. }) = read else { panic!("{read:?}") };
    assert_eq!(path, first);
}
