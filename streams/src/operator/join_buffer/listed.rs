//! The rows of a slice beside its first one: named while they are few, looked for when they are many.
//!
//! Invariants
//! * the first row says that there are others as soon as there is one.

use std::ops::ControlFlow;

use super::super::join_row::{self, Head, Tail};
use super::{JoinBuffer, Row, Rows};
use crate::codec::Data;
use crate::error::Result;

/// Rows that a slice names beside its first one; more are looked for.
const NAMED_MAX: usize = 32;

impl<V: Data> JoinBuffer<V> {
    /// The rows of a slice in the order of their time: all, or at least those from one time to another,
    /// both included.
    pub(super) fn tails_of(
        &self,
        place: usize,
        from: i64,
        to: i64,
        tails: &mut Vec<Tail>,
    ) -> Result<()> {
        let slice = &self.slices[place];
        match &slice.rows {
            Rows::None => {}
            Rows::Few(all) => tails.extend_from_slice(all),
            Rows::Many => {
                let (first, last) = self.times_of(slice.number);
                self.look_for(place, from.max(first), to.min(last), tails)?;
            }
        }
        if let Some(first) = slice.first {
            let at = tails.partition_point(|tail| *tail < first);
            tails.insert(at, first);
        }
        Ok(())
    }

    /// The listed rows of a slice from one time to another, both included: the long way.
    fn look_for(&self, place: usize, from: i64, to: i64, tails: &mut Vec<Tail>) -> Result<()> {
        let slice = &self.slices[place];
        let (mut first, mut last) = (Vec::new(), Vec::new());
        join_row::listed_key(&slice.key, (from, 0), &mut first);
        join_row::listed_key(&slice.key, (to, u32::MAX), &mut last);
        // The end is exclusive.
        last.push(0);
        self.behind().scan(&first, &last, &mut |listed, _| {
            // Rows of a longer key may lie between those of this one.
            let split = join_row::split_row(&listed[1..]).filter(|(key, _)| *key == &*slice.key);
            if let Some((_, tail)) = split
                && slice.find(tail).is_err()
            {
                tails.push(tail);
            }
            ControlFlow::Continue(())
        })?;
        let is_listed = |row: &&Row<V>| row.value.is_some() && slice.first != Some(row.tail);
        let ours = slice.ours.iter().filter(is_listed);
        tails.extend(ours.map(|row| row.tail).filter(|tail| (from..=to).contains(&tail.0)));
        tails.sort_unstable();
        Ok(())
    }

    /// Has the first row of a slice say that it is not alone any more.
    fn note_others(&mut self, place: usize) -> Result<()> {
        let Some(first) = self.slices[place].first else { return Ok(()) };
        match self.slices[place].find(first) {
            Ok(at) => self.slices[place].ours[at].head.crowded = true,
            Err(at) => {
                let loaded = self.load(place, first)?;
                let key = &self.slices[place].key;
                let (head, value) =
                    loaded.ok_or_else(|| self.corrupt("a slice without its first row:", key))?;
                let head = Head { crowded: true, ..head };
                let row = Row { tail: first, value: Some(value), head, committed: true };
                self.slices[place].ours.insert(at, row);
                self.changed += 1;
            }
        }
        Ok(())
    }

    /// A place for one more row of a slice that has some.
    pub(super) fn list(&mut self, place: usize, timestamp: i64) -> Result<Tail> {
        let mut same = Vec::new();
        if self.slices[place].rows == Rows::None {
            self.note_others(place)?;
        }
        self.tails_of(place, timestamp, timestamp, &mut same)?;
        let tail = next_tail(&same, timestamp);
        let slice = &mut self.slices[place];
        match &mut slice.rows {
            Rows::None => (slice.rows, slice.changed) = (Rows::Few(vec![tail]), true),
            Rows::Few(tails) => {
                let at = tails.partition_point(|other| *other < tail);
                tails.insert(at, tail);
                slice.changed = true;
                if tails.len() > NAMED_MAX {
                    slice.rows = Rows::Many;
                }
            }
            Rows::Many => {}
        }
        Ok(tail)
    }
}

/// The place of the next record of a timestamp behind those that are there.
fn next_tail(tails: &[Tail], timestamp: i64) -> Tail {
    let same = tails.iter().filter(|tail| tail.0 == timestamp);
    (timestamp, same.map(|tail| tail.1).max().map_or(0, |last| last.saturating_add(1)))
}
