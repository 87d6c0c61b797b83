//! Which rows a key has, where it has several in the order of time: the last ones of each key, in memory.
//!
//! Why: the sessions of a key, or its versions, are rows side by side; to find the latest of them by range
//! is a search in every level of memory and of the disk. Nearly every question is about the last few, so
//! their places are kept here, and each row is then found by one look-up.
//!
//! ```text
//!   key of a row     | group: the user's key .. | place: 8 or 16 bytes, in the order of time |
//!
//!   tail of a group          nothing_before            from
//!   places in the store         |   a   b   c   d   e   |   f   g   h
//!                                   found by a scan         known here: that f, g, h are all of them
//! ```
//!
//! Invariants
//! * a tail has every row of its group from `from` on as the running transaction has it: whoever changes
//!   a row of a group says so, and its tail is read first.
//! * a tail is read from behind the running transaction, so what lies before it is read only as long as
//!   this transaction has changed nothing there.
//! * tails are forgotten between transactions only, the longest unused first.
//!
//! On crash, and on an abort: gone with the task; each is read again when it is asked for.

use std::mem;
use std::ops::ControlFlow;

use hashbrown::HashMap;

use super::{Direction, Overlay, StoreError, layout};
use crate::codec::{Bincode, Codec};
use crate::key::{decode_i64, encode_i64};

/// Places of one group that are known at most.
const PLACES_MAX: usize = 32;
/// Places that are read at once, if there are so many.
const PLACES_READ: usize = 8;
/// What a tail costs besides its key and its places.
const TAIL_OVERHEAD_BYTES: usize = 128;
const PLACE_BYTES: usize = size_of::<u128>();
/// What tails may take for each row that may wait for a flush: 16 MiB by default.
pub(super) const BYTES_A_ROW: usize = 128;

/// Rows of a group that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// The first place, included.
    pub(crate) first: u128,
    /// The last place, included.
    pub(crate) last: u128,
    /// Which end is wanted first.
    pub(crate) direction: Direction,
    /// How many are wanted.
    pub(crate) most: usize,
}

/// The last rows of one group.
#[derive(Debug, Default)]
struct Tail {
    /// All rows from here on are known; 0: all there are.
    from: u128,
    places: Vec<u128>,
    /// No row lies before this.
    nothing_before: u128,
    /// When the entry of the time index is due that is known to be there.
    entry: Option<i64>,
    /// The transaction that has changed rows before `from`.
    changed_before: u64,
}

impl Tail {
    fn bytes(&self, group: &[u8]) -> usize {
        TAIL_OVERHEAD_BYTES + group.len() + self.places.capacity() * PLACE_BYTES
    }

    /// The places that are asked for; `None`: some of them may lie before what is known.
    fn list(&self, wanted: Places) -> Option<Vec<u128>> {
        let start = self.places.partition_point(|&place| place < wanted.first);
        let end = self.places.partition_point(|&place| place <= wanted.last);
        let known = self.places.get(start..end).unwrap_or_default().iter().copied();
        let is_known_from = |first: u128| first.max(self.nothing_before) >= self.from;
        match wanted.direction {
            Direction::Forward => {
                is_known_from(wanted.first).then(|| known.take(wanted.most).collect())
            }
            Direction::Back => (known.len() >= wanted.most || is_known_from(wanted.first))
                .then(|| known.rev().take(wanted.most).collect()),
        }
    }

    /// Whether a row is known not to be there.
    fn is_absent(&self, place: u128) -> bool {
        place >= self.from && self.places.binary_search(&place).is_err()
    }

    fn put(&mut self, place: u128, transaction: u64) {
        self.nothing_before = self.nothing_before.min(place);
        if place < self.from {
            self.changed_before = transaction;
            return;
        }
        if self.places.len() >= PLACES_MAX {
            self.places.drain(..PLACES_MAX / 2);
            self.from = self.places.first().copied().unwrap_or(self.from);
            // Those that are left out may be of this transaction.
            self.changed_before = transaction;
        }
        if place >= self.from
            && let Err(at) = self.places.binary_search(&place)
        {
            self.places.insert(at, place);
        }
    }

    fn remove(&mut self, place: u128, transaction: u64) {
        if place < self.from {
            self.changed_before = transaction;
        } else if let Ok(at) = self.places.binary_search(&place) {
            self.places.remove(at);
        }
    }
}

/// Tails by the bytes of their groups.
type Generation = HashMap<Box<[u8]>, Tail>;

/// The tails of one store partition.
pub(crate) struct Tails {
    /// How many bytes at the end of a row's key are its place; 0: keys have one row each.
    place_bytes: usize,
    young: Generation,
    old: Generation,
    /// What those of `young` take, roughly.
    young_bytes: usize,
    bytes_max: usize,
    /// Counts transactions, from 1.
    transaction: u64,
    /// Tails that this transaction has read.
    read: usize,
}

impl Tails {
    /// For rows whose place is the last so many bytes of their keys.
    pub(crate) fn new(place_bytes: usize) -> Self {
        Self {
            place_bytes,
            young: Generation::default(),
            old: Generation::default(),
            young_bytes: 0,
            bytes_max: 0,
            transaction: 1,
            read: 0,
        }
    }

    /// How many bytes they may take from now on; those that there are, are forgotten.
    pub(crate) fn open(&mut self, bytes_max: usize) {
        *self = Self { bytes_max, ..Self::new(self.place_bytes) };
    }

    /// Whether keys have several rows.
    pub(crate) fn is_used(&self) -> bool {
        self.place_bytes > 0
    }

    /// Tails that the running transaction has read: they are kept until it ends.
    pub(crate) fn read(&self) -> usize {
        self.read
    }

    /// The group and the place in the key of a row.
    pub(crate) fn split<'a>(&self, key: &'a [u8]) -> (&'a [u8], u128) {
        let (group, place) = key.split_at(key.len().saturating_sub(self.place_bytes));
        (group, place.iter().fold(0, |place, &byte| place << 8 | u128::from(byte)))
    }

    /// Writes the key of a row.
    pub(crate) fn write_key(&self, group: &[u8], place: u128, out: &mut Vec<u8>) {
        out.extend_from_slice(group);
        let bytes = place.to_be_bytes();
        out.extend_from_slice(&bytes[PLACE_BYTES - self.place_bytes.min(PLACE_BYTES)..]);
    }

    /// The rows of a group that are asked for.
    pub(crate) fn places<A: Clone>(
        &mut self,
        rows: &mut Overlay<A>,
        group: &[u8],
        wanted: Places,
    ) -> Result<Vec<u128>, StoreError>
    where
        Bincode: Codec<A>,
    {
        let (transaction, place_bytes) = (self.transaction, self.place_bytes);
        let largest = u128::MAX >> (8 * (PLACE_BYTES - place_bytes.min(PLACE_BYTES)));
        if wanted.first > wanted.last.min(largest) {
            return Ok(Vec::new());
        }
        let tail = self.tail(rows, group, wanted)?;
        if let Some(places) = tail.list(wanted) {
            return Ok(places);
        }
        if tail.places.len() < PLACES_MAX / 2 && tail.changed_before != transaction {
            read(rows, group, place_bytes, tail, wanted)?;
            if let Some(places) = tail.list(wanted) {
                return Ok(places);
            }
        }
        let first = wanted.first.max(tail.nothing_before);
        self.scan(rows, group, Places { first, ..wanted })
    }

    /// Notes that a row is put or deleted, and finds it for that; to be told of each.
    pub(crate) fn note<A>(
        &mut self,
        rows: &mut Overlay<A>,
        key: &[u8],
        is_there: bool,
    ) -> Result<usize, StoreError>
    where
        Bincode: Codec<A>,
    {
        let (group, place) = self.split(key);
        let transaction = self.transaction;
        let latest =
            Places { first: 0, last: u128::MAX, direction: Direction::Back, most: PLACES_READ };
        let tail = self.tail(rows, group, latest)?;
        let is_absent = tail.is_absent(place);
        if is_there {
            tail.put(place, transaction);
        } else {
            tail.remove(place, transaction);
        }
        if is_absent { Ok(rows.find_absent(key)) } else { rows.find(key) }
    }

    /// Whether a group is known to have no other row than this.
    pub(crate) fn is_alone(&self, key: &[u8]) -> bool {
        let (group, place) = self.split(key);
        let tail = self.young.get(group);
        tail.is_some_and(|tail| tail.nothing_before >= tail.from && tail.places == [place])
    }

    /// When the entry of the time index is due that a group is known to have.
    pub(crate) fn entry(&self, group: &[u8]) -> Option<i64> {
        self.young.get(group)?.entry
    }

    /// Notes the entry of the time index that a group has.
    pub(crate) fn set_entry(&mut self, group: &[u8], entry: Option<i64>) {
        if let Some(tail) = self.young.get_mut(group) {
            tail.entry = entry;
        }
    }

    /// Notes that no row of a group lies before a place.
    pub(crate) fn set_nothing_before(&mut self, group: &[u8], place: u128) {
        if let Some(tail) = self.young.get_mut(group) {
            tail.nothing_before = tail.nothing_before.max(place);
        }
    }

    /// The transaction is over, and its rows lie behind it.
    pub(crate) fn settle(&mut self) {
        self.transaction += 1;
        self.read = 0;
        if self.young_bytes > self.bytes_max / 2 {
            self.old = mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    /// The tail of a group, which is among the young ones then.
    fn tail<A>(
        &mut self,
        rows: &mut Overlay<A>,
        group: &[u8],
        wanted: Places,
    ) -> Result<&mut Tail, StoreError>
    where
        Bincode: Codec<A>,
    {
        if !self.young.contains_key(group) {
            let tail = match self.old.remove(group) {
                Some(tail) => tail,
                None => {
                    self.read += 1;
                    let mut tail = Tail { from: u128::MAX, ..Tail::default() };
                    read(rows, group, self.place_bytes, &mut tail, wanted)?;
                    tail
                }
            };
            self.young_bytes += tail.bytes(group) + PLACES_MAX / 2 * PLACE_BYTES;
            self.young.insert(Box::from(group), tail);
        }
        Ok(self.young.get_mut(group).expect("it was put there if it was not"))
    }

    /// The rows of a group as a scan finds them, however many there are.
    fn scan<A: Clone>(
        &self,
        rows: &mut Overlay<A>,
        group: &[u8],
        wanted: Places,
    ) -> Result<Vec<u128>, StoreError>
    where
        Bincode: Codec<A>,
    {
        let (mut from, mut to, mut found) = (Vec::new(), Vec::new(), Vec::new());
        self.write_key(group, wanted.first, &mut from);
        self.write_key(group, wanted.last, &mut to);
        to.push(0);
        let key_bytes = group.len() + self.place_bytes;
        rows.scan((&from, Some(&to)), wanted.direction, &mut |key, _| {
            if key.len() == key_bytes {
                found.push(self.split(key).1);
            }
            if found.len() < wanted.most {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok(found)
    }
}

/// Reads places in front of a tail, from behind the running transaction: those that are wanted, and a few
/// more where only the latest are, but no more than are kept.
fn read<A>(
    rows: &mut Overlay<A>,
    group: &[u8],
    place_bytes: usize,
    tail: &mut Tail,
    wanted: Places,
) -> Result<(), StoreError>
where
    Bincode: Codec<A>,
{
    // What lies further back is not looked at: it may be much that was deleted.
    let lowest = match wanted.direction {
        Direction::Forward => tail.nothing_before.max(wanted.first),
        Direction::Back => tail.nothing_before,
    };
    let (mut from, mut to) = (Vec::new(), Vec::new());
    layout::key_of(rows.kind(), group, &mut from);
    let head = from.len();
    to.extend_from_slice(&from);
    let skipped = PLACE_BYTES - place_bytes.min(PLACE_BYTES);
    from.extend_from_slice(&lowest.to_be_bytes()[skipped..]);
    to.extend_from_slice(&tail.from.to_be_bytes()[skipped..]);
    if tail.from == u128::MAX {
        to.push(0);
    }
    let (mut found, mut is_cut, mut met) = (Vec::new(), false, 0);
    let known = tail.places.len();
    rows.behind().scan_back(&from, &to, &mut |key, _| {
        if key.len() != head + place_bytes {
            return ControlFlow::Continue(());
        }
        let place = key[head..].iter().fold(0, |place, &byte| place << 8 | u128::from(byte));
        found.push(place);
        met += usize::from(place <= wanted.last);
        let is_met = wanted.direction == Direction::Back && met >= wanted.most;
        is_cut = known + found.len() >= PLACES_MAX || (is_met && found.len() >= PLACES_READ);
        if is_cut { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    tail.from = if is_cut { found.last().copied().unwrap_or(lowest) } else { lowest };
    found.reverse();
    found.append(&mut tail.places);
    tail.places = found;
    Ok(())
}

/// The place of a row that has these times at the end of its key: one or two.
pub(crate) fn place_of(times: &[i64]) -> u128 {
    let bytes = times.iter().flat_map(|&time| encode_i64(time));
    bytes.fold(0, |place, byte| place << 8 | u128::from(byte))
}

/// The last one of the times of a place.
pub(crate) fn last_time_of(place: u128) -> i64 {
    let bytes = place.to_be_bytes();
    decode_i64(*bytes.last_chunk().expect("sixteen bytes have eight"))
}

#[cfg(test)]
mod tests;
