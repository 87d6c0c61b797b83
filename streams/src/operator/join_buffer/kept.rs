//! The store behind one side of a stream-stream join: restore, changelog, commit.
//!
//! Invariants
//! * a restart knows of a slice that it has rows, not which: it names none of them.
//! * rows go with their slice, all in one transaction, so one tombstone stands for it.

use bytes::Bytes;

use super::super::join_row;
use super::upcoming::UPCOMING_MAX;
use super::{JoinBuffer, Rows};
use crate::codec::{Bincode, Codec, Data};
use crate::error::Result;
use crate::ids::StoreName;
use crate::processor::{Changelog, Context, Stateful};
use crate::store::layout::{self, KIND_LISTED, KIND_SLICE, KIND_TIME_INDEX};
use crate::store::{Checkpoint, RowCache, StoreError};

impl<V: Data> Stateful for JoinBuffer<V> {
    fn store(&self) -> &StoreName {
        &self.store
    }

    fn open(&mut self, rows: RowCache) -> Result<()> {
        self.behind = Some(rows);
        let first = self.unmatched_from(&[KIND_TIME_INDEX], UPCOMING_MAX)?;
        self.upcoming.go_on(first);
        let first = self.slices_from(&[KIND_SLICE], 1)?;
        let number = |slice: &Vec<u8>| join_row::split_slice(slice).map(|(number, _)| number);
        self.first_slice = first.first().and_then(number);
        Ok(())
    }

    fn row_kind(&self) -> u8 {
        KIND_LISTED
    }

    fn index_entry(&self, _key: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn implied(&self, key: &[u8], value: Option<&[u8]>) -> Vec<(Vec<u8>, Option<Bytes>)> {
        let Some((inner, (timestamp, _))) = join_row::split_row(key) else { return Vec::new() };
        let mut slice = Vec::new();
        join_row::slice_key(timestamp.div_euclid(self.slice_ms), inner, &mut slice);
        // Rows go with their slice, all at once. Which others there are is not known here.
        let mut implied = vec![(slice, value.map(|_| Bytes::new()))];
        if self.speaks {
            let head = value.and_then(|value| join_row::take_head(value, timestamp));
            let waits = head.is_some_and(|(head, _)| !head.matched);
            let entry = join_row::unmatched_key(timestamp, key);
            implied.push((entry, waits.then(Bytes::new)));
        }
        implied
    }

    fn emit_updates(&mut self, _ctx: &mut Context) -> Result<()> {
        Ok(())
    }

    fn prepare(&mut self, changelog: &mut Changelog<'_>) -> Result<()> {
        self.prepared.clear();
        let mut bytes = Vec::new();
        for (key, row) in &self.rows {
            let (_, (timestamp, _)) =
                join_row::split_row(key).ok_or_else(|| self.corrupt("no key of a row:", key))?;
            let mut listed = Vec::with_capacity(1 + key.len());
            join_row::listed(key, &mut listed);
            let Some(value) = &row.value else {
                changelog.push(timestamp, key, None)?;
                self.prepared.push((listed.into(), None));
                continue;
            };
            bytes.clear();
            layout::encode_row(timestamp, &[], &mut bytes);
            let start = bytes.len();
            join_row::put_head(row.head, timestamp, &mut bytes);
            Bincode::encode(value, &mut bytes).map_err(|e| StoreError::Encode {
                store: self.store.clone(),
                reason: e.to_string(),
            })?;
            changelog.push(timestamp, key, Some(&bytes[start..]))?;
            self.prepared.push((listed.into(), Some(Bytes::copy_from_slice(&bytes))));
        }
        for (key, slice) in self.slices.iter().filter(|(_, slice)| slice.changed) {
            let mut named = Vec::new();
            if let Rows::Few(tails) = &slice.rows {
                join_row::put_rows_of_slice(tails, &mut named);
            }
            if slice.rows != Rows::None {
                self.prepared.push((Bytes::copy_from_slice(key), Some(named.into())));
            } else if slice.committed {
                self.prepared.push((Bytes::copy_from_slice(key), None));
            }
        }
        for (entry, present) in std::mem::take(&mut self.unmatched) {
            self.prepared.push((entry.into(), present.then(Bytes::new)));
        }
        Ok(())
    }

    fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) -> Result<()> {
        let prepared = std::mem::take(&mut self.prepared);
        if let Some(checkpoint) = checkpoint {
            self.behind().commit(prepared, checkpoint, now_ms);
        }
        self.rows.clear();
        self.slices.clear();
        Ok(())
    }

    fn changed_rows(&self) -> usize {
        self.rows.len()
    }

    fn step(&mut self, now_ms: i64) -> Result<()> {
        Ok(self.behind().step(now_ms)?)
    }

    fn close(&mut self) -> Result<()> {
        Ok(self.behind().flush_all()?)
    }
}
