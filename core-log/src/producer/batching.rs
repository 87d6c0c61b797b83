//! A producer that gathers single records into batches and acknowledges each of them.
//!
//! ```text
//!   send (any thread) --> bounded buffer: a batch for each partition --> one thread: write, sync
//!     ^ waits for room                                                       |
//!     '----------------------- Acknowledgement <-----------------------------'
//! ```
//!
//! Why beside `Producer`: that one appends batches that somebody has filled, on the caller's thread.
//! Here many threads and tasks send, and share syncs.
//!
//! Invariants
//! * Records of one partition are written in the order in which they were sent, each once.
//! * Every record that was taken is acknowledged or told why not; nobody waits for ever.
//! * What waits is bounded by `buffer_bytes`.
//!
//! On crash: a crash of the log is waited for, and what is in doubt is sent again under its old number;
//! what a killed process had not acknowledged may be there or not.
//! Reference: Kafka `KafkaProducer`, `Sender`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use super::acknowledgement::{Acknowledgement, Outcome};
use super::record::Record;
pub use super::sender::ProducerStatistics;
use super::sender::{Abandon, Core};
use crate::config::ProducerSettings;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::topic::Topic;

impl Log {
    /// A producer that gathers records into batches, with a thread that writes them. On a log without
    /// a background thread it has none: whoever sends, waits or flushes then writes, and nobody waits
    /// for time to pass.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`]; [`Error::Damaged`]: the commit records are; [`Error::Io`]: no thread.
    pub fn batching_producer(&self, settings: ProducerSettings) -> Result<BatchingProducer> {
        settings.validate()?;
        let producer = self.producer(settings.durability)?;
        let has_thread = self.inner.settings().background;
        let core = Arc::new(Core::new(producer, settings, has_thread));
        let thread = if has_thread {
            let for_thread = Arc::clone(&core);
            let spawned = std::thread::Builder::new()
                .name("log-producer".to_owned())
                .spawn(move || for_thread.run());
            Some(spawned.map_err(|e| Error::io(self.inner.dir(), "start a thread for", e))?)
        } else {
            None
        };
        Ok(BatchingProducer { core, thread })
    }
}

/// Sends single records; threads and tasks may share it by reference.
///
/// Dropped without [`close`](Self::close) it gives up what is not written yet: those acknowledgements
/// answer [`Error::NotAcknowledged`], because of [`Error::ProducerClosed`].
///
/// ```
/// use core_log::{Log, ProducerSettings, Record, TopicSettings};
///
/// let dir = tempfile::tempdir()?;
/// let log = Log::open(dir.path())?;
/// let clicks = log.create_topic("clicks", TopicSettings::with_partitions(4))?;
/// let producer = log.batching_producer(ProducerSettings::default())?;
/// let sent: Vec<_> = ["/a", "/b", "/c"]
///     .iter()
///     .map(|page| producer.send(&clicks, Record::keyed(b"user", page.as_bytes())))
///     .collect::<Result<_, _>>()?;
/// // On the disk when this answers. In async code: `sent.await`.
/// let offsets: Vec<_> = sent.iter().map(|s| s.wait().map(|at| at.offset)).collect::<Result<_, _>>()?;
/// assert_eq!(offsets, [0, 1, 2]);
/// producer.close(std::time::Duration::from_secs(10))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BatchingProducer {
    core: Arc<Core>,
    thread: Option<JoinHandle<()>>,
}

/// Why [`BatchingProducer::try_send`] took no record.
#[derive(Debug, thiserror::Error)]
pub enum TrySendError<'a> {
    /// The buffer is full, or others wait for room in it. Try again later, or [`send`](BatchingProducer::send).
    #[error("the producer's buffer is full")]
    Full(Record<'a>),
    /// The record is refused, or the producer is closed.
    #[error(transparent)]
    Refused(#[from] Error),
}

impl BatchingProducer {
    /// Sends a record. Waits while the buffer is full, at most `block_max`; does not wait for the disk.
    ///
    /// # Errors
    ///
    /// * [`Error::TimedOut`]: there was no room in time; the record was not taken.
    /// * [`Error::BatchTooLarge`], [`Error::TimestampTooFarAhead`], [`Error::KeyMissing`],
    ///   [`Error::UnknownPartition`], [`Error::ProducerClosed`]: the record was not taken.
    pub fn send(&self, topic: &Topic, record: Record<'_>) -> Result<Acknowledgement> {
        let timestamp = self.core.check(topic, &record)?;
        let mut state = self.core.state();
        if let Some(sent) = self.core.push(&mut state, topic, &record, timestamp, None)? {
            drop(state);
            self.lead_if_due(&sent);
            return Ok(sent);
        }
        let turn = state.turns.take();
        self.core.urge_all(&mut state);
        let (clock, block_max) = (&self.core.clock, self.core.settings.block_max);
        let begun = clock.monotonic();
        let deadline = begun.saturating_add(block_max);
        let mut is_late = false;
        let outcome = loop {
            if !self.core.has_thread {
                drop(state);
                self.core.lead();
                state = self.core.state();
                is_late = true;
            }
            match self.core.push(&mut state, topic, &record, timestamp, Some(turn)) {
                Ok(None) => {}
                Ok(Some(sent)) => break Ok(sent),
                Err(error) => break Err(error),
            }
            let left = deadline.saturating_sub(clock.monotonic());
            if is_late || left.is_zero() {
                break Err(Error::TimedOut {
                    what: "waiting for room in the producer's buffer",
                    after: if self.core.has_thread { block_max } else { Duration::ZERO },
                });
            }
            is_late = self.core.room.wait_for(&mut state, left).timed_out();
        };
        let waited = clock.monotonic().saturating_sub(begun);
        state.statistics.waited = state.statistics.waited.saturating_add(waited);
        state.turns.leave(turn);
        // There may be room for the next one, too.
        state.turns.wake_first();
        self.core.room.notify_all();
        drop(state);
        outcome.inspect(|sent| self.lead_if_due(sent))
    }

    /// Sends a record unless that would mean to wait.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] gives the record back; [`TrySendError::Refused`] as [`send`](Self::send).
    pub fn try_send<'a>(
        &self,
        topic: &Topic,
        record: Record<'a>,
    ) -> Result<Acknowledgement, TrySendError<'a>> {
        let timestamp = self.core.check(topic, &record)?;
        let mut state = self.core.state();
        let sent = self.core.push(&mut state, topic, &record, timestamp, None)?;
        if sent.is_none() {
            self.core.urge_all(&mut state);
        }
        drop(state);
        let sent = sent.ok_or(TrySendError::Full(record))?;
        self.lead_if_due(&sent);
        Ok(sent)
    }

    /// Sends a record; awaits room in the buffer for as long as that takes. Dropping the future before
    /// it is ready sends nothing.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), without the deadline; on a log without a background thread nothing is
    /// awaited, and the answer is that of `send`.
    pub fn send_async<'a>(&'a self, topic: &'a Topic, record: Record<'a>) -> SendAsync<'a> {
        SendAsync { producer: self, topic, record, turn: None }
    }

    /// Waits until every record that was sent before is acknowledged or given up.
    ///
    /// # Errors
    ///
    /// [`Error::NotAcknowledged`]: the first failure among the batches that it waited for.
    pub fn flush(&self) -> Result<()> {
        let flush = self.begin_flush();
        flush.wait(|| None);
        flush.outcome()
    }

    /// The same, to be awaited.
    pub fn flush_async(&self) -> Flush {
        self.begin_flush()
    }

    fn begin_flush(&self) -> Flush {
        let mut state = self.core.state();
        let outcomes = state.accumulator.unsettled();
        self.core.urge_all(&mut state);
        let led = (!self.core.has_thread).then(|| Arc::clone(&self.core));
        Flush { outcomes, next: 0, slot: None, led }
    }

    /// Takes no more records, writes what was sent, and ends. What is not written when `timeout` is over
    /// is given up; a write that is on its way then is waited for.
    ///
    /// # Errors
    ///
    /// [`Error::NotAcknowledged`]: the first record that was sent and is not written.
    pub fn close(self, timeout: Duration) -> Result<()> {
        self.core.close(Abandon::No);
        let (all, clock) = (self.begin_flush(), Arc::clone(&self.core.clock));
        let deadline = clock.monotonic().saturating_add(timeout);
        all.wait(|| Some(deadline.saturating_sub(clock.monotonic())));
        // Gives up what is left, and ends the thread.
        drop(self);
        all.outcome()
    }

    /// What it has done.
    #[must_use]
    pub fn statistics(&self) -> ProducerStatistics {
        let state = self.core.state();
        let buffered_bytes = state.accumulator.buffered_bytes();
        ProducerStatistics { buffered_bytes, ..state.statistics }
    }

    /// The settings that it was opened with.
    #[must_use]
    pub fn settings(&self) -> &ProducerSettings {
        &self.core.settings
    }

    /// Without a thread whoever fills a batch writes it.
    fn lead_if_due(&self, sent: &Acknowledgement) {
        if sent.led.is_some() {
            let due = self.core.state().accumulator.due();
            if due.is_some_and(|due| due <= self.core.clock.monotonic()) {
                self.core.lead();
            }
        }
    }
}

impl Drop for BatchingProducer {
    fn drop(&mut self) {
        self.core.close(Abandon::Yes);
        let Some(thread) = self.thread.take() else { return self.core.lead() };
        if thread.join().is_err() {
            tracing::error!("the thread of a producer panicked");
        }
    }
}

/// A record on its way into a full buffer; see [`BatchingProducer::send_async`].
#[derive(Debug)]
#[must_use = "nothing is sent until it is awaited"]
pub struct SendAsync<'a> {
    producer: &'a BatchingProducer,
    topic: &'a Topic,
    record: Record<'a>,
    turn: Option<u64>,
}

impl Future for SendAsync<'_> {
    type Output = Result<Acknowledgement>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let core = &this.producer.core;
        if !core.has_thread {
            // This call makes room, or nobody does.
            return Poll::Ready(this.producer.send(this.topic, this.record));
        }
        let timestamp = match core.check(this.topic, &this.record) {
            Ok(timestamp) => timestamp,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let mut state = core.state();
        let sent = core.push(&mut state, this.topic, &this.record, timestamp, this.turn);
        match sent.transpose() {
            Some(sent) => {
                drop(state);
                this.leave();
                Poll::Ready(sent)
            }
            None => {
                let turn = *this.turn.get_or_insert_with(|| state.turns.take());
                state.turns.set_waker(turn, context.waker());
                core.urge_all(&mut state);
                Poll::Pending
            }
        }
    }
}

impl SendAsync<'_> {
    fn leave(&mut self) {
        if let Some(turn) = self.turn.take() {
            let core = &self.producer.core;
            let mut state = core.state();
            state.turns.leave(turn);
            state.turns.wake_first();
            core.room.notify_all();
        }
    }
}

impl Drop for SendAsync<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Ready when every record that was sent before it is acknowledged or given up; see
/// [`BatchingProducer::flush_async`].
#[derive(Debug)]
#[must_use = "await it to know that everything is written"]
pub struct Flush {
    outcomes: Vec<Arc<Outcome>>,
    next: usize,
    slot: Option<usize>,
    led: Option<Arc<Core>>,
}

impl Flush {
    /// Waits for each batch, at most as long as there is `left` then.
    fn wait(&self, left: impl Fn() -> Option<Duration>) {
        if let Some(core) = &self.led {
            core.lead();
        }
        for outcome in &self.outcomes {
            // Where nobody else writes, what is not written by now is not going to be.
            let timeout = if self.led.is_some() { Some(Duration::ZERO) } else { left() };
            if outcome.wait(timeout).is_none() {
                return;
            }
        }
    }

    /// The first failure; that something is not known yet is one.
    fn outcome(&self) -> Result<()> {
        for outcome in &self.outcomes {
            match outcome.get() {
                Some(Ok(_)) => {}
                Some(Err(failure)) => return Err(failure.error()),
                None => {
                    let after = Duration::ZERO;
                    return Err(Error::TimedOut { what: "writing all records", after });
                }
            }
        }
        Ok(())
    }
}

impl Future for Flush {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.led.is_some() {
            self.wait(|| None);
            return Poll::Ready(self.outcome());
        }
        let this = &mut *self;
        while let Some(outcome) = this.outcomes.get(this.next) {
            if outcome.poll(context.waker(), &mut this.slot).is_pending() {
                return Poll::Pending;
            }
            (this.next, this.slot) = (this.next + 1, None);
        }
        Poll::Ready(this.outcome())
    }
}

#[cfg(test)]
#[path = "batching/tests.rs"]
mod tests;
