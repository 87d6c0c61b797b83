//! Appends that wait for the disk: one producer, then 64 of them, and 64 that share a batching one.
//!
//! Beside them: write(2) + fdatasync on one thread, once with the bytes that each sync of theirs covered,
//! and once with all 64 records in each.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;

use core_log::{Durability, Log, LogOptions, Topic, TopicSettings};

use crate::compare::{Work, in_turn};
use crate::cost::{Cost, measured, spread};
use crate::watched::Watched;
use crate::{batching, one_record, open, seconds, write_and_sync};

const PRODUCERS: usize = 64;

/// So many producers, threads or tasks append so many records each.
type Appends = fn(&Log, &Topic, usize, u64) -> Cost;

pub(crate) fn syncs(appends: u64, runs: u64) {
    println!("Sync: {appends} appends of one record of 100 bytes, one producer and {PRODUCERS}");
    let one = one_producer(appends, runs);
    let each = (appends / 2).max(2);
    let kinds: [(&str, Appends); 3] = [
        ("append, Sync, 64 producers", many_producers),
        ("send and wait, Sync, 64 threads", batching::threads),
        ("send and await, Sync, 64 tasks", batching::tasks),
    ];
    for (name, work) in kinds {
        beside_raw(name, work, each, runs, one);
    }
}

/// Answers the median time of an append, in seconds.
fn one_producer(appends: u64, runs: u64) -> f64 {
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (log, topics) = open(dir.path(), 1);
        let mut producer = log.producer(Durability::Sync).expect("a producer");
        let path = dir.path().join("raw");
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a file");
        for _ in 0..appends {
            let mut batch = one_record();
            ours.push(seconds(|| {
                producer.append(&topics[0], 0, &mut batch).expect("an append");
            }));
            raw.push(seconds(|| write_and_sync(&mut file, 1)));
        }
    }
    let (ours, raw) = (spread(ours).0, spread(raw).0);
    println!("{:<42} p50 {:>8.0} us", "raw write + fdatasync, one producer", raw * 1e6);
    let name = "append, Sync, one producer";
    println!("{name:<42} p50 {:>8.0} us, {:.2} x raw", ours * 1e6, ours / raw);
    ours
}

fn beside_raw(name: &str, work: Appends, each: u64, runs: u64, one: f64) {
    let covered = RefCell::new(Vec::new());
    let ours = || {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let watched = Watched::default();
        let options = LogOptions::new().storage(Arc::new(watched.clone()));
        let log = options.open(dir.path()).expect("the log");
        let topic = log.create_topic("topic-0", TopicSettings::default()).expect("a topic");
        watched.take();
        let cost = work(&log, &topic, PRODUCERS, each);
        covered.replace(watched.take());
        cost
    };
    let full = usize::try_from(each).expect("a small number");
    let full = vec![PRODUCERS * one_record().len_bytes(); full];
    let works: [Work<'_>; 3] =
        [Box::new(ours), Box::new(|| raw(&covered.borrow())), Box::new(|| raw(&full))];
    let [ours, same, all] = in_turn(runs, works);
    let total = each as f64 * PRODUCERS as f64;
    let per_second = |costs: &[Cost]| spread(costs.iter().map(|c| total / c.wall).collect());
    let (median, low, high) = per_second(&ours);
    let in_a_sync = total / covered.borrow().len() as f64;
    println!(
        "{name:<42} {median:>8.0} records/s (min {low:.0}, max {high:.0}), {:.1} x one",
        median * one
    );
    for (what, raw) in [(format!("{in_a_sync:.0}, as ours"), same), (PRODUCERS.to_string(), all)] {
        let raw = per_second(&raw).0;
        let name = format!("  raw, {what}, records in each fdatasync");
        println!("{name:<42} {raw:>8.0} records/s, ratio {:.2}", median / raw);
    }
    let cpu = spread(ours.iter().map(|c| c.cpu * 1e6 / total).collect()).0;
    println!("{:<42} {cpu:>8.1} us of CPU for a record", "");
}

fn many_producers(log: &Log, topic: &Topic, producers: usize, each: u64) -> Cost {
    measured(|| {
        std::thread::scope(|scope| {
            for _ in 0..producers {
                scope.spawn(|| {
                    let mut producer = log.producer(Durability::Sync).expect("a producer");
                    for _ in 0..each {
                        producer.append(topic, 0, &mut one_record()).expect("an append");
                    }
                });
            }
        });
    })
}

fn raw(covered: &[usize]) -> Cost {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut file = File::create(dir.path().join("raw")).expect("a new file");
    measured(|| {
        for bytes in covered {
            file.write_all(&vec![7; *bytes]).expect("a write");
            file.sync_data().expect("a sync");
        }
    })
}
