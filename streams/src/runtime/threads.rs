//! Drives workers on threads, and the committer between them.
//!
//! ```text
//!   coordinator                                worker thread
//!   -----------                                -------------
//!   Begin(transaction)   ----------------->    step, step, ..
//!                        <-----------------    Busy / Idle / Full
//!   Prepare              ----------------->    stops at a record boundary
//!                        <-----------------    Prepared(positions, marks, counts)
//!   [commit point]
//!   Committed            ----------------->    overlays -> row caches
//!   Query                ----------------->    answers from its committed rows
//!   Close                ----------------->    everything committed to the disk
//! ```
//!
//! Why messages: a worker's tasks are its own; the coordinator never touches them.
//!
//! Invariants
//! * a commit comes when the interval has passed or an overlay is full, and earlier, though not within
//!   10 ms of the last one, when all input has been read.
//! * a worker is busy until it has looked at all inputs and found nothing, also right after the start.
//! * the first error ends the job: nothing is committed after it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::{Builder, Scope};
use std::time::Duration;

use super::bell::Bell;
use super::commit::Committer;
use super::plan::JobPlan;
use super::progress::ProgressCell;
use super::query::{Desk, Query};
use super::task::{OpenStores, UpstreamMark};
use super::worker::{Prepared, Worker};
use crate::broker::{Broker, Transaction};
use crate::error::{Error, Result};
use crate::ids::TaskId;

/// A quiet job commits at once, though not more often than this.
const COMMIT_PAUSE: Duration = Duration::from_millis(10);
/// How often in a row a job starts over without a commit in between.
const RESTARTS_MAX: u64 = 5;
/// How long an idle worker sleeps when nobody rings: whatever there is to do rings.
const NAP: Duration = Duration::from_secs(10);
/// How long the coordinator waits for its workers before it looks for a stop request.
const WATCH: Duration = Duration::from_millis(50);

/// What a handle and the threads share.
#[derive(Debug, Default)]
pub(crate) struct Control {
    stop: AtomicBool,
    pub(crate) progress: ProgressCell,
    pub(crate) desk: Desk,
}

impl Control {
    /// Asks for a clean stop: the running transaction is finished first.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

enum Command {
    Begin(Arc<dyn Transaction>),
    Prepare,
    Committed(Arc<dyn Transaction>),
    Query(Query),
    Close,
}

enum Event {
    Opened {
        restored: u64,
        marks: Vec<UpstreamMark>,
    },
    Busy(usize),
    /// There was nothing to do when the bell had been rung that often.
    Idle {
        worker: usize,
        dirty: bool,
        rung: u64,
    },
    Full,
    Prepared(Prepared),
    Query(Query),
    Closed,
    Failed(Error),
}

/// Runs a job until it is stopped or fails for good: a passing failure starts it over.
pub(crate) fn run_until_stopped(
    control: &Control,
    mut run_once: impl FnMut() -> Result<()>,
) -> Result<()> {
    let mut without_commit = 0;
    loop {
        let commits = control.progress.get().commits;
        let error = match run_once() {
            Ok(()) => return Ok(()),
            Err(error) if !error.is_passing() => return Err(error),
            Err(error) => error,
        };
        let went_on = control.progress.get().commits > commits;
        without_commit = if went_on { 1 } else { without_commit + 1 };
        if without_commit > RESTARTS_MAX {
            return Err(error);
        }
        tracing::warn!(%error, "the job starts over from its last commit");
        control.progress.restarted();
    }
}

/// Runs a job until it is stopped or fails.
pub(crate) fn run(
    plan: &JobPlan,
    broker: &Arc<dyn Broker>,
    committer: Committer,
    stores: &OpenStores,
    control: &Control,
) -> Result<()> {
    let shares = share_out(&plan.tasks(), threads_for(plan));
    let bell = Bell::default();
    let (events, inbox) = channel();
    control.progress.busy();
    let asked = events.clone();
    control.desk.open(move |query| asked.send(Event::Query(query)).is_ok());
    let outcome = std::thread::scope(|scope| {
        let ends = EndsWatch(&bell);
        let mut workers = Vec::new();
        for (index, ids) in shares.iter().enumerate() {
            let (commands, orders) = channel();
            let thread = WorkerThread {
                index,
                plan,
                broker: broker.as_ref(),
                bell: &bell,
                progress: &control.progress,
                orders,
                events: events.clone(),
            };
            spawn(scope, format!("streams-worker-{index}"), move || thread.run(ids, stores))?;
            workers.push(commands);
        }
        drop(events);
        spawn(scope, "streams-watch".to_owned(), || bell.watch(broker.as_ref()))?;
        let count = workers.len();
        let mut coordinator = Coordinator {
            plan,
            broker: broker.as_ref(),
            committer,
            control,
            bell: &bell,
            workers,
            inbox,
            busy: vec![true; count],
            looked: vec![None; count],
            idle_since: None,
            dirty: vec![false; count],
            last_commit: broker.monotonic(),
        };
        let outcome = coordinator.run();
        if outcome.is_err() {
            coordinator.give_up();
        }
        // Must be BEFORE the inbox goes, or else a question would wait for nobody.
        control.desk.close();
        drop(ends);
        outcome
    });
    control.desk.close();
    outcome
}

/// Ends the watch of the log however the job ends, or else its scope would wait for it for ever.
struct EndsWatch<'a>(&'a Bell);

impl Drop for EndsWatch<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: String,
    work: impl FnOnce() + Send + 'scope,
) -> Result<()> {
    let spawned = Builder::new().name(name).spawn_scoped(scope, work);
    spawned.map(drop).map_err(|source| Error::System { what: "a worker thread", source })
}

fn threads_for(plan: &JobPlan) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let wanted = if plan.settings.threads == 0 { cores } else { plan.settings.threads };
    wanted.min(plan.tasks().len()).max(1)
}

/// Deals tasks out so that each thread gets its part of every sub-topology.
fn share_out(tasks: &[TaskId], threads: usize) -> Vec<Vec<TaskId>> {
    let mut shares = vec![Vec::new(); threads];
    for (i, &task) in tasks.iter().enumerate() {
        shares[i % threads].push(task);
    }
    shares
}

struct Coordinator<'a> {
    plan: &'a JobPlan,
    broker: &'a dyn Broker,
    committer: Committer,
    control: &'a Control,
    bell: &'a Bell,
    workers: Vec<Sender<Command>>,
    inbox: Receiver<Event>,
    busy: Vec<bool>,
    /// At which ring of the bell each worker last found nothing to do.
    looked: Vec<Option<u64>>,
    idle_since: Option<Duration>,
    dirty: Vec<bool>,
    last_commit: Duration,
}

impl Coordinator<'_> {
    fn run(&mut self) -> Result<()> {
        self.wait_until_opened()?;
        loop {
            let transaction = self.committer.begin()?;
            self.tell(|| Command::Begin(Arc::clone(&transaction)));
            drop(transaction);
            self.wait_until_due()?;
            // Also when nothing seems to be done and the job is to stop: a worker that has just become
            // busy has not said so yet, and must not write into a transaction that is over.
            self.commit()?;
            if self.control.is_stopping() {
                return self.close();
            }
        }
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            // A worker that is gone has sent its error first.
            worker.send(command()).ok();
        }
        self.bell.ring();
    }

    fn is_dirty(&self) -> bool {
        self.busy.iter().chain(&self.dirty).any(|&flag| flag)
    }

    fn wait_until_opened(&mut self) -> Result<()> {
        let mut opened = 0;
        while opened < self.workers.len() {
            if let Some(Event::Opened { restored, marks }) = self.receive(None)? {
                self.control.progress.restored(restored);
                self.committer.resume(marks);
                opened += 1;
            }
        }
        Ok(())
    }

    /// The next event; `None` when the time is up.
    fn receive(&mut self, timeout: Option<Duration>) -> Result<Option<Event>> {
        let event = match timeout {
            None => self.inbox.recv().map_err(|_closed| RecvTimeoutError::Disconnected),
            Some(timeout) => self.inbox.recv_timeout(timeout),
        };
        match event {
            Ok(Event::Failed(error)) => Err(error),
            Ok(Event::Busy(worker)) => {
                (self.busy[worker], self.dirty[worker]) = (true, true);
                (self.looked[worker], self.idle_since) = (None, None);
                self.control.progress.busy();
                Ok(Some(Event::Busy(worker)))
            }
            Ok(Event::Idle { worker, dirty, rung }) => {
                (self.busy[worker], self.dirty[worker]) = (false, dirty);
                self.looked[worker] = Some(rung);
                Ok(Some(Event::Idle { worker, dirty, rung }))
            }
            Ok(Event::Query(query)) => {
                self.pass_on(&query);
                Ok(None)
            }
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Error::Panicked { reason: "all worker threads are gone".to_owned() })
            }
        }
    }

    /// Puts a question in front of all workers, between the same two commits for each.
    fn pass_on(&self, query: &Query) {
        query.told(self.workers.len(), self.control.progress.get().commits);
        self.tell(|| Command::Query(query.clone()));
    }

    /// Returns when a commit is due, or a clean stop with nothing to commit.
    fn wait_until_due(&mut self) -> Result<()> {
        let interval = self.plan.settings.commit_every();
        loop {
            if self.control.is_stopping() {
                return Ok(());
            }
            if !self.is_dirty() {
                self.idle()?;
                continue;
            }
            let quiet = self.busy.iter().all(|&busy| !busy);
            let pause = if quiet { COMMIT_PAUSE.min(interval) } else { interval };
            let since = self.broker.monotonic().saturating_sub(self.last_commit);
            let Some(left) = pause.checked_sub(since).filter(|left| !left.is_zero()) else {
                return Ok(());
            };
            if let Some(Event::Full) = self.receive(Some(left.min(WATCH)))? {
                return Ok(());
            }
        }
    }

    /// Nothing to do: waits until a worker has found something. The job is idle once every worker has
    /// looked since the last ring, however long it had to wait for a core.
    fn idle(&mut self) -> Result<()> {
        let rung = self.bell.count();
        if self.looked.iter().all(|&looked| looked == Some(rung)) {
            let since = *self.idle_since.get_or_insert_with(|| self.broker.monotonic());
            self.control.progress.idle(since);
        } else {
            self.control.progress.busy();
        }
        self.receive(Some(WATCH)).map(drop)
    }

    fn commit(&mut self) -> Result<()> {
        let span = tracing::debug_span!("commit", job = %self.plan.settings.id);
        let _entered = span.enter();
        self.bell.call();
        self.tell(|| Command::Prepare);
        let mut prepared = Vec::with_capacity(self.workers.len());
        while prepared.len() < self.workers.len() {
            if let Some(Event::Prepared(part)) = self.receive(None)? {
                prepared.push(part);
            }
        }
        self.bell.release();
        self.dirty.fill(false);
        self.last_commit = self.broker.monotonic();
        if prepared.iter().all(Prepared::is_empty) {
            return self.committer.abort();
        }
        let transaction = self.committer.commit(&prepared)?;
        let mut counters = crate::processor::Counters::default();
        prepared.iter().for_each(|part| counters.add(&part.counters));
        self.control.progress.committed(&counters);
        self.last_commit = self.broker.monotonic();
        self.tell(|| Command::Committed(Arc::clone(&transaction)));
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        self.tell(|| Command::Close);
        let mut closed = 0;
        while closed < self.workers.len() {
            if let Some(Event::Closed) = self.receive(None)? {
                closed += 1;
            }
        }
        Ok(())
    }

    /// After an error: workers end when their orders do; the transaction must not become visible.
    fn give_up(&mut self) {
        self.workers.clear();
        self.bell.call();
        self.bell.ring();
        if let Err(error) = self.committer.abort() {
            tracing::warn!(%error, "the running transaction could not be aborted; recovery will");
        }
    }
}

struct WorkerThread<'a> {
    index: usize,
    plan: &'a JobPlan,
    broker: &'a dyn Broker,
    bell: &'a Bell,
    progress: &'a ProgressCell,
    orders: Receiver<Command>,
    events: Sender<Event>,
}

impl WorkerThread<'_> {
    fn run(self, ids: &[TaskId], stores: &OpenStores) {
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
                Ok(Command::Query(query)) => {
                    query.answer(&worker);
                    continue;
                }
                Ok(Command::Committed(transaction)) => {
                    worker.committed(transaction.as_ref(), self.broker.now_ms())?;
                    continue;
                }
                Ok(Command::Prepare) => continue,
                Err(_) => return Ok(()),
            }
            if !self.transact(&mut worker, &mut busy)? {
                return Ok(());
            }
        }
    }

    /// Works inside one transaction until the coordinator calls; whether the job goes on.
    fn transact(&self, worker: &mut Worker, busy: &mut bool) -> Result<bool> {
        let (mut counted, mut told) = (0, None);
        loop {
            let seen = self.bell.count();
            match self.orders.try_recv() {
                Ok(Command::Prepare) => {
                    let prepared = worker.prepare()?;
                    self.say(Event::Prepared(prepared));
                    return Ok(true);
                }
                Ok(Command::Close) => return self.close(worker).map(|()| false),
                Ok(Command::Query(query)) => {
                    query.answer(worker);
                    continue;
                }
                Ok(_) => continue,
                Err(TryRecvError::Disconnected) => return Ok(false),
                Err(TryRecvError::Empty) => {}
            }
            let Some(task) = worker.next_task()? else {
                if worker.flush()? {
                    self.bell.ring();
                    continue;
                }
                worker.step_stores(self.broker.now_ms())?;
                if std::mem::take(busy) || told != Some(seen) {
                    told = Some(seen);
                    let dirty = worker.is_dirty();
                    self.say(Event::Idle { worker: self.index, dirty, rung: seen });
                }
                self.bell.wait(seen, NAP);
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

#[cfg(test)]
mod tests;
