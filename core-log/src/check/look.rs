//! Everything that there is in a log directory, read whole.
//!
//! Why one value: what is wrong with one file often shows in another, and report and plan must see the
//! same.
//!
//! Invariants
//! * Nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::commits::CommitsLook;
use super::partition::{self, PartitionLook};
use crate::commit::recovery;
use crate::config::{PARTITIONS_MAX, TopicSettings};
use crate::error::{Error, Result};
use crate::ids::{TopicId, TopicName};
use crate::log::directory::{self, COMMITS_DIR};
use crate::log::opening::Before;
use crate::log::report::RecoveryReport;
use crate::owner::Owned;
use crate::partition::topic_id::{self, Stored};
use crate::storage::Storage;
use crate::topic::Topic;

/// What a log directory holds.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) owned: Owned,
    /// Why the log's id cannot be read.
    pub(super) meta_lost: Option<String>,
    /// Why the list of topics cannot be read; then they are those that have directories.
    pub(super) topics_lost: Option<String>,
    pub(super) topics: Vec<Topic>,
    /// Those of them whose directories do not say which id they had.
    pub(super) with_new_id: Vec<TopicName>,
    pub(super) partitions: Vec<PartitionLook>,
    pub(super) commits: CommitsLook,
}

impl Look {
    pub(super) fn at(owned: Owned) -> Result<Self> {
        let (storage, dir) = (owned.storage.as_ref(), &*owned.dir);
        let meta = directory::read_meta(storage, dir);
        let meta_lost = lost(meta)?.err();
        let mut with_new_id = Vec::new();
        let (topics, topics_lost) = match lost(directory::read_topics(storage, dir))? {
            Ok(topics) => (topics, None),
            Err(reason) => (topics_of_directories(&owned, &mut with_new_id)?, Some(reason)),
        };
        let clean = directory::read_clean(storage, dir)?;
        let loaded = recovery::load(&owned.storage, &dir.join(COMMITS_DIR))?;
        let commits_end = clean.as_ref().map_or(0, |clean| clean.commits_end);
        let before = Before::of(&loaded, clean, &RecoveryReport::default());
        let mut partitions = Vec::new();
        for topic in &topics {
            for number in 0..topic.partitions() {
                let witness = before.witness(topic.partition(number));
                partitions.push(partition::look(storage, dir, topic, number, witness)?);
            }
        }
        let commits = CommitsLook::new(loaded, commits_end, &partitions);
        for look in &mut partitions {
            look.replay.decide(&look.segments, |id, epoch| commits.outcome(id, epoch));
        }
        Ok(Self { owned, meta_lost, topics_lost, topics, with_new_id, partitions, commits })
    }

    /// A file at the top of the directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.owned.dir.join(name)
    }
}

/// Damage is an outcome here: the inner error says what is wrong.
fn lost<T>(outcome: Result<T>) -> Result<Result<T, String>> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(Error::Damaged { reason, .. }) => Ok(Err(reason)),
        Err(error) => Err(error),
    }
}

/// The topics as far as their directories tell: names, ids and partitions. Their records are kept for
/// ever, until somebody says otherwise.
fn topics_of_directories(owned: &Owned, with_new_id: &mut Vec<TopicName>) -> Result<Vec<Topic>> {
    let (storage, dir) = (owned.storage.as_ref(), &*owned.dir);
    let mut partitions: BTreeMap<TopicName, u32> = BTreeMap::new();
    for entry in storage.list(dir).map_err(|e| Error::io(dir, "list", e))? {
        if entry == COMMITS_DIR || !partition::is_partition(storage, &dir.join(&entry)) {
            continue;
        }
        let Some((name, number)) = directory::parse_partition_dir(&entry) else { continue };
        if number < PARTITIONS_MAX {
            let count = partitions.entry(name).or_insert(0);
            *count = (*count).max(number + 1);
        }
    }
    let (mut topics, mut ids) = (Vec::new(), BTreeSet::new());
    for (name, partitions) in partitions {
        let settings = TopicSettings { partitions, retention_ms: None, ..TopicSettings::default() };
        let stored = stored_id(storage, dir, &name, partitions)?.filter(|id| !ids.contains(id));
        let id = if let Some(id) = stored {
            id
        } else {
            with_new_id.push(name.clone());
            let mut random = [0; 16];
            storage.random_bytes(&mut random).map_err(|e| Error::io(dir, "make an id for", e))?;
            TopicId::from_random(random)
        };
        ids.insert(id);
        topics.push(Topic::new(name, id, settings));
    }
    Ok(topics)
}

/// The id that most partitions of a topic say, the first ones where as many say another.
fn stored_id(
    storage: &dyn Storage,
    dir: &Path,
    name: &TopicName,
    partitions: u32,
) -> Result<Option<TopicId>> {
    let mut counts: Vec<(TopicId, usize)> = Vec::new();
    for partition in 0..partitions {
        let dir = directory::partition_dir(dir, name, partition);
        let Stored::Id(id) = topic_id::read(storage, &dir)? else { continue };
        match counts.iter_mut().find(|(known, _)| *known == id) {
            Some((_, count)) => *count += 1,
            None => counts.push((id, 1)),
        }
    }
    counts.reverse();
    Ok(counts.into_iter().max_by_key(|(_, count)| *count).map(|(id, _)| id))
}
