//! What the benchmarks of jobs share: topics full of records, and a job that is run over them.

use std::path::Path;
use std::time::Duration;

use core_log::{BatchBuilder, Log, NO_HEADERS, TopicSettings, partition_for};
use streams::prelude::*;

use crate::cost::{Cost, measured};

const CHUNK: usize = 32 * 1024;

/// A record that is written: time, key and value.
pub(crate) struct Written<'a> {
    pub(crate) time: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: &'a [u8],
}

/// Appends records to a topic, which is created if it is missing: those with a key to its partition,
/// the others in turn, 256 to each.
pub(crate) fn write(
    dir: &Path,
    topic: &str,
    partitions: u32,
    records: std::ops::Range<u64>,
    mut record: impl FnMut(u64, &mut dyn FnMut(Written<'_>)),
) {
    let log = Log::open(dir).expect("the log");
    let settings = TopicSettings { partitions, retention_ms: None, ..TopicSettings::default() };
    let found = log.topic(topic);
    let topic = found.or_else(|_| log.create_topic(topic, settings)).expect("a topic");
    let mut producer = log.producer(Durability::Os).expect("a producer");
    let mut batches: Vec<BatchBuilder> = (0..partitions).map(|_| BatchBuilder::new()).collect();
    for n in records {
        record(n, &mut |Written { time, key, value }| {
            let in_turn = || u32::try_from(n / 256 % u64::from(partitions)).expect("a partition");
            let partition = key.map_or_else(in_turn, |key| partition_for(key, partitions));
            let batch = &mut batches[partition as usize];
            batch.push(time, key, Some(value), NO_HEADERS).expect("it fits");
            if batch.len_bytes() >= CHUNK {
                producer.append(&topic, partition, batch).expect("an append");
                batch.clear();
            }
        });
    }
    for (batch, partition) in batches.iter_mut().zip(0..) {
        if !batch.is_empty() {
            producer.append(&topic, partition, batch).expect("an append");
        }
    }
    log.close().expect("a clean close");
}

/// Runs a job until it has read so many records and everything that follows from them is committed, and
/// stops it cleanly.
pub(crate) fn run(app: App, dir: &Path, records: u64) -> Cost {
    measured(|| {
        let handle = app.log(dir).start().expect("the job starts");
        let is_done =
            || handle.progress().records_in >= records && handle.is_idle_for(Duration::ZERO);
        while !is_done() && !handle.wait_timeout(Duration::from_millis(1)) {}
        handle.stop();
        handle.wait().expect("a clean stop");
    })
}
