//! The simulation under a [`super::TestDriver`]: one step at a time, as the seed decides.
//!
//! Why apart: what a test says is one thing, how the runtime is driven is another.
//!
//! ```text
//!   drive: open if needed --> settle: step .. seal N .. step .. commit N .. step .. tell a worker ..
//!                                |            `-- N + 1 begins
//!                                |-- crash: power off, start over
//!                                `-- failed commit: outcome unknown, start over in the same process
//!                             --> everything is committed
//! ```
//!
//! Invariants
//! * all randomness comes from the seed; the clock is moved by hand.

pub(super) mod shown;
mod silence;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::random::Random;
use super::stores::Stores;
use crate::broker::{Broker, Call, SimulatedLog};
use crate::error::Result;
use crate::printer::Printer;
use crate::processor::{Counters, LateRecord};
use crate::runtime::{
    Build, Committer, JobPlan, OpenStores, Prepared, Reset, ResetTo, Sealed, Worker,
};
use crate::settings::Settings;
use crate::store::{Flusher, HeldFlushes};

/// Where the clock of a new driver stands: 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;
/// Records of one simulated step at most.
const BURST: u64 = 8;
/// Steps in which nothing happens to a commit on its way, below this.
const PATIENCE: u64 = 12;

struct Running {
    workers: Vec<Worker>,
    committer: Committer,
    on_its_way: Option<OnItsWay>,
    /// About how many steps lie between two commits, and between two flushes.
    commit_every: u64,
    flush_every: u64,
}

/// A transaction that is prepared; the next one is running.
struct OnItsWay {
    sealed: Sealed,
    /// What it has to say once it is committed.
    counters: Counters,
    late: Vec<LateRecord>,
    /// Steps before the next thing happens to it.
    patience: u64,
    stage: Stage,
}

enum Stage {
    /// The commit thread has it.
    Sealed,
    /// It is committed; these workers have not heard of it yet.
    Committed(Vec<usize>),
}

/// What became of a simulated step.
enum Happened {
    Went,
    /// The power is gone.
    Crashed,
    /// The commit failed: the job starts over in the same process.
    Failed,
}

/// The runtime, the log and the stores of a test.
pub(super) struct Engine {
    pub(super) build: Build,
    pub(super) settings: Settings,
    pub(super) partitions: u32,
    /// Of topics that have their own.
    pub(super) partitions_of: BTreeMap<&'static str, u32>,
    random: Random,
    pub(super) log: SimulatedLog,
    /// Flushes wait here, also while the job starts over.
    flusher: Flusher,
    held: HeldFlushes,
    /// When the job last looked for silent partitions.
    looked_at: Duration,
    /// A commit that failed: whether it happened shows when the job starts over.
    in_doubt: Option<OnItsWay>,
    running: Option<Running>,
    crash_every: Option<u64>,
    until_crash: u64,
    /// The step at which to crash, once.
    pub(super) crash_at: Option<u64>,
    pub(super) steps: u64,
    /// Records that tasks have processed, those of crashed transactions included.
    pub(super) processed: u64,
    pub(super) crashes: u64,
    pub(super) restored: u64,
    pub(super) commits: u64,
    pub(super) counters: Counters,
    pub(super) late: Vec<LateRecord>,
    /// Behind all that uses them: the last one to be dropped removes their files.
    pub(super) stores: Stores,
}

impl Engine {
    pub(super) fn new(build: Build) -> Self {
        let mut settings = Settings::new("test");
        settings.event_time_ahead_max_ms = i64::MAX;
        settings.printer = Printer::list();
        settings.idle_after = Duration::MAX;
        let (flusher, held) = Flusher::held();
        Self {
            build,
            settings,
            partitions: 1,
            partitions_of: BTreeMap::new(),
            random: Random::new(0),
            log: SimulatedLog::new(0, START_MS),
            stores: Stores::in_memory(0),
            flusher,
            held,
            looked_at: Duration::ZERO,
            in_doubt: None,
            running: None,
            crash_every: None,
            until_crash: 0,
            crash_at: None,
            steps: 0,
            processed: 0,
            crashes: 0,
            restored: 0,
            commits: 0,
            counters: Counters::default(),
            late: Vec::new(),
        }
    }

    /// The partitions that a source topic has, or gets.
    pub(super) fn partitions_for(&self, topic: &str) -> u32 {
        self.partitions_of.get(topic).copied().unwrap_or(self.partitions)
    }

    pub(super) fn seed(&mut self, seed: u64) {
        self.random = Random::new(seed);
        self.log.reseed(seed);
        self.stores.reseed(seed);
    }

    pub(super) fn crash_every(&mut self, records: u64) {
        self.crash_every = Some(records.max(1));
        self.until_crash = 1 + self.random.below(2 * records.max(1));
    }

    /// Power off: what was not synced is gone, or a part of it.
    pub(super) fn crash(&mut self) -> Result<()> {
        self.crashes += 1;
        self.log.power_cut(self.random.next());
        self.stores.crash()?;
        while self.held.lose_next() {}
        self.running = None;
        self.plan_next_crash();
        Ok(())
    }

    /// What the stores of a job that does not run had on the disk is lost.
    #[cfg(test)]
    pub(super) fn lose_stores(&mut self) {
        self.stores = Stores::in_memory(self.random.next());
    }

    fn plan_next_crash(&mut self) {
        if let Some(every) = self.crash_every {
            self.until_crash = 1 + self.random.below(2 * every);
        }
    }

    /// A clean stop after everything is committed.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.drive(None)?;
        match self.running.take() {
            Some(mut running) => running.workers.iter_mut().try_for_each(Worker::close),
            None => Ok(()),
        }
    }

    /// Stops the job and moves it to this offset in each source partition.
    pub(super) fn reset(&mut self, offset: i64) -> Result<()> {
        self.stop()?;
        self.reset_stopped(ResetTo::Offset(offset))
    }

    /// Moves the job, which does not run.
    pub(super) fn reset_stopped(&mut self, to: ResetTo) -> Result<()> {
        let broker = self.log.broker(self.settings.event_time_ahead_max_ms)?;
        let (settings, build) = (self.settings.clone(), Arc::clone(&self.build));
        Reset::plan(settings, build, &broker, to, &|_, _, _| Ok(None))?.carry_out(&broker)
    }

    /// Processes and commits everything, raises the source clocks if told to, and so on until quiet.
    pub(super) fn drive(&mut self, raise_to: Option<i64>) -> Result<()> {
        let mut raise = raise_to;
        loop {
            let mut running = match self.running.take() {
                Some(running) => running,
                None => self.open()?,
            };
            match self.settle(&mut running, raise) {
                Ok(Happened::Crashed) => {
                    // The power goes before anything in memory could still write.
                    self.crash()?;
                    drop(running);
                    raise = raise_to;
                }
                Ok(Happened::Failed) => {
                    self.plan_next_crash();
                    raise = raise_to;
                }
                Ok(Happened::Went) => {
                    self.running = Some(running);
                    return Ok(());
                }
                Err(error) => {
                    running.committer.abort()?;
                    return Err(error);
                }
            }
        }
    }

    fn open(&mut self) -> Result<Running> {
        let sources = self.assembly()?;
        for part in sources.graph.subtopologies() {
            let is_named = |topic: &String| !sources.graph.patterns.contains(topic);
            let named = part.sources.iter().filter(|source| source.upstream.is_none());
            for source in named.filter(|source| is_named(&source.topic)) {
                let partitions = self.partitions_for(&source.topic);
                self.log.ensure_topic(&source.topic, partitions)?;
            }
        }
        #[cfg(test)]
        if !self.log.cleanup.is_empty() {
            self.log.alter_changelogs()?;
        }
        let broker = self.log.broker(self.settings.event_time_ahead_max_ms)?;
        let broker: Arc<dyn Broker> = Arc::new(broker);
        let mut plan =
            JobPlan::new(self.settings.clone(), Arc::clone(&self.build), broker.as_ref())?;
        let mut committer = Committer::take_over(&mut plan, Arc::clone(&broker))?;
        if let Some(mut in_doubt) = self.in_doubt.take()
            && in_doubt.sealed.is_committed(&plan)
        {
            self.committed(&mut in_doubt);
        }
        let names = plan.stores();
        let stores = OpenStores {
            by_name: names.iter().cloned().zip(self.stores.open(&names)?).collect(),
            options: self.settings.cache_options(),
            flusher: self.flusher.clone(),
        };
        let tasks = plan.tasks();
        let count = usize::try_from(1 + self.random.below(3)).expect("at most three workers");
        let mut workers = Vec::new();
        for share in 0..count.min(tasks.len()) {
            let ids: Vec<_> = tasks.iter().copied().skip(share).step_by(count).collect();
            workers.push(Worker::open(&plan, &ids, &broker, &stores, true)?);
        }
        self.restored += workers.iter().map(Worker::restored).sum::<u64>();
        workers.iter().for_each(|worker| committer.resume(worker.marks()));
        let commit_every = self.random.one_of(&[3, 12, 24]);
        let flush_every = self.random.one_of(&[4, 16, 48]);
        let on_its_way = None;
        let mut running = Running { workers, committer, on_its_way, commit_every, flush_every };
        begin(&mut running)?;
        Ok(running)
    }

    /// Steps until everything is read, processed and committed.
    fn settle(&mut self, running: &mut Running, mut raise: Option<i64>) -> Result<Happened> {
        loop {
            let now_ms = self.log.now_ms();
            for worker in &mut running.workers {
                worker.tick(now_ms)?;
            }
            let mut went = 0;
            while self.step(running, &mut went)? {
                if self.is_told_to_crash() || self.crash_is_due(went) {
                    return Ok(Happened::Crashed);
                }
                went = 0;
                let happened = self.beside(running)?;
                if !matches!(happened, Happened::Went) {
                    return Ok(happened);
                }
            }
            if let Some(to) = raise.take() {
                running.workers.iter_mut().try_for_each(|worker| worker.raise(to))?;
            }
            let happened = self.finish(running)?;
            if !matches!(happened, Happened::Went) {
                return Ok(happened);
            }
            if !running.is_dirty() && !self.pass_over_in_time(running)? {
                return Ok(Happened::Went);
            }
            self.seal(running)?;
        }
    }

    /// What other threads may do between two steps of the workers.
    fn beside(&mut self, running: &mut Running) -> Result<Happened> {
        if self.random.below(running.flush_every) == 0 {
            self.flush(running)?;
            #[cfg(test)]
            if !self.log.cleanup.is_empty() {
                self.log.clean()?;
            }
        }
        match &mut running.on_its_way {
            Some(on_its_way) if on_its_way.patience > 0 => on_its_way.patience -= 1,
            Some(_) => return self.advance(running),
            None => {
                if self.random.below(running.commit_every) == 0 && running.is_dirty() {
                    self.seal(running)?;
                }
            }
        }
        Ok(Happened::Went)
    }

    /// The flusher gets some time: flushes end, others begin, and may end as well. For the stores it is any
    /// time from now until their rows have waited long enough.
    fn flush(&mut self, running: &mut Running) -> Result<()> {
        let waited_ms = self.settings.cache.flush_every_ms.cast_unsigned();
        for _ in 0..=self.random.below(4) {
            let later_ms = self.random.below(2 * waited_ms).cast_signed();
            let now_ms = self.log.now_ms().saturating_add(later_ms);
            let waiting = u64::try_from(self.held.count()).expect("a count fits 64 bits");
            let index = usize::try_from(self.random.below(waiting + 2)).expect("a small index");
            self.held.run(index);
            running.workers.iter_mut().try_for_each(|worker| worker.step_stores(now_ms))?;
        }
        Ok(())
    }

    /// Brings the commit that is on its way, if there is one, to its end.
    fn finish(&mut self, running: &mut Running) -> Result<Happened> {
        while running.on_its_way.is_some() {
            let happened = self.advance(running)?;
            if !matches!(happened, Happened::Went) {
                return Ok(happened);
            }
        }
        Ok(Happened::Went)
    }

    /// Workers prepare, the next transaction begins, and the commit is left to itself.
    fn seal(&mut self, running: &mut Running) -> Result<()> {
        let now = self.log.monotonic();
        let workers = running.workers.iter_mut();
        let prepared: Vec<Prepared> =
            workers.map(|worker| worker.prepare(now)).collect::<Result<_>>()?;
        let sealed = running.committer.seal(&prepared)?;
        begin(running)?;
        self.pass_over(running, now)?;
        let mut counters = Counters::default();
        let mut late = Vec::new();
        for part in prepared {
            counters.add(&part.counters);
            late.extend(part.late_records);
        }
        let patience = self.random.below(PATIENCE);
        running.on_its_way =
            Some(OnItsWay { sealed, counters, late, patience, stage: Stage::Sealed });
        Ok(())
    }

    /// The next thing that happens to the commit on its way.
    fn advance(&mut self, running: &mut Running) -> Result<Happened> {
        let Some(mut on_its_way) = running.on_its_way.take() else { return Ok(Happened::Went) };
        if self.is_told_to_crash() {
            return Ok(Happened::Crashed);
        }
        let crash_at = match self.crash_every {
            Some(_) if self.until_crash == 0 => Some(self.random.below(4)),
            _ => None,
        };
        match &mut on_its_way.stage {
            Stage::Sealed => {
                match crash_at {
                    Some(0) => return Ok(Happened::Crashed),
                    Some(1) => return Ok(self.fail(on_its_way)),
                    _ => on_its_way.sealed.commit()?,
                }
                on_its_way.stage = Stage::Committed((0..running.workers.len()).collect());
                self.committed(&mut on_its_way);
                if crash_at == Some(2) || self.is_told_to_crash() {
                    return Ok(Happened::Crashed);
                }
                on_its_way.sealed.purge()?;
            }
            Stage::Committed(unaware) => {
                if crash_at.is_some() {
                    return Ok(Happened::Crashed);
                }
                let count = u64::try_from(unaware.len()).expect("a count fits 64 bits");
                let next = usize::try_from(self.random.below(count)).expect("below a count");
                let transaction = on_its_way.sealed.transaction();
                let worker = &mut running.workers[unaware.swap_remove(next)];
                worker.committed(transaction.as_ref(), self.log.now_ms())?;
                if unaware.is_empty() {
                    return Ok(Happened::Went);
                }
            }
        }
        on_its_way.patience = self.random.below(PATIENCE);
        running.on_its_way = Some(on_its_way);
        Ok(Happened::Went)
    }

    /// The write or the sync of the commit record fails; perhaps the power is gone as well.
    fn fail(&mut self, on_its_way: OnItsWay) -> Happened {
        let call = if self.random.below(2) == 0 { Call::Sync } else { Call::Write };
        self.log.fail_next(call, "__commits-");
        if on_its_way.sealed.commit().is_err() {
            self.in_doubt = Some(on_its_way);
        } else {
            let mut on_its_way = on_its_way;
            self.committed(&mut on_its_way);
        }
        if self.random.below(2) == 0 { Happened::Failed } else { Happened::Crashed }
    }

    fn committed(&mut self, on_its_way: &mut OnItsWay) {
        self.commits += 1;
        self.counters.add(&on_its_way.counters);
        self.late.append(&mut on_its_way.late);
    }

    /// One task processes a few records, or what was emitted is handed over; whether anything went.
    fn step(&mut self, running: &mut Running, went: &mut u64) -> Result<bool> {
        let mut turns: Vec<(usize, usize)> = Vec::new();
        for (w, worker) in running.workers.iter().enumerate() {
            turns.extend((0..worker.task_count()).map(|t| (w, t)));
        }
        self.random.shuffle(&mut turns);
        let budget = usize::try_from(1 + self.random.below(BURST)).expect("a burst is small");
        for (w, t) in turns {
            let records = running.workers[w].step_task(t, budget)?;
            if records > 0 {
                *went = u64::try_from(records).expect("a count fits 64 bits");
                self.processed += *went;
                if self.random.below(4) == 0 {
                    running.workers[w].flush()?;
                }
                return Ok(true);
            }
        }
        let mut appended = false;
        for worker in &mut running.workers {
            appended |= worker.flush()?;
        }
        Ok(appended)
    }

    /// Counts a step at which a job can crash; whether it is the one that a test has named.
    fn is_told_to_crash(&mut self) -> bool {
        self.steps += 1;
        self.crash_at == Some(self.steps)
    }

    fn crash_is_due(&mut self, records: u64) -> bool {
        if self.crash_every.is_none() {
            return false;
        }
        self.until_crash = self.until_crash.saturating_sub(records);
        // Close to the point, leave it to the commit now and then: crashes belong there too.
        self.until_crash == 0 && self.random.below(3) > 0
    }
}

impl Running {
    fn is_dirty(&self) -> bool {
        self.workers.iter().any(Worker::is_dirty)
    }
}

fn begin(running: &mut Running) -> Result<()> {
    let transaction = running.committer.begin()?;
    for worker in &mut running.workers {
        worker.begin(Arc::clone(&transaction));
    }
    Ok(())
}
