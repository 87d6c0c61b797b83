//! A batch written again with fewer of its records, as compaction leaves it.
//!
//! Why: what is left must keep its offsets, its producer's numbers and its place in the log.
//!
//! ```text
//!   kept from the batch    base offset, last offset delta, leader epoch, producer, sequence, flags,
//!                          codec, unless nothing is left to compress
//!   counted again          record count, base and max timestamp, length, checksum
//!   delete horizon         when it is set, the base timestamp is the horizon, and bit 6 says so
//! ```
//!
//! Invariants
//! * A batch that is emptied keeps its offsets and its max timestamp.
//! * The largest timestamp of a batch that the log has stamped stays: it is that of all its records.
//!
//! Reference: Kafka `MemoryRecords.filterTo`, `DefaultRecordBatch.writeEmptyHeader`; KIP-534.

use super::header::{CHECKSUM_END, LENGTH_END};
use super::record::{self, RecordRef};
use super::{Attributes, BatchHeader, BatchOverflow, Compression, HEADER_LEN, compression};
use crate::ids::Timestamp;

impl BatchHeader {
    /// Until when the tombstones, or the marker, of the batch stay.
    #[must_use]
    pub fn delete_horizon(&self) -> Option<Timestamp> {
        self.attributes.contains(Attributes::DELETE_HORIZON).then_some(self.base_timestamp)
    }
}

/// The batch of this `header` with only these `records` of it, and with a delete horizon if one is given.
///
/// # Errors
///
/// [`BatchOverflow`]: the records have not come out of this batch.
pub(crate) fn rewrite(
    header: &BatchHeader,
    records: &[RecordRef<'_>],
    delete_horizon: Option<Timestamp>,
) -> Result<(Vec<u8>, BatchHeader), BatchOverflow> {
    let overflow =
        |bytes| BatchOverflow { bytes, max_bytes: usize::try_from(i32::MAX).unwrap_or(usize::MAX) };
    let is_stamped = header.attributes.contains(Attributes::LOG_APPEND_TIME);
    let first = records.first().map(|record| record.timestamp);
    let base_timestamp = delete_horizon.or(first).unwrap_or(header.base_timestamp);
    let newest = records.iter().map(|record| record.timestamp).max().filter(|_| !is_stamped);
    let mut bytes = vec![0; HEADER_LEN];
    for record in records {
        let offset_delta = i32::try_from(record.offset - header.base_offset);
        let offset_delta = offset_delta.map_err(|_outside| overflow(bytes.len()))?;
        let deltas = (record.timestamp.wrapping_sub(base_timestamp), offset_delta);
        let headers: Vec<(&str, Option<&[u8]>)> = record.headers.iter().collect();
        let len = record::body_len(deltas.0, deltas.1, record.key, record.value, &headers);
        let len = i32::try_from(len).map_err(|_too_large| overflow(len))?;
        record::write(&mut bytes, len, deltas, record.key, record.value, &headers);
    }
    let codec = header.attributes.compression().unwrap_or(Compression::None);
    if codec != Compression::None && !records.is_empty() {
        let mut packed = vec![0; HEADER_LEN];
        compression::compress(codec, &bytes[HEADER_LEN..], &mut packed);
        bytes = packed;
    }
    let horizon =
        if delete_horizon.is_some() { Attributes::DELETE_HORIZON } else { Attributes::NONE };
    let mut kept = Attributes(header.attributes.0 & !HORIZON);
    if records.is_empty() {
        kept = kept.with_compression(Compression::None);
    }
    let too_long = overflow(bytes.len());
    let mut written = BatchHeader {
        length: i32::try_from(bytes.len() - LENGTH_END).map_err(|_too_long| too_long)?,
        crc: 0,
        attributes: kept.with(horizon),
        base_timestamp,
        max_timestamp: newest.unwrap_or(header.max_timestamp),
        record_count: i32::try_from(records.len()).map_err(|_too_many| too_long)?,
        ..*header
    };
    written.write(bytes.first_chunk_mut().expect("the room for it was made above"));
    written.crc = crc32c::crc32c(&bytes[CHECKSUM_END..]);
    bytes[17..CHECKSUM_END].copy_from_slice(&written.crc.to_be_bytes());
    Ok((bytes, written))
}

/// The bit of the delete horizon: what is written again says it anew.
const HORIZON: i16 = Attributes::DELETE_HORIZON.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{BatchBuilder, BatchView, Stamp};
    use crate::ids::{ProducerEpoch, ProducerId};

    fn batch() -> (BatchBuilder, BatchHeader) {
        let mut batch = BatchBuilder::new();
        let headers = [("h", Some(b"x".as_slice()))];
        for (time, key, value) in [(50, b"a", Some(b"1")), (70, b"b", None), (60, b"c", Some(b"3"))]
        {
            let value = value.map(|value: &[u8; 1]| value.as_slice());
            batch.push(time, Some(key), value, &headers).unwrap();
        }
        let header = batch.stamp(&Stamp {
            base_offset: 100,
            leader_epoch: 4,
            attributes: Attributes::TRANSACTIONAL,
            producer_id: ProducerId(7),
            producer_epoch: ProducerEpoch(2),
            base_sequence: 9,
        });
        (batch, header)
    }

    #[test]
    fn what_is_left_keeps_its_offsets_times_headers_and_numbers() {
        let (batch, header) = batch();
        let view = BatchView::parse(batch.bytes()).unwrap();
        let records: Vec<_> = view.records().map(Result::unwrap).skip(1).collect();
        for horizon in [None, Some(i64::MAX), Some(0)] {
            let (bytes, written) = rewrite(&header, &records, horizon).unwrap();
            let again = BatchView::parse(&bytes).unwrap();
            again.verify_crc().unwrap();
            assert_eq!(*again.header(), written);
            let read: Vec<_> = again.records().map(Result::unwrap).collect();
            assert_eq!(read, records);
            assert_eq!(written.delete_horizon(), horizon);
            assert_eq!((written.base_offset, written.last_offset()), (100, 102));
            assert_eq!((written.base_sequence, written.last_sequence()), (9, 11));
            assert_eq!((written.leader_epoch, written.max_timestamp), (4, 70));
        }
    }

    #[test]
    fn what_was_compressed_is_compressed_again_and_an_emptied_batch_is_not() {
        for codec in Compression::ALL {
            let mut builder = BatchBuilder::with_compression(codec);
            for key in 0..50_u8 {
                builder.push(1, Some(&[key]), Some(&[7; 40]), crate::format::NO_HEADERS).unwrap();
            }
            builder.pack(codec).unwrap();
            let stamp = Stamp {
                base_offset: 3,
                leader_epoch: 0,
                attributes: Attributes::NONE,
                producer_id: ProducerId(7),
                producer_epoch: ProducerEpoch(2),
                base_sequence: 9,
            };
            let header = builder.stamp(&stamp);
            let view = BatchView::parse(builder.bytes()).unwrap();
            let records: Vec<_> = view.records().map(Result::unwrap).step_by(2).collect();
            let (bytes, written) = rewrite(&header, &records, Some(5)).unwrap();
            let again = BatchView::parse(&bytes).unwrap();
            again.verify_crc().unwrap();
            assert_eq!(again.records().map(Result::unwrap).collect::<Vec<_>>(), records);
            assert_eq!(written.attributes.compression(), Ok(codec));
            let (bytes, emptied) = rewrite(&header, &[], None).unwrap();
            assert_eq!((bytes.len(), BatchView::parse(&bytes).unwrap().records().count()), (61, 0));
            assert_eq!(emptied.attributes.compression(), Ok(Compression::None));
        }
    }

    #[test]
    fn an_emptied_batch_keeps_offsets_and_sequences() {
        let (_, header) = batch();
        let (bytes, written) = rewrite(&header, &[], None).unwrap();
        assert_eq!(bytes.len(), HEADER_LEN);
        let view = BatchView::parse(&bytes).unwrap();
        view.verify_crc().unwrap();
        assert_eq!(view.records().count(), 0);
        assert_eq!((written.next_offset(), written.last_sequence()), (103, 11));
        assert_eq!((written.max_timestamp, written.record_count), (70, 0));
    }
}
