//! Segments that compaction emptied or replaced, and replacements whose seal went bad before they were in
//! place.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::compaction::{LATER, NOW, batch, check, open, prepared, seen, settings};
use crate::config::{Cleanup, CleanupPolicy, Durability, TopicSettings};
use crate::group::{ConsumerSettings, OffsetReset};
use crate::ids::Offset;
use crate::segment::Segment;
use crate::storage::Storage;
use crate::storage::memory::{Keep, MemoryStorage};

const DIR_OF_ROWS: &str = "/data/rows-0";

/// The front of a `compact,delete` topic was given up as soon as nothing was left in it, however young:
/// who was about to read on there found itself below the log start, and `latest` sent it to the end.
#[test]
fn who_reads_where_compaction_left_nothing_goes_on_behind_it() {
    let memory = MemoryStorage::new(1);
    let log = open(Arc::new(memory), NOW).unwrap();
    let settings = TopicSettings {
        retention_ms: Some(10_000),
        cleanup: Cleanup { policy: CleanupPolicy::CompactAndDelete, ..settings().cleanup },
        ..settings()
    };
    let topic = log.create_topic("rows", settings).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    let mut write = |key: &str| {
        let wide = "x".repeat(150);
        producer.append(&topic, 0, &mut batch(&[(key, Some(&wide))])).unwrap();
    };
    write("first");
    let mut consumer = log.group("g").unwrap().consumer(ConsumerSettings {
        auto_offset_reset: OffsetReset::Latest,
        enable_auto_commit: false,
        ..ConsumerSettings::default()
    });
    consumer.assign(&[("rows", 0)]).unwrap();
    consumer.seek("rows", 0, 0).unwrap();
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().count(), 1);
    (0..8).for_each(|_| write("first"));
    for key in ["a", "b", "c", "d", "e", "f"] {
        write(key);
    }
    log.maintain(NOW).unwrap();
    // Twice: the first pass has emptied what the second finds.
    write("first");
    log.maintain(NOW + 1).unwrap();
    let offsets = || log.offsets(topic.id(), 0).unwrap();
    let rows = seen(&log, &topic).unwrap();
    assert!(rows[0].0 > 1, "nothing is left in front: {rows:?}");
    let polled = consumer.poll(Duration::ZERO).unwrap();
    let read: Vec<_> = polled.records().map(|record| record.unwrap().offset).collect();
    assert_eq!(read, rows.iter().map(|row| row.0).collect::<Vec<_>>());
    assert_eq!(offsets().log_start_offset, 0);
    // They go with what lies behind them.
    log.maintain(NOW + 10_001).unwrap();
    assert_eq!(offsets().log_start_offset, offsets().log_end_offset);
}

/// The seal says where the segments end that a replacement stands for; without it that is where its own
/// records do.
#[test]
fn a_replacement_whose_seal_is_damaged_loses_nothing() {
    let memory = MemoryStorage::new(1);
    let (log, topic) = prepared(&memory);
    let before = seen(&log, &topic).unwrap();
    let first = memory.operations();
    log.maintain(LATER).unwrap();
    let after = seen(&log, &topic).unwrap();
    let (mut tried, mut last) = (0, memory.operations());
    while last > first {
        last = last.saturating_sub(3);
        let memory = MemoryStorage::new(1);
        let (log, _) = prepared(&memory);
        memory.stop_after(last);
        let cut = log.maintain(LATER);
        memory.stop_after(0);
        drop((cut, log));
        for keep in [Keep::All, Keep::None] {
            let image = memory.crash_image(keep);
            let names = image.list(Path::new(DIR_OF_ROWS)).unwrap();
            if !names.iter().any(|name| name.ends_with(".log.swap")) {
                continue;
            }
            let is_seal = |name: &&String| name.ends_with(".seal.swap") || name.ends_with(".seal");
            let seal = Path::new(DIR_OF_ROWS).join(names.iter().find(is_seal).unwrap());
            for position in (0..image.read_file(&seal).unwrap().len()).step_by(20) {
                let image = memory.crash_image(keep);
                image.rot(&seal, position, 0x10).unwrap();
                check(&image, &before, &after)
                    .unwrap_or_else(|e| panic!("{last}, {position}: {e}"));
                tried += 1;
            }
            let image = memory.crash_image(keep);
            image.remove_file(&seal).unwrap();
            check(&image, &before, &after).unwrap_or_else(|e| panic!("{last}, no seal: {e}"));
        }
    }
    assert!(tried > 30, "{tried} flipped bytes");
}

#[test]
fn a_reader_of_a_replaced_segment_goes_on() {
    let memory = MemoryStorage::new(1);
    let (log, topic) = prepared(&memory);
    let engine = log.inner.engine().unwrap();
    let old = engine.require(topic.partition(0)).unwrap().sealed_segments();
    let content = || -> Vec<(bytes::Bytes, usize)> {
        let all = old.iter().map(|segment| {
            let mut aborted = Vec::new();
            segment.collect_aborted(0, Offset::MAX, &mut aborted).unwrap();
            (segment.read(0, 1 << 20, Offset::MAX).unwrap(), aborted.len())
        });
        all.collect()
    };
    let fresh = MemoryStorage::new(1);
    let expected = {
        let (log, topic) = prepared(&fresh);
        let engine = log.inner.engine().unwrap();
        let segments = engine.require(topic.partition(0)).unwrap().sealed_segments();
        let read = |s: &Arc<Segment>| s.read(0, 1 << 20, Offset::MAX).unwrap();
        segments.iter().map(read).collect::<Vec<_>>()
    };
    // Nobody has read them yet: neither their files nor their indexes are open.
    log.maintain(LATER).unwrap();
    log.close().unwrap();
    let names = memory.list(Path::new(DIR_OF_ROWS)).unwrap();
    assert!(names.iter().all(|name| !name.contains(".deleted")), "{names:?}");
    let found: Vec<_> = content().into_iter().map(|(bytes, _)| bytes).collect();
    assert_eq!(found, expected);
}
