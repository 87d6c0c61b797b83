//! The rows of a table: kept by whoever changes them, looked up by joins, passed on once per commit.
//!
//! ```text
//!   Aggregate, TableWriter --writes--> rows (overlay) <--looks up-- TableJoin, through a View
//!                                        |
//!                                        `-- TableStore: changes (old, new), changelog, commit
//! ```
//!
//! Why shared rows: a join reads the rows of the running transaction while the record that changes them
//! may still be on its way through another step. Each borrows them for one access only.
//!
//! Invariants
//! * a row is the latest by offset, whatever its timestamp says.
//! * a null value deletes its row, and the delete is passed on.
//! * a row that the job makes itself, and that came and went between two commits, is not passed on.
//! * a change is passed on once per commit, from the value before the transaction to the one at its end:
//!   values between never show.

use serde::{Deserialize, Serialize};

use super::children::Children;
use super::window_aggregate::decode_key;
use crate::codec::Data;
use crate::error::Result;
use crate::ids::StoreName;
use crate::key::Key;
use crate::processor::{Changelog, Context, Next, Process, ProcessKeyed, Record, Shared, Stateful};
use crate::record::Headers;
use crate::store::{Checkpoint, Overlay, RowCache};
use crate::time::Stamp;

/// Keeps the latest value of each key.
pub(crate) struct TableWriter<V> {
    rows: Shared<Overlay<V>>,
}

impl<V> TableWriter<V> {
    pub(crate) fn new(rows: Shared<Overlay<V>>) -> Self {
        Self { rows }
    }
}

impl<V: Data> ProcessKeyed<V> for TableWriter<V> {
    fn process(
        &mut self,
        _: &mut Context,
        key: &[u8],
        value: Option<V>,
        stamp: Stamp,
    ) -> Result<()> {
        let mut rows = self.rows.borrow_mut();
        let place = rows.find(key)?;
        rows.at(place).replace(value, stamp);
        Ok(())
    }
}

/// What has become of one row of a table since the last commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change<V> {
    /// What was there; `None`: there was no row.
    pub(crate) old: Option<V>,
    /// What is there now; `None`: the row is deleted.
    pub(crate) new: Option<V>,
}

/// Passes on what is there now: a table's changes as a stream.
pub(crate) struct NewValue<K, V> {
    next: Next<K, V>,
}

impl<K, V> NewValue<K, V> {
    pub(crate) fn new(next: Next<K, V>) -> Self {
        Self { next }
    }
}

impl<K, V> Process<K, Change<V>> for NewValue<K, V> {
    fn process(&mut self, ctx: &mut Context, mut record: Record<K, Change<V>>) -> Result<()> {
        let new = record.value.take().and_then(|change| change.new);
        self.next.process(ctx, record.with_value(new))
    }
}

/// The store of a table, whoever writes its rows.
pub(crate) struct TableStore<K, V> {
    store: StoreName,
    rows: Shared<Overlay<V>>,
    next: Children<K, Change<V>>,
    replicated: bool,
    passes: Passes,
}

/// Which deletes are passed on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passes {
    /// All that the input has.
    AllDeletes,
    /// Those of rows that were there.
    DeletesOfRows,
}

impl<K, V> TableStore<K, V> {
    pub(crate) fn new(
        store: StoreName,
        rows: Shared<Overlay<V>>,
        next: Children<K, Change<V>>,
    ) -> Self {
        Self { store, rows, next, replicated: false, passes: Passes::AllDeletes }
    }

    /// Rows that the job makes itself: nobody hears of one that came and went between two commits.
    pub(crate) fn of_results(self) -> Self {
        Self { passes: Passes::DeletesOfRows, ..self }
    }

    /// The same rows are kept by every task.
    pub(crate) fn replicated(self) -> Self {
        Self { replicated: true, ..self }
    }
}

impl<K: Key, V: Data> TableStore<K, V> {
    /// The change of one row, if it has not been passed on yet.
    fn update(&self, place: usize) -> Result<Option<Record<K, Change<V>>>> {
        let mut rows = self.rows.borrow_mut();
        let row = rows.at(place);
        if !row.take_unsent() {
            return Ok(None);
        }
        let was_there = row.is_committed() || self.passes == Passes::AllDeletes;
        if row.value.is_none() && !was_there {
            return Ok(None);
        }
        Ok(Some(Record {
            key: decode_key::<K>(&self.store, row.key())?,
            value: Some(Change { old: row.old.take(), new: row.value.clone() }),
            timestamp: row.timestamp,
            source_time: row.source_time,
            headers: Headers::none(),
        }))
    }
}

impl<K: Key, V: Data> Stateful for TableStore<K, V> {
    fn store(&self) -> &StoreName {
        &self.store
    }

    fn open(&mut self, rows: RowCache) -> Result<()> {
        let mut table = self.rows.borrow_mut();
        if !self.next.is_empty() {
            table.keep_old();
        }
        table.open(rows);
        Ok(())
    }

    fn emit_updates(&mut self, ctx: &mut Context) -> Result<()> {
        let rows = self.rows.borrow().len();
        for nth in 0..rows {
            let place = self.rows.borrow().touched(nth);
            // The rows are let go of first: what follows may look something up in this very table.
            if let Some(record) = self.update(place)? {
                self.next.process(ctx, record)?;
            }
        }
        Ok(())
    }

    fn prepare(&mut self, changelog: &mut Changelog<'_>) -> Result<()> {
        let mut rows = self.rows.borrow_mut();
        rows.prepare(|timestamp, key, value| changelog.push(timestamp, key, value))
    }

    fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) -> Result<()> {
        self.rows.borrow_mut().committed(checkpoint, now_ms);
        Ok(())
    }

    fn changed_rows(&self) -> usize {
        self.rows.borrow().len()
    }

    fn with_rows(&mut self, look: &mut dyn FnMut(&mut RowCache) -> Result<()>) -> Result<()> {
        look(self.rows.borrow_mut().behind())
    }

    fn is_replicated(&self) -> bool {
        self.replicated
    }
}
