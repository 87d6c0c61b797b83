//! Replaces the value. A null value passes untouched.

use crate::error::Result;
use crate::processor::{Context, Next, Process, Record};

pub(crate) struct Map<K, V2, F> {
    pub(crate) map: F,
    pub(crate) next: Next<K, V2>,
}

impl<K, V, V2, F: Fn(V) -> V2> Process<K, V> for Map<K, V2, F> {
    fn process(&mut self, ctx: &mut Context, mut record: Record<K, V>) -> Result<()> {
        let value = record.value.take().map(&self.map);
        self.next.process(ctx, record.with_value(value))
    }
}
