//! The examples of the log alone: each verifies its own result and says no to what it does not understand.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

const NAMES: [&str; 4] = ["log_outbox", "log_transactions", "log_group", "log_time_travel"];

/// The directory with the binaries, built if they are not there or older than their sources.
fn binaries() -> &'static Path {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    BINARIES.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--manifest-path"]);
        build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        for name in NAMES {
            build.args(["--example", name]);
        }
        assert!(build.status().unwrap().success(), "the examples do not build");
        let here = std::env::current_exe().unwrap();
        here.parent().and_then(Path::parent).unwrap().join("examples")
    })
}

fn run(name: &str, args: &[&str]) -> Output {
    let mut command = Command::new(binaries().join(name));
    command.args(args).env_remove("RUST_LOG").stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs the demo in a directory of its own, and again, which must leave what is there alone.
fn demo(name: &str, verified: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    let output = run(name, &["demo", place]);
    let text = out(&output);
    assert!(output.status.success() && text.contains(verified), "{text}\n{}", err(&output));
    assert!(text.contains("killed (SIGKILL)"), "{text}");
    let again = run(name, &["demo", place]);
    assert!(!again.status.success() && err(&again).contains("is not empty"), "{}", err(&again));
    dir
}

fn refuses(name: &str, cases: &[(&[&str], &str)]) {
    for (args, why) in cases {
        let output = run(name, args);
        assert!(!output.status.success(), "{args:?}");
        assert!(err(&output).contains(why), "{args:?}: {}", err(&output));
    }
}

#[test]
fn rows_of_an_outbox_are_once_in_the_log_although_the_relay_is_killed() {
    let dir = demo("log_outbox", "verified: 1800 orders, 1800 records in the log (1800 different)");
    // Nothing is left to send.
    let place = dir.path().to_str().unwrap();
    let output = run("log_outbox", &["relay", place]);
    assert!(output.status.success() && out(&output).is_empty(), "{}", err(&output));
    let cases: &[(&[&str], &str)] = &[
        (&["relay"], "relay needs the directory of a shop"),
        (&["relay", "/nowhere"], "there is no shop in /nowhere"),
        (&["relay", place, "before-commit", "x"], "\"x\" is no number"),
        (&["relay", place, "later", "1"], "there is no place \"later\""),
        (&["send"], "usage: log_outbox"),
    ];
    refuses("log_outbox", cases);
}

#[test]
fn transfers_happen_wholly_or_not_at_all() {
    let dir = demo("log_transactions", "40 balances as on a plain map; 40000 in all");
    let place = dir.path().to_str().unwrap();
    let output = run("log_transactions", &["balances", place]);
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(out(&output).lines().count(), 40);
    let cases: &[(&[&str], &str)] = &[
        (&["balances"], "balances needs the directory of a log"),
        (&["balances", "/nowhere"], "there is no log in /nowhere"),
        (&["teller", place, "x"], "\"x\" is no number of a transfer"),
        (&["steal"], "usage: log_transactions"),
    ];
    refuses("log_transactions", cases);
}

#[test]
fn members_that_leave_die_and_hang_lose_nothing_and_times_are_found_again() {
    for (name, verified) in [
        ("log_group", "verified: nothing lost, and nothing that was committed was read again"),
        ("log_time_travel", "verified: every reading of each stretch once"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().to_str().unwrap();
        let output = run(name, &[place]);
        let text = out(&output);
        assert!(output.status.success() && text.contains(verified), "{text}\n{}", err(&output));
        let again = run(name, &[place]);
        assert!(!again.status.success() && err(&again).contains("is not empty"), "{}", err(&again));
        let usage = format!("usage: {name} [DIR]");
        refuses(name, &[(&["--help-me"], usage.as_str()), (&["a", "b"], usage.as_str())]);
    }
}
