//! One entry for each decoder, for fuzzers and for the tests that replay their corpora.
//!
//! Why in the library: most decoders are private, and a fuzzer should meet each of them alone. This
//! exists with the feature `test-util` only, without stability. `core-log/fuzz` has a binary for each
//! entry; `core-log/tests/corpora.rs` runs the committed corpora on stable.
//!
//! ```text
//!   bytes --> decode --> refused                          nothing more
//!                   '--> decoded --> what must hold of it  a panic is a finding
//! ```
//!
//! Invariants
//! * No entry sets aside more than 4 times its input (6 times for commit records) and 64 KiB (128 KiB
//!   for gzip, whose decoder has a
//!   state and a window of fixed size). Those that decompress allow an output as long as the input and
//!   [`PLAIN_BYTES`].

use crate::commit::record::CommitsRecord;
use crate::format::compression::decompress;
use crate::format::record::RawRecord;
use crate::format::varint::{read_varint, read_varlong};
use crate::format::{
    BatchHeader, BatchView, Compression, EndTransactionMarker, HEADER_LEN, Headers, RecordRef,
};
use crate::ids::Offset;
use crate::log::directory;
use crate::owner::protocol;
use crate::partition::leader_epochs::LeaderEpochs;
use crate::partition::{snapshot, text_file, topic_id};
use crate::segment::layout::{FileDigest, OffsetEntry, Seal, offset_index, time_index, txn_index};

/// What a decompressor may write beyond the length of its input.
pub const PLAIN_BYTES: usize = 4 << 10;

/// An entry.
pub type Target = fn(&[u8]);

/// All entries, by the name of their binary and of their corpus.
pub const TARGETS: [(&str, Target); 22] = [
    ("varint", varint),
    ("batch_header", batch_header),
    ("batch", batch),
    ("records", records),
    ("gzip", gzip),
    ("snappy", snappy),
    ("lz4", lz4),
    ("zstd", zstd),
    ("control_record", control_record),
    ("offset_index", offset_index),
    ("time_index", time_index),
    ("txn_index", txn_index),
    ("producer_snapshot", producer_snapshot),
    ("seal", seal),
    ("leader_epochs", leader_epochs),
    ("proven_text", proven_text),
    ("topics", topics),
    ("clean_shutdown", clean_shutdown),
    ("partition_metadata", partition_metadata),
    ("commit_record", commit_record),
    ("owner_request", owner_request),
    ("owner_answer", owner_answer),
];

/// Numbers of variable length, one after the other.
pub fn varint(bytes: &[u8]) {
    let (mut short, mut long) = (bytes, bytes);
    while read_varint(&mut short).is_ok() {}
    while read_varlong(&mut long).is_ok() {}
    assert!(long.len() <= bytes.len() && short.len() <= bytes.len());
}

/// The header of a batch.
pub fn batch_header(bytes: &[u8]) {
    if let Ok(header) = BatchHeader::parse(bytes) {
        assert!(header.total_len() >= HEADER_LEN);
        assert!(header.base_offset <= header.last_offset());
        assert!(header.next_offset() > header.base_offset);
        assert!(header.base_sequence < 0 || header.last_sequence() >= 0);
    }
}

/// A whole batch with its records; its checksum need not be right.
pub fn batch(bytes: &[u8]) {
    let Ok(batch) = BatchView::parse(bytes) else { return };
    assert!(batch.bytes().len() <= bytes.len());
    let verified = batch.verify_crc();
    let (mut count, mut failed) = (0_i64, false);
    for record in batch.records_within(bytes.len() + PLAIN_BYTES) {
        assert!(!failed, "an error is the last item");
        match record {
            Ok(record) => {
                look_at(&record);
                let header = batch.header();
                assert!((header.base_offset..=header.last_offset()).contains(&record.offset));
                count += 1;
            }
            Err(_) => failed = true,
        }
    }
    assert!(failed || count == i64::from(batch.header().record_count));
    if batch.header().is_control() && verified.is_ok() {
        drop(EndTransactionMarker::from_batch(&batch));
    }
}

fn look_at(record: &RecordRef<'_>) {
    assert_eq!(record.headers.iter().count(), record.headers.count());
}

/// Records without a batch around them.
pub fn records(bytes: &[u8]) {
    let mut input = bytes;
    let mut index = 0;
    while let Ok(record) = RawRecord::read(&mut input, index) {
        let headers: Headers<'_> = record.headers;
        assert!(headers.iter().all(|(name, _)| name.len() <= bytes.len()));
        index += 1;
    }
}

fn codec(codec: Compression, bytes: &[u8]) {
    let max_bytes = bytes.len() + PLAIN_BYTES;
    if let Ok(plain) = decompress(codec, bytes, max_bytes) {
        assert!(plain.len() <= max_bytes);
    }
}

/// What gzip writes.
pub fn gzip(bytes: &[u8]) {
    codec(Compression::Gzip, bytes);
}

/// What snappy writes, framed or not.
pub fn snappy(bytes: &[u8]) {
    codec(Compression::Snappy, bytes);
}

/// An LZ4 frame.
pub fn lz4(bytes: &[u8]) {
    codec(Compression::Lz4, bytes);
}

/// Zstandard frames.
pub fn zstd(bytes: &[u8]) {
    codec(Compression::Zstd, bytes);
}

/// A control record: 4 bytes of key, then its value.
pub fn control_record(bytes: &[u8]) {
    let (key, value) = bytes.split_at(bytes.len().min(4));
    let mut input: &[u8] = &[8, 0, 0, 0, 1, 1, 0];
    let empty = RawRecord::read(&mut input, 0);
    let Ok(RawRecord { headers, .. }) = empty else { return };
    let record = RecordRef { offset: 0, timestamp: 0, key: Some(key), value: Some(value), headers };
    if let Ok(marker) = EndTransactionMarker::from_record(&record) {
        assert_eq!(marker.to_batch(0).count(), 1);
    }
}

/// An offset index, and a look-up in it.
pub fn offset_index(bytes: &[u8]) {
    let (entries, _rest) = bytes.as_chunks::<{ offset_index::ENTRY_LEN }>();
    let entries: Vec<_> = entries.iter().map(OffsetEntry::decode).collect();
    for relative in [0, 1, u32::MAX] {
        let floor = offset_index::floor(&entries, relative);
        assert!(floor.entry.is_none() || !entries.is_empty());
    }
}

/// A time index, and a look-up in it.
pub fn time_index(bytes: &[u8]) {
    let entries = time_index::decode(bytes);
    assert_eq!(entries.len(), bytes.len() / time_index::ENTRY_LEN);
    for timestamp in [i64::MIN, 0, i64::MAX] {
        time_index::floor(&entries, timestamp);
    }
}

/// A list of aborted transactions, and what a reader must know of it.
pub fn txn_index(bytes: &[u8]) {
    let Some(entries) = txn_index::decode(bytes) else { return };
    assert_eq!(entries.len() * txn_index::ENTRY_LEN, bytes.len());
    let mut found = Vec::new();
    txn_index::collect(&entries, 0, Offset::MAX, &mut found);
    assert!(found.len() <= entries.len());
}

/// A snapshot of producers.
pub fn producer_snapshot(bytes: &[u8]) {
    if let Some(state) = snapshot::decode(bytes) {
        assert!(state.iter().count() <= bytes.len());
        assert!(state.first_open_offset().is_none_or(|offset| offset >= 0));
    }
}

/// A seal.
pub fn seal(bytes: &[u8]) {
    if let Some(seal) = Seal::decode(bytes) {
        assert_eq!(seal.encode(), bytes);
        let fits = seal.fits(0);
        assert!(!fits || seal.end_offset >= 0);
        assert!(seal.offset_index == FileDigest::default() || seal.offset_index.len > 0 || !fits);
    }
}

/// `leader-epoch-checkpoint`.
pub fn leader_epochs(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(epochs) = LeaderEpochs::parse(text) {
        assert!(epochs.iter().count() <= bytes.len());
        assert!(epochs.at(Offset::MAX) == epochs.current() || epochs.iter().next().is_none());
    }
}

/// A text file whose last line proves it.
pub fn proven_text(bytes: &[u8]) {
    if let Some(text) = text_file::prove(bytes) {
        assert!(bytes.starts_with(text.as_bytes()));
    }
}

/// Lines of `topics.checkpoint`.
pub fn topics(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for topic in text.lines().filter_map(directory::parse_topic) {
        assert!(topic.partitions() >= 1);
    }
}

/// `clean-shutdown`, without the line that proves it.
pub fn clean_shutdown(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(clean) = directory::parse_clean(text) {
        assert!(clean.witnesses.len() <= bytes.len());
    }
}

/// Kafka's `partition.metadata`.
pub fn partition_metadata(bytes: &[u8]) {
    if let Some(id) = topic_id::parse(bytes) {
        assert_eq!(topic_id::parse(topic_id::to_text(id).as_bytes()), Some(id));
    }
}

/// A record of `__commits`: 4 bytes of key, then its value.
pub fn commit_record(bytes: &[u8]) {
    let (key, value) = bytes.split_at(bytes.len().min(4));
    if let Ok(record) = CommitsRecord::decode(key, value) {
        assert_eq!(record.key(), key);
        let length = record.value().len();
        assert_eq!(length, value.len());
    }
}

/// A line that a client sends to the owner.
pub fn owner_request(bytes: &[u8]) {
    protocol::fuzz_request(bytes);
}

/// What the owner answers: a line, and raw bytes behind it.
pub fn owner_answer(bytes: &[u8]) {
    protocol::fuzz_answer(bytes);
}
