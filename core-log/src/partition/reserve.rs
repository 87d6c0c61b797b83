//! Room on the disk that is given up when the disk is full, so that the log can still end what it began.
//!
//! Why: a write that meets a full disk is a crash of the log, and its recovery writes: markers, a copy of
//! the torn tail, a snapshot of the commits. Without room the log could not even be read until somebody
//! made some.
//!
//! ```text
//!   held --a write meets a full disk: the file is removed--> given up --require: written again--> held
//!     anything may be written                                 only what recovery and markers write
//! ```
//!
//! Invariants
//! * Nothing that only makes the log larger is written while the room is given up.
//! * The file's bytes are really there: they are written and do not compress.
//! * Once given up it is taken again only where twice as much fits, so that the next write does not meet
//!   a full disk at once.
//!
//! On crash: a file that is too short is completed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::locks::Mutex;

use crate::error::{Error, Result};
use crate::storage::Storage;

/// How much is written at once: a full disk is noticed at the first piece that does not fit.
const PIECE_BYTES: usize = 64 * 1024;

/// A file that only takes room. One that has no bytes is always held.
#[derive(Debug)]
pub(crate) struct Reserve {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    bytes: u64,
    is_held: AtomicBool,
    /// How much must fit before it is held.
    wanted: Mutex<u64>,
}

impl Reserve {
    /// Room of so many bytes, which is not held yet.
    pub(crate) fn new(storage: &Arc<dyn Storage>, path: PathBuf, bytes: u64) -> Self {
        let is_held = AtomicBool::new(bytes == 0);
        Self { storage: Arc::clone(storage), path, bytes, is_held, wanted: Mutex::new(bytes) }
    }

    /// Takes the room if it is not held: must come before anything that makes the log larger.
    ///
    /// # Errors
    ///
    /// [`Error::DiskFull`] and what else the disk says: nothing may be written now. That is no crash.
    pub(crate) fn require(&self) -> Result<()> {
        if self.is_held.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut wanted = self.wanted.lock();
        if self.is_held.load(Ordering::Acquire) {
            return Ok(());
        }
        let there = self.len()?;
        if there.is_none_or(|there| there < *wanted) {
            self.write(there, *wanted)?;
        }
        *wanted = self.bytes;
        self.is_held.store(true, Ordering::Release);
        Ok(())
    }

    /// Gives the room up; answers whether there was any.
    pub(crate) fn give_up(&self) -> Result<bool> {
        let mut wanted = self.wanted.lock();
        self.is_held.store(self.bytes == 0, Ordering::Release);
        *wanted = self.bytes.saturating_mul(2);
        self.remove()
    }

    /// How large the file is, where there is one.
    fn len(&self) -> Result<Option<u64>> {
        match self.storage.open_read_only(&self.path).and_then(|file| file.len()) {
            Ok(len) => Ok(Some(len)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&self.path, "look for", error)),
        }
    }

    fn remove(&self) -> Result<bool> {
        match self.storage.remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io(&self.path, "remove", error)),
        }
    }

    /// Writes what is missing. A part that fits stays: the next recovery can give it up.
    fn write(&self, there: Option<u64>, wanted: u64) -> Result<()> {
        let failed = |operation| move |e| Error::io(&self.path, operation, e);
        let file = match there {
            Some(_len) => self.storage.open(&self.path).map_err(failed("open"))?,
            None => self.storage.create(&self.path).map_err(failed("create"))?,
        };
        let piece = noise();
        let mut at = there.unwrap_or(0);
        let mut fits = Ok(());
        while at < wanted && fits.is_ok() {
            let left = usize::try_from(wanted - at).unwrap_or(usize::MAX);
            let piece = &piece[..PIECE_BYTES.min(left)];
            fits = file.write_all_at(piece, at).map_err(failed("write"));
            at += piece.len() as u64;
        }
        if file.len().map_err(failed("read"))? > self.bytes {
            file.set_len(self.bytes).map_err(failed("cut"))?;
        }
        fits?;
        file.sync().map_err(failed("sync"))?;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        self.storage.sync_dir(dir).map_err(|e| Error::io(dir, "sync", e))
    }
}

/// Bytes that no file system makes smaller (xorshift).
fn noise() -> Vec<u8> {
    let mut word: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_be_bytes()
    };
    (0..PIECE_BYTES / 8).flat_map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    fn reserve(memory: &MemoryStorage, bytes: u64) -> Reserve {
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        Reserve::new(&storage, "/.reserve".into(), bytes)
    }

    #[test]
    fn room_is_taken_once_given_up_and_taken_again() {
        let memory = MemoryStorage::new(1);
        let bytes = PIECE_BYTES as u64 + 10;
        let room = reserve(&memory, bytes);
        room.require().unwrap();
        assert_eq!(memory.read_file(Path::new("/.reserve")).unwrap().len() as u64, bytes);
        let operations = memory.operations();
        room.require().unwrap();
        reserve(&memory, bytes).require().unwrap();
        assert_eq!(memory.operations(), operations);
        assert!(room.give_up().unwrap() && !room.give_up().unwrap());
        let len = || memory.read_file(Path::new("/.reserve")).unwrap().len() as u64;
        memory.limit_space(bytes - 1);
        assert!(matches!(room.require(), Err(Error::DiskFull { .. })));
        // What fits is kept for the next recovery, and completed when there is space for more.
        assert_eq!(len(), bytes - 1);
        memory.limit_space(bytes);
        assert!(matches!(room.require(), Err(Error::DiskFull { .. })));
        assert_eq!(len(), bytes);
        memory.limit_space(bytes);
        room.require().unwrap();
        assert_eq!(len(), bytes);
        assert!(room.give_up().unwrap());
    }

    #[test]
    fn no_room_at_all_is_always_held() {
        let memory = MemoryStorage::new(1);
        let room = reserve(&memory, 0);
        room.require().unwrap();
        assert!(!room.give_up().unwrap());
        room.require().unwrap();
        assert_eq!(memory.operations(), 1, "the removal that found nothing");
    }
}
