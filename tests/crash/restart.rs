//! Stores keep their rows in RocksDB: a restart replays the changelog's tail, and nothing after a clean
//! stop.
//!
//! ```text
//!   run, stop      run, stop     run, kill          run            state removed, run
//!   restores 0     restores 0    restores 0         the tail       all of the changelogs
//! ```

use std::path::Path;

use crate::child::{Child, Spec, number};
use crate::compare::verify;
use crate::directory::{create, extend, open};
use crate::jobs::{Clicks, Job, last_clicks};
use crate::stores::{Inspection, inspect};

fn looked_at(dir: &Path, job: Job) -> Inspection {
    let log = open(dir);
    let found = inspect(dir, &log, job);
    assert!(found.problems.is_empty(), "{:#?}", found.problems);
    log.close().unwrap();
    found
}

fn restored(lines: &[String]) -> u64 {
    lines.iter().rev().find_map(|line| number(line, "restored")).unwrap()
}

fn restart_replays_only_the_tail(job: Job) {
    let dir = tempfile::tempdir().unwrap();
    let mut clicks = Clicks::of_seed(3);
    let mut input = clicks.more(30_000);
    create(dir.path(), job, &input, false);
    let spec = Spec { commit_ms: 5, ponders: true, ..Spec::new(dir.path(), job) };
    assert_eq!(restored(&spec.spawn().succeed()), 0, "there was nothing to restore");
    assert_eq!(looked_at(dir.path(), job).tail, 0, "a clean stop leaves no tail");

    let more = clicks.more(30_000);
    extend(dir.path(), &more);
    input.extend(more);
    assert_eq!(restored(&spec.spawn().succeed()), 0, "the rows are on disk");

    let more = clicks.more(60_000);
    extend(dir.path(), &more);
    input.extend(more);
    let mut child: Child = spec.spawn();
    assert!(child.wait_for(|line| number(line, "commits").is_some_and(|n| n >= 3)));
    child.kill();
    let found = looked_at(dir.path(), job);
    assert!(found.tail > 0, "the killed run had committed something");
    assert!(found.tail < found.changelog_records / 2, "{found:?}");
    assert_eq!(restored(&spec.spawn().succeed()), found.tail, "the tail, and no more");

    let all = looked_at(dir.path(), job).changelog_records;
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    let more = last_clicks(&input);
    extend(dir.path(), &more);
    input.extend(more);
    assert_eq!(restored(&spec.spawn().succeed()), all, "a store that is gone is rebuilt");
    verify(dir.path(), job, &input, "after all these restarts");
}

#[test]
fn windows_are_kept_on_disk_and_a_restart_replays_only_the_tail() {
    restart_replays_only_the_tail(Job::Clickstream);
}

#[test]
fn rows_without_windows_are_kept_on_disk_and_a_restart_replays_only_the_tail() {
    restart_replays_only_the_tail(Job::TwoHops);
}
