//! The broker of a job that runs again over a stretch of a live log.
//!
//! ```text
//!   live log     source topics, from..until ------> reader     never written
//!   scratch log  outputs (with a suffix), repartition topics, changelogs, positions
//! ```
//!
//! Why a broker: the runtime that runs the job is the one that ran it first, so that nothing but its
//! input and its place differ.
//!
//! How a position in the live log is committed to the scratch log, which does not have those offsets: a
//! topic of the same name and partitions stands there for each source. It stays empty; positions are
//! committed at its offset 0, and the live offset stands in front of their metadata (8 bytes,
//! big-endian).
//!
//! Topics that only fill tables come first: until each of their partitions has been processed up to
//! where it was when the stretch began, streams have nothing to give.
//!
//! Invariants
//! * no call of this broker changes the live log.
//! * a source partition has a beginning and an end, which are fixed before the job starts.
//!
//! On crash: the scratch log recovers like any log; the job goes on from its last commit there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use core_log::Topic;
use parking_lot::Mutex;

use super::scratch::ScratchLog;
use super::stretch::{Span, Stretches};
use super::view::View;
use super::{
    Batch, Bounds, Broker, End, Position, Producer, Reader, Scope, TopicKind, TopicRef, Transaction,
};
use crate::error::{Error, Result};
use crate::record::Records;

/// One partition of a source, as a replay reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceSpan {
    pub(crate) span: Span,
    /// The partition only fills a table: up to here it is read before any stream.
    pub(crate) warm: Option<i64>,
}

/// A source topic of the live log.
#[derive(Clone, Debug)]
pub(crate) struct SourceTopic {
    pub(crate) topic: Topic,
    /// By partition.
    pub(crate) spans: Vec<SourceSpan>,
}

/// Raises of silent partitions, as the live job has written them down: by topic and partition, the next
/// offset and the time.
pub(crate) type LoggedTimes = BTreeMap<(String, u32), Vec<(i64, i64)>>;

/// What the live job has taken from the clock on the wall.
#[derive(Debug, Default)]
pub(crate) struct LoggedClock {
    /// Raises of silent partitions.
    pub(crate) raises: LoggedTimes,
    /// What processors have read.
    pub(crate) readings: LoggedTimes,
}

struct Source {
    topic: Topic,
    live: TopicRef,
    stand_in: TopicRef,
    spans: Vec<SourceSpan>,
}

/// What all readers share.
struct Reading {
    stretches: Stretches,
    /// Parts that are not warm yet.
    cold: BTreeSet<usize>,
    /// Where each part of a table ends once all of them are warm.
    ends: BTreeMap<usize, i64>,
    /// How often readers that had nothing may have something again, without a change of the log.
    turns: Arc<AtomicU64>,
}

impl Reading {
    /// A part has come to where its table was. With the last one, everything goes on: a table that went
    /// ahead of the streams of its task would be ahead of them in time.
    fn warmed(&mut self, part: usize) {
        if self.cold.remove(&part) && self.cold.is_empty() {
            for (&part, &end) in &self.ends {
                self.stretches.extend(part, end);
            }
            self.turns.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// The names of results, here and in the scratch log.
type Names = BTreeMap<String, Arc<str>>;

/// See the module.
pub(crate) struct ReplayBroker {
    scratch: ScratchLog,
    sources: Arc<Vec<Source>>,
    outputs: Arc<Names>,
    clock: LoggedClock,
    describe: String,
    reading: Arc<Mutex<Reading>>,
    turns: Arc<AtomicU64>,
}

impl ReplayBroker {
    /// A job with these sources and output topics, on a scratch log.
    ///
    /// # Errors
    ///
    /// The scratch log's own.
    pub(crate) fn new(
        scratch: ScratchLog,
        view: View,
        sources: Vec<SourceTopic>,
        outputs: &BTreeSet<String>,
        suffix: &str,
    ) -> Result<Self> {
        let describe = view.dir().display().to_string();
        let source = |SourceTopic { topic, spans }: SourceTopic| {
            let stand_in = scratch.placeholder(topic.name().as_str(), topic.partitions())?;
            Ok(Source { live: View::topic_ref(&topic), topic, stand_in, spans })
        };
        let sources = sources.into_iter().map(source).collect::<Result<Vec<_>>>()?;
        let full = |name: &String| (name.clone(), Arc::from(format!("{name}{suffix}")));
        let stretches = Stretches::new(view, std::iter::empty());
        let turns: Arc<AtomicU64> = Arc::default();
        let (cold, ends) = (BTreeSet::new(), BTreeMap::new());
        let reading = Reading { stretches, cold, ends, turns: Arc::clone(&turns) };
        Ok(Self {
            scratch,
            sources: Arc::new(sources),
            outputs: Arc::new(outputs.iter().map(full).collect()),
            clock: LoggedClock::default(),
            describe,
            reading: Arc::new(Mutex::new(reading)),
            turns,
        })
    }

    /// Repeats what was taken from the clock; what lies behind the stretch is left out.
    pub(crate) fn repeating(mut self, clock: LoggedClock) -> Self {
        self.clock = clock;
        self
    }

    /// Of those times, the ones inside the stretch of a partition.
    fn inside(&self, times: &LoggedTimes, topic: &TopicRef, partition: u32) -> Vec<(i64, i64)> {
        let Ok(Some(SourceSpan { span, .. })) = self.span(topic, partition) else {
            return Vec::new();
        };
        let times = times.get(&(topic.name.to_string(), partition)).into_iter().flatten();
        times.filter(|(next_offset, _)| *next_offset <= span.end).copied().collect()
    }

    /// Whether streams are being read: all tables are where they were.
    pub(crate) fn is_warm(&self) -> bool {
        self.reading.lock().cold.is_empty()
    }

    fn source(&self, topic: &TopicRef) -> Option<&Source> {
        self.sources.iter().find(|source| source.live.id == topic.id)
    }

    fn span(&self, topic: &TopicRef, partition: u32) -> Result<Option<SourceSpan>> {
        let Some(source) = self.source(topic) else { return Ok(None) };
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        let span = source.spans.get(index).copied().ok_or_else(|| {
            Error::Log(core_log::Error::UnknownPartition {
                topic: topic.name.to_string(),
                partition,
                partitions: source.live.partitions,
            })
        })?;
        Ok(Some(span))
    }

    /// A topic of the scratch log by the name that the job knows; `None`: it stands in for a source.
    fn as_the_job_knows_it(&self, topic: TopicRef) -> Option<TopicRef> {
        if self.sources.iter().any(|source| source.stand_in.id == topic.id) {
            return None;
        }
        let output = self.outputs.iter().find(|(_, full)| **full == topic.name);
        Some(match output {
            Some((name, _)) => TopicRef { name: Arc::from(name.as_str()), ..topic },
            None => topic,
        })
    }
}

impl Broker for ReplayBroker {
    fn now_ms(&self) -> i64 {
        self.scratch.broker.now_ms()
    }

    fn monotonic(&self) -> Duration {
        self.scratch.broker.monotonic()
    }

    fn describe(&self) -> String {
        self.describe.clone()
    }

    fn log_id(&self) -> [u8; 16] {
        self.scratch.broker.log_id()
    }

    fn topics(&self) -> Result<Vec<TopicRef>> {
        let own = self.scratch.broker.topics()?;
        let own = own.into_iter().filter_map(|topic| self.as_the_job_knows_it(topic));
        Ok(self.sources.iter().map(|source| source.live.clone()).chain(own).collect())
    }

    fn create_topic(&self, name: &str, partitions: u32, kind: TopicKind) -> Result<TopicRef> {
        match self.outputs.get(name) {
            Some(full) => {
                let made = match kind {
                    TopicKind::DeadLetters => {
                        self.scratch.broker.create_topic(full, partitions, kind)?
                    }
                    _ => self.scratch.create_output(full, partitions)?,
                };
                Ok(TopicRef { name: Arc::from(name), ..made })
            }
            None => self.scratch.broker.create_topic(name, partitions, kind),
        }
    }

    fn create_topic_kept_as(&self, name: &str, _others: &[TopicRef]) -> Result<TopicRef> {
        // Scratch: it lasts as long as the log that it is in.
        self.scratch.broker.create_topic(name, 1, TopicKind::Changelog)
    }

    fn committed(&self, group: &str) -> Result<Vec<Position>> {
        let committed = self.scratch.broker.committed(group)?;
        Ok(committed.into_iter().map(|position| unpack(&self.sources, position)).collect())
    }

    fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>> {
        let inner = self.scratch.broker.producer(transactional_id)?;
        let (sources, outputs) = (Arc::clone(&self.sources), Arc::clone(&self.outputs));
        Ok(Box::new(ReplayProducer { inner, sources, outputs }))
    }

    fn batch(&self) -> Box<dyn Batch> {
        self.scratch.broker.batch()
    }

    fn reader(
        &self,
        topic: &TopicRef,
        partition: u32,
        offset: i64,
        scope: Scope,
    ) -> Result<Box<dyn Reader>> {
        let (Some(source), Some(span)) = (self.source(topic), self.span(topic, partition)?) else {
            return self.scratch.broker.reader(topic, partition, offset, scope);
        };
        let mut reading = self.reading.lock();
        let end = span.warm.unwrap_or(span.span.end);
        let part = reading.stretches.add(&source.topic, partition, Span { next: offset, end });
        if span.warm.is_some() {
            reading.cold.insert(part);
            reading.ends.insert(part, span.span.end);
        }
        drop(reading);
        Ok(Box::new(ReplayReader { reading: Arc::clone(&self.reading), part }))
    }

    fn bounds(&self, topic: &TopicRef, partition: u32) -> Result<Bounds> {
        match self.span(topic, partition)? {
            Some(SourceSpan { span: Span { next, end }, .. }) => {
                Ok(Bounds { start: next, committed_end: end, end })
            }
            None => self.scratch.broker.bounds(topic, partition),
        }
    }

    fn leader_epoch_at(
        &self,
        topic: &TopicRef,
        partition: u32,
        offset: i64,
    ) -> Result<Option<i32>> {
        match self.source(topic) {
            Some(_) => Ok(None),
            None => self.scratch.broker.leader_epoch_at(topic, partition, offset),
        }
    }

    fn logged_raises(&self, topic: &TopicRef, partition: u32) -> Vec<(i64, i64)> {
        self.inside(&self.clock.raises, topic, partition)
    }

    fn logged_readings(&self, topic: &TopicRef, partition: u32) -> Option<Vec<(i64, i64)>> {
        Some(self.inside(&self.clock.readings, topic, partition))
    }

    fn purge(&self, topic: &TopicRef, partition: u32, offset: i64) -> Result<()> {
        match self.source(topic) {
            Some(_) => Ok(()),
            None => self.scratch.broker.purge(topic, partition, offset),
        }
    }

    fn hold(&self, topic: &TopicRef, partition: u32, holder: &str, offset: i64) -> Result<()> {
        self.scratch.broker.hold(topic, partition, holder, offset)
    }

    fn release(&self, topic: &TopicRef, holder: &str) -> Result<()> {
        match self.source(topic) {
            Some(_) => Ok(()),
            None => self.scratch.broker.release(topic, holder),
        }
    }

    fn compacted_below(&self, topic: &TopicRef, partition: u32) -> Result<i64> {
        self.scratch.broker.compacted_below(topic, partition)
    }

    fn close(&self) -> Result<()> {
        self.scratch.broker.close()
    }

    fn watch(&self, seen: u64, timeout: Duration) -> u64 {
        let turns = self.turns.load(Ordering::Acquire);
        let changes = self.scratch.broker.watch(seen.wrapping_sub(turns), timeout);
        changes.wrapping_add(self.turns.load(Ordering::Acquire))
    }
}

/// A position in the live log, as the scratch log can keep it.
fn pack(sources: &[Source], position: &Position) -> Position {
    let Some(source) = sources.iter().find(|source| source.live.id == position.topic) else {
        return position.clone();
    };
    let mut metadata = position.offset.to_be_bytes().to_vec();
    metadata.extend_from_slice(&position.metadata);
    Position { topic: source.stand_in.id, partition: position.partition, offset: 0, metadata }
}

fn unpack(sources: &[Source], position: Position) -> Position {
    let source = sources.iter().find(|source| source.stand_in.id == position.topic);
    let (Some(source), Some((offset, metadata))) =
        (source, position.metadata.split_first_chunk::<8>())
    else {
        return position;
    };
    Position {
        topic: source.live.id,
        offset: i64::from_be_bytes(*offset),
        metadata: metadata.to_vec(),
        ..position
    }
}

struct ReplayProducer {
    inner: Box<dyn Producer>,
    sources: Arc<Vec<Source>>,
    outputs: Arc<Names>,
}

impl Producer for ReplayProducer {
    fn begin(&mut self) -> Result<Arc<dyn Transaction>> {
        Ok(Arc::new(ReplayTransaction {
            inner: self.inner.begin()?,
            sources: Arc::clone(&self.sources),
            outputs: Arc::clone(&self.outputs),
        }))
    }
}

struct ReplayTransaction {
    inner: Arc<dyn Transaction>,
    sources: Arc<Vec<Source>>,
    outputs: Arc<Names>,
}

impl Transaction for ReplayTransaction {
    fn append(&self, topic: &TopicRef, partition: u32, batch: &mut dyn Batch) -> Result<()> {
        match self.outputs.get(&*topic.name) {
            Some(full) => {
                let topic = TopicRef { name: Arc::clone(full), ..topic.clone() };
                self.inner.append(&topic, partition, batch)
            }
            None => self.inner.append(topic, partition, batch),
        }
    }

    fn end(&self, topic: &TopicRef, partition: u32) -> Result<Option<End>> {
        self.inner.end(topic, partition)
    }

    fn commit(&self, group: &str, positions: &[Position]) -> Result<()> {
        let packed: Vec<Position> =
            positions.iter().map(|position| pack(&self.sources, position)).collect();
        self.inner.commit(group, &packed)
    }

    fn abort(&self) -> Result<()> {
        self.inner.abort()
    }
}

/// One source partition. Readers of one partition are apart from each other.
struct ReplayReader {
    reading: Arc<Mutex<Reading>>,
    part: usize,
}

impl Reader for ReplayReader {
    fn poll(&mut self) -> Result<Option<Records>> {
        let mut reading = self.reading.lock();
        if reading.cold.contains(&self.part) {
            if let Some(records) = reading.stretches.poll(self.part)? {
                return Ok(Some(records));
            }
            // It is asked again only once everything that it gave has been processed. A task that has
            // asked its streams in this round must ask them again before the table goes on.
            reading.warmed(self.part);
            return Ok(None);
        }
        if reading.cold.is_empty() { reading.stretches.poll(self.part) } else { Ok(None) }
    }

    fn position(&self) -> i64 {
        self.reading.lock().stretches.position(self.part)
    }
}

impl Drop for ReplayReader {
    fn drop(&mut self) {
        let mut reading = self.reading.lock();
        reading.ends.remove(&self.part);
        reading.warmed(self.part);
        reading.stretches.remove(self.part);
    }
}

impl std::fmt::Debug for ReplayBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayBroker").field("live", &self.describe).finish_non_exhaustive()
    }
}
