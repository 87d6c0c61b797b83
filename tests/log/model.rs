//! Random calls against a model that is a list of records per partition.
//!
//! Why: appends, transactions, aborts, deletions and starts interact in more ways than anybody lists;
//! the model is short enough to be believed.
//!
//! ```text
//!   a record is   plain or of transaction t;   t is   open -> committed | aborted
//!   read committed: up to the first record of an open transaction, without the aborted ones
//!   read uncommitted: up to the high watermark, without those whose abort is known
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use core_log::storage::memory::{Keep, MemoryStorage};
use core_log::{
    Appended, Durability, FetchBound, GroupId, Log, LogOptions, Offset, OffsetCommit, Producer,
    Topic, TopicSettings, Transaction, TransactionalProducer,
};

use crate::support::{NOW_MS, Random, batch_at, open_in_memory, open_on_disk, read_from};

const PARTITIONS: u32 = 3;
const WRITERS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Committed,
    Aborted,
}

/// One partition: by offset, the value and the number of its transaction; markers have no entry.
#[derive(Clone, Debug, Default)]
struct ModelPartition {
    records: BTreeMap<Offset, (String, Option<usize>)>,
    start: Offset,
}

#[derive(Debug, Default)]
struct Model {
    partitions: Vec<ModelPartition>,
    fates: Vec<Fate>,
    positions: BTreeMap<u32, Offset>,
    next_value: u64,
}

impl Model {
    fn fate(&self, transaction: Option<usize>) -> Fate {
        transaction.map_or(Fate::Committed, |t| self.fates[t])
    }

    /// What a reader sees from `from` on.
    fn visible(&self, partition: u32, from: Offset, bound: FetchBound) -> Vec<(Offset, String)> {
        let partition = &self.partitions[partition as usize];
        let is_open = |(_, of): &&(String, Option<usize>)| self.fate(*of) == Fate::Open;
        let mut open = partition.records.iter().filter(|(_, record)| is_open(record));
        let end = match bound {
            FetchBound::LastStable => open.next().map_or(Offset::MAX, |(offset, _)| *offset),
            FetchBound::HighWatermark | FetchBound::LogEnd => Offset::MAX,
        };
        let wanted = partition.records.range(from.max(partition.start)..);
        wanted
            .filter(|(offset, (_, of))| **offset < end && self.fate(*of) != Fate::Aborted)
            .map(|(offset, (value, _))| (*offset, value.clone()))
            .collect()
    }

    fn is_stable(&self, partition: u32) -> bool {
        let records = &self.partitions[partition as usize].records;
        records.values().all(|(_, transaction)| self.fate(*transaction) != Fate::Open)
    }
}

/// Something that can be opened again.
trait Home {
    fn open(&mut self) -> Log;
    /// Ends the process that has the log open.
    fn kill(&mut self);
}

struct InMemory(MemoryStorage);

impl Home for InMemory {
    fn open(&mut self) -> Log {
        open_in_memory(&self.0).0
    }

    fn kill(&mut self) {
        // Everything is durable before: the model knows nothing of what may be lost.
        self.0 = self.0.crash_image(Keep::None);
    }
}

struct OnDisk<'a>(&'a Path);

impl Home for OnDisk<'_> {
    fn open(&mut self) -> Log {
        open_on_disk(self.0)
    }

    fn kill(&mut self) {}
}

/// An open log and who writes to it.
struct Life {
    log: Log,
    plain: Producer,
    writers: Vec<TransactionalProducer>,
    running: Vec<Option<(Transaction, usize)>>,
}

impl Life {
    fn new(log: Log) -> Self {
        let writer = |n| log.transactional_producer(&format!("writer-{n}"), Durability::Sync);
        Self {
            plain: log.producer(Durability::Sync).unwrap(),
            writers: (0..WRITERS).map(|n| writer(n).unwrap()).collect(),
            running: (0..WRITERS).map(|_| None).collect(),
            log,
        }
    }
}

struct Run<'a> {
    home: &'a mut dyn Home,
    random: Random,
    model: Model,
    topic: Topic,
    life: Option<Life>,
    counts: BTreeMap<&'static str, usize>,
}

impl<'a> Run<'a> {
    fn new(home: &'a mut dyn Home, seed: u64) -> Self {
        let log = home.open();
        let settings = TopicSettings {
            partitions: PARTITIONS,
            segment_bytes: 900,
            index_interval_bytes: 200,
            timestamp_after_max_ms: i64::MAX,
            retention_ms: None,
            ..TopicSettings::default()
        };
        let topic = log.create_topic("t", settings).unwrap();
        let partitions = vec![ModelPartition::default(); PARTITIONS as usize];
        Self {
            home,
            random: Random::new(seed),
            model: Model { partitions, ..Model::default() },
            topic,
            life: Some(Life::new(log)),
            counts: BTreeMap::new(),
        }
    }

    fn life(&mut self) -> &mut Life {
        self.life.as_mut().unwrap()
    }

    fn log(&self) -> &Log {
        &self.life.as_ref().unwrap().log
    }

    fn step(&mut self) {
        let name = match self.random.below(100) {
            0..25 => self.append_plain(),
            25..55 => self.append_in_transaction(),
            55..67 => self.commit(),
            67..75 => self.abort(),
            75..93 => self.read(),
            93..96 => self.delete_records(),
            96..98 => self.start_again(true),
            _ => self.start_again(false),
        };
        *self.counts.entry(name).or_default() += 1;
    }

    fn values(&mut self) -> Vec<String> {
        let count = 1 + self.random.below(3);
        let values = (0..count).map(|n| format!("value-{}", self.model.next_value + n)).collect();
        self.model.next_value += count;
        values
    }

    fn partition(&mut self) -> u32 {
        u32::try_from(self.random.below(PARTITIONS.into())).unwrap()
    }

    fn remember(&mut self, partition: u32, at: Appended, values: Vec<String>, of: Option<usize>) {
        assert!(matches!(at, Appended::At { .. }), "{at:?}");
        let records = &mut self.model.partitions[partition as usize].records;
        let behind = records.last_key_value().map_or(0, |(last, _)| last + 1);
        assert!(at.first_offset() >= behind, "offsets ascend");
        records.extend((at.first_offset()..).zip(values.into_iter().map(|value| (value, of))));
    }

    fn append_plain(&mut self) -> &'static str {
        let (partition, values) = (self.partition(), self.values());
        let texts: Vec<&str> = values.iter().map(String::as_str).collect();
        let mut batch = batch_at(NOW_MS, &texts);
        let topic = self.topic.clone();
        let at = self.life().plain.append(&topic, partition, &mut batch).unwrap();
        self.remember(partition, at, values, None);
        "append"
    }

    fn writer(&mut self) -> usize {
        usize::try_from(self.random.below(WRITERS as u64)).unwrap()
    }

    fn append_in_transaction(&mut self) -> &'static str {
        let (writer, partition, values) = (self.writer(), self.partition(), self.values());
        if self.life().running[writer].is_none() {
            self.model.fates.push(Fate::Open);
            let number = self.model.fates.len() - 1;
            let life = self.life();
            life.running[writer] = Some((life.writers[writer].begin().unwrap(), number));
        }
        let life = self.life.as_ref().unwrap();
        let (transaction, number) = life.running[writer].as_ref().unwrap();
        let number = *number;
        let texts: Vec<&str> = values.iter().map(String::as_str).collect();
        let at = transaction.append(&self.topic, partition, &mut batch_at(NOW_MS, &texts)).unwrap();
        self.remember(partition, at, values, Some(number));
        "append in a transaction"
    }

    fn commit(&mut self) -> &'static str {
        let writer = self.writer();
        let Some((transaction, number)) = self.life().running[writer].take() else {
            return "nothing";
        };
        let partition = self.partition();
        let offset = self.log().offsets(self.topic.id(), partition).unwrap().last_stable_offset;
        let position = OffsetCommit {
            group: GroupId::new("g").unwrap(),
            topic: self.topic.id(),
            partition,
            offset,
            leader_epoch: -1,
            metadata: bytes::Bytes::new(),
        };
        transaction.commit(&[position]).unwrap();
        self.model.fates[number] = Fate::Committed;
        self.model.positions.insert(partition, offset);
        "commit"
    }

    fn abort(&mut self) -> &'static str {
        let writer = self.writer();
        let Some((transaction, number)) = self.life().running[writer].take() else {
            return "nothing";
        };
        if self.random.below(2) == 0 {
            transaction.abort().unwrap();
        } else {
            drop(transaction);
        }
        self.model.fates[number] = Fate::Aborted;
        "abort"
    }

    fn read(&mut self) -> &'static str {
        let partition = self.partition();
        let end = self.log().offsets(self.topic.id(), partition).unwrap().log_end_offset;
        let start = self.model.partitions[partition as usize].start;
        let span = u64::try_from(end - start + 1).unwrap();
        let from = start + i64::try_from(self.random.below(span)).unwrap();
        self.compare(partition, from);
        "read"
    }

    fn compare(&self, partition: u32, from: Offset) {
        for bound in [FetchBound::LastStable, FetchBound::LogEnd] {
            let found = read_from(self.log().clone(), &self.topic, partition, from, bound);
            let expected = self.model.visible(partition, from, bound);
            assert_eq!(found, expected, "partition {partition} from {from}, {bound:?}");
        }
    }

    fn delete_records(&mut self) -> &'static str {
        let partition = self.partition();
        let offsets = self.log().offsets(self.topic.id(), partition).unwrap();
        let span =
            u64::try_from(offsets.last_stable_offset - offsets.log_start_offset + 1).unwrap();
        let before = offsets.log_start_offset + i64::try_from(self.random.below(span)).unwrap();
        let start = self.log().delete_records(self.topic.id(), partition, before).unwrap();
        assert_eq!(start, before);
        self.model.partitions[partition as usize].start = start;
        "delete records"
    }

    /// Closes the log, or leaves it as a killed process does.
    fn start_again(&mut self, in_order: bool) -> &'static str {
        if in_order {
            self.log().close().unwrap();
        } else {
            self.home.kill();
        }
        self.life = None;
        for fate in self.model.fates.iter_mut().filter(|fate| **fate == Fate::Open) {
            *fate = Fate::Aborted;
        }
        let log = self.home.open();
        assert_eq!(log.recovery().was_closed, in_order);
        self.topic = log.topic("t").unwrap();
        for (number, partition) in (0..).zip(&mut self.model.partitions) {
            let end = log.offsets(self.topic.id(), number).unwrap().log_end_offset;
            for (_, transaction) in partition.records.split_off(&end).values() {
                let fate = transaction.map(|t| self.model.fates[t]);
                assert_eq!(fate, Some(Fate::Aborted), "a record that counts is gone");
            }
        }
        self.life = Some(Life::new(log));
        self.check_all();
        "start"
    }

    fn check_all(&self) {
        for partition in 0..PARTITIONS {
            self.compare(partition, self.model.partitions[partition as usize].start);
            let offsets = self.log().offsets(self.topic.id(), partition).unwrap();
            assert_eq!(offsets.log_start_offset, self.model.partitions[partition as usize].start);
            if self.model.is_stable(partition) {
                assert_eq!(offsets.last_stable_offset, offsets.log_end_offset);
            }
        }
        let positions = self.log().committed(&GroupId::new("g").unwrap()).unwrap();
        let positions: BTreeMap<_, _> =
            positions.into_iter().map(|commit| (commit.partition, commit.offset)).collect();
        assert_eq!(positions, self.model.positions);
    }
}

fn run(home: &mut dyn Home, seed: u64, steps: usize) -> BTreeMap<&'static str, usize> {
    let mut run = Run::new(home, seed);
    for _ in 0..steps {
        run.step();
    }
    run.check_all();
    run.counts
}

#[test]
fn random_calls_in_memory_agree_with_the_model() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..60 {
        for (name, count) in run(&mut InMemory(MemoryStorage::new(seed)), seed, 400) {
            *counts.entry(name).or_default() += count;
        }
    }
    assert!(counts.len() == 8 && counts.values().all(|count| *count > 100), "{counts:?}");
}

#[test]
fn random_calls_on_disk_agree_with_the_model() {
    for seed in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        run(&mut OnDisk(dir.path()), seed, 150);
    }
}

/// A red witness: the model must notice a log that loses markers.
#[test]
fn the_model_notices_a_log_that_loses_markers() {
    struct Broken(MemoryStorage);
    impl Home for Broken {
        fn open(&mut self) -> Log {
            let options = LogOptions::new().storage(Arc::new(self.0.clone())).background(false);
            options.broken(core_log::Broken::LoseMarker).open("/data").unwrap()
        }

        fn kill(&mut self) {
            self.0 = self.0.crash_image(Keep::None);
        }
    }
    let lost = || run(&mut Broken(MemoryStorage::new(1)), 1, 400);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(lost)).is_err());
}
