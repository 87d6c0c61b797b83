//! Giving up the front of a partition: retention, purge, DeleteRecords.
//!
//! Why: which segments go is a pure plan (`retention`); this executes it in an order in which a crash
//! can stop anywhere.
//!
//! ```text
//!   sync up to the new log start -> log-start-offset file, durable -> readers see it
//!     -> rename the files to .deleted -> unlink them after file.delete.delay.ms
//! ```
//!
//! Invariants
//! * The log start never lies beyond what is synced, so that no cut can fall below it.
//! * Retention and purge give up nothing at or beyond the last stable offset, and retention nothing that a
//!   holder has not seen. DeleteRecords does what it is told, up to the high watermark.
//!
//! On crash: segments that lie wholly below the log start are removed when the partition is opened.
//! Reference: Kafka `UnifiedLog.deleteRecords`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::retention::{SegmentSummary, plan, whole_segments_below};
use super::{Partition, snapshot, text_file};
use crate::error::{Error, Result};
use crate::format::header::BASE_OFFSET_MAX;
use crate::ids::{Offset, Timestamp};
use crate::segment::{Place, Segment};

/// The file that keeps the log start offset: it, and the partition whose it is.
pub(crate) const LOG_START_FILE: &str = "log-start-offset";

/// When the files of segments go that are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removal {
    /// At once: nobody needs them.
    Now,
    /// After a while: somebody may be reading them.
    Later,
}

/// What the file says, in front of its checksum.
pub(crate) fn log_start_text(place: &Place, log_start: Offset) -> String {
    format!("{log_start} {}-{}\n", place.topic, place.partition)
}

/// Where a partition starts by its file's text; `None` when that is another partition's, or none.
pub(crate) fn parse_log_start(place: &Place, text: &str) -> Option<Offset> {
    let (log_start, _name) = text.split_once(' ')?;
    let log_start = log_start.parse().ok().filter(|at| (0..=BASE_OFFSET_MAX).contains(at))?;
    (log_start_text(place, log_start) == text).then_some(log_start)
}

impl Partition {
    /// Moves the log start to `before`, which lies at most at the high watermark; durable. Retention
    /// gives the space back.
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutOfRange`]: beyond the high watermark.
    pub(crate) fn delete_records(&self, before: Offset) -> Result<Offset> {
        let _one_at_a_time = self.trimming.lock();
        self.shared.health.check()?;
        let offsets = self.offsets();
        if before > offsets.high_watermark || before < 0 {
            let (start, end) = (offsets.log_start_offset, offsets.high_watermark);
            return Err(Error::OffsetOutOfRange { requested: before, start, end });
        }
        if before > offsets.log_start_offset {
            self.move_log_start(before)?;
        }
        Ok(self.log_start())
    }

    /// Whether [`purge`](Self::purge) would give something up.
    pub(crate) fn can_purge(&self, before: Offset) -> bool {
        let before = before.min(self.last_stable.load(Ordering::Acquire));
        whole_segments_below(&self.summaries(), before) > 0
    }

    /// Gives up whole segments below `before`; what lies in a segment that is needed stays.
    pub(crate) fn purge(&self, before: Offset) -> Result<Offset> {
        let _one_at_a_time = self.trimming.lock();
        self.shared.health.check()?;
        let before = before.min(self.last_stable.load(Ordering::Acquire));
        let segments = self.summaries();
        let gone = whole_segments_below(&segments, before);
        self.drop_front(&segments, gone, Removal::Now)
    }

    /// Gives up what the topic's retention does not keep.
    pub(crate) fn retain(&self, now: Timestamp) -> Result<Offset> {
        let _one_at_a_time = self.trimming.lock();
        self.shared.health.check()?;
        if self.damage.is_some() {
            return Ok(self.log_start());
        }
        let stable = self.last_stable.load(Ordering::Acquire);
        let mut segments = self.summaries();
        let retention = self.options().retention;
        let mut planned = plan(&segments, &retention, now, stable);
        if planned.delete > 0
            && let Some(held) = self.upkeep.held(&self.shared, &self.place)?
        {
            // Only then: asking makes durable what holders have said.
            planned = plan(&segments, &retention, now, held.min(stable));
        }
        if planned.roll_active {
            self.sync_to(self.log_end())?;
            let mut writer = self.writer.lock();
            self.shared.health.check()?;
            self.roll(&mut writer)?;
            drop(writer);
            segments = self.summaries();
        }
        let gone = planned.delete.max(whole_segments_below(&segments, self.log_start()));
        self.drop_front(&segments, gone, Removal::Later)
    }

    fn drop_front(
        &self,
        segments: &[SegmentSummary],
        gone: usize,
        removal: Removal,
    ) -> Result<Offset> {
        // A roll meanwhile only adds segments at the end.
        if let Some(first_kept) = segments.get(gone).filter(|_| gone > 0) {
            if first_kept.base_offset > self.log_start() {
                self.move_log_start(first_kept.base_offset)?;
            }
            self.drop_segments(removal)?;
        }
        Ok(self.log_start())
    }

    pub(crate) fn summaries(&self) -> Vec<SegmentSummary> {
        summaries_of(&Arc::clone(&self.segments.read()))
    }

    fn move_log_start(&self, to: Offset) -> Result<()> {
        self.shared.health.check()?;
        self.sync_to(to)?;
        let storage = self.shared.storage.as_ref();
        let written = text_file::write(
            storage,
            &self.place.dir,
            LOG_START_FILE,
            &log_start_text(&self.place, to),
        );
        self.shared.health.guard(written)?;
        self.log_start.store(to, Ordering::Release);
        Ok(())
    }

    /// Removes segments that lie wholly below the log start.
    fn drop_segments(&self, removal: Removal) -> Result<()> {
        let log_start = self.log_start();
        let gone = {
            let _no_roll_meanwhile = self.writer.lock();
            let mut segments = Vec::clone(&self.segments.read());
            let sealed = segments.len().saturating_sub(1);
            let count =
                segments[..sealed].iter().take_while(|s| s.end_offset() <= log_start).count();
            let gone: Vec<_> = segments.drain(..count).collect();
            *self.segments.write() = Arc::new(segments);
            gone
        };
        if gone.is_empty() {
            return Ok(());
        }
        let removed = gone.iter().try_for_each(|segment| match removal {
            Removal::Now => segment.remove_files(),
            Removal::Later => {
                let aside = segment.set_aside()?;
                self.upkeep.set_aside(&self.shared, self.options().file_delete_delay, aside);
                Ok(())
            }
        });
        self.shared.health.guard(removed.and_then(|()| self.drop_snapshots()))
    }

    /// Removes producer snapshots of segments that are gone.
    fn drop_snapshots(&self) -> Result<()> {
        let (storage, dir) = (self.shared.storage.as_ref(), &self.place.dir);
        let first_kept = self.segments.read().first().map_or(0, |segment| segment.base_offset());
        for base_offset in snapshot::list(storage, dir)? {
            if base_offset < first_kept {
                let path = snapshot::path(dir, base_offset);
                storage.remove_file(&path).map_err(|e| Error::io(&path, "remove", e))?;
            }
        }
        storage.sync_dir(dir).map_err(|e| Error::io(dir, "sync", e))
    }
}

/// What is known of these segments.
pub(super) fn summaries_of(segments: &[Arc<Segment>]) -> Vec<SegmentSummary> {
    let summary = |segment: &Arc<Segment>| SegmentSummary {
        base_offset: segment.base_offset(),
        end_offset: segment.end_offset(),
        size_bytes: segment.size(),
        largest_timestamp: segment.largest_timestamp().unwrap_or(-1),
    };
    segments.iter().map(summary).collect()
}
