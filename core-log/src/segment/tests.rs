//! Segments against a model, against Kafka's files, and against broken ones.

mod recovery;
mod times;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::format::{
    Attributes, BatchBuilder, ControlType, HEADER_LEN, NO_HEADERS, RecordBatch, Stamp,
};
use crate::ids::{ProducerEpoch, ProducerId};
use crate::storage::memory::MemoryStorage;

const SMALL: SegmentOptions =
    SegmentOptions { segment_bytes: 1 << 20, segment_ms: 1000, index_interval_bytes: 100 };

struct Fixture {
    memory: MemoryStorage,
    storage: Arc<dyn Storage>,
    place: Arc<Place>,
}

impl Fixture {
    fn new() -> Self {
        let memory = MemoryStorage::new(1);
        memory.create_dir_all(Path::new("/t-0")).unwrap();
        memory.sync_dir(Path::new("/")).unwrap();
        Self::on(memory)
    }

    fn on(memory: MemoryStorage) -> Self {
        let topic = TopicName::new("t").unwrap();
        let place = Arc::new(Place { dir: "/t-0".into(), topic, partition: 0 });
        Self { storage: Arc::new(memory.clone()), memory, place }
    }

    fn writer(&self) -> SegmentWriter {
        SegmentWriter::create(&self.storage, &self.place, 0, SMALL).unwrap()
    }

    fn open_sealed(&self) -> OpenedSegment {
        Segment::open_sealed(&self.storage, &self.place, 0, SMALL).unwrap()
    }

    fn path(&self, kind: Kind) -> PathBuf {
        self.place.path(0, kind)
    }

    fn bytes(&self, kind: Kind) -> Vec<u8> {
        self.memory.read_file(&self.path(kind)).unwrap()
    }
}

/// A batch with these timestamps; values of `value_len` bytes.
fn batch(base_offset: Offset, timestamps: &[Timestamp], value_len: usize) -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    for timestamp in timestamps {
        let value = vec![b'v'; value_len];
        builder.push(*timestamp, None, Some(&value), NO_HEADERS).unwrap();
    }
    builder.stamp(&Stamp {
        base_offset,
        leader_epoch: 0,
        attributes: Attributes::NONE,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: -1,
    });
    builder
}

fn append(writer: &mut SegmentWriter, builder: &BatchBuilder) {
    let header = BatchHeader::parse(builder.bytes()).unwrap();
    writer.append(builder.bytes(), &header).unwrap();
}

/// Appends batches of one to three records; answers (base, end) of each.
fn fill(writer: &mut SegmentWriter, batches: usize, value_len: usize) -> Vec<(Offset, Offset)> {
    let mut ranges = Vec::new();
    for index in 0..batches {
        let base = writer.segment().end_offset();
        let time = i64::try_from(index).unwrap() * 10;
        append(writer, &batch(base, &vec![time; index % 3 + 1], value_len));
        ranges.push((base, writer.segment().end_offset()));
    }
    ranges
}

fn ranges_in(mut bytes: Bytes) -> Vec<(Offset, Offset)> {
    let mut ranges = Vec::new();
    while let Some(batch) = RecordBatch::split_from(&mut bytes).unwrap() {
        batch.verify_crc().unwrap();
        ranges.push((batch.header().base_offset, batch.header().next_offset()));
    }
    ranges
}

/// Every offset is found, in steps of different sizes.
fn assert_reads(segment: &Segment, ranges: &[(Offset, Offset)]) {
    let end = segment.end_offset();
    for (index, (base, next)) in ranges.iter().enumerate() {
        for offset in *base..*next {
            let one = ranges_in(segment.read(offset, 0, end).unwrap());
            assert_eq!(one, ranges[index..=index]);
            assert_eq!(segment.header_at(offset).unwrap().unwrap().base_offset, *base);
        }
        let rest = ranges_in(segment.read(*base, usize::MAX, end).unwrap());
        assert_eq!(rest, ranges[index..]);
        let before = ranges_in(segment.read(0, usize::MAX, *next).unwrap());
        assert_eq!(before, ranges[..=index]);
    }
    assert!(segment.read(end, 100, end).unwrap().is_empty());
    assert!(segment.read(end, 100, end + 5).unwrap().is_empty());
    assert_eq!(segment.header_at(end).unwrap(), None);
}

#[test]
fn whole_batches_are_read_from_every_offset_before_and_after_the_seal() {
    for value_len in [1, 90, 1000] {
        let fixture = Fixture::new();
        let mut writer = fixture.writer();
        let ranges = fill(&mut writer, 60, value_len);
        assert_reads(writer.segment(), &ranges);
        let sealed = writer.seal().unwrap();
        assert_reads(&sealed, &ranges);
        let opened = fixture.open_sealed();
        assert_eq!((opened.rebuilt, opened.aborted_lost, opened.damage), (false, false, None));
        assert_reads(&opened.segment, &ranges);
        assert_eq!(opened.segment.size(), sealed.size());
        assert_eq!(opened.segment.largest_timestamp(), Some(590));
    }
}

#[test]
fn a_read_stays_within_its_limit_unless_the_first_batch_alone_is_larger() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    fill(&mut writer, 60, 40);
    let segment = writer.segment();
    for max_bytes in [1, 150, 300, 1000, 5000] {
        for offset in 0..segment.end_offset() {
            let bytes = segment.read(offset, max_bytes, i64::MAX).unwrap();
            let len = bytes.len();
            assert!(ranges_in(bytes).len() == 1 || len <= max_bytes);
        }
    }
}

#[test]
fn reading_on_costs_at_most_two_reads_of_the_log() {
    let fixture = Fixture::new();
    for value_len in [10, 2000] {
        let place =
            Arc::new(Place { dir: format!("/t-{value_len}").into(), ..(*fixture.place).clone() });
        fixture.memory.create_dir_all(&place.dir).unwrap();
        let mut writer =
            SegmentWriter::create(&fixture.storage, &place, 0, SegmentOptions::default()).unwrap();
        fill(&mut writer, 400, value_len);
        let segment = writer.segment();
        let (mut offset, mut fetches) = (0, 0);
        let before = fixture.memory.reads();
        while offset < segment.end_offset() {
            offset =
                ranges_in(segment.read(offset, 16 * 1024, i64::MAX).unwrap()).last().unwrap().1;
            fetches += 1;
        }
        assert!(fixture.memory.reads() - before <= 3 * fetches);
    }
}

#[test]
fn opening_a_sealed_segment_reads_its_seal_and_nothing_else() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    fill(&mut writer, 50, 100);
    writer.seal().unwrap();
    let (reads, operations) = (fixture.memory.reads(), fixture.memory.operations());
    fixture.open_sealed();
    assert_eq!(fixture.memory.reads() - reads, 1);
    assert_eq!(fixture.memory.operations(), operations);
}

#[test]
fn an_index_that_is_missing_cut_or_changed_at_any_byte_changes_no_answer() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    let ranges = fill(&mut writer, 20, 30);
    writer.seal().unwrap();
    for kind in [Kind::OffsetIndex, Kind::TimeIndex, Kind::Seal] {
        let len = fixture.bytes(kind).len();
        assert!(len > 8);
        for position in 0..len {
            let broken = Fixture::on(fixture.memory.kill_image());
            broken.memory.rot(&broken.path(kind), position, 0x41).unwrap();
            let opened = broken.open_sealed();
            assert_eq!(opened.damage, None);
            assert_eq!(opened.rebuilt, kind == Kind::Seal);
            assert_reads(&opened.segment, &ranges);
            for time in 0..200 {
                let found = opened.segment.offset_for_time(time, 0, i64::MAX).unwrap();
                let index = usize::try_from((time + 9) / 10).unwrap();
                assert_eq!(found.map(|found| found.0), ranges.get(index).map(|range| range.0));
            }
        }
        for len in [0, 1, len - 1] {
            let broken = Fixture::on(fixture.memory.kill_image());
            let file = broken.storage.open(&broken.path(kind)).unwrap();
            file.set_len(len as u64).unwrap();
            let opened = broken.open_sealed();
            assert!(opened.rebuilt && opened.damage.is_none());
            assert_reads(&opened.segment, &ranges);
            assert_eq!(broken.bytes(kind), fixture.bytes(kind));
        }
        let broken = Fixture::on(fixture.memory.kill_image());
        broken.storage.remove_file(&broken.path(kind)).unwrap();
        let opened = broken.open_sealed();
        assert!(opened.rebuilt && opened.damage.is_none());
        assert_eq!(opened.aborted_lost, kind == Kind::Seal);
        assert_reads(&opened.segment, &ranges);
        assert!(!broken.open_sealed().rebuilt);
    }
}

#[test]
fn a_sealed_segment_that_lost_its_end_is_readable_up_to_there() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    let ranges = fill(&mut writer, 6, 30);
    let size = writer.seal().unwrap().size();
    for len in 0..size {
        let broken = Fixture::on(fixture.memory.kill_image());
        broken.storage.open(&broken.path(Kind::Log)).unwrap().set_len(len).unwrap();
        let opened = broken.open_sealed();
        let damage = opened.damage.unwrap();
        let whole = ranges_in(opened.segment.read(0, usize::MAX, i64::MAX).unwrap());
        assert_eq!(whole, ranges[..whole.len()]);
        assert_eq!(damage.offset, opened.segment.end_offset());
        assert_eq!(damage.position, opened.segment.size());
        assert_eq!(broken.bytes(Kind::Log).len() as u64, len);
        let error = broken.place.damaged(&damage);
        assert!(matches!(error, Error::Damaged { partition: 0, .. }), "{error}");
    }
}

#[test]
fn bit_rot_in_a_sealed_segment_is_never_served_as_another_record() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    fill(&mut writer, 6, 30);
    let segment = writer.seal().unwrap();
    let good = segment.read(0, usize::MAX, i64::MAX).unwrap();
    // Leader epochs are covered by the seal's digest only.
    let is_epoch = |position: usize| {
        let mut start = 0;
        while start + BatchHeader::parse(&good[start..]).unwrap().total_len() <= position {
            start += BatchHeader::parse(&good[start..]).unwrap().total_len();
        }
        (12..16).contains(&(position - start))
    };
    let positions = (0..good.len()).filter(|position| !is_epoch(*position));
    // The lowest bits make another offset that the batch still seems to contain.
    for (position, mask) in positions.flat_map(|at| [1, 2, 0x10].map(|mask| (at, mask))) {
        let broken = Fixture::on(fixture.memory.kill_image());
        broken.memory.rot(&broken.path(Kind::Log), position, mask).unwrap();
        let opened = broken.open_sealed();
        for offset in 0..segment.end_offset() {
            let Ok(mut bytes) = opened.segment.read(offset, 0, i64::MAX) else { continue };
            let Ok(Some(batch)) = RecordBatch::split_from(&mut bytes) else { continue };
            if batch.verify_crc().is_ok() {
                let (start, end) = (batch.header().base_offset, batch.header().next_offset());
                assert!(start <= offset && offset < end);
                let same = segment.read(offset, 0, i64::MAX).unwrap();
                assert_eq!(batch.bytes(), &same);
            }
        }
    }
}

#[test]
fn without_seal_bit_rot_is_found_when_the_segment_is_opened() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    let ranges = fill(&mut writer, 5, 30);
    let size = writer.segment().size();
    writer.seal().unwrap();
    fixture.storage.remove_file(&fixture.path(Kind::Seal)).unwrap();
    for position in (0..usize::try_from(size).unwrap()).step_by(7) {
        let broken = Fixture::on(fixture.memory.kill_image());
        broken.memory.rot(&broken.path(Kind::Log), position, 0x10).unwrap();
        let opened = broken.open_sealed();
        let whole = ranges_in(opened.segment.read(0, usize::MAX, i64::MAX).unwrap());
        assert_eq!(whole, ranges[..whole.len()]);
        assert_eq!(opened.damage.is_some(), whole.len() < ranges.len());
    }
}

#[test]
fn aborted_transactions_are_there_after_the_seal_and_can_be_made_again() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    fill(&mut writer, 9, 10);
    let entry = AbortedTransaction {
        producer_id: ProducerId(5),
        first_offset: 2,
        last_offset: 6,
        last_stable_offset: 7,
    };
    writer.append_aborted(entry);
    let collected = |segment: &Segment| {
        let mut found = Vec::new();
        let complete = segment.collect_aborted(3, 6, &mut found).unwrap();
        (found, complete)
    };
    assert_eq!(collected(writer.segment()), (vec![entry], true));
    let sealed = writer.seal().unwrap();
    assert_eq!(collected(&sealed), (vec![entry], true));
    assert_eq!(collected(&fixture.open_sealed().segment), (vec![entry], true));
    fixture.memory.rot(&fixture.path(Kind::TxnIndex), 20, 1).unwrap();
    let opened = fixture.open_sealed();
    assert!(opened.aborted_lost && !opened.rebuilt);
    assert_eq!(collected(&opened.segment), (vec![], false));
    opened.segment.replace_aborted(vec![entry]).unwrap();
    let opened = fixture.open_sealed();
    assert!(!opened.aborted_lost);
    assert_eq!(collected(&opened.segment), (vec![entry], true));
}

#[test]
fn a_segment_rolls_by_size_by_record_time_and_never_while_it_is_empty() {
    let fixture = Fixture::new();
    let options = SegmentOptions { segment_bytes: 300, ..SMALL };
    let mut writer = SegmentWriter::create(&fixture.storage, &fixture.place, 0, options).unwrap();
    let header = |builder: &BatchBuilder| BatchHeader::parse(builder.bytes()).unwrap();
    let huge = batch(0, &[5_000], 1_000);
    assert!(!writer.should_roll(&header(&huge)));
    append(&mut writer, &batch(0, &[5_000], 10));
    assert!(writer.should_roll(&header(&batch(1, &[5_000], 300))));
    assert!(!writer.should_roll(&header(&batch(1, &[6_000], 10))));
    assert!(writer.should_roll(&header(&batch(1, &[6_001], 10))));
    assert!(!writer.should_roll(&header(&batch(1, &[i64::MIN], 10))));
    let far = Offset::from(i32::MAX);
    assert!(!writer.should_roll(&header(&batch(far, &[5_000], 10))));
    assert!(writer.should_roll(&header(&batch(far + 1, &[5_000], 10))));
}

#[test]
fn segments_are_listed_by_their_log_files_and_removed_with_everything() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    fill(&mut writer, 9, 10);
    let first = writer.seal().unwrap();
    let end = first.end_offset();
    SegmentWriter::create(&fixture.storage, &fixture.place, end, SMALL).unwrap();
    assert_eq!(Segment::list(&*fixture.storage, &fixture.place).unwrap(), [0, end]);
    let opened = fixture.open_sealed().segment;
    opened.remove_files().unwrap();
    opened.remove_files().unwrap();
    assert_eq!(fixture.memory.list(&fixture.place.dir).unwrap(), [format!("{end:020}.log")]);
    assert!(!opened.read(0, 100, end).unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reads_agree_with_a_model_for_batches_of_any_size(
        sizes in proptest::collection::vec((1usize..5, 0usize..600), 1..40),
    ) {
        let fixture = Fixture::new();
        let mut writer = fixture.writer();
        let mut ranges = Vec::new();
        for (count, value_len) in sizes {
            let base = writer.segment().end_offset();
            append(&mut writer, &batch(base, &vec![7; count], value_len));
            ranges.push((base, writer.segment().end_offset()));
        }
        assert_reads(writer.segment(), &ranges);
        assert_reads(&fixture.open_sealed_copy(writer), &ranges);
    }
}

impl Fixture {
    fn open_sealed_copy(&self, writer: SegmentWriter) -> Arc<Segment> {
        writer.seal().unwrap();
        self.open_sealed().segment
    }
}

#[test]
fn a_writer_and_its_readers_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(crate::storage::disk::DiskStorage::new());
    let topic = TopicName::new("t").unwrap();
    let place = Arc::new(Place { dir: dir.path().to_owned(), topic, partition: 0 });
    let mut writer = SegmentWriter::create(&storage, &place, 0, SMALL).unwrap();
    let segment = Arc::clone(writer.segment());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut offset = 0;
            while offset < 2_000 {
                let end = segment.end_offset();
                let bytes = segment.read(offset, 4096, end).unwrap();
                for range in ranges_in(bytes) {
                    assert_eq!(range.0, offset);
                    offset = range.1;
                }
            }
        });
        for base in 0..2_000 {
            append(&mut writer, &batch(base, &[base], 50));
        }
        reader.join().unwrap();
    });
    assert_eq!(writer.seal().unwrap().end_offset(), 2_000);
    let opened = Segment::open_sealed(&storage, &place, 0, SMALL).unwrap();
    assert_eq!((opened.rebuilt, opened.segment.end_offset()), (false, 2_000));
}
