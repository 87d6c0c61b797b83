//! What the suites share: logs on either storage, batches, and reading everything.

use std::path::Path;
use std::sync::Arc;

use core_log::storage::memory::MemoryStorage;
use core_log::{
    BatchBuilder, FetchBound, FetchSource, Log, LogOptions, ManualClock, NO_HEADERS, Offset,
    PartitionReader, Topic,
};

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

/// A log in memory whose clock is moved by hand.
pub(crate) fn open_in_memory(storage: &MemoryStorage) -> (Log, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let options = LogOptions::new().storage(Arc::new(storage.clone())).background(false);
    let log = options.clock(Arc::<ManualClock>::clone(&clock)).open("/data").unwrap();
    (log, clock)
}

/// A log on files, without threads.
pub(crate) fn open_on_disk(dir: &Path) -> Log {
    LogOptions::new().background(false).open(dir).unwrap()
}

pub(crate) fn batch_at(timestamp: i64, values: &[&str]) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    for value in values {
        batch.push(timestamp, None, Some(value.as_bytes()), NO_HEADERS).unwrap();
    }
    batch
}

pub(crate) fn batch(values: &[&str]) -> BatchBuilder {
    batch_at(NOW_MS, values)
}

/// Offset and value of every record from `from` to the bound.
pub(crate) fn read_from<S: FetchSource>(
    source: S,
    topic: &Topic,
    partition: u32,
    from: Offset,
    bound: FetchBound,
) -> Vec<(Offset, String)> {
    let mut reader = PartitionReader::new(source, topic, partition, from, bound);
    let mut found = Vec::new();
    while let Some(batch) = reader.next_batch(700).unwrap() {
        for record in batch.records() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap();
            found.push((record.offset, value));
        }
    }
    found
}

/// The values of a partition, from its log start on.
pub(crate) fn values(log: &Log, topic: &Topic, partition: u32) -> Vec<String> {
    let start = log.offsets(topic.id(), partition).unwrap().log_start_offset;
    let records = read_from(log.clone(), topic, partition, start, FetchBound::LastStable);
    records.into_iter().map(|(_, value)| value).collect()
}

/// Numbers that follow from a seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
