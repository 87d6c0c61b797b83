//! Takes over the directories of a topic that another log wrote: Kafka's, or an older one of ours.
//!
//! ```text
//!   DIR/clicks-0 .. clicks-N copied in -> sync every file -> log start from the first segment
//!     -> open: verify all, rebuild what Kafka does not have -> abort what is open
//!     -> forget its producers -> the topic is in the list
//! ```
//!
//! Why producers are forgotten: they cannot write here any more, and this log hands out the same
//! numbers; their batches must neither fence ours nor be taken for them.
//!
//! Invariants
//! * Nothing belongs to the log before the list of topics names it; a refusal leaves the files where
//!   they are, readable by Kafka as before. Only a torn end is cut, to a quarantine file.
//! * What was adopted is never taken for a claim of this log's own commits (`adopted_below`).
//!
//! On crash: adopting again does the rest.
//! Reference: Kafka `LogLoader`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::{Engine, place, request};
use crate::config::TopicSettings;
use crate::error::{Error, Result};
use crate::format::{ControlType, EndTransactionMarker};
use crate::ids::{Offset, TopicId, TopicName};
use crate::log::directory;
use crate::log::opening::partition_report;
use crate::log::report::{AdoptedTopic, EndedTransaction, PartitionRecovery};
use crate::partition::recovery::open as open_partition;
use crate::partition::trim::{LOG_START_FILE, log_start_text};
use crate::partition::{Partition, text_file, topic_id};
use crate::segment::Segment;
use crate::topic::Topic;

impl Engine {
    /// Takes over the partitions whose directories lie in that of the log; durable when this returns.
    pub(crate) fn adopt_topic(&self, name: &str, settings: TopicSettings) -> Result<AdoptedTopic> {
        let name = TopicName::new(name)?;
        let _one_at_a_time = self.creating.lock();
        self.require_new(&name)?;
        let partitions = self.count_partitions(&name)?;
        let settings = TopicSettings { partitions, ..settings };
        settings.validate()?;
        let id = self.adopted_id(&name, partitions)?;
        let topic = Topic::adopted(
            name,
            id,
            settings,
            // Until it is known where they end, all that there is counts as another log's.
            vec![Offset::MAX; usize::try_from(partitions).unwrap_or(0)],
        );
        let (mut opened, mut reports, mut aborted) = (Vec::new(), Vec::new(), Vec::new());
        for partition in 0..partitions {
            let (one, report) = self.adopt_partition(&topic, partition)?;
            aborted.extend(self.shared.health.guard(end_open(&topic, &one))?);
            reports.extend(report);
            opened.push(Arc::new(one));
        }
        let ends = opened.iter().map(|partition| partition.log_end()).collect();
        let topic =
            Topic::adopted(topic.name().clone(), topic.id(), topic.settings().clone(), ends);
        for partition in &opened {
            let (storage, dir) = (self.shared.storage.as_ref(), &partition.place().dir);
            // Must be AFTER nothing can be refused any more: Kafka takes no id that it does not know.
            self.shared.health.guard(topic_id::settle(storage, dir, topic.id()))?;
        }
        // Must be AFTER all that it names is on the disk.
        self.shared.health.guard(self.write_topics_with(&topic))?;
        self.insert(&topic, opened);
        tracing::info!(topic = %topic.name(), partitions, aborted = aborted.len(), "adopted");
        Ok(AdoptedTopic { topic, partitions: reports, aborted })
    }

    /// How many directories there are; they are numbered from 0 on without a gap.
    fn count_partitions(&self, name: &TopicName) -> Result<u32> {
        let names = self.shared.storage.list(&self.dir);
        let names = names.map_err(|e| Error::io(&self.dir, "list", e))?;
        let own = names.iter().filter_map(|dir| directory::parse_partition_dir(dir));
        let numbers: BTreeSet<u32> =
            own.filter_map(|(topic, number)| (topic == *name).then_some(number)).collect();
        let count = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        match (0..=count).find(|number| !numbers.contains(number)) {
            Some(missing) if missing < count || count == 0 => {
                let path = directory::partition_dir(&self.dir, name, missing);
                Err(Error::NotAPartition { path, reason: "it is missing" })
            }
            _ => Ok(count),
        }
    }

    /// The id that Kafka gave to the topic, or a new one.
    fn adopted_id(&self, name: &TopicName, partitions: u32) -> Result<TopicId> {
        let mut known = None;
        for partition in 0..partitions {
            let path =
                directory::partition_dir(&self.dir, name, partition).join(topic_id::FILE_NAME);
            let refuse = |reason| Err(Error::NotAPartition { path: path.clone(), reason });
            let Some(bytes) = text_file::read_bytes(self.shared.storage.as_ref(), &path)? else {
                continue;
            };
            let Some(id) = topic_id::parse(&bytes) else {
                return refuse("it holds no topic id of Kafka's");
            };
            if *known.get_or_insert(id) != id {
                return refuse("its topic id is not that of the partitions before it");
            }
            if self.table.read().partitions.contains_key(&id) {
                return refuse(
                    "its topic id is that of another topic of this log; a copy needs none",
                );
            }
        }
        known.map_or_else(|| self.random_id(), Ok)
    }

    fn adopt_partition(
        &self,
        topic: &Topic,
        partition: u32,
    ) -> Result<(Partition, Option<PartitionRecovery>)> {
        let storage = self.shared.storage.as_ref();
        let place = place(&self.dir, topic, partition);
        let Some(first) = Segment::list(storage, &place)?.first().copied() else {
            let reason = "there is no .log file in it";
            return Err(Error::NotAPartition { path: place.dir, reason });
        };
        // Must be BEFORE anything relies on it: whoever copied the files may not have synced them.
        sync_files(storage, &place.dir)?;
        let start = place.dir.join(LOG_START_FILE);
        if !storage.exists(&start).map_err(|e| Error::io(&start, "look for", e))? {
            let text = log_start_text(&place, first);
            text_file::write(storage, &place.dir, LOG_START_FILE, &text)?;
        }
        let opened = open_partition(&self.shared, request(&self.dir, topic, partition, 0, false))?;
        if let Some(damage) = opened.partition.damage() {
            return Err(opened.partition.place().damaged(damage));
        }
        let report = partition_report(topic, &opened, None);
        Ok((opened.partition, report))
    }
}

fn sync_files(storage: &dyn crate::storage::Storage, dir: &Path) -> Result<()> {
    for name in storage.list(dir).map_err(|e| Error::io(dir, "list", e))? {
        let path = dir.join(name);
        // A directory in it is none of ours, and cannot be opened for writing.
        if storage.list(&path).is_ok() {
            continue;
        }
        let synced = storage.open(&path).and_then(|file| file.sync());
        synced.map_err(|e| Error::io(&path, "sync", e))?;
    }
    storage.sync_dir(dir).map_err(|e| Error::io(dir, "sync", e))
}

/// Aborts what is open, as only the log that it came from knows more, and forgets all producers.
fn end_open(topic: &Topic, partition: &Partition) -> Result<Vec<EndedTransaction>> {
    let marker = EndTransactionMarker { control_type: ControlType::Abort, coordinator_epoch: 0 };
    let mut ended = Vec::new();
    for (producer_id, epoch, _) in partition.open_transactions() {
        partition.end_transaction(producer_id, crate::commit::next_epoch(epoch), marker)?;
        ended.push(EndedTransaction {
            topic: topic.name().clone(),
            partition: partition.id().partition,
            producer_id,
        });
    }
    partition.sync_to(partition.log_end())?;
    partition.forget_producers();
    Ok(ended)
}

#[cfg(test)]
mod tests;
