//! What an operator is: something that takes records and passes records on.
//!
//! Why push: operators between two topics are nested in each other when a task is built, so a record
//! goes through all of them in one call, without queues.
//!
//! ```text
//!   Entry (decodes)  ->  Process  ->  Process  ->  .. ->  sink (encodes into an Output)
//!                            |
//!                            `-- Stateful: rows changed by the running transaction (overlay)
//!                            `-- Timed: fires when the operator's time passes a deadline
//! ```
//!
//! Invariants
//! * the operators of a task form a graph without cycles; none is entered twice at a time.
//! * operators never see offsets, files or threads.

mod context;
mod faults;
mod judge;
mod named;
mod record;

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;

pub(crate) use context::{Changelog, Context, Counters, LateRecord, Output};
pub(crate) use faults::{FallibleStep, Faults, Refused};
pub(crate) use judge::{Judge, Judged, JudgedRows};
pub(crate) use named::{NameFault, Named, NamedOutputs};
pub use record::Record;

use crate::error::Result;
use crate::ids::StoreName;
use crate::record::RawRecord;
use crate::store::layout::{self, KIND_ROW};
use crate::store::{Checkpoint, RowCache};
use crate::time::{OpenWindows, Stamp, TimeInputs};

/// An operator with records of one type as its input.
pub(crate) trait Process<K, V> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()>;
}

/// An operator behind a pointer, as it is nested into the one above it.
pub(crate) type Next<K, V> = Box<dyn Process<K, V>>;

/// An operator that works on encoded keys: what keeps state. The value is `None` for a tombstone.
pub(crate) trait ProcessKeyed<V> {
    fn process(
        &mut self,
        ctx: &mut Context,
        key: &[u8],
        value: Option<V>,
        stamp: Stamp,
    ) -> Result<()>;
}

/// Where records of a topic enter a task.
pub(crate) trait Entry {
    /// The timestamp by which inputs are merged; may decode the record and keep it.
    fn timestamp(&mut self, ctx: &Context, input: usize, record: &RawRecord<'_>) -> Result<i64>;
    /// Takes the record through the operators.
    fn process(&mut self, ctx: &mut Context, input: usize, record: &RawRecord<'_>) -> Result<()>;
}

/// An operator with a deadline in event time.
pub(crate) trait Timed {
    /// Fires everything that is due at the operator's present time, in (time, key) order.
    fn fire(&mut self, ctx: &mut Context) -> Result<()>;
    /// The inputs whose clocks make its time.
    fn inputs(&self) -> &TimeInputs;
    /// The task is open: the clocks are those of the last commit.
    fn resume(&mut self, _ctx: &Context) {}
    /// Fires everything that is due by the clock on the wall; whether anything was.
    fn tick(&mut self, _ctx: &mut Context) -> Result<bool> {
        Ok(false)
    }
    /// When [`tick`](Self::tick) has something to do, by the clock on the wall; `None`: never.
    fn next_tick(&self) -> Option<i64> {
        None
    }
}

/// How the rows of a store that a user sees lie among its others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowKinds {
    /// All under one kind, which is no part of their keys.
    One(u8),
    /// Each key, also that of a changelog record, begins with its kind: first rows and listed ones.
    InKeys,
}

impl RowKinds {
    /// The key of a row, as a row cache takes it.
    pub(crate) fn place(self, key: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::One(kind) => layout::key_of(kind, key, out),
            Self::InKeys => out.extend_from_slice(key),
        }
    }

    /// The key in what a row cache has.
    pub(crate) fn key(self, place: &[u8]) -> &[u8] {
        match self {
            Self::One(_) => place.get(1..).unwrap_or_default(),
            Self::InKeys => place,
        }
    }

    /// The first place that a row may have, and that behind them all.
    pub(crate) fn range(self) -> ([u8; 1], [u8; 1]) {
        match self {
            Self::One(kind) => ([kind], [kind + 1]),
            Self::InKeys => ([layout::KIND_LISTED], [layout::KIND_FIRST + 1]),
        }
    }
}

/// An operator that owns a store partition.
pub(crate) trait Stateful {
    /// The store's name.
    fn store(&self) -> &StoreName;
    /// Takes the committed rows; called once, before any record.
    fn open(&mut self, rows: RowCache) -> Result<()>;
    /// The row that a row's key implies beside it: an entry of the time index.
    fn index_entry(&self, _key: &[u8]) -> Option<Vec<u8>> {
        None
    }
    /// The kind under which the store has its rows.
    fn row_kinds(&self) -> RowKinds {
        RowKinds::One(KIND_ROW)
    }
    /// The rows that a changelog record implies beside its own: what a restart puts in place again.
    fn implied(&self, key: &[u8], value: Option<&[u8]>) -> Vec<(Vec<u8>, Option<Bytes>)> {
        let entry = self.index_entry(key).map(|entry| (entry, value.map(|_| Bytes::new())));
        entry.into_iter().collect()
    }
    /// The same, where they follow from the record's timestamp as well.
    fn implied_at(
        &self,
        key: &[u8],
        _timestamp: i64,
        value: Option<&[u8]>,
    ) -> Vec<(Vec<u8>, Option<Bytes>)> {
        self.implied(key, value)
    }
    /// Passes on the latest value of each row changed since the last commit, in the order in which
    /// they were first touched.
    fn emit_updates(&mut self, _ctx: &mut Context) -> Result<()> {
        Ok(())
    }
    /// Encodes each changed row once, for the changelog.
    fn prepare(&mut self, changelog: &mut Changelog<'_>) -> Result<()>;
    /// After the commit point: the prepared rows become committed rows. `None`: no changelog record.
    fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) -> Result<()>;
    /// Its windows, if it has any, by the clocks of the task's inputs.
    fn windows(&self, _clocks: &[i64]) -> Option<OpenWindows> {
        None
    }
    /// Rows changed by the running transaction.
    fn changed_rows(&self) -> usize;
    /// Shows the rows behind the running transaction: to flush them, and for questions from outside.
    fn with_rows(&mut self, look: &mut dyn FnMut(&mut RowCache) -> Result<()>) -> Result<()>;
    /// Whether every task has the same rows.
    fn is_replicated(&self) -> bool {
        false
    }
}

/// An operator that is both in the chain and in a list of the task.
pub(crate) type Shared<T> = Rc<RefCell<T>>;
