//! Records that are shared one by one.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::*;
use crate::error::{Error, GroupError};
use crate::members::Acknowledge;
use crate::storage::memory::Keep;

fn settings(max_poll_records: usize) -> SharedSettings {
    SharedSettings {
        auto_offset_reset: OffsetReset::Earliest,
        max_poll_records,
        ..SharedSettings::default()
    }
}

fn holder(log: &Log, most: usize) -> SharedConsumer {
    log.group("g").unwrap().shared(&["t"], settings(most)).unwrap()
}

fn offsets(shared: &Shared) -> Vec<(Offset, u32)> {
    let offset = |shared: Result<SharedRecord<'_>>| {
        let shared = shared.unwrap();
        (shared.record.offset, shared.deliveries)
    };
    shared.records().map(offset).collect()
}

/// Polls without waiting, says the same of all records, and commits.
fn work(consumer: &mut SharedConsumer, what: Acknowledge) -> Vec<(Offset, u32)> {
    let shared = consumer.poll(Duration::ZERO).unwrap();
    shared.records().for_each(|record| consumer.acknowledge(&record.unwrap(), what));
    consumer.commit().unwrap();
    offsets(&shared)
}

#[test]
fn each_record_goes_to_one_consumer_and_comes_again_until_it_is_done() {
    let clock = clock();
    let log = open(&MemoryStorage::new(1), &clock);
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[0, 1, 2, 3, 4, 5], Durability::Sync);
    let (mut a, mut b) = (holder(&log, 2), holder(&log, 2));
    let of_a = a.poll(Duration::ZERO).unwrap();
    assert_eq!(offsets(&of_a), [(0, 1), (1, 1)]);
    assert_eq!(work(&mut b, Acknowledge::Release), [(2, 1), (3, 1)]);
    assert_eq!(work(&mut b, Acknowledge::Accept), [(2, 2), (3, 2)]);
    assert_eq!(committed_in(&log)[&0], 0, "the first two are not done");
    clock.advance(Duration::from_secs(30));
    assert_eq!(work(&mut b, Acknowledge::Accept), [(0, 2), (1, 2)]);
    assert_eq!(committed_in(&log)[&0], 4);
    for record in of_a.records() {
        a.acknowledge(&record.unwrap(), Acknowledge::Accept);
    }
    let late = a.commit();
    assert!(matches!(late, Err(Error::Group(GroupError::NotHeld { offset: 0, .. }))), "{late:?}");
    assert_eq!(work(&mut a, Acknowledge::Reject), [(4, 1), (5, 1)]);
    assert!(work(&mut b, Acknowledge::Accept).is_empty());
    assert_eq!(committed_in(&log)[&0], 6);
}

/// Records that were taken beside a partition that cannot be read would be held, freed, and at last given
/// up as done, without ever having been handed out.
#[test]
fn a_partition_that_cannot_be_read_takes_no_records_of_the_others_with_it() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage, &clock());
    let t = topic(&log, "t", 3);
    for partition in 0..3 {
        write(&log, &t, partition, &[1, 2], Durability::Sync);
    }
    rot_last_byte(&storage, 1);
    let mut consumer = holder(&log, 100);
    let mut seen = 0;
    for _ in 0..2 {
        let shared = consumer.poll(Duration::ZERO).unwrap();
        seen += shared.count();
        if seen == 4 {
            break;
        }
    }
    assert_eq!(seen, 4);
    let failed = consumer.poll(Duration::ZERO);
    assert!(matches!(failed, Err(Error::Decode(_))), "{failed:?}");
}

#[test]
fn what_nobody_can_do_is_given_up_after_some_deliveries() {
    let log = new_log();
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[0, 1], Durability::Sync);
    let mut consumer = holder(&log, 1);
    for delivery in 1..=5 {
        assert_eq!(work(&mut consumer, Acknowledge::Release), [(0, delivery)]);
    }
    assert_eq!(work(&mut consumer, Acknowledge::Accept), [(1, 1)]);
    assert_eq!(committed_in(&log)[&0], 2);
}

#[test]
fn what_was_committed_as_done_is_done_after_any_power_cut() {
    let (storage, clock) = (MemoryStorage::new(1), clock());
    let log = open(&storage, &clock);
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &(0..20).collect::<Vec<_>>(), Durability::Os);
    let mut consumer = holder(&log, 20);
    let shared = consumer.poll(Duration::ZERO).unwrap();
    let mut done = BTreeSet::new();
    for record in shared.records() {
        let record = record.unwrap();
        if record.record.offset % 3 == 1 {
            consumer.acknowledge(&record, Acknowledge::Accept);
            done.insert(record.record.offset);
        }
    }
    consumer.commit().unwrap();
    for keep in [Keep::None, Keep::All] {
        let log = open(&storage.crash_image(keep), &clock);
        let again = holder(&log, 20).poll(Duration::ZERO).unwrap();
        let again: BTreeSet<_> = offsets(&again).into_iter().map(|(offset, _)| offset).collect();
        assert!(again.is_disjoint(&done), "{again:?}");
        // What was consumed was synced first: the log holds what the bitmap speaks of.
        assert_eq!(log.offsets(t.id(), 0).unwrap().log_end_offset, 20);
        assert_eq!((committed_in(&log)[&0], again.len() + done.len()), (0, 20));
    }
}

/// The commit record reaches the disk, with a sync of somebody else, and the records that it calls done do
/// not. Others get their offsets.
#[test]
fn what_takes_the_offset_of_a_lost_record_is_not_done() {
    let (storage, clock) = (MemoryStorage::new(1), clock());
    let log = open(&storage, &clock);
    let (t, u) = (topic(&log, "t", 1), topic(&log, "u", 1));
    write(&log, &t, 0, &[0, 1], Durability::Sync);
    write(&log, &t, 0, &[2, 3, 4, 5], Durability::Os);
    write(&log, &u, 0, &[0], Durability::Sync);
    let lazy = || SharedSettings { durability: Durability::Os, ..settings(20) };
    let mut consumer = log.group("g").unwrap().shared(&["t"], lazy()).unwrap();
    for record in consumer.poll(Duration::ZERO).unwrap().records() {
        let record = record.unwrap();
        if record.record.offset % 2 == 1 {
            consumer.acknowledge(&record, Acknowledge::Accept);
        }
    }
    consumer.commit().unwrap();
    let mut other = log.group("h").unwrap().consumer(manual());
    other.assign(&[("u", 0)]).unwrap();
    assert_eq!(poll(&mut other)[&0], [0]);
    other.commit().unwrap();
    let log = open(&storage.crash_image(Keep::None), &clock);
    assert_eq!(log.offsets(t.id(), 0).unwrap().log_end_offset, 2);
    write(&log, &t, 0, &[12, 13, 14, 15], Durability::Sync);
    let mut consumer = log.group("g").unwrap().shared(&["t"], lazy()).unwrap();
    let found = offsets(&consumer.poll(Duration::ZERO).unwrap());
    assert_eq!(found, [(0, 1), (2, 1), (3, 1), (4, 1), (5, 1)], "only 1 is done");
}

#[test]
fn a_commit_that_failed_is_said_again_by_the_next_one() {
    let (storage, clock) = (MemoryStorage::new(1), clock());
    let log = open(&storage, &clock);
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[0, 1], Durability::Sync);
    let mut consumer = holder(&log, 1);
    let shared = consumer.poll(Duration::ZERO).unwrap();
    shared.records().for_each(|one| consumer.acknowledge(&one.unwrap(), Acknowledge::Accept));
    fail_one_write_of_commits(&storage);
    consumer.commit().unwrap_err();
    consumer.commit().unwrap();
    let log = open(&storage.crash_image(Keep::None), &clock);
    assert_eq!(offsets(&holder(&log, 9).poll(Duration::ZERO).unwrap()), [(1, 1)]);
}

#[test]
fn a_group_that_all_have_left_begins_at_what_is_committed() {
    let log = new_log();
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[0], Durability::Sync);
    let _kept = log.group("g").unwrap();
    for _ in 0..2 {
        let mut alone = holder(&log, 1);
        assert_eq!(offsets(&alone.poll(Duration::ZERO).unwrap()), [(0, 1)]);
    }
}

#[test]
fn a_start_that_was_chosen_is_kept() {
    let (storage, clock) = (MemoryStorage::new(1), clock());
    let log = open(&storage, &clock);
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[0, 1], Durability::Sync);
    let latest = || SharedSettings { auto_offset_reset: OffsetReset::Latest, ..settings(9) };
    let mut consumer = log.group("g").unwrap().shared(&["t"], latest()).unwrap();
    write(&log, &t, 0, &[2], Durability::Sync);
    assert_eq!(offsets(&consumer.poll(Duration::ZERO).unwrap()), [(2, 1)]);
    let log = open(&storage.crash_image(Keep::None), &clock);
    let mut consumer = log.group("g").unwrap().shared(&["t"], latest()).unwrap();
    assert_eq!(offsets(&consumer.poll(Duration::ZERO).unwrap()), [(2, 1)], "not behind it");
}

#[test]
fn a_group_shares_partitions_or_records() {
    let log = new_log();
    topic(&log, "t", 1);
    let shared = holder(&log, 1);
    let refused = log.group("g").unwrap().consumer(manual()).subscribe(&["t"]);
    assert!(matches!(refused, Err(Error::Group(GroupError::OtherKind { .. }))), "{refused:?}");
    // Who chose its partitions itself would overwrite what is done beside the committed offset.
    let mut chooser = log.group("g").unwrap().consumer(manual());
    chooser.assign(&[("t", 0)]).unwrap();
    assert!(poll(&mut chooser).is_empty());
    let refused = chooser.commit();
    assert!(matches!(refused, Err(Error::Group(GroupError::OtherKind { .. }))), "{refused:?}");
    drop(shared);
    let member = member(&log, manual());
    let refused = log.group("g").unwrap().shared(&["t"], settings(1));
    assert!(matches!(refused, Err(Error::Group(GroupError::OtherKind { .. }))));
    drop(member);
    holder(&log, 1);
}

#[test]
fn many_threads_do_each_record_once_and_a_dead_one_is_replaced() {
    const RECORDS: usize = 600;
    let log = LogOptions::new().storage(Arc::new(MemoryStorage::new(1))).open(DIR).unwrap();
    let t = topic(&log, "t", 2);
    for n in 0..RECORDS as i64 {
        write(&log, &t, u32::try_from(n % 2).unwrap(), &[n], Durability::Os);
    }
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (log, done) = (&log, &done);
            scope.spawn(move || {
                let mut consumer = holder(log, 7);
                for round in 0.. {
                    let shared = consumer.poll(Duration::from_millis(20)).unwrap();
                    if done.lock().len() >= RECORDS {
                        break;
                    }
                    if thread == 0 && round == 3 {
                        // It dies with records in hand.
                        consumer = holder(log, 7);
                        continue;
                    }
                    let mut mine = Vec::new();
                    for record in shared.records() {
                        let record = record.unwrap();
                        consumer.acknowledge(&record, Acknowledge::Accept);
                        mine.push((record.record.partition, record.record.offset));
                    }
                    consumer.commit().unwrap();
                    done.lock().extend(mine);
                }
            });
        }
    });
    let all = done.into_inner();
    assert_eq!(all.len(), RECORDS, "a record was done twice");
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), RECORDS);
    assert_eq!(committed_in(&log), BTreeMap::from([(0, 300), (1, 300)]));
}
