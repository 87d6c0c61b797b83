//! The job of a replay: run until its input is used up.
//!
//! ```text
//!   a thread:   the job, which starts over by itself after a passing failure
//!   this one:   how far is it? idle? then: is anything left behind the committed positions?
//! ```
//!
//! Why positions and not idleness alone: a job may look idle between a commit and the watermarks that
//! it has caused. Idleness only says when to look.
//!
//! Invariants
//! * it is over exactly when no source or repartition partition has a record behind its committed
//!   position.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::{News, Tick, Wish};
use crate::app::App;
use crate::broker::{Broker, ReplayBroker, Scope};
use crate::error::{Error, Result};
use crate::runtime::{Control, JobPlan, Progress, run_until_stopped};

/// How often a replay is looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long nothing must have come before it is looked whether all is done.
const IDLE: Duration = Duration::from_millis(40);

/// The job, as it runs again.
pub(super) struct Job {
    pub(super) app: App,
    pub(super) broker: Arc<ReplayBroker>,
}

impl Job {
    /// Runs it until its input is used up; `None` when it was stopped before.
    pub(super) fn run(
        &self,
        watch: &mut dyn FnMut(News<'_>) -> Result<Wish>,
    ) -> Result<Option<Progress>> {
        let broker: Arc<dyn Broker> = Arc::<ReplayBroker>::clone(&self.broker);
        let total = self.left()?;
        let control = &Control::default();
        std::thread::scope(|scope| {
            let (tell, ended) = channel();
            let work = move || {
                let run = || run_until_stopped(control, || self.app.run_once(&broker, control));
                let outcome = catch_unwind(AssertUnwindSafe(run));
                // Whoever waits for it is still there: it waits for nothing else.
                tell.send(outcome.unwrap_or_else(|panic| Err(Error::panicked(panic.as_ref()))))
                    .ok();
            };
            let spawned = std::thread::Builder::new()
                .name("streams-replay".to_owned())
                .spawn_scoped(scope, work);
            spawned.map_err(|source| Error::System { what: "the job's thread", source })?;
            let (mut is_complete, mut failed) = (false, None);
            loop {
                match ended.recv_timeout(TICK) {
                    Ok(outcome) => {
                        outcome?;
                        let progress = control.progress.get();
                        return failed.map_or(Ok(is_complete.then_some(progress)), Err);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(Error::Panicked { reason: "the job's thread is gone".into() });
                    }
                }
                if is_complete || failed.is_some() {
                    continue;
                }
                match self.look(control, total, watch) {
                    Ok(None) => {}
                    Ok(Some(complete)) => {
                        is_complete = complete;
                        control.stop();
                        if !complete {
                            let outcome = ended.recv().unwrap_or(Ok(()));
                            return outcome.map(|()| None);
                        }
                    }
                    Err(error) => {
                        failed = Some(error);
                        control.stop();
                    }
                }
            }
        })
    }

    /// Whether it is to stop, and if so, whether all is done.
    fn look(
        &self,
        control: &Control,
        total: u64,
        watch: &mut dyn FnMut(News<'_>) -> Result<Wish>,
    ) -> Result<Option<bool>> {
        let records = control.progress.get().records_read;
        if watch(News::Runs(Tick { records, total }))? == Wish::Stop {
            return Ok(Some(false));
        }
        let idle = control.progress.idle_for(self.broker.monotonic());
        let is_done = idle.is_some_and(|idle| idle >= IDLE) && self.is_complete()?;
        Ok(is_done.then_some(true))
    }

    fn plan(&self) -> Result<JobPlan> {
        let (settings, build) = (self.app.settings().clone(), Arc::clone(self.app.build()));
        let mut plan = JobPlan::new(settings, build, self.broker.as_ref())?;
        plan.load_positions(self.broker.as_ref())?;
        Ok(plan)
    }

    /// Offsets of source topics that are not committed yet.
    fn left(&self) -> Result<u64> {
        let plan = self.plan()?;
        let mut left = 0;
        let sources = plan.parts.iter().flat_map(|part| &part.sources);
        for source in sources.filter(|source| source.upstream.is_none() && !source.is_global) {
            let topic = plan.topic(&source.topic)?;
            for partition in 0..topic.partitions {
                let bounds = self.broker.bounds(topic, partition)?;
                let at = plan.position(topic, partition).map_or(bounds.start, |p| p.offset);
                left += u64::try_from(bounds.end - at).unwrap_or(0);
            }
        }
        Ok(left)
    }

    /// Whether nothing is left to read behind the committed positions. What has been read and is not
    /// committed counts as left.
    fn is_complete(&self) -> Result<bool> {
        if !self.broker.is_warm() {
            return Ok(false);
        }
        let plan = self.plan()?;
        // A task is not idle before it has read its global tables, which nobody writes meanwhile.
        let sources = plan.parts.iter().flat_map(|part| &part.sources);
        for source in sources.filter(|source| !source.is_global) {
            let topic = plan.topic(&source.topic)?;
            let scope = if source.upstream.is_some() { Scope::Own } else { Scope::Committed };
            for partition in 0..topic.partitions {
                let position = plan.position(topic, partition).map(|position| position.offset);
                let at = match position {
                    Some(offset) => offset,
                    None => self.broker.bounds(topic, partition)?.start,
                };
                let mut rest = self.broker.reader(topic, partition, at, scope)?;
                // The first answer of a table may only be that it is where it was.
                if rest.poll()?.is_some() || rest.poll()?.is_some() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
