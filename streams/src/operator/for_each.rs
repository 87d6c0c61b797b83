//! Calls a closure for each value: the end of a stream. A null value does not call it.

use crate::error::Result;
use crate::processor::{Context, Process, Record};

pub(crate) struct ForEach<F> {
    pub(crate) call: F,
}

impl<K, V, F: Fn(&V)> Process<K, V> for ForEach<F> {
    fn process(&mut self, _ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        if let Some(value) = &record.value {
            (self.call)(value);
        }
        Ok(())
    }
}
