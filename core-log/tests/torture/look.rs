//! What an end has left, as a reader and the recovery report show it.

use std::collections::BTreeMap;
use std::sync::Arc;

use core_log::storage::memory::MemoryStorage;
use core_log::{Error, FetchBound, GroupId, Log, ManualClock, PartitionReader, Result};

use crate::model::{End, IDLE, JOB, Model, PARTITIONS, READERS, Seen, Shown};
use crate::world::{NOW, Setup, text_of};

/// Everything that a log shows.
pub(crate) fn look(log: &Log) -> Result<Shown> {
    let mut shown = Shown::default();
    let mut ids = BTreeMap::new();
    for (index, (name, partition)) in PARTITIONS.iter().enumerate() {
        let topic = match log.topic(name) {
            Ok(topic) => topic,
            Err(Error::UnknownTopic { .. }) => {
                shown.parts.push(Seen::default());
                continue;
            }
            Err(error) => return Err(error),
        };
        ids.insert(topic.partition(*partition), index);
        let offsets = log.offsets(topic.id(), *partition)?;
        let (start, end) = (offsets.log_start_offset, offsets.log_end_offset);
        let mut reader =
            PartitionReader::new(log.clone(), &topic, *partition, start, FetchBound::LastStable);
        let mut records = BTreeMap::new();
        while let Some(batch) = reader.next_batch(300)? {
            for record in batch.records() {
                let record = record?;
                records.insert(record.offset, text_of(record.value, record.headers));
            }
        }
        shown.parts.push(Seen { start, end, records });
    }
    for group in [JOB, IDLE, READERS] {
        let committed = log.committed(&GroupId::new(group)?)?;
        let positions = committed.iter().filter_map(|commit| {
            ids.get(&commit.topic_partition()).map(|index| (*index, commit.offset))
        });
        shown.positions.insert(group, positions.collect());
    }
    Ok(shown)
}

/// A partition that has records which no reader sees yet: a transaction is open, or a sync is due.
pub(crate) fn unstable(log: &Log) -> Result<Option<String>> {
    for topic in log.topics()? {
        for partition in 0..topic.partitions() {
            let offsets = log.offsets(topic.id(), partition)?;
            if offsets.last_stable_offset != offsets.log_end_offset {
                return Ok(Some(format!("{}-{partition}", topic.name())));
            }
        }
    }
    Ok(None)
}

/// Opens what an end left, compares it with the model, and takes it for a fact.
pub(crate) fn settle(
    setup: Setup,
    storage: &MemoryStorage,
    model: &mut Model,
    end: End,
) -> std::result::Result<(), String> {
    let clock = Arc::new(ManualClock::new(NOW));
    let log = setup.open(storage, &clock).map_err(|e| format!("it does not open: {e}"))?;
    let report = log.recovery();
    if report.commits_damage.is_some() || report.partitions.iter().any(|p| p.damage.is_some()) {
        return Err(format!("this end was taken for damage:\n{report}"));
    }
    if let Some(name) = unstable(&log).map_err(|e| e.to_string())? {
        return Err(format!("{name}: a transaction is open"));
    }
    let shown = look(&log).map_err(|e| format!("it cannot be read: {e}"))?;
    model.settle(&shown, end)
}
