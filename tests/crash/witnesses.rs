//! The red witnesses: a runtime that is broken on purpose, for each checker of directories.

use crate::child::{Broken, Spec, number};
use crate::directory::{create, extend, open};
use crate::jobs::{Clicks, Job};
use crate::stores::{inspect, unaccounted, unlike_their_changelogs};

#[test]
fn a_changelog_record_left_out_is_noticed() {
    for job in [Job::Clickstream, Job::TwoHops] {
        let dir = tempfile::tempdir().unwrap();
        let input = Clicks::of_seed(4).more(5_000);
        create(dir.path(), job, &input, false);
        let broken = Some(Broken::SkipsChangelogRecord);
        Spec { broken, ..Spec::new(dir.path(), job) }.spawn().succeed();
        let log = open(dir.path());
        assert!(!unlike_their_changelogs(dir.path(), &log, job).is_empty(), "{job:?}");
        assert!(unaccounted(&log, job, &input).is_some(), "{job:?}");
        log.close().unwrap();
    }
}

#[test]
fn a_store_written_before_the_commit_point_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut clicks = Clicks::of_seed(4);
    create(dir.path(), Job::TwoHops, &clicks.more(20_000), true);
    let broken = Some(Broken::StoresBeforeCommit);
    let noticed = (0..60_u64).any(|attempt| {
        let mut child = Spec { broken, ..Spec::busy(dir.path(), Job::TwoHops, 1) }.spawn();
        child.wait_for(|line| number(line, "commits").is_some_and(|n| n > attempt % 5));
        child.let_run(std::time::Duration::from_micros(attempt * 977 % 10_000));
        child.kill();
        if child.is_done() {
            extend(dir.path(), &clicks.more(20_000));
        }
        let log = open(dir.path());
        let found = inspect(dir.path(), &log, Job::TwoHops);
        log.close().unwrap();
        !found.problems.is_empty()
    });
    assert!(noticed, "no kill fell between the store and the commit point");
}
