//! Folds the records of each key and window into one row: windowed count and aggregate.
//!
//! ```text
//!   record --- late? --> counted          window closes (operator's time >= end + grace):
//!      |                                    OnClose: passed on, with the largest timestamp of its
//!      `--> row (key, start, end)                    records as timestamp and source time
//!              |                            then the row is deleted: closed is closed
//!              `-- time index (end, key)
//! ```
//!
//! Why an index: closing must find the due windows without looking at the others. It is derived from
//! the rows, so the changelog does not carry it.
//!
//! Invariants
//! * the index has an entry exactly for each row that is there.
//! * windows close in (end, key) order.
//! * a window that closes with an update not yet passed on passes it on first.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::ControlFlow;

use super::aggregate::Add;
use crate::codec::Data;
use crate::error::{Error, Result};
use crate::ids::StoreName;
use crate::key::{Key, RecordKey, Windowed, split_windowed, windowed_key};
use crate::processor::{Changelog, Context, Next, ProcessKeyed, Record, Shared, Stateful, Timed};
use crate::record::Headers;
use crate::store::{Checkpoint, Overlay, RowCache, StoreError, layout};
use crate::time::{OpenWindows, Span, Stamp, TimeInputs, Tumbling, lagged};
use crate::topology::Emit;

/// How many due windows are collected at a time.
const DUE_AT_A_TIME: usize = 1_024;

/// One row per key and window.
pub(crate) struct WindowAggregate<K, V, A> {
    window: Tumbling,
    emit: Emit,
    inputs: TimeInputs,
    add: Add<V, A>,
    rows: Overlay<A>,
    /// Index entries that this transaction added (true) or removed (false).
    index: BTreeMap<Vec<u8>, bool>,
    /// No open window ends before this.
    earliest_end: Option<i64>,
    key: Vec<u8>,
    next: Next<Windowed<K>, A>,
    value: PhantomData<fn(V)>,
}

impl<K: Key, V, A: Data + Default> WindowAggregate<K, V, A> {
    pub(crate) fn new(
        store: StoreName,
        window: Tumbling,
        emit: Emit,
        inputs: TimeInputs,
        add: Add<V, A>,
        next: Next<Windowed<K>, A>,
    ) -> Self {
        Self {
            window,
            emit,
            inputs,
            add,
            rows: Overlay::new(store),
            index: BTreeMap::new(),
            earliest_end: None,
            key: Vec::new(),
            next,
            value: PhantomData,
        }
    }

    fn take(&mut self, ctx: &mut Context, key: &[u8], value: V, stamp: Stamp) -> Result<()> {
        let span = self.window.window_of(stamp.timestamp);
        if let Some(judge) = &mut ctx.judge {
            judge.look(self.rows.store(), key, (self.window, span), stamp);
        }
        if self.window.is_late(span, stamp.source_time) {
            ctx.late(self.rows.store(), key, stamp.timestamp, stamp.source_time);
            return Ok(());
        }
        self.key.clear();
        windowed_key(key, span.start, span.end, &mut self.key);
        let place = self.rows.find(&self.key)?;
        let row = self.rows.at(place);
        if row.value.is_none() {
            let mut entry = Vec::with_capacity(self.key.len() + 9);
            layout::time_index_key(span.end, &self.key, &mut entry);
            self.index.insert(entry, true);
            self.earliest_end = Some(self.earliest_end.map_or(span.end, |e| e.min(span.end)));
        }
        (self.add)(row.value.get_or_insert_default(), value);
        row.touch(stamp);
        Ok(())
    }

    fn is_due(&self, end: i64, start: i64, time: i64) -> bool {
        i128::from(time) >= self.window.deadline(Span { start, end })
    }

    /// Index entries of open windows from `from` on, in order, at most `limit`.
    fn open_windows(&mut self, from: &[u8], limit: usize) -> Result<Vec<Vec<u8>>> {
        let index = &self.index;
        let mut found = Vec::new();
        self.rows.behind().scan(from, &layout::TIME_INDEX_END, &mut |key, _| {
            if !index.contains_key(key) {
                found.push(key.to_vec());
            }
            if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let ours = index.range(from.to_vec()..).filter(|&(_, &present)| present);
        found.extend(ours.take(limit).map(|(key, _)| key.clone()));
        found.sort_unstable();
        found.truncate(limit);
        Ok(found)
    }

    fn close_due(&mut self, ctx: &mut Context, time: i64) -> Result<()> {
        // From the earliest open window on: what lies before it was closed, and a back end that has
        // not forgotten it yet would step over it row by row.
        let Some(earliest) = self.earliest_end else { return Ok(()) };
        let mut from = layout::time_index_bound(earliest).to_vec();
        loop {
            let open = self.open_windows(&from, DUE_AT_A_TIME)?;
            let full = open.len() == DUE_AT_A_TIME;
            for entry in open {
                let store = self.rows.store();
                let (end, key) =
                    layout::split_time_index(&entry).ok_or_else(|| no_window(store, &entry))?;
                let (_, start, _) = split_windowed(key).ok_or_else(|| no_window(store, key))?;
                if !self.is_due(end, start, time) {
                    self.earliest_end = Some(end);
                    return Ok(());
                }
                self.close_one(ctx, key)?;
                from.clone_from(&entry);
            }
            if !full {
                self.earliest_end = None;
                return Ok(());
            }
        }
    }

    fn close_one(&mut self, ctx: &mut Context, key: &[u8]) -> Result<()> {
        let place = self.rows.find(key)?;
        let row = self.rows.at(place);
        let speaks = match self.emit {
            Emit::OnClose => true,
            Emit::OnUpdate => row.take_unsent(),
        };
        let value = row.value.take();
        let (timestamp, committed) = (row.timestamp, row.is_committed());
        row.delete();
        let (end, mut entry) =
            (split_windowed(key).map_or(i64::MAX, |(_, _, end)| end), Vec::new());
        layout::time_index_key(end, key, &mut entry);
        if committed {
            self.index.insert(entry, false);
        } else {
            self.index.remove(&entry);
        }
        match value {
            Some(value) if speaks => self.pass_on(ctx, key, value, timestamp),
            _ => Ok(()),
        }
    }

    fn pass_on(&mut self, ctx: &mut Context, key: &[u8], value: A, timestamp: i64) -> Result<()> {
        let record = Record {
            key: decode_key::<Windowed<K>>(self.rows.store(), key)?,
            value: Some(value),
            timestamp,
            source_time: timestamp,
            headers: Headers::none(),
        };
        self.next.process(ctx, record)
    }
}

/// The typed key of a row of our own.
pub(crate) fn decode_key<K: RecordKey>(store: &StoreName, bytes: &[u8]) -> Result<Option<K>> {
    K::decode(Some(bytes)).map_err(|e| bad_key(store, bytes, &e.to_string()))
}

fn bad_key(store: &StoreName, bytes: &[u8], what: &str) -> Error {
    let reason = format!("the key {} of a row: {what}", bytes.escape_ascii());
    StoreError::Corrupt { store: store.clone(), reason }.into()
}

fn no_window(store: &StoreName, bytes: &[u8]) -> Error {
    bad_key(store, bytes, "it has no window")
}

impl<K: Key, V, A: Data + Default> ProcessKeyed<V> for Shared<WindowAggregate<K, V, A>> {
    fn process(
        &mut self,
        ctx: &mut Context,
        key: &[u8],
        value: Option<V>,
        stamp: Stamp,
    ) -> Result<()> {
        let Some(value) = value else {
            ctx.counters.null_values += 1;
            return Ok(());
        };
        self.borrow_mut().take(ctx, key, value, stamp)
    }
}

impl<K: Key, V, A: Data + Default> Timed for WindowAggregate<K, V, A> {
    fn fire(&mut self, ctx: &mut Context) -> Result<()> {
        let Some(earliest) = self.earliest_end else { return Ok(()) };
        let time = self.inputs.time(&ctx.clocks);
        let due = i128::from(earliest) + i128::from(self.window.grace_ms());
        if i128::from(time) < due { Ok(()) } else { self.close_due(ctx, time) }
    }

    fn inputs(&self) -> &TimeInputs {
        &self.inputs
    }
}

impl<K: Key, V, A: Data + Default> Stateful for WindowAggregate<K, V, A> {
    fn store(&self) -> &StoreName {
        self.rows.store()
    }

    fn open(&mut self, rows: RowCache) -> Result<()> {
        self.rows.open(rows);
        let first = self.open_windows(&[layout::KIND_TIME_INDEX], 1)?;
        let store = self.rows.store();
        let end = |entry: &Vec<u8>| {
            let split = layout::split_time_index(entry);
            split.map(|(end, _)| end).ok_or_else(|| no_window(store, entry))
        };
        self.earliest_end = first.first().map(end).transpose()?;
        Ok(())
    }

    fn index_entry(&self, key: &[u8]) -> Option<Vec<u8>> {
        let (_, _, end) = split_windowed(key)?;
        let mut entry = Vec::with_capacity(key.len() + 9);
        layout::time_index_key(end, key, &mut entry);
        Some(entry)
    }

    fn emit_updates(&mut self, ctx: &mut Context) -> Result<()> {
        if self.emit == Emit::OnClose {
            return Ok(());
        }
        for place in 0..self.rows.len() {
            let row = self.rows.at(place);
            if !row.take_unsent() {
                continue;
            }
            let (key, timestamp) = (row.key().to_vec(), row.timestamp);
            if let Some(value) = row.value.clone() {
                self.pass_on(ctx, &key, value, timestamp)?;
            }
        }
        Ok(())
    }

    fn prepare(&mut self, changelog: &mut Changelog<'_>) -> Result<()> {
        self.rows.prepare(|timestamp, key, value| changelog.push(timestamp, key, value))?;
        for (entry, present) in std::mem::take(&mut self.index) {
            self.rows.prepare_derived(entry, present);
        }
        Ok(())
    }

    fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) -> Result<()> {
        self.rows.committed(checkpoint, now_ms);
        Ok(())
    }

    fn windows(&self, clocks: &[i64]) -> Option<OpenWindows> {
        let closed_to = lagged(self.inputs.time(clocks), self.window.grace_ms());
        Some(OpenWindows { earliest_end: self.earliest_end, closed_to })
    }

    fn changed_rows(&self) -> usize {
        self.rows.len()
    }

    fn with_rows(&mut self, look: &mut dyn FnMut(&mut RowCache) -> Result<()>) -> Result<()> {
        look(self.rows.behind())
    }

    fn step(&mut self, now_ms: i64) -> Result<()> {
        Ok(self.rows.behind().step(now_ms)?)
    }

    fn close(&mut self) -> Result<()> {
        Ok(self.rows.behind().flush_all()?)
    }
}
