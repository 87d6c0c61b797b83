//! Reads whole batches of a segment, and looks up offsets and timestamps in it.
//!
//! Why one pread: a fetch hands out the bytes as they are in the file, so it needs no more than
//! where they begin and where the last whole batch ends.
//!
//! ```text
//!   index entry in front of the offset        the offset's batch        max_bytes
//!        v                                        v                         v
//!   .....|batch|batch|batch|......................|batch|batch|batch|batch|batch|....
//!        +-- at most two index intervals ---------+-------- handed out ---+
//! ```
//!
//! Invariants
//! * A read hands out batches that follow each other without a gap, from one whose place is known on;
//!   a bad header ends it, and is an error when it is the first.
//! * An index entry counts only when the batch that it points at says the same.
//!
//! Reference: Kafka `LogSegment.read`, `FileRecords.searchForTimestamp`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::file_name::Kind;
use super::offset_index::{self, Floor};
use super::tracker::Tracker;
use super::txn_index::{self, AbortedTransaction};
use super::walk::{BadBatch, Step, Walk, follows};
use super::{Aborted, FileDigest, Offsets, Segment, Times, Visitor, time_index};
use crate::error::{Error, Result};
use crate::format::{BatchHeader, BatchView, EndTransactionMarker, HEADER_LEN};
use crate::ids::{Offset, Timestamp};

/// Where to look for an offset's batch: at a batch in front of it, or at itself.
#[derive(Clone, Copy, Debug)]
struct Start {
    position: u64,
    /// Bytes within which the batch begins.
    distance: u64,
    /// The batch's size, when it is known.
    first_len: u64,
    first: First,
}

/// What the batch at a start must be: its base offset lies outside its own checksum.
#[derive(Clone, Copy, Debug)]
enum First {
    BeginsAt(Offset),
    EndsWith(Offset),
}

impl First {
    /// Where the batch with this header must begin.
    fn base_offset(self, header: &BatchHeader) -> Offset {
        match self {
            Self::BeginsAt(base_offset) => base_offset,
            Self::EndsWith(last_offset) => last_offset - Offset::from(header.last_offset_delta),
        }
    }
}

impl Segment {
    /// Whole batches from the one that contains `offset` on: up to `max_bytes`, but at least one,
    /// and none that begins at or behind `end_offset`. Empty when there is none. Checksums are not
    /// verified here.
    ///
    /// # Errors
    ///
    /// * [`Error::Damaged`]: the first batch is not what it should be. Recourse: Fatal; repair.
    /// * [`Error::Io`]: the file cannot be read. Recourse: Fatal.
    pub fn read(&self, offset: Offset, max_bytes: usize, end_offset: Offset) -> Result<Bytes> {
        let end_offset = end_offset.min(self.end_offset());
        let offset = offset.max(self.base_offset);
        if offset >= end_offset {
            return Ok(Bytes::new());
        }
        let size = self.size();
        let start = self.start_for(offset, size)?;
        if start.position >= size && self.has_gaps() {
            return Ok(Bytes::new());
        }
        let wanted = start.distance.saturating_add(start.first_len.max(max_bytes as u64));
        let wanted = wanted.max(HEADER_LEN as u64);
        let bytes = self.read_bytes(start.position, wanted.min(size - start.position))?;
        let mut first = 0;
        let mut header = self.header_in(&bytes, first, start.position, offset)?;
        self.require_base(start.position, start.first.base_offset(&header), &header)?;
        while header.last_offset() < offset {
            first += header.total_len();
            let (position, expected) = (start.position + first as u64, header.next_offset());
            if position >= size && self.has_gaps() {
                return Ok(Bytes::new());
            }
            header = match bytes.get(first..).filter(|rest| rest.len() >= HEADER_LEN) {
                Some(_) => self.header_in(&bytes, first, start.position, expected)?,
                None => self.read_header(position, expected, size)?,
            };
            self.require_base(position, expected, &header)?;
        }
        if header.base_offset >= end_offset {
            return Ok(Bytes::new());
        }
        let length = header.total_len();
        let position = start.position + first as u64;
        if bytes.len() - first.min(bytes.len()) < length {
            if size - position < length as u64 {
                let available = size - position;
                return Err(self.damaged(position, offset, BadBatch::BehindEnd { available }));
            }
            return self.read_bytes(position, length as u64).map(Bytes::from);
        }
        let end = whole_batches(&bytes, first, header, max_bytes, end_offset, self.gaps_below);
        Ok(Bytes::from(bytes).slice(first..end))
    }

    /// The header of the batch that contains `offset`, `None` when there is no such offset.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn header_at(&self, offset: Offset) -> Result<Option<BatchHeader>> {
        if offset < self.base_offset || offset >= self.end_offset() {
            return Ok(None);
        }
        let mut walk = self.walk_from(offset)?;
        loop {
            match walk.step().map_err(|e| self.io(Kind::Log, "read", e))? {
                Some(Step::Batch { header, .. }) if header.last_offset() >= offset => {
                    return Ok(Some(header));
                }
                Some(Step::Batch { .. }) => {}
                Some(Step::Bad(bad)) => {
                    return Err(self.damaged(walk.position(), walk.expected(), bad));
                }
                None => return Ok(None),
            }
        }
    }

    /// The first record at or behind `start_offset`, and in front of `end_offset`, whose timestamp
    /// is at least `timestamp`.
    ///
    /// # Errors
    ///
    /// * [`Error::Damaged`]: a batch on the way is not what it should be. Recourse: Fatal; repair.
    /// * [`Error::Decode`]: the records of a batch on the way cannot be read. Recourse: Fatal.
    /// * [`Error::Io`]: the file cannot be read. Recourse: Fatal.
    pub fn offset_for_time(
        &self,
        timestamp: Timestamp,
        start_offset: Offset,
        end_offset: Offset,
    ) -> Result<Option<(Offset, Timestamp)>> {
        let end_offset = end_offset.min(self.end_offset());
        if self.largest_timestamp().is_none_or(|largest| largest < timestamp) {
            return Ok(None);
        }
        let first = start_offset.max(self.base_offset);
        if first >= end_offset {
            return Ok(None);
        }
        let candidate = self.base_offset + Offset::from(self.time_floor(timestamp)?);
        // An entry names the last offset of its batch; the batch may begin in front of the end.
        let mut walk = self.walk_from(candidate.min(end_offset - 1).max(first))?;
        while let Some(step) = walk.step().map_err(|e| self.io(Kind::Log, "read", e))? {
            let (position, header) = match step {
                Step::Batch { position, header, .. } => (position, header),
                Step::Bad(bad) => return Err(self.damaged(walk.position(), walk.expected(), bad)),
            };
            if header.base_offset >= end_offset {
                break;
            }
            if header.max_timestamp < timestamp || header.last_offset() < start_offset {
                continue;
            }
            let bytes = self.read_bytes(position, header.total_len() as u64)?;
            let batch = BatchView::parse(&bytes)?;
            batch.verify_crc().map_err(|e| self.damaged(position, header.base_offset, e))?;
            for record in batch.records() {
                let record = record?;
                let in_range = record.offset >= start_offset && record.offset < end_offset;
                if record.timestamp >= timestamp && in_range {
                    return Ok(Some((record.offset, record.timestamp)));
                }
            }
        }
        Ok(None)
    }

    /// Adds the aborted transactions that a reader of `from..to` must know and whose markers are
    /// here. True: no later segment has any for it.
    ///
    /// # Errors
    ///
    /// * [`Error::Damaged`]: the index is not what it was. Recourse: Fatal; the partition makes it
    ///   again when it is opened.
    /// * [`Error::Io`]: it cannot be read. Recourse: Fatal.
    pub fn collect_aborted(
        &self,
        from: Offset,
        to: Offset,
        aborted: &mut Vec<AbortedTransaction>,
    ) -> Result<bool> {
        let digest = match &self.indexes.read().aborted {
            Aborted::Memory(entries) => return Ok(txn_index::collect(entries, from, to, aborted)),
            Aborted::File(digest) => *digest,
        };
        let entries = self
            .read_index(Kind::TxnIndex, digest)?
            .and_then(|bytes| txn_index::decode(&bytes))
            .ok_or_else(|| {
                let mut damage = self.damage(0, self.base_offset, "it does not match the seal");
                damage.path = self.place.path(self.base_offset, Kind::TxnIndex);
                self.place.damaged(&damage)
            })?;
        let complete = txn_index::collect(&entries, from, to, aborted);
        self.indexes.write().aborted = Aborted::Memory(entries);
        Ok(complete)
    }

    /// Tells `visitor` of every batch from the one that contains `from` on, in order. Reads headers
    /// and markers only.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); `visitor` has then seen everything in front of the damage.
    pub fn visit(&self, from: Offset, visitor: &mut Visitor<'_>) -> Result<()> {
        if from >= self.end_offset() {
            return Ok(());
        }
        let mut walk = self.walk_from(from)?;
        while let Some(step) = walk.step().map_err(|e| self.io(Kind::Log, "read", e))? {
            let (position, header) = match step {
                Step::Batch { position, header, .. } => (position, header),
                Step::Bad(bad) => return Err(self.damaged(walk.position(), walk.expected(), bad)),
            };
            if header.last_offset() < from {
                continue;
            }
            let mut marker = None;
            if header.is_control() {
                let bytes = self.read_bytes(position, header.total_len() as u64)?;
                let batch = BatchView::parse(&bytes)?;
                batch.verify_crc().map_err(|e| self.damaged(position, header.base_offset, e))?;
                marker = EndTransactionMarker::from_batch(&batch).ok();
            }
            visitor(&header, marker);
        }
        Ok(())
    }

    fn damaged(&self, position: u64, offset: Offset, reason: impl ToString) -> Error {
        self.place.damaged(&self.damage(position, offset, reason))
    }

    /// Offsets follow each other without a gap, but where compaction has been.
    fn require_base(&self, position: u64, expected: Offset, header: &BatchHeader) -> Result<()> {
        let found = header.base_offset;
        if follows(expected, found, self.gaps_below) {
            return Ok(());
        }
        Err(self.damaged(position, expected, BadBatch::Gap { expected, found }))
    }

    fn read_bytes(&self, position: u64, len: u64) -> Result<Vec<u8>> {
        let len = usize::try_from(len).expect("no more than a segment, which is in memory's range");
        let mut bytes = vec![0; len];
        let read = self.log()?.read_exact_at(&mut bytes, position);
        read.map_err(|e| self.io(Kind::Log, "read", e))?;
        Ok(bytes)
    }

    fn read_header(&self, position: u64, expected: Offset, size: u64) -> Result<BatchHeader> {
        let available = size.saturating_sub(position);
        if available < HEADER_LEN as u64 {
            return Err(self.damaged(position, expected, BadBatch::BehindEnd { available }));
        }
        let bytes = self.read_bytes(position, HEADER_LEN as u64)?;
        self.header_in(&bytes, 0, position, expected)
    }

    /// The header at byte `at` of `bytes`, which were read at `start`.
    fn header_in(
        &self,
        bytes: &[u8],
        at: usize,
        start: u64,
        expected: Offset,
    ) -> Result<BatchHeader> {
        BatchHeader::parse(&bytes[at..])
            .map_err(|malformed| self.damaged(start + at as u64, expected, malformed))
    }

    /// Where to begin to look for the batch of an `offset` that the segment has.
    fn start_for(&self, offset: Offset, size: u64) -> Result<Start> {
        let relative = u32::try_from(offset - self.base_offset)
            .expect("a segment's offsets fit the entries of its index");
        self.prove_headers(size)?;
        let floor = match self.offset_floor(relative, size)? {
            Some(floor) => floor,
            None => {
                self.rebuild_offset_index(size)?;
                self.offset_floor(relative, size)?.unwrap_or_default()
            }
        };
        let mut position = floor.entry.map_or(0, |entry| u64::from(entry.position));
        let mut first = match floor.entry {
            Some(entry) => First::EndsWith(self.base_offset + Offset::from(entry.relative)),
            None => First::BeginsAt(self.base_offset),
        };
        let next = floor.next_position.map_or(size, |next| u64::from(next).min(size));
        let gap = next.saturating_sub(position);
        if gap <= 2 * u64::from(self.index_interval_bytes) {
            return Ok(Start { position, distance: gap, first_len: 0, first });
        }
        // Large batches: stepping over headers costs less than reading what lies between.
        loop {
            if position >= size && self.has_gaps() {
                return Ok(Start { position: size, distance: 0, first_len: 0, first });
            }
            let header = self.read_header(position, offset, size)?;
            self.require_base(position, first.base_offset(&header), &header)?;
            let first_len = header.total_len() as u64;
            if header.last_offset() >= offset {
                return Ok(Start { position, distance: 0, first_len, first });
            }
            position += first_len;
            first = First::BeginsAt(header.next_offset());
        }
    }

    /// The index entry in front of an offset; `None` when the index is proved wrong.
    fn offset_floor(&self, relative: u32, size: u64) -> Result<Option<Floor>> {
        let floor = match &self.indexes.read().offsets {
            Offsets::Memory(entries) => return Ok(Some(offset_index::floor(entries, relative))),
            Offsets::File(file) => match file.floor(relative) {
                Ok(floor) => floor,
                Err(error) => {
                    tracing::warn!(path = %file.path().display(), %error, "an index cannot be read");
                    return Ok(None);
                }
            },
        };
        let Some(entry) = floor.entry else { return Ok(Some(floor)) };
        let position = u64::from(entry.position);
        if position + HEADER_LEN as u64 > size {
            return Ok(None);
        }
        let bytes = self.read_bytes(position, HEADER_LEN as u64)?;
        let proved = BatchHeader::parse(&bytes).is_ok_and(|header| {
            header.last_offset() - self.base_offset == Offset::from(entry.relative)
        });
        let ordered = floor.next_position.is_none_or(|next| next > entry.position);
        Ok((proved && ordered).then_some(floor))
    }

    /// Makes the offset index again, in memory: the one in the file is wrong.
    fn rebuild_offset_index(&self, size: u64) -> Result<()> {
        let path = self.place.path(self.base_offset, Kind::OffsetIndex);
        tracing::warn!(path = %path.display(), "an index is wrong, it is rebuilt in memory");
        let mut tracker = Tracker::new(self.base_offset, self.index_interval_bytes);
        let mut entries = Vec::new();
        let mut walk = self.walk(0, self.base_offset, size)?;
        while let Some(step) = walk.step().map_err(|e| self.io(Kind::Log, "read", e))? {
            // The entries in front of damage are good; a read that meets the damage says so.
            let Step::Batch { position, header, header_bytes } = step else { break };
            let Some(position) = u32::try_from(position).ok().filter(|_| tracker.can_hold(&header))
            else {
                break;
            };
            if let Some(new) = tracker.note(&header, &header_bytes, position) {
                entries.push(new.offset);
            }
        }
        self.indexes.write().offsets = Offsets::Memory(entries);
        Ok(())
    }

    /// Walks from some batch at or in front of `offset`, which the segment has.
    fn walk_from(&self, offset: Offset) -> Result<Walk<'_>> {
        let size = self.size();
        let start = self.start_for(offset.max(self.base_offset), size)?;
        if start.position >= size && self.has_gaps() {
            return self.walk(size, self.end_offset(), size);
        }
        let header = self.read_header(start.position, offset, size)?;
        self.require_base(start.position, start.first.base_offset(&header), &header)?;
        self.walk(start.position, header.base_offset, size)
    }

    fn walk(&self, position: u64, expected: Offset, size: u64) -> Result<Walk<'_>> {
        let walk = Walk::new(&**self.log()?, position, expected, size);
        Ok(walk.with_gaps_below(self.gaps_below))
    }

    /// Compares all headers with the seal, once, where a gap could hide that one of them is wrong.
    fn prove_headers(&self, size: u64) -> Result<()> {
        if self.headers_proved.load(Ordering::Acquire) {
            return Ok(());
        }
        let Some(sealed) = self.seal.lock().as_ref().map(|seal| seal.headers_digest) else {
            return Ok(());
        };
        let mut digest = 0;
        let mut walk = self.walk(0, self.base_offset, size)?;
        while let Some(step) = walk.step().map_err(|e| self.io(Kind::Log, "read", e))? {
            match step {
                Step::Batch { header_bytes, .. } => {
                    digest = crc32c::crc32c_append(digest, &header_bytes);
                }
                Step::Bad(bad) => return Err(self.damaged(walk.position(), walk.expected(), bad)),
            }
        }
        if digest != sealed {
            let reason = "its headers are not those that were sealed";
            return Err(self.damaged(0, self.base_offset, reason));
        }
        self.headers_proved.store(true, Ordering::Release);
        Ok(())
    }

    /// Where to begin to look for a timestamp, relative to the base offset.
    fn time_floor(&self, timestamp: Timestamp) -> Result<u32> {
        let digest = match &self.indexes.read().times {
            Times::Memory(entries) => return Ok(time_index::floor(entries, timestamp)),
            Times::File(digest) => *digest,
        };
        let Some(bytes) = self.read_index(Kind::TimeIndex, digest)? else {
            let path = self.place.path(self.base_offset, Kind::TimeIndex);
            tracing::warn!(path = %path.display(), "an index is wrong, it is passed over");
            return Ok(0);
        };
        Ok(time_index::floor(&time_index::decode(&bytes), timestamp))
    }

    /// The bytes of an index file, `None` when they are not the ones that were sealed.
    pub(super) fn read_index(&self, kind: Kind, digest: FileDigest) -> Result<Option<Vec<u8>>> {
        if digest.len == 0 {
            return Ok(Some(Vec::new()));
        }
        let file = match self.storage.open_read_only(&self.place.path(self.base_offset, kind)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.io(kind, "open", error)),
        };
        if file.len().map_err(|e| self.io(kind, "read", e))? != u64::from(digest.len) {
            return Ok(None);
        }
        let mut bytes = vec![0; digest.len as usize];
        file.read_exact_at(&mut bytes, 0).map_err(|e| self.io(kind, "read", e))?;
        Ok((FileDigest::of(&bytes) == digest).then_some(bytes))
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    pub(super) fn shared_log(&self) -> Result<Arc<dyn crate::storage::File>> {
        self.log().map(Arc::clone)
    }
}

/// Where the batches end that are handed out, of `bytes`; the one at `first` is there as a whole.
fn whole_batches(
    bytes: &[u8],
    first: usize,
    mut last: BatchHeader,
    max_bytes: usize,
    end_offset: Offset,
    gaps_below: Offset,
) -> usize {
    let mut end = first + last.total_len();
    loop {
        let Ok(next) = BatchHeader::parse(&bytes[end..]) else { return end };
        let next_end = end + next.total_len();
        let fits = next_end <= bytes.len() && next_end - first <= max_bytes;
        let follows = follows(last.next_offset(), next.base_offset, gaps_below);
        if !fits || !follows || next.base_offset >= end_offset {
            return end;
        }
        (end, last) = (next_end, next);
    }
}
