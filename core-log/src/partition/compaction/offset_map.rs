//! The last offset of each key, in memory of a fixed size. Pure.
//!
//! Why hashes: keys may be large, and there may be more of them than fit. Why keyed: two keys that
//! were taken for one would lose a record; with a secret of 128 bits that nobody outside knows, nobody
//! can choose such keys, and among the 5 million keys that fit, chance needs more than 10^24 attempts.
//!
//! ```text
//!   key --SipHash-2-4-128, secret of this pass--> | hash 16 | offset + 1, 0: free 8 |   linear probing
//! ```
//!
//! Invariants
//! * Takes at most [`BYTES_MAX`], however many keys there are; a map that is full says so.
//! * An offset is the largest that was put for its key, as offsets are put in order.
//!
//! Reference: Kafka `SkimpyOffsetMap`, which uses MD5 without a secret; "SipHash: a fast short-input PRF"
//! (Aumasson, Bernstein, 2012).

use crate::ids::Offset;

/// How much memory the map may take (`log.cleaner.dedupe.buffer.size`).
pub(crate) const BYTES_MAX: usize = 128 << 20;
const SLOT_BYTES: usize = 24;
/// Of so many slots, nine are used at most (`log.cleaner.io.buffer.load.factor` is 0.9).
const LOAD: (usize, usize) = (9, 10);

/// What keys are hashed with, chosen at random for each pass.
#[derive(Clone, Copy)]
pub(crate) struct Secret(pub(crate) [u8; 16]);

/// The last offset of each key.
pub(crate) struct OffsetMap {
    secret: [u64; 2],
    slots: Vec<[u64; 3]>,
    used: usize,
    used_max: usize,
    latest: Offset,
}

impl std::fmt::Debug for OffsetMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OffsetMap({} of {} keys, up to {})", self.used, self.used_max, self.latest)
    }
}

impl OffsetMap {
    /// A map for at most so many keys, or as many as fit; it begins to speak at offset `from`.
    pub(crate) fn new(secret: Secret, keys: u64, from: Offset, bytes_max: usize) -> Self {
        let wanted = usize::try_from(keys).unwrap_or(usize::MAX);
        let wanted = (wanted / LOAD.0).saturating_mul(LOAD.1).saturating_add(2 * LOAD.1);
        let slots = wanted.min(bytes_max / SLOT_BYTES).max(2 * LOAD.1);
        let word = |at: usize| {
            u64::from_le_bytes(*secret.0[at..].first_chunk().expect("two words in a secret"))
        };
        Self {
            secret: [word(0), word(8)],
            slots: vec![[0; 3]; slots],
            used: 0,
            used_max: slots / LOAD.1 * LOAD.0,
            latest: from - 1,
        }
    }

    /// The last offset that the map speaks of.
    pub(crate) fn latest(&self) -> Offset {
        self.latest
    }

    /// The map speaks of everything up to here.
    pub(crate) fn speaks_up_to(&mut self, last_offset: Offset) {
        self.latest = self.latest.max(last_offset);
    }

    /// Remembers the offset of a key; false when it does not fit.
    pub(crate) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = siphash_128(self.secret, key);
        let at = self.find(hash);
        let slot = &mut self.slots[at];
        if slot[2] == 0 {
            if self.used >= self.used_max {
                return false;
            }
            self.used += 1;
        }
        *slot = [hash[0], hash[1], (offset + 1).cast_unsigned()];
        true
    }

    /// The last offset of a key, `None` when it was not put.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Offset> {
        let [.., offset] = self.slots[self.find(siphash_128(self.secret, key))];
        offset.checked_sub(1).map(u64::cast_signed)
    }

    /// The slot of a hash, or the free one where it would be; there is always a free one.
    fn find(&self, hash: [u64; 2]) -> usize {
        let count = self.slots.len() as u64;
        let mut at = usize::try_from(hash[0] % count).expect("a slot's number fits");
        loop {
            let slot = self.slots[at];
            if slot[2] == 0 || [slot[0], slot[1]] == hash {
                return at;
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
    }
}

/// One round of SipHash.
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

/// SipHash-2-4 with 128 bits of output.
fn siphash_128(secret: [u64; 2], bytes: &[u8]) -> [u64; 2] {
    let [k0, k1] = secret;
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut absorb = |word: u64| {
        v[3] ^= word;
        round(&mut v);
        round(&mut v);
        v[0] ^= word;
    };
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| absorb(u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = u8::try_from(bytes.len() % 256).expect("a remainder of 256 fits");
    absorb(u64::from_le_bytes(last));
    let mut finish = |flip: usize, with: u64| {
        v[flip] ^= with;
        (0..4).for_each(|_| round(&mut v));
        v[0] ^ v[1] ^ v[2] ^ v[3]
    };
    [finish(2, 0xee), finish(1, 0xdd)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret(std::array::from_fn(|at| u8::try_from(at).unwrap()))
    }

    #[test]
    fn the_hash_has_the_bytes_of_its_reference() {
        let OffsetMap { secret, .. } = OffsetMap::new(secret(), 1, 0, BYTES_MAX);
        let hex = |input: &[u8]| {
            let words = siphash_128(secret, input).map(u64::to_le_bytes);
            crate::format::hex::to_hex(&words.concat())
        };
        assert_eq!(hex(&[]), "a3817f04ba25a8e66df67214c7550293");
        assert_eq!(hex(&[0]), "da87c1d86b99af44347659119b22fc45");
    }

    #[test]
    fn a_key_has_its_last_offset_and_others_have_none() {
        let mut map = OffsetMap::new(secret(), 1_000, 5, BYTES_MAX);
        assert_eq!(map.latest(), 4);
        for offset in 0..3_000_i64 {
            assert!(map.put(&(offset % 900).to_be_bytes(), offset));
        }
        map.speaks_up_to(2_999);
        for key in 0..900_i64 {
            let last = if key < 300 { 2_700 + key } else { 1_800 + key };
            assert_eq!(map.get(&key.to_be_bytes()), Some(last));
        }
        assert_eq!((map.get(&900_i64.to_be_bytes()), map.get(b"")), (None, None));
        assert_eq!(map.latest(), 2_999);
    }

    #[test]
    fn a_map_that_is_full_takes_known_keys_only() {
        let mut map = OffsetMap::new(secret(), u64::MAX, 0, 20 * SLOT_BYTES);
        let put = (0..100_u8).filter(|key| map.put(&[*key], 1)).count();
        assert_eq!((put, map.slots.len()), (18, 20));
        assert!(map.put(&[0], 7) && !map.put(&[99], 7));
        assert_eq!((map.get(&[0]), map.get(&[99])), (Some(7), None));
    }

    #[test]
    fn another_secret_gives_other_hashes() {
        let hash = |first: u64| siphash_128([first, 1], b"key");
        assert_ne!(hash(0), hash(1));
    }
}
