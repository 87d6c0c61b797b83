//! A back end in memory that loses in a crash what a disk would lose.
//!
//! Why: the simulator must meet the crashes that a memtable makes possible. Each store keeps what
//! it serves and, behind it, what a crash leaves: a prefix of its batches that catches up now and
//! then, at moments that the seed chooses, each store by itself.
//!
//! ```text
//!   live       all batches            get, scan
//!   pending    the last few batches   at most BATCHES_PENDING_MAX, as a full memtable flushes itself
//!   durable    the batches before     what crash() leaves, after it took some of `pending`
//! ```
//!
//! Invariants
//! * durable + pending = live.
//! * a handle from before a crash can neither read nor write any more: nothing outlives it.
//!
//! On crash: `crash()` is one.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Backend, ByteStore, StoreError, Visit};
use crate::ids::StoreName;

/// How many batches may wait before the oldest become durable by themselves.
const BATCHES_PENDING_MAX: usize = 16;

type Rows = BTreeMap<Bytes, Bytes>;

/// Stores in memory. Clones share their rows.
#[derive(Clone)]
pub(crate) struct MemoryBackend {
    stores: Arc<Mutex<Stores>>,
}

struct Stores {
    random: Random,
    images: BTreeMap<StoreName, Arc<Mutex<Image>>>,
}

/// splitmix64: a number decides all the rest.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `most`.
    fn up_to(&mut self, most: usize) -> usize {
        let choices = u64::try_from(most).map_or(u64::MAX, |n| n.saturating_add(1));
        usize::try_from(self.next() % choices).unwrap_or(most)
    }
}

enum Change {
    Write(Vec<(Bytes, Option<Bytes>)>),
    Clear(Bytes, Bytes),
}

impl Change {
    fn apply(&self, rows: &mut Rows) {
        match self {
            Change::Write(batch) => {
                for (key, value) in batch {
                    match value {
                        Some(value) => rows.insert(key.clone(), value.clone()),
                        None => rows.remove(key),
                    };
                }
            }
            Change::Clear(from, to) => rows.retain(|key, _| key < from || key >= to),
        }
    }
}

struct Image {
    /// How many crashes there have been; handles know theirs.
    generation: u64,
    random: Random,
    live: Rows,
    durable: Rows,
    pending: VecDeque<Change>,
}

impl Image {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push_back(change);
        if self.pending.len() > BATCHES_PENDING_MAX || self.random.up_to(3) == 0 {
            self.persist_some();
        }
    }

    fn persist_some(&mut self) {
        let count = self.random.up_to(self.pending.len());
        self.persist(count);
        let excess = self.pending.len().saturating_sub(BATCHES_PENDING_MAX);
        self.persist(excess);
    }

    fn persist(&mut self, count: usize) {
        for change in self.pending.drain(..count) {
            change.apply(&mut self.durable);
        }
    }

    fn crash(&mut self) {
        self.persist_some();
        self.pending.clear();
        self.live = self.durable.clone();
        self.generation += 1;
    }
}

impl MemoryBackend {
    /// No stores yet; the seed decides what crashes will leave.
    #[must_use]
    pub(crate) fn new(seed: u64) -> Self {
        let stores = Stores { random: Random(seed), images: BTreeMap::new() };
        MemoryBackend { stores: Arc::new(Mutex::new(stores)) }
    }

    /// Takes every store back to what a crash leaves. Handles opened before fail from now on.
    pub(crate) fn crash(&self) {
        for image in self.stores.lock().images.values() {
            image.lock().crash();
        }
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.stores.lock().images.keys()).finish()
    }
}

impl Backend for MemoryBackend {
    fn open(&self, names: &[StoreName]) -> Result<Vec<Arc<dyn ByteStore>>, StoreError> {
        let mut stores = self.stores.lock();
        let mut opened: Vec<Arc<dyn ByteStore>> = Vec::with_capacity(names.len());
        for name in names {
            let Stores { random, images } = &mut *stores;
            let image = images.entry(name.clone()).or_insert_with(|| {
                Arc::new(Mutex::new(Image {
                    generation: 0,
                    random: Random(random.next()),
                    live: Rows::new(),
                    durable: Rows::new(),
                    pending: VecDeque::new(),
                }))
            });
            let generation = image.lock().generation;
            let image = Arc::clone(image);
            opened.push(Arc::new(MemoryStore { name: name.clone(), image, generation }));
        }
        Ok(opened)
    }
}

struct MemoryStore {
    name: StoreName,
    image: Arc<Mutex<Image>>,
    generation: u64,
}

impl MemoryStore {
    fn image(
        &self,
        operation: &'static str,
    ) -> Result<parking_lot::MutexGuard<'_, Image>, StoreError> {
        let image = self.image.lock();
        if image.generation == self.generation {
            return Ok(image);
        }
        let reason = "the store was opened before a crash".to_owned();
        Err(StoreError::Backend { store: self.name.clone(), operation, reason })
    }
}

impl ByteStore for MemoryStore {
    fn name(&self) -> &StoreName {
        &self.name
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.image("get")?.live.get(key).map(|value| value.to_vec()))
    }

    fn get_durable(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.image("get")?.durable.get(key).map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let image = self.image("scan")?;
        if from >= to {
            return Ok(());
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        for (key, value) in image.live.range::<[u8], _>(bounds) {
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn scan_back(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let image = self.image("scan")?;
        if from >= to {
            return Ok(());
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        for (key, value) in image.live.range::<[u8], _>(bounds).rev() {
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, rows: &[(Bytes, Option<Bytes>)]) -> Result<(), StoreError> {
        self.image("write")?.change(Change::Write(rows.to_vec()));
        Ok(())
    }

    fn clear(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError> {
        let (from, to) = (Bytes::copy_from_slice(from), Bytes::copy_from_slice(to));
        self.image("clear")?.change(Change::Clear(from, to));
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut image = self.image("sync")?;
        let all = image.pending.len();
        image.persist(all);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
