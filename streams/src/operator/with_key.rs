//! The steps whose closures see the key beside the value.
//!
//! Why one file: they share one rule. What asks for a key leaves out a record that has none, and counts
//! it; the steps that see values only pass it on.
//!
//! ```text
//!   keep the key      filter, inspect, for each, map values, flat map values     null value: untouched
//!   give another one  map, flat map, key by                                      null value: counted
//! ```
//!
//! Invariants
//! * no closure is called without both a key and a value.
//! * a step that gives another key leaves out null values: there is nothing to take a key from.

use crate::error::Result;
use crate::processor::{Context, Next, Process, Record};

/// Counts a record without a key.
fn no_key(ctx: &mut Context) -> Result<()> {
    ctx.counters.null_keys += 1;
    Ok(())
}

/// Counts a record without a value.
fn no_value(ctx: &mut Context) -> Result<()> {
    ctx.counters.null_values += 1;
    Ok(())
}

/// Keeps the records whose key and value answer yes; the others are counted.
pub(crate) struct FilterWithKey<K, V, F> {
    pub(crate) keep: F,
    pub(crate) next: Next<K, V>,
}

impl<K, V, F: Fn(&K, &V) -> bool> Process<K, V> for FilterWithKey<K, V, F> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        let Some(key) = &record.key else { return no_key(ctx) };
        if record.value.as_ref().is_none_or(|value| (self.keep)(key, value)) {
            return self.next.process(ctx, record);
        }
        ctx.counters.filtered += 1;
        Ok(())
    }
}

/// Shows each key and value to a closure and passes the record on.
pub(crate) struct InspectWithKey<K, V, F> {
    pub(crate) look: F,
    pub(crate) next: Next<K, V>,
}

impl<K, V, F: Fn(&K, &V)> Process<K, V> for InspectWithKey<K, V, F> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        let Some(key) = &record.key else { return no_key(ctx) };
        if let Some(value) = &record.value {
            (self.look)(key, value);
        }
        self.next.process(ctx, record)
    }
}

/// Calls a closure for each key and value: the end of a stream.
pub(crate) struct ForEachWithKey<F> {
    pub(crate) call: F,
}

impl<K, V, F: Fn(&K, &V)> Process<K, V> for ForEachWithKey<F> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        let Some(key) = &record.key else { return no_key(ctx) };
        if let Some(value) = &record.value {
            (self.call)(key, value);
        }
        Ok(())
    }
}

/// Replaces the value by one that follows from the key too.
pub(crate) struct MapValuesWithKey<K, V2, F> {
    pub(crate) map: F,
    pub(crate) next: Next<K, V2>,
}

impl<K, V, V2, F: Fn(&K, V) -> V2> Process<K, V> for MapValuesWithKey<K, V2, F> {
    fn process(&mut self, ctx: &mut Context, mut record: Record<K, V>) -> Result<()> {
        let Some(key) = &record.key else { return no_key(ctx) };
        let value = record.value.take().map(|value| (self.map)(key, value));
        self.next.process(ctx, record.with_value(value))
    }
}

/// Replaces the value by any number of values that follow from the key too, in order.
pub(crate) struct FlatMapValuesWithKey<K, V2, F> {
    pub(crate) map: F,
    pub(crate) next: Next<K, V2>,
}

impl<K, V, V2, I, F> Process<K, V> for FlatMapValuesWithKey<K, V2, F>
where
    K: Clone,
    I: IntoIterator<Item = V2>,
    F: Fn(&K, V) -> I,
{
    fn process(&mut self, ctx: &mut Context, mut record: Record<K, V>) -> Result<()> {
        let Some(key) = &record.key else { return no_key(ctx) };
        let Some(value) = record.value.take() else {
            return self.next.process(ctx, record.with_value(None));
        };
        let values = (self.map)(key, value);
        let rest = record.with_value(None::<()>);
        for value in values {
            self.next.process(ctx, rest.clone().with_value(Some(value)))?;
        }
        Ok(())
    }
}

/// Replaces key and value.
pub(crate) struct MapWithKey<K2, V2, F> {
    pub(crate) map: F,
    pub(crate) next: Next<K2, V2>,
}

impl<K, V, K2, V2, F: Fn(K, V) -> (K2, V2)> Process<K, V> for MapWithKey<K2, V2, F> {
    fn process(&mut self, ctx: &mut Context, mut record: Record<K, V>) -> Result<()> {
        let Some(key) = record.key.take() else { return no_key(ctx) };
        let Some(value) = record.value.take() else { return no_value(ctx) };
        let (key, value) = (self.map)(key, value);
        self.next.process(ctx, record.with_key(Some(key)).with_value(Some(value)))
    }
}

/// Replaces a record by any number of keys and values, in order.
pub(crate) struct FlatMapWithKey<K2, V2, F> {
    pub(crate) map: F,
    pub(crate) next: Next<K2, V2>,
}

impl<K, V, K2, V2, I, F> Process<K, V> for FlatMapWithKey<K2, V2, F>
where
    I: IntoIterator<Item = (K2, V2)>,
    F: Fn(K, V) -> I,
{
    fn process(&mut self, ctx: &mut Context, mut record: Record<K, V>) -> Result<()> {
        let Some(key) = record.key.take() else { return no_key(ctx) };
        let Some(value) = record.value.take() else { return no_value(ctx) };
        let rest = record.with_key(None::<()>).with_value(None::<()>);
        for (key, value) in (self.map)(key, value) {
            let one = rest.clone().with_key(Some(key)).with_value(Some(value));
            self.next.process(ctx, one)?;
        }
        Ok(())
    }
}

/// Gives each record a new key that follows from the old one and the value.
pub(crate) struct KeyByWithKey<K2, V, F> {
    pub(crate) key: F,
    pub(crate) next: Next<K2, V>,
}

impl<K, K2, V, F: Fn(&K, &V) -> K2> Process<K, V> for KeyByWithKey<K2, V, F> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        let Some(key) = &record.key else { return no_key(ctx) };
        let Some(value) = &record.value else { return no_value(ctx) };
        let key = (self.key)(key, value);
        self.next.process(ctx, record.with_key(Some(key)))
    }
}
