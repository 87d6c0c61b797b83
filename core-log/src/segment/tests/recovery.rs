//! Torn tails, damage, and crashes of recovery itself.

use super::*;
use crate::storage::memory::{At, Call, Effect, Fault, Keep};

/// Recovers a segment that must not be damaged.
pub(super) fn recover(fixture: &Fixture, witness: Offset) -> (SegmentWriter, TailReport) {
    match try_recover(fixture, witness).unwrap() {
        Recovered::Writable { writer, report } => (writer, report),
        Recovered::Damaged { damage, .. } => panic!("{damage:?}"),
    }
}

fn try_recover(fixture: &Fixture, witness: Offset) -> Result<Recovered> {
    let mut ignore = |_: &BatchHeader, _| {};
    recover_active(&fixture.storage, &fixture.place, 0, witness, SMALL, &mut ignore)
}

/// A segment of batches of which those before `witness` were synced, not sealed.
fn unsynced(batches: usize) -> (Fixture, SegmentWriter, Vec<(Offset, Offset)>) {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    let ranges = fill(&mut writer, batches, 30);
    (fixture, writer, ranges)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_to_whole_batches_and_quarantined() {
    let (fixture, writer, ranges) = unsynced(4);
    let whole = fixture.bytes(Kind::Log);
    let ends: Vec<usize> = ranges
        .iter()
        .map(|range| writer.segment().read(0, usize::MAX, range.1).unwrap().len())
        .collect();
    for len in 0..=whole.len() {
        let torn = Fixture::on(fixture.memory.kill_image());
        torn.storage.open(&torn.path(Kind::Log)).unwrap().set_len(len as u64).unwrap();
        let (writer, report) = recover(&torn, 0);
        let kept = ends.iter().filter(|end| **end <= len).count();
        let kept_bytes = kept.checked_sub(1).map_or(0, |last| ends[last]);
        assert_eq!(writer.segment().size(), kept_bytes as u64);
        assert_eq!(report.kept_bytes, kept_bytes as u64);
        assert_eq!(report.cut_bytes, (len - kept_bytes) as u64);
        assert_eq!(report.cut_offset, kept.checked_sub(1).map_or(0, |last| ranges[last].1));
        assert_eq!(torn.bytes(Kind::Log), whole[..kept_bytes]);
        assert_eq!(report.quarantine_path.is_some(), len > kept_bytes);
        if let Some(path) = report.quarantine_path {
            assert_eq!(torn.memory.read_file(&path).unwrap(), whole[kept_bytes..len]);
        }
        assert_reads(writer.segment(), &ranges[..kept]);
    }
}

#[test]
fn a_changed_byte_behind_the_witness_cuts_its_batch_and_all_that_follow() {
    let (fixture, _writer, ranges) = unsynced(4);
    let whole = fixture.bytes(Kind::Log);
    let first = BatchHeader::parse(&whole).unwrap().total_len();
    for position in (0..whole.len()).filter(|position| !(12..16).contains(position)) {
        let broken = Fixture::on(fixture.memory.kill_image());
        broken.memory.rot(&broken.path(Kind::Log), position, 0x04).unwrap();
        let (writer, report) = recover(&broken, 0);
        let kept = writer.segment().size();
        if position < first {
            assert_eq!((kept, report.cut_bytes), (0, whole.len() as u64));
            assert!(report.cut_reason.is_some());
        }
        let kept = usize::try_from(kept).unwrap();
        assert!(kept <= position || report.cut_bytes == 0);
        let batches = ranges_in(writer.segment().read(0, usize::MAX, i64::MAX).unwrap());
        assert_eq!(batches, ranges[..batches.len()]);
    }
}

#[test]
fn damage_in_front_of_the_witness_is_never_cut() {
    let (fixture, _writer, ranges) = unsynced(4);
    let whole = fixture.bytes(Kind::Log);
    let witness = ranges[2].1;
    let second = BatchHeader::parse(&whole).unwrap().total_len();
    // Offset, length and magic of the second batch: what the chain of headers consists of.
    for field in (0..12).chain([16]) {
        let broken = Fixture::on(fixture.memory.kill_image());
        broken.memory.rot(&broken.path(Kind::Log), second + field, 0x40).unwrap();
        let before = broken.bytes(Kind::Log);
        let operations = broken.memory.operations();
        let Recovered::Damaged { segment, damage } = try_recover(&broken, witness).unwrap() else {
            panic!("byte {field} was not noticed");
        };
        assert_eq!(damage.position, second as u64);
        assert_eq!((damage.offset, segment.end_offset()), (ranges[1].0, ranges[1].0));
        assert_reads(&segment, &ranges[..1]);
        assert_eq!(broken.bytes(Kind::Log), before);
        assert_eq!(broken.memory.operations(), operations);
    }
}

#[test]
fn a_file_that_ends_in_front_of_the_witness_is_damaged() {
    let (fixture, writer, ranges) = unsynced(4);
    let end = writer.segment().read(0, usize::MAX, ranges[2].1).unwrap().len();
    for len in 0..end {
        let broken = Fixture::on(fixture.memory.kill_image());
        broken.storage.open(&broken.path(Kind::Log)).unwrap().set_len(len as u64).unwrap();
        let recovered = try_recover(&broken, ranges[2].1).unwrap();
        assert!(matches!(recovered, Recovered::Damaged { .. }), "{len}");
        assert_eq!(broken.bytes(Kind::Log).len(), len);
    }
}

#[test]
fn bodies_in_front_of_the_witness_are_not_read_where_a_seal_proves_the_headers() {
    let (fixture, mut writer, ranges) = unsynced(4);
    writer.write_indexes().unwrap();
    fixture.memory.rot(&fixture.path(Kind::Log), HEADER_LEN + 8, 1).unwrap();
    let (writer, report) = recover(&fixture, ranges[3].1);
    assert_eq!(writer.segment().end_offset(), ranges[3].1);
    assert_eq!((report.rewritten_bytes, report.cut_bytes), (0, 0));
    // The seal is gone with the first recovery.
    drop(writer);
    let damaged = try_recover(&fixture, ranges[3].1).unwrap();
    assert!(matches!(damaged, Recovered::Damaged { damage, .. } if damage.offset == 0));
}

/// A number that is wrong in a header would fence its producer, or let it write twice. The leader epoch lies
/// outside of the checksum.
#[test]
fn rot_in_any_header_in_front_of_the_witness_is_damage_with_a_seal_and_without() {
    for is_sealed in [false, true] {
        let (fixture, mut writer, ranges) = unsynced(4);
        if is_sealed {
            writer.write_indexes().unwrap();
        }
        let second = writer.segment().read(0, 0, ranges[0].1).unwrap().len();
        let epoch = second + 12..second + 16;
        for at in (second..second + HEADER_LEN).filter(|at| !epoch.contains(at)) {
            let rotten = Fixture::on(fixture.memory.kill_image());
            rotten.memory.rot(&rotten.path(Kind::Log), at, 0x10).unwrap();
            match try_recover(&rotten, ranges[3].1).unwrap() {
                Recovered::Damaged { damage, .. } => {
                    assert_eq!(damage.offset, ranges[1].0, "{is_sealed} byte {at}: {damage:?}");
                }
                Recovered::Writable { .. } => panic!("{is_sealed}: byte {at} went unnoticed"),
            }
        }
    }
}

#[test]
fn what_is_kept_is_on_the_disk_even_after_a_sync_that_lied() {
    let (fixture, writer, ranges) = unsynced(3);
    writer.segment().sync_data().unwrap();
    let size = writer.segment().size();
    let mut writer = writer;
    let more = fill(&mut writer, 3, 30);
    fixture.memory.inject(Fault::once(At::Path(Call::Sync, ".log".to_owned()), Effect::LoseSync));
    assert!(writer.segment().sync_data().is_err());
    drop(writer);
    let (writer, report) = recover(&fixture, ranges[2].1);
    assert_eq!(report.rewritten_bytes, writer.segment().size() - size);
    let cut = Fixture::on(fixture.memory.crash_image(Keep::None));
    let (writer, report) = recover(&cut, more[2].1);
    assert_eq!((writer.segment().end_offset(), report.cut_bytes), (more[2].1, 0));
}

#[test]
fn a_dead_batch_behind_a_cut_never_comes_back() {
    let (fixture, writer, ranges) = unsynced(3);
    let second = writer.segment().read(0, usize::MAX, ranges[0].1).unwrap().len();
    // The middle batch was lost, the last one survived.
    fixture.memory.rot(&fixture.path(Kind::Log), second + HEADER_LEN + 3, 1).unwrap();
    let (mut writer, report) = recover(&fixture, ranges[0].1);
    assert!(report.cut_bytes > 0);
    let again = fill(&mut writer, 1, 30);
    append(&mut writer, &batch(again[0].1, &[1, 1], 30));
    for seed in 0..200 {
        let image = Fixture::on(fixture.memory.crash_image(Keep::Random(seed)));
        let (writer, _) = recover(&image, ranges[0].1);
        assert!(writer.segment().end_offset() <= again[0].1 + 2);
        for header in (0..writer.segment().end_offset()).map(|at| writer.segment().header_at(at)) {
            assert!(header.unwrap().unwrap().max_timestamp <= 1);
        }
    }
}

#[test]
fn a_crash_at_any_operation_of_recovery_recovers_to_the_same_end() {
    let (fixture, writer, ranges) = unsynced(6);
    let len = writer.segment().size();
    drop(writer);
    fixture.storage.open(&fixture.path(Kind::Log)).unwrap().set_len(len - 5).unwrap();
    let start = fixture.memory.crash_image(Keep::All);
    // After a first recovery has returned, what it kept is witnessed; before, only the names are.
    for stop in 0.. {
        let crashed = Fixture::on(start.kill_image());
        crashed.memory.stop_after(stop);
        let done = try_recover(&crashed, 0).is_ok();
        for keep in [Keep::All, Keep::None].into_iter().chain((0..30).map(Keep::Random)) {
            let image = Fixture::on(crashed.memory.crash_image(keep));
            let witness = if done { ranges[4].1 } else { 0 };
            let (writer, report) = recover(&image, witness);
            assert!(writer.segment().end_offset() <= ranges[4].1);
            if done {
                assert_eq!((writer.segment().end_offset(), report.cut_bytes), (ranges[4].1, 0));
            }
        }
        let killed = Fixture::on(crashed.memory.kill_image());
        assert_eq!(recover(&killed, 0).0.segment().end_offset(), ranges[4].1);
        if done {
            assert!(stop >= 5, "recovery has only {stop} operations");
            break;
        }
    }
}

#[test]
fn errors_of_the_disk_stop_recovery_and_a_second_one_succeeds() {
    let (fixture, writer, ranges) = unsynced(6);
    let len = writer.segment().size();
    drop(writer);
    fixture.storage.open(&fixture.path(Kind::Log)).unwrap().set_len(len - 5).unwrap();
    for operation in 1.. {
        let faulty = Fixture::on(fixture.memory.kill_image());
        let effect = match operation % 2 {
            0 => Effect::LoseSync,
            _ => Effect::ShortWrite { keep: 7 },
        };
        faulty.memory.inject(Fault::once(At::Operation(operation), effect));
        let failed = try_recover(&faulty, 0);
        faulty.memory.clear_faults();
        let (writer, _) = recover(&faulty, 0);
        assert_eq!(writer.segment().end_offset(), ranges[4].1);
        let image = Fixture::on(faulty.memory.crash_image(Keep::None));
        assert_eq!(recover(&image, ranges[4].1).0.segment().end_offset(), ranges[4].1);
        if failed.is_ok() {
            break;
        }
    }
}

#[test]
fn the_visitor_sees_every_batch_that_is_kept_and_what_its_marker_says() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    append(&mut writer, &batch(0, &[1, 2], 10));
    let marker = EndTransactionMarker { control_type: ControlType::Abort, coordinator_epoch: 3 };
    let mut control = marker.to_batch(5);
    control.stamp(&Stamp {
        base_offset: 2,
        leader_epoch: 0,
        attributes: EndTransactionMarker::ATTRIBUTES,
        producer_id: ProducerId(9),
        producer_epoch: ProducerEpoch(1),
        base_sequence: -1,
    });
    append(&mut writer, &control);
    append(&mut writer, &batch(3, &[1], 10));
    for witness in [0, 4] {
        let mut seen = Vec::new();
        let mut note = |header: &BatchHeader, marker| seen.push((header.base_offset, marker));
        recover_active(&fixture.storage, &fixture.place, 0, witness, SMALL, &mut note).unwrap();
        assert_eq!(seen, [(0, None), (2, Some(marker)), (3, None)]);
    }
    let mut seen = Vec::new();
    let mut note = |header: &BatchHeader, marker| seen.push((header.base_offset, marker));
    writer.segment().visit(1, &mut note).unwrap();
    assert_eq!(seen, [(0, None), (2, Some(marker)), (3, None)]);
    let mut seen = Vec::new();
    let mut note = |header: &BatchHeader, _: Option<_>| seen.push(header.base_offset);
    writer.segment().visit(3, &mut note).unwrap();
    assert_eq!(seen, [3]);
}

#[test]
fn a_recovered_segment_is_written_and_sealed_as_if_nothing_had_happened() {
    let (fixture, mut writer, _) = unsynced(20);
    let crashed = Fixture::on(fixture.memory.kill_image());
    fill(&mut writer, 20, 30);
    writer.seal().unwrap();
    let (mut writer, _) = recover(&crashed, 0);
    fill(&mut writer, 20, 30);
    writer.seal().unwrap();
    for kind in [Kind::Log, Kind::OffsetIndex, Kind::TimeIndex, Kind::Seal] {
        assert_eq!(crashed.bytes(kind), fixture.bytes(kind), "{kind:?}");
    }
}

#[test]
fn a_seal_is_gone_durably_before_its_segment_is_written_again() {
    let (fixture, writer, ranges) = unsynced(3);
    writer.seal().unwrap();
    fixture.storage.sync_dir(&fixture.place.dir).unwrap();
    let (_writer, _) = recover(&fixture, ranges[2].1);
    let image = fixture.memory.crash_image(Keep::None);
    assert!(!image.exists(&fixture.path(Kind::Seal)).unwrap());
}

#[test]
fn a_second_cut_at_the_same_position_keeps_the_first_quarantine() {
    let (fixture, writer, _) = unsynced(1);
    let size = writer.segment().size();
    for attempt in 0..2 {
        let file = fixture.storage.open(&fixture.path(Kind::Log)).unwrap();
        file.write_all_at(&[attempt; 9], size).unwrap();
        let (_, report) = recover(&fixture, 0);
        let path = report.quarantine_path.unwrap();
        assert_eq!(fixture.memory.read_file(&path).unwrap(), [attempt; 9]);
    }
    let names = fixture.memory.list(&fixture.place.dir).unwrap();
    assert_eq!(names.iter().filter(|name| name.ends_with(".quarantine")).count(), 2);
}
