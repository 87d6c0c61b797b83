//! Everything that there is in a log directory, read whole.
//!
//! Why one value: what is wrong with one file often shows in another, and report and plan must see the
//! same.
//!
//! Invariants
//! * Nothing is changed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::commits::CommitsLook;
use super::partition::{self, PartitionLook};
use crate::commit::recovery;
use crate::config::TopicSettings;
use crate::error::{Error, Result};
use crate::ids::{TopicId, TopicName};
use crate::log::directory::{self, COMMITS_DIR};
use crate::log::opening::Before;
use crate::log::report::RecoveryReport;
use crate::owner::Owned;
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
    pub(super) partitions: Vec<PartitionLook>,
    pub(super) commits: CommitsLook,
}

impl Look {
    pub(super) fn at(owned: Owned) -> Result<Self> {
        let (storage, dir) = (owned.storage.as_ref(), &*owned.dir);
        let meta = directory::read_meta(storage, dir);
        let meta_lost = lost(meta)?.err();
        let (topics, topics_lost) = match lost(directory::read_topics(storage, dir))? {
            Ok(topics) => (topics, None),
            Err(reason) => (topics_of_directories(&owned)?, Some(reason)),
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
        Ok(Self { owned, meta_lost, topics_lost, topics, partitions, commits })
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

/// The topics as far as their directories tell: names and partitions. Their records are kept for ever,
/// until somebody says otherwise.
fn topics_of_directories(owned: &Owned) -> Result<Vec<Topic>> {
    let (storage, dir) = (owned.storage.as_ref(), &*owned.dir);
    let mut partitions: BTreeMap<TopicName, u32> = BTreeMap::new();
    for entry in storage.list(dir).map_err(|e| Error::io(dir, "list", e))? {
        if entry == COMMITS_DIR || !partition::is_partition(storage, &dir.join(&entry)) {
            continue;
        }
        let Some((name, number)) = entry.rsplit_once('-') else { continue };
        let (Ok(name), Ok(number)) = (TopicName::new(name), number.parse::<u32>()) else {
            continue;
        };
        let count = partitions.entry(name).or_insert(0);
        *count = (*count).max(number.saturating_add(1));
    }
    let mut topics = Vec::new();
    for (name, partitions) in partitions {
        let mut random = [0; 16];
        storage.random_bytes(&mut random).map_err(|e| Error::io(dir, "make an id for", e))?;
        let settings = TopicSettings { partitions, retention_ms: None, ..TopicSettings::default() };
        if settings.validate().is_ok() {
            topics.push(Topic::new(name, TopicId::from_random(random), settings));
        }
    }
    Ok(topics)
}
