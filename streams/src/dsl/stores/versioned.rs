//! Each value of a key with the time from which on it held.
//!
//! ```text
//!   (a, 10) 1   (a, 25) 2   (a, 40) none        as of 30: 2, which held from 25 until 40
//! ```

use super::Handle;
use crate::codec::Data;
use crate::error::Result;
use crate::key::{Key, encode_i64};
use crate::operator::{StateStore, StoreLink};
use crate::store::{Direction, Places, last_time_of, place_of};

/// A store of a processor, from [`Topology::versioned_store`](crate::Topology::versioned_store): what a key
/// was at any time of the last while.
///
/// The latest value is kept for ever; an older one until the clock of the source partitions has passed the
/// time at which the next one began by the history that is kept.
///
/// ```
/// use streams::prelude::*;
/// const PRICES: Topic<String, u64> = topic("prices");
/// const THEN: Topic<String, u64> = topic("then");
///
/// /// What the price was ten seconds earlier.
/// struct Earlier { prices: VersionedStore<String, u64> }
/// impl Processor<String, u64> for Earlier {
///     type Key = String;
///     type Out = u64;
///     fn stores(&self) -> Vec<&dyn StateStore> {
///         vec![&self.prices]
///     }
///     fn record(&mut self, ctx: &mut Ctx<'_, String, u64>, record: Record<String, u64>) -> Processed {
///         let (Some(key), at) = (record.key, record.timestamp) else { return Ok(()) };
///         self.prices.put(&key, record.value, at)?;
///         if let Some((then, _)) = self.prices.get_as_of(&key, at - 10_000)? {
///             ctx.forward(key, then)?;
///         }
///         Ok(())
///     }
/// }
/// fn topology(t: &mut Topology) {
///     let prices = t.versioned_store("prices", mins(10));
///     t.stream(PRICES).process("earlier", Earlier { prices }).to(THEN);
/// }
/// let mut d = TestDriver::new(topology);
/// for (at, price) in [(1_000, 5), (4_000, 6), (12_000, 7), (14_000, 8)] {
///     d.send_at(PRICES, "tea".into(), price, at);
/// }
/// let then: Vec<u64> = d.read(THEN).into_iter().map(|(_, price)| price).collect();
/// assert_eq!(then, [5, 6]);
/// ```
pub struct VersionedStore<K, V> {
    rows: Handle<K, Option<V>>,
}

/// What became of a version that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VersionPut {
    /// It is the latest.
    Latest,
    /// It holds until this time, at which another one begins.
    Until(i64),
    /// It begins before the history that is kept: it is left out, and counted as late.
    TooOld,
}

impl<K, V> Clone for VersionedStore<K, V> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone() }
    }
}

impl<K, V: Data> StateStore for VersionedStore<K, V> {
    fn link(&self) -> StoreLink {
        self.rows.link()
    }
}

fn encoded<K: Key>(key: &K, from: i64) -> Vec<u8> {
    let mut out = Vec::new();
    key.encode_member(&mut out);
    out.extend_from_slice(&encode_i64(from));
    out
}

impl<K: Key, V: Data> VersionedStore<K, V> {
    pub(super) fn new(rows: Handle<K, Option<V>>) -> Self {
        Self { rows }
    }

    /// Puts the value that holds from `from` on, or none, in place of one that begins at the same time.
    ///
    /// # Errors
    ///
    /// S026: the store failed; S018: the processor does not list it.
    pub fn put(&self, key: &K, value: Option<V>, from: i64) -> Result<VersionPut> {
        let row = encoded(key, from);
        let is_too_old = self.rows.with(|rows| {
            let is_too_old = i128::from(from) < rows.horizon();
            if is_too_old {
                rows.now().count_too_old();
            } else {
                rows.put(&row, Some(value), from)?;
            }
            Ok(is_too_old)
        })?;
        if is_too_old {
            return Ok(VersionPut::TooOld);
        }
        let first = place_of(&[from]).saturating_add(1);
        let next = Places { first, last: u128::MAX, direction: Direction::Forward, most: 1 };
        let next = self.rows.places(key, next)?.first().copied().map(last_time_of);
        Ok(next.map_or(VersionPut::Latest, VersionPut::Until))
    }

    /// The latest value, and from when on it has held.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn get(&self, key: &K) -> Result<Option<(V, i64)>> {
        self.latest(key, i64::MAX)
    }

    /// The value that held at a time, and from when on it did. Of times before the history that is kept, only
    /// the latest value is known.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn get_as_of(&self, key: &K, at: i64) -> Result<Option<(V, i64)>> {
        if self.rows.with(|rows| Ok(i128::from(at) >= rows.horizon()))? {
            return self.latest(key, at);
        }
        Ok(self.get(key)?.filter(|&(_, from)| from <= at))
    }

    /// Ends the value of a key at a time, and answers what held then.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn delete(&self, key: &K, at: i64) -> Result<Option<(V, i64)>> {
        if self.rows.with(|rows| Ok(i128::from(at) < rows.horizon()))? {
            return Ok(None);
        }
        let held = self.get_as_of(key, at)?;
        self.put(key, None, at)?;
        Ok(held)
    }

    fn latest(&self, key: &K, at: i64) -> Result<Option<(V, i64)>> {
        let (direction, last) = (Direction::Back, place_of(&[at]));
        let mut found = None;
        self.rows.each_of(
            key,
            Places { first: 0, last, direction, most: 1 },
            |_| true,
            |bytes, row| {
                let (_, from): (K, i64) = self.rows.key_of(bytes)?;
                found = row.value.map(|value| (value, from));
                Ok(())
            },
        )?;
        Ok(found)
    }
}
