//! A log in memory, with a clock that is moved by hand and a power switch.
//!
//! Why: tests run the real log, with the real recovery, on files that lose what was not synced.
//!
//! Invariants
//! * the same seed and the same calls give the same log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use core_log::storage::Storage;
pub(crate) use core_log::storage::memory::Call;
use core_log::storage::memory::{At, Effect, Fault, Keep, MemoryStorage};
use core_log::{BatchBuilder, Clock, Log, LogOptions, ManualClock, Producer, TopicSettings};

#[cfg(feature = "test-util")]
pub use core_log::Broken;

use super::embedded::header;
use super::{Durability, EmbeddedBroker};
use crate::error::Result;
use crate::record::Headers;

/// A record as it stands in a partition, its key and value still encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRecord {
    pub(crate) partition: u32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Headers,
}

/// The log of a simulation.
pub(crate) struct SimulatedLog {
    storage: MemoryStorage,
    clock: Arc<ManualClock>,
    open: Option<(Log, Producer)>,
    /// How durable what a test sends is when it is acknowledged.
    pub(crate) durability: Durability,
    #[cfg(feature = "test-util")]
    pub(crate) broken: Option<Broken>,
    /// How changelogs are cleaned, by the names of settings; they are not, where this is empty.
    #[cfg(test)]
    pub(crate) cleanup: &'static [(&'static str, &'static str)],
    /// A deliberate mistake: the cleaner passes what stores have not seen.
    #[cfg(test)]
    pub(crate) forgets_holders: bool,
}

impl SimulatedLog {
    pub(crate) fn new(seed: u64, now_ms: i64) -> Self {
        Self {
            storage: MemoryStorage::new(seed),
            clock: Arc::new(ManualClock::new(now_ms)),
            open: None,
            durability: Durability::Sync,
            #[cfg(feature = "test-util")]
            broken: None,
            #[cfg(test)]
            cleanup: &[],
            #[cfg(test)]
            forgets_holders: false,
        }
    }

    /// Starts over with another seed for what a power cut leaves; said before anything is open.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.storage = MemoryStorage::new(seed);
    }

    pub(crate) fn advance_clock(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Sets the time of day, as an administrator would.
    pub(crate) fn set_clock(&self, now_ms: i64) {
        self.clock.set(now_ms);
    }

    pub(crate) fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    fn opened(&mut self) -> Result<&mut (Log, Producer)> {
        if self.open.is_none() {
            let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
            let storage: Arc<dyn Storage> = Arc::new(self.storage.clone());
            let options = LogOptions::new().storage(storage).clock(clock).background(false);
            #[cfg(feature = "test-util")]
            let options = match self.broken {
                Some(broken) => options.broken(broken),
                None => options,
            };
            let log = options.open(Path::new("/log"))?;
            let producer = log.producer(self.durability)?;
            self.open = Some((log, producer));
        }
        Ok(self.open.as_mut().expect("it was opened above"))
    }

    /// The log as a job sees it.
    pub(crate) fn broker(&mut self, ahead_max_ms: i64) -> Result<EmbeddedBroker> {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        let (log, _) = self.opened()?;
        let broker = EmbeddedBroker::new(log.clone(), clock, Durability::Sync, ahead_max_ms);
        #[cfg(test)]
        let broker = if self.forgets_holders { broker.forgetting_holders() } else { broker };
        Ok(broker)
    }

    /// Has the changelogs that there are cleaned from now on, if they are to be.
    #[cfg(test)]
    pub(crate) fn alter_changelogs(&mut self) -> Result<()> {
        let cleanup = self.cleanup;
        let (log, _) = self.opened()?;
        for topic in log.topics()?.iter().filter(|t| t.name().as_str().ends_with("-changelog")) {
            log.alter_topic(topic.name().as_str(), |settings| {
                cleanup.iter().try_for_each(|(name, text)| settings.set(name, text))
            })?;
        }
        self.clean()
    }

    /// The cleaner comes by.
    #[cfg(test)]
    pub(crate) fn clean(&mut self) -> Result<()> {
        let now_ms = self.now_ms();
        Ok(self.opened()?.0.maintain(now_ms)?)
    }

    /// So many offsets of changelogs lie where the cleaner has been.
    #[cfg(test)]
    pub(crate) fn cleaned_offsets(&mut self) -> Result<i64> {
        let (log, _) = self.opened()?;
        let mut cleaned = 0;
        for topic in log.topics()?.iter().filter(|t| t.name().as_str().ends_with("-changelog")) {
            for partition in 0..topic.partitions() {
                let start = log.offsets(topic.id(), partition)?.log_start_offset;
                cleaned += start.max(log.compacted_below(topic.id(), partition)?);
            }
        }
        Ok(cleaned)
    }

    /// Creates a topic that takes every timestamp, unless it is there.
    pub(crate) fn ensure_topic(&mut self, name: &str, partitions: u32) -> Result<u32> {
        let (log, _) = self.opened()?;
        if let Ok(topic) = log.topic(name) {
            return Ok(topic.partitions());
        }
        let settings = TopicSettings {
            partitions,
            timestamp_after_max_ms: i64::MAX,
            ..TopicSettings::default()
        };
        Ok(log.create_topic(name, settings)?.partitions())
    }

    /// Appends one record, acknowledged when it is synced.
    pub(crate) fn append(
        &mut self,
        name: &str,
        partition: u32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> Result<()> {
        let (log, producer) = self.opened()?;
        let topic = log.topic(name)?;
        let mut batch = BatchBuilder::new();
        let list: Vec<(&str, Option<&[u8]>)> =
            headers.iter().map(|h| (h.key.as_str(), h.value.as_deref())).collect();
        batch.push(timestamp, key, value, &list).map_err(core_log::Error::from)?;
        producer.append(&topic, partition, &mut batch)?;
        Ok(())
    }

    /// Committed records of a topic from one offset per partition on; the offsets move along.
    pub(crate) fn read(&mut self, name: &str, from: &mut Vec<i64>) -> Result<Vec<StoredRecord>> {
        let (log, _) = self.opened()?;
        let Ok(topic) = log.topic(name) else { return Ok(Vec::new()) };
        let partitions = usize::try_from(topic.partitions()).expect("a count fits a usize");
        from.resize(partitions, 0);
        let mut found = Vec::new();
        for (partition, position) in (0..).zip(from) {
            let bound = core_log::FetchBound::LastStable;
            let mut reader =
                core_log::PartitionReader::new(log.clone(), &topic, partition, *position, bound);
            while let Some(batch) = reader.next_batch(1 << 20)? {
                for record in batch.records() {
                    let record = record.map_err(core_log::Error::from)?;
                    found.push(StoredRecord {
                        partition,
                        offset: record.offset,
                        timestamp: record.timestamp,
                        key: record.key.map(<[u8]>::to_vec),
                        value: record.value.map(<[u8]>::to_vec),
                        headers: record.headers.iter().map(header).collect(),
                    });
                }
            }
            *position = reader.position();
        }
        Ok(found)
    }

    /// The power fails behind this many more writes, syncs and names.
    #[cfg(test)]
    pub(crate) fn power_off_after(&self, operations: u64) {
        self.storage.stop_after(self.storage.operations() + operations);
    }

    /// The next call of this kind on a file whose path contains this text fails, once.
    pub(crate) fn fail_next(&self, call: Call, path: &str) {
        let effect = Effect::Error(std::io::ErrorKind::Other);
        self.storage.inject(Fault::once(At::Path(call, path.to_owned()), effect));
    }

    /// The process is gone, and the power with it: of what was not synced, any part may be left.
    pub(crate) fn power_cut(&mut self, seed: u64) {
        self.open = None;
        self.storage = self.storage.crash_image(Keep::Random(seed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Broker;

    /// The rows of a committed transaction go to their store with this end. Taken for "nothing was
    /// written", a log that failed in between would have them dropped in silence.
    #[test]
    fn the_end_of_a_transaction_is_an_error_when_the_log_is_gone() {
        let mut log = SimulatedLog::new(1, 0);
        log.ensure_topic("changelog", 2).unwrap();
        let broker = log.broker(i64::MAX).unwrap();
        let topic = broker.topics().unwrap().remove(0);
        let transaction = broker.producer("job").unwrap().begin().unwrap();
        let mut batch = broker.batch();
        batch.push(0, Some(b"k"), Some(b"v"), &Headers::none()).unwrap();
        transaction.append(&topic, 0, batch.as_mut()).unwrap();
        assert_eq!(transaction.end(&topic, 0).unwrap().map(|end| end.offset), Some(1));
        assert_eq!(transaction.end(&topic, 1).unwrap(), None, "nothing was written there");
        transaction.commit("job", &[]).unwrap();
        broker.close().unwrap();
        assert!(transaction.end(&topic, 0).is_err());
    }
}
