//! Batches against what was pushed, and against bytes that are none.

use proptest::prelude::*;

use super::*;
use crate::format::header::LENGTH_END;
use crate::format::{BatchBuilder, EndTransactionMarker, NO_HEADERS, Stamp};
use crate::ids::{ProducerEpoch, ProducerId};

type Header = (String, Option<Vec<u8>>);
type Record = (Timestamp, Option<Vec<u8>>, Option<Vec<u8>>, Vec<Header>);

fn owned_headers(record: &RecordRef<'_>) -> Vec<Header> {
    record
        .headers
        .iter()
        .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)))
        .collect()
}

#[test]
fn a_record_that_ends_no_transaction_is_not_a_marker() {
    let mut builder = BatchBuilder::new();
    builder.push(0, Some(&[0, 0, 0, 2]), Some(&[0; 6]), NO_HEADERS).unwrap();
    builder.push(0, Some(&[0, 0]), Some(&[0; 6]), NO_HEADERS).unwrap();
    builder.push(0, Some(&[0; 4]), None, NO_HEADERS).unwrap();
    builder.stamp(&stamp_at(0));
    let batch = BatchView::parse(builder.bytes()).unwrap();
    for record in batch.records() {
        assert!(EndTransactionMarker::from_record(&record.unwrap()).is_err());
    }
}

fn stamp_at(base_offset: Offset) -> Stamp {
    Stamp {
        base_offset,
        leader_epoch: 3,
        attributes: Attributes::NONE,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: -1,
    }
}

#[test]
fn every_shortened_or_changed_header_is_refused_or_noticed_by_the_checksum() {
    let mut builder = BatchBuilder::new();
    builder.push(5, Some(b"k"), Some(b"v"), NO_HEADERS).unwrap();
    builder.stamp(&stamp_at(9));
    let bytes = builder.bytes();
    for len in 0..bytes.len() {
        let truncated = BatchView::parse(&bytes[..len]);
        assert!(matches!(truncated, Err(DecodeError::Truncated { .. })), "{len}");
    }
    // The first 16 bytes are given by the log and not covered by the checksum.
    for position in 16..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.to_vec();
            changed[position] ^= 1 << bit;
            let noticed = BatchView::parse(&changed).and_then(|batch| batch.verify_crc());
            assert!(noticed.is_err(), "bit {bit} of byte {position}");
        }
    }
}

#[test]
fn counts_and_lengths_that_no_batch_has_are_refused() {
    let mut builder = BatchBuilder::new();
    builder.push(5, None, None, NO_HEADERS).unwrap();
    let good = builder.stamp(&stamp_at(0));
    let refused = |header: BatchHeader| {
        let mut bytes = [0; HEADER_LEN];
        header.write(&mut bytes);
        matches!(BatchHeader::parse(&bytes), Err(DecodeError::InvalidField { .. }))
    };
    assert!(!refused(good));
    assert!(refused(BatchHeader { length: 48, ..good }));
    assert!(refused(BatchHeader { length: -1, ..good }));
    assert!(refused(BatchHeader { base_offset: -1, ..good }));
    assert!(refused(BatchHeader { base_offset: i64::MAX, ..good }));
    assert!(refused(BatchHeader { last_offset_delta: -1, ..good }));
    assert!(refused(BatchHeader { record_count: 2, ..good }));
    assert!(refused(BatchHeader { record_count: -1, ..good }));
}

#[test]
fn a_builder_knows_its_timestamps_and_can_be_used_again() {
    let mut builder = BatchBuilder::new();
    assert_eq!((builder.min_timestamp(), builder.max_timestamp()), (None, None));
    for timestamp in [5, 9, 2, 9] {
        builder.push(timestamp, None, Some(b"v"), NO_HEADERS).unwrap();
    }
    assert_eq!((builder.min_timestamp(), builder.max_timestamp()), (Some(2), Some(9)));
    assert_eq!((builder.max_timestamp_offset_delta(), builder.count()), (1, 4));
    builder.stamp(&stamp_at(0));
    builder.clear();
    assert_eq!((builder.len_bytes(), builder.is_empty()), (HEADER_LEN, true));
    builder.push(-7, None, None, NO_HEADERS).unwrap();
    let header = builder.stamp(&stamp_at(4));
    assert_eq!((header.base_timestamp, header.max_timestamp, header.record_count), (-7, -7, 1));
    assert_eq!(builder.bytes().len(), header.total_len());
}

#[test]
fn extreme_timestamps_pass_through_a_batch() {
    let times = [i64::MAX, i64::MIN, -1, 0, i64::MAX];
    let mut builder = BatchBuilder::new();
    for timestamp in times {
        builder.push(timestamp, None, None, NO_HEADERS).unwrap();
    }
    let header = builder.stamp(&stamp_at(0));
    assert_eq!((header.base_timestamp, header.max_timestamp), (i64::MAX, i64::MAX));
    let batch = BatchView::parse(builder.bytes()).unwrap();
    let read: Vec<_> = batch.records().map(|record| record.unwrap().timestamp).collect();
    assert_eq!(read, times);
}

#[test]
fn whole_batches_are_split_off_shared_bytes_without_copies() {
    let mut all = Vec::new();
    for base_offset in [0, 2] {
        let mut builder = BatchBuilder::new();
        builder.push(1, None, Some(b"a"), NO_HEADERS).unwrap();
        builder.push(2, None, Some(b"b"), NO_HEADERS).unwrap();
        builder.stamp(&stamp_at(base_offset));
        all.extend_from_slice(builder.bytes());
    }
    let whole = Bytes::from(all);
    let mut rest = whole.clone();
    let first = RecordBatch::split_from(&mut rest).unwrap().unwrap();
    let second = RecordBatch::split_from(&mut rest).unwrap().unwrap();
    assert!(RecordBatch::split_from(&mut rest).unwrap().is_none());
    assert_eq!((first.header().base_offset, second.header().base_offset), (0, 2));
    assert_eq!(second.header().next_offset(), 4);
    let value = second.records().nth(1).unwrap().unwrap().value.unwrap();
    assert_eq!(second.bytes().slice_ref(value).as_ref(), b"b");
    let mut cut = whole.slice(..whole.len() - 1);
    RecordBatch::split_from(&mut cut).unwrap();
    assert!(RecordBatch::split_from(&mut cut).is_err());
}

fn any_record() -> impl Strategy<Value = Record> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
    let header = ("[a-z\u{e9}]{0,9}", bytes());
    (any::<i64>(), bytes(), bytes(), proptest::collection::vec(header, 0..4))
}

proptest! {
    #[test]
    fn what_is_pushed_comes_back(records in proptest::collection::vec(any_record(), 1..20)) {
        let mut builder = BatchBuilder::new();
        for (timestamp, key, value, headers) in &records {
            builder.push(*timestamp, key.as_deref(), value.as_deref(), headers).unwrap();
        }
        builder.stamp(&stamp_at(100));
        let batch = BatchView::parse(builder.bytes()).unwrap();
        batch.verify_crc().unwrap();
        let read: Vec<Record> = batch
            .records()
            .enumerate()
            .map(|(index, record)| {
                let record = record.unwrap();
                assert_eq!(record.offset, 100 + i64::try_from(index).unwrap());
                let field = |field: Option<&[u8]>| field.map(<[u8]>::to_vec);
                (record.timestamp, field(record.key), field(record.value), owned_headers(&record))
            })
            .collect();
        prop_assert_eq!(read, records);
    }

    #[test]
    fn arbitrary_bytes_behind_a_header_never_panic_and_end(
        count in 0i32..=i32::MAX,
        attributes in any::<i16>(),
        body in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = vec![0; HEADER_LEN];
        bytes.extend_from_slice(&body);
        let header = BatchHeader {
            base_offset: 1,
            length: i32::try_from(bytes.len() - LENGTH_END).unwrap(),
            leader_epoch: 0,
            crc: 0,
            attributes: Attributes(attributes),
            last_offset_delta: i32::MAX,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: ProducerId(-1),
            producer_epoch: ProducerEpoch(-1),
            base_sequence: -1,
            record_count: count,
        };
        header.write(bytes.first_chunk_mut().unwrap());
        let batch = BatchView::parse(&bytes).unwrap();
        let mut errors = 0;
        for record in batch.records() {
            match record {
                Ok(record) => { record.headers.iter().for_each(drop); }
                Err(_) => errors += 1,
            }
        }
        prop_assert!(errors <= 1);
        drop(EndTransactionMarker::from_batch(&batch));
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(batch) = BatchView::parse(&bytes) {
            batch.records().for_each(drop);
        }
    }
}
