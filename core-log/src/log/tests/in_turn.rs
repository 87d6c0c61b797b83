//! Two producers that take turns in the same partitions: one commits while the other has begun.
//!
//! Why: a job processes its next transaction beside the commit of the last one. The plug is pulled after
//! every mutating operation; what is left must be the commits up to one of them, whole, and the group's
//! position must be that one's, whichever producer wrote it.
//!
//! ```text
//!   job     begin 0 .. |commit 0|           begin 2 ..  |commit 2|
//!   job.2          begin 1 ..    |commit 1|        begin 3 ..
//!   purge                     behind 0     behind 1
//! ```

use std::sync::Arc;

use super::{DIR, append, committed, group, position};
use crate::clock::ManualClock;
use crate::commit::Broken;
use crate::config::{Durability, TopicSettings};
use crate::error::Result;
use crate::ids::Offset;
use crate::log::Log;
use crate::owner::LogOptions;
use crate::producer::Transaction;
use crate::storage::memory::{Keep, MemoryStorage};
use crate::topic::Topic;

const ROUNDS: usize = 9;

/// What the writer was told.
#[derive(Clone, Debug, Default)]
struct Told {
    /// The position in `rep` that each commit carried.
    tried: Vec<Offset>,
    acknowledged: usize,
}

fn open(storage: &MemoryStorage, broken: Option<Broken>) -> Result<Log> {
    let mut options = LogOptions::new()
        .storage(Arc::new(storage.clone()))
        .clock(Arc::new(ManualClock::new(1_000_000)))
        .background(false)
        .commits_bytes_max(900);
    if let Some(broken) = broken {
        options = options.broken(broken);
    }
    options.open(DIR)
}

/// One half of a transaction: every other one leaves `side` alone.
fn write(running: &Transaction, topics: &[Topic; 3], n: usize, half: &str) -> Result<()> {
    let count = if n.is_multiple_of(2) { 3 } else { 2 };
    for topic in &topics[..count] {
        let value = format!("{n}{half}");
        running.append(topic, 0, &mut super::batch(&[&value]))?;
    }
    Ok(())
}

fn run(storage: &MemoryStorage, broken: Option<Broken>, told: &mut Told) -> Result<()> {
    let log = open(storage, broken)?;
    let settings = || TopicSettings { segment_bytes: 400, ..TopicSettings::default() };
    let topics = [
        log.create_topic("out", settings())?,
        log.create_topic("rep", settings())?,
        log.create_topic("side", settings())?,
    ];
    let producer = |id| log.transactional_producer(id, Durability::Sync);
    let mut producers = [producer("job")?, producer("job.2")?];
    let mut running = producers[0].begin()?;
    write(&running, &topics, 0, "a")?;
    for n in 0..ROUNDS {
        write(&running, &topics, n, "b")?;
        let [out, rep, _] = &topics;
        let read_to = log.offsets(rep.id(), 0)?.log_end_offset;
        let next = producers[(n + 1) % 2].begin()?;
        let sealed = std::mem::replace(&mut running, next);
        write(&running, &topics, n + 1, "a")?;
        told.tried.push(read_to);
        sealed.commit(&[position(rep, read_to)])?;
        told.acknowledged = n + 1;
        // The power may be gone behind the commit point.
        log.offsets(out.id(), 0)?;
        assert_eq!(committed(&log, out).last(), Some(&format!("{n}b")), "visible, and no more");
        log.purge(rep.id(), 0, read_to)?;
    }
    Ok(())
}

/// Runs it until the plug is pulled after operation `cut`, or to its end.
fn pull_plug(cut: Option<u64>, broken: Option<Broken>) -> (MemoryStorage, Told) {
    let storage = MemoryStorage::new(4);
    if let Some(cut) = cut {
        storage.stop_after(cut);
    }
    let mut told = Told::default();
    let outcome = run(&storage, broken, &mut told);
    assert!(cut.is_some() || outcome.is_ok(), "{outcome:?}");
    storage.stop_after(0);
    (storage, told)
}

/// What is wrong with what is left.
fn check(image: &MemoryStorage, broken: Option<Broken>, told: &Told) -> Result<(), String> {
    let log = open(image, broken).map_err(|e| format!("it does not open: {e}"))?;
    let Ok(out) = log.topic("out") else { return Ok(()) };
    let seen = committed(&log, &out);
    let whole = seen.len() / 2;
    let expected: Vec<String> =
        (0..whole).flat_map(|n| ["a", "b"].map(|h| format!("{n}{h}"))).collect();
    if seen != expected {
        return Err(format!("out: {seen:?}"));
    }
    if !(told.acknowledged..=told.tried.len()).contains(&whole) {
        return Err(format!("{whole} are committed, {} were acknowledged", told.acknowledged));
    }
    let Ok(rep) = log.topic("rep") else { return Ok(()) };
    let positions = log.committed(&group()).map_err(|e| e.to_string())?;
    let wanted: Vec<_> = whole.checked_sub(1).map(|n| told.tried[n]).into_iter().collect();
    if positions.iter().map(|found| found.offset).collect::<Vec<_>>() != wanted {
        return Err(format!("after {whole} commits the positions are {positions:?}"));
    }
    let offsets = log.offsets(rep.id(), 0).map_err(|e| e.to_string())?;
    let position = wanted.first().copied().unwrap_or(0);
    if offsets.log_start_offset > position || offsets.last_stable_offset != offsets.log_end_offset {
        return Err(format!("rep: {offsets:?}, position {position}"));
    }
    let Ok(side) = log.topic("side") else { return Ok(()) };
    let halves = committed(&log, &side).len();
    if halves == whole.div_ceil(2) * 2 { Ok(()) } else { Err(format!("side: {halves}")) }
}

fn keeps(cut: u64) -> [Keep; 4] {
    [Keep::None, Keep::All, Keep::Random(cut), Keep::Random(cut + 10_000)]
}

#[test]
fn commits_in_turn_survive_a_power_cut_after_any_operation_and_during_recovery() {
    let (storage, told) = pull_plug(None, None);
    assert_eq!(told.acknowledged, ROUNDS);
    let operations = storage.operations();
    assert!(operations > 150, "{operations} operations");
    for cut in 0..=operations {
        let (storage, told) = pull_plug(Some(cut), None);
        assert_eq!(check(&storage.kill_image(), None, &told), Ok(()), "killed after {cut}");
        for keep in keeps(cut) {
            let image = storage.crash_image(keep);
            image.stop_after(cut % 11);
            drop(open(&image, None));
            let again = image.crash_image(Keep::Random(cut));
            assert_eq!(check(&again, None, &told), Ok(()), "in recovery from {cut}, {keep:?}");
            let image = storage.crash_image(keep);
            assert_eq!(check(&image, None, &told), Ok(()), "after operation {cut}, {keep:?}");
        }
    }
}

#[test]
fn mistakes_that_two_producers_in_turn_show_are_noticed() {
    let operations = pull_plug(None, None).0.operations();
    for broken in [Broken::LoseMarker, Broken::FoldEarly, Broken::IgnoreEpochs] {
        let is_wrong = |cut: u64| {
            let caught = std::panic::catch_unwind(|| {
                let (storage, told) = pull_plug(Some(cut), Some(broken));
                let wrong = |keep| check(&storage.crash_image(keep), Some(broken), &told).is_err();
                keeps(cut).into_iter().any(wrong)
            });
            caught.unwrap_or(true)
        };
        assert!((0..=operations).any(is_wrong), "{broken:?} went unnoticed");
    }
}

/// A failed sync under the commit of one dooms the other, which has begun.
#[test]
fn a_commit_that_fails_takes_the_transaction_that_has_begun_with_it() {
    use crate::storage::memory::{At, Call, Effect, Fault};
    let storage = MemoryStorage::new(1);
    let log = open(&storage, None).unwrap();
    let out = log.create_topic("out", TopicSettings::default()).unwrap();
    let mut one = log.transactional_producer("job", Durability::Sync).unwrap();
    let mut two = log.transactional_producer("job.2", Durability::Sync).unwrap();
    let (first, second) = (one.begin().unwrap(), two.begin().unwrap());
    append(&first, &out, &["first"]);
    append(&second, &out, &["second"]);
    let at = At::Path(Call::Sync, "__commits-".to_owned());
    storage.inject(Fault::once(at, Effect::Error(std::io::ErrorKind::Other)));
    assert!(first.commit(&[]).is_err());
    assert!(second.commit(&[]).is_err(), "it builds on what is not known");
    assert_eq!(committed(&log, &out), ["first"], "recovery found the record and decided");
}
