//! Nothing is allocated for a record: not when it is appended, sent, fetched or read.
//!
//! Why a suite of its own: it counts every allocation of its process, so one test runs at a time.
//!
//! Invariants
//! * Batches, segments and indexes may allocate: far fewer than one allocation for a hundred records.
//! * A record that is read lies in the bytes that were fetched.

use std::time::Duration;

use core_log::{
    BatchBuilder, Durability, FetchBound, Log, LogOptions, NO_HEADERS, PartitionReader,
    ProducerSettings, Record, Topic, TopicSettings,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

const RECORDS: usize = 200_000;
const PER_BATCH: usize = 500;
const VALUE: [u8; 100] = [7; 100];

fn counted(work: impl FnOnce()) -> Stats {
    let region = Region::new(ALLOCATOR);
    work();
    region.change()
}

fn assert_few(what: &str, stats: Stats) {
    let allocations = stats.allocations + stats.reallocations;
    assert!(allocations < RECORDS / 100, "{what}: {allocations} for {RECORDS} records");
}

fn append_all(log: &Log, topic: &Topic) {
    let mut producer = log.producer(Durability::Os).expect("a producer");
    let mut batch = BatchBuilder::new();
    for n in 0..RECORDS {
        batch.push(1, Some(b"key"), Some(&VALUE), NO_HEADERS).expect("it fits");
        if (n + 1) % PER_BATCH == 0 {
            producer.append(topic, 0, &mut batch).expect("an append");
            batch.clear();
        }
    }
}

fn read_all(log: &Log, topic: &Topic) -> (usize, usize) {
    let mut reader = PartitionReader::new(log, topic, 0, 0, FetchBound::LastStable);
    let (mut records, mut bytes) = (0, 0);
    while let Some(batch) = reader.next_batch(256 << 10).expect("a fetch") {
        let fetched = batch.bytes().as_ptr_range();
        bytes += batch.bytes().len();
        for record in batch.records() {
            let value = record.expect("a record").value.expect("a value").as_ptr_range();
            assert!(fetched.start <= value.start && value.end <= fetched.end, "a copy");
            records += 1;
        }
    }
    (records, bytes)
}

/// One test, as others would be counted, too.
#[test]
fn records_are_appended_sent_fetched_and_read_without_allocating_for_each() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogOptions::new().background(false).open(dir.path()).unwrap();
    let topic = log.create_topic("appended", TopicSettings::default()).unwrap();
    assert_few("append", counted(|| append_all(&log, &topic)));

    let mut read = (0, 0);
    let stats = counted(|| read = read_all(&log, &topic));
    assert_eq!(read.0, RECORDS);
    assert_few("fetch and read", stats);
    // What is fetched twice lies at the end of one fetch and at the beginning of the next.
    let most = read.1 + read.1 / 2;
    assert!(stats.bytes_allocated < most, "{} bytes for {}", stats.bytes_allocated, read.1);

    let topic = log.create_topic("sent", TopicSettings::default()).unwrap();
    let settings = ProducerSettings {
        durability: Durability::Os,
        linger: Duration::from_secs(1),
        ..ProducerSettings::default()
    };
    let producer = log.batching_producer(settings).unwrap();
    let send_all = || {
        for _ in 0..RECORDS {
            producer.send(&topic, Record::keyed(b"key", &VALUE)).unwrap();
        }
        producer.flush().unwrap();
    };
    send_all();
    let stats = counted(send_all);
    let allocations = stats.allocations + stats.reallocations;
    // Batches of 16 KiB have 140 of these records; each batch allocates its outcome and its place.
    assert!(allocations < RECORDS / 10, "send: {allocations} for {RECORDS} records");
}
