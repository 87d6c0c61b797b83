//! Every file of a log with a bit flipped, cut short, made longer or gone: what is read afterwards is
//! right, or an error or a report says that it is not all there; and no byte of a record was deleted.
//!
//! Why files as a whole: each layer proves its own bytes; only a log that is opened and read shows what
//! falls between two of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{DIR, batch, group, open, position};
use crate::OffsetCommit;
use crate::config::{Durability, TopicSettings};
use crate::consumer::PartitionReader;
use crate::error::{Error, Result};
use crate::ids::Offset;
use crate::log::Log;
use crate::owner::LogOptions;
use crate::partition::FetchBound;
use crate::storage::Storage;
use crate::storage::memory::MemoryStorage;
use crate::topic::Topic;

type Values = BTreeMap<Offset, String>;

/// What a whole log shows.
struct Reference {
    storage: MemoryStorage,
    topic: Topic,
    partitions: Vec<Values>,
    positions: Vec<OffsetCommit>,
    files: Vec<PathBuf>,
}

const PARTITIONS: u32 = 2;

/// Sealed segments, aborted transactions, deleted records, committed positions, and a last segment with
/// records that no witness covers, unless it is closed.
fn reference(is_closed: bool) -> Reference {
    let storage = MemoryStorage::new(1);
    let log = open(&storage);
    let small = TopicSettings {
        partitions: PARTITIONS,
        segment_bytes: 600,
        index_interval_bytes: 150,
        ..TopicSettings::default()
    };
    let topic = log.create_topic("t", small).unwrap();
    let mut plain = log.producer(Durability::Sync).unwrap();
    let mut job = log.transactional_producer("job", Durability::Sync).unwrap();
    for n in 0..9 {
        let transaction = job.begin().unwrap();
        for partition in 0..PARTITIONS {
            let values = ["a", "b", "c"].map(|name| format!("{n}-{partition}-{name}"));
            let values = values.each_ref().map(String::as_str);
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
    plain.append(&topic, 0, &mut batch(&["last-a", "last-b"])).unwrap();
    let partitions = (0..PARTITIONS).map(|p| read(&log, &topic, p, 0, &mut Values::new()).unwrap());
    let partitions: Vec<Values> = partitions.collect();
    let positions = log.committed(&group()).unwrap();
    if is_closed {
        log.close().unwrap();
    }
    let storage = storage.kill_image();
    let mut files = Vec::new();
    for name in storage.list(Path::new(DIR)).unwrap() {
        let path = Path::new(DIR).join(&name);
        match storage.list(&path) {
            Ok(inner) => files.extend(inner.into_iter().map(|name| path.join(name))),
            Err(_file) => files.push(path),
        }
    }
    assert!(files.iter().filter(|path| path.extension().is_some_and(|e| e == "seal")).count() > 3);
    Reference { storage, topic, partitions, positions, files }
}

/// Reads committed records from `from` (0: the log start) into `seen`, which keeps those in front of
/// an error.
fn read(
    log: &Log,
    topic: &Topic,
    partition: u32,
    from: Offset,
    seen: &mut Values,
) -> Result<Values> {
    let start = log.offsets(topic.id(), partition)?.log_start_offset.max(from);
    let mut reader =
        PartitionReader::new(log.clone(), topic, partition, start, FetchBound::LastStable);
    while let Some(batch) = reader.next_batch(200)? {
        for record in batch.records() {
            let record = record?;
            let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
            seen.insert(record.offset, value);
        }
    }
    Ok(std::mem::take(seen))
}

impl Reference {
    fn open(&self, storage: &MemoryStorage) -> Result<Log> {
        let clock = std::sync::Arc::new(crate::clock::ManualClock::new(1_000_000));
        let files = std::sync::Arc::new(storage.clone());
        let options = LogOptions::new().storage(files).clock(clock).background(false);
        options.create(false).open(DIR)
    }

    /// Opens what is left, reads all of it from every offset, and closes it. Answers whether a report
    /// or an error said that something is missing; `is_known`: one has said so before.
    fn check(&self, storage: &MemoryStorage, is_known: bool) -> Result<bool, String> {
        let Ok(log) = self.open(storage) else { return Ok(true) };
        let is_told = is_known || !log.recovery().is_clean();
        let topics = log.topics().map_err(|e| e.to_string())?;
        if topics != [self.topic.clone()] {
            return Err(format!("the topics are {topics:?}"));
        }
        for (partition, expected) in (0..).zip(&self.partitions) {
            let end = expected.last_key_value().map_or(0, |(last, _)| last + 1);
            for from in (0..end).step_by(3) {
                self.check_from(&log, partition, from, expected, is_told)?;
            }
        }
        match log.committed(&group()) {
            Ok(positions) if positions != self.positions => {
                return Err(format!("the positions are {positions:?}"));
            }
            Ok(_) | Err(Error::Damaged { .. }) => {}
            Err(error) => return Err(format!("positions: {error}")),
        }
        log.close().map_err(|error| format!("it does not close: {error}"))?;
        Ok(is_told)
    }

    fn check_from(
        &self,
        log: &Log,
        partition: u32,
        from: Offset,
        expected: &Values,
        is_told: bool,
    ) -> Result<(), String> {
        let mut seen = Values::new();
        let outcome = read(log, &self.topic, partition, from, &mut seen);
        let is_all = outcome.is_ok();
        let mut seen = outcome.unwrap_or(seen);
        if is_told {
            // A log start that is lost brings deleted records back, and says so.
            let first = expected.first_key_value().map_or(0, |(first, _)| *first);
            seen = seen.split_off(&first);
        }
        let wrong = seen.iter().find(|(offset, value)| expected.get(offset) != Some(value));
        if let Some((offset, value)) = wrong {
            return Err(format!("t-{partition}@{offset}: {value} is wrong, read from {from} on"));
        }
        let wanted: Vec<_> = expected.range(from..).collect();
        let found: Vec<_> = seen.iter().collect();
        if wanted[..found.len()] != found[..] {
            return Err(format!("t-{partition}: there is a gap in {found:?}, read from {from} on"));
        }
        if is_all && !is_told && found.len() < wanted.len() {
            return Err(format!("t-{partition}: silently, only {found:?}, read from {from} on"));
        }
        Ok(())
    }

    fn check_mutation(&self, path: &Path, what: &str, change: impl FnOnce(&MemoryStorage)) {
        let image = self.storage.kill_image();
        change(&image);
        // A snapshot of the commits takes the place of those before it.
        let is_log = |path: &&PathBuf| {
            path.extension().is_some_and(|e| e == "log") && !path.starts_with("/data/__commits-0")
        };
        let logs = self.files.iter().filter(is_log);
        let logs = logs.filter_map(|path| Some((path.as_path(), image.read_file(path).ok()?)));
        let logs: Vec<(&Path, Vec<u8>)> = logs.collect();
        let told = self.check(&image, false);
        assert!(told.is_ok(), "{}: {what}: {told:?}", path.display());
        let again = self.check(&image, told == Ok(true));
        assert!(again.is_ok(), "{}: {what}, the second time: {again:?}", path.display());
        for (log, before) in logs {
            let kept = is_kept(&image, log, &before);
            assert!(kept, "{}: {what}: bytes of {} are gone", path.display(), log.display());
        }
    }
}

/// Whether every byte that a file of records had is there still: where it was, or in a quarantine.
fn is_kept(storage: &MemoryStorage, path: &Path, before: &[u8]) -> bool {
    let now = storage.read_file(path).unwrap_or_default();
    let same = before.iter().zip(&now).take_while(|(before, now)| before == now).count();
    let rest = &before[same..];
    let dir = path.parent().unwrap();
    let aside = storage.list(dir).unwrap().into_iter().filter(|n| n.ends_with(".quarantine"));
    rest.iter().all(|byte| *byte == 0)
        || aside
            .map(|name| storage.read_file(&dir.join(name)).unwrap())
            .any(|quarantine| quarantine.windows(rest.len()).any(|window| window == rest))
}

fn mutate_every_file(is_closed: bool) {
    let reference = reference(is_closed);
    assert_eq!(reference.check(&reference.storage.kill_image(), false), Ok(!is_closed));
    for path in &reference.files {
        let len = reference.storage.read_file(path).unwrap().len();
        for position in 0..len {
            let mask = [0x01, 0x80, 0x04, 0x40, 0x02, 0x10][position % 6];
            reference.check_mutation(path, &format!("bit {mask:#x} of byte {position}"), |image| {
                image.rot(path, position, mask).unwrap();
            });
        }
        for cut in (0..len).step_by(5) {
            reference.check_mutation(path, &format!("cut to {cut} of {len} bytes"), |image| {
                image.open(path).unwrap().set_len(cut as u64).unwrap();
            });
        }
        for more in [1, 61, 600] {
            reference.check_mutation(path, &format!("{more} zeros more"), |image| {
                image.open(path).unwrap().set_len(len as u64 + more).unwrap();
            });
        }
        reference.check_mutation(path, "missing", |image| image.remove_file(path).unwrap());
    }
}

#[test]
fn no_change_of_a_file_of_a_closed_log_shows_wrong_records() {
    mutate_every_file(true);
}

#[test]
fn no_change_of_a_file_of_a_killed_log_shows_wrong_records() {
    mutate_every_file(false);
}
