//! The clickstream example: clicks per page and minute, exactly once, although it is killed twice.
//!
//! ```text
//! clickstream                      the demo: 200 000 generated clicks
//! clickstream --access-log FILE    the demo, on a real web server's log
//! clickstream run | tail | ..      the job itself, and its tools
//! ```
//!
//! The job is `job.rs`; everything else only feeds, kills and checks it.

mod access_log;
mod generator;
mod job;
mod report;
mod supervisor;
mod verifier;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use supervisor::{Error, Input};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let input = match args.as_slice() {
        [] => Input::Generated,
        [option, file] if option == "--access-log" => Input::AccessLog(file.into()),
        [option] if option == "--access-log" => {
            return complain("--access-log wants the path of a log in the combined format", 2);
        }
        _ => {
            return match job::main() {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => complain(&format!("error[{}]: {e}", e.code()), 1),
            };
        }
    };
    let dir = match std::env::var_os("STREAMS_LOG") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from("./data"),
    };
    match supervisor::run(&dir, &input) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => complain(&describe(&e), 1),
    }
}

fn describe(error: &Error) -> String {
    let (code, help) = match error {
        Error::Streams(e) => (e.code(), e.help()),
        Error::NotADemo { .. } => (
            "S015",
            vec!["the demo takes an empty or a new directory: STREAMS_LOG=./demo-data".to_owned()],
        ),
        Error::Input { .. } => ("S016", vec!["check the path".to_owned()]),
        _ => return format!("error: {error}"),
    };
    let mut text = format!("error[{code}]: {error}");
    for line in help {
        text.push_str("\n  help: ");
        text.push_str(&line);
    }
    text
}

#[expect(clippy::print_stderr, reason = "a program tells its user what is wrong")]
fn complain(text: &str, code: u8) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(code)
}
