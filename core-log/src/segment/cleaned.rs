//! Puts a compacted segment in the place of those that it was made of.
//!
//! Why files of their own: whatever a crash interrupts, either the old segments are there as a whole
//! or the new one is.
//!
//! ```text
//!   X.log.cleaned ..   written and synced        a crash before the swap: removed, nothing happened
//!   X.log.swap         renamed last, synced      <- decided: from here on recovery goes on
//!   X.log.deleted ..   the old files, synced     removed when nobody may read them any more
//!   X.log              renamed last, synced
//! ```
//!
//! Invariants
//! * The `.log` is renamed after its other files are, durably, under the same name.
//! * No old segment is left where the new one is in place: two would hold the same offsets.
//! * Whoever has a replaced segment can go on reading: its `.log` is open and its list of aborted
//!   transactions in memory before its files lose their names.
//!
//! On crash: [`settle`] runs before the segments are listed, and may itself be interrupted anywhere.
//! Reference: Kafka `LocalLog.replaceSegments`, `LogLoader`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file_name::{self, Kind, Stage, parse_staged, staged};
use super::offset_index::{self, OffsetEntry};
use super::seal::{FileDigest, SEAL_LEN, Seal};
use super::time_index::{self, TimeEntry};
use super::tracker::Tracker;
use super::txn_index::{self, AbortedTransaction};
use super::walk::{CHUNK_BYTES, Step, Walk};
use super::{Aborted, Place, Segment, SegmentOptions};
use crate::error::{Error, Result};
use crate::format::{BatchHeader, BatchView, DecodeError};
use crate::ids::Offset;
use crate::storage::{File, Storage};

/// Writes the segment that replaces others.
#[derive(Debug)]
pub(crate) struct CleanedWriter {
    storage: Arc<dyn Storage>,
    place: Arc<Place>,
    base_offset: Offset,
    log: Arc<dyn File>,
    tracker: Tracker,
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    aborted: Vec<AbortedTransaction>,
    buffer: Vec<u8>,
    flushed: u64,
}

impl CleanedWriter {
    /// Begins the replacement of the segments from `base_offset` on.
    ///
    /// # Errors
    ///
    /// What the disk says; nothing has changed for readers.
    pub(crate) fn create(
        storage: &Arc<dyn Storage>,
        place: &Arc<Place>,
        base_offset: Offset,
        options: SegmentOptions,
    ) -> Result<Self> {
        remove_stage(storage.as_ref(), place, base_offset, Stage::Cleaned)?;
        let path = staged(&place.dir, base_offset, Kind::Log, Stage::Cleaned);
        let log = storage.create(&path).map_err(|e| Error::io(&path, "create", e))?;
        Ok(Self {
            storage: Arc::clone(storage),
            place: Arc::clone(place),
            base_offset,
            log,
            tracker: Tracker::new(base_offset, options.index_interval_bytes),
            offsets: Vec::new(),
            times: Vec::new(),
            aborted: Vec::new(),
            buffer: Vec::new(),
            flushed: 0,
        })
    }

    /// Adds a whole batch, whose offsets lie behind those of the ones before.
    ///
    /// # Errors
    ///
    /// What the disk says.
    ///
    /// # Panics
    ///
    /// When the segment would be larger than its indexes can express.
    pub(crate) fn append(&mut self, batch: &[u8], header: &BatchHeader) -> Result<()> {
        let position = self.flushed + self.buffer.len() as u64;
        let position = u32::try_from(position).expect("a replacement is no larger than its group");
        let header_bytes = batch.first_chunk().expect("a batch begins with its header");
        if let Some(entries) = self.tracker.note(header, header_bytes, position) {
            self.offsets.push(entries.offset);
            self.times.extend(entries.time);
        }
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    /// Notes an aborted transaction of which something is left.
    pub(crate) fn append_aborted(&mut self, entry: AbortedTransaction) {
        self.aborted.push(entry);
    }

    fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.log.write_all_at(&self.buffer, self.flushed);
        written.map_err(|e| self.io(Kind::Log, "write", e))?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn io(&self, kind: Kind, operation: &'static str, source: std::io::Error) -> Error {
        let path = staged(&self.place.dir, self.base_offset, kind, Stage::Cleaned);
        Error::io(&path, operation, source)
    }

    /// Completes the replacement, which ends where the next segment begins, and syncs all of it.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub(crate) fn finish(mut self, end_offset: Offset) -> Result<()> {
        self.flush()?;
        self.log.sync().map_err(|e| self.io(Kind::Log, "sync", e))?;
        self.times.extend(self.tracker.next_time_entry());
        let (offsets, times) =
            (offset_index::encode(&self.offsets), time_index::encode(&self.times));
        let aborted = txn_index::encode(&self.aborted);
        self.write(Kind::OffsetIndex, &offsets)?;
        self.write(Kind::TimeIndex, &times)?;
        if !aborted.is_empty() {
            self.write(Kind::TxnIndex, &aborted)?;
        }
        let seal = Seal {
            log_len: self.flushed,
            end_offset,
            largest_timestamp: self.tracker.largest_timestamp().unwrap_or(i64::MIN),
            headers_digest: self.tracker.headers_digest(),
            offset_index: FileDigest::of(&offsets),
            time_index: FileDigest::of(&times),
            txn_index: FileDigest::of(&aborted),
        };
        self.write(Kind::Seal, &seal.encode())?;
        sync_dir(self.storage.as_ref(), &self.place)
    }

    fn write(&self, kind: Kind, bytes: &[u8]) -> Result<()> {
        let path = staged(&self.place.dir, self.base_offset, kind, Stage::Cleaned);
        let file = self.storage.create(&path).map_err(|e| self.io(kind, "create", e))?;
        if !bytes.is_empty() {
            file.write_all_at(bytes, 0).map_err(|e| self.io(kind, "write", e))?;
        }
        file.sync().map_err(|e| self.io(kind, "sync", e))
    }
}

/// The swap is decided: what was cleaned becomes what recovery would put into place.
///
/// # Errors
///
/// What the disk says: the log has to crash, and its recovery finds out what happened.
pub(crate) fn decide(storage: &dyn Storage, place: &Place, base_offset: Offset) -> Result<()> {
    let from = |kind| staged(&place.dir, base_offset, kind, Stage::Cleaned);
    let to = |kind| staged(&place.dir, base_offset, kind, Stage::Swap);
    move_files(storage, place, &from, &to)
}

/// Puts what was decided into place; no old segment may be left there.
///
/// # Errors
///
/// As [`decide`].
pub(crate) fn put_into_place(
    storage: &dyn Storage,
    place: &Place,
    base_offset: Offset,
) -> Result<()> {
    let from = |kind| staged(&place.dir, base_offset, kind, Stage::Swap);
    let to = |kind| file_name::path(&place.dir, base_offset, kind);
    move_files(storage, place, &from, &to)
}

/// Renames what is there, the `.log` last: whoever finds it finds all.
fn move_files(
    storage: &dyn Storage,
    place: &Place,
    from: &dyn Fn(Kind) -> PathBuf,
    to: &dyn Fn(Kind) -> PathBuf,
) -> Result<()> {
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Log) {
        rename(storage, &from(kind), &to(kind))?;
    }
    // Must be BEFORE the .log is renamed, or else a power cut could keep that name only.
    sync_dir(storage, place)?;
    rename(storage, &from(Kind::Log), &to(Kind::Log))?;
    sync_dir(storage, place)
}

fn rename(storage: &dyn Storage, from: &Path, to: &Path) -> Result<bool> {
    match storage.rename(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(from, "rename", error)),
    }
}

fn remove(storage: &dyn Storage, path: &Path) -> Result<()> {
    match storage.remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(path, "remove", error)),
    }
}

fn sync_dir(storage: &dyn Storage, place: &Place) -> Result<()> {
    storage.sync_dir(&place.dir).map_err(|e| Error::io(&place.dir, "sync", e))
}

fn remove_stage(
    storage: &dyn Storage,
    place: &Place,
    base_offset: Offset,
    stage: Stage,
) -> Result<()> {
    Kind::ALL
        .into_iter()
        .try_for_each(|kind| remove(storage, &staged(&place.dir, base_offset, kind, stage)))
}

/// Gives up a replacement that is not decided.
///
/// # Errors
///
/// What the disk says; the next start removes the rest.
pub(crate) fn give_up(storage: &dyn Storage, place: &Place, base_offset: Offset) -> Result<()> {
    remove_stage(storage, place, base_offset, Stage::Cleaned)
}

impl Segment {
    /// Hands out every batch from the one that contains `from` on, verified, in order, until told to stop.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`], what the disk says, and what `take` answers.
    pub(crate) fn each_batch(
        &self,
        from: Offset,
        take: &mut dyn FnMut(&BatchView<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut offset = from.max(self.base_offset);
        loop {
            let bytes = self.read(offset, CHUNK_BYTES, Offset::MAX)?;
            if bytes.is_empty() {
                return Ok(());
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let batch = BatchView::parse(rest)?;
                let header = batch.header();
                batch.verify_crc().map_err(|e| self.damaged_batch(header.base_offset, &e))?;
                offset = header.next_offset();
                if take(&batch)?.is_break() {
                    return Ok(());
                }
                rest = &rest[batch.bytes().len()..];
            }
        }
    }

    /// The error for a batch whose checksum is wrong, with its place.
    fn damaged_batch(&self, base_offset: Offset, reason: &DecodeError) -> Error {
        let mut position = 0;
        if let Ok(log) = self.shared_log() {
            let walk = Walk::new(&*log, 0, self.base_offset, self.size());
            let mut walk = walk.with_gaps_below(Offset::MAX);
            while let Ok(Some(Step::Batch { position: at, header, .. })) = walk.step() {
                position = at;
                if header.base_offset >= base_offset {
                    break;
                }
            }
        }
        self.place.damaged(&self.damage(position, base_offset, reason))
    }

    /// Makes the segment readable without the names of its files.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub(crate) fn retire(&self) -> Result<()> {
        self.log()?;
        if matches!(&self.indexes.read().aborted, Aborted::Memory(_)) {
            return Ok(());
        }
        self.collect_aborted(self.base_offset, self.end_offset(), &mut Vec::new()).map(|_| ())
    }

    /// Takes the segment's files out of the way, to be removed later; answers their names. Readers that
    /// hold the segment can go on. The caller syncs the directory.
    ///
    /// # Errors
    ///
    /// What the disk says. Calling this again moves the rest.
    pub(crate) fn set_aside(&self) -> Result<Vec<PathBuf>> {
        self.retire()?;
        let mut aside = Vec::new();
        // The .log goes last: whoever finds it still knows that there are others.
        for kind in Kind::ALL.into_iter().rev() {
            let from = self.place.path(self.base_offset, kind);
            let to = staged(&self.place.dir, self.base_offset, kind, Stage::Deleted);
            if rename(self.storage.as_ref(), &from, &to)? {
                aside.push(to);
            }
        }
        Ok(aside)
    }
}

/// Finishes or takes back what a crash interrupted: replacements that were decided are put into place,
/// and everything that is not part of a segment goes.
///
/// # Errors
///
/// What the disk says. Calling this again goes on.
pub(crate) fn settle(storage: &Arc<dyn Storage>, place: &Place) -> Result<()> {
    let names = storage.list(&place.dir).map_err(|e| Error::io(&place.dir, "list", e))?;
    let aside: Vec<_> = names.iter().filter_map(|name| parse_staged(name)).collect();
    if aside.is_empty() {
        return Ok(());
    }
    // Must be BEFORE a file goes, or else it could go without what says that it may.
    sync_dir(storage.as_ref(), place)?;
    for swap in decided_among(storage.as_ref(), place, &names)? {
        let replaced = names
            .iter()
            .filter(|name| file_name::base_offset(name).is_some_and(|base| swap.replaces(base)));
        for name in replaced {
            remove(storage.as_ref(), &place.dir.join(name))?;
        }
        // Must be BEFORE the new one is in place, or else two could hold the same offsets.
        sync_dir(storage.as_ref(), place)?;
        put_into_place(storage.as_ref(), place, swap.base_offset)?;
        tracing::info!(
            dir = %place.dir.display(),
            base_offset = swap.base_offset,
            end = swap.end_offset,
            "finished to replace segments by a compacted one"
        );
    }
    for (base_offset, kind, stage) in aside {
        remove(storage.as_ref(), &staged(&place.dir, base_offset, kind, stage))?;
    }
    sync_dir(storage.as_ref(), place)
}

/// A replacement that is decided and not yet in place: the next start puts it there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecidedSwap {
    pub(crate) base_offset: Offset,
    /// Where the segments end that it stands for.
    pub(crate) end_offset: Offset,
}

impl DecidedSwap {
    /// Whether it stands for the segment that begins here.
    pub(crate) fn replaces(&self, base: Offset) -> bool {
        base == self.base_offset || (base > self.base_offset && base < self.end_offset)
    }
}

/// The replacements that the next start puts into place.
///
/// # Errors
///
/// What the disk says.
pub(crate) fn decided(storage: &dyn Storage, place: &Place) -> Result<Vec<DecidedSwap>> {
    let names = storage.list(&place.dir).map_err(|e| Error::io(&place.dir, "list", e))?;
    decided_among(storage, place, &names)
}

fn decided_among(
    storage: &dyn Storage,
    place: &Place,
    names: &[String],
) -> Result<Vec<DecidedSwap>> {
    let staged = names.iter().filter_map(|name| parse_staged(name));
    let decided = staged.filter(|(_, kind, stage)| (*kind, *stage) == (Kind::Log, Stage::Swap));
    let swap = |(base_offset, ..): (Offset, Kind, Stage)| {
        let end_offset = end_of_swap(storage, place, base_offset)?;
        Ok(DecidedSwap { base_offset, end_offset })
    };
    decided.map(swap).collect()
}

/// Where the segments end that a replacement stands for.
fn end_of_swap(storage: &dyn Storage, place: &Place, base_offset: Offset) -> Result<Offset> {
    let path = |kind| staged(&place.dir, base_offset, kind, Stage::Swap);
    let read = |path: &Path| -> std::io::Result<[u8; SEAL_LEN]> {
        let mut bytes = [0; SEAL_LEN];
        storage.open_read_only(path)?.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    let seal = read(&path(Kind::Seal)).ok().and_then(|bytes| Seal::decode(&bytes));
    if let Some(seal) = seal.filter(|seal| seal.fits(base_offset)) {
        return Ok(seal.end_offset);
    }
    // Without its seal it stands for what it surely holds: what lies behind is kept twice at worst.
    let log_path = path(Kind::Log);
    let log = storage.open_read_only(&log_path).map_err(|e| Error::io(&log_path, "open", e))?;
    let len = log.len().map_err(|e| Error::io(&log_path, "read", e))?;
    let mut walk = Walk::new(&*log, 0, base_offset, len).with_gaps_below(Offset::MAX);
    while let Some(Step::Batch { .. }) = walk.step().map_err(|e| Error::io(&log_path, "read", e))? {
    }
    Ok(walk.expected())
}

/// Cuts a partition that nobody has open: everything from the batch that holds offset `to` on goes.
///
/// # Errors
///
/// What the disk says.
#[cfg(any(test, feature = "test-util"))]
pub(crate) fn truncate(storage: &Arc<dyn Storage>, place: &Place, to: Offset) -> Result<()> {
    let bases = Segment::list(storage.as_ref(), place)?;
    let remove_all = |base: Offset, kinds: &[Kind]| {
        kinds.iter().try_for_each(|kind| {
            remove(storage.as_ref(), &file_name::path(&place.dir, base, *kind))
        })
    };
    for base in bases.iter().filter(|base| **base > to) {
        remove_all(*base, &Kind::ALL)?;
    }
    let Some(base) = bases.into_iter().rfind(|base| *base <= to) else { return Ok(()) };
    let path = file_name::path(&place.dir, base, Kind::Log);
    let log = storage.open(&path).map_err(|e| Error::io(&path, "open", e))?;
    let len = log.len().map_err(|e| Error::io(&path, "read", e))?;
    let mut walk = Walk::new(&*log, 0, base, len);
    let mut end = 0;
    while let Some(Step::Batch { header, .. }) =
        walk.step().map_err(|e| Error::io(&path, "read", e))?
        && header.last_offset() < to
    {
        end = walk.position();
    }
    log.set_len(end).map_err(|e| Error::io(&path, "cut", e))?;
    log.sync().map_err(|e| Error::io(&path, "sync", e))?;
    let others = [Kind::OffsetIndex, Kind::TimeIndex, Kind::TxnIndex, Kind::Seal];
    remove_all(base, &others)?;
    sync_dir(storage.as_ref(), place)
}
