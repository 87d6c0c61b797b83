//! Where records of a global table enter a task: as those of any topic, but not counted.
//!
//! Why not counted: every task reads the whole topic, and a user who sent ten records sent ten.

use crate::error::Result;
use crate::processor::{Context, Entry};
use crate::record::RawRecord;

pub(crate) struct GlobalEntry<E> {
    pub(crate) entry: E,
}

impl<E: Entry> Entry for GlobalEntry<E> {
    fn timestamp(&mut self, ctx: &Context, input: usize, record: &RawRecord<'_>) -> Result<i64> {
        self.entry.timestamp(ctx, input, record)
    }

    fn process(&mut self, ctx: &mut Context, input: usize, record: &RawRecord<'_>) -> Result<()> {
        let records_in = ctx.counters.records_in;
        self.entry.process(ctx, input, record)?;
        ctx.counters.records_in = records_in;
        Ok(())
    }
}
