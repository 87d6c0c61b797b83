//! Reads everything of one segment and says what is there; changes nothing.
//!
//! Why: opening a log proves as much as it must to serve it. Who wants to know all, or to repair, needs
//! what lies behind damage too.
//!
//! ```text
//!   .log   |== good ==|xx bad xx|===== good =====|x|
//!          batches whose checksum is right, and the next one found behind bytes that are none
//! ```
//!
//! Invariants
//! * Stretches follow each other from the first byte to the last, good and bad in turn.
//! * The search behind damage reads at most [`SEARCH_FACTOR`] times the file, whatever it holds.
//!
//! Reference: Kafka `DumpLogSegments`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file_name::{Kind, Stage, staged};
use super::offset_index::{self, OffsetEntry};
use super::seal::{FileDigest, Seal};
use super::walk::verify_checksum;
use super::{AbortedTransaction, Place, txn_index};
use crate::error::{Error, Result};
use crate::format::{BatchHeader, BatchView, EndTransactionMarker, HEADER_LEN};
use crate::ids::Offset;
use crate::storage::{File, Storage};

/// How much of the file is looked at once for the next batch.
const WINDOW_BYTES: usize = 1 << 20;
/// How many times the size of the file is read at most for the checksums of what may be a batch.
const SEARCH_FACTOR: u64 = 4;

/// Neighbouring bytes that are all good, or all bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Where it begins in the file.
    pub from: u64,
    /// Where it ends, exclusive.
    pub to: u64,
    /// The first offset of its batches, or of those that should be there.
    pub first_offset: Offset,
    /// The offset behind them. Of a bad stretch at the end of the file: its first offset.
    pub next_offset: Offset,
    /// What is wrong with its first bytes; `None` when it is good.
    pub bad: Option<String>,
}

/// What a segment holds.
#[derive(Clone, Debug)]
pub struct Examined {
    /// Its first offset.
    pub base_offset: Offset,
    /// Its `.log` file.
    pub path: PathBuf,
    /// Its seal, which need not be there.
    pub seal_path: PathBuf,
    /// Whether batches are missing between others: compaction took them.
    pub has_gaps: bool,
    /// All bytes of that file.
    pub stretches: Vec<Stretch>,
    /// How many good batches there are.
    pub batches: u64,
    /// Where the last offset ends that the seal speaks of.
    pub sealed_end: Option<Offset>,
    /// How many bytes the seal speaks of.
    pub sealed_bytes: Option<u64>,
    /// Files beside it that are missing or wrong, and why. They can be made again.
    pub beside: Vec<(PathBuf, String)>,
    /// The aborted transactions, where the seal proves them.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// The headers are good, and not those that were sealed.
    pub is_another: bool,
}

impl Examined {
    /// The offset behind the last good batch.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.stretches.last().map_or(self.base_offset, |last| last.next_offset)
    }

    /// The bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.stretches.last().map_or(0, |last| last.to)
    }
}

/// Which segment to examine, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Examination {
    /// Its first offset.
    pub base_offset: Offset,
    /// Where the next segment begins; `None` for the last one.
    pub next_base: Option<Offset>,
    /// Below this offset batches may be missing: compaction took them.
    pub gaps_below: Offset,
    /// Its files are those of a replacement that is decided and not yet in place.
    pub is_swap: bool,
}

/// What comes next in a segment.
#[derive(Clone, Copy, Debug)]
pub enum Next<'a> {
    /// A good batch; the marker that it holds, if it holds one.
    Batch(&'a BatchHeader, Option<EndTransactionMarker>),
    /// Bytes that are no batch. This offset should have followed.
    Hole(Offset),
}

/// Told what a segment holds, in order.
pub(super) type Reader<'a> = dyn FnMut(Next<'_>) + 'a;

struct Examiner<'a> {
    log: Arc<dyn File>,
    path: PathBuf,
    len: u64,
    what: Examination,
    budget: u64,
    buffer: Vec<u8>,
    reader: &'a mut Reader<'a>,
    index: std::vec::IntoIter<OffsetEntry>,
    next_entry: Option<OffsetEntry>,
    index_is_wrong: bool,
    digest: u32,
    seal: Option<Seal>,
    /// The headers up to where the seal speaks of them are those that were sealed.
    is_as_sealed: bool,
    found: Examined,
}

/// Reads a segment whole. `reader` is told of everything in it.
///
/// # Errors
///
/// [`Error::Io`]: a file cannot be read.
pub fn examine<'a>(
    storage: &dyn Storage,
    place: &Place,
    what: Examination,
    reader: &'a mut Reader<'a>,
) -> Result<Examined> {
    let files = Files { storage, place, what };
    let path = files.path(Kind::Log)?;
    let log = storage.open_read_only(&path).map_err(|e| Error::io(&path, "open", e))?;
    let len = log.len().map_err(|e| Error::io(&path, "read", e))?;
    let index = files.read(Kind::OffsetIndex)?;
    let entries = index.as_deref().map(offset_index::decode).unwrap_or_default();
    let seal_bytes = files.seal()?;
    let seal = seal_bytes.as_deref().and_then(Seal::decode).filter(|s| s.fits(what.base_offset));
    let mut examiner = Examiner {
        log,
        path: path.clone(),
        len,
        what,
        budget: len.saturating_mul(SEARCH_FACTOR),
        buffer: Vec::new(),
        reader,
        index: entries.into_iter(),
        next_entry: None,
        index_is_wrong: false,
        digest: 0,
        seal,
        is_as_sealed: seal.is_some_and(|seal| seal.log_len == 0),
        found: Examined {
            base_offset: what.base_offset,
            path,
            seal_path: files.path(Kind::Seal)?,
            has_gaps: false,
            stretches: Vec::new(),
            batches: 0,
            sealed_end: None,
            sealed_bytes: None,
            beside: Vec::new(),
            aborted: None,
            is_another: false,
        },
    };
    examiner.next_entry = examiner.index.next();
    examiner.read()?;
    let Examiner { mut found, index_is_wrong, next_entry, is_as_sealed, .. } = examiner;
    let has_wrong_index = index_is_wrong || next_entry.is_some();
    let is_whole = found.stretches.iter().all(|stretch| stretch.bad.is_none());
    files.compare(&mut found, index.as_deref(), has_wrong_index && is_whole, seal)?;
    if seal.is_none() && seal_bytes.is_some() {
        found.beside.push((found.seal_path.clone(), "its checksum does not fit".to_owned()));
    }
    let speaks_of_this = seal.is_some_and(|seal| match what.next_base {
        Some(_) => seal.log_len == found.bytes(),
        None => seal.log_len <= found.bytes(),
    });
    found.is_another = is_whole && speaks_of_this && !is_as_sealed;
    Ok(found)
}

impl Examiner<'_> {
    fn io(&self) -> impl Fn(std::io::Error) -> Error + use<> {
        let path = self.path.clone();
        move |e| Error::io(&path, "read", e)
    }

    fn read(&mut self) -> Result<()> {
        let (mut position, mut expected) = (0, self.what.base_offset);
        while position < self.len {
            match self.batch_at(position, expected)? {
                Ok(header) => {
                    self.found.has_gaps |= header.base_offset > expected;
                    self.note(position, &header)?;
                    (position, expected) =
                        (position + header.total_len() as u64, header.next_offset());
                }
                Err(reason) => {
                    (self.reader)(Next::Hole(expected));
                    let found = self.search(position + 1, expected)?;
                    let (to, next) = found.unwrap_or((self.len, expected));
                    self.found.stretches.push(Stretch {
                        from: position,
                        to,
                        first_offset: expected,
                        next_offset: next,
                        bad: Some(reason),
                    });
                    (position, expected) = (to, next);
                }
            }
        }
        Ok(())
    }

    /// The batch that begins here; the inner error says why there is none.
    fn batch_at(&mut self, at: u64, expected: Offset) -> Result<Result<BatchHeader, String>> {
        let available = self.len - at;
        if available < HEADER_LEN as u64 {
            return Ok(Err(format!("the last {available} bytes are no batch")));
        }
        let mut bytes = [0; HEADER_LEN];
        self.log.read_exact_at(&mut bytes, at).map_err(self.io())?;
        let header = match BatchHeader::parse(&bytes) {
            Ok(header) => header,
            Err(malformed) => return Ok(Err(malformed.to_string())),
        };
        if let Err(reason) = self.fits(&header, at, expected) {
            return Ok(Err(reason));
        }
        let verdict = verify_checksum(&*self.log, at, &header, &mut self.buffer);
        Ok(verdict.map_err(self.io())?.map(|()| header).map_err(|wrong| wrong.to_string()))
    }

    fn fits(&self, header: &BatchHeader, at: u64, expected: Offset) -> Result<(), String> {
        let found = header.base_offset;
        let may_skip = found > expected && found < self.what.gaps_below;
        if found != expected && !may_skip {
            return Err(format!("the batch begins at offset {found}, {expected} is next"));
        }
        if header.total_len() as u64 > self.len - at {
            return Err("the batch goes on behind the end of the file".to_owned());
        }
        if self.what.next_base.is_some_and(|next| header.next_offset() > next) {
            return Err("its offsets are those of the next segment".to_owned());
        }
        if i32::try_from(header.last_offset() - self.what.base_offset).is_err() {
            return Err("its offsets are too large for the segment".to_owned());
        }
        Ok(())
    }

    /// Where the next good batch begins at or behind `from`, and with which offset.
    fn search(&mut self, mut from: u64, expected: Offset) -> Result<Option<(u64, Offset)>> {
        let mut window = Vec::new();
        while self.len.saturating_sub(from) >= HEADER_LEN as u64 {
            let left = self.len - from;
            let take = usize::try_from(left).map_or(WINDOW_BYTES, |left| left.min(WINDOW_BYTES));
            window.resize(take, 0);
            self.log.read_exact_at(&mut window, from).map_err(self.io())?;
            for (start, bytes) in window.windows(HEADER_LEN).enumerate() {
                let Ok(header) = BatchHeader::parse(bytes) else { continue };
                let (at, found) = (from + start as u64, header.base_offset);
                if found < expected || self.fits(&header, at, found).is_err() {
                    continue;
                }
                let cost = header.total_len() as u64;
                if self.budget < cost {
                    return Ok(None);
                }
                self.budget -= cost;
                let verdict = verify_checksum(&*self.log, at, &header, &mut self.buffer);
                if verdict.map_err(self.io())?.is_ok() {
                    return Ok(Some((at, found)));
                }
            }
            from += (take - HEADER_LEN + 1) as u64;
        }
        Ok(None)
    }

    fn note(&mut self, at: u64, header: &BatchHeader) -> Result<()> {
        let mut bytes = vec![0; if header.is_control() { header.total_len() } else { HEADER_LEN }];
        self.log.read_exact_at(&mut bytes, at).map_err(self.io())?;
        let marker = if header.is_control() {
            let view = BatchView::parse(&bytes);
            view.and_then(|batch| EndTransactionMarker::from_batch(&batch)).ok()
        } else {
            None
        };
        self.digest = crc32c::crc32c_append(self.digest, &bytes[..HEADER_LEN]);
        let end = at + header.total_len() as u64;
        self.is_as_sealed |=
            self.seal.is_some_and(|seal| seal.log_len == end && seal.headers_digest == self.digest);
        self.check_index(at, header);
        (self.reader)(Next::Batch(header, marker));
        self.found.batches += 1;
        let to = at + header.total_len() as u64;
        match self.found.stretches.last_mut().filter(|last| last.bad.is_none()) {
            Some(last) => (last.to, last.next_offset) = (to, header.next_offset()),
            None => self.found.stretches.push(Stretch {
                from: at,
                to,
                first_offset: header.base_offset,
                next_offset: header.next_offset(),
                bad: None,
            }),
        }
        Ok(())
    }

    /// An entry must point at the batch that it names.
    fn check_index(&mut self, at: u64, header: &BatchHeader) {
        let Some(entry) = self.next_entry.filter(|entry| u64::from(entry.position) <= at) else {
            return;
        };
        let is_right = u64::from(entry.position) == at
            && Offset::from(entry.relative) == header.last_offset() - self.what.base_offset;
        self.index_is_wrong |= !is_right;
        self.next_entry = self.index.next();
    }
}

/// The files beside a `.log` file.
struct Files<'a> {
    storage: &'a dyn Storage,
    place: &'a Place,
    what: Examination,
}

impl Files<'_> {
    /// Of a replacement some files may be in place.
    fn path(&self, kind: Kind) -> Result<PathBuf> {
        let swap = staged(&self.place.dir, self.what.base_offset, kind, Stage::Swap);
        let exists =
            |path: &Path| self.storage.exists(path).map_err(|e| Error::io(path, "look for", e));
        if self.what.is_swap && exists(&swap)? {
            return Ok(swap);
        }
        Ok(self.place.path(self.what.base_offset, kind))
    }

    fn read(&self, kind: Kind) -> Result<Option<Vec<u8>>> {
        read_whole(self.storage, &self.path(kind)?)
    }

    /// The seal, or the one that a repair has set aside.
    fn seal(&self) -> Result<Option<Vec<u8>>> {
        if let Some(bytes) = self.read(Kind::Seal)? {
            return Ok(Some(bytes));
        }
        let path = self.path(Kind::Seal)?;
        read_whole(self.storage, Path::new(&format!("{}.repair", path.display())))
    }

    fn compare(
        &self,
        found: &mut Examined,
        index: Option<&[u8]>,
        index_is_wrong: bool,
        seal: Option<Seal>,
    ) -> Result<()> {
        let mut wrong = |kind: Kind, why: &str| -> Result<()> {
            found.beside.push((self.path(kind)?, why.to_owned()));
            Ok(())
        };
        if index_is_wrong {
            wrong(Kind::OffsetIndex, "an entry does not point at the batch that it names")?;
        }
        let Some(seal) = seal else { return Ok(()) };
        let (times, aborted) = (self.read(Kind::TimeIndex)?, self.read(Kind::TxnIndex)?);
        let has_indexes = !speaks_of_a_front(&seal);
        if has_indexes {
            for (kind, bytes, sealed) in [
                (Kind::OffsetIndex, index, seal.offset_index),
                (Kind::TimeIndex, times.as_deref(), seal.time_index),
                (Kind::TxnIndex, aborted.as_deref(), seal.txn_index),
            ] {
                if !is_digest_of(bytes, sealed) {
                    let is_there = bytes.is_some();
                    let why = if is_there { "it is not what was sealed" } else { "it is missing" };
                    wrong(kind, why)?;
                }
            }
        }
        (found.sealed_end, found.sealed_bytes) = (Some(seal.end_offset), Some(seal.log_len));
        if has_indexes && is_digest_of(aborted.as_deref(), seal.txn_index) {
            found.aborted = txn_index::decode(aborted.as_deref().unwrap_or_default());
        }
        Ok(())
    }
}

/// Whether the seal speaks of the front of a last segment only, and of no indexes.
fn speaks_of_a_front(seal: &Seal) -> bool {
    let none = FileDigest::default();
    seal.offset_index == none && seal.time_index == none && seal.log_len > 0
}

fn is_digest_of(bytes: Option<&[u8]>, digest: FileDigest) -> bool {
    FileDigest::of(bytes.unwrap_or_default()) == digest
}

fn read_whole(storage: &dyn Storage, path: &Path) -> Result<Option<Vec<u8>>> {
    let read = || -> std::io::Result<Vec<u8>> {
        let file = storage.open_read_only(path)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(std::io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, "read", error)),
    }
}
