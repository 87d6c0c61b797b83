//! A batch without records that stands for offsets whose records are gone.
//!
//! Why: offsets follow each other without a gap, and must not be given to other records; a batch that
//! holds none says so in Kafka's own format, as its compaction does.
//!
//! ```text
//!   header (header.rs): base offset, last offset delta, record count 0, no producer, no time (-1)
//! ```
//!
//! Invariants
//! * Readers of every kind pass over it.
//!
//! Reference: Kafka `DefaultRecordBatch.writeEmptyHeader`.

use super::header::{Attributes, BatchHeader, CHECKSUM_END, HEADER_LEN, LENGTH_END};
use crate::ids::{Offset, ProducerEpoch, ProducerId};

/// The batch for the offsets from `first` to `next`, exclusive.
///
/// # Panics
///
/// When these are none, or more than a batch can span.
pub(crate) fn filler(first: Offset, next: Offset, leader_epoch: i32) -> [u8; HEADER_LEN] {
    let mut header = BatchHeader {
        base_offset: first,
        length: i32::try_from(HEADER_LEN - LENGTH_END).expect("a header is small"),
        leader_epoch,
        crc: 0,
        attributes: Attributes::NONE,
        last_offset_delta: i32::try_from(next - first - 1).expect("no more than a batch spans"),
        base_timestamp: -1,
        max_timestamp: -1,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: -1,
        record_count: 0,
    };
    assert!(header.last_offset_delta >= 0, "a filler fills something");
    let mut bytes = [0; HEADER_LEN];
    header.write(&mut bytes);
    header.crc = crc32c::crc32c(&bytes[CHECKSUM_END..]);
    header.write(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::BatchView;
    use crate::format::hex::to_hex;

    #[test]
    fn a_filler_has_these_bytes_and_no_records() {
        let bytes = filler(5, 9, 2);
        assert_eq!(
            to_hex(&bytes),
            "0000000000000005000000310000000202\
             f64ac6a9000000000003ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff00000000"
                .replace("f64ac6a9", &to_hex(&bytes[17..21]))
        );
        let batch = BatchView::parse(&bytes).unwrap();
        batch.verify_crc().unwrap();
        assert_eq!((batch.header().next_offset(), batch.records().count()), (9, 0));
    }
}
