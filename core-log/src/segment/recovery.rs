//! Brings the last segment of a partition back after a crash: tells a torn tail from damage.
//!
//! ```text
//!        base offset          witness                first bad batch          end of file
//!   .log |--- headers in order ---|--- checksums right ---|--- cut, quarantined ---|
//!         anything wrong: damage,  rewritten in place with
//!         nothing is changed       the same bytes, synced
//! ```
//!
//! Why rewritten: after a failed sync the page cache may hold bytes that the disk does not, marked
//! clean; only writing them again makes a sync write them.
//!
//! Invariants
//! * In front of the witness nothing is ever cut, whatever is wrong with it. Where the witnesses themselves
//!   are lost, nothing is cut at all.
//! * Every checksum is verified, but for batches in front of the witness whose headers the segment's last
//!   seal proves: then the work is in proportion to what was written since.
//! * The order is: copy the tail to quarantine and sync it; write the kept bytes again and sync
//!   them; only then cut and sync. A crash in between recovers to the same end.
//! * When this returns, everything that is kept is on the disk and everything behind it is gone,
//!   so that no dead batch can come back behind a later append.
//! * A seal is removed, durably, before the segment can be written.
//!
//! On crash: running it again gives the same result.
//! Reference: Kafka `LogLoader`, `LogSegment.recover`.

use std::path::PathBuf;
use std::sync::Arc;

use super::file_name::{self, Kind};
use super::tracker::Tracker;
use super::walk::{BadBatch, CHUNK_BYTES, Step, Walk, verify_checksum};
use super::writer::SegmentWriter;
use super::{Damage, Indexes, Place, Segment, SegmentOptions, Visitor};
use crate::error::{Error, Result};
use crate::format::{BatchHeader, BatchView, EndTransactionMarker};
use crate::ids::Offset;
use crate::storage::{File, Storage};

/// A witness for a partition of which nobody knows any more up to where it was synced: whatever is wrong
/// is then damage, and a file that ends after a whole batch is all that there was.
pub const WITNESS_LOST: Offset = Offset::MAX;

/// What recovery of the last segment did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TailReport {
    /// Bytes of the segment that are kept.
    pub kept_bytes: u64,
    /// Those of them that no witness covered: written again and synced.
    pub rewritten_bytes: u64,
    /// Bytes that were cut.
    pub cut_bytes: u64,
    /// Where the partition ends now: the offset that would have been next was cut.
    pub cut_offset: Offset,
    /// Where the bytes are that were cut.
    pub quarantine_path: Option<PathBuf>,
    /// What was wrong with the first batch that was cut.
    pub cut_reason: Option<String>,
    /// All batches are good, and not those that the segment's seal speaks of: another file was put in its
    /// place, or bytes outside of the checksums have changed.
    pub differs_from_seal: bool,
}

/// The last segment after recovery.
#[derive(Debug)]
pub enum Recovered {
    /// It can be written.
    Writable {
        /// To go on writing.
        writer: SegmentWriter,
        /// What was done.
        report: TailReport,
    },
    /// Something in front of the witness is gone or wrong: nothing was changed.
    Damaged {
        /// The segment, readable up to the damage.
        segment: Arc<Segment>,
        /// What is wrong, and where.
        damage: Damage,
    },
}

/// What reading the segment found.
struct Tail {
    /// Where the bytes begin that no witness covers.
    unwitnessed_from: u64,
    /// Where the first bad batch begins, or the end of the file.
    cut_at: u64,
    reason: Option<BadBatch>,
}

struct Recovery<'a> {
    segment: Segment,
    log: Arc<dyn File>,
    tracker: Tracker,
    witness: Offset,
    /// In front of this position every header is as it was when the last seal was written.
    proven_below: u64,
    buffer: Vec<u8>,
    visitor: &'a mut Visitor<'a>,
}

/// Recovers the last segment of a partition of which every offset below `witness` was synced.
/// `visitor` is told of every batch that is kept, in order.
///
/// # Errors
///
/// [`Error::Io`] or [`Error::DiskFull`]: a file could not be read or written; calling this again
/// may succeed. Damage is not an error here.
pub fn recover_active<'a>(
    storage: &Arc<dyn Storage>,
    place: &Arc<Place>,
    base_offset: Offset,
    witness: Offset,
    options: SegmentOptions,
    visitor: &'a mut Visitor<'a>,
) -> Result<Recovered> {
    let path = place.path(base_offset, Kind::Log);
    let log = storage.open(&path).map_err(|e| Error::io(&path, "open", e))?;
    let segment = Segment::new(storage, place, base_offset, options, Indexes::in_memory());
    segment.log.get_or_init(|| Arc::clone(&log));
    let tracker = Tracker::new(base_offset, options.index_interval_bytes);
    let len = log.len().map_err(|e| Error::io(&path, "read", e))?;
    let proof = segment.proven_by_seal(&*log, len)?;
    let proven_below = proof.unwrap_or(0);
    let buffer = Vec::new();
    let mut recovery = Recovery { segment, log, tracker, witness, proven_below, buffer, visitor };
    let tail = match recovery.read(len)? {
        Ok(tail) => tail,
        Err(damage) => {
            recovery.segment.sealed.store(true, std::sync::atomic::Ordering::Release);
            return Ok(Recovered::Damaged { segment: Arc::new(recovery.segment), damage });
        }
    };
    let mut report = recovery.repair(&tail, len)?;
    report.differs_from_seal = proof.is_none() && report.cut_bytes == 0;
    let Recovery { segment, log, tracker, .. } = recovery;
    let writer = SegmentWriter::resume(segment, log, tracker, options);
    Ok(Recovered::Writable { writer, report })
}

impl Recovery<'_> {
    /// Reads all batches that are kept. Damage is the inner error.
    fn read(&mut self, len: u64) -> Result<Result<Tail, Damage>> {
        let log = Arc::clone(&self.log);
        let base_offset = self.segment.base_offset;
        let mut walk = Walk::new(&*log, 0, base_offset, len);
        let mut unwitnessed_from = None;
        let mut reason = None;
        let mut previous = None;
        loop {
            let (position, expected) = (walk.position(), walk.expected());
            if expected >= self.witness || self.witness == WITNESS_LOST {
                unwitnessed_from.get_or_insert(position);
            }
            let bad = match walk.step().map_err(|e| self.segment.io(Kind::Log, "read", e))? {
                None => break,
                Some(Step::Bad(bad)) => bad,
                Some(Step::Batch { header, header_bytes, .. }) => {
                    match self.examine(position, &header)? {
                        Ok(marker) => {
                            let short = u32::try_from(position).expect("examined");
                            if let Some(new) = self.tracker.note(&header, &header_bytes, short) {
                                self.segment.indexes.write().push(new);
                            }
                            let largest =
                                self.tracker.largest_timestamp().expect("a batch was noted");
                            self.segment.publish(walk.position(), walk.expected(), largest);
                            (self.visitor)(&header, marker);
                            previous = Some((position, header));
                            continue;
                        }
                        Err(bad) => bad,
                    }
                }
            };
            if expected < self.witness {
                return self.damage(position, expected, bad, previous).map(Err);
            }
            reason = Some(bad);
            break;
        }
        let (cut_at, end_offset) = (self.segment.size(), self.segment.end_offset());
        if end_offset < self.witness && self.witness != WITNESS_LOST {
            let reason = format!("the file ends, it was synced up to offset {}", self.witness);
            return Ok(Err(self.segment.damage(cut_at, end_offset, reason)));
        }
        let unwitnessed_from = unwitnessed_from.unwrap_or(cut_at).min(cut_at);
        Ok(Ok(Tail { unwitnessed_from, cut_at, reason }))
    }

    /// Says where damage begins that was noticed at `position`: a wrong length in the batch in front
    /// of it shows only there.
    fn damage(
        &mut self,
        position: u64,
        expected: Offset,
        bad: BadBatch,
        previous: Option<(u64, BatchHeader)>,
    ) -> Result<Damage> {
        if let Some((start, header)) = previous {
            let verdict = verify_checksum(&*self.log, start, &header, &mut self.buffer);
            let verdict = verdict.map_err(|e| self.segment.io(Kind::Log, "read", e))?;
            if let Err(mismatch) = verdict {
                let largest = self.tracker.largest_timestamp().expect("a batch was noted");
                self.segment.publish(start, header.base_offset, largest);
                return Ok(self.segment.damage(start, header.base_offset, mismatch));
            }
        }
        Ok(self.segment.damage(position, expected, bad))
    }

    /// Looks closer at a batch whose header is in order: its checksum must be right, as what it says of
    /// its producer counts. In front of the witness, where a seal proves the headers, only that of a marker,
    /// whose content counts too.
    fn examine(
        &mut self,
        position: u64,
        header: &BatchHeader,
    ) -> Result<Result<Option<EndTransactionMarker>, BadBatch>> {
        if u32::try_from(position).is_err() || !self.tracker.can_hold(header) {
            let (expected, found) = (self.segment.base_offset, header.base_offset);
            return Ok(Err(BadBatch::Gap { expected, found }));
        }
        let io = |e| self.segment.io(Kind::Log, "read", e);
        let is_trusted = header.base_offset < self.witness && self.witness != WITNESS_LOST;
        if header.is_control() || !is_trusted || position >= self.proven_below {
            let verdict = verify_checksum(&*self.log, position, header, &mut self.buffer);
            if let Err(mismatch) = verdict.map_err(io)? {
                return Ok(Err(mismatch.into()));
            }
        }
        if !header.is_control() {
            return Ok(Ok(None));
        }
        let mut bytes = vec![0; header.total_len()];
        self.log.read_exact_at(&mut bytes, position).map_err(io)?;
        let marker =
            BatchView::parse(&bytes).and_then(|batch| EndTransactionMarker::from_batch(&batch));
        Ok(Ok(marker.ok()))
    }

    fn repair(&mut self, tail: &Tail, len: u64) -> Result<TailReport> {
        let segment = &self.segment;
        let mut report = TailReport {
            kept_bytes: tail.cut_at,
            rewritten_bytes: tail.cut_at - tail.unwitnessed_from,
            cut_bytes: len - tail.cut_at,
            cut_offset: segment.end_offset(),
            quarantine_path: None,
            cut_reason: tail.reason.as_ref().map(ToString::to_string),
            differs_from_seal: false,
        };
        segment.remove_file(Kind::Seal)?;
        if report.cut_bytes > 0 {
            report.quarantine_path = Some(self.quarantine(tail.cut_at, len)?);
        }
        // The name of the segment itself may not have been synced by the process that made it.
        let dir = &self.segment.place.dir;
        self.segment.storage.sync_dir(dir).map_err(|e| Error::io(dir, "sync", e))?;
        let sync = || self.log.sync().map_err(|e| self.segment.io(Kind::Log, "sync", e));
        if report.rewritten_bytes > 0 {
            copy(&*self.log, tail.unwitnessed_from, tail.cut_at, &mut self.buffer, |at, bytes| {
                self.log.write_all_at(bytes, at)
            })
            .map_err(|e| self.segment.io(Kind::Log, "rewrite", e))?;
            sync()?;
        }
        if report.cut_bytes > 0 {
            // Must be AFTER the sync above, or else a second crash may lose what the first kept.
            self.log.set_len(tail.cut_at).map_err(|e| self.segment.io(Kind::Log, "cut", e))?;
            sync()?;
        }
        if report.rewritten_bytes > 0 || report.cut_bytes > 0 {
            tracing::info!(
                path = %self.segment.log_path.display(),
                kept = report.kept_bytes,
                rewritten = report.rewritten_bytes,
                cut = report.cut_bytes,
                reason = report.cut_reason,
                "recovered the end of a segment"
            );
        }
        Ok(report)
    }

    /// Copies everything from `cut_at` on to a file of its own and syncs that.
    fn quarantine(&mut self, cut_at: u64, len: u64) -> Result<PathBuf> {
        let segment = &self.segment;
        let mut attempt = 0;
        let (path, file) = loop {
            let path =
                file_name::quarantine(&segment.place.dir, segment.base_offset, cut_at, attempt);
            match segment.storage.create(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => attempt += 1,
                Err(error) => return Err(Error::io(&path, "create", error)),
            }
        };
        let copied = copy(&*self.log, cut_at, len, &mut self.buffer, |at, bytes| {
            file.write_all_at(bytes, at - cut_at)
        });
        match copied.and_then(|()| file.sync()) {
            Ok(()) => Ok(path),
            Err(error) => {
                // The tail is still in its segment. Half a copy would only take room, on a disk that is
                // full already, at every attempt to open the log.
                if let Err(error) = segment.storage.remove_file(&path) {
                    tracing::debug!(%error, "half a copy of a torn tail stays");
                }
                Err(Error::io(&path, "write", error))
            }
        }
    }
}

/// Hands the bytes from `at` to `end` to `write`, piece by piece.
fn copy(
    from: &dyn File,
    mut at: u64,
    end: u64,
    buffer: &mut Vec<u8>,
    mut write: impl FnMut(u64, &[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    buffer.resize(CHUNK_BYTES, 0);
    while at < end {
        let len = usize::try_from(end - at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        from.read_exact_at(&mut buffer[..len], at)?;
        write(at, &buffer[..len])?;
        at += len as u64;
    }
    Ok(())
}
