//! Tails against a plain map: whatever is committed, flushed, forgotten, aborted or restarted in between.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::ids::StoreName;
use crate::store::{
    Backend, ByteStore, CacheOptions, Checkpoint, Flusher, MemoryBackend, RowCache,
};
use crate::time::Stamp;

/// One store partition, and what a plain map says of it.
struct Tested {
    store: std::sync::Arc<dyn ByteStore>,
    rows: Overlay<u64>,
    tails: Tails,
    bytes_max: usize,
    commits: i64,
    model: BTreeMap<Vec<u8>, BTreeSet<u128>>,
    committed: BTreeMap<Vec<u8>, BTreeSet<u128>>,
}

impl Tested {
    fn new(bytes_max: usize) -> Self {
        let name = StoreName::new("s").unwrap();
        let store = MemoryBackend::new(0).open(std::slice::from_ref(&name)).unwrap().remove(0);
        let mut tested = Self {
            store,
            rows: Overlay::listed(name),
            tails: Tails::new(8),
            bytes_max,
            commits: 0,
            model: BTreeMap::new(),
            committed: BTreeMap::new(),
        };
        tested.open();
        tested
    }

    fn open(&mut self) {
        let options = CacheOptions { dirty_rows_max: 4, ..CacheOptions::default() };
        let flusher = Flusher::thread().unwrap();
        self.rows = Overlay::listed(StoreName::new("s").unwrap());
        let rows = RowCache::open(std::sync::Arc::clone(&self.store), 0, options, flusher);
        self.rows.open(rows);
        self.tails.open(self.bytes_max);
    }

    fn change(&mut self, group: &[u8], place: u128, is_there: bool) {
        let mut key = Vec::new();
        self.tails.write_key(group, place, &mut key);
        let row = self.tails.note(&mut self.rows, &key, is_there).unwrap();
        let stamp = Stamp { timestamp: 1, source_time: 1 };
        self.rows.at(row).replace(is_there.then_some(7), stamp);
        let places = self.model.entry(group.to_vec()).or_default();
        if is_there {
            places.insert(place)
        } else {
            places.remove(&place)
        };
    }

    fn commit(&mut self) {
        self.rows.prepare(|_, _, _| Ok::<_, StoreError>(())).unwrap();
        self.tails.settle();
        self.commits += 1;
        let offset = self.commits;
        let checkpoint = Checkpoint { log_id: [0; 16], topic_id: [0; 16], leader_epoch: 0, offset };
        self.rows.committed(Some(checkpoint), 0);
        self.rows.behind().step(0).unwrap();
        self.committed = self.model.clone();
    }

    /// What is committed is on disk; the running transaction is gone with its task.
    fn restart(&mut self) {
        self.rows.behind().flush_all().unwrap();
        self.open();
        self.model = self.committed.clone();
    }

    fn asked(&mut self, group: &[u8], wanted: Places) -> (Vec<u128>, Vec<u128>) {
        let found = self.tails.places(&mut self.rows, group, wanted).unwrap();
        let places = self.model.get(group).cloned().unwrap_or_default();
        let within = places.into_iter().filter(|p| (wanted.first..=wanted.last).contains(p));
        let mut within: Vec<u128> = within.collect();
        if wanted.direction == Direction::Back {
            within.reverse();
        }
        within.truncate(wanted.most);
        (found, within)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Change(usize, u64, bool),
    Ask(usize, u64, u64, bool, usize),
    Commit,
    /// All rows of a group up to a place are deleted, and that is said.
    Expire(usize, u64),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let place = prop_oneof![0..120_u64, Just(u64::MAX), Just(u64::MAX - 1)];
    let group = 0..4_usize;
    let change = (group.clone(), place.clone(), prop::bool::weighted(0.8));
    let most = prop_oneof![Just(1_usize), Just(3), Just(usize::MAX)];
    let ask = (group.clone(), place.clone(), place.clone(), any::<bool>(), most);
    prop_oneof![
        20 => change.prop_map(|(group, place, is_there)| Op::Change(group, place, is_there)),
        12 => ask.prop_map(|(group, a, b, back, most)| Op::Ask(group, a, b, back, most)),
        3 => Just(Op::Commit),
        1 => (group, 0..120_u64).prop_map(|(group, last)| Op::Expire(group, last)),
        1 => Just(Op::Restart),
    ]
}

/// Groups that begin with each other, with bytes of places.
const GROUPS: [&[u8]; 4] = [b"", b"a", b"a\0\0\0\0\0\0\0\x05", b"b"];

fn run(bytes_max: usize, ops: Vec<Op>) {
    let mut tested = Tested::new(bytes_max);
    for op in ops {
        match op {
            Op::Change(group, place, is_there) => {
                tested.change(GROUPS[group], u128::from(place), is_there);
            }
            Op::Ask(group, a, b, is_back, most) => {
                let (first, last) = (u128::from(a.min(b)), u128::from(a.max(b)));
                let direction = if is_back { Direction::Back } else { Direction::Forward };
                let wanted = Places { first, last, direction, most };
                let (found, expected) = tested.asked(GROUPS[group], wanted);
                assert_eq!(found, expected, "{wanted:?} of {group}");
            }
            Op::Commit => tested.commit(),
            Op::Expire(group, last) => {
                let group = GROUPS[group];
                let last = u128::from(last);
                let (direction, most) = (Direction::Forward, usize::MAX);
                let past = Places { first: 0, last, direction, most };
                let (past, expected) = tested.asked(group, past);
                assert_eq!(past, expected);
                past.iter().for_each(|&place| tested.change(group, place, false));
                tested.tails.set_nothing_before(group, last + 1);
            }
            Op::Restart => tested.restart(),
        }
    }
    for group in GROUPS {
        let all =
            Places { first: 0, last: u128::MAX, direction: Direction::Forward, most: usize::MAX };
        let (found, expected) = tested.asked(group, all);
        assert_eq!(found, expected, "in the end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn they_say_what_a_plain_map_says(ops in prop::collection::vec(op(), 1..160)) {
        run(1 << 20, ops);
    }

    #[test]
    fn they_say_the_same_where_they_are_forgotten_at_each_commit(
        ops in prop::collection::vec(op(), 1..160),
    ) {
        run(0, ops);
    }
}

fn scans(tested: &Tested) -> usize {
    tested.tails.read()
}

#[test]
fn what_is_asked_again_is_not_read_again() {
    let mut tested = Tested::new(1 << 20);
    for place in 0..10 {
        tested.change(b"k", place, true);
    }
    tested.commit();
    let latest = Places { first: 0, last: u128::MAX, direction: Direction::Back, most: 1 };
    for place in 10..1_000 {
        tested.change(b"k", place, true);
        assert_eq!(tested.asked(b"k", latest).0, [place]);
        if place % 7 == 0 {
            tested.commit();
        }
        assert_eq!(scans(&tested), 0, "at {place}");
    }
}

#[test]
fn a_group_with_many_rows_keeps_the_last_ones_only() {
    let mut tested = Tested::new(1 << 20);
    for place in 0..10_000 {
        tested.change(b"k", place, true);
    }
    tested.commit();
    assert!(tested.tails.young_bytes < 2_000, "{}", tested.tails.young_bytes);
    let tail = &tested.tails.young[&b"k"[..]];
    assert!(tail.places.len() <= PLACES_MAX && tail.places.capacity() <= 2 * PLACES_MAX);
    let all = Places { first: 0, last: u128::MAX, direction: Direction::Forward, most: usize::MAX };
    assert_eq!(tested.asked(b"k", all).0.len(), 10_000);
}

#[test]
fn what_they_take_has_a_limit_between_transactions() {
    let mut tested = Tested::new(20_000);
    for group in 0..5_000_u32 {
        tested.change(&group.to_be_bytes(), 1, true);
        if group % 10 == 0 {
            tested.commit();
        }
        let tails = tested.tails.young.len() + tested.tails.old.len();
        assert!(tails * TAIL_OVERHEAD_BYTES <= 20_000 + 20 * 500, "{tails}");
    }
}
