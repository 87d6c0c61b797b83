//! A stream that waits before it looks a versioned table up, so that what the table hears late counts.
//!
//! ```text
//!   record --> held until the operator's time >= timestamp + grace --> looked up as of its timestamp
//!
//!   key of a held row
//!   +---------------+-------------+--------------+
//!   | timestamp i64 | encoded key | sequence u64 |     sequence: tells records of one key and time apart
//!   +---------------+-------------+--------------+
//! ```
//!
//! Invariants
//! * held records are rows: a crash neither loses one nor joins it twice.
//! * they leave in the order of (timestamp, key); one whose time is up when it comes leaves at once.
//! * a null value is counted and skipped, and so is a null key where only matches speak; else it speaks
//!   at once, as there is nothing to wait for.
//!
//! On crash: as any store. Reference: Kafka Streams KIP-923, which dies of a null key here.

use std::ops::ControlFlow;
use std::rc::Rc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::window_aggregate::decode_key;
use crate::codec::Data;
use crate::error::Result;
use crate::ids::StoreName;
use crate::key::{Key, decode_i64, encode_i64};
use crate::processor::{
    Changelog, Context, Next, Process, Record, RowKinds, Shared, Stateful, Timed,
};
use crate::record::{Header, Headers};
use crate::store::{Checkpoint, OrderedOverlay, RowCache, Stored, View};
use crate::time::{TimeInputs, lagged};
use crate::topology::JoinKind;

/// Records that leave before the next ones are looked for.
const DUE_AT_A_TIME: usize = 256;

/// What is kept of a record that waits, beside its key and timestamp.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Held<V> {
    value: V,
    source_time: i64,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A held record with the key of its row.
type HeldRow<V> = (Vec<u8>, Stored<Held<V>>);

/// What both make together; `None`: nothing.
pub(crate) type Matched<V, T, R> = Box<dyn Fn(V, Option<T>) -> Option<R>>;

/// How long records wait, and by whose time.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    pub(crate) grace_ms: i64,
    pub(crate) inputs: TimeInputs,
}

/// The stream's side of the join.
pub(crate) struct GraceJoin<K, V, T, R> {
    kind: JoinKind,
    patience: Patience,
    rows: OrderedOverlay<Held<V>>,
    table: Rc<dyn View<T>>,
    join: Matched<V, T, R>,
    /// No held record is older; `None`: none is held.
    earliest: Option<i64>,
    /// The last row put, without and with its sequence.
    last: Option<(Vec<u8>, u64)>,
    next: Next<K, R>,
}

impl<K, V: Data, T, R> GraceJoin<K, V, T, R> {
    pub(crate) fn new(
        kind: JoinKind,
        patience: Patience,
        store: StoreName,
        table: Rc<dyn View<T>>,
        join: Matched<V, T, R>,
        next: Next<K, R>,
    ) -> Self {
        let rows = OrderedOverlay::new(store);
        Self { kind, patience, rows, table, join, earliest: None, last: None, next }
    }

    /// The next sequence under this time and key. They have no gaps, so what is free is found by halves.
    fn sequence(&mut self, head: &[u8]) -> Result<u64> {
        if let Some((last, sequence)) = &self.last
            && last == head
        {
            return Ok(sequence + 1);
        }
        let mut is_free = |sequence: u64| -> Result<bool> {
            Ok(self.rows.get(&[head, &sequence.to_be_bytes()].concat())?.is_none())
        };
        let (mut taken, mut step) = (0, 1);
        if is_free(0)? {
            return Ok(0);
        }
        while !is_free(taken + step)? {
            (taken, step) = (taken + step, step * 2);
        }
        let mut free = taken + step;
        while free - taken > 1 {
            let middle = taken.midpoint(free);
            if is_free(middle)? { free = middle } else { taken = middle }
        }
        Ok(free)
    }

    fn look_ahead(&mut self) -> Result<()> {
        let mut earliest = None;
        self.rows.scan(&[], None, &mut |row, _| {
            earliest = split_held(row).map(|(timestamp, _)| timestamp);
            ControlFlow::Break(())
        })?;
        self.earliest = earliest;
        Ok(())
    }

    /// Held records up to a time, in their order, some at a time.
    fn due(&self, to: i64) -> Result<Vec<HeldRow<V>>> {
        let end = to.checked_add(1).map(encode_i64);
        let mut due = Vec::new();
        self.rows.scan(&[], end.as_ref().map(|end| &end[..]), &mut |row, held| {
            due.push((row.to_vec(), held));
            if due.len() < DUE_AT_A_TIME {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok(due)
    }
}

impl<K: Key, V: Data, T, R> GraceJoin<K, V, T, R> {
    fn take(&mut self, ctx: &mut Context, mut record: Record<K, V>) -> Result<()> {
        let Some(value) = record.value.take() else {
            ctx.counters.null_values += 1;
            return Ok(());
        };
        let Some(key) = &record.key else {
            if self.kind == JoinKind::Inner {
                ctx.counters.null_keys += 1;
                return Ok(());
            }
            return match (self.join)(value, None) {
                Some(joined) => self.next.process(ctx, record.with_value(Some(joined))),
                None => Ok(()),
            };
        };
        let Record { timestamp, source_time, .. } = record;
        let mut row = encode_i64(timestamp).to_vec();
        key.encode(&mut row);
        let sequence = self.sequence(&row)?;
        self.last = Some((row.clone(), sequence));
        row.extend_from_slice(&sequence.to_be_bytes());
        let kept = |h: &Header| (h.key.clone(), h.value.as_ref().map(|value| value.to_vec()));
        let headers = record.headers.iter().map(kept).collect();
        let value = Held { value, source_time, headers };
        self.rows.put(&row, Some(Stored { timestamp, value }));
        self.earliest = Some(self.earliest.map_or(timestamp, |earliest| earliest.min(timestamp)));
        Ok(())
    }

    fn leave(&mut self, ctx: &mut Context, row: &[u8], held: Stored<Held<V>>) -> Result<()> {
        self.rows.put(row, None);
        let Stored { timestamp, value: Held { value, source_time, headers } } = held;
        let Some((_, key)) = split_held(row) else { return Ok(()) };
        let found = self.table.get_as_of(key, timestamp)?.map(|row| row.value);
        let Some(joined) = (self.join)(value, found) else { return Ok(()) };
        let key = decode_key::<K>(self.rows.store(), key)?;
        let headers: Headers =
            headers.into_iter().map(|(key, v)| Header { key, value: v.map(Bytes::from) }).collect();
        // It has waited for its timestamp, and so may the watermark have passed its source time.
        let (value, source_time) = (Some(joined), source_time.max(timestamp));
        self.next.process(ctx, Record { key, value, timestamp, source_time, headers })
    }
}

impl<K: Key, V: Data, T, R> Process<K, V> for Shared<GraceJoin<K, V, T, R>> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        self.borrow_mut().take(ctx, record)
    }
}

impl<K: Key, V: Data, T, R> Timed for GraceJoin<K, V, T, R> {
    fn fire(&mut self, ctx: &mut Context) -> Result<()> {
        let Some(earliest) = self.earliest else { return Ok(()) };
        let time = self.patience.inputs.time(&ctx.clocks);
        if i128::from(time) < i128::from(earliest) + i128::from(self.patience.grace_ms) {
            return Ok(());
        }
        let to = lagged(time, self.patience.grace_ms);
        self.last = None;
        loop {
            let due = self.due(to)?;
            let full = due.len() == DUE_AT_A_TIME;
            for (row, held) in due {
                self.leave(ctx, &row, held)?;
            }
            if !full {
                return self.look_ahead();
            }
        }
    }

    fn inputs(&self) -> &TimeInputs {
        &self.patience.inputs
    }
}

impl<K: Key, V: Data, T, R> Stateful for GraceJoin<K, V, T, R> {
    fn store(&self) -> &StoreName {
        self.rows.store()
    }

    fn open(&mut self, rows: RowCache) -> Result<()> {
        self.rows.open(rows);
        self.look_ahead()
    }

    fn row_kinds(&self) -> RowKinds {
        RowKinds::One(self.rows.kind())
    }

    fn prepare(&mut self, changelog: &mut Changelog<'_>) -> Result<()> {
        self.rows.prepare(|timestamp, key, value| changelog.push(timestamp, key, value))
    }

    fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) -> Result<()> {
        self.rows.committed(checkpoint, now_ms);
        Ok(())
    }

    fn changed_rows(&self) -> usize {
        self.rows.len()
    }

    fn with_rows(&mut self, look: &mut dyn FnMut(&mut RowCache) -> Result<()>) -> Result<()> {
        look(self.rows.behind())
    }
}

/// The timestamp and the encoded key of a held row.
pub(crate) fn split_held(row: &[u8]) -> Option<(i64, &[u8])> {
    let (timestamp, rest) = row.split_first_chunk::<8>()?;
    let (key, _sequence) = rest.split_last_chunk::<8>()?;
    Some((decode_i64(*timestamp), key))
}
