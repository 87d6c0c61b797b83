//! Folds the records of each key into one row: count and aggregate without windows.
//!
//! Each changed row is passed on once per commit, with its latest value, the largest timestamp of its
//! records and the largest source time of those of this transaction.
//!
//! Invariants
//! * a null value is counted and skipped.

use std::marker::PhantomData;

use super::children::Children;
use super::window_aggregate::decode_key;
use crate::codec::{Bincode, Codec, Data};
use crate::error::Result;
use crate::ids::StoreName;
use crate::key::Key;
use crate::processor::{Changelog, Context, Process, ProcessKeyed, Record, Shared, Stateful};
use crate::record::Headers;
use crate::store::{Checkpoint, Overlay, RowCache};
use crate::time::Stamp;

/// How a value is added to a row.
pub(crate) type Add<V, A> = Box<dyn Fn(&mut A, V)>;

/// One row per key.
pub(crate) struct Aggregate<K, V, A> {
    add: Add<V, A>,
    rows: Overlay<A>,
    next: Children<K, A>,
    value: PhantomData<fn(V)>,
}

impl<K, V, A: Data> Aggregate<K, V, A> {
    pub(crate) fn new(store: StoreName, add: Add<V, A>, next: Children<K, A>) -> Self {
        Self { add, rows: Overlay::new(store), next, value: PhantomData }
    }
}

impl<K: Key, V, A: Data + Default> ProcessKeyed<V> for Shared<Aggregate<K, V, A>> {
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
        let this = &mut *self.borrow_mut();
        let place = this.rows.find(key)?;
        let row = this.rows.at(place);
        (this.add)(row.value.get_or_insert_default(), value);
        row.touch(stamp);
        Ok(())
    }
}

impl<K: Key, V, A: Data + Default> Stateful for Aggregate<K, V, A>
where
    Bincode: Codec<A>,
{
    fn store(&self) -> &StoreName {
        self.rows.store()
    }

    fn open(&mut self, rows: RowCache) -> Result<()> {
        self.rows.open(rows);
        Ok(())
    }

    fn index_entry(&self, _key: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn emit_updates(&mut self, ctx: &mut Context) -> Result<()> {
        let store = self.rows.store().clone();
        for place in 0..self.rows.len() {
            let row = self.rows.at(place);
            if !row.take_unsent() {
                continue;
            }
            let record = Record {
                key: decode_key::<K>(&store, row.key())?,
                value: row.value.clone(),
                timestamp: row.timestamp,
                source_time: row.source_time,
                headers: Headers::none(),
            };
            self.next.process(ctx, record)?;
        }
        Ok(())
    }

    fn prepare(&mut self, changelog: &mut Changelog<'_>) -> Result<()> {
        self.rows.prepare(|timestamp, key, value| changelog.push(timestamp, key, value))
    }

    fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) -> Result<()> {
        self.rows.committed(checkpoint, now_ms);
        Ok(())
    }

    fn changed_rows(&self) -> usize {
        self.rows.len()
    }

    fn rows_behind(&mut self) -> &mut RowCache {
        self.rows.behind()
    }

    fn step(&mut self, now_ms: i64) -> Result<()> {
        Ok(self.rows.behind().step(now_ms)?)
    }

    fn close(&mut self) -> Result<()> {
        Ok(self.rows.behind().flush_all()?)
    }
}
