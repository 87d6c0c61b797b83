//! `reset`: a plan, a transaction, and what is refused.

use std::collections::BTreeMap;

use super::commands::{Running, demo, json_lines};
use super::state::copy;
use super::{fail, output, stdout, succeed};

/// What the job has said of each window, in order.
fn counts(dir: &std::path::Path) -> BTreeMap<String, Vec<i64>> {
    let mut said: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for record in json_lines(&succeed(dir, &["tail", "page-counts", "-o", "0", "--json"])) {
        said.entry(record["key"].to_string()).or_default().push(record["value"].as_i64().unwrap());
    }
    said
}

#[test]
fn without_yes_a_reset_only_says_what_it_would_do() {
    let dir = tempfile::tempdir().unwrap();
    copy(demo(), dir.path());
    let before = succeed(dir.path(), &["status", "--json"]);
    let planned = output(dir.path(), &["reset", "--to", "start"]);
    assert_eq!(planned.status.code(), Some(3));
    let text = stdout(&planned);
    assert!(
        text.starts_with("plan (nothing is changed yet)\n  TOPIC   PART  NOW  NEW  RECORDS AGAIN"),
        "{text}"
    );
    assert!(text.contains("\n  clicks     0   "), "{text}");
    assert!(text.contains("\n  state   clicks-per-page: emptied, and built anew"), "{text}");
    assert!(text.contains("\n  output  page-counts: its "), "{text}");
    assert!(text.ends_with("run again with --yes to do it\n"), "{text}");
    assert_eq!(succeed(dir.path(), &["status", "--json"]), before);
    let ahead = stdout(&output(dir.path(), &["reset", "--to", "end"]));
    assert!(!ahead.contains("passed over"), "it is at the end already: {ahead}");
}

#[test]
fn a_reset_and_a_run_say_everything_again() {
    let dir = tempfile::tempdir().unwrap();
    copy(demo(), dir.path());
    let once = counts(dir.path());
    assert_eq!(once.len(), 8);
    let text = succeed(dir.path(), &["reset", "--to", "start", "--yes"]);
    assert!(text.starts_with("done\n"), "{text}");
    assert_eq!(counts(dir.path()), once, "what was written stays");
    assert_eq!(
        succeed(dir.path(), &["state", "range", "clicks-per-page"]),
        "no rows in clicks-per-page\n",
        "rows are void"
    );
    succeed(dir.path(), &["run", "--until-idle", "500ms"]);
    let twice: BTreeMap<_, _> =
        once.iter().map(|(key, said)| (key.clone(), said.repeat(2))).collect();
    assert_eq!(counts(dir.path()), twice);
    assert_eq!(succeed(dir.path(), &["state", "range", "clicks-per-page"]).lines().count(), 2);
    let goes_on = succeed(dir.path(), &["run", "--until-idle", "500ms"]);
    assert!(goes_on.contains("stopped: 0 records in"), "{goes_on}");
}

#[test]
fn a_reset_by_time_reads_what_is_not_older() {
    let dir = tempfile::tempdir().unwrap();
    copy(demo(), dir.path());
    // The clicks of an access log are in the log under the times of their requests, or later.
    let plan = output(dir.path(), &["reset", "--to", "@2015-05-17T10:05:00Z"]);
    assert_eq!(plan.status.code(), Some(3), "{plan:?}");
    let late = fail(dir.path(), &["reset", "--to", "@2099-01-01T00:00:00Z"], 1);
    assert!(
        late.starts_with("error[S032]: no record is as late as 2099-01-01T00:00:00Z"),
        "{late}"
    );
    assert!(late.contains("\n  help: go behind the last record there is: --to end"), "{late}");
}

#[test]
fn what_cannot_be_reset_is_refused_and_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    copy(demo(), dir.path());
    let before = succeed(dir.path(), &["status", "--json"]);
    let cases: [(&[&str], i32, &str, &str); 6] = [
        (&["--to", "100000"], 1, "S032", "has no offset 100000: it ends at"),
        (&["--to", "-100000"], 1, "S032", "--to start"),
        (&["--to", "+1"], 1, "S032", "--to end"),
        (&["--to", "yesterday"], 2, "S027", "start, end, or a number of offsets"),
        (&["--to"], 2, "S027", "--to"),
        (&[], 2, "S027", "--to"),
    ];
    for (args, exit, code, words) in cases {
        let args: Vec<&str> = ["reset"].iter().chain(args).chain(&["--yes"]).copied().collect();
        let said = fail(dir.path(), &args, exit);
        assert!(said.starts_with(&format!("error[{code}]: ")), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
    assert_eq!(succeed(dir.path(), &["status", "--json"]), before);
    let job = Running::start(dir.path());
    for yes in [&["reset", "--to", "start"][..], &["reset", "--to", "start", "--yes"]] {
        let said = fail(dir.path(), yes, 1);
        let wanted = format!("error[S017]: clickstream is running (pid {})", job.0.id());
        assert!(said.starts_with(&wanted) && said.contains("\n  help: stop it first"), "{said}");
    }
    job.stop();
    assert_eq!(succeed(dir.path(), &["status", "--json"]), before);
    let none = fail(&dir.path().join("none"), &["reset", "--to", "start"], 1);
    assert!(none.starts_with("error[S016]"), "{none}");
}
