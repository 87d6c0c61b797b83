//! Sends each record one of two ways: where the answer is yes, and the rest.
//!
//! Invariants
//! * a record goes exactly one way.
//! * a null value goes with the rest, without calling the closure: nobody has said yes to it.
//! * on a way that leads nowhere records are counted as filtered.

use super::children::Children;
use crate::error::Result;
use crate::processor::{Context, Process, Record};

pub(crate) struct Branch<K, V, F> {
    pub(crate) is_first: F,
    pub(crate) first: Children<K, V>,
    pub(crate) rest: Children<K, V>,
}

impl<K: Clone, V: Clone, F: Fn(&V) -> bool> Process<K, V> for Branch<K, V, F> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        let is_first = record.value.as_ref().is_some_and(&self.is_first);
        let way = if is_first { &mut self.first } else { &mut self.rest };
        if way.is_empty() {
            ctx.counters.filtered += 1;
            return Ok(());
        }
        way.process(ctx, record)
    }
}
