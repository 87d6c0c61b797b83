//! The store behind one side of a stream-stream join: restore, changelog, commit.
//!
//! Invariants
//! * a restart knows of a slice that it has listed rows, not which: it names none of them.
//! * rows go with their slice, all in one transaction, so one tombstone stands for it.

use bytes::Bytes;

use super::super::join_row;
use super::upcoming::UPCOMING_MAX;
use super::{JoinBuffer, Rows};
use crate::codec::{Bincode, Codec, Data};
use crate::error::Result;
use crate::ids::StoreName;
use crate::processor::{Changelog, Context, RowKinds, Stateful};
use crate::store::layout::{self, KIND_TIME_INDEX};
use crate::store::{Checkpoint, RowCache, StoreError};

impl<V: Data> Stateful for JoinBuffer<V> {
    fn store(&self) -> &StoreName {
        &self.store
    }

    fn open(&mut self, rows: RowCache) -> Result<()> {
        self.behind = Some(rows);
        if self.speaks {
            let first = self.unmatched_from(&[KIND_TIME_INDEX], UPCOMING_MAX)?;
            self.upcoming.go_on(first);
        }
        let mut next = Some(i64::MIN);
        while let Some(from) = next {
            let Some(&(number, _)) = self.slices_from(from, 1)?.first() else { break };
            self.first_slice = self.first_slice.or(Some(number));
            self.known.found(number);
            next = number.checked_add(1);
        }
        Ok(())
    }

    fn row_kinds(&self) -> RowKinds {
        RowKinds::InKeys
    }

    fn implied_at(
        &self,
        key: &[u8],
        timestamp: i64,
        value: Option<&[u8]>,
    ) -> Vec<(Vec<u8>, Option<Bytes>)> {
        let mut implied = Vec::new();
        let (inner, tail) = if let Some((_, inner)) = join_row::split_first(key) {
            (inner, (timestamp, 0))
        } else if let Some((inner, tail)) = join_row::split_listed(key) {
            let mut slice = Vec::new();
            join_row::slice_key(tail.0.div_euclid(self.slice_ms), inner, &mut slice);
            // Rows go with their slice, all at once. Which others there are is not known here.
            implied.push((slice, value.map(|_| Bytes::new())));
            (inner, tail)
        } else {
            return implied;
        };
        if self.speaks {
            let head = value.and_then(|value| join_row::take_head(value, timestamp));
            let waits = head.is_some_and(|(head, _)| !head.matched);
            let mut row = Vec::new();
            join_row::row_key(inner, tail, &mut row);
            let entry = join_row::unmatched_key(tail.0, &row);
            implied.push((entry, waits.then(Bytes::new)));
        }
        implied
    }

    fn emit_updates(&mut self, _ctx: &mut Context) -> Result<()> {
        Ok(())
    }

    fn prepare(&mut self, changelog: &mut Changelog<'_>) -> Result<()> {
        let (mut key, mut bytes) = (Vec::new(), Vec::new());
        self.places.clear();
        self.changed = 0;
        for slice in std::mem::take(&mut self.slices) {
            for row in &slice.ours {
                slice.row_key(row.tail, &mut key);
                let Some(value) = &row.value else {
                    changelog.push(row.tail.0, &key, None)?;
                    self.behind_mut().prepare_copy(&key, None);
                    continue;
                };
                bytes.clear();
                layout::encode_row(row.tail.0, &[], &mut bytes);
                let start = bytes.len();
                join_row::put_head(row.head, row.tail.0, &mut bytes);
                Bincode::encode(value, &mut bytes).map_err(|e| StoreError::Encode {
                    store: self.store.clone(),
                    reason: e.to_string(),
                })?;
                changelog.push(row.tail.0, &key, Some(&bytes[start..]))?;
                self.behind_mut().prepare_copy(&key, Some(&bytes));
            }
            if slice.changed && (slice.committed || slice.rows != Rows::None) {
                join_row::slice_key(slice.number, &slice.key, &mut key);
                bytes.clear();
                if let Rows::Few(tails) = &slice.rows {
                    join_row::put_rows_of_slice(tails, &mut bytes);
                }
                let named = (slice.rows != Rows::None).then_some(&bytes[..]);
                self.behind_mut().prepare_copy(&key, named);
            }
        }
        for (entry, present) in std::mem::take(&mut self.unmatched) {
            self.behind_mut().prepare_copy(&entry, present.then_some(&[]));
        }
        Ok(())
    }

    fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) -> Result<()> {
        self.behind_mut().decided(checkpoint, now_ms);
        Ok(())
    }

    fn changed_rows(&self) -> usize {
        self.changed
    }

    fn with_rows(&mut self, look: &mut dyn FnMut(&mut RowCache) -> Result<()>) -> Result<()> {
        look(self.behind_mut())
    }
}
