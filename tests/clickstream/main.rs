//! The clickstream example as a user meets it: the demo, and the commands of its binary.
//!
//! Why child processes: exit codes, pipes, signals and two processes on one directory are what is being
//! tested. The parts of the example that are pure run their own tests here as well, because cargo runs
//! none in examples.

#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

#[path = "../../examples/clickstream/access_log.rs"]
mod access_log;
#[path = "../../examples/clickstream/generator.rs"]
mod generator;
#[path = "../../examples/clickstream/verifier.rs"]
mod verifier;

mod account;
mod bad_input;
mod commands;
mod demo;
#[path = "../support/examples.rs"]
mod example_binaries;
mod examples;
mod readme;
mod replay;
mod reset;
mod state;
mod status;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use example_binaries::{Examples, stderr, stdout};

static EXAMPLE: Examples = Examples::new(&["clickstream"]);

/// An access log of ten minutes: eight requests a minute, all of one page.
fn requests() -> String {
    let request = |minute: u32| {
        format!(
            "10.0.0.1 - - [17/May/2015:10:{minute:02}:05 +0000] \"GET /home HTTP/1.1\" 200 1 \"-\" \
             \"Mozilla/5.0\"\n"
        )
    };
    (0..80).map(|i| request(i / 8)).collect()
}

/// The binary with `args`, on the log in `dir`.
fn command(dir: &Path, args: &[impl AsRef<OsStr>]) -> Command {
    let mut command = EXAMPLE.command("clickstream");
    command.args(args).env("STREAMS_LOG", dir);
    command
}

fn output(dir: &Path, args: &[&str]) -> Output {
    command(dir, args).output().unwrap()
}

/// Standard output of a command that must succeed.
fn succeed(dir: &Path, args: &[&str]) -> String {
    let output = output(dir, args);
    assert!(output.status.success(), "{args:?}: {}\n{}", stdout(&output), stderr(&output));
    stdout(&output)
}

/// Standard error of a command that must end with `code`.
fn fail(dir: &Path, args: &[&str], code: i32) -> String {
    let output = output(dir, args);
    assert_eq!(output.status.code(), Some(code), "{}\n{}", stdout(&output), stderr(&output));
    stderr(&output)
}
