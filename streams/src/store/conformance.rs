//! What every back end must do, as one suite of checks.
//!
//! Why: the simulator is only worth something if its store behaves like the one on disk, in a crash
//! above all.
//!
//! `run` takes a way to make a fresh back end from a seed, panics with what went wrong, and does
//! not name any back end.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use bytes::Bytes;

use super::{Backend, ByteStore};
use crate::ids::StoreName;

/// A back end that can lose its process.
pub(crate) trait Crashable {
    /// The back end that is running now.
    fn backend(&self) -> Arc<dyn Backend>;

    /// Ends it as a killed process ends, and starts one on what is left. Stores that were opened
    /// before are not used again.
    fn crash(&mut self);
}

/// Runs all checks; those that crash at random once for each of `seeds`.
///
/// # Panics
///
/// A check failed.
pub(crate) fn run(seeds: Range<u64>, make: impl Fn(u64) -> Box<dyn Crashable>) {
    rows_are_put_replaced_and_deleted(&*make(1));
    scans_go_in_key_order_within_their_bounds(&*make(2));
    scans_back_are_scans_reversed(&*make(2));
    stores_do_not_see_each_other(&*make(3));
    clear_takes_exactly_its_range(&*make(4));
    what_is_synced_survives_a_crash(&mut *make(5));
    a_store_that_is_not_named_is_kept(&mut *make(6));
    for seed in seeds {
        a_crash_leaves_a_prefix_of_whole_batches(&mut *make(seed), seed);
        a_clear_survives_a_crash_whole_or_not_at_all(&mut *make(seed));
    }
}

type Batch = Vec<(Bytes, Option<Bytes>)>;

fn name(text: &str) -> StoreName {
    StoreName::new(text).expect("a good name")
}

fn open(backend: &dyn Backend, names: &[&str]) -> Vec<Arc<dyn ByteStore>> {
    let names: Vec<_> = names.iter().map(|text| name(text)).collect();
    let stores = backend.open(&names).expect("opens");
    let opened: Vec<_> = stores.iter().map(|store| store.name().clone()).collect();
    assert_eq!(opened, names, "stores come in the order of their names");
    stores
}

fn put(key: &str, value: &str) -> (Bytes, Option<Bytes>) {
    (copy(key), Some(copy(value)))
}

fn delete(key: &str) -> (Bytes, Option<Bytes>) {
    (copy(key), None)
}

fn copy(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn get(store: &dyn ByteStore, key: &str) -> Option<String> {
    let value = store.get(key.as_bytes()).expect("gets");
    value.map(|bytes| String::from_utf8(bytes).expect("text"))
}

fn keys(store: &dyn ByteStore, from: &[u8], to: &[u8]) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let mut visit = |key: &[u8], _: &[u8]| {
        keys.push(key.to_vec());
        ControlFlow::Continue(())
    };
    store.scan(from, to, &mut visit).expect("scans");
    keys
}

fn rows_are_put_replaced_and_deleted(harness: &dyn Crashable) {
    let stores = open(&*harness.backend(), &["rows"]);
    let store = &*stores[0];
    assert_eq!(get(store, "a"), None);
    store.write(&[put("a", "1"), put("b", ""), put("c", "3")]).expect("writes");
    store.write(&[put("a", "2"), delete("c"), delete("never")]).expect("writes");
    store.write(&[]).expect("an empty batch is a batch");
    assert_eq!(get(store, "a").as_deref(), Some("2"));
    assert_eq!(get(store, "b").as_deref(), Some(""), "an empty value is a value");
    assert_eq!(get(store, "c"), None);
    let again = open(&*harness.backend(), &["rows"]);
    assert_eq!(get(&*again[0], "a").as_deref(), Some("2"), "opened twice, one store");
}

fn scans_go_in_key_order_within_their_bounds(harness: &dyn Crashable) {
    let stores = open(&*harness.backend(), &["scans"]);
    let store = &*stores[0];
    let sorted: [&[u8]; 6] = [b"\0", b"\0\0", b"a", b"aa", b"b\xff", b"\xff"];
    for start in 0..sorted.len() {
        let key = sorted[(start * 5) % sorted.len()];
        store.write(&[(Bytes::copy_from_slice(key), Some(copy("v")))]).expect("writes");
    }
    assert_eq!(keys(store, b"", b"\xff\xff"), sorted);
    assert_eq!(keys(store, b"a", b"b\xff"), sorted[2..4], "the end is exclusive");
    assert_eq!(keys(store, b"a\0", b"b\xff\0"), sorted[3..5]);
    assert!(keys(store, b"c", b"d").is_empty());
    assert!(keys(store, b"b", b"b").is_empty());
    assert!(keys(store, b"b", b"a").is_empty(), "a range that ends before it starts");
    let mut visited = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        visited += 1;
        if visited == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.scan(b"", b"\xff\xff", &mut visit).expect("scans");
    assert_eq!(visited, 2, "a visitor that breaks is not called again");
}

fn scans_back_are_scans_reversed(harness: &dyn Crashable) {
    let stores = open(&*harness.backend(), &["backward", "other"]);
    let store = &*stores[0];
    stores[1].write(&[put("a", "v"), put("zz", "v")]).expect("writes");
    let sorted: [&[u8]; 6] = [b"\0", b"\0\0", b"a", b"aa", b"b\xff", b"\xff"];
    for key in sorted {
        store.write(&[(Bytes::copy_from_slice(key), Some(copy("v")))]).expect("writes");
    }
    store.write(&[put("ab", "v")]).expect("writes");
    store.write(&[delete("ab")]).expect("writes");
    let bounds: [&[u8]; 9] =
        [b"", b"\0", b"\0\0", b"a", b"a\0", b"ab", b"b\xff", b"c", b"\xff\xff"];
    for from in bounds {
        for to in bounds {
            let mut forward = keys(store, from, to);
            forward.reverse();
            let mut back = Vec::new();
            let mut visit = |key: &[u8], _: &[u8]| {
                back.push(key.to_vec());
                ControlFlow::Continue(())
            };
            store.scan_back(from, to, &mut visit).expect("scans");
            assert_eq!(back, forward, "{} to {}", from.escape_ascii(), to.escape_ascii());
        }
    }
    let mut last = Vec::new();
    let mut visit = |key: &[u8], _: &[u8]| {
        last = key.to_vec();
        ControlFlow::Break(())
    };
    store.scan_back(b"", b"\xff\xff", &mut visit).expect("scans");
    assert_eq!(last, b"\xff", "a visitor that breaks is not called again");
}

fn stores_do_not_see_each_other(harness: &dyn Crashable) {
    let stores = open(&*harness.backend(), &["left", "right"]);
    stores[0].write(&[put("a", "left")]).expect("writes");
    stores[1].write(&[put("a", "right"), put("b", "right")]).expect("writes");
    stores[1].clear(b"b", b"c").expect("clears");
    assert_eq!(get(&*stores[0], "a").as_deref(), Some("left"));
    assert_eq!(get(&*stores[1], "a").as_deref(), Some("right"));
    assert_eq!(get(&*stores[0], "b"), None);
    let swapped = open(&*harness.backend(), &["right", "left", "default"]);
    assert_eq!(get(&*swapped[0], "a").as_deref(), Some("right"));
    assert_eq!(get(&*swapped[2], "a"), None);
}

fn clear_takes_exactly_its_range(harness: &dyn Crashable) {
    let stores = open(&*harness.backend(), &["cleared"]);
    let store = &*stores[0];
    let batch: Batch = ["a", "b", "ba", "c"].iter().map(|key| put(key, "v")).collect();
    store.write(&batch).expect("writes");
    store.clear(b"b", b"b").expect("an empty range");
    store.clear(b"c", b"a").expect("a range that ends before it starts");
    assert_eq!(keys(store, b"a", b"z").len(), 4);
    store.clear(b"b", b"c").expect("clears");
    assert_eq!(keys(store, b"a", b"z"), [b"a", b"c"]);
    store.write(&[put("b", "again")]).expect("writes");
    assert_eq!(get(store, "b").as_deref(), Some("again"));
}

fn what_is_synced_survives_a_crash(harness: &mut dyn Crashable) {
    let stores = open(&*harness.backend(), &["synced", "other"]);
    stores[0].write(&[put("a", "1"), put("b", "1")]).expect("writes");
    stores[0].write(&[delete("b")]).expect("writes");
    stores[0].sync().expect("syncs");
    stores[0].sync().expect("syncs with nothing to do");
    drop(stores);
    harness.crash();
    let stores = open(&*harness.backend(), &["synced", "other"]);
    assert_eq!(get(&*stores[0], "a").as_deref(), Some("1"));
    assert_eq!(get(&*stores[0], "b"), None);
}

fn a_store_that_is_not_named_is_kept(harness: &mut dyn Crashable) {
    let stores = open(&*harness.backend(), &["wanted", "unnamed"]);
    stores[1].write(&[put("a", "1")]).expect("writes");
    stores[1].sync().expect("syncs");
    drop(stores);
    harness.crash();
    let stores = open(&*harness.backend(), &["wanted"]);
    stores[0].write(&[put("a", "2")]).expect("writes");
    stores[0].sync().expect("syncs");
    drop(stores);
    harness.crash();
    let stores = open(&*harness.backend(), &["unnamed", "wanted"]);
    assert_eq!(get(&*stores[0], "a").as_deref(), Some("1"));
    assert_eq!(get(&*stores[1], "a").as_deref(), Some("2"));
}

/// Batch n writes n to two rows far apart and to the checkpoint, puts a row of its own, and deletes
/// that of batch n - 1. Whatever a crash leaves must be exactly one n, in each store its own.
fn a_crash_leaves_a_prefix_of_whole_batches(harness: &mut dyn Crashable, seed: u64) {
    const STORES: [&str; 2] = ["first", "second"];
    let mut reached = [0u64; 2];
    for round in 0..4u64 {
        let stores = open(&*harness.backend(), &STORES);
        let mut synced = [0u64; 2];
        for (number, store) in stores.iter().enumerate() {
            synced[number] = check_prefix(&**store);
            assert!(synced[number] <= reached[number], "rows from nowhere");
            reached[number] = synced[number];
        }
        let batches = 1 + (seed * 7 + round * 5) % 24;
        for step in 0..batches {
            for (number, store) in stores.iter().enumerate() {
                reached[number] += 1;
                store.write(&numbered_batch(reached[number])).expect("writes");
                if (seed + round + step + number as u64).is_multiple_of(11) {
                    store.sync().expect("syncs");
                    assert_eq!(durable(&**store), reached[number]);
                }
                synced[number] = durable(&**store);
            }
        }
        drop(stores);
        harness.crash();
        let stores = open(&*harness.backend(), &STORES);
        for (number, store) in stores.iter().enumerate() {
            let left = check_prefix(&**store);
            assert!(left >= synced[number], "batch {} was synced, {left} left", synced[number]);
            assert!(left <= reached[number]);
            reached[number] = left;
        }
    }
}

/// The last batch that a crash would leave.
fn durable(store: &dyn ByteStore) -> u64 {
    let bytes = store.get_durable(b"0-checkpoint").expect("gets");
    bytes.map_or(0, |bytes| str::from_utf8(&bytes).expect("text").parse().expect("a number"))
}

fn numbered_batch(n: u64) -> Batch {
    let text = n.to_string();
    vec![
        put("0-checkpoint", &text),
        put("1-row", &text),
        delete(&format!("2-own-{}", n - 1)),
        put(&format!("2-own-{n}"), &text),
        put("3-row", &text),
    ]
}

/// The number of the last batch that is there.
fn check_prefix(store: &dyn ByteStore) -> u64 {
    let checkpoint = get(store, "0-checkpoint");
    assert_eq!(get(store, "1-row"), checkpoint, "a batch is whole");
    assert_eq!(get(store, "3-row"), checkpoint, "a batch is whole");
    let own = keys(store, b"2", b"3");
    let Some(checkpoint) = checkpoint else {
        assert!(own.is_empty(), "rows without their checkpoint");
        return 0;
    };
    assert_eq!(own, [format!("2-own-{checkpoint}").into_bytes()], "exactly one batch is the last");
    checkpoint.parse().expect("a number")
}

fn a_clear_survives_a_crash_whole_or_not_at_all(harness: &mut dyn Crashable) {
    let stores = open(&*harness.backend(), &["rebuilt"]);
    stores[0].write(&numbered_batch(1)).expect("writes");
    stores[0].sync().expect("syncs");
    stores[0].clear(b"0", b"9").expect("clears");
    assert!(keys(&*stores[0], b"", b"z").is_empty());
    drop(stores);
    harness.crash();
    let stores = open(&*harness.backend(), &["rebuilt"]);
    assert!(check_prefix(&*stores[0]) <= 1);
    stores[0].clear(b"0", b"9").expect("clears");
    stores[0].sync().expect("syncs");
    drop(stores);
    harness.crash();
    let stores = open(&*harness.backend(), &["rebuilt"]);
    assert_eq!(check_prefix(&*stores[0]), 0, "a clear that was synced stays");
}
