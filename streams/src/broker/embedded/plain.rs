//! Transactions that are none: at-least-once, to measure what exactly-once costs.
//!
//! ```text
//!   append    idempotent producers, without a transaction: readers see records at once
//!   commit    sync what was written and consumed, then commit the positions alone
//!   abort     nothing: what was written stays, and is written again after a restart
//! ```
//!
//! Why only for measurements: a job on this doubles records and counts when it starts over. It waits for
//! the disk as often as the real one, so the difference between the two is the price of exactly-once.
//!
//! Invariants
//! * a position is committed only after everything that was written before it is synced.
//!
//! On crash: records behind the last committed positions are there and are written again.

use std::sync::Arc;

use bytes::Bytes;
use core_log::{Durability, GroupId, Log, OffsetCommit, TopicId, TransactionalProducer};
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::EmbeddedBatch;
use super::transaction::offset_commits;
use crate::broker::{Batch, End, Position, Producer, TopicRef, Transaction};
use crate::error::Result;

/// Workers share this many producers, so that they seldom wait for each other.
const WRITERS: u32 = 16;

pub(super) struct PlainProducer(Arc<Writers>);

struct Writers {
    log: Log,
    /// Its transactions carry positions only.
    positions: Mutex<TransactionalProducer>,
    by_partition: Vec<Mutex<core_log::Producer>>,
}

impl PlainProducer {
    pub(super) fn open(log: &Log, id: &str, durability: Durability) -> Result<Self> {
        let positions = Mutex::new(log.transactional_producer(id, durability)?);
        let writer = |_| Ok(Mutex::new(log.producer(Durability::Os)?));
        let by_partition = (0..WRITERS).map(writer).collect::<Result<_>>()?;
        Ok(Self(Arc::new(Writers { log: log.clone(), positions, by_partition })))
    }
}

impl Producer for PlainProducer {
    fn begin(&mut self) -> Result<Arc<dyn Transaction>> {
        let ends = Mutex::new(HashMap::new());
        Ok(Arc::new(PlainTransaction { writers: Arc::clone(&self.0), ends }))
    }
}

struct PlainTransaction {
    writers: Arc<Writers>,
    ends: Mutex<HashMap<([u8; 16], u32), i64>>,
}

impl Transaction for PlainTransaction {
    fn append(&self, topic: &TopicRef, partition: u32, batch: &mut dyn Batch) -> Result<()> {
        let batch: &mut EmbeddedBatch =
            batch.as_any_mut().downcast_mut().expect("a broker is given its own batches");
        let known = self.writers.log.topic(&topic.name)?;
        let writer = usize::try_from(partition % WRITERS).expect("a small number");
        let mut writer = self.writers.by_partition[writer].lock();
        let appended = writer.append(&known, partition, &mut batch.0)?;
        drop(writer);
        batch.0.clear();
        self.ends.lock().insert((topic.id, partition), appended.last_offset() + 1);
        Ok(())
    }

    fn end(&self, topic: &TopicRef, partition: u32) -> Result<Option<End>> {
        let Some(offset) = self.ends.lock().get(&(topic.id, partition)).copied() else {
            return Ok(None);
        };
        let offsets = self.writers.log.offsets(TopicId(topic.id), partition)?;
        Ok(Some(End { offset, leader_epoch: offsets.leader_epoch }))
    }

    fn commit(&self, group: &str, positions: &[Position]) -> Result<()> {
        let mut offsets = offset_commits(&self.writers.log, group, positions)?;
        // What positions are committed for is synced first: that has what was written synced too.
        let written = GroupId::new(&format!("{group}.written")).map_err(core_log::Error::from)?;
        for (&(topic, partition), &offset) in self.ends.lock().iter() {
            offsets.push(OffsetCommit {
                group: written.clone(),
                topic: TopicId(topic),
                partition,
                offset,
                leader_epoch: -1,
                metadata: Bytes::new(),
            });
        }
        self.writers.positions.lock().begin()?.commit(&offsets)?;
        Ok(())
    }

    fn abort(&self) -> Result<()> {
        Ok(())
    }
}
