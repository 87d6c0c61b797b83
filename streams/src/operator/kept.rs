//! The rows of a store that a user's processors work on: what they put, until it is too old.
//!
//! ```text
//!   get, put, scan   rows (overlay -> row cache -> back end)        by the processors of one task
//!   expire           time index (time, key) of what was put         as the operator's time passes
//!
//!   where a row's time lies, and when it is too old:
//!   Written   the row's timestamp     written + ttl       read as absent, then deleted
//!   Start     start of its window     start + retention   the same; a put is refused
//!   End       end of its session      end + retention     the same
//!   Version   from when on it held    from + retention    older versions of its key are deleted
//!
//!   the rows of a key of these two lie side by side: End, Version; see `groups`
//! ```
//!
//! Why two rules: a record must read the same whatever other partitions have done meanwhile, so a row is
//! absent for it once its own source time is past the row's; and a row is deleted only when no record that
//! can still come may see it, which is when the operator's time is.
//!
//! Invariants
//! * a row that can become too old has an index entry at its time or before: one that is due and finds its
//!   row younger is moved; one that finds no row is dropped. So a hot row costs one entry, not one a put.
//!   Where rows of a key lie side by side, the entry is that of the key.
//! * entries follow from rows: the changelog has none of them, and a restart makes them anew.
//!
//! Reference: Kafka `WindowStore`, `SessionStore`, `VersionedKeyValueStore` for what is kept how long.

mod groups;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;

use bytes::Bytes;

use crate::codec::Data;
use crate::error::Result;
use crate::ids::StoreName;
use crate::key::decode_i64;
use crate::processor::{Changelog, Context, RowKinds, Stateful, Timed};
use crate::store::{
    Checkpoint, Direction, Overlay, RowCache, StoreError, Stored, Tails, VisitRow, layout,
};
use crate::time::{Stamp, TimeInputs};

/// How many due entries are collected at a time.
const DUE_AT_A_TIME: usize = 1_024;

/// The time at which a user's processor works, shared by all of a task with the stores that they use.
#[derive(Debug)]
pub(crate) struct Now {
    stamp: Cell<Stamp>,
    too_old: Cell<u64>,
}

impl Default for Now {
    fn default() -> Self {
        let stamp = Stamp { timestamp: i64::MIN, source_time: i64::MIN };
        Self { stamp: Cell::new(stamp), too_old: Cell::new(0) }
    }
}

impl Now {
    pub(crate) fn get(&self) -> Stamp {
        self.stamp.get()
    }

    pub(crate) fn set(&self, stamp: Stamp) {
        self.stamp.set(stamp);
    }

    /// Counts a put that came too late.
    pub(crate) fn count_too_old(&self) {
        self.too_old.set(self.too_old.get() + 1);
    }

    /// Puts that came too late since it was last asked.
    pub(crate) fn take_too_old(&self) -> u64 {
        self.too_old.replace(0)
    }
}

/// Where the time of a row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ages {
    /// In its timestamp.
    Written,
    /// In its key: `.. | start | end`.
    Start,
    /// In its key: `.. | end | start`.
    End,
    /// In its key: `.. | from`.
    Version,
}

impl Ages {
    /// How many bytes at the end of a key say which of its key's rows it is; 0: it is the only one, or its
    /// rows are not asked for together.
    fn place_bytes(self) -> usize {
        match self {
            Self::Written | Self::Start => 0,
            Self::End => 16,
            Self::Version => 8,
        }
    }

    fn of(self, key: &[u8], timestamp: i64) -> i64 {
        let number = |from_end: usize| {
            let at = key.len().checked_sub(from_end)?;
            Some(decode_i64(*key.get(at..)?.first_chunk::<8>()?))
        };
        match self {
            Self::Written => timestamp,
            Self::Start | Self::End => number(16).unwrap_or(timestamp),
            Self::Version => number(8).unwrap_or(timestamp),
        }
    }
}

/// One store partition.
pub(crate) struct Kept<A> {
    rows: Overlay<A>,
    /// Which rows keys have that have several.
    tails: Tails,
    ages: Ages,
    /// How long a row is kept; `None`: for ever.
    keep_ms: Option<i64>,
    /// Whether a value stands for none: the tombstone of a version.
    is_void: fn(&A) -> bool,
    inputs: TimeInputs,
    /// Index entries that this transaction added (true) or removed (false).
    index: BTreeMap<Vec<u8>, bool>,
    /// No entry lies before this.
    earliest: Option<i64>,
    is_open: bool,
    now: Rc<Now>,
}

impl<A: Data> Kept<A> {
    pub(crate) fn new(store: StoreName, ages: Ages, keep_ms: Option<i64>, now: Rc<Now>) -> Self {
        Self {
            rows: Overlay::listed(store),
            tails: Tails::new(ages.place_bytes()),
            ages,
            keep_ms,
            is_void: |_| false,
            inputs: TimeInputs::default(),
            index: BTreeMap::new(),
            earliest: None,
            is_open: false,
            now,
        }
    }

    /// The same for rows of which some stand for none.
    pub(crate) fn with_void(self, is_void: fn(&A) -> bool) -> Self {
        Self { is_void, ..self }
    }

    pub(crate) fn now(&self) -> &Now {
        &self.now
    }

    /// Whether it belongs to the task that asks.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(crate) fn keeps_for_ever(&self) -> bool {
        self.keep_ms.is_none()
    }

    /// One more processor uses it, with these clocks.
    pub(crate) fn used_by(&mut self, inputs: &TimeInputs) {
        self.inputs = self.inputs.union(inputs);
    }

    /// Whether a row of that time is too old at `time`.
    fn is_past(&self, at: i64, time: i64) -> bool {
        self.keep_ms.is_some_and(|keep| i128::from(at) + i128::from(keep) <= i128::from(time))
    }

    /// Whether a row of that time is too old for the record at hand.
    pub(crate) fn is_too_old(&self, at: i64) -> bool {
        self.is_past(at, self.now.get().source_time)
    }

    /// From when on versions are kept, for the record at hand.
    pub(crate) fn horizon(&self) -> i128 {
        let time = i128::from(self.now.get().source_time);
        self.keep_ms.map_or(i128::MIN, |keep| time - i128::from(keep))
    }

    /// A row as the record at hand sees it.
    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<Stored<A>>> {
        let place = self.rows.find(key)?;
        let row = self.rows.at(place);
        let timestamp = row.timestamp;
        let Some(value) = row.value.clone() else { return Ok(None) };
        let is_old = self.ages != Ages::Version && self.is_too_old(self.ages.of(key, timestamp));
        Ok((!is_old).then_some(Stored { timestamp, value }))
    }

    /// Puts a row in place of what was there; `None` deletes.
    pub(crate) fn put(&mut self, key: &[u8], value: Option<A>, timestamp: i64) -> Result<()> {
        if self.tails.is_used() {
            return self.put_of_group(key, value, timestamp);
        }
        let place = self.rows.find(key)?;
        let row = self.rows.at(place);
        let known = row.value.is_some().then_some(row.timestamp);
        let is_there = value.is_some();
        row.replace(value, Stamp { timestamp, source_time: timestamp });
        if is_there && self.keep_ms.is_some() {
            let at = self.ages.of(key, timestamp);
            if known.is_none_or(|known| at < self.ages.of(key, known)) {
                self.add_entry(at, key);
            }
        }
        Ok(())
    }

    fn add_entry(&mut self, at: i64, key: &[u8]) {
        let mut entry = Vec::with_capacity(key.len() + 9);
        layout::time_index_key(at, key, &mut entry);
        self.index.insert(entry, true);
        self.earliest = Some(self.earliest.map_or(at, |earliest| earliest.min(at)));
    }

    /// Visits the rows with `from <= key < to` that the record at hand sees.
    pub(crate) fn scan(
        &mut self,
        range: (&[u8], Option<&[u8]>),
        direction: Direction,
        visit: &mut VisitRow<'_, A>,
    ) -> Result<()> {
        let (ages, keep_ms, time) = (self.ages, self.keep_ms, self.now.get().source_time);
        let keep_ms = keep_ms.filter(|_| ages != Ages::Version).map(i128::from);
        self.rows.scan(range, direction, &mut |key, row| {
            let at = i128::from(ages.of(key, row.timestamp));
            if keep_ms.is_some_and(|keep| at + keep <= i128::from(time)) {
                return ControlFlow::Continue(());
            }
            visit(key, row)
        })?;
        Ok(())
    }

    /// The keys of rows whose time lies from `from` to `to`, both included, in the order of (time, key).
    /// Only where rows have their time in their keys.
    pub(crate) fn keys_between(&mut self, from: i64, to: i64) -> Result<Vec<Vec<u8>>> {
        let end = match to.checked_add(1) {
            Some(end) => layout::time_index_bound(end).to_vec(),
            None => layout::TIME_INDEX_END.to_vec(),
        };
        let entries = self.entries(&layout::time_index_bound(from), &end, usize::MAX)?;
        let key = |entry: Vec<u8>| layout::split_time_index(&entry).map(|(_, key)| key.to_vec());
        Ok(entries.into_iter().filter_map(key).collect())
    }

    /// Index entries with `from <= entry < to`, in order, at most `limit`.
    fn entries(&mut self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        if from >= to {
            return Ok(found);
        }
        let index = &self.index;
        self.rows.behind().scan(from, to, &mut |entry, _| {
            if !index.contains_key(entry) {
                found.push(entry.to_vec());
            }
            if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let ours = index.range(from.to_vec()..to.to_vec()).filter(|&(_, &present)| present);
        found.extend(ours.take(limit).map(|(entry, _)| entry.clone()));
        found.sort_unstable();
        found.truncate(limit);
        Ok(found)
    }

    /// Deletes what is too old at the operator's time.
    fn expire(&mut self, time: i64) -> Result<()> {
        // From the earliest entry on: what lies before it is gone, and a back end that has not
        // forgotten it yet would step over it row by row.
        let Some(earliest) = self.earliest.filter(|&at| self.is_past(at, time)) else {
            return Ok(());
        };
        let mut from = layout::time_index_bound(earliest).to_vec();
        let mut moved: Option<i64> = None;
        loop {
            let due = self.entries(&from, &layout::TIME_INDEX_END, DUE_AT_A_TIME)?;
            let is_last = due.len() < DUE_AT_A_TIME;
            for entry in due {
                let (at, key) = split(self.rows.store(), &entry)?;
                if !self.is_past(at, time) {
                    self.earliest = Some(moved.map_or(at, |moved| moved.min(at)));
                    return Ok(());
                }
                if let Some(later) = self.expire_one(key, time)? {
                    moved = Some(moved.map_or(later, |moved| moved.min(later)));
                }
                self.index.insert(entry.clone(), false);
                from = entry;
            }
            if is_last {
                self.earliest = moved;
                return Ok(());
            }
        }
    }

    /// The entry of a row is due; the time of its next one, if the row is younger than it said.
    fn expire_one(&mut self, key: &[u8], time: i64) -> Result<Option<i64>> {
        if self.tails.is_used() {
            return self.expire_group(key, time);
        }
        let place = self.rows.find(key)?;
        let row = self.rows.at(place);
        if row.value.is_none() {
            return Ok(None);
        }
        let written = self.ages.of(key, row.timestamp);
        if self.is_past(written, time) {
            self.delete(key, time)?;
            return Ok(None);
        }
        self.add_entry(written, key);
        Ok(Some(written))
    }

    fn delete(&mut self, key: &[u8], timestamp: i64) -> Result<()> {
        let place = self.rows.find(key)?;
        self.rows.at(place).replace(None, Stamp { timestamp, source_time: timestamp });
        Ok(())
    }

    /// Hands the changed rows on: to the changelog, and with their entries to what lies behind.
    fn hand_on(
        &mut self,
        changelog: impl FnMut(i64, &[u8], Option<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        self.rows.prepare(changelog)?;
        for (entry, present) in std::mem::take(&mut self.index) {
            self.rows.prepare_derived(entry, present);
        }
        // AFTER the rows have been handed on, or else what is read anew would lack them.
        self.tails.settle();
        Ok(())
    }
}

fn split<'a>(store: &StoreName, entry: &'a [u8]) -> Result<(i64, &'a [u8])> {
    layout::split_time_index(entry).ok_or_else(|| {
        let reason = format!("{} is no entry of a time index", entry.escape_ascii());
        StoreError::Corrupt { store: store.clone(), reason }.into()
    })
}

impl<A: Data> Timed for Kept<A> {
    fn fire(&mut self, ctx: &mut Context) -> Result<()> {
        if self.earliest.is_none() {
            return Ok(());
        }
        self.expire(self.inputs.time(&ctx.clocks))
    }

    fn inputs(&self) -> &TimeInputs {
        &self.inputs
    }
}

impl<A: Data> Stateful for Kept<A> {
    fn store(&self) -> &StoreName {
        self.rows.store()
    }

    fn open(&mut self, rows: RowCache) -> Result<()> {
        self.tails.open(rows.tail_bytes_max());
        self.rows.open(rows);
        self.is_open = true;
        let first = self.entries(&[layout::KIND_TIME_INDEX], &layout::TIME_INDEX_END, 1)?;
        let first = first.first().map(|entry| split(self.rows.store(), entry)).transpose()?;
        self.earliest = first.map(|(at, _)| at);
        Ok(())
    }

    fn row_kinds(&self) -> RowKinds {
        RowKinds::One(self.rows.kind())
    }

    fn implied_at(
        &self,
        key: &[u8],
        timestamp: i64,
        value: Option<&[u8]>,
    ) -> Vec<(Vec<u8>, Option<Bytes>)> {
        if self.keep_ms.is_none() || value.is_none() {
            return Vec::new();
        }
        let at = self.ages.of(key, timestamp);
        let key = if self.tails.is_used() { self.tails.split(key).0 } else { key };
        let mut entry = Vec::with_capacity(key.len() + 9);
        layout::time_index_key(at, key, &mut entry);
        vec![(entry, Some(Bytes::new()))]
    }

    fn prepare(&mut self, changelog: &mut Changelog<'_>) -> Result<()> {
        self.hand_on(|timestamp, key, value| changelog.push(timestamp, key, value))
    }

    fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) -> Result<()> {
        self.rows.committed(checkpoint, now_ms);
        Ok(())
    }

    fn changed_rows(&self) -> usize {
        self.rows.len().max(self.tails.read())
    }

    fn with_rows(&mut self, look: &mut dyn FnMut(&mut RowCache) -> Result<()>) -> Result<()> {
        look(self.rows.behind())
    }
}

#[cfg(test)]
mod tests;
