//! Rows of a key that lie side by side in the order of time: its sessions, its versions.
//!
//! ```text
//!   key of a row    key | end, start      key | from
//!   asked for       which of them there are: the tail of the key, in memory; then each row by one look-up
//!   index entry     (time, key): one for a key, at the time of its earliest row that has one, or before
//!
//!   expire   sessions: those that are past        versions: those that were over when the last one that
//!                                                 is past began, and that one if it stands for none
//! ```
//!
//! Invariants
//! * a key with a row that can be deleted one day has an entry at that row's time or before.
//! * a version that is the only one of its key, and stands for a value, has none: it is kept for ever.
//! * an entry that comes due is moved to the next row that is not past, or dropped where there is none.

use super::{Ages, Kept};
use crate::codec::Data;
use crate::error::Result;
use crate::store::{Direction, Places, Stored};
use crate::time::Stamp;

impl<A: Data> Kept<A> {
    /// Calls `take` for the rows of a key that are asked for, that are `wanted` by their places, and that
    /// the record at hand sees.
    pub(crate) fn each_of(
        &mut self,
        group: &[u8],
        places: Places,
        wanted: impl Fn(u128) -> bool,
        mut take: impl FnMut(&[u8], Stored<A>) -> Result<()>,
    ) -> Result<()> {
        let places = self.tails.places(&mut self.rows, group, places)?;
        let mut key = Vec::with_capacity(group.len() + size_of::<u128>());
        for place in places.into_iter().filter(|&place| wanted(place)) {
            key.clear();
            self.tails.write_key(group, place, &mut key);
            if let Some(row) = self.get(&key)? {
                take(&key, row)?;
            }
        }
        Ok(())
    }

    /// Which rows of a key there are.
    pub(crate) fn places(&mut self, group: &[u8], places: Places) -> Result<Vec<u128>> {
        Ok(self.tails.places(&mut self.rows, group, places)?)
    }

    /// Puts or deletes a row of a key with several.
    pub(super) fn put_of_group(
        &mut self,
        key: &[u8],
        value: Option<A>,
        timestamp: i64,
    ) -> Result<()> {
        let (is_there, is_void) = (value.is_some(), value.as_ref().is_some_and(self.is_void));
        let place = self.tails.note(&mut self.rows, key, is_there)?;
        let stamp = Stamp { timestamp, source_time: timestamp };
        self.rows.at(place).replace(value, stamp);
        if !is_there || self.keep_ms.is_none() {
            return Ok(());
        }
        let group = self.tails.split(key).0;
        let at = self.ages.of(key, timestamp);
        if self.tails.entry(group).is_some_and(|entry| entry <= at) {
            return Ok(());
        }
        if self.ages == Ages::Version && !is_void && self.tails.is_alone(key) {
            return Ok(());
        }
        self.tails.set_entry(group, Some(at));
        self.add_entry(at, group);
        Ok(())
    }

    /// The entry of a key is due: what is past goes; the time of its next entry.
    pub(super) fn expire_group(&mut self, group: &[u8], time: i64) -> Result<Option<i64>> {
        let Some(keep_ms) = self.keep_ms else { return Ok(None) };
        let Some(last) = time.checked_sub(keep_ms) else { return Ok(None) };
        let last = self.last_at(last);
        let all = Places { first: 0, last, direction: Direction::Forward, most: usize::MAX };
        let mut past = self.places(group, all)?;
        let mut key = Vec::new();
        let held = if self.ages == Ages::Version { past.pop() } else { None };
        for place in past {
            self.delete_at(group, place, time, &mut key)?;
        }
        let mut nothing_before = last.saturating_add(1);
        if let Some(held) = held {
            key.clear();
            self.tails.write_key(group, held, &mut key);
            let row = self.rows.find(&key)?;
            if self.rows.at(row).value.as_ref().is_some_and(self.is_void) {
                self.delete_at(group, held, time, &mut key)?;
            } else {
                nothing_before = held;
            }
        }
        let first = last.saturating_add(1);
        let next = Places { first, last: u128::MAX, direction: Direction::Forward, most: 1 };
        let next = self.places(group, next)?.first().copied();
        let next = next.map(|place| {
            key.clear();
            self.tails.write_key(group, place, &mut key);
            self.ages.of(&key, i64::MAX)
        });
        self.tails.set_nothing_before(group, nothing_before);
        self.tails.set_entry(group, next);
        if let Some(next) = next {
            self.add_entry(next, group);
        }
        Ok(next)
    }

    /// The last place of a row with this time.
    fn last_at(&self, time: i64) -> u128 {
        let bytes = [crate::key::encode_i64(time), [u8::MAX; 8]].concat();
        self.tails.split(&bytes[..self.ages.place_bytes()]).1
    }

    fn delete_at(&mut self, group: &[u8], place: u128, time: i64, key: &mut Vec<u8>) -> Result<()> {
        key.clear();
        self.tails.write_key(group, place, key);
        let row = self.tails.note(&mut self.rows, key, false)?;
        self.rows.at(row).replace(None, Stamp { timestamp: time, source_time: time });
        Ok(())
    }
}
