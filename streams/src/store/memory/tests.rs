//! The suite of all back ends on the one in memory, and what only this one promises.

use super::super::conformance::{self, Crashable};
use super::*;

struct InMemory(MemoryBackend);

impl Crashable for InMemory {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(self.0.clone())
    }

    fn crash(&mut self) {
        self.0.crash();
    }
}

fn names() -> [StoreName; 2] {
    ["one", "two"].map(|name| StoreName::new(name).expect("a good name"))
}

fn row(n: u32) -> Vec<(Bytes, Option<Bytes>)> {
    let bytes = Bytes::copy_from_slice(&n.to_be_bytes());
    vec![(bytes.clone(), Some(bytes))]
}

fn count(store: &dyn ByteStore) -> usize {
    let mut rows = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        rows += 1;
        ControlFlow::Continue(())
    };
    store.scan(b"", &[0xff; 8], &mut visit).expect("scans");
    rows
}

#[test]
fn the_back_end_in_memory_conforms() {
    conformance::run(0..100, |seed| Box::new(InMemory(MemoryBackend::new(seed))));
}

/// Rows left in two stores after `batches` batches each and a crash.
fn left_after_crash(seed: u64, batches: u32) -> [usize; 2] {
    let backend = MemoryBackend::new(seed);
    let stores = backend.open(&names()).expect("opens");
    for n in 0..batches {
        stores[0].write(&row(n)).expect("writes");
        stores[1].write(&row(n)).expect("writes");
    }
    backend.crash();
    let stores = backend.open(&names()).expect("opens");
    [count(&*stores[0]), count(&*stores[1])]
}

#[test]
fn crashes_lose_some_and_keep_some_and_each_store_its_own() {
    let left: Vec<[usize; 2]> = (0..50).map(|seed| left_after_crash(seed, 10)).collect();
    assert!(left.iter().any(|left| left[0] < 10), "something is lost");
    assert!(left.iter().any(|left| left[0] > 0), "something is kept");
    assert!(left.iter().any(|left| left[0] != left[1]), "stores flush apart from each other");
}

#[test]
fn the_same_seed_leaves_the_same_rows() {
    for seed in 0..20 {
        assert_eq!(left_after_crash(seed, 30), left_after_crash(seed, 30));
    }
}

#[test]
fn only_the_last_batches_can_be_lost() {
    for seed in 0..50 {
        let left = left_after_crash(seed, 200);
        assert!(left.iter().all(|&left| left >= 200 - BATCHES_PENDING_MAX), "{left:?}");
    }
}

#[test]
fn a_handle_from_before_a_crash_is_dead() {
    let backend = MemoryBackend::new(0);
    let old = backend.open(&names()).expect("opens");
    backend.crash();
    let new = backend.open(&names()).expect("opens");
    assert!(matches!(old[0].write(&row(1)), Err(StoreError::Backend { operation: "write", .. })));
    assert!(old[0].get(b"a").is_err());
    assert!(old[0].sync().is_err());
    assert_eq!(count(&*new[0]), 0);
}
