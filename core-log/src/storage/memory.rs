//! Files in memory that remember what a power cut would leave of them.
//!
//! Why: a crash test must decide which of the unsynced bytes the disk had kept, and a simulator
//! must run without a disk. Everything is decided by seeds: the same calls give the same bytes.
//!
//! ```text
//!            live                      what processes see
//!              ^ every call, at once
//!   call ------+
//!              v in order
//!          changes pending ---- sync, sync_dir ---->  durable    what surely survives a power cut
//!              |
//!              +-- crash_image(keep): durable + none, all, a prefix or any subset of them
//! ```
//!
//! Invariants
//! * A write may be torn at 512-byte sectors, a change of a name is kept or lost as a whole.
//! * Syncing a file says nothing about its name, and the other way round.
//! * A sync that fails by [`Effect::LoseSync`] leaves its bytes readable and never durable, until
//!   they are written again.
//! * An image shares nothing with the storage it was taken from.
//!
//! On crash: this file is what "on crash" means in the tests.
//! Reference: "All File Systems Are Not Created Equal" (Pillai et al., 2014).

mod fault;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::locks::Mutex;

pub use self::fault::{At, Call, Effect, Fault, Repeat};
use self::state::{NodeId, State};
use super::{File, LockGuard, Storage};

/// What a power cut keeps of the changes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    None,
    /// Everything.
    All,
    /// The first so many, in the order in which they were made.
    Prefix(usize),
    /// Any subset, torn at sectors, chosen by this seed.
    Random(u64),
}

/// A file system in memory. Clones share it.
#[derive(Clone)]
pub struct MemoryStorage {
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage").field("operations", &self.operations()).finish()
    }
}

impl MemoryStorage {
    /// An empty file system; its random bytes come from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::from_state(State::new(seed))
    }

    fn from_state(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// What a power cut at this moment leaves: a machine that starts again, without faults.
    #[must_use]
    pub fn crash_image(&self, keep: Keep) -> Self {
        Self::from_state(self.state.lock().crash_image(keep))
    }

    /// What a killed process leaves: everything it wrote, synced or not, without faults and locks.
    /// What was not synced can still be lost to a later power cut.
    #[must_use]
    pub fn kill_image(&self) -> Self {
        Self::from_state(self.state.lock().kill_image())
    }

    /// How many changes are not durable: [`Keep::Prefix`] makes a difference up to this number.
    #[must_use]
    pub fn unsynced_changes(&self) -> usize {
        self.state.lock().unsynced_changes()
    }

    /// How many mutating operations were tried, syncs among them; failed ones count.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().faults.operations
    }

    /// How many reads were tried.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.state.lock().faults.reads
    }

    /// How many bytes were read.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.state.lock().faults.bytes_read
    }

    /// How many handles of files there are.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.state.lock().open_files()
    }

    /// Lets all mutating operations behind the first `operations` fail without effect: power is off.
    pub fn stop_after(&self, operations: u64) {
        self.state.lock().faults.stop_after = Some(operations);
    }

    /// Adds a fault to the plan.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().faults.plan.push(fault);
    }

    /// Leaves room for `bytes` more; writes beyond that are short and fail with `StorageFull`.
    pub fn limit_space(&self, bytes: u64) {
        self.state.lock().faults.space_left = Some(bytes);
    }

    /// Forgets all faults, the limit of space and the power switch; the counts go on.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// The bytes of a file, as processes see them.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such file.
    pub fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state.lock();
        let node = state.find_file(path)?;
        Ok(state.file(node).live.clone())
    }

    /// Changes bits of a file, live and on the disk, as rot does: no operation is counted.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such file, `UnexpectedEof` when it has no such byte.
    pub fn rot(&self, path: &Path, position: usize, mask: u8) -> io::Result<()> {
        let mut state = self.state.lock();
        let node = state.find_file(path)?;
        state.file_mut(node).rot(position, mask)
    }

    fn handle(
        &self,
        state: &mut State,
        path: &Path,
        node: NodeId,
        writable: bool,
    ) -> Arc<dyn File> {
        state.file_mut(node).handles += 1;
        let state = Arc::clone(&self.state);
        Arc::new(MemoryFile { state, path: path.to_owned(), node, writable })
    }

    fn open_file(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn File>> {
        let mut state = self.state.lock();
        let node = state.find_file(path)?;
        Ok(self.handle(&mut state, path, node, writable))
    }
}

impl Storage for MemoryStorage {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.find_dir(dir).is_ok() {
            return Ok(());
        }
        state.faults.begin_whole(Call::Name, dir)?;
        state.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.state.lock().list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.state.lock().find(path).is_ok())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state.lock();
        state.faults.begin_whole(Call::Name, path)?;
        let node = state.create_file(path)?;
        Ok(self.handle(&mut state, path, node, true))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open_file(path, true)
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open_file(path, false)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.faults.begin_whole(Call::Name, from)?;
        state.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.faults.begin_whole(Call::Name, path)?;
        state.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.faults.begin_whole(Call::Name, dir)?;
        state.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.faults.begin_whole(Call::Sync, dir)?;
        state.sync_dir(dir)
    }

    fn boot_id(&self) -> io::Result<String> {
        Ok(self.state.lock().boot_id())
    }

    fn random_bytes(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.state.lock().random_bytes(bytes);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        let mut state = self.state.lock();
        let node = match state.find_file(path) {
            Ok(node) => node,
            Err(_missing) => {
                state.faults.begin_whole(Call::Name, path)?;
                state.create_file(path)?
            }
        };
        if !state.locks.insert(node) {
            return Ok(None);
        }
        Ok(Some(Box::new(MemoryLock { state: Arc::clone(&self.state), node })))
    }
}

struct MemoryLock {
    state: Arc<Mutex<State>>,
    node: NodeId,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.state.lock().locks.remove(&self.node);
    }
}

struct MemoryFile {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    node: NodeId,
    writable: bool,
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryFile").field(&self.path).finish()
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.state.lock().close(self.node);
    }
}

impl MemoryFile {
    fn require_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        state.faults.begin_read(&self.path)?;
        let live = &state.file(self.node).live;
        let start = usize::try_from(position).unwrap_or(usize::MAX).min(live.len());
        let count = buffer.len().min(live.len() - start);
        buffer[..count].copy_from_slice(&live[start..start + count]);
        state.faults.bytes_read += count as u64;
        Ok(count)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.require_writable()?;
        let mut state = self.state.lock();
        let position = usize::try_from(position).map_err(io::Error::other)?;
        let mut allowed = bytes.len();
        let mut outcome = Ok(());
        if let Some(effect) = state.faults.begin(Call::Write, &self.path)? {
            allowed = allowed.min(effect.written());
            outcome = Err(effect.error(&self.path));
        }
        let len = state.file(self.node).live.len();
        let fits = state.faults.take_space(len, position.saturating_add(allowed));
        if fits < position.saturating_add(allowed) {
            allowed = fits.saturating_sub(position);
            outcome = Err(io::ErrorKind::StorageFull.into());
        }
        if allowed > 0 {
            state.write(self.node, position, &bytes[..allowed]);
        }
        outcome
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.require_writable()?;
        let mut state = self.state.lock();
        state.faults.begin_whole(Call::Write, &self.path)?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let before = state.file(self.node).live.len();
        if state.faults.take_space(before, len) < len {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.set_len(self.node, len);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        match state.faults.begin(Call::Sync, &self.path)? {
            None => state.file_mut(self.node).sync(),
            Some(effect) => {
                if effect.loses_sync() {
                    state.file_mut(self.node).pending.clear();
                }
                return Err(effect.error(&self.path));
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().file(self.node).live.len() as u64)
    }
}
