//! Which slices may have rows: what is not known here need not be looked for in the store. Pure.
//!
//! Why: most records of a join are the first of their key in their slice, on both sides. Looked for in a
//! store with millions of other rows, each of them would cost more than all the rest of the join.
//!
//! ```text
//!   slice number -> Bloom filters, each eight times as large as the one before: 12 bits a key
//!                   or "some", for what a restart found
//! ```
//!
//! Invariants
//! * a slice that was put here is never denied; one of a hundred others is looked for in vain.

use std::collections::BTreeMap;

const FIRST_CAPACITY: usize = 4 * 1024;
const GROWTH: usize = 8;
const BITS_PER_KEY: usize = 12;
const PROBES: u32 = 6;

struct Bloom {
    bits: Vec<u64>,
    left: usize,
}

impl Bloom {
    fn new(capacity: usize) -> Self {
        let words = (capacity * BITS_PER_KEY / 64).next_power_of_two();
        Self { bits: vec![0; words], left: capacity }
    }

    /// The words and bits that a hash stands for.
    fn places(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let mask = self.bits.len() - 1;
        let step = (hash >> 32) | 1;
        (0..PROBES).map(move |i| {
            let mixed = hash.wrapping_add(step.wrapping_mul(u64::from(i)));
            let word = usize::try_from(mixed >> 6 & 0xffff_ffff).expect("32 bits fit a usize");
            (word & mask, 1 << (mixed & 63))
        })
    }

    fn add(&mut self, hash: u64) {
        for (word, bit) in self.places(hash) {
            self.bits[word] |= bit;
        }
        self.left -= 1;
    }

    fn may_have(&self, hash: u64) -> bool {
        self.places(hash).all(|(word, bit)| self.bits[word] & bit != 0)
    }
}

/// `None`: there are some, and which is not known.
#[derive(Default)]
pub(super) struct KnownSlices(BTreeMap<i64, Option<Vec<Bloom>>>);

impl KnownSlices {
    /// Notes that a restart found slices of this number.
    pub(super) fn found(&mut self, number: i64) {
        self.0.insert(number, None);
    }

    pub(super) fn add(&mut self, number: i64, hash: u64) {
        let Some(filters) = self.0.entry(number).or_insert_with(|| Some(Vec::new())) else {
            return;
        };
        if filters.last().is_none_or(|filter| filter.left == 0) {
            let capacity = filters.iter().fold(FIRST_CAPACITY, |capacity, _| capacity * GROWTH);
            filters.push(Bloom::new(capacity));
        }
        if let Some(last) = filters.last_mut() {
            last.add(hash);
        }
    }

    pub(super) fn may_have(&self, number: i64, hash: u64) -> bool {
        self.0.get(&number).is_some_and(|known| {
            known.as_ref().is_none_or(|filters| filters.iter().any(|f| f.may_have(hash)))
        })
    }

    /// Forgets the slices before this one.
    pub(super) fn forget_before(&mut self, number: i64) {
        self.0 = self.0.split_off(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(i: u64) -> u64 {
        let z = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (z ^ (z >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    fn what_was_put_is_never_denied_and_little_else_is_claimed() {
        let mut known = KnownSlices::default();
        for i in 0..50_000 {
            known.add(7, hash(i));
        }
        assert!((0..50_000).all(|i| known.may_have(7, hash(i))));
        let claimed = (50_000..60_000).filter(|&i| known.may_have(7, hash(i))).count();
        assert!(claimed < 300, "{claimed} of 10 000");
        assert!(!known.may_have(8, hash(1)));
        known.found(8);
        assert!(known.may_have(8, hash(1)));
        known.forget_before(8);
        assert!(!known.may_have(7, hash(1)));
        assert!(known.may_have(8, hash(1)));
    }
}
