//! A table grouped by another key: each change takes the old value out of its group and puts the new one
//! into its own.
//!
//! ```text
//!   Change(old, new) -> Regroup -+- group key unchanged: one record (old, new)
//!                                `- else: (old, -) to the old group, (-, new) to the new one
//!                                        |  repartition topic
//!                                   TableAggregate: subtract old, then add new
//! ```
//!
//! Invariants
//! * what is subtracted from a group was added to it before: both come from one task, in one order.
//! * with the group key unchanged no state between subtract and add is ever seen.
//!
//! Reference: Kafka Streams `KTableRepartitionMap`, `KTableAggregate`, `KTableReduce`; KIP-904.

use super::table::Change;
use crate::codec::Data;
use crate::error::Result;
use crate::key::Key;
use crate::processor::{Context, Next, Process, ProcessKeyed, Record, Shared};
use crate::record::Headers;
use crate::store::Overlay;
use crate::time::Stamp;

/// The group of a row, and what it brings to it.
pub(crate) type GroupOf<K, V, K2, V2> = Box<dyn Fn(&K, &V) -> (K2, V2)>;

/// Sends both values of a change to their groups.
pub(crate) struct Regroup<K, V, K2, V2> {
    group_of: GroupOf<K, V, K2, V2>,
    next: Next<K2, Change<V2>>,
    keys: (Vec<u8>, Vec<u8>),
}

impl<K, V, K2, V2> Regroup<K, V, K2, V2> {
    pub(crate) fn new(group_of: GroupOf<K, V, K2, V2>, next: Next<K2, Change<V2>>) -> Self {
        Self { group_of, next, keys: (Vec::new(), Vec::new()) }
    }
}

impl<K: Clone, V, K2: Key, V2> Process<K, Change<V>> for Regroup<K, V, K2, V2> {
    fn process(&mut self, ctx: &mut Context, mut record: Record<K, Change<V>>) -> Result<()> {
        let (Some(change), Some(key)) = (record.value.take(), record.key.take()) else {
            return Ok(());
        };
        let group_of = |value: Option<V>| value.map(|value| (self.group_of)(&key, &value));
        let (old, new) = (group_of(change.old), group_of(change.new));
        let Stamp { timestamp, source_time } = record.stamp();
        let mut send = |key: K2, old: Option<V2>, new: Option<V2>| {
            let (key, value, headers) = (Some(key), Some(Change { old, new }), Headers::none());
            self.next.process(ctx, Record { key, value, timestamp, source_time, headers })
        };
        match (old, new) {
            (None, None) => Ok(()),
            (Some((key, old)), None) => send(key, Some(old), None),
            (None, Some((key, new))) => send(key, None, Some(new)),
            (Some((old_key, old)), Some((key, new))) => {
                let (before, after) = &mut self.keys;
                before.clear();
                after.clear();
                old_key.encode(before);
                key.encode(after);
                if before == after {
                    return send(key, Some(old), Some(new));
                }
                send(old_key, Some(old), None)?;
                send(key, None, Some(new))
            }
        }
    }
}

/// What a group is after a change; `None`: there is no such group, and the change brings none.
pub(crate) type ChangeFold<V, A> = Box<dyn Fn(Option<A>, Change<V>) -> Option<A>>;

/// One row per group.
pub(crate) struct TableAggregate<V, A> {
    fold: ChangeFold<V, A>,
    rows: Shared<Overlay<A>>,
}

impl<V, A> TableAggregate<V, A> {
    pub(crate) fn new(fold: ChangeFold<V, A>, rows: Shared<Overlay<A>>) -> Self {
        Self { fold, rows }
    }
}

impl<V, A: Data> ProcessKeyed<Change<V>> for TableAggregate<V, A> {
    fn process(
        &mut self,
        ctx: &mut Context,
        key: &[u8],
        value: Option<Change<V>>,
        stamp: Stamp,
    ) -> Result<()> {
        let Some(change) = value else {
            ctx.counters.null_values += 1;
            return Ok(());
        };
        let mut rows = self.rows.borrow_mut();
        let place = rows.find(key)?;
        let row = rows.at(place);
        let was_there = row.value.is_some();
        row.value = (self.fold)(row.value.take(), change);
        if was_there || row.value.is_some() {
            row.touch(stamp);
        }
        Ok(())
    }
}

/// Leaves out what rows bring to their groups, where only their number matters.
pub(crate) struct Valueless<K> {
    pub(crate) next: Next<K, Change<()>>,
}

impl<K, V> Process<K, Change<V>> for Valueless<K> {
    fn process(&mut self, ctx: &mut Context, mut record: Record<K, Change<V>>) -> Result<()> {
        let change = record
            .value
            .take()
            .map(|Change { old, new }| Change { old: old.map(drop), new: new.map(drop) });
        self.next.process(ctx, record.with_value(change))
    }
}
