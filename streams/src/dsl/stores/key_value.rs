//! The latest value of each key, in the order of the keys.

use std::ops::{ControlFlow, RangeBounds};
use std::rc::Rc;

use super::{Handle, behind, bounds};
use crate::codec::Data;
use crate::dsl::{GlobalTable, Table};
use crate::error::Result;
use crate::key::{Key, RecordKey};
use crate::operator::{StateStore, StoreLink};
use crate::store::{Direction, View};
use crate::topology::NodeId;

/// A store of a processor, from [`Topology::store`](crate::Topology::store): the latest value of each key,
/// with its timestamp.
///
/// Clones are the same store.
///
/// ```
/// use streams::prelude::*;
/// const WORDS: Topic<String, String> = topic("words");
/// const FOUND: Topic<String, String> = topic("found");
///
/// /// Passes on the words known so far that begin like this one.
/// struct Complete { known: KeyValueStore<String, u64> }
/// impl Processor<String, String> for Complete {
///     type Key = String;
///     type Out = String;
///     fn stores(&self) -> Vec<&dyn StateStore> {
///         vec![&self.known]
///     }
///     fn record(&mut self, ctx: &mut Ctx<'_, String, String>, record: Record<String, String>) -> Processed {
///         let (Some(key), Some(word)) = (record.key, record.value) else { return Ok(()) };
///         for (longer, _) in self.known.prefix(&word)? {
///             ctx.forward(key.clone(), longer)?;
///         }
///         self.known.put_if_absent(&word, 1)?;
///         Ok(())
///     }
/// }
/// fn topology(t: &mut Topology) {
///     let known = t.store("known");
///     t.stream(WORDS).process("complete", Complete { known }).to(FOUND);
/// }
/// let mut d = TestDriver::new(topology);
/// for word in ["seal", "sea", "see", "se"] {
///     d.send(WORDS, "k".into(), word.into());
/// }
/// let found: Vec<String> = d.read(FOUND).into_iter().map(|(_, word)| word).collect();
/// assert_eq!(found, ["seal", "sea", "seal", "see"]);
/// ```
pub struct KeyValueStore<K, V> {
    rows: Handle<K, V>,
    has_ttl: bool,
}

impl<K, V> Clone for KeyValueStore<K, V> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone(), has_ttl: self.has_ttl }
    }
}

impl<K, V: Data> StateStore for KeyValueStore<K, V> {
    fn link(&self) -> StoreLink {
        self.rows.link()
    }
}

fn encoded<K: RecordKey>(key: &K) -> impl FnOnce(&mut Vec<u8>) + '_ {
    |out| {
        key.encode(out);
    }
}

impl<K: Key, V: Data> KeyValueStore<K, V> {
    pub(super) fn new(rows: Handle<K, V>, has_ttl: bool) -> Self {
        Self { rows, has_ttl }
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// S026: the store failed; S018: the processor does not list it.
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        Ok(self.get_stamped(key)?.map(|(value, _)| value))
    }

    /// The value of a key, and its timestamp.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_stamped(&self, key: &K) -> Result<Option<(V, i64)>> {
        let row = self.rows.at(encoded(key), |rows, key| rows.get(key))?;
        Ok(row.map(|row| (row.value, row.timestamp)))
    }

    /// Puts a value in place of what was there. Its timestamp is that of the record at hand; with a time
    /// to live, the clock of the record's source partition if that is later.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get). A value of more than 16 MiB stops the job when it is committed (S025).
    pub fn put(&self, key: &K, value: V) -> Result<()> {
        self.rows.at(encoded(key), |rows, key| {
            let now = rows.now().get();
            let at = if self.has_ttl { now.timestamp.max(now.source_time) } else { now.timestamp };
            rows.put(key, Some(value), at)
        })
    }

    /// Puts a value with a timestamp of its own.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn put_at(&self, key: &K, value: V, timestamp: i64) -> Result<()> {
        self.rows.at(encoded(key), |rows, key| rows.put(key, Some(value), timestamp))
    }

    /// Puts a value where there is none, and answers what was there.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn put_if_absent(&self, key: &K, value: V) -> Result<Option<V>> {
        let there = self.get(key)?;
        if there.is_none() {
            self.put(key, value)?;
        }
        Ok(there)
    }

    /// Deletes a value, and answers what was there.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn delete(&self, key: &K) -> Result<Option<V>> {
        self.rows.at(encoded(key), |rows, key| {
            let row = rows.get(key)?;
            if row.is_some() {
                let at = rows.now().get().timestamp;
                rows.put(key, None, at)?;
            }
            Ok(row.map(|row| row.value))
        })
    }

    /// The rows of a range, in the order of their keys: `range(..)` is all of them. What may be many is
    /// better visited: [`visit`](Self::visit).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn range(&self, range: impl RangeBounds<K>) -> Result<Vec<(K, V)>> {
        self.list(range, Direction::Forward)
    }

    /// The same, the last key first.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn reverse_range(&self, range: impl RangeBounds<K>) -> Result<Vec<(K, V)>> {
        self.list(range, Direction::Back)
    }

    fn list(&self, range: impl RangeBounds<K>, direction: Direction) -> Result<Vec<(K, V)>> {
        let (from, to) = bounds(&range);
        self.rows.collect((&from, to.as_deref()), direction, |key, row| {
            Ok(Some((self.rows.key_of(key)?, row.value)))
        })
    }

    /// The rows whose encoded keys begin with these bytes, in the order of their keys: for text keys, those
    /// that begin with this text.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Vec<(K, V)>> {
        let from = prefix.as_ref();
        let to = behind(from);
        self.rows.collect((from, to.as_deref()), Direction::Forward, |key, row| {
            Ok(Some((self.rows.key_of(key)?, row.value)))
        })
    }

    /// Calls a closure for the rows of a range in the order of their keys, until it breaks. The closure
    /// must not use the store.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn visit(
        &self,
        range: impl RangeBounds<K>,
        mut visit: impl FnMut(K, V) -> ControlFlow<()>,
    ) -> Result<()> {
        let (from, to) = bounds(&range);
        self.rows.visit((&from, to.as_deref()), Direction::Forward, |key, row| {
            let key = K::decode(Some(key)).ok().flatten();
            Ok(key.map_or(ControlFlow::Break(()), |key| visit(key, row.value)))
        })
    }
}

/// A table as a processor looks it up, from [`Table::view`] or [`GlobalTable::view`]: its rows as the
/// running transaction has them.
pub struct TableView<K, V> {
    node: NodeId,
    rows: Rc<dyn View<V>>,
    is_keyed: bool,
    key: std::marker::PhantomData<fn() -> K>,
}

impl<K, V> StateStore for TableView<K, V> {
    fn link(&self) -> StoreLink {
        StoreLink { node: self.node, used: None, timed: None, is_keyed: self.is_keyed }
    }
}

impl<K: Key, V> TableView<K, V> {
    /// The value of a key.
    ///
    /// # Errors
    ///
    /// S026: the store failed.
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        let mut bytes = Vec::new();
        key.encode(&mut bytes);
        Ok(self.rows.get(&bytes)?.map(|row| row.value))
    }
}

impl<K: RecordKey, V: Data> Table<K, V> {
    /// For a processor that looks the table up by the key of its record. It lists the view in its
    /// [`stores`](crate::Processor::stores).
    #[must_use]
    pub fn view(&self) -> TableView<K, V> {
        let key = std::marker::PhantomData;
        TableView { node: self.node, rows: Rc::clone(&self.rows), is_keyed: true, key }
    }
}

impl<K: RecordKey, V: Data> GlobalTable<K, V> {
    /// For a processor that looks the table up by any key. It lists the view in its
    /// [`stores`](crate::Processor::stores).
    #[must_use]
    pub fn view(&self) -> TableView<K, V> {
        let (node, rows) = self.parts();
        TableView { node, rows, is_keyed: false, key: std::marker::PhantomData }
    }
}
