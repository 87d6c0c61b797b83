//! What a store holds after a crash is exactly the rows of its checkpoint, whatever flushes did.
//!
//! The checker compares every row of a store with the history of commits at the store's own
//! checkpoint. Three broken ways to flush show that it can fail.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::layout::KIND_ROW;
use super::super::{Backend, HeldFlushes, MemoryBackend};
use super::*;
use crate::ids::StoreName;

const PARTITION: u32 = 3;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
type Change = Vec<(Bytes, Option<Bytes>)>;

fn checkpoint(commit: usize) -> Checkpoint {
    let offset = i64::try_from(commit * 10).expect("small");
    Checkpoint {
        log_id: [1; 16],
        topic_id: [2; 16],
        leader_epoch: 0,
        offset,
    }
}

fn store(backend: &MemoryBackend) -> Arc<dyn ByteStore> {
    let name = StoreName::new("counts").expect("a good name");
    backend.open(&[name]).expect("opens").remove(0)
}

fn options(dirty_rows_max: usize) -> CacheOptions {
    CacheOptions {
        dirty_rows_max,
        clean_bytes_max: 1000,
        ..CacheOptions::default()
    }
}

fn put(key: &str, value: &str) -> (Bytes, Option<Bytes>) {
    let value = Bytes::copy_from_slice(value.as_bytes());
    (
        Bytes::copy_from_slice(format!("\x01{key}").as_bytes()),
        Some(value),
    )
}

fn get(cache: &mut RowCache, key: &str) -> Option<String> {
    let value = cache.get(format!("\x01{key}").as_bytes()).expect("gets");
    value.map(|bytes| String::from_utf8(bytes.to_vec()).expect("text"))
}

fn rows_of(cache: &RowCache) -> Rows {
    let mut rows = Rows::new();
    let mut last = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        assert!(
            last.as_slice() < key,
            "a scan goes in key order, each key once"
        );
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
        History {
            changes: Vec::new(),
            states: vec![Rows::new()],
        }
    }

    fn commits(&self) -> usize {
        self.changes.len()
    }

    fn latest(&self) -> &Rows {
        self.states.last().expect("starts with one")
    }

    fn add(&mut self, change: Change) -> usize {
        let mut rows = self.latest().clone();
        for (key, value) in &change {
            match value {
                Some(value) => rows.insert(key.to_vec(), value.to_vec()),
                None => rows.remove(&key[..]),
            };
        }
        self.changes.push(change);
        self.states.push(rows);
        self.commits()
    }

    /// The commit that the store reflects, if its rows are those of its checkpoint.
    fn check(&self, store: &Arc<dyn ByteStore>) -> Result<usize, String> {
        let cache = RowCache::open(Arc::clone(store), PARTITION, options(1), Flusher::inline());
        let offset = cache
            .checkpoint()
            .expect("decodes")
            .map_or(0, |found| found.offset);
        let commit = usize::try_from(offset / 10).expect("not negative");
        let expected = self
            .states
            .get(commit)
            .ok_or(format!("checkpoint {offset} of nothing"))?;
        let found = rows_of(&cache);
        if &found == expected {
            Ok(commit)
        } else {
            Err(format!(
                "at checkpoint {offset}: found {found:?}, expected {expected:?}"
            ))
        }
    }
}

/// One store partition with a flusher that the test controls.
struct Bench {
    backend: MemoryBackend,
    held: HeldFlushes,
    cache: RowCache,
    history: History,
}

impl Bench {
    fn new(dirty_rows_max: usize) -> Self {
        let backend = MemoryBackend::new(7);
        let (flusher, held) = Flusher::held();
        let cache = RowCache::open(store(&backend), PARTITION, options(dirty_rows_max), flusher);
        Bench {
            backend,
            held,
            cache,
            history: History::new(),
        }
    }

    fn commit(&mut self, change: Change) {
        let commit = self.history.add(change.clone());
        self.cache.commit(change, checkpoint(commit), 0);
    }

    fn step(&mut self) {
        self.cache.step(0).expect("steps");
    }

    fn on_disk(&self) -> usize {
        self.history
            .check(&store(&self.backend))
            .expect("the rows of the checkpoint")
    }

    /// A new cache on what is on disk, with the tail of the changelog replayed.
    fn restart(&mut self) {
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

#[test]
fn hazard_11_two_flushes_of_one_store_never_overlap() {
    let mut bench = Bench::new(1);
    bench.commit(vec![put("k", "1")]);
    bench.step();
    bench.commit(vec![put("k", "2")]);
    bench.cache.step(i64::MAX).expect("steps");
    assert_eq!(bench.held.count(), 1, "the second waits for the first");
    assert_eq!(bench.on_disk(), 0);
    assert!(bench.held.run_next());
    assert_eq!(bench.on_disk(), 1);
    bench.step();
    assert_eq!(bench.held.count(), 1);
    assert!(bench.held.run_next());
    bench.step();
    assert_eq!(bench.on_disk(), 2);
}

#[test]
fn hazard_11_a_flush_ends_before_the_next_cache_of_its_store_begins() {
    let mut bench = Bench::new(1);
    bench.commit(vec![put("k", "1")]);
    bench.step();
    bench.commit(vec![put("k", "2")]);
    let old = bench.held.clone();
    let (flusher, held) = Flusher::held();
    bench.cache = RowCache::open(store(&bench.backend), PARTITION, options(1), flusher);
    assert_eq!(
        old.count(),
        0,
        "nothing is left that could overwrite newer rows"
    );
    assert_eq!(bench.on_disk(), 1);
    bench
        .cache
        .commit(bench.history.changes[1].clone(), checkpoint(2), 0);
    bench.step();
    while held.run_next() || old.run_next() {}
    assert_eq!(bench.on_disk(), 2);
}

#[test]
fn hazard_11_a_flush_ends_before_its_store_is_cleared() {
    let mut bench = Bench::new(1);
    bench.commit(vec![put("k", "1")]);
    bench.step();
    bench.cache.clear().expect("clears");
    assert_eq!(bench.held.count(), 0);
    assert_eq!(bench.cache.checkpoint().expect("reads"), None);
    assert_eq!(get(&mut bench.cache, "k"), None);
    assert_eq!(bench.on_disk(), 0);
}

#[test]
fn hazard_12_a_flush_carries_the_checkpoint_of_its_own_commit() {
    let mut bench = Bench::new(1);
    bench.commit(vec![put("a", "1")]);
    bench.step();
    // The changelog goes on while the flush runs; its end is not what the flush reaches.
    bench.commit(vec![put("b", "2")]);
    assert!(bench.held.run_next());
    assert_eq!(
        bench.cache.checkpoint().expect("reads"),
        Some(checkpoint(1))
    );
    assert_eq!(bench.on_disk(), 1);
}

#[test]
fn hazard_12_rows_and_checkpoint_are_one_write_whatever_a_crash_keeps() {
    for seed in 0..100 {
        let backend = MemoryBackend::new(seed);
        let mut history = History::new();
        let mut cache = RowCache::open(store(&backend), PARTITION, options(2), Flusher::inline());
        for number in 0..20 {
            let change = vec![put("a", &number.to_string()), put(&number.to_string(), "x")];
            let commit = history.add(change.clone());
            cache.commit(change, checkpoint(commit), 0);
            cache.step(0).expect("steps");
        }
        drop(cache);
        backend.crash();
        history
            .check(&store(&backend))
            .expect("the rows of the checkpoint");
    }
}

#[test]
fn hazard_13_a_row_that_the_next_commit_changes_is_flushed_as_it_was() {
    let mut bench = Bench::new(1);
    bench.commit(vec![put("hot", "1"), put("cold", "1")]);
    bench.step();
    bench.commit(vec![put("hot", "2")]);
    assert_eq!(
        get(&mut bench.cache, "hot").as_deref(),
        Some("2"),
        "dirty over flushing"
    );
    assert!(bench.held.run_next());
    assert_eq!(
        bench.on_disk(),
        1,
        "the flush has the row of its own commit"
    );
    bench.cache.step(-1).expect("steps");
    assert_eq!(
        bench.cache.dirty_rows(),
        1,
        "the row is dirty again, in the next flush"
    );
    assert!(bench.held.run_next());
    assert_eq!(bench.on_disk(), 2);
    assert_eq!(get(&mut bench.cache, "cold").as_deref(), Some("1"));
}

/// Flushes are run in the wrong order, with the log's end, or before their commit.
#[test]
fn the_checker_catches_each_broken_flush() {
    let mut history = History::new();
    history.add(vec![put("k", "1")]);
    history.add(vec![put("k", "2"), put("m", "2")]);
    let flush = |store: &Arc<dyn ByteStore>, change: &Change, checkpoint: Checkpoint| {
        let mut level = Level::default();
        for (key, value) in change {
            level.put(key.clone(), value.clone());
        }
        store
            .write(&level.to_batch(PARTITION, &checkpoint))
            .expect("writes");
    };
    let fresh = || store(&MemoryBackend::new(0));

    let right = fresh();
    flush(&right, &history.changes[0], checkpoint(1));
    assert_eq!(history.check(&right), Ok(1));
    flush(&right, &history.changes[1], checkpoint(2));
    assert_eq!(history.check(&right), Ok(2));

    let overlapping = fresh();
    flush(&overlapping, &history.changes[1], checkpoint(2));
    flush(&overlapping, &history.changes[0], checkpoint(1));
    assert!(
        history.check(&overlapping).is_err(),
        "an older flush that ends later"
    );

    let log_end = fresh();
    flush(&log_end, &history.changes[0], checkpoint(2));
    assert!(
        history.check(&log_end).is_err(),
        "a checkpoint taken from the end of the log"
    );

    let undecided = fresh();
    flush(&undecided, &history.changes[0], checkpoint(1));
    flush(&undecided, &history.changes[1], checkpoint(1));
    assert!(
        history.check(&undecided).is_err(),
        "rows of a commit that is not decided"
    );
}

#[test]
fn step_waits_for_the_flush_only_when_twice_the_limit_is_waiting() {
    let mut bench = Bench::new(4);
    for key in ["a", "b", "c", "d"] {
        bench.commit(vec![put(key, "1")]);
    }
    bench.step();
    for key in 0..7 {
        bench.commit(vec![put(&key.to_string(), "2")]);
        bench.step();
    }
    assert_eq!(bench.on_disk(), 0, "seven more rows: nobody waited");
    assert_eq!(bench.held.count(), 1);
    bench.commit(vec![put("7", "2")]);
    bench.step();
    assert_eq!(
        bench.on_disk(),
        4,
        "eight: the step waited for the first flush"
    );
    assert_eq!(bench.held.count(), 1, "and started the second");
    assert_eq!(bench.cache.dirty_rows(), 8);
}

#[test]
fn a_flush_starts_when_rows_bytes_or_time_say_so() {
    let limits = CacheOptions {
        dirty_bytes_max: 1000,
        flush_every_ms: 50,
        ..options(3)
    };
    let started = |change: Change, committed_ms: i64, now_ms: i64| {
        let (flusher, held) = Flusher::held();
        let backend = MemoryBackend::new(0);
        let mut cache = RowCache::open(store(&backend), PARTITION, limits, flusher);
        cache.commit(change, checkpoint(1), committed_ms);
        cache.step(now_ms).expect("steps");
        held.count() == 1
    };
    let one = || vec![put("a", "1")];
    assert!(!started(one(), 0, 49));
    assert!(started(one(), 0, 50), "time");
    assert!(
        started(vec![put("a", "1"), put("b", "1"), put("c", "1")], 0, 0),
        "rows"
    );
    assert!(started(vec![put("a", &"x".repeat(1000))], 0, 0), "bytes");
    assert!(started(one(), i64::MIN, i64::MAX), "the ends of time");
    assert!(!started(one(), 1_000_000, 0), "a clock that was set back");
    assert!(
        started(Vec::new(), 0, 50),
        "a checkpoint without rows moves too"
    );
}

#[test]
fn a_clock_set_back_does_not_hold_back_the_flush() {
    let mut bench = Bench::new(1000);
    bench
        .cache
        .commit(vec![put("a", "1")], checkpoint(1), 1_000_000);
    bench.cache.step(0).expect("steps");
    bench.cache.step(29_999).expect("steps");
    assert_eq!(bench.held.count(), 0);
    bench.cache.step(30_000).expect("steps");
    assert_eq!(bench.held.count(), 1);
}

#[test]
fn a_commit_that_changes_nothing_starts_no_flush() {
    let mut bench = Bench::new(1);
    bench.commit(vec![put("a", "1")]);
    bench.cache.flush_all().expect("flushes");
    bench.cache.commit(Vec::new(), checkpoint(1), 0);
    bench.cache.step(i64::MAX).expect("steps");
    assert_eq!(bench.held.count(), 0);
}

#[test]
fn a_failed_flush_comes_back_at_the_next_step_and_loses_nothing() {
    let mut bench = Bench::new(1);
    bench.commit(vec![put("a", "1"), put("b", "1")]);
    bench.step();
    bench.commit(vec![put("b", "2")]);
    assert!(bench.held.lose_next());
    let error = bench.cache.step(0).expect_err("the flush was lost");
    assert!(
        matches!(
            error,
            StoreError::Backend {
                operation: "flush",
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(bench.cache.dirty_rows(), 2);
    assert_eq!(get(&mut bench.cache, "a").as_deref(), Some("1"));
    assert_eq!(
        get(&mut bench.cache, "b").as_deref(),
        Some("2"),
        "the newer row stays on top"
    );
    assert_eq!(bench.on_disk(), 0);
    bench.cache.flush_all().expect("the second try");
    assert_eq!(bench.on_disk(), 2);
}

#[test]
fn a_clean_stop_leaves_everything_durable() {
    let mut bench = Bench::new(2);
    for number in 0..5 {
        bench.commit(vec![put(&number.to_string(), "1")]);
        bench.step();
    }
    bench.cache.flush_all().expect("flushes");
    assert_eq!(bench.cache.dirty_rows(), 0);
    bench.backend.crash();
    assert_eq!(bench.on_disk(), 5);
}

#[test]
fn a_checkpoint_that_does_not_decode_is_named() {
    let backend = MemoryBackend::new(0);
    let store = store(&backend);
    let key = Bytes::from_static(b"\0\0\0\x03\0");
    store
        .write(&[(key, Some(Bytes::from_static(b"other")))])
        .expect("writes");
    let cache = RowCache::open(store, PARTITION, options(1), Flusher::inline());
    let error = cache
        .checkpoint()
        .expect_err("five bytes are not a checkpoint");
    let text = error.to_string();
    assert_eq!(
        text,
        "store `counts` is damaged: the checkpoint of partition 3 does not decode"
    );
}

#[test]
fn partitions_of_one_store_do_not_see_each_other() {
    let backend = MemoryBackend::new(0);
    let open =
        |partition| RowCache::open(store(&backend), partition, options(1), Flusher::inline());
    let mut caches = [open(0), open(1), open(u32::MAX)];
    for (number, cache) in caches.iter_mut().enumerate() {
        let value = number.to_string();
        cache.commit(
            vec![put("k", &value), put(&value, "own")],
            checkpoint(number + 1),
            0,
        );
        cache.flush_all().expect("flushes");
    }
    caches[1].clear().expect("clears");
    assert_eq!(rows_of(&caches[1]), Rows::new());
    assert_eq!(rows_of(&caches[0]).len(), 2);
    assert_eq!(rows_of(&caches[2]).len(), 2);
    assert_eq!(get(&mut caches[2], "k").as_deref(), Some("2"));
    assert_eq!(caches[2].checkpoint().expect("reads"), Some(checkpoint(3)));
}

#[test]
fn a_scan_stops_when_its_visitor_does() {
    let mut bench = Bench::new(2);
    bench.commit(vec![put("a", "1"), put("c", "1"), put("e", "1")]);
    bench.cache.flush_all().expect("flushes");
    bench.commit(vec![put("b", "2"), put("d", "2"), put("f", "2")]);
    for stop in 1..=6 {
        let mut seen = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            seen.push(key[1]);
            if seen.len() == stop {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        bench
            .cache
            .scan(b"\x01", b"\x02", &mut visit)
            .expect("scans");
        assert_eq!(seen, b"abcdef"[..stop]);
    }
}

#[test]
fn memory_stays_within_the_options() {
    let limits = CacheOptions {
        dirty_bytes_max: 40_000,
        clean_bytes_max: 20_000,
        dirty_rows_max: 1_000_000,
        flush_every_ms: 30_000,
    };
    let backend = MemoryBackend::new(0);
    let flusher = Flusher::thread().expect("a thread");
    let mut cache = RowCache::open(store(&backend), PARTITION, limits, flusher);
    for number in 0..20_000usize {
        let key = (number * 7919 % 5_000).to_string();
        if number % 3 == 0 {
            get(&mut cache, &key);
        }
        cache.commit(vec![put(&key, "value")], checkpoint(number), 0);
        cache.step(0).expect("steps");
        // Twice the limit waiting, as much again being flushed, and the clean rows.
        assert!(cache.bytes() <= 4 * 40_000 + 20_000 + 1_000, "{cache:?}");
    }
}

#[test]
fn a_flusher_ends_after_its_last_flush() {
    let backend = MemoryBackend::new(0);
    let flusher = Flusher::thread().expect("a thread");
    let names: Vec<_> = (0..200)
        .map(|n| StoreName::new(&format!("s{n}")).expect("a good name"))
        .collect();
    let stores = backend.open(&names).expect("opens");
    let mut caches: Vec<_> = stores
        .iter()
        .map(|store| RowCache::open(Arc::clone(store), 0, options(1), flusher.clone()))
        .collect();
    for cache in &mut caches {
        cache.commit(vec![put("k", "1")], checkpoint(1), 0);
        cache.step(0).expect("steps");
    }
    drop((caches, flusher));
    for store in &stores {
        assert!(store.get(b"\0\0\0\0\x01k").expect("gets").is_some());
    }
}

/// A store whose writes panic.
struct Panicking(StoreName);

impl ByteStore for Panicking {
    fn name(&self) -> &StoreName {
        &self.0
    }

    fn get(&self, _key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }

    fn scan(&self, _from: &[u8], _to: &[u8], _visit: &mut Visit<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    fn write(&self, _rows: &[(Bytes, Option<Bytes>)]) -> Result<(), StoreError> {
        panic!("the test's own panic");
    }

    fn clear(&self, _from: &[u8], _to: &[u8]) -> Result<(), StoreError> {
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[test]
fn a_panic_in_the_flush_thread_is_an_error_and_never_a_wait_without_end() {
    let flusher = Flusher::thread().expect("a thread");
    let name = StoreName::new("panics").expect("a good name");
    let mut cache = RowCache::open(Arc::new(Panicking(name)), 0, options(1), flusher);
    cache.commit(vec![put("k", "1")], checkpoint(1), 0);
    for _attempt in 0..3 {
        let error = cache.flush_all().expect_err("no flush can succeed");
        assert!(
            matches!(
                error,
                StoreError::Backend {
                    operation: "flush",
                    ..
                }
            ),
            "{error:?}"
        );
        assert_eq!(cache.dirty_rows(), 1);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Commit(Vec<(u8, Option<u8>)>),
    Step,
    RunFlush,
    LoseFlush,
    FlushAll,
    Crash { is_drop_first: bool },
    Restart,
    Rebuild,
}

fn op() -> impl Strategy<Value = Op> {
    let row = (0u8..24, prop::option::weighted(0.7, any::<u8>()));
    prop_oneof![
        8 => prop::collection::vec(row, 0..6).prop_map(Op::Commit),
        8 => Just(Op::Step),
        4 => Just(Op::RunFlush),
        1 => Just(Op::LoseFlush),
        1 => Just(Op::FlushAll),
        1 => any::<bool>().prop_map(|is_drop_first| Op::Crash { is_drop_first }),
        1 => Just(Op::Restart),
        1 => Just(Op::Rebuild),
    ]
}

/// Even numbers are rows, odd ones rows of the time index: both ways of holding them are mixed.
fn model_key(number: u8) -> Bytes {
    let kind = KIND_ROW + number % 2;
    Bytes::copy_from_slice(&[kind, number / 2])
}

impl Bench {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Commit(rows) => {
                let rows: BTreeMap<_, _> = rows.into_iter().collect();
                let row = |(key, value): (u8, Option<u8>)| {
                    (
                        model_key(key),
                        value.map(|byte| Bytes::copy_from_slice(&[byte])),
                    )
                };
                self.commit(rows.into_iter().map(row).collect());
            }
            Op::Step => {
                // A flush that was lost comes back here; its rows are dirty again.
                if self.cache.step(0).is_err() {
                    self.step();
                }
            }
            Op::RunFlush => {
                self.held.run_next();
            }
            Op::LoseFlush => {
                self.held.lose_next();
            }
            Op::FlushAll => {
                if self.cache.flush_all().is_err() {
                    self.cache.flush_all().expect("only one flush was lost");
                }
                assert_eq!(self.on_disk(), self.history.commits());
            }
            Op::Crash { is_drop_first } => {
                if is_drop_first {
                    self.restart();
                }
                self.backend.crash();
                self.restart();
            }
            Op::Restart => self.restart(),
            Op::Rebuild => {
                self.cache.clear().expect("clears");
                self.restart();
            }
        }
    }
}

proptest! {
    #[test]
    fn every_crash_leaves_the_rows_of_the_checkpoint(
        ops in prop::collection::vec(op(), 0..120), dirty_rows_max in 1usize..12,
    ) {
        let mut bench = Bench::new(dirty_rows_max);
        for op in ops {
            bench.apply(op);
            prop_assert_eq!(&rows_of(&bench.cache), bench.history.latest());
            for number in 0..24 {
                let key = model_key(number);
                let value = bench.cache.get(&key).expect("gets");
                let expected = bench.history.latest().get(&key[..]);
                prop_assert_eq!(value.as_deref(), expected.map(Vec::as_slice));
            }
            bench.on_disk();
        }
    }
}
