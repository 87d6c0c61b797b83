//! A table that changes more slowly: each row at most once in a period of event time.
//!
//! ```text
//!   first change of a row      its period begins: due = its time + period
//!   further changes            take the place of what waits; the period stays
//!   operator's time >= due     one change is passed on: from what was said last to what waited
//!
//!   key of a row                                     value
//!   +---+-------------+
//!   | 0 | encoded key |                              what waits
//!   +---+----------+--+----------+
//!   | 1 | due i64  | encoded key |                   none: in the order in which rows are due
//!   +---+----------+-------------+
//! ```
//!
//! Invariants
//! * what waits is a row of a store: a crash neither loses it nor says it twice.
//! * whoever looks the table up finds what was said last, also while a newer value waits.
//! * rows that are due together are passed on in the order of (due, key).
//!
//! On crash: as any store. Reference: Kafka Streams `KTableSuppressProcessorSupplier`, KIP-328.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::children::Children;
use super::table::Change;
use super::window_aggregate::decode_key;
use crate::codec::Data;
use crate::error::Result;
use crate::ids::StoreName;
use crate::key::{Key, decode_i64, encode_i64};
use crate::processor::{Changelog, Context, Process, Record, RowKinds, Shared, Stateful, Timed};
use crate::record::Headers;
use crate::store::{Checkpoint, OrderedOverlay, RowCache, StoreError, Stored, View};
use crate::time::TimeInputs;

const ROW: u8 = 0;
const DUE: u8 = 1;
/// The tag and the time in front of a key in the order of due rows.
const DUE_HEAD_BYTES: usize = 9;
/// Rows that are passed on before the next ones are looked for.
const DUE_AT_A_TIME: usize = 256;

/// What a row has to say when its period is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting<V> {
    due: i64,
    /// What was said last.
    old: Option<V>,
    new: Option<V>,
    source_time: i64,
}

/// Rows that wait; those of the order of due rows hold nothing.
pub(crate) type WaitingRows<V> = Shared<OrderedOverlay<Option<Waiting<V>>>>;

/// Holds the changes of a table back until their periods are over.
pub(crate) struct AtMostEvery<K, V> {
    every_ms: i64,
    inputs: TimeInputs,
    store: StoreName,
    rows: WaitingRows<V>,
    /// No row is due before this; `None`: none waits.
    earliest: Option<i64>,
    key: Vec<u8>,
    next: Children<K, Change<V>>,
}

impl<K, V: Data> AtMostEvery<K, V> {
    pub(crate) fn new(
        store: StoreName,
        every_ms: i64,
        inputs: TimeInputs,
        rows: WaitingRows<V>,
        next: Children<K, Change<V>>,
    ) -> Self {
        let key = Vec::new();
        Self { every_ms, inputs, store, rows, earliest: None, key, next }
    }

    /// The first row in the order of what is due.
    fn look_ahead(&mut self) -> Result<()> {
        let mut earliest = None;
        self.rows.borrow().scan(&[DUE], None, &mut |entry, _| {
            earliest = split_due(entry).map(|(due, _)| due);
            ControlFlow::Break(())
        })?;
        self.earliest = earliest;
        Ok(())
    }

    /// Entries of rows that are due, in their order, some at a time.
    fn due_rows(&self, time: i64) -> Result<Vec<Vec<u8>>> {
        let to = time.checked_add(1).map_or_else(|| vec![DUE + 1], |end| due_key(end, &[]));
        let mut due = Vec::new();
        self.rows.borrow().scan(&[DUE], Some(&to), &mut |entry, _| {
            due.push(entry.to_vec());
            if due.len() < DUE_AT_A_TIME {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok(due)
    }
}

impl<K: Key, V: Data> AtMostEvery<K, V> {
    fn take(&mut self, ctx: &mut Context, mut record: Record<K, Change<V>>) -> Result<()> {
        let Some(Change { old, new }) = record.value.take() else { return Ok(()) };
        let Some(key) = &record.key else {
            ctx.counters.null_keys += 1;
            return Ok(());
        };
        self.key.clear();
        self.key.push(ROW);
        key.encode(&mut self.key);
        let (timestamp, source_time) = (record.timestamp, record.source_time);
        let mut rows = self.rows.borrow_mut();
        let waiting = match rows.get(&self.key)?.and_then(|row| row.value) {
            Some(known) => {
                Waiting { new, source_time: source_time.max(known.source_time), ..known }
            }
            None => {
                // A joined row may be stamped later than the clock that it came by.
                let due = timestamp.min(source_time).saturating_add(self.every_ms);
                let entry = due_key(due, &self.key[1..]);
                rows.put(&entry, Some(Stored { timestamp: due, value: None }));
                self.earliest = Some(self.earliest.map_or(due, |earliest| earliest.min(due)));
                Waiting { due, old, new, source_time }
            }
        };
        rows.put(&self.key, Some(Stored { timestamp, value: Some(waiting) }));
        Ok(())
    }

    fn pass_on(&mut self, ctx: &mut Context, entry: &[u8]) -> Result<()> {
        let key = &entry[DUE_HEAD_BYTES..];
        self.key.clear();
        self.key.push(ROW);
        self.key.extend_from_slice(key);
        let row = {
            let mut rows = self.rows.borrow_mut();
            let row = rows.get(&self.key)?;
            rows.put(&self.key, None);
            rows.put(entry, None);
            row
        };
        let Some(Stored { timestamp, value: Some(waiting) }) = row else { return Ok(()) };
        let Waiting { old, new, source_time, .. } = waiting;
        if old.is_none() && new.is_none() {
            return Ok(());
        }
        let key = decode_key::<K>(&self.store, key)?;
        let (value, headers) = (Some(Change { old, new }), Headers::none());
        self.next.process(ctx, Record { key, value, timestamp, source_time, headers })
    }
}

impl<K: Key, V: Data> Process<K, Change<V>> for Shared<AtMostEvery<K, V>> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, Change<V>>) -> Result<()> {
        self.borrow_mut().take(ctx, record)
    }
}

impl<K: Key, V: Data> Timed for AtMostEvery<K, V> {
    fn fire(&mut self, ctx: &mut Context) -> Result<()> {
        let time = self.inputs.time(&ctx.clocks);
        if self.earliest.is_none_or(|earliest| time < earliest) {
            return Ok(());
        }
        loop {
            let due = self.due_rows(time)?;
            let full = due.len() == DUE_AT_A_TIME;
            for entry in due {
                self.pass_on(ctx, &entry)?;
            }
            if !full {
                return self.look_ahead();
            }
        }
    }

    fn inputs(&self) -> &TimeInputs {
        &self.inputs
    }
}

impl<K: Key, V: Data> Stateful for AtMostEvery<K, V> {
    fn store(&self) -> &StoreName {
        &self.store
    }

    fn open(&mut self, rows: RowCache) -> Result<()> {
        self.rows.borrow_mut().open(rows);
        self.look_ahead()
    }

    fn row_kinds(&self) -> RowKinds {
        RowKinds::One(self.rows.borrow().kind())
    }

    fn prepare(&mut self, changelog: &mut Changelog<'_>) -> Result<()> {
        let mut rows = self.rows.borrow_mut();
        rows.prepare(|timestamp, key, value| changelog.push(timestamp, key, value))
    }

    fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) -> Result<()> {
        self.rows.borrow_mut().committed(checkpoint, now_ms);
        Ok(())
    }

    fn changed_rows(&self) -> usize {
        self.rows.borrow().len()
    }

    fn with_rows(&mut self, look: &mut dyn FnMut(&mut RowCache) -> Result<()>) -> Result<()> {
        look(self.rows.borrow_mut().behind())
    }
}

/// The table as it was said: rows that wait as they were before.
pub(crate) struct SaidView<V> {
    rows: WaitingRows<V>,
    /// What the changes are of.
    behind: Rc<dyn View<V>>,
    key: RefCell<Vec<u8>>,
}

impl<V> SaidView<V> {
    pub(crate) fn new(rows: WaitingRows<V>, behind: Rc<dyn View<V>>) -> Self {
        Self { rows, behind, key: RefCell::new(Vec::new()) }
    }
}

impl<V: Data> View<V> for SaidView<V> {
    fn get(&self, key: &[u8]) -> Result<Option<Stored<V>>, StoreError> {
        let mut tagged = self.key.borrow_mut();
        tagged.clear();
        tagged.push(ROW);
        tagged.extend_from_slice(key);
        match self.rows.borrow_mut().get(&tagged)?.and_then(|row| row.value) {
            // When it was said is not kept: it adds nothing to the time of what is joined with it.
            Some(waiting) => Ok(waiting.old.map(|value| Stored { timestamp: i64::MIN, value })),
            None => self.behind.passed_on(key),
        }
    }

    fn passed_on(&self, key: &[u8]) -> Result<Option<Stored<V>>, StoreError> {
        self.get(key)
    }
}

fn due_key(due: i64, key: &[u8]) -> Vec<u8> {
    [&[DUE][..], &encode_i64(due), key].concat()
}

/// The time and the encoded key of an entry in the order of what is due.
fn split_due(entry: &[u8]) -> Option<(i64, &[u8])> {
    let (due, key) = entry.strip_prefix(&[DUE])?.split_first_chunk::<8>()?;
    Some((decode_i64(*due), key))
}

/// When a row is due, where its key says it, and its encoded key: for whoever shows it.
pub(crate) fn split_waiting(row: &[u8]) -> Option<(Option<i64>, &[u8])> {
    let due = split_due(row).map(|(due, key)| (Some(due), key));
    due.or_else(|| row.strip_prefix(&[ROW]).map(|key| (None, key)))
}
