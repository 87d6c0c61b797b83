//! Which silent source partitions are passed over, and up to when. Pure.
//!
//! Why: a window closes when all clocks it depends on have passed it, so a partition into which nobody
//! writes would hold it open for ever.
//!
//! ```text
//!   partition 0   ..x..x...x..x..x..x..x     moves: its clock is the goal (the smallest of those)
//!   partition 1   ..x....................    read to its end, silent for `after`: raised to the goal
//!   partition 2                              empty from the start: the same
//!   all silent                               nothing moves: there is no goal
//! ```
//!
//! Invariants
//! * only what happened is counted, by the monotonic clock: a date that jumps raises nothing.
//! * a raise is no sign of life, so raises never cause raises: once the clocks have reached the goal the
//!   plan is empty, and the job comes to rest.
//! * `after` of zero is Kafka's rule: whatever has been read to its end is as far as the furthest.
//!
//! On crash: a raise is committed with its transaction or never was; silence counts from the start on.
//! Reference: Kafka `max.task.idle.ms`; Flink `withIdleness`.

use std::sync::Arc;
use std::time::Duration;

use super::report::SourceState;

/// A partition that stays silent is raised again no more often than this.
const RAISE_PAUSE: Duration = Duration::from_secs(1);

/// The clock of one source partition is to be raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raise {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    pub(crate) to: i64,
}

/// What to do now, and when to look again if nothing happens before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) raises: Vec<Raise>,
    pub(crate) next: Option<Duration>,
}

/// Decides over all source partitions of a job.
pub(crate) fn plan(sources: &[SourceState], now: Duration, after: Duration) -> Plan {
    let mut plan = Plan::default();
    for source in sources.iter().filter(|source| source.holds_windows && source.is_at_end) {
        let due = due(source, after);
        let Some(to) = goal(sources, due.max(now), after).filter(|&to| source.clock < to) else {
            continue;
        };
        if due <= now {
            let topic = Arc::clone(&source.topic);
            plan.raises.push(Raise { topic, partition: source.partition, to });
        } else {
            plan.next = Some(plan.next.map_or(due, |next| next.min(due)));
        }
    }
    plan
}

/// When a partition that has been read to its end may be raised, if it stays silent.
fn due(source: &SourceState, after: Duration) -> Duration {
    let silent = source.read_at.saturating_add(after);
    let again = source.raised_at.map(|at| at.saturating_add(after.min(RAISE_PAUSE)));
    again.map_or(silent, |again| silent.max(again))
}

/// How far those that move at this time are; `None` if none does.
fn goal(sources: &[SourceState], at: Duration, after: Duration) -> Option<i64> {
    let clocks = sources.iter().filter(|source| source.holds_windows);
    if after.is_zero() {
        return clocks.map(|source| source.clock).max();
    }
    let moves =
        |source: &&SourceState| !source.is_at_end || at.saturating_sub(source.read_at) < after;
    clocks.filter(moves).map(|source| source.clock).min()
}

#[cfg(test)]
mod tests;
