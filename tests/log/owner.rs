//! One owner per directory: who is refused, who may look, and what happens when the owner goes.

use core_log::{
    AttachedLog, Durability, Error, FetchBound, FetchSource, Log, LogOptions, LogView,
    PartitionReader, Recourse, TopicSettings,
};

use crate::support::{batch_at, read_from, values};

const BOUND: FetchBound = FetchBound::LastStable;

#[test]
fn a_second_opener_is_told_the_pid_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let refused = Log::open(dir.path()).unwrap_err();
    assert_eq!(refused.recourse(), Recourse::Retry);
    let Error::DirectoryLocked { path, pid, since_ms } = refused else { panic!("{refused}") };
    assert_eq!((path.as_path(), pid), (dir.path(), Some(std::process::id())));
    assert!(since_ms.is_some_and(|since| since > 0));
    drop(log);
    Log::open(dir.path()).unwrap().close().unwrap();
}

#[test]
fn an_attached_reader_outlives_its_owner_with_an_error_and_goes_on_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let mut producer = log.producer(Durability::Os).unwrap();
    producer.append(&topic, 0, &mut batch_at(1, &["a", "b"])).unwrap();
    let attached = AttachedLog::connect(dir.path()).unwrap();
    let mut reader = PartitionReader::new(attached.clone(), &topic, 0, 0, BOUND);
    assert_eq!(reader.next_batch(1 << 20).unwrap().map(|b| b.records().count()), Some(2));
    // Dropped, not closed: what a killed process leaves.
    drop((log, producer));
    let gone = reader.next_batch(1 << 20).unwrap_err();
    assert!(matches!(gone, Error::Owner { .. }), "{gone}");
    assert_eq!(gone.recourse(), Recourse::Retry);
    assert_eq!(reader.position(), 2);
    assert!(attached.topics().is_err() && AttachedLog::connect(dir.path()).is_err());
    let next = Log::open(dir.path()).unwrap();
    next.producer(Durability::Os).unwrap().append(&topic, 0, &mut batch_at(1, &["c"])).unwrap();
    let again = AttachedLog::connect(dir.path()).unwrap();
    let found = read_from(again, &topic, 0, reader.position(), BOUND);
    assert_eq!(found, [(2, "c".to_owned())]);
}

#[test]
fn whoever_looks_at_a_log_that_nobody_has_open_opens_it_and_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("nothing");
    assert!(matches!(LogView::open(&missing), Err(Error::DirectoryMissing { .. })));
    assert!(!missing.exists());
    let log = LogOptions::new().background(false).open(dir.path()).unwrap();
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    log.producer(Durability::Sync).unwrap().append(&topic, 0, &mut batch_at(1, &["a"])).unwrap();
    log.close().unwrap();
    drop(log);
    let view = LogView::open(dir.path()).unwrap();
    let LogView::Owned(log) = &view else { panic!("{view:?}") };
    assert_eq!(values(log, &topic, 0), ["a"]);
    assert!(log.recovery().is_clean());
}
