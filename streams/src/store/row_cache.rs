//! Rows of one store partition behind the running transaction: undecided, not yet on disk, or clean.
//!
//! Why: a commit must not wait for RocksDB, and RocksDB must never see a row whose commit is not
//! decided. So committed rows wait here, and go down in large batches beside the work; and rows whose
//! commit is on its way lie among them, where the next transaction finds them.
//!
//! ```text
//!   prepare() -> dirty, and in `undecided` what was there before
//!                  |  decided(): that is forgotten; a flush or a question before: it is put back meanwhile
//!                  v
//!   commit() --> dirty ------ step() starts a flush ------> flushing ---- done ----> clean
//!                  ^                                           |                       ^
//!                  +---------------- failed -------------------+        get() ---------+
//!                                                              |                       |
//!                                                              v                       |
//!                                    ByteStore: rows as of commit N + checkpoint N ----+
//!   get:   dirty -> flushing -> clean -> store
//!   scan:  dirty over flushing over store
//! ```
//!
//! Why undecided rows lie among the dirty ones: nearly all transactions commit, and a row is then put
//! into one table, once. Those that do not are dropped with everything here.
//!
//! Invariants
//! * a flush is one atomic write: the rows as of commit N and the checkpoint of commit N. A row that
//!   a later commit changes is dirty again, beside its older self in the flush.
//! * one flush at a time; it ends before the cache is cleared, flushed out or dropped, or else an
//!   older row could win over a newer one.
//! * what is not decided is never flushed and never told, so an abort drops all of this.
//! * there is one undecided transaction at most.
//! * `dirty` holds less than twice its limits plus one commit: beyond that, step() waits.
//!
//! On crash: everything here is gone; the changelog behind the store's checkpoint has it.
//! Reference: Kafka Streams `ThreadCache`, `CachingKeyValueStore`; KIP-892 for the order.

use std::fmt;
use std::mem;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::clean::CleanRows;
use super::flusher::{FlushJob, Flushed, Flusher, Ticket};
use super::layout::{Checkpoint, partition_range, store_key};
use super::level::{Level, Tag, Undo};
use super::{ByteStore, StoreError, checkpoint};
use crate::ids::StoreName;

mod options;
mod scan;

pub(crate) use options::{BrokenFlush, CacheOptions};

/// How large a buffer is that copied rows share.
const CHUNK_BYTES: usize = 32 * 1024;

/// Rows that wait for a flush, since when, and the checkpoint of the last commit among them.
#[derive(Default)]
struct Dirty {
    level: Level,
    reached: Option<Reached>,
}

#[derive(Clone, Copy)]
struct Reached {
    checkpoint: Checkpoint,
    /// When the first of these rows was committed.
    since_ms: i64,
}

struct Flushing {
    level: Arc<Level>,
    reached: Reached,
    ticket: Ticket,
}

/// One store partition of one task.
///
/// Keys are those of [`super::layout`] from the kind on: the cache adds the partition. A `Bytes`
/// that is a slice of a larger buffer keeps all of that buffer alive, and is counted by its own
/// length: [`prepare_copy`](Self::prepare_copy) makes such, of buffers of `CHUNK_BYTES`.
pub(crate) struct RowCache {
    store: Arc<dyn ByteStore>,
    partition: u32,
    options: CacheOptions,
    flusher: Flusher,
    /// How to take back the rows that are not decided, in the order in which they were prepared.
    undecided: Vec<Undo>,
    dirty: Dirty,
    flushing: Option<Flushing>,
    clean: CleanRows,
    /// The checkpoint of the last commit, to tell commits that changed nothing here.
    committed: Option<Checkpoint>,
    /// What a crash would leave, until somebody takes it.
    durable: Option<Checkpoint>,
    key: Vec<u8>,
    /// Room for rows that are copied.
    chunk: BytesMut,
    lookups: Lookups,
}

/// How lookups of single rows went since the cache was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lookups {
    /// Answered from memory.
    pub(crate) hits: u64,
    /// Answered by the store behind it.
    pub(crate) misses: u64,
}

impl RowCache {
    /// A cache with nothing in it yet. At most one may exist for a store partition at a time.
    #[must_use]
    pub(crate) fn open(
        store: Arc<dyn ByteStore>,
        partition: u32,
        options: CacheOptions,
        flusher: Flusher,
    ) -> Self {
        RowCache {
            store,
            partition,
            options,
            flusher,
            undecided: Vec::new(),
            dirty: Dirty::default(),
            flushing: None,
            clean: CleanRows::new(options.clean_bytes_max),
            committed: None,
            durable: None,
            key: Vec::new(),
            chunk: BytesMut::new(),
            lookups: Lookups::default(),
        }
    }

    /// How lookups of single rows went so far.
    pub(crate) fn lookups(&self) -> Lookups {
        self.lookups
    }

    /// How much of the rows of keys that have several may be remembered.
    pub(crate) fn tail_bytes_max(&self) -> usize {
        self.options.dirty_rows_max.saturating_mul(super::tails::BYTES_A_ROW)
    }

    /// The store's name.
    pub(crate) fn store(&self) -> &StoreName {
        self.store.name()
    }

    /// How far the store itself reflects the changelog; `None` if it was never flushed.
    ///
    /// # Errors
    ///
    /// * [`StoreError::Corrupt`]: what is there is not a checkpoint. Recourse: `clear`, rebuild.
    /// * [`StoreError::Backend`]: the store failed.
    pub(crate) fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        checkpoint::current(self.store.as_ref(), self.partition)
    }

    /// The same, as a crash at this moment would leave it.
    ///
    /// # Errors
    ///
    /// As [`checkpoint`](Self::checkpoint).
    pub(crate) fn durable_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        checkpoint::durable(self.store.as_ref(), self.partition)
    }

    /// The checkpoint that a crash would leave, as the last flush has found it; each is given out once.
    pub(crate) fn take_durable(&mut self) -> Option<Checkpoint> {
        self.durable.take()
    }

    /// Forgets all rows and the checkpoint, here and in the store, for a rebuild.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the store failed; its rows are as they were.
    pub(crate) fn clear(&mut self) -> Result<(), StoreError> {
        // The running flush must end BEFORE the store is cleared, or else it brings rows back.
        if let Err(error) = self.wait_for_flush() {
            tracing::warn!(store = %self.store.name(), %error, "a flush failed before a rebuild");
        }
        self.undecided.clear();
        self.dirty = Dirty::default();
        self.clean.clear();
        self.committed = None;
        let (from, to) = partition_range(self.partition);
        self.store.clear(&from, &to)
    }

    /// The value of a row as the last transaction that was prepared has left it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the store failed.
    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if let Some(value) = self.in_memory(key) {
            self.lookups.hits += 1;
            return Ok(value);
        }
        self.lookups.misses += 1;
        store_key(self.partition, key, &mut self.key);
        let Some(value) = self.store.get(&self.key)?.map(Bytes::from) else {
            return Ok(None);
        };
        self.clean.put(Bytes::copy_from_slice(key), Some(value.clone()));
        Ok(Some(value))
    }

    /// `Some(None)`: the row is known to be absent.
    fn in_memory(&mut self, key: &[u8]) -> Option<Option<Bytes>> {
        let tag = Tag::of(key);
        if let Some(value) = self.dirty.level.get(tag, key) {
            return Some(value.cloned());
        }
        let flushing = self.flushing.as_ref();
        if let Some(value) = flushing.and_then(|flushing| flushing.level.get(tag, key)) {
            return Some(value.cloned());
        }
        self.clean.get(tag, key)
    }

    /// Takes a row of a transaction whose commit is not decided yet; `None` deletes.
    pub(crate) fn prepare(&mut self, key: Bytes, value: Option<Bytes>) {
        self.undecided.push(self.dirty.level.put_undoably(key, value));
    }

    /// Takes such a row, which is likely to be there already: then only its value is copied.
    pub(crate) fn prepare_row(&mut self, key: &[u8], value: Option<&[u8]>) {
        let value = value.map(Bytes::copy_from_slice);
        self.undecided.push(self.dirty.level.put_copy_undoably(key, value));
    }

    /// Takes back what is not decided, to be prepared again.
    fn take_back(&mut self) -> Vec<(Bytes, Option<Bytes>)> {
        let undone = self.undecided.drain(..).rev();
        let mut rows: Vec<_> = undone.map(|undo| self.dirty.level.undo(undo)).collect();
        rows.reverse();
        rows
    }

    fn prepare_again(&mut self, rows: Vec<(Bytes, Option<Bytes>)>) {
        rows.into_iter().for_each(|(key, value)| self.prepare(key, value));
    }

    /// Takes a copy of such a row. Many rows share a buffer, which costs far less than two of its own
    /// for each; so this is for rows that come and go together, not for some that stay long after
    /// the others.
    pub(crate) fn prepare_copy(&mut self, key: &[u8], value: Option<&[u8]>) {
        let room = key.len() + value.map_or(0, <[u8]>::len);
        if self.chunk.capacity() < room {
            self.chunk = BytesMut::with_capacity(room.max(CHUNK_BYTES));
        }
        self.chunk.extend_from_slice(key);
        let key = self.chunk.split().freeze();
        let value = value.map(|value| {
            self.chunk.extend_from_slice(value);
            self.chunk.split().freeze()
        });
        self.prepare(key, value);
    }

    /// AFTER the commit point, or else a flush could put on disk what recovery aborts: what was
    /// prepared is committed. The checkpoint is the offset behind the last changelog record of these
    /// rows; `None` where there is none: what there is then only follows from rows that are older, and
    /// waits for the next flush. A restart without it makes it again.
    pub(crate) fn decided(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) {
        let is_new = checkpoint.is_some_and(|checkpoint| self.committed != Some(checkpoint));
        if self.undecided.is_empty() && !is_new {
            return;
        }
        self.undecided.clear();
        if let Some(checkpoint) = checkpoint.or(self.committed) {
            self.reach(checkpoint, now_ms);
        }
    }

    /// Calls `look` with the undecided rows out of its sight: everything that it finds is committed.
    pub(crate) fn committed_only<T>(&mut self, look: impl FnOnce(&mut Self) -> T) -> T {
        let undecided = self.take_back();
        let seen = look(self);
        self.prepare_again(undecided);
        seen
    }

    /// Takes over rows of the changelog; `None` deletes. The checkpoint is the offset behind the last
    /// of their records.
    pub(crate) fn commit(
        &mut self,
        rows: Vec<(Bytes, Option<Bytes>)>,
        checkpoint: Checkpoint,
        now_ms: i64,
    ) {
        if rows.is_empty() && self.committed == Some(checkpoint) {
            return;
        }
        for (key, value) in rows {
            self.dirty.level.put(key, value);
        }
        self.reach(checkpoint, now_ms);
    }

    fn reach(&mut self, checkpoint: Checkpoint, now_ms: i64) {
        self.committed = Some(checkpoint);
        let since_ms = self.dirty.reached.map_or(now_ms, |reached| reached.since_ms);
        self.dirty.reached = Some(Reached { checkpoint, since_ms });
    }

    /// Collects a finished flush, and starts one when rows, bytes or time say so. Waits for the
    /// running flush only when twice as much is waiting as may.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: a flush failed. Its rows are dirty again, so nothing is lost, and the next
    /// step tries again. Recourse: stop the job.
    pub(crate) fn step(&mut self, now_ms: i64) -> Result<(), StoreError> {
        self.collect_flush()?;
        if self.flushing.is_some() && self.is_over(2) {
            self.wait_for_flush()?;
        }
        let is_free = self.flushing.is_none() || self.makes(BrokenFlush::Overlap);
        if is_free && self.is_due(now_ms) {
            self.start_flush();
            self.collect_flush()?;
        }
        Ok(())
    }

    /// Returns once every committed row is in the store and survives a crash: a clean stop.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the store is behind, at an earlier checkpoint; a restart catches up.
    pub(crate) fn flush_all(&mut self) -> Result<(), StoreError> {
        self.wait_for_flush()?;
        self.start_flush();
        self.wait_for_flush()?;
        self.store.sync()?;
        self.durable = self.durable_checkpoint()?;
        Ok(())
    }

    /// Bytes that this cache holds, tables included.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        let flushing = self.flushing.as_ref().map_or(0, |flushing| flushing.level.bytes());
        let undecided: usize = self.undecided.iter().map(Undo::bytes).sum();
        undecided + self.dirty.level.bytes() + flushing + self.clean.bytes()
    }

    /// Bytes of rows that whoever reads them may keep decoded.
    pub(super) fn kept_bytes_max(&self) -> usize {
        self.options.clean_bytes_max / 2
    }

    /// Whether it makes this mistake.
    pub(super) fn makes(&self, mistake: BrokenFlush) -> bool {
        self.options.broken == Some(mistake)
    }

    /// Committed rows that are not on disk yet.
    #[must_use]
    pub(crate) fn dirty_rows(&self) -> usize {
        let flushing = self.flushing.as_ref().map_or(0, |flushing| flushing.level.rows());
        let undecided = self.undecided.iter().filter(|undo| !undo.is_change()).count();
        self.dirty.level.rows() - undecided + flushing
    }

    fn is_over(&self, times: usize) -> bool {
        let over = |value: usize, most: usize| value >= most.saturating_mul(times).max(1);
        over(self.dirty.level.rows(), self.options.dirty_rows_max)
            || over(self.dirty.level.bytes(), self.options.dirty_bytes_max)
    }

    fn is_due(&mut self, now_ms: i64) -> bool {
        let Some(reached) = &mut self.dirty.reached else {
            return false;
        };
        // A clock that was set back counts from now on, or else it would hold back the flush.
        reached.since_ms = reached.since_ms.min(now_ms);
        let waited_ms = now_ms.saturating_sub(reached.since_ms);
        waited_ms >= self.options.flush_every_ms || self.is_over(1)
    }

    fn start_flush(&mut self) {
        let Some(reached) = self.dirty.reached.take() else {
            return;
        };
        let undecided = self.take_back();
        let mut level = mem::take(&mut self.dirty.level);
        if self.makes(BrokenFlush::Undecided) {
            undecided.iter().for_each(|(key, value)| level.put(key.clone(), value.clone()));
        }
        self.prepare_again(undecided);
        let level = Arc::new(level);
        let ticket = self.flusher.submit(FlushJob {
            store: Arc::clone(&self.store),
            partition: self.partition,
            level: Arc::clone(&level),
            checkpoint: reached.checkpoint,
        });
        self.flushing = Some(Flushing { level, reached, ticket });
    }

    fn collect_flush(&mut self) -> Result<(), StoreError> {
        match self.flushing.as_ref().and_then(|flushing| flushing.ticket.take()) {
            Some(result) => self.finish_flush(result),
            None => Ok(()),
        }
    }

    fn wait_for_flush(&mut self) -> Result<(), StoreError> {
        match &self.flushing {
            Some(flushing) => {
                let result = self.flusher.wait(&flushing.ticket);
                self.finish_flush(result)
            }
            None => Ok(()),
        }
    }

    fn finish_flush(&mut self, result: Flushed) -> Result<(), StoreError> {
        let Some(Flushing { level, reached, .. }) = self.flushing.take() else {
            return result.map(drop);
        };
        let level = Arc::unwrap_or_clone(level);
        if let (true, Some(late)) = (self.makes(BrokenFlush::LateCheckpoint), &self.committed) {
            self.store.write(&Level::default().to_batch(self.partition, late))?;
        }
        if let Ok(durable) = &result {
            self.durable = *durable;
            self.clean.put_level(level);
        } else {
            let undecided = self.take_back();
            self.dirty.level.put_below(level);
            self.prepare_again(undecided);
            let checkpoint = self.dirty.reached.map_or(reached.checkpoint, |r| r.checkpoint);
            let since_ms = reached.since_ms;
            self.dirty.reached = Some(Reached { checkpoint, since_ms });
        }
        result.map(drop)
    }
}

impl Drop for RowCache {
    fn drop(&mut self) {
        if self.makes(BrokenFlush::Overlap) {
            return;
        }
        // A flush that outlived its cache could overwrite what the next cache flushes.
        if let Err(error) = self.wait_for_flush() {
            tracing::warn!(store = %self.store.name(), %error, "the last flush failed");
        }
    }
}

impl fmt::Debug for RowCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowCache")
            .field("store", self.store.name())
            .field("partition", &self.partition)
            .field("dirty_rows", &self.dirty_rows())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
