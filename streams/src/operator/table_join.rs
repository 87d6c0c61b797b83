//! A stream that looks something up in a table: by its own key, or by one taken from the value.
//!
//! Only the stream's records give results; a change of the table gives none. A record keeps its key,
//! its times and its headers.
//!
//! Invariants
//! * the table is as the running transaction has it; where it remembers what it was, as of the record.
//! * a null value is counted and skipped. So is a null key, unless records without a match speak too:
//!   then it is one.
//!
//! Reference: Kafka Streams `KStreamKTableJoinProcessor`; KIP-962 for null keys.

use std::rc::Rc;

use crate::codec::Data;
use crate::error::Result;
use crate::processor::{Context, Next, Process, Record};
use crate::store::View;
use crate::topology::JoinKind;

/// `key_of` appends the encoded key to look up, or says that there is none; `join` may say nothing.
pub(crate) struct TableJoin<K, T, R, L, F> {
    kind: JoinKind,
    rows: Rc<dyn View<T>>,
    key_of: L,
    join: F,
    next: Next<K, R>,
    key: Vec<u8>,
}

impl<K, T, R, L, F> TableJoin<K, T, R, L, F> {
    pub(crate) fn new(
        kind: JoinKind,
        rows: Rc<dyn View<T>>,
        key_of: L,
        join: F,
        next: Next<K, R>,
    ) -> Self {
        Self { kind, rows, key_of, join, next, key: Vec::new() }
    }
}

impl<K, V, T, R, L, F> Process<K, V> for TableJoin<K, T, R, L, F>
where
    T: Data,
    L: Fn(Option<&K>, &V, &mut Vec<u8>) -> bool,
    F: Fn(V, Option<T>) -> Option<R>,
{
    fn process(&mut self, ctx: &mut Context, mut record: Record<K, V>) -> Result<()> {
        let Some(value) = record.value.take() else {
            ctx.counters.null_values += 1;
            return Ok(());
        };
        self.key.clear();
        let found = if (self.key_of)(record.key.as_ref(), &value, &mut self.key) {
            self.rows.get_as_of(&self.key, record.timestamp)?.map(|row| row.value)
        } else if self.kind == JoinKind::Inner {
            ctx.counters.null_keys += 1;
            return Ok(());
        } else {
            None
        };
        match (self.join)(value, found) {
            Some(joined) => self.next.process(ctx, record.with_value(Some(joined))),
            None => Ok(()),
        }
    }
}
