//! Codecs against what they wrote, against other writers of their framings, and against bytes that
//! lie.

use proptest::prelude::*;

use super::*;

const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const MAX: usize = 1 << 20;

fn packed(codec: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compress(codec, bytes, &mut out);
    out
}

/// Compressible, and longer than a block of any codec.
fn text(len: usize) -> Vec<u8> {
    let numbers = 0..u32::try_from(len).unwrap();
    numbers.map(|n| (n / 7 % 251).to_be_bytes()[3] ^ (n % 3).to_be_bytes()[3]).collect()
}

fn is_malformed(found: &Result<Vec<u8>, DecodeError>) -> bool {
    matches!(found, Err(DecodeError::Decompress { .. }))
}

fn is_too_large(found: &Result<Vec<u8>, DecodeError>) -> bool {
    matches!(found, Err(DecodeError::DecompressedTooLarge { max_bytes, .. }) if *max_bytes < MAX)
}

#[test]
fn codecs_have_kafkas_numbers_and_unassigned_ones_are_refused() {
    let names: Vec<_> =
        (0..8).map(|n| Compression::from_number(n).map(Compression::name)).collect();
    assert_eq!(names[..5], ["none", "gzip", "snappy", "lz4", "zstd"].map(Ok));
    assert!(names[5..].iter().all(Result::is_err));
    for codec in Compression::ALL {
        assert_eq!(Compression::from_number(codec.number()), Ok(codec));
        assert_eq!(CompressionType::Producer.codec(codec), codec);
        let topic = CompressionType::Always(codec);
        assert_eq!(topic.codec(Compression::Gzip), codec);
        assert_eq!(topic.name().parse(), Ok(topic));
    }
}

#[test]
fn everything_comes_back_whatever_its_length() {
    for len in [0, 1, 61, (32 << 10) - 1, 32 << 10, (64 << 10) + 1, 300_000] {
        let bytes = text(len);
        for codec in Compression::ALL {
            let packed = packed(codec, &bytes);
            assert_eq!(decompress(codec, &packed, len).as_deref(), Ok(&bytes[..]), "{codec} {len}");
            let is_smaller = packed.len() < len / 2;
            assert!(is_smaller || len < 1000 || codec == Compression::None, "{codec} {len}");
        }
    }
}

#[test]
fn one_byte_more_than_allowed_is_refused_and_so_is_a_bomb() {
    let bytes = text(100_000);
    let bomb = vec![0; 30 << 20];
    for codec in CODECS {
        assert!(is_too_large(&decompress(codec, &packed(codec, &bytes), 99_999)), "{codec}");
        assert!(is_too_large(&decompress(codec, &packed(codec, &bytes), 0)), "{codec}");
        let bomb = packed(codec, &bomb);
        assert!(bomb.len() < 2 << 20, "{codec}: {}", bomb.len());
        assert!(is_too_large(&decompress(codec, &bomb, 100_000)), "{codec}");
    }
    assert!(is_too_large(&decompress(Compression::None, &bytes, 99_999)));
}

#[test]
fn a_length_that_the_bytes_cannot_reach_is_no_reason_to_make_room() {
    // Snappy: one block that claims nearly 2 GiB, bare and framed.
    let bare = [0xff, 0xff, 0xff, 0xff, 0x07, 0x00];
    let mut framed = packed(Compression::Snappy, b"");
    framed.extend_from_slice(&6_i32.to_be_bytes());
    framed.extend_from_slice(&bare);
    for bytes in [&bare[..], &framed] {
        let found = decompress(Compression::Snappy, bytes, usize::MAX);
        assert!(is_malformed(&found), "{found:?}");
    }
    // LZ4: blocks of 4 MiB and content of 2^64 - 1 bytes, then nothing.
    let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0x68, 0x70];
    frame.extend_from_slice(&u64::MAX.to_le_bytes());
    frame.push(xxh32::xxh32(&frame[4..]).to_be_bytes()[2]);
    frame.extend_from_slice(&0_u32.to_le_bytes());
    assert!(is_malformed(&decompress(Compression::Lz4, &frame, usize::MAX)));
    // Zstandard: a window of 2 GiB or more and content of 2^62 bytes, then one empty last block.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0xa8];
    frame.extend_from_slice(&(1_u64 << 62).to_le_bytes());
    frame.extend_from_slice(&[1, 0, 0]);
    assert!(decompress(Compression::Zstd, &frame, MAX - 1).is_err());
}

#[test]
fn framings_of_other_writers_are_read() {
    let bytes = text(200_000);
    let bare = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
    assert_eq!(decompress(Compression::Snappy, &bare, MAX).as_ref(), Ok(&bytes));
    let twice = [bytes.as_slice(), &bytes].concat();
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Zstd] {
        let joined = packed(codec, &bytes).repeat(2);
        assert_eq!(decompress(codec, &joined, MAX).as_ref(), Ok(&twice), "{codec}");
    }
}

#[test]
fn every_kind_of_lz4_frame_is_read_and_its_checksums_are_verified() {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let mut bytes = text(200_000);
    bytes.extend((0..70_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]));
    for mode in [BlockMode::Independent, BlockMode::Linked] {
        for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB]
        {
            let info = FrameInfo::new()
                .block_mode(mode)
                .block_size(size)
                .block_checksums(true)
                .content_checksum(true)
                .content_size(Some(bytes.len() as u64));
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(&bytes).unwrap();
            let frame = encoder.finish().unwrap();
            assert_eq!(decompress(Compression::Lz4, &frame, MAX).as_ref(), Ok(&bytes));
            for at in [4, 5, 9, 14, 30, frame.len() / 2, frame.len() - 1] {
                let mut changed = frame.clone();
                changed[at] ^= 4;
                assert!(is_malformed(&decompress(Compression::Lz4, &changed, MAX)), "{at}");
            }
        }
    }
}

fn mixed() -> impl Strategy<Value = Vec<u8>> {
    let run = (any::<u8>(), 1..3000_usize).prop_map(|(byte, count)| vec![byte; count]);
    let noise = proptest::collection::vec(any::<u8>(), 0..400);
    proptest::collection::vec(prop_oneof![run, noise], 0..40).prop_map(|parts| parts.concat())
}

fn any_codec() -> impl Strategy<Value = Compression> {
    proptest::sample::select(CODECS.to_vec())
}

proptest! {
    #[test]
    fn what_was_compressed_comes_back(codec in any_codec(), bytes in mixed()) {
        let packed = packed(codec, &bytes);
        prop_assert_eq!(decompress(codec, &packed, bytes.len()), Ok(bytes));
    }

    #[test]
    fn a_part_gives_an_error_or_a_part(codec in any_codec(), bytes in mixed(), cut in any::<prop::sample::Index>()) {
        let packed = packed(codec, &bytes);
        let part = &packed[..cut.index(packed.len())];
        if let Ok(found) = decompress(codec, part, MAX) {
            prop_assert!(bytes.starts_with(&found));
        }
    }

    #[test]
    fn changed_bytes_never_give_more_than_is_allowed(
        codec in any_codec(),
        bytes in mixed(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8_u32), 1..4),
        max in 0..100_000_usize,
    ) {
        let mut packed = packed(codec, &bytes);
        for (at, bit) in flips {
            let at = at.index(packed.len());
            packed[at] ^= 1_u8 << bit;
        }
        if let Ok(found) = decompress(codec, &packed, max) {
            prop_assert!(found.len() <= max);
        }
    }

    #[test]
    fn arbitrary_bytes_are_decompressed_or_refused(
        codec in any_codec(),
        head in any::<bool>(),
        tail in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = if head { packed(codec, b"some text") } else { Vec::new() };
        bytes.truncate(bytes.len() / 2);
        bytes.extend(tail);
        if let Ok(found) = decompress(codec, &bytes, 5000) {
            prop_assert!(found.len() <= 5000);
        }
    }
}
