//! A log under a random workload, whose files live in memory: every choice comes from a seed.
//!
//! ```text
//!   seed -> operations: appends (Sync, Interval, Os), transactions, closes and starts, clocks that jump, and
//!           Mix::Copying  transactions that copy `in` to `out`, deletes, take-overs      copying.rs
//!           Mix::Upkeep   a compacted topic and one that keeps little, a group that      upkeep.rs
//!                         reads, single records in batches, maintenance
//!        -> Model: what was tried and what was acknowledged
//! ```
//!
//! Invariants
//! * The same seed gives the same operations on the same answers.
//! * The model is told of an attempt before it is made, and of its answer after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use core_log::storage::Storage;
use core_log::storage::careless::{CarelessStorage, Neglect};
use core_log::storage::memory::MemoryStorage;
use core_log::{
    BatchBuilder, BatchingProducer, Broken, Cleanup, CleanupPolicy, Clock, Consumer, Durability,
    Error, Headers, Log, LogOptions, ManualClock, Offset, Producer, Ratio, Result, Topic,
    TopicSettings, Transaction, TransactionalProducer,
};

use crate::model::{
    Fate, IN, KEYED, KEYED_RETENTION_MS, Model, OLD, OLD_RETENTION_BYTES, OLD_RETENTION_MS, OUT,
    PARTITIONS, TRIM,
};
use crate::random::Random;

const DIR: &str = "/data";
pub(crate) const NOW: i64 = 1_700_000_000_000;
const YEAR_MS: i64 = 365 * 24 * 3_600_000;

/// What a workload is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mix {
    Copying,
    Upkeep,
}

impl Mix {
    fn has(self, part: usize) -> bool {
        match self {
            Self::Copying => part != KEYED && part != OLD,
            Self::Upkeep => part == IN || part == KEYED || part == OLD,
        }
    }
}

/// How a log is made and broken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) mix: Mix,
    pub(crate) broken: Option<Broken>,
    pub(crate) neglect: Option<Neglect>,
    /// Bytes that the log keeps for a full disk.
    pub(crate) reserve: u64,
}

impl Setup {
    pub(crate) fn of(seed: u64) -> Self {
        let mix = if seed.is_multiple_of(2) { Mix::Upkeep } else { Mix::Copying };
        Self { seed, mix, broken: None, neglect: None, reserve: 0 }
    }

    pub(crate) fn open(&self, storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Result<Log> {
        let mut random = Random::new(self.seed ^ 0xface);
        let inner = storage.clone();
        let storage: Arc<dyn Storage> = match self.neglect {
            Some(neglect) => Arc::new(CarelessStorage { inner, neglect }),
            None => Arc::new(inner),
        };
        let mut options = LogOptions::new()
            .storage(storage)
            .clock(Arc::clone(clock) as _)
            .background(false)
            .reserve_bytes(self.reserve)
            .commits_bytes_max(600 + random.below(2_000));
        if let Some(broken) = self.broken {
            options = options.broken(broken);
        }
        options.open(DIR)
    }

    fn settings(&self, part: usize) -> TopicSettings {
        let mut random = Random::new(self.seed ^ 0xbeef);
        let mut size = |least, span| least + u32::try_from(random.below(span)).expect("small");
        let settings = TopicSettings {
            partitions: if PARTITIONS[part].0 == "out" { 2 } else { 1 },
            segment_bytes: size(1_100, 1_500),
            index_interval_bytes: 100,
            retention_ms: None,
            ..TopicSettings::default()
        };
        let small = TopicSettings { segment_bytes: size(500, 400), ..settings.clone() };
        match part {
            KEYED => TopicSettings {
                cleanup: Cleanup {
                    delete_retention_ms: KEYED_RETENTION_MS,
                    min_dirty_ratio: Ratio::percent(0),
                    file_delete_delay_ms: 10_000,
                    ..Cleanup::with_policy(CleanupPolicy::Compact)
                },
                ..small
            },
            OLD => TopicSettings {
                retention_ms: Some(OLD_RETENTION_MS),
                retention_bytes: Some(OLD_RETENTION_BYTES as u64),
                ..small
            },
            _ => settings,
        }
    }

    /// The topics of the workload, by the index of their partition.
    fn topics(&self, log: &Log) -> Result<BTreeMap<usize, Topic>> {
        let of = |part: usize| {
            let name = PARTITIONS[part].0;
            let topic = log.topic(name);
            let topic = topic.or_else(|_missing| log.create_topic(name, self.settings(part)))?;
            Ok((part, topic))
        };
        (0..PARTITIONS.len()).filter(|part| self.mix.has(*part)).map(of).collect()
    }
}

/// The writers of one life of a process, and its reader.
#[derive(Debug)]
pub(crate) struct Writers {
    eager: Producer,
    paced: Producer,
    lazy: Producer,
    pub(crate) job: TransactionalProducer,
    pub(crate) idle: TransactionalProducer,
    pub(crate) slow: TransactionalProducer,
    pub(crate) open: Option<(Transaction, usize)>,
    pub(crate) sender: Option<BatchingProducer>,
    pub(crate) reader: Option<Consumer>,
}

/// A log, who writes to it, and what they know.
#[derive(Debug)]
pub(crate) struct World {
    setup: Setup,
    storage: MemoryStorage,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) log: Log,
    pub(crate) topics: BTreeMap<usize, Topic>,
    pub(crate) writers: Writers,
    pub(crate) random: Random,
    next: u64,
}

impl Writers {
    fn new(log: &Log) -> Result<Self> {
        Ok(Self {
            eager: log.producer(Durability::Sync)?,
            paced: log.producer(Durability::Interval(Duration::from_secs(5)))?,
            lazy: log.producer(Durability::Os)?,
            job: log.transactional_producer("job", Durability::Sync)?,
            idle: log.transactional_producer("idle", Durability::Os)?,
            slow: log.transactional_producer("slow", Durability::Sync)?,
            open: None,
            sender: None,
            reader: None,
        })
    }
}

impl World {
    /// Opens the log and its writers; `life` makes the choices of this process others than before.
    pub(crate) fn start(setup: Setup, storage: &MemoryStorage, life: u64) -> Result<Self> {
        let clock = Arc::new(ManualClock::new(NOW));
        let log = setup.open(storage, &clock)?;
        let topics = setup.topics(&log)?;
        let writers = Writers::new(&log)?;
        let random = Random::new(setup.seed.wrapping_mul(31).wrapping_add(life));
        let next = life * 1_000_000;
        Ok(Self { setup, storage: storage.clone(), clock, log, topics, writers, random, next })
    }

    /// Fresh writers after an error of the old ones. What they had open is aborted.
    pub(crate) fn replace_writers(&mut self, model: &mut Model) -> Result<()> {
        if let Some((transaction, number)) = self.writers.open.take() {
            drop(transaction);
            model.txns[number].fate = Fate::Aborted;
        }
        if matches!(self.log.topics(), Err(Error::Closed)) {
            self.log = self.setup.open(&self.storage, &self.clock)?;
        }
        self.writers = Writers::new(&self.log)?;
        self.topics = self.setup.topics(&self.log)?;
        Ok(())
    }

    /// One operation.
    pub(crate) fn step(&mut self, model: &mut Model) -> Result<()> {
        model.now = self.clock.now_ms();
        match self.setup.mix {
            Mix::Copying => self.step_copying(model),
            Mix::Upkeep => self.step_upkeep(model),
        }
    }

    fn step_copying(&mut self, model: &mut Model) -> Result<()> {
        match self.random.below(24) {
            0..5 => self.append(0, model),
            5..8 => self.append(1, model),
            8..12 => self.append(2, model),
            12..16 => self.copy(model),
            16..18 => self.commit_idle(OUT + 1, 4, model),
            18..20 => self.write_slowly([IN, TRIM, 4], model),
            20 => self.delete(TRIM, model),
            21 => self.let_time_pass(2, model),
            22 => self.take_over(),
            _ => self.restart(model),
        }
    }

    fn step_upkeep(&mut self, model: &mut Model) -> Result<()> {
        match self.random.below(24) {
            0..3 => self.append_often(0, model),
            3..5 => self.append_often(1, model),
            5..8 => self.append_often(2, model),
            8..11 => self.send_singly(model),
            11..14 => self.read(model),
            14..16 => self.commit_idle(KEYED, IN, model),
            16..18 => self.write_slowly([IN, KEYED, OLD], model),
            18 => self.hold(model),
            19..22 => self.let_time_pass(12, model),
            22 => {
                let part = [OLD, KEYED][self.choice(2)];
                self.delete(part, model)
            }
            _ => self.restart(model),
        }
    }

    /// An index below `end`.
    pub(crate) fn choice(&mut self, end: u64) -> usize {
        usize::try_from(self.random.below(end)).expect("it is small")
    }

    pub(crate) fn values(&mut self, part: usize, most: u64) -> Vec<String> {
        let count = 1 + self.random.below(most);
        (0..count).map(|_| self.value(part)).collect()
    }

    /// What tells a record from all others; where there are keys, its key and whether it has a value too.
    pub(crate) fn value(&mut self, part: usize) -> String {
        self.next += 1;
        let width = self.choice(90);
        let number = format!("{:0width$}", self.next);
        if part != KEYED {
            return number;
        }
        let key = self.random.below(4);
        let kind = if self.random.once_in(4) { '-' } else { '=' };
        format!("k{key}{kind}{number}")
    }

    /// Appends with one of the plain producers, and once more when it is not known whether that worked.
    fn append(&mut self, which: usize, model: &mut Model) -> Result<()> {
        let part = self.choice(5);
        if part == OUT {
            // The copies alone are there, so that they can be told from what the job has read.
            return Ok(());
        }
        self.append_to(part, which, model)
    }

    fn append_often(&mut self, which: usize, model: &mut Model) -> Result<()> {
        for _ in 0..=self.random.below(4) {
            let part = [KEYED, KEYED, KEYED, OLD, IN][self.choice(5)];
            self.append_to(part, which, model)?;
        }
        Ok(())
    }

    fn append_to(&mut self, part: usize, which: usize, model: &mut Model) -> Result<()> {
        let most = if self.setup.mix == Mix::Upkeep { 3 } else { 4 };
        let values = self.values(part, most);
        let mut batch = batch(part, &values, model.now);
        let number = model.tried(part, values, None);
        let (topic, partition) = (self.topics[&part].clone(), PARTITIONS[part].1);
        let writer = match which {
            0 => &mut self.writers.eager,
            1 => &mut self.writers.paced,
            _ => &mut self.writers.lazy,
        };
        let appended = writer.append(&topic, partition, &mut batch);
        let appended = appended.or_else(|_first| writer.append(&topic, partition, &mut batch))?;
        model.acknowledged(number, appended.first_offset(), which == 0);
        Ok(())
    }

    fn delete(&mut self, part: usize, model: &mut Model) -> Result<()> {
        let topic = self.topics[&part].id();
        let offsets = self.log.offsets(topic, 0)?;
        let span = u64::try_from(offsets.high_watermark - offsets.log_start_offset).unwrap_or(0);
        let ahead = Offset::try_from(self.random.below(span + 1)).expect("it is small");
        let before = offsets.log_start_offset + ahead;
        model.deleted_tried[part] = model.deleted_tried[part].max(before);
        let start = if self.random.once_in(2) {
            self.log.delete_records(topic, 0, before)?
        } else {
            self.log.purge(topic, 0, before)?
        };
        model.deleted[part] = model.deleted[part].max(start);
        Ok(())
    }

    /// Seconds pass, or, `2` times in so many, somebody sets the date a year ahead, or back, and then right.
    fn let_time_pass(&mut self, jumps_in: u64, model: &mut Model) -> Result<()> {
        self.clock.advance(Duration::from_secs(self.random.below(40)));
        let jump = match self.random.below(2 * jumps_in) {
            0 => YEAR_MS,
            1 => -YEAR_MS,
            _ => 0,
        };
        let now = self.clock.now_ms();
        model.now = now;
        self.clock.set(now + jump);
        let outcome = self.maintain(now + jump, model);
        self.clock.set(now);
        outcome?;
        self.maintain(now, model)
    }

    /// Another process's writer of the same name.
    fn take_over(&mut self) -> Result<()> {
        self.writers.job = self.log.transactional_producer("job", Durability::Sync)?;
        Ok(())
    }

    /// The log is closed and opened again, in order.
    fn restart(&mut self, model: &mut Model) -> Result<()> {
        if !self.random.once_in(3) {
            return Ok(());
        }
        if let Some((transaction, number)) = self.writers.open.take() {
            model.txns[number].fate = Fate::Aborted;
            drop(transaction);
        }
        self.log.close()?;
        self.log = self.setup.open(&self.storage, &self.clock)?;
        self.writers = Writers::new(&self.log)?;
        Ok(())
    }
}

/// Records of these values.
pub(crate) fn batch(part: usize, values: &[String], now: i64) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    for text in values {
        let bytes = text.as_bytes();
        let (key, value) = key_and_value(part, bytes);
        let id = [("id", Some(bytes))];
        let headers = if value.is_none() { &id[..] } else { &[] };
        batch.push(now, key, value, headers).expect("it fits");
    }
    batch
}

/// A tombstone has no value: who it is says its header.
pub(crate) fn key_and_value(part: usize, text: &[u8]) -> (Option<&[u8]>, Option<&[u8]>) {
    let key = text.get(..2).filter(|_| part == KEYED);
    let is_tombstone = key.is_some() && text.get(2) == Some(&b'-');
    (key, (!is_tombstone).then_some(text))
}

/// What was written, by a record's value and headers.
pub(crate) fn text_of(value: Option<&[u8]>, headers: Headers<'_>) -> String {
    let id = headers.iter().find_map(|(_, value)| value);
    String::from_utf8_lossy(value.or(id).unwrap_or_default()).into_owned()
}
