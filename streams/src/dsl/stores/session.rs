//! Values of keys and sessions.
//!
//! Why the end in front of the start: what is asked for is nearly always who was active at a time, and the
//! sessions of a key that ended before it need not be looked at.

use std::ops::{Bound, RangeBounds};

use super::Handle;
use crate::codec::Data;
use crate::error::Result;
use crate::key::{Key, Windowed, encode_i64};
use crate::operator::{StateStore, StoreLink};
use crate::store::{Direction, Places, last_time_of, place_of};

/// A store of a processor, from [`Topology::session_store`](crate::Topology::session_store): a value for each
/// key, start and end of a session, both included.
///
/// A session is there until the clock of the asking record's source partition has reached its end plus the
/// retention; what is put later than that is left out, and counted as late.
///
/// ```
/// use streams::prelude::*;
/// const CLICKS: Topic<String, u64> = topic("clicks");
/// const LENGTHS: Topic<String, i64> = topic("lengths");
///
/// /// Joins clicks that are at most ten seconds apart.
/// struct Visits { visits: SessionStore<String, u64> }
/// impl Processor<String, u64> for Visits {
///     type Key = String;
///     type Out = i64;
///     fn stores(&self) -> Vec<&dyn StateStore> {
///         vec![&self.visits]
///     }
///     fn record(&mut self, ctx: &mut Ctx<'_, String, i64>, record: Record<String, u64>) -> Processed {
///         let (Some(user), at) = (record.key, record.timestamp) else { return Ok(()) };
///         let (mut start, mut end, mut clicks) = (at, at, 1);
///         for (visit, n) in self.visits.find(&user, at - 10_000, at + 10_000)? {
///             self.visits.delete(&user, visit.start, visit.end)?;
///             (start, end, clicks) = (start.min(visit.start), end.max(visit.end), clicks + n);
///         }
///         self.visits.put(&user, start, end, clicks)?;
///         ctx.forward(user, end - start)?;
///         Ok(())
///     }
/// }
/// fn topology(t: &mut Topology) {
///     let visits = t.session_store("visits", hours(1));
///     t.stream(CLICKS).process("visits", Visits { visits }).to(LENGTHS);
/// }
/// let mut d = TestDriver::new(topology);
/// for at in [1_000, 9_000, 30_000, 20_000] {
///     d.send_at(CLICKS, "ana".into(), 0, at);
/// }
/// let lengths: Vec<i64> = d.read(LENGTHS).into_iter().map(|(_, length)| length).collect();
/// assert_eq!(lengths, [0, 8_000, 0, 10_000]);
/// ```
pub struct SessionStore<K, V> {
    rows: Handle<K, V>,
}

impl<K, V> Clone for SessionStore<K, V> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone() }
    }
}

impl<K, V: Data> StateStore for SessionStore<K, V> {
    fn link(&self) -> StoreLink {
        self.rows.link()
    }
}

fn encoded<K: Key>(key: &K, start: i64, end: i64) -> impl FnOnce(&mut Vec<u8>) + '_ {
    move |out| {
        key.encode_member(out);
        out.extend_from_slice(&encode_i64(end));
        out.extend_from_slice(&encode_i64(start));
    }
}

impl<K: Key, V: Data> SessionStore<K, V> {
    pub(super) fn new(rows: Handle<K, V>) -> Self {
        Self { rows }
    }

    /// The value of a session.
    ///
    /// # Errors
    ///
    /// S026: the store failed; S018: the processor does not list it.
    pub fn get(&self, key: &K, start: i64, end: i64) -> Result<Option<V>> {
        let row = self.rows.at(encoded(key, start, end), |rows, key| rows.get(key))?;
        Ok(row.map(|row| row.value))
    }

    /// Puts the value of a session; `false`: it is past its retention, left out, and counted as late.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn put(&self, key: &K, start: i64, end: i64, value: V) -> Result<bool> {
        self.change(key, start, end, Some(value))
    }

    /// Deletes a session; `false`: it is past its retention.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn delete(&self, key: &K, start: i64, end: i64) -> Result<bool> {
        self.change(key, start, end, None)
    }

    fn change(&self, key: &K, start: i64, end: i64, value: Option<V>) -> Result<bool> {
        self.rows.at(encoded(key, start, end), |rows, key| {
            if rows.is_too_old(end) {
                rows.now().count_too_old();
                return Ok(false);
            }
            let at = rows.now().get().timestamp;
            rows.put(key, value, at)?;
            Ok(true)
        })
    }

    /// The sessions of a key that end at `earliest_end` or later and start at `latest_start` or earlier, in
    /// the order of (end, start): those that touch the time between the two.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn find(
        &self,
        key: &K,
        earliest_end: i64,
        latest_start: i64,
    ) -> Result<Vec<(Windowed<K>, V)>> {
        self.of_key(key, earliest_end, latest_start, Direction::Forward)
    }

    /// The same, the last first.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn reverse_find(
        &self,
        key: &K,
        earliest_end: i64,
        latest_start: i64,
    ) -> Result<Vec<(Windowed<K>, V)>> {
        self.of_key(key, earliest_end, latest_start, Direction::Back)
    }

    /// All sessions of a key, in the order of (end, start).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn fetch(&self, key: &K) -> Result<Vec<(Windowed<K>, V)>> {
        self.find(key, i64::MIN, i64::MAX)
    }

    fn of_key(
        &self,
        key: &K,
        earliest_end: i64,
        latest_start: i64,
        direction: Direction,
    ) -> Result<Vec<(Windowed<K>, V)>> {
        let first = place_of(&[earliest_end, i64::MIN]);
        let places = Places { first, last: u128::MAX, direction, most: usize::MAX };
        let touches = |place| last_time_of(place) <= latest_start;
        let mut found = Vec::new();
        self.rows.each_of(key, places, touches, |bytes, row| {
            let (key, end, start): (K, i64, i64) = self.rows.key_of(bytes)?;
            found.push((Windowed { key, start, end }, row.value));
            Ok(())
        })?;
        Ok(found)
    }

    /// The same of a range of keys, in the order of (key, end, start).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn find_keys(
        &self,
        keys: impl RangeBounds<K>,
        earliest_end: i64,
        latest_start: i64,
    ) -> Result<Vec<(Windowed<K>, V)>> {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        if let Bound::Included(key) | Bound::Excluded(key) = keys.start_bound() {
            encoded(key, i64::MIN, i64::MIN)(&mut from);
        }
        let to = match keys.end_bound() {
            Bound::Included(key) | Bound::Excluded(key) => {
                encoded(key, i64::MAX, i64::MAX)(&mut to);
                to.push(0);
                Some(to)
            }
            Bound::Unbounded => None,
        };
        self.rows.collect((&from, to.as_deref()), Direction::Forward, |bytes, row| {
            let (key, end, start): (K, i64, i64) = self.rows.key_of(bytes)?;
            let is_wanted = keys.contains(&key) && end >= earliest_end && start <= latest_start;
            Ok(is_wanted.then_some((Windowed { key, start, end }, row.value)))
        })
    }
}
