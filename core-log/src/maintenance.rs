//! What happens without being asked: retention, interval syncs, time-outs.
//!
//! Why a thread that only calls `run`: everything it does can be called by a test, at any time that
//! the test likes.
//!
//! Invariants
//! * The thread does not keep a log open: it ends when the last handle is gone.
//! * Retention by time follows the monotonic clock from the start on; a date that jumps ahead is
//!   believed only after an hour.

use std::fmt::Debug;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::locks::{Condvar, Mutex};

use crate::commit::Directory;
use crate::error::Result;
use crate::ids::Timestamp;
use crate::log::Inner;
use crate::log::engine::Engine;

/// How often the thread looks for intervals that have ended, and for transactions that take too long.
const TICK: Duration = Duration::from_millis(10);
/// How long it waits after something went wrong: a log that cannot reopen, on a full disk for example,
/// is not helped by trying all the time.
const TICK_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How often retention looks at all segments (`log.retention.check.interval.ms` is 5 minutes).
const RETENTION_EVERY: Duration = Duration::from_secs(60);
/// Producers that were not heard of for so long are forgotten (`producer.id.expiration.ms`).
const PRODUCER_EXPIRY_MS: i64 = 86_400_000;
/// How long a date that jumped ahead must last before it is believed.
const JUMP_DOUBT: Duration = Duration::from_secs(3_600);

/// Everything, once.
pub(crate) fn run(engine: &Engine, transaction_timeout: Duration, now: Timestamp) -> Result<()> {
    end_what_is_due(engine, transaction_timeout)?;
    for partition in engine.partitions() {
        partition.retain(now)?;
        partition.expire_producers(now.saturating_sub(PRODUCER_EXPIRY_MS));
    }
    Ok(())
}

/// Intervals and transactions whose time is up.
fn end_what_is_due(engine: &Engine, transaction_timeout: Duration) -> Result<()> {
    let monotonic = engine.shared.clock.monotonic();
    if engine.shared.has_intervals.swap(false, Ordering::AcqRel) {
        for partition in engine.partitions() {
            if partition.damage().is_none() {
                partition.sync_if_due(monotonic)?;
            }
        }
    }
    if let Ok(commits) = engine.commits() {
        commits.sync_if_due(engine, monotonic)?;
        commits.abort_timed_out(engine, transaction_timeout)?;
    }
    Ok(())
}

/// A date that does not jump. Pure.
#[derive(Clone, Copy, Debug)]
struct SteadyDate {
    date: Timestamp,
    at: Duration,
    doubted_since: Option<Duration>,
}

impl SteadyDate {
    fn new(date: Timestamp, at: Duration) -> Self {
        Self { date, at, doubted_since: None }
    }

    /// The date to act by, when the clocks show these times.
    fn observe(&mut self, date: Timestamp, monotonic: Duration) -> Timestamp {
        let passed = Timestamp::try_from(monotonic.saturating_sub(self.at).as_millis());
        let expected = self.date.saturating_add(passed.unwrap_or(Timestamp::MAX));
        if date <= expected.saturating_add(60_000) {
            *self = Self::new(date, monotonic);
            return date;
        }
        let since = *self.doubted_since.get_or_insert(monotonic);
        if monotonic.saturating_sub(since) > JUMP_DOUBT {
            *self = Self::new(date, monotonic);
            return date;
        }
        expected
    }
}

/// Something that runs beside the thread and ends when it is dropped.
pub(crate) type Beside = Box<dyn Debug + Send + Sync>;

/// The maintenance thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
    _beside: Vec<Beside>,
}

#[derive(Debug, Default)]
struct Stop {
    is_stopped: Mutex<bool>,
    signal: Condvar,
}

/// Starts the thread.
pub(crate) fn start(inner: &Arc<Inner>, beside: Vec<Beside>) -> Background {
    let stop = Arc::new(Stop::default());
    let (log, stopped) = (Arc::downgrade(inner), Arc::clone(&stop));
    let thread = std::thread::Builder::new()
        .name("log-maintenance".to_owned())
        .spawn(move || work(&log, &stopped));
    if let Err(error) = &thread {
        tracing::warn!(%error, "no maintenance thread: nothing is deleted by retention");
    }
    Background { stop, thread: thread.ok(), _beside: beside }
}

fn work(log: &Weak<Inner>, stop: &Stop) {
    let Some((date, at)) = log.upgrade().map(|l| (l.clock().now_ms(), l.clock().monotonic()))
    else {
        return;
    };
    let mut steady = SteadyDate::new(date, at);
    let mut retained = at;
    let mut tick = TICK;
    loop {
        let mut is_stopped = stop.is_stopped.lock();
        if !*is_stopped {
            stop.signal.wait_for(&mut is_stopped, tick);
        }
        if *is_stopped {
            return;
        }
        drop(is_stopped);
        let Some(log) = log.upgrade() else { return };
        let monotonic = log.clock().monotonic();
        let date = steady.observe(log.clock().now_ms(), monotonic);
        let is_time = monotonic.saturating_sub(retained) >= RETENTION_EVERY;
        log.wake_groups();
        let outcome = log.engine().and_then(|engine| {
            if is_time {
                retained = monotonic;
                return run(&engine, log.settings().transaction_timeout, date);
            }
            end_what_is_due(&engine, log.settings().transaction_timeout)
        });
        tick = TICK;
        if let Err(error) = outcome {
            tracing::warn!(%error, "maintenance failed");
            tick = TICK_AFTER_FAILURE;
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        *self.stop.is_stopped.lock() = true;
        self.stop.signal.notify_all();
        let Some(thread) = self.thread.take() else { return };
        // The thread itself can be the one that drops the last handle.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the maintenance thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const YEAR_MS: i64 = 365 * 86_400_000;

    #[test]
    fn a_date_that_jumps_a_year_ahead_and_back_deletes_nothing() {
        let mut steady = SteadyDate::new(0, Duration::ZERO);
        assert_eq!(steady.observe(1_000, Duration::from_secs(1)), 1_000);
        assert_eq!(steady.observe(YEAR_MS, Duration::from_secs(2)), 2_000);
        assert_eq!(steady.observe(3_000, Duration::from_secs(3)), 3_000);
    }

    #[test]
    fn a_date_that_stays_ahead_is_believed_after_an_hour() {
        let mut steady = SteadyDate::new(0, Duration::ZERO);
        assert_eq!(steady.observe(YEAR_MS, Duration::from_secs(1)), 1_000);
        assert_eq!(steady.observe(YEAR_MS, HOUR + Duration::from_secs(2)), YEAR_MS);
    }

    #[test]
    fn a_date_that_goes_back_is_believed_at_once() {
        let mut steady = SteadyDate::new(YEAR_MS, Duration::ZERO);
        assert_eq!(steady.observe(5, Duration::from_secs(1)), 5);
    }
}
