//! Snappy blocks in the framing of snappy-java ("xerial"), and one block without any framing.
//!
//! Why two: Java producers write the framing, some others a bare block; readers take both.
//!
//! ```text
//!   82 'S' 'N' 'A' 'P' 'P' 'Y' 00 | version i32 (1) | compatible with i32 (1)
//!   | length i32 | block | length i32 | block | ...          integers big-endian
//!
//!   block:  varint, bytes it decompresses to | elements
//! ```
//!
//! Invariants
//! * The length that a block claims is believed only as far as its bytes can reach: an element of 3
//!   bytes gives at most 64.
//! * Where a block is due the header may stand again, as when streams were joined.
//!
//! Reference: snappy-java `SnappyOutputStream`, `SnappyInputStream`; Kafka `SnappyCompression`.

use super::{DecodeError, Output};

const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const MAGIC_LEN: usize = 8;
/// How many bytes snappy-java puts into a block.
const BLOCK_BYTES: usize = 32 << 10;
/// No byte of a block gives more than this many.
const RATIO_MAX: usize = 22;

pub(super) fn compress(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&HEADER);
    let mut encoder = snap::raw::Encoder::new();
    for block in bytes.chunks(BLOCK_BYTES) {
        let length_at = out.len();
        let start = length_at + 4;
        out.resize(start + snap::raw::max_compress_len(block.len()), 0);
        let written = encoder.compress(block, &mut out[start..]);
        let written = written.expect("there is room for the worst case");
        let length = i32::try_from(written).expect("a block is far smaller than 2 GiB");
        out[length_at..start].copy_from_slice(&length.to_be_bytes());
        out.truncate(start + written);
    }
}

pub(super) fn decompress(bytes: &[u8], output: &mut Output) -> Result<(), DecodeError> {
    if !bytes.starts_with(&HEADER[..MAGIC_LEN]) {
        return block(bytes, output);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        if rest.starts_with(&HEADER[..MAGIC_LEN]) {
            // Versions of the framing have no effect on what follows.
            rest = rest.get(HEADER.len()..).ok_or_else(|| output.malformed("it has no header"))?;
            continue;
        }
        let (length, behind) =
            rest.split_first_chunk().ok_or_else(|| output.malformed("a block has no length"))?;
        let length = usize::try_from(i32::from_be_bytes(*length));
        let length =
            length.map_err(|_negative| output.malformed("a block's length is negative"))?;
        let (one, behind) = behind
            .split_at_checked(length)
            .ok_or_else(|| output.malformed("a block is longer than what is there"))?;
        block(one, output)?;
        rest = behind;
    }
    Ok(())
}

fn block(bytes: &[u8], output: &mut Output) -> Result<(), DecodeError> {
    let length = snap::raw::decompress_len(bytes)
        .map_err(|_malformed| output.malformed("a block does not say how long it becomes"))?;
    if length > bytes.len().saturating_mul(RATIO_MAX) {
        return Err(output.malformed("a block claims more than it can hold"));
    }
    let written = snap::raw::Decoder::new().decompress(bytes, output.room(length)?);
    match written {
        Ok(written) if written == length => Ok(()),
        _ => Err(output.malformed("a block is malformed")),
    }
}
