//! The demo: killed twice, every click accounted for, and no directory harmed that is not its own.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::{command, fail, succeed};

const NONE: &[&str] = &[];

/// An access log of one request every 3 s, out of order by up to 59 s within each minute.
fn access_log(requests: u32) -> String {
    let mut text = String::new();
    for i in 0..requests {
        let (hour, minute, second) = (i / 1200, i / 20 % 60, (i * 37) % 60);
        let agent = if i % 10 == 0 { "Googlebot/2.1" } else { "Mozilla/5.0" };
        writeln!(
            text,
            "10.0.0.{} - - [17/May/2015:{hour:02}:{minute:02}:{second:02} +0000] \
             \"GET /page-{}?q={i} HTTP/1.1\" 200 10 \"-\" \"{agent}\"",
            i % 250,
            i % 7
        )
        .unwrap();
    }
    text
}

#[test]
fn every_click_is_accounted_for_although_the_job_is_killed_twice() {
    let dir = tempfile::tempdir().unwrap();
    let shown = succeed(dir.path(), &[]);
    assert_eq!(shown.matches("killed (SIGKILL on purpose)").count(), 2, "{shown}");
    assert!(shown.contains("verified: 200 000 written"), "{shown}");
    assert!(shown.contains("0 lost \u{b7} 0 twice"), "{shown}");
    assert!(shown.contains("windows still open"), "{shown}");

    let again = succeed(dir.path(), &[]);
    assert!(again.contains("replaced  the data of an earlier demo"), "{again}");
    assert!(again.contains("verified: 200 000 written"), "{again}");
}

#[test]
fn an_access_log_is_counted_and_its_broken_lines_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.log");
    let mut lines = access_log(3_000);
    lines.push_str("this is no request\n");
    std::fs::write(&file, format!("cut off \"GET\n{lines}")).unwrap();
    let log = dir.path().join("log");
    let shown = succeed(&log, &["--access-log", file.to_str().unwrap()]);
    assert!(shown.contains("2 lines not parsed"), "{shown}");
    assert!(shown.contains("line 1: ") && shown.contains("line 3002: "), "{shown}");
    assert!(shown.contains("verified: 3 000 written"), "{shown}");
    assert!(
        shown.contains("300 bots filtered \u{b7} 0 late \u{b7} 0 lost \u{b7} 0 twice"),
        "{shown}"
    );
}

#[test]
fn a_log_with_topics_of_others_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    succeed(dir.path(), &["topic", "create", "clicks", "--partitions", "4"]);
    let said = fail(dir.path(), &[], 1);
    assert!(said.contains("error[S015]") && said.contains("clicks-0"), "{said}");
    assert!(dir.path().join("clicks-0").is_dir());
}

#[test]
fn a_directory_of_a_demo_with_something_else_in_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.log");
    std::fs::write(&file, access_log(100)).unwrap();
    let log = dir.path().join("log");
    succeed(&log, &["--access-log", file.to_str().unwrap()]);
    std::fs::create_dir(log.join("statements")).unwrap();
    let said = fail(&log, &[], 1);
    assert!(said.contains("error[S015]") && said.contains("`statements`"), "{said}");
    assert!(log.join("statements").is_dir() && log.join("clicks-0").is_dir());
}

#[test]
fn after_a_demo_that_was_killed_itself_the_next_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = command(dir.path(), NONE).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    // Its first child has just been killed: the second is being started, or runs.
    lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("killed"))).unwrap().unwrap();
    demo.kill().unwrap();
    demo.wait().unwrap();
    assert!(succeed(dir.path(), NONE).contains("verified: 200 000 written"));
}
