//! The small examples: each verifies its own result, spares what is not its own, and is its job's tool.

use std::path::Path;
use std::process::Output;

use crate::example_binaries::{Examples, stderr, stdout};

static EXAMPLES: Examples = Examples::new(&[
    "enrichment",
    "fraud",
    "inventory",
    "orders_and_payments",
    "sessions",
    "time_travel",
    "word_count",
]);

fn run(name: &str, dir: &Path, args: &[&str]) -> Output {
    EXAMPLES.command(name).args(args).env("STREAMS_LOG", dir).output().unwrap()
}

fn succeed(name: &str, dir: &Path, args: &[&str]) -> String {
    let output = run(name, dir, args);
    assert!(output.status.success(), "{name}: {}\n{}", stdout(&output), stderr(&output));
    stdout(&output)
}

#[test]
fn clicks_are_joined_with_users_where_they_lived() {
    let dir = tempfile::tempdir().unwrap();
    let text = succeed("enrichment", dir.path(), &[]);
    assert!(text.contains("verified: 51334 records read, 45454 joined"), "{text}");
    let row = succeed("enrichment", dir.path(), &["state", "get", "users", "user-3"]);
    assert!(row.contains("Chile"), "{row}");
    let again = run("enrichment", dir.path(), &[]);
    assert!(!again.status.success() && stdout(&again).contains("is not empty"));
}

#[test]
fn each_order_is_settled_once() {
    let dir = tempfile::tempdir().unwrap();
    let text = succeed("orders_and_payments", dir.path(), &[]);
    assert!(text.contains("verified: each of 20000 orders settled once"), "{text}");
    let row = succeed("orders_and_payments", dir.path(), &["tail", "settled", "-o", "-1"]);
    assert!(row.contains("cents"), "{row}");
}

#[test]
fn cards_raise_each_alarm_once_although_the_job_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let text = succeed("fraud", dir.path(), &[]);
    assert!(text.contains("killed (SIGKILL on purpose)") && text.contains("verified: "), "{text}");
    let stores = succeed("fraud", dir.path(), &["state", "list"]);
    assert!(stores.contains("open-payments") && stores.contains("fraud-timers"), "{stores}");
}

#[test]
fn a_mended_job_is_compared_with_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let text = succeed("time_travel", dir.path(), &[]);
    assert!(
        text.contains("60 same \u{b7} 60 differ \u{b7} 60 only then \u{b7} 0 only now"),
        "{text}"
    );
    assert!(text.contains("verified: "), "{text}");
    let again = run("time_travel", dir.path(), &["replay", "--from", "start", "--compare"]);
    assert_eq!(again.status.code(), Some(4), "{}", stderr(&again));
}

#[test]
fn a_warehouse_is_priced_and_counted_although_it_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let text = succeed("inventory", dir.path(), &[]);
    assert!(text.contains("killed (SIGKILL on purpose)"), "{text}");
    assert!(text.contains("verified: "), "{text}");
    let row = succeed("inventory", dir.path(), &["state", "get", "shelves", "p-017"]);
    assert!(row.contains("reserved"), "{row}");
    let listed = ["state", "range", "priced-subscriptions", "--limit", "3"];
    let rows = succeed("inventory", dir.path(), &listed);
    assert!(rows.contains("p-000"), "{rows}");
}

#[test]
fn words_are_counted_once_although_the_job_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let text = succeed("word_count", dir.path(), &[]);
    assert!(text.contains("killed (SIGKILL on purpose)"), "{text}");
    assert!(text.contains("verified: "), "{text}");
    let row = succeed("word_count", dir.path(), &["state", "get", "counts-by-word", "sea"]);
    assert!(row.trim().chars().any(|c| c.is_ascii_digit()), "{row}");
}

#[test]
fn each_visit_is_told_once_although_the_job_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let text = succeed("sessions", dir.path(), &[]);
    assert!(text.contains("verified: "), "{text}");
    assert!(text.contains("0 lost \u{b7} 0 wrong \u{b7} 0 twice"), "{text}");
    let rows = succeed("sessions", dir.path(), &["tail", "visits", "-o", "-1"]);
    assert!(rows.contains("pages"), "{rows}");
}
