//! Rows of one level of a row cache: found by hash, put in order when they are scanned.
//!
//! Why: nearly every access is a get or a put of one key, and a hash table does that in a fraction
//! of what a tree needs. The time index and listed rows, which are scanned while a job runs, get an order by
//! their first scan, which is kept up from then on: who never scans pays nothing for it. A scan of other
//! rows (rare: a query, slices whose time is up, a test) sorts what it finds.
//!
//! ```text
//!   places: tag, row --> rows, in the order in which they came: key, value
//!   orders: key, row -->        (from the first scan on)
//! ```
//!
//! Why tags: a table that grows moves them without a look at the keys, and a key is hashed once for all
//! levels of a cache.
//!
//! Invariants
//! * `bytes` is what the rows hold: keys, values and a fixed share for the tables themselves.
//! * a row without a value is a delete that has not reached the level below.
//! * a row stays at its place; only an undo takes rows away, the last one first.
//! * an order has all rows of its kind and no others.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::{LazyLock, OnceLock};

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

/// Kinds of rows that a batch tells apart; those beyond are sorted with the last one.
const KINDS: usize = 6;

/// Rows of one kind in the order of their keys.
type Order = BTreeMap<Bytes, usize>;

/// The kinds that may be scanned while a job runs, in order.
const ORDERED: [u8; 2] = [KIND_TIME_INDEX, KIND_LISTED];

#[derive(Clone, Default)]
pub(super) struct Level {
    places: HashTable<Place>,
    rows: Vec<Row>,
    orders: [OnceLock<Order>; ORDERED.len()],
    bytes: usize,
}

/// How a put can be taken back.
pub(super) struct Undo {
    place: usize,
    /// `None`: there was no row.
    before: Option<Option<Bytes>>,
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

/// Which order a row is in.
fn order_of(key: &[u8]) -> Option<usize> {
    ORDERED.iter().position(|kind| key.first() == Some(kind))
}

fn value_bytes(value: Option<&Bytes>) -> usize {
    value.map_or(0, Bytes::len)
}

impl Level {
    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn place(&self, tag: Tag, key: &[u8]) -> Option<usize> {
        let is_it = |place: &Place| place.tag == tag && self.rows[index(place.row)].key == key;
        self.places.find(tag.spread(), is_it).map(|place| index(place.row))
    }

    /// `Some(None)`: this level knows that the row is deleted.
    pub(super) fn get(&self, tag: Tag, key: &[u8]) -> Option<Option<&Bytes>> {
        self.place(tag, key).map(|place| self.rows[place].value.as_ref())
    }

    pub(super) fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        self.put_undoably(key, value);
    }

    /// The same, in a way that can be taken back.
    pub(super) fn put_undoably(&mut self, key: Bytes, value: Option<Bytes>) -> Undo {
        let tag = Tag::of(&key);
        let known = self.place(tag, &key);
        self.put_at(known, (tag, key), value)
    }

    /// The same of a row whose key is copied if it is not there.
    pub(super) fn put_copy_undoably(&mut self, key: &[u8], value: Option<Bytes>) -> Undo {
        let tag = Tag::of(key);
        let known = self.place(tag, key);
        let key = match known {
            Some(place) => std::mem::take(&mut self.rows[place].key),
            None => Bytes::copy_from_slice(key),
        };
        self.put_at(known, (tag, key), value)
    }

    /// The key is replaced too: it shares a buffer with its value, and the older one should go.
    fn put_at(
        &mut self,
        known: Option<usize>,
        (tag, key): (Tag, Bytes),
        value: Option<Bytes>,
    ) -> Undo {
        self.bytes += value_bytes(value.as_ref());
        let (key_bytes, row) = (key.len(), Row { key, value });
        let (place, before) = match known {
            Some(place) => (place, Some(std::mem::replace(&mut self.rows[place], row).value)),
            None => (self.add(tag, row), None),
        };
        match &before {
            Some(value) => self.bytes -= value_bytes(value.as_ref()),
            None => self.bytes += key_bytes + ROW_OVERHEAD_BYTES,
        }
        Undo { place, before }
    }

    fn add(&mut self, tag: Tag, row: Row) -> usize {
        let place = self.rows.len();
        let number = u32::try_from(place).expect("a level is flushed long before so many rows");
        self.places.insert_unique(tag.spread(), Place { tag, row: number }, |p| p.tag.spread());
        if let Some(order) = self.order_with(&row.key) {
            order.insert(row.key.clone(), place);
        }
        self.rows.push(row);
        place
    }

    /// The order that has to know of a row.
    fn order_with(&mut self, key: &[u8]) -> Option<&mut Order> {
        self.orders[order_of(key)?].get_mut()
    }

    /// For rows that are not scanned any more.
    pub(super) fn forget_order(&mut self) {
        self.orders = <[OnceLock<Order>; ORDERED.len()]>::default();
    }

    /// Takes back a put, the last one first; answers what it had put.
    pub(super) fn undo(&mut self, Undo { place, before }: Undo) -> (Bytes, Option<Bytes>) {
        let (key, value) = if let Some(before) = &before {
            let row = &mut self.rows[place];
            (row.key.clone(), std::mem::replace(&mut row.value, before.clone()))
        } else {
            let row = self.rows.pop().expect("rows that were added are there");
            assert_eq!(place, self.rows.len(), "rows go in the reverse order");
            let is_it = |p: &Place| index(p.row) == place;
            if let Ok(found) = self.places.find_entry(Tag::of(&row.key).spread(), is_it) {
                found.remove();
            }
            if let Some(order) = self.order_with(&row.key) {
                order.remove(&row.key);
            }
            (row.key, row.value)
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
            let tag = Tag::of(&key);
            if self.place(tag, &key).is_none() {
                self.add(tag, Row { key, value });
                self.bytes += row_bytes;
            }
        }
    }

    /// All rows, in no order.
    pub(super) fn into_rows(self) -> impl Iterator<Item = (Bytes, Option<Bytes>)> {
        self.rows.into_iter().map(|row| (row.key, row.value))
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
        .map(|(_, row)| (&row.key, row.value.as_ref()))
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
        .map(|(_, row)| (&row.key, row.value.as_ref()))
    }

    /// Rows that have no order, sorted; none where the range holds none of their kinds.
    fn hashed_between(&self, from: &[u8], to: &[u8]) -> Vec<(&[u8], &Row)> {
        if order_of(from).is_some() && to <= &[KIND_FIRST][..] {
            return Vec::new();
        }
        let rows = self.rows.iter().map(|row| (&row.key[..], row));
        let rows = rows.filter(|(key, _)| order_of(key).is_none());
        let mut rows: Vec<_> = rows.filter(|(key, _)| from <= *key && *key < to).collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        rows
    }

    /// Rows of the kinds that have an order, which is made where the range reaches them.
    fn ordered_between<'a>(
        &'a self,
        from: &'a [u8],
        to: &'a [u8],
    ) -> impl DoubleEndedIterator<Item = (&'a [u8], &'a Row)> {
        let reached = move |kind: u8| from < &[kind + 1][..] && to > &[kind][..];
        let kinds = ORDERED.iter().zip(&self.orders).filter(move |&(kind, _)| reached(*kind));
        // A level without rows has nothing to put in order yet.
        let kinds = kinds.filter(|_| !self.rows.is_empty());
        let orders = kinds.map(|(&kind, order)| order.get_or_init(|| self.in_order(kind)));
        let range = (Bound::Included(from), Bound::Excluded(to));
        let found = orders.flat_map(move |order| order.range::<[u8], _>(range));
        found.map(|(key, &place)| (&key[..], &self.rows[place]))
    }

    fn in_order(&self, kind: u8) -> Order {
        let rows = self.rows.iter().enumerate();
        let rows = rows.filter(|(_, row)| row.key.first() == Some(&kind));
        rows.map(|(place, row)| (row.key.clone(), place)).collect()
    }

    /// One batch for the store: these rows, sorted, and the checkpoint that they reach.
    pub(super) fn to_batch(
        &self,
        partition: u32,
        checkpoint: &Checkpoint,
    ) -> Vec<(Bytes, Option<Bytes>)> {
        let checkpoint_key = Bytes::from_static(&[KIND_CHECKPOINT]);
        let checkpoint = Some(Bytes::copy_from_slice(&checkpoint.encode()));
        // Kind by kind: what their keys share is then longer.
        let mut kinds = [const { Vec::new() }; KINDS];
        for row in &self.rows {
            let kind = row.key.first().map_or(0, |&kind| usize::from(kind));
            kinds[kind.min(KINDS - 1)].push(row);
        }
        let rows = std::iter::once((&checkpoint_key, &checkpoint))
            .chain(kinds.into_iter().flat_map(sorted));

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
        let keys = self.rows.iter().map(|row| PREFIX_BYTES + row.key.len());
        keys.sum::<usize>() + PREFIX_BYTES + 1
    }
}

/// The rows in the order of their keys. What follows where keys begin to differ tells nearly all of them
/// apart, and lies side by side here: hardly a comparison goes to the keys.
fn sorted(rows: Vec<&Row>) -> impl Iterator<Item = (&Bytes, &Option<Bytes>)> {
    let first = rows.first().map_or(&[][..], |row| &row.key[..]);
    let shared = rows.iter().fold(first.len(), |shared, row| {
        first[..shared].iter().zip(&row.key).take_while(|(a, b)| a == b).count()
    });
    let mut rows: Vec<_> = rows.into_iter().map(|row| (leading(&row.key[shared..]), row)).collect();
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
