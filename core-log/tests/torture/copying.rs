//! Transactions of a workload: one that copies, one without a promise, one that stays open.

use std::collections::BTreeMap;

use core_log::{
    Durability, Error, FetchBound, GroupId, Log, Offset, OffsetCommit, PartitionReader, Result,
    Topic, Transaction,
};

use crate::model::{Fate, IDLE, IN, JOB, Model, OUT, PARTITIONS, TRIM};
use crate::world::{World, batch, text_of};

impl World {
    fn position(&self, group: &str, part: usize) -> Result<Offset> {
        let committed = self.log.committed(&GroupId::new(group)?)?;
        let id = self.topics[&part].partition(PARTITIONS[part].1);
        let own = committed.iter().find(|commit| commit.topic_partition() == id);
        Ok(own.map_or(0, |commit| commit.offset))
    }

    /// Copies what is new in `in` to `out`, with the position up to which it did.
    pub(crate) fn copy(&mut self, model: &mut Model) -> Result<()> {
        let from = self.position(JOB, IN)?;
        let most = usize::try_from(1 + self.random.below(12)).expect("it is small");
        let (originals, position) = read_some(&self.log, &self.topics[&IN], from, most)?;
        let transaction = self.writers.job.begin()?;
        let number = model.begin(JOB, true);
        let copies: Vec<String> = originals.iter().map(|v| format!("{v}c{number}")).collect();
        let more = self.values(OUT + 1, 2);
        let targets = [(OUT, copies), (OUT + 1, more)];
        for (part, values) in targets.into_iter().filter(|(_, values)| !values.is_empty()) {
            send(&transaction, &self.topics, part, values, number, model)?;
        }
        if self.random.once_in(3) {
            let values = self.values(TRIM, 3);
            send(&transaction, &self.topics, TRIM, values, number, model)?;
        }
        match self.random.below(8) {
            0 => {
                model.txns[number].fate = Fate::Aborted;
                return transaction.abort();
            }
            1 => {
                model.txns[number].fate = Fate::Aborted;
                drop(transaction);
                return Ok(());
            }
            _ => {}
        }
        self.commit(transaction, number, IN, position, model)
    }

    fn commit(
        &self,
        transaction: Transaction,
        number: usize,
        part: usize,
        position: Offset,
        model: &mut Model,
    ) -> Result<()> {
        let commit = OffsetCommit {
            group: GroupId::new(model.txns[number].group)?,
            topic: self.topics[&part].id(),
            partition: PARTITIONS[part].1,
            offset: position,
            leader_epoch: 0,
            metadata: bytes::Bytes::new(),
        };
        model.txns[number].positions = BTreeMap::from([(part, position)]);
        model.txns[number].fate = Fate::Unknown;
        transaction.commit(&[commit])?;
        model.committed(number);
        Ok(())
    }

    /// A transaction that promises nothing against a power cut.
    pub(crate) fn commit_idle(
        &mut self,
        first: usize,
        second: usize,
        model: &mut Model,
    ) -> Result<()> {
        let position = self.log.offsets(self.topics[&second].id(), 0)?.high_watermark;
        let transaction = self.writers.idle.begin()?;
        let number = model.begin(IDLE, false);
        for part in [first, second] {
            let values = self.values(part, 2);
            send(&transaction, &self.topics, part, values, number, model)?;
        }
        self.commit(transaction, number, second, position, model)
    }

    /// A transaction that stays open while others come and go, perhaps for too long.
    pub(crate) fn write_slowly(&mut self, parts: [usize; 3], model: &mut Model) -> Result<()> {
        if self.writers.open.is_none() {
            let transaction = match self.writers.slow.begin() {
                Ok(transaction) => transaction,
                Err(error) if has_lost_its_id(&error) => {
                    self.writers.slow =
                        self.log.transactional_producer("slow", Durability::Sync)?;
                    self.writers.slow.begin()?
                }
                Err(error) => return Err(error),
            };
            self.writers.open = Some((transaction, model.begin("slow", true)));
        }
        let (transaction, number) = self.writers.open.take().expect("it was opened");
        let part = parts[usize::try_from(self.random.below(3)).expect("it is small")];
        let values = self.values(part, 3);
        let sent = send(&transaction, &self.topics, part, values, number, model);
        let ended = match sent {
            Ok(()) if self.random.once_in(2) => {
                self.writers.open = Some((transaction, number));
                return Ok(());
            }
            Ok(()) if self.random.once_in(4) => {
                model.txns[number].fate = Fate::Aborted;
                transaction.abort()
            }
            Ok(()) => {
                model.txns[number].fate = Fate::Unknown;
                transaction.commit(&[]).map(|_| model.committed(number))
            }
            Err(error) => Err(error),
        };
        match ended {
            Err(error) if has_lost_its_id(&error) => {
                model.txns[number].fate = Fate::Aborted;
                Ok(())
            }
            ended => ended,
        }
    }
}

/// Whether its time was up.
fn has_lost_its_id(error: &Error) -> bool {
    matches!(error, Error::ProducerFenced { .. } | Error::TransactionTimedOut { .. })
}

fn send(
    transaction: &Transaction,
    topics: &BTreeMap<usize, Topic>,
    part: usize,
    values: Vec<String>,
    txn: usize,
    model: &mut Model,
) -> Result<()> {
    let mut batch = batch(part, &values, model.now);
    let number = model.tried(part, values, Some(txn));
    let appended = transaction.append(&topics[&part], PARTITIONS[part].1, &mut batch)?;
    model.acknowledged(number, appended.first_offset(), false);
    Ok(())
}

/// At most so many committed records from an offset on, and the offset behind them.
fn read_some(log: &Log, topic: &Topic, from: Offset, most: usize) -> Result<(Vec<String>, Offset)> {
    let mut reader = PartitionReader::new(log.clone(), topic, 0, from, FetchBound::LastStable);
    let mut values = Vec::new();
    while let Some(batch) = reader.next_batch(300)? {
        for record in batch.records() {
            let record = record?;
            if values.len() == most {
                return Ok((values, record.offset));
            }
            values.push(text_of(record.value, record.headers));
        }
    }
    Ok((values, reader.position()))
}
