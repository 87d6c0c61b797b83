//! The sidecar that says what a complete segment consists of.
//!
//! Why: opening a log must not read its segments, and must notice when one of them is not what it
//! was. Kafka's indexes carry no checksum, and two header fields of a batch lie outside its own.
//!
//! Layout (72 bytes, big-endian):
//!
//! ```text
//!    0  magic "HWSL"            4   version u16 (1)          6  zero u16
//!    8  .log bytes u64         16   end offset i64 (exclusive)
//!   24  largest timestamp i64       (i64::MIN: no batches)
//!   32  headers' digest u32         CRC-32C of all batch headers, 61 bytes each, in order
//!   36  .index     bytes u32 + CRC-32C u32
//!   44  .timeindex bytes u32 + CRC-32C u32
//!   52  .txnindex  bytes u32 + CRC-32C u32      60  zero u64
//!   68  CRC-32C u32 of bytes 0..68
//! ```
//!
//! Invariants
//! * That of a complete segment is written after everything that it speaks of was synced.
//! * That of the last segment speaks of the front that was there when it was written, at a clean close or
//!   after some megabytes; it says nothing of indexes, nor of what is on the disk. Recovery removes it.
//!
//! On crash: one that is missing or wrong is made again from the `.log` file, all of which is then
//! read and verified.

use crate::ids::{Offset, Timestamp};

pub(crate) const SEAL_LEN: usize = 72;
const MAGIC: &[u8; 4] = b"HWSL";
const VERSION: u16 = 1;

/// Size and checksum of an index file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileDigest {
    pub(crate) len: u32,
    pub(crate) crc: u32,
}

impl FileDigest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).expect("an index is far smaller than its segment");
        Self { len, crc: crc32c::crc32c(bytes) }
    }
}

/// What a complete segment consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) log_len: u64,
    pub(crate) end_offset: Offset,
    pub(crate) largest_timestamp: Timestamp,
    pub(crate) headers_digest: u32,
    pub(crate) offset_index: FileDigest,
    pub(crate) time_index: FileDigest,
    pub(crate) txn_index: FileDigest,
}

impl Seal {
    pub(crate) fn encode(&self) -> [u8; SEAL_LEN] {
        let mut bytes = [0; SEAL_LEN];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.log_len.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.end_offset.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.largest_timestamp.to_be_bytes());
        bytes[32..36].copy_from_slice(&self.headers_digest.to_be_bytes());
        let files = [self.offset_index, self.time_index, self.txn_index];
        for (file, at) in files.iter().zip([36, 44, 52]) {
            bytes[at..at + 4].copy_from_slice(&file.len.to_be_bytes());
            bytes[at + 4..at + 8].copy_from_slice(&file.crc.to_be_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..68]);
        bytes[68..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Whether it can be the seal of a segment with this base offset: its indexes must express it.
    pub(crate) fn fits(&self, base_offset: Offset) -> bool {
        let offsets = self.end_offset.checked_sub(base_offset);
        offsets.is_some_and(|count| (0..=1 << 31).contains(&count))
            && u32::try_from(self.log_len).is_ok()
    }

    /// The seal, or `None` when the bytes are none, or not as they were written.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SEAL_LEN] = bytes.try_into().ok()?;
        let u32_at =
            |at: usize| u32::from_be_bytes(*bytes[at..].first_chunk().expect("within the seal"));
        let i64_at =
            |at: usize| i64::from_be_bytes(*bytes[at..].first_chunk().expect("within the seal"));
        let file = |at: usize| FileDigest { len: u32_at(at), crc: u32_at(at + 4) };
        if crc32c::crc32c(&bytes[..68]) != u32_at(68)
            || &bytes[..4] != MAGIC
            || bytes[4..6] != VERSION.to_be_bytes()
        {
            return None;
        }
        Some(Self {
            log_len: u64::try_from(i64_at(8)).ok()?,
            end_offset: i64_at(16),
            largest_timestamp: i64_at(24),
            headers_digest: u32_at(32),
            offset_index: file(36),
            time_index: file(44),
            txn_index: file(52),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAL: Seal = Seal {
        log_len: 0x0102,
        end_offset: 0x0304,
        largest_timestamp: -2,
        headers_digest: 0x0506_0708,
        offset_index: FileDigest { len: 8, crc: 1 },
        time_index: FileDigest { len: 12, crc: 2 },
        txn_index: FileDigest { len: 34, crc: 3 },
    };

    #[test]
    fn a_seal_has_these_bytes() {
        let expected = "4857534c0001000000000000000001020000000000000304fffffffffffffffe05060708\
                        00000008000000010000000c0000000200000022000000030000000000000000";
        let bytes = SEAL.encode();
        assert_eq!(crate::format::hex::to_hex(&bytes[..68]), expected);
        assert_eq!(Seal::decode(&bytes), Some(SEAL));
    }

    #[test]
    fn a_seal_that_no_segment_can_have_fits_none() {
        assert!(SEAL.fits(0) && SEAL.fits(SEAL.end_offset));
        assert!(!SEAL.fits(SEAL.end_offset + 1));
        assert!(!Seal { end_offset: i64::MAX, ..SEAL }.fits(0));
        assert!(!Seal { end_offset: i64::MIN, ..SEAL }.fits(i64::MAX));
        assert!(!Seal { log_len: 1 << 32, ..SEAL }.fits(0));
    }

    #[test]
    fn every_changed_bit_and_every_other_length_is_noticed() {
        let bytes = SEAL.encode();
        for position in 0..SEAL_LEN {
            for bit in 0..8 {
                let mut changed = bytes;
                changed[position] ^= 1 << bit;
                assert_eq!(Seal::decode(&changed), None, "bit {bit} of byte {position}");
            }
            assert_eq!(Seal::decode(&bytes[..position]), None);
        }
    }
}
