//! Folds the records of each key into one row: count and aggregate without windows.
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

/// How a value is added to a row.
pub(crate) type Add<V, A> = Box<dyn Fn(&mut A, V)>;

/// One row per key.
pub(crate) struct Aggregate<V, A> {
    add: Add<V, A>,
    rows: Shared<Overlay<A>>,
}

impl<V, A> Aggregate<V, A> {
    pub(crate) fn new(add: Add<V, A>, rows: Shared<Overlay<A>>) -> Self {
        Self { add, rows }
    }
}

impl<V, A: Data + Default> ProcessKeyed<V> for Aggregate<V, A> {
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
        (self.add)(row.value.get_or_insert_default(), value);
        row.touch(stamp);
        Ok(())
    }
}
