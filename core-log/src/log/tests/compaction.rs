//! Compaction through the public API: what stays, and what a power cut at any operation leaves.
//!
//! ```text
//!   workload --> maintain, the power goes after operation n --> image --> recovery
//!     --> the latest value of each key is there, nothing is there twice, no aborted record is visible
//!     --> the same again with the power going during that recovery
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::DIR;
use crate::clock::ManualClock;
use crate::config::{Cleanup, CleanupPolicy, Durability, Ratio, TopicSettings};
use crate::consumer::PartitionReader;
use crate::error::{Error, Result};
use crate::format::{BatchBuilder, NO_HEADERS};
use crate::ids::{GroupId, Offset, Timestamp};
use crate::inspect::{Item, directory_on};
use crate::log::Log;
use crate::owner::LogOptions;
use crate::partition::FetchBound;
use crate::storage::Storage;
use crate::storage::careless::{CarelessStorage, Neglect};
use crate::storage::memory::{Keep, MemoryStorage};
use crate::topic::Topic;

pub(super) const NOW: Timestamp = 1_000_000;
const DELETE_RETENTION_MS: i64 = 1_000;

/// Offset, key and value of what a reader of committed records sees.
pub(super) type Seen = Vec<(Offset, String, Option<String>)>;
type Latest = BTreeMap<String, Option<String>>;

pub(super) fn open(storage: Arc<dyn Storage>, now: Timestamp) -> Result<Log> {
    LogOptions::new()
        .storage(storage)
        .clock(Arc::new(ManualClock::new(now)))
        .background(false)
        .open(DIR)
}

pub(super) fn settings() -> TopicSettings {
    TopicSettings {
        segment_bytes: 400,
        cleanup: Cleanup {
            delete_retention_ms: DELETE_RETENTION_MS,
            min_dirty_ratio: Ratio::percent(0),
            ..Cleanup::with_policy(CleanupPolicy::Compact)
        },
        ..TopicSettings::default()
    }
}

pub(super) fn batch(rows: &[(&str, Option<&str>)]) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    for (key, value) in rows {
        let value = value.map(str::as_bytes);
        batch.push(NOW, Some(key.as_bytes()), value, NO_HEADERS).unwrap();
    }
    batch
}

pub(super) fn seen(log: &Log, topic: &Topic) -> Result<Seen> {
    let start = log.offsets(topic.id(), 0)?.log_start_offset;
    let mut reader = PartitionReader::new(log.clone(), topic, 0, start, FetchBound::LastStable);
    let mut seen = Seen::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    while let Some(batch) = reader.next_batch(250)? {
        for record in batch.records() {
            let record = record?;
            seen.push((record.offset, text(record.key.unwrap()), record.value.map(text)));
        }
    }
    assert_eq!(reader.position(), log.offsets(topic.id(), 0)?.last_stable_offset);
    Ok(seen)
}

fn latest(seen: &Seen) -> Latest {
    let rows = seen.iter().map(|(_, key, value)| (key.clone(), value.clone()));
    let mut latest: Latest = rows.collect();
    // A tombstone and no record at all say the same.
    latest.retain(|_, value| value.is_some());
    latest
}

/// Rows that change, are deleted, are written by transactions, committed and aborted.
fn workload(log: &Log, topic: &Topic, rounds: std::ops::Range<usize>) -> Result<()> {
    let mut plain = log.producer(Durability::Sync)?;
    let mut job = log.transactional_producer("job", Durability::Sync)?;
    for n in rounds {
        let (key, value) = (format!("k{}", n % 5), format!("plain-{n}"));
        let gone = format!("k{}", (n + 2) % 7);
        plain.append(topic, 0, &mut batch(&[(&key, Some(&value)), ("same", Some(&value))]))?;
        if n.is_multiple_of(3) {
            plain.append(topic, 0, &mut batch(&[(&gone, None)]))?;
        }
        let transaction = job.begin()?;
        let value = format!("{}-{n}", if n % 2 == 0 { "abort" } else { "commit" });
        transaction.append(topic, 0, &mut batch(&[(&key, Some(&value)), ("txn", Some(&value))]))?;
        if n % 2 == 0 { transaction.abort()? } else { transaction.commit(&[]).map(|_| ())? }
    }
    Ok(())
}

/// A log whose next maintenance has much to do.
pub(super) fn prepared(memory: &MemoryStorage) -> (Log, Topic) {
    let log = open(Arc::new(memory.clone()), NOW).unwrap();
    let topic = log.create_topic("rows", settings()).unwrap();
    workload(&log, &topic, 0..8).unwrap();
    log.maintain(NOW).unwrap();
    workload(&log, &topic, 8..14).unwrap();
    (log, topic)
}

pub(super) const LATER: Timestamp = NOW + DELETE_RETENTION_MS + 1;

/// What a start mends by itself is neither damage nor to be repaired.
fn check_all(memory: &MemoryStorage, before: &Seen, after: &Seen) -> Result<(), String> {
    let options = || LogOptions::new().storage(Arc::new(memory.clone()));
    let report = options().verify(DIR).map_err(|e| format!("verify: {e}"))?;
    if !report.is_sound() {
        return Err(report.to_string());
    }
    let plan = options().plan_repair(DIR).map_err(|e| format!("plan: {e}"))?;
    if !plan.is_empty() {
        return Err(plan.to_string());
    }
    // A plan owns the directory.
    drop(plan);
    check(memory, before, after)
}

pub(super) fn check(memory: &MemoryStorage, before: &Seen, after: &Seen) -> Result<(), String> {
    let log = open(Arc::new(memory.clone()), LATER).map_err(|e| format!("open: {e}"))?;
    if let Some(partition) = log.recovery().partitions.iter().find(|p| p.damage.is_some()) {
        return Err(format!("a power cut was taken for damage: {:?}", partition.damage));
    }
    let topic = log.topic("rows").map_err(|e| e.to_string())?;
    let found = seen(&log, &topic).map_err(|e| e.to_string())?;
    if latest(&found) != latest(before) {
        return Err(format!("latest {:?}, was {:?}", latest(&found), latest(before)));
    }
    if !found.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(format!("an offset is there twice: {found:?}"));
    }
    if let Some(unknown) = found.iter().find(|row| !before.contains(row)) {
        return Err(format!("{unknown:?} was not visible"));
    }
    if let Some(lost) = after.iter().find(|row| !found.contains(row)) {
        return Err(format!("{lost:?} is gone"));
    }
    let names = memory.list(Path::new("/data/rows-0")).map_err(|e| e.to_string())?;
    let aside =
        |name: &&String| [".swap", ".cleaned", ".deleted"].iter().any(|s| name.ends_with(s));
    if let Some(name) = names.iter().find(aside) {
        return Err(format!("{name} is left"));
    }
    // It goes on.
    workload(&log, &topic, 14..17).map_err(|e| e.to_string())?;
    let before = latest(&seen(&log, &topic).map_err(|e| e.to_string())?);
    log.maintain(LATER + 1).map_err(|e| e.to_string())?;
    let after = latest(&seen(&log, &topic).map_err(|e| e.to_string())?);
    if before == after { Ok(()) } else { Err(format!("then {before:?} became {after:?}")) }
}

/// The power goes after every operation of a pass, and every subset that is tried is kept.
fn explore(neglect: Option<Neglect>) -> Result<usize, String> {
    let memory = MemoryStorage::new(1);
    let (log, topic) = prepared(&memory);
    let before = seen(&log, &topic).unwrap();
    let first = memory.operations();
    log.maintain(LATER).unwrap();
    let last = memory.operations();
    let after = seen(&log, &topic).unwrap();
    assert!(after.len() < before.len(), "{} of {} rows are left", after.len(), before.len());
    assert_eq!(latest(&after), latest(&before));
    drop(log);
    let start = {
        let memory = MemoryStorage::new(1);
        drop(prepared(&memory));
        memory.kill_image()
    };
    let mut images = 0;
    for stop in first..last {
        let memory = start.kill_image();
        let storage: Arc<dyn Storage> = match neglect {
            Some(neglect) => Arc::new(CarelessStorage { inner: memory.clone(), neglect }),
            None => Arc::new(memory.clone()),
        };
        let log = open(storage, LATER).unwrap();
        memory.stop_after(memory.operations() + (stop - first));
        // It fails where the power goes.
        let maintained = log.maintain(LATER);
        memory.stop_after(0);
        drop((maintained, log));
        let prefixes = (0..memory.unsynced_changes()).map(Keep::Prefix);
        let keeps = [Keep::None, Keep::All].into_iter().chain(prefixes);
        for keep in keeps.chain((0..3).map(|n| Keep::Random(stop * 31 + n))) {
            images += 1;
            let image = memory.crash_image(keep);
            check_all(&image, &before, &after).map_err(|e| format!("{stop}, {keep:?}: {e}"))?;
        }
    }
    Ok(images)
}

#[test]
fn a_power_cut_at_any_operation_of_a_pass_loses_nothing() {
    let images = explore(None).unwrap();
    assert!(images > 300, "{images} images");
}

#[test]
fn a_log_that_does_not_sync_names_is_noticed() {
    let noticed = explore(Some(Neglect::NameSync));
    assert!(noticed.is_err(), "{noticed:?}");
}

#[test]
fn a_power_cut_during_the_recovery_of_a_pass_loses_nothing() {
    let memory = MemoryStorage::new(1);
    let (log, topic) = prepared(&memory);
    let before = seen(&log, &topic).unwrap();
    let first = memory.operations();
    log.maintain(LATER).unwrap();
    let (last, after) = (memory.operations(), seen(&log, &topic).unwrap());
    drop((log, topic));
    let start = {
        let memory = MemoryStorage::new(1);
        drop(prepared(&memory));
        memory.kill_image()
    };
    for stop in (first..last).step_by(5) {
        let memory = start.kill_image();
        let log = open(Arc::new(memory.clone()), LATER).unwrap();
        memory.stop_after(memory.operations() + (stop - first));
        let maintained = log.maintain(LATER);
        memory.stop_after(0);
        drop((maintained, log));
        let image = memory.crash_image(Keep::Random(stop));
        let operations = {
            let whole = image.kill_image();
            drop(open(Arc::new(whole.clone()), LATER).unwrap());
            whole.operations()
        };
        for again in (1..operations).step_by(4) {
            let image = image.kill_image();
            image.stop_after(again);
            drop(open(Arc::new(image.clone()), LATER));
            let image = image.crash_image(Keep::Random(stop * 1_000 + again));
            check_all(&image, &before, &after)
                .map_err(|e| format!("{stop}, {again}: {e}"))
                .unwrap();
        }
    }
}

#[test]
fn tombstones_stay_for_their_time_and_then_go() {
    let memory = MemoryStorage::new(1);
    let log = open(Arc::new(memory.clone()), NOW).unwrap();
    let topic = log.create_topic("rows", settings()).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    let mut write = |rows: &[(&str, Option<&str>)]| {
        producer.append(&topic, 0, &mut batch(rows)).unwrap();
        for n in 0..4 {
            // Fills segments: what is active is never cleaned.
            let filler = "x".repeat(200 + n);
            producer.append(&topic, 0, &mut batch(&[("filler", Some(&filler))])).unwrap();
        }
    };
    write(&[("a", Some("1"))]);
    write(&[("a", None)]);
    let a = || -> Vec<_> {
        let rows = seen(&log, &topic).unwrap().into_iter();
        rows.filter(|row| row.1 == "a").map(|row| (row.0, row.2)).collect()
    };
    log.maintain(NOW).unwrap();
    assert_eq!(a(), [(5, None)]);
    write(&[("b", Some("1"))]);
    log.maintain(NOW + DELETE_RETENTION_MS - 1).unwrap();
    assert_eq!(a(), [(5, None)]);
    write(&[("b", Some("2"))]);
    log.maintain(NOW + DELETE_RETENTION_MS).unwrap();
    assert_eq!(a(), []);
}

#[test]
fn what_a_holder_has_not_seen_stays_also_after_a_start() {
    let memory = MemoryStorage::new(1);
    let (log, topic) = prepared(&memory);
    let store = GroupId::new("store").unwrap();
    let before = seen(&log, &topic).unwrap();
    let from = before[before.len() / 2].0;
    log.hold(topic.id(), 0, &store, from).unwrap();
    drop(log);
    let image = memory.crash_image(Keep::None);
    let log = open(Arc::new(image), LATER).unwrap();
    log.maintain(LATER).unwrap();
    let held = seen(&log, &topic).unwrap();
    let behind = |seen: &Seen| seen.iter().filter(|row| row.0 >= from).cloned().collect::<Seen>();
    assert_eq!(behind(&held), behind(&before));
    assert!(held.len() < before.len());
    log.release(topic.id(), 0, &store).unwrap();
    log.maintain(LATER).unwrap();
    assert!(behind(&seen(&log, &topic).unwrap()).len() < behind(&before).len());
}

/// A reader that goes on where it was must know whether a tombstone behind it may be gone.
#[test]
fn it_is_known_up_to_where_records_may_be_missing() {
    let memory = MemoryStorage::new(1);
    let log = open(Arc::new(memory.clone()), NOW).unwrap();
    let made_compacted = log.create_topic("rows", settings()).unwrap();
    let plain = TopicSettings { cleanup: Cleanup::default(), ..settings() };
    let altered = log.create_topic("altered", plain).unwrap();
    for topic in [&made_compacted, &altered] {
        workload(&log, topic, 0..8).unwrap();
    }
    let compact = |settings: &mut TopicSettings| settings.set("cleanup.policy", "compact");
    log.alter_topic("altered", compact).unwrap();
    drop(log);
    let log = open(Arc::new(memory.crash_image(Keep::None)), LATER).unwrap();
    let topics = [made_compacted, altered];
    let below = || topics.each_ref().map(|topic| log.compacted_below(topic.id(), 0).unwrap());
    assert_eq!(below(), [0, 0], "nothing was cleaned yet");
    for topic in &topics {
        log.hold(topic.id(), 0, &GroupId::new("store").unwrap(), 9).unwrap();
    }
    log.maintain(LATER).unwrap();
    assert!(below().iter().all(|below| (1..=9).contains(below)), "{:?}", below());
}

#[test]
fn retention_stops_at_a_holder() {
    let memory = MemoryStorage::new(1);
    let log = open(Arc::new(memory), NOW).unwrap();
    let settings = TopicSettings {
        retention_ms: Some(0),
        cleanup: Cleanup::with_policy(CleanupPolicy::Delete),
        ..settings()
    };
    let topic = log.create_topic("rows", settings).unwrap();
    workload(&log, &topic, 0..8).unwrap();
    let store = GroupId::new("store").unwrap();
    let start = || log.offsets(topic.id(), 0).unwrap().log_start_offset;
    log.hold(topic.id(), 0, &store, 0).unwrap();
    log.maintain(LATER).unwrap();
    assert_eq!(start(), 0);
    log.hold(topic.id(), 0, &store, 9).unwrap();
    log.maintain(LATER).unwrap();
    assert!((1..=9).contains(&start()));
    log.release(topic.id(), 0, &store).unwrap();
    log.maintain(LATER).unwrap();
    assert_eq!(start(), log.offsets(topic.id(), 0).unwrap().log_end_offset);
}

#[test]
fn records_become_no_older_than_their_topic_allows() {
    let memory = MemoryStorage::new(1);
    let log = open(Arc::new(memory), NOW).unwrap();
    let mut settings = settings();
    settings.cleanup.record_ttl_ms = Some(500);
    settings.cleanup.min_dirty_ratio = Ratio::percent(100);
    let topic = log.create_topic("rows", settings).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    let mut write = |time: Timestamp, key: &str| {
        let mut batch = BatchBuilder::new();
        let value = Some(&b"v"[..]);
        batch.push(time, Some(key.as_bytes()), value, NO_HEADERS).unwrap();
        batch.push(NOW + 5_000, Some(b"young"), value, NO_HEADERS).unwrap();
        batch.push(-1, Some(b"timeless"), value, NO_HEADERS).unwrap();
        producer.append(&topic, 0, &mut batch).unwrap();
    };
    for n in 0..12 {
        write(NOW + n, &format!("old-{n}"));
    }
    let keys = || -> Vec<String> {
        let rows = seen(&log, &topic).unwrap().into_iter();
        rows.map(|row| row.1).filter(|key| key.starts_with("old")).collect()
    };
    // Not before all of a segment is too old, as nothing else makes a pass due.
    log.maintain(NOW + 2_000).unwrap();
    assert_eq!(keys().len(), 12);
    log.maintain(NOW + 5_501).unwrap();
    let kept = keys();
    assert!(kept.len() < 4, "the active segment only: {kept:?}");
    let rest = seen(&log, &topic).unwrap();
    assert!(rest.iter().any(|row| row.1 == "timeless"));
}

#[test]
fn a_record_without_a_key_is_refused() {
    let memory = MemoryStorage::new(1);
    let log = open(Arc::new(memory), NOW).unwrap();
    let topic = log.create_topic("rows", settings()).unwrap();
    let mut producer = log.producer(Durability::Sync).unwrap();
    let mut batch = batch(&[("a", Some("1"))]);
    batch.push(NOW, None, Some(b"2"), NO_HEADERS).unwrap();
    let refused = producer.append(&topic, 0, &mut batch).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "record 1 of the batch has no key, and topic \"rows\" is compacted"
    );
    assert!(matches!(refused, Error::KeyMissing { record: 1, .. }));
    assert_eq!(log.offsets(topic.id(), 0).unwrap().log_end_offset, 0);
}

#[test]
fn a_full_disk_leaves_everything_as_it_was() {
    let memory = MemoryStorage::new(1);
    let (log, topic) = prepared(&memory);
    let before = seen(&log, &topic).unwrap();
    for room in (0..600).step_by(50) {
        memory.limit_space(room);
        log.maintain(LATER).unwrap();
        assert_eq!(latest(&seen(&log, &topic).unwrap()), latest(&before), "{room} bytes");
    }
    memory.clear_faults();
    log.maintain(LATER).unwrap();
    assert!(seen(&log, &topic).unwrap().len() < before.len());
}

fn file_of(memory: &MemoryStorage, suffix: &str) -> PathBuf {
    let dir = Path::new("/data/rows-0");
    let names = memory.list(dir).unwrap();
    dir.join(names.iter().find(|name| name.ends_with(suffix)).unwrap())
}

#[test]
fn damage_is_named_and_nothing_is_replaced() {
    let memory = MemoryStorage::new(1);
    let (log, topic) = prepared(&memory);
    let before = memory.read_file(&file_of(&memory, ".log")).unwrap();
    let path = file_of(&memory, ".log");
    memory.rot(&path, before.len() - 3, 0x40).unwrap();
    log.maintain(LATER).unwrap();
    let mut rotten = before;
    let last = rotten.len() - 3;
    rotten[last] ^= 0x40;
    assert_eq!(memory.read_file(&path).unwrap(), rotten);
    assert!(seen(&log, &topic).is_err());
    let names = memory.list(Path::new("/data/rows-0")).unwrap();
    assert!(names.iter().all(|name| !name.ends_with(".cleaned")), "{names:?}");
}

#[test]
fn a_wrong_offset_is_noticed_although_offsets_are_missing() {
    let memory = MemoryStorage::new(1);
    let (log, topic) = prepared(&memory);
    log.maintain(LATER).unwrap();
    drop(log);
    // The lowest bits of the first batch's base offset, which its checksum does not cover.
    memory.rot(&file_of(&memory, ".log"), 7, 0x01).unwrap();
    let log = open(Arc::new(memory.kill_image()), LATER).unwrap();
    let start = log.offsets(topic.id(), 0).unwrap().log_start_offset;
    let mut reader = PartitionReader::new(log, &topic, 0, start, FetchBound::LastStable);
    let read = reader.next_batch(1 << 20);
    assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
}

#[test]
fn a_compacted_directory_has_nothing_to_complain_about() {
    let memory = MemoryStorage::new(1);
    let (log, topic) = prepared(&memory);
    log.hold(topic.id(), 0, &GroupId::new("store").unwrap(), Offset::MAX).unwrap();
    log.maintain(LATER).unwrap();
    log.close().unwrap();
    let mut problems = Vec::new();
    let summary = directory_on(&memory, Path::new(DIR), &mut |item| {
        if let Item::Problem { .. } = item {
            problems.push(format!("{item:?}"));
        }
    });
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(summary.unwrap().batches > 10);
}
