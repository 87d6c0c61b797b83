//! What the threads of a job call each other with: there is something to do; come to the commit.
//!
//! ```text
//!   log changes --> watch() --.
//!   worker hands records over -+--> ring --> idle workers look at their inputs
//!   coordinator's orders ------'
//!   coordinator: call ---------------------> busy workers stop at the next record boundary
//! ```
//!
//! Why not by polling: an idle job with a thousand partitions would spend its time looking at them.
//!
//! Invariants
//! * a worker that reads the count before it looks, and waits with it, misses no ring.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::broker::Broker;

/// How long the log is waited for before the end of the job is looked for.
const WATCH: Duration = Duration::from_millis(50);
/// A busy log rings no more often than this: each ring has all idle workers look at all their inputs.
const RING_PAUSE: Duration = Duration::from_millis(5);

/// Wakes idle workers and calls busy ones.
#[derive(Default)]
pub(super) struct Bell {
    state: Mutex<State>,
    moved: Condvar,
    called: AtomicBool,
}

#[derive(Default)]
struct State {
    rung: u64,
    has_ended: bool,
}

impl Bell {
    /// Wakes idle workers.
    pub(super) fn ring(&self) {
        self.state.lock().rung += 1;
        self.moved.notify_all();
    }

    /// How often it was rung.
    pub(super) fn count(&self) -> u64 {
        self.state.lock().rung
    }

    /// Waits until it has been rung more often than `seen`, at most that long.
    pub(super) fn wait(&self, seen: u64, at_most: Duration) {
        let mut state = self.state.lock();
        if state.rung == seen {
            self.moved.wait_for(&mut state, at_most);
        }
    }

    /// Has workers stop at the next record boundary, until [`release`](Self::release).
    pub(super) fn call(&self) {
        self.called.store(true, Ordering::Relaxed);
    }

    /// Workers may go on.
    pub(super) fn release(&self) {
        self.called.store(false, Ordering::Relaxed);
    }

    /// Whether workers are called; a worker looks at it between two records.
    pub(super) fn called(&self) -> &AtomicBool {
        &self.called
    }

    /// The job has ended: [`watch`](Self::watch) returns.
    pub(super) fn end(&self) {
        self.state.lock().has_ended = true;
        self.moved.notify_all();
    }

    /// Rings whenever the log has changed, until the job ends.
    pub(super) fn watch(&self, broker: &dyn Broker) {
        let mut seen = 0;
        while !self.has_ended_after(Duration::ZERO) {
            let changes = broker.watch(seen, WATCH);
            if changes != seen {
                seen = changes;
                self.ring();
                if self.has_ended_after(RING_PAUSE) {
                    return;
                }
            }
        }
    }

    fn has_ended_after(&self, pause: Duration) -> bool {
        let mut state = self.state.lock();
        let ended = |state: &mut State| !state.has_ended;
        self.moved.wait_while_for(&mut state, ended, pause);
        state.has_ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::SimulatedLog;
    use crate::record::Headers;

    #[test]
    fn a_change_of_the_log_rings_and_the_end_stops_the_watch() {
        let mut log = SimulatedLog::new(1, 0);
        log.ensure_topic("in", 1).unwrap();
        let broker = log.broker(i64::MAX).unwrap();
        let bell = Bell::default();
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| bell.watch(&broker));
            for n in 0..3 {
                let seen = bell.count();
                log.append("in", 0, n, None, Some(b"1"), &Headers::none()).unwrap();
                while bell.count() == seen {
                    bell.wait(seen, Duration::from_secs(60));
                }
            }
            bell.end();
            watcher.join().unwrap();
        });
    }
}
