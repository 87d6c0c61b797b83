//! One side of a stream-stream join: its records, for as long as the other side may meet them.
//!
//! ```text
//!   put ----> slices with their rows, unmatched entries of this transaction -- commit --> row cache
//!   meet:     slices of the key --few rows--> rows one by one
//!                               --many rows-> a range of rows
//!   due:      unmatched entries whose time has come, in order
//!   expire:   slices whose last possible row nothing can meet any more, with their rows
//! ```
//!
//! Invariants
//! * the first row of a slice lies where the slice says, and says whether there are others. Those a slice
//!   names, or says that they must be looked for. Without a first row there are none.
//! * an entry of `unmatched` is there exactly for each row that has not matched, where those speak.
//! * a row past its time stays until its slice goes, but meets nothing any more; a slice whose time is up
//!   never gets another row.

mod closing;
mod kept;
mod known;
mod listed;
mod upcoming;

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::join_row::{self, Head, Tail};
use crate::codec::{Bincode, Codec, Data};
use crate::error::Result;
use crate::ids::StoreName;
use crate::store::layout;
use crate::store::{RowCache, StoreError};
use crate::time::{JoinSide, JoinWindow, Stamp};
use known::KnownSlices;
use upcoming::Upcoming;

/// The shortest slice: with a shorter one nearly every row would have its own.
const SLICE_MS_MIN: i64 = 1_000;

/// A row that the running transaction has changed.
struct Row<V> {
    tail: Tail,
    /// `None`: deleted.
    value: Option<V>,
    head: Head,
    /// Whether the committed state has it.
    committed: bool,
}

/// The rows of one key in one slice of time, beside the first one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rows {
    None,
    Few(Vec<Tail>),
    Many,
}

/// A slice that the running transaction has touched.
struct Slice<V> {
    number: i64,
    key: Box<[u8]>,
    first: Option<Tail>,
    /// The first row, as this transaction has found it.
    loaded: Option<Bytes>,
    rows: Rows,
    /// In the order of their tails.
    ours: Vec<Row<V>>,
    /// Whether the committed state names rows, or says that there are some.
    committed: bool,
    /// Whether this transaction has changed which.
    changed: bool,
    /// Its time is up.
    dropped: bool,
}

impl<V> Slice<V> {
    fn has_rows(&self) -> bool {
        self.first.is_some() && !self.dropped
    }

    /// A row's key, as a row cache takes it.
    fn row_key(&self, tail: Tail, out: &mut Vec<u8>) {
        if self.first == Some(tail) {
            join_row::first_key(self.number, &self.key, out);
        } else {
            join_row::listed_key(&self.key, tail, out);
        }
    }

    fn find(&self, tail: Tail) -> std::result::Result<usize, usize> {
        self.ours.binary_search_by_key(&tail, |row| row.tail)
    }
}

/// What one side keeps.
pub(crate) struct JoinBuffer<V> {
    store: StoreName,
    side: JoinSide,
    window: JoinWindow,
    /// Whether a record that nothing matches speaks in the end.
    speaks: bool,
    slice_ms: i64,
    behind: Option<RowCache>,
    hasher: DefaultHashBuilder,
    places: HashTable<usize>,
    slices: Vec<Slice<V>>,
    /// Rows in `slices`.
    changed: usize,
    known: KnownSlices,
    /// Unmatched entries that this transaction added (true) or removed (false).
    unmatched: BTreeMap<Vec<u8>, bool>,
    /// The entries that are due next.
    upcoming: Upcoming,
    /// Slices whose time is up, to be dropped.
    expiring: VecDeque<(i64, Box<[u8]>)>,
    /// Apart from those, no slice lies before this one.
    first_slice: Option<i64>,
    tails: Vec<Tail>,
    bytes: Vec<u8>,
}

/// A record on its way through a join.
#[derive(Clone, Copy)]
pub(super) struct Probe<'a> {
    pub(super) key: &'a [u8],
    pub(super) stamp: Stamp,
    /// The first source time of a record of the other side that it does not meet any more.
    pub(super) until: i128,
}

/// An unmatched row whose time has come.
pub(super) struct Due<V> {
    pub(super) at: i128,
    pub(super) timestamp: i64,
    pub(super) row: Vec<u8>,
    pub(super) value: V,
}

impl<V: Data> JoinBuffer<V> {
    pub(crate) fn new(store: StoreName, side: JoinSide, window: JoinWindow, speaks: bool) -> Self {
        Self {
            store,
            side,
            window,
            speaks,
            slice_ms: window.width_ms().max(SLICE_MS_MIN),
            behind: None,
            hasher: DefaultHashBuilder::default(),
            places: HashTable::new(),
            slices: Vec::new(),
            changed: 0,
            known: KnownSlices::default(),
            unmatched: BTreeMap::new(),
            upcoming: Upcoming::default(),
            expiring: VecDeque::new(),
            first_slice: None,
            tails: Vec::new(),
            bytes: Vec::new(),
        }
    }

    pub(super) fn store_name(&self) -> &StoreName {
        &self.store
    }

    /// Whether a record of this side that nothing matches speaks.
    pub(super) fn speaks(&self) -> bool {
        self.speaks
    }

    /// Whether a record comes too late to meet anything or to speak.
    pub(super) fn is_late(&self, stamp: Stamp) -> bool {
        i128::from(stamp.source_time) >= self.until(stamp.timestamp)
    }

    /// When the time of a record is up: it is late if it comes then, and meets nothing that comes then.
    /// Where records without a match speak, it is when this one does; elsewhere, when nothing within its
    /// reach can be in time.
    pub(super) fn until(&self, timestamp: i64) -> i128 {
        if self.speaks {
            self.window.deadline(self.side, timestamp)
        } else {
            self.window.retention(timestamp)
        }
    }

    fn behind(&self) -> &RowCache {
        self.behind.as_ref().expect("a store is opened before its first record")
    }

    fn behind_mut(&mut self) -> &mut RowCache {
        self.behind.as_mut().expect("a store is opened before its first record")
    }

    fn corrupt(&self, what: &str, key: &[u8]) -> StoreError {
        let reason = format!("{what} {}", key.escape_ascii());
        StoreError::Corrupt { store: self.store.clone(), reason }
    }

    fn hash(&self, number: i64, key: &[u8]) -> u64 {
        self.hasher.hash_one((number, key))
    }

    fn place(&self, hash: u64, number: i64, key: &[u8]) -> Option<usize> {
        let is_it = |&place: &usize| {
            let slice = &self.slices[place];
            slice.number == number && *slice.key == *key
        };
        self.places.find(hash, is_it).copied()
    }

    /// The place of a slice, which is loaded if this transaction has not seen it yet and it may be there.
    fn slice(&mut self, hash: u64, number: i64, key: &[u8], may_be_there: bool) -> Result<usize> {
        if let Some(place) = self.place(hash, number, key) {
            return Ok(place);
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        let mut slice = Slice {
            number,
            key: Box::from(key),
            first: None,
            loaded: None,
            rows: Rows::None,
            ours: Vec::new(),
            committed: false,
            changed: false,
            dropped: false,
        };
        if may_be_there {
            join_row::first_key(number, key, &mut bytes);
            slice.loaded = self.behind_mut().get(&bytes)?;
        }
        if let Some(row) = &slice.loaded {
            let (timestamp, head, _) =
                parsed(row).ok_or_else(|| self.corrupt("no row of a join:", &bytes))?;
            slice.first = Some((timestamp, 0));
            if head.crowded {
                join_row::slice_key(number, key, &mut bytes);
                let named = self.behind_mut().get(&bytes)?;
                slice.committed = named.is_some();
                let named = named.and_then(|named| join_row::rows_of_slice(&named));
                slice.rows = named.map_or(Rows::Many, Rows::Few);
            }
        }
        self.bytes = bytes;
        let place = self.slices.len();
        self.slices.push(slice);
        let (slices, hasher) = (&self.slices, &self.hasher);
        let rehash = |&place: &usize| hasher.hash_one((slices[place].number, &*slices[place].key));
        self.places.insert_unique(hash, place, rehash);
        Ok(place)
    }

    /// Appends the rows that a record of the other side meets, in the order of their time, and notes
    /// that they have matched.
    pub(super) fn meet(&mut self, probe: Probe<'_>, found: &mut Vec<(i64, V)>) -> Result<()> {
        let other = match self.side {
            JoinSide::Left => JoinSide::Right,
            JoinSide::Right => JoinSide::Left,
        };
        let (before_ms, after_ms) = self.window.reach(other);
        let from = probe.stamp.timestamp.saturating_sub(before_ms);
        let to = probe.stamp.timestamp.saturating_add(after_ms);
        for number in from.div_euclid(self.slice_ms)..=to.div_euclid(self.slice_ms) {
            let hash = self.hash(number, probe.key);
            if !self.known.may_have(number, hash) {
                continue;
            }
            let place = self.slice(hash, number, probe.key, true)?;
            let mut tails = std::mem::take(&mut self.tails);
            tails.clear();
            self.tails_of(place, from, to, &mut tails)?;
            for &tail in tails.iter().filter(|tail| (from..=to).contains(&tail.0)) {
                if i128::from(probe.stamp.source_time) < self.until(tail.0) {
                    self.meet_row(probe, place, tail, found)?;
                }
            }
            self.tails = tails;
        }
        Ok(())
    }

    fn meet_row(
        &mut self,
        probe: Probe<'_>,
        place: usize,
        tail: Tail,
        found: &mut Vec<(i64, V)>,
    ) -> Result<()> {
        let is_in_time = |head: Head| i128::from(head.source_time) < probe.until;
        match self.slices[place].find(tail) {
            Ok(at) => {
                let row = &mut self.slices[place].ours[at];
                let Some(value) = row.value.as_ref().filter(|_| is_in_time(row.head)) else {
                    return Ok(());
                };
                found.push((tail.0, value.clone()));
                if self.speaks && !row.head.matched {
                    row.head.matched = true;
                    let committed = row.committed;
                    self.forget_unmatched(place, tail, committed)?;
                }
            }
            Err(at) => {
                let Some((head, value)) = self.load(place, tail)?.filter(|(h, _)| is_in_time(*h))
                else {
                    return Ok(());
                };
                if self.speaks && !head.matched {
                    let head = Head { matched: true, ..head };
                    let value = Some(value.clone());
                    self.slices[place].ours.insert(at, Row { tail, value, head, committed: true });
                    self.changed += 1;
                    self.forget_unmatched(place, tail, true)?;
                }
                found.push((tail.0, value));
            }
        }
        Ok(())
    }

    fn forget_unmatched(&mut self, place: usize, tail: Tail, committed: bool) -> Result<()> {
        let mut bytes = std::mem::take(&mut self.bytes);
        join_row::row_key(&self.slices[place].key, tail, &mut bytes);
        let entry = join_row::unmatched_key(tail.0, &bytes);
        self.bytes = bytes;
        self.upcoming.remove(&entry);
        if committed {
            self.unmatched.insert(entry, false);
        } else {
            self.unmatched.remove(&entry);
        }
        self.look_ahead()
    }

    /// A committed row.
    fn load(&mut self, place: usize, tail: Tail) -> Result<Option<(Head, V)>> {
        let mut key = std::mem::take(&mut self.bytes);
        let slice = &self.slices[place];
        slice.row_key(tail, &mut key);
        let bytes = if slice.first == Some(tail) {
            slice.loaded.clone()
        } else {
            self.behind_mut().get(&key)?
        };
        let loaded = bytes.map(|bytes| {
            let (_, head, value) =
                parsed(&bytes).ok_or_else(|| self.corrupt("no row of a join:", &key))?;
            let value = Bincode::decode(value)
                .map_err(|e| self.corrupt(&format!("the value of a row: {e}:"), &key))?;
            Ok((head, value))
        });
        self.bytes = key;
        loaded.transpose()
    }

    /// First and last time of a slice.
    fn times_of(&self, number: i64) -> (i64, i64) {
        let first = i128::from(number) * i128::from(self.slice_ms);
        let last = first + i128::from(self.slice_ms) - 1;
        let clamp = |t: i128| i64::try_from(t).unwrap_or(if t < 0 { i64::MIN } else { i64::MAX });
        (clamp(first), clamp(last))
    }

    /// Keeps a record.
    pub(super) fn put(&mut self, key: &[u8], stamp: Stamp, value: V, matched: bool) -> Result<()> {
        let timestamp = stamp.timestamp;
        let number = timestamp.div_euclid(self.slice_ms);
        let hash = self.hash(number, key);
        let place = self.slice(hash, number, key, self.known.may_have(number, hash))?;
        let tail = if self.slices[place].has_rows() {
            self.list(place, timestamp)?
        } else {
            self.known.add(number, hash);
            (timestamp, 0)
        };
        let slice = &mut self.slices[place];
        slice.first = slice.first.or(Some(tail));
        let head = Head { matched, crowded: false, source_time: stamp.source_time };
        let row = Row { tail, value: Some(value), head, committed: false };
        let (Ok(at) | Err(at)) = slice.find(tail);
        if slice.ours.is_empty() {
            // Most slices never get a second row.
            slice.ours.reserve_exact(1);
        }
        slice.ours.insert(at, row);
        self.changed += 1;
        self.first_slice = earlier(self.first_slice, number);
        if self.speaks && !matched {
            join_row::row_key(key, tail, &mut self.bytes);
            let entry = join_row::unmatched_key(timestamp, &self.bytes);
            self.upcoming.add(&entry);
            self.unmatched.insert(entry, true);
        }
        Ok(())
    }
}

/// Timestamp, head and encoded value of a row as the row cache has it.
fn parsed(row: &[u8]) -> Option<(i64, Head, &[u8])> {
    let (timestamp, rest) = layout::decode_row(row)?;
    let (head, value) = join_row::take_head(rest, timestamp)?;
    Some((timestamp, head, value))
}

fn earlier(known: Option<i64>, time: i64) -> Option<i64> {
    Some(known.map_or(time, |known| known.min(time)))
}
