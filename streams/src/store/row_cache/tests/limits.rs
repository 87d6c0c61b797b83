//! When flushes start, wait, fail and end, and that memory stays within the options.

use super::*;

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
    assert_eq!(bench.on_disk(), 4, "eight: the step waited for the first flush");
    assert_eq!(bench.held.count(), 1, "and started the second");
    assert_eq!(bench.cache.dirty_rows(), 8);
}

#[test]
fn a_flush_starts_when_rows_bytes_or_time_say_so() {
    let limits = CacheOptions { dirty_bytes_max: 1000, flush_every_ms: 50, ..options(3) };
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
    assert!(started(vec![put("a", "1"), put("b", "1"), put("c", "1")], 0, 0), "rows");
    assert!(started(vec![put("a", &"x".repeat(1000))], 0, 0), "bytes");
    assert!(started(one(), i64::MIN, i64::MAX), "the ends of time");
    assert!(!started(one(), 1_000_000, 0), "a clock that was set back");
    assert!(started(Vec::new(), 0, 50), "a checkpoint without rows moves too");
}

/// The changelog is kept from there on; rows that change often would hold it for weeks.
#[test]
fn what_a_crash_would_leave_is_known_and_never_far_behind() {
    let mut reached_late = 0;
    for seed in 0..20 {
        let store = store(&MemoryBackend::new(seed));
        let open = || RowCache::open(Arc::clone(&store), PARTITION, options(1), Flusher::inline());
        let mut cache = open();
        let mut commit = |offset: i64| {
            cache.commit(vec![put("a", "1")], Checkpoint { offset, ..checkpoint(1) }, 0);
            cache.step(0).expect("steps");
            let told = cache.take_durable();
            assert_eq!(told, cache.durable_checkpoint().expect("decodes"));
            assert_eq!(cache.take_durable(), None, "each is told once");
            told.map_or(0, |told| told.offset)
        };
        let durable = commit(10);
        reached_late += i32::from(durable < 10);
        assert!(commit((1 << 20) + 9) >= durable);
        assert_eq!(commit(1 << 22), 1 << 22, "more than a million records");
        cache.flush_all().expect("flushes");
        assert_eq!(cache.take_durable().map(|told| told.offset), Some(1 << 22));
    }
    assert!(reached_late > 0, "nothing was ever only in memory");
}

#[test]
fn a_clock_set_back_does_not_hold_back_the_flush() {
    let mut bench = Bench::new(1000);
    bench.cache.commit(vec![put("a", "1")], checkpoint(1), 1_000_000);
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
fn what_only_follows_from_older_rows_is_kept_and_goes_down_with_a_checkpoint() {
    for is_new in [false, true] {
        let mut bench = Bench::new(1);
        bench.commit(vec![put("a", "1")]);
        bench.cache.flush_all().expect("flushes");
        if is_new {
            bench.restart();
        }
        let (key, value) = put("i", "");
        bench.cache.prepare(key, value);
        bench.cache.decided(None, 0);
        assert_eq!(get(&mut bench.cache, "i").as_deref(), Some(""), "new: {is_new}");
        bench.cache.step(0).expect("steps");
        assert_eq!(bench.held.count(), usize::from(!is_new), "a checkpoint is known, or is not");
        bench.cache.commit(vec![put("a", "2")], checkpoint(2), 0);
        bench.cache.flush_all().expect("flushes");
        bench.cache =
            RowCache::open(store(&bench.backend), PARTITION, options(1), Flusher::inline());
        assert_eq!(get(&mut bench.cache, "i").as_deref(), Some(""), "new: {is_new}, on disk");
        assert_eq!(bench.cache.checkpoint().expect("decodes"), Some(checkpoint(2)));
    }
}

#[test]
fn a_failed_flush_comes_back_at_the_next_step_and_loses_nothing() {
    let mut bench = Bench::new(1);
    bench.commit(vec![put("a", "1"), put("b", "1")]);
    bench.step();
    bench.commit(vec![put("b", "2")]);
    assert!(bench.held.lose_next());
    let error = bench.cache.step(0).expect_err("the flush was lost");
    assert!(matches!(error, StoreError::Backend { operation: "flush", .. }), "{error:?}");
    assert_eq!(bench.cache.dirty_rows(), 2);
    assert_eq!(get(&mut bench.cache, "a").as_deref(), Some("1"));
    assert_eq!(get(&mut bench.cache, "b").as_deref(), Some("2"), "the newer row stays on top");
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
    store.write(&[(key, Some(Bytes::from_static(b"other")))]).expect("writes");
    let cache = RowCache::open(store, PARTITION, options(1), Flusher::inline());
    let error = cache.checkpoint().expect_err("five bytes are not a checkpoint");
    let text = error.to_string();
    assert_eq!(text, "store `counts` is damaged: the checkpoint of partition 3 does not decode");
}

#[test]
fn partitions_of_one_store_do_not_see_each_other() {
    let backend = MemoryBackend::new(0);
    let open =
        |partition| RowCache::open(store(&backend), partition, options(1), Flusher::inline());
    let mut caches = [open(0), open(1), open(u32::MAX)];
    for (number, cache) in caches.iter_mut().enumerate() {
        let value = number.to_string();
        cache.commit(vec![put("k", &value), put(&value, "own")], checkpoint(number + 1), 0);
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
            if seen.len() == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        bench.cache.scan(b"\x01", b"\x02", &mut visit).expect("scans");
        assert_eq!(seen, b"abcdef"[..stop]);
    }
}

#[test]
fn memory_stays_within_the_options() {
    let limits = CacheOptions {
        broken: None,
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
    let names: Vec<_> =
        (0..200).map(|n| StoreName::new(&format!("s{n}")).expect("a good name")).collect();
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

    fn get_durable(&self, _key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }

    fn scan(&self, _from: &[u8], _to: &[u8], _visit: &mut Visit<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    fn scan_back(
        &self,
        _from: &[u8],
        _to: &[u8],
        _visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
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
        assert!(matches!(error, StoreError::Backend { operation: "flush", .. }), "{error:?}");
        assert_eq!(cache.dirty_rows(), 1);
    }
}

#[test]
fn lookups_are_told_apart_by_who_answered() {
    let mut bench = Bench::new(4);
    bench.commit(vec![put("a", "1")]);
    let look = |bench: &mut Bench, key: &str| {
        let (key, _) = put(key, "");
        bench.cache.get(&key).unwrap()
    };
    assert!(look(&mut bench, "a").is_some());
    assert_eq!(bench.cache.lookups(), Lookups { hits: 1, misses: 0 });
    assert_eq!(look(&mut bench, "nothing"), None);
    assert_eq!(bench.cache.lookups(), Lookups { hits: 1, misses: 1 });
    bench.cache.flush_all().unwrap();
    assert!(look(&mut bench, "a").is_some());
    assert_eq!(bench.cache.lookups(), Lookups { hits: 2, misses: 1 });
}
