//! A job: its topology, its log, and how it is started.
//!
//! ```text
//!   App --start--> Handle --stop--> finishes the transaction, flushes, ends
//!    |               `---- a thread per worker, one for the commits
//!    |---run().await       the same inside a tokio program, stopped by Ctrl-C
//!    `---main()            the same as a command line: run, tail, topology, ..
//! ```
//!
//! Invariants
//! * a passing failure (a write that failed, a log that had to reopen) starts the job over from its
//!   last commit; anything else ends it with the error.
//!
//! On crash: start it again; it goes on from its last commit.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use parking_lot::{Condvar, Mutex};

use crate::broker::{Broker, Durability, EmbeddedBroker, open_log, own_log};
use crate::codec::Data;
use crate::dsl::{Assembly, Topology};
use crate::error::{Error, Result};
use crate::ids::StoreName;
use crate::key::RecordKey;
use crate::on_error::OnError;
use crate::query::{Answer, Catalog, Inspector, Question, Status, Store, answer, gather};
use crate::runtime::{
    self, Build, Committer, Control, FindTime, HoldingBack, JobPlan, OpenStores, Progress, Reset,
    ResetTo, StoppedStores, knowing,
};
use crate::settings::Settings;
use crate::store::{Backend, Flusher};
use crate::time::{InForce, duration_ms};

/// A job that can be started.
///
/// ```no_run
/// use streams::prelude::*;
/// const IN: Topic<String, u64> = topic("in");
/// const OUT: Topic<String, u64> = topic("out");
/// fn topology(t: &mut Topology) {
///     t.stream(IN).filter(|n| *n > 1).to(OUT);
/// }
/// fn main() -> streams::Result<()> {
///     App::new("big-numbers", topology).log("./data").main()
/// }
/// ```
#[derive(Clone)]
#[must_use = "an app does nothing until it is started: `.main()`, `.start()` or `.run().await`"]
pub struct App {
    settings: Settings,
    build: Build,
    log: PathBuf,
}

impl App {
    /// A job. The id names its consumer group, its transactional id and its internal topics.
    pub fn new(id: &str, topology: impl Fn(&mut Topology) + Send + Sync + 'static) -> Self {
        let build: Build = Arc::new(topology);
        Self { settings: Settings::new(id), build, log: PathBuf::from("./data") }
    }

    /// The directory of the embedded log (default `./data`).
    pub fn log(mut self, dir: impl AsRef<Path>) -> Self {
        self.log = dir.as_ref().to_path_buf();
        self
    }

    /// Exactly-once, which is the default: written out only to be read.
    pub fn exactly_once(self) -> Self {
        self
    }

    /// How often a busy job commits (default 100 ms). Kafka: `commit.interval.ms`.
    pub fn commit_every(mut self, interval: Duration) -> Self {
        self.settings.commit_every_ms = duration_ms(interval);
        self
    }

    /// Worker threads (default: one per core, at most one per task). Kafka: `num.stream.threads`.
    pub fn threads(mut self, threads: usize) -> Self {
        self.settings.threads = threads;
        self
    }

    /// How long a source partition may be silent, by a clock that never jumps, before it is passed over
    /// (default 10 s): it has been read to its end while others went on, and would hold windows open.
    /// Its clock is then raised to the slowest of those that move, in the same transaction as a record
    /// in the topic `<id>-clock`; what it brings later may be late. Where all are silent nothing moves.
    /// Zero raises at once, to the furthest, as Kafka Streams does; `Duration::MAX` never.
    pub fn idle_after(mut self, silence: Duration) -> Self {
        self.settings.idle_after = silence;
        self
    }

    /// How durable a commit is (default `Sync`: it survives power loss).
    pub fn durability(mut self, durability: Durability) -> Self {
        self.settings.durability = durability;
        self
    }

    /// How far an event time may lie past its record's timestamp in the log (default one hour); beyond
    /// it the record is refused (S022), and [`on_error`](Self::on_error) decides.
    pub fn event_time_ahead_max(mut self, limit: Duration) -> Self {
        self.settings.event_time_ahead_max_ms = duration_ms(limit);
        self
    }

    /// What the job does with records that do not decode, whose event time lies too far ahead, or that
    /// a `try_map` refuses (default [`OnError::Fail`]). A step says otherwise with
    /// [`Stream::on_error`](crate::Stream::on_error).
    ///
    /// ```no_run
    /// use streams::prelude::*;
    /// # const IN: Topic<String, u64> = topic("in");
    /// # const OUT: Topic<String, u64> = topic("out");
    /// # fn topology(t: &mut Topology) { t.stream(IN).to(OUT); }
    /// # fn main() -> streams::Result<()> {
    /// App::new("copy", topology).on_error(OnError::DeadLetter).main() // to the topic copy-dlq
    /// # }
    /// ```
    pub fn on_error(mut self, policy: OnError) -> Self {
        self.settings.on_error = policy;
        self
    }

    /// Counts the records that were late by these windows, or are by its own; see `replay`.
    pub(crate) fn judging(mut self, then: BTreeMap<StoreName, InForce>) -> Self {
        self.settings.windows_then = Arc::new(then);
        self
    }

    /// Lowers the limits behind which the log and RocksDB clear up, so that a test with little data
    /// meets what is rare.
    #[cfg(feature = "test-util")]
    pub fn limits(mut self, limits: crate::settings::Limits) -> Self {
        self.settings.cache.dirty_rows_max = limits.dirty_rows_max;
        self.settings.limits = limits;
        self
    }

    /// Runs the job without transactions: after a failure records are written twice and counted twice.
    /// It is there to be measured against.
    #[cfg(feature = "test-util")]
    pub fn at_least_once_to_measure(mut self) -> Self {
        self.settings.at_least_once = true;
        self
    }

    /// Runs a deliberately broken variant of the runtime: a checker must catch it.
    #[cfg(feature = "test-util")]
    pub fn mistake(mut self, mistake: crate::settings::Mistake) -> Self {
        self.settings.mistake = Some(mistake);
        self
    }

    /// Starts the job on threads of its own.
    ///
    /// # Errors
    ///
    /// * S004: a source topic does not exist; S003, S018: the topology cannot run; S006: another
    ///   process uses the directory; S013 to S016: the directory cannot be used. Nothing was changed.
    pub fn start(self) -> Result<Handle> {
        let assembly = self.assemble()?;
        let broker = Arc::new(self.open_log(&assembly)?);
        let catalog = Catalog::of(&assembly);
        drop(assembly);
        let for_job: Arc<dyn Broker> = Arc::<EmbeddedBroker>::clone(&broker);
        let (settings, build) = (self.settings.clone(), Arc::clone(&self.build));
        let mut plan = JobPlan::new(settings, build, for_job.as_ref())?;
        plan.check_types(for_job.as_ref())?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let control = Arc::clone(&shared.control);
        let inspector = Arc::new(Inspector::new(catalog, plan, &broker, control));
        let answers = Arc::clone(&inspector);
        broker.answer_with(move |question| answers.answer_text(question));
        let thread = std::thread::Builder::new()
            .name(format!("streams-{}", self.settings.id))
            .spawn(move || {
                let work = AssertUnwindSafe(|| {
                    let control = &*theirs.control;
                    runtime::run_until_stopped(control, || self.run_once(&for_job, control))
                });
                let outcome =
                    catch_unwind(work).unwrap_or_else(|panic| Err(Error::panicked(panic.as_ref())));
                let closed = for_job.close();
                theirs.end(outcome.and(closed));
            })
            .map_err(|source| Error::System { what: "the job's thread", source })?;
        Ok(Handle { shared, broker, inspector, thread })
    }

    /// Runs the job inside a tokio program until Ctrl-C, then stops it cleanly.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and whatever stops the job.
    pub async fn run(self) -> Result<()> {
        let handle = self.start()?;
        let shared = Arc::clone(&handle.shared);
        let ended = tokio::task::spawn_blocking(move || handle.wait());
        let signal = pin!(tokio::signal::ctrl_c());
        let joined = match select(ended, signal).await {
            Either::Left((joined, _)) => joined,
            Either::Right((signal, ended)) => {
                shared.control.stop();
                let joined = ended.await;
                signal.map_err(|source| Error::System { what: "a signal handler", source })?;
                joined
            }
        };
        let outcome = joined.unwrap_or_else(|e| Err(Error::Panicked { reason: e.to_string() }));
        outcome.map(|_| ())
    }

    /// The job as a command line: `run` (also without arguments), `topology`, `status`, `state`, `tail`,
    /// `replay`, `reset`, `topic`.
    ///
    /// Errors are printed with their code and a help line, and the process ends with the exit code
    /// that belongs to them: 1 failed, 2 usage, 3 a plan that wants `--yes`, 4 a comparison found
    /// differences.
    ///
    /// # Errors
    ///
    /// None that is not printed already.
    pub fn main(self) -> Result<()> {
        crate::tool::main(self, std::env::args_os())
    }

    /// The job's id.
    pub(crate) fn id(&self) -> &str {
        &self.settings.id
    }

    /// The directory of its log.
    pub(crate) fn log_dir(&self) -> &Path {
        &self.log
    }

    /// What it was told besides its topology.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The function that builds the topology.
    pub(crate) fn build(&self) -> &Build {
        &self.build
    }

    /// The topology, built and checked.
    pub(crate) fn assemble(&self) -> Result<Assembly> {
        let build = &self.build;
        let limit = self.settings.event_time_ahead_max_ms;
        Topology::build(&self.settings.id, limit, self.settings.on_error, &|t| build(t))
    }

    /// The same app for a log with these topics: what patterns take is fixed.
    pub(crate) fn knowing(self, names: impl Iterator<Item = String>) -> Self {
        Self { build: knowing(&self.build, names), ..self }
    }

    fn open_log(&self, assembly: &Assembly) -> Result<EmbeddedBroker> {
        let settings = &self.settings;
        let opened = open_log(
            &self.log,
            settings.durability,
            settings.event_time_ahead_max_ms,
            settings.limits.commits_bytes_max,
            settings.commit_every(),
        )?;
        #[cfg(feature = "test-util")]
        let opened =
            if settings.at_least_once { opened.map(EmbeddedBroker::plain) } else { opened };
        opened.ok_or_else(|| Error::UnknownTopic {
            name: assembly.graph.first_source().unwrap_or_default().to_owned(),
            log: self.log.display().to_string(),
            known: Vec::new(),
        })
    }

    /// The log of a job that does not run.
    ///
    /// # Errors
    ///
    /// S016: there is none; S006: somebody has had it open for that long.
    pub(crate) fn own_log(&self, patience: Duration) -> Result<EmbeddedBroker> {
        own_log(&self.log, self.settings.event_time_ahead_max_ms, patience)
    }

    /// Where a reset would take the job.
    pub(crate) fn plan_reset(
        &self,
        broker: &EmbeddedBroker,
        to: ResetTo,
        find_time: FindTime<'_>,
    ) -> Result<Reset> {
        Reset::plan(self.settings.clone(), Arc::clone(&self.build), broker, to, find_time)
    }

    /// Answers a question while the job does not run, from what it left.
    pub(crate) fn answer_stopped(&self, question: &Question) -> Result<Answer> {
        let catalog = Catalog::of(&self.assemble()?);
        let wanted = catalog.stores_for(question)?;
        let broker = self.own_log(Duration::ZERO)?;
        let outcome = self.answer_from(&broker, &catalog, &wanted, question);
        let closed = broker.close();
        let answer = outcome?;
        closed.map(|()| answer)
    }

    fn answer_from(
        &self,
        broker: &EmbeddedBroker,
        catalog: &Catalog,
        wanted: &[StoreName],
        question: &Question,
    ) -> Result<Answer> {
        let (settings, build) = (self.settings.clone(), Arc::clone(&self.build));
        let mut plan = JobPlan::of_existing(settings, build, broker)?;
        if *question == Question::Status {
            let status = gather(&plan, broker, None, Vec::new())?;
            return Ok(Answer::Status(Box::new(status)));
        }
        plan.check_types(broker)?;
        let wanted = plan.stores_with_changelogs(wanted);
        let stores = match &wanted[..] {
            [] => OpenStores::none(self.settings.cache_options())?,
            wanted => self.open_stores(wanted)?,
        };
        let stopped = StoppedStores::open(&plan, broker, &stores)?;
        answer(catalog, &stopped, question)
    }

    /// Runs the job until it is stopped or fails; its stores lie below its log directory.
    pub(crate) fn run_once(&self, broker: &Arc<dyn Broker>, control: &Control) -> Result<()> {
        let build = Arc::clone(&self.build);
        let mut plan = JobPlan::new(self.settings.clone(), build, broker.as_ref())?;
        let committer = Committer::take_over(&mut plan, Arc::clone(broker))?;
        let stores = self.open_stores(&plan.stores())?;
        runtime::run(&plan, broker, committer, &stores, control)
    }

    fn open_stores(&self, names: &[StoreName]) -> Result<OpenStores> {
        #[cfg(feature = "rocksdb")]
        let backend = crate::store::RocksBackend::open(
            // A directory for each job, so that stores of the same name do not meet.
            &self.log.join("state").join(&self.settings.id),
            &crate::store::RocksBudget {
                write_buffer_bytes: self.settings.limits.write_buffer_bytes,
                ..Default::default()
            },
        )?;
        #[cfg(not(feature = "rocksdb"))]
        let backend = crate::store::MemoryBackend::new(0);
        Ok(OpenStores {
            by_name: names.iter().cloned().zip(backend.open(names)?).collect(),
            options: self.settings.cache_options(),
            flusher: Flusher::thread()?,
        })
    }
}

#[derive(Default)]
struct Shared {
    control: Arc<Control>,
    outcome: Mutex<Option<Result<()>>>,
    ended: Condvar,
}

impl Shared {
    fn end(&self, outcome: Result<()>) {
        self.control.desk.end();
        *self.outcome.lock() = Some(outcome);
        self.ended.notify_all();
    }
}

/// A running job.
#[must_use = "call `wait`: without it the job ends with the process, wherever it is"]
pub struct Handle {
    shared: Arc<Shared>,
    broker: Arc<EmbeddedBroker>,
    inspector: Arc<Inspector>,
    thread: std::thread::JoinHandle<()>,
}

impl Handle {
    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shared.control.progress.get()
    }

    /// Whether all input has been read and committed, and nothing has come for that long.
    #[must_use]
    pub fn is_idle_for(&self, time: Duration) -> bool {
        let idle = self.shared.control.progress.idle_for(self.broker.monotonic());
        idle.is_some_and(|idle| idle >= time)
    }

    /// The committed rows of a store, to be read from any thread while the job goes on.
    ///
    /// ```no_run
    /// # use streams::prelude::*;
    /// # fn topology(t: &mut Topology) {}
    /// # fn main() -> streams::Result<()> {
    /// let job = App::new("clickstream", topology).log("./data").start()?;
    /// let counts: Store<Windowed<String>, u64> = job.store("clicks-per-page")?;
    /// for row in counts.fetch(&"/home".to_string(), 0..i64::MAX) {
    ///     let (window, clicks) = row?;
    ///     println!("{} to {}: {clicks}", window.start, window.end);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * S030: the job has no such store.
    /// * S033: it has, with other types.
    pub fn store<K: RecordKey, V: Data>(&self, name: &str) -> Result<Store<K, V>> {
        let name = self.inspector.catalog.typed::<K, V>(name)?;
        Ok(Store::new(name, Arc::clone(&self.shared.control)))
    }

    /// Why windows wait, as of the last commit: the source partitions that are furthest behind, while
    /// windows are open that depend on them. One that stays silent is passed over after a while; see
    /// [`App::idle_after`].
    #[must_use]
    pub fn holding_back(&self) -> Vec<HoldingBack> {
        self.shared.control.report.holding_back(self.broker.monotonic())
    }

    /// Asks for a clean stop: the running transaction is finished, stores are flushed.
    pub fn stop(&self) {
        self.shared.control.stop();
    }

    /// Waits at most that long for the job to end; whether it has.
    #[must_use]
    pub fn wait_timeout(&self, time: Duration) -> bool {
        let mut outcome = self.shared.outcome.lock();
        if outcome.is_none() {
            self.shared.ended.wait_for(&mut outcome, time);
        }
        outcome.is_some()
    }

    /// Waits for the job to end.
    ///
    /// # Errors
    ///
    /// What stopped it.
    pub fn wait(self) -> Result<Progress> {
        if self.thread.join().is_err() {
            return Err(Error::Panicked { reason: "the job's thread is gone".to_owned() });
        }
        let outcome = self.shared.outcome.lock().take();
        outcome.unwrap_or(Ok(())).map(|()| self.shared.control.progress.get())
    }

    /// How it goes, with all that `status` shows.
    pub(crate) fn status(&self) -> Result<Status> {
        self.inspector.status()
    }

    /// Looks whether source partitions are silent.
    pub(crate) fn look(&self) -> Result<()> {
        self.inspector.look()
    }

    /// What recovery did when the log was opened, one line for each thing worth telling.
    #[must_use]
    pub fn recovery(&self) -> Vec<String> {
        self.broker.recovery()
    }
}
