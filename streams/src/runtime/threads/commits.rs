//! The thread that commits: waiting for the disk is all that it does.
//!
//! Why a thread: the workers go on with the next transaction, and the coordinator must hear them.
//!
//! Invariants
//! * every sealed transaction is answered, also when its commit panics.
//! * what lies behind a commit is purged after the answer: nobody waits for that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender};

use super::Event;
use crate::error::{Error, Result};
use crate::runtime::commit::Sealed;

pub(super) struct CommitThread {
    pub(super) sealed: Receiver<Sealed>,
    pub(super) events: Sender<Event>,
}

impl CommitThread {
    /// Commits one transaction after the other, until the coordinator is gone.
    pub(super) fn run(self) {
        for sealed in &self.sealed {
            let span = tracing::debug_span!("commit", job = sealed.job());
            let _entered = span.enter();
            let committed = guarded(|| sealed.commit());
            let is_committed = committed.is_ok();
            self.say(Event::Decided(committed));
            if is_committed && let Err(error) = guarded(|| sealed.purge()) {
                self.say(Event::Failed(error));
            }
        }
    }

    fn say(&self, event: Event) {
        // Nobody listens any more once the job has ended: there is nothing left to report to.
        self.events.send(event).ok();
    }
}

fn guarded(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    outcome.unwrap_or_else(|panic| Err(Error::panicked(panic.as_ref())))
}
