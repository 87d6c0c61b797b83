//! A log under a random workload, whose files live in memory: every choice comes from a seed.
//!
//! ```text
//!   seed -> operations: appends (Sync, Interval, Os), transactions that copy `in` to `out`, one that
//!           stays open across others, deletes, clocks that jump, take-overs, closes and starts
//!        -> Model: what was tried and what was acknowledged
//! ```
//!
//! Invariants
//! * The same seed gives the same operations on the same answers.
//! * The model is told of an attempt before it is made, and of its answer after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use core_log::storage::memory::MemoryStorage;
use core_log::{
    BatchBuilder, Broken, Durability, Error, FetchBound, GroupId, Log, LogOptions, ManualClock,
    NO_HEADERS, Offset, OffsetCommit, PartitionReader, Producer, Result, Topic, TopicSettings,
    Transaction, TransactionalProducer,
};

use crate::model::{End, Fate, IDLE, IN, JOB, Model, OUT, PARTITIONS, Seen, Shown, TRIM};
use crate::random::Random;

const DIR: &str = "/data";
const NOW: i64 = 1_700_000_000_000;
const YEAR_MS: i64 = 365 * 24 * 3_600_000;

/// How a log is made and broken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) broken: Option<Broken>,
    /// Bytes that the log keeps for a full disk.
    pub(crate) reserve: u64,
}

impl Setup {
    pub(crate) fn of(seed: u64) -> Self {
        Self { seed, broken: None, reserve: 0 }
    }

    pub(crate) fn open(&self, storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Result<Log> {
        let mut random = Random::new(self.seed ^ 0xface);
        let mut options = LogOptions::new()
            .storage(Arc::new(storage.clone()))
            .clock(Arc::clone(clock) as _)
            .background(false)
            .reserve_bytes(self.reserve)
            .commits_bytes_max(600 + random.below(2_000));
        if let Some(broken) = self.broken {
            options = options.broken(broken);
        }
        options.open(DIR)
    }

    fn settings(&self) -> TopicSettings {
        let mut random = Random::new(self.seed ^ 0xbeef);
        TopicSettings {
            segment_bytes: 1_100 + u32::try_from(random.below(1_500)).expect("it is small"),
            index_interval_bytes: 100,
            retention_ms: None,
            ..TopicSettings::default()
        }
    }
}

/// The writers of one life of a process.
#[derive(Debug)]
struct Writers {
    eager: Producer,
    paced: Producer,
    lazy: Producer,
    job: TransactionalProducer,
    idle: TransactionalProducer,
    slow: TransactionalProducer,
    open: Option<(Transaction, usize)>,
}

/// A log, who writes to it, and what they know.
#[derive(Debug)]
pub(crate) struct World {
    setup: Setup,
    pub(crate) storage: MemoryStorage,
    clock: Arc<ManualClock>,
    pub(crate) log: Log,
    topics: Vec<Topic>,
    writers: Writers,
    random: Random,
    next: u64,
}

fn topics(log: &Log, setup: &Setup) -> Result<Vec<Topic>> {
    let of = |(name, _): &(&str, u32)| {
        let partitions = if *name == "out" { 2 } else { 1 };
        let settings = TopicSettings { partitions, ..setup.settings() };
        log.topic(name).or_else(|_missing| log.create_topic(name, settings))
    };
    PARTITIONS.iter().map(of).collect()
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
        })
    }
}

impl World {
    /// Opens the log and its writers; `life` makes the choices of this process others than before.
    pub(crate) fn start(setup: Setup, storage: &MemoryStorage, life: u64) -> Result<Self> {
        let clock = Arc::new(ManualClock::new(NOW));
        let log = setup.open(storage, &clock)?;
        let topics = topics(&log, &setup)?;
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
        self.topics = topics(&self.log, &self.setup)?;
        Ok(())
    }

    /// One operation.
    pub(crate) fn step(&mut self, model: &mut Model) -> Result<()> {
        match self.random.below(24) {
            0..5 => self.append(0, model),
            5..8 => self.append(1, model),
            8..12 => self.append(2, model),
            12..16 => self.copy(model),
            16..18 => self.commit_idle(model),
            18..20 => self.write_slowly(model),
            20 => self.delete(model),
            21 => self.let_time_pass(),
            22 => self.take_over(),
            _ => self.restart(model),
        }
    }

    fn values(&mut self, most: u64) -> Vec<String> {
        let count = 1 + self.random.below(most);
        (0..count).map(|_| self.value()).collect()
    }

    fn value(&mut self) -> String {
        self.next += 1;
        let width = usize::try_from(self.random.below(90)).expect("it is small");
        format!("{:0width$}", self.next)
    }

    /// Appends with one of the plain producers, and once more when it is not known whether that worked.
    fn append(&mut self, which: usize, model: &mut Model) -> Result<()> {
        let part = usize::try_from(self.random.below(5)).expect("it is small");
        if part == OUT {
            // The copies alone are there, so that they can be told from what the job has read.
            return Ok(());
        }
        let values = self.values(4);
        let mut batch = batch(&values);
        let number = model.tried(part, values, None);
        let (topic, partition) = (self.topics[part].clone(), PARTITIONS[part].1);
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

    fn position(&self, group: &str, part: usize) -> Result<Offset> {
        let committed = self.log.committed(&GroupId::new(group)?)?;
        let id = self.topics[part].partition(PARTITIONS[part].1);
        let own = committed.iter().find(|commit| commit.topic_partition() == id);
        Ok(own.map_or(0, |commit| commit.offset))
    }

    /// Copies what is new in `in` to `out`, with the position up to which it did.
    fn copy(&mut self, model: &mut Model) -> Result<()> {
        let from = self.position(JOB, IN)?;
        let most = usize::try_from(1 + self.random.below(12)).expect("it is small");
        let (originals, position) = read_some(&self.log, &self.topics[IN], from, most)?;
        let transaction = self.writers.job.begin()?;
        let number = model.begin(JOB, true);
        let copies: Vec<String> = originals.iter().map(|v| format!("{v}c{number}")).collect();
        let more = self.values(2);
        let targets = [(OUT, copies), (OUT + 1, more)];
        for (part, values) in targets.into_iter().filter(|(_, values)| !values.is_empty()) {
            send(&transaction, &self.topics, part, values, number, model)?;
        }
        if self.random.once_in(3) {
            let values = self.values(3);
            send(&transaction, &self.topics, TRIM, values, number, model)?;
        }
        match self.random.below(8) {
            0 => {
                model.txns[number].fate = Fate::Aborted;
                return transaction.abort();
            }
            1 => {
                model.txns[number].fate = Fate::Aborted;
                drop(transaction);
                return Ok(());
            }
            _ => {}
        }
        self.commit(transaction, number, IN, position, model)
    }

    fn commit(
        &self,
        transaction: Transaction,
        number: usize,
        part: usize,
        position: Offset,
        model: &mut Model,
    ) -> Result<()> {
        let commit = OffsetCommit {
            group: GroupId::new(model.txns[number].group)?,
            topic: self.topics[part].id(),
            partition: PARTITIONS[part].1,
            offset: position,
            leader_epoch: 0,
            metadata: bytes::Bytes::new(),
        };
        model.txns[number].positions = BTreeMap::from([(part, position)]);
        model.txns[number].fate = Fate::Unknown;
        transaction.commit(&[commit])?;
        model.committed(number);
        Ok(())
    }

    /// A transaction that promises nothing against a power cut.
    fn commit_idle(&mut self, model: &mut Model) -> Result<()> {
        let position = self.log.offsets(self.topics[4].id(), 0)?.high_watermark;
        let transaction = self.writers.idle.begin()?;
        let number = model.begin(IDLE, false);
        for part in [OUT + 1, 4] {
            let values = self.values(2);
            send(&transaction, &self.topics, part, values, number, model)?;
        }
        self.commit(transaction, number, 4, position, model)
    }

    /// A transaction that stays open while others come and go, perhaps for too long.
    fn write_slowly(&mut self, model: &mut Model) -> Result<()> {
        if self.writers.open.is_none() {
            let transaction = match self.writers.slow.begin() {
                Ok(transaction) => transaction,
                Err(Error::ProducerFenced { .. }) => {
                    self.writers.slow =
                        self.log.transactional_producer("slow", Durability::Sync)?;
                    self.writers.slow.begin()?
                }
                Err(error) => return Err(error),
            };
            self.writers.open = Some((transaction, model.begin("slow", true)));
        }
        let (transaction, number) = self.writers.open.take().expect("it was opened");
        let part = [IN, TRIM, 4][usize::try_from(self.random.below(3)).expect("it is small")];
        let values = self.values(3);
        let sent = send(&transaction, &self.topics, part, values, number, model);
        let ended = match sent {
            Ok(()) if self.random.once_in(2) => {
                self.writers.open = Some((transaction, number));
                return Ok(());
            }
            Ok(()) if self.random.once_in(4) => {
                model.txns[number].fate = Fate::Aborted;
                transaction.abort()
            }
            Ok(()) => {
                model.txns[number].fate = Fate::Unknown;
                transaction.commit(&[]).map(|_| model.committed(number))
            }
            Err(error) => Err(error),
        };
        match ended {
            // Its time was up.
            Err(Error::ProducerFenced { .. } | Error::InvalidTxnState { .. }) => {
                model.txns[number].fate = Fate::Aborted;
                Ok(())
            }
            ended => ended,
        }
    }

    fn delete(&mut self, model: &mut Model) -> Result<()> {
        let offsets = self.log.offsets(self.topics[TRIM].id(), 0)?;
        let span = u64::try_from(offsets.high_watermark - offsets.log_start_offset).unwrap_or(0);
        let ahead = Offset::try_from(self.random.below(span + 1)).expect("it is small");
        let before = offsets.log_start_offset + ahead;
        model.deleted_tried = model.deleted_tried.max(before);
        let start = if self.random.once_in(2) {
            self.log.delete_records(self.topics[TRIM].id(), 0, before)?
        } else {
            self.log.purge(self.topics[TRIM].id(), 0, before)?
        };
        model.deleted = model.deleted.max(start);
        Ok(())
    }

    /// Seconds pass, or somebody sets the date a year ahead and back.
    fn let_time_pass(&mut self) -> Result<()> {
        self.clock.advance(Duration::from_secs(self.random.below(40)));
        let jump = match self.random.below(4) {
            0 => YEAR_MS,
            1 => -YEAR_MS,
            _ => 0,
        };
        let now = core_log::Clock::now_ms(self.clock.as_ref());
        self.clock.set(now + jump);
        let outcome = self.log.maintain(now + jump);
        self.clock.set(now);
        outcome?;
        self.log.maintain(now)
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

fn batch(values: &[String]) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    for value in values {
        batch.push(NOW, None, Some(value.as_bytes()), NO_HEADERS).expect("it fits");
    }
    batch
}

fn send(
    transaction: &Transaction,
    topics: &[Topic],
    part: usize,
    values: Vec<String>,
    txn: usize,
    model: &mut Model,
) -> Result<()> {
    let mut batch = batch(&values);
    let number = model.tried(part, values, Some(txn));
    let appended = transaction.append(&topics[part], PARTITIONS[part].1, &mut batch)?;
    model.acknowledged(number, appended.first_offset(), false);
    Ok(())
}

/// At most so many committed records from an offset on, and the offset behind them.
fn read_some(log: &Log, topic: &Topic, from: Offset, most: usize) -> Result<(Vec<String>, Offset)> {
    let mut reader = PartitionReader::new(log.clone(), topic, 0, from, FetchBound::LastStable);
    let mut values = Vec::new();
    while let Some(batch) = reader.next_batch(300)? {
        for record in batch.records() {
            let record = record?;
            if values.len() == most {
                return Ok((values, record.offset));
            }
            values.push(String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned());
        }
    }
    Ok((values, reader.position()))
}

/// Everything that a log shows.
pub(crate) fn look(log: &Log) -> Result<Shown> {
    let mut shown = Shown::default();
    let mut ids = BTreeMap::new();
    for (index, (name, partition)) in PARTITIONS.iter().enumerate() {
        let topic = match log.topic(name) {
            Ok(topic) => topic,
            Err(Error::UnknownTopic { .. }) => {
                shown.parts.push(Seen::default());
                continue;
            }
            Err(error) => return Err(error),
        };
        ids.insert(topic.partition(*partition), index);
        let offsets = log.offsets(topic.id(), *partition)?;
        let (start, end) = (offsets.log_start_offset, offsets.log_end_offset);
        let mut reader =
            PartitionReader::new(log.clone(), &topic, *partition, start, FetchBound::LastStable);
        let mut records = BTreeMap::new();
        while let Some(batch) = reader.next_batch(300)? {
            for record in batch.records() {
                let record = record?;
                let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                records.insert(record.offset, value);
            }
        }
        shown.parts.push(Seen { start, end, records });
    }
    for group in [JOB, IDLE] {
        let committed = log.committed(&GroupId::new(group)?)?;
        let positions = committed.iter().filter_map(|commit| {
            ids.get(&commit.topic_partition()).map(|index| (*index, commit.offset))
        });
        shown.positions.insert(group, positions.collect());
    }
    Ok(shown)
}

/// Opens what an end left, compares it with the model, and takes it for a fact.
pub(crate) fn settle(
    setup: Setup,
    storage: &MemoryStorage,
    model: &mut Model,
    end: End,
) -> std::result::Result<(), String> {
    let clock = Arc::new(ManualClock::new(NOW));
    let log = setup.open(storage, &clock).map_err(|e| format!("it does not open: {e}"))?;
    let report = log.recovery();
    if report.commits_damage.is_some() || report.partitions.iter().any(|p| p.damage.is_some()) {
        return Err(format!("this end was taken for damage:\n{report}"));
    }
    for topic in log.topics().map_err(|e| e.to_string())? {
        for partition in 0..topic.partitions() {
            let offsets = log.offsets(topic.id(), partition).map_err(|e| e.to_string())?;
            if offsets.last_stable_offset != offsets.log_end_offset {
                return Err(format!("{}-{partition}: a transaction is open", topic.name()));
            }
        }
    }
    let shown = look(&log).map_err(|e| format!("it cannot be read: {e}"))?;
    model.settle(&shown, end)
}
