//! Lookups by time, against a model.

use super::*;

/// The time index points at the last offset of a batch, which may lie behind the end of a lookup
/// although the batch begins in front of it.
#[test]
fn a_lookup_that_ends_inside_the_batch_of_an_index_entry_finds_its_records() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    for timestamps in [&[0][..], &[0, 0], &[0], &[0, 0], &[0, 0], &[0, 0, 0]] {
        let base = writer.segment().end_offset();
        append(&mut writer, &batch(base, timestamps, 20));
    }
    append(&mut writer, &batch(11, &[i64::MAX, 0, 0], 20));
    let expected = Some((11, i64::MAX));
    let sealed = fixture.open_sealed_copy(writer);
    assert_eq!(sealed.offset_for_time(i64::MAX, 0, 12).unwrap(), expected);
    assert_eq!(sealed.offset_for_time(i64::MAX, 0, 11).unwrap(), None);
    assert_eq!(sealed.offset_for_time(i64::MAX, 12, 14).unwrap(), None);
}

/// The first record of a model that is old enough.
fn first_at(
    records: &[(Offset, Timestamp)],
    timestamp: Timestamp,
    start: Offset,
    end: Offset,
) -> Option<(Offset, Timestamp)> {
    let in_range = |offset: Offset| offset >= start && offset < end;
    records.iter().copied().find(|(offset, time)| in_range(*offset) && *time >= timestamp)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lookups_by_time_find_the_first_record_that_is_not_older(
        batches in proptest::collection::vec(proptest::collection::vec(
            prop_oneof![-20i64..200, Just(i64::MIN), Just(i64::MAX)], 1..4), 1..30),
        start in 0i64..20,
        end in 0i64..100,
    ) {
        let fixture = Fixture::new();
        let mut writer = fixture.writer();
        let mut records = Vec::new();
        for timestamps in &batches {
            let base = writer.segment().end_offset();
            records.extend((base..).zip(timestamps.iter().copied()));
            append(&mut writer, &batch(base, timestamps, 20));
        }
        let mut recovered = recovery::recover(&Fixture::on(fixture.memory.kill_image()), 0).0;
        let sealed = fixture.open_sealed_copy(writer);
        recovered.write_indexes().unwrap();
        for timestamp in (-21..201).chain([i64::MIN, i64::MAX]) {
            let expected = first_at(&records, timestamp, start, end);
            for segment in [&sealed, recovered.segment()] {
                prop_assert_eq!(segment.offset_for_time(timestamp, start, end).unwrap(), expected);
            }
        }
    }
}
