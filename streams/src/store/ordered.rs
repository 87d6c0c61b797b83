//! The rows that the running transaction changes, in the order of their keys, for stores that are scanned.
//!
//! Why beside [`Overlay`](super::Overlay): a hash table finds one row fastest and cannot list a range; what
//! is looked up by range while a job runs (sessions of a key, subscriptions to a row, timers that are due,
//! a processor's ordered store) keeps its rows here.
//!
//! ```text
//!   get, scan:  ordered overlay -> row cache (undecided -> committed) -> back end
//!   commit:     ordered overlay -> changelog batch, undecided rows -> (commit point) -> committed rows
//! ```
//!
//! Invariants
//! * only changed rows are kept; a row that was read is not.
//! * changed rows are prepared in the order of their keys: the same input gives the same changelog.
//!
//! On crash: gone; the changelog's tail and the input after the committed offsets bring it back.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use super::{Checkpoint, RowCache, StoreError, layout};
use crate::codec::{Bincode, Codec};
use crate::ids::StoreName;

/// A row as it is kept: its value, and the timestamp that it was put with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored<A> {
    pub(crate) timestamp: i64,
    pub(crate) value: A,
}

/// What a scan calls for each row, with its key, until it breaks.
pub(crate) type VisitRow<'a, A> = dyn FnMut(&[u8], Stored<A>) -> ControlFlow<()> + 'a;

/// The ordered overlay of one store partition, with the committed rows behind it.
pub(crate) struct OrderedOverlay<A> {
    store: StoreName,
    kind: u8,
    rows: BTreeMap<Box<[u8]>, Option<Stored<A>>>,
    behind: Option<RowCache>,
    scratch: Vec<u8>,
}

impl<A: Clone> OrderedOverlay<A>
where
    Bincode: Codec<A>,
{
    /// Rows of the kind that is kept in order in memory.
    pub(crate) fn new(store: StoreName) -> Self {
        let (kind, rows) = (layout::KIND_LISTED, BTreeMap::new());
        Self { store, kind, rows, behind: None, scratch: Vec::new() }
    }

    pub(crate) fn store(&self) -> &StoreName {
        &self.store
    }

    /// The kind under which the rows lie; see `Stateful::row_kinds`.
    pub(crate) fn kind(&self) -> u8 {
        self.kind
    }

    pub(crate) fn open(&mut self, rows: RowCache) {
        self.behind = Some(rows);
    }

    pub(crate) fn behind(&mut self) -> &mut RowCache {
        self.behind.as_mut().expect("a store is opened before its first record")
    }

    /// Rows that the running transaction has changed.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// A row as the running transaction has it.
    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<Stored<A>>, StoreError> {
        if let Some(row) = self.rows.get(key) {
            return Ok(row.clone());
        }
        self.scratch.clear();
        layout::key_of(self.kind, key, &mut self.scratch);
        let behind = self.behind.as_mut().expect("a store is opened before its first record");
        match behind.get(&self.scratch)? {
            None => Ok(None),
            Some(bytes) => decode(&self.store, key, &bytes).map(Some),
        }
    }

    /// Puts a row in place of what was there; `None` deletes.
    pub(crate) fn put(&mut self, key: &[u8], row: Option<Stored<A>>) {
        if let Some(place) = self.rows.get_mut(key) {
            *place = row;
        } else {
            self.rows.insert(Box::from(key), row);
        }
    }

    /// Visits the rows with `from <= key < to` (`None`: to the end) in the order of their keys, as
    /// [`get`](Self::get) sees them, until the visitor breaks.
    pub(crate) fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitRow<'_, A>,
    ) -> Result<(), StoreError> {
        if to.is_some_and(|to| from >= to) {
            return Ok(());
        }
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut ours = self.rows.range::<[u8], _>((Bound::Included(from), upper)).peekable();
        let (mut behind_from, mut behind_to) = (Vec::new(), Vec::new());
        layout::key_of(self.kind, from, &mut behind_from);
        match to {
            Some(to) => layout::key_of(self.kind, to, &mut behind_to),
            None => behind_to.push(self.kind + 1),
        }
        let behind = self.behind.as_ref().expect("a store is opened before its first record");
        let (mut flow, mut failed) = (ControlFlow::Continue(()), None);
        behind.scan(&behind_from, &behind_to, &mut |key, bytes| {
            let key = key.get(1..).unwrap_or_default();
            while let Some((newer, row)) = ours.next_if(|(newer, _)| &newer[..] <= key) {
                if let Some(row) = row {
                    flow = visit(newer, row.clone());
                }
                if flow.is_break() || &newer[..] == key {
                    return flow;
                }
            }
            match decode(&self.store, key, bytes) {
                Ok(row) => flow = visit(key, row),
                Err(error) => (failed, flow) = (Some(error), ControlFlow::Break(())),
            }
            flow
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let mut rest = ours.filter_map(|(key, row)| row.as_ref().map(|row| (key, row)));
        while let (ControlFlow::Continue(()), Some((key, row))) = (flow, rest.next()) {
            flow = visit(key, row.clone());
        }
        Ok(())
    }

    /// Encodes each changed row once: for the changelog, which takes (timestamp, key, value), and for
    /// the row cache, where it stays undecided. The transaction's own rows are gone afterwards. A row
    /// that was never committed and is not there any more leaves no trace.
    pub(crate) fn prepare<E: From<StoreError>>(
        &mut self,
        mut changelog: impl FnMut(i64, &[u8], Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let behind = self.behind.as_mut().expect("a store is opened before its first record");
        for (key, row) in std::mem::take(&mut self.rows) {
            let mut kept = Vec::with_capacity(key.len() + 1);
            layout::key_of(self.kind, &key, &mut kept);
            if let Some(Stored { timestamp, value }) = row {
                let out = &mut self.scratch;
                out.clear();
                layout::encode_row(timestamp, &[], out);
                let head = out.len();
                Bincode::encode(&value, out).map_err(|e| StoreError::Encode {
                    store: self.store.clone(),
                    reason: e.to_string(),
                })?;
                changelog(timestamp, &key, Some(&out[head..]))?;
                behind.prepare_copy(&kept, Some(out));
            } else if let Some(bytes) = behind.get(&kept)? {
                let timestamp = layout::decode_row(&bytes).map_or(i64::MIN, |(at, _)| at);
                changelog(timestamp, &key, None)?;
                behind.prepare_copy(&kept, None);
            }
        }
        Ok(())
    }

    /// After the commit point: what was prepared is committed now.
    pub(crate) fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) {
        self.behind().decided(checkpoint, now_ms);
    }
}

/// A row as the row cache has it.
pub(in crate::store) fn decode<A>(
    store: &StoreName,
    key: &[u8],
    bytes: &[u8],
) -> Result<Stored<A>, StoreError>
where
    Bincode: Codec<A>,
{
    let corrupt = |what: &str| StoreError::Corrupt {
        store: store.clone(),
        reason: format!("the row of key {}: {what}", key.escape_ascii()),
    };
    let (timestamp, value) = layout::decode_row(bytes).ok_or_else(|| corrupt("it is cut off"))?;
    let value = Bincode::decode(value).map_err(|e| corrupt(&e.to_string()))?;
    Ok(Stored { timestamp, value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::{Backend, CacheOptions, Flusher, MemoryBackend};

    fn opened() -> OrderedOverlay<u64> {
        let name = StoreName::new("s").unwrap();
        let store = MemoryBackend::new(0).open(std::slice::from_ref(&name)).unwrap().remove(0);
        let mut rows = OrderedOverlay::new(name);
        rows.open(RowCache::open(store, 0, CacheOptions::default(), Flusher::thread().unwrap()));
        rows
    }

    fn commit(rows: &mut OrderedOverlay<u64>, offset: i64) -> Vec<(Vec<u8>, bool)> {
        let mut logged = Vec::new();
        rows.prepare(|_, key, value| {
            logged.push((key.to_vec(), value.is_some()));
            Ok::<_, StoreError>(())
        })
        .unwrap();
        let checkpoint = Checkpoint { log_id: [0; 16], topic_id: [0; 16], leader_epoch: 0, offset };
        rows.committed(Some(checkpoint), 0);
        logged
    }

    proptest! {
        /// Puts, deletes, commits and flushes in any order: reads and scans agree with a plain map.
        #[test]
        fn it_answers_as_a_map_does(ops: Vec<(u8, Option<u64>)>, from: u8, to: u8) {
            let (mut rows, mut model) = (opened(), BTreeMap::new());
            for (i, (key, value)) in (1..).zip(ops) {
                rows.put(&[key], value.map(|value| Stored { timestamp: i, value }));
                match value {
                    Some(value) => model.insert(vec![key], value),
                    None => model.remove(&vec![key]),
                };
                if key % 3 == 0 {
                    commit(&mut rows, i);
                }
                if key % 7 == 0 {
                    rows.behind().flush_all().unwrap();
                }
                prop_assert_eq!(rows.get(&[key]).unwrap().map(|row| row.value), value);
            }
            let mut seen = Vec::new();
            rows.scan(&[from], Some(&[to]), &mut |key, row| {
                seen.push((key.to_vec(), row.value));
                ControlFlow::Continue(())
            })
            .unwrap();
            let wanted: Vec<_> = if from < to {
                model.range(vec![from]..vec![to]).map(|(k, v)| (k.clone(), *v)).collect()
            } else {
                Vec::new()
            };
            prop_assert_eq!(seen, wanted);
        }
    }

    #[test]
    fn a_row_that_came_and_went_in_one_transaction_leaves_no_record() {
        let mut rows = opened();
        rows.put(b"a", Some(Stored { timestamp: 1, value: 1 }));
        rows.put(b"b", Some(Stored { timestamp: 1, value: 1 }));
        rows.put(b"a", None);
        assert_eq!(commit(&mut rows, 1), [(b"b".to_vec(), true)]);
        rows.put(b"b", None);
        assert_eq!(commit(&mut rows, 2), [(b"b".to_vec(), false)]);
    }

    #[test]
    fn a_scan_stops_where_the_visitor_says() {
        let mut rows = opened();
        for key in [b"a", b"b", b"c"] {
            rows.put(key, Some(Stored { timestamp: 1, value: 1 }));
        }
        commit(&mut rows, 1);
        rows.put(b"bb", Some(Stored { timestamp: 1, value: 1 }));
        let mut seen = Vec::new();
        rows.scan(b"", None, &mut |key, _| {
            seen.push(key.to_vec());
            if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
        assert_eq!(seen, [b"a".to_vec(), b"b".to_vec(), b"bb".to_vec()]);
    }
}
