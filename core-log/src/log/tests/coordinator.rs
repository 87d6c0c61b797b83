//! The decision tables of Kafka's transaction coordinator (`txn_coordinator.json`), by what they let
//! a user of an embedded log see.
//!
//! ```text
//!   init_producer_id  no transactional id       Log::producer: no transactions
//!                     empty id                  InvalidName
//!                     time-out 0 or > 15 min    InvalidSetting
//!                     Empty, Complete*          the next epoch, or a fresh producer id
//!                     Ongoing                   aborted and fenced, at once: no CONCURRENT_TRANSACTIONS
//!                     Prepare*                  waited for: no CONCURRENT_TRANSACTIONS
//!                     expected id and epoch     not there: nobody else's memory is trusted
//!                     two-phase commit, keepPreparedTxn   not there; Kafka has it switched off
//!   add_partitions    another epoch or id       ProducerFenced
//!                     already in it             once in the list
//!                     Prepare*                  the table refuses it: `commit::transactions`
//!                     pending transition        not there: the table has one lock
//!   verify_partitions                           always: a partition is joined before it is written
//!   end_txn           Ongoing                   committed or aborted
//!                     Empty, COMMIT             Ok(Empty), not INVALID_TXN_STATE: nothing to commit is no fault
//!                     Empty, ABORT              Ok
//!                     Complete*, again          not there: a transaction is a value that is taken
//!                     Prepare*, ABORT           waited for; the commit stands: `commit::transactions`
//!                     another epoch             ProducerFenced
//!   end_txn_legacy                              not there: every end raises the epoch
//!   timeouts          60 s, at most 15 min; the scan runs every 10 ms, not every 10 s
//!                     transactional ids expire by number (1 000 that nobody holds), not after 7 days
//!   record layouts of __transaction_state and __consumer_offsets: one file of our own, `__commits`
//! ```

use std::time::Duration;

use super::client_scenarios::{World, committed, put, send, uncommitted, world};
use crate::config::Durability;
use crate::error::Error;
use crate::ids::ProducerEpoch;
use crate::operators::TransactionState;
use crate::producer::CommitOutcome;
use crate::transaction::{TRANSACTION_TIMEOUT_MAX, TransactionSettings};

#[test]
fn an_id_that_is_no_name_is_refused() {
    let World { log, .. } = world();
    let long = "x".repeat(250);
    for id in ["", "a b", "a/b", long.as_str()] {
        assert!(matches!(log.transaction(id), Err(Error::InvalidName { .. })), "{id}");
    }
}

#[test]
fn a_time_out_is_more_than_nothing_and_at_most_a_quarter_of_an_hour() {
    let World { log, .. } = world();
    let with = |timeout| {
        let settings = TransactionSettings { timeout: Some(timeout), ..Default::default() };
        log.transaction_with("A", settings).map(drop)
    };
    let longest = Duration::from_millis(900_000);
    assert_eq!(TRANSACTION_TIMEOUT_MAX, longest);
    for bad in [Duration::ZERO, longest + Duration::from_millis(1), Duration::MAX] {
        assert!(matches!(with(bad), Err(Error::InvalidSetting { .. })), "{bad:?}");
    }
    with(longest).unwrap();
    with(Duration::from_millis(1)).unwrap();
    drop(log.transaction("A").unwrap());
    assert_eq!(log.transaction_info("A").unwrap().timeout, Duration::from_millis(60_000));
}

/// "TV2: init, add, commit, add, abort" and "re-init bumps epoch".
#[test]
fn each_end_raises_the_epoch_and_keeps_the_producer_id() {
    let World { log, topic1, .. } = world();
    let mut first = log.transaction("A").unwrap();
    let producer = first.producer_id();
    assert_eq!(first.producer_epoch(), ProducerEpoch(0));
    send(&mut first, &topic1, "1", "1");
    assert_eq!(log.transaction_info("A").unwrap().state, TransactionState::Open);
    first.commit().unwrap();
    assert_eq!(log.transaction_info("A").unwrap().state, TransactionState::Idle);
    let mut second = log.transaction("A").unwrap();
    assert_eq!((second.producer_id(), second.producer_epoch()), (producer, ProducerEpoch(1)));
    send(&mut second, &topic1, "2", "2");
    second.abort().unwrap();
    // A start over of the producer: fresh ids only while somebody holds the old one.
    for epoch in 2..5 {
        let again = log.transaction("A").unwrap();
        assert_eq!((again.producer_id(), again.producer_epoch()), (producer, ProducerEpoch(epoch)));
    }
    let held = log.transactional_producer("A", Durability::Sync).unwrap();
    assert!(log.transaction("A").unwrap().producer_id() > producer);
    drop(held);
    assert_eq!(committed(&log, &[&topic1]), ["1"]);
}

/// "TV2: abort on empty" and "commit without partitions is illegal from EMPTY", which it is not here.
#[test]
fn an_empty_transaction_ends_either_way_and_writes_nothing() {
    let World { log, topic1, .. } = world();
    log.transaction("A").unwrap().abort().unwrap();
    assert_eq!(log.transaction("A").unwrap().commit().unwrap(), CommitOutcome::Empty);
    let mut next = log.transaction("A").unwrap();
    assert_eq!(next.producer_epoch(), ProducerEpoch(2));
    put(&mut next, (&topic1, 0), "1", "1");
    next.commit().unwrap();
    assert_eq!(log.offsets(topic1.id(), 0).unwrap().log_end_offset, 2);
}

/// A partition that was joined and not written: its records waited in memory.
#[test]
fn an_abort_of_records_in_memory_leaves_nothing_open() {
    let World { log, topic1, .. } = world();
    let mut a = log.transaction("A").unwrap();
    put(&mut a, (&topic1, 0), "1", "never");
    put(&mut a, (&topic1, 0), "2", "never");
    let info = log.transaction_info("A").unwrap();
    assert_eq!(info.partitions.len(), 1);
    assert_eq!(info.partitions[0].first_offset, None);
    drop(a);
    assert!(uncommitted(&log, &[&topic1]).is_empty());
    let offsets = log.offsets(topic1.id(), 0).unwrap();
    assert_eq!(offsets.last_stable_offset, offsets.log_end_offset);
    let mut b = log.transaction("A").unwrap();
    put(&mut b, (&topic1, 0), "3", "3");
    b.commit().unwrap();
    assert_eq!(committed(&log, &[&topic1]), ["3"]);
}

/// "epoch exhaustion rotates producer id (TV2)" and "isEpochExhausted at 32766".
#[test]
fn an_id_commits_without_a_pause_when_its_epochs_run_out() {
    let World { log, topic1, .. } = world();
    let settings = TransactionSettings { durability: Durability::Os, timeout: None };
    let mut producers = std::collections::BTreeSet::new();
    let commits = i32::from(i16::MAX) + 2;
    for n in 0..commits {
        let mut transaction = log.transaction_with("A", settings).unwrap();
        producers.insert(transaction.producer_id());
        put(&mut transaction, (&topic1, 0), "k", &n.to_string());
        transaction.commit().unwrap();
    }
    assert_eq!(producers.len(), 2);
    assert_eq!(committed(&log, &[&topic1]).len(), usize::try_from(commits).unwrap());
    // A producer for each transaction would be left in every partition for a day.
    assert_eq!(log.producers(topic1.id(), 0).unwrap().len(), 2);
}

/// "fence ongoing, then abort".
#[test]
fn whoever_takes_an_id_over_ends_what_ran_under_it() {
    let World { log, topic1, .. } = world();
    let mut a = log.transaction("A").unwrap();
    put(&mut a, (&topic1, 0), "1", "1");
    a.flush().unwrap();
    assert_eq!(log.offsets(topic1.id(), 0).unwrap().last_stable_offset, 0);
    let b = log.transaction("A").unwrap();
    let offsets = log.offsets(topic1.id(), 0).unwrap();
    assert_eq!((offsets.last_stable_offset, offsets.log_end_offset), (2, 2));
    // Its own abort is no fault: it is aborted.
    a.abort().unwrap();
    b.abort().unwrap();
}
