//! A disk that is full: what is committed can be read, nothing else is written, and with space it goes on.

use std::path::Path;
use std::sync::Arc;

use super::{DIR, append, batch, committed, position};
use crate::clock::ManualClock;
use crate::config::{Durability, TopicSettings};
use crate::error::{Error, Recourse, Result};
use crate::log::Log;
use crate::owner::LogOptions;
use crate::storage::Storage;
use crate::storage::memory::{Keep, MemoryStorage};

const RESERVE: u64 = 8_000;

fn open(storage: &MemoryStorage) -> Result<Log> {
    let options = LogOptions::new().storage(Arc::new(storage.clone())).background(false);
    let clock = Arc::new(ManualClock::new(1_000_000));
    options.clock(clock).reserve_bytes(RESERVE).commits_bytes_max(1_500).open(DIR)
}

fn reserve_len(storage: &MemoryStorage) -> usize {
    storage.read_file(&Path::new(DIR).join("__commits-0/reserve")).map_or(0, |bytes| bytes.len())
}

/// Commits values until the disk is full, while another transaction stays open; every amount of space.
#[test]
fn on_a_full_disk_running_transactions_are_aborted_and_everything_committed_is_read() {
    for space in (0..2_400).step_by(13) {
        let storage = MemoryStorage::new(1);
        let log = open(&storage).unwrap();
        let small = TopicSettings { segment_bytes: 400, ..TopicSettings::default() };
        let topic = log.create_topic("t", small).unwrap();
        let mut slow = log.transactional_producer("slow", Durability::Sync).unwrap();
        let running = slow.begin().unwrap();
        append(&running, &topic, &["never"]);
        let mut fast = log.producer(Durability::Sync).unwrap();
        storage.limit_space(space);
        let mut acknowledged = Vec::new();
        let full = loop {
            let value = format!("value-{}", acknowledged.len());
            match fast.append(&topic, 0, &mut batch(&[&value])) {
                Ok(_) => acknowledged.push(value),
                Err(error) => break error,
            }
        };
        assert!(matches!(full, Error::DiskFull { .. }), "space {space}: {full}");
        // What was read committed before is read now, and nothing waits for the transaction any more.
        let found = committed(&log, &topic);
        assert_eq!(found[..acknowledged.len()], acknowledged, "space {space}");
        assert!(found.len() <= acknowledged.len() + 1, "space {space}: {found:?}");
        let offsets = log.offsets(topic.id(), 0).unwrap();
        assert_eq!(offsets.last_stable_offset, offsets.log_end_offset, "space {space}");
        assert!(running.commit(&[]).is_err());
        refuses_what_grows(&log, &topic, space);
        // So does the next process, on the same full disk.
        drop((log, slow, fast));
        let next = storage.kill_image();
        next.limit_space(0);
        let log = open(&next).unwrap();
        assert_eq!(committed(&log, &topic), found, "space {space}");
        next.clear_faults();
        log.producer(Durability::Sync).unwrap().append(&topic, 0, &mut batch(&["more"])).unwrap();
        assert_eq!(reserve_len(&next) as u64, RESERVE);
        let log = open(&next.crash_image(Keep::None)).unwrap();
        assert_eq!(committed(&log, &topic), [found, vec!["more".to_owned()]].concat());
    }
}

/// Refusals, not crashes: the log is not recovered for each of them.
fn refuses_what_grows(log: &Log, topic: &crate::Topic, space: u64) {
    let lives = || Arc::as_ptr(&log.inner.engine().unwrap());
    let mut producer = log.producer(Durability::Os).unwrap();
    let mut job = log.transactional_producer("job", Durability::Sync).unwrap();
    let before = lives();
    for _ in 0..3 {
        let append = producer.append(topic, 0, &mut batch(&["x"])).map(drop);
        let commit = job.begin().unwrap().commit(&[position(topic, 0)]).map(drop);
        let create = log.create_topic("u", TopicSettings::default()).map(drop);
        for refused in [append, commit, create] {
            let error = refused.unwrap_err();
            assert!(matches!(error, Error::DiskFull { .. }), "space {space}: {error}");
            assert_eq!(error.recourse(), Recourse::Retry);
        }
    }
    assert_eq!(lives(), before, "space {space}: the log crashed");
}

#[test]
fn a_log_without_a_reserve_names_the_full_disk_and_opens_with_space() {
    let storage = MemoryStorage::new(1);
    let log = super::open(&storage);
    log.create_topic("t", TopicSettings::default()).unwrap();
    drop(log);
    assert!(!storage.exists(&Path::new(DIR).join("__commits-0/reserve")).unwrap());
    storage.limit_space(0);
    assert!(matches!(open(&storage), Err(Error::DiskFull { .. })));
    storage.clear_faults();
    open(&storage).unwrap();
    assert_eq!(reserve_len(&storage) as u64, RESERVE);
}
