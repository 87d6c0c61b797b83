//! The unmatched entries that are due next, at hand without a look into the store. Pure.
//!
//! ```text
//!   entries, in order of time   | more_from
//!   [a b c d e .. at most 2048] | what lies behind is read when these are used up
//! ```
//!
//! Invariants
//! * every entry before `more_from` is here; without one, every entry is.

use std::collections::BTreeSet;

/// Entries that are read ahead.
pub(super) const UPCOMING_MAX: usize = 1_024;

/// The first of the unmatched entries.
#[derive(Default)]
pub(super) struct Upcoming {
    entries: BTreeSet<Vec<u8>>,
    /// There may be more from here on; `None`: these are all.
    more_from: Option<Vec<u8>>,
}

impl Upcoming {
    pub(super) fn first(&self) -> Option<&[u8]> {
        self.entries.first().map(Vec::as_slice)
    }

    pub(super) fn add(&mut self, entry: &[u8]) {
        if self.more_from.as_ref().is_none_or(|from| entry < &from[..]) {
            self.entries.insert(entry.to_vec());
            if self.entries.len() > 2 * UPCOMING_MAX {
                let from = self.entries.iter().nth(UPCOMING_MAX).cloned();
                if let Some(from) = from {
                    self.entries.split_off(&from);
                    self.more_from = Some(from);
                }
            }
        }
    }

    pub(super) fn remove(&mut self, entry: &[u8]) {
        self.entries.remove(entry);
    }

    /// Where to read on, when there is nothing at hand.
    pub(super) fn ends_at(&self) -> Option<&[u8]> {
        self.more_from.as_deref().filter(|_| self.entries.is_empty())
    }

    /// Takes the entries that follow; as many as were asked for means that there may be more.
    pub(super) fn go_on(&mut self, entries: Vec<Vec<u8>>) {
        self.more_from = entries.last().filter(|_| entries.len() == UPCOMING_MAX).map(|last| {
            let mut from = last.clone();
            from.push(0);
            from
        });
        self.entries.extend(entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is added, removed and read ahead, the first entry is that of a plain set.
        #[test]
        fn the_first_entry_is_always_at_hand(
            steps in prop::collection::vec((any::<bool>(), 0_u16..6_000), 0..9_000),
        ) {
            let (mut upcoming, mut all) = (Upcoming::default(), BTreeSet::new());
            for (adds, number) in steps {
                let entry = number.to_be_bytes().to_vec();
                if adds {
                    upcoming.add(&entry);
                    all.insert(entry);
                } else {
                    upcoming.remove(&entry);
                    all.remove(&entry);
                }
                while let Some(from) = upcoming.ends_at().map(<[u8]>::to_vec) {
                    upcoming.go_on(all.range(from..).take(UPCOMING_MAX).cloned().collect());
                }
                prop_assert_eq!(upcoming.first(), all.first().map(Vec::as_slice));
            }
        }
    }
}
