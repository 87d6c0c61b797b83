//! The machine's file system.
//!
//! Why: the one place that talks to the operating system about files; everything above can be run
//! on the in-memory one instead.
//!
//! Invariants
//! * Reads and writes say where (`pread`, `pwrite`); short ones are completed.
//! * `sync` is `fdatasync`, which also covers a size that grew; `sync_dir` is `fsync` on the
//!   directory.
//!
//! On crash: as the table in `storage/mod.rs` says, at worst.
//! Reference: open(2), fsync(2), flock(2).

use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{File, LockGuard, Storage};

/// The files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskStorage;

impl DiskStorage {
    /// The files of this machine.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that opens files")]
fn open(options: &OpenOptions, path: &Path) -> io::Result<fs::File> {
    options.open(path)
}

/// Another path of a directory, short whatever its name is, that is good while the file is open.
///
/// # Errors
///
/// What the operating system says.
pub(crate) fn short_path(dir: &Path) -> io::Result<(fs::File, PathBuf)> {
    let handle = open(OpenOptions::new().read(true), dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
    Ok((handle, path))
}

impl Storage for DiskStorage {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = open(OpenOptions::new().read(true).write(true).create_new(true), path)?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(DiskFile(open(OpenOptions::new().read(true).write(true), path)?)))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(DiskFile(open(OpenOptions::new().read(true), path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        open(OpenOptions::new().read(true), dir)?.sync_all()
    }

    fn boot_id(&self) -> io::Result<String> {
        match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
            Ok(id) => Ok(id.trim().to_owned()),
            // Where no start of the machine can be told from another, each call is one of its own:
            // recovery then looks for what a power cut may have lost, which is safe and slower.
            Err(_unknown) => {
                let mut bytes = [0; 16];
                self.random_bytes(&mut bytes)?;
                Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
            }
        }
    }

    fn random_bytes(&self, bytes: &mut [u8]) -> io::Result<()> {
        let file = open(OpenOptions::new().read(true), Path::new("/dev/urandom"))?;
        io::Read::read_exact(&mut &file, bytes)
    }

    /// Half of what the process may have: the other half is for what runs beside the log.
    fn open_files_max(&self) -> Option<usize> {
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Some(
            descriptors(&limits)
                .map_or(OPEN_FILES_UNKNOWN, |limit| limit / 2)
                .clamp(16, OPEN_FILES_MOST),
        )
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        let options = &mut OpenOptions::new();
        let file = open(options.read(true).write(true).create(true).truncate(false), path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// How many files are kept open where nobody says how many may be: systems allow 256 at least.
const OPEN_FILES_UNKNOWN: usize = 128;
/// More than that save nothing: to open a file again takes microseconds.
const OPEN_FILES_MOST: usize = 8_192;

/// How many descriptors a process may have, of its `/proc/self/limits`.
fn descriptors(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        soft => soft.parse().ok(),
    }
}

#[derive(Debug)]
struct DiskFile(fs::File);

impl File for DiskFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_made_written_read_cut_renamed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let storage = DiskStorage::new();
        let (a, b) = (dir.path().join("x/a"), dir.path().join("x/b"));
        storage.create_dir_all(a.parent().unwrap()).unwrap();
        let file = storage.create(&a).unwrap();
        assert_eq!(storage.create(&a).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        file.write_all_at(b"hello", 2).unwrap();
        file.sync().unwrap();
        let mut buffer = [9; 9];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 7);
        assert_eq!(&buffer, b"\0\0hello\x09\x09");
        let eof = file.read_exact_at(&mut buffer, 0).unwrap_err();
        assert_eq!(eof.kind(), io::ErrorKind::UnexpectedEof);
        file.set_len(3).unwrap();
        assert_eq!(file.len().unwrap(), 3);
        storage.rename(&a, &b).unwrap();
        storage.sync_dir(b.parent().unwrap()).unwrap();
        assert_eq!(storage.list(b.parent().unwrap()).unwrap(), ["b"]);
        assert!(storage.open_read_only(&b).unwrap().write_all_at(b"x", 0).is_err());
        storage.remove_file(&b).unwrap();
        assert_eq!(storage.open(&b).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!storage.exists(&b).unwrap());
        storage.remove_dir_all(b.parent().unwrap()).unwrap();
    }

    #[test]
    fn the_limit_of_descriptors_is_the_soft_one() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max core file size        0                    unlimited            bytes\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(descriptors(limits), Some(1024));
        assert_eq!(descriptors("Max open files  unlimited  unlimited  files"), Some(usize::MAX));
        assert_eq!(descriptors(""), None);
        assert!(
            DiskStorage.open_files_max().is_some_and(|max| (16..=OPEN_FILES_MOST).contains(&max))
        );
    }

    #[test]
    fn a_lock_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let held = DiskStorage.lock(&path).unwrap();
        assert!(held.is_some());
        assert!(DiskStorage.lock(&path).unwrap().is_none());
        drop(held);
        assert!(DiskStorage.lock(&path).unwrap().is_some());
    }

    #[test]
    fn random_bytes_differ_and_the_boot_id_does_not_within_a_boot() {
        let (mut a, mut b) = ([0; 16], [0; 16]);
        DiskStorage.random_bytes(&mut a).unwrap();
        DiskStorage.random_bytes(&mut b).unwrap();
        assert_ne!(a, b);
        if cfg!(target_os = "linux") {
            assert_eq!(DiskStorage.boot_id().unwrap(), DiskStorage.boot_id().unwrap());
        }
    }
}
