//! A consumer as a stream, in an executor that knows nothing of the log.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use futures::{Stream, StreamExt};

use super::*;
use crate::error::{Error, GroupError};
use crate::locks::block_on;

struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_task_that_waits_is_woken_by_an_append_and_no_thread_is_needed() {
    let log = new_log();
    let t = topic(&log, "t", 1);
    let mut consumer = member(&log, manual());
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut look = |consumer: &mut Consumer| Pin::new(consumer).poll_next(&mut context);
    assert!(look(&mut consumer).is_pending());
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    write(&log, &t, 0, &[7], Durability::Sync);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    let Poll::Ready(Some(Ok(polled))) = look(&mut consumer) else { panic!("nothing came") };
    assert_eq!(values(&polled)[&0], [7]);
    assert!(look(&mut consumer).is_pending());
    drop(consumer);
    let before = woken.0.load(Ordering::SeqCst);
    write(&log, &t, 0, &[8], Durability::Sync);
    assert_eq!(woken.0.load(Ordering::SeqCst), before, "who is gone is not woken");
    assert!(log.group("g").unwrap().members().is_empty());
}

/// Whoever drops `next()` and does something else leaves a waker that leads nowhere.
#[test]
fn a_stream_that_does_not_come_when_it_is_woken_loses_its_partitions() {
    let clock = clock();
    let log = open(&MemoryStorage::new(1), &clock);
    let t = topic(&log, "t", 1);
    let patience = Duration::from_secs(10);
    let settings = ConsumerSettings { max_poll_interval: patience, ..manual() };
    let (mut stuck, mut other) = (member(&log, settings.clone()), member(&log, settings));
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut look = |consumer: &mut Consumer| Pin::new(consumer).poll_next(&mut context);
    let tick = Duration::from_millis(1);
    assert!(look(&mut stuck).is_pending());
    for n in 1..=3 {
        clock.advance(patience / 2);
        assert!(poll(&mut other).is_empty());
        assert_eq!(woken.0.load(Ordering::SeqCst), n - 1, "it has not waited for long");
        clock.advance(tick);
        assert!(poll(&mut other).is_empty());
        assert_eq!(woken.0.load(Ordering::SeqCst), n);
        assert!(look(&mut stuck).is_pending());
    }
    write(&log, &t, 0, &[1], Durability::Sync);
    clock.advance(patience / 2 + tick);
    assert!(poll(&mut other).is_empty());
    clock.advance(patience);
    assert!(poll(&mut other).is_empty(), "it has all of its time to come by");
    clock.advance(tick);
    assert_eq!(poll(&mut other)[&0], [1]);
    let fenced = stuck.commit();
    assert!(matches!(fenced, Err(Error::Group(GroupError::Fenced { .. }))), "{fenced:?}");
}

#[test]
fn a_task_that_waits_for_a_partition_is_woken_when_its_owner_lets_go() {
    let log = new_log();
    let t = topic(&log, "t", 2);
    write(&log, &t, 1, &[1], Durability::Sync);
    let mut owner = member(&log, manual());
    assert_eq!(poll(&mut owner)[&1], [1]);
    owner.seek("t", 1, 0).unwrap();
    let mut waits = member(&log, manual());
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    assert!(Pin::new(&mut waits).poll_next(&mut context).is_pending());
    assert!(poll(&mut owner).is_empty());
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    let Poll::Ready(Some(Ok(polled))) = Pin::new(&mut waits).poll_next(&mut context) else {
        panic!("nothing came")
    };
    assert_eq!(values(&polled)[&1], [1]);
}

#[test]
fn streams_of_one_group_read_everything_once_beside_a_writer() {
    const RECORDS: usize = 300;
    let log = LogOptions::new().storage(Arc::new(MemoryStorage::new(1))).open(DIR).unwrap();
    let t = topic(&log, "t", 4);
    let mut seen = std::thread::scope(|scope| {
        let (log, t) = (&log, &t);
        scope.spawn(move || {
            for n in 0..RECORDS as i64 {
                write(log, t, u32::try_from(n % 4).unwrap(), &[n], Durability::Os);
            }
        });
        let consumers = [member(log, manual()), member(log, manual())];
        block_on(async {
            let both = futures::stream::select_all(consumers);
            let mut seen = Vec::new();
            let mut polled = both.map(|polled| values(&polled.unwrap()));
            while seen.len() < RECORDS {
                seen.extend(polled.next().await.unwrap().into_values().flatten());
            }
            seen
        })
    });
    seen.sort_unstable();
    assert_eq!(seen, (0..RECORDS as i64).collect::<Vec<_>>());
}

#[test]
fn an_acknowledgement_can_be_awaited() {
    let log = LogOptions::new().storage(Arc::new(MemoryStorage::new(1))).open(DIR).unwrap();
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[1], Durability::Sync);
    let mut consumer = member(&log, manual());
    block_on(async {
        let polled = consumer.next().await.unwrap().unwrap();
        assert_eq!(polled.count(), 1);
        consumer.commit_async().unwrap().await.unwrap();
    });
    assert_eq!(committed_in(&log), BTreeMap::from([(0, 1)]));
}
