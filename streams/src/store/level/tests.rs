//! Levels against plain maps: counts, order, batches, and puts that are taken back.

use proptest::prelude::*;

use super::*;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn get<'a>(level: &'a Level, key: &[u8]) -> Option<Option<&'a Bytes>> {
    level.get(Tag::of(key), key)
}

#[test]
fn bytes_are_counted_through_puts_of_the_same_key() {
    let mut level = Level::default();
    level.put(bytes("\x01key"), Some(bytes("value")));
    assert_eq!(level.bytes(), 4 + 5 + ROW_OVERHEAD_BYTES);
    level.put(bytes("\x01key"), Some(bytes("v")));
    assert_eq!(level.bytes(), 4 + 1 + ROW_OVERHEAD_BYTES);
    level.put(bytes("\x01key"), None);
    assert_eq!(level.bytes(), 4 + ROW_OVERHEAD_BYTES);
    level.put(bytes("\x02index"), Some(Bytes::new()));
    assert_eq!(level.bytes(), 4 + 6 + 2 * ROW_OVERHEAD_BYTES);
    assert_eq!(level.rows(), 2);
}

#[test]
fn a_range_is_sorted_across_rows_and_index() {
    let mut level = Level::default();
    for key in ["\x02b", "\x01c", "\x04a", "\x01a", "\x02a", "\x03a", "\x01b"] {
        level.put(bytes(key), Some(bytes(key)));
    }
    let keys = |from: &str, to: &str| {
        let range = level.range(from.as_bytes(), to.as_bytes());
        range.map(|(key, _)| key.to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(keys("\x01b", "\x02b"), [b"\x01b", b"\x01c", b"\x02a"]);
    assert_eq!(keys("\x02a", "\x03"), [b"\x02a", b"\x02b"]);
    assert_eq!(keys("\x01", "\x01b"), [b"\x01a"]);
    assert_eq!(keys("\x02b", "\x7f"), [b"\x02b", b"\x03a", b"\x04a"], "hashed rows behind");
    assert_eq!(keys("\x03", "\x04"), [b"\x03a"]);
}

#[test]
fn older_rows_show_only_where_there_are_none() {
    let (mut newer, mut older) = (Level::default(), Level::default());
    newer.put(bytes("\x01a"), None);
    older.put(bytes("\x01a"), Some(bytes("old")));
    older.put(bytes("\x01b"), Some(bytes("old")));
    newer.put_below(older);
    assert_eq!(get(&newer, b"\x01a"), Some(None));
    assert_eq!(get(&newer, b"\x01b"), Some(Some(&bytes("old"))));
    assert_eq!(get(&newer, b"\x01c"), None);
}

#[test]
fn a_batch_is_sorted_prefixed_and_carries_its_checkpoint() {
    let checkpoint = Checkpoint { log_id: [1; 16], topic_id: [2; 16], leader_epoch: 0, offset: 9 };
    let mut level = Level::default();
    for key in ["\x02a", "\x01b", "\x01a"] {
        level.put(bytes(key), Some(bytes("v")));
    }
    let batch = level.to_batch(3, &checkpoint);
    let keys: Vec<&[u8]> = batch.iter().map(|(key, _)| &key[..]).collect();
    let expected: [&[u8]; 4] =
        [b"\0\0\0\x03\0", b"\0\0\0\x03\x01a", b"\0\0\0\x03\x01b", b"\0\0\0\x03\x02a"];
    assert_eq!(keys, expected);
    let value = batch[0].1.as_ref().expect("a checkpoint has a value");
    assert_eq!(Checkpoint::decode(value), Some(checkpoint));
}

proptest! {
    #[test]
    fn hashed_rows_are_sorted_whatever_their_keys_share(
        shared in prop::collection::vec(any::<u8>(), 0..20),
        keys in prop::collection::vec(prop::collection::vec(0_u8..3, 0..24), 0..60),
    ) {
        let keys = keys.iter().map(|key| Bytes::from([&shared[..], key].concat()));
        let rows: Vec<Row> = keys.map(|key| Row { key, value: None }).collect();
        let mut expected: Vec<&Bytes> = rows.iter().map(|row| &row.key).collect();
        expected.sort_unstable();
        prop_assert_eq!(sorted(rows.iter().collect()).map(|(key, _)| key).collect::<Vec<_>>(), expected);
    }

    /// Scans, first and later ones, between puts and levels that are taken over.
    #[test]
    fn scans_see_every_put_before_them(
        steps in prop::collection::vec((0_u8..4, 0_u8..30, any::<bool>(), 0_u8..6), 0..120),
    ) {
        let (mut level, mut expected) = (Level::default(), BTreeMap::new());
        for (n, (kind, key, is_there, step)) in (0_u32..).zip(steps) {
            let row = (
                Bytes::copy_from_slice(&[kind + 1, key]),
                is_there.then(|| Bytes::copy_from_slice(&n.to_be_bytes())),
            );
            if step == 0 {
                let mut newer = Level::default();
                newer.put(row.0.clone(), row.1.clone());
                newer.put_below(std::mem::take(&mut level));
                level = newer;
            } else {
                level.put(row.0.clone(), row.1.clone());
            }
            expected.insert(row.0, row.1);
            let (from, to) = ([kind + 1, key / 2], [kind + 1 + step % 2, key]);
            if step > 3 && from < to {
                let found = level.range(&from, &to).map(|(key, row)| (key.clone(), row.cloned()));
                let found: Vec<_> = found.collect();
                let mut back: Vec<_> = level.range_back(&from, &to).collect();
                back.reverse();
                let within = Bytes::copy_from_slice(&from)..Bytes::copy_from_slice(&to);
                let within = expected.range(within).map(|(key, row)| (key.clone(), row.clone()));
                prop_assert_eq!(back.len(), found.len());
                prop_assert!(back.iter().zip(&found).all(|(back, found)| back.0 == &found.0));
                prop_assert_eq!(found, within.collect::<Vec<_>>());
            }
        }
    }

    /// Puts over older ones, taken back and put again: the level is that of a plain map each time.
    #[test]
    fn puts_are_taken_back_as_if_they_had_never_been(
        older in prop::collection::vec((1_u8..5, 0_u8..6, any::<Option<u8>>()), 0..20),
        newer in prop::collection::vec((1_u8..5, 0_u8..6, any::<Option<u8>>(), any::<bool>()), 0..20),
    ) {
        let value = |value: Option<u8>| value.map(|n| Bytes::from(vec![n; usize::from(n)]));
        let rows = |level: &Level| {
            let range = level.range(b"\x01", b"\x7f");
            let rows = range.map(|(key, value)| (key.clone(), value.cloned()));
            (rows.collect::<Vec<_>>(), level.rows(), level.bytes())
        };
        let mut level = Level::default();
        for (kind, key, n) in older {
            level.put(Bytes::from(vec![kind, key]), value(n));
        }
        let before = rows(&level);
        let mut undos: Vec<Undo> = Vec::new();
        for (kind, key, n, copied) in newer {
            let key = vec![kind, key];
            undos.push(if copied {
                level.put_copy_undoably(&key, value(n))
            } else {
                level.put_undoably(Bytes::from(key), value(n))
            });
        }
        let after = rows(&level);
        let mut taken: Vec<_> = undos.into_iter().rev().map(|undo| level.undo(undo)).collect();
        prop_assert_eq!(&rows(&level), &before);
        for (key, value) in before.0 {
            prop_assert_eq!(get(&level, &key), Some(value.as_ref()));
        }
        while let Some((key, value)) = taken.pop() {
            level.put(key, value);
        }
        prop_assert_eq!(rows(&level), after);
    }
}
