//! What the examples on reading the log share: a log of their own, opened and closed around a demo.

#[path = "own_dir.rs"]
mod own_dir;

use std::path::PathBuf;
use std::process::ExitCode;

use core_log::Log;

pub(crate) use own_dir::{Outcome, say};
use own_dir::{finish, fresh_dir};

/// Runs a demo with at most one argument, the directory of its log.
pub(crate) fn main(name: &str, demo: fn(&Log) -> Outcome<bool>) -> ExitCode {
    let outcome = arguments(name).and_then(|dir| {
        let dir = fresh_dir(name, dir)?;
        say(&format!("{name}: log {}", dir.display()));
        let log = Log::open(dir)?;
        let is_right = demo(&log)?;
        log.close()?;
        Ok(is_right)
    });
    finish(outcome)
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
