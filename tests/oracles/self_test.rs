//! The runner against itself: a wrong expectation must fail, and bytes that are no file of cases must
//! not stop it.
//!
//! ```text
//!   file --> one expected value changed --> a child of this binary on ORACLE_DIR
//!        --> `FAILED` for that case, and an exit code that is not 0
//! ```

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::report::{FileReport, Outcome, failed, unsupported};

/// A file, where its expectation lies, and what stands there instead.
const CHANGED: [(&str, &str, i64); 11] = [
    ("streams_join_stream_table.json", "/cases/0/steps/4/out/0/3", 77),
    ("gold_streams_joins_stream_stream.json", "/cases/5/steps/2/out/0/3", 77),
    ("gold_streams_joins_stream_stream.json", "/cases/2/steps/19/out/0/3", 77),
    ("gold_streams_tables.json", "/cases/6/steps/1/out/0/2", 77),
    ("gold_streams_windows.json", "/cases/2/steps/12/out/1/3", 77),
    ("log_scenarios.json", "/cases/0/ops/0/expect/last_offset", 77),
    ("log_compaction.json", "/cases/2/ops/5/expect/batches/0/delete_horizon_ms", 77),
    ("log_compaction.json", "/cases/0/ops/8/expect/first_dirty_offset_after", 77),
    ("log_files.json", "/cases/0/ops/0/expect/first_offset", 77),
    ("record_batches_v2.json", "/batches/0/decoded/max_timestamp", 77),
    ("hash_varint_vectors.json", "/murmur2/0/murmur2_i32", 77),
];

/// Bytes and documents that are no file of cases.
const BROKEN: [(&str, &str); 6] = [
    ("empty.json", ""),
    ("text.json", "not json"),
    ("list.json", "[1, 2]"),
    ("unknown.json", r#"{"format": "streams-trace/99", "cases": []}"#),
    ("no_cases.json", r#"{"format": "log-scenario/1"}"#),
    (
        "odd_cases.json",
        r#"{"format": "log-scenario/1", "cases": [{"name": "odd", "ops": [{"op": "append", "count": "x"}]},
            7, {"name": "no ops"}, {"name": "unknown", "ops": [{"op": "fly"}]}]}"#,
    ),
];

pub(crate) fn run() -> FileReport {
    let mut cases: Vec<(String, Outcome)> = CHANGED
        .iter()
        .map(|(file, pointer, value)| {
            (format!("{file} with {pointer} changed"), changed(file, pointer, *value))
        })
        .collect();
    cases.push(("files that are none".to_owned(), broken()));
    FileReport { file: "self_test".to_owned(), cases }
}

fn io_failed(error: impl std::fmt::Display) -> crate::report::Stop {
    failed(format!("{error}"))
}

fn child(dir: &Path) -> Outcome<(bool, String)> {
    let binary = std::env::current_exe().map_err(io_failed)?;
    let output = Command::new(binary).env("ORACLE_DIR", dir).output().map_err(io_failed)?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn changed(file: &str, pointer: &str, value: i64) -> Outcome {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles").join(file);
    let text = std::fs::read_to_string(own).map_err(io_failed)?;
    let mut document: Value = serde_json::from_str(&text).map_err(io_failed)?;
    let place =
        document.pointer_mut(pointer).ok_or_else(|| unsupported("format: no such place"))?;
    *place = json!(value);
    let dir = tempfile::tempdir().map_err(io_failed)?;
    std::fs::write(dir.path().join("another name.json"), document.to_string())
        .map_err(io_failed)?;
    let (succeeded, output) = child(dir.path())?;
    let has_failure = output.lines().any(|line| line.contains(": FAILED "));
    if succeeded || !has_failure || !output.contains(" 1 failed") {
        return Err(failed(format!("a wrong expectation was not noticed: {output}")));
    }
    Ok(())
}

fn broken() -> Outcome {
    let dir = tempfile::tempdir().map_err(io_failed)?;
    for (name, content) in BROKEN {
        std::fs::write(dir.path().join(name), content).map_err(io_failed)?;
    }
    let (succeeded, output) = child(dir.path())?;
    for (name, _) in BROKEN {
        let is_reported = output.lines().any(|line| {
            line.strip_prefix(name).is_some_and(|counts| !counts.ends_with(" 0 0 0 0"))
        });
        if !is_reported {
            return Err(failed(format!("{name} was not reported: {output}")));
        }
    }
    if !succeeded || output.contains("FAILED") {
        return Err(failed(format!("a file that is none counted as a failure: {output}")));
    }
    Ok(())
}
