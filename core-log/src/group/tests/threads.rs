//! Members on threads of their own that join and leave while records are written.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::*;

const RECORDS: usize = 2_000;
const PARTITIONS: u32 = 6;
const MEMBERS: usize = 4;

fn produce(log: &Log, t: &Topic) {
    for n in 0..RECORDS as i64 {
        let partition = u32::try_from(n).unwrap() % PARTITIONS;
        write(log, t, partition, &[n], Durability::Os);
    }
}

/// A wait with an end: who owns no partition looks now and then whether all has been read.
const A_WHILE: Duration = Duration::from_millis(20);

/// Reads until all have been read; leaves in order after some polls and comes again.
fn consume(log: &Log, count: &AtomicUsize, stays: usize) -> Vec<i64> {
    let mut read = Vec::new();
    while count.load(Ordering::SeqCst) < RECORDS {
        let settings = ConsumerSettings { max_poll_records: 7, ..manual() };
        let mut consumer = member(log, settings);
        for n in 0..stays {
            let polled = consumer.poll(A_WHILE).unwrap();
            count.fetch_add(polled.count(), Ordering::SeqCst);
            read.extend(values(&polled).into_values().flatten());
            if count.load(Ordering::SeqCst) >= RECORDS {
                break;
            }
            if n % 5 == 4 {
                consumer.commit().unwrap();
            }
        }
        consumer.close().unwrap();
    }
    read
}

#[test]
fn members_that_come_and_go_in_order_read_every_record_once() {
    let log = LogOptions::new().storage(Arc::new(MemoryStorage::new(1))).open(DIR).unwrap();
    let t = topic(&log, "t", PARTITIONS);
    let count = AtomicUsize::new(0);
    let reads = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let (log, t, count, reads) = (&log, &t, &count, &reads);
        scope.spawn(move || produce(log, t));
        for n in 0..MEMBERS {
            // The first one stays: a group that all have left begins at its committed offsets.
            let stays = if n == 0 { usize::MAX } else { 20 + n * 7 };
            scope.spawn(move || {
                let read = consume(log, count, stays);
                reads.lock().extend(read);
            });
        }
    });
    let mut all = reads.into_inner();
    all.sort_unstable();
    assert_eq!(all, (0..RECORDS as i64).collect::<Vec<_>>());
}

#[test]
fn a_poll_that_waits_ends_when_it_is_woken_up() {
    let log = new_log();
    topic(&log, "t", 1);
    let mut consumer = member(&log, manual());
    let wakeup = consumer.wakeup();
    wakeup.wake();
    // Woken before it waits: it does not wait at all, once.
    assert!(consumer.poll(Duration::from_secs(3_600)).unwrap().is_empty());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.poll(Duration::from_secs(3_600)).unwrap().count());
        wakeup.wake();
        assert_eq!(waiting.join().unwrap(), 0);
    });
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.poll(Duration::from_secs(3_600)));
        log.close().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(crate::Error::Closed)));
    });
}

#[test]
fn a_thread_that_dies_is_followed_by_one_that_begins_at_its_last_commit() {
    let log = LogOptions::new().storage(Arc::new(MemoryStorage::new(1))).open(DIR).unwrap();
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[1, 2, 3, 4], Durability::Sync);
    let mut heir = member(&log, manual());
    assert!(heir.poll(Duration::ZERO).unwrap().count() == 4);
    heir.seek("t", 0, 0).unwrap();
    let group = log.group("g").unwrap();
    heir.unsubscribe().unwrap();
    let dead = std::thread::scope(|scope| {
        let settings = ConsumerSettings { max_poll_records: 2, ..manual() };
        let mut dying = member(&log, settings);
        let dead = scope.spawn(move || -> () {
            assert_eq!(poll(&mut dying)[&0], [1, 2]);
            dying.commit().unwrap();
            assert_eq!(poll(&mut dying)[&0], [3, 4]);
            // In the middle of its work.
            std::panic::resume_unwind(Box::new("this thread dies"))
        });
        dead.join()
    });
    assert!(dead.is_err());
    assert!(group.members().is_empty());
    heir.subscribe(&["t"]).unwrap();
    assert_eq!(poll(&mut heir)[&0], [3, 4]);
}

/// Keeps the log's thread for commits busy until the answer is dropped.
fn hold_jobs(log: &Log) -> std::sync::mpsc::Sender<()> {
    let (hold, held) = std::sync::mpsc::channel();
    log.inner.jobs().submit(Box::new(move || {
        let _dropped = held.recv();
    }));
    hold
}

/// Lets a thread come as far as it comes while the commits are held, then lets these go on.
fn beside_held_commits<T: Send>(
    hold: std::sync::mpsc::Sender<()>,
    work: impl FnOnce() -> T + Send,
) -> T {
    std::thread::scope(|scope| {
        let working = scope.spawn(work);
        (0..1_000).for_each(|_| std::thread::yield_now());
        drop(hold);
        working.join().unwrap()
    })
}

#[test]
fn a_commit_that_waits_its_turn_is_not_overtaken() {
    let log = LogOptions::new().storage(Arc::new(MemoryStorage::new(1))).open(DIR).unwrap();
    let t = topic(&log, "t", 1);
    write(&log, &t, 0, &[1, 2], Durability::Sync);
    let mut consumer = member(&log, ConsumerSettings { max_poll_records: 1, ..manual() });
    assert_eq!(poll(&mut consumer)[&0], [1]);
    let hold = hold_jobs(&log);
    let first = consumer.commit_async().unwrap();
    assert_eq!(poll(&mut consumer)[&0], [2]);
    beside_held_commits(hold, || consumer.commit()).unwrap();
    first.wait().unwrap();
    assert_eq!(committed_in(&log), BTreeMap::from([(0, 2)]));
}

#[test]
fn a_partition_is_handed_over_behind_the_commits_that_were_asked_for() {
    let log = LogOptions::new().storage(Arc::new(MemoryStorage::new(1))).open(DIR).unwrap();
    let t = topic(&log, "t", 2);
    (0..2).for_each(|partition| write(&log, &t, partition, &[1], Durability::Sync));
    let mut owner = member(&log, manual());
    assert_eq!(poll(&mut owner).len(), 2);
    let hold = hold_jobs(&log);
    let asked = owner.commit_async().unwrap();
    let _other = member(&log, manual());
    assert!(beside_held_commits(hold, || poll(&mut owner)).is_empty());
    asked.wait().unwrap();
    assert_eq!((partitions(&owner), committed_in(&log).len()), (vec![0], 2));
}

#[test]
fn many_commits_at_the_same_time_end_where_the_last_one_was() {
    let log = LogOptions::new().storage(Arc::new(MemoryStorage::new(1))).open(DIR).unwrap();
    let t = topic(&log, "t", PARTITIONS);
    for partition in 0..PARTITIONS {
        write(&log, &t, partition, &(0..500).collect::<Vec<_>>(), Durability::Os);
    }
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let settings = ConsumerSettings { max_poll_records: 1, ..manual() };
                let mut consumer = member(&log, settings);
                let mut pending = Vec::new();
                while committed_in(&log).values().sum::<i64>() < 3_000 {
                    poll(&mut consumer);
                    pending.push(consumer.commit_async().unwrap());
                }
                pending.into_iter().for_each(|commit| commit.wait().unwrap());
                consumer.close().unwrap();
            });
        }
    });
    assert_eq!(committed_in(&log).values().copied().collect::<Vec<_>>(), [500; 6]);
}
