//! One side of a stream-stream join: its records, for as long as the other side may meet them.
//!
//! ```text
//!   put ----> rows, slices, unmatched entries of this transaction --- commit ---> row cache
//!   meet:     slices of the key --few rows--> rows one by one
//!                               --many rows-> a range of rows
//!   due:      unmatched entries whose time has come, in order
//!   expire:   slices whose last possible row nothing can meet any more, with their rows
//! ```
//!
//! Invariants
//! * a slice names its rows, or says that they must be looked for; a slice that is not there has none.
//! * an entry of `unmatched` is there exactly for each row that has not matched, where those speak.
//! * a row past its time stays until its slice goes, but meets nothing any more.

mod kept;
mod upcoming;

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::join_row::{self, Head, Tail};
use crate::codec::{Bincode, Codec, Data};
use crate::error::Result;
use crate::ids::StoreName;
use crate::store::layout::{self, KIND_LISTED, KIND_SLICE, KIND_TIME_INDEX};
use crate::store::{RowCache, StoreError};
use crate::time::{JoinSide, JoinWindow, Stamp};
use upcoming::{UPCOMING_MAX, Upcoming};

/// Rows that a slice names; more are looked for.
const NAMED_MAX: usize = 8;
/// Slices that are dropped in one go.
const SLICES_AT_A_TIME: usize = 1_024;
/// The shortest slice: with a shorter one nearly every row would have its own.
const SLICE_MS_MIN: i64 = 1_000;

/// A row of the running transaction; all of them have changed.
struct Row<V> {
    /// `None`: deleted.
    value: Option<V>,
    head: Head,
    /// Whether the committed state has it.
    committed: bool,
}

/// The rows of one key in one slice of time.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rows {
    None,
    Few(Vec<Tail>),
    Many,
}

struct Slice {
    rows: Rows,
    committed: bool,
    changed: bool,
}

/// What one side keeps.
pub(crate) struct JoinBuffer<V> {
    store: StoreName,
    side: JoinSide,
    window: JoinWindow,
    /// Whether a record that nothing matches speaks in the end.
    speaks: bool,
    slice_ms: i64,
    behind: Option<RowCache>,
    rows: BTreeMap<Box<[u8]>, Row<V>>,
    slices: BTreeMap<Box<[u8]>, Slice>,
    /// Unmatched entries that this transaction added (true) or removed (false).
    unmatched: BTreeMap<Vec<u8>, bool>,
    /// The entries that are due next.
    upcoming: Upcoming,
    /// No slice lies before this one.
    first_slice: Option<i64>,
    prepared: Vec<(Bytes, Option<Bytes>)>,
    key: Vec<u8>,
}

/// A record on its way through a join.
#[derive(Clone, Copy)]
pub(super) struct Probe<'a> {
    pub(super) key: &'a [u8],
    pub(super) stamp: Stamp,
    /// The first source time of a record of the other side that it does not meet any more.
    pub(super) until: i128,
}

impl<V: Data> JoinBuffer<V> {
    pub(crate) fn new(store: StoreName, side: JoinSide, window: JoinWindow, speaks: bool) -> Self {
        Self {
            store,
            side,
            window,
            speaks,
            slice_ms: window.width_ms().max(SLICE_MS_MIN),
            behind: None,
            rows: BTreeMap::new(),
            slices: BTreeMap::new(),
            unmatched: BTreeMap::new(),
            upcoming: Upcoming::default(),
            first_slice: None,
            prepared: Vec::new(),
            key: Vec::new(),
        }
    }

    pub(super) fn store_name(&self) -> &StoreName {
        &self.store
    }

    /// Whether a record of this side that nothing matches speaks.
    pub(super) fn speaks(&self) -> bool {
        self.speaks
    }

    /// Whether a record comes too late to meet anything or to speak.
    pub(super) fn is_late(&self, stamp: Stamp) -> bool {
        i128::from(stamp.source_time) >= self.until(stamp.timestamp)
    }

    /// When the time of a record is up: it is late if it comes then, and meets nothing that comes then.
    /// Where records without a match speak, it is when this one does; elsewhere, when nothing within its
    /// reach can be in time.
    pub(super) fn until(&self, timestamp: i64) -> i128 {
        if self.speaks {
            self.window.deadline(self.side, timestamp)
        } else {
            self.window.retention(timestamp)
        }
    }

    fn behind(&mut self) -> &mut RowCache {
        self.behind.as_mut().expect("a store is opened before its first record")
    }

    fn corrupt(&self, what: &str, key: &[u8]) -> StoreError {
        let reason = format!("{what} {}", key.escape_ascii());
        StoreError::Corrupt { store: self.store.clone(), reason }
    }

    /// Appends the rows that a record of the other side meets, in the order of their time, and notes
    /// that they have matched.
    pub(super) fn meet(&mut self, probe: Probe<'_>, found: &mut Vec<(i64, V)>) -> Result<()> {
        let other = match self.side {
            JoinSide::Left => JoinSide::Right,
            JoinSide::Right => JoinSide::Left,
        };
        let (before_ms, after_ms) = self.window.reach(other);
        let from = probe.stamp.timestamp.saturating_sub(before_ms);
        let to = probe.stamp.timestamp.saturating_add(after_ms);
        for slice in from.div_euclid(self.slice_ms)..=to.div_euclid(self.slice_ms) {
            let tails = match &self.slice(slice, probe.key)?.rows {
                Rows::None => continue,
                Rows::Few(tails) => tails.clone(),
                Rows::Many => {
                    let (first, last) = self.times_of(slice);
                    self.look_for(probe.key, from.max(first), to.min(last))?
                }
            };
            for tail in tails.into_iter().filter(|tail| (from..=to).contains(&tail.0)) {
                if i128::from(probe.stamp.source_time) < self.until(tail.0) {
                    self.meet_row(probe, tail, found)?;
                }
            }
        }
        Ok(())
    }

    fn meet_row(&mut self, probe: Probe<'_>, tail: Tail, found: &mut Vec<(i64, V)>) -> Result<()> {
        let mut key = std::mem::take(&mut self.key);
        join_row::row_key(probe.key, tail, &mut key);
        let outcome = self.meet_key(probe.until, tail.0, &key, found);
        self.key = key;
        outcome
    }

    fn meet_key(
        &mut self,
        until: i128,
        timestamp: i64,
        key: &[u8],
        found: &mut Vec<(i64, V)>,
    ) -> Result<()> {
        if let Some(row) = self.rows.get_mut(key) {
            let Some(value) = &row.value else { return Ok(()) };
            if i128::from(row.head.source_time) >= until {
                return Ok(());
            }
            found.push((timestamp, value.clone()));
            if self.speaks && !row.head.matched {
                row.head.matched = true;
                let committed = row.committed;
                self.forget_unmatched(timestamp, key, committed);
                self.look_ahead()?;
            }
            return Ok(());
        }
        let Some((head, value)) = self.load(key)? else { return Ok(()) };
        if i128::from(head.source_time) >= until {
            return Ok(());
        }
        if self.speaks && !head.matched {
            let head = Head { matched: true, ..head };
            let row = Row { value: Some(value.clone()), head, committed: true };
            self.rows.insert(Box::from(key), row);
            self.forget_unmatched(timestamp, key, true);
            self.look_ahead()?;
        }
        found.push((timestamp, value));
        Ok(())
    }

    fn forget_unmatched(&mut self, timestamp: i64, key: &[u8], committed: bool) {
        let entry = join_row::unmatched_key(timestamp, key);
        self.upcoming.remove(&entry);
        if committed {
            self.unmatched.insert(entry, false);
        } else {
            self.unmatched.remove(&entry);
        }
    }

    /// A committed row.
    fn load(&mut self, key: &[u8]) -> Result<Option<(Head, V)>> {
        let mut listed = Vec::with_capacity(1 + key.len());
        join_row::listed(key, &mut listed);
        let Some(bytes) = self.behind().get(&listed)? else { return Ok(None) };
        let parsed = layout::decode_row(&bytes)
            .and_then(|(timestamp, rest)| join_row::take_head(rest, timestamp));
        let (head, value) = parsed.ok_or_else(|| self.corrupt("no row of a join:", key))?;
        let value = Bincode::decode(value)
            .map_err(|e| self.corrupt(&format!("the value of a row: {e}:"), key))?;
        Ok(Some((head, value)))
    }

    /// First and last time of a slice.
    fn times_of(&self, slice: i64) -> (i64, i64) {
        let first = i128::from(slice) * i128::from(self.slice_ms);
        let last = first + i128::from(self.slice_ms) - 1;
        let clamp = |t: i128| i64::try_from(t).unwrap_or(if t < 0 { i64::MIN } else { i64::MAX });
        (clamp(first), clamp(last))
    }

    fn slice(&mut self, number: i64, key: &[u8]) -> Result<&mut Slice> {
        let mut bytes = std::mem::take(&mut self.key);
        join_row::slice_key(number, key, &mut bytes);
        if !self.slices.contains_key(&bytes[..]) {
            let known = self.behind().get(&bytes)?;
            let rows = match &known {
                None => Rows::None,
                Some(bytes) => join_row::rows_of_slice(bytes).map_or(Rows::Many, Rows::Few),
            };
            let slice = Slice { rows, committed: known.is_some(), changed: false };
            self.slices.insert(Box::from(&bytes[..]), slice);
        }
        self.key = bytes;
        let slice = self.slices.get_mut(&self.key[..]);
        Ok(slice.expect("it was there or has been put there"))
    }

    /// The rows of a key from one time to another, both included: the long way.
    fn look_for(&mut self, key: &[u8], from: i64, to: i64) -> Result<Vec<Tail>> {
        let (mut first, mut last) = (vec![KIND_LISTED], vec![KIND_LISTED]);
        let mut row = Vec::new();
        join_row::row_key(key, (from, 0), &mut row);
        first.extend_from_slice(&row);
        join_row::row_key(key, (to, u32::MAX), &mut row);
        last.extend_from_slice(&row);
        // The end is exclusive.
        last.push(0);
        let mut tails = Vec::new();
        let rows = &self.rows;
        // Rows of a longer key may lie between those of this one.
        let tail_of =
            |row: &[u8]| join_row::split_row(row).filter(|(k, _)| *k == key).map(|(_, tail)| tail);
        let behind = self.behind.as_ref().expect("a store is opened before its first record");
        behind.scan(&first, &last, &mut |listed, _| {
            let row = &listed[1..];
            if !rows.contains_key(row) {
                tails.extend(tail_of(row));
            }
            ControlFlow::Continue(())
        })?;
        let bounds = (Bound::Included(&first[1..]), Bound::Excluded(&last[1..]));
        let ours = rows.range::<[u8], _>(bounds).filter(|(_, row)| row.value.is_some());
        tails.extend(ours.filter_map(|(key, _)| tail_of(key)));
        tails.sort_unstable();
        Ok(tails)
    }

    /// Keeps a record.
    pub(super) fn put(&mut self, key: &[u8], stamp: Stamp, value: V, matched: bool) -> Result<()> {
        let timestamp = stamp.timestamp;
        let number = timestamp.div_euclid(self.slice_ms);
        let is_many = self.slice(number, key)?.rows == Rows::Many;
        let same = if is_many { self.look_for(key, timestamp, timestamp)? } else { Vec::new() };
        let slice = self.slice(number, key)?;
        slice.changed = true;
        let tail = match &mut slice.rows {
            Rows::None => {
                slice.rows = Rows::Few(vec![(timestamp, 0)]);
                (timestamp, 0)
            }
            Rows::Few(tails) => {
                let tail = next_tail(tails, timestamp);
                let place = tails.partition_point(|other| *other < tail);
                tails.insert(place, tail);
                if tails.len() > NAMED_MAX {
                    slice.rows = Rows::Many;
                }
                tail
            }
            Rows::Many => next_tail(&same, timestamp),
        };
        let mut row = Vec::with_capacity(key.len() + 12);
        join_row::row_key(key, tail, &mut row);
        if self.speaks && !matched {
            let entry = join_row::unmatched_key(timestamp, &row);
            self.upcoming.add(&entry);
            self.unmatched.insert(entry, true);
        }
        self.first_slice = earlier(self.first_slice, number);
        let head = Head { matched, source_time: stamp.source_time };
        let kept = Row { value: Some(value), head, committed: false };
        self.rows.insert(row.into_boxed_slice(), kept);
        Ok(())
    }

    /// Entries of one kind from `from` on: those behind that this transaction has not touched, and its
    /// own. At most `limit`.
    fn entries<'a>(
        behind: &RowCache,
        from: &[u8],
        kind: u8,
        limit: usize,
        is_ours: impl Fn(&[u8]) -> bool,
        ours: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        behind.scan(from, &[kind + 1], &mut |key, _| {
            if !is_ours(key) {
                found.push(key.to_vec());
            }
            if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        found.extend(ours.take(limit).map(<[u8]>::to_vec));
        found.sort_unstable();
        found.truncate(limit);
        Ok(found)
    }

    fn unmatched_from(&self, from: &[u8], limit: usize) -> Result<Vec<Vec<u8>>> {
        let behind = self.behind.as_ref().expect("a store is opened before its first record");
        let ours = self.unmatched.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        let ours = ours.filter(|(_, present)| **present).map(|(key, _)| &key[..]);
        let is_ours = |key: &[u8]| self.unmatched.contains_key(key);
        Self::entries(behind, from, KIND_TIME_INDEX, limit, is_ours, ours)
    }

    fn slices_from(&self, from: &[u8], limit: usize) -> Result<Vec<Vec<u8>>> {
        let behind = self.behind.as_ref().expect("a store is opened before its first record");
        let ours = self.slices.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        let ours = ours.filter(|(_, slice)| slice.rows != Rows::None).map(|(key, _)| &key[..]);
        let is_ours = |key: &[u8]| self.slices.contains_key(key);
        Self::entries(behind, from, KIND_SLICE, limit, is_ours, ours)
    }

    /// Whether an unmatched row may speak at that time.
    pub(super) fn has_due(&self, time: i64) -> bool {
        let is_due = |entry: &[u8]| {
            let split = join_row::split_unmatched(entry);
            split.is_none_or(|(t, _)| i128::from(time) >= self.window.deadline(self.side, t))
        };
        self.upcoming.first().is_some_and(is_due)
    }

    /// Takes the unmatched row that speaks next, if it does at that time or before it.
    pub(super) fn take_due(&mut self, time: i64) -> Result<Option<Due<V>>> {
        while self.has_due(time) {
            let Some(entry) = self.upcoming.first().map(<[u8]>::to_vec) else { break };
            let (timestamp, key) = join_row::split_unmatched(&entry)
                .ok_or_else(|| self.corrupt("no unmatched entry:", &entry))?;
            let (head, value, committed) = self.row(key)?;
            self.forget_unmatched(timestamp, key, committed);
            self.look_ahead()?;
            let Some(value) = value else { continue };
            let head = Head { matched: true, ..head };
            let kept = Row { value: Some(value.clone()), head, committed };
            self.rows.insert(Box::from(key), kept);
            let at = self.window.deadline(self.side, timestamp);
            return Ok(Some(Due { at, timestamp, row: key.to_vec(), value }));
        }
        Ok(None)
    }

    /// Makes sure that the entry that is due next, if there is one, is at hand.
    fn look_ahead(&mut self) -> Result<()> {
        while let Some(from) = self.upcoming.ends_at().map(<[u8]>::to_vec) {
            let more = self.unmatched_from(&from, UPCOMING_MAX)?;
            self.upcoming.go_on(more);
        }
        Ok(())
    }

    fn row(&mut self, key: &[u8]) -> Result<(Head, Option<V>, bool)> {
        if let Some(row) = self.rows.get(key) {
            return Ok((row.head, row.value.clone(), row.committed));
        }
        let (head, value) =
            self.load(key)?.ok_or_else(|| self.corrupt("an entry without its row:", key))?;
        Ok((head, Some(value), true))
    }

    /// Drops slices that nothing can meet any more at that time, with their rows. Not all at once, if
    /// there are very many: the rest goes next time.
    pub(super) fn expire(&mut self, time: i64) -> Result<()> {
        let Some(first) = self.first_slice else { return Ok(()) };
        if i128::from(time) < self.until(self.times_of(first).1) {
            return Ok(());
        }
        let mut from = Vec::new();
        join_row::slice_key(first, &[], &mut from);
        let slices = self.slices_from(&from, SLICES_AT_A_TIME)?;
        self.first_slice = None;
        for bytes in &slices {
            let (number, key) = join_row::split_slice(bytes)
                .ok_or_else(|| self.corrupt("no slice of a join:", bytes))?;
            self.first_slice = Some(number);
            if i128::from(time) < self.until(self.times_of(number).1) {
                return Ok(());
            }
            self.drop_slice(number, key)?;
        }
        if slices.len() < SLICES_AT_A_TIME {
            self.first_slice = None;
        }
        Ok(())
    }

    fn drop_slice(&mut self, number: i64, key: &[u8]) -> Result<()> {
        let slice = self.slice(number, key)?;
        slice.changed = true;
        let tails = match std::mem::replace(&mut slice.rows, Rows::None) {
            Rows::None => Vec::new(),
            Rows::Few(tails) => tails,
            Rows::Many => {
                let (first, last) = self.times_of(number);
                self.look_for(key, first, last)?
            }
        };
        for tail in tails {
            let mut row = Vec::with_capacity(key.len() + 12);
            join_row::row_key(key, tail, &mut row);
            let committed = self.rows.get(&row[..]).is_none_or(|row| row.committed);
            if committed {
                let head = Head { matched: true, source_time: tail.0 };
                let gone = Row { value: None, head, committed };
                self.rows.insert(row.into_boxed_slice(), gone);
            } else {
                self.rows.remove(&row[..]);
            }
        }
        Ok(())
    }
}

/// An unmatched row whose time has come.
pub(super) struct Due<V> {
    pub(super) at: i128,
    pub(super) timestamp: i64,
    pub(super) row: Vec<u8>,
    pub(super) value: V,
}

fn earlier(known: Option<i64>, time: i64) -> Option<i64> {
    Some(known.map_or(time, |known| known.min(time)))
}

/// The place of the next record of a timestamp behind those that are there.
fn next_tail(tails: &[Tail], timestamp: i64) -> Tail {
    let same = tails.iter().filter(|tail| tail.0 == timestamp);
    (timestamp, same.map(|tail| tail.1).max().map_or(0, |last| last.saturating_add(1)))
}
