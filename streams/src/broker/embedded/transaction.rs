//! A transaction of the job as one of `core-log`.
//!
//! Invariants
//! * a transaction ends once; whoever asks it for more is told that it is closed.
//!
//! On crash: everything here is memory; recovery ends what was open.

use std::sync::Arc;

use bytes::Bytes;
use core_log::{GroupId, Log, OffsetCommit, Topic, TopicId, TransactionalProducer};
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

use super::EmbeddedBatch;
use crate::broker::{Batch, End, Position, Producer, TopicRef, Transaction};
use crate::error::{Error, Result};

pub(super) struct EmbeddedProducer {
    pub(super) producer: TransactionalProducer,
    pub(super) log: Log,
}

impl Producer for EmbeddedProducer {
    fn begin(&mut self) -> Result<Arc<dyn Transaction>> {
        let running = self.producer.begin()?;
        Ok(Arc::new(EmbeddedTransaction {
            log: self.log.clone(),
            running: RwLock::new(Some(running)),
            topics: RwLock::new(HashMap::new()),
            ends: Mutex::new(HashMap::new()),
        }))
    }
}

struct EmbeddedTransaction {
    log: Log,
    running: RwLock<Option<core_log::Transaction>>,
    topics: RwLock<HashMap<[u8; 16], Topic>>,
    ends: Mutex<HashMap<([u8; 16], u32), i64>>,
}

impl EmbeddedTransaction {
    fn topic(&self, topic: &TopicRef) -> Result<Topic> {
        if let Some(known) = self.topics.read().get(&topic.id) {
            return Ok(known.clone());
        }
        let found = self.log.topic(&topic.name)?;
        self.topics.write().insert(topic.id, found.clone());
        Ok(found)
    }

    fn take(&self) -> Result<core_log::Transaction> {
        self.running.write().take().ok_or(Error::Log(core_log::Error::Closed))
    }
}

impl Transaction for EmbeddedTransaction {
    fn append(&self, topic: &TopicRef, partition: u32, batch: &mut dyn Batch) -> Result<()> {
        let batch: &mut EmbeddedBatch =
            batch.as_any_mut().downcast_mut().expect("a broker is given its own batches");
        let known = self.topic(topic)?;
        let running = self.running.read();
        let running = running.as_ref().ok_or(Error::Log(core_log::Error::Closed))?;
        let appended = running.append(&known, partition, &mut batch.0)?;
        batch.0.clear();
        self.ends.lock().insert((topic.id, partition), appended.last_offset() + 1);
        Ok(())
    }

    fn end(&self, topic: &TopicRef, partition: u32) -> Result<Option<End>> {
        let Some(offset) = self.ends.lock().get(&(topic.id, partition)).copied() else {
            return Ok(None);
        };
        let offsets = self.log.offsets(TopicId(topic.id), partition)?;
        Ok(Some(End { offset, leader_epoch: offsets.leader_epoch }))
    }

    fn commit(&self, group: &str, positions: &[Position]) -> Result<()> {
        let offsets = offset_commits(&self.log, group, positions)?;
        self.take()?.commit(&offsets)?;
        Ok(())
    }

    fn abort(&self) -> Result<()> {
        Ok(self.take()?.abort()?)
    }
}

/// Positions in the words of the log.
pub(super) fn offset_commits(
    log: &Log,
    group: &str,
    positions: &[Position],
) -> Result<Vec<OffsetCommit>> {
    let group = GroupId::new(group).map_err(core_log::Error::from)?;
    let mut offsets = Vec::with_capacity(positions.len());
    for position in positions {
        let topic = TopicId(position.topic);
        let epoch = log.leader_epoch_at(topic, position.partition, position.offset)?;
        offsets.push(OffsetCommit {
            group: group.clone(),
            topic,
            partition: position.partition,
            offset: position.offset,
            leader_epoch: epoch.unwrap_or(-1),
            metadata: Bytes::copy_from_slice(&position.metadata),
        });
    }
    Ok(offsets)
}
