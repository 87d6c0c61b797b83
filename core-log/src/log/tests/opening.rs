//! What it costs to open a log: a little for each segment, and what was written last.

use std::path::Path;

use super::{DIR, batch, open};
use crate::config::{Durability, TopicSettings};
use crate::storage::Storage;
use crate::storage::memory::MemoryStorage;

const BATCHES_PER_SEGMENT: usize = 8;
const BATCH_BYTES: usize = 40_000;

/// A log of so many full segments, and half a one.
fn log_of(segments: usize, is_closed: bool) -> MemoryStorage {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let settings = TopicSettings {
        segment_bytes: u32::try_from(BATCHES_PER_SEGMENT * (BATCH_BYTES + 100)).unwrap(),
        ..TopicSettings::default()
    };
    let topic = log.create_topic("t", settings).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    let value = "x".repeat(BATCH_BYTES);
    for _ in 0..segments * BATCHES_PER_SEGMENT + BATCHES_PER_SEGMENT / 2 {
        producer.append(&topic, 0, &mut batch(&[&value])).unwrap();
    }
    if is_closed {
        log.close().unwrap();
    }
    let image = storage.kill_image();
    let names = image.list(&Path::new(DIR).join("t-0")).unwrap();
    assert_eq!(names.iter().filter(|name| name.ends_with(".log")).count(), segments + 1);
    image
}

/// Reads and bytes that opening a log of so many segments takes.
fn cost(segments: usize, is_closed: bool) -> (u64, u64) {
    let image = log_of(segments, is_closed);
    drop(open(&image));
    (image.reads(), image.bytes_read())
}

#[test]
fn a_full_segment_costs_a_few_bytes_whatever_its_size() {
    for is_closed in [true, false] {
        let (few, many) = (cost(5, is_closed), cost(45, is_closed));
        let (reads, bytes) = ((many.0 - few.0) / 40, (many.1 - few.1) / 40);
        assert!(reads <= 2 && bytes <= 100, "{is_closed}: {reads} reads of {bytes} bytes each");
        // Beside that only the last segment is read.
        let last = u64::try_from(BATCHES_PER_SEGMENT * BATCH_BYTES).unwrap();
        assert!(few.1 < 2 * last, "{is_closed}: {} bytes", few.1);
    }
}

#[test]
fn a_clean_start_steps_over_the_records_of_the_last_segment() {
    let (_, bytes) = cost(3, true);
    assert!(bytes < 140_000, "{bytes} bytes: a window at the front of the last segment, twice");
    let (_, bytes) = cost(3, false);
    let tail = u64::try_from(BATCHES_PER_SEGMENT / 2 * BATCH_BYTES).unwrap();
    assert!(bytes > tail, "{bytes} bytes: the tail of a killed log must be read");
}
