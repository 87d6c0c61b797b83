//! A log of its own for a job that runs again: made where there is none, given up as a whole.
//!
//! Why `Os`: what is in it can be made again. A killed replay goes on where its last commit says; power
//! loss costs at most that replay, and never a record of the live log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use core_log::storage::LockGuard;
use core_log::storage::Storage;
use core_log::storage::disk::DiskStorage;
use core_log::{Clock, Log, LogOptions, SystemClock, TopicSettings};

use super::embedded::topic_ref;
use super::{Durability, EmbeddedBroker, TopicRef};
use crate::error::{Error, Result};

/// The file that the owner of a log has locked.
pub(crate) const LOCK: &str = ".lock";
/// How long to wait for whoever only looks at the directory.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
const LOCK_RETRY: Duration = Duration::from_millis(5);
/// A transaction lasts as long as the commit interval says; beyond that and this it hangs.
const TRANSACTION_PATIENCE: Duration = Duration::from_secs(60);

/// Keeps everybody else out of a directory until it is dropped.
pub(crate) struct Held(#[expect(dead_code, reason = "it is held, not used")] LockGuard);

/// Takes a directory's lock without opening a log in it; `None` when somebody else has it.
///
/// # Errors
///
/// The lock's file cannot be made.
pub(crate) fn hold(dir: &Path) -> Result<Option<Held>> {
    let storage = DiskStorage::new();
    let mut waited = Duration::ZERO;
    loop {
        let path = dir.join(LOCK);
        let taken = storage.lock(&path).map_err(|source| Error::Unreadable { path, source })?;
        if let Some(guard) = taken {
            return Ok(Some(Held(guard)));
        }
        if waited >= LOCK_PATIENCE {
            return Ok(None);
        }
        // A lock of the file system can be waited for for ever or not at all, so it is asked again.
        std::thread::park_timeout(LOCK_RETRY);
        waited += LOCK_RETRY;
    }
}

/// The scratch log of a replay.
pub(crate) struct ScratchLog {
    pub(super) log: Log,
    pub(super) broker: EmbeddedBroker,
    event_time_ahead_max_ms: i64,
}

impl ScratchLog {
    /// Opens the log in `dir`, or makes it.
    ///
    /// # Errors
    ///
    /// S006: another process has it open; what the disk says.
    pub(crate) fn open(
        dir: &Path,
        event_time_ahead_max_ms: i64,
        commit_every: Duration,
    ) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let options = LogOptions::new().clock(Arc::clone(&clock)).lock_timeout(LOCK_PATIENCE);
        let timeout = commit_every.saturating_add(TRANSACTION_PATIENCE);
        let log = options.transaction_timeout(timeout).open(dir)?;
        let ahead = event_time_ahead_max_ms;
        let broker = EmbeddedBroker::new(log.clone(), clock, Durability::Os, ahead);
        Ok(Self { log, broker, event_time_ahead_max_ms })
    }

    /// Whether it holds no topic.
    ///
    /// # Errors
    ///
    /// The log's own.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        Ok(self.log.topics()?.is_empty())
    }

    /// Makes a topic for results. However old their event times are, they are kept: a replay of last
    /// month is not to be cleared away before anybody has looked at it.
    pub(super) fn create_output(&self, name: &str, partitions: u32) -> Result<TopicRef> {
        let settings = TopicSettings {
            partitions,
            retention_ms: None,
            timestamp_after_max_ms: self.event_time_ahead_max_ms,
            ..TopicSettings::default()
        };
        Ok(topic_ref(&self.log.create_topic(name, settings)?))
    }

    /// Makes a topic that only positions are committed against, unless it is there.
    pub(super) fn placeholder(&self, name: &str, partitions: u32) -> Result<TopicRef> {
        if let Ok(topic) = self.log.topic(name) {
            return Ok(topic_ref(&topic));
        }
        let settings = TopicSettings::with_partitions(partitions);
        Ok(topic_ref(&self.log.create_topic(name, settings)?))
    }
}
