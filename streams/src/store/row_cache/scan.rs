//! Scans of a row cache: what is in memory over what is in the store, in either direction.
//!
//! Invariants
//! * a row in memory stands for the one on disk, also where it is a delete.

use std::ops::ControlFlow;

use super::RowCache;
use crate::store::layout::{PREFIX_BYTES, store_key};
use crate::store::level::{RowRef, merged, merged_back};
use crate::store::{Direction, StoreError, Visit};

impl RowCache {
    /// Visits the rows with `from <= key < to` in the order of their keys, as [`get`](Self::get) sees
    /// them. Index rows and listed rows cost what is visited; a scan of other rows sorts those that are
    /// not on disk first.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the store failed; rows before the failure have been visited.
    pub(crate) fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let flushing = self.flushing.iter().flat_map(|flushing| flushing.level.range(from, to));
        let memory = merged(self.dirty.level.range(from, to), flushing);
        self.over_the_store((from, to), Direction::Forward, memory, visit)
    }

    /// The same, the last key first.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the store failed; rows before the failure have been visited.
    pub(crate) fn scan_back(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let flushing =
            self.flushing.iter().flat_map(|flushing| flushing.level.range_back(from, to));
        let memory = merged_back(self.dirty.level.range_back(from, to), flushing);
        self.over_the_store((from, to), Direction::Back, memory, visit)
    }

    fn over_the_store<'a>(
        &self,
        (from, to): (&[u8], &[u8]),
        direction: Direction,
        memory: impl Iterator<Item = RowRef<'a>>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        let mut memory = memory.peekable();
        let (mut store_from, mut store_to) = (Vec::new(), Vec::new());
        store_key(self.partition, from, &mut store_from);
        store_key(self.partition, to, &mut store_to);
        let is_not_behind = |newer: &[u8], key: &[u8]| match direction {
            Direction::Forward => newer <= key,
            Direction::Back => newer >= key,
        };
        let mut flow = ControlFlow::Continue(());
        let mut look = |key: &[u8], value: &[u8]| {
            let key = key.get(PREFIX_BYTES..).unwrap_or_default();
            while let Some((newer, row)) = memory.next_if(|(newer, _)| is_not_behind(newer, key)) {
                if let Some(value) = row {
                    flow = visit(newer, value);
                }
                if flow.is_break() || &newer[..] == key {
                    return flow;
                }
            }
            flow = visit(key, value);
            flow
        };
        match direction {
            Direction::Forward => self.store.scan(&store_from, &store_to, &mut look)?,
            Direction::Back => self.store.scan_back(&store_from, &store_to, &mut look)?,
        }
        if flow.is_continue() {
            for (key, row) in memory {
                if let Some(value) = row
                    && visit(key, value).is_break()
                {
                    break;
                }
            }
        }
        Ok(())
    }
}
