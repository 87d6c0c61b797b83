//! Zstandard frames.
//!
//! Why in one piece: a streaming decoder sets aside the window that a frame claims; decompressing
//! straight into the output needs no window beside it. Frames need not say how large they become, so
//! the room grows until it is enough.
//!
//! Invariants
//! * Room is a multiple of what is there until that was proved too small.
//!
//! Reference: RFC 8878; Kafka `ZstdCompression`.

use zstd::zstd_safe::{CCtx, DCtx, compress_bound};

use super::{DecodeError, Output};

/// Kafka's default.
const LEVEL: i32 = 3;
/// The room that is tried first, for each byte that is there.
const RATIO_FIRST: usize = 4;
const ROOM_BYTES_MIN: usize = 4 << 10;
/// What `zstd_errors.h` gives to a destination that is too small.
const ERROR_ROOM_TOO_SMALL: usize = 70;

pub(super) fn compress(bytes: &[u8], out: &mut Vec<u8>) {
    let mut block = Vec::with_capacity(compress_bound(bytes.len()));
    let written = CCtx::create().compress(&mut block, bytes, LEVEL);
    written.expect("there is room for the worst case");
    out.extend_from_slice(&block);
}

pub(super) fn decompress(bytes: &[u8], output: &mut Output) -> Result<(), DecodeError> {
    let mut context = DCtx::create();
    let mut room = bytes.len().saturating_mul(RATIO_FIRST).max(ROOM_BYTES_MIN);
    loop {
        room = room.min(output.max_bytes);
        // Must be dropped BEFORE the next one is made, or else both are held at once.
        output.bytes = Vec::new();
        output.bytes.reserve_exact(room);
        match context.decompress(&mut output.bytes, bytes) {
            Ok(_written) => return Ok(()),
            Err(code) if code.wrapping_neg() == ERROR_ROOM_TOO_SMALL => {
                if room == output.max_bytes {
                    return Err(output.too_large());
                }
                room = room.saturating_mul(4);
            }
            Err(_malformed) => return Err(output.malformed("it is no whole frame")),
        }
    }
}
