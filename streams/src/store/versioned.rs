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
//!   | 2 | key bytes  | encoded key  | !timestamp |                  a value, or none: a delete
//!   |   | u32        |              | i64        |
//!   +---+------------+--------------+------------+
//!   all big-endian; i64 with the sign bit flipped, in a version also inverted: the newest comes first
//! ```
//!
//! The length in front of a key keeps its versions side by side, whatever other keys begin with it: the
//! version of a time is one step into a scan. Buckets are a sixteenth of what is kept, so a key that
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

use super::{Checkpoint, OrderedOverlay, RowCache, StoreError, Stored};
use crate::codec::Data;
use crate::ids::StoreName;
use crate::key::encode_i64;

const TIME: u8 = 0;
const BUCKET: u8 = 1;
const VERSION: u8 = 2;

/// History is dropped when it is that much longer than it has to be.
const BUCKETS: i64 = 16;
/// Entries of buckets that are looked at together.
const ENTRIES_AT_A_TIME: usize = 1_000;

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
    rows: OrderedOverlay<Option<V>>,
    history_ms: i64,
    /// The largest timestamp ever put.
    time: i64,
    time_moved: bool,
    /// Buckets before this one have been dropped since the store was opened.
    dropped_to: i64,
}

impl<V: Data> Versions<V> {
    pub(crate) fn new(store: StoreName, history_ms: i64) -> Self {
        let rows = OrderedOverlay::new(store);
        Self { rows, history_ms, time: i64::MIN, time_moved: false, dropped_to: i64::MIN }
    }

    /// How far back versions are kept, in milliseconds.
    pub(crate) fn history_ms(&self) -> i64 {
        self.history_ms
    }

    /// The kind under which the rows lie; see `Stateful::row_kind`.
    pub(crate) fn kind(&self) -> u8 {
        self.rows.kind()
    }

    pub(crate) fn open(&mut self, rows: RowCache) -> Result<(), StoreError> {
        self.rows.open(rows);
        if let Some(row) = self.rows.get(&[TIME])? {
            self.time = row.timestamp;
        }
        Ok(())
    }

    pub(crate) fn behind(&mut self) -> &mut RowCache {
        self.rows.behind()
    }

    /// Rows that the running transaction has changed.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
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
        let (mut newer, mut older) = (None, None);
        self.visit(key, i64::MAX, &mut |row| {
            if row.timestamp > timestamp {
                newer = Some(row.timestamp);
                return ControlFlow::Continue(());
            }
            older = Some(row.timestamp);
            ControlFlow::Break(())
        })?;
        // A delete is dropped like what has been superseded: nothing is what is seen without it.
        if older.is_some() || value.is_none() {
            self.note_superseded(key, timestamp)?;
        }
        if let Some(newer) = newer {
            self.note_superseded(key, newer)?;
        }
        self.rows.put(&version_key(key, timestamp), Some(Stored { timestamp, value }));
        Ok(newer.map_or(Put::Latest, Put::Until))
    }

    /// The latest version.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Stored<V>>, StoreError> {
        self.at(key, i64::MAX)
    }

    /// The version that held at a time, as far back as history goes.
    pub(crate) fn get_as_of(
        &self,
        key: &[u8],
        timestamp: i64,
    ) -> Result<Option<Stored<V>>, StoreError> {
        if timestamp >= self.history_start() {
            return self.at(key, timestamp);
        }
        Ok(self.get(key)?.filter(|latest| latest.timestamp <= timestamp))
    }

    fn at(&self, key: &[u8], timestamp: i64) -> Result<Option<Stored<V>>, StoreError> {
        let mut found = None;
        self.visit(key, timestamp, &mut |Stored { timestamp, value }| {
            found = value.map(|value| Stored { timestamp, value });
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Visits the versions of a key from a time on into the past.
    fn visit(
        &self,
        key: &[u8],
        from: i64,
        visit: &mut dyn FnMut(Stored<Option<V>>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let from = version_key(key, from);
        let mut to = version_key(key, i64::MIN);
        to.push(0);
        self.rows.scan(&from, Some(&to), &mut |_, row| visit(row))
    }

    fn bucket(&self, timestamp: i64) -> i64 {
        timestamp.div_euclid((self.history_ms / BUCKETS).max(1))
    }

    fn note_superseded(&mut self, key: &[u8], at: i64) -> Result<(), StoreError> {
        let entry = bucket_key(self.bucket(at), key);
        if self.rows.get(&entry)?.is_none() {
            self.rows.put(&entry, Some(Stored { timestamp: at, value: None }));
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
            self.rows.scan(&bucket_key(self.dropped_to, &[]), Some(&to), &mut |entry, _| {
                entries.push(entry.to_vec());
                if entries.len() < ENTRIES_AT_A_TIME {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
            for entry in &entries {
                self.drop_before(&entry[BUCKET_HEAD_BYTES..], start)?;
                self.rows.put(entry, None);
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
        let (mut dead, mut holds) = (Vec::new(), false);
        self.visit(key, time, &mut |row| {
            // The first one holds at that time, unless it is a delete.
            if holds || row.value.is_none() {
                dead.push(row.timestamp);
            }
            holds = true;
            ControlFlow::Continue(())
        })?;
        for timestamp in dead {
            self.rows.put(&version_key(key, timestamp), None);
        }
        Ok(())
    }

    /// As of the end of the transaction: old history is dropped, and each changed row is encoded once.
    pub(crate) fn prepare<E: From<StoreError>>(
        &mut self,
        changelog: impl FnMut(i64, &[u8], Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.drop_history()?;
        if std::mem::take(&mut self.time_moved) {
            self.rows.put(&[TIME], Some(Stored { timestamp: self.time, value: None }));
        }
        self.rows.prepare(changelog)
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
    let newest_first = encode_i64(timestamp).map(|byte| !byte);
    [&[VERSION][..], &bytes.to_be_bytes(), key, &newest_first].concat()
}

/// The encoded key and the timestamp in the key of a version; `None`: a row of another kind.
pub(crate) fn split_version(row: &[u8]) -> Option<(&[u8], i64)> {
    let (_bytes, rest) = row.strip_prefix(&[VERSION])?.split_first_chunk::<4>()?;
    let (key, time) = rest.split_last_chunk::<8>()?;
    Some((key, crate::key::decode_i64(time.map(|byte| !byte))))
}

#[cfg(test)]
mod tests;
