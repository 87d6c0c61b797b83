//! The commands of a job binary, on the log that a demo left and on one that is in use.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use core_log::{BatchBuilder, Durability, Log, LogOptions, NO_HEADERS, TopicSettings};
use serde_json::Value;

use super::{command, fail, requests, succeed};

/// A directory that a demo has been run in; commands that only read share it.
pub(super) fn demo() -> &'static Path {
    static DEMO: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DEMO.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("access.log");
        std::fs::write(&file, requests()).unwrap();
        succeed(&dir.path().join("log"), &["--access-log", file.to_str().unwrap()]);
        dir
    });
    Box::leak(Box::new(dir.path().join("log")))
}

pub(super) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A process that goes on until the test ends it.
pub(super) struct Running(pub(super) Child);

impl Running {
    /// Starts `run` and waits for the first line that it prints.
    pub(super) fn start(dir: &Path) -> Self {
        let mut child = command(dir, &["run"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Self(child)
    }

    /// Ctrl-C, and the end.
    pub(super) fn stop(mut self) {
        self.interrupt();
        assert_eq!(self.0.wait().unwrap().code(), Some(0));
    }

    pub(super) fn interrupt(&self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn tail_shows_typed_records_as_text_and_json() {
    let text = succeed(demo(), &["tail", "page-counts", "-o", "-3"]);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("  /home [2015-05-17T10:07:00Z, 2015-05-17T10:08:00Z)  8"), "{text}");

    let records = json_lines(&succeed(demo(), &["tail", "page-counts", "--json"]));
    assert_eq!(records.len(), 8);
    assert!(records.iter().all(|record| record["value"] == 8), "{records:?}");
    assert_eq!(records[0]["key"]["key"], "/home");
    assert_eq!(records[0]["headers"], serde_json::json!([]));
}

#[test]
fn tail_starts_at_offsets_and_times() {
    let all = json_lines(&succeed(demo(), &["tail", "clicks", "-o", "0", "--json"]));
    assert_eq!(all.len(), 80);
    let from_five = json_lines(&succeed(demo(), &["tail", "clicks", "-o", "5", "--json"]));
    assert_eq!(from_five.len(), 60);
    assert!(from_five.iter().all(|record| record["offset"].as_i64() >= Some(5)));
    let last = json_lines(&succeed(demo(), &["tail", "clicks", "-o", "-7", "--json"]));
    assert_eq!(last.len(), 7);

    let minute_five = "@2015-05-17T10:05:00Z";
    let later = json_lines(&succeed(demo(), &["tail", "page-counts", "-o", minute_five, "--json"]));
    assert_eq!(later.len(), 3, "results carry the time of their last click: {later:?}");
}

#[test]
fn the_open_window_is_the_last_row_of_the_changelog() {
    let topic = "clickstream-clicks-per-page-changelog";
    let rows = json_lines(&succeed(demo(), &["tail", topic, "-o", "0", "--json"]));
    let last = rows.iter().rev().find(|row| !row["value"].is_null()).unwrap();
    assert_eq!(last["value"], 8);
    assert!(rows.iter().any(|row| row["value"].is_null()), "closed windows leave tombstones");
}

/// What `topology` prints of the example, by format, and the file that holds it.
const PICTURES: [(&str, &str, &str); 5] = [
    ("text", "tests/clickstream/golden/topology.txt", include_str!("golden/topology.txt")),
    ("mermaid", "tests/clickstream/golden/topology.mmd", include_str!("golden/topology.mmd")),
    ("dot", "tests/clickstream/golden/topology.dot", include_str!("golden/topology.dot")),
    ("json", "tests/clickstream/golden/topology.json", include_str!("golden/topology.json")),
    // Shown by the README.
    (
        "svg",
        "examples/clickstream/topology.svg",
        include_str!("../../examples/clickstream/topology.svg"),
    ),
];

#[test]
fn the_topology_is_printed_in_each_format_without_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none");
    for (format, file, golden) in PICTURES {
        let printed = succeed(&none, &["topology", "--format", format]);
        assert_eq!(
            printed, golden,
            "renew it: cargo run --example clickstream -- topology --format {format} > {file}"
        );
    }
    assert_eq!(succeed(&none, &["topology"]), PICTURES[0].2, "text, unless something else is said");
    assert!(!none.exists());
}

#[test]
fn a_format_that_is_none_is_told_with_those_that_are() {
    for args in
        [&["topology", "--format", "png"][..], &["topology", "--format"], &["topology", "svg"]]
    {
        let said = fail(demo(), args, 2);
        assert!(said.starts_with("error[S027]: "), "{said}");
        assert!(said.contains("\n  help: "), "{said}");
        let names = said.contains("text, mermaid, dot, svg, json");
        assert!(names || args.len() == 2, "{said}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_topology_quietly() {
    let mut topology = command(demo(), &["topology", "--format", "svg"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(topology.stdout.take());
    let output = topology.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn help_names_all_commands_and_each_has_its_own() {
    let text = succeed(demo(), &["--help"]);
    let commands =
        ["run", "topology", "status", "state list", "reset", "replay", "tail", "topic create"];
    for command in commands {
        assert!(text.contains(&format!("  {command} ")), "{text}");
        let args: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let own = succeed(demo(), &args);
        assert!(own.contains(&format!("Usage: clickstream {command}")), "{own}");
    }
}

#[test]
fn a_mistyped_topic_is_told_with_its_neighbour() {
    let said = fail(demo(), &["tail", "click"], 1);
    assert!(said.starts_with("error[S004]: topic `click` does not exist"), "{said}");
    assert!(said.contains("did you mean `clicks`?"), "{said}");
}

#[test]
fn a_source_topic_that_is_missing_is_named_and_nothing_is_created() {
    let dir = tempfile::tempdir().unwrap();
    succeed(dir.path(), &["topic", "create", "click", "--partitions", "4"]);
    let said = fail(dir.path(), &["run", "--until-idle", "1s"], 1);
    assert!(said.contains("error[S004]") && said.contains("did you mean `click`?"), "{said}");
    assert!(!dir.path().join("page-counts-0").exists());
}

#[test]
fn while_a_job_runs_others_read_and_a_second_job_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    log.create_topic("clicks", TopicSettings::with_partitions(2)).unwrap();
    append_click(&log, "ana", 0);
    log.close().unwrap();
    let mut job = Running::start(dir.path());
    let read = json_lines(&succeed(dir.path(), &["tail", "clicks", "--json"]));
    assert_eq!((read.len(), &read[0]["value"]["user"]), (1, &Value::from("ana")));
    assert_eq!(succeed(dir.path(), &["tail", "page-counts"]), "");
    for args in [&["run"][..], &["topic", "create", "orders", "--partitions", "1"]] {
        let said = fail(dir.path(), args, 1);
        assert!(said.starts_with("error[S006]") && said.contains("\n  help: "), "{said}");
        assert!(said.contains(&job.0.id().to_string()), "{said}");
    }
    job.interrupt();
    assert_eq!(job.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_that_goes_away_ends_tail_quietly() {
    let mut tail = command(demo(), &["tail", "clicks", "-o", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(tail.stdout.take());
    let output = tail.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

pub(super) fn append_click(log: &Log, user: &str, at: i64) {
    let clicks = log.topic("clicks").unwrap();
    let mut batch = BatchBuilder::new();
    let click = serde_json::json!({"user": user, "page": "/", "at": at}).to_string();
    batch.push(0, None, Some(click.as_bytes()), NO_HEADERS).unwrap();
    log.producer(Durability::Os).unwrap().append(&clicks, 0, &mut batch).unwrap();
}

#[test]
fn a_follower_sees_what_each_owner_of_the_log_writes_and_never_owns_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    log.create_topic("clicks", TopicSettings::with_partitions(2)).unwrap();
    append_click(&log, "before", 0);
    log.close().unwrap();
    let mut tail = command(dir.path(), &["tail", "clicks", "-o", "0", "--follow", "--json"]);
    let mut tail = Running(tail.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(tail.0.stdout.take().unwrap()).lines();
    let mut next_user = || {
        let record: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        record["value"]["user"].as_str().unwrap().to_owned()
    };
    assert_eq!(next_user(), "before");
    for user in ["first", "second"] {
        // The follower may be reading for the last time what nobody owned.
        let log = LogOptions::new().lock_timeout(Duration::from_secs(10)).open(dir.path()).unwrap();
        append_click(&log, user, 0);
        assert_eq!(next_user(), user);
        log.close().unwrap();
    }
}

#[test]
fn a_job_whose_script_is_gone_stops() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    log.create_topic("clicks", TopicSettings::with_partitions(2)).unwrap();
    append_click(&log, "ana", 0);
    log.close().unwrap();
    let mut run = command(dir.path(), &["run", "--progress"]);
    let mut run = Running(run.stdout(Stdio::piped()).spawn().unwrap());
    drop(run.0.stdout.take());
    assert!(run.0.wait().unwrap().success(), "its counters were for nobody");
}
