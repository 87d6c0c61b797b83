//! Silent partitions in a simulation: passed over at once, or when the clock that is moved by hand says so.

use std::time::Duration;

use super::{Engine, Running};
use crate::error::Result;
use crate::runtime::{Plan, plan_raises};

impl Engine {
    /// Passes over source partitions that have been silent for too long at that time; whether there were
    /// any.
    pub(super) fn pass_over(&mut self, running: &mut Running, at: Duration) -> Result<bool> {
        let raises = self.plan_raises(running, at)?.raises;
        let now_ms = self.log.now_ms();
        let mut any = false;
        for worker in &mut running.workers {
            any |= worker.pass_over(&raises, at, now_ms)?;
        }
        Ok(any)
    }

    /// The same for an idle job, which has looked whenever something was due since it last did.
    pub(super) fn pass_over_in_time(&mut self, running: &mut Running) -> Result<bool> {
        let now = self.log.monotonic();
        loop {
            let at = self.looked_at.min(now);
            if self.pass_over(running, at)? {
                return Ok(true);
            }
            if at == now {
                return Ok(false);
            }
            let next = self.plan_raises(running, at)?.next;
            self.looked_at = next.map_or(now, |next| next.min(now));
        }
    }

    pub(super) fn plan_raises(&self, running: &mut Running, at: Duration) -> Result<Plan> {
        let mut sources = Vec::new();
        for worker in &mut running.workers {
            sources.extend(worker.sources()?);
        }
        Ok(plan_raises(&sources, at, self.settings.idle_after))
    }
}
