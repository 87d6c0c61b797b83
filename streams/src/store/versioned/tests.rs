//! Versions against what Kafka's store answered, and against a plain map.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::store::{Backend, ByteStore, CacheOptions, Flusher, MemoryBackend};

fn new_store() -> Arc<dyn ByteStore> {
    let name = StoreName::new("s").unwrap();
    MemoryBackend::new(0).open(std::slice::from_ref(&name)).unwrap().remove(0)
}

fn opened(history_ms: i64) -> Versions<String> {
    opened_on(&new_store(), history_ms, CacheOptions::default())
}

fn opened_on(
    store: &Arc<dyn ByteStore>,
    history_ms: i64,
    options: CacheOptions,
) -> Versions<String> {
    let mut versions = Versions::new(StoreName::new("s").unwrap(), history_ms);
    let rows = RowCache::open(Arc::clone(store), 0, options, Flusher::thread().unwrap());
    versions.open(rows).unwrap();
    versions
}

/// Commits, and says how many records the changelog got.
fn commit(versions: &mut Versions<String>, offset: i64) -> usize {
    let mut logged = 0;
    versions
        .prepare(|_, _, _| {
            logged += 1;
            Ok::<_, StoreError>(())
        })
        .unwrap();
    let checkpoint = Checkpoint { log_id: [0; 16], topic_id: [0; 16], leader_epoch: 0, offset };
    versions.committed(Some(checkpoint), 0);
    logged
}

fn rows(versions: &mut Versions<String>) -> usize {
    let mut count = 0;
    versions
        .rows
        .scan((&[VERSION], None), Direction::Forward, &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    count
}

fn shown(row: Option<Stored<String>>) -> Value {
    row.map_or(Value::Null, |row| serde_json::json!({ "value": row.value, "ts": row.timestamp }))
}

/// One recorded operation.
fn run(versions: &mut Versions<String>, op: &[Value]) -> Value {
    let text = |at: usize| op[at].as_str().map(str::to_owned);
    let number = |at: usize| op[at].as_i64().unwrap();
    let key = text(1).unwrap().into_bytes();
    match op[0].as_str().unwrap() {
        "put" => match versions.put(&key, number(3), text(2)).unwrap() {
            Put::Latest => Value::from(-1),
            Put::Until(newer) => Value::from(newer),
            Put::Refused => Value::from(i64::MIN),
        },
        "get" => shown(versions.get(&key).unwrap()),
        "get_as_of" => shown(versions.get_as_of(&key, number(2)).unwrap()),
        "delete" => {
            let before = versions.get_as_of(&key, number(2)).unwrap();
            let refused = versions.put(&key, number(2), None).unwrap() == Put::Refused;
            shown(before.filter(|_| !refused))
        }
        other => panic!("{other}"),
    }
}

#[test]
fn it_answers_as_kafka_was_recorded_to() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/oracles/stores_semantics.json");
    let recorded: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut answers = 0;
    for case in recorded["cases"].as_array().unwrap() {
        if case["store"] != "versioned" {
            continue;
        }
        for commit_every in [1, 3, 1_000] {
            let mut versions = opened(case["retention_ms"].as_i64().unwrap());
            for (i, step) in (1..).zip(case["ops"].as_array().unwrap()) {
                let told = run(&mut versions, step["op"].as_array().unwrap());
                assert_eq!(told, step["expect"], "{} step {i}: {}", case["name"], step["op"]);
                answers += 1;
                if i % commit_every == 0 {
                    commit(&mut versions, i);
                }
                if i % 7 == 0 {
                    versions.behind().flush_all().unwrap();
                }
            }
        }
    }
    assert!(answers > 1_000, "{answers}");
}

/// What a plain map of all versions says, with the bounds of the header.
#[derive(Default)]
struct Model {
    versions: BTreeMap<(Vec<u8>, i64), Option<String>>,
    time: i64,
}

impl Model {
    fn at(&self, key: &[u8], time: i64) -> Option<Stored<String>> {
        let range = (key.to_vec(), i64::MIN)..=(key.to_vec(), time);
        let ((_, timestamp), value) = self.versions.range(range).next_back()?;
        value.clone().map(|value| Stored { timestamp: *timestamp, value })
    }
}

proptest! {
    /// Keys that begin with each other, times in any order, commits and flushes anywhere.
    #[test]
    fn it_answers_as_a_map_of_all_versions_does(
        ops in prop::collection::vec((0..4_usize, 0..400_i64, any::<bool>(), 0..400_i64), 1..80),
        history in 20..200_i64,
        dirty_rows_max in prop_oneof![Just(2_usize), Just(1_000)],
    ) {
        let keys: [&[u8]; 4] = [b"", b"a", b"ab", &[b'a', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]];
        let (store, mut model) = (new_store(), Model { time: i64::MIN, ..Model::default() });
        let options = CacheOptions { dirty_rows_max, ..CacheOptions::default() };
        let mut versions = opened_on(&store, history, options);
        for (i, (key, timestamp, present, asked)) in (1..).zip(ops) {
            let (key, value) = (keys[key], present.then(|| format!("v{i}")));
            model.time = model.time.max(timestamp);
            let start = model.time - history;
            let put = versions.put(key, timestamp, value.clone()).unwrap();
            prop_assert_eq!(put == Put::Refused, timestamp < start);
            if put != Put::Refused {
                model.versions.insert((key.to_vec(), timestamp), value);
            }
            if i % 3 == 0 {
                commit(&mut versions, i);
            }
            if i % 10 == 0 {
                versions.behind().flush_all().unwrap();
            }
            if i % 11 == 0 {
                // A restart: what was only known in memory is read again.
                commit(&mut versions, i);
                versions.behind().flush_all().unwrap();
                drop(versions);
                versions = opened_on(&store, history, options);
            }
            for key in keys {
                let latest = model.at(key, i64::MAX);
                prop_assert_eq!(versions.get(key).unwrap(), latest.clone());
                let expected = if asked >= start {
                    model.at(key, asked)
                } else {
                    latest.filter(|latest| latest.timestamp <= asked)
                };
                prop_assert_eq!(versions.get_as_of(key, asked).unwrap(), expected);
            }
        }
    }
}

#[test]
fn history_does_not_grow_and_a_deleted_key_leaves_nothing() {
    let mut versions = opened(160);
    for at in 0..10_000 {
        versions.put(b"hot", at, Some(format!("{at}"))).unwrap();
        if at % 10 == 0 {
            commit(&mut versions, at);
        }
        assert!(rows(&mut versions) <= 160 + 2 * 10 + 1, "{} at {at}", rows(&mut versions));
    }
    versions.put(b"hot", 10_000, None).unwrap();
    versions.put(b"other", 20_000, Some("x".to_owned())).unwrap();
    commit(&mut versions, 20_000);
    assert_eq!(rows(&mut versions), 1, "the latest of the other key");
    assert_eq!(versions.get(b"hot").unwrap(), None);
}

#[test]
fn a_row_that_never_changes_again_is_kept_and_costs_nothing() {
    let mut versions = opened(100);
    versions.put(b"old", 0, Some("x".to_owned())).unwrap();
    commit(&mut versions, 1);
    versions.put(b"new", 1 << 40, Some("y".to_owned())).unwrap();
    commit(&mut versions, 2);
    assert_eq!(commit(&mut versions, 3), 0);
    let old = Stored { timestamp: 0, value: "x".to_owned() };
    assert_eq!(versions.get(b"old").unwrap(), Some(old.clone()));
    assert_eq!(versions.get_as_of(b"old", 50).unwrap(), Some(old));
}

#[test]
fn times_at_the_ends_of_the_range_are_times() {
    let mut versions = opened(i64::MAX);
    for at in [i64::MIN, -1, 0, i64::MAX] {
        versions.put(b"k", at, Some(format!("{at}"))).unwrap();
        commit(&mut versions, 1);
    }
    let mut at = |time| versions.get_as_of(b"k", time).unwrap().map(|row| row.timestamp);
    assert_eq!([at(0), at(5), at(i64::MAX - 1)], [Some(0); 3]);
    assert_eq!(at(-1), None, "history has no more milliseconds than there are");
    assert_eq!(versions.get(b"k").unwrap().unwrap().timestamp, i64::MAX);
}

#[test]
fn the_layout_is_what_the_header_shows() {
    assert_eq!(bucket_key(1, b"k"), [1, 0x80, 0, 0, 0, 0, 0, 0, 1, b'k']);
    let key = version_key(b"k", 2);
    assert_eq!(key, [2, 0, 0, 0, 1, b'k', 0x80, 0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(split_version(&key), Some((&b"k"[..], 2)));
    assert_eq!(split_version(&bucket_key(1, b"k")), None);
}
