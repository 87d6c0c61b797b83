//! The end of a segment that is being written.
//!
//! Why: a partition has one writer; it alone changes a segment, and what it has written is
//! published for readers by two atomics.
//!
//! ```text
//!   create -> append* -> seal     data synced, then indexes written and synced, then the seal
//! ```
//!
//! Invariants
//! * One write per batch, at the end; a failed write publishes nothing, and the log crashes.
//! * A seal is written only after everything that it speaks of was synced.
//!
//! On crash: see `recovery.rs`.
//! Reference: Kafka `LogSegment.append`, `shouldRoll`, `onBecomeInactiveSegment`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::file_name::Kind;
use super::offset_index::{self, OffsetIndexFile};
use super::seal::{FileDigest, Seal};
use super::tracker::Tracker;
use super::txn_index::{self, AbortedTransaction};
use super::{Aborted, Indexes, Offsets, Place, Segment, SegmentOptions, Times, time_index};
use crate::error::{Error, Result};
use crate::format::BatchHeader;
use crate::ids::Offset;
use crate::storage::{File, Storage};

/// Writes the last segment of a partition.
#[derive(Debug)]
pub struct SegmentWriter {
    segment: Arc<Segment>,
    log: Arc<dyn File>,
    tracker: Tracker,
    options: SegmentOptions,
    /// How much of the segment the last seal speaks of.
    sealed_bytes: u64,
}

/// How much is written between two seals of the last segment: the next start reads no more bodies than
/// that in front of the witness.
const SEAL_EVERY_BYTES: u64 = 16 << 20;

impl SegmentWriter {
    /// Makes an empty segment and syncs the directory, so that its name and the files of the
    /// segment in front of it are there after a power cut.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::DiskFull`]: the log has to crash.
    pub fn create(
        storage: &Arc<dyn Storage>,
        place: &Arc<Place>,
        base_offset: Offset,
        options: SegmentOptions,
    ) -> Result<Self> {
        let path = place.path(base_offset, Kind::Log);
        let log = storage.create(&path).map_err(|e| Error::io(&path, "create", e))?;
        storage.sync_dir(&place.dir).map_err(|e| Error::io(&place.dir, "sync", e))?;
        let segment = Segment::new(storage, place, base_offset, options, Indexes::in_memory());
        let tracker = Tracker::new(base_offset, options.index_interval_bytes);
        Ok(Self::resume(segment, log, tracker, options))
    }

    /// Goes on writing a segment that recovery has read.
    pub(super) fn resume(
        segment: Segment,
        log: Arc<dyn File>,
        tracker: Tracker,
        options: SegmentOptions,
    ) -> Self {
        segment.log.get_or_init(|| Arc::clone(&log));
        Self { segment: Arc::new(segment), log, tracker, options, sealed_bytes: 0 }
    }

    /// The readable part.
    #[must_use]
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// From now on rolls by other limits; how dense its indexes are stays as it is.
    pub fn set_options(&mut self, options: SegmentOptions) {
        self.options = options;
    }

    /// Whether this batch must go to a new segment: this one would grow too large, spans too much
    /// record time, or its indexes cannot express the offset. The clock has no say, so that none
    /// that jumps makes segments. An empty segment takes every batch.
    #[must_use]
    pub fn should_roll(&self, header: &BatchHeader) -> bool {
        let size = self.segment.size();
        if size == 0 {
            return false;
        }
        let too_large = size + header.total_len() as u64
            > u64::from(self.options.segment_bytes.min(i32::MAX.cast_unsigned()));
        let too_long =
            self.tracker.first_batch_timestamp().filter(|first| *first >= 0).is_some_and(|first| {
                header.max_timestamp.saturating_sub(first) > self.options.segment_ms
            });
        too_large || too_long || !self.tracker.can_hold(header)
    }

    /// Writes a stamped batch to the end with one write; readers can see it at once.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::DiskFull`]: the log has to crash; some of the bytes may be there.
    ///
    /// # Panics
    ///
    /// When the batch does not begin at the segment's end offset.
    pub fn append(&mut self, batch: &[u8], header: &BatchHeader) -> Result<()> {
        let segment = &*self.segment;
        assert_eq!(header.base_offset, segment.end_offset(), "offsets have no gaps");
        let size = segment.size();
        self.log.write_all_at(batch, size).map_err(|e| Error::io(&segment.log_path, "write", e))?;
        let header_bytes = batch.first_chunk().expect("a batch begins with its header");
        let position = u32::try_from(size).expect("a segment is smaller than 4 GiB");
        if let Some(entries) = self.tracker.note(header, header_bytes, position) {
            segment.indexes.write().push(entries);
        }
        let largest = self.tracker.largest_timestamp().expect("a batch was noted");
        segment.publish(size + batch.len() as u64, header.next_offset(), largest);
        Ok(())
    }

    /// Notes an aborted transaction whose marker is in this segment.
    pub fn append_aborted(&mut self, entry: AbortedTransaction) {
        if let Aborted::Memory(aborted) = &mut self.segment.indexes.write().aborted {
            aborted.push(entry);
        }
    }

    /// Writes the index files of a segment that stays the last one, for tools that read a closed
    /// log, and a seal by which the next start knows its headers again. They are not synced.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::DiskFull`]: the log has to crash.
    pub fn write_indexes(&mut self) -> Result<()> {
        let written = write_index_files(&self.segment, &mut self.tracker)?;
        let seal = seal_of(&self.segment, &self.tracker, &written);
        write_file(&self.segment, Kind::Seal, &seal.encode()).map(|_file| ())
    }

    /// Leaves a seal of what is there by now, when enough was written since the last one. It is not
    /// synced: one that is missing or torn costs the next start a longer look.
    pub fn seal_front(&mut self) {
        let size = self.segment.size();
        if size < self.sealed_bytes + SEAL_EVERY_BYTES {
            return;
        }
        self.sealed_bytes = size;
        let headers_digest = self.tracker.headers_digest();
        let seal = Seal { headers_digest, ..Seal::of(&self.segment) };
        if let Err(error) = write_file(&self.segment, Kind::Seal, &seal.encode()) {
            tracing::debug!(%error, "the front of a segment is not sealed");
        }
    }

    /// Ends the segment: syncs its data, writes and syncs its indexes and its seal. The directory
    /// is synced when the next segment is created.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::DiskFull`]: the log has to crash.
    pub fn seal(mut self) -> Result<Arc<Segment>> {
        self.segment.sync_data()?;
        write_seal(&self.segment, &mut self.tracker)?;
        Ok(self.segment)
    }
}

/// The index files, in the order of the seal.
struct Written {
    offset_index: (Arc<dyn File>, FileDigest),
    time_index: (Arc<dyn File>, FileDigest),
    txn_index: Option<(Arc<dyn File>, FileDigest)>,
}

/// Writes the indexes that are in memory to their files.
fn write_index_files(segment: &Segment, tracker: &mut Tracker) -> Result<Written> {
    let (offsets, times, aborted) = {
        let mut indexes = segment.indexes.write();
        if let (Times::Memory(times), Some(last)) = (&mut indexes.times, tracker.next_time_entry())
        {
            times.push(last);
        }
        match &*indexes {
            Indexes {
                offsets: Offsets::Memory(offsets),
                times: Times::Memory(times),
                aborted: Aborted::Memory(aborted),
            } => (
                offset_index::encode(offsets),
                time_index::encode(times),
                txn_index::encode(aborted),
            ),
            _ => unreachable!("only a segment whose indexes are in memory is written"),
        }
    };
    let write = |kind, bytes: &[u8]| -> Result<_> {
        Ok((write_file(segment, kind, bytes)?, FileDigest::of(bytes)))
    };
    let txn_index = if aborted.is_empty() {
        segment.remove_file(Kind::TxnIndex)?;
        None
    } else {
        Some(write(Kind::TxnIndex, &aborted)?)
    };
    Ok(Written {
        offset_index: write(Kind::OffsetIndex, &offsets)?,
        time_index: write(Kind::TimeIndex, &times)?,
        txn_index,
    })
}

impl Seal {
    /// What a segment is by itself, without its headers' digest and without indexes.
    fn of(segment: &Segment) -> Self {
        let none = FileDigest::default();
        Self {
            log_len: segment.size(),
            end_offset: segment.end_offset(),
            largest_timestamp: segment.largest_timestamp().unwrap_or(i64::MIN),
            headers_digest: 0,
            offset_index: none,
            time_index: none,
            txn_index: none,
        }
    }
}

fn seal_of(segment: &Segment, tracker: &Tracker, written: &Written) -> Seal {
    let digest = |file: &(Arc<dyn File>, FileDigest)| file.1;
    Seal {
        headers_digest: tracker.headers_digest(),
        offset_index: digest(&written.offset_index),
        time_index: digest(&written.time_index),
        txn_index: written.txn_index.as_ref().map(digest).unwrap_or_default(),
        ..Seal::of(segment)
    }
}

/// Writes and syncs the indexes, then the seal; from then on the files are used.
pub(super) fn write_seal(segment: &Segment, tracker: &mut Tracker) -> Result<()> {
    let written = write_index_files(segment, tracker)?;
    let sync = |kind, file: &Arc<dyn File>| file.sync().map_err(|e| segment.io(kind, "sync", e));
    sync(Kind::OffsetIndex, &written.offset_index.0)?;
    sync(Kind::TimeIndex, &written.time_index.0)?;
    if let Some((file, _)) = &written.txn_index {
        sync(Kind::TxnIndex, file)?;
    }
    let seal = seal_of(segment, tracker, &written);
    // Must be AFTER the syncs above, or else a seal vouches for bytes that are not there.
    sync(Kind::Seal, &write_file(segment, Kind::Seal, &seal.encode())?)?;
    adopt_seal(segment, seal);
    Ok(())
}

/// From now on the segment is what its seal says, and its indexes are those in the files.
pub(super) fn adopt_seal(segment: &Segment, seal: Seal) {
    let path = segment.place.path(segment.base_offset, Kind::OffsetIndex);
    let entries = seal.offset_index.len as usize / offset_index::ENTRY_LEN;
    let mut indexes = segment.indexes.write();
    indexes.offsets = Offsets::File(OffsetIndexFile::new(&segment.storage, &path, entries));
    indexes.times = Times::File(seal.time_index);
    if matches!(&indexes.aborted, Aborted::Memory(aborted) if aborted.is_empty()) {
        indexes.aborted = Aborted::File(seal.txn_index);
    }
    *segment.seal.lock() = Some(seal);
    segment.sealed.store(true, Ordering::Release);
}

/// Replaces the content of one of the segment's files, which is made when it is missing.
pub(super) fn write_file(segment: &Segment, kind: Kind, bytes: &[u8]) -> Result<Arc<dyn File>> {
    let path = segment.place.path(segment.base_offset, kind);
    let file = match segment.storage.open(&path) {
        Ok(file) => {
            file.set_len(0).map_err(|e| Error::io(&path, "write", e))?;
            file
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            segment.storage.create(&path).map_err(|e| Error::io(&path, "create", e))?
        }
        Err(error) => return Err(Error::io(&path, "open", error)),
    };
    if !bytes.is_empty() {
        file.write_all_at(bytes, 0).map_err(|e| Error::io(&path, "write", e))?;
    }
    Ok(file)
}
