//! A small deterministic source of choices for the simulator (SplitMix64).
//!
//! Why not a crate: the sequence of a seed is part of how a failure is repeated, and must not change
//! with a dependency.

/// The choices of one seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 if there is none.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next().checked_rem(limit).unwrap_or(0)
    }

    /// One of these numbers; 0 if there is none.
    pub(crate) fn one_of(&mut self, numbers: &[u64]) -> u64 {
        let count = u64::try_from(numbers.len()).expect("a count fits 64 bits");
        let index = usize::try_from(self.below(count)).expect("below a count");
        numbers.get(index).copied().unwrap_or(0)
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let bound = u64::try_from(i + 1).expect("an index fits 64 bits");
            let j = usize::try_from(self.below(bound)).expect("below an index");
            items.swap(i, j);
        }
    }
}
