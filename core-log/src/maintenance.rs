//! What happens without being asked: retention, interval syncs, time-outs.
//!
//! Why threads that only call `run` and `clean`: everything they do can be called by a test, at any
//! time that the test likes. Why two: a pass of compaction takes as long as it takes, and an interval
//! that ends must not wait for it.
//!
//! Invariants
//! * The threads do not keep a log open: they end when the last handle is gone.
//! * Retention and compaction by time follow the monotonic clock from the start on; a date that jumps ahead is
//!   believed only after an hour.

use std::fmt::Debug;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::locks::{Condvar, Mutex};

use crate::commit::{Broken, Directory};
use crate::error::{Error, Result};
use crate::ids::Timestamp;
use crate::log::Inner;
use crate::log::engine::Engine;
use crate::partition::Partition;
use crate::partition::compaction::{Limits, TO_THE_END};

/// How often is looked for intervals that have ended, and for transactions that take too long.
const TICK: Duration = Duration::from_millis(10);
/// How long it waits after something went wrong: a log that cannot reopen, on a full disk for example,
/// is not helped by trying all the time.
const TICK_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How often retention and compaction look at all segments (`log.retention.check.interval.ms` is 5
/// minutes, `log.cleaner.backoff.ms` 15 seconds).
const CLEAN_EVERY: Duration = Duration::from_secs(15);
/// Producers that were not heard of for so long are forgotten (`producer.id.expiration.ms`).
const PRODUCER_EXPIRY_MS: i64 = 86_400_000;
/// How long a date that jumped ahead must last before it is believed.
const JUMP_DOUBT: Duration = Duration::from_secs(3_600);

/// Everything, once.
pub(crate) fn run(engine: &Engine, transaction_timeout: Duration, now: Timestamp) -> Result<()> {
    end_what_is_due(engine, transaction_timeout)?;
    let limits = Limits { drops_last: engine.makes(Broken::DropLast), ..TO_THE_END };
    clean(engine, now, &limits)
}

/// Retention and compaction of all partitions, once; and files whose time has come.
fn clean(engine: &Engine, now: Timestamp, limits: &Limits<'_>) -> Result<()> {
    let monotonic = engine.shared.clock.monotonic();
    let retained_at = if engine.makes(Broken::RetainTooEarly) { Timestamp::MAX } else { now };
    for partition in engine.partitions() {
        partition.expire_producers(now.saturating_sub(PRODUCER_EXPIRY_MS));
        partition.retain(retained_at)?;
        partition.remove_due_files(monotonic)?;
        let compacted = match partition.is_compaction_due(now) {
            Ok(true) => compact(engine, &partition, now, limits),
            other => other.map(|_not_due| ()),
        };
        if let Err(Error::Closed) = compacted {
            return Ok(());
        }
        if let Err(error) = compacted {
            // The other partitions are as good as they were.
            engine.shared.health.check()?;
            tracing::warn!(dir = %partition.place().dir.display(), %error, "compaction failed");
        }
    }
    Ok(())
}

fn compact(
    engine: &Engine,
    partition: &Partition,
    now: Timestamp,
    limits: &Limits<'_>,
) -> Result<()> {
    if let Ok(commits) = engine.commits() {
        // Must be BEFORE the records go, or else a power cut could send a group back to them.
        commits.settle(engine)?;
    }
    partition.compact(now, limits).map(|_cleaned| ())
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

/// The threads; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
    _beside: Vec<Beside>,
}

#[derive(Debug, Default)]
struct Stop {
    is_stopped: Mutex<bool>,
    signal: Condvar,
}

/// What a thread of the log does until it is stopped.
type Work = fn(&Weak<Inner>, &Stop);

/// Starts the threads.
pub(crate) fn start(inner: &Arc<Inner>, beside: Vec<Beside>) -> Background {
    let stop = Arc::new(Stop::default());
    let mut threads = Vec::new();
    let works: [(&str, Work); 2] =
        [("log-maintenance", end_by_the_clock), ("log-cleaner", clean_by_the_clock)];
    for (name, work) in works {
        let (log, stopped) = (Arc::downgrade(inner), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name(name.to_owned());
        match thread.spawn(move || work(&log, &stopped)) {
            Ok(thread) => threads.push(thread),
            Err(error) => tracing::warn!(%error, name, "a thread of the log cannot be started"),
        }
    }
    Background { stop, threads, _beside: beside }
}

impl Stop {
    /// Waits for the next tick; true when there is none.
    fn comes_before(&self, tick: Duration) -> bool {
        let mut is_stopped = self.is_stopped.lock();
        if !*is_stopped {
            self.signal.wait_for(&mut is_stopped, tick);
        }
        *is_stopped
    }
}

/// Ends intervals and transactions whose time is up.
fn end_by_the_clock(log: &Weak<Inner>, stop: &Stop) {
    let mut tick = TICK;
    while !stop.comes_before(tick) {
        let Some(log) = log.upgrade() else { return };
        let timeout = log.settings().transaction_timeout;
        log.wake_groups();
        let outcome = log.engine().and_then(|engine| end_what_is_due(&engine, timeout));
        tick = TICK;
        if let Err(error) = outcome {
            tracing::warn!(%error, "maintenance failed");
            tick = TICK_AFTER_FAILURE;
        }
    }
}

/// Retention, compaction, and producers that were not heard of.
fn clean_by_the_clock(log: &Weak<Inner>, stop: &Stop) {
    let Some((date, at)) = log.upgrade().map(|l| (l.clock().now_ms(), l.clock().monotonic()))
    else {
        return;
    };
    let mut steady = SteadyDate::new(date, at);
    let mut cleaned = at;
    while !stop.comes_before(TICK_AFTER_FAILURE) {
        let Some(log) = log.upgrade() else { return };
        let monotonic = log.clock().monotonic();
        let date = steady.observe(log.clock().now_ms(), monotonic);
        if monotonic.saturating_sub(cleaned) < CLEAN_EVERY {
            continue;
        }
        cleaned = monotonic;
        let limits = Limits { is_stopped: &|| *stop.is_stopped.lock(), ..TO_THE_END };
        if let Err(error) = log.engine().and_then(|engine| clean(&engine, date, &limits)) {
            tracing::warn!(%error, "retention and compaction failed");
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        *self.stop.is_stopped.lock() = true;
        self.stop.signal.notify_all();
        for thread in self.threads.drain(..) {
            // A thread itself can be the one that drops the last handle.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
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
