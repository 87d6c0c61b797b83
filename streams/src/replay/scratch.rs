//! The directory of a replay: a log of its own beside the live one, and what was asked for.
//!
//! ```text
//!   DIR/                       the live log
//!   DIR/replay/NAME/           the scratch log: *-replay topics, changelogs, positions
//!     state/JOB/               the stores of the job, as it runs again
//!     headwater-replay.json    what was asked for, and that this directory is ours
//! ```
//!
//! Why a manifest: a second try must know whether it is the same replay. What was asked for, which job,
//! which program: all the same, and unfinished, means that it goes on where the scratch log's own
//! commits say; anything else means that it starts over.
//!
//! Invariants
//! * nothing is removed from a directory without the manifest's file in it, nor while somebody has the
//!   scratch log open.
//! * the manifest goes last: what an interrupted removal leaves is still known as ours.
//!
//! On crash: without a manifest a log without topics is all that can be there, and it is used.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::broker::{LOCK, ScratchLog, View, hold};
use crate::error::{Error, Result};
use crate::ids::check_name;

/// The directory of all replays.
const REPLAYS: &str = "replay";
/// The file that makes a directory a replay's.
const MANIFEST: &str = "headwater-replay.json";
const MANIFEST_NEW: &str = "headwater-replay.json.tmp";
/// The file that makes a directory a log.
const META: &str = "meta.properties";
/// The layout of the manifest.
const VERSION: u32 = 2;

/// What was asked for: two replays that say the same are one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The layout of this file.
    pub(crate) version: u32,
    /// The job.
    pub(crate) job: String,
    /// The ids of the topics that are read: one that was created again is another.
    pub(crate) topics: Vec<String>,
    /// Where it begins and ends, as it was said.
    pub(crate) from: String,
    pub(crate) until: String,
    /// What the names of the topics end in.
    pub(crate) suffix: String,
    /// The windows of the live job that records are judged by, where they are others.
    pub(crate) then: String,
    /// The topology as text, and the program that has it: closures can not be compared.
    pub(crate) topology: String,
    pub(crate) program: String,
}

impl Request {
    /// Of this version of the library.
    pub(crate) fn version() -> u32 {
        VERSION
    }
}

/// One partition of a topic that is read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    /// The first offset, and the one behind the last.
    pub(crate) from: i64,
    pub(crate) until: i64,
    /// Of a topic that only fills tables: up to here it is read before anything else.
    pub(crate) warm: Option<i64>,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) request: Request,
    pub(crate) sources: Vec<Source>,
    pub(crate) state: State,
}

/// How far a replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// It has begun, and can be gone on with.
    Running,
    /// All of it was read and committed.
    Finished,
    /// Its files are being removed.
    Removed,
}

/// The directory of one replay.
#[derive(Clone, Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    /// The directory for a replay of this name beside a log.
    ///
    /// # Errors
    ///
    /// S024: not a name that a topic could have.
    pub(crate) fn beside(log: &Path, name: &str) -> Result<Self> {
        check_name("replay", name)?;
        Ok(Self { dir: log.join(REPLAYS).join(name) })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn failed(&self) -> impl Fn(io::Error) -> Error {
        let path = self.dir.clone();
        move |source| Error::Unreadable { path: path.clone(), source }
    }

    /// What the manifest says; `None` without one, or when it is none of this version.
    fn manifest(&self) -> Result<Option<Manifest>> {
        match std::fs::read(self.dir.join(MANIFEST)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed()(error)),
        }
    }

    /// Opens the scratch log, and answers the unfinished replay in it when it is the one that is asked
    /// for; otherwise the log is new and empty.
    ///
    /// # Errors
    ///
    /// S006: another process is at this replay; S015: the directory holds something else, and nothing
    /// was changed; what the disk says.
    pub(crate) fn open(
        &self,
        request: &Request,
        open: impl Fn(&Path) -> Result<ScratchLog>,
    ) -> Result<(ScratchLog, Option<Vec<Source>>)> {
        let names = self.names()?;
        if !names.contains(&MANIFEST.to_owned()) {
            if let Some(first) = names.iter().find(|name| *name != LOCK)
                && !names.contains(&META.to_owned())
            {
                let found = format!("`{first}`");
                return Err(Error::NotAReplay { path: self.dir.clone(), found });
            }
            let log = open(&self.dir)?;
            return match log.is_empty()? {
                true => Ok((log, None)),
                false => {
                    let found = "a log with topics".to_owned();
                    Err(Error::NotAReplay { path: self.dir.clone(), found })
                }
            };
        }
        let unfinished = {
            // Must be BEFORE the manifest is believed, or else it could be that of a replay that runs.
            let Some(_held) = hold(&self.dir)? else {
                // Whose it is, the log says best.
                return open(&self.dir).map(|log| (log, None));
            };
            let manifest = self.manifest()?;
            let same = |manifest: &&Manifest| {
                manifest.state == State::Running && manifest.request == *request
            };
            let unfinished = manifest.as_ref().filter(same).cloned();
            if unfinished.is_none() {
                self.clear(manifest)?;
            }
            unfinished
        };
        let log = open(&self.dir)?;
        Ok((log, unfinished.map(|manifest| manifest.sources)))
    }

    fn names(&self) -> Result<Vec<String>> {
        match list(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed.map_err(self.failed()),
        }
    }

    /// Removes everything but the lock, whose holder this process is; the manifest last.
    fn clear(&self, manifest: Option<Manifest>) -> Result<()> {
        if let Some(manifest) = manifest {
            // Must be FIRST, or else half a log could be taken for one to go on with.
            self.write(&Manifest { state: State::Removed, ..manifest })?;
        }
        let remove = || {
            let (mark, others): (Vec<_>, Vec<_>) = list(&self.dir)?
                .into_iter()
                .filter(|name| name != LOCK)
                .partition(|name| name == MANIFEST);
            for name in others.into_iter().chain(mark) {
                let path = self.dir.join(name);
                if path.is_dir() {
                    std::fs::remove_dir_all(&path)?;
                } else {
                    std::fs::remove_file(&path)?;
                }
            }
            Ok(())
        };
        remove().map_err(self.failed())
    }

    /// Writes the manifest, whole or not at all.
    pub(crate) fn write(&self, manifest: &Manifest) -> Result<()> {
        let write = || {
            let bytes = serde_json::to_vec_pretty(manifest).map_err(io::Error::other)?;
            let new = self.dir.join(MANIFEST_NEW);
            std::fs::write(&new, bytes)?;
            std::fs::rename(&new, self.dir.join(MANIFEST))
        };
        write().map_err(self.failed())
    }
}

fn list(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// A topic that a replay has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The scratch log.
    pub(crate) dir: PathBuf,
    /// The name of the topic that the job writes otherwise.
    pub(crate) original: String,
}

/// Looks for a topic in the replays beside a log: in the one of a name, or in all, the one that has the
/// job's name first.
pub(crate) fn find(
    log: &Path,
    job: &str,
    name: Option<&str>,
    topic: &str,
) -> Result<Option<Found>> {
    let Ok(mut names) = list(&log.join(REPLAYS)) else { return Ok(None) };
    names.retain(|known| name.is_none_or(|name| name == known));
    names.sort_by_key(|name| (name != job, name.clone()));
    for name in names {
        let scratch = Scratch { dir: log.join(REPLAYS).join(name) };
        let Some(manifest) = scratch.manifest()? else { continue };
        let Some(original) = topic.strip_suffix(&manifest.request.suffix) else { continue };
        if View::of(scratch.dir()).topics()?.iter().any(|t| t.name().as_str() == topic) {
            return Ok(Some(Found { original: original.to_owned(), dir: scratch.dir }));
        }
    }
    Ok(None)
}
