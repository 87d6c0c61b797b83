//! Rows of one level of a row cache: found by hash, put in order when they are scanned.
//!
//! Why: nearly every access is a get or a put of one key, and a hash table does that in a fraction of what
//! a tree needs. Rows that may be scanned while a job runs (the time index, and those of joins, timers,
//! processors) get an order by their first scan, which is kept up from then on: who never scans pays
//! nothing for it. A scan of other rows (rare: a query, slices whose time is up, a test) sorts what it finds.
//!
//! Invariants
//! * `bytes` is what the rows hold: keys, values and a fixed share for the tables themselves.
//! * a row without a value is a delete that has not reached the level below.
//! * an order has exactly the keys of its rows.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use hashbrown::{HashMap, hash_map};

use super::layout::{
    Checkpoint, KIND_CHECKPOINT, KIND_LISTED, KIND_SLICE, KIND_TIME_INDEX, PREFIX_BYTES,
};

/// What a row costs besides its key and value: two handles, the table's slot and its slack, and the
/// allocator's rounding.
const ROW_OVERHEAD_BYTES: usize = 128;

type Rows = HashMap<Bytes, Option<Bytes>>;

/// Rows of one kind that may be scanned.
#[derive(Clone, Default)]
struct Listed {
    rows: Rows,
    /// The keys in order, from the first scan on.
    order: OnceLock<BTreeSet<Bytes>>,
}

impl Listed {
    fn order(&self) -> &BTreeSet<Bytes> {
        self.order.get_or_init(|| self.rows.keys().cloned().collect())
    }

    /// The rows with `from <= key < to` in the order of their keys.
    fn between<'a>(
        &'a self,
        from: &'a [u8],
        to: &'a [u8],
    ) -> impl DoubleEndedIterator<Item = (&'a Bytes, &'a Option<Bytes>)> {
        let order = (!self.rows.is_empty()).then(|| self.order());
        let range = (Bound::Included(from), Bound::Excluded(to));
        let keys = order.into_iter().flat_map(move |order| order.range::<[u8], _>(range));
        keys.filter_map(|key| self.rows.get_key_value(key))
    }
}

#[derive(Clone, Default)]
pub(super) struct Level {
    hashed: Rows,
    index: Listed,
    listed: Listed,
    bytes: usize,
}

fn value_bytes(value: Option<&Bytes>) -> usize {
    value.map_or(0, Bytes::len)
}

impl Level {
    pub(super) fn rows(&self) -> usize {
        self.hashed.len() + self.index.rows.len() + self.listed.rows.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn rows_like(&self, key: &[u8]) -> &Rows {
        match key.first() {
            Some(&KIND_TIME_INDEX) => &self.index.rows,
            Some(&KIND_LISTED) => &self.listed.rows,
            _ => &self.hashed,
        }
    }

    fn listed_like(&mut self, key: &[u8]) -> Option<&mut Listed> {
        match key.first() {
            Some(&KIND_TIME_INDEX) => Some(&mut self.index),
            Some(&KIND_LISTED) => Some(&mut self.listed),
            _ => None,
        }
    }

    /// `Some(None)`: this level knows that the row is deleted.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        self.rows_like(key).get(key).map(Option::as_ref)
    }

    pub(super) fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        let key_bytes = key.len();
        self.bytes += value_bytes(value.as_ref());
        let before = match self.listed_like(&key) {
            None => self.hashed.insert(key, value),
            Some(listed) => {
                // A key that is there already stays what the order shares with the rows.
                match listed.rows.entry(key) {
                    hash_map::Entry::Occupied(mut row) => Some(row.insert(value)),
                    hash_map::Entry::Vacant(place) => {
                        let key = listed.order.get_mut().map(|order| (order, place.key().clone()));
                        place.insert(value);
                        if let Some((order, key)) = key {
                            order.insert(key);
                        }
                        None
                    }
                }
            }
        };
        match before {
            Some(value) => self.bytes -= value_bytes(value.as_ref()),
            None => self.bytes += key_bytes + ROW_OVERHEAD_BYTES,
        }
    }

    /// How many rows there are of each kind.
    pub(super) fn sizes(&self) -> Sizes {
        [self.hashed.len(), self.index.rows.len(), self.listed.rows.len()]
    }

    /// Makes room for so many more rows of each kind.
    pub(super) fn reserve(&mut self, [hashed, index, listed]: Sizes) {
        self.hashed.reserve(hashed);
        self.index.rows.reserve(index);
        self.listed.rows.reserve(listed);
    }

    /// Takes over rows that are newer than this level's own.
    pub(super) fn put_above(&mut self, newer: Level) {
        if self.rows() == 0 {
            *self = newer;
            return;
        }
        if newer.rows() > self.rows() {
            let older = std::mem::replace(self, newer);
            return self.put_below(older);
        }
        self.reserve(newer.sizes());
        for (key, value) in newer.into_rows() {
            self.put(key, value);
        }
    }

    /// Takes over rows that are older than this level's own: they show only where it has none.
    pub(super) fn put_below(&mut self, older: Level) {
        self.reserve(older.sizes());
        for (key, value) in older.into_rows() {
            if self.get(&key).is_none() {
                self.put(key, value);
            }
        }
    }

    /// All rows, in no order.
    pub(super) fn into_rows(self) -> impl Iterator<Item = (Bytes, Option<Bytes>)> {
        self.hashed.into_iter().chain(self.index.rows).chain(self.listed.rows)
    }

    /// The rows with `from <= key < to` in the order of their keys. `from < to`.
    pub(super) fn range<'a>(
        &'a self,
        from: &'a [u8],
        to: &'a [u8],
    ) -> impl Iterator<Item = RowRef<'a>> + 'a {
        let mut hashed = self.hashed_between(from, to).into_iter().peekable();
        let mut ordered = self.ordered_between(from, to).peekable();
        std::iter::from_fn(move || match (hashed.peek(), ordered.peek()) {
            (Some((h, _)), Some((o, _))) if h < o => hashed.next(),
            (Some(_), None) => hashed.next(),
            _ => ordered.next(),
        })
        .map(|(key, value)| (key, value.as_ref()))
    }

    /// The same, the last key first.
    pub(super) fn range_back<'a>(
        &'a self,
        from: &'a [u8],
        to: &'a [u8],
    ) -> impl Iterator<Item = RowRef<'a>> + 'a {
        let mut hashed = self.hashed_between(from, to).into_iter().rev().peekable();
        let mut ordered = self.ordered_between(from, to).rev().peekable();
        std::iter::from_fn(move || match (hashed.peek(), ordered.peek()) {
            (Some((h, _)), Some((o, _))) if h > o => hashed.next(),
            (Some(_), None) => hashed.next(),
            _ => ordered.next(),
        })
        .map(|(key, value)| (key, value.as_ref()))
    }

    /// Rows that are found by hash, sorted; none where the range holds none of their kinds.
    fn hashed_between(&self, from: &[u8], to: &[u8]) -> Vec<(&Bytes, &Option<Bytes>)> {
        if from >= &[KIND_TIME_INDEX][..] && to <= &[KIND_SLICE][..] {
            return Vec::new();
        }
        let rows = self.hashed.iter();
        let mut rows: Vec<_> = rows.filter(|(key, _)| from <= &key[..] && &key[..] < to).collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        rows
    }

    /// Rows of the kinds that are kept in order, where the range reaches them.
    fn ordered_between<'a>(
        &'a self,
        from: &'a [u8],
        to: &'a [u8],
    ) -> impl DoubleEndedIterator<Item = (&'a Bytes, &'a Option<Bytes>)> {
        let reached = |kind: u8| from < &[kind + 1][..] && to > &[kind][..];
        let index = reached(KIND_TIME_INDEX).then(|| self.index.between(from, to));
        let listed = reached(KIND_LISTED).then(|| self.listed.between(from, to));
        index.into_iter().flatten().chain(listed.into_iter().flatten())
    }

    /// One batch for the store: these rows, sorted, and the checkpoint that they reach.
    pub(super) fn to_batch(
        &self,
        partition: u32,
        checkpoint: &Checkpoint,
    ) -> Vec<(Bytes, Option<Bytes>)> {
        let checkpoint_key = Bytes::from_static(&[KIND_CHECKPOINT]);
        let checkpoint = Some(Bytes::copy_from_slice(&checkpoint.encode()));
        let rows = std::iter::once((&checkpoint_key, &checkpoint))
            .chain(sorted(&self.hashed))
            .chain(sorted(&self.index.rows))
            .chain(sorted(&self.listed.rows));

        // The prefixed keys share one buffer: one allocation for the batch, not one for each row.
        let mut keys = BytesMut::with_capacity(self.keys_bytes());
        let mut batch = Vec::with_capacity(self.rows() + 1);
        for (key, value) in rows {
            keys.extend_from_slice(&partition.to_be_bytes());
            keys.extend_from_slice(key);
            batch.push((keys.split().freeze(), value.clone()));
        }
        batch
    }

    fn keys_bytes(&self) -> usize {
        let listed = self.index.rows.keys().chain(self.listed.rows.keys());
        let keys = self.hashed.keys().chain(listed);
        keys.map(|key| PREFIX_BYTES + key.len()).sum::<usize>() + PREFIX_BYTES + 1
    }
}

/// How many rows there are of each kind: those that are only found by hash, the time index, listed rows.
pub(super) type Sizes = [usize; 3];

/// The rows in the order of their keys. What follows where keys begin to differ tells nearly all of them
/// apart, and lies side by side here: hardly a comparison goes to the keys.
fn sorted(rows: &Rows) -> impl Iterator<Item = (&Bytes, &Option<Bytes>)> {
    let first = rows.keys().next().map_or(&[][..], |key| &key[..]);
    let shared = rows.keys().fold(first.len(), |shared, key| {
        first[..shared].iter().zip(key).take_while(|(a, b)| a == b).count()
    });
    let mut rows: Vec<_> =
        rows.iter().map(|(key, value)| (leading(&key[shared..]), key, value)).collect();
    rows.sort_unstable_by(|(a, key_a, _), (b, key_b, _)| a.cmp(b).then_with(|| key_a.cmp(key_b)));
    rows.into_iter().map(|(_, key, value)| (key, value))
}

/// A number that is in the order of the bytes, where it is not the same for both.
fn leading(bytes: &[u8]) -> u128 {
    let mut leading = [0; 16];
    let most = bytes.len().min(leading.len());
    leading[..most].copy_from_slice(&bytes[..most]);
    u128::from_be_bytes(leading)
}

/// A row in memory; `None` is a delete.
pub(super) type RowRef<'a> = (&'a Bytes, Option<&'a Bytes>);

/// Rows in the order of their keys, the upper ones over the lower ones.
pub(super) fn merged<'a>(
    upper: impl Iterator<Item = RowRef<'a>>,
    lower: impl Iterator<Item = RowRef<'a>>,
) -> impl Iterator<Item = RowRef<'a>> {
    merged_by(upper, lower, |below, above| below < above)
}

/// The same for rows of which the last comes first.
pub(super) fn merged_back<'a>(
    upper: impl Iterator<Item = RowRef<'a>>,
    lower: impl Iterator<Item = RowRef<'a>>,
) -> impl Iterator<Item = RowRef<'a>> {
    merged_by(upper, lower, |below, above| below > above)
}

fn merged_by<'a>(
    upper: impl Iterator<Item = RowRef<'a>>,
    lower: impl Iterator<Item = RowRef<'a>>,
    comes_first: impl Fn(&Bytes, &Bytes) -> bool,
) -> impl Iterator<Item = RowRef<'a>> {
    let (mut upper, mut lower) = (upper.peekable(), lower.peekable());
    std::iter::from_fn(move || {
        let Some((key, _)) = upper.peek() else {
            return lower.next();
        };
        if let Some(below) = lower.next_if(|(below, _)| comes_first(below, key)) {
            return Some(below);
        }
        let _hidden = lower.next_if(|(below, _)| below == key);
        upper.next()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::mem;

    use proptest::prelude::*;

    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
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
        assert_eq!(newer.get(b"\x01a"), Some(None));
        assert_eq!(newer.get(b"\x01b"), Some(Some(&bytes("old"))));
        assert_eq!(newer.get(b"\x01c"), None);
    }

    #[test]
    fn newer_rows_win_whichever_are_more() {
        let keys =
            |count: usize| ["\x01a", "\x02a", "\x03a", "\x04a", "\x01b"].into_iter().take(count);
        for (older, newer) in [(5, 2), (2, 5), (3, 3), (0, 4), (4, 0)] {
            let mut level = Level::default();
            keys(older).for_each(|key| level.put(bytes(key), Some(bytes("older"))));
            let mut above = Level::default();
            keys(newer).for_each(|key| above.put(bytes(key), Some(bytes("new"))));
            level.put_above(above);
            let mut expected = Level::default();
            keys(older).for_each(|key| expected.put(bytes(key), Some(bytes("older"))));
            keys(newer).for_each(|key| expected.put(bytes(key), Some(bytes("new"))));
            let rows = |level: &Level| {
                let rows =
                    level.range(b"\x01", b"\x7f").map(|(key, value)| (key.clone(), value.cloned()));
                rows.collect::<Vec<_>>()
            };
            assert_eq!(rows(&level), rows(&expected), "{older} under {newer}");
            assert_eq!((level.rows(), level.bytes()), (expected.rows(), expected.bytes()));
        }
    }

    #[test]
    fn a_batch_is_sorted_prefixed_and_carries_its_checkpoint() {
        let checkpoint =
            Checkpoint { log_id: [1; 16], topic_id: [2; 16], leader_epoch: 0, offset: 9 };
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
        /// Scans, first and later ones, between puts and levels that are taken over.
        #[test]
        fn scans_see_every_put_before_them(
            steps in prop::collection::vec((0_u8..4, 0_u8..30, any::<bool>(), 0_u8..6), 0..120),
        ) {
            let (mut level, mut newer) = (Level::default(), Level::default());
            let (mut expected, mut above) = (BTreeMap::new(), BTreeMap::new());
            for (n, (kind, key, is_there, step)) in (0_u32..).zip(steps) {
                let row = (Bytes::copy_from_slice(&[kind + 1, key]),
                    is_there.then(|| Bytes::copy_from_slice(&n.to_be_bytes())));
                above.insert(row.0.clone(), row.1.clone());
                newer.put(row.0, row.1);
                let (from, to) = ([kind + 1, key / 2], [kind + 1 + step % 2, key]);
                if step < 2 {
                    level.put_above(mem::take(&mut newer));
                    expected.append(&mut above);
                }
                if step > 3 && from < to {
                    let found = level.range(&from, &to).map(|(key, row)| (key.clone(), row.cloned()));
                    let found: Vec<_> = found.collect();
                    let mut back: Vec<_> = level.range_back(&from, &to).collect();
                    back.reverse();
                    let within = expected.range(Bytes::copy_from_slice(&from)..Bytes::copy_from_slice(&to));
                    let within: Vec<_> = within.map(|(key, row)| (key.clone(), row.clone())).collect();
                    prop_assert_eq!(back.len(), within.len());
                    prop_assert!(back.iter().zip(&found).all(|(back, found)| back.0 == &found.0));
                    prop_assert_eq!(found, within);
                }
            }
        }

        #[test]
        fn hashed_rows_are_sorted_whatever_their_keys_share(
            shared in prop::collection::vec(any::<u8>(), 0..20),
            keys in prop::collection::vec(prop::collection::vec(0_u8..3, 0..24), 0..60),
        ) {
            let keys = keys.iter().map(|key| Bytes::from([&shared[..], key].concat()));
            let rows: HashMap<Bytes, Option<Bytes>> = keys.map(|key| (key, None)).collect();
            let mut expected: Vec<&Bytes> = rows.keys().collect();
            expected.sort_unstable();
            prop_assert_eq!(sorted(&rows).map(|(key, _)| key).collect::<Vec<_>>(), expected);
        }
    }
}
