//! What the examples on reading the log share: a log of their own, and what they say.
//!
//! Invariants
//! * only `target/demo/NAME` below the repository is ever replaced; another directory must be empty, or
//!   new.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use core_log::Log;

/// What went wrong in an example.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Prints one line.
pub(crate) fn say(line: &str) {
    #[expect(clippy::print_stdout, reason = "a demo talks to the person who runs it")]
    {
        println!("{line}");
    }
}

/// Runs a demo with at most one argument, the directory of its log.
pub(crate) fn main(name: &str, demo: fn(&Log) -> Outcome<bool>) -> ExitCode {
    let outcome = arguments(name).and_then(|dir| {
        let dir = fresh(name, dir)?;
        say(&format!("{name}: log {}", dir.display()));
        let log = Log::open(dir)?;
        let is_right = demo(&log)?;
        log.close()?;
        Ok(is_right)
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "that is where errors go")]
            {
                eprintln!("error: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn arguments(name: &str) -> Outcome<Option<PathBuf>> {
    let mut arguments = std::env::args_os().skip(1);
    let dir = arguments.next();
    let is_option = dir.as_ref().is_some_and(|dir| dir.to_string_lossy().starts_with('-'));
    if is_option || arguments.next().is_some() {
        return Err(format!("usage: {name} [DIR]    DIR: an empty or new directory").into());
    }
    Ok(dir.map(PathBuf::from))
}

/// An empty directory: the given one, or `target/demo/NAME` in place of what an earlier run left there.
fn fresh(name: &str, wanted: Option<PathBuf>) -> Outcome<PathBuf> {
    let is_missing = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    let dir = match wanted {
        Some(dir) => match std::fs::read_dir(&dir).map(|mut entries| entries.next().is_none()) {
            Ok(false) => {
                let dir = dir.display();
                return Err(format!("{dir} is not empty: nothing in it was changed").into());
            }
            Err(e) if !is_missing(&e) => return Err(format!("{}: {e}", dir.display()).into()),
            _ => dir,
        },
        None => {
            let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/demo").join(name);
            match std::fs::remove_dir_all(&own) {
                Err(e) if !is_missing(&e) => return Err(e.into()),
                _ => own,
            }
        }
    };
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}
