//! Sends each record the way of the first case that says yes, or with the rest.
//!
//! Invariants
//! * a record goes exactly one way; cases are asked in the order in which they were said.
//! * a null value goes with the rest, without calling a closure: nobody has said yes to it. So does a
//!   record without a key where a case asks for one.
//! * on a way that leads nowhere records are counted as filtered.

use super::children::Children;
use crate::error::Result;
use crate::processor::{Context, Process, Record};

/// Whether a case takes a record.
pub(crate) type Case<K, V> = Box<dyn Fn(Option<&K>, &V) -> bool>;

pub(crate) struct Split<K, V> {
    pub(crate) cases: Vec<(Case<K, V>, Children<K, V>)>,
    pub(crate) rest: Children<K, V>,
}

impl<K: Clone, V: Clone> Process<K, V> for Split<K, V> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        let taken = record.value.as_ref().and_then(|value| {
            self.cases.iter_mut().find(|(takes, _)| takes(record.key.as_ref(), value))
        });
        let way = taken.map_or(&mut self.rest, |(_, way)| way);
        if way.is_empty() {
            ctx.counters.filtered += 1;
            return Ok(());
        }
        way.process(ctx, record)
    }
}
