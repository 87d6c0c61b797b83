//! Two tables joined row by row: a change of either makes the row of the result again, from both.
//!
//! ```text
//!   left's changes  --> LeftChanges  --+
//!                                      +--> rows of the result --> TableStore: one change per commit
//!   right's changes --> RightChanges --+
//!   look-ups        --> JoinView: made from both sides as the running transaction has them
//! ```
//!
//! Invariants
//! * the row follows from the two rows under its key alone; its timestamp is the larger one of both.
//! * where both sides have changed since the last commit, the result changes once.
//! * a row that was not there and is not there is not passed on.
//!
//! Reference: Kafka Streams `KTableKTableInnerJoin` and its left and outer variants; not KAFKA-6443,
//! by which one update of a table with several ways to a join comes out several times.

use std::rc::Rc;

use super::table::Change;
use crate::codec::Data;
use crate::error::Result;
use crate::key::RecordKey;
use crate::processor::{Context, Process, Record, Shared};
use crate::store::{Overlay, StoreError, Stored, View};
use crate::time::Stamp;

/// What both rows make together; `None`: no row.
pub(crate) type RowOf<L, R, V> = Box<dyn Fn(Option<L>, Option<R>) -> Option<V>>;

/// Both sides and their result.
pub(crate) struct TableTableJoin<L, R, V> {
    left: Rc<dyn View<L>>,
    right: Rc<dyn View<R>>,
    row_of: RowOf<L, R, V>,
    rows: Shared<Overlay<V>>,
}

impl<L, R, V: Data> TableTableJoin<L, R, V> {
    pub(crate) fn new(
        left: Rc<dyn View<L>>,
        right: Rc<dyn View<R>>,
        row_of: RowOf<L, R, V>,
        rows: Shared<Overlay<V>>,
    ) -> Self {
        Self { left, right, row_of, rows }
    }

    /// Puts a row in place of what was there.
    fn put(&self, key: &[u8], value: Option<V>, stamp: Stamp) -> Result<()> {
        let mut rows = self.rows.borrow_mut();
        let place = rows.find(key)?;
        let row = rows.at(place);
        if value.is_none() && row.value.is_none() {
            return Ok(());
        }
        // The other side may have changed in this transaction too, later than this one.
        let since = if row.is_unsent() { row.timestamp } else { i64::MIN };
        row.replace(value, Stamp { timestamp: stamp.timestamp.max(since), ..stamp });
        Ok(())
    }
}

fn parts<A>(row: Option<Stored<A>>) -> (Option<A>, i64) {
    row.map_or((None, i64::MIN), |Stored { timestamp, value }| (Some(value), timestamp))
}

/// Takes the changes of the left side.
pub(crate) struct LeftChanges<L, R, V> {
    pub(crate) join: Rc<TableTableJoin<L, R, V>>,
    pub(crate) key: Vec<u8>,
}

/// Takes the changes of the right side.
pub(crate) struct RightChanges<L, R, V> {
    pub(crate) join: Rc<TableTableJoin<L, R, V>>,
    pub(crate) key: Vec<u8>,
}

impl<K: RecordKey, L, R, V: Data> Process<K, Change<L>> for LeftChanges<L, R, V> {
    fn process(&mut self, ctx: &mut Context, mut record: Record<K, Change<L>>) -> Result<()> {
        let left = record.value.take().and_then(|change| change.new);
        if !encoded(ctx, record.key.as_ref(), &mut self.key) {
            return Ok(());
        }
        let (right, timestamp) = parts(self.join.right.get(&self.key)?);
        let stamp = record.stamp();
        let stamp = Stamp { timestamp: stamp.timestamp.max(timestamp), ..stamp };
        self.join.put(&self.key, (self.join.row_of)(left, right), stamp)
    }
}

impl<K: RecordKey, L, R, V: Data> Process<K, Change<R>> for RightChanges<L, R, V> {
    fn process(&mut self, ctx: &mut Context, mut record: Record<K, Change<R>>) -> Result<()> {
        let right = record.value.take().and_then(|change| change.new);
        if !encoded(ctx, record.key.as_ref(), &mut self.key) {
            return Ok(());
        }
        let (left, timestamp) = parts(self.join.left.get(&self.key)?);
        let stamp = record.stamp();
        let stamp = Stamp { timestamp: stamp.timestamp.max(timestamp), ..stamp };
        self.join.put(&self.key, (self.join.row_of)(left, right), stamp)
    }
}

/// Writes the encoded key in place of what `out` held; a row without a key is none.
fn encoded<K: RecordKey>(ctx: &mut Context, key: Option<&K>, out: &mut Vec<u8>) -> bool {
    out.clear();
    let has_key = key.is_some_and(|key| key.encode(out));
    ctx.counters.null_keys += u64::from(!has_key);
    has_key
}

/// Rows of the result, made when they are asked for: their store has them only from the commit on.
pub(crate) struct JoinView<L, R, V>(pub(crate) Rc<TableTableJoin<L, R, V>>);

impl<L, R, V: Data> View<V> for JoinView<L, R, V> {
    fn get(&self, key: &[u8]) -> Result<Option<Stored<V>>, StoreError> {
        let (left, left_at) = parts(self.0.left.get(key)?);
        let (right, right_at) = parts(self.0.right.get(key)?);
        let timestamp = left_at.max(right_at);
        Ok((self.0.row_of)(left, right).map(|value| Stored { timestamp, value }))
    }

    fn passed_on(&self, key: &[u8]) -> Result<Option<Stored<V>>, StoreError> {
        self.0.rows.passed_on(key)
    }
}
