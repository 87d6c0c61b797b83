//! What the examples of the log alone share: a directory of their own, and how they end.
//!
//! Invariants
//! * only `target/demo/NAME` below the repository is ever replaced; another directory must be empty, or
//!   new.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What went wrong in an example.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Prints one line.
pub(crate) fn say(line: &str) {
    #[expect(clippy::print_stdout, reason = "a demo talks to the person who runs it")]
    {
        println!("{line}");
    }
}

/// Success when the outcome is that everything was right; an error is printed.
pub(crate) fn finish(outcome: Outcome<bool>) -> ExitCode {
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

/// An empty directory: the given one, or `target/demo/NAME` in place of what an earlier run left there.
pub(crate) fn fresh_dir(name: &str, wanted: Option<PathBuf>) -> Outcome<PathBuf> {
    let is_missing = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/demo").join(name);
    if let Some(dir) = wanted {
        match fs::read_dir(&dir).map(|mut entries| entries.next().is_none()) {
            Ok(false) => {
                let dir = dir.display();
                return Err(format!("{dir} is not empty: nothing in it was changed").into());
            }
            Err(e) if !is_missing(&e) => return Err(format!("{}: {e}", dir.display()).into()),
            _ => {}
        }
        fs::create_dir_all(&dir)?;
        return Ok(dir);
    }
    match fs::remove_dir_all(&own) {
        Err(e) if !is_missing(&e) => return Err(e.into()),
        _ => {}
    }
    fs::create_dir_all(&own)?;
    Ok(own)
}
