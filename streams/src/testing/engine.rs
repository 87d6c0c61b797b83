//! The simulation under a [`super::TestDriver`]: one step at a time, as the seed decides.
//!
//! Why apart: what a test says is one thing, how the runtime is driven is another.
//!
//! ```text
//!   drive: open if needed --> settle: step .. commit .. step .. commit --> everything is committed
//!                                |
//!                                `-- crash: power off, start over
//! ```
//!
//! Invariants
//! * all randomness comes from the seed; the clock is moved by hand.

use std::sync::Arc;

use super::random::Random;
use crate::broker::{Broker, SimulatedLog};
use crate::dsl::Topology;
use crate::error::Result;
use crate::printer::Printer;
use crate::processor::{Counters, LateRecord};
use crate::runtime::{Build, Committer, JobPlan, OpenStores, Prepared, Worker};
use crate::settings::Settings;
use crate::store::{Backend, Flusher, MemoryBackend};

/// Where the clock of a new driver stands: 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;
/// Records of one simulated step at most.
const BURST: u64 = 8;

struct Running {
    workers: Vec<Worker>,
    committer: Committer,
}

/// What became of a simulated step.
enum Happened {
    Went,
    Crashed,
}

/// The runtime, the log and the stores of a test.
pub(super) struct Engine {
    build: Build,
    pub(super) settings: Settings,
    pub(super) partitions: u32,
    random: Random,
    pub(super) log: SimulatedLog,
    stores: MemoryBackend,
    running: Option<Running>,
    crash_every: Option<u64>,
    until_crash: u64,
    pub(super) crashes: u64,
    pub(super) restored: u64,
    pub(super) commits: u64,
    pub(super) counters: Counters,
    pub(super) late: Vec<LateRecord>,
}

impl Engine {
    pub(super) fn new(build: Build) -> Self {
        let mut settings = Settings::new("test");
        settings.event_time_ahead_max_ms = i64::MAX;
        settings.printer = Printer::list();
        Self {
            build,
            settings,
            partitions: 1,
            random: Random::new(0),
            log: SimulatedLog::new(0, START_MS),
            stores: MemoryBackend::new(0),
            running: None,
            crash_every: None,
            until_crash: 0,
            crashes: 0,
            restored: 0,
            commits: 0,
            counters: Counters::default(),
            late: Vec::new(),
        }
    }

    pub(super) fn seed(&mut self, seed: u64) {
        self.random = Random::new(seed);
        self.log.reseed(seed);
        self.stores = MemoryBackend::new(seed);
    }

    pub(super) fn crash_every(&mut self, records: u64) {
        self.crash_every = Some(records.max(1));
        self.until_crash = 1 + self.random.below(2 * records.max(1));
    }

    /// Power off: what was not synced is gone, or a part of it.
    pub(super) fn crash(&mut self) {
        self.crashes += 1;
        self.log.power_cut(self.random.next());
        self.stores.crash();
        self.running = None;
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
                    self.crash();
                    drop(running);
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
        let on_error = self.settings.on_error;
        let sources = Topology::build(&self.settings.id, i64::MAX, on_error, &|t| (self.build)(t))?;
        for part in sources.graph.subtopologies() {
            for source in part.sources.iter().filter(|source| source.upstream.is_none()) {
                self.log.ensure_topic(&source.topic, self.partitions)?;
            }
        }
        let broker = self.log.broker(self.settings.event_time_ahead_max_ms)?;
        let broker: Arc<dyn Broker> = Arc::new(broker);
        let mut plan =
            JobPlan::new(self.settings.clone(), Arc::clone(&self.build), broker.as_ref())?;
        let producer = broker.producer(&self.settings.id)?;
        plan.load_positions(broker.as_ref())?;
        let names = plan.stores();
        let stores = OpenStores {
            by_name: names.iter().cloned().zip(self.stores.open(&names)?).collect(),
            options: self.settings.cache,
            flusher: Flusher::inline(),
        };
        let mut committer = Committer::new(&plan, Arc::clone(&broker), producer)?;
        let tasks = plan.tasks();
        let count = usize::try_from(1 + self.random.below(3)).expect("at most three workers");
        let mut workers = Vec::new();
        for share in 0..count.min(tasks.len()) {
            let ids: Vec<_> = tasks.iter().copied().skip(share).step_by(count).collect();
            workers.push(Worker::open(&plan, &ids, broker.as_ref(), &stores, true)?);
        }
        self.restored += workers.iter().map(Worker::restored).sum::<u64>();
        workers.iter().for_each(|worker| committer.resume(worker.marks()));
        let mut running = Running { workers, committer };
        begin(&mut running)?;
        Ok(running)
    }

    /// Steps until everything is read, processed and committed.
    fn settle(&mut self, running: &mut Running, mut raise: Option<i64>) -> Result<Happened> {
        loop {
            let mut went = 0;
            while self.step(running, &mut went)? {
                if self.crash_is_due(went) {
                    return Ok(Happened::Crashed);
                }
                went = 0;
                if self.random.below(24) == 0
                    && let Happened::Crashed = self.commit(running)?
                {
                    return Ok(Happened::Crashed);
                }
            }
            if let Some(to) = raise.take() {
                running.workers.iter_mut().try_for_each(|worker| worker.raise(to))?;
            }
            if !running.workers.iter().any(Worker::is_dirty) {
                return Ok(Happened::Went);
            }
            if let Happened::Crashed = self.commit(running)? {
                return Ok(Happened::Crashed);
            }
        }
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

    fn crash_is_due(&mut self, records: u64) -> bool {
        if self.crash_every.is_none() {
            return false;
        }
        self.until_crash = self.until_crash.saturating_sub(records);
        // Close to the point, leave it to the commit now and then: crashes belong there too.
        self.until_crash == 0 && self.random.below(3) > 0
    }

    fn commit(&mut self, running: &mut Running) -> Result<Happened> {
        if !running.workers.iter().any(Worker::is_dirty) {
            return Ok(Happened::Went);
        }
        let crash_at = match self.crash_every {
            Some(_) if self.until_crash == 0 => Some(self.random.below(2)),
            _ => None,
        };
        let prepared: Vec<Prepared> =
            running.workers.iter_mut().map(Worker::prepare).collect::<Result<_>>()?;
        if crash_at == Some(0) {
            return Ok(Happened::Crashed);
        }
        let transaction = running.committer.commit(&prepared)?;
        self.commits += 1;
        for part in prepared {
            self.counters.add(&part.counters);
            self.late.extend(part.late_records);
        }
        if crash_at == Some(1) {
            return Ok(Happened::Crashed);
        }
        let now_ms = self.log.now_ms();
        for worker in &mut running.workers {
            worker.committed(transaction.as_ref(), now_ms)?;
        }
        begin(running)?;
        Ok(Happened::Went)
    }
}

fn begin(running: &mut Running) -> Result<()> {
    let transaction = running.committer.begin()?;
    for worker in &mut running.workers {
        worker.begin(Arc::clone(&transaction));
    }
    Ok(())
}
