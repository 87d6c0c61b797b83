//! What a `TestDriver` says in memory, with crashes, is what a process says on disk, with RocksDB.

use streams::prelude::*;

use crate::child::Spec;
use crate::compare::{told, verify};
use crate::directory::{create, open};
use crate::jobs::{
    ACTIVITY, CLICKS, COUNTS, Clicks, Expected, Job, Placed, TOTALS, last_clicks, model,
};

const SEEDS: u64 = 4;

/// What the driver says of the input, in the words of the model.
fn driven(job: Job, input: &[Placed], seed: u64, crash_every: Option<u64>) -> Expected {
    let mut d =
        TestDriver::new(job.topology(|_| true)).partitions(crate::jobs::PARTITIONS).seed(seed);
    if let Some(records) = crash_every {
        d = d.crash_every(records);
    }
    for (partition, click) in input {
        d.send_to(CLICKS, *partition, NoKey, click.clone());
    }
    let mut said = Expected { late: d.late(), ..Expected::default() };
    if job == Job::Clickstream {
        for record in d.read_records(COUNTS) {
            assert!(record.headers.is_empty());
            let key = record.key.unwrap();
            let row = (record.value.unwrap(), record.timestamp);
            assert_eq!(said.counts.insert((key.key, key.start), row), None, "closed twice");
        }
        return said;
    }
    for record in d.read_records(ACTIVITY) {
        assert!(record.headers.is_empty());
        let key = record.key.unwrap();
        let row = (record.value.unwrap(), record.timestamp);
        assert_eq!(said.activity.insert((key.key, key.start), row), None, "closed twice");
    }
    said.totals.extend(d.read(TOTALS));
    assert!(crash_every.is_none() || d.crashes() > 0, "seed {seed} crashed nowhere");
    said
}

fn memory_and_disk_say_the_same(job: Job) {
    let mut input = Clicks::of_seed(31).more(4_000);
    input.extend(last_clicks(&input));
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), job, &input, true);
    Spec::busy(dir.path(), job, 2).spawn().succeed();
    verify(dir.path(), job, &input, "on disk");
    let log = open(dir.path());
    let on_disk = Expected { late: model(job, &input).late, ..told(&log) };
    log.close().unwrap();
    assert!(on_disk.late > 0, "some clicks are late");
    for seed in 0..SEEDS {
        for crash_every in [None, Some(300)] {
            let said = driven(job, &input, seed, crash_every);
            assert!(said == on_disk, "{job:?}, seed {seed}, a crash every {crash_every:?}");
        }
    }
}

#[test]
fn the_clickstream_says_the_same_in_memory_and_on_disk() {
    memory_and_disk_say_the_same(Job::Clickstream);
}

#[test]
fn two_hops_say_the_same_in_memory_and_on_disk() {
    memory_and_disk_say_the_same(Job::TwoHops);
}
