//! Sessions and versions of a processor against plain maps: whatever is committed, flushed, forgotten,
//! expired, aborted or restored in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::store::{
    Backend, ByteStore, CacheOptions, Flusher, MemoryBackend, Places, last_time_of, place_of,
};

const KEEP_MS: i64 = 40;
const KEYS: [&[u8]; 3] = [b"", b"a", b"a\0\0\0\0\0\0\0\x05"];

type Row = Option<u64>;
type Changes = Vec<(i64, Vec<u8>, Option<Vec<u8>>)>;

/// One store partition.
struct Tested {
    store: Arc<dyn ByteStore>,
    kept: Kept<Row>,
    ages: Ages,
    dirty_rows_max: usize,
    changelog: Changes,
}

impl Tested {
    fn new(ages: Ages, dirty_rows_max: usize) -> Self {
        let store = new_store();
        let kept = opened(ages, dirty_rows_max, &store);
        Self { store, kept, ages, dirty_rows_max, changelog: Vec::new() }
    }

    fn key(group: &[u8], times: &[i64]) -> Vec<u8> {
        let times = times.iter().flat_map(|&time| crate::key::encode_i64(time));
        group.iter().copied().chain(times).collect()
    }

    fn commit(&mut self) {
        let log = &mut self.changelog;
        self.kept
            .hand_on(|timestamp, key, value| {
                log.push((timestamp, key.to_vec(), value.map(<[u8]>::to_vec)));
                Ok(())
            })
            .unwrap();
        let checkpoint = Some(checkpoint(self.changelog.len()));
        self.kept.rows.committed(checkpoint, 0);
        self.kept.rows.behind().step(0).unwrap();
    }

    /// The running transaction is gone; what is committed is on disk.
    fn restart(&mut self) {
        self.kept.rows.behind().flush_all().unwrap();
        self.kept = Kept::new(name(), self.ages, None, Rc::default());
        self.kept = opened(self.ages, self.dirty_rows_max, &self.store);
    }

    /// The same with an empty disk: everything comes from the changelog.
    fn restore(&mut self) {
        self.store = new_store();
        let mut rows = cache(self.dirty_rows_max, &self.store);
        for (timestamp, key, value) in &self.changelog {
            let mut row = Vec::new();
            self.kept.row_kinds().place(key, &mut row);
            let stored = value.as_ref().map(|value| {
                let mut stored = Vec::new();
                layout::encode_row(*timestamp, value, &mut stored);
                Bytes::from(stored)
            });
            let implied = self.kept.implied_at(key, *timestamp, value.as_deref());
            let mut changes: Vec<_> =
                implied.into_iter().map(|(key, row)| (Bytes::from(key), row)).collect();
            changes.push((row.into(), stored));
            rows.commit(changes, checkpoint(self.changelog.len()), 0);
        }
        self.kept = made(self.ages);
        self.kept.open(rows).unwrap();
    }

    fn rows_of(&mut self, group: &[u8], places: Places) -> Vec<(u128, Row)> {
        let mut found = Vec::new();
        let bytes = self.ages.place_bytes();
        self.kept
            .each_of(
                group,
                places,
                |_| true,
                |key, row| {
                    let place = &key[key.len() - bytes..];
                    let place = place.iter().fold(0, |all, &b| all << 8 | u128::from(b));
                    found.push((place, row.value));
                    Ok(())
                },
            )
            .unwrap();
        found
    }

    /// How many rows there are, and entries of the time index, in what is committed.
    fn sizes(&mut self) -> (usize, usize) {
        let count = |kept: &mut Kept<Row>, kind: u8| {
            let mut rows = 0;
            let visit = &mut |_: &[u8], _: &[u8]| {
                rows += 1;
                ControlFlow::Continue(())
            };
            kept.rows.behind().scan(&[kind], &[kind + 1], visit).unwrap();
            rows
        };
        let rows = count(&mut self.kept, layout::KIND_LISTED);
        (rows, count(&mut self.kept, layout::KIND_TIME_INDEX))
    }
}

fn name() -> StoreName {
    StoreName::new("s").unwrap()
}

fn new_store() -> Arc<dyn ByteStore> {
    MemoryBackend::new(0).open(&[name()]).unwrap().remove(0)
}

fn checkpoint(records: usize) -> Checkpoint {
    let offset = i64::try_from(records).unwrap();
    Checkpoint { log_id: [0; 16], topic_id: [0; 16], leader_epoch: 0, offset }
}

fn cache(dirty_rows_max: usize, store: &Arc<dyn ByteStore>) -> RowCache {
    let options = CacheOptions { dirty_rows_max, ..CacheOptions::default() };
    RowCache::open(Arc::clone(store), 0, options, Flusher::thread().unwrap())
}

fn made(ages: Ages) -> Kept<Row> {
    let kept = Kept::new(name(), ages, Some(KEEP_MS), Rc::default());
    if ages == Ages::Version { kept.with_void(Option::is_none) } else { kept }
}

fn opened(ages: Ages, dirty_rows_max: usize, store: &Arc<dyn ByteStore>) -> Kept<Row> {
    let mut kept = made(ages);
    kept.open(cache(dirty_rows_max, store)).unwrap();
    kept
}

fn all() -> Places {
    Places { first: 0, last: u128::MAX, direction: Direction::Forward, most: usize::MAX }
}

/// A step: which key, how long before the time at hand, how long a session is, what is put, and what
/// happens behind it.
type Step = (usize, i64, i64, Option<u64>, u8);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = prop::option::weighted(0.8, any::<u64>());
    prop::collection::vec((0..KEYS.len(), 0..KEEP_MS, 0..6_i64, value, 0..24_u8), 1..150)
}

/// Happens behind a step; whether what was not committed is gone.
fn happens(tested: &mut Tested, what: u8, time: i64) -> bool {
    match what {
        0..=4 => tested.commit(),
        5..=9 => tested.kept.expire(time).unwrap(),
        10 => tested.restart(),
        11 => tested.restore(),
        _ => {}
    }
    matches!(what, 10 | 11)
}

type Model = BTreeMap<(usize, u128), Row>;

fn sessions(dirty_rows_max: usize, steps: Vec<Step>) {
    let mut tested = Tested::new(Ages::End, dirty_rows_max);
    let (mut model, mut committed, mut time) = (Model::new(), Model::new(), 0);
    for (group, ago, length, value, what) in steps {
        time += 3;
        tested.kept.now().set(Stamp { timestamp: time, source_time: time });
        let (end, start) = (time - ago, time - ago - length);
        let key = Tested::key(KEYS[group], &[end, start]);
        let put = value.is_some();
        tested.kept.put(&key, put.then_some(value), time).unwrap();
        let place = (group, place_of(&[end, start]));
        if put {
            model.insert(place, value)
        } else {
            model.remove(&place)
        };
        if happens(&mut tested, what, time) {
            tested.kept.now().set(Stamp { timestamp: time, source_time: time });
            model.clone_from(&committed);
        } else if what <= 4 {
            committed.clone_from(&model);
        }
        for (group, key) in KEYS.iter().enumerate() {
            let there = model.iter().filter(|((of, place), _)| {
                let end = last_time_of(place >> 64);
                *of == group && end + KEEP_MS > time
            });
            let expected: Vec<_> = there.map(|((_, place), row)| (*place, *row)).collect();
            assert_eq!(tested.rows_of(key, all()), expected, "{group} at {time}");
        }
    }
    tested.kept.expire(time + 1_000).unwrap();
    tested.commit();
    tested.kept.expire(time + 2_000).unwrap();
    tested.commit();
    assert_eq!(tested.sizes(), (0, 0), "what is past leaves nothing");
}

fn versions(dirty_rows_max: usize, steps: Vec<Step>) {
    let mut tested = Tested::new(Ages::Version, dirty_rows_max);
    let (mut model, mut committed, mut time) = (Model::new(), Model::new(), 0);
    for (group, ago, _, value, what) in steps {
        time += 3;
        tested.kept.now().set(Stamp { timestamp: time, source_time: time });
        let from = time - ago;
        tested.kept.put(&Tested::key(KEYS[group], &[from]), Some(value), from).unwrap();
        model.insert((group, place_of(&[from])), value);
        if happens(&mut tested, what, time) {
            model.clone_from(&committed);
        } else if what <= 4 {
            committed.clone_from(&model);
        }
        for (group, key) in KEYS.iter().enumerate() {
            for at in [time, time - KEEP_MS / 2, time - KEEP_MS] {
                let last = place_of(&[at]);
                let asked = Places { last, direction: Direction::Back, most: 1, ..all() };
                let found = tested.rows_of(key, asked).first().and_then(|(_, row)| *row);
                let held = model.range((group, 0)..=(group, last)).next_back();
                assert_eq!(found, held.and_then(|(_, row)| *row), "{group} as of {at} at {time}");
            }
        }
    }
    tested.kept.expire(time + 1_000).unwrap();
    tested.commit();
    tested.kept.expire(time + 2_000).unwrap();
    tested.commit();
    let last = |group| model.range((group, 0)..(group + 1, 0)).next_back();
    let values = (0..KEYS.len()).filter(|&group| last(group).is_some_and(|(_, row)| row.is_some()));
    assert_eq!(tested.sizes(), (values.count(), 0), "the latest of each key");
}

proptest! {
    #[test]
    fn sessions_are_those_of_a_map(steps in steps()) {
        sessions(1_000, steps);
    }

    #[test]
    fn sessions_are_those_of_a_map_where_everything_spills(steps in steps()) {
        sessions(2, steps);
    }

    #[test]
    fn versions_are_those_of_a_map(steps in steps()) {
        versions(1_000, steps);
    }

    #[test]
    fn versions_are_those_of_a_map_where_everything_spills(steps in steps()) {
        versions(2, steps);
    }
}

#[test]
fn a_key_costs_one_entry_however_often_its_session_grows() {
    let mut tested = Tested::new(Ages::End, 1_000);
    for end in 0..30 {
        if end > 0 {
            tested.kept.put(&Tested::key(b"k", &[end - 1, 0]), None, end).unwrap();
        }
        tested.kept.put(&Tested::key(b"k", &[end, 0]), Some(Some(1)), end).unwrap();
        tested.commit();
    }
    assert_eq!(tested.sizes(), (1, 1));
}
