//! The oracle runner: what real Kafka did, as plain data, against what Headwater does.
//!
//! ```text
//!   cargo test --test oracles                      the files beside this one
//!   ORACLE_DIR=dir cargo test --test oracles       every *.json of a directory
//!   cargo test --test oracles -- join              files whose names contain a word
//!   ORACLE_CASE=emit cargo test --test oracles     cases whose names contain a text
//!
//!   *.json --> `format` decides --> cases --> passed | FAILED | unsupported | differs
//! ```
//!
//! For each file one line, `FILE passed failed unsupported differs` with four counts, e.g.
//! `streams_join_stream_table.json 3 0 3 0`; then, indented by two blanks, one line for each case
//! that has not passed: `CASE: unsupported: ..`, `CASE: differs: ..` or `CASE: FAILED ..`.
//! The exit code is not 0 when a case failed. Nothing else counts as a failure; but what differs
//! needs a rule in this runner that says why.
//!
//! Why no libtest: a file's cases are known only when it has been read. The last line is that of
//! libtest all the same, so that summaries of test runs can be added up.
//!
//! Invariants
//! * Dispatch is by the `format` field, never by names.
//! * A malformed file, or one of an unknown format, is reported and never a panic; a panic inside a
//!   case is that case's failure.
//!
//! The files are described in `README.md` beside this one.

mod assignors;
mod batches;
mod json;
mod log;
mod report;
mod self_test;
mod stores;
mod streams;
mod vectors;

use std::ffi::OsString;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use report::{Counts, FileReport, Outcome, failed, unsupported};
use serde_json::Value;

/// Formats that name cases which nothing here can run, with the reason.
const NOT_RUN: [(&str, &str, &str); 4] = [
    ("txn-scenario/1", "cases", "prose scenarios are translated by hand in tests/log and core-log"),
    ("txn-coordinator/1", "", "the wire protocol's coordinator"),
    ("config-defaults/1", "", "Kafka's configuration names"),
    ("reliability-scenarios/1", "scenarios", "system scenarios are run by tests/crash"),
];

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters = filters(&arguments);
    let directory = std::env::var_os("ORACLE_DIR");
    let is_own = directory.is_none();
    let names = find(directory)?;
    let mut out = io::stdout().lock();
    let chosen =
        |path: &&PathBuf| filters.is_empty() || filters.iter().any(|f| name_of(path).contains(f));
    if arguments.iter().any(|argument| argument == "--list") {
        for path in names.iter().filter(chosen) {
            writeln!(out, "{}: test", name_of(path))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    // Panics of cases are reported as their failures.
    panic::set_hook(Box::new(|_| ()));
    let mut total = Counts::default();
    for path in names.iter().filter(chosen) {
        let report = run_file(path);
        report.print(&mut out)?;
        out.flush()?;
        total.add(report.counts());
    }
    let mut self_tests = Counts::default();
    if is_own && filters.is_empty() && case_filter().is_none() {
        let report = self_test::run();
        report.print(&mut out)?;
        self_tests = report.counts();
    }
    let Counts { passed, failed, unsupported, differs } = total;
    writeln!(
        out,
        "\noracles: {passed} passed, {failed} failed, {unsupported} unsupported, {differs} differ"
    )?;
    let (passed, failed) = (passed + self_tests.passed, failed + self_tests.failed);
    let word = if failed == 0 { "ok" } else { "FAILED" };
    writeln!(
        out,
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; \
         0 filtered out\n"
    )?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The words that are no options of libtest.
fn filters(arguments: &[String]) -> Vec<String> {
    const WITH_VALUE: [&str; 6] =
        ["--test-threads", "--skip", "--format", "--color", "--logfile", "--shuffle-seed"];
    let mut filters = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if WITH_VALUE.contains(&argument.as_str()) {
            arguments.next();
        } else if !argument.starts_with('-') {
            filters.push(argument.clone());
        }
    }
    filters
}

/// A text that the names of the cases to be run contain.
fn case_filter() -> Option<String> {
    std::env::var("ORACLE_CASE").ok().filter(|text| !text.is_empty())
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// All files of the directory that end in `.json`, sorted.
fn find(directory: Option<OsString>) -> io::Result<Vec<PathBuf>> {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles");
    let directory = directory.map_or_else(own, PathBuf::from);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            names.push(path);
        }
    }
    names.sort();
    Ok(names)
}

pub(crate) fn run_file(path: &Path) -> FileReport {
    let read = std::fs::read_to_string(path).map_err(|error| format!("format: {error}"));
    let parsed = read.and_then(|text| {
        serde_json::from_str::<Value>(&text).map_err(|error| format!("format: {error}"))
    });
    let cases = match parsed {
        Ok(file) => run_cases(&file),
        Err(reason) => vec![(name_of(path), Err(unsupported(reason)))],
    };
    FileReport { file: name_of(path), cases }
}

fn run_cases(file: &Value) -> Vec<(String, Outcome)> {
    let format = file["format"].as_str().unwrap_or("none");
    match format {
        "streams-trace/1" => each(file, streams::case),
        "store-ops/1" => each(file, stores::case),
        "log-scenario/1" | "log-compaction/1" => each(file, log::scenario),
        "log-files/1" => each(file, log::directory),
        "record-batch-v2/1" => batches::cases(file),
        "vectors/1" => vectors::cases(file),
        "assignor-vectors/1" => assignors::cases(file),
        _ => match NOT_RUN.iter().find(|(known, _, _)| *known == format) {
            Some((_, list, reason)) => not_run(file, list, reason),
            None => vec![("-".to_owned(), Err(unsupported(format!("format: `{format}`"))))],
        },
    }
}

/// Runs every case; a panic is the case's failure.
fn each(file: &Value, run: fn(&Value) -> Outcome) -> Vec<(String, Outcome)> {
    let Some(cases) = file["cases"].as_array() else {
        return vec![("-".to_owned(), Err(unsupported("format: `cases` is no list")))];
    };
    let caught = |case: &Value| {
        panic::catch_unwind(AssertUnwindSafe(|| run(case))).unwrap_or_else(|payload| {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
            Err(failed(format!("panicked: {}", text.unwrap_or("?"))))
        })
    };
    let name = |case: &Value| case["name"].as_str().unwrap_or("?").to_owned();
    let filter = case_filter().unwrap_or_default();
    let chosen = cases.iter().filter(|case| name(case).contains(&filter));
    chosen.map(|case| (name(case), caught(case))).collect()
}

fn not_run(file: &Value, list: &str, reason: &str) -> Vec<(String, Outcome)> {
    let name = |(index, case): (usize, &Value)| {
        let name = case["name"].as_str().or_else(|| case["id"].as_str());
        name.map_or_else(|| format!("{list} {index}"), str::to_owned)
    };
    let named: Vec<String> = match file.get(list) {
        Some(Value::Array(cases)) => cases.iter().enumerate().map(name).collect(),
        // Tables of rules: each is a case.
        _ => file
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| value.is_array() || value.is_object())
            .map(|(name, _)| name.clone())
            .filter(|name| name != "notes")
            .collect(),
    };
    named.into_iter().map(|name| (name, Err(unsupported(reason)))).collect()
}
