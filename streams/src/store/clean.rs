//! Committed rows that are on disk too, kept in memory up to a limit: two generations.
//!
//! Why: a row that was read or flushed a moment ago is likely to be wanted again. Two generations
//! approximate "least recently used" at the price of one insert, with no list to maintain, and a
//! flushed level becomes one as a whole.
//!
//! ```text
//!   read from the store, used again  ->  young  -- half of the limit -->  old  --> forgotten
//!   flushed level                    ->  young, or old if it alone is more than half
//! ```
//!
//! Invariants
//! * a row in `young` is never older than the same row in `old`, and `old` is forgotten first.
//! * a flushed row replaces what was known of it, or everything is forgotten.
//! * both together hold at most `bytes_max`.

use std::mem;

use bytes::Bytes;

use super::level::{Level, Tag};

pub(super) struct CleanRows {
    young: Level,
    old: Level,
    bytes_max: usize,
}

impl CleanRows {
    pub(super) fn new(bytes_max: usize) -> Self {
        CleanRows { young: Level::default(), old: Level::default(), bytes_max }
    }

    pub(super) fn bytes(&self) -> usize {
        self.young.bytes() + self.old.bytes()
    }

    pub(super) fn clear(&mut self) {
        self.young = Level::default();
        self.old = Level::default();
    }

    /// `Some(None)`: the row is known to be absent.
    pub(super) fn get(&mut self, tag: Tag, key: &[u8]) -> Option<Option<Bytes>> {
        if let Some(value) = self.young.get(tag, key) {
            return Some(value.cloned());
        }
        // Copied, or else a row that stays would keep the buffer that it shares with others.
        let value = self.old.get(tag, key)?.map(|value| Bytes::copy_from_slice(value));
        self.put(Bytes::copy_from_slice(key), value.clone());
        Some(value)
    }

    /// Remembers a row as it is on disk now.
    pub(super) fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        self.young.put(key, value);
        if self.young.bytes() > self.bytes_max / 2 {
            self.old = mem::take(&mut self.young);
        }
        if self.bytes() > self.bytes_max {
            self.old = Level::default();
        }
    }

    /// Remembers the rows of a finished flush.
    pub(super) fn put_level(&mut self, mut flushed: Level) {
        flushed.forget_order();
        if flushed.bytes() > self.bytes_max {
            self.clear();
        } else if flushed.bytes() > self.bytes_max / 2 {
            self.clear();
            self.old = flushed;
        } else if flushed.rows() * 8 < self.young.rows() {
            for (key, value) in flushed.into_rows() {
                let value = value.map(|value| Bytes::copy_from_slice(&value));
                self.put(Bytes::copy_from_slice(&key), value);
            }
        } else {
            self.old = mem::replace(&mut self.young, flushed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const BYTES_MAX: usize = 1500;

    #[test]
    fn a_row_that_is_used_survives_rows_that_are_not() {
        let mut clean = CleanRows::new(BYTES_MAX);
        let hot = Bytes::from_static(b"\x01hot");
        clean.put(hot.clone(), Some(Bytes::from_static(b"v")));
        for cold in 0u32..100 {
            clean.put(Bytes::copy_from_slice(&cold.to_be_bytes()), None);
            assert_eq!(clean.get(Tag::of(&hot), &hot), Some(Some(Bytes::from_static(b"v"))));
        }
        let cold = 0u32.to_be_bytes();
        assert_eq!(clean.get(Tag::of(&cold), &cold), None);
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let mut clean = CleanRows::new(0);
        clean.put(Bytes::from_static(b"\x01a"), None);
        assert_eq!(clean.get(Tag::of(b"\x01a"), b"\x01a"), None);
        assert_eq!(clean.bytes(), 0);
    }

    proptest! {
        /// What is remembered is always the latest, and within the limit, whatever was forgotten.
        #[test]
        fn nothing_stale_is_ever_remembered(
            steps in prop::collection::vec((prop::collection::vec(0u8..20, 0..12), any::<bool>()), 0..60)
        ) {
            let mut clean = CleanRows::new(BYTES_MAX);
            let mut disk = BTreeMap::new();
            for (number, (keys, is_flush)) in (0u64..).zip(steps) {
                let value = Some(Bytes::copy_from_slice(&number.to_be_bytes()));
                let mut level = Level::default();
                for key in keys {
                    let key = Bytes::copy_from_slice(&[1, key]);
                    if is_flush {
                        disk.insert(key.clone(), value.clone());
                        level.put(key, value.clone());
                    } else {
                        let row = disk.get(&key).cloned().flatten();
                        let known = clean.get(Tag::of(&key), &key);
                        prop_assert!(known.is_none() || known == Some(row.clone()));
                        if known.is_none() {
                            clean.put(key, row);
                        }
                    }
                }
                clean.put_level(level);
                prop_assert!(clean.bytes() <= BYTES_MAX);
                for (key, row) in &disk {
                    let known = clean.get(Tag::of(key), key);
                    prop_assert!(known.is_none() || known.as_ref() == Some(row));
                }
            }
        }
    }
}
