//! Writes levels of committed rows to their stores, beside the work of the job.
//!
//! Why: a batch of a hundred thousand rows takes RocksDB a good part of a second, and the worker
//! has records to process meanwhile. How a flush runs is a value, so that a simulator can run it hold
//! it back and a test can run it at once.
//!
//! ```text
//!   RowCache -- FlushJob --> queue of QUEUE_LENGTH --> one thread --> ByteStore::write
//!            <-- Ticket: taken at the next step, or waited for --
//! ```
//!
//! Invariants
//! * jobs run one after the other, in the order of submission.
//! * every ticket is answered, also when the job was lost in a panic or the flusher has ended.
//! * dropping the last clone of a flusher returns after its last job has run: no flush outlives it.
//!
//! On crash: a job that has not run is gone; its rows are in the changelog.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use parking_lot::{Condvar, Mutex};

use super::checkpoint;
use super::layout::Checkpoint;
use super::level::Level;
use super::{ByteStore, StoreError};
use crate::ids::StoreName;

/// How many flushes may wait for the thread before a worker waits for a place.
const QUEUE_LENGTH: usize = 64;

/// So many records of a changelog at most lie behind what a crash would leave of its store when a flush
/// ends: they are what the log must keep, and what a restart reads again.
const RECORDS_BEHIND_MAX: i64 = 1 << 20;

/// What came of a flush: the checkpoint that a crash would leave now.
pub(super) type Flushed = Result<Option<Checkpoint>, StoreError>;

/// One atomic write: the rows of a level and the checkpoint that they reach.
pub(super) struct FlushJob {
    pub(super) store: Arc<dyn ByteStore>,
    pub(super) partition: u32,
    pub(super) level: Arc<Level>,
    pub(super) checkpoint: Checkpoint,
}

impl FlushJob {
    /// Lets go of the level before it returns, so that the one who waits owns it alone.
    fn run(self) -> Flushed {
        let Self { store, partition, level, checkpoint: reaches } = self;
        store.write(&level.to_batch(partition, &reaches))?;
        let durable = checkpoint::durable(store.as_ref(), partition)?;
        let reached = durable.map_or(0, |durable| durable.offset);
        if reaches.offset.saturating_sub(reached) < RECORDS_BEHIND_MAX {
            return Ok(durable);
        }
        // Few rows that change often would stay in memory, and hold the changelog, for weeks.
        store.sync()?;
        Ok(Some(reaches))
    }
}

#[derive(Default)]
struct Slot {
    outcome: Mutex<Option<Flushed>>,
    answered: Condvar,
}

/// The waiting end of a flush.
pub(super) struct Ticket(Arc<Slot>);

impl Ticket {
    /// The outcome, if there is one yet. It is given out once.
    pub(super) fn take(&self) -> Option<Flushed> {
        self.0.outcome.lock().take()
    }

    fn wait(&self) -> Flushed {
        let mut outcome = self.0.outcome.lock();
        loop {
            if let Some(result) = outcome.take() {
                return result;
            }
            self.0.answered.wait(&mut outcome);
        }
    }
}

/// The answering end of a flush; dropped unanswered, it answers that the flush was lost.
struct Answer {
    slot: Arc<Slot>,
    store: StoreName,
    is_given: bool,
}

impl Answer {
    fn new(store: &StoreName) -> (Answer, Ticket) {
        let slot = Arc::new(Slot::default());
        let ticket = Ticket(Arc::clone(&slot));
        (Answer { slot, store: store.clone(), is_given: false }, ticket)
    }

    fn give(&mut self, result: Flushed) {
        self.is_given = true;
        *self.slot.outcome.lock() = Some(result);
        self.slot.answered.notify_all();
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.is_given {
            let reason = "the flusher ended before it was done".to_owned();
            let store = self.store.clone();
            self.give(Err(StoreError::Backend { store, operation: "flush", reason }));
        }
    }
}

struct Submission {
    job: FlushJob,
    answer: Answer,
}

impl Submission {
    fn run(self) {
        let Submission { job, mut answer } = self;
        answer.give(job.run());
    }
}

/// How flushes run. Clones share the thread.
#[derive(Clone)]
pub(crate) struct Flusher {
    how: How,
}

#[derive(Clone)]
enum How {
    #[cfg(test)]
    Inline,
    Thread(Arc<FlushThread>),
    Held(HeldFlushes),
}

impl Flusher {
    /// Every flush runs in the step that starts it.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn inline() -> Self {
        Flusher { how: How::Inline }
    }

    /// Flushes run on a thread of their own. Dropping the last clone joins it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]: the system has no thread to give.
    pub(crate) fn thread() -> Result<Self, StoreError> {
        Ok(Flusher { how: How::Thread(Arc::new(FlushThread::start()?)) })
    }

    /// Flushes wait until a simulator or a test runs them, or until somebody waits for one.
    #[must_use]
    pub(crate) fn held() -> (Self, HeldFlushes) {
        let held = HeldFlushes::default();
        (Flusher { how: How::Held(held.clone()) }, held)
    }

    pub(super) fn submit(&self, job: FlushJob) -> Ticket {
        let (answer, ticket) = Answer::new(job.store.name());
        let submission = Submission { job, answer };
        match &self.how {
            #[cfg(test)]
            How::Inline => submission.run(),
            How::Thread(thread) => thread.submit(submission),
            How::Held(held) => held.queue.lock().push_back(submission),
        }
        ticket
    }

    pub(super) fn wait(&self, ticket: &Ticket) -> Flushed {
        if let How::Held(held) = &self.how {
            while held.run_next() {}
        }
        ticket.wait()
    }
}

impl fmt::Debug for Flusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.how {
            #[cfg(test)]
            How::Inline => "Flusher::inline",
            How::Thread(_) => "Flusher::thread",
            How::Held(_) => "Flusher::held",
        })
    }
}

struct FlushThread {
    queue: Option<SyncSender<Submission>>,
    thread: Option<JoinHandle<()>>,
}

impl FlushThread {
    fn start() -> Result<Self, StoreError> {
        let (sender, receiver) = sync_channel::<Submission>(QUEUE_LENGTH);
        let thread = Builder::new()
            .name("flush".to_owned())
            .spawn(move || receiver.into_iter().for_each(Submission::run))
            .map_err(|source| StoreError::Io {
                operation: "start the flush thread of",
                path: PathBuf::from("the state directory"),
                source,
            })?;
        Ok(FlushThread { queue: Some(sender), thread: Some(thread) })
    }

    fn submit(&self, submission: Submission) {
        let Some(queue) = &self.queue else { return };
        if let Err(unsent) = queue.send(submission) {
            // The thread died in a panic: dropping the submission answers its ticket.
            drop(unsent);
        }
    }
}

impl Drop for FlushThread {
    fn drop(&mut self) {
        drop(self.queue.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(panic)) = ended {
            let reason = panic.downcast_ref::<&str>().copied().unwrap_or("unknown");
            tracing::error!(reason, "the flush thread panicked");
        }
    }
}

/// Flushes that a simulator or a test holds back and runs when it likes.
#[derive(Clone, Default)]
pub(crate) struct HeldFlushes {
    queue: Arc<Mutex<VecDeque<Submission>>>,
}

impl HeldFlushes {
    /// How many flushes wait.
    #[must_use]
    pub(crate) fn count(&self) -> usize {
        self.queue.lock().len()
    }

    /// Runs the oldest flush; `false` if there is none.
    pub(crate) fn run_next(&self) -> bool {
        self.run(0)
    }

    /// Runs one of the flushes, which may be of any store; `false` if there is none at `index`.
    pub(crate) fn run(&self, index: usize) -> bool {
        let next = self.queue.lock().remove(index);
        next.map(Submission::run).is_some()
    }

    /// Loses the oldest flush, as a failed write does; `false` if there is none.
    pub(crate) fn lose_next(&self) -> bool {
        let next = self.queue.lock().pop_front();
        next.map(drop).is_some()
    }
}

impl fmt::Debug for HeldFlushes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} held flushes", self.count())
    }
}
