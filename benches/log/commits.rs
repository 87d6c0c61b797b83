//! A transaction over so many partitions, `Sync`, beside as many files.
//!
//! Beside it: one write to each file, their fdatasyncs in parallel, then one write and fdatasync more.

use std::fs::File;
use std::io::Write;
use std::time::Instant;

use core_log::{Durability, Log, TopicSettings};

use crate::cost::spread;
use crate::{one_record, write_and_sync};

/// Syncs of one commit that run at the same time, as in the log.
const PARALLEL: usize = 16;

pub(crate) fn transactions(commits: u64, runs: u64) {
    for partitions in [1_u32, 4, 16] {
        let (mut ours, mut raw) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let log = Log::open(dir.path()).expect("the log");
            let topic =
                log.create_topic("t", TopicSettings::with_partitions(partitions)).expect("a topic");
            let mut producer =
                log.transactional_producer("bench", Durability::Sync).expect("a producer");
            let open = |n| File::create(dir.path().join(format!("raw-{n}"))).expect("a new file");
            let mut files: Vec<File> = (0..=partitions).map(open).collect();
            for _ in 0..commits {
                let started = Instant::now();
                let transaction = producer.begin().expect("a transaction");
                for partition in 0..partitions {
                    transaction.append(&topic, partition, &mut one_record()).expect("an append");
                }
                transaction.commit(&[]).expect("a commit");
                ours.push(started.elapsed().as_secs_f64());
                let started = Instant::now();
                write_all_and_sync(&mut files);
                raw.push(started.elapsed().as_secs_f64());
            }
        }
        let micros = |figures: Vec<f64>| spread(figures).0 * 1e6;
        let (ours, raw) = (micros(ours), micros(raw));
        let name = format!("transaction over {partitions} partition(s), Sync");
        println!("{name:<42} p50 {ours:>8.0} us, raw {raw:>8.0} us, {:.2} x raw", ours / raw);
    }
}

fn write_all_and_sync(files: &mut [File]) {
    let bytes = vec![7; one_record().len_bytes()];
    let (last, data) = files.split_last_mut().expect("at least one");
    for file in &mut *data {
        file.write_all(&bytes).expect("a write");
    }
    let lanes = PARALLEL.min(data.len());
    let sync = |lane: usize| {
        for file in data.iter().skip(lane).step_by(lanes) {
            file.sync_data().expect("a sync");
        }
    };
    std::thread::scope(|scope| {
        for lane in 1..lanes {
            let sync = &sync;
            scope.spawn(move || sync(lane));
        }
        sync(0);
    });
    write_and_sync(last, 1);
}
