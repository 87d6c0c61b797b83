//! Values of keys and windows.
//!
//! Invariants
//! * rows lie in the order of their bytes, where rows of a longer key may come between those of another:
//!   what is read by keys is looked at for its length.

use std::ops::{Bound, RangeBounds, RangeInclusive};

use super::Handle;
use crate::codec::Data;
use crate::error::Result;
use crate::key::{Key, WINDOW_BYTES, Windowed, encode_i64, split_windowed, windowed_key};
use crate::operator::{StateStore, StoreLink};
use crate::store::Direction;

/// A store of a processor, from [`Topology::window_store`](crate::Topology::window_store): a value for each
/// key and start of a window.
///
/// A window is there until the clock of the asking record's source partition has reached its start plus the
/// retention; what is put later than that is left out, and counted as late.
///
/// ```
/// use streams::prelude::*;
/// const IN: Topic<String, u64> = topic("in");
/// const SUMS: Topic<String, u64> = topic("sums");
///
/// /// What came in the last three seconds.
/// struct Recent { seconds: WindowStore<String, u64> }
/// impl Processor<String, u64> for Recent {
///     type Key = String;
///     type Out = u64;
///     fn stores(&self) -> Vec<&dyn StateStore> {
///         vec![&self.seconds]
///     }
///     fn record(&mut self, ctx: &mut Ctx<'_, String, u64>, record: Record<String, u64>) -> Processed {
///         let (Some(key), Some(n)) = (record.key, record.value) else { return Ok(()) };
///         let second = record.timestamp / 1_000 * 1_000;
///         let sum = self.seconds.get(&key, second)?.unwrap_or(0);
///         self.seconds.put(&key, second, sum + n)?;
///         let recent = self.seconds.fetch(&key, second - 2_000..=second)?;
///         ctx.forward(key, recent.iter().map(|(_, n)| n).sum())?;
///         Ok(())
///     }
/// }
/// fn topology(t: &mut Topology) {
///     let seconds = t.window_store("seconds", secs(1), secs(60));
///     t.stream(IN).process("recent", Recent { seconds }).to(SUMS);
/// }
/// let mut d = TestDriver::new(topology);
/// for (at, n) in [(1_000, 1), (1_500, 2), (3_000, 4), (4_100, 8)] {
///     d.send_at(IN, "a".into(), n, at);
/// }
/// let sums: Vec<u64> = d.read(SUMS).into_iter().map(|(_, sum)| sum).collect();
/// assert_eq!(sums, [1, 3, 7, 12]);
/// ```
pub struct WindowStore<K, V> {
    rows: Handle<K, V>,
    size_ms: i64,
}

impl<K, V> Clone for WindowStore<K, V> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone(), size_ms: self.size_ms }
    }
}

impl<K, V: Data> StateStore for WindowStore<K, V> {
    fn link(&self) -> StoreLink {
        self.rows.link()
    }
}

impl<K: Key, V: Data> WindowStore<K, V> {
    pub(super) fn new(rows: Handle<K, V>, size_ms: i64) -> Self {
        Self { rows, size_ms }
    }

    fn encoded<'a>(&self, key: &'a K, start: i64) -> impl FnOnce(&mut Vec<u8>) + use<'a, K, V> {
        let end = start.saturating_add(self.size_ms);
        move |out| {
            key.encode(out);
            windowed_key(&[], start, end, out);
        }
    }

    /// The value of a window.
    ///
    /// # Errors
    ///
    /// S026: the store failed; S018: the processor does not list it.
    pub fn get(&self, key: &K, start: i64) -> Result<Option<V>> {
        let row = self.rows.at(self.encoded(key, start), |rows, key| rows.get(key))?;
        Ok(row.map(|row| row.value))
    }

    /// Puts the value of a window; `false`: it is past its retention, left out, and counted as late.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn put(&self, key: &K, start: i64, value: V) -> Result<bool> {
        self.change(key, start, Some(value))
    }

    /// Deletes the value of a window; `false`: it is past its retention.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn delete(&self, key: &K, start: i64) -> Result<bool> {
        self.change(key, start, None)
    }

    fn change(&self, key: &K, start: i64, value: Option<V>) -> Result<bool> {
        self.rows.at(self.encoded(key, start), |rows, key| {
            if rows.is_too_old(start) {
                rows.now().count_too_old();
                return Ok(false);
            }
            let at = rows.now().get().timestamp;
            rows.put(key, value, at)?;
            Ok(true)
        })
    }

    /// The windows of a key that start in a range of times, the earliest first.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn fetch(&self, key: &K, starts: RangeInclusive<i64>) -> Result<Vec<(i64, V)>> {
        self.of_key(key, &starts, Direction::Forward)
    }

    /// The same, the latest first.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn reverse_fetch(&self, key: &K, starts: RangeInclusive<i64>) -> Result<Vec<(i64, V)>> {
        self.of_key(key, &starts, Direction::Back)
    }

    fn of_key(
        &self,
        key: &K,
        starts: &RangeInclusive<i64>,
        direction: Direction,
    ) -> Result<Vec<(i64, V)>> {
        let mut from = Vec::new();
        key.encode(&mut from);
        let bytes = from.len() + WINDOW_BYTES;
        let mut to = from.clone();
        from.extend_from_slice(&encode_i64(*starts.start()));
        to.extend_from_slice(&encode_i64(*starts.end()));
        to.extend_from_slice(&[u8::MAX; 9]);
        self.rows.collect((&from, Some(&to)), direction, |key, row| {
            let start =
                split_windowed(key).filter(|_| key.len() == bytes).map(|(_, start, _)| start);
            Ok(start.filter(|start| starts.contains(start)).map(|start| (start, row.value)))
        })
    }

    /// The windows of a range of keys that start in a range of times; `fetch_keys(.., ..)` are all. Those of
    /// one key come in the order of time.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn fetch_keys(
        &self,
        keys: impl RangeBounds<K>,
        starts: RangeInclusive<i64>,
    ) -> Result<Vec<(Windowed<K>, V)>> {
        self.of_keys(&keys, &starts, Direction::Forward)
    }

    /// The same the other way round.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn reverse_fetch_keys(
        &self,
        keys: impl RangeBounds<K>,
        starts: RangeInclusive<i64>,
    ) -> Result<Vec<(Windowed<K>, V)>> {
        self.of_keys(&keys, &starts, Direction::Back)
    }

    fn of_keys(
        &self,
        keys: &impl RangeBounds<K>,
        starts: &RangeInclusive<i64>,
        direction: Direction,
    ) -> Result<Vec<(Windowed<K>, V)>> {
        let (from, to) = (edge(keys.start_bound()), edge(keys.end_bound()));
        let from = from.unwrap_or_default();
        let to = to.map(|to| last_row(&from, &to));
        self.rows.collect((&from, to.as_deref()), direction, |bytes, row| {
            let Some((_, start, _)) = split_windowed(bytes) else { return Ok(None) };
            if !starts.contains(&start) {
                return Ok(None);
            }
            let window: Windowed<K> = self.rows.key_of(bytes)?;
            Ok(keys.contains(&window.key).then_some((window, row.value)))
        })
    }

    /// The windows of all keys that start in a range of times, in the order of (start, key). Costs what is
    /// found, however many others there are.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn fetch_all(&self, starts: RangeInclusive<i64>) -> Result<Vec<(Windowed<K>, V)>> {
        let keys = self.rows.with(|rows| rows.keys_between(*starts.start(), *starts.end()))?;
        let mut found = Vec::new();
        for bytes in keys {
            if let Some(row) = self.rows.with(|rows| rows.get(&bytes))? {
                found.push((self.rows.key_of(&bytes)?, row.value));
            }
        }
        Ok(found)
    }

    /// The same, the latest first.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn reverse_fetch_all(&self, starts: RangeInclusive<i64>) -> Result<Vec<(Windowed<K>, V)>> {
        let mut found = self.fetch_all(starts)?;
        found.reverse();
        Ok(found)
    }
}

fn edge<K: Key>(bound: Bound<&K>) -> Option<Vec<u8>> {
    let (Bound::Included(key) | Bound::Excluded(key)) = bound else { return None };
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    Some(bytes)
}

/// Bytes behind every row of a key up to this one: also of a shorter key with which it begins, as the
/// window follows it.
fn last_row(from: &[u8], to: &[u8]) -> Vec<u8> {
    let shorter = (0..=to.len()).map(|len| &to[..len]).find(|shorter| *shorter >= from);
    let mut last = shorter.unwrap_or(to).to_vec();
    last.extend_from_slice(&[u8::MAX; WINDOW_BYTES + 1]);
    last
}
