//! One step after the other, with a clock that stands still.

use super::*;
use crate::error::{Error, GroupError};
use crate::partition::FetchBound;
use crate::producer::{CommitOutcome, CommitWith, Record};
use crate::storage::Storage;

#[test]
fn a_poll_hands_out_whole_batches_and_not_more_than_it_may() {
    let log = new_log();
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[0, 1, 2, 3, 4], Durability::Sync);
    write(&log, &t, 0, &[5, 6], Durability::Sync);
    let mut consumer = member(&log, ConsumerSettings { max_poll_records: 3, ..manual() });
    let mut polls = Vec::new();
    for expected in [3, 3, 1, 0] {
        let polled = consumer.poll(Duration::ZERO).unwrap();
        assert_eq!(polled.count(), expected);
        polls.push(polled);
    }
    let all: Vec<_> = polls.iter().flat_map(|polled| values(polled).remove(&0)).flatten().collect();
    assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
    let batch = &polls[1].batches()[0];
    assert_eq!((batch.first_offset(), batch.next_offset(), batch.count()), (3, 5, 2));
    assert_eq!(batch.batch().header().base_offset, 0);
    // The bytes of a batch that was cut are those of the fetch: nothing is copied.
    assert_eq!(polls[0].batches()[0].bytes().as_ptr(), batch.bytes().as_ptr());
    assert_eq!(consumer.position("t", 0).unwrap(), 7);
    let one_batch = ConsumerSettings { fetch_max_bytes: 1, ..manual() };
    let mut reader = log.consumer(one_batch);
    reader.subscribe(&["t"]).unwrap();
    assert_eq!(poll(&mut reader)[&0], [0, 1, 2, 3, 4]);
    assert_eq!(poll(&mut reader)[&0], [5, 6]);
}

#[test]
fn what_comes_in_front_of_an_error_counts_as_handed_out() {
    let storage = MemoryStorage::new(1);
    let log = open(&storage, &clock());
    let t = topic(&log, "t", 2);
    write(&log, &t, 0, &[0, 1, 2], Durability::Sync);
    write(&log, &t, 0, &[3, 4], Durability::Sync);
    write(&log, &t, 1, &[5, 6, 7], Durability::Sync);
    rot_last_byte(&storage, 0);
    let mut consumer = member(&log, ConsumerSettings { max_poll_records: 4, ..manual() });
    assert_eq!(poll(&mut consumer), BTreeMap::from([(0, vec![0, 1, 2]), (1, vec![5])]));
    assert_eq!(poll(&mut consumer), BTreeMap::from([(1, vec![6, 7])]));
    let failed = consumer.poll(Duration::ZERO);
    assert!(matches!(failed, Err(Error::Decode(_))), "{failed:?}");
}

#[test]
fn partitions_are_served_in_turn() {
    let log = new_log();
    let t = topic(&log, "t", 3);
    for (partition, value) in [(0, 0), (1, 1), (2, 2), (0, 3), (1, 4), (2, 5)] {
        write(&log, &t, partition, &[value], Durability::Sync);
    }
    let mut consumer = member(&log, ConsumerSettings { max_poll_records: 1, ..manual() });
    let polled: Vec<_> = (0..6).flat_map(|_| poll(&mut consumer).into_values().flatten()).collect();
    assert_eq!(polled, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn members_share_partitions_and_hand_them_over_where_they_are() {
    let log = new_log();
    let t = topic(&log, "t", 2);
    (0..2).for_each(|p| write(&log, &t, p, &[1, 2], Durability::Sync));
    let mut a = member(&log, manual());
    assert_eq!(poll(&mut a), BTreeMap::from([(0, vec![1, 2]), (1, vec![1, 2])]));
    let mut b = member(&log, manual());
    assert_eq!((poll(&mut b).len(), partitions(&b).len()), (0, 0), "a has not let go yet");
    (0..2).for_each(|p| write(&log, &t, p, &[3], Durability::Sync));
    assert_eq!(poll(&mut a), BTreeMap::from([(0, vec![3])]));
    // Nothing was committed: the position went over in memory, and nothing is read twice.
    assert_eq!(poll(&mut b), BTreeMap::from([(1, vec![3])]));
    assert!(committed_in(&log).is_empty());
    b.commit().unwrap();
    b.close().unwrap();
    write(&log, &t, 1, &[4], Durability::Sync);
    assert_eq!(poll(&mut a), BTreeMap::from([(1, vec![4])]));
    let group = log.group("g").unwrap();
    let members = group.members();
    assert_eq!(members[0].name, "consumer-1");
    assert_eq!(members[0].partitions, [name(0), name(1)].into());
    assert_eq!(group.generation(), a.generation());
}

#[test]
fn who_is_dropped_without_a_word_leaves_what_it_has_not_committed_to_the_others() {
    let log = new_log();
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[1, 2], Durability::Sync);
    let mut a = member(&log, manual());
    let mut b = member(&log, manual());
    assert_eq!(poll(&mut a)[&0], [1, 2]);
    a.commit().unwrap();
    write(&log, &t, 0, &[3], Durability::Sync);
    assert_eq!(poll(&mut a)[&0], [3]);
    drop(a);
    assert_eq!(poll(&mut b)[&0], [3]);
}

#[test]
fn a_silent_member_loses_its_partitions_and_may_not_commit_them() {
    let clock = clock();
    let log = open(&MemoryStorage::new(1), &clock);
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[1, 2], Durability::Sync);
    let patience = Duration::from_secs(10);
    let settings = ConsumerSettings { max_poll_interval: patience, ..manual() };
    let mut slow = member(&log, settings.clone());
    let mut other = member(&log, settings);
    assert_eq!(poll(&mut slow)[&0], [1, 2]);
    clock.advance(patience);
    assert!(poll(&mut other).is_empty());
    clock.advance(Duration::from_millis(1));
    assert_eq!(poll(&mut other)[&0], [1, 2]);
    let refused = slow.commit();
    let Err(Error::Group(GroupError::Fenced { member, partition, generation, current, .. })) =
        refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!((member.as_str(), partition), ("consumer-1", 0));
    assert!(generation < current);
    let acknowledged = slow.commit_async().unwrap().wait();
    assert!(matches!(acknowledged, Err(Error::Group(GroupError::Fenced { .. }))));
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let fenced = slow.commit_in(producer.begin().unwrap());
    assert!(matches!(fenced, Err(Error::Group(GroupError::Fenced { .. }))), "{fenced:?}");
    assert!(committed_in(&log).is_empty());
    other.commit().unwrap();
    // It comes again, as another member, and owns nothing of what it had.
    assert!(poll(&mut slow).is_empty());
    assert_eq!(slow.member_name(), "consumer-3");
    slow.commit().unwrap();
    assert_eq!(committed_in(&log), BTreeMap::from([(0, 2)]));
}

#[test]
fn committed_offsets_are_where_the_next_start_begins() {
    let (storage, clock) = (MemoryStorage::new(1), clock());
    let log = open(&storage, &clock);
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[1, 2, 3], Durability::Sync);
    let mut consumer = member(&log, ConsumerSettings { max_poll_records: 2, ..manual() });
    assert_eq!(poll(&mut consumer)[&0], [1, 2]);
    let note = OffsetAndMetadata { offset: 1, metadata: Bytes::from_static(b"a note") };
    let offsets = BTreeMap::from([(name(0), note.clone())]);
    consumer.commit_offsets(&offsets).unwrap();
    assert_eq!(consumer.committed().unwrap(), offsets);
    log.close().unwrap();
    drop(consumer);
    let log = open(&storage, &clock);
    assert_eq!(log.group("g").unwrap().committed().unwrap(), offsets);
    let lag = log.group("g").unwrap().lag(IsolationLevel::ReadCommitted).unwrap();
    assert_eq!(lag[&name(0)].offsets(), 2);
    let mut consumer = member(&log, manual());
    assert_eq!(poll(&mut consumer)[&0], [2, 3]);
    consumer.seek_to_committed("t", 0).unwrap();
    assert_eq!(consumer.position("t", 0).unwrap(), 1);
    let too_much = OffsetAndMetadata { offset: 1, metadata: vec![0; 4097].into() };
    let refused = consumer.commit_offsets(&BTreeMap::from([(name(0), too_much)]));
    assert!(matches!(refused, Err(Error::Group(GroupError::MetadataTooLarge { bytes: 4097, .. }))));
    let beyond = consumer.commit_offsets(&BTreeMap::from([(name(0), 4.into())]));
    assert!(matches!(beyond, Err(Error::OffsetOutOfRange { requested: 4, .. })), "{beyond:?}");
    let foreign = consumer.commit_offsets(&BTreeMap::from([(name(1), 0.into())]));
    assert!(matches!(foreign, Err(Error::Group(GroupError::NotAssigned { partition: 1, .. }))));
    assert_eq!(committed_in(&log), BTreeMap::from([(0, 1)]));
}

#[test]
fn a_reader_goes_to_any_offset_and_time() {
    let log = new_log();
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[10, 20], Durability::Sync);
    write(&log, &t, 0, &[30, 40], Durability::Sync);
    let mut reader = log.consumer(ConsumerSettings::default());
    reader.assign(&[("t", 0)]).unwrap();
    assert!(poll(&mut reader).is_empty(), "latest is the default");
    reader.seek("t", 0, 1).unwrap();
    assert_eq!(reader.lag().unwrap()[&name(0)], Lag { position: 1, end: 4 });
    assert_eq!(poll(&mut reader)[&0], [20, 30, 40]);
    assert_eq!(reader.seek_to_time("t", 0, 25).unwrap(), Some((2, 30)));
    assert_eq!(poll(&mut reader)[&0], [30, 40]);
    assert_eq!(reader.seek_to_time("t", 0, 41).unwrap(), None);
    assert_eq!(reader.position("t", 0).unwrap(), 4);
    reader.seek_to_beginning("t", 0).unwrap();
    assert_eq!(reader.position("t", 0).unwrap(), 0);
    reader.seek_to_end("t", 0).unwrap();
    assert_eq!(reader.position("t", 0).unwrap(), 4);
    reader.seek_to_beginning("t", 0).unwrap();
    reader.pause("t", 0).unwrap();
    assert!(poll(&mut reader).is_empty());
    assert_eq!(reader.paused(), [name(0)]);
    reader.resume("t", 0).unwrap();
    assert_eq!(poll(&mut reader)[&0], [10, 20, 30, 40]);
    let refused = reader.seek("t", 1, 0);
    assert!(matches!(refused, Err(Error::Group(GroupError::NotAssigned { assigned: 1, .. }))));
    assert!(matches!(reader.commit(), Err(Error::Group(GroupError::NoGroup))));
    assert!(matches!(reader.seek_to_committed("t", 0), Err(Error::Group(GroupError::NoGroup))));
    assert!(matches!(reader.assign(&[("t", 1)]), Err(Error::UnknownPartition { .. })));
}

#[test]
fn a_position_that_is_gone_is_dealt_with_as_the_policy_says() {
    let log = new_log();
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[1, 2, 3, 4], Durability::Sync);
    let reader = |reset| {
        let mut reader = log.consumer(ConsumerSettings { auto_offset_reset: reset, ..manual() });
        reader.assign(&[("t", 0)]).unwrap();
        reader
    };
    let none = reader(OffsetReset::None).poll(Duration::ZERO);
    assert!(matches!(none, Err(Error::Group(GroupError::NoOffset { .. }))), "{none:?}");
    log.delete_records(t.id(), 0, 2).unwrap();
    for (reset, expected) in
        [(OffsetReset::Earliest, Some(vec![3, 4])), (OffsetReset::Latest, None)]
    {
        for gone in [1, 99] {
            let mut reader = reader(reset);
            reader.seek("t", 0, gone).unwrap();
            assert_eq!(poll(&mut reader).remove(&0), expected, "{reset:?} {gone}");
        }
    }
    let mut reader = reader(OffsetReset::None);
    for (requested, wants) in [(1, (2, 4)), (99, (2, 4))] {
        reader.seek("t", 0, requested).unwrap();
        // Twice: an error moves nothing.
        for _ in 0..2 {
            let refused = reader.poll(Duration::ZERO);
            let Err(Error::Group(GroupError::PositionOutOfRange {
                requested: at, start, end, ..
            })) = refused
            else {
                panic!("{refused:?}")
            };
            assert_eq!((at, (start, end)), (requested, wants));
        }
    }
    reader.seek_to_beginning("t", 0).unwrap();
    assert_eq!(poll(&mut reader)[&0], [3, 4]);
}

#[test]
fn a_reset_by_duration_goes_back_from_now() {
    let clock = clock();
    let log = open(&MemoryStorage::new(1), &clock);
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[990_000, 999_000, 999_500], Durability::Sync);
    let mut settings = manual();
    settings.set("auto.offset.reset", "by_duration:PT1S").unwrap();
    assert_eq!(poll(&mut member(&log, settings))[&0], [999_000, 999_500]);
}

#[test]
fn topics_that_a_pattern_matches_are_taken_when_they_are_made() {
    let log = new_log();
    let orders = topic(&log, "orders-eu", 1);
    topic(&log, "not-orders-eu", 1);
    for mut consumer in [log.consumer(manual()), log.group("g").unwrap().consumer(manual())] {
        consumer.subscribe_pattern("orders-.*").unwrap();
        write(&log, &orders, 0, &[1], Durability::Sync);
        assert!(!poll(&mut consumer).is_empty());
        let name = if consumer.member_name().is_empty() { "orders-us" } else { "orders-asia" };
        let later = topic(&log, name, 2);
        write(&log, &later, 1, &[2], Durability::Sync);
        assert_eq!(poll(&mut consumer)[&1], [2]);
        let assigned = consumer.assignment();
        assert!(assigned.iter().all(|name| name.topic.as_str().starts_with("orders-")));
    }
    let bad = log.consumer(manual()).subscribe_pattern(")a(");
    assert!(matches!(bad, Err(Error::Group(GroupError::InvalidPattern { .. }))));
    let unknown = log.consumer(manual()).subscribe(&["orders-mars"]);
    assert!(matches!(unknown, Err(Error::UnknownTopic { .. })));
    let nothing = log.consumer(manual()).poll(Duration::ZERO);
    assert!(matches!(nothing, Err(Error::Group(GroupError::NothingToRead))));
}

#[test]
fn without_a_group_everybody_reads_everything() {
    let log = new_log();
    let t = topic(&log, "t", 2);
    (0..2).for_each(|p| write(&log, &t, p, &[1], Durability::Sync));
    let mut readers = [log.consumer(manual()), log.consumer(manual())];
    for reader in &mut readers {
        reader.subscribe(&["t"]).unwrap();
        assert_eq!(poll(reader), BTreeMap::from([(0, vec![1]), (1, vec![1])]));
    }
    write(&log, &t, 0, &[2], Durability::Sync);
    readers[0].seek("t", 0, 0).unwrap();
    assert_eq!(poll(&mut readers[0])[&0], [1, 2]);
    assert_eq!(poll(&mut readers[1])[&0], [2], "positions are private");
}

#[test]
fn who_chooses_partitions_commits_only_where_nobody_subscribes() {
    let log = new_log();
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[1, 2], Durability::Sync);
    let mut chosen = log.group("g").unwrap().consumer(manual());
    chosen.assign(&[("t", 0)]).unwrap();
    assert_eq!(poll(&mut chosen)[&0], [1, 2]);
    chosen.commit().unwrap();
    assert_eq!(committed_in(&log), BTreeMap::from([(0, 2)]));
    let subscribed = member(&log, manual());
    let refused = chosen.commit();
    assert!(matches!(refused, Err(Error::Group(GroupError::Subscribed { members: 1, .. }))));
    subscribed.close().unwrap();
    chosen.commit().unwrap();
    chosen.assign(&[("t", 0)]).unwrap();
    assert!(poll(&mut chosen).is_empty(), "it begins at the committed offset");
}

#[test]
fn positions_commit_with_a_transaction_or_not_at_all() {
    let log = new_log();
    let (t, out) = (topic(&log, "t", 1), topic(&log, "out", 1));
    write(&log, &t, 0, &[1, 2], Durability::Sync);
    let mut consumer = member(&log, manual());
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let mut batch = BatchBuilder::new();
    batch.push(1, None, Some(b"sum"), NO_HEADERS).unwrap();
    assert_eq!(poll(&mut consumer)[&0], [1, 2]);
    let transaction = producer.begin().unwrap();
    transaction.append(&out, 0, &mut batch).unwrap();
    transaction.abort().unwrap();
    assert!(committed_in(&log).is_empty());
    let transaction = producer.begin().unwrap();
    transaction.append(&out, 0, &mut batch).unwrap();
    assert_eq!(consumer.commit_in(transaction).unwrap(), CommitOutcome::Committed);
    assert_eq!(committed_in(&log), BTreeMap::from([(0, 2)]));
    write(&log, &t, 0, &[3], Durability::Sync);
    assert_eq!(poll(&mut consumer)[&0], [3]);
    let mut records = log.transaction("job").unwrap();
    records.send(&out, Record::new(b"sum")).unwrap();
    assert_eq!(consumer.commit_in(records).unwrap(), CommitOutcome::Committed);
    assert_eq!(committed_in(&log), BTreeMap::from([(0, 3)]));
    let isolated = |isolation_level| {
        let mut reader = log.consumer(ConsumerSettings { isolation_level, ..manual() });
        reader.subscribe(&["out"]).unwrap();
        let count = reader.poll(Duration::ZERO).unwrap().count();
        (count, reader.lag().unwrap().into_values().next().unwrap().offsets())
    };
    // One record was aborted; markers are passed over, so nothing is left to read.
    assert_eq!(isolated(IsolationLevel::ReadCommitted), (2, 0));
    let end = log.offsets(out.id(), 0).unwrap();
    assert_eq!(end.end(FetchBound::LastStable), 6);
}

#[test]
fn positions_are_committed_by_later_polls_when_it_is_time() {
    let clock = clock();
    let log = open(&MemoryStorage::new(1), &clock);
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[1, 2, 3], Durability::Sync);
    let settings = ConsumerSettings { enable_auto_commit: true, max_poll_records: 1, ..manual() };
    let mut consumer = member(&log, settings);
    poll(&mut consumer);
    clock.advance(Duration::from_secs(4));
    poll(&mut consumer);
    assert!(committed_in(&log).is_empty());
    clock.advance(Duration::from_secs(1));
    poll(&mut consumer);
    assert_eq!(committed_in(&log), BTreeMap::from([(0, 2)]), "the third is not done with yet");
    consumer.close().unwrap();
    assert_eq!(committed_in(&log), BTreeMap::from([(0, 3)]));
}

#[test]
fn a_partition_that_is_handed_over_is_committed_before() {
    let log = new_log();
    let t = topic(&log, "t", 2);
    (0..2).for_each(|partition| write(&log, &t, partition, &[1], Durability::Sync));
    let settings = ConsumerSettings { enable_auto_commit: true, ..manual() };
    let mut first = member(&log, settings.clone());
    assert_eq!(poll(&mut first).len(), 2);
    let _second = member(&log, settings);
    assert!(committed_in(&log).is_empty());
    poll(&mut first);
    assert_eq!((partitions(&first), committed_in(&log)), (vec![0], BTreeMap::from([(1, 1)])));
}

#[test]
fn a_position_whose_commit_failed_is_committed_the_next_time() {
    let (storage, clock) = (MemoryStorage::new(1), clock());
    let log = open(&storage, &clock);
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[1], Durability::Sync);
    let settings = ConsumerSettings { enable_auto_commit: true, ..manual() };
    let mut consumer = member(&log, settings);
    assert_eq!(poll(&mut consumer)[&0], [1]);
    clock.advance(Duration::from_secs(5));
    fail_one_write_of_commits(&storage);
    assert!(poll(&mut consumer).is_empty() && committed_in(&log).is_empty());
    clock.advance(Duration::from_secs(5));
    assert!(poll(&mut consumer).is_empty());
    assert_eq!(committed_in(&log), BTreeMap::from([(0, 1)]));
}

/// A transaction whose commit takes its time.
struct Slowly<T, F>(T, F);

impl<T: CommitWith, F: FnOnce()> CommitWith for Slowly<T, F> {
    fn commit_with(self, positions: &[crate::OffsetCommit]) -> Result<CommitOutcome> {
        (self.1)();
        self.0.commit_with(positions)
    }
}

#[test]
fn a_member_is_not_silent_while_it_commits() {
    let clock = clock();
    let log = open(&MemoryStorage::new(1), &clock);
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[1], Durability::Sync);
    let patience = Duration::from_secs(10);
    let settings = ConsumerSettings { max_poll_interval: patience, ..manual() };
    let (mut slow, mut other) = (member(&log, settings.clone()), member(&log, settings));
    assert_eq!(poll(&mut slow)[&0], [1]);
    let meanwhile = || {
        clock.advance(patience * 2);
        assert!(poll(&mut other).is_empty());
    };
    let running = log.transaction("job").unwrap();
    assert_eq!(slow.commit_in(Slowly(running, meanwhile)).unwrap(), CommitOutcome::Committed);
    assert_eq!(committed_in(&log), BTreeMap::from([(0, 1)]));
}

/// Nobody knows where the group is: that is said at each poll, and nothing is read from a guess.
#[test]
fn a_group_whose_commits_are_damaged_reads_nothing() {
    let (storage, clock) = (MemoryStorage::new(1), clock());
    let log = open(&storage, &clock);
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[1], Durability::Sync);
    log.close().unwrap();
    let dir = std::path::Path::new(DIR).join("__commits-0");
    for name in storage.list(&dir).unwrap() {
        storage.remove_file(&dir.join(name)).unwrap();
    }
    let log = open(&storage, &clock);
    let mut consumer = member(&log, manual());
    for _ in 0..2 {
        let refused = consumer.poll(Duration::ZERO);
        assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
        assert!(log.group("g").unwrap().members()[0].partitions.is_empty());
    }
    let mut reader = log.consumer(manual());
    reader.subscribe(&["t"]).unwrap();
    assert_eq!(poll(&mut reader)[&0], [1]);
}

#[test]
fn commits_that_nobody_waits_for_are_done_in_order() {
    let log = new_log();
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[1, 2, 3], Durability::Sync);
    let mut consumer = member(&log, ConsumerSettings { max_poll_records: 1, ..manual() });
    let mut pending = Vec::new();
    for _ in 0..3 {
        poll(&mut consumer);
        pending.push(consumer.commit_async().unwrap());
    }
    pending.into_iter().for_each(|pending| pending.wait().unwrap());
    assert_eq!(committed_in(&log), BTreeMap::from([(0, 3)]));
}
