//! The LZ4 frame.
//!
//! ```text
//!   04 22 4d 18 | FLG | BD | content size u64, if FLG says so | HC: second byte of xxh32(FLG ..)
//!   | size u32 | block | xxh32 u32, if FLG says so | size u32 | block | ...
//!   | 0 u32 | xxh32 u32 of the content, if FLG says so                   integers little-endian
//!
//!   FLG:   01 version | 1: blocks stand alone | 1: block checksums | 1: content size
//!          | 1: content checksum | 0 | 1: dictionary
//!   BD:    0 | 4 to 7: blocks of at most 64 KiB, 256 KiB, 1 MiB, 4 MiB | 0000
//!   size:  the high bit says that the block is stored as it is
//! ```
//!
//! Written as Kafka's producers do: blocks of 64 KiB that stand alone, without checksums, which the
//! batch's own covers. Read: every frame without a dictionary.
//!
//! Invariants
//! * A block's room is bounded by what its bytes can give (255 for one), not by what the frame claims.
//! * Every checksum that is there is verified.
//!
//! Reference: LZ4 frame format 1.6; Kafka `Lz4BlockOutputStream`, `Lz4BlockInputStream`.

use lz4_flex::block::{self, DecompressError};

use super::xxh32::xxh32;
use super::{DecodeError, Output};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// Version 1, blocks that stand alone; 64 KiB; the checksum of both.
const DESCRIPTOR: [u8; 3] = [0x60, 0x40, 0x82];
const BLOCK_BYTES: usize = 64 << 10;
const STORED: u32 = 1 << 31;
/// How far back a block may refer to the ones in front of it.
const WINDOW_BYTES: usize = 64 << 10;
/// No byte of a block gives more than this many.
const RATIO_MAX: usize = 255;

const FLAG_INDEPENDENT: u8 = 1 << 5;
const FLAG_BLOCK_CHECKSUM: u8 = 1 << 4;
const FLAG_CONTENT_SIZE: u8 = 1 << 3;
const FLAG_CONTENT_CHECKSUM: u8 = 1 << 2;
const FLAG_RESERVED: u8 = 1 << 1;
const FLAG_DICTIONARY: u8 = 1;

pub(super) fn compress(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&DESCRIPTOR);
    for plain in bytes.chunks(BLOCK_BYTES) {
        let size_at = out.len();
        let start = size_at + 4;
        out.resize(start + block::get_maximum_output_size(plain.len()), 0);
        let written = block::compress_into(plain, &mut out[start..]);
        let written = written.expect("there is room for the worst case");
        let size = if written < plain.len() {
            out.truncate(start + written);
            u32::try_from(written).expect("a block is far smaller than 4 GiB")
        } else {
            out.truncate(start);
            out.extend_from_slice(plain);
            u32::try_from(plain.len()).expect("a block is far smaller than 4 GiB") | STORED
        };
        out[size_at..start].copy_from_slice(&size.to_le_bytes());
    }
    out.extend_from_slice(&0_u32.to_le_bytes());
}

pub(super) fn decompress(bytes: &[u8], output: &mut Output) -> Result<(), DecodeError> {
    let mut input = Input(bytes);
    let frame = Frame::read(&mut input).map_err(|reason| output.malformed(reason))?;
    loop {
        let size = input.u32().map_err(|reason| output.malformed(reason))?;
        if size == 0 {
            break;
        }
        frame.block(&mut input, size, output)?;
    }
    let end = frame.end(&mut input, &output.bytes);
    end.map_err(|reason| output.malformed(reason))
}

/// What is left to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (front, rest) = self.0.split_at_checked(length).ok_or("the frame ends too early")?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (front, rest) = self.0.split_first_chunk().ok_or("the frame ends too early")?;
        self.0 = rest;
        Ok(*front)
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        self.array().map(u32::from_le_bytes)
    }
}

/// What the header of a frame says.
struct Frame {
    flags: u8,
    block_bytes_max: usize,
    content_bytes: Option<u64>,
}

impl Frame {
    fn read(input: &mut Input<'_>) -> Result<Self, &'static str> {
        if input.array()? != MAGIC {
            return Err("it is no LZ4 frame");
        }
        let descriptor = input.0;
        let [flags, sizes] = input.array()?;
        if flags >> 6 != 1 || flags & FLAG_RESERVED != 0 {
            return Err("the version of the frame is not known");
        }
        let block_bytes_max = match sizes {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err("the size of the frame's blocks is not known"),
        };
        let has = |flag| flags & flag != 0;
        let content_bytes =
            if has(FLAG_CONTENT_SIZE) { Some(u64::from_le_bytes(input.array()?)) } else { None };
        if has(FLAG_DICTIONARY) {
            return Err("the frame needs a dictionary");
        }
        let descriptor = &descriptor[..descriptor.len() - input.0.len()];
        let [checksum] = input.array()?;
        if xxh32(descriptor).to_be_bytes()[2] != checksum {
            return Err("the checksum of the frame's header is wrong");
        }
        Ok(Self { flags, block_bytes_max, content_bytes })
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn block(
        &self,
        input: &mut Input<'_>,
        size: u32,
        output: &mut Output,
    ) -> Result<(), DecodeError> {
        let length = usize::try_from(size & !STORED).unwrap_or(usize::MAX);
        if length > self.block_bytes_max {
            return Err(output.malformed("a block is larger than the frame allows"));
        }
        let bytes = input.take(length).map_err(|reason| output.malformed(reason))?;
        if self.has(FLAG_BLOCK_CHECKSUM) {
            let expected = input.u32().map_err(|reason| output.malformed(reason))?;
            if xxh32(bytes) != expected {
                return Err(output.malformed("the checksum of a block is wrong"));
            }
        }
        if size & STORED != 0 {
            return output.append(bytes);
        }
        let most = self.block_bytes_max.min(length.saturating_mul(RATIO_MAX));
        let (start, given) = (output.bytes.len(), most.min(output.left()));
        output.room(given)?;
        let (before, room) = output.bytes.split_at_mut(start);
        let written = if self.has(FLAG_INDEPENDENT) {
            block::decompress_into(bytes, room)
        } else {
            let window = &before[before.len().saturating_sub(WINDOW_BYTES)..];
            block::decompress_into_with_dict(bytes, room, window)
        };
        match written {
            Ok(written) => {
                output.bytes.truncate(start + written);
                Ok(())
            }
            Err(DecompressError::OutputTooSmall { .. }) if given < most => Err(output.too_large()),
            Err(_malformed) => Err(output.malformed("a block is malformed")),
        }
    }

    fn end(&self, input: &mut Input<'_>, content: &[u8]) -> Result<(), &'static str> {
        if self.has(FLAG_CONTENT_CHECKSUM) && input.u32()? != xxh32(content) {
            return Err("the checksum of the content is wrong");
        }
        if self.content_bytes.is_some_and(|bytes| bytes != content.len() as u64) {
            return Err("the content is not as long as the frame says");
        }
        if input.0.is_empty() { Ok(()) } else { Err("bytes follow the frame") }
    }
}
