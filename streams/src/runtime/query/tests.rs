//! Pages over partitions: nothing is left out, nothing comes twice, whatever the limits.

use proptest::prelude::*;

use super::*;
use crate::processor::RowKinds;
use crate::store::{Backend, CacheOptions, Checkpoint, Flusher, MemoryBackend};

fn cache(partition: u32, rows: &[(Vec<u8>, u64)]) -> RowCache {
    let store = MemoryBackend::new(0).open(&[name()]).unwrap().remove(0);
    let options = CacheOptions::default();
    let mut cache = RowCache::open(store, partition, options, Flusher::inline());
    let rows = rows.iter().map(|(key, n)| {
        let (mut place, mut row) = (Vec::new(), Vec::new());
        layout::row_key(key, &mut place);
        layout::encode_row(7, &n.to_be_bytes(), &mut row);
        (place.into(), Some(row.into()))
    });
    let checkpoint = Checkpoint { log_id: [0; 16], topic_id: [0; 16], leader_epoch: 0, offset: 1 };
    cache.commit(rows.collect(), checkpoint, 0);
    cache
}

fn name() -> StoreName {
    StoreName::new("s").unwrap()
}

/// Stores without a job.
struct Caches(std::cell::RefCell<Vec<RowCache>>);

impl Asked for Caches {
    fn ask(&self, question: &Question) -> Result<(Told, Option<u64>)> {
        let mut told = Told::default();
        for (partition, cache) in (0..).zip(self.0.borrow_mut().iter_mut()) {
            look(&name(), partition, RowKinds::One(layout::KIND_ROW), cache, question, &mut told)?;
        }
        Ok((told, None))
    }
}

fn all_pages(asked: &Caches, mut selection: Selection) -> Vec<(Vec<u8>, u32)> {
    let mut seen = Vec::new();
    loop {
        let page = page(asked, &selection).unwrap();
        assert!(page.rows.len() <= selection.limit);
        seen.extend(page.rows.iter().map(|row| (row.key.clone(), row.partition)));
        match page.next {
            Some(next) => selection.after = Some(next),
            None => return seen,
        }
    }
}

proptest! {
    #[test]
    fn pages_together_are_the_range(
        parts in prop::collection::vec(
            prop::collection::btree_set(prop::collection::vec(0u8..4, 0..4), 0..12), 1..4),
        from in prop::collection::vec(0u8..4, 0..3),
        to in prop::option::of(prop::collection::vec(0u8..4, 0..3)),
        limit in 1usize..6,
    ) {
        let caches: Vec<RowCache> = (0..)
            .zip(&parts)
            .map(|(p, keys)| cache(p, &keys.iter().map(|k| (k.clone(), 1)).collect::<Vec<_>>()))
            .collect();
        let asked = Caches(std::cell::RefCell::new(caches));
        let select = Select::Range { from: from.clone(), to: to.clone(), only: Only::All };
        let selection = Selection { store: name(), select, after: None, limit };
        let mut expected: Vec<(Vec<u8>, u32)> = (0..)
            .zip(&parts)
            .flat_map(|(p, keys)| keys.iter().map(move |k| (k.clone(), p)))
            .filter(|(k, _)| *k >= from && to.as_ref().is_none_or(|to| k < to))
            .collect();
        expected.sort();
        prop_assert_eq!(all_pages(&asked, selection), expected);
    }
}

#[test]
fn windows_of_one_key_are_told_from_those_of_longer_ones() {
    let windowed = |inner: &[u8], start: i64| {
        let mut key = Vec::new();
        crate::key::windowed_key(inner, start, start + 10, &mut key);
        key
    };
    let short = windowed(b"a", 5);
    // Its bytes begin as those of the window of `a` do.
    let long = windowed(&short, 5);
    let rows = [(short.clone(), 1), (long, 2), (windowed(b"a", 20), 3)];
    let asked = Caches(std::cell::RefCell::new(vec![cache(0, &rows)]));
    let select = Select::Range {
        from: windowed(b"a", i64::MIN),
        to: Some(windowed(b"a", 15)),
        only: Only::WindowsOf(b"a".to_vec()),
    };
    let selection = Selection { store: name(), select, after: None, limit: 10 };
    assert_eq!(all_pages(&asked, selection), [(short, 0)]);
}

#[test]
fn a_page_ends_at_its_bytes_and_one_row_may_be_larger() {
    let part = |partition, sizes: &[usize]| Part {
        partition,
        rows: (0..)
            .zip(sizes)
            .map(|(k, &size)| FoundRow {
                partition,
                key: vec![k],
                timestamp: 0,
                value: vec![0; size],
            })
            .collect(),
        stopped_at: None,
    };
    let page = merge(vec![part(0, &[BYTES_MAX + 1, 1]), part(1, &[1])], 10);
    assert_eq!(page.rows.len(), 1);
    assert_eq!(page.next, Some(After { key: vec![0], partition: 0 }));
    assert_eq!(merge(vec![part(0, &[1, 1]), part(1, &[1])], 10).next, None);
}

#[test]
fn rows_whose_commit_is_on_its_way_are_not_seen() {
    let mut cache = cache(0, &[(b"a".to_vec(), 1)]);
    let row = |n: u64| {
        let mut row = Vec::new();
        layout::encode_row(7, &n.to_be_bytes(), &mut row);
        Some(row.into())
    };
    let place = |key: &[u8]| {
        let mut place = Vec::new();
        layout::row_key(key, &mut place);
        place.into()
    };
    cache.prepare(place(b"a"), row(2));
    cache.prepare(place(b"b"), row(3));
    let asked = Caches(std::cell::RefCell::new(vec![cache]));
    let seen = |select: Select| {
        let selection = Selection { store: name(), select, after: None, limit: 10 };
        let rows = page(&asked, &selection).unwrap().rows;
        rows.into_iter().map(|row| (row.key, row.value)).collect::<Vec<_>>()
    };
    let all = || Select::Range { from: Vec::new(), to: None, only: Only::All };
    let one = |key: &[u8], n: u64| (key.to_vec(), n.to_be_bytes().to_vec());
    assert_eq!(seen(all()), [one(b"a", 1)]);
    assert_eq!(seen(Select::Key(b"a".to_vec())), [one(b"a", 1)]);
    assert_eq!(seen(Select::Key(b"b".to_vec())), []);
    let (told, _) = asked.ask(&Question::Stores).unwrap();
    assert_eq!(told.stores[0].rows, 1);
    let checkpoint = Checkpoint { log_id: [0; 16], topic_id: [0; 16], leader_epoch: 0, offset: 2 };
    asked.0.borrow_mut()[0].decided(Some(checkpoint), 0);
    assert_eq!(seen(all()), [one(b"a", 2), one(b"b", 3)]);
}
