//! Keeps the records whose value answers yes; the others are counted. A null value is kept.

use crate::error::Result;
use crate::processor::{Context, Next, Process, Record};

pub(crate) struct Filter<K, V, F> {
    pub(crate) keep: F,
    pub(crate) next: Next<K, V>,
}

impl<K, V, F: Fn(&V) -> bool> Process<K, V> for Filter<K, V, F> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        if record.value.as_ref().is_none_or(&self.keep) {
            self.next.process(ctx, record)
        } else {
            ctx.counters.filtered += 1;
            Ok(())
        }
    }
}
