//! Compaction: of each key the last record stays, at its offset.
//!
//! ```text
//!   plan.rs        what may be cleaned, whether it is due, which segments become one     pure
//!   offset_map.rs  the last offset of each key in the dirty part                         pure
//!   filter.rs      what stays of each batch                                              pure
//!   checkpoint.rs  how far the partition was cleaned
//!   this file      reads, writes the replacement aside, and puts it into place
//!
//!   dirty part --> offset map --> every segment in front of its end, group by group:
//!     written aside, synced -> swapped (segment/cleaned.rs) -> readers find it -> old files removed later
//! ```
//!
//! Why aside: readers and the writer go on meanwhile, and a pass that fails has changed nothing.
//!
//! Invariants
//! * Nothing from the last stable offset on is touched, nor anything that a holder has not seen.
//! * A pass takes a bounded amount of memory: the map, one batch, and a chunk of the output.
//! * A replaced segment stays readable for whoever has it.
//!
//! On crash: before the swap is decided nothing has happened, behind it recovery finishes it.
//! Reference: Kafka `LogCleaner`, `Cleaner`.

pub(crate) mod checkpoint;
pub(crate) mod filter;
pub(crate) mod offset_map;
pub(crate) mod plan;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use checkpoint::Checkpoint;
use filter::{Fate, LastOf, Pass, Transactions};
use offset_map::{OffsetMap, Secret};
use plan::Cleanable;

use super::fetch::collect_aborted;
use super::trim::summaries_of;
use super::{Partition, snapshot};
use crate::error::{Error, Result};
use crate::ids::{Offset, ProducerId, Timestamp};
use crate::segment::Segment;
use crate::segment::cleaned::{self, CleanedWriter};

/// How far a pass may go.
pub(crate) struct Limits<'a> {
    /// The memory for keys, in bytes.
    pub(crate) map_bytes_max: usize,
    /// Whether the log is about to close: a pass does not keep it waiting.
    pub(crate) is_stopped: &'a dyn Fn() -> bool,
    /// A deliberate mistake: the last record of a key goes too.
    pub(crate) drops_last: bool,
}

impl std::fmt::Debug for Limits<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Limits({} bytes)", self.map_bytes_max)
    }
}

/// Nothing stops the pass, and keys have as much memory as they may have.
pub(crate) const TO_THE_END: Limits<'static> =
    Limits { map_bytes_max: offset_map::BYTES_MAX, is_stopped: &|| false, drops_last: false };

/// What a pass did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cleaned {
    /// Everything below has been cleaned.
    pub(crate) first_dirty: Offset,
    pub(crate) bytes_before: u64,
    pub(crate) bytes_after: u64,
}

impl Partition {
    /// What compaction may clean now; `None` where the topic is not compacted.
    pub(crate) fn cleanable(&self, now: Timestamp) -> Result<Option<Cleanable>> {
        let first_dirty = self.upkeep.cleaning.lock().first_dirty;
        self.cleanable_from(first_dirty, now)
    }

    fn cleanable_from(&self, first_dirty: Offset, now: Timestamp) -> Result<Option<Cleanable>> {
        let Some(policy) = self.options().compaction.filter(|_| self.damage.is_none()) else {
            return Ok(None);
        };
        let stable = self.last_stable.load(Ordering::Acquire);
        let limit = self.upkeep.held(&self.shared, &self.place)?.map_or(stable, |h| h.min(stable));
        let (segments, lag_ms) = (self.summaries(), policy.min_lag_ms);
        let from = (self.log_start(), first_dirty);
        Ok(Some(plan::cleanable(&segments, from, limit, lag_ms, now)))
    }

    /// Whether a pass is due.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub(crate) fn is_compaction_due(&self, now: Timestamp) -> Result<bool> {
        let Some(policy) = self.options().compaction else { return Ok(false) };
        let Some(cleanable) = self.cleanable(now)? else { return Ok(false) };
        let oldest = if policy.max_lag_ms == i64::MAX {
            None
        } else {
            self.oldest_in(cleanable.first_dirty, cleanable.first_uncleanable)?
        };
        Ok(plan::is_due(&cleanable, &self.summaries(), &policy, oldest, now))
    }

    /// The smallest of the first timestamps of segments in a stretch.
    fn oldest_in(&self, from: Offset, to: Offset) -> Result<Option<Timestamp>> {
        let segments = Arc::clone(&self.segments.read());
        let mut oldest: Option<Timestamp> = None;
        for segment in segments.iter().filter(|s| s.end_offset() > from && s.base_offset() < to) {
            let first = segment.header_at(segment.base_offset().max(from))?;
            let time = first.map(|header| header.max_timestamp).filter(|time| *time >= 0);
            oldest = [oldest, time].into_iter().flatten().min();
        }
        Ok(oldest)
    }

    /// Cleans what may be cleaned. `None` when nothing is dirty or too old, or the topic is not
    /// compacted.
    ///
    /// # Errors
    ///
    /// * [`Error::Damaged`] and [`Error::Decode`]: a batch is not what it was; nothing was replaced
    ///   from there on.
    /// * [`Error::DiskFull`]: there is no room for the replacement; nothing was replaced from there on.
    /// * What else the disk says: the log has crashed.
    pub(crate) fn compact(&self, now: Timestamp, limits: &Limits<'_>) -> Result<Option<Cleaned>> {
        let mut checkpoint = self.upkeep.cleaning.lock();
        self.shared.health.check()?;
        let Some(policy) = self.options().compaction else { return Ok(None) };
        let Some(cleanable) = self.cleanable_from(checkpoint.first_dirty, now)? else {
            return Ok(None);
        };
        let segments = Arc::clone(&self.segments.read());
        let summaries = summaries_of(&segments);
        if !cleanable.is_dirty() && !plan::is_outlived(&cleanable, &summaries, &policy, now) {
            return Ok(None);
        }
        let map = self.offsets_of_keys(&segments, &cleanable, limits)?;
        let end = map.latest() + 1;
        let groups = plan::groups(&summaries, end, self.options().segment.segment_bytes);
        let Some(last) = groups.last().and_then(|group| segments.get(group.end - 1)) else {
            return Ok(None);
        };
        self.shared.reserve.require()?;
        if checkpoint.gaps_below < last.end_offset() {
            // Must be BEFORE a segment with gaps is in place, or else they would be damage.
            let begun = Checkpoint { gaps_below: last.end_offset(), ..*checkpoint };
            self.write_checkpoint(&mut checkpoint, begun)?;
        }
        let pass = Pass {
            map: &map,
            policy,
            now,
            last_of: self.last_of_producers(),
            upper_bound: cleanable.first_uncleanable,
            keyless: Cell::new(0),
            limits,
        };
        let aborted = collect_aborted(&segments, segments[0].base_offset(), last.end_offset())?;
        let mut transactions = Transactions::new(aborted);
        let mut cleaned = Cleaned { first_dirty: end, bytes_before: 0, bytes_after: 0 };
        for group in groups {
            let Some(group) = segments.get(group) else { break };
            if !self.replace(
                group,
                &pass,
                &mut transactions,
                checkpoint.gaps_below,
                &mut cleaned,
            )? {
                return Ok(None);
            }
        }
        let done = Checkpoint { first_dirty: end, ..*checkpoint };
        self.write_checkpoint(&mut checkpoint, done)?;
        report(self, &cleaned, &pass);
        Ok(Some(cleaned))
    }

    /// Writes down how far the partition was compacted, where it is not compacted yet.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub(crate) fn prepare_compaction(&self) -> Result<()> {
        if self.options().compaction.is_some() {
            return Ok(());
        }
        let mut checkpoint = self.upkeep.cleaning.lock();
        let now = *checkpoint;
        self.write_checkpoint(&mut checkpoint, now)
    }

    /// Below this offset records may have been taken out. Waits for a pass that runs: it may have begun
    /// before somebody held the partition.
    pub(crate) fn compacted_below(&self) -> Offset {
        self.upkeep.gaps_below()
    }

    fn write_checkpoint(&self, checkpoint: &mut Checkpoint, next: Checkpoint) -> Result<()> {
        self.guard_room(next.write(self.shared.storage.as_ref(), &self.place.dir))?;
        // Must be AFTER the write, or else a pass could rely on what is not on the disk.
        *checkpoint = next;
        Ok(())
    }

    /// Reads the dirty part, as far as its keys fit.
    fn offsets_of_keys(
        &self,
        segments: &[Arc<Segment>],
        cleanable: &Cleanable,
        limits: &Limits<'_>,
    ) -> Result<OffsetMap> {
        let Cleanable { first_dirty, first_uncleanable, .. } = *cleanable;
        let mut secret = Secret([0; 16]);
        let random = self.shared.storage.random_bytes(&mut secret.0);
        random.map_err(|e| Error::io(&self.place.dir, "find a secret for", e))?;
        let keys = u64::try_from(first_uncleanable - first_dirty).unwrap_or(0);
        let mut map = OffsetMap::new(secret, keys, first_dirty, limits.map_bytes_max);
        let aborted = collect_aborted(segments, first_dirty, first_uncleanable)?;
        let mut transactions = Transactions::new(aborted);
        let is_dirty =
            |s: &&Arc<Segment>| s.end_offset() > first_dirty && s.base_offset() < first_uncleanable;
        for segment in segments.iter().filter(is_dirty) {
            let mut is_full = false;
            segment.each_batch(first_dirty, &mut |batch| {
                self.may_go_on(limits)?;
                let header = batch.header();
                let is_read = if header.is_control() {
                    transactions.pass_marker(header, filter::Control::of(batch));
                    false
                } else {
                    !transactions.pass_data(header)
                };
                for record in batch.records().filter(|_| is_read) {
                    let record = record?;
                    let Some(key) = record.key.filter(|_| record.offset >= first_dirty) else {
                        continue;
                    };
                    if !map.put(key, record.offset) {
                        is_full = true;
                        map.speaks_up_to(record.offset - 1);
                        return Ok(ControlFlow::Break(()));
                    }
                }
                map.speaks_up_to(header.last_offset());
                Ok(ControlFlow::Continue(()))
            })?;
            if is_full {
                tracing::info!(dir = %self.place.dir.display(), ?map, "not all keys fit, the rest is for later");
                break;
            }
            map.speaks_up_to(segment.end_offset() - 1);
        }
        Ok(map)
    }

    /// Which batch of each producer must stay.
    fn last_of_producers(&self) -> BTreeMap<ProducerId, LastOf> {
        let writer = self.writer.lock();
        let last_of = writer.producers.iter().map(|(id, entry)| {
            let last = entry.batches.back();
            let marker = LastOf::Marker(entry.producer_epoch);
            (id, last.map_or(marker, |batch| LastOf::Data(batch.last_offset)))
        });
        last_of.collect()
    }

    /// Replaces a group of segments by one; false when they are not there any more.
    fn replace(
        &self,
        group: &[Arc<Segment>],
        pass: &Pass<'_>,
        transactions: &mut Transactions,
        gaps_below: Offset,
        cleaned: &mut Cleaned,
    ) -> Result<bool> {
        let (storage, place) = (&self.shared.storage, &self.place);
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(true) };
        let bounds = (first.base_offset(), last.end_offset());
        let written = self.write_aside(group, bounds, pass, transactions);
        let prepared = written.and_then(|()| group.iter().try_for_each(|segment| segment.retire()));
        if let Err(error) = prepared {
            if let Err(error) = cleaned::give_up(storage.as_ref(), place, bounds.0) {
                tracing::debug!(%error, "half a replacement stays");
            }
            return Err(error);
        }
        let _no_retention_meanwhile = self.trimming.lock();
        self.shared.health.check()?;
        let at = self.segments.read().iter().position(|segment| Arc::ptr_eq(segment, first));
        let Some(at) = at else {
            cleaned::give_up(storage.as_ref(), place, bounds.0)?;
            return Ok(false);
        };
        let replacement = self.shared.health.guard(self.swap(group, bounds, gaps_below))?;
        cleaned.bytes_before += group.iter().map(|segment| segment.size()).sum::<u64>();
        cleaned.bytes_after += replacement.size();
        let _no_roll_meanwhile = self.writer.lock();
        let mut segments = Vec::clone(&self.segments.read());
        segments.splice(at..at + group.len(), [replacement]);
        *self.segments.write() = Arc::new(segments);
        Ok(true)
    }

    /// Writes what stays of a group, beside it.
    fn write_aside(
        &self,
        group: &[Arc<Segment>],
        (base_offset, end_offset): (Offset, Offset),
        pass: &Pass<'_>,
        transactions: &mut Transactions,
    ) -> Result<()> {
        let (storage, options) = (&self.shared.storage, self.options().segment);
        let created = CleanedWriter::create(storage, &self.place, base_offset, options);
        let mut writer = self.guard_room(created)?;
        for segment in group {
            segment.each_batch(base_offset, &mut |batch| {
                self.may_go_on(pass.limits)?;
                let (fate, aborted) = pass.judge(transactions, batch)?;
                aborted.into_iter().for_each(|entry| writer.append_aborted(entry));
                let written = match &fate {
                    Fate::Gone => Ok(()),
                    Fate::Kept => writer.append(batch.bytes(), batch.header()),
                    Fate::Rewritten(bytes, header) => writer.append(bytes, header),
                };
                self.guard_room(written)?;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        self.guard_room(writer.finish(end_offset))
    }

    fn may_go_on(&self, limits: &Limits<'_>) -> Result<()> {
        self.shared.health.check()?;
        if (limits.is_stopped)() { Err(Error::Closed) } else { Ok(()) }
    }

    /// A failed write is a crash of the log; but nobody needs what a full disk does not take here.
    fn guard_room<T>(&self, outcome: Result<T>) -> Result<T> {
        match outcome {
            Err(full @ Error::DiskFull { .. }) => Err(full),
            outcome => self.shared.health.guard(outcome),
        }
    }

    /// Puts the replacement of a group into place.
    fn swap(
        &self,
        group: &[Arc<Segment>],
        bounds: (Offset, Offset),
        gaps_below: Offset,
    ) -> Result<Arc<Segment>> {
        let (storage, place) = (&self.shared.storage, &self.place);
        cleaned::decide(storage.as_ref(), place, bounds.0)?;
        let mut aside = Vec::new();
        for segment in group {
            aside.extend(segment.set_aside()?);
        }
        // Must be BEFORE the new one is in place, or else two could hold the same offsets.
        storage.sync_dir(&place.dir).map_err(|e| Error::io(&place.dir, "sync", e))?;
        cleaned::put_into_place(storage.as_ref(), place, bounds.0)?;
        self.upkeep.set_aside(&self.shared, self.options().file_delete_delay, aside);
        for segment in &group[1..] {
            let path = snapshot::path(&place.dir, segment.base_offset());
            match storage.remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(&path, "remove", error));
                }
                _gone => {}
            }
        }
        let options = self.options().segment;
        let opened = Segment::open_compacted(storage, place, bounds, gaps_below, options)?;
        match opened.damage {
            Some(damage) => Err(place.damaged(&damage)),
            None => Ok(opened.segment),
        }
    }
}

fn report(partition: &Partition, cleaned: &Cleaned, pass: &Pass<'_>) {
    let dir = partition.place.dir.display();
    tracing::info!(
        %dir,
        first_dirty = cleaned.first_dirty,
        bytes_before = cleaned.bytes_before,
        bytes_after = cleaned.bytes_after,
        "compacted"
    );
    if pass.keyless.get() > 0 {
        let records = pass.keyless.get();
        tracing::warn!(%dir, records, "records without a key were removed by compaction");
    }
}
