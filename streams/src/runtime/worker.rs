//! A worker: a value that owns tasks and does one step at a time.
//!
//! Why a value: threads and the simulator only call it, so what a test runs is what a user runs.
//!
//! Invariants
//! * the task whose inputs are least far in event time goes first, so that skew stays small.
//! * what was emitted is handed to the log when nothing else is left to do, and when the transaction is
//!   prepared.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::plan::JobPlan;
use super::report::{SourceState, WindowState};
use super::silence::Raise;
use super::task::{Stores, Task, UpstreamMark};
use crate::broker::{Broker, Position, Transaction};
use crate::error::Result;
use crate::ids::TaskId;
use crate::processor::{Counters, LateRecord};
use crate::settings::Mistake;

/// Records that one step processes at most.
const STEP_RECORDS: usize = 1_024;

/// A worker's part of a commit.
#[derive(Default)]
pub(crate) struct Prepared {
    pub(crate) positions: Vec<Position>,
    pub(crate) marks: Vec<UpstreamMark>,
    pub(crate) counters: Counters,
    pub(crate) late_records: Vec<LateRecord>,
    pub(crate) sources: Vec<SourceState>,
    pub(crate) windows: Vec<WindowState>,
}

impl Prepared {
    /// Whether nothing was read, and so nothing written.
    pub(crate) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }
}

/// Tasks and the transaction that they are in.
pub(crate) struct Worker {
    tasks: Vec<Task>,
    transaction: Option<Arc<dyn Transaction>>,
    mistake: Option<Mistake>,
}

impl Worker {
    pub(crate) fn open(
        plan: &JobPlan,
        ids: &[TaskId],
        broker: &Arc<dyn Broker>,
        stores: &dyn Stores,
        keep_late_records: bool,
    ) -> Result<Self> {
        let open = |&id: &TaskId| Task::open(plan, id, broker, stores, keep_late_records);
        Ok(Self {
            tasks: ids.iter().map(open).collect::<Result<_>>()?,
            transaction: None,
            mistake: plan.settings.mistake,
        })
    }

    /// Changelog records that its stores were rebuilt from.
    pub(crate) fn restored(&self) -> u64 {
        self.tasks.iter().map(|task| task.restored).sum()
    }

    /// How far its tasks are; before the first step this is what the last commit said.
    pub(crate) fn marks(&self) -> Vec<UpstreamMark> {
        self.tasks.iter().flat_map(Task::marks).collect()
    }

    pub(crate) fn begin(&mut self, transaction: Arc<dyn Transaction>) {
        for task in &mut self.tasks {
            task.begin(&transaction);
        }
        self.transaction = Some(transaction);
    }

    /// The next task to run: of those with input, the one that is least far in event time.
    pub(crate) fn next_task(&mut self) -> Result<Option<usize>> {
        let mut order: Vec<usize> = (0..self.tasks.len()).collect();
        order.sort_by_key(|&i| self.tasks[i].clock());
        for i in order {
            if self.tasks[i].has_input()? {
                return Ok(Some(i));
            }
        }
        Ok(None)
    }

    /// Runs one task for a while, shorter when called to a commit.
    pub(crate) fn step(&mut self, task: usize, called: &AtomicBool) -> Result<()> {
        self.tasks[task].run(STEP_RECORDS, called).map(|_records| ())
    }

    /// With nothing to run: stores may flush what has waited long enough at `now_ms`, wall clock.
    pub(crate) fn step_stores(&mut self, now_ms: i64) -> Result<()> {
        self.tasks.iter_mut().try_for_each(|task| task.step_stores(now_ms))
    }

    /// Hands over what was emitted; whether there was anything.
    pub(crate) fn flush(&mut self) -> Result<bool> {
        let mut appended = false;
        for task in &mut self.tasks {
            appended |= task.flush()?;
        }
        Ok(appended)
    }

    /// Records of source topics that the running transaction has taken in.
    pub(crate) fn records_in(&self) -> u64 {
        self.tasks.iter().map(|task| task.counters().records_in).sum()
    }

    /// Its tasks.
    pub(super) fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// How many tasks it owns.
    pub(crate) fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// Runs one task, chosen by the caller: the simulator's interleaving.
    pub(crate) fn step_task(&mut self, task: usize, budget: usize) -> Result<usize> {
        self.tasks[task].run(budget, &AtomicBool::new(false))
    }

    /// Raises the clocks of all source partitions.
    pub(crate) fn raise(&mut self, to: i64) -> Result<()> {
        self.tasks.iter_mut().try_for_each(|task| task.raise(to))
    }

    /// The clock on the wall stands at `now_ms`: fires what is due by it; whether anything was.
    pub(crate) fn tick(&mut self, now_ms: i64) -> Result<bool> {
        let mut any = false;
        for task in &mut self.tasks {
            any |= task.tick(now_ms)?;
        }
        Ok(any)
    }

    /// When something is due by the clock on the wall; `None`: never.
    pub(crate) fn next_tick(&self) -> Option<i64> {
        self.tasks.iter().filter_map(Task::next_tick).min()
    }

    /// Passes over those of its inputs that are still silent; whether there were any.
    pub(crate) fn pass_over(
        &mut self,
        raises: &[Raise],
        now: Duration,
        now_ms: i64,
    ) -> Result<bool> {
        let mut any = false;
        for task in &mut self.tasks {
            any |= task.pass_over(raises, now, now_ms)?;
        }
        Ok(any)
    }

    /// How far its source partitions are.
    pub(crate) fn sources(&mut self) -> Result<Vec<SourceState>> {
        let mut all = Vec::new();
        for task in &mut self.tasks {
            all.extend(task.sources()?);
        }
        Ok(all)
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.tasks.iter().any(Task::is_dirty)
    }

    pub(crate) fn changed_rows(&self) -> usize {
        self.tasks.iter().map(Task::changed_rows).sum()
    }

    /// Its part of the commit. The transaction is let go of; only after the one before is committed.
    pub(crate) fn prepare(&mut self, now: Duration) -> Result<Prepared> {
        let transaction =
            self.transaction.take().expect("a commit follows the begin of its transaction");
        let skip_first = self.mistake == Some(Mistake::SkipChangelogRecord);
        let mut prepared = Prepared::default();
        for task in &mut self.tasks {
            let positions = task.prepare(&transaction, skip_first, now)?;
            prepared.positions.extend(positions);
            prepared.marks.extend(task.marks());
            prepared.counters.add(&task.take_counters());
            prepared.late_records.extend(task.take_late_records());
            prepared.sources.extend(task.sources()?);
            prepared.windows.extend(task.windows());
        }
        if self.mistake == Some(Mistake::StoreBeforeCommit) {
            self.committed(transaction.as_ref(), i64::MAX)?;
            self.close()?;
        }
        Ok(prepared)
    }

    /// After the commit point.
    pub(crate) fn committed(&mut self, transaction: &dyn Transaction, now_ms: i64) -> Result<()> {
        self.tasks.iter_mut().try_for_each(|task| task.committed(transaction, now_ms))
    }

    /// A clean stop.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.tasks.iter_mut().try_for_each(Task::close)
    }
}
