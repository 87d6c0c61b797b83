//! What the examples of the log alone share: a directory of their own, a child process that is killed on
//! purpose, and reading what is committed.
//!
//! Why a child process: SIGKILL leaves no chance to tidy up, as a crash does not.
//!
//! Invariants
//! * only `target/demo/NAME` below the repository is ever replaced; another directory must be empty, or
//!   new.
//! * a child ends when this process does: its standard input closes, and that is what it waits for.

use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use core_log::{FetchBound, Log, PartitionReader, Topic};

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
