//! Many threads on one log that crashes under them: nothing hangs, nothing acknowledged is lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{DIR, batch, open, position, read};
use crate::config::{Durability, TopicSettings};
use crate::consumer::PartitionReader;
use crate::error::Recourse;
use crate::log::Log;
use crate::owner::LogOptions;
use crate::partition::FetchBound;
use crate::storage::memory::{At, Call, Effect, Fault, Keep, MemoryStorage};
use crate::topic::Topic;

const PARTITIONS: u32 = 4;

/// What the threads were told.
#[derive(Default)]
struct Told {
    acknowledged: Mutex<Vec<(u32, String)>>,
    aborted: Mutex<BTreeSet<String>>,
    /// Appends that failed.
    crashes: AtomicUsize,
}

/// Writes plain batches, and lets a sync fail now and then.
fn produce(
    (log, storage): (&Log, &MemoryStorage),
    topic: &Topic,
    thread: u32,
    rounds: usize,
    told: &Told,
) {
    let durability = [Durability::Sync, Durability::Os][thread as usize % 2];
    let partition = thread % PARTITIONS;
    let mut producer = log.producer(durability);
    for n in 0..rounds {
        if n % 8 == 7 {
            let path = ["/t-0/", "/t-3/", "__commits-0", ".snapshot"][n / 8 % 4].to_owned();
            let effect = [Effect::LoseSync, Effect::Error(std::io::ErrorKind::Other)][n % 2];
            storage.inject(Fault::once(At::Path(Call::Sync, path), effect));
        }
        let value = format!("plain-{thread}-{n}");
        let mut batch = batch(&[&value]);
        // The same batch until it is there: it must be there once.
        loop {
            let appended = match &mut producer {
                Ok(producer) => producer.append(topic, partition, &mut batch).map(drop),
                Err(_crashed) => {
                    producer = log.producer(durability);
                    continue;
                }
            };
            let Err(error) = appended else { break };
            told.crashes.fetch_add(1, Ordering::Relaxed);
            assert_ne!(error.recourse(), Recourse::FixInput, "{error}");
        }
        if durability == Durability::Sync {
            told.acknowledged.lock().push((partition, value));
        }
    }
}

fn transact(log: &Log, topic: &Topic, thread: u32, rounds: usize, told: &Told) {
    let id = format!("job-{}", thread / 2);
    let take = || log.transactional_producer(&id, Durability::Sync);
    let mut producer = take();
    for n in 0..rounds {
        let value = format!("job-{thread}-{n}");
        let attempt = || -> crate::Result<bool> {
            let Ok(producer) = &mut producer else { return Ok(false) };
            let transaction = producer.begin()?;
            for partition in 0..PARTITIONS {
                transaction.append(topic, partition, &mut batch(&[&value]))?;
            }
            if n % 3 == 0 {
                told.aborted.lock().insert(value.clone());
                return transaction.abort().map(|()| false);
            }
            let end = log.offsets(topic.id(), 0)?.last_stable_offset;
            transaction.commit(&[position(topic, end)]).map(|_committed| true)
        };
        match { attempt }() {
            Ok(true) => {
                let mut acknowledged = told.acknowledged.lock();
                acknowledged.extend((0..PARTITIONS).map(|p| (p, value.clone())));
            }
            Ok(false) => {}
            // Fenced by the other thread with this id, or the log has crashed: take the id again.
            Err(_fenced) => producer = take(),
        }
    }
}

fn follow(log: &Log, topic: &Topic, thread: u32, is_done: &AtomicBool, told: &Told) {
    let partition = thread % PARTITIONS;
    let mut reader = PartitionReader::new(log.clone(), topic, partition, 0, FetchBound::LastStable);
    loop {
        let (seen, was_done) = (log.changes(), is_done.load(Ordering::Acquire));
        match reader.next_batch(500) {
            Ok(Some(found)) => {
                for record in found.records() {
                    let value = record.unwrap().value.unwrap().to_vec();
                    let value = String::from_utf8(value).unwrap();
                    assert!(!told.aborted.lock().contains(&value), "{value} was aborted");
                }
            }
            Ok(None) if was_done => return,
            Ok(None) => drop(log.wait_for_change(seen, Duration::from_millis(20))),
            Err(error) => assert_ne!(error.recourse(), Recourse::FixInput, "{error}"),
        }
    }
}

fn run(threads: u32, rounds: usize, seed: u64) {
    let storage = MemoryStorage::new(seed);
    let options = LogOptions::new().storage(Arc::new(storage.clone())).commits_bytes_max(2_000);
    let log = options.background(false).open(DIR).unwrap();
    let settings = TopicSettings {
        partitions: PARTITIONS,
        segment_bytes: 2_000,
        timestamp_after_max_ms: i64::MAX,
        retention_ms: None,
        ..TopicSettings::default()
    };
    let topic = log.create_topic("t", settings).unwrap();
    let (told, is_done) = (Told::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (log, storage, topic) = (&log, &storage, &topic);
        let (told, is_done) = (&told, &is_done);
        let writers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || match thread % 2 {
                    0 => produce((log, storage), topic, thread / 2, rounds, told),
                    _ => transact(log, topic, thread / 2, rounds, told),
                })
            })
            .collect();
        for thread in 0..PARTITIONS {
            scope.spawn(move || follow(log, topic, thread, is_done, told));
        }
        while writers.iter().any(|writer| !writer.is_finished()) {
            if let Err(error) = log.maintain(0) {
                assert_ne!(error.recourse(), Recourse::FixInput, "{error}");
            }
            log.wait_for_change(log.changes(), Duration::from_millis(1));
        }
        is_done.store(true, Ordering::Release);
    });
    storage.clear_faults();
    assert!(told.crashes.into_inner() > 0, "the log never crashed");
    for image in [storage.crash_image(Keep::None), storage.crash_image(Keep::Random(seed))] {
        let log = open(&image);
        let values: Vec<Vec<String>> =
            (0..PARTITIONS).map(|p| read(&log, &topic, p, FetchBound::LastStable)).collect();
        for (partition, value) in told.acknowledged.lock().iter() {
            let found = values[*partition as usize].iter().filter(|v| *v == value).count();
            assert_eq!(found, 1, "seed {seed}: {value} in t-{partition}");
        }
        let aborted = told.aborted.lock();
        assert!(values.iter().flatten().all(|value| !aborted.contains(value)), "seed {seed}");
    }
}

#[test]
fn many_threads_on_a_log_that_crashes_lose_nothing_and_do_not_hang() {
    for seed in 0..4 {
        run(12, 150, seed);
    }
}

#[test]
fn sixty_four_threads_share_four_partitions() {
    run(64, 40, 99);
}
