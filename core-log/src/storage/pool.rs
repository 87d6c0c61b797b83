//! Keeps the number of open files within a limit; a file that was given back is opened again.
//!
//! Why a storage: a log has a handle for each segment, and a process may have 1024 descriptors. What
//! lies above goes on to keep its handles; only here is known which of them have a descriptor.
//!
//! ```text
//!   PooledFile --- used? written but not synced? --- Arc<dyn File>      a descriptor, or none
//!        ^                                                 ^
//!        +-- ring of those that have one ------------------+
//!            a second chance for what was used; the others are given back when one more is needed
//! ```
//!
//! Invariants
//! * A read, a write or a sync of a file that is open takes no lock that other files share.
//! * A file with bytes that were not synced is not closed: whoever opens it again would not be told
//!   that writing them back failed. When all others are busy it is synced first.
//! * A file whose name is taken away or given to another keeps its descriptor from then on, so that
//!   whoever holds it goes on to see the same file.
//!
//! On crash: nothing is here that would be missed.
//! Reference: "Can Applications Recover from fsync Failures?" (Rebello et al., 2020).

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::locks::{Mutex, RwLock};
use hashbrown::HashMap;

use super::{File, LockGuard, Storage};

/// What an operating system says when there are no descriptors left: of the process, of the machine.
const NO_DESCRIPTORS: [i32; 2] = [24, 23];
/// How many are given back when it says so.
const GIVE_BACK: usize = 16;

/// Another storage, with at most so many files open at the same time.
#[derive(Clone, Debug)]
pub(crate) struct PooledStorage {
    inner: Arc<dyn Storage>,
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Files that have a descriptor, in the order in which they got it or were last looked at.
    ring: VecDeque<Weak<Shared>>,
    /// All handles, by the path that they would be opened by again.
    by_path: HashMap<PathBuf, Vec<Weak<Shared>>>,
}

/// What handle and pool share.
#[derive(Debug)]
struct Shared {
    inner: Arc<dyn Storage>,
    path: RwLock<PathBuf>,
    is_writable: bool,
    file: RwLock<Option<Arc<dyn File>>>,
    was_used: AtomicBool,
    /// Its name is gone or another file's: it could not be opened again.
    is_pinned: AtomicBool,
    /// Writes that have begun, that have ended, and how many of them a sync covers.
    begun: AtomicU64,
    ended: AtomicU64,
    synced: AtomicU64,
    /// A sync failed when the descriptor was wanted by others: the next write or sync must say so.
    has_failed: AtomicBool,
}

/// A handle that stays, whether it has a descriptor or not.
#[derive(Debug)]
struct PooledFile {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
}

impl PooledStorage {
    /// At most `max` files of `inner` are open, or as many more as are in use at the same moment.
    pub(crate) fn new(inner: Arc<dyn Storage>, max: usize) -> Self {
        Self { inner, pool: Arc::new(Pool { max, state: Mutex::default() }) }
    }

    fn with_descriptor<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        self.pool.with_descriptor(open)
    }

    fn handle(&self, path: &Path, file: Arc<dyn File>, is_writable: bool) -> Arc<dyn File> {
        let shared = Arc::new(Shared {
            inner: Arc::clone(&self.inner),
            path: RwLock::new(path.to_owned()),
            is_writable,
            file: RwLock::new(Some(file)),
            was_used: AtomicBool::new(true),
            is_pinned: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
        });
        self.pool.register(&shared, path);
        Arc::new(PooledFile { shared, pool: Arc::clone(&self.pool) })
    }

    /// Makes the handles of a path independent of it; answers them.
    fn pin(&self, path: &Path) -> io::Result<Vec<Arc<Shared>>> {
        let handles = self.pool.handles(path);
        for shared in &handles {
            shared.is_pinned.store(true, Ordering::Release);
            shared.with(&self.pool, |_file| Ok(()))?;
        }
        Ok(handles)
    }
}

impl Pool {
    /// Takes a descriptor; when there is none left, others are given back first.
    fn with_descriptor<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        self.make_room();
        match open() {
            Err(error)
                if error.raw_os_error().is_some_and(|code| NO_DESCRIPTORS.contains(&code)) =>
            {
                self.give_back(GIVE_BACK);
                open()
            }
            outcome => outcome,
        }
    }

    fn register(&self, shared: &Arc<Shared>, path: &Path) {
        let mut state = self.state.lock();
        state.ring.push_back(Arc::downgrade(shared));
        state.by_path.entry(path.to_owned()).or_default().push(Arc::downgrade(shared));
    }

    fn handles(&self, path: &Path) -> Vec<Arc<Shared>> {
        let state = self.state.lock();
        state.by_path.get(path).into_iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// Forgets the handle of a file that nobody holds any more.
    fn forget(&self, shared: &Arc<Shared>) {
        let mut state = self.state.lock();
        let path = shared.path.read().clone();
        if let Some(handles) = state.by_path.get_mut(&path) {
            handles.retain(|handle| !std::ptr::eq(handle.as_ptr(), Arc::as_ptr(shared)));
            if handles.is_empty() {
                state.by_path.remove(&path);
            }
        }
        if shared.file.read().is_some() {
            // Most handles live for a moment only: the one that is dropped is near the end.
            let found = state
                .ring
                .iter()
                .rposition(|entry| std::ptr::eq(entry.as_ptr(), Arc::as_ptr(shared)));
            if let Some(index) = found {
                state.ring.remove(index);
            }
        }
    }

    fn make_room(&self) {
        let open = self.state.lock().ring.len();
        if open >= self.max {
            self.give_back(open + 1 - self.max);
        }
    }

    /// Gives descriptors back: of files that were not used since they were looked at last, and have
    /// nothing that was not synced; when there are none, after a sync.
    fn give_back(&self, count: usize) {
        let mut left = count;
        let rounds = 2 * self.state.lock().ring.len();
        for _ in 0..rounds {
            if left == 0 {
                return;
            }
            left -= usize::from(self.try_next(Shared::try_close));
        }
        for _ in 0..rounds {
            if left == 0 {
                return;
            }
            left -= usize::from(self.try_next(Shared::try_sync_and_close));
        }
    }

    /// Looks at the file that was not looked at for the longest time; answers whether it was closed.
    fn try_next(&self, close: impl Fn(&Shared) -> bool) -> bool {
        let Some(next) = self.state.lock().ring.pop_front() else { return false };
        let Some(shared) = next.upgrade() else { return false };
        if close(&shared) {
            return true;
        }
        self.state.lock().ring.push_back(next);
        false
    }
}

impl Shared {
    /// Runs `with` on the file, which is opened when it is not.
    fn with<T>(
        self: &Arc<Self>,
        pool: &Pool,
        with: impl FnOnce(&dyn File) -> io::Result<T>,
    ) -> io::Result<T> {
        if !self.was_used.load(Ordering::Relaxed) {
            self.was_used.store(true, Ordering::Relaxed);
        }
        if let Some(file) = &*self.file.read() {
            return with(&**file);
        }
        let file = self.open_again(pool)?;
        with(&*file)
    }

    fn open_again(self: &Arc<Self>, pool: &Pool) -> io::Result<Arc<dyn File>> {
        pool.with_descriptor(|| {
            let mut slot = self.file.write();
            if let Some(file) = &*slot {
                return Ok(Arc::clone(file));
            }
            let path = self.path.read();
            let open = if self.is_writable { Storage::open } else { Storage::open_read_only };
            let file = open(&*self.inner, &path)?;
            *slot = Some(Arc::clone(&file));
            drop((slot, path));
            pool.state.lock().ring.push_back(Arc::downgrade(self));
            Ok(file)
        })
    }

    fn is_clean(&self) -> bool {
        self.begun.load(Ordering::Acquire) == self.synced.load(Ordering::Acquire)
    }

    fn try_close(&self) -> bool {
        if self.was_used.swap(false, Ordering::Relaxed) {
            return false;
        }
        self.close_if_clean()
    }

    /// Whoever reads or writes it now holds the lock: a busy file is not waited for.
    fn close_if_clean(&self) -> bool {
        let Some(mut slot) = self.file.try_write() else { return false };
        if self.is_pinned.load(Ordering::Acquire) || !self.is_clean() {
            return false;
        }
        let closed = slot.take();
        drop(slot);
        drop(closed);
        true
    }

    fn try_sync_and_close(&self) -> bool {
        if self.is_pinned.load(Ordering::Acquire) || self.has_failed.load(Ordering::Acquire) {
            return false;
        }
        let file = self.file.read().clone();
        if let Some(file) = file
            && let Err(error) = self.sync_open(&*file)
        {
            tracing::error!(path = %self.path.read().display(), %error, "a file could not be synced");
            self.has_failed.store(true, Ordering::Release);
            return false;
        }
        self.close_if_clean()
    }

    fn sync_open(&self, file: &dyn File) -> io::Result<()> {
        // Must be read BEFORE the sync, or else it would seem to cover what was written meanwhile.
        let covered = self.ended.load(Ordering::Acquire);
        file.sync()?;
        self.synced.fetch_max(covered, Ordering::AcqRel);
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        if self.has_failed.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier sync failed"));
        }
        Ok(())
    }

    /// Changes the file: until it is synced its descriptor stays.
    fn change(
        self: &Arc<Self>,
        pool: &Pool,
        change: impl FnOnce(&dyn File) -> io::Result<()>,
    ) -> io::Result<()> {
        self.check()?;
        // Must be BEFORE the file is taken, or else it could be closed under the write.
        self.begun.fetch_add(1, Ordering::AcqRel);
        let changed = self.with(pool, change);
        self.ended.fetch_add(1, Ordering::AcqRel);
        changed
    }
}

impl File for PooledFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.shared.with(&self.pool, |file| file.read_at(buffer, position))
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.shared.change(&self.pool, |file| file.write_all_at(bytes, position))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.shared.change(&self.pool, |file| file.set_len(len))
    }

    fn sync(&self) -> io::Result<()> {
        self.shared.check()?;
        self.shared.with(&self.pool, |file| self.shared.sync_open(file))
    }

    fn len(&self) -> io::Result<u64> {
        self.shared.with(&self.pool, |file| file.len())
    }
}

impl Drop for PooledFile {
    fn drop(&mut self) {
        self.pool.forget(&self.shared);
    }
}

impl Storage for PooledStorage {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.with_descriptor(|| self.inner.list(dir))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.with_descriptor(|| self.inner.create(path))?;
        Ok(self.handle(path, file, true))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.with_descriptor(|| self.inner.open(path))?;
        Ok(self.handle(path, file, true))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.with_descriptor(|| self.inner.open_read_only(path))?;
        Ok(self.handle(path, file, false))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let moved = self.pin(from)?;
        self.pin(to)?;
        self.inner.rename(from, to)?;
        self.pool.rename(&moved, from, to);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let _held = self.pin(path)?;
        self.inner.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        for path in self.pool.paths_below(dir) {
            drop(self.pin(&path)?);
        }
        self.inner.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.with_descriptor(|| self.inner.sync_dir(dir))
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

impl Pool {
    /// The handles of a file follow it to its new name.
    fn rename(&self, handles: &[Arc<Shared>], from: &Path, to: &Path) {
        let mut state = self.state.lock();
        // Those that had the new name have none any more, and stay pinned.
        state.by_path.remove(to);
        if let Some(moved) = state.by_path.remove(from) {
            state.by_path.insert(to.to_owned(), moved);
        }
        for shared in handles {
            to.clone_into(&mut shared.path.write());
            shared.is_pinned.store(false, Ordering::Release);
        }
    }

    fn paths_below(&self, dir: &Path) -> Vec<PathBuf> {
        let state = self.state.lock();
        let below = state.by_path.iter().filter(|(path, _)| path.starts_with(dir));
        let mut paths: Vec<PathBuf> = below.map(|(path, _)| path.clone()).collect();
        paths.sort_unstable();
        paths
    }
}

#[cfg(test)]
mod tests;
