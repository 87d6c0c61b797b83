//! What an operator sees of running transactions, and what an abort from outside does.

use std::time::Duration;

use super::client_scenarios::{NOW, World, committed, put, send, world};
use crate::config::Durability;
use crate::error::{Error, Recourse};
use crate::ids::ProducerEpoch;
use crate::operators::{AbortOutcome, TransactionPartition, TransactionState};
use crate::owner::AttachedLog;
use crate::topic::Topic;
use crate::transaction::TransactionSettings;

fn partition(topic: &Topic, partition: u32, first_offset: Option<i64>) -> TransactionPartition {
    TransactionPartition { topic: topic.name().to_string(), partition, first_offset }
}

#[test]
fn a_list_says_who_runs_since_when_and_where() {
    let World { log, clock, topic1, topic2, .. } = world();
    let timeout = Duration::from_secs(100);
    let settings = TransactionSettings { timeout: Some(timeout), ..Default::default() };
    let mut open = log.transaction_with("open", settings).unwrap();
    put(&mut open, (&topic2, 3), "1", "1");
    open.flush().unwrap();
    put(&mut open, (&topic1, 0), "1", "1");
    clock.advance(Duration::from_secs(7));
    // The date jumps; how long it is open does not.
    clock.set(5);
    log.transaction("ended").unwrap().commit().unwrap();
    let held = log.transactional_producer("held", Durability::Os).unwrap();

    let all = log.transactions().unwrap();
    let seen: Vec<_> = all.iter().map(|t| (t.transactional_id.as_str(), t.state)).collect();
    let idle = TransactionState::Idle;
    assert_eq!(seen, [("ended", idle), ("held", idle), ("open", TransactionState::Open)]);
    let info = log.transaction_info("open").unwrap();
    assert_eq!(all[2], info);
    assert_eq!((info.producer_id, info.producer_epoch), (open.producer_id(), ProducerEpoch(0)));
    assert_eq!((info.open_for, info.timeout), (Some(Duration::from_secs(7)), timeout));
    assert_eq!(info.since, Some(5 - 7_000));
    let mut partitions = info.partitions;
    partitions.sort_by(|a, b| a.topic.cmp(&b.topic));
    assert_eq!(partitions, [partition(&topic1, 0, None), partition(&topic2, 3, Some(0))]);
    assert_eq!((all[0].since, all[0].open_for, all[0].partitions.len()), (None, None, 0));
    drop(held);
    assert!(matches!(log.transaction_info("held"), Err(Error::UnknownTransactionalId { .. })));
}

#[test]
fn a_transaction_aborted_from_outside_commits_nothing_and_its_id_is_free() {
    let World { log, topic1, topic2, .. } = world();
    let mut hangs = log.transaction("shop").unwrap();
    put(&mut hangs, (&topic1, 0), "1", "never");
    hangs.flush().unwrap();
    let mut plain = log.transaction("other").unwrap();
    put(&mut plain, (&topic1, 0), "2", "2");
    plain.commit().unwrap();
    assert!(committed(&log, &[&topic1]).is_empty());
    assert_eq!(log.abort_transaction("shop").unwrap(), AbortOutcome::Aborted);
    assert_eq!(committed(&log, &[&topic1]), ["2"]);
    put(&mut hangs, (&topic1, 0), "1", "never");
    let error = hangs.flush().unwrap_err();
    assert!(matches!(error, Error::TransactionAborted { .. }), "{error}");
    assert_eq!(error.recourse(), Recourse::AbortTransaction);
    hangs.abort().unwrap();
    assert!(matches!(log.abort_transaction("shop"), Err(Error::UnknownTransactionalId { .. })));
    assert!(matches!(log.abort_transaction("a b"), Err(Error::InvalidName { .. })));
    assert_eq!(log.abort_transaction("other").unwrap(), AbortOutcome::Idle);
    let mut next = log.transaction("shop").unwrap();
    send(&mut next, &topic2, "3", "3");
    next.commit().unwrap();
    assert_eq!(committed(&log, &[&topic1, &topic2]), ["2", "3"]);
}

/// Kafka's tool does the same to a producer: it must be opened again.
#[test]
fn a_producer_whose_transaction_is_aborted_from_outside_has_lost_its_id() {
    let World { log, topic1, .. } = world();
    let mut producer = log.transactional_producer("job", Durability::Sync).unwrap();
    let running = producer.begin().unwrap();
    running.append(&topic1, 0, &mut super::batch(&["never"])).unwrap();
    assert_eq!(log.abort_transaction("job").unwrap(), AbortOutcome::Aborted);
    assert!(matches!(running.commit(&[]), Err(Error::TransactionAborted { .. })));
    assert!(matches!(producer.begin(), Err(Error::ProducerFenced { .. })));
    let mut next = log.transactional_producer("job", Durability::Sync).unwrap();
    let running = next.begin().unwrap();
    running.append(&topic1, 0, &mut super::batch(&["new"])).unwrap();
    running.commit(&[]).unwrap();
    assert_eq!(committed(&log, &[&topic1]), ["new"]);
}

#[test]
fn the_producers_of_a_partition_show_what_holds_readers_back() {
    let World { log, topic1, .. } = world();
    let mut plain = log.producer(Durability::Os).unwrap();
    plain.append(&topic1, 0, &mut super::batch(&["a", "b", "c"])).unwrap();
    let mut open = log.transaction("open").unwrap();
    put(&mut open, (&topic1, 0), "1", "1");
    open.flush().unwrap();
    let mut ended = log.transaction("ended").unwrap();
    put(&mut ended, (&topic1, 0), "2", "2");
    let ended_id = ended.producer_id();
    ended.commit().unwrap();
    let known = log.producers(topic1.id(), 0).unwrap();
    let seen: Vec<_> =
        known.iter().map(|p| (p.producer_id, p.producer_epoch.0, p.open_from)).collect();
    let expected = [
        (plain.producer_id(), 0, None),
        (open.producer_id(), 0, Some(3)),
        // Its marker raised the epoch.
        (ended_id, 1, None),
    ];
    assert_eq!(seen, expected);
    assert_eq!((known[0].last_sequence, known[0].last_offset), (Some(2), Some(2)));
    assert_eq!((known[2].last_sequence, known[2].last_offset), (None, None));
    assert!(known[2].coordinator_epoch > 0 && known[1].coordinator_epoch == -1);
    assert_eq!(known[1].last_seen, NOW);
    assert_eq!(log.offsets(topic1.id(), 0).unwrap().last_stable_offset, 3);
    assert!(log.producers(topic1.id(), 1).unwrap().is_empty());
    let missing = log.producers(topic1.id(), 9);
    assert!(matches!(missing, Err(Error::UnknownPartition { partition: 9, .. })));
}

#[test]
fn another_process_sees_the_same_and_may_abort() {
    let dir = tempfile::tempdir().unwrap();
    let log = crate::Log::open(dir.path()).unwrap();
    let topic = log.create_topic("t", crate::TopicSettings::with_partitions(2)).unwrap();
    let mut hangs = log.transaction("shop").unwrap();
    put(&mut hangs, (&topic, 1), "1", "never");
    hangs.flush().unwrap();
    log.transaction("idle").unwrap().commit().unwrap();

    let owner = AttachedLog::connect(dir.path()).unwrap();
    let (mut there, mut here) = (owner.transactions().unwrap(), log.transactions().unwrap());
    for infos in [&mut there, &mut here] {
        // These move while the two are asked.
        assert!(infos[1].open_for.take().is_some() && infos[1].since.take().is_some());
    }
    assert_eq!(there, here);
    assert_eq!(there[1].partitions, [partition(&topic, 1, Some(0))]);
    assert_eq!(owner.producers(topic.id(), 1).unwrap(), log.producers(topic.id(), 1).unwrap());
    let missing = owner.producers(topic.id(), 7);
    assert!(matches!(missing, Err(Error::UnknownPartition { partition: 7, partitions: 2, .. })));
    assert_eq!(owner.abort_transaction("shop").unwrap(), AbortOutcome::Aborted);
    assert!(matches!(hangs.commit(), Err(Error::TransactionAborted { .. })));
    assert_eq!(owner.abort_transaction("idle").unwrap(), AbortOutcome::Idle);
    let unknown = owner.abort_transaction("ship");
    assert!(matches!(unknown, Err(Error::UnknownTransactionalId { name }) if name == "ship"));
    assert!(matches!(owner.abort_transaction("a b"), Err(Error::Owner { .. })));
    log.close().unwrap();
}
