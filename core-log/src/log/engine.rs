//! One life of a log: everything between a recovery and the crash or close that ends it.
//!
//! Why: after a failed write or sync all that is in memory must go, and come back by the same
//! recovery as at start. So it hangs together in one value, which is dropped as a whole.
//!
//! Invariants
//! * Locks, in this order: the list of topics, `commit`'s, a partition's writer.
//!
//! On crash: see `partition::recovery` and `commit::recovery`.

mod adopt;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::locks::{Mutex, RwLock};
use hashbrown::HashMap;

use super::directory::{self, COMMITS_DIR, CleanShutdown};
use super::opening::{Before, open_partitions, place, request};
use super::report::{EndedTransaction, RecoveryReport};
use crate::commit::recovery::{self, Decisions};
use crate::commit::{Broken, COMMITS, CommitSettings, Commits, CommitsDamage, Directory, sync_all};
use crate::config::{LogSettings, TopicSettings};
use crate::error::{Error, Result};
use crate::ids::{LogId, ProducerId, TopicId, TopicName, TopicPartition};
use crate::partition::recovery::{OpenRequest, open as open_partition};
use crate::partition::{Partition, Shared, first_files};
use crate::topic::Topic;

/// How many partitions are synced at the same time.
const PARALLEL_SYNCS: usize = 16;
/// How many partitions are opened at the same time: mostly this waits for the disk.
const PARALLEL_OPENS: usize = 8;

/// One life of a log.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) shared: Shared,
    dir: Arc<Path>,
    id: LogId,
    settings: LogSettings,
    table: RwLock<Table>,
    creating: Mutex<()>,
    commits: Result<Commits, CommitsDamage>,
    report: RecoveryReport,
}

#[derive(Debug, Default)]
struct Table {
    topics: BTreeMap<TopicName, Topic>,
    partitions: HashMap<TopicId, Vec<Arc<Partition>>>,
}

impl Directory for Table {
    fn partition(&self, id: TopicPartition) -> Option<Arc<Partition>> {
        let index = usize::try_from(id.partition).ok()?;
        self.partitions.get(&id.topic)?.get(index).cloned()
    }

    fn partitions(&self) -> Vec<Arc<Partition>> {
        let of = |topic: &Topic| self.partitions.get(&topic.id()).cloned().unwrap_or_default();
        self.topics.values().flat_map(of).collect()
    }
}

impl Directory for Engine {
    fn partition(&self, id: TopicPartition) -> Option<Arc<Partition>> {
        self.table.read().partition(id)
    }

    fn partitions(&self) -> Vec<Arc<Partition>> {
        self.table.read().partitions()
    }
}

impl Engine {
    /// Whether this log errs on purpose.
    pub(crate) fn makes(&self, mistake: Broken) -> bool {
        self.settings.broken == Some(mistake)
    }

    /// Opens the log in `dir`, which this process owns, and recovers what must be recovered.
    pub(crate) fn open(shared: Shared, dir: Arc<Path>, settings: LogSettings) -> Result<Self> {
        let storage = shared.storage.as_ref();
        let boot_id = storage.boot_id().map_err(|e| Error::io(&dir, "read the boot id of", e))?;
        let id = open_or_create(&shared, &dir, &boot_id, settings.create)?;
        let topics = directory::read_topics(storage, &dir)?;
        let clean = directory::read_clean(storage, &dir)?;
        let commits_dir = dir.join(COMMITS_DIR);
        let mut loaded = recovery::load(&shared.storage, &commits_dir)?;
        loaded.contents.require_up_to(clean.as_ref().map_or(0, |clean| clean.commits_end));
        let mut report = RecoveryReport {
            was_closed: clean.is_some(),
            was_rebooted: loaded.boot_id() != boot_id,
            ..RecoveryReport::default()
        };
        let before = Before::of(&loaded, clean, &report);
        let lanes = if settings.background { PARALLEL_OPENS } else { 1 };
        let opened = open_partitions(&shared, &dir, &topics, &before, lanes)?;
        let (evidence, table) = (opened.evidence, Table::new(topics, opened.partitions));
        report.partitions = opened.report;
        loaded.contents.require_up_to(evidence.commit_claim.into());
        // Must be BEFORE anything is appended. While the commit records are damaged nothing is, and what a
        // clean close witnessed is all that is known.
        if loaded.contents.damage.is_none() {
            directory::remove_clean(storage, &dir)?;
        }
        let commit_settings = CommitSettings {
            boot_id,
            file_bytes_max: settings.commits_bytes_max,
            parallel_syncs: if settings.background { PARALLEL_SYNCS } else { 1 },
            broken: settings.broken,
        };
        if settings.broken == Some(Broken::TakeDamageForTorn) {
            loaded.contents.damage = None;
        }
        let commits = if let Some(damage) = loaded.contents.damage.clone() {
            report.commits_damage = Some(damage.reason.clone());
            Err(CommitsDamage { damage })
        } else {
            let largest = evidence.producer_id_max;
            let (commits, decisions) =
                recovery::decide(&shared, commit_settings, &commits_dir, &table, loaded, largest)?;
            table.report(&mut report, decisions);
            report.unrecorded = opened.unrecorded;
            Ok(commits)
        };
        Ok(Self {
            shared,
            dir,
            id,
            settings,
            table: RwLock::new(table),
            creating: Mutex::new(()),
            commits,
            report,
        })
    }

    pub(crate) fn id(&self) -> LogId {
        self.id
    }

    pub(crate) fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// The commit protocol.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`]: `__commits` is.
    pub(crate) fn commits(&self) -> Result<&Commits> {
        self.commits.as_ref().map_err(CommitsDamage::error)
    }

    pub(crate) fn topics(&self) -> Vec<Topic> {
        self.table.read().topics.values().cloned().collect()
    }

    /// How many topics there are.
    pub(crate) fn topic_count(&self) -> usize {
        self.table.read().topics.len()
    }

    pub(crate) fn topic(&self, name: &str) -> Result<Topic> {
        let table = self.table.read();
        table.topics.get(name).cloned().ok_or_else(|| Error::UnknownTopic {
            name: name.to_owned(),
            known: table.topics.keys().map(ToString::to_string).collect(),
        })
    }

    /// A partition that must be there.
    pub(crate) fn require(&self, id: TopicPartition) -> Result<Arc<Partition>> {
        let table = self.table.read();
        table.partition(id).ok_or_else(|| {
            let topic = table.topics.values().find(|topic| topic.id() == id.topic);
            Error::UnknownPartition {
                topic: topic.map_or_else(|| id.topic.to_string(), |topic| topic.name().to_string()),
                partition: id.partition,
                partitions: topic.map_or(0, Topic::partitions),
            }
        })
    }

    /// Makes a topic; durable when this returns.
    pub(crate) fn create_topic(&self, name: &str, settings: TopicSettings) -> Result<Topic> {
        let name = TopicName::new(name)?;
        settings.validate()?;
        let _one_at_a_time = self.creating.lock();
        self.require_new(&name)?;
        let topic = Topic::new(name, self.random_id()?, settings);
        for partition in 0..topic.partitions() {
            self.clear_leftover(&topic, partition)?;
        }
        let created = self.create_files(&topic);
        let partitions = self.shared.health.guard(created)?;
        self.insert(&topic, partitions);
        Ok(topic)
    }

    /// A topic of this name can be made now.
    fn require_new(&self, name: &TopicName) -> Result<()> {
        self.shared.health.check()?;
        if name.as_str() == COMMITS {
            let reason = "it is the log's own";
            let kind = crate::ids::NameKind::Topic;
            return Err(Error::InvalidName { kind, name: name.to_string(), reason });
        }
        if self.table.read().topics.contains_key(name) {
            return Err(Error::TopicExists { name: name.to_string() });
        }
        self.shared.reserve.require()
    }

    fn random_id(&self) -> Result<TopicId> {
        let mut random = [0; 16];
        let drawn = self.shared.storage.random_bytes(&mut random);
        drawn.map_err(|e| Error::io(&self.dir, "make an id for", e))?;
        Ok(TopicId::from_random(random))
    }

    fn insert(&self, topic: &Topic, partitions: Vec<Arc<Partition>>) {
        let mut table = self.table.write();
        table.partitions.insert(topic.id(), partitions);
        table.topics.insert(topic.name().clone(), topic.clone());
        drop(table);
        self.shared.changes.notify();
    }

    /// Changes the settings of a topic; durable when this returns.
    pub(crate) fn alter_topic(
        &self,
        name: &str,
        change: impl FnOnce(&mut TopicSettings) -> Result<()>,
    ) -> Result<Topic> {
        let _one_at_a_time = self.creating.lock();
        self.shared.health.check()?;
        let before = self.topic(name)?;
        let mut settings = before.settings().clone();
        change(&mut settings)?;
        settings.validate()?;
        if settings.partitions != before.partitions() {
            let reason = "a topic keeps its partitions: keys would move to others";
            return Err(Error::InvalidSetting { setting: "partitions", reason });
        }
        self.shared.reserve.require()?;
        let topic = before.with_settings(settings);
        if topic.settings().cleanup.compaction().is_some() {
            self.prepare_compaction(&before)?;
        }
        // Must be BEFORE it is used, or else a power cut could take back what somebody relies on.
        self.shared.health.guard(self.write_topics_with(&topic))?;
        let options = topic.settings().partition_options();
        let mut table = self.table.write();
        for partition in table.partitions.get(&topic.id()).into_iter().flatten() {
            partition.set_options(options);
        }
        table.topics.insert(topic.name().clone(), topic.clone());
        Ok(topic)
    }

    /// Must come BEFORE a topic is compacted, or else nobody could tell what was cleaned already from what
    /// was not.
    fn prepare_compaction(&self, topic: &Topic) -> Result<()> {
        let table = self.table.read();
        let partitions = table.partitions.get(&topic.id()).into_iter().flatten();
        partitions
            .filter(|partition| partition.damage().is_none())
            .try_for_each(|partition| partition.prepare_compaction())
    }

    fn write_topics_with(&self, topic: &Topic) -> Result<()> {
        let mut topics: BTreeMap<_, _> =
            self.topics().into_iter().map(|topic| (topic.name().clone(), topic)).collect();
        topics.insert(topic.name().clone(), topic.clone());
        directory::write_topics(self.shared.storage.as_ref(), &self.dir, topics.values())
    }

    /// A creation that did not finish leaves directories without records; anything else is not ours.
    fn clear_leftover(&self, topic: &Topic, partition: u32) -> Result<()> {
        let storage = self.shared.storage.as_ref();
        let place = place(&self.dir, topic, partition);
        if !storage.exists(&place.dir).map_err(|e| Error::io(&place.dir, "look for", e))? {
            return Ok(());
        }
        let names = storage.list(&place.dir).map_err(|e| Error::io(&place.dir, "list", e))?;
        let holds_nothing = |name: &String| -> Result<bool> {
            let path = place.dir.join(name);
            let len = storage.open_read_only(&path).and_then(|file| file.len());
            let len = len.map_err(|e| Error::io(&path, "read", e))?;
            Ok(len == 0 || first_files::is_made_first(storage, &place, name)?)
        };
        for name in &names {
            if !holds_nothing(name)? {
                return Err(Error::NotALog { path: place.dir, found: name.clone() });
            }
        }
        storage.remove_dir_all(&place.dir).map_err(|e| Error::io(&place.dir, "remove", e))
    }

    fn create_files(&self, topic: &Topic) -> Result<Vec<Arc<Partition>>> {
        let storage = self.shared.storage.as_ref();
        let mut partitions = Vec::new();
        for partition in 0..topic.partitions() {
            let request =
                OpenRequest { is_new: true, ..request(&self.dir, topic, partition, 0, false) };
            partitions.push(Arc::new(open_partition(&self.shared, request)?.partition));
        }
        storage.sync_dir(&self.dir).map_err(|e| Error::io(&self.dir, "sync", e))?;
        // Must be AFTER the directories are durable, or else a topic could be without partitions.
        self.write_topics_with(topic)?;
        Ok(partitions)
    }

    /// Waits until nobody writes any more, after a crash.
    pub(crate) fn quiesce(&self) {
        if let Ok(commits) = &self.commits {
            commits.quiesce();
        }
        for partition in self.partitions() {
            partition.quiesce();
        }
        drop(self.creating.lock());
    }

    /// Syncs everything, leaves the witnesses of a clean close, and takes no more writes.
    pub(crate) fn close(&self) -> Result<()> {
        self.shared.health.check()?;
        if let Ok(commits) = &self.commits {
            commits.abort_all(self)?;
        }
        let partitions = self.partitions();
        let healthy = partitions.iter().filter(|partition| partition.damage().is_none());
        let targets: Vec<_> = healthy.map(|p| (Arc::clone(p), p.log_end())).collect();
        sync_all(&targets, if self.settings.background { PARALLEL_SYNCS } else { 1 })?;
        let Ok(commits) = &self.commits else {
            // Whoever opens the log next must look at the damage again.
            self.shared.health.close();
            return Ok(());
        };
        commits.write_snapshot(self)?;
        for (partition, _) in &targets {
            partition.write_indexes()?;
        }
        // From here on nothing is written: the witnesses are final.
        self.shared.health.close();
        self.quiesce();
        // An append that came in between is not synced: then the next start must look at the tail.
        let is_synced = partitions.iter().all(|p| p.synced() == p.log_end());
        if partitions.len() == targets.len() && is_synced {
            let witnesses = targets.iter().map(|(p, _)| (p.id(), p.synced())).collect();
            let clean = CleanShutdown { commits_end: commits.synced(), witnesses };
            directory::write_clean(self.shared.storage.as_ref(), &self.dir, &clean)?;
        }
        Ok(())
    }
}

fn open_or_create(shared: &Shared, dir: &Path, boot_id: &str, create: bool) -> Result<LogId> {
    let storage = shared.storage.as_ref();
    if let Some(id) = directory::read_meta(storage, dir)? {
        return Ok(id);
    }
    if !create {
        return Err(Error::DirectoryMissing { path: dir.to_owned() });
    }
    let mut random = [0; 16];
    storage.random_bytes(&mut random).map_err(|e| Error::io(dir, "make an id for", e))?;
    let commits_dir = dir.join(COMMITS_DIR);
    storage.create_dir_all(&commits_dir).map_err(|e| Error::io(&commits_dir, "create", e))?;
    recovery::create(shared, &commits_dir, boot_id)?;
    directory::write_topics(storage, dir, std::iter::empty())?;
    // Must be last: from now on everything else has to be there.
    let id = LogId::from_random(random);
    directory::write_meta(storage, dir, id)?;
    Ok(id)
}

impl Table {
    fn new(topics: Vec<Topic>, partitions: Vec<Vec<Arc<Partition>>>) -> Self {
        let ids: Vec<TopicId> = topics.iter().map(Topic::id).collect();
        Self {
            topics: topics.into_iter().map(|topic| (topic.name().clone(), topic)).collect(),
            partitions: ids.into_iter().zip(partitions).collect(),
        }
    }

    fn report(&self, report: &mut RecoveryReport, decisions: Decisions) {
        let ended = |list: Vec<(TopicPartition, ProducerId)>| {
            let names = |(id, producer_id): (TopicPartition, ProducerId)| {
                let topic =
                    self.topics.values().find(|topic| topic.id() == id.topic)?.name().clone();
                Some(EndedTransaction { topic, partition: id.partition, producer_id })
            };
            list.into_iter().filter_map(names).collect()
        };
        report.commits_cut_bytes = decisions.repair.cut_bytes;
        report.commits_quarantine_path = decisions.repair.quarantine_path;
        report.markers_written = ended(decisions.committed);
        report.aborted = ended(decisions.aborted);
        report.rolled_back = decisions.rolled_back;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_nothing_has_no_lines() {
        assert!(RecoveryReport::default().is_clean());
    }
}
