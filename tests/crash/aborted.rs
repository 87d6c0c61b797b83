//! Input written in transactions: what was aborted reaches no output, no store and no clock.
//!
//! ```text
//!   a partition of clicks   | real | ghost | real | ghost | C | ghost | real | A | ..   | ghost |
//!                             two writers, one commits and one aborts                     open at
//!                                                                                        the kill
//! ```
//!
//! A ghost lies an hour ahead in event time: a job that lets one touch a clock counts all that follows
//! as late.

use std::path::Path;

use core_log::{Durability, Log, Transaction, TransactionalProducer};

use crate::child::{Spec, number, say, wait_for_end_of_input};
use crate::compare::verify;
use crate::directory::{batch_of, create_topics, open, read};
use crate::jobs::{Click, Clicks, Job, PARTITIONS, Placed, last_clicks};
use crate::random::Random;

const SEED: u64 = 21;
const SHARES: usize = 6;
const GHOST: &str = "ghost";
const AHEAD_MS: i64 = 3_600_000;

/// The real clicks, in shares; the last one closes all windows.
fn shares() -> Vec<Vec<Placed>> {
    let mut clicks = Clicks::of_seed(SEED);
    let mut shares: Vec<_> = (1..SHARES).map(|_| clicks.more(8_000)).collect();
    shares.push(last_clicks(&shares.concat()));
    shares
}

fn ghosts(of: &[Placed]) -> Vec<Placed> {
    let ghost = |at| Click { user: GHOST.to_owned(), page: format!("/{GHOST}"), at };
    of.iter().map(|(partition, click)| (*partition, ghost(click.at + AHEAD_MS))).collect()
}

/// A producer with a transaction that it ends now and then.
struct Writer {
    producer: TransactionalProducer,
    running: Option<Transaction>,
}

impl Writer {
    fn new(log: &Log, id: &str) -> Self {
        let producer = log.transactional_producer(id, Durability::Os).unwrap();
        Self { producer, running: None }
    }

    fn running(&mut self) -> &Transaction {
        if self.running.is_none() {
            self.running = Some(self.producer.begin().unwrap());
        }
        self.running.as_ref().unwrap()
    }
}

/// Writes a share, then stays in the middle of an unfinished transaction until it is killed. Runs in a
/// child.
pub(crate) fn write_share(dir: &Path, share: usize) {
    let log = open(dir);
    let topic = log.topic("clicks").unwrap();
    let (mut real, mut ghost) = (Writer::new(&log, "real"), Writer::new(&log, GHOST));
    let mut random = Random::new(SEED + u64::try_from(share).unwrap());
    let clicks = &shares()[share];
    for run in clicks.chunk_by(|a, b| a.0 == b.0) {
        real.running().append(&topic, run[0].0, &mut batch_of(run)).unwrap();
        ghost.running().append(&topic, run[0].0, &mut batch_of(&ghosts(run))).unwrap();
        if random.below(7) == 0 {
            real.running.take().unwrap().commit(&[]).unwrap();
        }
        if random.below(7) == 0 {
            ghost.running.take().unwrap().abort().unwrap();
        }
    }
    if let Some(running) = real.running.take() {
        running.commit(&[]).unwrap();
    }
    let everywhere: Vec<Placed> = (0..PARTITIONS).map(|p| (p, clicks[0].1.clone())).collect();
    for click in ghosts(&everywhere).chunks(1) {
        ghost.running().append(&topic, click[0].0, &mut batch_of(click)).unwrap();
    }
    say("written");
    wait_for_end_of_input();
}

fn is_ghostly(bytes: Option<&Vec<u8>>) -> bool {
    bytes.is_some_and(|bytes| bytes.windows(GHOST.len()).any(|part| part == GHOST.as_bytes()))
}

fn aborted_input_leaves_no_trace(job: Job) {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    create_topics(&log, job, true);
    log.close().unwrap();
    drop(log);
    let mut random = Random::new(SEED);
    for share in 0..SHARES {
        let spec = Spec { write_share: Some(share), ..Spec::new(dir.path(), job) };
        let mut writer = spec.spawn();
        assert!(writer.wait_for(|line| line.ends_with("written")), "{:?}", writer.lines);
        writer.kill();
        if share + 1 < SHARES {
            let mut killed = Spec::busy(dir.path(), job, 5).spawn();
            let commits = 1 + random.below(4);
            killed.wait_for(|line| number(line, "commits").is_some_and(|n| n >= commits));
            killed.kill();
        }
    }
    Spec::busy(dir.path(), job, 5).spawn().succeed();

    let log = open(dir.path());
    let topic = log.topic("clicks").unwrap();
    let ends = (0..PARTITIONS).map(|p| log.offsets(topic.id(), p).unwrap().log_end_offset);
    let written: usize = ends.map(|end| usize::try_from(end).unwrap()).sum();
    let input = shares().concat();
    assert!(written > 2 * input.len(), "as many ghosts as clicks were written, and markers");
    let stores = job.stores().iter();
    let internal = stores.flat_map(|(store, _)| [job.changelog(store), job.repartition(store)]);
    let outputs = job.final_outputs().iter().chain(job.updated_outputs());
    for name in internal.chain(outputs.map(|&name| name.to_owned())) {
        for record in read(&log, &name) {
            let seen = is_ghostly(record.key.as_ref()) || is_ghostly(record.value.as_ref());
            assert!(!seen, "{name}: {record:?}");
        }
    }
    log.close().unwrap();
    verify(dir.path(), job, &input, "aborted input");
}

#[test]
fn aborted_input_transactions_leave_no_trace_in_the_clickstream() {
    aborted_input_leaves_no_trace(Job::Clickstream);
}

#[test]
fn aborted_input_transactions_leave_no_trace_in_two_hops() {
    aborted_input_leaves_no_trace(Job::TwoHops);
}
