//! Runs a job again over a stretch of its input, beside the live one.
//!
//! ```text
//!   live log --- from..until, by partition ---> the same job ---> DIR/replay/NAME: topics with a suffix
//!                                                                        |
//!   live outputs ------------------- compare, window by window ----------'
//! ```
//!
//! Why a log of its own: the live one has an owner, and its topics, stores and positions must be as they
//! were, wherever a replay is killed.
//!
//! Invariants
//! * the live log is looked at and never written; see `broker::replay` and `broker::view`.
//! * the stretch is fixed when a replay begins, and found again by one that goes on.
//! * it is over when every source partition, and every repartition partition, has been read to its end
//!   and all that came of it is committed. Windows that are open then stay open.
//!
//! On crash: the same replay, asked for again, goes on from its last commit; any other starts over.

mod clocks;
mod compare;
mod report;
mod scratch;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::app::App;
use crate::at::At;
use crate::broker::{
    Broker, Located, LogTopic, ReplayBroker, Scope, ScratchLog, SourceSpan, SourceTopic, Span,
    View, first_not_older, locate, timestamp_at, whole,
};
use crate::dsl::Assembly;
use crate::error::{Error, Result};
use crate::ids::check_name;
use crate::runtime::{Control, JobPlan, Progress, run_until_stopped};
use crate::topology::{Format, Graph, SourceDecl};
pub use report::{Compared, Comparison, Difference, Report, Stretch};
pub(crate) use scratch::find;
use scratch::{Manifest, Request, Scratch, Source, State};

/// What the names of its topics end in, unless something else is said.
const SUFFIX: &str = "-replay";
/// How often a replay is looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long nothing must have come before it is looked whether all is done.
const IDLE: Duration = Duration::from_millis(40);

/// A replay that can be run; see [`App::replay`].
#[derive(Clone)]
#[must_use = "a replay does nothing until `.run()`"]
pub struct Replay {
    app: App,
    from: At,
    until: At,
    suffix: String,
    name: Option<String>,
    compares: bool,
}

/// How far a replay is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tick {
    /// Records read in this run.
    pub(crate) records: u64,
    /// Offsets that were to be read when it began.
    pub(crate) total: u64,
}

/// What who watches it wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    GoOn,
    Stop,
}

/// What who watches it is told.
pub(crate) enum News<'a> {
    /// It begins, or goes on.
    Begins(&'a Report),
    Runs(Tick),
    /// All is read; what it has written is compared.
    Compares,
}

impl App {
    /// The same job over a stretch of its input again, in state and topics of its own. Live topics,
    /// stores and positions stay as they are; the live job may run meanwhile.
    ///
    /// Results go to topics with a suffix in a scratch log, `replay/<id>` below the log's directory.
    /// Asked for again after it was killed, the same replay goes on where it was; a finished one, or
    /// another stretch or program, starts over. Tables that the job joins with are brought to where they
    /// were at `from` first; everything else starts empty.
    ///
    /// ```
    /// use streams::prelude::*;
    /// # use core_log::{BatchBuilder, NO_HEADERS, TopicSettings};
    ///
    /// const IN: Topic<String, u64> = topic("in");
    /// const OUT: Topic<String, u64> = topic("out");
    ///
    /// fn topology(t: &mut Topology) {
    ///     t.stream(IN).filter(|n| *n > 1).to(OUT);
    /// }
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let log = core_log::Log::open(dir.path())?;
    /// # let numbers = log.create_topic("in", TopicSettings::default())?;
    /// # let mut batch = BatchBuilder::new();
    /// # for value in ["1", "2", "3"] {
    /// #     batch.push(1_700_000_000_000, Some(b"a"), Some(value.as_bytes()), NO_HEADERS)?;
    /// # }
    /// # log.producer(Durability::Sync)?.append(&numbers, 0, &mut batch)?;
    /// # log.close()?;
    /// let app = App::new("big-numbers", topology).log(dir.path());
    /// let report = app.replay(At::Offset(1), At::End).run()?;
    /// assert_eq!(report.records, 2);
    /// assert_eq!(report.topics, ["out-replay"]);
    /// let again = Log::open(&report.dir)?.read(topic::<String, u64>("out-replay"));
    /// let values: Vec<_> = again.into_iter().filter_map(|r| r.ok()?.value).collect();
    /// assert_eq!(values, [2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn replay(self, from: At, until: At) -> Replay {
        let suffix = SUFFIX.to_owned();
        Replay { app: self, from, until, suffix, name: None, compares: false }
    }
}

impl Replay {
    /// What the names of the topics that it writes end in; default `-replay`.
    pub fn into_topics_with_suffix(mut self, suffix: &str) -> Self {
        suffix.clone_into(&mut self.suffix);
        self
    }

    /// The name of its directory below `replay`; default the job's id. Replays of different names stay
    /// beside each other.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Sets what the job wrote then against what it writes now; see [`Report::compared`].
    pub fn compare(mut self) -> Self {
        self.compares = true;
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// * S032: the stretch begins behind the end, holds nothing, or ends before it begins; S007:
    ///   retention has removed its beginning; S004: a source topic does not exist.
    /// * S006: the same replay is running; S015, S024: its directory or its name can not be used.
    /// * Whatever stops a job.
    pub fn run(self) -> Result<Report> {
        let report = self.run_watched(&mut |_| Ok(Wish::GoOn))?;
        Ok(report.expect("nobody stopped it"))
    }

    /// Runs it, telling how far it is; `None` when it was stopped before its end.
    pub(crate) fn run_watched(
        self,
        watch: &mut dyn FnMut(News<'_>) -> Result<Wish>,
    ) -> Result<Option<Report>> {
        let assembly = self.app.assemble()?;
        let outputs: BTreeSet<String> = assembly.graph.outputs().into_keys().collect();
        self.check_names(&assembly.graph, &outputs)?;
        let id = self.app.id().to_owned();
        let scratch = Scratch::beside(self.app.log_dir(), self.name.as_deref().unwrap_or(&id))?;
        // Must be BEFORE the scratch directory is touched, or else a mistake would cost an old replay.
        let mut found = self.sources(&assembly)?;
        let request = self.request(&assembly, &found);
        let settings = self.app.settings();
        let open = |dir: &std::path::Path| {
            ScratchLog::open(dir, settings.event_time_ahead_max_ms, settings.commit_every())
        };
        let (log, known) = scratch.open(&request, open)?;
        let resumed = known.is_some();
        known.iter().for_each(|known| restore(&mut found, known));
        let sources = manifest_sources(&found);
        let manifest = Manifest { request, sources, state: State::Running };
        scratch.write(&manifest)?;
        let mut report = Report {
            dir: scratch.dir().to_owned(),
            topics: outputs.iter().map(|name| format!("{name}{}", self.suffix)).collect(),
            stretch: stretch(&found),
            resumed,
            ..Report::default()
        };
        let view = View::of(self.app.log_dir());
        let broker = ReplayBroker::new(log, view, found.clone(), &outputs, &self.suffix)?;
        let broker = Arc::new(broker);
        let job = Job { app: self.app.clone().log(scratch.dir()), broker: Arc::clone(&broker) };
        watch(News::Begins(&report))?;
        let ran = job.run(watch);
        let clocks = clocks::at_the_end(broker.as_ref(), &id);
        let closed = broker.close();
        let Some(progress) = ran? else {
            closed?;
            return Ok(None);
        };
        closed?;
        report.records = progress.records_in;
        report.progress = progress;
        if self.compares {
            watch(News::Compares)?;
            let compare = compare::Compare {
                app: &self.app,
                assembly: &assembly,
                found: &found,
                suffix: &self.suffix,
                clocks: &clocks?,
            };
            report.compared = compare.run(&report)?;
        }
        scratch.write(&Manifest { state: State::Finished, ..manifest })?;
        Ok(Some(report))
    }

    fn check_names(&self, graph: &Graph, outputs: &BTreeSet<String>) -> Result<()> {
        let refuse = |reason: String| {
            let help = "choose another suffix, such as -replay".to_owned();
            Err(Error::Topology { reason, help })
        };
        if self.suffix.is_empty() {
            return refuse("the topics of a replay want a suffix".to_owned());
        }
        let sources: BTreeSet<&str> = graph.inputs().into_iter().map(|(_, topic)| topic).collect();
        for output in outputs {
            let name = format!("{output}{}", self.suffix);
            check_name("topic", &name)?;
            if sources.contains(name.as_str()) {
                return refuse(format!("`{name}` would be read and written by its replay"));
            }
        }
        Ok(())
    }

    fn request(&self, assembly: &Assembly, found: &[SourceTopic]) -> Request {
        Request {
            topics: found.iter().map(|source| source.topic.id().to_string()).collect(),
            version: Request::version(),
            job: self.app.id().to_owned(),
            from: self.from.to_string(),
            until: self.until.to_string(),
            suffix: self.suffix.clone(),
            topology: assembly.graph.describe(Format::Text),
            program: program(),
        }
    }

    /// Where the stretch lies in each source topic, as the live log is now.
    fn sources(&self, assembly: &Assembly) -> Result<Vec<SourceTopic>> {
        let graph = &assembly.graph;
        let (mut view, now_ms) = (View::of(self.app.log_dir()), View::now_ms());
        let mut names: Vec<&str> = graph.user_sources();
        names.sort_by_key(|name| graph.fills_only_tables(name));
        let mut found: Vec<SourceTopic> = Vec::new();
        let mut past = None;
        let mut streams = 0;
        for name in names {
            let topic = view.topic(name)?;
            if graph.fills_only_tables(name) {
                let places = (&self.from, &self.until);
                found.push(table(&mut view, topic, &found[..streams], places, now_ms)?);
                continue;
            }
            streams += 1;
            let Located { spans, past: behind } =
                view.with(|log| locate(log, &topic, &self.from, &self.until, now_ms))?;
            past = past.or(behind);
            let spans = spans.into_iter().map(|span| SourceSpan { span, warm: None }).collect();
            found.push(SourceTopic { topic, spans });
        }
        let mut spans = found.iter().take(streams).flat_map(|source| &source.spans);
        if spans.all(|SourceSpan { span, .. }| span.next >= span.end) {
            return Err(past.unwrap_or_else(|| Error::BadPosition {
                reason: format!("there is no record from {} until {}", self.from, self.until),
                help: "begin earlier, or end later: --from start --until end".to_owned(),
            }));
        }
        Ok(found)
    }
}

/// A topic that only fills tables: all of it that lies in front of the stretch, then the stretch. Where
/// a stretch begins and ends in it follows from the timestamps of the streams' records there.
fn table(
    view: &mut View,
    topic: LogTopic,
    streams: &[SourceTopic],
    (from, until): (&At, &At),
    now_ms: i64,
) -> Result<SourceTopic> {
    let begins = match from {
        At::Start => None,
        _ => from.time_ms(now_ms)?.or(first_time(view, streams, |span| span.next)?),
    };
    let ends = match until {
        At::Offset(_) => first_time(view, streams, |span| span.end)?,
        _ => until.time_ms(now_ms)?,
    };
    view.with(|log| {
        let mut spans = Vec::new();
        for (partition, mut span) in (0..).zip(whole(log, &topic)?) {
            let end = span.end;
            let mut at = |time: i64| -> Result<i64> {
                let found = first_not_older(log, &topic, partition, time, end)?;
                Ok(found.map_or(end, |(offset, _)| offset))
            };
            let warm = begins.map(&mut at).transpose()?;
            span.end = ends.map(&mut at).transpose()?.unwrap_or(end);
            spans.push(SourceSpan { span, warm: warm.filter(|warm| *warm > span.next) });
        }
        Ok(SourceTopic { topic: topic.clone(), spans })
    })
}

/// The smallest timestamp of the records at a place of each stream partition.
fn first_time(
    view: &mut View,
    streams: &[SourceTopic],
    place: impl Fn(&Span) -> i64,
) -> Result<Option<i64>> {
    view.with(|log| {
        let mut first: Option<i64> = None;
        for SourceTopic { topic, spans } in streams {
            for (partition, SourceSpan { span, .. }) in (0..).zip(spans) {
                if let Some(time) = timestamp_at(log, topic, partition, place(span))? {
                    first = Some(first.map_or(time, |known| known.min(time)));
                }
            }
        }
        Ok(first)
    })
}

/// What identifies the program: closures can not be compared, so a program that was built anew is
/// another.
fn program() -> String {
    let described = std::env::current_exe().and_then(|path| {
        let metadata = std::fs::metadata(&path)?;
        let modified = metadata.modified()?.duration_since(std::time::UNIX_EPOCH);
        let modified = modified.map_err(std::io::Error::other)?;
        Ok(format!("{} {} {}", path.display(), metadata.len(), modified.as_nanos()))
    });
    // Without a name for itself it is never the same program as before.
    described.unwrap_or_else(|_unknown| format!("{}", View::now_ms()))
}

fn manifest_sources(found: &[SourceTopic]) -> Vec<Source> {
    let mut sources = Vec::new();
    for SourceTopic { topic, spans } in found {
        for (partition, SourceSpan { span, warm }) in (0..).zip(spans) {
            sources.push(Source {
                topic: topic.name().to_string(),
                partition,
                from: span.next,
                until: span.end,
                warm: *warm,
            });
        }
    }
    sources
}

/// Takes the stretch of the replay that is gone on with.
fn restore(found: &mut [SourceTopic], known: &[Source]) {
    for SourceTopic { topic, spans } in found {
        for (partition, span) in (0..).zip(spans) {
            let of = |source: &&Source| {
                source.partition == partition && source.topic == topic.name().as_str()
            };
            if let Some(source) = known.iter().find(of) {
                let was = Span { next: source.from, end: source.until };
                *span = SourceSpan { span: was, warm: source.warm };
            }
        }
    }
}

fn stretch(found: &[SourceTopic]) -> Vec<Stretch> {
    let each = manifest_sources(found).into_iter();
    each.map(|Source { topic, partition, from, until, warm }| {
        let from = warm.unwrap_or(from);
        Stretch { topic, partition, from, until: until.max(from) }
    })
    .collect()
}

/// The job, as it runs again.
struct Job {
    app: App,
    broker: Arc<ReplayBroker>,
}

impl Job {
    /// Runs it until its input is used up; `None` when it was stopped before.
    fn run(&self, watch: &mut dyn FnMut(News<'_>) -> Result<Wish>) -> Result<Option<Progress>> {
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

    /// The inputs that have positions of their own: what every task reads whole goes before all others.
    fn counted(plan: &JobPlan) -> impl Iterator<Item = &SourceDecl> {
        plan.parts.iter().flat_map(|part| &part.sources).filter(|source| !source.is_global)
    }

    /// Offsets of source topics that are not committed yet.
    fn left(&self) -> Result<u64> {
        let plan = self.plan()?;
        let mut left = 0;
        for source in Self::counted(&plan) {
            let topic = plan.topic(&source.topic)?;
            for partition in (0..topic.partitions).filter(|_| source.upstream.is_none()) {
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
        for source in Self::counted(&plan) {
            let topic = plan.topic(&source.topic)?;
            let scope = if source.upstream.is_some() { Scope::Own } else { Scope::Committed };
            for partition in 0..topic.partitions {
                let position = plan.position(topic, partition).map(|position| position.offset);
                let at = match position {
                    Some(offset) => offset,
                    None => self.broker.bounds(topic, partition)?.start,
                };
                if self.broker.reader(topic, partition, at, scope)?.poll()?.is_some() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
