//! `replay` as a user meets it: alone, beside a running job, compared, with mistakes.

use std::path::Path;

use super::commands::{Running, append_click, demo, json_lines};
use super::{fail, output, requests, stderr, stdout, succeed};
use core_log::{FetchBound, Log, PartitionReader, TopicSettings};

/// A directory of its own in which a demo has been run.
fn own_demo() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.log");
    std::fs::write(&file, requests()).unwrap();
    succeed(&dir.path().join("log"), &["--access-log", file.to_str().unwrap()]);
    dir
}

fn same(dir: &Path, args: &[&str], line: &str) -> String {
    let text = succeed(dir, args);
    assert!(text.lines().any(|said| said == line), "{text}");
    text
}

const ALL_SAME: &str = "compare page-counts with page-counts-replay: 8 same \u{b7} 0 differ \u{b7} \
                        0 only then \u{b7} 0 only now";

#[test]
fn a_replay_tells_what_it_did_and_tail_shows_what_it_wrote() {
    let dir = own_demo();
    let log = dir.path().join("log");
    let text = same(&log, &["replay", "--from", "start", "--compare"], ALL_SAME);
    let first = "replaying clicks 4 partitions \u{b7} 80 records \u{b7} from start until end\n\
                 replayed 80 records \u{b7} 8 results \u{b7} 0 late\n";
    assert!(text.starts_with(first), "{text}");
    let last = format!(
        "written to page-counts-replay in {} (look at it: clickstream tail page-counts-replay)",
        log.join("replay/clickstream").display()
    );
    assert_eq!(text.lines().last(), Some(&*last));
    let then = succeed(&log, &["tail", "page-counts", "--json", "-o", "0"]);
    let now = succeed(&log, &["tail", "page-counts-replay", "--json", "-o", "0"]);
    let seen = |text: &str| -> Vec<String> {
        let records = json_lines(text);
        records.iter().map(|r| format!("{} {} {}", r["key"], r["value"], r["timestamp"])).collect()
    };
    assert_eq!(seen(&now), seen(&then));
    assert!(seen(&now)[0].contains("\"key\":\"/home\""), "typed as the topic it stands for: {now}");
    // Another demo takes the place of this one, with its replays.
    let file = dir.path().join("access.log");
    succeed(&log, &["--access-log", file.to_str().unwrap()]);
    assert!(!log.join("replay").exists());
    let said = fail(&log, &["tail", "page-counts-replay"], 1);
    assert!(said.starts_with("error[S004]"), "{said}");
}

#[test]
fn a_replay_runs_beside_the_job_and_reads_what_it_has_just_taken_in() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    log.create_topic("clicks", TopicSettings::with_partitions(1)).unwrap();
    for minute in 0..5 {
        append_click(&log, "ana", minute * 60_000);
    }
    log.close().unwrap();
    succeed(dir.path(), &["run", "--until-idle", "300ms"]);
    let mut job = Running::start(dir.path());
    let line = "compare page-counts with page-counts-replay: 3 same \u{b7} 0 differ \u{b7} 0 only then \
                \u{b7} 0 only now";
    same(dir.path(), &["replay", "--from", "0", "--compare", "--name", "beside"], line);
    let text = succeed(dir.path(), &["tail", "page-counts-replay", "-o", "0"]);
    assert_eq!(text.lines().count(), 3, "{text}");
    let other = succeed(dir.path(), &["replay", "--from", "0", "--until", "1"]);
    assert!(other.contains("(look at it: clickstream tail page-counts-replay)"), "{other}");
    let tail = ["tail", "page-counts-replay", "-o", "0", "--name", "beside"];
    assert_eq!(succeed(dir.path(), &tail), text, "each replay is looked at by its name");
    let said = fail(dir.path(), &["tail", "page-counts", "--name", "beside"], 2);
    assert!(said.starts_with("error[S027]: no replay beside has a topic page-counts"), "{said}");
    job.interrupt();
    assert_eq!(job.0.wait().unwrap().code(), Some(0));
    let counts = succeed(dir.path(), &["tail", "page-counts", "-o", "0"]);
    assert_eq!(counts.lines().count(), 3, "the live topic has nothing twice: {counts}");
}

/// Somebody has lost a result of the live job: what is written now is not what was written then.
#[test]
fn a_comparison_with_differences_ends_with_exit_code_4() {
    let dir = own_demo();
    let log_dir = dir.path().join("log");
    let log = Log::open(&log_dir).unwrap();
    let counts = log.topic("page-counts").unwrap();
    for partition in 0..4 {
        let bound = FetchBound::LastStable;
        let mut reader = PartitionReader::new(log.clone(), &counts, partition, 0, bound);
        if let Some(batch) = reader.next_batch(1 << 20).unwrap() {
            let first = batch.records().next().unwrap().unwrap().offset;
            log.delete_records(counts.id(), partition, first + 1).unwrap();
        }
    }
    log.close().unwrap();
    let output = output(&log_dir, &["replay", "--from", "start", "--compare"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(4), "{text}\n{}", stderr(&output));
    assert!(
        text.contains(": 7 same \u{b7} 0 differ \u{b7} 0 only then \u{b7} 1 only now\n"),
        "{text}"
    );
    assert!(text.contains("\n  2015-05-17T10:00:00Z /home   then -   now 8     (retention has removed what was written first)\n"), "{text}");
}

#[test]
fn what_cannot_be_replayed_is_refused_with_a_code_and_a_way_out() {
    for (args, code, exit) in [
        (&["--from", "1000"][..], "S032", 1),
        (&["--from", "@2040-01-01T00:00Z"], "S032", 1),
        (&["--from", "15", "--until", "3"], "S032", 1),
        (&["--from", "start", "--name", "a/b"], "S024", 1),
        (&["--from", "noon"], "S027", 2),
        (&["--from", "-1"], "S027", 2),
        (&["--from", "start", "--until", "@never"], "S027", 2),
        (&["--until", "end"], "S027", 2),
    ] {
        let all: Vec<&str> = ["replay"].iter().chain(args).copied().collect();
        let said = fail(demo(), &all, exit);
        assert!(said.starts_with(&format!("error[{code}]: ")), "{args:?}: {said}");
        assert!(said.contains("\n  help: "), "{args:?}: {said}");
    }
    assert!(!demo().join("replay").exists());
    let none = tempfile::tempdir().unwrap();
    let said = fail(&none.path().join("none"), &["replay", "--from", "start"], 1);
    assert!(said.starts_with("error[S016]"), "{said}");
    assert!(!none.path().join("none").exists());
}
