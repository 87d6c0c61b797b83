//! Jobs on a real directory: started, stopped at any time, failed, started again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use core_log::{BatchBuilder, Durability, Log, TopicSettings};
use streams::prelude::*;

const IN: Topic<String, u64> = topic("in");
const OUT: Topic<String, u64> = topic("out");

fn sums(t: &mut Topology) {
    t.stream(IN).aggregate("sums", |sum: &mut u64, n| *sum += n).to(OUT);
}

/// A directory with a topic of ones.
fn directory(partitions: u32, each: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let settings = TopicSettings { partitions, ..TopicSettings::default() };
    let topic = log.create_topic("in", settings).unwrap();
    let mut producer = log.producer(Durability::Os).unwrap();
    let mut batch = BatchBuilder::new();
    for partition in 0..partitions {
        for n in 0..each {
            let none: &[(&str, Option<&[u8]>)] = &[];
            let key = format!("k{}", n % 10);
            batch.push(1_700_000_000_000, Some(key.as_bytes()), Some(b"1"), none).unwrap();
            if n % 500 == 499 || n + 1 == each {
                producer.append(&topic, partition, &mut batch).unwrap();
                batch.clear();
            }
        }
    }
    log.close().unwrap();
    dir
}

fn app(dir: &Path, topology: impl Fn(&mut Topology) + Send + Sync + 'static) -> App {
    App::new("job", topology).log(dir)
}

fn wait_until_idle(handle: &Handle) {
    while !handle.is_idle_for(millis(50)) {
        assert!(!handle.wait_timeout(millis(5)), "the job ended by itself");
    }
}

/// What a job over the whole input does from here: it must count everything that is left.
fn rest(dir: &Path) -> u64 {
    let handle = app(dir, sums).start().unwrap();
    wait_until_idle(&handle);
    handle.stop();
    handle.wait().unwrap().records_in
}

#[test]
fn a_job_can_be_stopped_at_once_and_started_again_in_the_same_process() {
    let dir = directory(3, 1_000);
    let mut counted = 0;
    for _ in 0..4 {
        let handle = app(dir.path(), sums).start().unwrap();
        handle.stop();
        handle.stop();
        counted += handle.wait().unwrap().records_in;
    }
    assert_eq!(counted + rest(dir.path()), 3_000);
    assert_eq!(rest(dir.path()), 0);
}

#[test]
fn a_second_job_on_the_directory_is_refused_also_in_the_same_process() {
    let dir = directory(1, 10);
    let handle = app(dir.path(), sums).start().unwrap();
    let second = App::new("another", sums).log(dir.path()).start();
    assert_eq!(second.err().map(|e| e.code()), Some("S006"));
    wait_until_idle(&handle);
    handle.stop();
    assert_eq!(handle.wait().unwrap().records_in, 10);
}

#[test]
fn a_panic_in_a_closure_ends_the_job_and_the_next_one_reads_the_record_again() {
    let dir = directory(2, 1_000);
    let seen = Arc::new(AtomicU64::new(0));
    let topology = move |t: &mut Topology| {
        let seen = Arc::clone(&seen);
        let check = move |n| {
            assert!(seen.fetch_add(1, Ordering::Relaxed) < 1_500, "this one");
            n
        };
        t.stream(IN).map(check).for_each(|_| ());
    };
    let handle = app(dir.path(), topology).start().unwrap();
    assert_eq!(handle.wait().err().map(|e| e.code()), Some("S008"));
    assert_eq!(rest(dir.path()), 2_000);
}

/// A panic outside of the workers: the job's own thread builds the topology too.
#[test]
fn a_job_whose_own_thread_panics_says_that_it_has_ended() {
    let dir = directory(1, 10);
    let calls = AtomicU64::new(0);
    let topology = move |t: &mut Topology| {
        assert!(calls.fetch_add(1, Ordering::Relaxed) < 2, "it is built once too often");
        sums(t);
    };
    let handle = app(dir.path(), topology).start().unwrap();
    assert!(handle.wait_timeout(secs(60)), "it is told only to those who wait without end");
    assert_eq!(handle.wait().err().map(|e| e.code()), Some("S008"));
    assert_eq!(rest(dir.path()), 10);
}

/// Something to do for each record: a nanosecond or so for each round.
fn work(n: u64, rounds: u64) -> u64 {
    (0..rounds).fold(n, |x, i| std::hint::black_box(x.wrapping_mul(31) ^ i))
}

/// A busy job says nothing until its commit is due; a stop must not wait for that.
#[test]
fn a_busy_job_stops_at_once_however_long_its_commit_interval_is() {
    let dir = directory(1, 100_000);
    let busy = |t: &mut Topology| t.stream(IN).map(|n| work(n, 20_000)).to(OUT);
    let handle = app(dir.path(), busy).commit_every(hours(1)).start().unwrap();
    while handle.progress().records_read < 10_000 {
        assert!(!handle.wait_timeout(millis(1)), "the job ended by itself");
    }
    handle.stop();
    let done = handle.wait().unwrap().records_in;
    assert!(done < 100_000, "it went on to the end of its input");
    assert_eq!(done + rest(dir.path()), 100_000);
}

/// A thousand slow records in a row are no reason to miss the commit, or to look idle meanwhile.
#[test]
fn slow_records_hold_up_neither_a_commit_nor_a_stop() {
    let dir = directory(1, 1_000);
    let seen = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&seen);
    let slow = move |t: &mut Topology| {
        let count = Arc::clone(&count);
        let worked = t.stream(IN).map(move |n| {
            count.fetch_add(1, Ordering::Relaxed);
            work(n, 1_000_000)
        });
        worked.to(OUT);
    };
    let handle = app(dir.path(), slow).start().unwrap();
    while seen.load(Ordering::Relaxed) < 10 {
        assert!(!handle.is_idle_for(millis(0)), "its first records are being worked on");
        assert!(!handle.wait_timeout(millis(1)), "the job ended by itself");
    }
    handle.stop();
    let done = handle.wait().unwrap().records_in;
    assert!((10..1_000).contains(&done), "{done} records were finished first");
    assert_eq!(done + rest(dir.path()), 1_000);
}

/// Two jobs with a store of the same name on one directory, in turn: each finds its own rows on disk.
#[test]
fn jobs_that_take_turns_on_a_directory_keep_their_stores_apart() {
    let dir = directory(2, 500);
    let run = |id: &str| {
        let handle = App::new(id, sums).log(dir.path()).start().unwrap();
        wait_until_idle(&handle);
        handle.stop();
        handle.wait().unwrap()
    };
    assert_eq!(["one", "two"].map(|id| run(id).records_in), [1_000, 1_000]);
    assert_eq!(["one", "two"].map(|id| run(id).restored_records), [0, 0]);
}

/// Found in the middle of a restore, the rows of another build would be garbage, or worse.
#[test]
fn a_build_with_other_types_is_refused_before_it_touches_anything() {
    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Sum {
        of: u64,
    }
    fn other(t: &mut Topology) {
        t.stream(IN).aggregate("sums", |sum: &mut Sum, n| sum.of += n).to(topic("other"));
    }
    let dir = directory(2, 100);
    assert_eq!(rest(dir.path()), 200);
    for _ in 0..2 {
        let error = app(dir.path(), other).start().err().unwrap();
        assert_eq!(error.code(), "S005");
        assert_eq!(error.to_string(), "store `sums` holds u64; this build has Sum{of:u64}");
        assert!(error.help().iter().any(|line| line.contains("reset --to start --yes")));
        // Without the state directory the changelog still has them.
        std::fs::remove_dir_all(dir.path().join("state")).ok();
    }
    assert_eq!(rest(dir.path()), 0, "the build that wrote them goes on");
}

/// What exactly-once is measured against does the same work when nothing fails, and goes on where it
/// stopped, with the stores that it left.
#[test]
fn a_job_without_transactions_reads_each_record_once_when_nothing_fails() {
    let dir = directory(2, 1_000);
    let run = || {
        let app = app(dir.path(), sums).commit_every(millis(2)).at_least_once_to_measure();
        let handle = app.start().unwrap();
        wait_until_idle(&handle);
        handle.stop();
        handle.wait().unwrap()
    };
    assert_eq!(run().records_in, 2_000);
    let again = run();
    assert_eq!((again.records_in, again.restored_records), (0, 0));
}
