//! The rows that the running transaction reads and changes, typed, in front of a store partition.
//!
//! Why: counting a hot key is one hash lookup; a row is encoded once per commit, however often it
//! changed; an abort drops the overlay and nothing else.
//!
//! ```text
//!   read:    overlay -> row cache (undecided -> committed) -> back end
//!   commit:  overlay -> changelog batch, undecided rows -> (commit point) -> committed rows
//! ```
//!
//! Why rows stay when their transaction is prepared: a hot row is wanted again by the next one, which
//! then neither looks for it nor decodes it. They go all at once when they are too many.
//!
//! Invariants
//! * rows are visited in the order in which the transaction first touched them: the same input gives
//!   the same changelog.
//! * what `prepare` hands on is undecided until `committed`; the next transaction reads and changes it
//!   meanwhile, here.
//! * a row that the transaction has not touched is as it would be loaded.
//!
//! On crash: gone; the changelog's tail and the input after the committed offsets bring it back.

mod scan;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::rc::Rc;

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::ordered::decode;
use super::{BrokenFlush, Checkpoint, RowCache, StoreError, Stored, layout};
use crate::codec::{Bincode, Codec};
use crate::ids::StoreName;
use crate::time::Stamp;

pub(crate) use scan::VisitRow;

/// A row as the running transaction sees it.
pub(crate) struct Row<A> {
    key: Box<[u8]>,
    /// `None`: there is no such row.
    pub(crate) value: Option<A>,
    /// The value before this transaction, where somebody wants it.
    pub(crate) old: Option<A>,
    /// The timestamp of that value.
    old_timestamp: i64,
    /// The largest timestamp of its records.
    pub(crate) timestamp: i64,
    /// The largest source time of the records of this transaction.
    pub(crate) source_time: i64,
    /// Whether the state before this transaction has it.
    committed: bool,
    /// Whether this transaction has asked for it.
    touched: bool,
    changed: bool,
    unsent: bool,
    /// Bytes of the row behind it.
    bytes: usize,
}

/// What a row that is kept costs beside its bytes: its handles, and the same once more decoded.
const KEPT_OVERHEAD_BYTES: usize = 192;

impl<A> Row<A> {
    fn absent(key: &[u8]) -> Self {
        Self {
            key: Box::from(key),
            value: None,
            old: None,
            old_timestamp: i64::MIN,
            timestamp: i64::MIN,
            source_time: i64::MIN,
            committed: false,
            touched: false,
            changed: false,
            unsent: false,
            bytes: 0,
        }
    }

    fn kept_bytes(&self) -> usize {
        KEPT_OVERHEAD_BYTES + self.key.len() + self.bytes
    }

    /// As the next transaction finds it.
    fn settle(&mut self) {
        self.old = None;
        self.old_timestamp = i64::MIN;
        if self.value.is_none() {
            self.timestamp = i64::MIN;
        }
        self.source_time = i64::MIN;
        self.committed = self.value.is_some();
        (self.touched, self.changed, self.unsent) = (false, false, false);
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Notes a change by a record with these times.
    pub(crate) fn touch(&mut self, stamp: Stamp) {
        self.timestamp = self.timestamp.max(stamp.timestamp);
        self.source_time = self.source_time.max(stamp.source_time);
        self.changed = true;
        self.unsent = true;
    }

    /// Puts another value in place, or none, with the times of its record.
    pub(crate) fn replace(&mut self, value: Option<A>, stamp: Stamp) {
        self.value = value;
        self.touch(stamp);
        self.timestamp = stamp.timestamp;
    }

    /// Notes that nobody wants to hear of this row any more.
    pub(crate) fn delete(&mut self) {
        self.value = None;
        self.changed = true;
        self.unsent = false;
    }

    /// Whether it changed since it was last passed on; passing it on is assumed.
    pub(crate) fn take_unsent(&mut self) -> bool {
        std::mem::take(&mut self.unsent)
    }

    /// Whether it has a change that was not passed on yet.
    pub(crate) fn is_unsent(&self) -> bool {
        self.unsent
    }

    /// Whether the state before this transaction has it.
    pub(crate) fn is_committed(&self) -> bool {
        self.committed
    }
}

/// Where the latest value of a key is found, as the running transaction has it.
pub(crate) trait View<A> {
    /// The row under an encoded key.
    fn get(&self, key: &[u8]) -> Result<Option<Stored<A>>, StoreError>;

    /// The row as those who take the changes know it: without the changes that are still to be passed
    /// on. Only for whoever takes them: nobody else has it kept.
    fn passed_on(&self, key: &[u8]) -> Result<Option<Stored<A>>, StoreError>;

    /// The row as it was at a time, where that is kept; else as it is.
    fn get_as_of(&self, key: &[u8], _timestamp: i64) -> Result<Option<Stored<A>>, StoreError> {
        self.get(key)
    }

    /// How far back rows are kept as they were, in milliseconds; `None`: they are not.
    fn history_ms(&self) -> Option<i64> {
        None
    }
}

impl<A: Clone> View<A> for RefCell<Overlay<A>>
where
    Bincode: Codec<A>,
{
    fn get(&self, key: &[u8]) -> Result<Option<Stored<A>>, StoreError> {
        let mut rows = self.borrow_mut();
        let place = rows.find(key)?;
        let row = rows.at(place);
        let timestamp = row.timestamp;
        Ok(row.value.clone().map(|value| Stored { timestamp, value }))
    }

    fn passed_on(&self, key: &[u8]) -> Result<Option<Stored<A>>, StoreError> {
        let mut rows = self.borrow_mut();
        let place = rows.find(key)?;
        let row = rows.at(place);
        let (value, timestamp) = if row.unsent {
            (row.old.clone(), row.old_timestamp)
        } else {
            (row.value.clone(), row.timestamp)
        };
        Ok(value.map(|value| Stored { timestamp, value }))
    }
}

impl<A, T: View<A>> View<A> for Rc<T> {
    fn get(&self, key: &[u8]) -> Result<Option<Stored<A>>, StoreError> {
        (**self).get(key)
    }

    fn passed_on(&self, key: &[u8]) -> Result<Option<Stored<A>>, StoreError> {
        (**self).passed_on(key)
    }
}

/// The overlay of one store partition, with the committed rows behind it.
pub(crate) struct Overlay<A> {
    store: StoreName,
    kind: u8,
    hasher: DefaultHashBuilder,
    places: HashTable<usize>,
    rows: Vec<Row<A>>,
    /// Those that the running transaction has touched, the first one first.
    touched: Vec<usize>,
    /// What all rows cost.
    kept_bytes: usize,
    /// How often all rows have gone.
    cleared: u64,
    /// Whether rows go with their transaction.
    forgets: bool,
    /// The same rows in the order of their keys, from the first scan on.
    ordered: Option<BTreeMap<Box<[u8]>, usize>>,
    /// Whether there was a scan since all rows last went.
    was_scanned: bool,
    behind: Option<RowCache>,
    keeps_old: Option<fn(&A) -> A>,
    scratch: Vec<u8>,
}

impl<A> Overlay<A>
where
    Bincode: Codec<A>,
{
    pub(crate) fn new(store: StoreName) -> Self {
        Self {
            store,
            kind: layout::KIND_ROW,
            hasher: DefaultHashBuilder::default(),
            places: HashTable::new(),
            rows: Vec::new(),
            touched: Vec::new(),
            kept_bytes: 0,
            cleared: 0,
            forgets: false,
            ordered: None,
            was_scanned: false,
            behind: None,
            keeps_old: None,
            scratch: Vec::new(),
        }
    }

    /// Rows that are scanned while a job runs: behind the transaction they are kept in order.
    pub(crate) fn listed(store: StoreName) -> Self {
        Self { kind: layout::KIND_LISTED, ..Self::new(store) }
    }

    /// Rows with values that are more than what is encoded of them: the next transaction has the latter,
    /// as one after a crash would.
    pub(crate) fn forgetting(self) -> Self {
        Self { forgets: true, ..self }
    }

    pub(crate) fn store(&self) -> &StoreName {
        &self.store
    }

    /// The kind under which the rows lie; see `Stateful::row_kinds`.
    pub(crate) fn kind(&self) -> u8 {
        self.kind
    }

    /// From now on each row remembers its value before the transaction.
    pub(crate) fn keep_old(&mut self)
    where
        A: Clone,
    {
        self.keeps_old = Some(A::clone);
    }

    pub(crate) fn open(&mut self, rows: RowCache) {
        self.behind = Some(rows);
    }

    pub(crate) fn behind(&mut self) -> &mut RowCache {
        self.behind.as_mut().expect("a store is opened before its first record")
    }

    /// Rows that the running transaction has touched.
    pub(crate) fn len(&self) -> usize {
        self.touched.len()
    }

    /// The places of these rows, the first one that was touched first.
    pub(crate) fn touched(&self, nth: usize) -> usize {
        self.touched[nth]
    }

    pub(crate) fn at(&mut self, place: usize) -> &mut Row<A> {
        &mut self.rows[place]
    }

    /// How often places have become void, and how many rows there are.
    pub(crate) fn kept(&self) -> (u64, usize) {
        (self.cleared, self.rows.len())
    }

    /// The place of a row, which is loaded if this transaction has not seen it yet.
    pub(crate) fn find(&mut self, key: &[u8]) -> Result<usize, StoreError> {
        let hash = self.hasher.hash_one(key);
        if let Some(&place) = self.places.find(hash, |&place| *self.rows[place].key == *key) {
            self.touch(place);
            return Ok(place);
        }
        let row = self.load(key)?;
        Ok(self.add(hash, row))
    }

    /// The same for a row that is known not to be there as long as this transaction has not put it: nobody
    /// is asked for it.
    pub(crate) fn find_absent(&mut self, key: &[u8]) -> usize {
        let hash = self.hasher.hash_one(key);
        match self.places.find(hash, |&place| *self.rows[place].key == *key) {
            Some(&place) => {
                self.touch(place);
                place
            }
            None => self.add(hash, Row::absent(key)),
        }
    }

    fn add(&mut self, hash: u64, row: Row<A>) -> usize {
        let place = self.rows.len();
        if let Some(ordered) = &mut self.ordered {
            ordered.insert(row.key.clone(), place);
        }
        self.kept_bytes += row.kept_bytes();
        self.rows.push(row);
        self.touch(place);
        let (rows, hasher) = (&self.rows, &self.hasher);
        self.places.insert_unique(hash, place, |&place| hasher.hash_one(&*rows[place].key));
        place
    }

    /// Finds a row again by its place, which is good until those of [`kept`](Self::kept) are void.
    pub(crate) fn touch(&mut self, place: usize) {
        let row = &mut self.rows[place];
        if !std::mem::replace(&mut row.touched, true) {
            row.old = self.keeps_old.and_then(|clone| row.value.as_ref().map(clone));
            row.old_timestamp = row.timestamp;
            self.touched.push(place);
        }
    }

    fn load(&mut self, key: &[u8]) -> Result<Row<A>, StoreError> {
        self.scratch.clear();
        layout::key_of(self.kind, key, &mut self.scratch);
        let behind = self.behind.as_mut().expect("a store is opened before its first record");
        let mut row = Row::absent(key);
        if let Some(bytes) = behind.get(&self.scratch)? {
            let Stored { timestamp, value } = decode(&self.store, key, &bytes)?;
            (row.value, row.timestamp) = (Some(value), timestamp);
            (row.committed, row.bytes) = (true, bytes.len());
        }
        Ok(row)
    }

    /// Encodes each changed row once: for the changelog, which takes (timestamp, key, value), and for
    /// the row cache, where it stays undecided. Rows that are too many go, all at once.
    pub(crate) fn prepare<E: From<StoreError>>(
        &mut self,
        mut changelog: impl FnMut(i64, &[u8], Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let behind = self.behind.as_mut().expect("a store is opened before its first record");
        let mut key = Vec::new();
        for &place in &self.touched {
            let row = &mut self.rows[place];
            if row.changed {
                key.clear();
                layout::key_of(self.kind, &row.key, &mut key);
                self.kept_bytes -= row.bytes;
                row.bytes = 0;
                if let Some(value) = &row.value {
                    let head = encode(&self.store, row.timestamp, value, &mut self.scratch)?;
                    changelog(row.timestamp, &row.key, Some(&self.scratch[head..]))?;
                    behind.prepare_row(&key, Some(&self.scratch));
                    row.bytes = self.scratch.len();
                } else if row.committed {
                    changelog(row.timestamp, &row.key, None)?;
                    behind.prepare_row(&key, None);
                }
                self.kept_bytes += row.bytes;
            }
            row.settle();
        }
        self.touched.clear();
        if self.forgets || self.kept_bytes > behind.kept_bytes_max() {
            self.kept_bytes = 0;
            self.cleared += 1;
            self.rows.clear();
            self.places.clear();
            match &mut self.ordered {
                Some(ordered) if std::mem::take(&mut self.was_scanned) => ordered.clear(),
                // Who scans seldom has no order kept meanwhile.
                ordered => *ordered = None,
            }
        }
        Ok(())
    }

    /// Adds rows that the changelog does not need because they follow from others.
    pub(crate) fn prepare_derived(&mut self, key: Vec<u8>, present: bool) {
        self.behind().prepare(key.into(), present.then(Bytes::new));
    }

    /// After the commit point: what was prepared is committed now, whatever the next transaction has
    /// changed since. `None`: the changelog got no record, as no row had changed.
    pub(crate) fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) {
        if self.behind().makes(BrokenFlush::ChangedRows) {
            self.prepare_changed_rows();
        }
        self.behind().decided(checkpoint, now_ms);
    }

    /// What must never happen; see [`BrokenFlush::ChangedRows`].
    fn prepare_changed_rows(&mut self) {
        let behind = self.behind.as_mut().expect("a store is opened before its first record");
        for row in self.rows.iter().filter(|row| row.changed) {
            let mut key = Vec::new();
            layout::key_of(self.kind, &row.key, &mut key);
            let Some(value) = &row.value else { continue };
            if encode(&self.store, row.timestamp, value, &mut self.scratch).is_ok() {
                behind.prepare(key.into(), Some(Bytes::copy_from_slice(&self.scratch)));
            }
        }
    }
}

/// Writes a row in place of what `out` held; the value begins at the answer.
fn encode<A>(
    store: &StoreName,
    timestamp: i64,
    value: &A,
    out: &mut Vec<u8>,
) -> Result<usize, StoreError>
where
    Bincode: Codec<A>,
{
    out.clear();
    layout::encode_row(timestamp, &[], out);
    let head = out.len();
    Bincode::encode(value, out)
        .map_err(|e| StoreError::Encode { store: store.clone(), reason: e.to_string() })?;
    Ok(head)
}

#[cfg(test)]
mod tests;
