//! A thread that owns a worker: steps it, and does what the coordinator says in between.
//!
//! Why a thread of its own for the tasks: they are built on it and never leave it.
//!
//! Invariants
//! * orders are looked at between two steps; a step ends early when the bell calls.
//! * a worker whose rows are as many as may be waits for its next transaction.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use super::{Command, Event};
use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::ids::TaskId;
use crate::runtime::bell::Bell;
use crate::runtime::plan::JobPlan;
use crate::runtime::progress::ProgressCell;
use crate::runtime::task::OpenStores;
use crate::runtime::worker::Worker;

/// How long an idle worker sleeps when nobody rings: whatever there is to do rings.
pub(super) const NAP: Duration = Duration::from_secs(10);

pub(super) struct WorkerThread<'a> {
    pub(super) index: usize,
    pub(super) plan: &'a JobPlan,
    pub(super) broker: &'a Arc<dyn Broker>,
    pub(super) bell: &'a Bell,
    pub(super) progress: &'a ProgressCell,
    pub(super) orders: Receiver<Command>,
    pub(super) events: Sender<Event>,
}

impl WorkerThread<'_> {
    pub(super) fn run(self, ids: &[TaskId], stores: &OpenStores) {
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| self.work(ids, stores)));
        let failed = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(panic) => Error::panicked(panic.as_ref()),
        };
        self.say(Event::Failed(failed));
    }

    fn say(&self, event: Event) {
        // Nobody listens any more once the job has ended: there is nothing left to report to.
        self.events.send(event).ok();
    }

    fn work(&self, ids: &[TaskId], stores: &OpenStores) -> Result<()> {
        let mut worker = Worker::open(self.plan, ids, self.broker, stores, false)?;
        self.say(Event::Opened { restored: worker.restored(), marks: worker.marks() });
        let mut busy = true;
        loop {
            match self.orders.recv() {
                Ok(Command::Begin(transaction)) => worker.begin(transaction),
                Ok(Command::Close) => return self.close(&mut worker),
                Ok(Command::Committed(transaction)) => {
                    worker.committed(transaction.as_ref(), self.broker.now_ms())?;
                    continue;
                }
                Ok(Command::Query(query)) => {
                    query.answer(&worker);
                    continue;
                }
                Ok(Command::Prepare | Command::Raise(_)) => continue,
                Err(_) => return Ok(()),
            }
            if !self.transact(&mut worker, &mut busy)? {
                return Ok(());
            }
        }
    }

    /// Works inside one transaction until the coordinator calls; whether the job goes on.
    fn transact(&self, worker: &mut Worker, busy: &mut bool) -> Result<bool> {
        let (mut counted, mut told, mut is_full) = (0, None, false);
        loop {
            let seen = self.bell.count();
            match self.orders.try_recv() {
                Ok(Command::Prepare) => {
                    let prepared = worker.prepare(self.broker.monotonic())?;
                    self.say(Event::Prepared(prepared));
                    return Ok(true);
                }
                Ok(Command::Committed(transaction)) => {
                    worker.committed(transaction.as_ref(), self.broker.now_ms())?;
                    continue;
                }
                Ok(Command::Query(query)) => {
                    query.answer(worker);
                    continue;
                }
                Ok(Command::Raise(raises)) => {
                    let (now, now_ms) = (self.broker.monotonic(), self.broker.now_ms());
                    if worker.pass_over(&raises, now, now_ms)? {
                        *busy = true;
                        self.say(Event::Busy(self.index));
                    }
                    continue;
                }
                Ok(Command::Close) => return self.close(worker).map(|()| false),
                Ok(Command::Begin(_)) => continue,
                Err(TryRecvError::Disconnected) => return Ok(false),
                Err(TryRecvError::Empty) => {}
            }
            if is_full {
                self.bell.wait(seen, NAP);
                continue;
            }
            let now_ms = self.broker.now_ms();
            if worker.tick(now_ms)? && !std::mem::replace(busy, true) {
                self.say(Event::Busy(self.index));
            }
            let Some(task) = worker.next_task()? else {
                if worker.flush()? {
                    self.bell.ring();
                    continue;
                }
                worker.step_stores(now_ms)?;
                if std::mem::take(busy) || told != Some(seen) {
                    told = Some(seen);
                    let dirty = worker.is_dirty();
                    self.say(Event::Idle { worker: self.index, dirty, rung: seen });
                }
                self.bell.wait(seen, until_tick(worker.next_tick(), now_ms));
                continue;
            };
            if !std::mem::replace(busy, true) {
                self.say(Event::Busy(self.index));
            }
            worker.step(task, self.bell.called())?;
            let records_in = worker.records_in();
            self.progress.read(records_in - counted);
            counted = records_in;
            if worker.changed_rows() > self.plan.settings.changed_rows_max {
                // Goes on in the next transaction: the one before may still wait for the disk, and the
                // rows in memory must not grow meanwhile.
                is_full = true;
                self.say(Event::Full);
            }
        }
    }

    fn close(&self, worker: &mut Worker) -> Result<()> {
        worker.close()?;
        self.say(Event::Closed);
        Ok(())
    }
}

/// How long there is nothing to do by the clock on the wall.
fn until_tick(next_ms: Option<i64>, now_ms: i64) -> Duration {
    let wait = next_ms.map(|next| next.saturating_sub(now_ms).max(1).unsigned_abs());
    wait.map_or(NAP, |wait| NAP.min(Duration::from_millis(wait)))
}
