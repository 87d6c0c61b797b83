//! Files, as something that is passed in; what survives a crash is their contract.
//!
//! Why traits: every test that pulls the plug needs to decide what the disk had kept, and no file
//! system can be asked to do that. `disk` is the machine's, `memory` the one that tests torment.
//!
//! What survives
//!
//! ```text
//!                        killed process    power cut
//!   written, not synced  yes               any subset of its 512-byte sectors, in any order
//!   synced               yes               yes
//!   name made, renamed   yes               only once its directory is synced; a rename is atomic
//!     or removed                           (the name shows either the old file or the new one)
//!   after a failed sync  yes               unknown, and no later sync changes that: only writing
//!                                          the bytes again and syncing those does
//! ```
//!
//! Invariants
//! * Nothing else in this crate touches `std::fs`.
//! * Positions are explicit: a file has no cursor, so readers never disturb a writer.
//!
//! Reference: "Can Applications Recover from fsync Failures?" (Rebello et al., 2020).

#[cfg(any(test, feature = "test-util"))]
pub mod careless;
pub mod disk;
#[cfg(any(test, feature = "memory"))]
pub mod memory;
pub(crate) mod pool;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Keeps a lock while it lives.
pub type LockGuard = Box<dyn Send + Sync>;

/// A file system.
pub trait Storage: Send + Sync + Debug + 'static {
    /// Makes a directory and those above it; it may be there already.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// The names of all files and directories in `dir`, sorted.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Whether there is a file or directory of this name.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Makes an empty file and opens it for reading and writing.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when the name is taken.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such file.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such file.
    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, replacing what had that name.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name; handles that are open stay usable.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all that is in it.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such directory.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in `dir` survive a power cut: those made, renamed and removed.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Tells this start of the machine from any other: a crash of the machine lies between two
    /// values that differ.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn boot_id(&self) -> io::Result<String>;

    /// Fills `bytes` with random ones.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn random_bytes(&self, bytes: &mut [u8]) -> io::Result<()>;

    /// Takes the lock of the file `path`, which is made when it is missing; `None` when somebody
    /// else holds it. The lock ends with its holder's process at the latest.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>>;

    /// How many files a log should keep open at the same time; `None`: as many as it likes.
    fn open_files_max(&self) -> Option<usize> {
        None
    }
}

/// An open file.
pub trait File: Send + Sync + Debug {
    /// Reads at most `buffer.len()` bytes at `position`; fewer only at the end of the file.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Reads exactly `buffer.len()` bytes at `position`.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        if self.read_at(buffer, position)? == buffer.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Writes all of `bytes` at `position`; the file grows when needed.
    ///
    /// # Errors
    ///
    /// What the operating system says; some of the bytes may have been written.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;

    /// Cuts the file, or makes it longer with zeros.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes all that was written survive a power cut (`fdatasync`).
    ///
    /// # Errors
    ///
    /// What the operating system says; then it is unknown what is on the disk, and calling this
    /// again cannot repair that.
    fn sync(&self) -> io::Result<()>;

    /// The file's size in bytes.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}
