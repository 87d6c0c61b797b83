//! One transaction for the whole job: the committer owns the protocol.
//!
//! ```text
//!   begin -> workers process -> all workers prepare (outputs, changelogs, positions)
//!         -> watermarks, after the other records
//!         -> commit (commit point) -> workers: overlays -> row caches -> begin ..
//!                                  -> repartition records behind the commit are given up
//! ```
//!
//! Why one owner: a commit may only follow the commit before it, whatever threads there are.
//!
//! Invariants
//! * watermarks are written only when one has changed, so that a commit does not cause the next.
//! * an error from the commit leaves its outcome unknown: the job starts over from the last commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::plan::JobPlan;
use super::task::UpstreamMark;
use super::worker::Prepared;
use crate::broker::{Broker, Headers, Position, Producer, TopicRef, Transaction};
use crate::error::Result;
use crate::operator::envelope;

type Marks = BTreeMap<Arc<str>, BTreeMap<u32, i64>>;

/// The job's writer of transactions.
pub(crate) struct Committer {
    id: String,
    broker: Arc<dyn Broker>,
    producer: Box<dyn Producer>,
    /// Repartition topics by name and by id.
    repartitions: Vec<TopicRef>,
    /// Watermarks as they were last written.
    sent: Marks,
    running: Option<Arc<dyn Transaction>>,
}

impl Committer {
    pub(crate) fn new(
        plan: &JobPlan,
        broker: Arc<dyn Broker>,
        producer: Box<dyn Producer>,
    ) -> Result<Self> {
        let id = plan.settings.id.clone();
        let sources = plan.parts.iter().flat_map(|part| &part.sources);
        let internal = sources.filter(|source| source.upstream.is_some());
        let repartitions = internal
            .map(|source| plan.topic(&source.topic).cloned())
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { id, broker, producer, repartitions, sent: Marks::new(), running: None })
    }

    /// What the tasks' positions say was written before this process: the last commit wrote it.
    pub(crate) fn resume(&mut self, marks: Vec<UpstreamMark>) {
        merge(&mut self.sent, marks);
    }

    pub(crate) fn begin(&mut self) -> Result<Arc<dyn Transaction>> {
        let transaction = self.producer.begin()?;
        self.running = Some(Arc::clone(&transaction));
        Ok(transaction)
    }

    /// Commits what the workers have prepared; they are to be told afterwards.
    pub(crate) fn commit(&mut self, prepared: &[Prepared]) -> Result<Arc<dyn Transaction>> {
        let transaction = self.running.take().expect("a commit follows its begin");
        self.write_watermarks(prepared, transaction.as_ref())?;
        let positions: Vec<Position> =
            prepared.iter().flat_map(|part| part.positions.iter().cloned()).collect();
        transaction.commit(&self.id, &positions)?;
        self.purge(&positions)?;
        Ok(transaction)
    }

    /// Gives up the running transaction.
    pub(crate) fn abort(&mut self) -> Result<()> {
        match self.running.take() {
            Some(transaction) => transaction.abort(),
            None => Ok(()),
        }
    }

    fn write_watermarks(
        &mut self,
        prepared: &[Prepared],
        transaction: &dyn Transaction,
    ) -> Result<()> {
        let mut now = self.sent.clone();
        merge(&mut now, prepared.iter().flat_map(|part| part.marks.iter().cloned()));
        for topic in &self.repartitions {
            let marks = now.get(&topic.name);
            if marks == self.sent.get(&topic.name) {
                continue;
            }
            let list: Vec<(u32, i64)> =
                marks.into_iter().flatten().map(|(&p, &mark)| (p, mark)).collect();
            let mut value = Vec::new();
            envelope::watermarks(&list, &mut value);
            let timestamp = self.broker.now_ms();
            for partition in 0..topic.partitions {
                let mut batch = self.broker.batch();
                batch.push(timestamp, None, Some(&value), &Headers::none())?;
                transaction.append(topic, partition, batch.as_mut())?;
            }
        }
        self.sent = now;
        Ok(())
    }

    fn purge(&self, positions: &[Position]) -> Result<()> {
        for position in positions {
            let topic = self.repartitions.iter().find(|topic| topic.id == position.topic);
            if let Some(topic) = topic {
                self.broker.purge(topic, position.partition, position.offset)?;
            }
        }
        Ok(())
    }
}

/// Takes in marks that say something; watermarks never go back.
fn merge(into: &mut Marks, marks: impl IntoIterator<Item = UpstreamMark>) {
    for mark in marks.into_iter().filter(|mark| mark.watermark > i64::MIN) {
        let known = into.entry(mark.topic).or_default().entry(mark.partition);
        let known = known.or_insert(mark.watermark);
        *known = (*known).max(mark.watermark);
    }
}
