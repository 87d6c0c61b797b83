//! Rows of one level of a row cache: found by hash, listed in order only where scans need it.
//!
//! Why: nearly every access is a get or a put of one key, and a hash table does that in a fraction
//! of what a tree needs. Only the time index and the rows of joins are scanned often while a job runs, so
//! only these are in a tree; a scan of other rows (rare: a query, slices whose time is up, a test) sorts
//! what it finds.
//!
//! ```text
//!   places: tag, row --> rows, in the order in which they came: key, value
//! ```
//!
//! Why tags: a table that grows moves them without a look at the keys, and a key is hashed once for all
//! levels of a cache.
//!
//! Invariants
//! * `bytes` is what the rows hold: keys, values and a fixed share for the tables themselves.
//! * a row without a value is a delete that has not reached the level below.
//! * a row stays at its place; only an undo takes rows away, the last one first.

use std::collections::{BTreeMap, btree_map};
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::layout::{
    Checkpoint, KIND_CHECKPOINT, KIND_FIRST, KIND_LISTED, KIND_TIME_INDEX, PREFIX_BYTES,
};

/// What a row costs besides its key and value: two handles, the table's slot and its slack, and the
/// allocator's rounding.
const ROW_OVERHEAD_BYTES: usize = 128;

/// Keys come from outside, so no two processes hash alike.
static HASHER: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);

/// What a key is looked up by in every level.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(u32);

impl Tag {
    pub(super) fn of(key: &[u8]) -> Self {
        let hash = HASHER.hash_one(key);
        Self(u32::try_from(hash >> 32).expect("half of the bits of a hash fit"))
    }

    /// A hash for the table, which looks at both of its ends.
    fn spread(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

#[derive(Clone, Copy)]
struct Place {
    tag: Tag,
    row: u32,
}

#[derive(Clone)]
struct Row {
    key: Bytes,
    value: Option<Bytes>,
}

#[derive(Clone, Default)]
pub(super) struct Level {
    places: HashTable<Place>,
    hashed: Vec<Row>,
    ordered: BTreeMap<Bytes, Option<Bytes>>,
    bytes: usize,
}

/// How a put can be taken back.
pub(super) struct Undo {
    at: At,
    /// `None`: there was no row.
    before: Option<Option<Bytes>>,
}

enum At {
    Hashed(usize),
    Ordered(Bytes),
}

impl Undo {
    /// Whether the row was there before.
    pub(super) fn is_change(&self) -> bool {
        self.before.is_some()
    }

    /// Bytes that are kept for it.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.before.as_ref().map_or(0, |value| value_bytes(value.as_ref()))
    }
}

fn is_ordered(key: &[u8]) -> bool {
    key.first().is_some_and(|&kind| kind == KIND_TIME_INDEX || kind == KIND_LISTED)
}

fn value_bytes(value: Option<&Bytes>) -> usize {
    value.map_or(0, Bytes::len)
}

impl Level {
    pub(super) fn rows(&self) -> usize {
        self.hashed.len() + self.ordered.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn place(&self, tag: Tag, key: &[u8]) -> Option<usize> {
        let is_it = |place: &Place| place.tag == tag && self.hashed[index(place.row)].key == key;
        self.places.find(tag.spread(), is_it).map(|place| index(place.row))
    }

    /// `Some(None)`: this level knows that the row is deleted.
    pub(super) fn get(&self, tag: Tag, key: &[u8]) -> Option<Option<&Bytes>> {
        let row = if is_ordered(key) {
            self.ordered.get(key)
        } else {
            self.place(tag, key).map(|place| &self.hashed[place].value)
        };
        row.map(Option::as_ref)
    }

    pub(super) fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        if is_ordered(&key) {
            self.put_ordered(key, value);
        } else {
            let tag = Tag::of(&key);
            let known = self.place(tag, &key);
            self.put_hashed(known, (tag, key), value);
        }
    }

    /// The same, in a way that can be taken back.
    pub(super) fn put_undoably(&mut self, key: Bytes, value: Option<Bytes>) -> Undo {
        if is_ordered(&key) {
            let before = self.put_ordered(key.clone(), value);
            return Undo { at: At::Ordered(key), before };
        }
        let tag = Tag::of(&key);
        let known = self.place(tag, &key);
        self.put_hashed(known, (tag, key), value)
    }

    /// The same of a row that is found by hash, whose key is copied if it is not there.
    pub(super) fn put_copy_undoably(&mut self, key: &[u8], value: Option<Bytes>) -> Undo {
        if is_ordered(key) {
            return self.put_undoably(Bytes::copy_from_slice(key), value);
        }
        let tag = Tag::of(key);
        let known = self.place(tag, key);
        let key = match known {
            Some(place) => std::mem::take(&mut self.hashed[place].key),
            None => Bytes::copy_from_slice(key),
        };
        self.put_hashed(known, (tag, key), value)
    }

    fn put_ordered(&mut self, key: Bytes, value: Option<Bytes>) -> Option<Option<Bytes>> {
        let key_bytes = key.len();
        self.bytes += value_bytes(value.as_ref());
        let before = self.ordered.insert(key, value);
        self.replaced(key_bytes, before.as_ref());
        before
    }

    /// The key is replaced too: it shares a buffer with its value, and the older one should go.
    fn put_hashed(
        &mut self,
        known: Option<usize>,
        (tag, key): (Tag, Bytes),
        value: Option<Bytes>,
    ) -> Undo {
        self.bytes += value_bytes(value.as_ref());
        let (key_bytes, row) = (key.len(), Row { key, value });
        let (place, before) = match known {
            Some(place) => (place, Some(std::mem::replace(&mut self.hashed[place], row).value)),
            None => (self.add(tag, row), None),
        };
        self.replaced(key_bytes, before.as_ref());
        Undo { at: At::Hashed(place), before }
    }

    fn add(&mut self, tag: Tag, row: Row) -> usize {
        let place = self.hashed.len();
        let number = u32::try_from(place).expect("a level is flushed long before so many rows");
        self.places.insert_unique(tag.spread(), Place { tag, row: number }, |p| p.tag.spread());
        self.hashed.push(row);
        place
    }

    fn replaced(&mut self, key_bytes: usize, before: Option<&Option<Bytes>>) {
        match before {
            Some(value) => self.bytes -= value_bytes(value.as_ref()),
            None => self.bytes += key_bytes + ROW_OVERHEAD_BYTES,
        }
    }

    /// Takes back a put, the last one first; answers what it had put.
    pub(super) fn undo(&mut self, Undo { at, before }: Undo) -> (Bytes, Option<Bytes>) {
        let (key, value) = match (at, &before) {
            (At::Ordered(key), _) => {
                let value = match &before {
                    Some(before) => self.ordered.insert(key.clone(), before.clone()),
                    None => self.ordered.remove(&key),
                };
                (key, value.flatten())
            }
            (At::Hashed(place), Some(before)) => {
                let row = &mut self.hashed[place];
                (row.key.clone(), std::mem::replace(&mut row.value, before.clone()))
            }
            (At::Hashed(place), None) => {
                let row = self.hashed.pop().expect("rows that were added are there");
                assert_eq!(place, self.hashed.len(), "rows go in the reverse order");
                let is_it = |p: &Place| index(p.row) == place;
                if let Ok(found) = self.places.find_entry(Tag::of(&row.key).spread(), is_it) {
                    found.remove();
                }
                (row.key, row.value)
            }
        };
        self.bytes -= value_bytes(value.as_ref());
        match before {
            Some(before) => self.bytes += value_bytes(before.as_ref()),
            None => self.bytes -= key.len() + ROW_OVERHEAD_BYTES,
        }
        (key, value)
    }

    /// Takes over rows that are older than this level's own: they show only where it has none.
    pub(super) fn put_below(&mut self, older: Level) {
        for (key, value) in older.into_rows() {
            let row_bytes = key.len() + value_bytes(value.as_ref()) + ROW_OVERHEAD_BYTES;
            if is_ordered(&key) {
                if let btree_map::Entry::Vacant(place) = self.ordered.entry(key) {
                    place.insert(value);
                    self.bytes += row_bytes;
                }
                continue;
            }
            let tag = Tag::of(&key);
            if self.place(tag, &key).is_none() {
                self.add(tag, Row { key, value });
                self.bytes += row_bytes;
            }
        }
    }

    /// All rows, in no order.
    pub(super) fn into_rows(self) -> impl Iterator<Item = (Bytes, Option<Bytes>)> {
        let hashed = self.hashed.into_iter().map(|row| (row.key, row.value));
        hashed.chain(self.ordered)
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
        if is_ordered(from) && to <= &[KIND_FIRST][..] {
            return Vec::new();
        }
        let rows = self.hashed.iter().map(|row| (&row.key, &row.value));
        let mut rows: Vec<_> = rows.filter(|(key, _)| from <= &key[..] && &key[..] < to).collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        rows
    }

    fn ordered_between(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> btree_map::Range<'_, Bytes, Option<Bytes>> {
        self.ordered.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)))
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
            .chain(&self.ordered);

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
        let keys = self.hashed.iter().map(|row| &row.key).chain(self.ordered.keys());
        keys.map(|key| PREFIX_BYTES + key.len()).sum::<usize>() + PREFIX_BYTES + 1
    }
}

/// The rows in the order of their keys. What follows where keys begin to differ tells nearly all of them
/// apart, and lies side by side here: hardly a comparison goes to the keys.
fn sorted(rows: &[Row]) -> impl Iterator<Item = (&Bytes, &Option<Bytes>)> {
    let first = rows.first().map_or(&[][..], |row| &row.key[..]);
    let shared = rows.iter().fold(first.len(), |shared, row| {
        first[..shared].iter().zip(&row.key).take_while(|(a, b)| a == b).count()
    });
    let mut rows: Vec<_> = rows.iter().map(|row| (leading(&row.key[shared..]), row)).collect();
    rows.sort_unstable_by(|(a, row_a), (b, row_b)| {
        a.cmp(b).then_with(|| row_a.key.cmp(&row_b.key))
    });
    rows.into_iter().map(|(_, row)| (&row.key, &row.value))
}

fn index(row: u32) -> usize {
    usize::try_from(row).expect("32 bits fit a usize")
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
mod tests;
