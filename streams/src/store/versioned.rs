//! Versions of rows: which value a key had at which time, as far back as history is kept.
//!
//! Why a layout and not a store class: versions are rows of the one ordered store, so commits, changelogs,
//! restarts and both back ends are those of any store.
//!
//! ```text
//!   key of a row (all of the kind that is kept in order)            value
//!   +---+                                                           none; the row's timestamp is the
//!   | 0 |                                                           store's time: the largest one put
//!   +---+------------+--------------+
//!   | 1 | bucket i64 | encoded key  |                               none: in that bucket of time a
//!   +---+------------+--------------+                               version of the key was superseded
//!   | 2 | key bytes  | encoded key  | timestamp  |                  a value, or none: a delete
//!   |   | u32        |              | i64        |
//!   +---+------------+--------------+------------+
//!   all big-endian; i64 with the sign bit flipped
//! ```
//!
//! The length in front of a key keeps its versions side by side, whatever other keys begin with it. Which
//! of them there are is kept in memory for the last few: see [`Tails`]. Buckets are a sixteenth of what is kept, so a key that
//! changes often has one entry in each, and history is dropped bucket by bucket, never by looking at
//! everything.
//!
//! Invariants
//! * the latest version of a key is kept however old it is; an older one until history ends behind the
//!   time at which it was superseded.
//! * a version older than the store's time by more than history is refused; a look-up that far back sees
//!   the latest version or nothing: what is dropped and when never shows.
//!
//! On crash: as any store; the time of the store is a row.
//! Reference: Kafka Streams `RocksDBVersionedStore`, KIP-889.

use std::ops::ControlFlow;

use super::{
    Checkpoint, Direction, Overlay, Places, RowCache, StoreError, Stored, Tails, last_time_of,
};
use crate::codec::Data;
use crate::ids::StoreName;
use crate::key::{decode_i64, encode_i64};
use crate::time::Stamp;

const TIME: u8 = 0;
const BUCKET: u8 = 1;
const VERSION: u8 = 2;

/// History is dropped when it is that much longer than it has to be.
const BUCKETS: i64 = 16;
/// Entries of buckets that are looked at together.
const ENTRIES_AT_A_TIME: usize = 1_000;

/// How many bytes the time of a version takes at the end of its key.
const TIME_BYTES: usize = 8;
const LATEST: Places = Places { first: 0, last: u128::MAX, direction: Direction::Back, most: 1 };
const NEXT: Places = Places { direction: Direction::Forward, ..LATEST };

/// What became of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It is the latest of its key.
    Latest,
    /// It holds until another one that was there already.
    Until(i64),
    /// It is older than history: nothing was put.
    Refused,
}

/// The versions of one store partition.
pub(crate) struct Versions<V> {
    rows: Overlay<Option<V>>,
    /// Which versions of a key there are.
    tails: Tails,
    history_ms: i64,
    /// The largest timestamp ever put.
    time: i64,
    time_moved: bool,
    /// Buckets before this one have been dropped since the store was opened.
    dropped_to: i64,
}

impl<V: Data> Versions<V> {
    pub(crate) fn new(store: StoreName, history_ms: i64) -> Self {
        let (rows, tails) = (Overlay::listed(store), Tails::new(TIME_BYTES));
        let (time, dropped_to) = (i64::MIN, i64::MIN);
        Self { rows, tails, history_ms, time, time_moved: false, dropped_to }
    }

    /// How far back versions are kept, in milliseconds.
    pub(crate) fn history_ms(&self) -> i64 {
        self.history_ms
    }

    /// The kind under which the rows lie; see `Stateful::row_kinds`.
    pub(crate) fn kind(&self) -> u8 {
        self.rows.kind()
    }

    pub(crate) fn open(&mut self, rows: RowCache) -> Result<(), StoreError> {
        self.tails.open(rows.tail_bytes_max());
        self.rows.open(rows);
        let place = self.rows.find(&[TIME])?;
        let row = self.rows.at(place);
        if row.value.is_some() {
            self.time = row.timestamp;
        }
        Ok(())
    }

    pub(crate) fn behind(&mut self) -> &mut RowCache {
        self.rows.behind()
    }

    /// Rows that the running transaction keeps in memory.
    pub(crate) fn len(&self) -> usize {
        self.rows.len().max(self.tails.read())
    }

    /// How far back a look-up sees more than the latest version.
    fn history_start(&self) -> i64 {
        self.time.saturating_sub(self.history_ms)
    }

    /// Puts a version, or a delete, in place of one with the same timestamp.
    pub(crate) fn put(
        &mut self,
        key: &[u8],
        timestamp: i64,
        value: Option<V>,
    ) -> Result<Put, StoreError> {
        if timestamp > self.time {
            (self.time, self.time_moved) = (timestamp, true);
        }
        if timestamp < self.history_start() {
            return Ok(Put::Refused);
        }
        let row = version_key(key, timestamp);
        let (group, place) = self.tails.split(&row);
        let older = Places { first: 0, last: place, ..LATEST };
        let is_first = self.tails.places(&mut self.rows, group, older)?.is_empty();
        let newer = Places { first: place.saturating_add(1), last: u128::MAX, ..NEXT };
        let newer = self.tails.places(&mut self.rows, group, newer)?.first().copied();
        let newer = newer.map(last_time_of);
        // A delete is dropped like what has been superseded: nothing is what is seen without it.
        if !is_first || value.is_none() {
            self.note_superseded(key, timestamp)?;
        }
        if let Some(newer) = newer {
            self.note_superseded(key, newer)?;
        }
        let at = self.tails.note(&mut self.rows, &row, true)?;
        self.rows.at(at).replace(Some(value), Stamp { timestamp, source_time: timestamp });
        Ok(newer.map_or(Put::Latest, Put::Until))
    }

    /// Puts a row, or deletes it.
    fn change(&mut self, key: &[u8], row: Option<Stored<Option<V>>>) -> Result<(), StoreError> {
        let place = self.rows.find(key)?;
        match row {
            Some(Stored { timestamp, value }) => {
                let stamp = Stamp { timestamp, source_time: timestamp };
                self.rows.at(place).replace(Some(value), stamp);
            }
            None => self.rows.at(place).delete(),
        }
        Ok(())
    }

    /// The latest version.
    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<Stored<V>>, StoreError> {
        self.at(key, i64::MAX)
    }

    /// The version that held at a time, as far back as history goes.
    pub(crate) fn get_as_of(
        &mut self,
        key: &[u8],
        timestamp: i64,
    ) -> Result<Option<Stored<V>>, StoreError> {
        if timestamp >= self.history_start() {
            return self.at(key, timestamp);
        }
        Ok(self.get(key)?.filter(|latest| latest.timestamp <= timestamp))
    }

    fn at(&mut self, key: &[u8], timestamp: i64) -> Result<Option<Stored<V>>, StoreError> {
        let mut row = version_key(key, timestamp);
        let (group, last) = self.tails.split(&row);
        let held = Places { first: 0, last, ..LATEST };
        let Some(&place) = self.tails.places(&mut self.rows, group, held)?.first() else {
            return Ok(None);
        };
        row.truncate(row.len() - TIME_BYTES);
        row.extend_from_slice(&encode_i64(last_time_of(place)));
        let place = self.rows.find(&row)?;
        let found = self.rows.at(place);
        let timestamp = found.timestamp;
        Ok(found.value.clone().flatten().map(|value| Stored { timestamp, value }))
    }

    fn bucket(&self, timestamp: i64) -> i64 {
        timestamp.div_euclid((self.history_ms / BUCKETS).max(1))
    }

    fn note_superseded(&mut self, key: &[u8], at: i64) -> Result<(), StoreError> {
        let entry = bucket_key(self.bucket(at), key);
        let place = self.rows.find(&entry)?;
        if self.rows.at(place).value.is_none() {
            self.change(&entry, Some(Stored { timestamp: at, value: None }))?;
        }
        Ok(())
    }

    /// Drops history that nothing can see any more.
    fn drop_history(&mut self) -> Result<(), StoreError> {
        let start = self.history_start();
        let to_bucket = self.bucket(start);
        if to_bucket <= self.dropped_to {
            return Ok(());
        }
        let to = bucket_key(to_bucket, &[]);
        loop {
            let mut entries = Vec::new();
            let from = bucket_key(self.dropped_to, &[]);
            self.rows.scan((&from, Some(&to)), Direction::Forward, &mut |entry, _| {
                entries.push(entry.to_vec());
                if entries.len() < ENTRIES_AT_A_TIME {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
            for entry in &entries {
                self.drop_before(&entry[BUCKET_HEAD_BYTES..], start)?;
                self.change(entry, None)?;
            }
            if entries.len() < ENTRIES_AT_A_TIME {
                break;
            }
        }
        self.dropped_to = to_bucket;
        Ok(())
    }

    /// Drops the versions of a key that were superseded up to a time.
    fn drop_before(&mut self, key: &[u8], time: i64) -> Result<(), StoreError> {
        let row = version_key(key, time);
        let (group, last) = self.tails.split(&row);
        let past = Places { first: 0, last, direction: Direction::Forward, most: usize::MAX };
        let mut dead = self.tails.places(&mut self.rows, group, past)?;
        // The last one holds at that time, unless it is a delete.
        let mut nothing_before = last.saturating_add(1);
        if let Some(&held) = dead.last() {
            let place = self.rows.find(&version_key(key, last_time_of(held)))?;
            if self.rows.at(place).value.as_ref().is_some_and(Option::is_some) {
                dead.pop();
                nothing_before = held;
            }
        }
        for place in dead {
            let row = version_key(key, last_time_of(place));
            let at = self.tails.note(&mut self.rows, &row, false)?;
            self.rows.at(at).delete();
        }
        self.tails.set_nothing_before(group, nothing_before);
        Ok(())
    }

    /// As of the end of the transaction: old history is dropped, and each changed row is encoded once.
    pub(crate) fn prepare<E: From<StoreError>>(
        &mut self,
        changelog: impl FnMut(i64, &[u8], Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.drop_history()?;
        if std::mem::take(&mut self.time_moved) {
            self.change(&[TIME], Some(Stored { timestamp: self.time, value: None }))?;
        }
        self.rows.prepare(changelog)?;
        // AFTER the rows have been handed on, or else what is read anew would lack them.
        self.tails.settle();
        Ok(())
    }

    /// After the commit point: what was prepared is committed now.
    pub(crate) fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) {
        self.rows.committed(checkpoint, now_ms);
    }
}

/// What a bucket's entry has in front of the encoded key.
const BUCKET_HEAD_BYTES: usize = 9;

fn bucket_key(bucket: i64, key: &[u8]) -> Vec<u8> {
    [&[BUCKET][..], &encode_i64(bucket), key].concat()
}

fn version_key(key: &[u8], timestamp: i64) -> Vec<u8> {
    let bytes =
        u32::try_from(key.len()).expect("a key is smaller than a record, which is below 4 GiB");
    [&[VERSION][..], &bytes.to_be_bytes(), key, &encode_i64(timestamp)].concat()
}

/// The encoded key and the timestamp in the key of a version; `None`: a row of another kind.
pub(crate) fn split_version(row: &[u8]) -> Option<(&[u8], i64)> {
    let (_bytes, rest) = row.strip_prefix(&[VERSION])?.split_first_chunk::<4>()?;
    let (key, time) = rest.split_last_chunk::<8>()?;
    Some((key, decode_i64(*time)))
}

#[cfg(test)]
mod tests;
