//! Drives workers on threads, the commits beside them, and the coordinator between the two.
//!
//! ```text
//!   coordinator                       worker threads               commit thread
//!   -----------                       --------------               -------------
//!   Begin(N)         ------------->   step, step, ..
//!                    <-------------   Busy / Idle / Full
//!   Prepare          ------------->   stop at a record boundary
//!                    <-------------   Prepared(positions, marks, counts)
//!   seal N
//!   Begin(N + 1)     ------------->   step, step, ..
//!   Raise            ------------->   silent partitions are passed over
//!   Sealed(N)        ------------------------------------------->   sync, record, markers
//!                    <-------------------------------------------   Decided
//!   Committed(N)     ------------->   undecided rows -> committed rows
//!   Query            ------------->   answers from its committed rows
//!   Close            ------------->   everything committed to the disk
//! ```
//!
//! Why messages: a worker's tasks are its own; the coordinator never touches them.
//!
//! Invariants
//! * one commit is on its way at most, and N + 1 is prepared only after N is decided.
//! * the first error ends the job: nothing is begun after it. A commit that is on its way comes to its
//!   end first, so that whoever reads the positions next reads the last ones.

mod commits;
mod coordinator;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{Builder, Scope};

use commits::CommitThread;
use coordinator::{Coordinator, Link};
use worker::WorkerThread;

use super::bell::Bell;
use super::commit::Committer;
use super::plan::JobPlan;
use super::progress::ProgressCell;
use super::query::{Desk, Query};
use super::report::ReportCell;
use super::silence::Raise;
use super::task::{OpenStores, UpstreamMark};
use super::worker::Prepared;
use crate::broker::{Broker, Transaction};
use crate::error::{Error, Result};
use crate::ids::TaskId;

/// How often in a row a job starts over without a commit in between.
const RESTARTS_MAX: u64 = 5;

/// What a handle and the threads share.
#[derive(Debug, Default)]
pub(crate) struct Control {
    stop: AtomicBool,
    pub(crate) progress: ProgressCell,
    pub(crate) desk: Desk,
    /// What the last commit knew of inputs and windows.
    pub(crate) report: ReportCell,
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
    /// Silent partitions are passed over.
    Raise(Arc<[Raise]>),
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
    /// A worker has changed as many rows as may be, and waits.
    Full,
    Prepared(Prepared),
    Query(Query),
    /// What became of the commit that was on its way.
    Decided(Result<()>),
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
                broker,
                bell: &bell,
                progress: &control.progress,
                orders,
                events: events.clone(),
            };
            spawn(scope, format!("streams-worker-{index}"), move || thread.run(ids, stores))?;
            workers.push(commands);
        }
        let (commits, sealed) = channel();
        let commit_thread = CommitThread { sealed, events };
        spawn(scope, "streams-commit".to_owned(), move || commit_thread.run())?;
        spawn(scope, "streams-watch".to_owned(), || bell.watch(broker.as_ref()))?;
        let link = Link { workers, commits, inbox };
        let mut coordinator =
            Coordinator::new(plan, broker.as_ref(), committer, control, &bell, link);
        let outcome = coordinator.run();
        // Must be BEFORE the inbox goes, or else a question would wait for nobody.
        control.desk.close();
        if outcome.is_err() {
            coordinator.give_up();
        }
        drop(ends);
        outcome.map_err(|error| error.of_job(&plan.settings.id))
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

#[cfg(test)]
mod tests;
