//! Every file of a log, missing, empty, cut, flipped or another partition's: what is left is right or the
//! damage is named, and a repair brings back all that the plan does not call lost.

mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::OffsetCommit;
use crate::clock::ManualClock;
use crate::config::{Cleanup, CleanupPolicy, Durability, Ratio, TopicSettings};
use crate::consumer::PartitionReader;
use crate::error::{Error, Result};
use crate::format::{BatchBuilder, NO_HEADERS};
use crate::ids::{GroupId, Offset};
use crate::partition::FetchBound;
use crate::storage::Storage;
use crate::storage::memory::{Keep, MemoryStorage};
use crate::topic::Topic;

const DIR: &str = "/data";
const PARTITIONS: u32 = 2;
/// The first offset of which nobody has written down that it was synced.
const UNWITNESSED: Offset = 45;

type Values = BTreeMap<Offset, String>;

fn options(storage: &MemoryStorage) -> LogOptions {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let storage = Arc::new(storage.clone());
    LogOptions::new().storage(storage).clock(clock).background(false).create(false)
}

fn batch(values: &[String]) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    for value in values {
        let key = &value.as_bytes()[value.len() - 1..];
        batch.push(1_000_000, Some(key), Some(value.as_bytes()), NO_HEADERS).unwrap();
    }
    batch
}

fn group() -> GroupId {
    GroupId::new("g").unwrap()
}

fn position(topic: &Topic, offset: Offset) -> OffsetCommit {
    let (group, topic, metadata) = (group(), topic.id(), Bytes::new());
    OffsetCommit { group, topic, partition: 0, offset, leader_epoch: 0, metadata }
}

/// Sealed segments, aborted transactions, deleted records, positions, and a last segment.
fn workload(cleanup: Cleanup) -> (MemoryStorage, Log) {
    let storage = MemoryStorage::new(1);
    let log = options(&storage).create(true).open(DIR).unwrap();
    let small = TopicSettings {
        partitions: PARTITIONS,
        segment_bytes: 600,
        index_interval_bytes: 150,
        cleanup,
        ..TopicSettings::default()
    };
    let topic = log.create_topic("t", small).unwrap();
    let mut plain = log.producer(Durability::Sync).unwrap();
    let mut job = log.transactional_producer("job", Durability::Sync).unwrap();
    for n in 0..9 {
        let transaction = job.begin().unwrap();
        for partition in 0..PARTITIONS {
            let values = ["a", "b", "c"].map(|name| format!("{n}-{partition}-{name}"));
            plain.append(&topic, partition, &mut batch(&values[..1])).unwrap();
            transaction.append(&topic, partition, &mut batch(&values)).unwrap();
        }
        if n % 3 == 1 {
            transaction.abort().unwrap();
        } else {
            transaction.commit(&[position(&topic, n)]).unwrap();
        }
    }
    log.delete_records(topic.id(), 1, 3).unwrap();
    log.maintain(1_000_000).unwrap();
    let last = ["the-last-a", "the-last-b"].map(str::to_owned);
    plain.append(&topic, 0, &mut batch(&last)).unwrap();
    (storage, log)
}

/// What a log shows that nobody has damaged.
#[derive(Clone)]
struct Reference {
    /// What was written last may be gone without a trace.
    is_closed: bool,
    /// A start has cut what it took for a torn tail, and has said so.
    was_started: bool,
    image: MemoryStorage,
    partitions: Vec<Values>,
    positions: Vec<Offset>,
}

fn reference(how: &str) -> Reference {
    let compact = Cleanup {
        min_dirty_ratio: Ratio::percent(0),
        ..Cleanup::with_policy(CleanupPolicy::Compact)
    };
    let is_compacted = how == "compacted";
    let (storage, log) = workload(if is_compacted { compact } else { Cleanup::default() });
    let image = match how {
        "closed" | "compacted" => {
            log.close().unwrap();
            storage.kill_image()
        }
        "killed" => storage.kill_image(),
        _ => storage.crash_image(Keep::None),
    };
    let log = options(&image.kill_image()).open(DIR).unwrap();
    let partitions = (0..PARTITIONS).map(|partition| {
        let mut seen = Values::new();
        read(&log, partition, &mut seen).unwrap();
        seen
    });
    let is_closed = is_compacted || how == "closed";
    Reference {
        is_closed,
        was_started: false,
        partitions: partitions.collect(),
        positions: positions(&log).unwrap(),
        image,
    }
}

/// Reads committed records into `seen`, which keeps those in front of an error.
fn read(log: &Log, partition: u32, seen: &mut Values) -> Result<()> {
    let topic = log.topic("t")?;
    let start = log.offsets(topic.id(), partition)?.log_start_offset;
    let bound = FetchBound::LastStable;
    let mut reader = PartitionReader::new(log.clone(), &topic, partition, start, bound);
    while let Some(batch) = reader.next_batch(200)? {
        for record in batch.records() {
            let record = record?;
            let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
            seen.insert(record.offset, value);
        }
    }
    Ok(())
}

fn positions(log: &Log) -> Result<Vec<Offset>> {
    Ok(log.committed(&group())?.iter().map(|commit| commit.offset).collect())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Missing,
    Empty,
    Cut(usize),
    Flipped(usize),
    /// The version in a text file, or the magic of a batch.
    Version,
    OtherPartitions,
}

fn files(storage: &MemoryStorage) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for name in storage.list(Path::new(DIR)).unwrap() {
        let path = Path::new(DIR).join(&name);
        match storage.list(&path) {
            Ok(inner) => files.extend(inner.into_iter().map(|name| path.join(name))),
            Err(_file) => files.push(path),
        }
    }
    files.retain(|path| !path.ends_with(".lock"));
    files
}

fn put(storage: &MemoryStorage, path: &Path, bytes: &[u8]) {
    let file = storage.open(path).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync().unwrap();
}

/// Does it; false where the file cannot be damaged in this way.
fn damage(storage: &MemoryStorage, path: &Path, wrong: Wrong) -> bool {
    let mut bytes = storage.read_file(path).unwrap();
    match wrong {
        Wrong::Missing => storage.remove_file(path).unwrap(),
        Wrong::Empty | Wrong::Cut(_) | Wrong::Flipped(_) if bytes.is_empty() => return false,
        Wrong::Empty => put(storage, path, b""),
        Wrong::Cut(part) => put(storage, path, &bytes[..bytes.len() * part / 8]),
        Wrong::Flipped(part) => {
            let at = (bytes.len() * part / 8).min(bytes.len() - 1);
            bytes[at] ^= 0x10;
            put(storage, path, &bytes);
        }
        Wrong::Version => {
            let at = if path.extension().is_some_and(|e| e == "log") { 16 } else { 0 };
            let Some(byte) = bytes.get_mut(at) else { return false };
            *byte = byte.wrapping_add(1);
            put(storage, path, &bytes);
        }
        Wrong::OtherPartitions => {
            let text = path.to_string_lossy();
            let other = PathBuf::from(if text.contains("/t-0/") {
                text.replace("/t-0/", "/t-1/")
            } else {
                text.replace("/t-1/", "/t-0/")
            });
            match storage.read_file(&other) {
                Ok(others) if other != path && others != bytes => put(storage, path, &others),
                _ => return false,
            }
        }
    }
    true
}

/// What the plan gives up.
#[derive(Debug, Default)]
struct GivenUp {
    offsets: BTreeMap<String, BTreeSet<Offset>>,
    commits: bool,
    /// Transactions may be hidden as a whole.
    transactions: bool,
    log_start: bool,
}

fn given_up(plan: &RepairPlan) -> GivenUp {
    let mut given_up = GivenUp::default();
    let mut lose = |path: &Path, first: Offset, next: Offset| {
        let dir = path.parent().and_then(Path::file_name).unwrap().to_string_lossy().into_owned();
        given_up.offsets.entry(dir).or_default().extend(first..next);
    };
    for action in plan.actions() {
        match action {
            RepairAction::TakeOut { path, lost, ended } => {
                lost.iter().for_each(|range| lose(path, range.first_offset, range.next_offset));
                given_up.transactions |= ended.iter().any(|line| line.ends_with("for aborted"));
            }
            RepairAction::MakeSegment { path, first_offset, next_offset } => {
                lose(path, *first_offset, *next_offset);
            }
            RepairAction::SetLogStart { .. } => given_up.log_start = true,
            RepairAction::ReplaceCommits { undecided, .. } => {
                given_up.commits = true;
                given_up.transactions |= !undecided.is_empty();
            }
            RepairAction::ReplaceTopics { with_new_id, .. } => {
                given_up.commits |= !with_new_id.is_empty();
            }
            RepairAction::ReplaceId { .. }
            | RepairAction::RemoveSeal { .. }
            | RepairAction::ReplaceTopicId { .. } => {}
        }
    }
    given_up
}

impl Reference {
    /// What is read is right, and all of it is there unless somebody says that it is not.
    fn check_open(&self, image: &MemoryStorage, path: &Path) -> Result<(), String> {
        let log = match options(image).open(DIR) {
            Ok(log) => log,
            // A way forward is named; the repair below goes it.
            Err(Error::Damaged { path: named, .. }) if named == path => return Ok(()),
            Err(error) => return Err(format!("it does not open: {error}")),
        };
        let report = log.recovery();
        for (partition, expected) in (0..).zip(&self.partitions) {
            let mut seen = Values::new();
            let outcome = read(&log, partition, &mut seen);
            let start = expected.first_key_value().map_or(0, |(first, _)| *first);
            let is_back = report.partitions.iter().any(|p| p.log_start_lost);
            let kept = if is_back { seen.split_off(&start) } else { seen };
            let is_silent = outcome.is_ok() && report.partitions.is_empty();
            let is_silent = is_silent && report.commits_damage.is_none();
            if kept.iter().any(|(offset, value)| expected.get(offset) != Some(value)) {
                return Err(format!("t-{partition}: wrong records {kept:?}"));
            }
            if is_silent && kept.len() < expected.len() && report.aborted.is_empty() {
                return Err(format!("t-{partition}: silently only {kept:?}\n{report}"));
            }
        }
        match positions(&log) {
            Ok(found) if found == self.positions => Ok(()),
            Err(Error::Damaged { .. }) => Ok(()),
            other => Err(format!("positions: {other:?}")),
        }
    }

    /// Repairs, opens, and finds everything that the plan does not give up.
    fn check_repair(&self, image: &MemoryStorage) -> Result<(), String> {
        let text = |error: Error| error.to_string();
        let plan = options(image).plan_repair(DIR).map_err(text)?;
        let (given_up, shown) = (given_up(&plan), plan.to_string());
        plan.execute().map_err(|error| format!("{error}\n{shown}"))?;
        self.check_repaired(image, &given_up).map_err(|error| format!("{error}\n{shown}"))
    }

    fn check_repaired(&self, image: &MemoryStorage, given_up: &GivenUp) -> Result<(), String> {
        let text = |error: Error| error.to_string();
        let again = options(image).plan_repair(DIR).map_err(text)?;
        if !again.is_empty() {
            return Err(format!("there is more to repair: {again}"));
        }
        drop(again);
        let log = options(image).open(DIR).map_err(text)?;
        let report = log.recovery();
        if report.commits_damage.is_some() || report.partitions.iter().any(|p| p.damage.is_some()) {
            return Err(format!("still damaged: {report}"));
        }
        let mut shrunk = false;
        for (partition, expected) in (0..).zip(&self.partitions) {
            let mut seen = Values::new();
            read(&log, partition, &mut seen).map_err(text)?;
            let lost = given_up.offsets.get(&format!("t-{partition}")).cloned().unwrap_or_default();
            let start = expected.first_key_value().map_or(0, |(first, _)| *first);
            if given_up.log_start {
                seen = seen.split_off(&start);
            }
            if let Some(wrong) = seen.iter().find(|(at, value)| expected.get(at) != Some(value)) {
                return Err(format!("t-{partition}: wrong record {wrong:?}"));
            }
            // Behind what anybody witnessed a file that is gone leaves no trace, and a bad one is cut.
            let cut =
                report.partitions.iter().find(|p| p.partition == partition && p.cut_bytes > 0);
            let behind = lost.last().map(|last| last + 1).or(cut.map(|cut| cut.log_end_offset));
            let behind = behind.or(self.was_started.then_some(UNWITNESSED));
            let unwitnessed = behind.filter(|_| !self.is_closed).unwrap_or(Offset::MAX);
            shrunk |= unwitnessed < Offset::MAX;
            let is_missing =
                |at: &&Offset| !seen.contains_key(at) && !lost.contains(at) && **at < unwitnessed;
            let missing: Vec<_> = expected.keys().filter(is_missing).collect();
            if !missing.is_empty() && !given_up.transactions {
                return Err(format!("t-{partition}: {missing:?} is gone\n{report}"));
            }
        }
        let found = positions(&log).map_err(text)?;
        if found != self.positions && !given_up.commits {
            return Err(format!("positions: {found:?}"));
        }
        let topic = log.topic("t").map_err(text)?;
        let mut producer = log.producer(Durability::Sync).map_err(text)?;
        let ends =
            self.partitions.iter().map(|values| values.last_key_value().map_or(0, |(at, _)| *at));
        for (partition, end) in (0..).zip(ends) {
            let appended = producer.append(&topic, partition, &mut batch(&["more".to_owned()]));
            if appended.map_err(text)?.first_offset() <= end && !shrunk {
                return Err(format!("t-{partition}: an offset is given away twice"));
            }
        }
        log.close().map_err(text)?;
        let report = options(image).verify(DIR).map_err(text)?;
        if report.is_sound() { Ok(()) } else { Err(format!("not sound: {report}")) }
    }
}

fn wrongs() -> Vec<Wrong> {
    let mut wrongs = vec![Wrong::Missing, Wrong::Empty, Wrong::Version, Wrong::OtherPartitions];
    wrongs.extend((1..8).map(Wrong::Cut));
    wrongs.extend((0..=8).map(Wrong::Flipped));
    wrongs
}

fn damage_every_file(how: &str) {
    let reference = reference(how);
    let mut problems = Vec::new();
    let mut cases = 0;
    for path in files(&reference.image) {
        for wrong in wrongs() {
            let image = reference.image.kill_image();
            if !damage(&image, &path, wrong) {
                continue;
            }
            cases += 1;
            let case = |what: &str, found: Result<(), String>| {
                found.err().map(|e| format!("{how} {} {wrong:?}: {what}: {e}", path.display()))
            };
            // Good batches of another partition are good batches: only a look at everything tells.
            let is_another = wrong == Wrong::OtherPartitions
                && path.extension().is_some_and(|e| e == "log" || e == "seal");
            if is_another {
                let is_sound = options(&image).verify(DIR).unwrap().is_sound();
                let seal = image.exists(&path.with_extension("seal")).unwrap();
                // A seal of more bytes than there are in the last segment is made again, as a missing one is.
                let is_harmless = path.extension().is_some_and(|e| e == "seal");
                if is_sound && !is_harmless && seal && path.to_string_lossy().contains("/t-") {
                    problems.push(format!("{how} {}: another's goes unnoticed", path.display()));
                }
                if !is_sound || !is_harmless {
                    continue;
                }
            }
            problems.extend(case("repair", reference.check_repair(&image.kill_image())));
            problems.extend(case("open", reference.check_open(&image, &path)));
            let started = Reference { was_started: true, ..reference.clone() };
            problems.extend(case("repair behind a start", started.check_repair(&image)));
        }
    }
    assert!(cases > 300, "{cases}");
    let count = problems.len();
    problems.truncate(60);
    assert!(problems.is_empty(), "{count} of {cases}:\n{}", problems.join("\n"));
}

#[test]
fn each_file_of_a_closed_log_is_rebuilt_or_named_and_repaired() {
    damage_every_file("closed");
}

#[test]
fn each_file_of_a_killed_log_is_rebuilt_or_named_and_repaired() {
    damage_every_file("killed");
}

#[test]
fn each_file_of_a_compacted_log_is_rebuilt_or_named_and_repaired() {
    damage_every_file("compacted");
}

#[test]
fn each_file_behind_a_power_cut_is_rebuilt_or_named_and_repaired() {
    damage_every_file("cut");
}

/// The power goes after any operation of a repair; the next plan does the rest.
#[test]
fn a_repair_that_is_cut_short_is_done_again_and_loses_no_more() {
    let reference = reference("killed");
    let first = Path::new(DIR).join("t-0/00000000000000000000.log");
    let list = files(&reference.image);
    let last = list.iter().rfind(|p| p.extension().is_some_and(|e| e == "log")).unwrap();
    let commits = list.iter().find(|p| p.to_string_lossy().contains("__commits-0/0")).unwrap();
    let topics = Path::new(DIR).join("topics.checkpoint");
    for (path, wrong) in [
        (&first, Wrong::Flipped(3)),
        (&first, Wrong::Missing),
        (last, Wrong::Flipped(1)),
        (commits, Wrong::Flipped(2)),
        (commits, Wrong::Missing),
        (&topics, Wrong::Flipped(2)),
    ] {
        let damaged = reference.image.crash_image(Keep::All);
        assert!(damage(&damaged, path, wrong));
        let damaged = damaged.crash_image(Keep::All);
        let whole = damaged.crash_image(Keep::All);
        let plan = options(&whole).plan_repair(DIR).unwrap();
        let given_up = given_up(&plan);
        let before = whole.operations();
        plan.execute().unwrap();
        let operations = whole.operations();
        assert!(operations > before + 4);
        for stop in before..=operations {
            for keep in [Keep::None, Keep::All, Keep::Random(stop)] {
                let image = damaged.crash_image(Keep::All);
                image.stop_after(stop);
                if let Ok(plan) = options(&image).plan_repair(DIR) {
                    assert_eq!(plan.execute().is_ok(), stop == operations);
                }
                let image = image.crash_image(keep);
                options(&image).plan_repair(DIR).unwrap().execute().unwrap();
                let checked = reference.check_repaired(&image, &given_up);
                assert_eq!(checked, Ok(()), "{} {wrong:?} {stop} {keep:?}", path.display());
            }
        }
    }
}

/// A commit that lies behind the damage counts, and one that a marker proves too.
#[test]
fn what_can_be_read_of_damaged_commit_records_is_kept() {
    let reference = reference("killed");
    let commits = files(&reference.image)
        .into_iter()
        .find(|path| path.to_string_lossy().contains("__commits-0/0"))
        .unwrap();
    let image = reference.image.kill_image();
    let bytes = image.read_file(&commits).unwrap();
    // In the middle: the snapshot and the last commit are whole.
    assert!(damage(&image, &commits, Wrong::Flipped(4)));
    let plan = options(&image).plan_repair(DIR).unwrap();
    let [RepairAction::ReplaceCommits { kept, snapshot_lost, groups, .. }] = plan.actions() else {
        panic!("{plan}")
    };
    assert!(*kept > 2 && !snapshot_lost);
    assert_eq!(groups, &["g".to_owned()]);
    let aside = plan.execute().unwrap();
    assert_eq!(image.read_file(&aside[0]).unwrap().len(), bytes.len());
    let log = options(&image).open(DIR).unwrap();
    assert_eq!(positions(&log).unwrap(), reference.positions);
}
