//! The examples of the log alone: each verifies its own result and says no to what it does not understand.

use std::process::Output;

use crate::example_binaries::{Examples, stderr, stdout};

static EXAMPLES: Examples =
    Examples::new(&["log_outbox", "log_transactions", "log_group", "log_time_travel"]);

fn run(name: &str, args: &[&str]) -> Output {
    EXAMPLES.command(name).args(args).output().unwrap()
}

/// Runs the demo in a directory of its own, and again, which must leave what is there alone.
fn demo(name: &str, verified: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    let output = run(name, &["demo", place]);
    let text = stdout(&output);
    assert!(output.status.success() && text.contains(verified), "{text}\n{}", stderr(&output));
    assert!(text.contains("killed (SIGKILL)"), "{text}");
    let again = run(name, &["demo", place]);
    assert!(
        !again.status.success() && stderr(&again).contains("is not empty"),
        "{}",
        stderr(&again)
    );
    dir
}

fn refuses(name: &str, cases: &[(&[&str], &str)]) {
    for (args, why) in cases {
        let output = run(name, args);
        assert!(!output.status.success(), "{args:?}");
        assert!(stderr(&output).contains(why), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn rows_of_an_outbox_are_once_in_the_log_although_the_relay_is_killed() {
    let dir = demo("log_outbox", "verified: 1800 orders, 1800 records in the log (1800 different)");
    // Nothing is left to send.
    let place = dir.path().to_str().unwrap();
    let output = run("log_outbox", &["relay", place]);
    assert!(output.status.success() && stdout(&output).is_empty(), "{}", stderr(&output));
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
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 40);
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
        let text = stdout(&output);
        assert!(output.status.success() && text.contains(verified), "{text}\n{}", stderr(&output));
        let again = run(name, &[place]);
        assert!(
            !again.status.success() && stderr(&again).contains("is not empty"),
            "{}",
            stderr(&again)
        );
        let usage = format!("usage: {name} [DIR]");
        refuses(name, &[(&["--help-me"], usage.as_str()), (&["a", "b"], usage.as_str())]);
    }
}
