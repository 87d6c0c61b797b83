//! The file of `__commits`: append, replace by a snapshot, read, repair.
//!
//! Why a file of its own kind: it is small, synced at each commit, read whole at each start, and
//! replaced whole; it shares the record batch with partitions and nothing else.
//!
//! ```text
//!   <base offset>.log:  | snapshot | commit | commit | producer ids | commit | ...
//!                       one batch with one record each, offsets ascending by one
//! ```
//!
//! Invariants
//! * A file begins with a snapshot that was synced before the file got its name.
//! * The file with the largest base offset is the one that counts; older ones are removed.
//! * A record that carries a witness beyond a bad record proves damage, and so does one that is whole
//!   and not what it should be; any other bad record is a torn tail, and everything behind it goes to
//!   quarantine with it.
//! * A quarantine file is never replaced by another one.
//!
//! On crash: what is kept is written again in place and synced, then the rest is cut and that is
//! synced: never cut first, or a second crash could lose what the first one had kept.
//! Reference: no counterpart in Kafka; design.md "The log" 4 and 5.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{CommitsRecord, Snapshot};
use crate::error::{Error, Result};
use crate::format::{
    Attributes, BatchBuilder, BatchHeader, BatchView, DecodeError, HEADER_LEN, NO_HEADERS, Stamp,
};
use crate::ids::{Offset, ProducerEpoch, ProducerId, Timestamp};
use crate::partition::text_file;
use crate::segment::Damage;
use crate::storage::{File, Storage};

const SUFFIX: &str = ".log";

/// The end of the file.
#[derive(Debug)]
pub(crate) struct Journal {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    path: PathBuf,
    file: Arc<dyn File>,
    next_offset: Offset,
    size_bytes: u64,
}

/// What the file held when it was read.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) snapshot: Snapshot,
    /// The records behind the snapshot.
    pub(crate) records: Vec<(Offset, CommitsRecord)>,
    pub(crate) next_offset: Offset,
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    /// Where the records behind the snapshot begin.
    snapshot_end: usize,
    /// Where the last good record ends.
    pub(crate) kept_end: usize,
    pub(crate) damage: Option<Damage>,
}

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Repair {
    pub(crate) cut_bytes: u64,
    pub(crate) quarantine_path: Option<PathBuf>,
}

fn file_name(base_offset: Offset) -> String {
    format!("{base_offset:020}{SUFFIX}")
}

fn batch(
    record: &CommitsRecord,
    offset: Offset,
    now: Timestamp,
) -> Result<(BatchBuilder, BatchHeader)> {
    let mut batch = BatchBuilder::new();
    batch.push(now, Some(&record.key()), Some(&record.value()), NO_HEADERS)?;
    let header = batch.stamp(&Stamp {
        base_offset: offset,
        leader_epoch: 0,
        attributes: Attributes::NONE,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: -1,
    });
    Ok((batch, header))
}

fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a size in memory fits u64")
}

impl Journal {
    /// Makes the first file, or the next one, with `snapshot` at `offset`; durable.
    pub(crate) fn create(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        snapshot: Snapshot,
        offset: Offset,
        now: Timestamp,
    ) -> Result<Self> {
        let (batch, _) = batch(&CommitsRecord::Snapshot(snapshot), offset, now)?;
        let name = file_name(offset);
        text_file::replace(storage.as_ref(), dir, &name, batch.bytes())?;
        let path = dir.join(name);
        let file = storage.open(&path).map_err(|e| Error::io(&path, "open", e))?;
        let journal = Self {
            storage: Arc::clone(storage),
            dir: dir.to_owned(),
            path,
            file,
            next_offset: offset + 1,
            size_bytes: size(batch.bytes()),
        };
        journal.remove_older(offset)?;
        Ok(journal)
    }

    fn remove_older(&self, base_offset: Offset) -> Result<()> {
        let mut removed = false;
        for older in list(self.storage.as_ref(), &self.dir)? {
            if older < base_offset {
                let path = self.dir.join(file_name(older));
                self.storage.remove_file(&path).map_err(|e| Error::io(&path, "remove", e))?;
                removed = true;
            }
        }
        if removed {
            self.storage.sync_dir(&self.dir).map_err(|e| Error::io(&self.dir, "sync", e))?;
        }
        Ok(())
    }

    /// Appends a record; not synced.
    pub(crate) fn append(&mut self, record: &CommitsRecord, now: Timestamp) -> Result<Offset> {
        let offset = self.next_offset;
        let (batch, _) = batch(record, offset, now)?;
        self.file
            .write_all_at(batch.bytes(), self.size_bytes)
            .map_err(|e| Error::io(&self.path, "write", e))?;
        self.size_bytes += size(batch.bytes());
        self.next_offset += 1;
        Ok(offset)
    }

    /// The file, to be synced without holding a lock.
    pub(crate) fn file(&self) -> (Arc<dyn File>, PathBuf) {
        (Arc::clone(&self.file), self.path.clone())
    }

    /// The offset of the next record.
    pub(crate) fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// How large the file is.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Replaces everything by `snapshot`; durable.
    pub(crate) fn replace(&mut self, snapshot: Snapshot, now: Timestamp) -> Result<()> {
        *self = Self::create(&self.storage, &self.dir, snapshot, self.next_offset, now)?;
        Ok(())
    }
}

fn list(storage: &dyn Storage, dir: &Path) -> Result<Vec<Offset>> {
    let names = storage.list(dir).map_err(|e| Error::io(dir, "list", e))?;
    Ok(names.iter().filter_map(|name| text_file::numbered(name, SUFFIX)).collect())
}

/// Reads the file that counts; `None` when there is none. Changes nothing.
pub(crate) fn read(storage: &dyn Storage, dir: &Path) -> Result<Option<Contents>> {
    if !storage.exists(dir).map_err(|e| Error::io(dir, "look for", e))? {
        return Ok(None);
    }
    let Some(&base_offset) = list(storage, dir)?.last() else { return Ok(None) };
    let path = dir.join(file_name(base_offset));
    let bytes = text_file::read_bytes(storage, &path)?.unwrap_or_default();
    Ok(Some(parse(path, bytes, base_offset)))
}

fn parse(path: PathBuf, bytes: Vec<u8>, base_offset: Offset) -> Contents {
    let mut contents = Contents {
        snapshot: Snapshot::default(),
        records: Vec::new(),
        next_offset: base_offset,
        path,
        bytes: Vec::new(),
        snapshot_end: 0,
        kept_end: 0,
        damage: None,
    };
    let mut why: Option<Bad> = None;
    while contents.kept_end < bytes.len() {
        match next_record(&bytes, contents.kept_end, contents.next_offset) {
            Ok((CommitsRecord::Snapshot(snapshot), length)) if contents.kept_end == 0 => {
                contents.snapshot = snapshot;
                contents.snapshot_end = length;
                contents.kept_end = length;
            }
            Ok((record, length)) if contents.kept_end > 0 => {
                contents.records.push((contents.next_offset, record));
                contents.kept_end += length;
            }
            Ok(_) => {
                why = Some(Bad::Whole("it is no snapshot, or not the first record".to_owned()));
                break;
            }
            Err(bad) => {
                why = Some(bad);
                break;
            }
        }
        contents.next_offset += 1;
    }
    let is_proven = contents.kept_end == 0
        || matches!(why, Some(Bad::Whole(_)))
        || (contents.kept_end..bytes.len())
            .any(|at| proves_damage(&bytes[at..], contents.next_offset));
    if is_proven {
        contents.damage = Some(Damage {
            path: contents.path.clone(),
            position: size(&bytes[..contents.kept_end]),
            offset: contents.next_offset,
            reason: why.map_or_else(|| "the file is empty".to_owned(), Bad::into_reason),
        });
    }
    contents.bytes = bytes;
    contents
}

/// What the disk writes or loses as a whole.
const SECTOR: usize = 512;
/// How far the checksum of a batch does not reach from its front.
const UNCHECKED_BYTES: usize = 17;

/// Why there is no record where one should be.
#[derive(Debug)]
pub(super) enum Bad {
    /// The bytes are not a batch that was written as a whole.
    Torn(String),
    /// They are, so no power cut explains that they are not the record that is expected: rot in what
    /// the checksum does not cover, or a record that a later version wrote.
    Whole(String),
}

impl Bad {
    fn into_reason(self) -> String {
        match self {
            Self::Torn(reason) | Self::Whole(reason) => reason,
        }
    }
}

/// The record that begins at `at`, and its length.
pub(super) fn next_record(
    bytes: &[u8],
    at: usize,
    offset: Offset,
) -> Result<(CommitsRecord, usize), Bad> {
    let bytes = &bytes[at..];
    let torn = |bad: DecodeError| Bad::Torn(bad.to_string());
    let whole = |reason: &dyn ToString| Bad::Whole(reason.to_string());
    let batch = BatchView::parse(bytes).map_err(torn)?;
    batch.verify_crc().map_err(torn)?;
    if batch.header().base_offset != offset {
        let reason = format!("offset {offset} is expected");
        let is_torn = lost_front(at, offset) == Some(batch.header().base_offset);
        return Err(if is_torn { Bad::Torn(reason) } else { Bad::Whole(reason) });
    }
    let record = batch.records().next().ok_or_else(|| whole(&"the batch is empty"))?;
    let record = record.map_err(|bad| whole(&bad))?;
    let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
    let decoded = CommitsRecord::decode(key, value).map_err(|bad| whole(&bad))?;
    Ok((decoded, batch.header().total_len()))
}

/// What an offset reads as, at the front of a record that begins at `at`, when the sector in which it
/// begins was lost and the next one was not. The checksum does not cover it, so the rest is whole.
fn lost_front(at: usize, offset: Offset) -> Option<Offset> {
    let lost = SECTOR - at % SECTOR;
    // Beyond the bytes that the checksum leaves out it would not hold.
    if lost > UNCHECKED_BYTES {
        return None;
    }
    let mut bytes = offset.to_be_bytes();
    bytes.iter_mut().take(lost).for_each(|byte| *byte = 0);
    Some(Offset::from_be_bytes(bytes))
}

/// Whether a whole record lies here that says that the record at `bad` was synced once.
fn proves_damage(bytes: &[u8], bad: Offset) -> bool {
    let Some(header) = bytes.get(..HEADER_LEN) else { return false };
    let Ok(header) = BatchHeader::parse(header) else { return false };
    match next_record(bytes, 0, header.base_offset) {
        Ok((CommitsRecord::Commit(commit), _)) => commit.commits_synced > bad,
        Ok((CommitsRecord::ProducerIds { commits_synced, .. }, _)) => commits_synced > bad,
        Ok((CommitsRecord::Snapshot(_), _)) | Err(_) => false,
    }
}

impl Contents {
    /// What there is when there is no file.
    pub(crate) fn missing(dir: &Path) -> Self {
        let mut contents = Self {
            snapshot: Snapshot::default(),
            records: Vec::new(),
            next_offset: 0,
            path: dir.to_owned(),
            bytes: Vec::new(),
            snapshot_end: 0,
            kept_end: 0,
            damage: None,
        };
        contents.mark_damaged("the commit records are missing".to_owned());
        contents
    }

    /// A witness from elsewhere says that the records below `synced` were synced.
    pub(crate) fn require_up_to(&mut self, synced: Offset) {
        if synced > self.next_offset {
            self.mark_damaged(format!("commit records up to offset {synced} were synced"));
        }
    }

    fn mark_damaged(&mut self, reason: String) {
        self.damage.get_or_insert(Damage {
            path: self.path.clone(),
            position: size(&self.bytes[..self.kept_end]),
            offset: self.next_offset,
            reason,
        });
    }

    /// Makes what was read durable and the rest gone, then goes on writing behind it.
    pub(crate) fn repair(
        &self,
        storage: &Arc<dyn Storage>,
        dir: &Path,
    ) -> Result<(Journal, Repair)> {
        let mut repair = Repair::default();
        let (kept, torn) = self.bytes.split_at(self.kept_end);
        if !torn.is_empty() {
            repair.cut_bytes = size(torn);
            repair.quarantine_path = Some(self.quarantine(storage.as_ref(), dir, torn)?);
        }
        let file = storage.open(&self.path).map_err(|e| Error::io(&self.path, "open", e))?;
        let changed = |operation, done: std::io::Result<()>| {
            done.map_err(|e| Error::io(&self.path, operation, e))
        };
        let behind = &kept[self.snapshot_end..];
        changed("write", file.write_all_at(behind, size(&kept[..self.snapshot_end])))?;
        // Must be BEFORE the cut is synced, or else a second crash could lose what this one kept.
        changed("sync", file.sync())?;
        if !torn.is_empty() {
            changed("cut", file.set_len(size(kept)))?;
            changed("sync", file.sync())?;
        }
        let journal = Journal {
            storage: Arc::clone(storage),
            dir: dir.to_owned(),
            path: self.path.clone(),
            file,
            next_offset: self.next_offset,
            size_bytes: size(kept),
        };
        Ok((journal, repair))
    }

    fn quarantine(&self, storage: &dyn Storage, dir: &Path, torn: &[u8]) -> Result<PathBuf> {
        let stem = self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("journal");
        let mut attempt = 0;
        loop {
            let name = format!("{stem}.{}.{attempt}.quarantine", self.kept_end);
            let path = dir.join(&name);
            if storage.exists(&path).map_err(|e| Error::io(&path, "look for", e))? {
                attempt += 1;
                continue;
            }
            text_file::replace(storage, dir, &name, torn)?;
            return Ok(path);
        }
    }
}

#[cfg(test)]
mod tests;
