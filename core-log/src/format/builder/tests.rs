//! Batches that are compressed: as Kafka wrote them, and as builders pack them.

use super::*;
use crate::format::{BatchView, DecodeError, NO_HEADERS, RecordBatch};

/// Two records, k1 and k2, of 500 and 1000 bytes; written by Kafka's own builder with each codec.
const OF_KAFKA: [(Compression, &str); 4] = [
    (
        Compression::Gzip,
        "00000000000000000000006c000000000248c3c06c0001000000010000018bcfe568000000018bcfe56801ffffff\
         ffffffffffffffffffffff000000021f8b08000000000000fffbc5cec0c0c0926df8823d31293925352d3d2333\
         6b943552580cbfd819989858b28d46a37f24b21800ce108388fe030000",
    ),
    (
        Compression::Snappy,
        "0000000000000000000000960000000002c03e3af80002000000010000018bcfe568000000018bcfe56801ffffff\
         ffffffffffffffffffffff0000000282534e4150505900000000010000000100000051fe074cfa070000000\
         46b31e8076162636465666768696afe0a00fe0a00fe0a00fe0a00fe0a00fe0a00fe0a00a60a002000fa070002\
         02046b32feff01feff01feff01feff01feff01feff01feff01daff01",
    ),
    (
        Compression::Lz4,
        "00000000000000000000006e0000000002b94e8a4f0003000000010000018bcfe568000000018bcfe56801ffffff\
         ffffffffffffffffffffff0000000204224d186040822e000000ff05fa07000000046b31e80761626364656667\
         68696a0a00ffd89f00fa07000202046b32ff01ffe0506768696a0000000000",
    ),
    (
        Compression::Zstd,
        "0000000000000000000000650000000002ec2879d10004000000010000018bcfe568000000018bcfe56801ffffff\
         ffffffffffffffffffffff0000000228b52ffd0058440100e8fa07000000046b31e807616263646566676869\
         6a00fa070002\
         02046b320200f402847a9c572d4c010000",
    ),
];

fn stamp() -> Stamp {
    Stamp {
        base_offset: 7,
        leader_epoch: 1,
        attributes: Attributes::TRANSACTIONAL,
        producer_id: ProducerId(4),
        producer_epoch: ProducerEpoch(0),
        base_sequence: 0,
    }
}

fn filled(codec: Compression) -> BatchBuilder {
    let mut builder = BatchBuilder::with_compression(codec);
    for n in 0..100 {
        let value = format!("value {n} and some more of the same text");
        builder.push(n, Some(b"key"), Some(value.as_bytes()), NO_HEADERS).unwrap();
    }
    builder
}

#[test]
fn what_kafka_compressed_decodes_borrowed_and_shared() {
    for (codec, hex) in OF_KAFKA {
        let bytes = crate::format::hex::from_hex(hex);
        let view = BatchView::parse(&bytes).unwrap();
        view.verify_crc().unwrap();
        assert_eq!(view.header().attributes.compression(), Ok(codec));
        let mut shared = bytes::Bytes::from(bytes.clone());
        let batch = RecordBatch::split_from(&mut shared).unwrap().unwrap();
        for records in [view.records(), batch.records()] {
            let records: Vec<_> = records.map(Result::unwrap).collect();
            let keys: Vec<_> = records.iter().map(|r| (r.offset, r.key.unwrap())).collect();
            assert_eq!(keys, [(0, &b"k1"[..]), (1, b"k2")], "{codec}");
            for record in &records {
                assert_eq!(record.value.unwrap(), b"abcdefghij".repeat(50), "{codec}");
            }
        }
        // Fields can be shared without a copy, whatever the codec.
        let value = batch.records().nth(1).unwrap().unwrap().value.unwrap();
        assert_eq!(batch.record_bytes().unwrap().slice_ref(value).len(), value.len());
    }
}

#[test]
fn a_packed_batch_holds_the_same_records_in_fewer_bytes() {
    let mut plain = filled(Compression::None);
    plain.stamp(&stamp());
    let plain_view = BatchView::parse(plain.bytes()).unwrap();
    for codec in Compression::ALL {
        let mut builder = filled(codec);
        builder.pack(codec).unwrap();
        let header = builder.stamp(&stamp());
        let view = BatchView::parse(builder.bytes()).unwrap();
        view.verify_crc().unwrap();
        assert_eq!(header.attributes, Attributes::TRANSACTIONAL.with_compression(codec));
        assert!(view.records().eq(plain_view.records()), "{codec}");
        assert_eq!(builder.len_bytes(), plain.bytes().len());
        let is_smaller = builder.bytes().len() < plain.bytes().len() / 2;
        assert_eq!(is_smaller, codec != Compression::None, "{codec}");
    }
}

#[test]
fn a_builder_is_packed_anew_after_a_push_with_another_codec_and_when_it_is_used_again() {
    let mut builder = filled(Compression::Gzip);
    builder.pack(Compression::Gzip).unwrap();
    let packed = builder.bytes().len();
    builder.push(5, None, Some(b"one more"), NO_HEADERS).unwrap();
    assert_eq!(builder.bytes().len(), builder.len_bytes());
    builder.pack(Compression::Zstd).unwrap();
    let count = |builder: &mut BatchBuilder| {
        builder.stamp(&stamp());
        BatchView::parse(builder.bytes()).unwrap().records().map(Result::unwrap).count()
    };
    assert_eq!(count(&mut builder), 101);
    builder.pack(Compression::None).unwrap();
    assert!(builder.bytes().len() > 4 * packed);
    assert_eq!(count(&mut builder), 101);
    builder.pack(Compression::Lz4).unwrap();
    builder.clear();
    assert_eq!((builder.bytes().len(), builder.compression()), (HEADER_LEN, Compression::Gzip));
    builder.push(5, None, None, NO_HEADERS).unwrap();
    assert_eq!(count(&mut builder), 1);
}

#[test]
fn records_that_nobody_could_decompress_are_not_packed() {
    let mut builder = BatchBuilder::with_compression(Compression::Zstd);
    let value = vec![0; DECOMPRESSED_BYTES_MAX];
    builder.push(0, None, Some(&value), NO_HEADERS).unwrap();
    let refused = builder.pack(Compression::Zstd).unwrap_err();
    assert_eq!(refused.max_bytes, DECOMPRESSED_BYTES_MAX);
    builder.pack(Compression::None).unwrap();
}

#[test]
fn what_cannot_be_decompressed_is_one_error_however_often_it_is_asked_for() {
    let mut builder = filled(Compression::Lz4);
    builder.pack(Compression::Lz4).unwrap();
    builder.stamp(&stamp());
    let mut broken = builder.bytes().to_vec();
    broken[HEADER_LEN] ^= 1;
    let view = BatchView::parse(&broken).unwrap();
    for _ in 0..2 {
        let found: Vec<_> = view.records().collect();
        assert!(matches!(found[..], [Err(DecodeError::Decompress { codec: "lz4", .. })]));
    }
    let view = BatchView::parse(builder.bytes()).unwrap();
    let found: Vec<_> = view.records_within(100).collect();
    assert!(matches!(found[..], [Err(DecodeError::DecompressedTooLarge { max_bytes: 100, .. })]));
    // Numbers that no codec has.
    let mut unassigned = builder.bytes().to_vec();
    unassigned[22] |= 7;
    let view = BatchView::parse(&unassigned).unwrap();
    let found: Vec<_> = view.records().collect();
    assert!(matches!(found[..], [Err(DecodeError::InvalidField { field: "compression", .. })]));
}
