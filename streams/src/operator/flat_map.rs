//! Replaces a value by any number of values, in order. A null value passes untouched.

use crate::error::Result;
use crate::processor::{Context, Next, Process, Record};

pub(crate) struct FlatMap<K, V2, F> {
    pub(crate) map: F,
    pub(crate) next: Next<K, V2>,
}

impl<K, V, V2, I, F> Process<K, V> for FlatMap<K, V2, F>
where
    K: Clone,
    I: IntoIterator<Item = V2>,
    F: Fn(V) -> I,
{
    fn process(&mut self, ctx: &mut Context, mut record: Record<K, V>) -> Result<()> {
        let Some(value) = record.value.take() else {
            return self.next.process(ctx, record.with_value(None));
        };
        for value in (self.map)(value) {
            let one = Record {
                key: record.key.clone(),
                value: Some(value),
                timestamp: record.timestamp,
                source_time: record.source_time,
                headers: record.headers.clone(),
            };
            self.next.process(ctx, one)?;
        }
        Ok(())
    }
}
