//! Folds the records of each key into one row: count, reduce, aggregate and cogroup without windows.
//!
//! Where several streams are folded into one table there is one operator for each, over the same rows.
//!
//! Each changed row is passed on once per commit, with its latest value, the largest timestamp of its
//! records and the largest source time of those of this transaction.
//!
//! Invariants
//! * a null value is counted and skipped.

use crate::codec::Data;
use crate::error::Result;
use crate::processor::{Context, ProcessKeyed, Shared};
use crate::store::Overlay;
use crate::time::Stamp;

/// How a value is added to what may be no row yet; there must be one afterwards.
pub(crate) type Fold<V, A> = Box<dyn Fn(&mut Option<A>, V)>;

/// One row per key.
pub(crate) struct Aggregate<V, A> {
    fold: Fold<V, A>,
    rows: Shared<Overlay<A>>,
}

impl<V, A> Aggregate<V, A> {
    pub(crate) fn new(fold: Fold<V, A>, rows: Shared<Overlay<A>>) -> Self {
        Self { fold, rows }
    }
}

impl<V, A: Data> ProcessKeyed<V> for Aggregate<V, A> {
    fn process(
        &mut self,
        ctx: &mut Context,
        key: &[u8],
        value: Option<V>,
        stamp: Stamp,
    ) -> Result<()> {
        let Some(value) = value else {
            ctx.counters.null_values += 1;
            return Ok(());
        };
        let mut rows = self.rows.borrow_mut();
        let place = rows.find(key)?;
        let row = rows.at(place);
        (self.fold)(&mut row.value, value);
        row.touch(stamp);
        Ok(())
    }
}
