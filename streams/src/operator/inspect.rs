//! Shows each value to a closure and passes it on. A null value passes without a call.

use crate::error::Result;
use crate::processor::{Context, Next, Process, Record};

pub(crate) struct Inspect<K, V, F> {
    pub(crate) look: F,
    pub(crate) next: Next<K, V>,
}

impl<K, V, F: Fn(&V)> Process<K, V> for Inspect<K, V, F> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        if let Some(value) = &record.value {
            (self.look)(value);
        }
        self.next.process(ctx, record)
    }
}
