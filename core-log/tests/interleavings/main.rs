//! Threads that append, roll, fetch, commit, maintain, hand over and fail, in orders that a seed chooses:
//! between any two takings of a lock another thread may go on.
//!
//! ```console
//! $ cargo test -p core-log --features test-util,shuttle --test interleavings
//! ```
//!
//! `SCHEDULES=n` explores as many for each test. A failure prints the schedule that repeats it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod groups;
mod syncs;

use std::collections::BTreeMap;
use std::sync::Arc;

use core_log::storage::Storage;
use core_log::storage::memory::{At, Call, Effect, Fault, Keep, MemoryStorage};
use core_log::{
    AbortOutcome, BatchBuilder, Cleanup, CleanupPolicy, Durability, Error, FetchBound, GroupId,
    Log, LogOptions, ManualClock, NO_HEADERS, Offset, OffsetCommit, PartitionReader, Ratio, Topic,
    TopicSettings,
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

fn options(storage: impl Storage) -> LogOptions {
    let clock = Arc::new(ManualClock::new(NOW));
    LogOptions::new().storage(Arc::new(storage)).clock(clock).background(false)
}

fn open(storage: &MemoryStorage) -> Log {
    options(storage.clone()).open("/data").unwrap()
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
                    let before: Vec<_> = read(&log, &topic, 0).into_values().collect();
                    let transaction = job.begin()?;
                    transaction.append(&topic, 0, &mut batch(name))?;
                    transaction.append(&topic, 1, &mut batch(name))?;
                    transaction.commit(&[])?;
                    Ok::<_, Error>(before)
                };
                match work() {
                    Ok(before) => Some((name.to_owned(), before)),
                    Err(Error::ProducerFenced { .. } | Error::InvalidTxnState { .. }) => None,
                    Err(error) => panic!("{name}: {error}"),
                }
            })
        };
        let holders = [hold("first"), hold("second")];
        let outcomes: Vec<_> =
            holders.into_iter().filter_map(|holder| holder.join().unwrap()).collect();
        assert!(!outcomes.is_empty(), "the later one is fenced by nobody");
        if let [(first, before_first), (second, before_second)] = &outcomes[..] {
            // Whoever came later has waited for the commit of the other one.
            let has_waited = before_first.contains(second) || before_second.contains(first);
            assert!(has_waited, "a commit was on its way when its id was taken over");
        }
        let mut committed: Vec<_> = outcomes.into_iter().map(|(name, _)| name).collect();
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

/// Somebody aborts a transaction from outside, while it is written and committed: it has one end, known to
/// both, and nothing that comes late leaves it open.
#[test]
fn an_abort_from_outside_beside_a_commit() {
    explore(|| {
        let storage = MemoryStorage::new(1);
        let log = open(&storage);
        let topic = small(&log, "t");
        let job = {
            let (log, topic) = (log.clone(), topic.clone());
            thread::spawn(move || {
                let mut job = log.transactional_producer("job", Durability::Sync).unwrap();
                let mut work = || {
                    let transaction = job.begin()?;
                    transaction.append(&topic, 0, &mut batch("a"))?;
                    transaction.append(&topic, 1, &mut batch("a"))?;
                    transaction.commit(&[])
                };
                match work() {
                    Ok(_) => true,
                    Err(Error::TransactionAborted { .. } | Error::ProducerFenced { .. }) => false,
                    Err(error) => panic!("{error}"),
                }
            })
        };
        let outcome = log.abort_transaction("job");
        let seen = [0, 1].map(|partition| read(&log, &topic, partition).len());
        let is_committed = job.join().unwrap();
        match outcome {
            Ok(AbortOutcome::Aborted) => assert!(!is_committed && seen == [0, 0]),
            Ok(AbortOutcome::HasEnded) => assert!(is_committed && seen == [1, 1]),
            Ok(AbortOutcome::Idle) | Err(Error::UnknownTransactionalId { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        for log in [log, open(&storage.crash_image(Keep::None))] {
            for partition in 0..2 {
                let found = read(&log, &topic, partition);
                assert_eq!(found.len(), usize::from(is_committed));
                let offsets = log.offsets(topic.id(), partition).unwrap();
                assert_eq!(offsets.last_stable_offset, offsets.log_end_offset, "it is open");
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

/// Rows of a compacted topic, written while passes of compaction replace the segments that a reader reads.
#[test]
fn compaction_among_writers_and_readers() {
    const KEYS: [&str; 2] = ["a", "b"];
    explore(|| {
        let storage = MemoryStorage::new(1);
        let log = open(&storage);
        let mut cleanup = Cleanup::with_policy(CleanupPolicy::Compact);
        cleanup.min_dirty_ratio = Ratio::percent(0);
        let settings = TopicSettings { segment_bytes: 256, cleanup, ..TopicSettings::default() };
        let rows = log.create_topic("rows", settings).unwrap();
        let writer = {
            let (log, rows) = (log.clone(), rows.clone());
            thread::spawn(move || {
                let mut producer = log.producer(Durability::Sync).unwrap();
                for n in 0..8 {
                    let (key, value) = (KEYS[n % 2], format!("{n}"));
                    let mut batch = BatchBuilder::new();
                    let (key, value) = (key.as_bytes(), value.as_bytes());
                    batch.push(NOW, Some(key), Some(value), NO_HEADERS).unwrap();
                    producer.append(&rows, 0, &mut batch).unwrap();
                }
            })
        };
        let cleaner = {
            let log = log.clone();
            thread::spawn(move || (0..3).for_each(|_| log.maintain(NOW + 1_000_000).unwrap()))
        };
        // Whenever it is read, the newest value of a key is never older than one that was read before.
        let newest = |log: &Log| -> Vec<Option<u64>> {
            let mut newest = vec![None; KEYS.len()];
            for (_, value) in read(log, &rows, 0) {
                let n: u64 = value.parse().unwrap();
                newest[usize::try_from(n % 2).unwrap()] = Some(n);
            }
            newest
        };
        let before = newest(&log);
        let after = newest(&log);
        assert!(before <= after && before[1] <= after[1], "{before:?}, then {after:?}");
        writer.join().unwrap();
        cleaner.join().unwrap();
        log.maintain(NOW + 2_000_000).unwrap();
        for log in [log, open(&storage.crash_image(Keep::None))] {
            assert_eq!(newest(&log), [Some(6), Some(7)]);
            assert!(read(&log, &rows, 0).len() < 8, "nothing was compacted");
        }
    });
}

/// The explorer must be able to find what only some orders show.
#[test]
fn a_lost_update_is_found() {
    let count_twice = || {
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
    };
    assert!(std::panic::catch_unwind(count_twice).is_err(), "no order was found that loses one");
}
