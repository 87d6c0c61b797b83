//! Records gather into batches here, until these are full, old enough, or wanted. Pure.
//!
//! ```text
//!   push --> lane of its partition:  [batch][batch that grows]      a number for each batch, by age
//!   take --> at most one batch of each lane that is full, has lingered and gathered, or is wanted
//! ```
//!
//! Why at most one of each lane: while it is on its way the next one grows, so a slow disk makes
//! larger batches instead of more; and only one batch of a partition can be in doubt after a crash.
//!
//! Invariants
//! * Batches of a lane are taken in the order in which they were begun.
//! * `buffered_bytes` counts every batch from its first record until it is given back.
//!
//! Reference: Kafka `RecordAccumulator`, `BuiltInPartitioner`; KIP-480, KIP-794.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use super::acknowledgement::Outcome;
use super::rate_limit::RateLimit;
use super::record::Record;
use crate::config::ProducerSettings;
use crate::error::Result;
use crate::format::{BatchBuilder, Compression, HEADER_LEN};
use crate::ids::{Timestamp, TopicId, TopicPartition};
use crate::partitioner::partition_for;
use crate::topic::Topic;

/// Buffers that are kept for batches to come.
const SPARE_MAX: usize = 16;

/// Records for one partition, on their way.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) topic: Topic,
    pub(super) partition: u32,
    pub(super) builder: BatchBuilder,
    pub(super) begun: Duration,
    pub(super) outcome: Arc<Outcome>,
    pub(super) tries: u32,
    /// Whether a write of it failed without saying how far it came.
    pub(super) is_in_doubt: bool,
}

/// Where a record was put.
#[derive(Debug)]
pub(super) struct Pushed {
    pub(super) outcome: Arc<Outcome>,
    pub(super) number: u64,
    pub(super) partition: u32,
    pub(super) index: i32,
    /// Whether the batch began with it, or is full now: what the sender waits for may have changed.
    pub(super) is_news: bool,
}

#[derive(Debug, Default)]
struct Lane {
    batches: VecDeque<Batch>,
    /// The last wave that took one.
    wave: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    begun: Duration,
    lane: TopicPartition,
}

/// The partition that takes the records without a key, and the one that is next.
#[derive(Clone, Copy, Debug)]
struct Sticky {
    current: u32,
    next: u32,
}

/// Those who were just told of their records come again in a moment: until there are so many records, or
/// until then, the next wave waits for them.
#[derive(Clone, Copy, Debug, Default)]
struct Gather {
    records: u64,
    until: Duration,
}

/// All records that are not yet on their way.
#[derive(Debug)]
pub(super) struct Accumulator {
    batch_bytes: usize,
    batch_bytes_max: usize,
    linger: Duration,
    delivery_timeout: Duration,
    buffer_bytes: usize,
    compression: Compression,
    lanes: HashMap<TopicPartition, Lane>,
    /// Every batch in a lane; numbers grow with age.
    waiting: BTreeMap<u64, Waiting>,
    /// Those that are full, also some that were taken for another reason.
    full: VecDeque<u64>,
    /// Every batch whose outcome is not known.
    unsettled: BTreeMap<u64, Arc<Outcome>>,
    sticky: HashMap<TopicId, Sticky>,
    first_sticky: u32,
    buffered_bytes: usize,
    next_number: u64,
    /// Batches below this number do not linger.
    wanted_below: u64,
    /// Records in the batches that wait.
    waiting_records: u64,
    gather: Gather,
    wave: u64,
    records: RateLimit,
    bytes: RateLimit,
    spare: Vec<BatchBuilder>,
}

impl Accumulator {
    /// `first_sticky` is where records without a key begin: different for each producer, so that short
    /// ones do not all fill the first partition.
    pub(super) fn new(settings: &ProducerSettings, first_sticky: u32) -> Self {
        Self {
            batch_bytes: settings.batch_bytes,
            batch_bytes_max: settings.record_bytes_max,
            linger: settings.linger,
            delivery_timeout: settings.delivery_timeout,
            buffer_bytes: settings.buffer_bytes,
            compression: settings.compression,
            lanes: HashMap::new(),
            waiting: BTreeMap::new(),
            full: VecDeque::new(),
            unsettled: BTreeMap::new(),
            sticky: HashMap::new(),
            first_sticky,
            buffered_bytes: 0,
            next_number: 0,
            wanted_below: 0,
            waiting_records: 0,
            gather: Gather::default(),
            wave: 0,
            records: RateLimit::new(settings.records_per_second_max),
            bytes: RateLimit::new(settings.bytes_per_second_max),
            spare: Vec::new(),
        }
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// Whether the record may be pushed; an empty buffer takes every one.
    pub(super) fn has_room(&self, record: &Record<'_>) -> bool {
        let wanted = self.buffered_bytes.saturating_add(record.bytes_bound());
        self.buffered_bytes == 0 || wanted <= self.buffer_bytes
    }

    /// The largest batch of a topic.
    pub(super) fn bytes_max(&self, topic: &Topic) -> usize {
        let settings = topic.settings();
        let most = settings.max_batch_bytes.min(settings.segment_bytes);
        usize::try_from(most).unwrap_or(usize::MAX).min(self.batch_bytes_max)
    }

    /// Adds a record to the batch of its partition. Only a batch that begins asks what time it is.
    pub(super) fn push(
        &mut self,
        topic: &Topic,
        record: &Record<'_>,
        timestamp: Timestamp,
        now: impl FnOnce() -> Duration,
    ) -> Result<Pushed> {
        let partition = match (record.partition, record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for(key, topic.partitions()),
            (None, None) => self.sticky_partition(topic),
        };
        let (bytes_max, batch_bytes) = (self.bytes_max(topic), self.batch_bytes);
        let id = topic.partition(partition);
        let lane = self.lanes.entry(id).or_default();
        let mut is_news = false;
        if let Some(last) = lane.batches.back()
            && last.builder.len_bytes().saturating_add(record.bytes_bound()) > bytes_max
        {
            if last.builder.len_bytes() < batch_bytes {
                self.full.push_back(last.number);
            }
            is_news = true;
        }
        if is_news || lane.batches.is_empty() {
            is_news = true;
            let begun = now();
            let number = self.next_number;
            self.next_number += 1;
            let outcome = Arc::<Outcome>::default();
            self.unsettled.insert(number, Arc::clone(&outcome));
            self.waiting.insert(number, Waiting { begun, lane: id });
            self.buffered_bytes += HEADER_LEN;
            let empty = || BatchBuilder::with_compression(self.compression);
            lane.batches.push_back(Batch {
                number,
                topic: topic.clone(),
                partition,
                builder: self.spare.pop().unwrap_or_else(empty),
                begun,
                outcome,
                tries: 0,
                is_in_doubt: false,
            });
        }
        let batch = lane.batches.back_mut().expect("one was added if there was none");
        let (before, index) = (batch.builder.len_bytes(), batch.builder.count());
        batch.builder.push(timestamp, record.key, record.value, record.headers)?;
        let after = batch.builder.len_bytes();
        self.buffered_bytes += after - before;
        self.waiting_records += 1;
        is_news |= self.waiting_records == self.gather.records;
        if after >= batch_bytes && (before < batch_bytes || index == 0) {
            self.full.push_back(batch.number);
            is_news = true;
        }
        let outcome = Arc::clone(&batch.outcome);
        Ok(Pushed { outcome, number: batch.number, partition, index, is_news })
    }

    /// Stays with a partition as long as it has a batch that is not full.
    fn sticky_partition(&mut self, topic: &Topic) -> u32 {
        let partitions = topic.partitions();
        let first = self.first_sticky % partitions;
        let sticky =
            self.sticky.entry(topic.id()).or_insert(Sticky { current: first, next: first });
        let last = self.lanes.get(&topic.partition(sticky.current)).and_then(|l| l.batches.back());
        if last.is_none_or(|batch| batch.builder.len_bytes() >= self.batch_bytes) {
            sticky.current = sticky.next;
            sticky.next = (sticky.next + 1) % partitions;
        }
        sticky.current
    }

    /// Batches up to this number do not linger any more.
    pub(super) fn want(&mut self, number: u64) {
        self.wanted_below = self.wanted_below.max(number.saturating_add(1));
    }

    /// No batch that there is now lingers any more.
    pub(super) fn want_all(&mut self) {
        self.wanted_below = self.next_number;
    }

    /// Batches that are not full wait, until `until`, for so many records more than there are now.
    pub(super) fn gather(&mut self, more: u64, until: Duration) {
        self.gather = Gather { records: self.waiting_records.saturating_add(more), until };
    }

    /// The outcomes of all batches that are not settled, oldest first.
    pub(super) fn unsettled(&self) -> Vec<Arc<Outcome>> {
        self.unsettled.values().cloned().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// From when on something can be taken; `None` while there is nothing.
    pub(super) fn due(&self) -> Option<Duration> {
        let (number, oldest) = self.waiting.first_key_value()?;
        let ready =
            if self.has_full() { Duration::ZERO } else { self.ready_at(*number, oldest.begun) };
        let limited = self.records.free_at().max(self.bytes.free_at());
        // Whatever waits for its turn must still be given up in time.
        Some(ready.max(limited).min(oldest.begun.saturating_add(self.delivery_timeout)))
    }

    /// From when on a batch that is not full may be taken.
    fn ready_at(&self, number: u64, begun: Duration) -> Duration {
        let lingered = begun.saturating_add(self.linger);
        if number < self.wanted_below {
            Duration::ZERO
        } else if self.waiting_records < self.gather.records {
            lingered.max(self.gather.until)
        } else {
            lingered
        }
    }

    fn has_full(&self) -> bool {
        self.full.iter().any(|number| self.waiting.contains_key(number))
    }

    /// Takes what is ready: at most one batch of each partition, as many as the rates allow.
    pub(super) fn take(&mut self, now: Duration) -> Vec<Batch> {
        self.wave += 1;
        if self.waiting_records >= self.gather.records || self.gather.until <= now {
            // Must be BEFORE any is taken, or else the wave itself would make the rest wait again.
            self.gather = Gather::default();
        }
        let mut wave = Vec::new();
        for number in std::mem::take(&mut self.full) {
            if self.take_one(number, now, &mut wave) == Taken::Later {
                self.full.push_back(number);
            }
        }
        let mut next = 0;
        while let Some((number, oldest)) = self.waiting.range(next..).next() {
            let (number, begun) = (*number, oldest.begun);
            if self.ready_at(number, begun) > now {
                break;
            }
            self.take_one(number, now, &mut wave);
            next = number + 1;
        }
        wave
    }

    fn take_one(&mut self, number: u64, now: Duration, wave: &mut Vec<Batch>) -> Taken {
        let Some(waiting) = self.waiting.get(&number) else { return Taken::Gone };
        if self.records.free_at().max(self.bytes.free_at()) > now {
            return Taken::Later;
        }
        let lane = self.lanes.get_mut(&waiting.lane).expect("a batch that waits is in its lane");
        let is_first = lane.batches.front().is_some_and(|batch| batch.number == number);
        if lane.wave == self.wave || !is_first {
            return Taken::Later;
        }
        lane.wave = self.wave;
        self.waiting.remove(&number);
        let Some(batch) = lane.batches.pop_front() else { return Taken::Gone };
        let records = u64::from(batch.builder.count().unsigned_abs());
        self.waiting_records -= records;
        self.records.take(records, now);
        self.bytes.take(u64::try_from(batch.builder.len_bytes()).unwrap_or(u64::MAX), now);
        wave.push(batch);
        Taken::Now
    }

    /// Takes what was begun too long ago, to be given up.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<Batch> {
        let timeout = self.delivery_timeout;
        self.take_front(|oldest| oldest.begun.saturating_add(timeout) <= now)
    }

    /// Takes everything, to be given up.
    pub(super) fn take_all(&mut self) -> Vec<Batch> {
        self.take_front(|_| true)
    }

    fn take_front(&mut self, is_taken: impl Fn(&Waiting) -> bool) -> Vec<Batch> {
        let mut taken = Vec::new();
        while let Some((number, oldest)) = self.waiting.first_key_value()
            && is_taken(oldest)
        {
            let (number, lane) = (*number, oldest.lane);
            self.waiting.remove(&number);
            // The oldest of all is the oldest of its lane.
            let batch = self.lanes.get_mut(&lane).and_then(|lane| lane.batches.pop_front());
            let records = batch.as_ref().map_or(0, |batch| batch.builder.count().unsigned_abs());
            self.waiting_records -= u64::from(records);
            taken.extend(batch);
        }
        taken
    }

    /// The outcome of a batch is known: its bytes make room for others.
    pub(super) fn give_back(&mut self, mut batch: Batch) {
        self.unsettled.remove(&batch.number);
        self.buffered_bytes -= batch.builder.len_bytes();
        // One large record must not keep its memory for ever.
        let is_small = batch.builder.len_bytes() <= 2 * self.batch_bytes.max(4096);
        if self.spare.len() < SPARE_MAX && is_small {
            batch.builder.clear();
            self.spare.push(batch.builder);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Now,
    Later,
    Gone,
}

#[cfg(test)]
#[path = "accumulator/tests.rs"]
mod tests;
