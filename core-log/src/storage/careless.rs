//! Disks that hide one of the log's duties, to show that a test notices when it is neglected.
//!
//! Why a storage: the duty (write again, cut, give up after a failed sync) is a call on a file; a file
//! that swallows the call makes a log that does not do it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::memory::MemoryStorage;
use super::{File, LockGuard, Storage};

/// What is neglected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neglect {
    /// Bytes that can be read back already are not written again.
    Rewrite,
    /// A file of commit records is never made shorter.
    Cut,
    /// A sync that fails is tried again, and the second outcome counts.
    FailedSync,
    /// Names are never made durable.
    NameSync,
    /// Files whose path has this in it are never synced.
    Sync(&'static str),
}

/// Files in memory, less one duty.
#[derive(Clone, Debug)]
pub struct CarelessStorage {
    /// The files.
    pub inner: MemoryStorage,
    /// What is not done to them.
    pub neglect: Neglect,
}

#[derive(Debug)]
struct CarelessFile {
    inner: Arc<dyn File>,
    neglect: Neglect,
    is_journal: bool,
    is_synced: bool,
}

impl CarelessStorage {
    fn wrap(&self, path: &Path, file: io::Result<Arc<dyn File>>) -> io::Result<Arc<dyn File>> {
        let is_journal = path.to_string_lossy().contains("__commits");
        let neglect = self.neglect;
        let is_synced = match neglect {
            Neglect::Sync(part) => !path.to_string_lossy().contains(part),
            _ => true,
        };
        let of = |inner| CarelessFile { inner, neglect, is_journal, is_synced };
        file.map(|inner| Arc::new(of(inner)) as Arc<dyn File>)
    }
}

impl Storage for CarelessStorage {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.wrap(path, self.inner.create(path))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.wrap(path, self.inner.open(path))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.inner.open_read_only(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.neglect == Neglect::NameSync { Ok(()) } else { self.inner.sync_dir(dir) }
    }

    fn boot_id(&self) -> io::Result<String> {
        self.inner.boot_id()
    }

    fn random_bytes(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.random_bytes(bytes)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        self.inner.lock(path)
    }
}

impl File for CarelessFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, position)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        if self.neglect == Neglect::Rewrite {
            let mut there = vec![0; bytes.len()];
            if self.inner.read_exact_at(&mut there, position).is_ok() && there == bytes {
                return Ok(());
            }
        }
        self.inner.write_all_at(bytes, position)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.neglect == Neglect::Cut && self.is_journal && len < self.inner.len()? {
            return Ok(());
        }
        self.inner.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        if !self.is_synced {
            return Ok(());
        }
        match self.inner.sync() {
            Err(_) if self.neglect == Neglect::FailedSync => self.inner.sync(),
            outcome => outcome,
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}
