//! One store partition on a bench: a flusher that the test controls, and the history of commits.
//!
//! What a store holds after a crash is exactly the rows of its checkpoint, whatever flushes did:
//! the checker compares every row of a store with the history at the store's own checkpoint.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::super::layout::KIND_ROW;
use super::super::{Backend, HeldFlushes, MemoryBackend, Visit};
use super::*;
use crate::ids::StoreName;

mod hazards;
mod limits;

const PARTITION: u32 = 3;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
type Change = Vec<(Bytes, Option<Bytes>)>;

fn checkpoint(commit: usize) -> Checkpoint {
    let offset = i64::try_from(commit * 10).expect("small");
    Checkpoint { log_id: [1; 16], topic_id: [2; 16], leader_epoch: 0, offset }
}

fn store(backend: &MemoryBackend) -> Arc<dyn ByteStore> {
    let name = StoreName::new("counts").expect("a good name");
    backend.open(&[name]).expect("opens").remove(0)
}

fn options(dirty_rows_max: usize) -> CacheOptions {
    CacheOptions { dirty_rows_max, clean_bytes_max: 1000, ..CacheOptions::default() }
}

fn put(key: &str, value: &str) -> (Bytes, Option<Bytes>) {
    let value = Bytes::copy_from_slice(value.as_bytes());
    (Bytes::copy_from_slice(format!("\x01{key}").as_bytes()), Some(value))
}

fn get(cache: &mut RowCache, key: &str) -> Option<String> {
    let value = cache.get(format!("\x01{key}").as_bytes()).expect("gets");
    value.map(|bytes| String::from_utf8(bytes.to_vec()).expect("text"))
}

fn rows_of(cache: &RowCache) -> Rows {
    let mut rows = Rows::new();
    let mut last = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        assert!(last.as_slice() < key, "a scan goes in key order, each key once");
        last = key.to_vec();
        rows.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    };
    cache.scan(&[KIND_ROW], &[0xff], &mut visit).expect("scans");
    rows
}

/// All commits so far, and the rows after each.
#[derive(Default)]
struct History {
    changes: Vec<Change>,
    states: Vec<Rows>,
}

impl History {
    fn new() -> Self {
        History { changes: Vec::new(), states: vec![Rows::new()] }
    }

    fn commits(&self) -> usize {
        self.changes.len()
    }

    fn latest(&self) -> &Rows {
        self.states.last().expect("starts with one")
    }

    /// The rows after one more change.
    fn with(&self, change: &Change) -> Rows {
        let mut rows = self.latest().clone();
        for (key, value) in change {
            match value {
                Some(value) => rows.insert(key.to_vec(), value.to_vec()),
                None => rows.remove(&key[..]),
            };
        }
        rows
    }

    fn add(&mut self, change: Change) -> usize {
        let rows = self.with(&change);
        self.changes.push(change);
        self.states.push(rows);
        self.commits()
    }

    /// The commit that the store reflects, if its rows are those of its checkpoint.
    fn check(&self, store: &Arc<dyn ByteStore>) -> Result<usize, String> {
        let cache = RowCache::open(Arc::clone(store), PARTITION, options(1), Flusher::inline());
        let offset = cache.checkpoint().expect("decodes").map_or(0, |found| found.offset);
        let commit = usize::try_from(offset / 10).expect("not negative");
        let expected = self.states.get(commit).ok_or(format!("checkpoint {offset} of nothing"))?;
        let found = rows_of(&cache);
        if &found == expected {
            Ok(commit)
        } else {
            Err(format!("at checkpoint {offset}: found {found:?}, expected {expected:?}"))
        }
    }
}

/// One store partition with a flusher that the test controls.
struct Bench {
    backend: MemoryBackend,
    held: HeldFlushes,
    cache: RowCache,
    history: History,
    /// Rows that are prepared and not decided.
    undecided: Change,
}

impl Bench {
    fn new(dirty_rows_max: usize) -> Self {
        let backend = MemoryBackend::new(7);
        let (flusher, held) = Flusher::held();
        let cache = RowCache::open(store(&backend), PARTITION, options(dirty_rows_max), flusher);
        Bench { backend, held, cache, history: History::new(), undecided: Change::new() }
    }

    fn commit(&mut self, change: Change) {
        self.prepare(change);
        self.decide();
    }

    /// Rows of a transaction on its way to its commit; those of the one before are decided by then.
    fn prepare(&mut self, change: Change) {
        for (number, (key, value)) in (0..).zip(change.clone()) {
            if number % 2 == 0 {
                self.cache.prepare(key, value);
            } else {
                self.cache.prepare_copy(&key, value.as_deref());
            }
        }
        self.undecided = change;
    }

    fn decide(&mut self) {
        let commit = self.history.add(mem::take(&mut self.undecided));
        self.cache.decided(Some(checkpoint(commit)), 0);
    }

    fn step(&mut self) {
        self.cache.step(0).expect("steps");
    }

    fn on_disk(&self) -> usize {
        self.history.check(&store(&self.backend)).expect("the rows of the checkpoint")
    }

    /// A new cache on what is on disk, with the tail of the changelog replayed: what was not decided is
    /// gone.
    fn restart(&mut self) {
        self.undecided.clear();
        let (flusher, held) = Flusher::held();
        // Replacing the old cache ends its flush, so what is on disk is read after that.
        self.cache = RowCache::open(store(&self.backend), PARTITION, self.cache.options, flusher);
        self.held = held;
        let on_disk = self.on_disk();
        for commit in on_disk + 1..=self.history.commits() {
            let change = self.history.changes[commit - 1].clone();
            self.cache.commit(change, checkpoint(commit), 0);
        }
    }
}
