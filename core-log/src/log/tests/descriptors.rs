//! More partitions than the process may have descriptors.
//!
//! Why a process of its own: the limit is the process's, and all other tests run in this one.

use std::process::Command;

use super::{batch, committed};
use crate::config::{Durability, TopicSettings};
use crate::log::Log;
use crate::owner::LogOptions;

/// Set in the child.
const CHILD: &str = "CORE_LOG_DESCRIPTORS_CHILD";
const NAME: &str = "log::tests::descriptors::a_log_has_far_more_partitions_than_descriptors";
const LIMIT: usize = 64;
const TOPICS: usize = 50;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn write_and_read(log: &Log, topics: usize, round: usize) {
    let mut lazy = log.producer(Durability::Os).unwrap();
    let mut eager = log.producer(Durability::Sync).unwrap();
    for n in 0..topics {
        let topic = log.topic(&format!("t{n}")).unwrap();
        for partition in 0..topic.partitions() {
            let producer = if n % 10 == 0 { &mut eager } else { &mut lazy };
            producer.append(&topic, partition, &mut batch(&[&round.to_string()])).unwrap();
        }
        let expected: Vec<_> = (0..=round).map(|round| round.to_string()).collect();
        assert_eq!(committed(log, &topic), expected);
    }
}

#[test]
fn a_log_has_far_more_partitions_than_descriptors() {
    if std::env::var_os(CHILD).is_none() {
        let this = std::env::current_exe().unwrap();
        let mut child = Command::new("sh");
        child.args(["-c", &format!("ulimit -n {LIMIT} && exec \"$0\" --exact {NAME}")]);
        let output = child.arg(this).env(CHILD, "1").output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = || LogOptions::new().reserve_bytes(0);
    let log = options().open(dir.path()).unwrap();
    for n in 0..TOPICS {
        log.create_topic(&format!("t{n}"), TopicSettings::with_partitions(4)).unwrap();
    }
    write_and_read(&log, TOPICS, 0);
    write_and_read(&log, TOPICS, 1);
    log.close().unwrap();
    drop(log);
    let log = options().open(dir.path()).unwrap();
    assert!(log.recovery().is_clean(), "{}", log.recovery());
    write_and_read(&log, TOPICS, 2);
    assert!(open_descriptors() < LIMIT);
}
