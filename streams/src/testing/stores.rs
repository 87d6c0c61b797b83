//! Where a driver keeps its stores: in memory, or in a RocksDB that can be killed.
//!
//! Why both: memory is quick and crashes in more ways; RocksDB is what production runs on.
//!
//! ```text
//!   dir/driver-PID-N/0 --kill--> dir/driver-PID-N/1 --kill--> ..     each an image of the one before
//! ```
//!
//! Invariants
//! * whether a store's memtable had been written before a kill is the seed's choice, store by store.
//! * a directory is removed when nothing can use it any more: two kills later, or with the driver.
//!
//! On crash: `crash` is one.

use std::sync::Arc;

#[cfg(feature = "rocksdb")]
use super::random::Random;
use crate::error::Result;
use crate::ids::StoreName;
use crate::store::{Backend, ByteStore, MemoryBackend};

/// The stores of a driver.
pub(super) struct Stores {
    seed: u64,
    place: Place,
}

enum Place {
    Memory(MemoryBackend),
    #[cfg(feature = "rocksdb")]
    Disk(disk::Disk),
}

impl Stores {
    pub(super) fn in_memory(seed: u64) -> Self {
        Self { seed, place: Place::Memory(MemoryBackend::new(seed)) }
    }

    /// The seed decides what crashes leave; said before anything is open.
    pub(super) fn reseed(&mut self, seed: u64) {
        self.seed = seed;
        match &mut self.place {
            Place::Memory(backend) => *backend = MemoryBackend::new(seed),
            #[cfg(feature = "rocksdb")]
            Place::Disk(disk) => disk.random = Random::new(seed),
        }
    }

    /// From now on in a new RocksDB below this directory.
    #[cfg(feature = "rocksdb")]
    pub(super) fn move_to_disk(&mut self, dir: &std::path::Path) -> Result<()> {
        self.place = Place::Disk(disk::Disk::new(dir, Random::new(self.seed))?);
        Ok(())
    }

    pub(super) fn open(&mut self, names: &[StoreName]) -> Result<Vec<Arc<dyn ByteStore>>> {
        Ok(match &mut self.place {
            Place::Memory(backend) => backend.open(names)?,
            #[cfg(feature = "rocksdb")]
            Place::Disk(disk) => disk.open(names)?,
        })
    }

    /// The process is gone.
    pub(super) fn crash(&mut self) -> Result<()> {
        match &mut self.place {
            Place::Memory(backend) => backend.crash(),
            #[cfg(feature = "rocksdb")]
            Place::Disk(disk) => disk.crash()?,
        }
        Ok(())
    }
}

#[cfg(feature = "rocksdb")]
mod disk {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Random;
    use crate::error::Result;
    use crate::ids::StoreName;
    use crate::store::{Backend, ByteStore, RocksBackend, RocksBudget, StoreError, killed};

    /// Drivers of this process that had a directory.
    static DRIVERS: AtomicU64 = AtomicU64::new(0);

    /// A test has little data.
    const BUDGET: RocksBudget =
        RocksBudget { block_cache_bytes: 1024 * 1024, write_buffer_bytes: 1024 * 1024 };

    /// A RocksDB, and what is left of the ones before it.
    pub(super) struct Disk {
        kills: u64,
        pub(super) random: Random,
        /// Those that were opened since the last kill.
        opened: BTreeMap<StoreName, Arc<dyn ByteStore>>,
        backend: RocksBackend,
        // Must be dropped AFTER the database, which writes its memtables when it is closed, and waits a
        // second when it cannot.
        dir: OwnDir,
    }

    /// Removed when it is dropped.
    struct OwnDir(PathBuf);

    impl Disk {
        pub(super) fn new(dir: &Path, random: Random) -> Result<Self> {
            let number = DRIVERS.fetch_add(1, Ordering::Relaxed);
            let dir = dir.join(format!("driver-{}-{number}", std::process::id()));
            // What an earlier process of this id left.
            remove(&dir);
            let backend = RocksBackend::open(&dir.join("0"), &BUDGET)?;
            Ok(Self { kills: 0, random, opened: BTreeMap::new(), backend, dir: OwnDir(dir) })
        }

        pub(super) fn open(&mut self, names: &[StoreName]) -> Result<Vec<Arc<dyn ByteStore>>> {
            let stores = self.backend.open(names)?;
            for store in &stores {
                self.opened.insert(store.name().clone(), Arc::clone(store));
            }
            Ok(stores)
        }

        /// Leaves what a kill would leave, and goes on with that.
        pub(super) fn crash(&mut self) -> Result<()> {
            for store in std::mem::take(&mut self.opened).into_values() {
                if self.random.below(2) == 0 {
                    store.sync()?;
                }
            }
            let old = self.dir.0.join(self.kills.to_string());
            let new = self.dir.0.join((self.kills + 1).to_string());
            killed::image(&old, &new).map_err(|source| StoreError::Io {
                operation: "copy",
                path: old,
                source,
            })?;
            self.backend = RocksBackend::open(&new, &BUDGET)?;
            if let Some(unused) = self.kills.checked_sub(1) {
                remove(&self.dir.0.join(unused.to_string()));
            }
            self.kills += 1;
            Ok(())
        }
    }

    impl Drop for OwnDir {
        fn drop(&mut self) {
            remove(&self.0);
        }
    }

    /// What cannot be removed is left to whoever clears the directory that the test named.
    fn remove(dir: &Path) {
        drop(std::fs::remove_dir_all(dir));
    }
}
