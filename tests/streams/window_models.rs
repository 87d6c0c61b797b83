//! Plain models of windows, and the records that they are tried with. They share no code with `streams`.
//!
//! A record is late for a window if the largest time read from its partition has reached the point at which
//! the window closes.

use std::collections::{BTreeMap, BTreeSet};

use streams::prelude::*;
use streams::testing::TestRecord;

/// A record that says who it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) key: String,
    pub(crate) id: u64,
    pub(crate) at: i64,
}

pub(crate) const SEEN: Topic<NoKey, Seen> = topic("seen");
pub(crate) const SETS: Topic<Windowed<String>, BTreeSet<u64>> = topic("sets");
pub(crate) const COUNTS: Topic<Windowed<String>, u64> = topic("counts");
pub(crate) const LATE: Topic<String, Seen> = topic("late");

/// Far past every record of the suite.
pub(crate) const LATER: i64 = 1 << 40;

/// The ids in each window of each key, with the largest of their times.
pub(crate) type Sets = BTreeMap<(String, i64, i64), (BTreeSet<u64>, i64)>;

pub(crate) fn put(seen: &mut BTreeSet<u64>, record: Seen) {
    seen.insert(record.id);
}

pub(crate) fn both(seen: &mut BTreeSet<u64>, later: BTreeSet<u64>) {
    seen.extend(later);
}

pub(crate) fn keyed(t: &mut Topology) -> Stream<String, Seen> {
    t.stream(SEEN).event_time(|s| s.at).key_by(|s| s.key.clone())
}

/// Records for each partition, out of order by up to `jitter`.
pub(crate) fn seen(
    seed: u64,
    partitions: u32,
    each: u64,
    step: i64,
    jitter: u64,
) -> Vec<(u32, Seen)> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = move |limit: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let mut all: Vec<(u32, Seen)> = Vec::new();
    for i in 0..each {
        for partition in 0..partitions {
            let base = i64::from(partition) * 3 * step + i64::try_from(i).unwrap() * step;
            let at = base - i64::try_from(next(jitter)).unwrap();
            let id = u64::try_from(all.len()).unwrap();
            all.push((partition, Seen { key: format!("k{}", next(3)), id, at }));
        }
    }
    all
}

/// Each record with the clock of its partition.
fn clocked(input: &[(u32, Seen)]) -> Vec<(Seen, i64)> {
    let mut clocks: BTreeMap<u32, i64> = BTreeMap::new();
    let mut all = Vec::new();
    for (partition, record) in input {
        let clock = clocks.entry(*partition).or_insert(i64::MIN);
        *clock = (*clock).max(record.at);
        all.push((record.clone(), *clock));
    }
    all
}

/// Windows of `size` every `step`, and how many records had missed one of theirs.
pub(crate) fn hopping_model(
    input: &[(u32, Seen)],
    size: i64,
    step: i64,
    grace: i64,
) -> (Sets, u64) {
    let (mut sets, mut late) = (Sets::new(), 0);
    for (record, clock) in clocked(input) {
        let mut missed = false;
        let mut start = record.at.div_euclid(step) * step;
        let first = if record.at < 0 { i64::MIN } else { 0 };
        while start > record.at - size && start >= first {
            if clock >= start + size + grace {
                missed = true;
            } else {
                add(&mut sets, &record, start, start + size);
            }
            start -= step;
        }
        late += u64::from(missed);
    }
    (sets, late)
}

pub(crate) fn add(sets: &mut Sets, record: &Seen, start: i64, end: i64) {
    let row = sets.entry((record.key.clone(), start, end));
    let row = row.or_insert_with(|| (BTreeSet::new(), i64::MIN));
    row.0.insert(record.id);
    row.1 = row.1.max(record.at);
}

/// One window for each set of records no further apart than `difference`, the long way round.
pub(crate) fn sliding_model(input: &[(u32, Seen)], difference: i64, grace: i64) -> (Sets, u64) {
    let all = clocked(input);
    let is_late = |start: i64, clock: i64| clock > start + difference + grace;
    let ending = |at: i64| if at < 0 { at - difference } else { (at - difference).max(0) };
    let mut sets = Sets::new();
    for (record, clock) in &all {
        let ends = Some(ending(record.at)).filter(|start| !is_late(*start, *clock));
        let begins = Some(record.at + 1).filter(|start| !is_late(*start, *clock));
        for start in ends.into_iter().chain(begins) {
            for (other, clock) in all.iter().filter(|(other, _)| other.key == record.key) {
                let covers = start <= other.at && other.at <= start + difference;
                if covers && !is_late(start, *clock) {
                    add(&mut sets, other, start, start + difference);
                }
            }
        }
    }
    let late = all.iter().filter(|(record, clock)| is_late(ending(record.at), *clock)).count();
    (sets, u64::try_from(late).unwrap())
}

/// Sessions where all records come in time: neighbours that are no further apart than `gap`.
pub(crate) fn session_model(input: &[(u32, Seen)], gap: i64) -> Sets {
    let mut by_key: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    for (_, record) in input {
        by_key.entry(record.key.clone()).or_default().push(record.clone());
    }
    let mut sets = Sets::new();
    for mut records in by_key.into_values() {
        records.sort_by_key(|record| record.at);
        for session in records.chunk_by(|a, b| b.at - a.at <= gap) {
            let (first, last) = (session[0].at, session[session.len() - 1].at);
            session.iter().for_each(|record| add(&mut sets, record, first, last));
        }
    }
    sets
}

/// Sessions of one partition, record by record, and how many are late: what closes is taken away first.
pub(crate) fn session_model_in_order(input: &[(u32, Seen)], gap: i64, grace: i64) -> (Sets, u64) {
    let mut open: Vec<(String, i64, i64, BTreeSet<u64>)> = Vec::new();
    let (mut closed, mut late) = (Sets::new(), 0);
    for (record, clock) in clocked(input) {
        let at = record.at;
        let is_over = |last: i64| clock > last + gap + grace;
        let (over, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|s| is_over(s.2));
        closed.extend(over.into_iter().map(|(k, a, b, ids)| ((k, a, b), (ids, b))));
        let near = |s: &(String, i64, i64, BTreeSet<u64>)| {
            s.0 == record.key && s.1 - gap <= at && at <= s.2 + gap
        };
        let (joined, mut rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(near);
        let mut whole = (record.key.clone(), at, at, BTreeSet::from([record.id]));
        for (_, first, last, ids) in joined {
            whole = (whole.0, whole.1.min(first), whole.2.max(last), &whole.3 | &ids);
        }
        if is_over(whole.2) {
            late += 1;
        } else {
            rest.push(whole);
        }
        open = rest;
    }
    closed.extend(open.into_iter().map(|(k, a, b, ids)| ((k, a, b), (ids, b))));
    (closed, late)
}

pub(crate) fn final_results(records: &[TestRecord<Windowed<String>, BTreeSet<u64>>]) -> Sets {
    let mut sets = Sets::new();
    for record in records {
        let key = record.key.clone().unwrap();
        let row = (record.value.clone().unwrap(), record.timestamp);
        let twice = sets.insert((key.key.clone(), key.start, key.end), row);
        assert!(twice.is_none(), "{key:?} spoke twice");
    }
    sets
}

/// The last value of each window; one that was taken back is none.
pub(crate) fn last_results(records: &[TestRecord<Windowed<String>, BTreeSet<u64>>]) -> Sets {
    let mut sets = Sets::new();
    for record in records {
        let key = record.key.clone().unwrap();
        let key = (key.key, key.start, key.end);
        match &record.value {
            Some(value) => drop(sets.insert(key, (value.clone(), record.timestamp))),
            None => assert!(sets.remove(&key).is_some(), "{key:?} was never told"),
        }
    }
    sets
}

/// Runs a job over the input, with commits after each so many records, and closes what can be closed.
pub(crate) fn run(
    job: impl Fn(&mut Topology) + Send + Sync + 'static,
    input: &[(u32, Seen)],
    (partitions, seed, crashes): (u32, u64, bool),
    commit_every: usize,
) -> TestDriver {
    let mut d = TestDriver::new(job).partitions(partitions).seed(seed);
    if crashes {
        d = d.crash_every(23);
    }
    if seed % 8 == 7 {
        d = d.stores_on_disk(std::env::temp_dir());
    }
    for (i, (partition, record)) in input.iter().enumerate() {
        d.send_to(SEEN, *partition, NoKey, record.clone());
        if i % commit_every == commit_every - 1 {
            d.run().unwrap();
        }
    }
    d.advance_to(LATER);
    d
}
