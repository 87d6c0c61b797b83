//! What became of a record that was sent: known once its whole batch is.
//!
//! ```text
//!   send --> Acknowledgement --.
//!   send --> Acknowledgement --+--> Outcome of the batch <-- the sender, once
//!   flush -> Flush ------------'     wakes threads and tasks
//! ```
//!
//! Why one outcome for a batch: nothing is allocated for a record, and one sync acknowledges all.
//!
//! Invariants
//! * Every outcome is settled: by the write, by a deadline, or when the producer goes.
//!
//! On crash: a batch whose write is in doubt is sent again with its old number before it is settled.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::locks::Crowd;

use super::sender::Core;
use crate::error::{Error, Result};
use crate::ids::{Offset, Timestamp};

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The partition that it was sent to.
    pub partition: u32,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
}

/// Why the records of a batch are not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
    pub(super) is_in_doubt: bool,
    pub(super) cause: Arc<Error>,
}

impl Failure {
    pub(super) fn error(&self) -> Error {
        Error::NotAcknowledged {
            topic: self.topic.as_ref().to_owned(),
            partition: self.partition,
            is_in_doubt: self.is_in_doubt,
            cause: Arc::clone(&self.cause),
        }
    }
}

/// The offset of the first record of a batch, or why there is none.
pub(super) type Settled = Result<Offset, Failure>;

/// What becomes of a batch.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    state: Crowd<State>,
}

#[derive(Debug, Default)]
struct State {
    settled: Option<Settled>,
    /// The tasks that wait, and how many threads do.
    wakers: Vec<Waker>,
    threads: u64,
}

impl Outcome {
    /// Settles it and wakes all who wait; only the first time counts.
    pub(super) fn settle(&self, settled: Settled) {
        let wakers = {
            let mut state = self.state.lock();
            state.settled.get_or_insert(settled);
            std::mem::take(&mut state.wakers)
        };
        self.state.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How many threads and tasks wait for it.
    pub(super) fn waiting(&self) -> u64 {
        let state = self.state.lock();
        state.threads + u64::try_from(state.wakers.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn get(&self) -> Option<Settled> {
        self.state.lock().settled.clone()
    }

    /// Waits at most so long.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Option<Settled> {
        let mut state = self.state.lock();
        state.threads += 1;
        state = self.state.wait_while(state, timeout, |state| state.settled.is_none());
        state.threads -= 1;
        state.settled.clone()
    }

    /// Remembers whom to wake; `slot` is where this task's waker was left the last time.
    pub(super) fn poll(&self, waker: &Waker, slot: &mut Option<usize>) -> Poll<Settled> {
        let mut state = self.state.lock();
        if let Some(settled) = &state.settled {
            return Poll::Ready(settled.clone());
        }
        match slot.and_then(|slot| state.wakers.get_mut(slot)) {
            Some(known) => known.clone_from(waker),
            None => {
                *slot = Some(state.wakers.len());
                state.wakers.push(waker.clone());
            }
        }
        Poll::Pending
    }
}

/// A record that was sent: await it, or [`wait`](Self::wait) for it, to know that it is as durable as
/// its producer promises, and where. Letting it go is no error: [`flush`](super::BatchingProducer::flush)
/// and [`close`](super::BatchingProducer::close) tell of failures too.
#[derive(Debug)]
pub struct Acknowledgement {
    pub(super) outcome: Arc<Outcome>,
    /// The number of its batch.
    pub(super) number: u64,
    pub(super) partition: u32,
    /// The record's number in its batch.
    pub(super) index: i32,
    pub(super) timestamp: Timestamp,
    pub(super) slot: Option<usize>,
    /// Who waits must write, where no thread does.
    pub(super) led: Option<Arc<Core>>,
}

impl Acknowledgement {
    /// The partition that the record was sent to.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The record's timestamp.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    fn lead(&self) {
        if let Some(core) = &self.led {
            core.urge(self.number);
            core.lead();
        }
    }

    fn answer(&self, settled: Settled) -> Result<Acknowledged> {
        match settled {
            Ok(first) => Ok(Acknowledged {
                partition: self.partition,
                offset: first + Offset::from(self.index),
                timestamp: self.timestamp,
            }),
            Err(failure) => Err(failure.error()),
        }
    }

    /// Waits until the record is as durable as its producer promises. Never longer than the producer's
    /// delivery timeout and the write that is on its way.
    ///
    /// # Errors
    ///
    /// * [`Error::NotAcknowledged`]: with the cause, and whether the record may be in the log.
    /// * [`Error::TimedOut`]: on a log without a background thread whose producer may not write yet, by
    ///   its rate limit. The record still waits.
    pub fn wait(&self) -> Result<Acknowledged> {
        self.lead();
        let timeout = self.led.as_ref().map(|_| Duration::ZERO);
        match self.outcome.wait(timeout) {
            Some(settled) => self.answer(settled),
            None => Err(Error::TimedOut { what: "writing a record", after: Duration::ZERO }),
        }
    }

    /// The same, at most so long; `None` when it is not known by then.
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<Acknowledged>> {
        self.lead();
        let timeout = if self.led.is_some() { Duration::ZERO } else { timeout };
        self.outcome.wait(Some(timeout)).map(|settled| self.answer(settled))
    }
}

impl Future for Acknowledgement {
    type Output = Result<Acknowledged>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.led.is_some() {
            // Nobody would wake this task later.
            return Poll::Ready(self.wait());
        }
        let this = &mut *self;
        let polled = this.outcome.poll(context.waker(), &mut this.slot);
        polled.map(|settled| this.answer(settled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_outcome_counts_and_all_tasks_are_woken_once() {
        let outcome = Outcome::default();
        let waker = Waker::noop();
        let (mut one, mut other) = (None, None);
        assert!(outcome.poll(waker, &mut one).is_pending());
        assert!(outcome.poll(waker, &mut other).is_pending());
        assert!(outcome.poll(waker, &mut one).is_pending());
        assert_eq!((one, other, outcome.waiting()), (Some(0), Some(1), 2));
        assert!(outcome.wait(Some(Duration::ZERO)).is_none());
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| outcome.wait(None));
            while outcome.waiting() < 3 {
                std::thread::yield_now();
            }
            outcome.settle(Ok(5));
            assert!(matches!(thread.join(), Ok(Some(Ok(5)))));
        });
        assert_eq!(outcome.waiting(), 0);
        outcome.settle(Ok(5));
        outcome.settle(Ok(6));
        assert!(matches!(outcome.poll(waker, &mut one), Poll::Ready(Ok(5))));
        assert!(matches!(outcome.wait(None), Some(Ok(5))));
    }
}
