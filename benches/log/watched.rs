//! The machine's files, with an eye on how much each sync covered.
//!
//! Why: what a raw loop would take can only be said for the same bytes in the same syncs.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use core_log::storage::disk::DiskStorage;
use core_log::storage::{File, LockGuard, Storage};

/// Counts what is written to segments of topics, sync by sync.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    disk: DiskStorage,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    unsynced: usize,
    syncs: Vec<usize>,
}

impl Watched {
    /// The bytes that each sync covered, up to now.
    pub(crate) fn take(&self) -> Vec<usize> {
        std::mem::take(&mut self.seen.lock().expect("nobody panicked").syncs)
    }

    fn watch(&self, path: &Path, file: Arc<dyn File>) -> Arc<dyn File> {
        let is_segment = path.extension().is_some_and(|extension| extension == "log")
            && path.to_string_lossy().contains("/topic-");
        if !is_segment {
            return file;
        }
        Arc::new(WatchedFile { file, seen: Arc::clone(&self.seen) })
    }
}

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn File>,
    seen: Arc<Mutex<Seen>>,
}

impl File for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.seen.lock().expect("nobody panicked").unsynced += bytes.len();
        self.file.write_all_at(bytes, position)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        {
            let mut seen = self.seen.lock().expect("nobody panicked");
            let covered = std::mem::take(&mut seen.unsynced);
            seen.syncs.push(covered);
        }
        self.file.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

impl Storage for Watched {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.watch(path, self.disk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.watch(path, self.disk.open(path)?))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.disk.open_read_only(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn boot_id(&self) -> io::Result<String> {
        self.disk.boot_id()
    }

    fn random_bytes(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.disk.random_bytes(bytes)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        self.disk.lock(path)
    }

    fn open_files_max(&self) -> Option<usize> {
        self.disk.open_files_max()
    }
}
