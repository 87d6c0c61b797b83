//! What a careful person would write by hand: a loop over a log's partitions, with one transaction for
//! results and positions every 100 ms.
//!
//! Why: a job is measured beside it, on the same records in the same run.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use core_log::{
    BatchBuilder, Durability, FetchBound, GroupId, Log, NO_HEADERS, OffsetCommit, PartitionReader,
    RecordRef, Topic, TopicSettings, Transaction, TransactionalProducer,
};

use crate::cost::{Cost, measured};

const CHUNK: usize = 64 * 1024;
const COMMIT_EVERY: Duration = Duration::from_millis(100);

/// What the loop does.
pub(crate) trait Work {
    fn record(&mut self, partition: usize, record: &RecordRef<'_>, out: &mut Out);

    /// The last words of a transaction.
    fn commit(&mut self, out: &mut Out);
}

/// Where results go: one topic of one partition.
pub(crate) struct Out {
    producer: TransactionalProducer,
    transaction: Option<Transaction>,
    topic: Topic,
    batch: BatchBuilder,
}

impl Out {
    pub(crate) fn push(&mut self, time: i64, key: Option<&[u8]>, value: &[u8]) {
        self.batch.push(time, key, Some(value), NO_HEADERS).expect("it fits");
        if self.batch.len_bytes() >= CHUNK {
            self.flush();
        }
    }

    fn transaction(&mut self) -> &Transaction {
        let producer = &mut self.producer;
        self.transaction.get_or_insert_with(|| producer.begin().expect("a transaction"))
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let (mut batch, topic) = (std::mem::take(&mut self.batch), self.topic.clone());
        self.transaction().append(&topic, 0, &mut batch).expect("an append");
        batch.clear();
        self.batch = batch;
    }

    fn commit(&mut self, positions: &[OffsetCommit]) {
        self.flush();
        self.transaction();
        let transaction = self.transaction.take().expect("it was begun above");
        transaction.commit(positions).expect("a commit");
    }
}

/// Reads everything that `source` has.
pub(crate) fn run(dir: &Path, source: &str, durability: Durability, work: &mut impl Work) -> Cost {
    measured(|| {
        let log = Log::open(dir).expect("the log");
        let source = log.topic(source).expect("the source");
        let topic = log.create_topic("loop-results", TopicSettings::default()).expect("a topic");
        let producer = log.transactional_producer("loop", durability).expect("a producer");
        let mut out = Out { producer, transaction: None, topic, batch: BatchBuilder::new() };
        let reader = |p| PartitionReader::new(log.clone(), &source, p, 0, FetchBound::LastStable);
        let mut readers: Vec<_> = (0..source.partitions()).map(reader).collect();
        let mut last = Instant::now();
        loop {
            let mut any = false;
            for (partition, reader) in readers.iter_mut().enumerate() {
                let Some(batch) = reader.next_batch(4 * CHUNK).expect("a fetch") else { continue };
                any = true;
                for record in batch.records() {
                    work.record(partition, &record.expect("a record"), &mut out);
                }
            }
            if !any || last.elapsed() >= COMMIT_EVERY {
                work.commit(&mut out);
                let group = GroupId::new("loop").expect("a name");
                let positions = readers.iter().zip(0..).map(|(reader, partition)| OffsetCommit {
                    group: group.clone(),
                    topic: source.id(),
                    partition,
                    offset: reader.position(),
                    leader_epoch: -1,
                    metadata: Bytes::new(),
                });
                out.commit(&positions.collect::<Vec<_>>());
                last = Instant::now();
            }
            if !any {
                break;
            }
        }
        drop(out);
        log.close().expect("a clean close");
    })
}
