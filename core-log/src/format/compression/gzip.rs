//! gzip: one or more members, as RFC 1952 has them.
//!
//! Why members: Java's reader takes several in a row as one stream, so some producers write them.
//!
//! Invariants
//! * Checksum and length of each member are verified.
//!
//! Reference: RFC 1952; Kafka `GzipCompression`.

use std::io::{Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{DecodeError, Output};

/// How much is decompressed at once.
const CHUNK_BYTES: usize = 8 << 10;

pub(super) fn compress(bytes: &[u8], out: &mut Vec<u8>) {
    let mut encoder = GzEncoder::new(out, flate2::Compression::default());
    let written = encoder.write_all(bytes).and_then(|()| encoder.try_finish());
    written.expect("writing into memory does not fail");
}

pub(super) fn decompress(bytes: &[u8], output: &mut Output) -> Result<(), DecodeError> {
    let mut decoder = MultiGzDecoder::new(bytes);
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        match decoder.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => output.append(&chunk[..read])?,
            Err(_malformed) => return Err(output.malformed("it is no whole gzip stream")),
        }
    }
}
