//! How a process becomes the owner of a log directory: looks at it, locks it, opens what is in it.
//!
//! Why a builder: files, clock and threads are passed in, so that a test can bring its own.
//!
//! Invariants
//! * Until the lock is taken nothing in a directory that exists is changed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
#[cfg(any(test, feature = "test-util"))]
use crate::commit::Broken;
use crate::config::LogSettings;
use crate::error::{Error, Result};
use crate::log::directory::{self, LOCK};
use crate::log::{Inner, Log};
use crate::storage::disk::DiskStorage;
use crate::storage::pool::PooledStorage;
use crate::storage::{LockGuard, Storage};

/// How often a directory that is locked is tried again.
pub(crate) const LOCK_RETRY: Duration = Duration::from_millis(5);

/// Recovery on a full disk writes a copy of a torn batch, a snapshot of the commits, and markers.
const RESERVE_BYTES: u64 = 2 << 20;

/// How to open a log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    storage: Option<Arc<dyn Storage>>,
    clock: Option<Arc<dyn Clock>>,
    lock_timeout: Duration,
    settings: LogSettings,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl LogOptions {
    /// The machine's files and clock, a background thread, and a new log where there is none.
    #[must_use]
    pub fn new() -> Self {
        Self {
            storage: None,
            clock: None,
            lock_timeout: Duration::ZERO,
            settings: LogSettings::default(),
        }
    }

    /// Other files than the machine's.
    #[must_use]
    pub fn storage(mut self, storage: Arc<dyn Storage>) -> Self {
        self.storage = Some(storage);
        self
    }

    /// Another clock than the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// How long to wait for another process to let go of the directory; default not at all. Whoever
    /// only looks at a log that nobody has open owns it for a moment.
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Whether to make a log where there is none; default true.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.settings.create = create;
        self
    }

    /// Whether to run a maintenance thread and the owner's socket, and to sync partitions at the same
    /// time; default true. Without, everything happens on the caller's thread, in one order.
    #[must_use]
    pub fn background(mut self, background: bool) -> Self {
        self.settings.background = background;
        self
    }

    /// How long a transaction that has written something may stay open before it is aborted and its
    /// producer fenced; default 60 s (`transaction.timeout.ms`).
    #[must_use]
    pub fn transaction_timeout(mut self, timeout: Duration) -> Self {
        self.settings.transaction_timeout = timeout;
        self
    }

    /// The size in bytes beyond which the commit records are replaced by a snapshot; default 1 MiB.
    #[must_use]
    pub fn commits_bytes_max(mut self, bytes: u64) -> Self {
        self.settings.commits_bytes_max = bytes;
        self
    }

    /// Bytes of the disk that the log keeps for itself (`DIR/__commits-0/reserve`); default 2 MiB on the machine's
    /// files and none on others. They are given up when the disk is full, so that running transactions
    /// can be aborted and everything committed can be read; appends are then refused with
    /// [`Error::DiskFull`] until the reserve can be written again.
    #[must_use]
    pub fn reserve_bytes(mut self, bytes: u64) -> Self {
        self.settings.reserve_bytes = Some(bytes);
        self
    }

    /// How many files the log keeps open at the same time; by default half of what the process may
    /// (`ulimit -n`). Those that were not used for the longest time are closed when another one is
    /// needed, and opened again when they are: a log may have far more partitions than that.
    #[must_use]
    pub fn open_files_max(mut self, files: usize) -> Self {
        self.settings.open_files_max = Some(files);
        self
    }

    /// Makes the log wrong on purpose, to show that a checker notices.
    #[cfg(any(test, feature = "test-util"))]
    #[must_use]
    pub fn broken(mut self, broken: Broken) -> Self {
        self.settings.broken = Some(broken);
        self
    }

    /// Opens the log in `dir`, recovering whatever its last end left.
    ///
    /// # Errors
    ///
    /// * [`Error::DirectoryLocked`]: another process, or another `Log`, owns it. Nothing was changed.
    /// * [`Error::NotALog`]: the directory holds something else. Nothing was changed.
    /// * [`Error::NotADirectory`]: it is a file. Nothing was changed.
    /// * [`Error::DirectoryMissing`]: no log is there, and none may be made.
    /// * [`Error::ReadOnlyDirectory`], [`Error::DiskFull`], [`Error::Io`]: what the disk says.
    /// * [`Error::Damaged`]: a file at the top of the directory is. Damaged partitions and commit
    ///   records do not keep the log from opening: see [`Log::recovery`].
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Log> {
        let dir: Arc<Path> = Arc::from(dir.as_ref());
        let mut settings = self.settings;
        let storage = self.storage.unwrap_or_else(|| {
            settings.reserve_bytes.get_or_insert(RESERVE_BYTES);
            Arc::new(DiskStorage::new())
        });
        let storage: Arc<dyn Storage> =
            match settings.open_files_max.or_else(|| storage.open_files_max()) {
                Some(max) => Arc::new(PooledStorage::new(storage, max)),
                None => storage,
            };
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        prepare(storage.as_ref(), &dir, settings.create)?;
        let guard = lock(storage.as_ref(), clock.as_ref(), &dir, self.lock_timeout)?;
        let inner = Arc::new(Inner::new(dir, storage, clock, settings, guard)?);
        if settings.background {
            let socket = super::server::serve(&inner);
            inner.run_in_background(socket.into_iter().map(|server| Box::new(server) as _));
        }
        Ok(Log { inner })
    }
}

/// A log directory that nobody else has open, and nothing of it is opened.
pub(crate) struct Owned {
    pub(crate) dir: Arc<Path>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    _guard: LockGuard,
}

impl fmt::Debug for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owned").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl LogOptions {
    /// Takes the lock of a directory that holds a log, and opens nothing.
    pub(crate) fn own(self, dir: &Path) -> Result<Owned> {
        let storage = self.storage.unwrap_or_else(|| Arc::new(DiskStorage::new()));
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let is_there = storage.exists(dir).map_err(|e| Error::io(dir, "look for", e))?;
        if !is_there || !directory::is_log(storage.as_ref(), dir)? {
            return Err(Error::DirectoryMissing { path: dir.to_owned() });
        }
        let guard = lock(storage.as_ref(), clock.as_ref(), dir, self.lock_timeout)?;
        Ok(Owned { dir: Arc::from(dir), storage, clock, _guard: guard })
    }
}

/// Looks at the directory before anything in it is touched.
fn prepare(storage: &dyn Storage, dir: &Path, create: bool) -> Result<()> {
    let failed = |operation| move |e| Error::io(dir, operation, e);
    if storage.exists(dir).map_err(failed("look for"))? {
        // Must be BEFORE a file in it is looked for, or else a file would be told as damage.
        storage.list(dir).map_err(failed("list"))?;
        match directory::read_meta(storage, dir)? {
            Some(_id) => return Ok(()),
            None if !create => return Err(Error::DirectoryMissing { path: dir.to_owned() }),
            None => {}
        }
    } else if !create {
        return Err(Error::DirectoryMissing { path: dir.to_owned() });
    }
    let is_missing = |dir: &&Path| storage.exists(dir).is_ok_and(|exists| !exists);
    let missing = dir.ancestors().take_while(is_missing).count();
    storage.create_dir_all(dir).map_err(failed("create"))?;
    sync_names(storage, dir, missing.max(1))
}

/// Makes the names of a new log's directory and of those above it survive a power cut. Those that are
/// there already may have been made by an attempt that failed, or was killed, before it synced them.
fn sync_names(storage: &dyn Storage, dir: &Path, made: usize) -> Result<()> {
    for (distance, above) in dir.ancestors().skip(1).enumerate() {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match storage.sync_dir(above) {
            // What lies further up is most likely older, and need not even be readable.
            Err(error) if distance >= made => {
                tracing::debug!(path = %above.display(), %error, "a directory was not synced");
            }
            outcome => outcome.map_err(|e| Error::io(above, "sync", e))?,
        }
    }
    Ok(())
}

fn lock(
    storage: &dyn Storage,
    clock: &dyn Clock,
    dir: &Path,
    timeout: Duration,
) -> Result<LockGuard> {
    let path = dir.join(LOCK);
    let mut waited = Duration::ZERO;
    let guard = loop {
        let taken = storage.lock(&path).map_err(|e| Error::io(&path, "lock", e))?;
        if let Some(guard) = taken {
            break guard;
        }
        if waited >= timeout {
            let (pid, since_ms) = read_owner(storage, &path);
            return Err(Error::DirectoryLocked { path: dir.to_owned(), pid, since_ms });
        }
        // A lock of the file system can be waited for for ever or not at all, so it is asked again.
        std::thread::park_timeout(LOCK_RETRY);
        waited += LOCK_RETRY;
    };
    let text = format!("{} {}\n", std::process::id(), clock.now_ms());
    let write = || {
        let file = storage.open(&path)?;
        file.set_len(0)?;
        file.write_all_at(text.as_bytes(), 0)
    };
    match write().map_err(|e| Error::io(&path, "write", e)) {
        // The lock holds without its holder's number, and what is there can still be read.
        Err(full @ Error::DiskFull { .. }) => tracing::warn!(%full, "the lock does not say whose"),
        outcome => outcome?,
    }
    Ok(guard)
}

fn read_owner(storage: &dyn Storage, path: &Path) -> (Option<u32>, Option<i64>) {
    let mut buffer = [0; 64];
    let read = storage.open_read_only(path).and_then(|file| file.read_at(&mut buffer, 0));
    let text = read.ok().and_then(|count| std::str::from_utf8(&buffer[..count]).ok());
    let mut words = text.unwrap_or_default().split_whitespace();
    let pid = words.next().and_then(|word| word.parse().ok());
    (pid, words.next().and_then(|word| word.parse().ok()))
}
