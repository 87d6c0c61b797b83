//! Decides when the job commits, and tells workers and the commit thread.
//!
//! ```text
//!   begin -> wait until due -> prepare -> empty?  -- yes --> give it up, begin
//!     ^          ^   |                      no
//!     |          |   `- Decided: tell         |
//!     |          `--------- begin the next, commit beside it
//! ```
//!
//! Invariants
//! * a commit comes when the interval has passed or an overlay is full, and earlier, though not within
//!   10 ms of the last one, when all input has been read; never while another is on its way.
//! * a worker is busy until it has looked at all inputs and found nothing, also right after the start.
//! * the job is idle when everything is committed, not merely prepared.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use super::{Bell, Command, Control, Event};
use crate::broker::{Broker, Transaction};
use crate::error::{Error, Result};
use crate::processor::Counters;
use crate::runtime::commit::{Committer, Sealed};
use crate::runtime::plan::JobPlan;
use crate::runtime::query::Query;
use crate::runtime::report::{Report, SourceState};
use crate::runtime::silence::{self, Plan, Raise};
use crate::runtime::worker::Prepared;

/// A quiet job commits at once, though not more often than this.
const COMMIT_PAUSE: Duration = Duration::from_millis(10);
/// How long the coordinator waits for its workers before it looks for a stop request.
const WATCH: Duration = Duration::from_millis(50);

/// How the coordinator speaks with the threads.
pub(super) struct Link {
    pub(super) workers: Vec<Sender<Command>>,
    pub(super) commits: Sender<Sealed>,
    pub(super) inbox: Receiver<Event>,
}

/// A commit that is on its way.
struct Undecided {
    transaction: Arc<dyn Transaction>,
    counters: Counters,
    report: Report,
    /// When it was sent on its way.
    since: Duration,
}

pub(super) struct Coordinator<'a> {
    plan: &'a JobPlan,
    broker: &'a dyn Broker,
    committer: Committer,
    control: &'a Control,
    bell: &'a Bell,
    link: Link,
    busy: Vec<bool>,
    /// At which ring of the bell each worker last found nothing to do.
    looked: Vec<Option<u64>>,
    idle_since: Option<Duration>,
    dirty: Vec<bool>,
    is_full: bool,
    undecided: Option<Undecided>,
    last_prepared: Duration,
    /// When silent partitions are looked at again, if nothing is read before, and how far all were.
    next_raise: Option<Duration>,
    sources: Vec<SourceState>,
}

impl<'a> Coordinator<'a> {
    pub(super) fn new(
        plan: &'a JobPlan,
        broker: &'a dyn Broker,
        committer: Committer,
        control: &'a Control,
        bell: &'a Bell,
        link: Link,
    ) -> Self {
        let count = link.workers.len();
        Self {
            plan,
            broker,
            committer,
            control,
            bell,
            link,
            busy: vec![true; count],
            looked: vec![None; count],
            idle_since: None,
            dirty: vec![false; count],
            is_full: false,
            undecided: None,
            last_prepared: broker.monotonic(),
            next_raise: None,
            sources: Vec::new(),
        }
    }

    pub(super) fn run(&mut self) -> Result<()> {
        self.wait_until_opened()?;
        self.begin()?;
        loop {
            self.wait_until_due()?;
            // Also when nothing seems to be done and the job is to stop: a worker that has just become
            // busy has not said so yet, and must not write into a transaction that is over.
            let is_last = self.control.is_stopping();
            let sealed = self.seal()?;
            if !is_last {
                self.begin()?;
                self.raise(self.last_prepared);
            }
            if let Some((sealed, undecided)) = sealed {
                self.undecided = Some(undecided);
                // The commit thread lives as long as this sender.
                self.link.commits.send(sealed).ok();
            }
            if is_last {
                while self.undecided.is_some() {
                    self.receive(None)?;
                }
                return self.close();
            }
        }
    }

    fn begin(&mut self) -> Result<()> {
        let transaction = self.committer.begin()?;
        self.tell(|| Command::Begin(Arc::clone(&transaction)));
        Ok(())
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.link.workers {
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
        while opened < self.link.workers.len() {
            if let Some(Event::Opened { restored, marks }) = self.receive(None)? {
                self.control.progress.restored(restored);
                self.committer.resume(marks);
                opened += 1;
            }
        }
        Ok(())
    }

    /// The next event, with what follows from it for everybody; `None` when the time is up.
    fn receive(&mut self, timeout: Option<Duration>) -> Result<Option<Event>> {
        let event = match timeout {
            None => self.link.inbox.recv().map_err(|_closed| RecvTimeoutError::Disconnected),
            Some(timeout) => self.link.inbox.recv_timeout(timeout),
        };
        let event = match event {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::Panicked { reason: "all worker threads are gone".to_owned() });
            }
        };
        match event {
            Event::Failed(error) => return Err(error),
            Event::Decided(outcome) => return self.decided(outcome).map(|()| None),
            Event::Busy(worker) => {
                (self.busy[worker], self.dirty[worker]) = (true, true);
                (self.looked[worker], self.idle_since) = (None, None);
                self.control.progress.busy();
            }
            Event::Idle { worker, dirty, rung } => {
                (self.busy[worker], self.dirty[worker]) = (false, dirty);
                self.looked[worker] = Some(rung);
            }
            Event::Full => self.is_full = true,
            Event::Query(query) => {
                self.pass_on(&query);
                return Ok(None);
            }
            Event::Opened { .. } | Event::Prepared(_) | Event::Closed => {}
        }
        Ok(Some(event))
    }

    /// Puts a question in front of all workers, between the same two commits for each.
    fn pass_on(&self, query: &Query) {
        query.told(self.link.workers.len(), self.control.progress.get().commits);
        self.tell(|| Command::Query(query.clone()));
    }

    /// Returns when a commit is due, or a clean stop with nothing to commit.
    fn wait_until_due(&mut self) -> Result<()> {
        let interval = self.plan.settings.commit_every();
        loop {
            if self.undecided.is_some() {
                self.receive(Some(WATCH))?;
                continue;
            }
            if self.control.is_stopping() || self.is_full {
                return Ok(());
            }
            if !self.is_dirty() {
                self.idle()?;
                continue;
            }
            let quiet = self.busy.iter().all(|&busy| !busy);
            let pause = if quiet { COMMIT_PAUSE.min(interval) } else { interval };
            let since = self.broker.monotonic().saturating_sub(self.last_prepared);
            let Some(left) = pause.checked_sub(since).filter(|left| !left.is_zero()) else {
                return Ok(());
            };
            self.receive(Some(left.min(WATCH)))?;
        }
    }

    /// Nothing to do: waits until a worker has found something. The job is idle once every worker has
    /// looked since the last ring, however long it had to wait for a core.
    fn idle(&mut self) -> Result<()> {
        if let Some(due) = self.next_raise.filter(|&due| due <= self.broker.monotonic()) {
            self.raise(due);
        }
        let rung = self.bell.count();
        if self.looked.iter().all(|&looked| looked == Some(rung)) {
            let since = *self.idle_since.get_or_insert_with(|| self.broker.monotonic());
            self.control.progress.idle(since);
        } else {
            self.control.progress.busy();
        }
        self.receive(Some(WATCH)).map(drop)
    }

    /// Has all workers prepare; `None` when there was nothing to commit, and the transaction is over.
    fn seal(&mut self) -> Result<Option<(Sealed, Undecided)>> {
        let span = tracing::debug_span!("prepare", job = %self.plan.settings.id);
        let _entered = span.enter();
        self.bell.call();
        self.tell(|| Command::Prepare);
        let mut prepared = Vec::with_capacity(self.link.workers.len());
        while prepared.len() < self.link.workers.len() {
            if let Some(Event::Prepared(part)) = self.receive(None)? {
                prepared.push(part);
            }
        }
        self.bell.release();
        self.dirty.fill(false);
        self.is_full = false;
        self.last_prepared = self.broker.monotonic();
        self.sources = prepared.iter_mut().flat_map(|part| part.sources.drain(..)).collect();
        if prepared.iter().all(Prepared::is_empty) {
            self.committer.abort()?;
            return Ok(None);
        }
        let sealed = self.committer.seal(&prepared)?;
        let mut counters = Counters::default();
        prepared.iter().for_each(|part| counters.add(&part.counters));
        let report = Report {
            sources: self.sources.clone(),
            windows: prepared.into_iter().flat_map(|part| part.windows).collect(),
            taken_at: self.last_prepared,
        };
        let (transaction, since) = (Arc::clone(sealed.transaction()), self.broker.monotonic());
        Ok(Some((sealed, Undecided { transaction, counters, report, since })))
    }

    /// Passes over source partitions that have been silent for too long, as things were at that time: an
    /// idle job looks a moment later than it is due, and nothing has been read since.
    fn raise(&mut self, at: Duration) {
        let after = self.plan.settings.idle_after;
        let Plan { raises, next } = silence::plan(&self.sources, at, after);
        self.next_raise = next;
        if !raises.is_empty() {
            let raises: Arc<[Raise]> = raises.into();
            self.tell(|| Command::Raise(Arc::clone(&raises)));
        }
    }

    fn decided(&mut self, outcome: Result<()>) -> Result<()> {
        let undecided = self.undecided.take().expect("one answer comes for each commit");
        outcome?;
        self.control.progress.committed(&undecided.counters);
        self.control.report.set(undecided.report);
        let took = self.broker.monotonic().saturating_sub(undecided.since);
        self.control.progress.commit_took(took);
        self.tell(|| Command::Committed(Arc::clone(&undecided.transaction)));
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        self.tell(|| Command::Close);
        let mut closed = 0;
        while closed < self.link.workers.len() {
            if let Some(Event::Closed) = self.receive(None)? {
                closed += 1;
            }
        }
        Ok(())
    }

    /// After an error: workers end when their orders do; the running transaction must not become visible,
    /// and the one on its way to its commit comes to its end, whichever that is.
    pub(super) fn give_up(&mut self) {
        self.link.workers.clear();
        self.bell.call();
        self.bell.ring();
        if let Err(error) = self.committer.abort() {
            tracing::warn!(%error, "the running transaction could not be aborted; recovery will");
        }
        while self.undecided.is_some() {
            match self.link.inbox.recv() {
                Ok(Event::Decided(outcome)) => {
                    if let Err(error) = self.decided(outcome) {
                        tracing::warn!(%error, "the commit on its way failed as well");
                    }
                }
                Ok(_) => {}
                Err(_closed) => return,
            }
        }
    }
}
