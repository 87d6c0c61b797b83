//! One transaction for the whole job, and the next one beside its commit: the protocol.
//!
//! ```text
//!   workers    process N ..   prepare N | process N+1 ..            | committed N | .. prepare N+1
//!   committer                   seal N: watermarks, begin N+1
//!   commit thread                       | Sealed::commit: sync, record, markers | purge |
//!                                                      ^ commit point of N
//! ```
//!
//! Why two producers: a transactional id has one transaction at a time, and waiting for the disk must not
//! stop the job. They take turns; N+1 is prepared only once N is committed, so it never commits first.
//!
//! What a crash leaves, by the moment at which it comes:
//!
//! ```text
//!   before the commit record of N      N and N+1 are aborted, the positions are those of N-1
//!   after it, markers or not           N is committed, N+1 aborted: the positions are those of N
//!   before a worker has heard of it    the same; its stores restore what N wrote from the changelogs
//! ```
//!
//! Invariants
//! * both ids are taken, and with them every open transaction of an older instance is ended, before
//!   positions are read.
//! * all records of N, its watermarks last, come before any record of N+1 in every partition.
//! * watermarks are written only when one has changed, so that a commit does not cause the next.
//! * an error leaves the outcome of N unknown: both are given up, the job starts over from the last
//!   commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::plan::JobPlan;
use super::task::UpstreamMark;
use super::worker::Prepared;
use crate::broker::{Broker, Headers, Position, Producer, TopicRef, Transaction};
use crate::error::Result;
use crate::operator::envelope;

type Marks = BTreeMap<Arc<str>, BTreeMap<u32, i64>>;

/// The transactional ids of a job, by turn.
fn transactional_ids(job: &str) -> [String; 2] {
    [job.to_owned(), format!("{job}.2")]
}

/// Takes all transactional ids of a job: older holders can commit no more.
pub(super) fn take_ids(broker: &dyn Broker, job: &str) -> Result<[Box<dyn Producer>; 2]> {
    let [first, second] = transactional_ids(job);
    Ok([broker.producer(&first)?, broker.producer(&second)?])
}

/// The job's writer of transactions.
pub(crate) struct Committer {
    id: String,
    broker: Arc<dyn Broker>,
    producers: [Box<dyn Producer>; 2],
    /// Whose turn it is.
    turn: usize,
    /// Repartition topics.
    repartitions: Arc<[TopicRef]>,
    /// Watermarks as they were last written.
    sent: Marks,
    running: Option<Arc<dyn Transaction>>,
}

/// A transaction to which nothing is added any more, on its way to its commit.
pub(crate) struct Sealed {
    id: String,
    broker: Arc<dyn Broker>,
    repartitions: Arc<[TopicRef]>,
    transaction: Arc<dyn Transaction>,
    positions: Vec<Position>,
}

impl Committer {
    /// Takes the job's transactional ids, which ends what older instances have begun, and then reads
    /// where to go on.
    pub(crate) fn take_over(plan: &mut JobPlan, broker: Arc<dyn Broker>) -> Result<Self> {
        let id = plan.settings.id.clone();
        let mut producers = take_ids(broker.as_ref(), &id)?;
        plan.load_positions(broker.as_ref())?;
        plan.agree_on_types(producers[0].as_mut())?;
        plan.purge_void(broker.as_ref())?;
        plan.release_others(broker.as_ref())?;
        let sources = plan.parts.iter().flat_map(|part| &part.sources);
        let internal = sources.filter(|source| source.upstream.is_some());
        let repartitions =
            internal.map(|source| plan.topic(&source.topic).cloned()).collect::<Result<_>>()?;
        let (sent, running) = (Marks::new(), None);
        Ok(Self { id, broker, producers, turn: 0, repartitions, sent, running })
    }

    /// What the tasks' positions say was written before this process: the last commit wrote it.
    pub(crate) fn resume(&mut self, marks: Vec<UpstreamMark>) {
        merge(&mut self.sent, marks);
    }

    /// Begins the next transaction, with the producer whose turn it is.
    pub(crate) fn begin(&mut self) -> Result<Arc<dyn Transaction>> {
        let transaction = self.producers[self.turn].begin()?;
        self.turn = 1 - self.turn;
        self.running = Some(Arc::clone(&transaction));
        Ok(transaction)
    }

    /// Ends the running transaction with what the workers have prepared: it is ready for its commit. Must
    /// come BEFORE the next begins, or else a watermark could stand behind records that it does not
    /// speak of.
    pub(crate) fn seal(&mut self, prepared: &[Prepared]) -> Result<Sealed> {
        let running = self.running.as_ref().expect("a transaction is sealed after its begin");
        let transaction = Arc::clone(running);
        self.write_watermarks(prepared, transaction.as_ref())?;
        self.running = None;
        Ok(Sealed {
            id: self.id.clone(),
            broker: Arc::clone(&self.broker),
            repartitions: Arc::clone(&self.repartitions),
            transaction,
            positions: prepared.iter().flat_map(|part| part.positions.iter().cloned()).collect(),
        })
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
        for topic in self.repartitions.iter() {
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
}

impl Sealed {
    /// Whose transaction.
    pub(crate) fn job(&self) -> &str {
        &self.id
    }

    /// The transaction: stores ask it how far it reached.
    pub(crate) fn transaction(&self) -> &Arc<dyn Transaction> {
        &self.transaction
    }

    /// The commit point: records and positions become visible together. An error leaves it unknown
    /// whether they have.
    pub(crate) fn commit(&self) -> Result<()> {
        self.transaction.commit(&self.id, &self.positions)
    }

    /// After the commit point: gives up the repartition records that are behind it.
    pub(crate) fn purge(&self) -> Result<()> {
        for position in &self.positions {
            let topic = self.repartitions.iter().find(|topic| topic.id == position.topic);
            if let Some(topic) = topic {
                self.broker.purge(topic, position.partition, position.offset)?;
            }
        }
        Ok(())
    }

    /// Whether its commit is the last one, or one of the last: asked after a commit of unknown outcome,
    /// when the next instance has taken over.
    pub(crate) fn is_committed(&self, plan: &JobPlan) -> bool {
        self.positions.iter().all(|position| plan.has_committed(position))
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
