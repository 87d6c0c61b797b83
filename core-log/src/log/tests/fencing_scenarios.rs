//! What clients see when a transactional id changes hands, or a transaction takes too long, scenario by
//! scenario, as recorded from Kafka's own tests (`txn_client_scenarios.json`).

use std::time::Duration;

use super::client_scenarios::{World, committed, put, send, uncommitted, world};
use crate::config::Durability;
use crate::error::{Error, Recourse};
use crate::ids::ProducerEpoch;
use crate::log::Log;
use crate::storage::memory::{At, Call, Effect, Fault};
use crate::topic::Topic;
use crate::transaction::{BufferedTransaction, TransactionSettings};

/// A writes and leaves its transaction open; B takes the id over and writes.
fn contend(
    log: &Log,
    (topic1, topic2): (&Topic, &Topic),
) -> (BufferedTransaction, BufferedTransaction) {
    let mut a = log.transaction("shared").unwrap();
    send(&mut a, topic1, "1", "1");
    send(&mut a, topic2, "3", "3");
    a.flush().unwrap();
    let mut b = log.transaction("shared").unwrap();
    send(&mut b, topic1, "2", "4");
    send(&mut b, topic2, "2", "4");
    (a, b)
}

fn assert_fenced<T: std::fmt::Debug>(outcome: crate::Result<T>) {
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::ProducerFenced { .. }), "{error}");
    assert_eq!(error.recourse(), Recourse::Fatal);
    assert!(error.to_string().ends_with("stop, or take the id over again"), "{error}");
}

#[test]
fn fencing_on_commit() {
    let World { log, topic1, topic2, .. } = world();
    let (a, b) = contend(&log, (&topic1, &topic2));
    assert_fenced(a.commit());
    b.commit().unwrap();
    assert_eq!(committed(&log, &[&topic1, &topic2]), ["4", "4"]);
    assert_eq!(uncommitted(&log, &[&topic1, &topic2]), ["1", "3", "4", "4"]);
}

#[test]
fn fencing_on_send_offsets() {
    let World { log, topic1, topic2, .. } = world();
    let (mut a, b) = contend(&log, (&topic1, &topic2));
    // The position lies beyond the end, too; that it is fenced matters more.
    assert_fenced(a.offset("foobarGroup", &topic1, 0, 110));
    b.commit().unwrap();
    assert_eq!(committed(&log, &[&topic1, &topic2]), ["4", "4"]);
}

#[test]
fn fencing_on_send() {
    let World { log, topic1, topic2, .. } = world();
    let (mut a, mut b) = contend(&log, (&topic1, &topic2));
    b.flush().unwrap();
    send(&mut a, &topic1, "1", "5");
    assert_fenced(a.flush());
    b.commit().unwrap();
    assert_eq!(committed(&log, &[&topic1, &topic2]), ["4", "4"]);
    assert_eq!(uncommitted(&log, &[&topic1, &topic2]), ["1", "3", "4", "4"]);
}

/// The same while A's thread is in the middle of its work and B's is another one.
#[test]
fn a_holder_in_another_thread_is_fenced_and_writes_nothing_more() {
    let World { log, topic1, topic2, .. } = world();
    let mut a = log.transaction("shared").unwrap();
    send(&mut a, &topic1, "1", "never");
    let (told, tells) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let older = scope.spawn(|| {
            let mut a = a;
            a.flush().unwrap();
            told.send(()).unwrap();
            loop {
                // Each record is a batch of its own, so each asks.
                send(&mut a, &topic1, "1", "never");
                if let Err(error) = a.flush() {
                    return (error, a.commit().unwrap_err());
                }
            }
        });
        tells.recv().unwrap();
        let mut b = log.transaction("shared").unwrap();
        let end = log.offsets(topic1.id(), 0).unwrap().log_end_offset;
        let (error, at_commit) = older.join().unwrap();
        assert!(matches!(error, Error::ProducerFenced { .. }), "{error}");
        assert!(matches!(at_commit, Error::ProducerFenced { .. }), "{at_commit}");
        assert_eq!(log.offsets(topic1.id(), 0).unwrap().log_end_offset, end);
        send(&mut b, &topic2, "2", "new");
        b.commit().unwrap();
    });
    assert_eq!(committed(&log, &[&topic1, &topic2]), ["new"]);
}

/// A producer begins transactions one after the other; `Log::transaction` would take the id back.
#[test]
fn fencing_on_add_partitions() {
    let World { log, topic1, topic2, .. } = world();
    let mut a = log.transactional_producer("shared", Durability::Sync).unwrap();
    let first = a.begin().unwrap();
    for topic in [&topic1, &topic2] {
        first.append(topic, 0, &mut super::batch(&["1"])).unwrap();
    }
    first.abort().unwrap();
    let mut b = log.transaction("shared").unwrap();
    send(&mut b, &topic1, "2", "4");
    send(&mut b, &topic2, "2", "4");
    b.flush().unwrap();
    assert_fenced(a.begin());
    b.commit().unwrap();
    assert_eq!(committed(&log, &[&topic1, &topic2]), ["4", "4"]);
}

#[test]
fn fencing_on_transaction_expiration() {
    let World { log, clock, topic1, .. } = world();
    let timeout = Duration::from_millis(300);
    let settings = TransactionSettings { timeout: Some(timeout), ..Default::default() };
    let mut a = log.transaction_with("A", settings).unwrap();
    put(&mut a, (&topic1, 0), "1", "1");
    a.flush().unwrap();
    clock.advance(timeout);
    log.maintain(0).unwrap();
    a.flush().unwrap();
    clock.advance(timeout);
    log.maintain(0).unwrap();
    put(&mut a, (&topic1, 0), "2", "2");
    let error = a.flush().unwrap_err();
    assert!(matches!(error, Error::TransactionTimedOut { timeout: t, .. } if t == timeout));
    assert_eq!(error.recourse(), Recourse::AbortTransaction);
    assert_eq!(
        error.to_string(),
        "transaction A of producer 0 was open for more than 300ms and was aborted: begin another \
         one, with less to do or a longer time-out"
    );
    assert!(matches!(a.commit(), Err(Error::TransactionTimedOut { .. })));
    assert_eq!(uncommitted(&log, &[&topic1]), ["1"]);
    assert!(committed(&log, &[&topic1]).is_empty());
    let stable = log.offsets(topic1.id(), 0).unwrap();
    assert_eq!(stable.last_stable_offset, stable.log_end_offset);
    // The id is free again.
    let mut next = log.transaction("A").unwrap();
    put(&mut next, (&topic1, 0), "2", "3");
    next.commit().unwrap();
    assert_eq!(committed(&log, &[&topic1]), ["3"]);
}

/// There is no call that could come twice; what does come twice is a begin.
#[test]
fn consecutively_run_init_transactions() {
    let World { log, .. } = world();
    let mut a = log.transactional_producer("A", Durability::Sync).unwrap();
    let running = a.begin().unwrap();
    assert!(matches!(a.begin(), Err(Error::InvalidTxnState { .. })));
    running.abort().unwrap();
    a.begin().unwrap().abort().unwrap();
}

/// The epochs are really used up, not set.
#[test]
fn recovery_from_epoch_overflow() {
    let World { log, clock, topic1, .. } = world();
    let mut a = log.transaction("A").unwrap();
    put(&mut a, (&topic1, 0), "1", "aborted");
    a.flush().unwrap();
    let producer = a.producer_id();
    a.abort().unwrap();
    let last = ProducerEpoch(i16::MAX - 1);
    let mut a2 = loop {
        let next = log.transaction("A").unwrap();
        assert_eq!(next.producer_id(), producer);
        if next.producer_epoch() == last {
            break next;
        }
        next.abort().unwrap();
    };
    put(&mut a2, (&topic1, 0), "2", "aborted");
    a2.flush().unwrap();
    clock.advance(Duration::from_secs(61));
    log.maintain(0).unwrap();
    assert!(matches!(a2.flush(), Err(Error::TransactionTimedOut { .. })));
    a2.abort().unwrap();
    let mut open = log.transaction("A").unwrap();
    assert!(open.producer_id() > producer);
    put(&mut open, (&topic1, 0), "3", "aborted");
    open.flush().unwrap();
    let mut b = log.transaction("A").unwrap();
    put(&mut b, (&topic1, 0), "4", "committed");
    b.commit().unwrap();
    assert_eq!(committed(&log, &[&topic1]), ["committed"]);
    assert_eq!(uncommitted(&log, &[&topic1]), ["aborted", "aborted", "aborted", "committed"]);
}

/// A take-over fails half-way, as the marker that ends the older transaction cannot be written.
#[test]
fn failure_to_fence_epoch() {
    let World { storage, log, topic1, .. } = world();
    let mut a = log.transaction("shared").unwrap();
    let before = a.producer_id();
    put(&mut a, (&topic1, 0), "1", "1");
    a.commit().unwrap();
    let mut a = log.transaction("shared").unwrap();
    put(&mut a, (&topic1, 0), "1", "never");
    a.flush().unwrap();
    let failing = At::Path(Call::Write, "/topic1-0/".to_owned());
    storage.inject(Fault::once(failing, Effect::Error(std::io::ErrorKind::Other)));
    assert!(matches!(log.transaction("shared"), Err(Error::Io { .. })));
    assert!(matches!(a.commit(), Err(Error::TransactionDoomed { .. })));
    let mut c = log.transaction("shared").unwrap();
    assert!(c.producer_id() > before);
    assert_eq!(c.producer_epoch(), ProducerEpoch(0));
    put(&mut c, (&topic1, 0), "1", "2");
    c.commit().unwrap();
    assert_eq!(committed(&log, &[&topic1]), ["1", "2"]);
}
