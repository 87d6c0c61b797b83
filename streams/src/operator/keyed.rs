//! Hands typed records to an operator that works on encoded keys.
//!
//! Why encoded: the key of a store row, of a changelog record and of a repartition record are the same
//! bytes, so state is looked up without decoding a key.

use super::fold::WithHeaders;
use crate::error::Result;
use crate::key::Key;
use crate::processor::{Context, Process, ProcessKeyed, Record};

/// `convert` drops what the operator does not need.
pub(crate) struct Keyed<V2, F> {
    convert: F,
    next: Box<dyn ProcessKeyed<V2>>,
    scratch: Vec<u8>,
}

impl<V2, F> Keyed<V2, F> {
    pub(crate) fn new(convert: F, next: Box<dyn ProcessKeyed<V2>>) -> Self {
        Self { convert, next, scratch: Vec::new() }
    }
}

impl<K: Key, V, V2, F: Fn(V) -> V2> Process<K, V> for Keyed<V2, F> {
    fn process(&mut self, ctx: &mut Context, mut record: Record<K, V>) -> Result<()> {
        let Some(key) = record.key.take() else {
            ctx.counters.null_keys += 1;
            return Ok(());
        };
        self.scratch.clear();
        key.encode(&mut self.scratch);
        let stamp = record.stamp();
        let value = record.value.map(&self.convert);
        self.next.process(ctx, &self.scratch, value, stamp)
    }
}

/// The same for an operator that may have to pass on whole records.
pub(crate) struct KeyedWithHeaders<V> {
    next: Box<dyn ProcessKeyed<WithHeaders<V>>>,
    scratch: Vec<u8>,
}

impl<V> KeyedWithHeaders<V> {
    pub(crate) fn new(next: Box<dyn ProcessKeyed<WithHeaders<V>>>) -> Self {
        Self { next, scratch: Vec::new() }
    }
}

impl<K: Key, V> Process<K, V> for KeyedWithHeaders<V> {
    fn process(&mut self, ctx: &mut Context, mut record: Record<K, V>) -> Result<()> {
        let Some(key) = record.key.take() else {
            ctx.counters.null_keys += 1;
            return Ok(());
        };
        self.scratch.clear();
        key.encode(&mut self.scratch);
        let stamp = record.stamp();
        let headers = record.headers;
        let value = record.value.map(|value| WithHeaders { value, headers });
        self.next.process(ctx, &self.scratch, value, stamp)
    }
}
