//! What happens to the rows of a join when their time is up: they speak, and they go.
//!
//! Invariants
//! * rows speak in the order of time, each once; the entry goes with it.
//! * no slice goes before nothing can meet any of its rows.

use std::ops::{Bound, ControlFlow};

use super::super::join_row::{self, Head, Tail};
use super::upcoming::UPCOMING_MAX;
use super::{Due, JoinBuffer, Row, Rows};
use crate::codec::Data;
use crate::error::Result;
use crate::store::layout::{KIND_FIRST, KIND_TIME_INDEX};

/// Slices that are read in one go when their time is up, and those that are dropped in one go.
const EXPIRING_MAX: usize = 16 * 1_024;
const DROPPED_MAX: usize = 1_024;

impl<V: Data> JoinBuffer<V> {
    /// Unmatched entries from `from` on: those behind that this transaction has not touched, and its own.
    pub(super) fn unmatched_from(&self, from: &[u8], limit: usize) -> Result<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        self.behind().scan(from, &[KIND_TIME_INDEX + 1], &mut |key, _| {
            if !self.unmatched.contains_key(key) {
                found.push(key.to_vec());
            }
            if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let ours = self.unmatched.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        let ours = ours.filter(|(_, present)| **present).take(limit);
        found.extend(ours.map(|(key, _)| key.clone()));
        found.sort_unstable();
        found.truncate(limit);
        Ok(found)
    }

    /// Slices from a number on, in the order of their numbers.
    pub(super) fn slices_from(&self, number: i64, limit: usize) -> Result<Vec<(i64, Box<[u8]>)>> {
        let (mut from, mut found) = (Vec::new(), Vec::new());
        join_row::first_key(number, &[], &mut from);
        self.behind().scan(&from, &[KIND_FIRST + 1], &mut |bytes, _| {
            if let Some((number, key)) = join_row::split_first(bytes)
                && self.place(self.hash(number, key), number, key).is_none()
            {
                found.push((number, Box::from(key)));
            }
            if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let ours = self.slices.iter().filter(|slice| slice.has_rows());
        let ours = ours.filter(|slice| slice.number >= number);
        found.extend(ours.map(|slice| (slice.number, slice.key.clone())));
        found.sort_unstable();
        found.truncate(limit);
        Ok(found)
    }

    /// Whether an unmatched row may speak at that time.
    fn has_due(&self, time: i64) -> bool {
        let is_due = |entry: &[u8]| {
            let split = join_row::split_unmatched(entry);
            split.is_none_or(|(t, _)| i128::from(time) >= self.window.deadline(self.side, t))
        };
        self.upcoming.first().is_some_and(is_due)
    }

    /// Takes the unmatched row that speaks next, if it does at that time or before it.
    pub(in crate::operator) fn take_due(&mut self, time: i64) -> Result<Option<Due<V>>> {
        while self.has_due(time) {
            let Some(entry) = self.upcoming.first().map(<[u8]>::to_vec) else { break };
            let split = join_row::split_unmatched(&entry);
            let parts = split.and_then(|(_, row)| Some((row, join_row::split_row(row)?)));
            let (row, (key, tail)) =
                parts.ok_or_else(|| self.corrupt("no unmatched entry:", &entry))?;
            let number = tail.0.div_euclid(self.slice_ms);
            let place = self.slice(self.hash(number, key), number, key, true)?;
            if let Some(value) = self.speak(place, tail)? {
                let at = self.window.deadline(self.side, tail.0);
                return Ok(Some(Due { at, timestamp: tail.0, row: row.to_vec(), value }));
            }
        }
        Ok(None)
    }

    /// Notes that a row speaks, which it does once, and returns its value.
    fn speak(&mut self, place: usize, tail: Tail) -> Result<Option<V>> {
        let (value, committed) = match self.slices[place].find(tail) {
            Ok(at) => {
                let row = &mut self.slices[place].ours[at];
                row.head.matched = true;
                (row.value.clone(), row.committed)
            }
            Err(at) => {
                let loaded = self.load(place, tail)?;
                let key = &self.slices[place].key;
                let (head, value) =
                    loaded.ok_or_else(|| self.corrupt("an entry without its row:", key))?;
                let head = Head { matched: true, ..head };
                let row = Row { tail, value: Some(value.clone()), head, committed: true };
                self.slices[place].ours.insert(at, row);
                self.changed += 1;
                (Some(value), true)
            }
        };
        self.forget_unmatched(place, tail, committed)?;
        Ok(value)
    }

    /// Makes sure that the entry that is due next, if there is one, is at hand.
    pub(super) fn look_ahead(&mut self) -> Result<()> {
        while let Some(from) = self.upcoming.ends_at().map(<[u8]>::to_vec) {
            let more = self.unmatched_from(&from, UPCOMING_MAX)?;
            self.upcoming.go_on(more);
        }
        Ok(())
    }

    /// Drops slices that nothing can meet any more at that time, with their rows. Not all at once, if
    /// there are very many: the rest goes next time.
    pub(in crate::operator) fn expire(&mut self, time: i64) -> Result<()> {
        if self.expiring.is_empty() {
            let Some(first) = self.first_slice.filter(|&first| self.is_over(first, time)) else {
                return Ok(());
            };
            let slices = self.slices_from(first, EXPIRING_MAX)?;
            let full = slices.len() == EXPIRING_MAX;
            self.first_slice = slices.last().filter(|_| full).map(|(last, _)| *last);
            for (number, key) in slices {
                if !self.is_over(number, time) {
                    self.first_slice = Some(number);
                    break;
                }
                self.expiring.push_back((number, key));
            }
            self.known.forget_before(self.first_slice.unwrap_or(first));
        }
        for _ in 0..DROPPED_MAX {
            let Some((number, key)) = self.expiring.pop_front() else { break };
            self.drop_slice(number, &key)?;
        }
        Ok(())
    }

    fn is_over(&self, number: i64, time: i64) -> bool {
        i128::from(time) >= self.until(self.times_of(number).1)
    }

    fn drop_slice(&mut self, number: i64, key: &[u8]) -> Result<()> {
        let place = self.slice(self.hash(number, key), number, key, true)?;
        let mut tails = Vec::new();
        self.tails_of(place, i64::MIN, i64::MAX, &mut tails)?;
        let slice = &mut self.slices[place];
        (slice.changed, slice.dropped) = (slice.rows != Rows::None, true);
        slice.rows = Rows::None;
        for tail in tails {
            match slice.find(tail) {
                Ok(at) if slice.ours[at].committed => slice.ours[at].value = None,
                Ok(at) => drop(slice.ours.remove(at)),
                Err(at) => {
                    let head = Head { matched: true, crowded: false, source_time: tail.0 };
                    slice.ours.insert(at, Row { tail, value: None, head, committed: true });
                    self.changed += 1;
                }
            }
        }
        Ok(())
    }
}
