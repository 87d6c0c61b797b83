//! Opens segments that are complete.
//!
//! Why: opening a log reads one small file per segment. Only what is missing, or not what the seal
//! says, is read and made again.
//!
//! ```text
//!   seal good, indexes as long as it says      nothing is read
//!   seal good, an index missing or wrong       headers are read, indexes and seal written again
//!   seal missing or wrong                      everything is read and verified, then the same
//!   .log shorter than the seal says            damage: readable up to the last whole batch
//! ```
//!
//! Invariants
//! * The `.log` file is never changed.
//! * A segment that is not the last one was synced before the next was made: whatever is wrong
//!   with it is damage, never a torn tail.
//!
//! On crash: everything that is written here can be made again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::file_name::Kind;
use super::seal::{FileDigest, SEAL_LEN, Seal};
use super::tracker::Tracker;
use super::txn_index;
use super::walk::{BadBatch, Step, Walk, verify_checksum};
use super::writer::{adopt_seal, write_file, write_seal};
use super::{Aborted, AbortedTransaction, Damage, Indexes, Place, Segment, SegmentOptions};
use crate::error::{Error, Result};
use crate::ids::Offset;
use crate::storage::{File, Storage};

/// What opening a complete segment found.
#[derive(Debug)]
pub struct OpenedSegment {
    /// The segment, readable up to the damage where there is some.
    pub segment: Arc<Segment>,
    /// Whether seal, offset index or time index were missing or wrong, and made again.
    pub rebuilt: bool,
    /// Whether the transaction index is missing or wrong: it reads as empty until
    /// [`Segment::replace_aborted`] is called.
    pub aborted_lost: bool,
    /// What cannot be read any more.
    pub damage: Option<Damage>,
}

impl Segment {
    /// Opens a segment that is not the last one of its partition.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: a file cannot be read, or an index not written. Damage is not an error here.
    pub fn open_sealed(
        storage: &Arc<dyn Storage>,
        place: &Arc<Place>,
        base_offset: Offset,
        options: SegmentOptions,
    ) -> Result<OpenedSegment> {
        let segment = Self::new(storage, place, base_offset, options, Indexes::in_memory());
        segment.open_complete(None, options)
    }

    /// Opens a segment that compaction may have been at, and behind which the next one begins at
    /// `end_offset`.
    ///
    /// # Errors
    ///
    /// As [`open_sealed`](Self::open_sealed).
    pub fn open_compacted(
        storage: &Arc<dyn Storage>,
        place: &Arc<Place>,
        (base_offset, end_offset): (Offset, Offset),
        gaps_below: Offset,
        options: SegmentOptions,
    ) -> Result<OpenedSegment> {
        let mut segment = Self::new(storage, place, base_offset, options, Indexes::in_memory());
        segment.gaps_below = gaps_below;
        segment.headers_proved = AtomicBool::new(!segment.has_gaps());
        segment.open_complete(Some(end_offset), options)
    }

    fn open_complete(
        self,
        end_offset: Option<Offset>,
        options: SegmentOptions,
    ) -> Result<OpenedSegment> {
        let segment = self;
        let log_path = segment.log_path.clone();
        let log = segment.storage.open_read_only(&log_path);
        let log = log.map_err(|e| Error::io(&log_path, "open", e))?;
        let log_len = log.len().map_err(|e| Error::io(&log_path, "read", e))?;
        drop(log);
        let seal = segment.read_seal()?;
        let Some(seal) = seal else {
            return segment.rebuild_from_log(log_len, None, end_offset, options);
        };
        if log_len != seal.log_len {
            return segment.rebuild_from_log(log_len, Some(seal), end_offset, options);
        }
        let indexes = [(Kind::OffsetIndex, seal.offset_index), (Kind::TimeIndex, seal.time_index)];
        for (kind, digest) in indexes {
            if segment.file_len(kind)? != Some(u64::from(digest.len)) {
                return segment.rebuild_from_log(log_len, Some(seal), end_offset, options);
            }
        }
        let aborted_lost = !segment.has_aborted(&seal)?;
        segment.publish(seal.log_len, seal.end_offset, seal.largest_timestamp);
        adopt_seal(&segment, seal);
        if aborted_lost {
            segment.indexes.write().aborted = Aborted::Memory(Vec::new());
        }
        let segment = Arc::new(segment);
        Ok(OpenedSegment { segment, rebuilt: false, aborted_lost, damage: None })
    }

    /// Makes a complete segment's transaction index again.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::DiskFull`]: it could not be written.
    pub fn replace_aborted(&self, aborted: Vec<AbortedTransaction>) -> Result<()> {
        let bytes = txn_index::encode(&aborted);
        self.indexes.write().aborted = Aborted::Memory(aborted);
        let mut seal = self.seal.lock();
        let Some(seal) = seal.as_mut().filter(|_| self.is_sealed()) else { return Ok(()) };
        seal.txn_index = FileDigest::of(&bytes);
        if bytes.is_empty() {
            self.remove_file(Kind::TxnIndex)?;
        } else {
            let file = write_file(self, Kind::TxnIndex, &bytes)?;
            file.sync().map_err(|e| self.io(Kind::TxnIndex, "sync", e))?;
        }
        let file = write_file(self, Kind::Seal, &seal.encode())?;
        file.sync().map_err(|e| self.io(Kind::Seal, "sync", e))?;
        self.sync_dir()
    }

    fn sync_dir(&self) -> Result<()> {
        self.storage.sync_dir(&self.place.dir).map_err(|e| Error::io(&self.place.dir, "sync", e))
    }

    fn file_len(&self, kind: Kind) -> Result<Option<u64>> {
        match self.storage.open_read_only(&self.place.path(self.base_offset, kind)) {
            Ok(file) => Ok(Some(file.len().map_err(|e| self.io(kind, "read", e))?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io(kind, "open", error)),
        }
    }

    /// How much of the last segment its seal proves, which speaks of what was there when it was written:
    /// headers only, and nothing where there is no seal. `None`: it speaks of other headers.
    pub(super) fn proven_by_seal(&self, log: &dyn File, len: u64) -> Result<Option<u64>> {
        let Some(seal) = self.read_seal()?.filter(|seal| seal.log_len <= len) else {
            return Ok(Some(0));
        };
        let mut digest = 0;
        let mut walk = Walk::new(log, 0, self.base_offset, seal.log_len);
        while let Some(step) = walk.step().map_err(|e| self.io(Kind::Log, "read", e))? {
            let Step::Batch { header_bytes, .. } = step else { return Ok(None) };
            digest = crc32c::crc32c_append(digest, &header_bytes);
        }
        let is_proven = digest == seal.headers_digest && walk.expected() == seal.end_offset;
        Ok(is_proven.then_some(seal.log_len))
    }

    fn read_seal(&self) -> Result<Option<Seal>> {
        if self.file_len(Kind::Seal)? != Some(SEAL_LEN as u64) {
            return Ok(None);
        }
        let path = self.place.path(self.base_offset, Kind::Seal);
        let mut bytes = [0; SEAL_LEN];
        let file = self.storage.open_read_only(&path).map_err(|e| Error::io(&path, "open", e))?;
        file.read_exact_at(&mut bytes, 0).map_err(|e| Error::io(&path, "read", e))?;
        Ok(Seal::decode(&bytes).filter(|seal| seal.fits(self.base_offset)))
    }

    /// Whether the transaction index is the one that was sealed.
    fn has_aborted(&self, seal: &Seal) -> Result<bool> {
        let bytes = self.read_index(Kind::TxnIndex, seal.txn_index)?;
        Ok(bytes.is_some_and(|bytes| txn_index::decode(&bytes).is_some()))
    }

    /// Reads the `.log` file from its beginning, and writes what is missing beside it.
    fn rebuild_from_log(
        self,
        log_len: u64,
        seal: Option<Seal>,
        end_offset: Option<Offset>,
        options: SegmentOptions,
    ) -> Result<OpenedSegment> {
        let log_end = seal.map_or(log_len, |seal| seal.log_len.min(log_len));
        let mut tracker = Tracker::new(self.base_offset, options.index_interval_bytes);
        let mut damage = self.read_headers(log_end, seal.is_none(), &mut tracker)?;
        if let Some(seal) = seal {
            if damage.is_some() || tracker.headers_digest() != seal.headers_digest {
                // A header is wrong: the checksums of the batches tell which one.
                self.forget_batches();
                tracker = Tracker::new(self.base_offset, options.index_interval_bytes);
                damage = self.read_headers(log_end, true, &mut tracker)?;
            }
            damage = damage.or_else(|| self.compare(&seal, log_len));
        } else if damage.is_none() {
            self.end_at(end_offset);
        }
        if damage.is_some() {
            self.sealed.store(true, Ordering::Release);
            let segment = Arc::new(self);
            return Ok(OpenedSegment { segment, rebuilt: false, aborted_lost: true, damage });
        }
        let mut aborted_lost = true;
        if let Some(seal) = seal
            && let Some(bytes) = self.read_index(Kind::TxnIndex, seal.txn_index)?
            && let Some(aborted) = txn_index::decode(&bytes)
        {
            self.indexes.write().aborted = Aborted::Memory(aborted);
            aborted_lost = false;
        }
        write_seal(&self, &mut tracker)?;
        self.sync_dir()?;
        let segment = Arc::new(self);
        Ok(OpenedSegment { segment, rebuilt: true, aborted_lost, damage: None })
    }

    /// What a good seal knows better than the file, whose batches are in order.
    fn compare(&self, seal: &Seal, log_len: u64) -> Option<Damage> {
        if log_len >= seal.log_len {
            self.end_at(Some(seal.end_offset));
        }
        if self.end_offset() != seal.end_offset {
            return Some(self.damage(self.size(), self.end_offset(), "the file ends too early"));
        }
        if log_len > seal.log_len {
            return Some(self.damage(seal.log_len, seal.end_offset, "bytes follow the last batch"));
        }
        None
    }

    /// The last offsets of a segment may be missing where compaction has been.
    fn end_at(&self, end_offset: Option<Offset>) {
        let end = end_offset.filter(|end| self.has_gaps() && *end > self.end_offset());
        if let Some(end) = end.filter(|end| *end <= self.gaps_below) {
            self.end_offset.store(end, Ordering::Release);
        }
    }

    fn forget_batches(&self) {
        *self.indexes.write() = Indexes::in_memory();
        self.publish(0, self.base_offset, i64::MIN);
    }

    /// Publishes everything in front of the first bad batch, which it answers.
    fn read_headers(
        &self,
        log_end: u64,
        verify: bool,
        tracker: &mut Tracker,
    ) -> Result<Option<Damage>> {
        let log = self.shared_log()?;
        let mut buffer = Vec::new();
        let mut walk =
            Walk::new(&*log, 0, self.base_offset, log_end).with_gaps_below(self.gaps_below);
        let io = |e| self.io(Kind::Log, "read", e);
        while let Some(step) = walk.step().map_err(io)? {
            let (position, header, header_bytes) = match step {
                Step::Batch { position, header, header_bytes } => (position, header, header_bytes),
                Step::Bad(bad) => {
                    return Ok(Some(self.damage(walk.position(), walk.expected(), bad)));
                }
            };
            if verify {
                let verdict = verify_checksum(&*log, position, &header, &mut buffer).map_err(io)?;
                if let Err(bad) = verdict.map_err(BadBatch::from) {
                    return Ok(Some(self.damage(position, header.base_offset, bad)));
                }
            }
            let short = u32::try_from(position).ok().filter(|_| tracker.can_hold(&header));
            let Some(short) = short else {
                let reason = "the segment is larger than its indexes can express";
                return Ok(Some(self.damage(position, header.base_offset, reason)));
            };
            if let Some(entries) = tracker.note(&header, &header_bytes, short) {
                self.indexes.write().push(entries);
            }
            let largest = tracker.largest_timestamp().expect("a batch was noted");
            self.publish(walk.position(), walk.expected(), largest);
        }
        Ok(None)
    }
}
