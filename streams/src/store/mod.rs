//! The ordered byte store behind every kind of state, and what lies in front of it.
//!
//! Why: windows, sessions, timestamps and versions are layouts of keys and values over one ordered
//! store of bytes, so a back end has eight operations to get right and one suite to pass.
//!
//! ```text
//!   RowCache      undecided -> dirty -> flushing -> clean      one store partition of one task
//!       |  ^            |
//!       |  +------------|------ get, scan
//!       v               v
//!   ByteStore     one store, all partitions       one atomic batch per flush, with its checkpoint
//!   Backend       all stores of a process
//! ```
//!
//! Invariants
//! * [`ByteStore::write`] is one atomic batch, also across a crash.
//! * after a crash a store holds a prefix of its batches; how long a prefix is each store's own
//!   matter, so rows and the checkpoint that speaks for them are in one store and one batch.
//!
//! On crash: what [`ByteStore::sync`] did not cover may be gone; the changelog has it.
//! Reference: Kafka Streams `RocksDBStore`, `CachingKeyValueStore`; checkpoints in the store are ours.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::StoreName;

mod checkpoint;
mod clean;
#[cfg(test)]
pub(crate) mod conformance;
mod flusher;
pub(crate) mod layout;
mod level;
mod memory;
mod ordered;
mod overlay;
#[cfg(feature = "rocksdb")]
mod rocks;
mod row_cache;
mod tails;
mod versioned;

pub(crate) use flusher::{Flusher, HeldFlushes};
pub(crate) use layout::Checkpoint;
pub(crate) use memory::MemoryBackend;
pub(crate) use ordered::{OrderedOverlay, Stored};
pub(crate) use overlay::{Overlay, View, VisitRow};
#[cfg(feature = "rocksdb")]
pub(crate) use rocks::{RocksBackend, RocksBudget, killed};
pub(crate) use row_cache::{BrokenFlush, CacheOptions, Lookups, RowCache};
pub(crate) use tails::{Places, Tails, last_time_of, place_of};
pub(crate) use versioned::{Put, Versions, split_version};

/// In which order rows are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// In the order of their keys.
    Forward,
    /// The last key first.
    Back,
}

/// What a [`ByteStore::scan`] calls for each row, with its key and value, until it breaks.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// One store: bytes by bytes, in the order of the keys, for all partitions of this process.
pub(crate) trait ByteStore: Send + Sync {
    /// The store's name.
    fn name(&self) -> &StoreName;

    /// The value of one key.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the back end failed. Recourse: stop the job; a restart reads the store anew.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The value of one key as a crash at this moment would leave it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the back end failed.
    fn get_durable(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits the rows with `from <= key < to` in the order of their keys. The visitor must not
    /// use the store.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the back end failed; rows before the failure have been visited.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError>;

    /// The same in the reverse order of their keys.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the back end failed; rows before the failure have been visited.
    fn scan_back(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError>;

    /// Puts rows, and deletes those whose value is `None`, as one atomic batch. No key may occur
    /// twice; sorted keys are the fastest.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing of the batch is visible.
    fn write(&self, rows: &[(Bytes, Option<Bytes>)]) -> Result<(), StoreError>;

    /// Deletes the rows with `from <= key < to` as one atomic batch.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing is deleted.
    fn clear(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError>;

    /// Returns once everything written so far survives a crash.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it is not known what survives; a prefix of the batches does.
    fn sync(&self) -> Result<(), StoreError>;
}

/// All stores of a process.
pub(crate) trait Backend: Send + Sync {
    /// Opens these stores, in this order, and creates those that are missing. Stores that are not
    /// named are kept as they are.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: a store could not be created.
    fn open(&self, names: &[StoreName]) -> Result<Vec<Arc<dyn ByteStore>>, StoreError>;
}

/// What went wrong below a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The state directory, or a thread for it, is not to be had. Recourse: mend it, start again.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Bytes in a store are not what was written. Recourse: clear the store partition and rebuild
    /// it from its changelog.
    #[error("store `{store}` is damaged: {reason}")]
    Corrupt {
        /// Which store.
        store: StoreName,
        /// What was found.
        reason: String,
    },
    /// A row cannot be written. Recourse: keep what a row holds below 16 MiB.
    #[error("a row of store `{store}` cannot be encoded: {reason}")]
    Encode {
        /// Which store.
        store: StoreName,
        /// What the encoder said.
        reason: String,
    },
    /// The back end refused or failed. Recourse: stop the job and start again.
    #[error("store `{store}`: {operation} failed: {reason}")]
    Backend {
        /// Which store.
        store: StoreName,
        /// What was tried.
        operation: &'static str,
        /// The back end's own words.
        reason: String,
    },
}
