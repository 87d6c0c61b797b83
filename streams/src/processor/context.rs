//! What operators share while a task runs: clocks, outputs, counts.
//!
//! Invariants
//! * a clock never runs backwards.
//! * records for one topic leave in the order in which they were emitted, whichever operator emits.
//! * a batch is handed over before a record that would make it too large for its topic: only a record
//!   that is too large alone is refused.
//! * counts belong to the running transaction: they are taken at its commit and dropped with it.

use std::cell::Cell;
use std::sync::Arc;

use super::faults::Faults;
use super::judge::Judge;
use super::named::NamedOutputs;
use crate::broker::{Batch, Broker, TopicRef, Transaction, partition_for};
use crate::error::Result;
use crate::ids::{StoreName, TaskId};
use crate::printer::Printer;
use crate::record::Headers;

/// A batch is handed to the log when it has this many bytes.
const BATCH_BYTES: usize = 64 * 1024;
/// The most that a record takes beside its bytes: its lengths, deltas and flags.
const RECORD_OVERHEAD_BYTES: usize = 40;
/// The same for a header: its two lengths.
const HEADER_OVERHEAD_BYTES: usize = 10;

/// What happened to records that did not come out at the other end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    pub(crate) filtered: u64,
    pub(crate) late: u64,
    pub(crate) null_keys: u64,
    pub(crate) null_values: u64,
    /// Records that a step could not take and that were left out.
    pub(crate) skipped: u64,
    /// Records that a step could not take and that went to the topic of dead letters.
    pub(crate) dead_letters: u64,
}

impl Counters {
    pub(crate) fn add(&mut self, other: &Self) {
        self.records_in += other.records_in;
        self.records_out += other.records_out;
        self.filtered += other.filtered;
        self.late += other.late;
        self.null_keys += other.null_keys;
        self.null_values += other.null_values;
        self.skipped += other.skipped;
        self.dead_letters += other.dead_letters;
    }
}

/// A record that came after its window had closed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LateRecord {
    pub(crate) store: StoreName,
    pub(crate) key: Vec<u8>,
    pub(crate) timestamp: i64,
    pub(crate) source_time: i64,
}

/// The records on their way to one topic.
pub(crate) struct Output {
    topic: TopicRef,
    batches: Vec<Box<dyn Batch>>,
}

impl Output {
    pub(crate) fn new(topic: TopicRef, broker: &dyn Broker) -> Self {
        let batches = (0..topic.partitions).map(|_| broker.batch()).collect();
        Self { topic, batches }
    }

    fn flush(&mut self, at_least: usize, transaction: &dyn Transaction) -> Result<bool> {
        let mut appended = false;
        for (partition, batch) in (0..).zip(&mut self.batches) {
            if !batch.is_empty() && batch.len_bytes() >= at_least {
                transaction.append(&self.topic, partition, batch.as_mut())?;
                appended = true;
            }
        }
        Ok(appended)
    }
}

/// What an operator is given beside the record.
pub(crate) struct Context {
    pub(crate) task: TaskId,
    /// Stream time of each input of the task; `i64::MIN` while unknown.
    pub(crate) clocks: Vec<i64>,
    /// The clock on the wall when the worker last looked at it.
    pub(crate) now_ms: i64,
    /// Whether a processor has asked for it since the last record.
    pub(crate) has_read_clock: Cell<bool>,
    pub(crate) counters: Counters,
    /// Late records one by one, where somebody asked for them.
    pub(crate) late_records: Option<Vec<LateRecord>>,
    /// What was late then, where a job runs again with another grace.
    pub(crate) judge: Option<Judge>,
    /// What becomes of records that a step cannot take.
    pub(crate) faults: Faults,
    pub(crate) printer: Printer,
    /// Outputs by the index that the topology gave to their topic; `None`: not of this task.
    pub(super) outputs: Vec<Option<Output>>,
    /// Where records name their topics: outputs are added to those of the topology.
    pub(crate) named: Option<NamedOutputs>,
    transaction: Option<Arc<dyn Transaction>>,
}

impl Context {
    pub(crate) fn new(task: TaskId, inputs: usize, outputs: Vec<Option<Output>>) -> Self {
        Self {
            task,
            clocks: vec![i64::MIN; inputs],
            now_ms: i64::MIN,
            has_read_clock: Cell::new(false),
            counters: Counters::default(),
            late_records: None,
            judge: None,
            faults: Faults::default(),
            printer: Printer::list(),
            outputs,
            named: None,
            transaction: None,
        }
    }

    pub(crate) fn begin(&mut self, transaction: Arc<dyn Transaction>) {
        self.transaction = Some(transaction);
    }

    pub(crate) fn end(&mut self) {
        self.transaction = None;
    }

    fn transaction(&self) -> &Arc<dyn Transaction> {
        self.transaction.as_ref().expect("records are only processed inside a transaction")
    }

    /// Raises an input's clock to a timestamp and returns the clock.
    pub(crate) fn observe(&mut self, input: usize, timestamp: i64) -> i64 {
        let clock = &mut self.clocks[input];
        *clock = (*clock).max(timestamp);
        *clock
    }

    /// Emits an encoded record. `routed_by` are the bytes that choose the partition; `None` keeps the
    /// partition of the task.
    pub(crate) fn emit(
        &mut self,
        output: usize,
        routed_by: Option<&[u8]>,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> Result<()> {
        let out = self.outputs[output].as_mut().expect("a task has the outputs of its operators");
        let partitions = out.topic.partitions;
        let partition = match routed_by {
            Some(bytes) => partition_for(bytes, partitions),
            None => self.task.partition % partitions,
        };
        let index = usize::try_from(partition).expect("a partition number fits a usize");
        let batch = &mut out.batches[index];
        let transaction =
            self.transaction.as_ref().expect("records are only emitted inside a transaction");
        if is_full_before(batch.as_ref(), &out.topic, record_bytes_max(key, value, headers)) {
            transaction.append(&out.topic, partition, batch.as_mut())?;
        }
        batch.push(timestamp, key, value, headers)?;
        if batch.len_bytes() >= BATCH_BYTES {
            transaction.append(&out.topic, partition, batch.as_mut())?;
        }
        Ok(())
    }

    /// Appends records of the task's own to the running transaction.
    pub(crate) fn append(
        &self,
        topic: &TopicRef,
        partition: u32,
        batch: &mut dyn Batch,
    ) -> Result<()> {
        self.transaction().append(topic, partition, batch)
    }

    /// Hands everything emitted so far to the log; whether there was anything.
    pub(crate) fn flush(&mut self) -> Result<bool> {
        let transaction = Arc::clone(self.transaction());
        let mut appended = false;
        for output in self.outputs.iter_mut().flatten() {
            appended |= output.flush(0, transaction.as_ref())?;
        }
        Ok(appended)
    }

    /// Counts a late record.
    pub(crate) fn late(&mut self, store: &StoreName, key: &[u8], timestamp: i64, source_time: i64) {
        self.counters.late += 1;
        if let Some(list) = &mut self.late_records {
            list.push(LateRecord {
                store: store.clone(),
                key: key.to_vec(),
                timestamp,
                source_time,
            });
        }
    }
}

/// Whether a record of that many bytes has to wait for the next batch.
fn is_full_before(batch: &dyn Batch, topic: &TopicRef, record_bytes: usize) -> bool {
    let most = BATCH_BYTES.min(topic.batch_bytes_max);
    !batch.is_empty() && batch.len_bytes().saturating_add(record_bytes) > most
}

/// What a record takes in a batch, at most.
fn record_bytes_max(key: Option<&[u8]>, value: Option<&[u8]>, headers: &Headers) -> usize {
    let len = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let in_headers: usize = headers
        .iter()
        .map(|header| HEADER_OVERHEAD_BYTES + header.key.len() + len(header.value.as_deref()))
        .sum();
    RECORD_OVERHEAD_BYTES + len(key) + len(value) + in_headers
}

/// The changelog of one store partition, inside the running transaction.
pub(crate) struct Changelog<'a> {
    topic: &'a TopicRef,
    partition: u32,
    batch: &'a mut dyn Batch,
    transaction: &'a dyn Transaction,
    /// A deliberate mistake: the first record is left out.
    skip_first: bool,
}

impl<'a> Changelog<'a> {
    pub(crate) fn new(
        topic: &'a TopicRef,
        partition: u32,
        batch: &'a mut dyn Batch,
        transaction: &'a dyn Transaction,
        skip_first: bool,
    ) -> Self {
        Self { topic, partition, batch, transaction, skip_first }
    }

    /// Adds a row, or a tombstone.
    pub(crate) fn push(&mut self, timestamp: i64, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        if std::mem::take(&mut self.skip_first) {
            return Ok(());
        }
        let record = record_bytes_max(Some(key), value, &Headers::none());
        if is_full_before(&*self.batch, self.topic, record) {
            self.flush()?;
        }
        self.batch.push(timestamp, Some(key), value, &Headers::none())?;
        if self.batch.len_bytes() >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Hands what is left to the log.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.transaction.append(self.topic, self.partition, self.batch)
    }
}
