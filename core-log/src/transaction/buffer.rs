//! The records of a transaction that wait in memory: a batch for each partition. No I/O.
//!
//! Why batches: one append, one header and one checksum for many records.
//!
//! Invariants
//! * A batch never becomes larger than its topic allows; a record that alone is larger is refused.
//! * All batches together hold about [`BUFFER_BYTES`] at most, whatever the number of partitions.
//! * Records without a key stay in one partition of a topic until a batch has left.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::BatchBuilder;
use crate::ids::{Timestamp, TopicId, TopicPartition};
use crate::partition::Partition;
use crate::partitioner::partition_for;
use crate::producer::Record;
use crate::topic::Topic;

/// A batch leaves before it becomes larger than this. Appends are calls of the operating system here,
/// not requests over a network: larger than Kafka's 16 KiB.
const BATCH_BYTES: usize = 64 << 10;

/// Everything leaves when all batches together hold more than this.
pub(crate) const BUFFER_BYTES: usize = 8 << 20;

/// The batches of one transaction.
#[derive(Debug)]
pub(super) struct Buffers {
    by_partition: BTreeMap<TopicPartition, Buffer>,
    /// Where records without a key go.
    sticky: BTreeMap<TopicId, u64>,
    /// Where they start.
    start: u64,
    /// What all buffers together have taken from memory.
    held_bytes: usize,
}

#[derive(Debug)]
struct Buffer {
    topic: Topic,
    target: Arc<Partition>,
    batch: BatchBuilder,
    /// The largest that the batch ever was: its memory is used again.
    held_bytes: usize,
}

impl Buffers {
    /// No records. Different transactions should have different starts, or else all would send their
    /// records without keys to the same partition.
    pub(super) fn new(start: u64) -> Self {
        Self { by_partition: BTreeMap::new(), sticky: BTreeMap::new(), start, held_bytes: 0 }
    }

    /// Where a record belongs.
    pub(super) fn partition_of(&mut self, topic: &Topic, record: &Record<'_>) -> u32 {
        if let Some(partition) = record.partition {
            return partition;
        }
        let partitions = topic.partitions().max(1);
        if let Some(key) = record.key {
            return partition_for(key, partitions);
        }
        let turn = *self.sticky.entry(topic.id()).or_insert(self.start);
        u32::try_from(turn % u64::from(partitions)).unwrap_or(0)
    }

    pub(super) fn knows(&self, id: TopicPartition) -> bool {
        self.by_partition.contains_key(&id)
    }

    pub(super) fn open(&mut self, topic: &Topic, partition: u32, target: Arc<Partition>) {
        let (topic, batch) = (topic.clone(), BatchBuilder::new());
        let buffer = Buffer { target, batch, held_bytes: 0, topic };
        self.by_partition.insert(buffer.topic.partition(partition), buffer);
    }

    /// Whether the batch of a partition must leave before this record is added.
    ///
    /// # Errors
    ///
    /// [`Error::BatchTooLarge`], [`Error::TimestampTooFarAhead`], [`Error::KeyMissing`]: the partition
    /// would not take it.
    pub(super) fn must_flush_before(
        &self,
        id: TopicPartition,
        record: &Record<'_>,
        timestamp: Timestamp,
    ) -> Result<bool> {
        let Some(buffer) = self.by_partition.get(&id) else { return Ok(false) };
        buffer.target.check_record(record.key, timestamp)?;
        let (payload, max_bytes) = (record.payload_bytes(), buffer.target.batch_bytes_max());
        if payload > max_bytes {
            // Must be BEFORE it is copied, or else a huge value would be held twice to be refused.
            return Err(Error::BatchTooLarge { bytes: payload, max_bytes });
        }
        let full = buffer.batch.len_bytes().saturating_add(record.bytes_bound())
            > max_bytes.min(BATCH_BYTES);
        Ok(full && !buffer.batch.is_empty())
    }

    /// Adds a record to the batch of its partition.
    pub(super) fn push(
        &mut self,
        id: TopicPartition,
        record: &Record<'_>,
        timestamp: Timestamp,
    ) -> Result<()> {
        let Some(buffer) = self.by_partition.get_mut(&id) else { return Ok(()) };
        buffer.batch.push(timestamp, record.key, record.value, record.headers)?;
        let (bytes, max_bytes) = (buffer.batch.len_bytes(), buffer.target.batch_bytes_max());
        if bytes > max_bytes {
            // It is alone: whatever might not have fitted beside another has left before.
            buffer.batch = BatchBuilder::new();
            return Err(Error::BatchTooLarge { bytes, max_bytes });
        }
        if bytes > buffer.held_bytes {
            self.held_bytes += bytes - buffer.held_bytes;
            buffer.held_bytes = bytes;
        }
        Ok(())
    }

    /// Whether everything should leave.
    pub(super) fn are_full(&self) -> bool {
        self.held_bytes > BUFFER_BYTES
    }

    /// Partitions with records that wait.
    pub(super) fn waiting(&self) -> Vec<TopicPartition> {
        let waits = self.by_partition.iter().filter(|(_, buffer)| !buffer.batch.is_empty());
        waits.map(|(id, _)| *id).collect()
    }

    /// The batch of a partition, if something waits there.
    pub(super) fn batch(&mut self, id: TopicPartition) -> Option<(&Topic, &mut BatchBuilder)> {
        let buffer = self.by_partition.get_mut(&id).filter(|buffer| !buffer.batch.is_empty())?;
        Some((&buffer.topic, &mut buffer.batch))
    }

    /// The batch of a partition is in the log.
    pub(super) fn flushed(&mut self, id: TopicPartition) {
        if let Some(buffer) = self.by_partition.get_mut(&id) {
            buffer.batch.clear();
        }
        let turn = self.sticky.entry(id.topic).or_insert(self.start);
        *turn = turn.wrapping_add(1);
    }

    /// Gives the memory back when it is more than what may be held.
    pub(super) fn shrink(&mut self) {
        if self.are_full() && self.waiting().is_empty() {
            for buffer in self.by_partition.values_mut() {
                buffer.batch = BatchBuilder::new();
                buffer.held_bytes = 0;
            }
            self.held_bytes = 0;
        }
    }
}
