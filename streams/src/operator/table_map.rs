//! A table whose rows follow, one by one, from those of another: filtered or mapped, without a store.
//!
//! ```text
//!   parent's rows  <-- looks up -- MapView                 a row is made when somebody asks for it
//!   parent's changes --> MapChanges --> changes            old and new value, each through the closure
//! ```
//!
//! Invariants
//! * a change of a row that was not there and is not there is not passed on.
//! * the closure sees no null value.
//!
//! Reference: Kafka Streams `KTableFilter`, `KTableMapValues` without a store.

use std::rc::Rc;

use super::children::Children;
use super::table::Change;
use crate::error::Result;
use crate::ids::StoreName;
use crate::key::RecordKey;
use crate::processor::{Context, Process, Record};
use crate::store::{StoreError, Stored, View};

/// What becomes of a row; `None`: it has no part in the table.
pub(crate) enum RowMap<K, V, V2> {
    /// By its value.
    Value(Box<dyn Fn(V) -> Option<V2>>),
    /// By its key and its value.
    WithKey(Box<dyn Fn(&K, V) -> Option<V2>>),
}

/// Passes on what becomes of both values of a change.
pub(crate) struct MapChanges<K, V, V2> {
    map: Rc<RowMap<K, V, V2>>,
    next: Children<K, Change<V2>>,
}

impl<K, V, V2> MapChanges<K, V, V2> {
    pub(crate) fn new(map: Rc<RowMap<K, V, V2>>, next: Children<K, Change<V2>>) -> Self {
        Self { map, next }
    }
}

impl<K: Clone, V, V2: Clone> Process<K, Change<V>> for MapChanges<K, V, V2> {
    fn process(&mut self, ctx: &mut Context, mut record: Record<K, Change<V>>) -> Result<()> {
        let Some(Change { old, new }) = record.value.take() else { return Ok(()) };
        if self.next.is_empty() {
            return Ok(());
        }
        let key = record.key.as_ref();
        let map = |value: V| match (&*self.map, key) {
            (RowMap::Value(f), _) => f(value),
            (RowMap::WithKey(f), Some(key)) => f(key, value),
            (RowMap::WithKey(_), None) => None,
        };
        let (old, new) = (old.and_then(map), new.and_then(map));
        if old.is_none() && new.is_none() {
            return Ok(());
        }
        self.next.process(ctx, record.with_value(Some(Change { old, new })))
    }
}

/// Looks rows up in the parent and maps them.
pub(crate) struct MapView<K, V, V2> {
    store: StoreName,
    rows: Rc<dyn View<V>>,
    map: Rc<RowMap<K, V, V2>>,
}

impl<K, V, V2> MapView<K, V, V2> {
    pub(crate) fn new(store: StoreName, rows: Rc<dyn View<V>>, map: Rc<RowMap<K, V, V2>>) -> Self {
        Self { store, rows, map }
    }
}

impl<K: RecordKey, V, V2> MapView<K, V, V2> {
    fn map(&self, key: &[u8], row: Option<Stored<V>>) -> Result<Option<Stored<V2>>, StoreError> {
        let Some(Stored { timestamp, value }) = row else { return Ok(None) };
        let value = match &*self.map {
            RowMap::Value(f) => f(value),
            RowMap::WithKey(f) => {
                let corrupt = |reason| StoreError::Corrupt { store: self.store.clone(), reason };
                let shown = key.escape_ascii();
                let key = K::decode(Some(key))
                    .map_err(|e| corrupt(format!("the key {shown} of a row: {e}")))?;
                key.and_then(|key| f(&key, value))
            }
        };
        Ok(value.map(|value| Stored { timestamp, value }))
    }
}

impl<K: RecordKey, V, V2> View<V2> for MapView<K, V, V2> {
    fn get(&self, key: &[u8]) -> Result<Option<Stored<V2>>, StoreError> {
        self.map(key, self.rows.get(key)?)
    }

    fn passed_on(&self, key: &[u8]) -> Result<Option<Stored<V2>>, StoreError> {
        self.map(key, self.rows.passed_on(key)?)
    }

    fn get_as_of(&self, key: &[u8], timestamp: i64) -> Result<Option<Stored<V2>>, StoreError> {
        self.map(key, self.rows.get_as_of(key, timestamp)?)
    }

    fn history_ms(&self) -> Option<i64> {
        self.rows.history_ms()
    }
}
