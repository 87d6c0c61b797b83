//! One process owns a log directory; others look at the log through a socket in it.
//!
//! Why a socket: a person wants to look at what a running job writes, and a second process may not
//! open the files of a log that is being written.
//!
//! ```text
//!   client                                  owner (DIR/.owner.sock)
//!     {"get":"fetch","topic":..}\n   ---->
//!                                    <----  {"Fetched":{..,"bytes":4096}}\n  + 4096 bytes of batches
//! ```
//!
//! Invariants
//! * What is not about the log is asked of the program that owns it, if it has a handler for that.
//! * A request is at most 64 KiB, an answer carries about 1 MiB of batches, 16 clients are served.
//! * Nothing that a client sends changes the log, but that it can abort an open transaction, which a
//!   crash of the owner would do as well.
//!
//! On crash: the socket of a killed owner is removed by the next one, who holds the lock.
//! Reference: design.md "The log" 8.

mod client;
mod lines;
mod operators;
mod options;
pub(crate) mod protocol;
mod server;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use client::AttachedLog;
pub use options::LogOptions;
pub(crate) use options::Owned;

use crate::commit::OffsetCommit;
use crate::consumer::FetchSource;
use crate::error::{Error, Result};
use crate::ids::{GroupId, Offset, Timestamp, TopicId};
use crate::log::Log;
use crate::log::directory::SOCKET;
use crate::partition::{FetchBound, Fetched, PartitionOffsets};
use crate::storage::disk;
use crate::topic::Topic;

/// The longest path that the kernel takes for a socket.
const SOCKET_PATH_MAX: usize = 107;
/// How long an owner may take between locking the directory and answering, and between its last answer
/// and letting go.
const SOCKET_PATIENCE: Duration = Duration::from_secs(1);

/// Calls `with` with a path of the socket that the kernel takes, however long the directory's is.
fn with_socket_path<T>(dir: &Path, with: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let path = dir.join(SOCKET);
    if path.as_os_str().len() <= SOCKET_PATH_MAX {
        return with(&path);
    }
    // The handle must live until the call returns: its number is part of the path.
    let (_handle, short) = disk::short_path(dir)?;
    with(&short.join(SOCKET))
}

fn failed(dir: &Path) -> impl Fn(io::Error) -> Error {
    let path: PathBuf = dir.join(SOCKET);
    move |error| Error::Owner { path: path.clone(), reason: error.to_string() }
}

impl Log {
    /// Opens the log in `dir` with all defaults; makes it when the directory is missing or empty.
    ///
    /// # Errors
    ///
    /// As [`LogOptions::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        LogOptions::new().open(dir)
    }

    /// Has `handler` answer the questions that other processes ask this one with
    /// [`AttachedLog::ask`]; it replaces the one before. Each call has a thread of its own. After five
    /// seconds, or a panic, the one who asked is told that there is no answer.
    ///
    /// The handler is dropped when the log is closed. It must not hold the log itself, or else the log
    /// would keep itself open.
    ///
    /// ```
    /// let dir = tempfile::tempdir()?;
    /// let log = core_log::Log::open(dir.path())?;
    /// log.answer_with(|question| format!("{question}? Nobody knows."));
    /// // In another process:
    /// let owner = core_log::AttachedLog::connect(dir.path())?;
    /// assert_eq!(owner.ask("When")?, "When? Nobody knows.");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn answer_with(&self, handler: impl Fn(&str) -> String + Send + Sync + 'static) {
        self.inner.answerer().set(Some(Arc::new(handler)));
    }
}

/// A log as a reader finds it: its own, or another process's.
#[derive(Clone, Debug)]
pub enum LogView {
    /// Nobody else has it open.
    Owned(Log),
    /// Another process owns it and answers.
    Attached(AttachedLog),
}

impl LogView {
    /// Opens the log in `dir` when nobody has it open, else asks its owner. Makes no log. An owner that
    /// is just opening or closing the log is waited for, for a second.
    ///
    /// # Errors
    ///
    /// As [`LogOptions::open`]; [`Error::DirectoryLocked`]: its owner has no socket.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let mut waited = Duration::ZERO;
        loop {
            let locked = match LogOptions::new().create(false).open(dir) {
                Ok(log) => return Ok(Self::Owned(log)),
                Err(locked @ Error::DirectoryLocked { .. }) => locked,
                Err(error) => return Err(error),
            };
            match AttachedLog::connect(dir) {
                Ok(attached) => return Ok(Self::Attached(attached)),
                Err(_no_socket) if waited < SOCKET_PATIENCE => {}
                Err(_no_socket) => return Err(locked),
            }
            // Between lock and socket nothing tells when the owner is ready.
            std::thread::park_timeout(options::LOCK_RETRY);
            waited += options::LOCK_RETRY;
        }
    }

    fn source(&self) -> &dyn FetchSource {
        match self {
            Self::Owned(log) => log,
            Self::Attached(log) => log,
        }
    }
}

impl FetchSource for LogView {
    fn topics(&self) -> Result<Vec<Topic>> {
        self.source().topics()
    }

    fn fetch(
        &self,
        topic: TopicId,
        partition: u32,
        offset: Offset,
        max_bytes: usize,
        bound: FetchBound,
    ) -> Result<Fetched> {
        self.source().fetch(topic, partition, offset, max_bytes, bound)
    }

    fn offsets(&self, topic: TopicId, partition: u32) -> Result<PartitionOffsets> {
        self.source().offsets(topic, partition)
    }

    fn offset_for_time(
        &self,
        topic: TopicId,
        partition: u32,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>> {
        self.source().offset_for_time(topic, partition, timestamp)
    }

    fn committed(&self, group: &GroupId) -> Result<Vec<OffsetCommit>> {
        self.source().committed(group)
    }

    fn changes(&self) -> Result<u64> {
        self.source().changes()
    }

    fn wait(&self, seen: u64, timeout: Duration) -> Result<u64> {
        self.source().wait(seen, timeout)
    }
}
