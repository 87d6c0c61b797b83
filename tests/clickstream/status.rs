//! `status`: of a running and of a stopped job, once and refreshed.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use super::commands::{Running, demo, json_lines};
use super::state::copy;
use super::{command, fail, succeed};

#[test]
fn a_stopped_job_is_told_from_its_log() {
    let text = succeed(demo(), &["status"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "clickstream \u{b7} STOPPED \u{b7} what its log says");
    assert!(
        lines[1].starts_with("SOURCE  PART  POSITION  END  LAG  LAG TIME  EVENT TIME"),
        "{text}"
    );
    assert_eq!(lines.len(), 7, "a line for each of four partitions, and the windows: {text}");
    for line in &lines[2..6] {
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((cells[0], cells[2], cells[4]), ("clicks", cells[3], "0"), "{text}");
    }
    assert!(lines[6].starts_with("WINDOWS  clicks-per-page  closed to 2015-05-17T10:0"), "{text}");
    let status = &json_lines(&succeed(demo(), &["status", "--json"]))[0];
    assert!(status["running"].is_null() && status["stores"].as_array().unwrap().is_empty());
    let ends: i64 =
        status["sources"].as_array().unwrap().iter().map(|s| s["end"].as_i64().unwrap()).sum();
    assert_eq!(ends, 80);
}

#[test]
fn a_running_job_says_why_its_windows_wait() {
    let dir = tempfile::tempdir().unwrap();
    copy(demo(), dir.path());
    let job = Running::start(dir.path());
    let text = succeed(dir.path(), &["status"]);
    assert!(text.starts_with("clickstream \u{b7} RUNNING "), "{text}");
    assert!(text.contains(&format!("(pid {})", job.0.id())), "{text}");
    assert!(text.contains("WINDOWS  clicks-per-page  open 2 \u{b7} closed to "), "{text}");
    assert!(
        text.contains(
            "NOT PROCESSED  late 0 \u{b7} dead letters 0 \u{b7} skipped 0 \u{b7} filtered 0"
        ),
        "{text}"
    );
    assert!(text.contains("STATE    clicks-per-page  rows 2 \u{b7} "), "{text}");
    assert!(
        text.contains("hint[S001]: nothing is wrong: 2 windows of clicks-per-page wait"),
        "{text}"
    );
    assert!(
        text.contains("the oldest closes when event time reaches 2015-05-17T10:09:10Z"),
        "{text}"
    );
    assert!(text.contains(" of clicks is at 2015-05-17T10:0"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    let status = &json_lines(&succeed(dir.path(), &["status", "--json"]))[0];
    assert_eq!(status["running"]["pid"], job.0.id());
    assert_eq!(status["stores"][0]["rows"], 2);
    let lookups = ["cache_hits", "cache_misses"].map(|name| status["stores"][0][name].as_u64());
    assert!(lookups.iter().all(Option::is_some), "{status}");
    let held_by = status["windows"][0]["held_by"].as_u64().unwrap();
    let times = status["sources"].as_array().unwrap().iter().map(|s| s["event_time"].as_i64());
    let least = times.clone().enumerate().min_by_key(|(_, time)| *time).unwrap().0;
    assert_eq!(usize::try_from(held_by).unwrap(), least, "{status}");
    job.stop();
}

#[test]
fn a_watch_goes_on_over_starts_and_stops_of_the_job() {
    let dir = tempfile::tempdir().unwrap();
    copy(demo(), dir.path());
    let mut watch = command(dir.path(), &["status", "--watch", "--json"]);
    let mut watch = Running(watch.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(watch.0.stdout.take().unwrap()).lines();
    let mut wait_for = |is_running: bool| loop {
        let status = &json_lines(&lines.next().unwrap().unwrap())[0];
        if status["running"].is_null() != is_running {
            break;
        }
    };
    wait_for(false);
    let job = Running::start(dir.path());
    wait_for(true);
    job.stop();
    wait_for(false);
    watch.stop();
}

#[test]
fn a_log_that_is_missing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let said = fail(&dir.path().join("none"), &["status"], 1);
    assert!(said.starts_with("error[S016]: there is no log in"), "{said}");
}
