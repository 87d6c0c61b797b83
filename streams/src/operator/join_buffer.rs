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
//! * a slice names its rows, or says that they must be looked for; a slice that is not there has none.
//! * an entry of `unmatched` is there exactly for each row that has not matched, where those speak.
//! * a row past its time stays until its slice goes, but meets nothing any more; a slice whose time is up
//!   never gets another row.

mod closing;
mod kept;
mod known;
mod upcoming;

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;
use std::ops::ControlFlow;

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

/// Rows that a slice names; more are looked for.
const NAMED_MAX: usize = 32;
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

/// The rows of one key in one slice of time.
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
    rows: Rows,
    /// In the order of their tails.
    ours: Vec<Row<V>>,
    committed: bool,
    changed: bool,
}

impl<V> Slice<V> {
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
        let known = if may_be_there {
            let mut bytes = std::mem::take(&mut self.bytes);
            join_row::slice_key(number, key, &mut bytes);
            let known = self.behind_mut().get(&bytes)?;
            self.bytes = bytes;
            known
        } else {
            None
        };
        let rows = match &known {
            None => Rows::None,
            Some(bytes) => join_row::rows_of_slice(bytes).map_or(Rows::Many, Rows::Few),
        };
        let place = self.slices.len();
        self.slices.push(Slice {
            number,
            key: Box::from(key),
            rows,
            ours: Vec::new(),
            committed: known.is_some(),
            changed: false,
        });
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
            match &self.slices[place].rows {
                Rows::None => {}
                Rows::Few(all) => tails.extend_from_slice(all),
                Rows::Many => {
                    let (first, last) = self.times_of(number);
                    self.look_for(place, from.max(first), to.min(last), &mut tails)?;
                }
            }
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
        join_row::listed_key(&self.slices[place].key, tail, &mut key);
        let bytes = self.behind_mut().get(&key)?;
        let loaded = bytes.map(|bytes| {
            let parsed = layout::decode_row(&bytes)
                .and_then(|(timestamp, rest)| join_row::take_head(rest, timestamp));
            let (head, value) = parsed.ok_or_else(|| self.corrupt("no row of a join:", &key))?;
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

    /// The rows of a slice from one time to another, both included: the long way.
    fn look_for(&self, place: usize, from: i64, to: i64, tails: &mut Vec<Tail>) -> Result<()> {
        let slice = &self.slices[place];
        let (mut first, mut last) = (Vec::new(), Vec::new());
        join_row::listed_key(&slice.key, (from, 0), &mut first);
        join_row::listed_key(&slice.key, (to, u32::MAX), &mut last);
        // The end is exclusive.
        last.push(0);
        self.behind().scan(&first, &last, &mut |listed, _| {
            // Rows of a longer key may lie between those of this one.
            let split = join_row::split_row(&listed[1..]).filter(|(key, _)| *key == &*slice.key);
            if let Some((_, tail)) = split
                && slice.find(tail).is_err()
            {
                tails.push(tail);
            }
            ControlFlow::Continue(())
        })?;
        let ours = slice.ours.iter().filter(|row| row.value.is_some());
        tails.extend(ours.map(|row| row.tail).filter(|tail| (from..=to).contains(&tail.0)));
        tails.sort_unstable();
        Ok(())
    }

    /// Keeps a record.
    pub(super) fn put(&mut self, key: &[u8], stamp: Stamp, value: V, matched: bool) -> Result<()> {
        let timestamp = stamp.timestamp;
        let number = timestamp.div_euclid(self.slice_ms);
        let hash = self.hash(number, key);
        let place = self.slice(hash, number, key, self.known.may_have(number, hash))?;
        if self.slices[place].rows == Rows::None {
            self.known.add(number, hash);
        }
        let mut same = Vec::new();
        if self.slices[place].rows == Rows::Many {
            self.look_for(place, timestamp, timestamp, &mut same)?;
        }
        let slice = &mut self.slices[place];
        slice.changed = true;
        let tail = match &mut slice.rows {
            Rows::None => {
                slice.rows = Rows::Few(vec![(timestamp, 0)]);
                (timestamp, 0)
            }
            Rows::Few(tails) => {
                let tail = next_tail(tails, timestamp);
                let at = tails.partition_point(|other| *other < tail);
                tails.insert(at, tail);
                if tails.len() > NAMED_MAX {
                    slice.rows = Rows::Many;
                }
                tail
            }
            Rows::Many => next_tail(&same, timestamp),
        };
        let head = Head { matched, source_time: stamp.source_time };
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

fn earlier(known: Option<i64>, time: i64) -> Option<i64> {
    Some(known.map_or(time, |known| known.min(time)))
}

/// The place of the next record of a timestamp behind those that are there.
fn next_tail(tails: &[Tail], timestamp: i64) -> Tail {
    let same = tails.iter().filter(|tail| tail.0 == timestamp);
    (timestamp, same.map(|tail| tail.1).max().map_or(0, |last| last.saturating_add(1)))
}
