//! What the examples share that kill a process: a child that is killed on purpose, and reading what is
//! committed.
//!
//! Why a child process: SIGKILL leaves no chance to tidy up, as a crash does not.
//!
//! Invariants
//! * a child ends when this process does: its standard input closes, and that is what it waits for.

#[path = "own_dir.rs"]
mod own_dir;

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use core_log::{FetchBound, Log, PartitionReader, Topic};

pub(crate) use own_dir::{Outcome, finish, fresh_dir, say};

/// What became of a child.
pub(crate) struct Ended {
    /// What it said, line by line.
    pub(crate) lines: Vec<String>,
    /// Whether it was killed, not done before.
    pub(crate) killed: bool,
}

/// Runs this program once more, with other arguments, and kills it when it says `kill_at`.
///
/// # Errors
///
/// The child failed.
pub(crate) fn run_child(args: &[&OsStr], kill_at: Option<&str>) -> Outcome<Ended> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let pipe = child.stdout.take().ok_or("a child has a pipe for what it says")?;
    let mut lines = Vec::new();
    for line in BufReader::new(pipe).lines() {
        let line = line?;
        let is_time = kill_at == Some(line.as_str());
        lines.push(line);
        if is_time {
            child.kill()?;
            child.wait()?;
            return Ok(Ended { lines, killed: true });
        }
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("the child ended with {status}").into());
    }
    Ok(Ended { lines, killed: false })
}

/// Says `line` and waits to be killed; ends when whoever should do that is gone.
pub(crate) fn wait_to_be_killed(line: &str) -> Outcome<()> {
    say(line);
    io::stdin().read_to_end(&mut Vec::new())?;
    Err("nobody killed this process".into())
}

/// A record as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// The committed records of a topic, partition by partition.
pub(crate) fn committed(log: &Log, topic: &Topic) -> Outcome<Vec<Seen>> {
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec());
    let mut seen = Vec::new();
    for partition in 0..topic.partitions() {
        let bound = FetchBound::LastStable;
        let mut reader = PartitionReader::new(log.clone(), topic, partition, 0, bound);
        while let Some(batch) = reader.next_batch(1 << 20)? {
            for record in batch.records() {
                let record = record?;
                seen.push(Seen { key: text(record.key)?, value: text(record.value)? });
            }
        }
    }
    Ok(seen)
}
