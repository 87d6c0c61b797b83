//! A stretch of a partition: one `.log` file of whole batches, with its indexes.
//!
//! Why: retention drops whole segments, and a lookup touches the indexes of one.
//!
//! ```text
//!   SegmentWriter --- append, one write per batch --->  .log          one per partition
//!        | seal                                          |  ^
//!        v                                               |  | one pread of whole batches
//!   .index .timeindex .txnindex .seal                    v  |
//!        +---------- open_sealed --------------------> Segment        shared, readers never block
//! ```
//!
//! Invariants
//! * Offsets follow each other without a gap, from the base offset on. Where compaction has been they
//!   ascend; [`Segment::end_offset`] is then where the next segment begins.
//! * What [`Segment::end_offset`] covers is in the file; readers see whole batches only.
//! * The last segment's indexes live in memory; those of a sealed one in its files, which are
//!   proved before they are relied on and replaced when they are wrong.
//!
//! On crash: `recovery.rs` decides what is kept of the last segment, `sealed.rs` of the others.
//! Reference: Kafka `LogSegment`.

pub(crate) mod cleaned;
mod examine;
mod file_name;
pub(crate) mod offset_index;
mod read;
mod recovery;
mod seal;
mod sealed;
#[cfg(test)]
mod tests;
pub(crate) mod time_index;
mod tracker;
pub(crate) mod txn_index;
mod walk;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::locks::{Mutex, RwLock};

pub use self::examine::{Examination, Examined, Next, Stretch, examine};
use self::file_name::Kind;
use self::offset_index::{OffsetEntry, OffsetIndexFile};
pub use self::recovery::{Recovered, TailReport, WITNESS_LOST, recover_active};
use self::seal::{FileDigest, Seal};
pub use self::sealed::OpenedSegment;
use self::time_index::TimeEntry;
pub use self::txn_index::AbortedTransaction;
pub use self::writer::SegmentWriter;
use crate::error::{Error, Result};
use crate::format::{BatchHeader, EndTransactionMarker};
use crate::ids::{Offset, Timestamp, TopicName};
use crate::storage::{File, Storage};

/// The layouts of a segment's files, for what reads them without a segment.
pub(crate) mod layout {
    pub(crate) use super::file_name::{Kind, base_offset};
    pub(crate) use super::offset_index::OffsetEntry;
    pub(crate) use super::seal::{FileDigest, SEAL_LEN, Seal};
    pub(crate) use super::walk::{Step, Walk};
    pub(crate) use super::{offset_index, time_index, txn_index};
}

/// Which partition a segment belongs to, and where its files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The partition's directory.
    pub dir: PathBuf,
    /// The topic's name, for errors.
    pub topic: TopicName,
    /// The partition.
    pub partition: u32,
}

impl Place {
    /// The error for damage in this partition.
    #[must_use]
    pub fn damaged(&self, damage: &Damage) -> Error {
        Error::Damaged {
            topic: self.topic.to_string(),
            partition: self.partition,
            path: damage.path.clone(),
            position: damage.position,
            offset: damage.offset,
            reason: damage.reason.clone(),
        }
    }

    fn path(&self, base_offset: Offset, kind: Kind) -> PathBuf {
        file_name::path(&self.dir, base_offset, kind)
    }
}

/// Bytes that were synced once and are gone or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where the first bad batch begins.
    pub position: u64,
    /// The first offset that cannot be read.
    pub offset: Offset,
    /// What is wrong.
    pub reason: String,
}

/// When a segment is full, and how dense its indexes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentOptions {
    /// Bytes (`segment.bytes`); 1 GiB by default.
    pub segment_bytes: u32,
    /// Milliseconds of record time (`segment.ms`); 7 days by default.
    pub segment_ms: i64,
    /// Bytes between two index entries (`index.interval.bytes`); 4096 by default.
    pub index_interval_bytes: u32,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 60 * 60 * 1000,
            index_interval_bytes: 4096,
        }
    }
}

/// What is told of each batch: its header, and the marker of one that ends a transaction.
pub type Visitor<'a> = dyn FnMut(&BatchHeader, Option<EndTransactionMarker>) + 'a;

/// The readable part of a segment, shared by its writer and all readers.
#[derive(Debug)]
pub struct Segment {
    storage: Arc<dyn Storage>,
    place: Arc<Place>,
    base_offset: Offset,
    log_path: PathBuf,
    /// Opened when it is first needed: a log may have thousands of sealed segments.
    log: OnceLock<Arc<dyn File>>,
    /// Stored before `end_offset`, so that whoever sees an offset sees its bytes.
    size: AtomicU64,
    end_offset: AtomicI64,
    /// `i64::MIN` without batches.
    largest_timestamp: AtomicI64,
    /// Everything was synced and nothing will be written any more.
    sealed: AtomicBool,
    index_interval_bytes: u32,
    /// Offsets may be missing in front of this one: compaction has been there.
    gaps_below: Offset,
    /// The headers are those that were sealed. Without gaps each proves the next.
    headers_proved: AtomicBool,
    indexes: RwLock<Indexes>,
    /// What the seal says, once there is one.
    seal: Mutex<Option<Seal>>,
}

#[derive(Debug)]
struct Indexes {
    offsets: Offsets,
    times: Times,
    aborted: Aborted,
}

#[derive(Debug)]
enum Offsets {
    Memory(Vec<OffsetEntry>),
    File(OffsetIndexFile),
}

#[derive(Debug)]
enum Times {
    Memory(Vec<TimeEntry>),
    /// Read and verified for each lookup: they are rare.
    File(FileDigest),
}

#[derive(Debug)]
enum Aborted {
    Memory(Vec<AbortedTransaction>),
    /// Read and verified when it is first needed, then kept.
    File(FileDigest),
}

impl Indexes {
    fn in_memory() -> Self {
        Self {
            offsets: Offsets::Memory(Vec::new()),
            times: Times::Memory(Vec::new()),
            aborted: Aborted::Memory(Vec::new()),
        }
    }

    fn push(&mut self, entries: tracker::NewEntries) {
        if let Offsets::Memory(offsets) = &mut self.offsets {
            offsets.push(entries.offset);
        }
        if let (Times::Memory(times), Some(time)) = (&mut self.times, entries.time) {
            times.push(time);
        }
    }
}

impl Segment {
    /// The base offsets of all segments in a partition's directory, ascending.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: the directory cannot be read. Recourse: Fatal.
    pub fn list(storage: &dyn Storage, place: &Place) -> Result<Vec<Offset>> {
        let names = storage.list(&place.dir).map_err(|e| Error::io(&place.dir, "list", e))?;
        let mut bases: Vec<_> =
            names.iter().filter_map(|name| file_name::base_offset_of_log(name)).collect();
        bases.sort_unstable();
        Ok(bases)
    }

    fn new(
        storage: &Arc<dyn Storage>,
        place: &Arc<Place>,
        base_offset: Offset,
        options: SegmentOptions,
        indexes: Indexes,
    ) -> Self {
        Self {
            storage: Arc::clone(storage),
            place: Arc::clone(place),
            base_offset,
            log_path: place.path(base_offset, Kind::Log),
            log: OnceLock::new(),
            size: AtomicU64::new(0),
            end_offset: AtomicI64::new(base_offset),
            largest_timestamp: AtomicI64::new(i64::MIN),
            sealed: AtomicBool::new(false),
            index_interval_bytes: options.index_interval_bytes,
            gaps_below: Offset::MIN,
            headers_proved: AtomicBool::new(true),
            indexes: RwLock::new(indexes),
            seal: Mutex::new(None),
        }
    }

    /// The first offset.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// The offset behind the last batch; the base offset when there is none.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.end_offset.load(Ordering::Acquire)
    }

    /// Bytes of the `.log` file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The largest timestamp of a record, `None` without batches.
    #[must_use]
    pub fn largest_timestamp(&self) -> Option<Timestamp> {
        (self.size() > 0).then(|| self.largest_timestamp.load(Ordering::Acquire))
    }

    /// Where the segment's batches are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.log_path
    }

    /// Makes everything appended before this call survive a power cut. Appends and reads go on
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::DiskFull`]: the log has to crash; what is on the disk is unknown.
    pub fn sync_data(&self) -> Result<()> {
        if self.sealed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.log()?.sync().map_err(|e| Error::io(&self.log_path, "sync", e))
    }

    /// Removes the segment's files; readers that hold the segment can go on. The caller syncs the
    /// directory, after the log start offset was made durable.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: a file could not be removed. Calling this again removes the rest.
    pub fn remove_files(&self) -> Result<()> {
        if self.storage.exists(&self.log_path).map_err(|e| self.io(Kind::Log, "find", e))? {
            self.log()?;
        }
        // The .log goes last: whoever finds it still knows that there are others.
        for kind in Kind::ALL.into_iter().rev() {
            self.remove_file(kind)?;
        }
        Ok(())
    }

    /// Removes every file of segments that begin below `offset`, and of such that have lost their
    /// `.log` file to a removal that a power cut interrupted. They are not looked into: a full disk
    /// could not take what a look makes again.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: a file could not be removed. Calling this again removes the rest.
    pub fn remove_files_below(storage: &dyn Storage, place: &Place, offset: Offset) -> Result<()> {
        let dir = &place.dir;
        let names = storage.list(dir).map_err(|e| Error::io(dir, "list", e))?;
        let is_below = |name: &&String| file_name::base_offset(name).is_some_and(|at| at < offset);
        // The .log goes last: whoever finds it still knows that there are others.
        let (logs, others): (Vec<_>, Vec<_>) =
            names.iter().filter(is_below).partition(|name| name.ends_with(".log"));
        if logs.is_empty() && others.is_empty() {
            return Ok(());
        }
        // Must be BEFORE a file goes, or else it could go without what says that it may.
        storage.sync_dir(dir).map_err(|e| Error::io(dir, "sync", e))?;
        for name in others.into_iter().chain(logs) {
            let path = dir.join(name);
            storage.remove_file(&path).map_err(|e| Error::io(&path, "remove", e))?;
        }
        storage.sync_dir(dir).map_err(|e| Error::io(dir, "sync", e))
    }

    fn remove_file(&self, kind: Kind) -> Result<bool> {
        match self.storage.remove_file(&self.place.path(self.base_offset, kind)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.io(kind, "remove", error)),
        }
    }

    fn io(&self, kind: Kind, operation: &'static str, source: std::io::Error) -> Error {
        Error::io(&self.place.path(self.base_offset, kind), operation, source)
    }

    /// Whether offsets may be missing in it.
    fn has_gaps(&self) -> bool {
        self.gaps_below > self.base_offset
    }

    fn log(&self) -> Result<&Arc<dyn File>> {
        if let Some(log) = self.log.get() {
            return Ok(log);
        }
        let opened = self.storage.open_read_only(&self.log_path);
        let opened = opened.map_err(|e| Error::io(&self.log_path, "open", e))?;
        Ok(self.log.get_or_init(|| opened))
    }

    fn damage(&self, position: u64, offset: Offset, reason: impl ToString) -> Damage {
        let path = self.log_path.clone();
        Damage { path, position, offset, reason: reason.to_string() }
    }

    /// Makes more of the file readable: up to `size`, which ends at `end_offset`.
    fn publish(&self, size: u64, end_offset: Offset, largest_timestamp: Timestamp) {
        self.largest_timestamp.store(largest_timestamp, Ordering::Release);
        // Must be stored before the end offset, or else a reader looks for bytes that it may not read.
        self.size.store(size, Ordering::Release);
        self.end_offset.store(end_offset, Ordering::Release);
    }
}
