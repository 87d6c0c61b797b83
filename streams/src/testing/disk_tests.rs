//! The driver on a RocksDB that is killed.

use std::path::Path;

use super::*;
use crate::dsl::topic;
use crate::key::Windowed;
use crate::time::{secs, tumbling};

const IN: Topic<String, u64> = topic("in");
const SUMS: Topic<String, u64> = topic("sums");
const WINDOWS: Topic<Windowed<String>, u64> = topic("windows");

fn topology(t: &mut Topology) {
    t.stream(IN).aggregate("sums", |sum: &mut u64, n| *sum += n).to(SUMS);
    t.stream(IN).window(tumbling(secs(1))).count("windows").on_close().to(WINDOWS);
}

fn send(d: &mut TestDriver) {
    for i in 0..300_u64 {
        d.send_at(IN, format!("k{}", i % 7), i, i64::try_from(i * 50).unwrap());
        if i % 50 == 0 {
            d.run().unwrap();
        }
    }
}

type Results = (BTreeMap<String, u64>, Vec<(Windowed<String>, u64)>);

fn results(mut d: TestDriver) -> Results {
    send(&mut d);
    let mut windows = d.advance_to(1_000_000).read(WINDOWS);
    windows.sort();
    (d.read(SUMS).into_iter().collect(), windows)
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[test]
fn on_disk_a_job_gives_what_it_gives_in_memory_whatever_kills_there_are() {
    let expected = results(TestDriver::new(topology).partitions(3));
    let dir = tempfile::tempdir().unwrap();
    let mut crashes = 0;
    for seed in 0..6 {
        let mut d = TestDriver::new(topology).partitions(3).seed(seed).crash_every(60);
        d = d.stores_on_disk(dir.path());
        send(&mut d);
        crashes += d.crashes();
        let d = TestDriver::new(topology).partitions(3).stores_on_disk(dir.path()).seed(seed);
        assert_eq!(results(d.crash_every(60)), expected, "seed {seed}");
    }
    assert!(crashes > 10, "{crashes}");
    assert_eq!(entries(dir.path()), 0, "drivers remove what they made");
}

/// What is lost is not all: a job that begins anew each time would restore every row each time.
#[test]
fn a_kill_loses_what_was_not_written_and_the_changelog_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut d = TestDriver::new(topology).stores_on_disk(dir.path());
    send(&mut d);
    d.stop();
    assert_eq!(d.restored(), 0, "nothing was there to restore");
    d.run().unwrap();
    assert_eq!(d.restored(), 0, "a clean stop leaves everything on the disk");
    d.send_at(IN, "k1".into(), 1, 15_000).run().unwrap();
    d.crash().run().unwrap();
    assert!(d.restored() > 0, "the last commit was in no file");
    assert!(d.restored() < 20, "and only the last one: {}", d.restored());
}

#[test]
fn the_same_seed_takes_the_same_steps_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let trace = || {
        let d = TestDriver::new(topology).partitions(2).seed(11).crash_every(40);
        let mut d = d.stores_on_disk(dir.path());
        send(&mut d);
        (d.crashes(), d.commits(), d.restored())
    };
    assert_eq!(trace(), trace());
}
