//! `state`: rows of a running and of a stopped job, and every way to ask for them wrongly.

use std::path::Path;

use serde_json::Value;

use super::commands::{Running, demo, json_lines};
use super::{fail, output, stderr, succeed};

/// Copies a directory, to have a log of one's own.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if path.is_file() {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

const NONE: [&str; 1] = ["no rows in clicks-per-page in that range"];
const OPEN: [&str; 2] = [
    "/home [2015-05-17T10:08:00Z, 2015-05-17T10:09:00Z)  8",
    "/home [2015-05-17T10:09:00Z, 2015-05-17T10:10:00Z)  8",
];

/// What each command must say, whether or not the job runs.
fn check(dir: &Path) {
    let lines = |args: &[&str]| {
        let text = succeed(dir, args);
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let list = lines(&["state", "list"]);
    assert!(list[0].starts_with("STORE") && list.len() == 2, "{list:?}");
    let row: Vec<&str> = list[1].split_whitespace().collect();
    assert_eq!(row[..6], ["clicks-per-page", "String", "per", "window", "u64", "4"], "{list:?}");
    assert_eq!(row[6], "2", "{list:?}");
    let listed = &json_lines(&succeed(dir, &["state", "list", "--json"]))[0];
    assert_eq!((&listed["store"], &listed["rows"]), (&"clicks-per-page".into(), &2.into()));

    assert_eq!(lines(&["state", "get", "clicks-per-page", "/home"]), OPEN);
    for time in ["10:08", "10:08:59", "2015-05-17T10:08:30Z", "@1431857310000"] {
        let one = lines(&["state", "get", "clicks-per-page", "/home", "--window", time]);
        assert_eq!(one, OPEN[..1], "{time}");
    }
    let none = succeed(dir, &["state", "get", "clicks-per-page", "/home", "--window", "10:07"]);
    assert_eq!(
        none, "no row of key /home in clicks-per-page with a window at that time\n",
        "that window is closed"
    );
    assert_eq!(lines(&["state", "get", "clicks-per-page", "/hom", "--json"]), [""; 0]);
    let one =
        &json_lines(&succeed(dir, &["state", "get", "clicks-per-page", "/home", "--json"]))[0];
    assert_eq!((&one["store"], &one["value"]), (&"clicks-per-page".into(), &8.into()));
    assert_eq!(one["key"]["key"], "/home");

    assert_eq!(lines(&["state", "range", "clicks-per-page"]), OPEN);
    let first = lines(&["state", "range", "clicks-per-page", "--limit", "1"]);
    assert_eq!(first, [OPEN[0], ".. and more: raise --limit"]);
    assert_eq!(lines(&["state", "range", "clicks-per-page", "--prefix", "/h"]), OPEN);
    assert_eq!(lines(&["state", "range", "clicks-per-page", "--prefix", "/x"]), NONE);
    assert_eq!(lines(&["state", "range", "clicks-per-page", "--from", "/i"]), NONE);
    // The bytes of a window's time follow its key, so rows of /home lie behind /home?.
    assert_eq!(lines(&["state", "range", "clicks-per-page", "--from", "/home?"]), NONE);
    let up_to = ["state", "range", "clicks-per-page", "--from", "/home", "--to", "/home?"];
    assert_eq!(lines(&up_to), OPEN);
    assert_eq!(lines(&["state", "range", "clicks-per-page", "--to", "/i"]), OPEN);
}

/// Wrong questions, with the code and the words of the answer.
fn check_mistakes(dir: &Path) {
    let cases: [(&[&str], i32, &str, &str); 8] = [
        (&["get", "clicks-per-pag", "/"], 1, "S030", "did you mean `clicks-per-page`?"),
        (&["range", "x"], 1, "S030", "stores: clicks-per-page"),
        (&["range", "clicks-per-page", "--from", "b", "--to", "a"], 2, "S027", "--to lies before"),
        (&["range", "clicks-per-page", "--limit", "0"], 2, "S027", "1 to 1000000"),
        (&["range", "clicks-per-page", "--prefix", "a", "--from", "b"], 2, "S027", "--from"),
        (&["get", "clicks-per-page", "/", "--window", "noon"], 2, "S027", "a time of day (10:03)"),
        (&["get", "clicks-per-page"], 2, "S027", "<KEY>"),
        (&["lst"], 2, "S027", "'list'"),
    ];
    let (long, longest) = ("x".repeat(3_000), "x".repeat(100_000));
    assert_eq!(succeed(dir, &["state", "get", "clicks-per-page", &long, "--json"]), "");
    // Whether or not it can be asked over the socket, there is no such row.
    let asked = output(dir, &["state", "get", "clicks-per-page", &longest, "--json"]);
    assert!(asked.status.success() || stderr(&asked).starts_with("error[S027]"), "{asked:?}");
    for (args, exit, code, words) in cases {
        let args: Vec<&str> = ["state"].iter().chain(args).copied().collect();
        let said = fail(dir, &args, exit);
        assert!(said.starts_with(&format!("error[{code}]: ")), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}

#[test]
fn a_running_and_a_stopped_job_say_the_same() {
    let dir = tempfile::tempdir().unwrap();
    copy(demo(), dir.path());
    check(dir.path());
    check_mistakes(dir.path());
    let job = Running::start(dir.path());
    check(dir.path());
    check_mistakes(dir.path());
    job.stop();
    check(dir.path());
}

#[test]
fn rows_come_from_the_changelog_when_the_state_directory_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    copy(demo(), dir.path());
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    check(dir.path());
}

#[test]
fn a_job_that_never_ran_has_stores_without_rows_and_a_missing_log_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let said = fail(&dir.path().join("none"), &["state", "list"], 1);
    assert!(said.starts_with("error[S016]: there is no log in"), "{said}");
    assert!(!dir.path().join("none").exists());
    succeed(dir.path(), &["topic", "create", "clicks", "--partitions", "2"]);
    let listed = json_lines(&succeed(dir.path(), &["state", "list", "--json"]));
    assert_eq!((&listed[0]["rows"], &listed[0]["partitions"]), (&Value::from(0), &Value::from(0)));
    assert!(!dir.path().join("state").exists() && !dir.path().join("page-counts-0").exists());
}

#[test]
fn many_ask_a_running_job_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    copy(demo(), dir.path());
    let job = Running::start(dir.path());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let asked = output(dir.path(), &["state", "get", "clicks-per-page", "/home"]);
                    assert!(asked.status.success(), "{}", stderr(&asked));
                }
            });
        }
    });
    job.stop();
}
