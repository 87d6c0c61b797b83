//! What compaction may remove: what a later record of its key replaces, and a tombstone whose time is up.
//!
//! ```text
//!   k1=a@0   k2=b@1   k1=c@4   k2-@5        may show:  k2=b@1 k1=c@4 k2-@5    after a pass:  k1=c@4 k2-@5
//!                                           never:     k1=a@0 alone, k2=b@1 without k2-@5 once that is lost..
//! ```
//!
//! Why by what is visible: whatever removed a record, a visible later one of its key, or a tombstone that
//! was told to go, is the only excuse.
//!
//! Invariants
//! * A record that is visible is at its offset, with its value; one that was found missing stays so.
//! * Nothing at or behind the end of what every pass might clean is missing.

use std::collections::{BTreeMap, BTreeSet};

use core_log::{Offset, Timestamp};

use super::{Batch, End, Fate, KEYED, Model, OLD, Seen, name};

pub(crate) const KEYED_RETENTION_MS: i64 = 20_000;

/// What a pass of compaction was told.
#[derive(Clone, Copy, Debug)]
struct Pass {
    date: Timestamp,
    /// It cleans nothing from here on.
    limit: Offset,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Compaction {
    passes: Vec<Pass>,
    /// Nothing from here on may be cleaned, if that is sure.
    hold: Option<Offset>,
}

impl Compaction {
    pub(super) fn begin_pass(&mut self, date: Timestamp) {
        self.passes.push(Pass { date, limit: self.hold.unwrap_or(Offset::MAX) });
    }

    pub(super) fn end_pass(&mut self, stable: Offset) {
        let pass = self.passes.last_mut().expect("one was begun");
        pass.limit = pass.limit.min(stable);
    }

    /// Nothing from here on was ever cleaned.
    fn limit(&self) -> Offset {
        self.passes.iter().map(|pass| pass.limit).max().unwrap_or(0)
    }

    /// Whether the time of a tombstone can be up: a pass has come by it, and another one late enough.
    fn is_up(&self, tombstone: Offset) -> bool {
        let first = self.passes.iter().position(|pass| pass.limit > tombstone);
        first.is_some_and(|first| {
            let passes = &self.passes[first..];
            passes.iter().enumerate().any(|(index, one)| {
                let due = one.date + KEYED_RETENTION_MS;
                one.limit > tombstone && passes[index + 1..].iter().any(|later| later.date >= due)
            })
        })
    }
}

impl Model {
    /// How many rows are gone, tombstones among them, how far the log that keeps little has moved, and how
    /// many records were read and are done with.
    pub(crate) fn upkeep(&self) -> [i64; 5] {
        let keys = self.gone.iter().filter(|text| text.starts_with('k'));
        let rows = keys.clone().count();
        let tombstones = keys.filter(|text| text[2..].starts_with('-')).count();
        let (read, done) = self.reader.counts();
        let count = |count| i64::try_from(count).expect("a few");
        [count(rows), count(tombstones), self.deleted[OLD], count(read), done]
    }

    /// A store is about to say that it has seen everything below `offset`.
    pub(crate) fn holds(&mut self, offset: Offset) {
        self.compaction.hold = self.compaction.hold.map(|before| before.max(offset));
    }

    /// That was acknowledged.
    pub(crate) fn held(&mut self, offset: Offset) {
        self.compaction.hold = Some(offset);
    }

    /// The store is about to say that it needs nothing.
    pub(crate) fn releases(&mut self) {
        self.compaction.hold = None;
    }

    /// As `check_part`, of the compacted partition. Notes the batches that may have been replaced as a whole.
    pub(super) fn check_keyed(
        &self,
        seen: &Seen,
        end: End,
        replaced: &mut BTreeSet<usize>,
    ) -> Result<Vec<(usize, Offset)>, String> {
        let visible = self.place_keyed(seen)?;
        let last_visible = seen.records.last_key_value().map_or(-1, |(offset, _)| *offset);
        let here = self.batches.iter().enumerate().filter(|(_, batch)| batch.part == KEYED);
        for (index, batch) in here {
            let Some(first) = visible.get(&index).copied().or(batch.first) else { continue };
            let unexcused = (first..).zip(&batch.values).find(|(offset, text)| {
                let is_there = seen.records.contains_key(offset) || *offset < seen.start;
                !is_there && !self.gone.contains(*text) && !self.may_be_gone(seen, *offset, text)
            });
            match unexcused {
                None if visible.contains_key(&index) => {}
                None => drop(replaced.insert(index)),
                Some((offset, text)) => {
                    let batch_end = first + Offset::try_from(batch.values.len()).expect("a few");
                    let may_be_lost = end == End::PowerCut
                        && last_visible < first
                        && batch_end > self.floor[KEYED];
                    let is_in_log = batch_end <= seen.end && !may_be_lost;
                    let is_wanted = batch.txn.is_none() && is_in_log && batch.first.is_some();
                    if visible.contains_key(&index) || is_wanted {
                        let limit = self.compaction.limit();
                        return Err(format!(
                            "{}@{offset}: {text} is gone, cleaned was up to {limit}: {batch:?}",
                            name(KEYED)
                        ));
                    }
                }
            }
        }
        Ok(visible.into_iter().collect())
    }

    /// Where the batches of visible records begin.
    fn place_keyed(&self, seen: &Seen) -> Result<BTreeMap<usize, Offset>, String> {
        let mut known = BTreeMap::new();
        for (index, batch) in self.batches.iter().enumerate().filter(|(_, b)| b.part == KEYED) {
            known.extend((0..).zip(&batch.values).map(|(at, text)| (&**text, (index, at))));
        }
        let mut visible = BTreeMap::new();
        let mut before = 0;
        for (offset, text) in &seen.records {
            let wrong = |what: &str| Err(format!("{}@{offset}: {text} {what}", name(KEYED)));
            if self.gone.contains(text) {
                return wrong("had been lost, aborted or replaced, and is back");
            }
            let Some((index, at)) = known.get(&**text).copied() else {
                return wrong("was never written");
            };
            let first: Offset = offset - at;
            let expected = visible.get(&index).copied().or(self.batches[index].first);
            if expected.is_some_and(|expected| expected != first) || index < before {
                return wrong("is there out of place");
            }
            visible.insert(index, first);
            before = index;
        }
        Ok(visible)
    }

    /// Whether compaction may have removed a record.
    fn may_be_gone(&self, seen: &Seen, offset: Offset, text: &str) -> bool {
        let key = &text[..2];
        let limit = self.compaction.limit();
        let mut behind = seen.records.range(offset + 1..limit.max(offset + 1));
        if offset < limit && behind.any(|(_, text)| text.starts_with(key)) {
            return true;
        }
        let is_committed = |batch: &Batch| {
            let fate = batch.txn.map_or(Fate::Committed, |txn| self.txns[txn].fate);
            matches!(fate, Fate::Committed | Fate::Unknown)
        };
        let here = self.batches.iter().filter(|batch| batch.part == KEYED && is_committed(batch));
        here.filter_map(|batch| batch.first.map(|first| (first, batch))).any(|(first, batch)| {
            (first..).zip(&batch.values).any(|(at, text)| {
                let is_tombstone = text.starts_with(key) && text[2..].starts_with('-');
                is_tombstone && at >= offset && self.compaction.is_up(at)
            })
        })
    }
}
