//! A batch taken apart and written again from its parts, for conformance runners.
//!
//! Why: that recorded bytes decode proves half of a layout; that the same bytes come out again
//! proves the other half. It exists with the feature `test-util` only.
//!
//! Invariants
//! * Nothing is copied from the input but fields that were decoded; length and checksum are computed.
//!
//! Reference: Kafka `DefaultRecordBatch`.

use super::header::{CHECKSUM_END, LENGTH_END};
use super::record::{self, RawRecord};
use super::{BatchHeader, BatchView, DECOMPRESSED_BYTES_MAX, DecodeError, HEADER_LEN, compression};

/// Decodes one whole batch and encodes it again, with the same codec. An uncompressed one has the same
/// bytes; what a codec writes depends on its version.
///
/// # Errors
///
/// [`DecodeError`]: the bytes do not begin with a whole batch.
pub fn encode_again(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let batch = BatchView::parse(bytes)?;
    let header = *batch.header();
    let codec = header.attributes.compression()?;
    let packed = &batch.bytes()[HEADER_LEN..];
    let plain = if packed.is_empty() {
        Vec::new()
    } else {
        compression::decompress(codec, packed, DECOMPRESSED_BYTES_MAX)?
    };
    let (mut input, mut records) = (plain.as_slice(), Vec::new());
    for index in 0..header.record_count {
        let raw = RawRecord::read(&mut input, index)?;
        let headers: Vec<(&str, Option<&[u8]>)> = raw.headers.iter().collect();
        let deltas = (raw.timestamp_delta, raw.offset_delta);
        let length = record::body_len(deltas.0, deltas.1, raw.key, raw.value, &headers);
        let length =
            i32::try_from(length).expect("a record that was read is as short as its batch");
        record::write(&mut records, length, deltas, raw.key, raw.value, &headers);
    }
    let mut encoded = vec![0; HEADER_LEN];
    if !records.is_empty() {
        compression::compress(codec, &records, &mut encoded);
    }
    let length = i32::try_from(encoded.len() - LENGTH_END)
        .expect("a batch that was read has a length of 32 bits");
    let mut written = BatchHeader { length, crc: 0, ..header };
    let space = encoded.first_chunk_mut().expect("the room for it was made above");
    written.write(space);
    written.crc = crc32c::crc32c(&encoded[CHECKSUM_END..]);
    encoded[17..CHECKSUM_END].copy_from_slice(&written.crc.to_be_bytes());
    Ok(encoded)
}
