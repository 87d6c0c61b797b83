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
mod directory;
mod error;
mod generator;
mod input;
mod job;
mod report;
mod supervisor;
mod verifier;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use error::Error;
use input::Source;

const HELP: &str = "\
Clicks per page and minute, exactly once, although the job is killed twice

Usage: clickstream                      the demo: 200 000 generated clicks
       clickstream --access-log FILE    the demo, on a web server's log (combined log format)
       clickstream COMMAND              the job itself, and its tools

Commands:
  run           Run the job
  topology      Print the graph of the job
  status        Show how the job goes: positions, lag, windows, stores
  state list    List the stores of the job; state get, state range print rows
  reset         Move the job to other positions and build its state anew
  tail          Print records of a topic
  replay        Run the job again over old input, and compare
  topic create  Create a topic
  COMMAND --help says what it takes

Environment:
  STREAMS_LOG   The log directory (default ./data)
  DEMO_SEED     A number that chooses when the demo's job is killed
";

/// What a command line asks for.
enum Wish {
    Help,
    Demo(Source),
    Job,
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let outcome = match wish(&args) {
        Ok(Wish::Help) => return report::help(HELP),
        Ok(Wish::Demo(source)) => supervisor::run(&log_dir(), &source),
        Ok(Wish::Job) => job::main().map(|()| true).map_err(Error::from),
        Err(e) => Err(e),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            report::complain(&e.describe());
            ExitCode::from(e.exit_code())
        }
    }
}

fn wish(args: &[OsString]) -> Result<Wish, Error> {
    let usage = |reason: &str| Err(Error::Usage { reason: reason.to_owned() });
    let Some(first) = args.first().map(|arg| arg.to_string_lossy()) else {
        return Ok(Wish::Demo(Source::Generated));
    };
    match (&*first, args) {
        ("-h" | "--help", _) => Ok(Wish::Help),
        ("-V" | "--version", _) => Ok(Wish::Job),
        ("--access-log", [_, file]) => Ok(Wish::Demo(Source::AccessLog(file.into()))),
        ("--access-log", _) => usage("--access-log wants the path of one log"),
        (option, _) if option.starts_with('-') => {
            usage(&format!("unexpected argument '{option}': did you mean --access-log FILE?"))
        }
        _ => Ok(Wish::Job),
    }
}

fn log_dir() -> PathBuf {
    match std::env::var_os("STREAMS_LOG") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from("./data"),
    }
}
