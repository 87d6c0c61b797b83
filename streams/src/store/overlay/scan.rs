//! Ranges of an overlay: the rows of the running transaction over the committed ones, in key order.
//!
//! Why an order beside the hash table: nearly every access is to one key. The order is made by the first
//! scan that a store sees, and goes with the rows unless there was another one: who never scans pays nothing.
//!
//! Invariants
//! * a scan sees what `find` sees.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use super::{Overlay, Row};
use crate::codec::{Bincode, Codec};
use crate::store::ordered::decode;
use crate::store::{Direction, StoreError, Stored, layout};

/// What a scan calls for each row, until it breaks.
pub(crate) type VisitRow<'a, A> = dyn FnMut(&[u8], Stored<A>) -> ControlFlow<()> + 'a;

impl<A: Clone> Overlay<A>
where
    Bincode: Codec<A>,
{
    /// Visits the rows with `from <= key < to` (`None`: to the end), until the visitor breaks. Only of
    /// rows that are [`listed`](Self::listed) does it cost no more than what is visited.
    pub(crate) fn scan(
        &mut self,
        (from, to): (&[u8], Option<&[u8]>),
        direction: Direction,
        visit: &mut VisitRow<'_, A>,
    ) -> Result<(), StoreError> {
        if to.is_some_and(|to| from >= to) {
            return Ok(());
        }
        self.was_scanned = true;
        let (rows, store) = (&self.rows, &self.store);
        let ordered = self.ordered.get_or_insert_with(|| in_order(rows));
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut forward = ordered.range::<[u8], _>((Bound::Included(from), upper));
        let ours = std::iter::from_fn(|| match direction {
            Direction::Forward => forward.next(),
            Direction::Back => forward.next_back(),
        });
        let mut ours = ours.map(|(_, &place)| &rows[place]).peekable();
        let (mut behind_from, mut behind_to) = (Vec::new(), Vec::new());
        layout::key_of(self.kind, from, &mut behind_from);
        match to {
            Some(to) => layout::key_of(self.kind, to, &mut behind_to),
            None => behind_to.push(self.kind + 1),
        }
        let (mut flow, mut failed) = (ControlFlow::Continue(()), None);
        let is_not_behind = |newer: &[u8], key: &[u8]| match direction {
            Direction::Forward => newer <= key,
            Direction::Back => newer >= key,
        };
        let mut look = |key: &[u8], bytes: &[u8]| {
            let key = key.get(1..).unwrap_or_default();
            while let Some(row) = ours.next_if(|row| is_not_behind(&row.key, key)) {
                if let Some(stored) = stored(row) {
                    flow = visit(&row.key, stored);
                }
                if flow.is_break() || &row.key[..] == key {
                    return flow;
                }
            }
            match decode(store, key, bytes) {
                Ok(row) => flow = visit(key, row),
                Err(error) => (failed, flow) = (Some(error), ControlFlow::Break(())),
            }
            flow
        };
        let behind = self.behind.as_ref().expect("a store is opened before its first record");
        match direction {
            Direction::Forward => behind.scan(&behind_from, &behind_to, &mut look)?,
            Direction::Back => behind.scan_back(&behind_from, &behind_to, &mut look)?,
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let mut rest = ours.filter_map(|row| stored(row).map(|stored| (row, stored)));
        while let (ControlFlow::Continue(()), Some((row, stored))) = (flow, rest.next()) {
            flow = visit(&row.key, stored);
        }
        Ok(())
    }
}

fn in_order<A>(rows: &[Row<A>]) -> BTreeMap<Box<[u8]>, usize> {
    rows.iter().enumerate().map(|(place, row)| (row.key.clone(), place)).collect()
}

fn stored<A: Clone>(row: &Row<A>) -> Option<Stored<A>> {
    let value = row.value.clone()?;
    Some(Stored { timestamp: row.timestamp, value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::StoreName;
    use crate::store::{Backend, CacheOptions, Checkpoint, Flusher, MemoryBackend, RowCache};
    use crate::time::Stamp;

    fn opened() -> Overlay<u64> {
        let name = StoreName::new("s").unwrap();
        let store = MemoryBackend::new(0).open(std::slice::from_ref(&name)).unwrap().remove(0);
        let mut rows = Overlay::listed(name);
        rows.open(RowCache::open(store, 0, CacheOptions::default(), Flusher::thread().unwrap()));
        rows
    }

    fn commit(rows: &mut Overlay<u64>, offset: i64) {
        rows.prepare(|_, _, _| Ok::<_, StoreError>(())).unwrap();
        let checkpoint = Checkpoint { log_id: [0; 16], topic_id: [0; 16], leader_epoch: 0, offset };
        rows.committed(Some(checkpoint), 0);
    }

    fn scanned(
        rows: &mut Overlay<u64>,
        from: u8,
        to: Option<u8>,
        way: Direction,
    ) -> Vec<(u8, u64)> {
        let mut seen = Vec::new();
        let to = to.map(|to| [to]);
        let range = (&[from][..], to.as_ref().map(|to| &to[..]));
        rows.scan(range, way, &mut |key, row| {
            seen.push((key[0], row.value));
            ControlFlow::Continue(())
        })
        .unwrap();
        seen
    }

    proptest! {
        /// Puts, reads, deletes, commits and flushes in any order: scans agree with a plain map in both
        /// directions, whenever the first of them comes.
        #[test]
        fn scans_see_what_a_map_has(
            ops in prop::collection::vec((0u8..40, prop::option::of(0u64..9), 0u8..8), 0..80),
            from in 0u8..40,
            to in prop::option::of(0u8..40),
        ) {
            let (mut rows, mut model) = (opened(), BTreeMap::new());
            for (i, (key, value, then)) in (1..).zip(ops) {
                let place = rows.find(&[key]).unwrap();
                if then != 7 {
                    rows.at(place).replace(value, Stamp { timestamp: i, source_time: i });
                    match value {
                        Some(value) => model.insert(key, value),
                        None => model.remove(&key),
                    };
                }
                match then {
                    0 => commit(&mut rows, i),
                    1 => rows.behind().flush_all().unwrap(),
                    2 => drop(scanned(&mut rows, from, to, Direction::Back)),
                    _ => {}
                }
            }
            let wanted: Vec<(u8, u64)> = match to {
                Some(to) if to < from => Vec::new(),
                Some(to) => model.range(from..to).map(|(k, v)| (*k, *v)).collect(),
                None => model.range(from..).map(|(k, v)| (*k, *v)).collect(),
            };
            prop_assert_eq!(&scanned(&mut rows, from, to, Direction::Forward), &wanted);
            let back: Vec<(u8, u64)> = wanted.into_iter().rev().collect();
            prop_assert_eq!(scanned(&mut rows, from, to, Direction::Back), back);
        }
    }

    #[test]
    fn a_scan_stops_where_the_visitor_says() {
        let mut rows = opened();
        for key in 0..4 {
            let place = rows.find(&[key]).unwrap();
            rows.at(place).replace(Some(1), Stamp { timestamp: 1, source_time: 1 });
            if key == 1 {
                commit(&mut rows, 1);
            }
        }
        let mut seen = Vec::new();
        rows.scan((&[0], None), Direction::Back, &mut |key, _| {
            seen.push(key[0]);
            if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
        assert_eq!(seen, [3, 2, 1]);
    }
}
