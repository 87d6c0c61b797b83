//! Windows that records make: sessions, and sliding windows. One row per key holds all that are open.
//!
//! ```text
//!   record --> row of its key: R::take --late--> counted, routed
//!                  |
//!                  `-- time index (end, key): an entry at or before the end that comes first
//!   time   --> entry due: R::close --> results, in (end, key) order; the entry goes to the next end
//!   commit --> R::updates (OnUpdate) --> changed windows; what has become part of another: a null value
//! ```
//!
//! Why one row per key: a record must find all windows that it may join, and a look-up by hash finds them,
//! where windows in rows of their own would have to be searched for by range. What a window is lives in
//! `session` and `sliding`, which are pure.
//!
//! Invariants
//! * an index entry lies at or before the first end of each row that has one; one that lies before it is
//!   moved when its time comes.
//! * a row that is left empty is deleted.
//! * results carry the largest timestamp of their records, as timestamp and as source time.

mod session;
mod sliding;

use std::collections::BTreeSet;

use super::due::{self, DUE_AT_A_TIME, TimeIndex};
use super::fold::{Folds, LateTo};
use super::window_aggregate::{WindowStep, decode_key};
use crate::codec::{Bincode, Codec, Data};
use crate::error::Result;
use crate::ids::StoreName;
use crate::key::{Key, Windowed};
use crate::processor::{Changelog, Context, Next, ProcessKeyed, Record, Shared, Stateful, Timed};
use crate::record::Headers;
use crate::store::{Checkpoint, Overlay, RowCache, layout};
use crate::time::{OpenWindows, Span, Stamp, TimeInputs, Windows, lagged};
use crate::topology::Emit;

pub use session::{OpenSession, OpenSessions};
pub use sliding::{KeptRecord, KeptRecords};

/// What has become of a record.
pub(crate) struct Taken<V> {
    /// The record, if a window of its own had closed without it.
    pub(crate) late: Option<V>,
    /// Whether the row took it all the same, or was in time for all of it.
    pub(crate) is_kept: bool,
    /// An end that comes before all others of the row.
    pub(crate) first_end: Option<i64>,
}

/// What a window says: its latest value, or that it is gone.
pub(crate) struct Said<A> {
    pub(crate) span: Span,
    pub(crate) timestamp: i64,
    pub(crate) value: Option<A>,
}

/// The open windows of one key. Pure.
pub(crate) trait KeyWindows<V, A>: Data + Default {
    /// Takes a record.
    fn take(&mut self, windows: Windows, value: V, stamp: Stamp, folds: &Folds<V, A>) -> Taken<V>;

    /// Closes the windows that end no later than this.
    fn close(
        &mut self,
        windows: Windows,
        end: i64,
        emit: Emit,
        folds: &Folds<V, A>,
        say: &mut Vec<Said<A>>,
    );

    /// What has changed since it was last told.
    fn updates(&mut self, windows: Windows, folds: &Folds<V, A>, say: &mut Vec<Said<A>>);

    /// Whether nothing is open.
    fn is_empty(&self) -> bool;

    /// The end that comes first; `None`: nothing is left.
    fn first_end(&self, windows: Windows) -> Option<i64>;
}

/// One row per key.
pub(crate) struct KeyedWindows<K, V, A, R> {
    step: WindowStep,
    folds: Folds<V, A>,
    late: Option<LateTo<V>>,
    rows: Overlay<R>,
    index: TimeIndex,
    said: Vec<Said<A>>,
    next: Next<Windowed<K>, A>,
}

impl<K: Key, V: Clone, A: Data, R: KeyWindows<V, A>> KeyedWindows<K, V, A, R> {
    pub(crate) fn new(
        step: WindowStep,
        folds: Folds<V, A>,
        late: Option<LateTo<V>>,
        next: Next<Windowed<K>, A>,
    ) -> Self {
        let rows = Overlay::new(step.store.clone()).forgetting();
        Self { step, folds, late, rows, index: TimeIndex::default(), said: Vec::new(), next }
    }

    fn take(&mut self, ctx: &mut Context, key: &[u8], value: V, stamp: Stamp) -> Result<()> {
        let place = self.rows.find(key)?;
        let row = self.rows.at(place);
        let mut windows = row.value.take().unwrap_or_default();
        let taken = windows.take(self.step.windows, value, stamp, &self.folds);
        if !windows.is_empty() {
            row.value = Some(windows);
        }
        if taken.is_kept {
            row.touch(stamp);
        }
        if let Some(end) = taken.first_end {
            self.index.add(end, key);
        }
        if let Some(value) = taken.late {
            ctx.late(self.rows.store(), key, stamp.timestamp, stamp.source_time);
            if let Some(to) = &mut self.late {
                to(ctx, key, value, stamp)?;
            }
        }
        Ok(())
    }

    /// Whether windows that end there have closed.
    fn is_due(&self, end: i64, time: i64) -> bool {
        // No window of these kinds that ends with the last timestamp ever closes.
        end < i64::MAX
            && i128::from(time) >= i128::from(end) + i128::from(self.step.windows.delay_ms())
    }

    fn close_due(&mut self, ctx: &mut Context, time: i64) -> Result<()> {
        let Some(earliest) = self.index.earliest_end() else { return Ok(()) };
        let mut from = layout::time_index_bound(earliest).to_vec();
        loop {
            let found = self.index.from(&from, DUE_AT_A_TIME, self.rows.behind())?;
            let last = found.last().filter(|_| found.len() == DUE_AT_A_TIME).cloned();
            let mut open: BTreeSet<Vec<u8>> = found.into_iter().collect();
            while let Some(entry) = open.pop_first() {
                let (end, key) = due::split(self.rows.store(), &entry)?;
                if !self.is_due(end, time) {
                    self.index.set_earliest(Some(end));
                    return Ok(());
                }
                if let Some(next) = self.close_one(ctx, end, key)? {
                    // Beyond these entries the next look finds it.
                    let moved = due::entry(next, key);
                    if last.as_ref().is_none_or(|last| moved < *last) {
                        open.insert(moved);
                    }
                }
                from.clone_from(&entry);
            }
            if last.is_none() {
                self.index.set_earliest(None);
                return Ok(());
            }
        }
    }

    /// Closes what ends there in the row of a key; answers the end that its entry has gone to.
    fn close_one(&mut self, ctx: &mut Context, end: i64, key: &[u8]) -> Result<Option<i64>> {
        self.index.remove(end, key, true);
        let place = self.rows.find(key)?;
        let row = self.rows.at(place);
        let Some(windows) = &mut row.value else { return Ok(None) };
        let (kind, emit) = (self.step.windows, self.step.emit);
        let first = windows.first_end(kind);
        let next = if first.is_some_and(|first| first > end) {
            // A session has grown since, or an entry of a record that moved on.
            first
        } else {
            windows.close(kind, end, emit, &self.folds, &mut self.said);
            let next = windows.first_end(kind);
            let timestamp = row.timestamp;
            match next {
                Some(_) => row.touch(Stamp { timestamp, source_time: timestamp }),
                None => row.delete(),
            }
            next
        };
        if let Some(next) = next {
            self.index.add(next, key);
        }
        self.say(ctx, key)?;
        Ok(next)
    }

    /// Passes on what windows of a key have said.
    fn say(&mut self, ctx: &mut Context, key: &[u8]) -> Result<()> {
        if self.said.is_empty() {
            return Ok(());
        }
        let mut said = std::mem::take(&mut self.said);
        for Said { span, timestamp, value } in said.drain(..) {
            let inner = decode_key::<K>(self.rows.store(), key)?;
            let windowed = |key| Windowed { key, start: span.start, end: span.end };
            let record = Record {
                key: inner.map(windowed),
                value,
                timestamp,
                source_time: timestamp,
                headers: Headers::none(),
            };
            self.next.process(ctx, record)?;
        }
        self.said = said;
        Ok(())
    }
}

impl<K: Key, V: Clone, A: Data, R: KeyWindows<V, A>> ProcessKeyed<V>
    for Shared<KeyedWindows<K, V, A, R>>
{
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

impl<K: Key, V: Clone, A: Data, R: KeyWindows<V, A>> Timed for KeyedWindows<K, V, A, R> {
    fn fire(&mut self, ctx: &mut Context) -> Result<()> {
        let Some(earliest) = self.index.earliest_end() else { return Ok(()) };
        let time = self.step.inputs.time(&ctx.clocks);
        if self.is_due(earliest, time) { self.close_due(ctx, time) } else { Ok(()) }
    }

    fn inputs(&self) -> &TimeInputs {
        &self.step.inputs
    }
}

impl<K: Key, V: Clone, A: Data, R: KeyWindows<V, A>> Stateful for KeyedWindows<K, V, A, R> {
    fn store(&self) -> &StoreName {
        self.rows.store()
    }

    fn open(&mut self, rows: RowCache) -> Result<()> {
        self.rows.open(rows);
        self.index.open(&self.step.store, self.rows.behind())
    }

    fn implied(&self, key: &[u8], value: Option<&[u8]>) -> Vec<(Vec<u8>, Option<bytes::Bytes>)> {
        // Entries of what the row was before stay, and are moved or dropped when their time comes.
        let row: Option<R> = value.and_then(|value| Bincode::decode(value).ok());
        let end = row.and_then(|row| row.first_end(self.step.windows));
        let entry = end.map(|end| (due::entry(end, key), Some(bytes::Bytes::new())));
        entry.into_iter().collect()
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
            let key = row.key().to_vec();
            if let Some(windows) = &mut row.value {
                windows.updates(self.step.windows, &self.folds, &mut self.said);
            }
            self.say(ctx, &key)?;
        }
        Ok(())
    }

    fn prepare(&mut self, changelog: &mut Changelog<'_>) -> Result<()> {
        self.rows.prepare(|timestamp, key, value| changelog.push(timestamp, key, value))?;
        let rows = &mut self.rows;
        self.index.prepare(|entry, present| rows.prepare_derived(entry, present));
        Ok(())
    }

    fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) -> Result<()> {
        self.rows.committed(checkpoint, now_ms);
        Ok(())
    }

    fn windows(&self, clocks: &[i64]) -> Option<OpenWindows> {
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
