//! Members of a group that hand partitions over, beside a thread that writes them.

use std::sync::Arc;
use std::time::Duration;

use core_log::storage::memory::{Keep, MemoryStorage};
use core_log::{Broken, Consumer, ConsumerSettings, Durability, Log, Offset, OffsetReset, Polled};
use shuttle::thread;

use super::{batch, explore, open, options, small};

/// How a member goes away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goes {
    InOrder,
    WithoutAWord,
}

fn member(log: &Log) -> Consumer {
    let settings = ConsumerSettings {
        auto_offset_reset: OffsetReset::Earliest,
        enable_auto_commit: false,
        max_poll_records: 1,
        ..ConsumerSettings::default()
    };
    let mut member = log.group("g").unwrap().consumer(settings);
    member.subscribe(&["t"]).unwrap();
    member
}

fn places(polled: &Polled) -> impl Iterator<Item = (u32, Offset)> + '_ {
    polled.records().map(|record| record.map(|record| (record.partition, record.offset)).unwrap())
}

/// Two partitions are written while one member reads and another one comes, reads some, and goes. What
/// the guest has read counts if it was committed, or if it went in order.
fn hand_over(goes: Goes, broken: Option<Broken>) {
    const RECORDS: usize = 6;
    explore(move || {
        let storage = MemoryStorage::new(1);
        let options = options(storage.clone());
        let log = broken.map_or(options.clone(), |broken| options.broken(broken));
        let log = log.open("/data").unwrap();
        let topic = small(&log, "t");
        let mut stays = member(&log);
        let wakeup = stays.wakeup();
        let seen = Arc::new(shuttle::sync::Mutex::new(Vec::new()));
        let writer = {
            let (log, topic) = (log.clone(), topic.clone());
            thread::spawn(move || {
                let mut producer = log.producer(Durability::Os).unwrap();
                for n in 0..RECORDS {
                    let partition = u32::from(n % 2 == 1);
                    producer.append(&topic, partition, &mut batch(&n.to_string())).unwrap();
                }
            })
        };
        let guest = {
            let (log, seen) = (log.clone(), Arc::clone(&seen));
            thread::spawn(move || {
                let mut guest = member(&log);
                let mut doubtful = Vec::new();
                for n in 0..4 {
                    doubtful.extend(places(&guest.poll(Duration::ZERO).unwrap()));
                    if n == 1 {
                        guest.commit().unwrap();
                        seen.lock().unwrap().append(&mut doubtful);
                    }
                }
                if goes == Goes::InOrder {
                    seen.lock().unwrap().append(&mut doubtful);
                    guest.close().unwrap();
                } else {
                    drop(guest);
                }
                wakeup.wake();
            })
        };
        let mut polls = 0;
        while seen.lock().unwrap().len() < RECORDS {
            // No time passes: a wake-up that is lost, or a record that is skipped, stops everything.
            let polled = stays.poll(Duration::from_secs(3_600)).unwrap();
            seen.lock().unwrap().extend(places(&polled));
            polls += 1;
            if polls % 2 == 0 {
                stays.commit().unwrap();
            }
        }
        writer.join().unwrap();
        guest.join().unwrap();
        assert!(stays.poll(Duration::ZERO).unwrap().is_empty(), "read twice");
        stays.commit().unwrap();
        let mut seen = std::mem::take(&mut *seen.lock().unwrap());
        seen.sort_unstable();
        assert_eq!(seen, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
        let again = open(&storage.crash_image(Keep::None));
        let committed = again.group("g").unwrap().committed().unwrap();
        assert_eq!(committed.values().map(|at| at.offset).collect::<Vec<_>>(), [3, 3]);
    });
}

#[test]
fn a_partition_is_handed_over_while_it_is_written() {
    hand_over(Goes::InOrder, None);
}

#[test]
fn a_member_that_dies_is_followed_at_its_last_commit() {
    hand_over(Goes::WithoutAWord, None);
}

#[test]
fn a_hand_over_that_forgets_the_position_is_found() {
    let forgets = || hand_over(Goes::InOrder, Some(Broken::ForgetHandOver));
    assert!(std::panic::catch_unwind(forgets).is_err(), "nothing was read twice");
}
