//! Stores on disk beside their changelogs, read without `streams`.
//!
//! Why by hand: what is checked is that RocksDB never holds more, less or other than the committed
//! changelog says, at any moment at which the process may die. So this file knows the layouts
//! (`store/layout.rs`, `operator/envelope.rs`) and nothing else of the runtime.
//!
//! ```text
//!   changelog  |--- fold, read committed ---> C                     end
//!   store      rows + time index            checkpoint C    tail: what a restart replays
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use core_log::Log;
use rocksdb::{DB, IteratorMode, Options};

use crate::compare::{first_difference, told};
use crate::directory::{Stored, positions, read};
use crate::jobs::{Job, Layout, PARTITIONS, Placed, model};

const PREFIX: usize = 4;
const KIND_CHECKPOINT: u8 = 0;
const KIND_ROW: u8 = 1;
const KIND_TIME_INDEX: u8 = 2;
const KIND_LISTED: u8 = 3;
const KIND_FIRST: u8 = 4;
const KIND_SLICE: u8 = 5;
/// Flags of a row of a join: it has matched; it is a first row, and there are others.
const MATCHED: u8 = 1;
const CROWDED: u8 = 2;
/// Where the offset lies in a checkpoint of version 1.
const CHECKPOINT_OFFSET: usize = 37;
/// Timestamp and sequence, at the end of a row's key in a join.
const JOIN_TAIL: usize = 12;
/// How long a slice of the join is: both differences, and 1.
const SLICE_MS: i64 = 10_001;

/// Rows by key: timestamp and value.
type Rows = BTreeMap<Vec<u8>, (i64, Vec<u8>)>;

/// One partition of a store on disk.
#[derive(Debug, Default)]
struct OnDisk {
    checkpoint: Option<i64>,
    rows: Rows,
    index: BTreeSet<Vec<u8>>,
    /// Slices of a join: the rows that they name beside the first one, or none.
    slices: BTreeMap<Vec<u8>, Vec<u8>>,
}

fn be_i64(bytes: &[u8]) -> i64 {
    i64::from_be_bytes(bytes[..8].try_into().unwrap())
}

/// What RocksDB has of a store, by partition; nothing if it was never opened. Rows of a join have their kind
/// in their keys, as in the changelog.
fn on_disk(dir: &Path, job: Job, store: &str, layout: Layout) -> BTreeMap<u32, OnDisk> {
    let mut found: BTreeMap<u32, OnDisk> = BTreeMap::new();
    let (state, options) = (dir.join("state").join(job.id()), Options::default());
    let Ok(families) = DB::list_cf(&options, &state) else { return found };
    if !families.iter().any(|family| family == store) {
        return found;
    }
    let database = DB::open_cf_for_read_only(&options, &state, families, false).unwrap();
    let family = database.cf_handle(store).unwrap();
    for entry in database.iterator_cf(family, IteratorMode::Start) {
        let (key, value) = entry.unwrap();
        let partition = u32::from_be_bytes(key[..PREFIX].try_into().unwrap());
        let (kind, key) = (key[PREFIX], key[PREFIX + 1..].to_vec());
        let part = found.entry(partition).or_default();
        match kind {
            KIND_CHECKPOINT => part.checkpoint = Some(be_i64(&value[CHECKPOINT_OFFSET..])),
            KIND_ROW | KIND_LISTED | KIND_FIRST => {
                let is_side = matches!(layout, Layout::Side(_));
                let key = if is_side { [&[kind][..], &key].concat() } else { key };
                drop(part.rows.insert(key, (be_i64(&value), value[8..].to_vec())))
            }
            KIND_TIME_INDEX => drop(part.index.insert(key)),
            KIND_SLICE => drop(part.slices.insert(key, value.to_vec())),
            _ => panic!("{store}: an unknown kind of row: {kind}"),
        }
    }
    found
}

/// The rows that changelog records of one partition leave, up to an offset.
fn fold(records: &[Stored], partition: u32, end: i64) -> Rows {
    let mut rows = Rows::new();
    for record in records.iter().filter(|r| r.partition == partition && r.offset < end) {
        let key = record.key.clone().unwrap();
        match &record.value {
            Some(value) => rows.insert(key, (record.timestamp, value.clone())),
            None => rows.remove(&key),
        };
    }
    rows
}

/// The time index entry of a windowed row: its end, then its key.
fn index_entry(key: &[u8]) -> Vec<u8> {
    let mut entry = key[key.len() - 8..].to_vec();
    entry.extend_from_slice(key);
    entry
}

/// The entries of the time index that rows imply: of windows all, of a join those that have not matched
/// and will speak.
fn implied_index(rows: &Rows, layout: Layout) -> BTreeSet<Vec<u8>> {
    let entry = |(key, (at, value)): (&Vec<u8>, &(i64, Vec<u8>))| match layout {
        Layout::Windowed => Some(index_entry(key)),
        Layout::Side(true) if value[0] & MATCHED == 0 => {
            let at = (at ^ i64::MIN).to_be_bytes();
            let row = match key[0] {
                KIND_FIRST => [&key[9..], &at, &[0; 4]].concat(),
                _ => key[1..].to_vec(),
            };
            Some([&at[..], &row].concat())
        }
        Layout::Plain | Layout::Side(_) => None,
    };
    rows.iter().filter_map(entry).collect()
}

/// Whether the slices of a join are those of its rows: each has some beside a first one that says so, and
/// names all or none of them.
fn slices_fit(rows: &Rows, slices: &BTreeMap<Vec<u8>, Vec<u8>>, layout: Layout) -> bool {
    let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let of_sides = || rows.iter().filter(|_| matches!(layout, Layout::Side(_)));
    for (key, _) in of_sides().filter(|(key, _)| key[0] == KIND_LISTED) {
        let (inner, tail) = key[1..].split_at(key.len() - 1 - JOIN_TAIL);
        let number = (be_i64(tail) ^ i64::MIN).div_euclid(SLICE_MS) ^ i64::MIN;
        let slice = [&number.to_be_bytes(), inner].concat();
        expected.entry(slice).or_default().extend_from_slice(tail);
    }
    let fits = |(key, named): (&Vec<u8>, &Vec<u8>)| {
        expected.get(key).is_some_and(|all| named.is_empty() || named == all)
    };
    let firsts = of_sides().filter(|(key, _)| key[0] == KIND_FIRST);
    let firsts: BTreeMap<&[u8], bool> =
        firsts.map(|(key, (_, value))| (&key[1..], value[0] & CROWDED != 0)).collect();
    let says_so = |slice: &Vec<u8>| firsts.get(&slice[..]) == Some(&true);
    let crowded = firsts.values().filter(|crowded| **crowded).count();
    expected.len() == slices.len()
        && slices.iter().all(fits)
        && expected.keys().all(says_so)
        && crowded == expected.len()
}

/// What is wrong with the stores, and how many changelog records lie behind their checkpoints.
#[derive(Debug, Default)]
pub(crate) struct Inspection {
    pub(crate) problems: Vec<String>,
    pub(crate) tail: u64,
    pub(crate) changelog_records: u64,
}

/// Compares all stores of a job with their changelogs, at any point at which the process may have
/// died.
pub(crate) fn inspect(dir: &Path, log: &Log, job: Job) -> Inspection {
    let mut found = Inspection::default();
    for &(store, layout) in job.stores() {
        let changelog = read(log, &job.changelog(store));
        let mut disk = on_disk(dir, job, store, layout);
        for partition in 0..PARTITIONS {
            let part = disk.remove(&partition).unwrap_or_default();
            let of_partition = || changelog.iter().filter(|r| r.partition == partition);
            let reached = part.checkpoint.unwrap_or(0);
            let rows = fold(&changelog, partition, reached);
            found.changelog_records += u64::try_from(of_partition().count()).unwrap();
            let behind = of_partition().filter(|record| record.offset >= reached).count();
            found.tail += u64::try_from(behind).unwrap();
            if let Some(difference) = first_difference(&rows, &part.rows) {
                found.problems.push(format!("{store}-{partition} at {reached}: {difference}"));
            }
            if implied_index(&rows, layout) != part.index {
                found.problems.push(format!("{store}-{partition} at {reached}: the time index"));
            }
            if !slices_fit(&rows, &part.slices, layout) {
                found.problems.push(format!("{store}-{partition} at {reached}: the slices"));
            }
            let end = of_partition().map(|record| record.offset + 1).max().unwrap_or(0);
            if reached > end {
                found.problems.push(format!(
                    "{store}-{partition}: the checkpoint {reached} lies beyond the last committed \
                     record, which ends at {end}"
                ));
            }
        }
    }
    found
}

/// After a clean stop: every store is the fold of its whole changelog. What is wrong.
pub(crate) fn unlike_their_changelogs(dir: &Path, log: &Log, job: Job) -> Vec<String> {
    let Inspection { mut problems, tail, .. } = inspect(dir, log, job);
    if tail > 0 {
        problems.push(format!("{tail} changelog records are in no store after a clean stop"));
    }
    problems
}

/// Whether the committed positions, outputs, stores and repartition records are one cut through the
/// job: every click below the committed positions is in exactly one place. What is wrong.
pub(crate) fn unaccounted(log: &Log, job: Job, input: &[Placed]) -> Option<String> {
    if job == Job::Joins {
        // Clicks of a join go when nothing can meet them any more: only the end tells.
        return None;
    }
    let positions = positions(log, job);
    let mut seen = [0_i64; PARTITIONS as usize];
    let mut consumed = input.to_vec();
    consumed.retain(|(partition, _)| {
        let next = &mut seen[*partition as usize];
        *next += 1;
        positions.get(&("clicks".to_owned(), *partition)).is_some_and(|&end| *next <= end)
    });
    let expected = model(job, &consumed);
    let store = if job == Job::Clickstream { "clicks-per-page" } else { "totals" };
    let mut found: BTreeMap<(String, i64), u64> = BTreeMap::new();
    let mut add = |page: &[u8], start: i64, clicks: u64| {
        let page = String::from_utf8(page.to_vec()).unwrap();
        *found.entry((page, start)).or_default() += clicks;
    };
    let repartition = job.repartition(store);
    for record in read(log, &repartition).into_iter().filter(|record| record.key.is_some()) {
        let at = positions.get(&(repartition.clone(), record.partition)).copied().unwrap_or(0);
        let start = record.timestamp.div_euclid(60_000) * 60_000;
        let (clicks, source_time) = counted(&record);
        let late = job == Job::Clickstream && source_time >= start + 70_000;
        if record.offset >= at && !late {
            let start = if job == Job::Clickstream { start } else { 0 };
            add(record.key.as_ref().unwrap(), start, clicks);
        }
    }
    let changelog = read(log, &job.changelog(store));
    for partition in 0..PARTITIONS {
        for (key, (_, value)) in fold(&changelog, partition, i64::MAX) {
            let count = bincode_u64(&value);
            match job {
                Job::Clickstream => {
                    let (page, times) = key.split_at(key.len() - 16);
                    add(page, be_i64(times) ^ i64::MIN, count);
                }
                _ => add(&key, 0, count),
            }
        }
    }
    if matches!(job, Job::TwoHops | Job::ForeignKeys) {
        let wanted = expected.totals.into_iter().map(|(page, n)| ((page, 0), n)).collect();
        return first_difference(&wanted, &found);
    }
    for ((page, start), (count, _)) in told(log).counts {
        add(page.as_bytes(), start, count);
    }
    let wanted = expected.counts.into_iter().map(|(key, (count, _))| (key, count)).collect();
    first_difference(&wanted, &found)
}

/// How many clicks a repartition record stands for, and its source time: behind the tag and the
/// difference of times there is a count, or it is one click.
fn counted(record: &Stored) -> (u64, i64) {
    let bytes = &record.value.as_ref().unwrap()[1..];
    let (mut raw, mut rest) = (0_u64, bytes);
    for (i, byte) in bytes.iter().enumerate() {
        raw |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            rest = &bytes[i + 1..];
            break;
        }
    }
    let difference = (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed();
    let clicks = if rest.is_empty() { 1 } else { bincode_u64(rest) };
    (clicks, record.timestamp + difference)
}

fn bincode_u64(bytes: &[u8]) -> u64 {
    bincode::serde::decode_from_slice(bytes, bincode::config::standard()).unwrap().0
}
