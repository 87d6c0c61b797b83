//! What writes the batches of a batching producer: wave after wave, each with one round of syncs.
//!
//! ```text
//!   take a wave (one batch of a partition at most) --> write each --> sync each partition --> settle all
//!        ^                                               |  the log crashed
//!        '------ the same wave again, after a pause <----'  until it is written, or too old
//! ```
//!
//! Why one wave at a time: all acknowledgements of one sync come together, and records that come
//! meanwhile make the next wave larger. Why a pause between two syncs, half as long as the first at most:
//! those who waited for it send again, and one sync covers them all instead of half of them.
//!
//! Invariants
//! * Locks, in this order: `leading`, `state`; an outcome is settled under neither `state` nor its own.
//! * While a wave is in doubt no other is written: order is kept, also behind a crash of the log.
//! * When the thread ends, however it does, every outcome is settled.
//!
//! On crash: a wave is sent again with its old numbers, so that what survived is a duplicate.

use std::sync::Arc;
use std::time::Duration;

use crate::locks::{Condvar, Mutex, MutexGuard};

use super::accumulator::{Accumulator, Batch};
use super::acknowledgement::{Acknowledgement, Failure, Settled};
use super::record::Record;
use super::turns::Turns;
use super::{Producer, Written};
use crate::clock::Clock;
use crate::commit::sync_all;
use crate::config::{Durability, ProducerSettings};
use crate::error::{Error, Recourse, Result};
use crate::format::HEADER_LEN;
use crate::partition::sync_group::patience;
use crate::topic::Topic;

/// How many partitions are synced at the same time.
const PARALLEL_SYNCS: usize = 8;
/// How often a batch is tried where nobody can wait for the time between.
const TRIES_WITHOUT_THREAD: u32 = 3;

/// What a batching producer has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerStatistics {
    /// Records that `send` took.
    pub records_sent: u64,
    /// Records that are acknowledged.
    pub records_acknowledged: u64,
    /// Records that were given up; each was told so.
    pub records_failed: u64,
    /// Batches that are acknowledged.
    pub batches: u64,
    /// Their bytes, before they are compressed.
    pub bytes: u64,
    /// How often a wave of batches had to be tried again.
    pub retries: u64,
    /// Bytes of records that wait now.
    pub buffered_bytes: usize,
    /// How long calls of `send` have waited for room, all together.
    pub waited: Duration,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) accumulator: Accumulator,
    pub(super) turns: Turns,
    /// No more records are taken.
    pub(super) is_closed: bool,
    /// What is not written is given up.
    pub(super) is_abandoned: bool,
    /// When the wave that failed is tried again.
    retry_at: Option<Duration>,
    /// Until when the thread sleeps, if it does.
    sleeps_until: Option<Duration>,
    pub(super) statistics: ProducerStatistics,
}

/// What only the one who writes needs.
#[derive(Debug)]
struct Leading {
    producer: Producer,
    /// The wave that failed.
    again: Vec<Batch>,
    backoff: Duration,
}

/// What the handle, the thread and the acknowledgements share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) settings: ProducerSettings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) has_thread: bool,
    state: Mutex<State>,
    work: Condvar,
    pub(super) room: Condvar,
    leading: Mutex<Leading>,
}

impl Core {
    pub(super) fn new(producer: Producer, settings: ProducerSettings, has_thread: bool) -> Self {
        let first = u32::try_from(producer.producer_id.0.rem_euclid(1 << 16)).unwrap_or(0);
        Self {
            state: Mutex::new(State {
                accumulator: Accumulator::new(&settings, first),
                turns: Turns::default(),
                is_closed: false,
                is_abandoned: false,
                retry_at: None,
                sleeps_until: None,
                statistics: ProducerStatistics::default(),
            }),
            work: Condvar::new(),
            room: Condvar::new(),
            clock: Arc::clone(producer.log.clock()),
            has_thread,
            leading: Mutex::new(Leading {
                producer,
                again: Vec::new(),
                backoff: settings.retry_backoff,
            }),
            settings,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// What must hold for a record, whatever batch it comes to: one that the log would refuse must not
    /// take the others of its batch with it.
    pub(super) fn check(&self, topic: &Topic, record: &Record<'_>) -> Result<i64> {
        let settings = topic.settings();
        if let Some(partition) = record.partition.filter(|p| *p >= topic.partitions()) {
            let (topic, partitions) = (topic.name().to_string(), topic.partitions());
            return Err(Error::UnknownPartition { topic, partition, partitions });
        }
        let now_ms = self.clock.now_ms();
        let timestamp = record.timestamp.unwrap_or(now_ms);
        settings.partition_options().check_record(topic.name(), record.key, timestamp, now_ms)?;
        Ok(timestamp)
    }

    /// Puts a record into its batch; `None` when there is no room, or others wait for it already.
    pub(super) fn push(
        self: &Arc<Self>,
        state: &mut State,
        topic: &Topic,
        record: &Record<'_>,
        timestamp: i64,
        turn: Option<u64>,
    ) -> Result<Option<Acknowledgement>> {
        if state.is_closed {
            return Err(Error::ProducerClosed);
        }
        let bytes = record.payload_bytes().saturating_add(HEADER_LEN);
        let max_bytes = state.accumulator.bytes_max(topic);
        if bytes > max_bytes {
            return Err(Error::BatchTooLarge { bytes, max_bytes });
        }
        if !state.turns.may_go(turn) || !state.accumulator.has_room(record) {
            return Ok(None);
        }
        let pushed = state.accumulator.push(topic, record, timestamp, || self.clock.monotonic())?;
        state.statistics.records_sent += 1;
        if pushed.is_news {
            self.wake_sender(state);
        }
        Ok(Some(Acknowledgement {
            outcome: pushed.outcome,
            number: pushed.number,
            partition: pushed.partition,
            index: pushed.index,
            timestamp,
            slot: None,
            led: (!self.has_thread).then(|| Arc::clone(self)),
        }))
    }

    /// Wakes the thread if it would sleep past what there is to do.
    pub(super) fn wake_sender(&self, state: &State) {
        if let Some(until) = state.sleeps_until
            && state.accumulator.due().is_some_and(|due| due < until)
        {
            self.work.notify_one();
        }
    }

    /// Batches up to this number do not linger any more.
    pub(super) fn urge(&self, number: u64) {
        let mut state = self.state.lock();
        state.accumulator.want(number);
        self.wake_sender(&state);
    }

    /// No batch that there is now lingers any more.
    pub(super) fn urge_all(&self, state: &mut State) {
        state.accumulator.want_all();
        self.wake_sender(state);
    }

    /// Takes no more records; with `is_abandoned` set, writes no more either.
    pub(super) fn close(&self, abandon: Abandon) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.is_abandoned |= abandon == Abandon::Yes;
        state.accumulator.want_all();
        state.turns.wake_all();
        self.room.notify_all();
        self.work.notify_one();
    }

    /// The life of the thread.
    pub(super) fn run(&self) {
        let _settled = SettleAll(self);
        loop {
            self.lead();
            let mut state = self.state.lock();
            if state.is_closed && state.accumulator.is_empty() {
                return;
            }
            let now = self.clock.monotonic();
            match state.retry_at.or_else(|| state.accumulator.due()) {
                Some(due) if due <= now => {}
                Some(due) => {
                    // Nothing that is sent meanwhile can end the pause after a failure.
                    let wakes = if state.retry_at.is_some() { Duration::ZERO } else { due };
                    state.sleeps_until = Some(wakes);
                    self.work.wait_for(&mut state, due.saturating_sub(now));
                }
                None => {
                    state.sleeps_until = Some(Duration::MAX);
                    self.work.wait(&mut state);
                }
            }
            state.sleeps_until = None;
        }
    }

    /// Writes what is ready, until nothing is.
    pub(super) fn lead(&self) {
        let mut leading = self.leading.lock();
        loop {
            let now = self.clock.monotonic();
            let (late, abandoned, wave) = {
                let mut state = self.state.lock();
                if !state.turns.is_empty() {
                    // Somebody waits for room: lingering would make it wait for nothing.
                    state.accumulator.want_all();
                }
                let late = state.accumulator.expire(now);
                if state.is_abandoned {
                    (late, state.accumulator.take_all(), Vec::new())
                } else if leading.again.is_empty() {
                    (late, Vec::new(), state.accumulator.take(now))
                } else if self.has_thread && state.retry_at.is_some_and(|at| at > now) {
                    (late, Vec::new(), Vec::new())
                } else {
                    state.retry_at = None;
                    (late, Vec::new(), std::mem::take(&mut leading.again))
                }
            };
            let after = self.settings.delivery_timeout;
            let too_late = || Arc::new(Error::TimedOut { what: "writing a batch", after });
            let mut settled: Vec<_> = late.into_iter().map(|b| give_up(b, too_late())).collect();
            if self.state.lock().is_abandoned {
                let left = std::mem::take(&mut leading.again).into_iter().chain(abandoned);
                let closed = || Arc::new(Error::ProducerClosed);
                settled.extend(left.chain(wave).map(|batch| give_up(batch, closed())));
                self.settle(settled, Duration::ZERO);
                return;
            }
            let is_idle = wave.is_empty() && settled.is_empty();
            let took = self.write_wave(&mut leading, wave, &mut settled);
            self.settle(settled, took);
            if is_idle {
                return;
            }
        }
    }

    /// Writes a wave and syncs what it touched, and says how long the latter took. What is in doubt
    /// afterwards is kept, to be tried again.
    fn write_wave(
        &self,
        leading: &mut Leading,
        wave: Vec<Batch>,
        settled: &mut Vec<Done>,
    ) -> Duration {
        let mut took = Duration::ZERO;
        let mut crash: Option<Arc<Error>> = None;
        let mut written: Vec<(Batch, Written)> = Vec::new();
        let mut again = Vec::new();
        for mut batch in wave {
            if crash.is_some() {
                again.push(batch);
                continue;
            }
            batch.tries += 1;
            let producer = &mut leading.producer;
            match producer.write(&batch.topic, batch.partition, &mut batch.builder) {
                Ok(done) => written.push((batch, done)),
                Err(error) => {
                    let is_down = producer.log.has_crashed();
                    batch.is_in_doubt =
                        producer.is_in_doubt(batch.topic.partition(batch.partition));
                    if is_down || error.recourse() == Recourse::Retry {
                        crash = Some(Arc::new(error));
                        again.push(batch);
                    } else {
                        settled.push(give_up(batch, Arc::new(error)));
                    }
                }
            }
        }
        if self.settings.durability == Durability::Sync && crash.is_none() && !written.is_empty() {
            let targets: Vec<_> = written
                .iter()
                .map(|(_, done)| (Arc::clone(&done.target), done.appended.last_offset() + 1))
                .collect();
            let parallel = if self.has_thread { PARALLEL_SYNCS } else { 1 };
            let begun = self.clock.monotonic();
            crash = sync_all(&targets, parallel).err().map(Arc::new);
            took = self.clock.monotonic().saturating_sub(begun);
        }
        let is_in_doubt = self.settings.durability == Durability::Sync && crash.is_some();
        let mut doubtful = Vec::new();
        for (mut batch, done) in written {
            if is_in_doubt {
                leading.producer.doubt(&done, &batch.builder);
                batch.is_in_doubt = true;
                doubtful.push(batch);
            } else {
                leading.producer.settle(&done);
                settled.push((batch, Ok(done.appended.first_offset())));
            }
        }
        doubtful.extend(again);
        match crash {
            Some(error) => self.try_again(leading, doubtful, &error, settled),
            None => leading.backoff = self.settings.retry_backoff,
        }
        took
    }

    /// Keeps the batches of a wave that failed, as far as they are to be tried again.
    fn try_again(
        &self,
        leading: &mut Leading,
        wave: Vec<Batch>,
        error: &Arc<Error>,
        settled: &mut Vec<Done>,
    ) {
        let now = self.clock.monotonic();
        for batch in wave {
            let is_late = batch.begun.saturating_add(self.settings.delivery_timeout) <= now;
            let is_tried_enough = !self.has_thread && batch.tries >= TRIES_WITHOUT_THREAD;
            if is_late || is_tried_enough || matches!(**error, Error::Closed) {
                settled.push(give_up(batch, Arc::clone(error)));
            } else {
                leading.again.push(batch);
            }
        }
        // The first failure is tried again at once: the log has reopened by then, or says why not.
        let is_first = leading.backoff == self.settings.retry_backoff
            && leading.again.iter().all(|batch| batch.tries <= 1);
        let mut state = self.state.lock();
        state.statistics.retries += 1;
        state.retry_at = None;
        if !is_first && !leading.again.is_empty() {
            state.retry_at = Some(now.saturating_add(leading.backoff));
            leading.backoff = (leading.backoff * 2).min(self.settings.retry_backoff_max);
        }
    }

    /// Tells those who wait for a wave, whose sync took so long, and makes room.
    fn settle(&self, settled: Vec<Done>, took: Duration) {
        if settled.is_empty() {
            return;
        }
        let waiting: u64 = settled.iter().map(|(batch, _)| batch.outcome.waiting()).sum();
        let mut state = self.state.lock();
        if self.has_thread && !took.is_zero() {
            let until = self.clock.monotonic().saturating_add(patience(took));
            state.accumulator.gather(waiting, until);
        }
        let mut outcomes = Vec::with_capacity(settled.len());
        for (batch, outcome) in settled {
            let records = u64::from(batch.builder.count().unsigned_abs());
            let statistics = &mut state.statistics;
            if let Err(failure) = &outcome {
                let (topic, partition) = (batch.topic.name(), batch.partition);
                tracing::error!(%topic, partition, records, cause = %failure.cause, "not written");
                statistics.records_failed += records;
            } else {
                statistics.records_acknowledged += records;
                statistics.batches += 1;
                let bytes = u64::try_from(batch.builder.len_bytes()).unwrap_or(u64::MAX);
                statistics.bytes = statistics.bytes.saturating_add(bytes);
            }
            outcomes.push((Arc::clone(&batch.outcome), outcome));
            state.accumulator.give_back(batch);
        }
        if !state.turns.is_empty() {
            state.turns.wake_first();
            self.room.notify_all();
        }
        drop(state);
        // Must be AFTER the figures, or else somebody who was told would not find itself in them.
        for (outcome, settled) in outcomes {
            outcome.settle(settled);
        }
    }
}

/// Whether what is not written is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abandon {
    No,
    Yes,
}

/// A batch with its outcome.
type Done = (Batch, Settled);

fn give_up(batch: Batch, cause: Arc<Error>) -> Done {
    let failure = Failure {
        topic: Arc::from(batch.topic.name().as_str()),
        partition: batch.partition,
        is_in_doubt: batch.is_in_doubt,
        cause,
    };
    (batch, Err(failure))
}

/// Leaves nobody waiting when the thread ends, also by a panic.
struct SettleAll<'a>(&'a Core);

impl Drop for SettleAll<'_> {
    fn drop(&mut self) {
        self.0.close(Abandon::Yes);
        let unsettled = self.0.state.lock().accumulator.unsettled();
        for outcome in unsettled {
            outcome.settle(Err(Failure {
                topic: Arc::from("unknown"),
                partition: 0,
                is_in_doubt: true,
                cause: Arc::new(Error::ProducerClosed),
            }));
        }
    }
}
