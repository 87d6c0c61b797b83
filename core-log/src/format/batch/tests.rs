//! Batches against the bytes of real ones, and against bytes that are none.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::format::oracle;
use crate::format::{ControlType, EndTransactionMarker, NO_HEADERS};

type Header = (String, Option<Vec<u8>>);
type Record = (Timestamp, Option<Vec<u8>>, Option<Vec<u8>>, Vec<Header>);

fn batches() -> Vec<Value> {
    oracle::load("record_batches_v2.json")["batches"].as_array().unwrap().clone()
}

fn bytes_of(case: &Value) -> Vec<u8> {
    oracle::from_hex(case["hex"].as_str().unwrap())
}

fn is_compressed(bytes: &[u8]) -> bool {
    bytes[22] & 7 != 0
}

/// A text, or bytes in hex, or nothing.
fn field_of(record: &Value, name: &str) -> Option<Option<Vec<u8>>> {
    if let Some(hex) = record.get(format!("{name}_hex")) {
        return Some(hex.as_str().map(oracle::from_hex));
    }
    record.get(name).map(|text| text.as_str().map(|text| text.as_bytes().to_vec()))
}

fn headers_of(record: &Value) -> Vec<Header> {
    let Some(headers) = record.get("headers").and_then(Value::as_array) else { return Vec::new() };
    headers
        .iter()
        .map(|header| {
            let value = header[1].as_str().map(|text| text.as_bytes().to_vec());
            (header[0].as_str().unwrap().to_owned(), value)
        })
        .collect()
}

fn owned_headers(record: &RecordRef<'_>) -> Vec<Header> {
    record
        .headers
        .iter()
        .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)))
        .collect()
}

#[test]
fn headers_of_real_batches_decode_and_encode_byte_for_byte() {
    for case in batches() {
        let bytes = bytes_of(&case);
        let batch = BatchView::parse(&bytes).unwrap();
        batch.verify_crc().unwrap();
        assert_eq!(batch.bytes().len(), bytes.len());
        let (header, decoded) = (batch.header(), &case["decoded"]);
        let expect = |name: &str, actual: i64| {
            if let Some(expected) = decoded.get(name).and_then(Value::as_i64) {
                assert_eq!(actual, expected, "{name} of {}", case["name"]);
            }
        };
        expect("base_offset", header.base_offset);
        expect("last_offset", header.last_offset());
        expect("partition_leader_epoch", header.leader_epoch.into());
        expect("crc_u32", header.crc.into());
        expect("attributes", header.attributes.0.into());
        expect("base_timestamp", header.base_timestamp);
        expect("max_timestamp", header.max_timestamp);
        expect("producer_id", header.producer_id.0);
        expect("producer_epoch", header.producer_epoch.0.into());
        expect("base_sequence", header.base_sequence.into());
        expect("last_sequence", header.last_sequence().into());
        expect("records_count", header.record_count.into());
        if let Some(name) = decoded.get("compression").and_then(Value::as_str) {
            assert_eq!(header.attributes.compression().map(Compression::name), Ok(name));
        }
        let mut written = [0; HEADER_LEN];
        header.write(&mut written);
        assert_eq!(written[..], bytes[..HEADER_LEN]);
    }
}

#[test]
fn records_of_real_batches_decode_and_encode_byte_for_byte() {
    let (mut seen, mut whole) = (0, 0);
    for case in batches() {
        let bytes = bytes_of(&case);
        if is_compressed(&bytes) {
            continue;
        }
        whole += 1;
        let batch = BatchView::parse(&bytes).unwrap();
        let mut encoded = bytes[..HEADER_LEN].to_vec();
        let mut input = &bytes[HEADER_LEN..];
        for (index, record) in batch.records().enumerate() {
            let record = record.unwrap();
            if let Some(expected) = case["decoded"]["records"].get(index) {
                let same = |name: &str, actual: Option<&[u8]>| {
                    if let Some(expected) = field_of(expected, name) {
                        assert_eq!(actual, expected.as_deref(), "{name} in {}", case["name"]);
                    }
                };
                same("key", record.key);
                same("value", record.value);
                assert_eq!(Some(record.offset), expected["offset"].as_i64());
                if let Some(timestamp) = expected.get("timestamp") {
                    assert_eq!(Some(record.timestamp), timestamp.as_i64());
                }
                if expected.get("headers").is_some() {
                    assert_eq!(owned_headers(&record), headers_of(expected));
                }
            }
            let raw = RawRecord::read(&mut input, 0).unwrap();
            let headers = owned_headers(&record);
            let deltas = (raw.timestamp_delta, raw.offset_delta);
            let len = record::body_len(deltas.0, deltas.1, raw.key, raw.value, &headers);
            let len = i32::try_from(len).unwrap();
            record::write(&mut encoded, len, deltas, raw.key, raw.value, &headers);
            seen += 1;
        }
        assert_eq!(encoded, bytes, "{}", case["name"]);
    }
    assert_eq!((whole, seen), (17, 26));
}

#[test]
fn a_builder_writes_the_bytes_of_real_batches() {
    let mut seen = 0;
    for case in batches() {
        let bytes = bytes_of(&case);
        let batch = BatchView::parse(&bytes).unwrap();
        let header = batch.header();
        let special = Attributes::LOG_APPEND_TIME.with(Attributes::DELETE_HORIZON).0;
        if is_compressed(&bytes) || header.attributes.0 & special != 0 || header.record_count == 0 {
            continue;
        }
        let mut builder = BatchBuilder::new();
        for record in batch.records() {
            let record = record.unwrap();
            let headers = owned_headers(&record);
            builder.push(record.timestamp, record.key, record.value, &headers).unwrap();
        }
        let stamped = builder.stamp(&Stamp {
            base_offset: header.base_offset,
            leader_epoch: header.leader_epoch,
            attributes: header.attributes,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        });
        assert_eq!(builder.bytes(), bytes, "{}", case["name"]);
        assert_eq!(stamped, *header);
        seen += 1;
    }
    assert_eq!(seen, 14);
}

#[test]
fn compressed_batches_are_refused_by_the_name_of_their_codec() {
    let mut refused = Vec::new();
    for case in batches() {
        let bytes = bytes_of(&case);
        let batch = BatchView::parse(&bytes).unwrap();
        let first = batch.records().next().and_then(Result::err);
        let Some(first) = first else {
            assert!(!is_compressed(&bytes), "{}", case["name"]);
            continue;
        };
        assert!(is_compressed(&bytes), "{}", case["name"]);
        assert_eq!(batch.records().count(), 1);
        let error = crate::Error::from(first);
        let crate::Error::CompressionUnsupported { codec } = error else { panic!("{error}") };
        refused.push(codec);
    }
    // The other ones of the 21 are not compressed, and go through the tests above.
    assert_eq!((batches().len(), refused.len()), (21, 4));
    refused.sort_unstable();
    refused.dedup();
    assert_eq!(refused, ["gzip", "lz4", "snappy", "zstd"]);
}

#[test]
fn markers_have_the_bytes_of_real_ones() {
    for (name, control_type) in [("COMMIT", ControlType::Commit), ("ABORT", ControlType::Abort)] {
        let case = batches()
            .into_iter()
            .find(|case| case["name"].as_str().unwrap() == format!("control {name} marker"))
            .unwrap();
        let bytes = bytes_of(&case);
        let batch = BatchView::parse(&bytes).unwrap();
        let marker = EndTransactionMarker { control_type, coordinator_epoch: 27 };
        assert_eq!(EndTransactionMarker::from_batch(&batch), Ok(marker));
        let mut built = marker.to_batch(batch.header().max_timestamp);
        built.stamp(&Stamp {
            base_offset: batch.header().base_offset,
            leader_epoch: 4,
            attributes: EndTransactionMarker::ATTRIBUTES,
            producer_id: ProducerId(23423),
            producer_epoch: ProducerEpoch(145),
            base_sequence: -1,
        });
        assert_eq!(built.bytes(), bytes);
        assert_eq!(built.len_bytes(), crate::format::control::MARKER_BATCH_LEN);
    }
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
