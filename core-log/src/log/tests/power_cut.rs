//! The plug is pulled after every mutating operation of a workload, and again during recovery.
//!
//! The workload writes to several topics with producers that promise `Sync` and `Os`, runs
//! transactions with consumed offsets, aborts some, rolls small segments, purges, and lets snapshots
//! replace `__commits`. The checker knows what was acknowledged, and nothing of how the log works.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{DIR, batch, position};
use crate::OffsetCommit;
use crate::clock::ManualClock;
use crate::commit::Broken;
use crate::config::{Durability, TopicSettings};
use crate::consumer::PartitionReader;
use crate::error::Result;
use crate::ids::{GroupId, Offset, ProducerId};
use crate::log::Log;
use crate::owner::LogOptions;
use crate::partition::FetchBound;
use crate::producer::{Producer, TransactionalProducer};
use crate::storage::Storage;
use crate::storage::memory::{Keep, MemoryStorage};
use crate::topic::Topic;

/// Reads of a partition, by offset.
pub(super) type Values = BTreeMap<Offset, String>;

/// What the writers were told.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// Acknowledged with `Sync`: topic, partition, offset, value.
    synced: Vec<(&'static str, u32, Offset, String)>,
    /// The same, without the promise: a killed process keeps it, a power cut need not.
    unsynced: Vec<(&'static str, u32, Offset, String)>,
    /// What group `idle` has committed without sync, in the order of its commits.
    idle_positions: Vec<Offset>,
    /// The same with the record of each, and those whose commit was tried.
    pub(super) idle_tried: Vec<(String, Offset)>,
    /// Producer ids that were handed out.
    pub(super) producer_ids: Vec<ProducerId>,
    /// Transactions of the job in the order of their commits.
    transactions: Vec<Attempt>,
    aborted: Vec<String>,
    /// What the job read below the offsets that it committed, from `in`-0.
    consumed: Values,
}

/// A `Sync` commit that was tried.
#[derive(Clone, Debug)]
struct Attempt {
    values: Vec<(&'static str, u32, String)>,
    /// Committed positions: in `in`-0 and `rep`-0.
    positions: [Offset; 2],
    acknowledged: bool,
}

pub(super) fn open(storage: &MemoryStorage, broken: Option<Broken>) -> Result<Log> {
    let mut options = LogOptions::new()
        .storage(Arc::new(storage.clone()))
        .clock(Arc::new(ManualClock::new(1_000_000)))
        .background(false)
        .commits_bytes_max(1_200);
    if let Some(broken) = broken {
        options = options.broken(broken);
    }
    options.open(DIR)
}

pub(super) struct Workload {
    pub(super) log: Log,
    input: Topic,
    rep: Topic,
    out: Topic,
    eager: Producer,
    lazy: Producer,
    job: TransactionalProducer,
    idle: TransactionalProducer,
}

impl Workload {
    pub(super) fn start(storage: &MemoryStorage, broken: Option<Broken>) -> Result<Self> {
        Self::on(open(storage, broken)?)
    }

    /// Topics that are missing are made; the writers are fresh ones.
    pub(super) fn on(log: Log) -> Result<Self> {
        let topic = |name: &str, partitions| {
            let settings =
                TopicSettings { partitions, segment_bytes: 500, ..TopicSettings::default() };
            log.topic(name).or_else(|_missing| log.create_topic(name, settings))
        };
        Ok(Self {
            input: topic("in", 2)?,
            rep: topic("rep", 1)?,
            out: topic("out", 2)?,
            eager: log.producer(Durability::Sync)?,
            lazy: log.producer(Durability::Os)?,
            job: log.transactional_producer("job", Durability::Sync)?,
            idle: log.transactional_producer("idle", Durability::Os)?,
            log,
        })
    }

    pub(super) fn producer_ids(&mut self) -> Vec<ProducerId> {
        let begun = |producer: &mut TransactionalProducer| {
            producer.begin().map_or(ProducerId::NONE, |transaction| transaction.producer_id())
        };
        let transactional = [&mut self.job, &mut self.idle].map(begun);
        [self.eager.producer_id(), self.lazy.producer_id()]
            .into_iter()
            .chain(transactional)
            .collect()
    }

    pub(super) fn round(&mut self, n: usize, model: &mut Model) -> Result<()> {
        let values = [format!("lazy-{n}a"), format!("lazy-{n}b")];
        let appended = self.lazy.append(&self.input, 0, &mut batch(&[&values[0], &values[1]]))?;
        for (at, value) in (appended.first_offset()..).zip(values) {
            model.unsynced.push(("in", 0, at, value));
        }
        if n.is_multiple_of(3) {
            let value = format!("eager-{n}");
            let at = self.eager.append(&self.input, 1, &mut batch(&[&value]))?.first_offset();
            model.synced.push(("in", 1, at, value));
        }
        if n % 4 == 1 {
            let values =
                [format!("abort-{n}-out"), format!("abort-{n}-rep"), format!("abort-{n}-in")];
            let transaction = self.job.begin()?;
            model.aborted.extend(values.iter().cloned());
            transaction.append(&self.out, 0, &mut batch(&[&values[0]]))?;
            transaction.append(&self.rep, 0, &mut batch(&[&values[1]]))?;
            transaction.append(&self.input, 0, &mut batch(&[&values[2]]))?;
            transaction.abort()?;
        }
        self.commit_round(n, model)?;
        if n % 3 == 2 {
            let transaction = self.idle.begin()?;
            let value = format!("idle-{n}");
            let at = transaction.append(&self.out, 1, &mut batch(&[&value]))?.first_offset();
            let end = self.log.offsets(self.input.id(), 1)?.log_end_offset;
            let group = GroupId::new("idle")?;
            let read = OffsetCommit { group, partition: 1, ..position(&self.input, end) };
            model.idle_tried.push((value.clone(), end));
            transaction.commit(&[read])?;
            model.unsynced.push(("out", 1, at, value));
            model.idle_positions.push(end);
        }
        Ok(())
    }

    fn commit_round(&mut self, n: usize, model: &mut Model) -> Result<()> {
        let transaction = self.job.begin()?;
        let positions =
            [&self.input, &self.rep].map(|t| self.log.offsets(t.id(), 0).map(|o| o.log_end_offset));
        let [from_input, from_rep] = positions;
        let positions = [from_input?, from_rep?];
        model.consumed.extend(read(&self.log, &self.input, 0)?.0);
        let partitions: &[(&'static str, u32)] = if n.is_multiple_of(2) {
            &[("out", 0), ("out", 1), ("rep", 0)]
        } else {
            &[("out", 1), ("rep", 0)]
        };
        let mut attempt = Attempt { values: Vec::new(), positions, acknowledged: false };
        for (topic, partition) in partitions {
            let value = format!("job-{n}-{topic}-{partition}");
            let topic_of = if *topic == "out" { &self.out } else { &self.rep };
            transaction.append(topic_of, *partition, &mut batch(&[&value]))?;
            attempt.values.push((topic, *partition, value));
        }
        let offsets = [position(&self.input, positions[0]), position(&self.rep, positions[1])];
        model.transactions.push(attempt);
        transaction.commit(&offsets)?;
        model.transactions.last_mut().expect("it was pushed").acknowledged = true;
        self.log.purge(self.rep.id(), 0, positions[1])?;
        Ok(())
    }
}

pub(super) const ROUNDS: usize = 9;

/// Runs the workload until the power goes, or to its end.
fn run(storage: &MemoryStorage, broken: Option<Broken>) -> Model {
    let mut model = Model::default();
    let Ok(mut workload) = Workload::start(storage, broken) else { return model };
    model.producer_ids = workload.producer_ids();
    for n in 0..ROUNDS {
        if workload.round(n, &mut model).is_err() {
            break;
        }
    }
    // Neither closed nor dropped in order: the machine is off.
    storage.stop_after(0);
    model
}

/// What a reader of committed records sees, and the log start.
pub(super) fn read(log: &Log, topic: &Topic, partition: u32) -> Result<(Values, Offset)> {
    let start = log.offsets(topic.id(), partition)?.log_start_offset;
    let mut reader =
        PartitionReader::new(log.clone(), topic, partition, start, FetchBound::LastStable);
    let mut values = Values::new();
    while let Some(batch) = reader.next_batch(300)? {
        for record in batch.records() {
            let record = record?;
            let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
            values.insert(record.offset, value);
        }
    }
    Ok((values, start))
}

/// Everything that must hold after a start, whatever was lost.
pub(super) fn check(
    storage: &MemoryStorage,
    broken: Option<Broken>,
    model: &Model,
) -> Result<(), String> {
    let log = open(storage, broken).map_err(|error| format!("it does not open: {error}"))?;
    let report = log.recovery();
    if report.commits_damage.is_some() || report.partitions.iter().any(|p| p.damage.is_some()) {
        return Err(format!("a power cut was taken for damage:\n{report}"));
    }
    let mut seen = BTreeMap::new();
    for topic in log.topics().map_err(|e| e.to_string())? {
        for partition in 0..topic.partitions() {
            let offsets = log.offsets(topic.id(), partition).map_err(|e| e.to_string())?;
            if offsets.last_stable_offset != offsets.log_end_offset {
                return Err(format!("{}-{partition}: a transaction is open", topic.name()));
            }
            let values = read(&log, &topic, partition).map_err(|e| e.to_string())?;
            seen.insert((topic.name().to_string(), partition), values);
        }
    }
    check_records(&seen, model)?;
    check_transactions(&log, &seen, model)?;
    check_idle(&log, model)?;
    check_goes_on(&log, storage, broken, model)
}

type Seen = BTreeMap<(String, u32), (Values, Offset)>;

fn check_records(seen: &Seen, model: &Model) -> Result<(), String> {
    for (topic, partition, offset, value) in &model.synced {
        let found = seen.get(&((*topic).to_owned(), *partition)).and_then(|(v, _)| v.get(offset));
        if found != Some(value) {
            return Err(format!(
                "{topic}-{partition}@{offset}: acknowledged {value}, there is {found:?}"
            ));
        }
    }
    let mut all: Vec<&String> = seen.values().flat_map(|(values, _)| values.values()).collect();
    if let Some(aborted) = all.iter().find(|value| value.starts_with("abort-")) {
        return Err(format!("{aborted} is visible"));
    }
    all.sort();
    if let Some(twice) = all.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("{} is there twice", twice[0]));
    }
    Ok(())
}

/// Positions without sync may go back, to one that was committed.
fn check_idle(log: &Log, model: &Model) -> Result<(), String> {
    let idle = log.committed(&GroupId::new("idle").unwrap()).map_err(|e| e.to_string())?;
    let is_known = |offset| model.idle_tried.iter().any(|(_, tried)| *tried == offset);
    let unknown = idle.iter().find(|found| !is_known(found.offset));
    unknown.map_or(Ok(()), |found| Err(format!("position {} was never committed", found.offset)))
}

/// What a killed process must leave beside all that a power cut must.
fn check_killed(image: &MemoryStorage, model: &Model) -> Result<(), String> {
    let log = open(image, None).map_err(|e| e.to_string())?;
    for (topic, partition, offset, value) in &model.unsynced {
        let topic = log.topic(topic).map_err(|e| e.to_string())?;
        let (values, _) = read(&log, &topic, *partition).map_err(|e| e.to_string())?;
        if values.get(offset) != Some(value) {
            return Err(format!("{}-{partition}@{offset}: {value} is gone", topic.name()));
        }
    }
    let idle = log.committed(&GroupId::new("idle").unwrap()).map_err(|e| e.to_string())?;
    let last = model.idle_positions.last().copied().unwrap_or(0);
    match idle.first().map_or(0, |found| found.offset) {
        found if found >= last => Ok(()),
        found => Err(format!("position {last} was committed, there is {found}")),
    }
}

fn check_transactions(log: &Log, seen: &Seen, model: &Model) -> Result<(), String> {
    let is_visible = |(topic, partition, value): &(&'static str, u32, String)| {
        let Some((values, _)) = seen.get(&((*topic).to_owned(), *partition)) else { return false };
        values.values().any(|v| v == value)
    };
    // What was purged cannot be seen any more; whatever was purged was committed.
    let purgeable = |value: &&(&'static str, u32, String)| value.0 != "rep";
    let group = GroupId::new("g").map_err(|e| e.to_string())?;
    let committed = log.committed(&group).map_err(|e| e.to_string())?;
    let mut last = None;
    for (index, attempt) in model.transactions.iter().enumerate() {
        let visible: Vec<bool> = attempt.values.iter().filter(purgeable).map(is_visible).collect();
        if visible.iter().any(|v| *v) && !visible.iter().all(|v| *v) {
            return Err(format!(
                "transaction {index} is torn: {visible:?} of {:?}",
                attempt.values
            ));
        }
        if attempt.acknowledged && !visible[0] {
            return Err(format!("transaction {index} was acknowledged and is gone"));
        }
        if visible[0] {
            last = Some(attempt);
        }
    }
    let mut expected = last.map_or(Vec::new(), |attempt| attempt.positions.to_vec());
    let mut found: Vec<Offset> = committed.iter().map(|commit| commit.offset).collect();
    expected.sort_unstable();
    found.sort_unstable();
    if expected != found {
        return Err(format!("positions {found:?} do not belong to the last commit {expected:?}"));
    }
    for commit in committed.iter().chain(&log.committed(&GroupId::new("idle").unwrap()).unwrap()) {
        let end = log.offsets(commit.topic, commit.partition).map_err(|e| e.to_string())?;
        if commit.offset > end.log_end_offset {
            return Err(format!(
                "position {} lies beyond the end {}",
                commit.offset, end.log_end_offset
            ));
        }
    }
    if let (Some(last), Some((values, _))) = (last, seen.get(&("in".to_owned(), 0))) {
        for (offset, value) in model.consumed.range(..last.positions[0]) {
            if values.get(offset) != Some(value) {
                return Err(format!(
                    "in-0@{offset}: {value} was consumed and is not there any more"
                ));
            }
        }
    }
    Ok(())
}

/// The log takes more, keeps it, and closes without a word.
fn check_goes_on(
    log: &Log,
    storage: &MemoryStorage,
    broken: Option<Broken>,
    model: &Model,
) -> Result<(), String> {
    let go_on = || -> Result<String> {
        let topic = match log.topic("after") {
            Ok(topic) => topic,
            Err(_) => log.create_topic("after", TopicSettings::default())?,
        };
        let mut producer = log.transactional_producer("job", Durability::Sync)?;
        let transaction = producer.begin()?;
        if model.producer_ids.contains(&transaction.producer_id()) {
            return Ok("a producer id is used twice".to_owned());
        }
        transaction.append(&topic, 0, &mut batch(&["after"]))?;
        transaction.commit(&[])?;
        let values = read(log, &topic, 0)?.0;
        log.close()?;
        let again = open(storage, broken)?;
        assert_eq!(read(&again, &topic, 0)?.0, values);
        Ok(again.recovery().to_string())
    };
    match go_on() {
        Ok(report) if report.is_empty() => Ok(()),
        Ok(report) => Err(format!("it goes on wrongly: {report}")),
        Err(error) => Err(format!("it does not go on: {error}")),
    }
}

pub(super) fn keeps(cut: u64) -> [Keep; 5] {
    let few = usize::try_from(cut % 7).unwrap();
    [Keep::None, Keep::All, Keep::Prefix(few), Keep::Random(cut), Keep::Random(cut + 10_000)]
}

/// Pulls the plug after operation `cut`; answers the image and what was acknowledged.
pub(super) fn pull_plug(cut: u64, broken: Option<Broken>) -> (MemoryStorage, Model) {
    let storage = MemoryStorage::new(9);
    storage.stop_after(cut);
    let model = run(&storage, broken);
    (storage, model)
}

pub(super) fn operations() -> u64 {
    let storage = MemoryStorage::new(9);
    let model = run(&storage, None);
    assert_eq!(model.transactions.len(), ROUNDS);
    assert!(model.transactions.iter().all(|attempt| attempt.acknowledged));
    let names = |dir: &str| storage.list(&Path::new(DIR).join(dir)).unwrap();
    let first =
        |dir: &str, suffix: &str| names(dir).into_iter().find(|n| n.ends_with(suffix)).unwrap();
    assert_ne!(first("__commits-0", ".log"), "00000000000000000000.log", "no snapshot was taken");
    assert_ne!(first("rep-0", ".log"), "00000000000000000000.log", "nothing was purged");
    assert!(names("out-1").iter().filter(|name| name.ends_with(".seal")).count() > 1, "no roll");
    storage.operations()
}

#[test]
fn a_power_cut_after_any_operation_loses_nothing_that_was_promised() {
    let operations = operations();
    assert!(operations > 300, "{operations} operations");
    for cut in 0..=operations {
        let (storage, model) = pull_plug(cut, None);
        for keep in keeps(cut) {
            let image = storage.crash_image(keep);
            let checked = check(&image, None, &model);
            assert_eq!(checked, Ok(()), "power cut after operation {cut}, {keep:?}");
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged_at_all() {
    for cut in 0..=operations() {
        let (storage, model) = pull_plug(cut, None);
        let checked = check(&storage.kill_image(), None, &model)
            .and_then(|()| check_killed(&storage.kill_image(), &model));
        assert_eq!(checked, Ok(()), "killed after operation {cut}");
    }
}

#[test]
fn a_second_power_cut_during_recovery_loses_nothing_either() {
    for cut in (0..=operations()).step_by(5) {
        let (storage, model) = pull_plug(cut, None);
        for (keep, keep_again) in [
            (Keep::All, Keep::None),
            (Keep::Random(cut), Keep::None),
            (Keep::Random(cut), Keep::Random(cut + 1)),
            (Keep::Prefix(3), Keep::Random(cut + 2)),
        ] {
            let whole = storage.crash_image(keep);
            drop(open(&whole, None));
            let recovery = whole.operations();
            for second in (0..recovery).step_by(4) {
                let image = storage.crash_image(keep);
                image.stop_after(second);
                drop(open(&image, None));
                let checked = check(&image.crash_image(keep_again), None, &model);
                assert_eq!(
                    checked,
                    Ok(()),
                    "cut {cut} {keep:?}, then after operation {second} of recovery {keep_again:?}"
                );
            }
        }
    }
}

fn caught(broken: Broken) -> usize {
    let found = |cut: u64| {
        let (storage, model) = pull_plug(cut, Some(broken));
        let is_wrong =
            |keep: &Keep| check(&storage.crash_image(*keep), Some(broken), &model).is_err();
        keeps(cut).iter().filter(|keep| is_wrong(keep)).count()
    };
    (0..=operations()).step_by(7).map(found).sum()
}

#[test]
fn the_checker_notices_what_a_killed_process_must_keep_and_a_power_cut_takes() {
    let is_noticed = |cut: u64| {
        let (storage, model) = pull_plug(cut, None);
        check_killed(&storage.crash_image(Keep::None), &model).is_err()
    };
    assert!((0..=operations()).step_by(7).any(is_noticed));
}

#[test]
fn the_checker_notices_every_mistake_that_a_power_cut_shows() {
    for broken in [
        Broken::LoseMarker,
        Broken::SkipConsumedSync,
        Broken::FoldEarly,
        Broken::ReuseProducerIds,
        Broken::WitnessUnsynced,
    ] {
        assert!(caught(broken) > 0, "{broken:?} went unnoticed");
    }
}
