//! Gives each record a new key taken from its value.
//!
//! A null value has nothing to take a key from: it is counted and left out.

use crate::error::Result;
use crate::processor::{Context, Next, Process, Record};

pub(crate) struct KeyBy<K2, V, F> {
    pub(crate) key: F,
    pub(crate) next: Next<K2, V>,
}

impl<K, K2, V, F: Fn(&V) -> K2> Process<K, V> for KeyBy<K2, V, F> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        let Some(value) = &record.value else {
            ctx.counters.null_values += 1;
            return Ok(());
        };
        let key = (self.key)(value);
        self.next.process(ctx, record.with_key(Some(key)))
    }
}
