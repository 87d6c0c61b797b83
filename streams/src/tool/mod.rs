//! A job binary as its own tool: run, topology, tail, status, state, reset, replay, topic. The only place
//! of the crate that prints.
//!
//! Why in the library: only the job's binary knows the types of its topics and stores, so it is the one
//! program that can show them.
//!
//! Exit codes: 0 done, 1 failed, 2 the command line is wrong, 3 a plan that wants a decision, 4 a
//! comparison found differences, 130 a
//! second Ctrl-C.
//!
//! Invariants
//! * results go to standard output, errors to standard error;
//! * a reader that closes the pipe (`tail .. | head`) ends the command quietly.

mod args;
mod decode;
mod hint;
mod interrupt;
mod print;
mod reach;
mod replay;
mod reset;
mod run;
mod start;
mod state;
mod status;
mod table;
mod tail;
mod topic;

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::app::App;
use crate::error::{Error, Result};
use crate::topology::Format;
use args::{Cli, Command, Topic};

/// The environment variable that overrides the program's log directory.
const LOG_VARIABLE: &str = "STREAMS_LOG";

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const DIFFERS: i32 = 4;
const DECISION: i32 = 3;

/// How a command ended; what it failed with is the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// It did what it was asked.
    Done,
    /// The reader of its output went away.
    OutputClosed,
    /// What it compared is not the same.
    Differs,
    /// It was asked to stop, and can be gone on with.
    Unfinished,
    /// It has shown a plan, and wants to be told to go on.
    DecisionNeeded,
}

/// Carries out a command line. Returns when it has succeeded; otherwise says why on standard error and
/// ends the process with the exit code of the failure.
pub(crate) fn main(app: App, args: impl IntoIterator<Item = OsString>) -> Result<()> {
    let cli = match parse(&program(app.id()), args) {
        Ok(cli) => cli,
        Err(e) if !e.use_stderr() => {
            // Help or the version: what was asked for, on standard output.
            return print::text(&e.render().to_string()).map(drop);
        }
        Err(e) => {
            print::usage(&e.render().to_string());
            std::process::exit(USAGE);
        }
    };
    let app = match std::env::var_os(LOG_VARIABLE) {
        Some(dir) if !dir.is_empty() => app.log(dir),
        _ => app,
    };
    log_to_stderr();
    match execute(app, cli) {
        Ok(Ended::Done | Ended::OutputClosed) => Ok(()),
        Ok(Ended::Differs) => std::process::exit(DIFFERS),
        Ok(Ended::Unfinished) => std::process::exit(FAILED),
        Ok(Ended::DecisionNeeded) => std::process::exit(DECISION),
        Err(e) => {
            print::error(&e);
            std::process::exit(if matches!(e, Error::Usage { .. }) { USAGE } else { FAILED })
        }
    }
}

/// What a person types to run this program: the name of its file, or else the job's id.
fn program(id: &str) -> String {
    let path = std::env::args_os().next().map(PathBuf::from);
    let name = path.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy());
    name.map_or_else(|| id.to_owned(), Cow::into_owned)
}

fn parse(name: &str, args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let command = Cli::command().bin_name(name).display_name(name.to_owned());
    let matches = command.try_get_matches_from(args)?;
    Cli::from_arg_matches(&matches)
}

fn execute(app: App, cli: Cli) -> Result<Ended> {
    match cli.command.unwrap_or_else(|| Command::Run(args::Run::default())) {
        Command::Run(options) => run::run(app, &options),
        Command::Topology(options) => topology(&app, &options),
        Command::Tail(options) => tail::tail(&app, &options),
        Command::Replay(options) => replay::replay(app, options),
        Command::State(command) => state::state(&app, &command),
        Command::Status(options) => status::status(&app, &options),
        Command::Reset(options) => reset::reset(&app, &options),
        Command::Topic(Topic::Create { name, partitions }) => {
            topic::create(&app, &name, partitions)
        }
    }
}

/// The graph of the job, which needs no log.
fn topology(app: &App, options: &args::Topology) -> Result<Ended> {
    let format = match options.format {
        args::TopologyFormat::Text => Format::Text,
        args::TopologyFormat::Mermaid => Format::Mermaid,
        args::TopologyFormat::Dot => Format::Dot,
        args::TopologyFormat::Svg => Format::Svg,
        args::TopologyFormat::Json => Format::Json,
    };
    print::text(&app.assemble()?.graph.describe(format))
}

/// What the library traces goes to standard error; RUST_LOG chooses, warnings by default.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_unset| tracing_subscriber::EnvFilter::new("warn"));
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).finish();
    // A program that has set up its own subscriber keeps it.
    drop(tracing::subscriber::set_global_default(subscriber));
}
