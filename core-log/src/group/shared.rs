//! Records that are shared one by one: each goes to one consumer, and comes again until somebody is done
//! with it.
//!
//! ```text
//!   poll --> records, held for `lock_duration` --acknowledge--> said --commit--> done, and durable
//!              |                                   release  --> free for others
//!              +-- no word in time, or dropped ---------------> free for others, up to `delivery_limit`
//! ```
//!
//! Why beside groups that share partitions: more consumers than partitions, and one slow record holds up
//! nothing behind it. The price is the order, which is lost.
//!
//! Invariants
//! * A record that is committed as done is never handed out again, whatever crashes.
//! * All others are: at least once. After a start deliveries count from none.
//! * An error of one partition comes only when no other has records, and again at the next poll: what was
//!   taken would else be held, and at last given up, without ever having been handed out.
//! * A `Sync` commit has synced all records that it calls done. What takes the offset of a record that a
//!   power cut took is not done: its leader epoch is a later one than that of the commit.
//! * Windows are committed one after the other, each with all that was said before: a later record of the
//!   commits never takes something back.
//!
//! On crash: records that were held, or said but not committed, come again.
//! Reference: KIP-932; it is not: renewal of locks, dead-letter topics, implicit acknowledgement.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::held::{Shared, SharedRecord, SharedSettings};
use super::lane::Lane;
use super::polled::{PolledBatch, PolledRecord};
use crate::commit::{OffsetCommit, sync_all};
use crate::config::Durability;
use crate::consumer::PartitionReader;
use crate::error::{Error, GroupError, Result};
use crate::ids::{Offset, TopicName, TopicPartition};
use crate::log::Log;
use crate::log::engine::Engine;
use crate::members::share::{HolderId, Limits, Window};
use crate::members::{Acknowledge, GroupState, PartitionName};
use crate::partition::Partition;
use crate::topic::Topic;

/// What the two kinds of members do, for errors.
pub(super) const SHARE_RECORDS: &str = "consumers that share records";
pub(super) const SHARE_PARTITIONS: &str = "consumers that share partitions";

/// A partition, and up to where it must be on the disk.
type Synced = (Arc<Partition>, Offset);

/// About how much is read at a time to find a record that is free.
const READ_BYTES: usize = 256 << 10;

/// Takes records that nobody else has; see [`Group::shared`](super::Group::shared).
///
/// ```
/// use std::time::Duration;
/// use core_log::{
///     Acknowledge, BatchBuilder, Durability, Log, NO_HEADERS, OffsetReset, SharedSettings,
///     TopicSettings,
/// };
///
/// let dir = tempfile::tempdir()?;
/// let log = Log::open(dir.path())?;
/// let jobs = log.create_topic("jobs", TopicSettings::default())?;
/// let mut batch = BatchBuilder::new();
/// batch.push(0, None, Some(b"resize 1.png"), NO_HEADERS)?;
/// batch.push(0, None, Some(b"resize 2.png"), NO_HEADERS)?;
/// log.producer(Durability::Sync)?.append(&jobs, 0, &mut batch)?;
///
/// let one = SharedSettings {
///     auto_offset_reset: OffsetReset::Earliest,
///     max_poll_records: 1,
///     ..SharedSettings::default()
/// };
/// let group = log.group("resizers")?;
/// let (mut a, mut b) = (group.shared(&["jobs"], one.clone())?, group.shared(&["jobs"], one)?);
/// let (of_a, of_b) = (a.poll(Duration::ZERO)?, b.poll(Duration::ZERO)?);
/// for shared in of_b.records() {
///     let shared = shared?;
///     assert_eq!((shared.record.offset, shared.deliveries), (1, 1));
///     b.acknowledge(&shared, Acknowledge::Accept);
/// }
/// b.commit()?;
/// assert_eq!(of_a.count(), 1);
/// drop(a); // What it did not acknowledge is free again.
/// let again = b.poll(Duration::ZERO)?;
/// assert_eq!(again.records().next().expect("it comes again")?.deliveries, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SharedConsumer {
    log: Log,
    group: Arc<GroupState>,
    holder: HolderId,
    settings: SharedSettings,
    topics: BTreeMap<TopicName, Topic>,
    readers: BTreeMap<PartitionName, PartitionReader<Log>>,
    said: Vec<(PartitionName, Offset, Acknowledge)>,
    /// The partition at which the next poll begins.
    turn: usize,
}

impl SharedConsumer {
    pub(super) fn new<T: AsRef<str>>(
        log: Log,
        group: Arc<GroupState>,
        topics: &[T],
        settings: SharedSettings,
    ) -> Result<Self> {
        let topic = |name: &T| {
            let topic = log.topic(name.as_ref())?;
            Ok((topic.name().clone(), topic))
        };
        let topics = topics.iter().map(topic).collect::<Result<BTreeMap<_, _>>>()?;
        let holder = {
            let membership = group.membership.lock();
            if membership.count() > 0 {
                let (group, inside) = (group.id.clone(), SHARE_PARTITIONS);
                return Err(GroupError::OtherKind { group, inside, outside: SHARE_RECORDS }.into());
            }
            let mut shares = group.shares.lock();
            shares.joined += 1;
            shares.count += 1;
            HolderId(shares.joined)
        };
        let bound = settings.isolation_level.bound();
        let mut readers = BTreeMap::new();
        for topic in topics.values() {
            for partition in 0..topic.partitions() {
                let name = PartitionName { topic: topic.name().clone(), partition };
                let reader = PartitionReader::new(log.clone(), topic, partition, 0, bound);
                readers.insert(name, reader);
            }
        }
        // From here on it leaves when it is dropped.
        let consumer =
            Self { log, group, holder, settings, topics, readers, said: Vec::new(), turn: 0 };
        consumer.open_windows()?;
        Ok(consumer)
    }

    /// Windows that nobody has opened yet. A start that was chosen is committed, or else a crash could
    /// choose another one, behind records that were handed out.
    fn open_windows(&self) -> Result<()> {
        let committed: BTreeMap<TopicPartition, OffsetCommit> = self
            .log
            .committed(&self.group.id)?
            .into_iter()
            .map(|commit| (commit.topic_partition(), commit))
            .collect();
        let mut opened = Vec::new();
        for name in self.readers.keys() {
            let id = self.id(name);
            let window = match committed.get(&id) {
                Some(commit) => self.window_of(commit)?,
                None => {
                    let bound = self.settings.isolation_level.bound();
                    let topic = &self.topics[&name.topic];
                    let mut lane = Lane::new(&self.log, topic, name.partition, bound, None);
                    let start = lane.resolve(self.settings.auto_offset_reset)?;
                    let mut window = Window::from_committed(start, b"");
                    window.is_dirty = true;
                    window
                }
            };
            opened.push((name.clone(), window));
        }
        let mut shares = self.group.shares.lock();
        for (name, window) in opened {
            shares.windows.entry(name).or_insert(window);
        }
        shares.version += 1;
        drop(shares);
        self.commit_windows()
    }

    /// The window that was committed, less what a power cut took of it.
    fn window_of(&self, commit: &OffsetCommit) -> Result<Window> {
        let mut window = Window::from_committed(commit.offset, &commit.metadata);
        let mut lost = BTreeSet::new();
        for offset in window.done().filter(|_| commit.leader_epoch >= 0) {
            let epoch = self.log.leader_epoch_at(commit.topic, commit.partition, offset + 1)?;
            if epoch.is_none_or(|epoch| epoch > commit.leader_epoch) {
                lost.insert(offset);
            }
        }
        window.forget(&lost);
        Ok(window)
    }

    fn id(&self, name: &PartitionName) -> TopicPartition {
        let topic = self.topics.get(&name.topic).expect("readers are made of its topics");
        topic.partition(name.partition)
    }

    fn now(&self) -> Duration {
        self.log.inner.clock().monotonic()
    }

    /// Records that nobody holds, as soon as there are any; none when `timeout` has passed. They are held
    /// until they are acknowledged and committed, or `lock_duration` has passed.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`], [`Error::Decode`]: of one partition, when no other has records.
    /// [`Error::LogCrashed`], [`Error::Closed`].
    pub fn poll(&mut self, timeout: Duration) -> Result<Shared> {
        let deadline = self.now().saturating_add(timeout);
        loop {
            let seen = self.log.changes();
            let shared = self.take()?;
            let now = self.now();
            let left = deadline.saturating_sub(now);
            if left.is_zero() || !shared.is_empty() {
                return Ok(shared);
            }
            let ends = self.first_end().map(|end| end.saturating_sub(now));
            let wait = ends.map_or(left, |end| end.max(Duration::from_millis(1)).min(left));
            if self.log.wait_for_change(seen, wait) == seen && wait == left {
                return Ok(shared);
            }
        }
    }

    fn first_end(&self) -> Option<Duration> {
        let shares = self.group.shares.lock();
        shares.windows.values().filter_map(Window::first_end).min()
    }

    /// One look at every partition.
    fn take(&mut self) -> Result<Shared> {
        self.free_expired();
        let names: Vec<_> = self.readers.keys().cloned().collect();
        let mut shared = Shared::default();
        let mut left = self.settings.max_poll_records.max(1);
        let mut failed = None;
        let first = self.turn;
        for n in (first..first + names.len()).map(|n| n % names.len()) {
            while left > 0 {
                let before = left;
                match self.take_batch(&names[n], &mut left, &mut shared) {
                    Ok(true) if left < before => self.turn = (n + 1) % names.len(),
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        failed.get_or_insert(error);
                        break;
                    }
                }
            }
            if left == 0 {
                break;
            }
        }
        match failed {
            Some(error) if shared.is_empty() => Err(error),
            _ => Ok(shared),
        }
    }

    /// Takes what is free of one batch; false: there is nothing more to look at.
    fn take_batch(
        &mut self,
        name: &PartitionName,
        left: &mut usize,
        shared: &mut Shared,
    ) -> Result<bool> {
        let (limits, now, holder) = (self.settings.limits(), self.now(), self.holder);
        let (group, id) = (Arc::clone(&self.group), self.id(name));
        let with = |work: &mut dyn FnMut(&mut Window)| {
            if let Some(window) = group.shares.lock().windows.get_mut(name) {
                work(window);
            }
        };
        let mut from = None;
        with(&mut |window| from = window.first_free(&limits));
        let (Some(from), Some(reader)) = (from, self.readers.get_mut(name)) else {
            return Ok(false);
        };
        if reader.position() != from {
            reader.seek(from);
        }
        let batch = match reader.next_batch(READ_BYTES) {
            Ok(Some(batch)) => batch,
            Ok(None) => {
                let end = reader.position();
                // Whatever was to be found before it is not there any more.
                with(&mut |window| drop(window.claim(from..end, &[], holder, now, (0, &limits))));
                return Ok(false);
            }
            Err(Error::OffsetOutOfRange { .. }) => {
                let offsets = self.log.offsets(id.topic, id.partition)?;
                tracing::warn!(%name, from, ?offsets, "shared records are gone: retention, or a cut");
                with(&mut |window| window.clip(offsets.log_start_offset, offsets.log_end_offset));
                return Ok(true);
            }
            Err(other) => return Err(other),
        };
        let mut offsets = Vec::new();
        for record in batch.records() {
            match record {
                Ok(record) => offsets.push(record.offset),
                Err(bad) => {
                    reader.seek(from);
                    return Err(bad.into());
                }
            }
        }
        let next_offset = batch.header().next_offset();
        let mut claimed = Vec::new();
        with(&mut |window| {
            let read = from..next_offset;
            claimed = window.claim(read, &offsets, holder, now, (*left, &limits));
        });
        if claimed.is_empty() {
            return Ok(true);
        }
        *left -= claimed.len().min(*left);
        let count = claimed.len();
        let batch = PolledBatch { name: name.clone(), batch, next_offset, count };
        shared.batches.push((batch, claimed.into_iter().collect()));
        Ok(true)
    }

    /// Locks that have ended; what was delivered too often is given up.
    fn free_expired(&self) {
        let now = self.now();
        let freed = self.in_all_windows(|window, limits| window.expire(now, limits));
        if freed {
            self.log.inner.changes().notify();
        }
    }

    /// Does something in all windows that frees records; answers whether it did.
    fn in_all_windows(&self, work: impl Fn(&mut Window, &Limits) -> (usize, Vec<Offset>)) -> bool {
        let limits = self.settings.limits();
        let mut shares = self.group.shares.lock();
        let mut has_freed = false;
        for (name, window) in &mut shares.windows {
            let (freed, given_up) = work(window, &limits);
            has_freed |= freed > 0;
            for offset in given_up {
                let group = &self.group.id;
                tracing::warn!(%group, %name, offset, "a record was delivered too often and is given up");
            }
        }
        has_freed
    }

    /// Says what became of a record; it counts from the next [`commit`](Self::commit) on.
    pub fn acknowledge(&mut self, shared: &SharedRecord<'_>, what: Acknowledge) {
        let PolledRecord { topic, partition, offset, .. } = shared.record;
        let name = PartitionName { topic: topic.clone(), partition };
        self.said.push((name, offset, what));
    }

    /// Commits what was said: what is done is done for ever, and what is released is free. Waits until that
    /// is as durable as the settings promise.
    ///
    /// # Errors
    ///
    /// * [`GroupError::NotHeld`]: the lock of a record had ended; all others are committed. That record may
    ///   have been, or will be, delivered to somebody else.
    /// * [`Error::LogCrashed`] and what the disk says: recovery decides; commit again.
    pub fn commit(&mut self) -> Result<()> {
        let now = self.now();
        let mut lost = None;
        {
            let mut shares = self.group.shares.lock();
            for (name, offset, what) in self.said.drain(..) {
                let window = shares.windows.get_mut(&name);
                let is_held = window.is_some_and(|w| w.acknowledge(offset, self.holder, now, what));
                if !is_held {
                    let PartitionName { topic, partition } = name;
                    lost.get_or_insert(GroupError::NotHeld { topic, partition, offset });
                }
            }
            shares.version += 1;
        }
        self.in_all_windows(|window, limits| (0, window.give_up(limits)));
        // What was released can be taken.
        self.log.inner.changes().notify();
        self.commit_windows()?;
        lost.map_or(Ok(()), |lost| Err(lost.into()))
    }

    /// Commits all windows in which something is done; others may have done it meanwhile.
    fn commit_windows(&self) -> Result<()> {
        let wanted = self.group.shares.lock().version;
        let mut committed = self.group.shares_committed.lock();
        if *committed >= wanted {
            return Ok(());
        }
        let engine = self.log.inner.engine()?;
        let (version, commits, done) = self.snapshot(&engine)?;
        let promise = self.settings.durability.promise();
        let synced = match self.settings.durability {
            Durability::Sync => sync_all(&done, 1),
            Durability::Interval(_) | Durability::Os => Ok(()),
        };
        let outcome = synced.and_then(|()| engine.commits()).and_then(|known| {
            known.commit_offsets(engine.as_ref(), &self.group.id, promise, &commits)
        });
        if let Err(error) = outcome {
            // It may not be there: the next commit says it all again.
            let mut shares = self.group.shares.lock();
            shares.windows.values_mut().for_each(|window| window.is_dirty = true);
            return Err(error);
        }
        *committed = version;
        Ok(())
    }

    /// What is done, in all windows where that has changed, and up to where their partitions must be synced.
    fn snapshot(&self, engine: &Engine) -> Result<(u64, Vec<OffsetCommit>, Vec<Synced>)> {
        let topics: BTreeMap<_, _> =
            self.log.topics()?.into_iter().map(|topic| (topic.name().clone(), topic)).collect();
        let mut shares = self.group.shares.lock();
        let (mut commits, mut done) = (Vec::new(), Vec::new());
        for (name, window) in &mut shares.windows {
            let Some(topic) = topics.get(&name.topic).filter(|_| window.is_dirty) else { continue };
            let target = engine.require(topic.partition(name.partition))?;
            let leader_epoch = target.offsets().leader_epoch;
            window.is_dirty = false;
            done.push((target, window.done_end()));
            let (offset, metadata) = window.to_committed();
            let TopicPartition { topic, partition } = topic.partition(name.partition);
            let (group, metadata) = (self.group.id.clone(), Bytes::from(metadata));
            let commit = OffsetCommit { group, topic, partition, offset, leader_epoch, metadata };
            commits.push(commit);
        }
        Ok((shares.version, commits, done))
    }
}

impl Drop for SharedConsumer {
    fn drop(&mut self) {
        let holder = self.holder;
        self.in_all_windows(|window, limits| window.free_of(holder, limits));
        let mut shares = self.group.shares.lock();
        shares.count = shares.count.saturating_sub(1);
        if shares.count == 0 {
            // Who comes next begins at what is committed.
            shares.windows.clear();
        }
        drop(shares);
        self.log.inner.changes().notify();
    }
}
