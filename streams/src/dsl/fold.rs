//! Streams folded into a table: count, reduce, aggregate.
//!
//! ```text
//!   stream -- (repartition, behind key_by) -- fold in store -- table
//! ```
//!
//! Invariants
//! * a null value is counted and skipped; so is a null key.
//! * a row's timestamp is the largest of its records.

use super::assembly::Assembly;
use super::stream::{Placed, decode_carried, store_name};
use super::{Stream, Table};
use crate::codec::Data;
use crate::ids::StoreName;
use crate::key::{Key, RecordKey};
use crate::operator::{Aggregate, Fold};
use crate::processor::Shared;
use crate::topology::{Carries, Kind};

impl<K: RecordKey, V: Data> Stream<K, V> {
    /// Counts the records of each key. A null value is counted as such and skipped.
    pub fn count(self, store: &str) -> Table<K, u64>
    where
        K: Key,
    {
        let place = store_name(&self.assembly, store).map(|name| {
            let place = self.counted(&name, None);
            (name, place)
        });
        let add = |n: &mut Option<u64>, more: u64| *n = Some(n.unwrap_or(0).saturating_add(more));
        folded(place, "count", Box::new(add))
    }

    /// Folds the records of each key into a value that starts from `A::default()`.
    pub fn aggregate<A: Data + Default>(
        self,
        store: &str,
        add: impl Fn(&mut A, V) + Send + 'static,
    ) -> Table<K, A>
    where
        K: Key,
    {
        folded(self.with_values(store), "aggregate", from_default(add))
    }

    /// Folds the records of each key into one value of their own type: the first one, then what the
    /// closure makes of it and the next. A null value is counted and skipped.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const BIDS: Topic<String, u64> = topic("bids");
    /// const BEST: Topic<String, u64> = topic("best");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(BIDS).reduce("best", |best, bid| best.max(bid)).to(BEST);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(2);
    /// d.send(BIDS, "chair".into(), 20).send(BIDS, "chair".into(), 35).send(BIDS, "chair".into(), 30);
    /// assert_eq!(d.read(BEST).last(), Some(&("chair".to_string(), 35)));
    /// ```
    pub fn reduce(self, store: &str, fold: impl Fn(V, V) -> V + Send + 'static) -> Table<K, V>
    where
        K: Key,
    {
        let reduce = move |row: &mut Option<V>, value| {
            *row = Some(match row.take() {
                None => value,
                Some(so_far) => fold(so_far, value),
            });
        };
        folded(self.with_values(store), "reduce", Box::new(reduce))
    }

    /// The place of a fold that needs the values.
    pub(super) fn with_values(self, store: &str) -> Result<(StoreName, Placed<V>), Shared<Assembly>>
    where
        K: Key,
    {
        store_name(&self.assembly, store).map(|name| {
            let place = self.keyed(&name, Carries::Value, |v| v, decode_carried::<V>);
            (name, place)
        })
    }
}

/// A fold that starts from the default value.
pub(super) fn from_default<V, A: Default>(add: impl Fn(&mut A, V) + 'static) -> Fold<V, A> {
    Box::new(move |row, value| add(row.get_or_insert_default(), value))
}

/// The table of a fold in its place.
pub(super) fn folded<K: Key, V2: 'static, A: Data>(
    place: Result<(StoreName, Placed<V2>), Shared<Assembly>>,
    what: &'static str,
    fold: Fold<V2, A>,
) -> Table<K, A> {
    match place {
        Err(assembly) => Table::nowhere(assembly),
        Ok((store, (assembly, place))) => {
            let kind = Kind::Aggregate { store: store.clone(), what };
            Table::behind(assembly, place, store, kind, |rows| Box::new(Aggregate::new(fold, rows)))
        }
    }
}
