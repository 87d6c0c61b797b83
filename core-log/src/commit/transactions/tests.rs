//! The table of transactions: who may do what, and when not.

use super::*;
use crate::ids::TopicId;

const P: ProducerId = ProducerId(1);
const E: ProducerEpoch = ProducerEpoch(0);

fn id() -> TransactionalId {
    TransactionalId::new("job").unwrap()
}

fn partition(n: u32) -> TopicPartition {
    TopicPartition { topic: TopicId([1; 16]), partition: n }
}

fn open() -> TransactionTable {
    let mut table = TransactionTable::default();
    assert_eq!(table.take_over(&id(), P), []);
    assert_eq!(table.begin(P, Duration::ZERO, None), Ok(E));
    table.join(P, E, partition(0), Duration::ZERO).unwrap();
    table
}

#[test]
fn nothing_aborts_a_transaction_that_is_being_decided() {
    let mut table = open();
    table.decide(P, E).unwrap();
    assert_eq!(table.abort(P), None);
    assert_eq!(table.take_over(&id(), ProducerId(2)), [P]);
    assert_eq!(table.abort(P), None);
    assert!(table.timed_out(Duration::MAX, Duration::ZERO).is_empty());
    assert!(table.is_ending(P));
    table.finish(P);
    assert!(!table.is_ending(P));
    assert_eq!(table.begin(P, Duration::ZERO, None), Err(Refusal::Fenced));
}

#[test]
fn a_new_holder_fences_the_one_before() {
    let mut table = open();
    assert_eq!(table.take_over(&id(), ProducerId(2)), [P]);
    assert_eq!(table.join(P, E, partition(1), Duration::ZERO), Err(Refusal::Fenced));
    assert_eq!(table.decide(P, E), Err(Refusal::Fenced));
    let ending = table.abort(P).unwrap();
    assert_eq!(ending.partitions, BTreeSet::from([partition(0)]));
    table.finish(P);
    assert_eq!(table.begin(ProducerId(2), Duration::ZERO, None), Ok(E));
}

/// The second holder waits for the first one's commit; a third must too, or it would read positions
/// that the commit on its way is about to replace.
#[test]
fn a_third_holder_is_told_of_a_commit_that_the_second_still_waits_for() {
    let mut table = open();
    table.decide(P, E).unwrap();
    assert_eq!(table.take_over(&id(), ProducerId(2)), [P]);
    assert_eq!(table.take_over(&id(), ProducerId(3)), [P]);
    assert_eq!(table.begin(ProducerId(2), Duration::ZERO, None), Err(Refusal::Fenced));
    table.finish(P);
    assert_eq!(table.take_over(&id(), ProducerId(4)), []);
    assert_eq!(table.holders.len(), 1);
}

#[test]
fn each_transaction_has_the_next_epoch_until_they_are_used_up() {
    let mut table = TransactionTable::default();
    table.take_over(&id(), P);
    for epoch in 0..i16::MAX {
        assert_eq!(table.begin(P, Duration::ZERO, None), Ok(ProducerEpoch(epoch)));
        table.decide(P, ProducerEpoch(epoch)).unwrap();
        table.finish(P);
    }
    assert_eq!(table.begin(P, Duration::ZERO, None), Err(Refusal::EpochsUsedUp));
}

#[test]
fn an_old_transaction_can_not_touch_the_next_one() {
    let mut table = open();
    table.decide(P, E).unwrap();
    table.finish(P);
    assert_eq!(table.begin(P, Duration::ZERO, None), Ok(ProducerEpoch(1)));
    assert_eq!(table.join(P, E, partition(0), Duration::ZERO), Err(Refusal::Ended));
    assert_eq!(table.decide(P, E), Err(Refusal::Ended));
}

#[test]
fn a_transaction_times_out_from_its_first_write_on() {
    let second = Duration::from_secs(1);
    let mut table = TransactionTable::default();
    table.take_over(&id(), P);
    table.begin(P, Duration::ZERO, None).unwrap();
    assert!(table.timed_out(second * 9, second).is_empty());
    table.join(P, E, partition(0), second * 9).unwrap();
    assert!(table.timed_out(second * 10, second).is_empty());
    assert_eq!(table.timed_out(second * 11, second), [(P, second)]);
    table.fence(P, Refusal::TimedOut(second));
    assert_eq!(table.decide(P, E), Err(Refusal::TimedOut(second)));
    assert!(table.abort(P).is_some());
    table.finish(P);
    // It is told why for as long as it holds on.
    assert_eq!(table.decide(P, E), Err(Refusal::TimedOut(second)));
    table.release(P);
    assert_eq!(table.decide(P, E), Err(Refusal::Fenced));
}

#[test]
fn one_transaction_at_a_time() {
    let mut table = open();
    assert_eq!(table.begin(P, Duration::ZERO, None), Err(Refusal::Running));
}

#[test]
fn each_transaction_may_have_a_time_out_of_its_own() {
    let second = Duration::from_secs(1);
    let mut table = TransactionTable::default();
    table.take_over(&id(), P);
    table.begin(P, Duration::ZERO, Some(second * 5)).unwrap();
    table.join(P, E, partition(0), Duration::ZERO).unwrap();
    assert!(table.timed_out(second * 5, second).is_empty());
    assert_eq!(table.timed_out(second * 6, second), [(P, second * 5)]);
    assert!(table.timed_out(second * 6, Duration::ZERO) == [(P, second * 5)]);
}

#[test]
fn an_id_that_nobody_holds_goes_on_with_its_producer_id() {
    let mut table = open();
    // While it runs nobody else goes on with it.
    assert_eq!(table.resume(&id(), Duration::ZERO, None), None);
    table.decide(P, E).unwrap();
    table.finish(P);
    table.park(P);
    let next = ProducerEpoch(1);
    assert_eq!(table.resume(&id(), Duration::ZERO, None), Some((P, next)));
    assert_eq!(table.resume(&id(), Duration::ZERO, None), None);
    table.abort(P).unwrap();
    table.finish(P);
    table.park(P);
    // Whoever takes the id over gets a fresh one.
    assert_eq!(table.take_over(&id(), ProducerId(2)), []);
    assert_eq!(table.resume(&id(), Duration::ZERO, None), None);
    assert!(table.parked.is_empty() && table.holders.len() == 1);
}

#[test]
fn a_producer_without_epochs_or_rights_is_not_kept() {
    let mut table = open();
    table.fence(P, Refusal::Dismissed);
    table.abort(P).unwrap();
    table.finish(P);
    table.park(P);
    assert!(table.holders.is_empty() && table.ousted.is_empty() && table.parked.is_empty());

    table.take_over(&id(), P);
    for _ in 0..i16::MAX {
        let epoch = table.begin(P, Duration::ZERO, None).unwrap();
        table.decide(P, epoch).unwrap();
        table.finish(P);
    }
    table.park(P);
    assert_eq!(table.resume(&id(), Duration::ZERO, None), None);
    assert!(table.holders.is_empty() && table.current.is_empty());
}

#[test]
fn ids_that_nobody_holds_are_forgotten_beyond_a_number() {
    let mut table = TransactionTable::default();
    for n in 0..=i64::try_from(PARKED_MAX).unwrap() {
        let id = TransactionalId::new(&format!("id-{n}")).unwrap();
        table.take_over(&id, ProducerId(n));
        table.park(ProducerId(n));
    }
    let resumed = |table: &mut TransactionTable, name| {
        table.resume(&TransactionalId::new(name).unwrap(), Duration::ZERO, None)
    };
    assert_eq!(resumed(&mut table, "id-0"), None);
    assert_eq!(resumed(&mut table, "id-1"), Some((ProducerId(1), E)));
    let counts = (table.holders.len(), table.current.len(), table.parked.len());
    assert_eq!(counts, (PARKED_MAX, PARKED_MAX, PARKED_MAX - 1));
}

#[test]
fn an_open_transaction_is_dismissed_by_its_id_and_one_that_is_decided_is_not() {
    let mut table = open();
    assert_eq!(table.dismiss(&TransactionalId::new("other").unwrap()), Dismissal::Unknown);
    assert_eq!(table.dismiss(&id()), Dismissal::Abort(P));
    assert_eq!(table.join(P, E, partition(1), Duration::ZERO), Err(Refusal::Dismissed));
    table.abort(P).unwrap();
    assert_eq!(table.dismiss(&id()), Dismissal::Ending(P));
    table.finish(P);
    assert_eq!(table.dismiss(&id()), Dismissal::Unknown);

    let mut table = open();
    table.decide(P, E).unwrap();
    assert_eq!(table.dismiss(&id()), Dismissal::Ending(P));
    table.finish(P);
    assert_eq!(table.dismiss(&id()), Dismissal::Idle);
    assert_eq!(table.begin(P, Duration::ZERO, None), Ok(ProducerEpoch(1)));
}

#[test]
fn a_list_has_everybody_by_transactional_id() {
    let mut table = open();
    let other = TransactionalId::new("a").unwrap();
    table.take_over(&other, ProducerId(9));
    let list = table.list();
    let seen: Vec<_> = list.iter().map(|l| (l.transactional_id.as_str(), l.phase)).collect();
    let since = Duration::ZERO;
    assert_eq!(seen, [("a", Phase::Idle), ("job", Phase::Open { since })]);
    assert_eq!(list[1].partitions, BTreeSet::from([partition(0)]));
}
