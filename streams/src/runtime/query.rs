//! Questions about committed rows, answered by the workers that own them, while the job goes on.
//!
//! ```text
//!   any thread        coordinator                        worker (each of them)
//!   ----------        -----------                        ---------------------
//!   Desk::ask  ---->  Event::Query
//!                     .. Committed(7), Query, Committed(8) ..  ---->  rows of commit 7, from the
//!        <---- Reply::Workers(n)                                      row caches behind the overlays
//!        <------------------------------------------------  Reply::Part, n times
//! ```
//!
//! Why through the coordinator: orders reach every worker in the same sequence, so a question that lies
//! between the same two commits for all of them is answered from one committed cut through the job.
//!
//! Invariants
//! * neither the running transaction nor one whose commit is on its way is looked at: rows come from
//!   the row cache behind the overlay, without the undecided ones.
//! * a part of an answer is bounded in rows, in bytes and in rows looked at; whoever wants more asks for
//!   what follows the last key.
//! * a question that cannot be answered never stops the job.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::task::Task;
use super::worker::Worker;
use crate::error::{Error, Result};
use crate::ids::StoreName;
use crate::key::split_windowed;
use crate::processor::RowKinds;
use crate::store::{Lookups, RowCache, StoreError, layout};

/// Rows that one answer carries at most.
pub(crate) const ROWS_MAX: usize = 10_000;
/// Bytes of keys and values that one answer carries at most, over all partitions; one row may be larger.
const BYTES_MAX: usize = 1 << 20;
/// Rows of a store partition that are looked at for one answer, whether or not they are wanted.
const LOOKED_AT_MAX: usize = 50_000;
/// How long the workers may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a job that has not started yet is waited for.
const OPENING: Duration = Duration::from_millis(1_500);

/// Which rows are wanted. Keys are encoded; ends are exclusive, `None` is no bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Select {
    Key(Vec<u8>),
    Range { from: Vec<u8>, to: Option<Vec<u8>>, only: Only },
}

/// What a key in a range must look like besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Only {
    All,
    /// A window of exactly this key.
    WindowsOf(Vec<u8>),
    /// A window of a key that has at least so many bytes.
    WindowsOfLength(usize),
    /// A window of a key in this range: rows lie in the order of their bytes, which is not that of the
    /// keys where one key is the beginning of another.
    WindowsBetween(Vec<u8>, Option<Vec<u8>>),
}

impl Only {
    pub(crate) fn takes(&self, key: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::WindowsOf(inner) => split_windowed(key).is_some_and(|(k, _, _)| k == inner),
            Self::WindowsOfLength(bytes) => {
                split_windowed(key).is_some_and(|(k, _, _)| k.len() >= *bytes)
            }
            Self::WindowsBetween(from, to) => split_windowed(key).is_some_and(|(k, _, _)| {
                k >= from.as_slice() && to.as_ref().is_none_or(|to| k < to.as_slice())
            }),
        }
    }
}

/// The last row of a page: its key and partition.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct After {
    pub(crate) key: Vec<u8>,
    pub(crate) partition: u32,
}

/// A question about one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) store: StoreName,
    pub(crate) select: Select,
    pub(crate) after: Option<After>,
    pub(crate) limit: usize,
}

/// What workers can be asked.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    Rows(Selection),
    /// What each store partition holds.
    Stores,
}

/// A committed row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundRow {
    pub(crate) partition: u32,
    pub(crate) key: Vec<u8>,
    pub(crate) timestamp: i64,
    pub(crate) value: Vec<u8>,
}

/// The rows of one partition, in the order of their keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    pub(crate) partition: u32,
    /// In the order of their keys.
    pub(crate) rows: Vec<FoundRow>,
    /// The last key that was looked at, where there may be more behind it.
    pub(crate) stopped_at: Option<Vec<u8>>,
}

/// What a store partition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreReport {
    pub(crate) store: StoreName,
    pub(crate) partition: u32,
    /// Rows, counted up to a limit.
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Whether there are more rows than were counted.
    pub(crate) has_more: bool,
    /// The end of the window that closes first.
    pub(crate) earliest_end: Option<i64>,
    /// How lookups of single rows went since it was opened.
    pub(crate) lookups: Lookups,
}

/// What one task, or one worker, has to say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) parts: Vec<Part>,
    pub(crate) stores: Vec<StoreReport>,
}

/// Whoever can be asked: a running job, or the stores of one that is stopped.
pub(crate) trait Asked {
    /// What all tasks say, at one committed cut; its number is that of the commits so far, where they
    /// are counted.
    fn ask(&self, question: &Question) -> Result<(Told, Option<u64>)>;
}

/// One question on its way to the workers.
#[derive(Clone)]
pub(crate) struct Query {
    question: Arc<Question>,
    reply: Sender<Reply>,
}

enum Reply {
    /// So many workers were told, after so many commits.
    Workers {
        workers: usize,
        commits: u64,
    },
    Part(Result<Told>),
}

impl Query {
    /// The coordinator has put it in front of this many workers.
    pub(super) fn told(&self, workers: usize, commits: u64) {
        // Whoever asked may have given up.
        drop(self.reply.send(Reply::Workers { workers, commits }));
    }

    /// The whole answer, where one place has all rows.
    pub(crate) fn answer_whole(self, commits: u64, told: impl FnOnce(&Question) -> Result<Told>) {
        let told = told(&self.question);
        self.told(1, commits);
        // Whoever asked may have given up.
        drop(self.reply.send(Reply::Part(told)));
    }

    /// A worker's answer.
    pub(super) fn answer(self, worker: &Worker) {
        let told = worker.tell(&self.question);
        // Whoever asked may have given up.
        drop(self.reply.send(Reply::Part(told)));
    }
}

type Counter = Box<dyn Fn(Query) -> bool + Send>;

/// Where questions to a running job are handed in.
#[derive(Default)]
pub(crate) struct Desk {
    hours: Mutex<Hours>,
    changed: Condvar,
}

#[derive(Default)]
enum Hours {
    /// The job starts, or starts over.
    #[default]
    Closed,
    Open(Counter),
    /// The job has ended.
    Over,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}

impl Desk {
    /// From now on questions are passed on like this; `false`: they cannot be any more.
    pub(crate) fn open(&self, pass_on: impl Fn(Query) -> bool + Send + 'static) {
        self.turn(Hours::Open(Box::new(pass_on)));
    }

    pub(super) fn close(&self) {
        self.turn(Hours::Closed);
    }

    /// The job has ended: nobody will answer any more.
    pub(crate) fn end(&self) {
        self.turn(Hours::Over);
    }

    fn turn(&self, to: Hours) {
        *self.hours.lock() = to;
        self.changed.notify_all();
    }

    /// Hands a question in; a job that is about to start is waited for.
    fn put(&self, query: Query) -> Result<()> {
        let mut hours = self.hours.lock();
        let is_closed = |hours: &mut Hours| matches!(hours, Hours::Closed);
        self.changed.wait_while_for(&mut hours, is_closed, OPENING);
        let reason = match &*hours {
            Hours::Open(pass_on) if pass_on(query) => return Ok(()),
            Hours::Open(_) | Hours::Over => "it has ended",
            Hours::Closed => "it starts, or starts over",
        };
        Err(Error::Unanswered { reason: reason.to_owned() })
    }
}

impl Asked for Desk {
    fn ask(&self, question: &Question) -> Result<(Told, Option<u64>)> {
        let (reply, replies) = channel();
        self.put(Query { question: Arc::new(question.clone()), reply })?;
        let Reply::Workers { workers, commits } = next(&replies)? else {
            let reason = "a worker spoke before it was asked".to_owned();
            return Err(Error::Unanswered { reason });
        };
        let mut all = Told::default();
        for _ in 0..workers {
            if let Reply::Part(part) = next(&replies)? {
                let part = part?;
                all.parts.extend(part.parts);
                all.stores.extend(part.stores);
            }
        }
        Ok((all, Some(commits)))
    }
}

fn next(replies: &Receiver<Reply>) -> Result<Reply> {
    replies.recv_timeout(PATIENCE).map_err(|missing| {
        let reason = match missing {
            RecvTimeoutError::Timeout => "no answer in time: it may be restoring its stores",
            RecvTimeoutError::Disconnected => "it ended, or started over, before it had answered",
        };
        Error::Unanswered { reason: reason.to_owned() }
    })
}

impl Worker {
    /// What its tasks have committed.
    pub(crate) fn tell(&self, question: &Question) -> Result<Told> {
        let mut all = Told::default();
        for task in self.tasks() {
            task.tell(question, &mut all)?;
        }
        Ok(all)
    }
}

impl Task {
    fn tell(&self, question: &Question, told: &mut Told) -> Result<()> {
        for store in self.stores() {
            let mut op = store.borrow_mut();
            if op.is_replicated() && self.id.partition > 0 {
                continue;
            }
            let (name, kind) = (op.store().clone(), op.row_kinds());
            op.with_rows(&mut |rows| look(&name, self.id.partition, kind, rows, question, told))?;
        }
        Ok(())
    }
}

/// What the committed rows of one store partition say.
pub(crate) fn look(
    store: &StoreName,
    partition: u32,
    kind: RowKinds,
    rows: &mut RowCache,
    question: &Question,
    told: &mut Told,
) -> Result<()> {
    match question {
        Question::Rows(selection) if selection.store == *store => {
            told.parts.push(rows.committed_only(|rows| select(rows, partition, kind, selection))?);
        }
        Question::Rows(_) => {}
        Question::Stores => {
            told.stores.push(rows.committed_only(|rows| report(store, partition, kind, rows))?);
        }
    }
    Ok(())
}

fn select(
    rows: &mut RowCache,
    partition: u32,
    kind: RowKinds,
    selection: &Selection,
) -> Result<Part> {
    let mut part = Part { partition, ..Part::default() };
    let limit = selection.limit.clamp(1, ROWS_MAX);
    let (from, to, only) = match &selection.select {
        Select::Key(key) => {
            let mut place = Vec::new();
            kind.place(key, &mut place);
            if let Some(row) = rows.get(&place)? {
                part.rows.push(found(rows, partition, key, &row)?);
            }
            return Ok(part);
        }
        Select::Range { from, to, only } => (from, to, only),
    };
    let (first, behind) = kind.range();
    let (mut start, mut end) = (Vec::new(), behind.to_vec());
    kind.place(from, &mut start);
    start = start.max(first.to_vec());
    if let Some(to) = to {
        end.clear();
        kind.place(to, &mut end);
    }
    if let Some(after) = &selection.after {
        let mut behind = Vec::new();
        kind.place(&after.key, &mut behind);
        if partition <= after.partition {
            behind.push(0);
        }
        start = start.max(behind);
    }
    let (mut looked_at, mut bytes, mut damaged) = (0, 0, None);
    rows.scan(&start, &end, &mut |place, row| {
        let key = kind.key(place);
        looked_at += 1;
        if only.takes(key) {
            bytes += key.len() + row.len();
            match found(rows, partition, key, row) {
                Ok(row) => part.rows.push(row),
                Err(error) => damaged = Some(error),
            }
        }
        let is_full = part.rows.len() >= limit || bytes >= BYTES_MAX || looked_at >= LOOKED_AT_MAX;
        if is_full {
            part.stopped_at = Some(key.to_vec());
        }
        if is_full || damaged.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    damaged.map_or(Ok(part), Err)
}

fn found(rows: &RowCache, partition: u32, key: &[u8], row: &[u8]) -> Result<FoundRow> {
    let (timestamp, value) = layout::decode_row(row).ok_or_else(|| StoreError::Corrupt {
        store: rows.store().clone(),
        reason: format!("the row of key {} is cut off", key.escape_ascii()),
    })?;
    Ok(FoundRow { partition, key: key.to_vec(), timestamp, value: value.to_vec() })
}

fn report(
    store: &StoreName,
    partition: u32,
    kind: RowKinds,
    rows: &mut RowCache,
) -> Result<StoreReport> {
    let mut report = StoreReport {
        store: store.clone(),
        partition,
        rows: 0,
        bytes: 0,
        has_more: false,
        earliest_end: None,
        lookups: rows.lookups(),
    };
    let (first, behind) = kind.range();
    rows.scan(&first, &behind, &mut |key, row| {
        if report.rows == u64::try_from(LOOKED_AT_MAX).unwrap_or(u64::MAX) {
            report.has_more = true;
            return ControlFlow::Break(());
        }
        report.rows += 1;
        report.bytes += u64::try_from(key.len() + row.len()).unwrap_or(u64::MAX);
        ControlFlow::Continue(())
    })?;
    // The rows of a join have an index by time too: of those that have not matched yet.
    if kind == RowKinds::One(layout::KIND_ROW) {
        rows.scan(&[layout::KIND_TIME_INDEX], &layout::TIME_INDEX_END, &mut |key, _| {
            report.earliest_end = layout::split_time_index(key).map(|(end, _)| end);
            ControlFlow::Break(())
        })?;
    }
    Ok(report)
}

/// Rows of all partitions in the order of (key, partition), and where the next page begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    pub(crate) rows: VecDeque<FoundRow>,
    pub(crate) next: Option<After>,
    /// How many partitions the store has.
    pub(crate) partitions: u32,
    /// The commit that it is as of, where commits are counted.
    pub(crate) commits: Option<u64>,
}

/// Asks for one page.
pub(crate) fn page(asked: &dyn Asked, selection: &Selection) -> Result<Page> {
    let (told, commits) = asked.ask(&Question::Rows(selection.clone()))?;
    let partitions = u32::try_from(told.parts.len()).unwrap_or(u32::MAX);
    let limit = selection.limit.clamp(1, ROWS_MAX);
    Ok(Page { commits, partitions, ..merge(told.parts, limit) })
}

/// One page of what the partitions say. Pure.
fn merge(parts: Vec<Part>, limit: usize) -> Page {
    let place = |row: &FoundRow| (row.key.clone(), row.partition);
    // Beyond the first place at which a partition stopped, rows may be missing.
    let stops = parts.iter().filter_map(|part| Some((part.stopped_at.clone()?, part.partition)));
    let sure = stops.min();
    let mut rows: Vec<FoundRow> = parts.into_iter().flat_map(|part| part.rows).collect();
    rows.sort_by_cached_key(place);
    if let Some(sure) = &sure {
        rows.truncate(rows.partition_point(|row| place(row) <= *sure));
    }
    let mut next = sure;
    let (mut bytes, mut kept) = (0, 0);
    for row in rows.iter().take(limit) {
        bytes += row.key.len() + row.value.len();
        if kept > 0 && bytes > BYTES_MAX {
            break;
        }
        kept += 1;
    }
    if kept < rows.len() {
        rows.truncate(kept);
        next = rows.last().map(place);
    }
    let next = next.map(|(key, partition)| After { key, partition });
    Page { rows: rows.into(), next, ..Page::default() }
}

#[cfg(test)]
mod tests;
