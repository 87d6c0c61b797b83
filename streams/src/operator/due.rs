//! Which windows close next: entries (end, key) in the order of time, beside the rows of a store.
//!
//! Why: closing must find the windows whose time has come without looking at the others. Entries follow
//! from the rows, so the changelog does not carry them.
//!
//! ```text
//!   this transaction: entries added, entries removed  -- commit -->  row cache (kept in order in memory)
//!   due(from)         both merged, from the earliest end on, a thousand at a time
//! ```
//!
//! Invariants
//! * no open window of the store ends before `earliest_end`.
//! * what lies before it is gone, and is not stepped over again, row by row, in a back end that has not
//!   forgotten it yet.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::window_aggregate::no_window;
use crate::error::Result;
use crate::ids::StoreName;
use crate::store::{RowCache, layout};

/// How many entries are collected at a time.
pub(super) const DUE_AT_A_TIME: usize = 1_024;

/// The entries of one store partition.
#[derive(Default)]
pub(super) struct TimeIndex {
    /// Entries that this transaction added (true) or removed (false).
    changed: BTreeMap<Vec<u8>, bool>,
    earliest_end: Option<i64>,
}

impl TimeIndex {
    pub(super) fn earliest_end(&self) -> Option<i64> {
        self.earliest_end
    }

    /// What comes next is known.
    pub(super) fn set_earliest(&mut self, end: Option<i64>) {
        self.earliest_end = end;
    }

    pub(super) fn add(&mut self, end: i64, key: &[u8]) {
        self.changed.insert(entry(end, key), true);
        self.earliest_end = Some(self.earliest_end.map_or(end, |earliest| earliest.min(end)));
    }

    /// `committed`: whether the state before this transaction may have it.
    pub(super) fn remove(&mut self, end: i64, key: &[u8], committed: bool) {
        let entry = entry(end, key);
        if committed {
            self.changed.insert(entry, false);
        } else {
            self.changed.remove(&entry);
        }
    }

    /// Entries of open windows from `from` on, in order, at most `limit`.
    pub(super) fn from(
        &self,
        from: &[u8],
        limit: usize,
        behind: &RowCache,
    ) -> Result<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        behind.scan(from, &layout::TIME_INDEX_END, &mut |key, _| {
            if !self.changed.contains_key(key) {
                found.push(key.to_vec());
            }
            if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let ours = self.changed.range(from.to_vec()..).filter(|&(_, &present)| present);
        found.extend(ours.take(limit).map(|(key, _)| key.clone()));
        found.sort_unstable();
        found.truncate(limit);
        Ok(found)
    }

    /// Looks for the first entry that a store has been opened with.
    pub(super) fn open(&mut self, store: &StoreName, behind: &RowCache) -> Result<()> {
        let first = self.from(&[layout::KIND_TIME_INDEX], 1, behind)?;
        let first = first.first().map(|entry| split(store, entry)).transpose()?;
        self.earliest_end = first.map(|(end, _)| end);
        Ok(())
    }

    /// Hands the entries on at a commit.
    pub(super) fn prepare(&mut self, mut take: impl FnMut(Vec<u8>, bool)) {
        for (entry, present) in std::mem::take(&mut self.changed) {
            take(entry, present);
        }
    }
}

/// The entry of a key under an end.
pub(super) fn entry(end: i64, key: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(key.len() + 9);
    layout::time_index_key(end, key, &mut entry);
    entry
}

/// The end and the key of an entry.
pub(super) fn split<'a>(store: &StoreName, entry: &'a [u8]) -> Result<(i64, &'a [u8])> {
    layout::split_time_index(entry).ok_or_else(|| no_window(store, entry))
}
