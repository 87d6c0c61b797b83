//! Runs an example's own job in a child process and kills it on the way: what a crash does, done on
//! purpose.
//!
//! Why a child process: SIGKILL leaves no chance to tidy up, as a crash does not.
//!
//! Invariants
//! * a child ends when this process does: nobody reads its progress any more.
//! * the caller holds no log open meanwhile: one process owns a log directory.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::support::Outcome;

/// What became of a run.
pub(crate) struct Run {
    /// Records that it said it had read, committed or not.
    pub(crate) read: u64,
    /// Whether it was killed, not done before.
    pub(crate) killed: bool,
}

/// Runs the job over the log in `dir` to the end of its input.
///
/// # Errors
///
/// The job failed.
pub(crate) fn run_child(dir: &Path) -> Outcome<Run> {
    run_until(dir, u64::MAX)
}

/// The same, and kills it once it has read that many records.
///
/// # Errors
///
/// As [`run_child`].
pub(crate) fn run_and_kill(dir: &Path, after: u64) -> Outcome<Run> {
    run_until(dir, after)
}

fn run_until(dir: &Path, after: u64) -> Outcome<Run> {
    let mut child = spawn(dir)?;
    let pipe = child.stdout.take().ok_or("a child has a pipe for its progress")?;
    let mut read = 0;
    for line in BufReader::new(pipe).lines() {
        let line = line?;
        let said = line.split(' ').find_map(|part| part.strip_prefix("read="));
        read = said.and_then(|number| number.parse().ok()).unwrap_or(read);
        if read >= after {
            child.kill()?;
            child.wait()?;
            return Ok(Run { read, killed: true });
        }
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("the job ended with {status}").into());
    }
    Ok(Run { read, killed: false })
}

fn spawn(dir: &Path) -> Outcome<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["run", "--until-idle", "300ms", "--progress"]).env("STREAMS_LOG", dir);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
}
