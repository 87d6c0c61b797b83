//! The demo's directory: what an earlier demo left is replaced, anything else is refused.
//!
//! Invariants
//! * only a directory that holds an earlier demo and nothing else is ever emptied;
//! * the demo's mark goes last: what an interruption leaves is still known as a demo's.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use core_log::{Log, LogOptions};

use crate::error::Error;

/// The topic that says that a directory is a demo's own.
pub(crate) const DEMO: &str = "clickstream-demo";
/// All that may lie in such a directory.
const TOPICS: [&str; 6] = [
    DEMO,
    "clicks",
    "page-counts",
    "clickstream-clicks-per-page-repartition",
    "clickstream-clicks-per-page-changelog",
    "clickstream-clock",
];
/// The file that the owner of the log has locked.
const LOCK: &str = ".lock";
/// Files of the log, of the job's state and of its replays.
const OWN_FILES: [&str; 11] = [
    LOCK,
    ".owner.sock",
    "meta.properties",
    "meta.properties.tmp",
    "topics.checkpoint",
    "topics.checkpoint.tmp",
    "clean-shutdown",
    "clean-shutdown.tmp",
    "__commits-0",
    "state",
    "replay",
];
/// How long to wait for a process that looks at the log, or one that is ending.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Opens the log of the demo.
pub(crate) fn open_log(dir: &Path) -> Result<Log, Error> {
    Ok(LogOptions::new().lock_timeout(LOCK_PATIENCE).open(dir)?)
}

/// Empties a directory that holds an earlier demo; refuses one that holds anything else. Says whether
/// there was something to replace.
///
/// # Errors
///
/// Nothing was changed, unless removing itself failed.
pub(crate) fn replace_earlier_demo(dir: &Path) -> Result<bool, Error> {
    let names = match list(dir) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
            return Err(Error::NotADirectory { dir: dir.to_owned() });
        }
        Err(source) => return Err(Error::System { what: "list the log directory", source }),
    };
    if let Some(found) = what_no_demo_wrote(&names) {
        return Err(Error::NotADemo { dir: dir.to_owned(), found });
    }
    if !names.iter().any(|name| is_partition_of(name, DEMO)) {
        return Ok(false);
    }
    // Held until everything is gone: a job that outlived its demo must not open what is left of it.
    let held = match open_log(dir) {
        Ok(log) => Some(log),
        // A job is running on it, or it cannot be emptied.
        Err(Error::Streams(streams::Error::Log(
            e @ (core_log::Error::DirectoryLocked { .. }
            | core_log::Error::ReadOnlyDirectory { .. }),
        ))) => return Err(e.into()),
        // Whatever else is wrong with the log goes away with it.
        Err(_) => None,
    };
    let removed = list(dir).and_then(|names| remove(dir, &names));
    drop(held);
    removed.map_err(|source| Error::System { what: "remove the earlier demo", source })
}

fn remove(dir: &Path, names: &[String]) -> io::Result<bool> {
    let (mark, others): (Vec<_>, Vec<_>) =
        names.iter().partition(|name| is_partition_of(name, DEMO));
    // The lock's file stays: who waits for it must wait for this process.
    for name in others.into_iter().filter(|name| *name != LOCK).chain(mark) {
        let path = dir.join(name);
        let removed = match path.is_dir() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        match removed {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(true)
}

fn list(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The first name that makes a directory somebody else's: anything unknown, or topics without the
/// demo's mark.
fn what_no_demo_wrote(names: &[String]) -> Option<String> {
    let of_log = |name: &str| OWN_FILES.contains(&name);
    let of_demo = |name: &str| TOPICS.iter().any(|topic| is_partition_of(name, topic));
    let marked = names.iter().any(|name| is_partition_of(name, DEMO));
    names.iter().find(|name| !(of_log(name) || marked && of_demo(name))).cloned()
}

fn is_partition_of(name: &str, topic: &str) -> bool {
    let partition = name.strip_prefix(topic).and_then(|rest| rest.strip_prefix('-'));
    partition.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}
