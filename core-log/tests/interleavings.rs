//! Threads that append, roll, fetch, commit, maintain and fail, in orders that a seed chooses: between any
//! two takings of a lock another thread may go on.
//!
//! ```console
//! $ cargo test -p core-log --features test-util,shuttle --test interleavings
//! ```
//!
//! `SCHEDULES=n` explores as many for each test. A failure prints the schedule that repeats it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::sync::Arc;

use core_log::storage::memory::{At, Call, Effect, Fault, Keep, MemoryStorage};
use core_log::{
    BatchBuilder, Durability, Error, FetchBound, GroupId, Log, LogOptions, ManualClock, NO_HEADERS,
    Offset, OffsetCommit, PartitionReader, Topic, TopicSettings,
};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner, thread};

const NOW: i64 = 1_700_000_000_000;
/// Frames of recovery do not fit into what is usual there.
const STACK: usize = 1 << 20;

/// Explores schedules: at random, and by few changes at chosen steps (Burckhardt et al., 2010).
fn explore(body: impl Fn() + Send + Sync + 'static) {
    let schedules = std::env::var("SCHEDULES").ok().and_then(|text| text.parse().ok());
    let schedules: usize = schedules.unwrap_or(300);
    let body = Arc::new(body);
    let config = || {
        let mut config = Config::new();
        config.stack_size = STACK;
        config
    };
    let first = Arc::clone(&body);
    Runner::new(RandomScheduler::new(schedules), config()).run(move || first());
    Runner::new(PctScheduler::new(3, schedules), config()).run(move || body());
}

fn open(storage: &MemoryStorage) -> Log {
    LogOptions::new()
        .storage(Arc::new(storage.clone()))
        .clock(Arc::new(ManualClock::new(NOW)))
        .background(false)
        .open("/data")
        .unwrap()
}

fn small(log: &Log, name: &str) -> Topic {
    let settings = TopicSettings { partitions: 2, segment_bytes: 300, ..TopicSettings::default() };
    log.create_topic(name, settings).unwrap()
}

fn batch(value: &str) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    batch.push(NOW, None, Some(value.as_bytes()), NO_HEADERS).unwrap();
    batch
}

fn read(log: &Log, topic: &Topic, partition: u32) -> BTreeMap<Offset, String> {
    let start = log.offsets(topic.id(), partition).unwrap().log_start_offset;
    let mut reader =
        PartitionReader::new(log.clone(), topic, partition, start, FetchBound::LastStable);
    let mut values = BTreeMap::new();
    while let Some(batch) = reader.next_batch(200).unwrap() {
        for record in batch.records() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            assert_eq!(values.insert(record.offset, value), None);
        }
    }
    values
}

fn group() -> GroupId {
    GroupId::new("g").unwrap()
}

fn position(topic: &Topic, offset: Offset) -> OffsetCommit {
    let metadata = bytes::Bytes::new();
    let (topic, partition) = (topic.id(), 1);
    OffsetCommit { group: group(), topic, partition, offset, leader_epoch: 0, metadata }
}

/// Appends three values; answers where they are.
fn append(log: &Log, topic: &Topic, name: &str) -> Vec<(Offset, String)> {
    let mut tries = (0..4).map(|_| log.producer(Durability::Sync));
    let mut producer = tries.find_map(Result::ok).expect("one fault, four tries");
    let appended = (0..3).map(|n| {
        let value = format!("{name}-{n}");
        let mut batch = batch(&value);
        let mut tries = (0..4).map(|_| producer.append(topic, 0, &mut batch));
        let appended = tries.find_map(Result::ok).expect("one fault, four tries");
        (appended.first_offset(), value)
    });
    appended.collect()
}

fn assert_there(found: &BTreeMap<Offset, String>, wanted: &[(Offset, String)]) {
    for (offset, value) in wanted {
        assert_eq!(found.get(offset), Some(value), "at {offset} of {found:?}");
    }
}

#[test]
fn appends_rolls_fetches_commits_and_maintenance() {
    explore(|| {
        let storage = MemoryStorage::new(1);
        let log = open(&storage);
        let topic = small(&log, "t");
        let spawn_append = |name: &'static str| {
            let (log, topic) = (log.clone(), topic.clone());
            thread::spawn(move || append(&log, &topic, name))
        };
        let (a, b) = (spawn_append("a"), spawn_append("b"));
        let job = {
            let (log, topic) = (log.clone(), topic.clone());
            thread::spawn(move || {
                let mut job = log.transactional_producer("job", Durability::Sync).unwrap();
                let transaction = job.begin().unwrap();
                for partition in 0..2 {
                    transaction.append(&topic, partition, &mut batch("committed")).unwrap();
                }
                transaction.commit(&[position(&topic, 0)]).unwrap();
                let transaction = job.begin().unwrap();
                for partition in 0..2 {
                    transaction.append(&topic, partition, &mut batch("aborted")).unwrap();
                }
                transaction.abort().unwrap();
            })
        };
        let reader = {
            let (log, topic) = (log.clone(), topic.clone());
            thread::spawn(move || {
                let (source, bound) = (log.clone(), FetchBound::LastStable);
                let mut reader = PartitionReader::new(source, &topic, 0, 0, bound);
                let mut seen = BTreeMap::new();
                for _ in 0..6 {
                    let Some(batch) = reader.next_batch(100).unwrap() else { continue };
                    for record in batch.records() {
                        let record = record.unwrap();
                        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                        assert_eq!(seen.insert(record.offset, value), None);
                    }
                }
                seen
            })
        };
        log.maintain(NOW).unwrap();
        let (a, b, seen) = (a.join().unwrap(), b.join().unwrap(), reader.join().unwrap());
        job.join().unwrap();
        log.maintain(NOW).unwrap();
        for log in [log, open(&storage.crash_image(Keep::None))] {
            let found = [read(&log, &topic, 0), read(&log, &topic, 1)];
            assert_there(&found[0], &a);
            assert_there(&found[0], &b);
            assert_eq!(found[0].len(), 7, "{found:?}");
            assert_eq!(found[1].values().collect::<Vec<_>>(), ["committed"]);
            assert_eq!(log.committed(&group()).unwrap(), [position(&topic, 0)]);
            // What a reader was shown is there, and in front of it nothing that it was not shown.
            let last = seen.last_key_value().map_or(-1, |(offset, _)| *offset);
            let until: BTreeMap<_, _> = found[0].range(..=last).collect();
            assert_eq!(until, seen.iter().collect());
        }
    });
}

#[test]
fn two_holders_of_one_transactional_id() {
    explore(|| {
        let storage = MemoryStorage::new(1);
        let log = open(&storage);
        let topic = small(&log, "t");
        let hold = |name: &'static str| {
            let (log, topic) = (log.clone(), topic.clone());
            thread::spawn(move || {
                let work = || {
                    let mut job = log.transactional_producer("job", Durability::Sync)?;
                    let transaction = job.begin()?;
                    transaction.append(&topic, 0, &mut batch(name))?;
                    transaction.append(&topic, 1, &mut batch(name))?;
                    transaction.commit(&[])
                };
                match work() {
                    Ok(_) => Some(name.to_owned()),
                    Err(Error::ProducerFenced { .. } | Error::InvalidTxnState { .. }) => None,
                    Err(error) => panic!("{name}: {error}"),
                }
            })
        };
        let holders = [hold("first"), hold("second")];
        let mut committed: Vec<String> =
            holders.into_iter().filter_map(|holder| holder.join().unwrap()).collect();
        assert!(!committed.is_empty(), "the later one is fenced by nobody");
        committed.sort();
        for log in [log, open(&storage.crash_image(Keep::None))] {
            for partition in 0..2 {
                let mut found: Vec<_> = read(&log, &topic, partition).into_values().collect();
                found.sort();
                assert_eq!(found, committed);
            }
        }
    });
}

#[test]
fn a_sync_that_fails_among_writers() {
    explore(|| {
        let storage = MemoryStorage::new(1);
        let log = open(&storage);
        let topic = small(&log, "t");
        storage.inject(Fault::once(At::Path(Call::Sync, "/t-0/".to_owned()), Effect::LoseSync));
        let spawn_append = |name: &'static str| {
            let (log, topic) = (log.clone(), topic.clone());
            thread::spawn(move || append(&log, &topic, name))
        };
        let (a, b) = (spawn_append("a"), spawn_append("b"));
        let (a, b) = (a.join().unwrap(), b.join().unwrap());
        for log in [log, open(&storage.crash_image(Keep::None))] {
            let found = read(&log, &topic, 0);
            assert_there(&found, &a);
            assert_there(&found, &b);
            assert_eq!(found.len(), 6, "{found:?}");
        }
    });
}

/// The explorer must be able to find what only some orders show.
#[test]
#[should_panic(expected = "an update is lost")]
fn a_lost_update_is_found() {
    explore(|| {
        let count = Arc::new(shuttle::sync::Mutex::new(0));
        let add = |count: &Arc<shuttle::sync::Mutex<i32>>| {
            let count = Arc::clone(count);
            thread::spawn(move || {
                let before = *count.lock().unwrap();
                *count.lock().unwrap() = before + 1;
            })
        };
        let threads = [add(&count), add(&count)];
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*count.lock().unwrap(), 2, "an update is lost");
    });
}
