//! What a job needs of the log before its first task: topics, partition counts, positions.
//!
//! Invariants
//! * source topics must exist; all others are created.
//! * nothing is created before everything has been checked.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Build;
use super::input::InputTime;
use crate::broker::{Broker, Position, TopicKind, TopicRef};
use crate::dsl::{Assembly, TopicTypes, Topology};
use crate::error::{Error, Result};
use crate::ids::{StoreName, TaskId};
use crate::settings::Settings;
use crate::topology::{
    Graph, PartitionCounts, SourceDecl, Subtopology, changelog_topic, clock_topic, late_topic,
    partition_counts,
};

/// A topic besides the sources: its name, its partitions and what it is for.
type WantedTopic = (String, u32, TopicKind);

/// A job that is ready to be cut into tasks.
pub(crate) struct JobPlan {
    pub(crate) settings: Settings,
    pub(crate) build: Build,
    pub(crate) graph: Graph,
    /// The types of the topics that it knows.
    pub(super) types: BTreeMap<String, TopicTypes>,
    pub(crate) parts: Vec<Subtopology>,
    /// Partitions of each sub-topology.
    pub(crate) counts: Vec<u32>,
    /// All topics of the job by name.
    pub(crate) topics: BTreeMap<String, TopicRef>,
    /// Inputs whose clocks windows depend on.
    pub(crate) timed_inputs: Arc<BTreeSet<usize>>,
    /// Where it is written down that a silent partition was passed over; `None`: no window waits.
    pub(crate) clock: Option<TopicRef>,
    /// Where a replay counts what was late then; `None`: it asks for nothing.
    pub(crate) late: Option<TopicRef>,
    positions: BTreeMap<([u8; 16], u32), Position>,
}

impl JobPlan {
    pub(crate) fn new(settings: Settings, build: Build, broker: &dyn Broker) -> Result<Self> {
        let (known, log) = (broker.topics()?, broker.describe());
        let (mut plan, mut wanted) = Self::checked(settings, build, known, &log)?;
        let late = late_topic(&plan.settings.id);
        if !plan.settings.windows_then.is_empty() {
            wanted.push((late.clone(), 1, TopicKind::Changelog));
        }
        for (name, partitions, kind) in wanted {
            if let Entry::Vacant(missing) = plan.topics.entry(name) {
                let created = broker.create_topic(missing.key(), partitions, kind)?;
                missing.insert(created);
            }
        }
        plan.late = plan.topics.get(&late).cloned();
        if !plan.timed_inputs.is_empty() {
            let topic = clock_topic_of(&plan.settings.id, &plan.parts, &mut plan.topics, broker)?;
            plan.clock = Some(topic);
        }
        Ok(plan)
    }

    /// As [`new`](Self::new), and creates nothing: topics that are missing stay so.
    pub(crate) fn of_existing(
        settings: Settings,
        build: Build,
        broker: &dyn Broker,
    ) -> Result<Self> {
        let (known, log) = (broker.topics()?, broker.describe());
        Self::checked(settings, build, known, &log).map(|(plan, _wanted)| plan)
    }

    /// The same of a log that others may own: its topics, and what the job has committed there.
    pub(crate) fn as_left(
        settings: Settings,
        build: Build,
        (topics, positions): (Vec<TopicRef>, Vec<Position>),
        log: &str,
    ) -> Result<Self> {
        let (mut plan, _wanted) = Self::checked(settings, build, topics, log)?;
        plan.take_positions(positions);
        Ok(plan)
    }

    /// The plan, and the topics that it wants.
    fn checked(
        settings: Settings,
        build: Build,
        known: Vec<TopicRef>,
        log: &str,
    ) -> Result<(Self, Vec<WantedTopic>)> {
        let build = knowing(&build, known.iter().map(|topic| topic.name.to_string()));
        let assembly = assemble(&settings, &build)?;
        let parts = assembly.graph.subtopologies();
        let topics: BTreeMap<String, TopicRef> =
            known.into_iter().map(|topic| (topic.name.to_string(), topic)).collect();
        check_sources(&assembly.graph, &parts, &topics, log)?;
        let sizes = topics.iter().map(|(name, topic)| (name.clone(), topic.partitions)).collect();
        let PartitionCounts { tasks: counts, repartitions } = partition_counts(&parts, &sizes)?;
        let letters = assembly.graph.letters_topic();
        let wanted =
            wanted_topics(&settings.id, &parts, &counts, &repartitions, letters.as_deref());
        for (name, partitions, kind) in &wanted {
            check_internal(&topics, name, *partitions, *kind)?;
        }
        check_internal(&topics, &clock_topic(&settings.id), 1, TopicKind::Changelog)?;
        let timed_inputs = Arc::new(timed_inputs(&assembly));
        let Assembly { graph, types, .. } = assembly;
        let (clock, late, positions) = (None, None, BTreeMap::new());
        let plan = Self {
            settings,
            build,
            graph,
            types,
            parts,
            counts,
            topics,
            timed_inputs,
            clock,
            late,
            positions,
        };
        Ok((plan, wanted))
    }

    /// Where to go on. Only after both transactional ids were taken: an older instance of the job can
    /// then commit no more.
    pub(crate) fn load_positions(&mut self, broker: &dyn Broker) -> Result<()> {
        let committed = broker.committed(&self.settings.id)?;
        self.positions = committed.into_iter().map(|p| ((p.topic, p.partition), p)).collect();
        Ok(())
    }

    /// What was committed since the positions were read.
    pub(super) fn take_positions(&mut self, positions: Vec<Position>) {
        self.positions.extend(positions.into_iter().map(|p| ((p.topic, p.partition), p)));
    }

    /// The topics that are read from outside, each once, and whether only tables are kept of it.
    pub(crate) fn source_topics(&self) -> Result<Vec<(TopicRef, bool)>> {
        let sources = self.parts.iter().flat_map(|part| &part.sources);
        let external = sources.filter(|source| source.upstream.is_none());
        let names: BTreeSet<&str> = external.map(|source| source.topic.as_str()).collect();
        names
            .into_iter()
            .map(|name| Ok((self.topic(name)?.clone(), self.graph.fills_only_tables(name))))
            .collect()
    }

    /// The repartition topics that exist.
    pub(super) fn repartition_topics(&self) -> Vec<TopicRef> {
        let sources = self.parts.iter().flat_map(|part| &part.sources);
        let internal = sources.filter(|source| source.upstream.is_some());
        let names: BTreeSet<&str> = internal.map(|source| source.topic.as_str()).collect();
        names.into_iter().filter_map(|name| self.topics.get(name).cloned()).collect()
    }

    /// The output topics that exist.
    pub(super) fn output_topics(&self) -> Vec<TopicRef> {
        let internal = self.repartition_topics();
        let sinks: BTreeSet<&String> = self.parts.iter().flat_map(|part| &part.sinks).collect();
        let topics = sinks.into_iter().filter_map(|name| self.topics.get(name).cloned());
        topics.filter(|topic| !internal.contains(topic)).collect()
    }

    /// The stores of all sub-topologies.
    pub(crate) fn stores(&self) -> Vec<StoreName> {
        self.parts.iter().flat_map(|part| part.stores.iter().cloned()).collect()
    }

    /// The topology anew, for one task.
    pub(crate) fn assemble(&self) -> Result<Assembly> {
        assemble(&self.settings, &self.build)
    }

    pub(crate) fn topic(&self, name: &str) -> Result<&TopicRef> {
        self.topics.get(name).ok_or_else(|| Error::UnknownTopic {
            name: name.to_owned(),
            log: String::new(),
            known: self.topics.keys().cloned().collect(),
        })
    }

    pub(crate) fn position(&self, topic: &TopicRef, partition: u32) -> Option<&Position> {
        self.positions.get(&(topic.id, partition))
    }

    /// The clock, and what else is committed with the position in an input; `None`: there is none yet.
    pub(super) fn input_time(&self, topic: &TopicRef, partition: u32) -> Result<Option<InputTime>> {
        let Some(position) = self.position(topic, partition) else { return Ok(None) };
        let time = InputTime::decode(&position.metadata).ok_or_else(|| Error::Internal {
            topic: topic.name.to_string(),
            partition,
            offset: position.offset,
            reason: "the committed position carries no clock that this version can read",
        })?;
        Ok(Some(time))
    }

    /// What all upstream tasks of an input have said of their time; `None`: it is no repartition topic.
    pub(super) fn watermarks(
        &self,
        source: &SourceDecl,
        time: Option<&InputTime>,
    ) -> Option<Vec<i64>> {
        let tasks = usize::try_from(self.counts[source.upstream?]).expect("a count fits a usize");
        let mut known = time.map_or_else(Vec::new, |time| time.watermarks.clone());
        known.resize(tasks, i64::MIN);
        Some(known)
    }

    /// Whether exactly this position is committed.
    pub(crate) fn has_committed(&self, position: &Position) -> bool {
        self.positions.get(&(position.topic, position.partition)) == Some(position)
    }

    /// All tasks, sub-topology by sub-topology.
    pub(crate) fn tasks(&self) -> Vec<TaskId> {
        let ids = self.counts.iter().enumerate().flat_map(|(subtopology, &count)| {
            (0..count).map(move |partition| TaskId { subtopology, partition })
        });
        ids.collect()
    }
}

/// The same function for a log with these topics: patterns mean the same in all that it builds.
pub(crate) fn knowing(build: &Build, names: impl Iterator<Item = String>) -> Build {
    let (build, names): (_, Arc<[String]>) = (Arc::clone(build), names.collect());
    Arc::new(move |t| {
        t.know_topics(&names);
        build(t);
    })
}

fn assemble(settings: &Settings, build: &Build) -> Result<Assembly> {
    let build = Arc::clone(build);
    let (limit, on_error) = (settings.event_time_ahead_max_ms, settings.on_error);
    Topology::build(&settings.id, limit, on_error, &move |t| build(t))
}

fn check_sources(
    graph: &Graph,
    parts: &[Subtopology],
    topics: &BTreeMap<String, TopicRef>,
    log: &str,
) -> Result<()> {
    let sources = parts.iter().flat_map(|part| &part.sources);
    for source in sources.filter(|source| source.upstream.is_none()) {
        if !topics.contains_key(&source.topic) {
            let known = topics.keys().filter(|name| !name.starts_with("__")).cloned().collect();
            let (name, log) = (source.topic.clone(), log.to_owned());
            return Err(if graph.patterns.contains(&name) {
                Error::NoTopicMatches { pattern: name, log, known }
            } else {
                Error::UnknownTopic { name, log, known }
            });
        }
    }
    Ok(())
}

/// Inputs whose clocks make the time of a step with windows, or of tasks in front of one.
fn timed_inputs(assembly: &Assembly) -> BTreeSet<usize> {
    if assembly.timed.is_empty() {
        return BTreeSet::new();
    }
    let mut inputs: BTreeSet<usize> = BTreeSet::new();
    for (_, op) in &assembly.timed {
        inputs.extend(op.borrow().inputs().0.iter().map(|(input, _)| input));
    }
    for repartition in &assembly.repartitions {
        inputs.extend(repartition.inputs.0.iter().map(|(input, _)| input));
    }
    inputs
}

/// The topic of raises, created if it is missing, kept as long as the sources that it speaks of.
fn clock_topic_of(
    id: &str,
    parts: &[Subtopology],
    topics: &mut BTreeMap<String, TopicRef>,
    broker: &dyn Broker,
) -> Result<TopicRef> {
    let sources = parts.iter().flat_map(|part| &part.sources);
    let sources = sources.filter(|source| source.upstream.is_none());
    let kept: Vec<TopicRef> =
        sources.filter_map(|source| topics.get(&source.topic).cloned()).collect();
    match topics.entry(clock_topic(id)) {
        Entry::Occupied(known) => Ok(known.get().clone()),
        Entry::Vacant(missing) => {
            let created = broker.create_topic_kept_as(missing.key(), &kept)?;
            Ok(missing.insert(created).clone())
        }
    }
}

fn wanted_topics(
    id: &str,
    parts: &[Subtopology],
    counts: &[u32],
    repartitions: &BTreeMap<String, u32>,
    letters: Option<&str>,
) -> Vec<WantedTopic> {
    let mut wanted: Vec<WantedTopic> = Vec::new();
    for (part, &count) in parts.iter().zip(counts) {
        for sink in &part.sinks {
            let (count, kind) = match repartitions.get(sink) {
                Some(&count) => (count, TopicKind::Repartition),
                None if letters == Some(sink) => (count, TopicKind::DeadLetters),
                None => (count, TopicKind::Output),
            };
            if !wanted.iter().any(|(name, ..)| name == sink) {
                wanted.push((sink.clone(), count, kind));
            }
        }
        // Without a task there is nobody who could read or write it.
        for store in part.stores.iter().filter(|_| count > 0) {
            wanted.push((changelog_topic(id, store), count, TopicKind::Changelog));
        }
    }
    wanted
}

fn check_internal(
    topics: &BTreeMap<String, TopicRef>,
    name: &str,
    partitions: u32,
    kind: TopicKind,
) -> Result<()> {
    match topics.get(name) {
        Some(topic)
            if matches!(kind, TopicKind::Repartition | TopicKind::Changelog)
                && topic.partitions != partitions =>
        {
            Err(Error::Topology {
                reason: format!(
                    "internal topic `{name}` has {} partitions but the job now needs {partitions}",
                    topic.partitions
                ),
                help: "give the stateful step another store name: its state starts anew".to_owned(),
            })
        }
        _ => Ok(()),
    }
}
