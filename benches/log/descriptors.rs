//! 4 000 partitions with 512 descriptors: opening them, and what 16 busy ones lose by the others.
//!
//! Beside it: a log of those 16 alone, which may keep all its files open.
//!
//! 512 is what a log takes of the usual `ulimit -n 1024`.

use std::path::Path;
use std::time::{Duration, Instant};

use core_log::{BatchBuilder, Durability, FetchBound, Log, LogOptions, NO_HEADERS, Topic};
use core_log::{Producer, TopicSettings};

use crate::compare::{Work, in_turn, report};
use crate::cost::{Cost, measured};
use crate::ratio;

const TOPICS: usize = 1_000;
const PARTITIONS: u32 = 4;
const BUSY_TOPICS: usize = 4;
const DESCRIPTORS: usize = 512;
const BATCH_RECORDS: u64 = 40;
const FETCH_BYTES: usize = 4 * 1024;
const FETCHES: u64 = 100_000;

/// An open log, and its busy topics.
struct Busy {
    log: Log,
    topics: Vec<Topic>,
    producer: Producer,
}

pub(crate) fn descriptors(records: u64, runs: u64) {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
    // A log that is dropped may be looked at by its background thread for a moment.
    let waiting = || LogOptions::new().lock_timeout(Duration::from_secs(10));
    let limited = || waiting().open_files_max(DESCRIPTORS);
    fill(limited().open(dirs[0].path()).expect("the log"), TOPICS);
    fill(waiting().open(dirs[1].path()).expect("the log"), BUSY_TOPICS);
    let open = || limited().open(dirs[0].path()).expect("the log");
    let opened = |how: &str, log: Log, since: Instant| {
        let (seconds, descriptors) =
            (since.elapsed().as_secs_f64(), descriptors_of(dirs[0].path()));
        println!(
            "open {TOPICS} topics x {PARTITIONS}, {how}: {seconds:.2} s, {descriptors} descriptors"
        );
        log
    };
    // `fill` has dropped it without closing it.
    let started = Instant::now();
    opened("killed", open(), started).close().expect("a close");
    let started = Instant::now();
    let many = busy(opened("closed", open(), started));
    let few = busy(waiting().open(dirs[1].path()).expect("the log"));
    let [mut many, mut few] = [many, few];
    let works: [Work<'_>; 2] =
        [Box::new(|| many.append(records)), Box::new(|| few.append(records))];
    let costs = in_turn(runs, works);
    compare("append to 16 partitions", records, &costs);
    let works: [Work<'_>; 2] = [Box::new(|| many.fetch()), Box::new(|| few.fetch())];
    let costs = in_turn(runs, works);
    compare("fetch 4 KiB from 16 partitions", FETCHES * BATCH_RECORDS, &costs);
    println!("{} descriptors behind all that", descriptors_of(dirs[0].path()));
}

fn compare(what: &str, records: u64, costs: &[Vec<Cost>; 2]) {
    let few = report(&format!("{what}, alone"), records as f64, &costs[1]);
    let many = report(&format!("{what}, of {}", TOPICS * 4), records as f64, &costs[0]);
    ratio(many, few);
}

/// Makes so many topics, and a batch in each of their partitions.
fn fill(log: Log, topics: usize) {
    let mut producer = log.producer(Durability::Os).expect("a producer");
    for number in 0..topics {
        // Nothing else is to be at work.
        let settings =
            TopicSettings { retention_ms: None, ..TopicSettings::with_partitions(PARTITIONS) };
        let topic = log.create_topic(&format!("topic-{number}"), settings).expect("a new topic");
        for partition in 0..PARTITIONS {
            producer.append(&topic, partition, &mut batch()).expect("an append");
        }
    }
}

fn busy(log: Log) -> Busy {
    let topic = |number| log.topic(&format!("topic-{number}")).expect("a topic of `fill`");
    let topics = (0..BUSY_TOPICS).map(topic).collect();
    let producer = log.producer(Durability::Os).expect("a producer");
    Busy { log, topics, producer }
}

fn batch() -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    for _ in 0..BATCH_RECORDS {
        batch.push(0, None, Some(&[7; 100]), NO_HEADERS).expect("it fits");
    }
    batch
}

impl Busy {
    fn append(&mut self, records: u64) -> Cost {
        let mut batch = batch();
        measured(|| {
            for number in 0..records / BATCH_RECORDS {
                let (topic, partition) = self.partition(number);
                let topic = topic.clone();
                self.producer.append(&topic, partition, &mut batch).expect("an append");
            }
        })
    }

    fn fetch(&self) -> Cost {
        measured(|| {
            for number in 0..FETCHES {
                let (topic, partition) = self.partition(number);
                let end = self.log.offsets(topic.id(), partition).expect("they are there");
                let at = i64::try_from(number * 7919).expect("a small number") % end.log_end_offset;
                let fetched =
                    self.log.fetch(topic.id(), partition, at, FETCH_BYTES, FetchBound::LogEnd);
                assert!(fetched.expect("a fetch").batches.len() > FETCH_BYTES / 2);
            }
        })
    }

    /// The busy partitions, in turn.
    fn partition(&self, number: u64) -> (&Topic, u32) {
        let number = usize::try_from(number).expect("a small number");
        let partition = u32::try_from(number / BUSY_TOPICS).expect("a small number") % PARTITIONS;
        (&self.topics[number % BUSY_TOPICS], partition)
    }
}

/// How many files in a directory this process has open.
fn descriptors_of(dir: &Path) -> usize {
    let all = std::fs::read_dir("/proc/self/fd").expect("Linux has it");
    let targets = all.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(dir)).count()
}
