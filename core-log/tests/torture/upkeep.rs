//! What happens to a log beside transactions: maintenance, holders, a group that reads, and a producer of
//! single records.

use std::collections::BTreeMap;
use std::time::Duration;

use core_log::{
    BatchingProducer, Consumer, ConsumerSettings, Durability, GroupId, IsolationLevel, Log, Offset,
    OffsetReset, ProducerSettings, Record, Result, Timestamp,
};

use crate::model::{IN, KEYED, Model, OLD, PARTITIONS, READERS};
use crate::world::{World, key_and_value, text_of};

/// What the group reads.
const READ: [usize; 2] = [IN, KEYED];

impl World {
    /// Retention, compaction and time-outs, as of a date.
    pub(crate) fn maintain(&mut self, date: Timestamp, model: &mut Model) -> Result<()> {
        if !self.topics.contains_key(&KEYED) {
            return self.log.maintain(date);
        }
        let end = self.log.offsets(self.topics[&OLD].id(), 0)?.log_end_offset;
        model.maintaining(date, end);
        self.log.maintain(date)?;
        let (keyed, old) = (self.offsets(KEYED)?, self.offsets(OLD)?);
        model.maintained(keyed.0, old.0, old.1);
        Ok(())
    }

    /// Where the stable part of a partition ends, at least, and where it starts.
    fn offsets(&self, part: usize) -> Result<(Offset, Offset)> {
        let offsets = self.log.offsets(self.topics[&part].id(), PARTITIONS[part].1)?;
        Ok((offsets.last_stable_offset, offsets.log_start_offset))
    }

    /// A store on disk says what it has seen of the compacted topic; or there is none any more.
    pub(crate) fn hold(&mut self, model: &mut Model) -> Result<()> {
        let (topic, store) = (self.topics[&KEYED].id(), GroupId::new("store")?);
        if self.random.once_in(4) {
            model.releases();
            return self.log.release(topic, 0, &store);
        }
        let end = u64::try_from(self.offsets(KEYED)?.0).unwrap_or(0);
        let seen = Offset::try_from(self.random.below(end + 1)).expect("it is small");
        model.holds(seen);
        self.log.hold(topic, 0, &store, seen)?;
        model.held(seen);
        Ok(())
    }

    /// The group reads a little further, and perhaps says so.
    pub(crate) fn read(&mut self, model: &mut Model) -> Result<()> {
        let mut reader = match self.writers.reader.take() {
            Some(reader) => reader,
            None => {
                model.reader_starts();
                join(&self.log)?
            }
        };
        for _ in 0..=self.random.below(3) {
            let polled = reader.poll(Duration::ZERO)?;
            for record in polled.records() {
                let record = record?;
                let is_its = |part: &&usize| record.topic.as_str() == PARTITIONS[**part].0;
                let part = READ.iter().find(is_its).expect("it reads no other");
                model.delivered(*part, record.offset, text_of(record.value, record.headers));
            }
        }
        if self.random.once_in(2) {
            let mut positions = BTreeMap::new();
            for part in READ {
                positions.insert(part, reader.position(PARTITIONS[part].0, PARTITIONS[part].1)?);
            }
            model.reader_commits(positions.clone());
            reader.commit()?;
            model.reader_committed(&positions);
        }
        self.writers.reader = Some(reader);
        Ok(())
    }

    /// Single records, which share batches and syncs.
    pub(crate) fn send_singly(&mut self, model: &mut Model) -> Result<()> {
        let sender = match self.writers.sender.take() {
            Some(sender) => sender,
            None => gather(&self.log)?,
        };
        let mut sent = Vec::new();
        for _ in 0..=self.random.below(6) {
            let part = [IN, IN, KEYED, OLD][self.choice(4)];
            let text = self.value(part);
            let number = model.tried(part, vec![text.clone()], None);
            let (key, value) = key_and_value(part, text.as_bytes());
            let id = [("id", Some(text.as_bytes()))];
            let headers = if value.is_none() { &id[..] } else { &[] };
            let record = Record { key, value, headers, ..Record::default() };
            sent.push((number, sender.send(&self.topics[&part], record)?));
        }
        let mut outcome = Ok(());
        for (number, sent) in sent {
            match sent.wait() {
                Ok(written) => model.acknowledged(number, written.offset, true),
                Err(error) => outcome = Err(error),
            }
        }
        self.writers.sender = Some(sender);
        outcome
    }
}

fn join(log: &Log) -> Result<Consumer> {
    let mut reader = log.group(READERS)?.consumer(ConsumerSettings {
        auto_offset_reset: OffsetReset::Earliest,
        enable_auto_commit: false,
        isolation_level: IsolationLevel::ReadCommitted,
        max_poll_records: 5,
        durability: Durability::Sync,
        ..ConsumerSettings::default()
    });
    reader.subscribe(&READ.map(|part| PARTITIONS[part].0))?;
    Ok(reader)
}

fn gather(log: &Log) -> Result<BatchingProducer> {
    log.batching_producer(ProducerSettings {
        durability: Durability::Sync,
        batch_bytes: 300,
        ..ProducerSettings::default()
    })
}
