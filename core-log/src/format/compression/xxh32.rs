//! The 32-bit xxHash with seed 0, which LZ4 frames carry. Pure.
//!
//! ```text
//!   four lanes of 4 bytes each, 16 bytes a round -> joined -> the rest by 4 and by 1 -> mixed
//! ```
//!
//! Reference: xxHash specification, XXH32.

const PRIMES: [u32; 5] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f, 0x1656_67b1];

pub(super) fn xxh32(bytes: &[u8]) -> u32 {
    let [p1, p2, p3, p4, p5] = PRIMES;
    let (stripes, rest) = bytes.as_chunks::<16>();
    let mut hash = if stripes.is_empty() {
        p5
    } else {
        let mut lanes = [p1.wrapping_add(p2), p2, 0, 0_u32.wrapping_sub(p1)];
        for stripe in stripes {
            for (lane, word) in lanes.iter_mut().zip(stripe.as_chunks::<4>().0) {
                let added = u32::from_le_bytes(*word).wrapping_mul(p2);
                *lane = lane.wrapping_add(added).rotate_left(13).wrapping_mul(p1);
            }
        }
        let [a, b, c, d] = lanes;
        let joined = a.rotate_left(1).wrapping_add(b.rotate_left(7));
        joined.wrapping_add(c.rotate_left(12)).wrapping_add(d.rotate_left(18))
    };
    // The length counts modulo 2^32.
    let [.., e, f, g, h] = (bytes.len() as u64).to_be_bytes();
    hash = hash.wrapping_add(u32::from_be_bytes([e, f, g, h]));
    let (words, last) = rest.as_chunks::<4>();
    for word in words {
        let added = u32::from_le_bytes(*word).wrapping_mul(p3);
        hash = hash.wrapping_add(added).rotate_left(17).wrapping_mul(p4);
    }
    for byte in last {
        let added = u32::from(*byte).wrapping_mul(p5);
        hash = hash.wrapping_add(added).rotate_left(11).wrapping_mul(p1);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(p2);
    hash = (hash ^ (hash >> 13)).wrapping_mul(p3);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_specification() {
        assert_eq!(xxh32(b""), 0x02cc_5d05);
        assert_eq!(xxh32(b"a"), 0x550d_7456);
        assert_eq!(xxh32(b"abc"), 0x32d1_53ff);
        assert_eq!(xxh32(b"Nobody inspects the spammish repetition"), 0xe229_3b2f);
    }
}
