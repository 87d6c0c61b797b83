//! How long a record takes from its appointed time to a reader that waits on a condition.
//!
//! Why open loop: a writer that waited for the reader would hide every delay. Records are due every 10
//! us whatever happens, and each is measured from when it was due.
//!
//! Beside it: the same schedule, with nothing but a counter, a mutex and a condition between the threads.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use core_log::{BatchBuilder, Durability, FetchBound, NO_HEADERS, PartitionReader};
use hdrhistogram::Histogram;

const EVERY_NANOS: u64 = 10_000;

/// Measures both in turn, `runs` times, and prints p50 and p99 of all.
pub(crate) fn latencies(
    records: u64,
    runs: u64,
    open: impl Fn(&Path) -> (core_log::Log, core_log::Topic),
) {
    println!("append to poll, Os: {records} records of 100 bytes, one every 10 us, {runs} runs");
    let (mut ours, mut raw) = (histogram(), histogram());
    for _ in 0..runs {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (log, topic) = open(dir.path());
        through_log(records, &log, &topic, &mut ours);
        through_condition(records, &mut raw);
    }
    let at = |figures: &Histogram<u64>, q: f64| figures.value_at_quantile(q) as f64 / 1e3;
    for (name, figures) in [("futex hand-over", &raw), ("append to poll", &ours)] {
        let (p50, p99) = (at(figures, 0.5), at(figures, 0.99));
        let (p999, max) = (at(figures, 0.999), at(figures, 1.0));
        println!(
            "{name:<42} p50 {p50:.1} us, p99 {p99:.1} us, p99.9 {p999:.1} us, max {max:.1} us"
        );
    }
    let ratio = |q| at(&ours, q) / at(&raw, q);
    println!("{:<42} {:.2} x its p50, {:.2} x its p99", "", ratio(0.5), ratio(0.99));
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds")
}

/// Waits until record `n` is due; answers nothing late or early.
fn wait_until(started: Instant, n: u64) {
    while nanos(started) < n * EVERY_NANOS {
        std::hint::spin_loop();
    }
}

fn nanos(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_nanos()).expect("less than centuries")
}

fn through_log(
    records: u64,
    log: &core_log::Log,
    topic: &core_log::Topic,
    figures: &mut Histogram<u64>,
) {
    let mut producer = log.producer(Durability::Os).expect("a producer");
    let started = Instant::now();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reader = PartitionReader::new(log, topic, 0, 0, FetchBound::LastStable);
            let mut next = 0;
            while next < records {
                let seen = log.changes();
                while let Some(batch) = reader.next_batch(64 << 10).expect("a fetch") {
                    for record in batch.records() {
                        record.expect("a record");
                        let late = nanos(started).saturating_sub(next * EVERY_NANOS);
                        figures.record(late.max(1)).expect("within bounds");
                        next += 1;
                    }
                }
                if next < records {
                    log.wait_for_change(seen, Duration::from_secs(1));
                }
            }
        });
        let (value, mut batch) = ([7; 100], BatchBuilder::new());
        for n in 0..records {
            wait_until(started, n);
            batch.clear();
            batch.push(0, None, Some(&value), NO_HEADERS).expect("it fits");
            producer.append(topic, 0, &mut batch).expect("an append");
        }
        reader.join().expect("the reader");
    });
}

fn through_condition(records: u64, figures: &mut Histogram<u64>) {
    let (written, lock, moved) = (AtomicU64::new(0), Mutex::new(()), Condvar::new());
    let started = Instant::now();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut next = 0;
            while next < records {
                let mut held = lock.lock().expect("no panic");
                while written.load(Ordering::SeqCst) == next {
                    held = moved.wait(held).expect("no panic");
                }
                drop(held);
                while next < written.load(Ordering::SeqCst) {
                    let late = nanos(started).saturating_sub(next * EVERY_NANOS);
                    figures.record(late.max(1)).expect("within bounds");
                    next += 1;
                }
            }
        });
        for n in 0..records {
            wait_until(started, n);
            let _held = lock.lock().expect("no panic");
            written.fetch_add(1, Ordering::SeqCst);
            moved.notify_one();
        }
        reader.join().expect("the reader");
    });
}
