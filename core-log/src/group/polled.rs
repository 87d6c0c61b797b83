//! What a poll hands out: whole batches, and the records in them, without copies.
//!
//! Why a batch can be cut: `max.poll.records` counts records, a fetch comes in batches. A cut batch keeps
//! all its bytes and says which of its records count.
//!
//! Invariants
//! * Records are handed out once: `first_offset..next_offset` of the batches of a partition do not overlap.

use bytes::Bytes;

use crate::consumer::ReadBatch;
use crate::error::Result;
use crate::format::{Headers, RecordRef};
use crate::ids::{Offset, Timestamp, TopicName};
use crate::members::PartitionName;

/// Records of some partitions; those of one partition are in order.
#[derive(Clone, Debug, Default)]
pub struct Polled {
    pub(super) batches: Vec<PolledBatch>,
}

/// A batch, or a part of one.
#[derive(Clone, Debug)]
pub struct PolledBatch {
    pub(super) name: PartitionName,
    pub(super) batch: ReadBatch,
    /// Records from here on are not handed out yet.
    pub(super) next_offset: Offset,
    pub(super) count: usize,
}

/// A record and where it comes from, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolledRecord<'a> {
    /// Its topic.
    pub topic: &'a TopicName,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

impl Polled {
    /// Whether nothing came in time.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// How many records there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.batches.iter().map(PolledBatch::count).sum()
    }

    /// The batches.
    #[must_use]
    pub fn batches(&self) -> &[PolledBatch] {
        &self.batches
    }

    /// All records.
    ///
    /// # Errors
    ///
    /// A record that cannot be decoded: its batch ends there.
    pub fn records(&self) -> impl Iterator<Item = Result<PolledRecord<'_>>> + '_ {
        self.batches.iter().flat_map(PolledBatch::records)
    }
}

impl PolledBatch {
    /// Where it comes from.
    #[must_use]
    pub fn partition_name(&self) -> &PartitionName {
        &self.name
    }

    /// Its topic.
    #[must_use]
    pub fn topic(&self) -> &TopicName {
        &self.name.topic
    }

    /// Its partition.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.name.partition
    }

    /// The whole batch as it lies in the log, which can have records that are not handed out here.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        self.batch.bytes()
    }

    /// The batch.
    #[must_use]
    pub fn batch(&self) -> &ReadBatch {
        &self.batch
    }

    /// Records below this offset are not handed out here.
    #[must_use]
    pub fn first_offset(&self) -> Offset {
        self.batch.first_wanted_offset().max(self.batch.header().base_offset)
    }

    /// Records from this offset on are not handed out here; to commit it says that all of these are done.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// How many records are handed out here.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The records.
    ///
    /// # Errors
    ///
    /// A record that cannot be decoded: the batch ends there.
    pub fn records(&self) -> impl Iterator<Item = Result<PolledRecord<'_>>> + '_ {
        let end = self.next_offset;
        let is_before = move |record: &std::result::Result<RecordRef<'_>, _>| match record {
            Ok(record) => record.offset < end,
            Err(_) => true,
        };
        self.batch.records().take_while(is_before).map(|record| Ok(self.name_record(record?)))
    }

    fn name_record<'a>(&'a self, record: RecordRef<'a>) -> PolledRecord<'a> {
        let RecordRef { offset, timestamp, key, value, headers } = record;
        let PartitionName { topic, partition } = &self.name;
        PolledRecord { topic, partition: *partition, offset, timestamp, key, value, headers }
    }
}
