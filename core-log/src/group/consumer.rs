//! A consumer: what it reads, as member of a group or on its own.
//!
//! ```text
//!   new --subscribe(topics | pattern)--> member --poll--> lanes come and go with the group
//!       --assign(partitions)-----------> lanes of its own choice
//!   close: positions are handed over      dropped: the next owner begins at the committed offsets
//! ```
//!
//! Why a value with `&mut self`: one thread or task at a time; a consumer may move between them.
//!
//! Invariants
//! * A lane exists only for a partition that this consumer owns, or chose itself.
//! * It leaves its group when it is dropped.
//!
//! Reference: Kafka `KafkaConsumer`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use regex::Regex;

use super::commit::{Queue, Slot};
use super::lane::Lane;
use super::settings::{AutoCommit, ConsumerSettings};
use super::shared;
use crate::error::{GroupError, Result};
use crate::ids::TopicName;
use crate::log::Log;
use crate::members::table::{Handed, MemberId};
use crate::members::{GroupState, PartitionName};
use crate::topic::Topic;

/// Reads topics; see [`Group::consumer`](super::Group::consumer) and [`Log::consumer`].
///
/// ```
/// use std::time::Duration;
/// use core_log::{BatchBuilder, ConsumerSettings, Durability, Log, NO_HEADERS, TopicSettings};
///
/// let dir = tempfile::tempdir()?;
/// let log = Log::open(dir.path())?;
/// let clicks = log.create_topic("clicks", TopicSettings::with_partitions(2))?;
/// let mut batch = BatchBuilder::new();
/// batch.push(0, Some(b"user"), Some(b"page"), NO_HEADERS)?;
/// log.producer(Durability::Sync)?.append(&clicks, 1, &mut batch)?;
///
/// let settings = ConsumerSettings::from_kafka([
///     ("auto.offset.reset", "earliest"),
///     ("enable.auto.commit", "false"),
/// ])?;
/// let mut consumer = log.group("billing")?.consumer(settings);
/// consumer.subscribe(&["clicks"])?;
/// let polled = consumer.poll(Duration::from_secs(1))?;
/// for record in polled.records() {
///     let record = record?;
///     assert_eq!((record.partition, record.value), (1, Some(&b"page"[..])));
/// }
/// consumer.commit()?;
/// assert_eq!(polled.count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Consumer {
    pub(super) log: Log,
    pub(super) settings: ConsumerSettings,
    pub(super) seat: Option<Seat>,
    pub(super) reads: Reads,
    pub(super) lanes: BTreeMap<PartitionName, Lane>,
    /// The partition that was served last: the next poll begins behind it.
    pub(super) served: Option<PartitionName>,
    /// When positions were committed without being asked, the last time.
    pub(super) auto_committed: Duration,
    pub(super) queue: Arc<Queue>,
    /// Asynchronous commits that are not acknowledged yet.
    pub(super) pending: VecDeque<Arc<Slot>>,
    /// The place in which a stream leaves its waker.
    pub(super) place: Option<u64>,
    /// Set from other threads: a poll is to end.
    pub(super) is_woken: Arc<AtomicBool>,
}

/// Ends the poll of a consumer that waits, from another thread.
#[derive(Clone, Debug)]
pub struct Wakeup {
    log: Log,
    is_woken: Arc<AtomicBool>,
}

impl Wakeup {
    /// The poll that waits, or else the next one, answers what it has without waiting.
    pub fn wake(&self) {
        self.is_woken.store(true, Ordering::SeqCst);
        // Must be AFTER the flag is set: who is woken looks at it.
        self.log.inner.changes().notify();
    }
}

/// A consumer's place in its group.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) group: Arc<GroupState>,
    /// `None`: it chose its partitions itself, or has none yet.
    pub(super) member: Option<MemberId>,
    pub(super) name: String,
    /// The generation at its last poll.
    pub(super) generation: u64,
    /// The version of the table of which it has taken and let go of everything.
    pub(super) followed: Option<u64>,
    /// Whether a poll is running.
    pub(super) is_polling: bool,
}

/// What it reads.
#[derive(Debug)]
pub(super) enum Reads {
    Nothing,
    Topics(BTreeMap<TopicName, Topic>),
    Matching {
        pattern: Regex,
        topics: BTreeMap<TopicName, Topic>,
        seen: usize,
    },
    /// Partitions of its own choice.
    Chosen,
}

impl Reads {
    pub(super) fn topics(&self) -> Option<&BTreeMap<TopicName, Topic>> {
        match self {
            Self::Topics(topics) | Self::Matching { topics, .. } => Some(topics),
            Self::Nothing | Self::Chosen => None,
        }
    }
}

impl Consumer {
    pub(super) fn new(
        log: Log,
        group: Option<Arc<GroupState>>,
        settings: ConsumerSettings,
    ) -> Self {
        let seat = group.map(|group| Seat {
            group,
            member: None,
            name: String::new(),
            generation: 0,
            followed: None,
            is_polling: false,
        });
        let auto_committed = log.inner.clock().monotonic();
        Self {
            log,
            settings,
            seat,
            reads: Reads::Nothing,
            lanes: BTreeMap::new(),
            served: None,
            auto_committed,
            queue: Arc::default(),
            pending: VecDeque::new(),
            place: None,
            is_woken: Arc::default(),
        }
    }

    /// How it reads and commits.
    #[must_use]
    pub fn settings(&self) -> &ConsumerSettings {
        &self.settings
    }

    /// Reads these topics from now on, and nothing else. The group shares out their partitions; without a
    /// group this consumer reads all of them.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`](crate::Error::UnknownTopic); [`GroupError::OtherKind`]: the group shares
    /// records. Nothing is changed.
    pub fn subscribe<T: AsRef<str>>(&mut self, topics: &[T]) -> Result<()> {
        let topic = |name: &T| {
            let topic = self.log.topic(name.as_ref())?;
            Ok((topic.name().clone(), topic))
        };
        let topics = topics.iter().map(topic).collect::<Result<BTreeMap<_, _>>>()?;
        self.read(Reads::Topics(topics))
    }

    /// Reads all topics whose whole name a regular expression matches, also those that are made later.
    ///
    /// # Errors
    ///
    /// [`GroupError::InvalidPattern`], [`GroupError::OtherKind`]: nothing is changed.
    pub fn subscribe_pattern(&mut self, pattern: &str) -> Result<()> {
        let bad = |error: regex::Error| GroupError::InvalidPattern {
            pattern: pattern.to_owned(),
            reason: error.to_string(),
        };
        // What closes the group and opens another would be another pattern.
        Regex::new(pattern).map_err(bad)?;
        let whole = Regex::new(&format!("^(?:{pattern})$")).map_err(bad)?;
        let seen = self.log.inner.engine()?.topic_count();
        let topics = matching(&self.log, &whole)?;
        self.read(Reads::Matching { pattern: whole, topics, seen })
    }

    fn read(&mut self, reads: Reads) -> Result<()> {
        if self.seat.as_ref().is_some_and(|seat| seat.member.is_none()) {
            self.join()?;
        }
        if matches!(self.reads, Reads::Chosen) {
            self.lanes.clear();
        }
        self.reads = reads;
        self.tell_topics();
        Ok(())
    }

    /// Becomes a member.
    pub(super) fn join(&mut self) -> Result<()> {
        let now = self.log.inner.clock().monotonic();
        let ConsumerSettings { client_id, assignor, max_poll_interval, .. } = &self.settings;
        let Some(seat) = &mut self.seat else { return Ok(()) };
        let mut membership = seat.group.membership.lock();
        if seat.group.shares.lock().count > 0 {
            let group = seat.group.id.clone();
            let (inside, outside) = (shared::SHARE_RECORDS, shared::SHARE_PARTITIONS);
            return Err(GroupError::OtherKind { group, inside, outside }.into());
        }
        let member = membership.join(client_id, *assignor, *max_poll_interval, now);
        seat.name = membership.name(member).unwrap_or_default().to_owned();
        seat.generation = membership.generation();
        seat.followed = None;
        seat.member = Some(member);
        Ok(())
    }

    /// Tells the group which topics this consumer reads.
    pub(super) fn tell_topics(&mut self) {
        let Some(topics) = self.reads.topics() else { return };
        let counts = topics.iter().map(|(name, topic)| (name.clone(), topic.partitions()));
        let counts: BTreeMap<TopicName, u32> = counts.collect();
        if let Some(Seat { group, member: Some(member), .. }) = &self.seat {
            group.membership.lock().subscribe(*member, &counts);
            self.log.inner.changes().notify();
            return;
        }
        // Without a group all partitions are its own.
        self.lanes.retain(|name, _| counts.contains_key(&name.topic));
        let bound = self.settings.isolation_level.bound();
        for topic in topics.values() {
            for partition in 0..topic.partitions() {
                let name = PartitionName { topic: topic.name().clone(), partition };
                let lane = || Lane::new(&self.log, topic, partition, bound, None);
                self.lanes.entry(name).or_insert_with(lane);
            }
        }
    }

    /// Reads these partitions from now on, and nothing else; the group has no say in it. With a group
    /// they begin at its committed offsets.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTopic`](crate::Error::UnknownTopic),
    /// [`Error::UnknownPartition`](crate::Error::UnknownPartition): nothing is changed.
    pub fn assign<T: AsRef<str>>(&mut self, partitions: &[(T, u32)]) -> Result<()> {
        let mut chosen = Vec::with_capacity(partitions.len());
        for (name, partition) in partitions {
            let topic = self.log.topic(name.as_ref())?;
            self.log.offsets(topic.id(), *partition)?;
            chosen.push((topic, *partition));
        }
        self.unsubscribe()?;
        // Must be AFTER the last commit of what it had before.
        let committed = match &self.seat {
            Some(seat) => super::commit::committed_positions(&self.log, &seat.group.id)?,
            None => BTreeMap::new(),
        };
        let bound = self.settings.isolation_level.bound();
        for (topic, partition) in chosen {
            let start = committed.get(&topic.partition(partition)).copied();
            let name = PartitionName { topic: topic.name().clone(), partition };
            self.lanes.insert(name, Lane::new(&self.log, &topic, partition, bound, start));
        }
        self.reads = Reads::Chosen;
        Ok(())
    }

    /// Reads nothing any more, and leaves the group: its partitions go over to the others with its
    /// positions.
    ///
    /// # Errors
    ///
    /// Those of the last commit, if positions are committed without being asked. It has left all the same.
    pub fn unsubscribe(&mut self) -> Result<()> {
        self.settle();
        let outcome = match self.settings.auto_commit() {
            AutoCommit::Every(_) if self.seat.is_some() && !self.lanes.is_empty() => self.commit(),
            _ => Ok(()),
        };
        let positions = self.lanes.iter().map(|(name, lane)| (name.clone(), lane.position()));
        self.leave(&positions.collect());
        self.lanes.clear();
        self.reads = Reads::Nothing;
        outcome
    }

    /// Leaves the group in order: it is done with what it was handed out, so its partitions go over with
    /// its positions.
    ///
    /// # Errors
    ///
    /// As [`unsubscribe`](Self::unsubscribe).
    pub fn close(mut self) -> Result<()> {
        self.unsubscribe()
    }

    fn leave(&mut self, positions: &BTreeMap<PartitionName, Option<Handed>>) {
        if let Some(seat) = &mut self.seat
            && let Some(member) = seat.member.take()
        {
            seat.is_polling = false;
            seat.group.membership.lock().leave(member, positions);
            self.log.inner.changes().notify();
        }
    }

    /// A handle that ends a poll from another thread, to stop a consumer in order.
    #[must_use]
    pub fn wakeup(&self) -> Wakeup {
        Wakeup { log: self.log.clone(), is_woken: Arc::clone(&self.is_woken) }
    }

    /// The partitions that it has.
    #[must_use]
    pub fn assignment(&self) -> Vec<PartitionName> {
        self.lanes.keys().cloned().collect()
    }

    /// What it is called in its group; empty while it is no member.
    #[must_use]
    pub fn member_name(&self) -> &str {
        self.seat.as_ref().map_or("", |seat| &seat.name)
    }

    /// The generation of the group at its last poll.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.seat.as_ref().map_or(0, |seat| seat.generation)
    }

    pub(super) fn lane(&mut self, topic: &str, partition: u32) -> Result<&mut Lane> {
        let assigned = self.lanes.len();
        let is_it =
            |name: &PartitionName| name.topic.as_str() == topic && name.partition == partition;
        let found = self.lanes.iter_mut().find(|(name, _)| is_it(name)).map(|(_, lane)| lane);
        let topic = topic.to_owned();
        found.ok_or_else(|| GroupError::NotAssigned { topic, partition, assigned }.into())
    }
}

/// The topics whose whole names a pattern matches.
pub(super) fn matching(log: &Log, whole: &Regex) -> Result<BTreeMap<TopicName, Topic>> {
    let topics = log.topics()?.into_iter().filter(|topic| whole.is_match(topic.name().as_str()));
    Ok(topics.map(|topic| (topic.name().clone(), topic)).collect())
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.settle();
        // Without a word about what it has done: its positions are not handed over.
        self.leave(&BTreeMap::new());
        if let Some(place) = self.place {
            self.log.inner.changes().forget(place);
        }
    }
}
