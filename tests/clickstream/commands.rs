//! The commands of a job binary, on the log that a demo left and on one that is in use.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use super::{command, fail, succeed};

/// A directory that a demo has been run in; commands that only read share it.
fn demo() -> &'static Path {
    static DEMO: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DEMO.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("access.log");
        let request = |minute: u32| {
            format!(
                "10.0.0.1 - - [17/May/2015:10:{minute:02}:05 +0000] \"GET /home HTTP/1.1\" 200 1 \
                 \"-\" \"Mozilla/5.0\"\n"
            )
        };
        // Eight requests a minute, two in each partition: minutes 0 to 7 close, the last two are open.
        let text: String = (0..80).map(|i| request(i / 8)).collect();
        std::fs::write(&file, text).unwrap();
        succeed(&dir.path().join("log"), &["--access-log", file.to_str().unwrap()]);
        dir
    });
    Box::leak(Box::new(dir.path().join("log")))
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A job that follows its input, ended by the test.
struct Running(Child);

impl Running {
    /// Starts `run` and waits for the first line that it prints.
    fn start(dir: &Path) -> Self {
        let mut child = command(dir, &["run"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Self(child)
    }

    fn interrupt(&self) {
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
    assert!(text.contains("/home"), "{text}");

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

#[test]
fn the_topology_is_printed_without_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let text = succeed(&dir.path().join("none"), &["topology"]);
    assert!(text.contains("read clicks") && text.contains("write page-counts"), "{text}");
    assert!(!dir.path().join("none").exists());
}

#[test]
fn a_mistyped_topic_is_told_with_its_neighbour() {
    let said = fail(demo(), &["tail", "click"], 1);
    assert!(said.starts_with("error[S004]: topic `click` does not exist"), "{said}");
    assert!(said.contains("did you mean `clicks`?"), "{said}");
}

#[test]
fn a_command_line_that_means_nothing_ends_with_2() {
    for args in
        [&["tail"][..], &["tail", "clicks", "-o", "noon"], &["fly"], &["run", "--threads", "0"]]
    {
        fail(demo(), args, 2);
    }
}

#[test]
fn a_topic_is_created_once() {
    let dir = tempfile::tempdir().unwrap();
    let create = ["topic", "create", "orders", "--partitions", "3"];
    assert!(succeed(dir.path(), &create).contains("created topic orders with 3 partitions"));
    assert!(fail(dir.path(), &create, 1).contains("error[S023]"));
    assert!(
        fail(dir.path(), &["topic", "create", "a/b", "--partitions", "1"], 1)
            .contains("error[S024]")
    );
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
    succeed(dir.path(), &["topic", "create", "clicks", "--partitions", "4"]);
    let mut job = Running::start(dir.path());
    assert_eq!(succeed(dir.path(), &["tail", "clicks"]), "");
    let said = fail(dir.path(), &["run"], 1);
    assert!(said.starts_with("error[S006]"), "{said}");
    assert!(said.contains(&job.0.id().to_string()), "{said}");

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
