//! Folds the records of each key and window into one row, where windows follow from the clock alone:
//! tumbling, hopping, and the one since a moment.
//!
//! ```text
//!   record --- late? --> counted, routed      window closes (operator's time >= end + grace):
//!      |                                         OnClose: passed on, with the largest timestamp of its
//!      `--> row (key, start, end), each                   records as timestamp and source time
//!              |                                 then the row is deleted: closed is closed
//!              `-- time index (end, key)
//! ```
//!
//! Why places: a record of hopping windows changes size / step rows, which all are found by one look-up
//! for its key and its stretch between two steps.
//!
//! Invariants
//! * the index has an entry exactly for each row whose window can close.
//! * windows close in (end, key) order.
//! * a window that closes with an update not yet passed on passes it on first.
//! * a record counts as late once, if a window of its own had closed without it.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::due::{self, DUE_AT_A_TIME, TimeIndex};
use super::fold::{Folds, LateTo};
use crate::codec::Data;
use crate::error::{Error, Result};
use crate::ids::StoreName;
use crate::key::{Key, RecordKey, Windowed, split_windowed, windowed_key};
use crate::processor::{Changelog, Context, Next, ProcessKeyed, Record, Shared, Stateful, Timed};
use crate::record::Headers;
use crate::store::{Checkpoint, Overlay, RowCache, StoreError, layout};
use crate::time::{OpenWindows, Span, Stamp, TimeInputs, Windows, lagged};
use crate::topology::Emit;

/// What a step with windows is told of itself.
pub(crate) struct WindowStep {
    pub(crate) store: StoreName,
    pub(crate) windows: Windows,
    pub(crate) emit: Emit,
    pub(crate) inputs: TimeInputs,
}

/// The rows of a key's windows that cover one stretch between two steps, where they were found already.
struct Pane {
    first: Span,
    last: Span,
    key: Box<[u8]>,
    /// One for each window, the first one first; `None`: not found yet.
    rows: Vec<Option<usize>>,
}

/// Finds panes by their windows and key. They stay as long as the rows that they know.
#[derive(Default)]
struct Panes {
    cleared: u64,
    hasher: DefaultHashBuilder,
    places: HashTable<usize>,
    all: Vec<Pane>,
}

impl Panes {
    fn find(&mut self, key: &[u8], windows: &[Span]) -> Option<&mut Pane> {
        let (first, last) = (*windows.first()?, *windows.last()?);
        let hash = self.hasher.hash_one((first.start, last.start, key));
        let is_it = |&place: &usize| {
            let pane = &self.all[place];
            (pane.first, pane.last) == (first, last) && *pane.key == *key
        };
        let place = match self.places.find(hash, is_it) {
            Some(&place) => place,
            None => {
                let rows = vec![None; windows.len()];
                self.all.push(Pane { first, last, key: Box::from(key), rows });
                let (all, hasher, place) = (&self.all, &self.hasher, self.all.len() - 1);
                self.places.insert_unique(hash, place, |&place| {
                    let pane = &all[place];
                    hasher.hash_one((pane.first.start, pane.last.start, &*pane.key))
                });
                place
            }
        };
        self.all.get_mut(place)
    }

    /// Forgets all that is known if it is void, or more than the rows that there are.
    fn settle(&mut self, (cleared, rows): (u64, usize)) {
        if self.cleared != cleared || self.all.len() > rows {
            self.cleared = cleared;
            self.places.clear();
            self.all.clear();
        }
    }
}

/// One row per key and window.
pub(crate) struct WindowAggregate<K, V, A> {
    step: WindowStep,
    folds: Folds<V, A>,
    late: Option<LateTo<V>>,
    rows: Overlay<A>,
    panes: Panes,
    index: TimeIndex,
    /// Room for the windows of a record.
    windows: Vec<Span>,
    key: Vec<u8>,
    next: Next<Windowed<K>, A>,
}

impl<K: Key, V: Clone, A: Data> WindowAggregate<K, V, A> {
    pub(crate) fn new(
        step: WindowStep,
        folds: Folds<V, A>,
        late: Option<LateTo<V>>,
        next: Next<Windowed<K>, A>,
    ) -> Self {
        let rows = Overlay::new(step.store.clone());
        Self {
            step,
            folds,
            late,
            rows,
            panes: Panes::default(),
            index: TimeIndex::default(),
            windows: Vec::new(),
            key: Vec::new(),
            next,
        }
    }

    fn take(&mut self, ctx: &mut Context, key: &[u8], value: V, stamp: Stamp) -> Result<()> {
        let mut windows = std::mem::take(&mut self.windows);
        windows.clear();
        windows.extend(self.step.windows.windows_of(stamp.timestamp));
        if windows.is_empty() {
            ctx.counters.filtered += 1;
        }
        let mut in_time = 0;
        for &span in &windows {
            if let Some(judge) = &mut ctx.judge {
                judge.look(self.rows.store(), key, (self.step.windows, span), stamp);
            }
            in_time += usize::from(!self.step.windows.is_late(span, stamp.source_time));
        }
        // Windows close in the order in which they end: those that are in time are the last ones.
        let late = windows.len() - in_time;
        if late > 0 {
            ctx.late(self.rows.store(), key, stamp.timestamp, stamp.source_time);
            if let Some(to) = &mut self.late {
                to(ctx, key, value.clone(), stamp)?;
            }
        }
        let mut value = Some(value);
        for (at, span) in windows.iter().enumerate().skip(late) {
            let place = self.row(key, &windows, at)?;
            let row = self.rows.at(place);
            if row.value.is_none() && !self.step.windows.never_close() {
                self.index.add(span.end, row.key());
            }
            let given = if at + 1 == windows.len() { value.take() } else { value.clone() };
            let given = given.expect("the last window takes what the others were given copies of");
            (self.folds.add)(&mut row.value, given);
            row.touch(stamp);
        }
        self.windows = windows;
        Ok(())
    }

    /// The place of the row of one of a record's windows.
    fn row(&mut self, key: &[u8], windows: &[Span], at: usize) -> Result<usize> {
        let pane = if windows.len() > 1 { self.panes.find(key, windows) } else { None };
        let known = pane.map(|pane| &mut pane.rows[at]);
        if let Some(&mut Some(place)) = known {
            self.rows.touch(place);
            return Ok(place);
        }
        self.key.clear();
        windowed_key(key, windows[at].start, windows[at].end, &mut self.key);
        let place = self.rows.find(&self.key)?;
        if let Some(known) = known {
            *known = Some(place);
        }
        Ok(place)
    }

    fn is_due(&self, end: i64, start: i64, time: i64) -> bool {
        i128::from(time) >= self.step.windows.deadline(Span { start, end })
    }

    fn close_due(&mut self, ctx: &mut Context, time: i64) -> Result<()> {
        let Some(earliest) = self.index.earliest_end() else { return Ok(()) };
        let mut from = layout::time_index_bound(earliest).to_vec();
        loop {
            let open = self.index.from(&from, DUE_AT_A_TIME, self.rows.behind())?;
            let full = open.len() == DUE_AT_A_TIME;
            for entry in open {
                let store = self.rows.store();
                let (end, key) = due::split(store, &entry)?;
                let (_, start, _) = split_windowed(key).ok_or_else(|| no_window(store, key))?;
                if !self.is_due(end, start, time) {
                    self.index.set_earliest(Some(end));
                    return Ok(());
                }
                self.close_one(ctx, end, key)?;
                from.clone_from(&entry);
            }
            if !full {
                self.index.set_earliest(None);
                return Ok(());
            }
        }
    }

    fn close_one(&mut self, ctx: &mut Context, end: i64, key: &[u8]) -> Result<()> {
        let place = self.rows.find(key)?;
        let row = self.rows.at(place);
        let speaks = match self.step.emit {
            Emit::OnClose => true,
            Emit::OnUpdate => row.take_unsent(),
        };
        let value = row.value.take();
        let (timestamp, committed) = (row.timestamp, row.is_committed());
        row.delete();
        self.index.remove(end, key, committed);
        match value {
            Some(value) if speaks => {
                self.pass_on(ctx, key, value, Stamp { timestamp, source_time: timestamp })
            }
            _ => Ok(()),
        }
    }

    fn pass_on(&mut self, ctx: &mut Context, key: &[u8], value: A, stamp: Stamp) -> Result<()> {
        let record = Record {
            key: decode_key::<Windowed<K>>(self.rows.store(), key)?,
            value: Some(value),
            timestamp: stamp.timestamp,
            source_time: stamp.source_time,
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

pub(super) fn no_window(store: &StoreName, bytes: &[u8]) -> Error {
    bad_key(store, bytes, "it has no window")
}

impl<K: Key, V: Clone, A: Data> ProcessKeyed<V> for Shared<WindowAggregate<K, V, A>> {
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

impl<K: Key, V: Clone, A: Data> Timed for WindowAggregate<K, V, A> {
    fn fire(&mut self, ctx: &mut Context) -> Result<()> {
        let Some(earliest) = self.index.earliest_end() else { return Ok(()) };
        let time = self.step.inputs.time(&ctx.clocks);
        let due = i128::from(earliest) + i128::from(self.step.windows.grace_ms());
        if i128::from(time) < due { Ok(()) } else { self.close_due(ctx, time) }
    }

    fn inputs(&self) -> &TimeInputs {
        &self.step.inputs
    }
}

impl<K: Key, V: Clone, A: Data> Stateful for WindowAggregate<K, V, A> {
    fn store(&self) -> &StoreName {
        self.rows.store()
    }

    fn open(&mut self, rows: RowCache) -> Result<()> {
        self.rows.open(rows);
        self.index.open(&self.step.store, self.rows.behind())
    }

    fn index_entry(&self, key: &[u8]) -> Option<Vec<u8>> {
        let (_, _, end) = split_windowed(key).filter(|_| !self.step.windows.never_close())?;
        Some(due::entry(end, key))
    }

    fn emit_updates(&mut self, ctx: &mut Context) -> Result<()> {
        if self.step.emit == Emit::OnClose {
            return Ok(());
        }
        for nth in 0..self.rows.len() {
            let place = self.rows.touched(nth);
            let row = self.rows.at(place);
            if !row.take_unsent() {
                continue;
            }
            let timestamp = row.timestamp;
            // What never closes has no bound that its watermark could lag by: like a table, it passes
            // on the source time of what has come.
            let never = self.step.windows.never_close();
            let source_time = if never { row.source_time } else { timestamp };
            let Some(value) = row.value.clone() else { continue };
            let key = decode_key::<Windowed<K>>(&self.step.store, row.key())?;
            let headers = Headers::none();
            let record = Record { key, value: Some(value), timestamp, source_time, headers };
            self.next.process(ctx, record)?;
        }
        Ok(())
    }

    fn prepare(&mut self, changelog: &mut Changelog<'_>) -> Result<()> {
        self.rows.prepare(|timestamp, key, value| changelog.push(timestamp, key, value))?;
        self.panes.settle(self.rows.kept());
        let rows = &mut self.rows;
        self.index.prepare(|entry, present| rows.prepare_derived(entry, present));
        Ok(())
    }

    fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) -> Result<()> {
        self.rows.committed(checkpoint, now_ms);
        Ok(())
    }

    fn windows(&self, clocks: &[i64]) -> Option<OpenWindows> {
        if self.step.windows.never_close() {
            return None;
        }
        let closed_to = lagged(self.step.inputs.time(clocks), self.step.windows.delay_ms());
        Some(OpenWindows { earliest_end: self.index.earliest_end(), closed_to })
    }

    fn changed_rows(&self) -> usize {
        self.rows.len()
    }

    fn with_rows(&mut self, look: &mut dyn FnMut(&mut RowCache) -> Result<()>) -> Result<()> {
        look(self.rows.behind())
    }
}
