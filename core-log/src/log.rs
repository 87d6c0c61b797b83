//! The log: owns a directory, lives through crashes of its own, and hands out everything else.
//!
//! ```text
//!   Log (handles share it) --engine()--> one life: topics, partitions, commits
//!                              |
//!                              +-- a write or sync failed: wait until nobody writes, drop it,
//!                                  recover from the files, go on with the next life
//! ```
//!
//! Why lives: after a failed write nothing in memory can be trusted to say what is on the disk. What
//! was promised is on the disk; so the log reads it again.
//!
//! Invariants
//! * One process owns a directory, from `open` until the last handle is gone or `close`; a log that was
//!   closed, in order or not, never opens its files again.
//! * Producers and transactions belong to one life; readers do not.
//!
//! On crash: dropping all handles without `close` is what a killed process does.
//! Reference: design.md "The log" 4 and 8.

pub(crate) mod answerer;
pub(crate) mod directory;
pub(crate) mod engine;
pub(crate) mod jobs;
pub(crate) mod opening;
pub(crate) mod report;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::locks::{Mutex, RwLock};

pub use report::{
    AdoptedTopic, EndedTransaction, PartitionRecovery, RecoveryReport, UnrecordedCommit,
};

use crate::clock::Clock;
use crate::commit::OffsetCommit;
use crate::config::LogSettings;
use crate::error::{Error, Result};
use crate::ids::{GroupId, LogId, Offset, Timestamp, TopicId, TopicPartition};
use crate::maintenance::{self, Background, Beside};
use crate::members::Groups;
use crate::partition::changes::Changes;
use crate::partition::reserve::Reserve;
use crate::partition::{FetchBound, Fetched, Partition, PartitionOffsets, Shared};
use crate::storage::{LockGuard, Storage};
use answerer::Answerer;
use engine::Engine;
use jobs::Jobs;

/// An open log. Cheap to clone; all clones are the same log.
///
/// ```
/// use core_log::{BatchBuilder, Durability, FetchBound, Log, PartitionReader, TopicSettings};
///
/// let dir = tempfile::tempdir()?;
/// let log = Log::open(dir.path())?;
/// let clicks = log.create_topic("clicks", TopicSettings::with_partitions(2))?;
/// let mut producer = log.producer(Durability::Sync)?;
/// let mut batch = BatchBuilder::new();
/// batch.push(0, Some(b"user"), Some(b"page"), core_log::NO_HEADERS)?;
/// producer.append(&clicks, 0, &mut batch)?;
///
/// let mut reader = PartitionReader::new(log.clone(), &clicks, 0, 0, FetchBound::LastStable);
/// let batch = reader.next_batch(1 << 20)?.expect("one batch was written");
/// let values: Vec<_> = batch.records().map(|r| r.map(|r| r.value)).collect::<Result<_, _>>()?;
/// assert_eq!(values, [Some(&b"page"[..])]);
/// log.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Log {
    pub(crate) inner: Arc<Inner>,
}

/// What the handles share.
#[derive(Debug)]
pub(crate) struct Inner {
    dir: Arc<Path>,
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    changes: Arc<Changes>,
    settings: LogSettings,
    engine: RwLock<Arc<Engine>>,
    /// Set under the lock of `engine`: from then on no life follows this one.
    is_closed: AtomicBool,
    lock: Mutex<Option<Lock>>,
    background: Mutex<Option<Background>>,
    answerer: Arc<Answerer>,
    groups: Groups,
    jobs: Jobs,
}

struct Lock {
    _guard: LockGuard,
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lock")
    }
}

impl Inner {
    pub(crate) fn new(
        dir: Arc<Path>,
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        settings: LogSettings,
        guard: LockGuard,
    ) -> Result<Self> {
        let bytes = settings.reserve_bytes.unwrap_or(0);
        let reserve = Arc::new(Reserve::new(&storage, dir.join(directory::RESERVE), bytes));
        let shared = Shared {
            storage,
            clock,
            health: Arc::default(),
            changes: Arc::default(),
            has_intervals: Arc::default(),
            reserve,
        };
        let engine = open_engine(&shared, &dir, settings)?;
        if let Err(error) = shared.reserve.require() {
            tracing::warn!(%error, "no room is kept for a full disk: the log can only be read");
        }
        let Shared { storage, clock, changes, .. } = shared;
        Ok(Self {
            dir,
            storage,
            clock,
            changes,
            settings,
            engine: RwLock::new(Arc::new(engine)),
            is_closed: AtomicBool::new(false),
            lock: Mutex::new(Some(Lock { _guard: guard })),
            background: Mutex::new(None),
            answerer: Arc::default(),
            groups: Groups::default(),
            jobs: Jobs::default(),
        })
    }

    /// The life that runs; after a crash of the log, the next one.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`]; whatever keeps the log from reopening.
    pub(crate) fn engine(&self) -> Result<Arc<Engine>> {
        let engine = Arc::clone(&self.engine.read());
        if !engine.shared.health.is_down() {
            return Ok(engine);
        }
        if !engine.shared.health.has_crashed() {
            return Err(Error::Closed);
        }
        self.reopen()
    }

    fn reopen(&self) -> Result<Arc<Engine>> {
        let mut current = self.engine.write();
        if self.is_closed.load(Ordering::Acquire) {
            // The directory may be another owner's by now.
            return Err(Error::Closed);
        }
        if !current.shared.health.has_crashed() {
            current.shared.health.check()?;
            return Ok(Arc::clone(&current));
        }
        // Must be BEFORE anything is read: nobody may write to files that are being recovered.
        current.quiesce();
        if current.shared.health.was_full() {
            current.shared.reserve.give_up()?;
        }
        let next = Arc::new(open_engine(&current.shared, &self.dir, self.settings)?);
        tracing::warn!(report = %next.report(), "the log reopened after a crash");
        *current = Arc::clone(&next);
        drop(current);
        self.changes.notify();
        Ok(next)
    }

    /// Whether the life that ran last has crashed, and none follows it yet.
    pub(crate) fn has_crashed(&self) -> bool {
        self.engine.read().shared.health.has_crashed()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(crate) fn settings(&self) -> &LogSettings {
        &self.settings
    }

    /// What answers questions that are not about the log.
    pub(crate) fn answerer(&self) -> &Arc<Answerer> {
        &self.answerer
    }

    /// The consumer groups.
    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Work that nobody waits for.
    pub(crate) fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// What waiting readers wait for.
    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Removes silent members of groups, and wakes who asked to be woken.
    pub(crate) fn wake_groups(&self) {
        if self.groups.expire(self.clock.monotonic()) {
            self.changes.notify();
        }
    }

    /// Starts the maintenance thread; what is passed in runs beside it and ends with it.
    pub(crate) fn run_in_background(self: &Arc<Self>, beside: impl Iterator<Item = Beside>) {
        let background = maintenance::start(self, beside.collect());
        *self.background.lock() = Some(background);
    }

    /// Retention, interval syncs and time-outs, once.
    pub(crate) fn maintain(&self, now: Timestamp) -> Result<()> {
        self.wake_groups();
        let engine = self.engine()?;
        maintenance::run(&engine, self.settings.transaction_timeout, now)
    }
}

/// Opens the next life of a log. On a full disk the reserve is given up for that: what was committed can
/// be read, and nothing is written until there is room again.
fn open_engine(shared: &Shared, dir: &Arc<Path>, settings: LogSettings) -> Result<Engine> {
    let open = || {
        let (health, has_intervals) = (Arc::default(), Arc::default());
        let shared = Shared { health, has_intervals, ..shared.clone() };
        Engine::open(shared, Arc::clone(dir), settings)
    };
    match open() {
        Err(full @ Error::DiskFull { .. }) => {
            if !shared.reserve.give_up()? {
                return Err(full);
            }
            tracing::warn!(%full, "the disk is full: the reserve is given up");
            open()
        }
        outcome => outcome,
    }
}

impl Log {
    /// The log's id: it stays when the directory is moved.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.inner.engine.read().id()
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.inner.dir()
    }

    /// What the last recovery found and did: the one at start, or the one after a crash of the log.
    #[must_use]
    pub fn recovery(&self) -> RecoveryReport {
        self.inner.engine.read().report().clone()
    }

    /// The committed positions of a group, by topic id and partition.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`]: the commit records are.
    pub fn committed(&self, group: &GroupId) -> Result<Vec<OffsetCommit>> {
        Ok(self.inner.engine()?.commits()?.committed(group))
    }

    fn partition(&self, topic: TopicId, partition: u32) -> Result<Arc<Partition>> {
        self.inner.engine()?.require(TopicPartition { topic, partition })
    }

    /// Whole batches from the one that contains `offset` on, at least one, about `max_bytes`, none at
    /// or beyond the bound. They may begin below `offset` and hold aborted records: most callers want
    /// a [`PartitionReader`](crate::PartitionReader).
    ///
    /// # Errors
    ///
    /// * [`Error::OffsetOutOfRange`]: below the log start or beyond the log end.
    /// * [`Error::UnknownPartition`], [`Error::Damaged`].
    pub fn fetch(
        &self,
        topic: TopicId,
        partition: u32,
        offset: Offset,
        max_bytes: usize,
        bound: FetchBound,
    ) -> Result<Fetched> {
        self.partition(topic, partition)?.fetch(offset, max_bytes, bound)
    }

    /// The positions of a partition.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPartition`].
    pub fn offsets(&self, topic: TopicId, partition: u32) -> Result<PartitionOffsets> {
        Ok(self.partition(topic, partition)?.offsets())
    }

    /// The leader epoch in which the record just before `offset` was written; `None` when that record
    /// is not in the log. A position that is remembered with it can be checked later.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPartition`].
    pub fn leader_epoch_at(
        &self,
        topic: TopicId,
        partition: u32,
        offset: Offset,
    ) -> Result<Option<i32>> {
        Ok(self.partition(topic, partition)?.leader_epoch_at(offset))
    }

    /// Offset and timestamp of the first record whose timestamp is at or behind `timestamp`.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPartition`], [`Error::Damaged`].
    pub fn offset_for_time(
        &self,
        topic: TopicId,
        partition: u32,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>> {
        self.partition(topic, partition)?.offset_for_time(timestamp)
    }

    /// A counter that moves whenever something becomes readable.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.inner.changes.seen()
    }

    /// Waits until [`changes`](Self::changes) differs from `seen`, at most `timeout`; answers it. Read
    /// the counter first, then the log, then wait: no wake-up is lost. It may return early.
    pub fn wait_for_change(&self, seen: u64, timeout: Duration) -> u64 {
        self.inner.changes.wait(seen, timeout)
    }

    /// Runs retention at `now`, the syncs of intervals that have ended, and time-outs, once. The
    /// background thread calls this; a log without one is maintained by its owner.
    ///
    /// # Errors
    ///
    /// [`Error::LogCrashed`] and what the disk says.
    pub fn maintain(&self, now: Timestamp) -> Result<()> {
        self.inner.maintain(now)
    }

    /// Closes the log: open transactions are aborted, everything is synced, and the next start finds
    /// nothing to recover. Closing twice is no error. A log that is dropped without this recovers at
    /// the next start as after a kill.
    ///
    /// # Errors
    ///
    /// [`Error::LogCrashed`] and what the disk says: nothing is lost, the next start recovers.
    pub fn close(&self) -> Result<()> {
        let background = self.inner.background.lock().take();
        drop(background);
        self.inner.answerer.set(None);
        let mut lock = self.inner.lock.lock();
        if lock.is_none() {
            return Ok(());
        }
        let engine = {
            let current = self.inner.engine.write();
            self.inner.is_closed.store(true, Ordering::Release);
            Arc::clone(&current)
        };
        let outcome = engine.close();
        engine.shared.health.close();
        // Must be BEFORE the directory is let go, or else a write could land in another owner's files.
        engine.quiesce();
        *lock = None;
        self.inner.changes.notify();
        outcome
    }
}
