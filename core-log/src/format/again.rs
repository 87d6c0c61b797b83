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
use super::{BatchHeader, BatchView, DecodeError, HEADER_LEN};

/// Decodes one whole batch and encodes it again.
///
/// # Errors
///
/// [`DecodeError`]: the bytes do not begin with a whole batch, or it is compressed.
pub fn encode_again(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let batch = BatchView::parse(bytes)?;
    let header = *batch.header();
    header.attributes.compression()?.require_supported()?;
    let mut encoded = vec![0; HEADER_LEN];
    let mut input = &batch.bytes()[HEADER_LEN..];
    for index in 0..header.record_count {
        let raw = RawRecord::read(&mut input, index)?;
        let headers: Vec<(&str, Option<&[u8]>)> = raw.headers.iter().collect();
        let deltas = (raw.timestamp_delta, raw.offset_delta);
        let length = record::body_len(deltas.0, deltas.1, raw.key, raw.value, &headers);
        let length =
            i32::try_from(length).expect("a record that was read is as short as its batch");
        record::write(&mut encoded, length, deltas, raw.key, raw.value, &headers);
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
