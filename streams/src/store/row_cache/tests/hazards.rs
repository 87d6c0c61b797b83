//! Flushes that overlap, that carry another commit's checkpoint, or that see undecided rows: none of
//! it happens, in named cases and in random ones. Three broken flushes show that the checker sees it.

use proptest::prelude::*;

use super::*;

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
    assert_eq!(old.count(), 0, "nothing is left that could overwrite newer rows");
    assert_eq!(bench.on_disk(), 1);
    bench.cache.commit(bench.history.changes[1].clone(), checkpoint(2), 0);
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
    assert_eq!(bench.cache.checkpoint().expect("reads"), Some(checkpoint(1)));
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
        history.check(&store(&backend)).expect("the rows of the checkpoint");
    }
}

#[test]
fn hazard_13_a_row_that_the_next_commit_changes_is_flushed_as_it_was() {
    let mut bench = Bench::new(1);
    bench.commit(vec![put("hot", "1"), put("cold", "1")]);
    bench.step();
    bench.commit(vec![put("hot", "2")]);
    assert_eq!(get(&mut bench.cache, "hot").as_deref(), Some("2"), "dirty over flushing");
    assert!(bench.held.run_next());
    assert_eq!(bench.on_disk(), 1, "the flush has the row of its own commit");
    bench.cache.step(-1).expect("steps");
    assert_eq!(bench.cache.dirty_rows(), 1, "the row is dirty again, in the next flush");
    assert!(bench.held.run_next());
    assert_eq!(bench.on_disk(), 2);
    assert_eq!(get(&mut bench.cache, "cold").as_deref(), Some("1"));
}

#[test]
fn hazard_13_rows_whose_commit_is_not_decided_are_read_and_never_flushed() {
    let mut bench = Bench::new(1);
    bench.commit(vec![put("hot", "1"), put("cold", "1")]);
    bench.prepare(vec![put("hot", "2"), (Bytes::from_static(b"\x01cold"), None)]);
    assert_eq!(
        get(&mut bench.cache, "hot").as_deref(),
        Some("2"),
        "the next transaction sees them"
    );
    assert_eq!(get(&mut bench.cache, "cold"), None);
    assert_eq!(rows_of(&bench.cache), bench.history.with(&bench.undecided));
    bench.step();
    assert!(bench.held.run_next());
    bench.step();
    bench.cache.flush_all().expect("flushes");
    assert_eq!(bench.on_disk(), 1, "the disk has what is committed");
    assert_eq!(get(&mut bench.cache, "hot").as_deref(), Some("2"));
    bench.decide();
    bench.step();
    assert!(bench.held.run_next());
    assert_eq!(bench.on_disk(), 2);
}

#[test]
fn hazard_13_an_undecided_transaction_leaves_nothing_behind_when_it_is_given_up() {
    let mut bench = Bench::new(1);
    bench.commit(vec![put("k", "1")]);
    bench.prepare(vec![put("k", "2"), put("new", "2")]);
    bench.step();
    bench.restart();
    assert_eq!(get(&mut bench.cache, "k").as_deref(), Some("1"));
    assert_eq!(get(&mut bench.cache, "new"), None);
    assert_eq!(bench.on_disk(), 1);
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
        store.write(&level.to_batch(PARTITION, &checkpoint)).expect("writes");
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
    assert!(history.check(&overlapping).is_err(), "an older flush that ends later");

    let log_end = fresh();
    flush(&log_end, &history.changes[0], checkpoint(2));
    assert!(history.check(&log_end).is_err(), "a checkpoint taken from the end of the log");

    let undecided = fresh();
    flush(&undecided, &history.changes[0], checkpoint(1));
    flush(&undecided, &history.changes[1], checkpoint(1));
    assert!(history.check(&undecided).is_err(), "rows of a commit that is not decided");
}

#[derive(Clone, Debug)]
enum Op {
    Prepare(Vec<(u8, Option<u8>)>),
    Decide,
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
        8 => prop::collection::vec(row, 0..6).prop_map(Op::Prepare),
        6 => Just(Op::Decide),
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
            Op::Decide => self.decide(),
            Op::Prepare(rows) => {
                self.decide();
                let rows: BTreeMap<_, _> = rows.into_iter().collect();
                let row = |(key, value): (u8, Option<u8>)| {
                    (model_key(key), value.map(|byte| Bytes::copy_from_slice(&[byte])))
                };
                self.prepare(rows.into_iter().map(row).collect());
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
            let visible = bench.history.with(&bench.undecided);
            prop_assert_eq!(&rows_of(&bench.cache), &visible);
            for number in 0..24 {
                let key = model_key(number);
                let value = bench.cache.get(&key).expect("gets");
                let expected = visible.get(&key[..]);
                prop_assert_eq!(value.as_deref(), expected.map(Vec::as_slice));
            }
            bench.on_disk();
        }
    }
}

#[test]
fn questions_and_failed_flushes_do_not_mistake_undecided_rows_for_committed_ones() {
    let mut bench = Bench::new(1);
    bench.commit(vec![put("a", "1"), put("b", "1")]);
    bench.step();
    bench.prepare(vec![put("a", "2"), put("c", "2"), put("a", "3")]);
    let committed = bench.cache.committed_only(|cache| rows_of(cache));
    assert_eq!(&committed, bench.history.latest());
    assert!(bench.held.lose_next(), "the flush of the first commit");
    bench.cache.step(0).expect_err("a lost flush is told");
    let committed = bench.cache.committed_only(|cache| rows_of(cache));
    assert_eq!(&committed, bench.history.latest(), "its rows are dirty again, below the others");
    let (a, c) = (get(&mut bench.cache, "a"), get(&mut bench.cache, "c"));
    assert_eq!((a.as_deref(), c.as_deref()), (Some("3"), Some("2")));
    assert_eq!(bench.cache.dirty_rows(), 2, "committed ones");
    bench.cache.flush_all().expect("flushes");
    assert_eq!(bench.on_disk(), 1);
    bench.decide();
    bench.cache.flush_all().expect("flushes");
    assert_eq!(bench.on_disk(), 2);
}
