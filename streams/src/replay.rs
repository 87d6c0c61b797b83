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
mod job;
mod late;
mod report;
mod scratch;
mod sources;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::at::At;
use crate::broker::{Broker, ReplayBroker, ScratchLog, SourceTopic, View};
use crate::dsl::Assembly;
use crate::error::{Error, Result};
use crate::ids::check_name;
use crate::topology::{Format, Graph};
use job::Job;
use late::{Lateness, Live};
pub use report::{Compared, Comparison, Difference, Report, Stretch};
pub(crate) use scratch::find;
use scratch::{Manifest, Request, Scratch, State};

/// What the names of its topics end in, unless something else is said.
const SUFFIX: &str = "-replay";

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
    ///
    /// Windows that differ because the job had another grace then say so: how many records were late then
    /// and are not now, or are late now and were not. A job keeps the graces that it has had beside its
    /// positions, and with each from where on it counted; of windows in which two had a part, or that
    /// were written before they were kept, no reason is given.
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
        let names = sources::topic_names(&self.app)?;
        let app = self.app.knowing(names.into_iter());
        let this = Self { app, ..self };
        this.run_knowing(watch)
    }

    /// The same, knowing which topics patterns take.
    fn run_knowing(
        self,
        watch: &mut dyn FnMut(News<'_>) -> Result<Wish>,
    ) -> Result<Option<Report>> {
        let assembly = self.app.assemble()?;
        let mut outputs: BTreeSet<String> = assembly.graph.outputs().into_keys().collect();
        outputs.extend(assembly.graph.letters_topic());
        self.check_names(&assembly.graph, &outputs)?;
        let id = self.app.id().to_owned();
        let scratch = Scratch::beside(self.app.log_dir(), self.name.as_deref().unwrap_or(&id))?;
        // Must be BEFORE the scratch directory is touched, or else a mistake would cost an old replay.
        let mut found = sources::locate_all(&self.app, &assembly.graph, &self.from, &self.until)?;
        let live = Live::of(&self.app)?;
        let then = live.other_than(&assembly.graph);
        let request = self.request(&assembly, &found, format!("{then:?}"));
        let settings = self.app.settings();
        let open = |dir: &std::path::Path| {
            ScratchLog::open(dir, settings.event_time_ahead_max_ms, settings.commit_every())
        };
        let (log, known) = scratch.open(&request, open)?;
        let resumed = known.is_some();
        known.iter().for_each(|known| sources::restore(&mut found, known));
        let sources = sources::of_manifest(&found);
        let manifest = Manifest { request, sources, state: State::Running };
        scratch.write(&manifest)?;
        let mut report = Report {
            dir: scratch.dir().to_owned(),
            topics: outputs.iter().map(|name| format!("{name}{}", self.suffix)).collect(),
            stretch: sources::stretch(&found),
            resumed,
            ..Report::default()
        };
        let view = View::of(self.app.log_dir());
        let broker = ReplayBroker::new(log, view, found.clone(), &outputs, &self.suffix)?;
        let broker = Arc::new(broker.repeating(sources::logged_clock(&self.app)?));
        // By the clock on the wall a partition is silent as soon as its stretch has been read.
        let app = self.app.clone().log(scratch.dir()).idle_after(Duration::MAX).judging(then);
        let job = Job { app, broker: Arc::clone(&broker) };
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
            let lateness = Lateness::of(&self.app, &assembly.graph, &live, scratch.dir())?;
            let compare = compare::Compare {
                app: &self.app,
                lateness: &lateness,
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

    fn request(&self, assembly: &Assembly, found: &[SourceTopic], then: String) -> Request {
        Request {
            then,
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
