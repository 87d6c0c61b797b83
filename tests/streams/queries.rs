//! Stores asked from other threads while their job works: one committed cut, typed, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use core_log::{BatchBuilder, Durability, FetchBound, Log, PartitionReader, TopicSettings};
use streams::prelude::*;

const IN: Topic<String, u64> = topic("in");
const PARTITIONS: u32 = 4;

type Rows = BTreeMap<String, u64>;

/// A directory with `each` records in every partition: the value 1 under one of ten keys that name
/// the partition.
fn directory(each: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("in", TopicSettings::with_partitions(PARTITIONS)).unwrap();
    let mut producer = log.producer(Durability::Os).unwrap();
    let mut batch = BatchBuilder::new();
    let none: &[(&str, Option<&[u8]>)] = &[];
    for n in 0..each {
        for partition in 0..PARTITIONS {
            let key = format!("{partition}/{}", n % 10);
            batch.push(1_700_000_000_000, Some(key.as_bytes()), Some(b"1"), none).unwrap();
            producer.append(&topic, partition, &mut batch).unwrap();
            batch.clear();
        }
    }
    log.close().unwrap();
    dir
}

fn start(dir: &Path, topology: fn(&mut Topology)) -> Handle {
    let app = App::new("job", topology).log(dir).threads(2).commit_every(millis(2));
    app.durability(Durability::Os).start().unwrap()
}

fn wait_until_idle(handle: &Handle) {
    while !handle.is_idle_for(millis(50)) {
        assert!(!handle.wait_timeout(millis(5)), "the job ended by itself");
    }
}

fn counts(t: &mut Topology) {
    t.stream(IN).count("counts");
}

/// The same, slowly: many commits and many questions fall into the work.
fn slow_counts(t: &mut Topology) {
    let ponder = |n: &u64| (0..3_000_u64).fold(*n, |a, b| std::hint::black_box(a ^ b)) != u64::MAX;
    t.stream(IN).filter(ponder).count("counts");
}

/// For each partition of the changelog: its transactions in order, and the rows after each.
type History = Vec<Vec<((i64, i16), Rows)>>;

fn history(dir: &Path) -> History {
    let log = Log::open(dir).unwrap();
    let topic = log.topic("job-counts-changelog").unwrap();
    let mut history = History::new();
    for partition in 0..PARTITIONS {
        let (mut rows, mut commits) = (Rows::new(), Vec::new());
        let bound = FetchBound::LastStable;
        let mut reader = PartitionReader::new(log.clone(), &topic, partition, 0, bound);
        while let Some(batch) = reader.next_batch(1).unwrap() {
            let transaction = (batch.header().producer_id.0, batch.header().producer_epoch.0);
            for record in batch.records() {
                let record = record.unwrap();
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                rows.insert(key, Bincode::decode(record.value.unwrap()).unwrap());
            }
            if commits.last().is_some_and(|(last, _)| *last == transaction) {
                commits.pop();
            }
            commits.push((transaction, rows.clone()));
        }
        history.push(commits);
    }
    log.close().unwrap();
    history
}

/// Whether an answer is what the whole job had committed at one moment: each partition shows a prefix
/// of its transactions, and a transaction shows in all partitions that it wrote, or in none.
fn is_one_cut(answer: &Rows, history: &History) -> bool {
    let mut shown: BTreeMap<(i64, i16), bool> = BTreeMap::new();
    for (partition, commits) in history.iter().enumerate() {
        let prefix = format!("{partition}/");
        let own = answer.iter().filter(|(key, _)| key.starts_with(&prefix));
        let own: Rows = own.map(|(key, n)| (key.clone(), *n)).collect();
        let reached = commits.iter().position(|(_, rows)| *rows == own).map(|at| at + 1);
        let Some(reached) = reached.or(own.is_empty().then_some(0)) else { return false };
        for (at, (transaction, _)) in commits.iter().enumerate() {
            if *shown.entry(*transaction).or_insert(at < reached) != (at < reached) {
                return false;
            }
        }
    }
    true
}

#[test]
fn every_answer_is_one_committed_cut_through_a_busy_job() {
    const EACH: u64 = 20_000;
    let dir = directory(EACH);
    let handle = start(dir.path(), slow_counts);
    let store: Store<String, u64> = handle.store("counts").unwrap();
    let mut answers: Vec<Rows> = Vec::new();
    loop {
        let answer = store.range(..).collect::<streams::Result<Rows>>();
        match answer {
            Ok(rows) => answers.push(rows),
            Err(error) => assert_eq!((error.code(), answers.len()), ("S034", 0), "{error}"),
        }
        let total: u64 = answers.last().map_or(0, |rows| rows.values().sum());
        if total == EACH * u64::from(PARTITIONS) {
            break;
        }
        assert!(!handle.wait_timeout(millis(0)), "the job ended by itself");
    }
    handle.stop();
    assert!(handle.wait().unwrap().commits > 5);
    let history = history(dir.path());
    answers.dedup();
    assert!(answers.len() > 3, "too few answers fell between two commits: {}", answers.len());
    for answer in &answers {
        assert!(is_one_cut(answer, &history), "{answer:?}");
    }
    // The checker would notice: two cuts mixed are none, and a row that never was is in none.
    let mixed = |a: &Rows, b: &Rows| -> Rows {
        let half = |rows: &Rows, from: &str, to: &str| -> Rows {
            rows.range(from.to_owned()..to.to_owned()).map(|(k, n)| (k.clone(), *n)).collect()
        };
        half(a, "0", "2").into_iter().chain(half(b, "2", "9")).collect()
    };
    let (first, last) = (answers.first().unwrap(), answers.last().unwrap());
    assert!(!is_one_cut(&mixed(last, first), &history));
    let mut wrong = last.clone();
    *wrong.get_mut("0/0").unwrap() += 1;
    assert!(!is_one_cut(&wrong, &history));
}

#[test]
fn rows_are_found_by_key_range_and_prefix_over_all_pages() {
    fn many(t: &mut Topology) {
        t.stream(IN).key_by(|n| *n % 2_500).count("numbers");
        t.stream(IN).count("counts");
    }
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("in", TopicSettings::with_partitions(3)).unwrap();
    let mut producer = log.producer(Durability::Os).unwrap();
    let none: &[(&str, Option<&[u8]>)] = &[];
    for n in 0..5_000_u32 {
        let mut batch = BatchBuilder::new();
        let key = ["a", "ab", "b", "a\u{e9}"][usize::try_from(n % 4).unwrap()];
        let value = n.to_string();
        batch.push(1, Some(key.as_bytes()), Some(value.as_bytes()), none).unwrap();
        producer.append(&topic, n % 3, &mut batch).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let handle = start(dir.path(), many);
    wait_until_idle(&handle);

    let numbers: Store<u64, u64> = handle.store("numbers").unwrap();
    assert_eq!(numbers.get(&17).unwrap(), Some(2));
    assert_eq!(numbers.get(&2_500).unwrap(), None);
    let all: Vec<(u64, u64)> = numbers.range(..).collect::<streams::Result<_>>().unwrap();
    assert_eq!(all, (0..2_500).map(|n| (n, 2)).collect::<Vec<_>>(), "pages of three partitions");
    let keys = |rows: streams::Rows<u64, u64>| {
        rows.map(|row| row.map(|(key, _)| key)).collect::<streams::Result<Vec<_>>>().unwrap()
    };
    assert_eq!(keys(numbers.range(10..13)), [10, 11, 12]);
    assert_eq!(keys(numbers.range(10..=13)), [10, 11, 12, 13]);
    assert_eq!(keys(numbers.range(2_498..)), [2_498, 2_499]);
    assert_eq!(
        keys(numbers.range((std::ops::Bound::Excluded(5), std::ops::Bound::Excluded(7)))),
        [6]
    );
    let backwards = (std::ops::Bound::Included(13), std::ops::Bound::Excluded(10));
    assert_eq!(numbers.range(backwards).count(), 0);

    // Keys lie in every partition here: the producer did not place them by their hash.
    let counts: Store<String, u64> = handle.store("counts").unwrap();
    let home = counts.get(&"ab".to_owned()).unwrap().unwrap();
    assert!((416..=417).contains(&home), "{home}");
    let with_a = counts.prefix("a").collect::<streams::Result<Vec<_>>>().unwrap();
    let order: Vec<&str> = with_a.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(order, ["a", "a", "a", "ab", "ab", "ab", "a\u{e9}", "a\u{e9}", "a\u{e9}"]);
    assert_eq!(with_a.iter().map(|(_, n)| n).sum::<u64>(), 3_750);
    assert_eq!(counts.prefix("zebra").count(), 0);
    assert_eq!(counts.prefix("").count(), 12);
    handle.stop();
    handle.wait().unwrap();
}

#[test]
fn open_windows_are_fetched_by_key_and_time() {
    fn windows(t: &mut Topology) {
        t.stream(IN)
            .event_time(|n| i64::try_from(*n).unwrap())
            .window(tumbling(secs(1)))
            .count("n")
            .on_close()
            .to(topic("closed"));
    }
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("in", TopicSettings::with_partitions(1)).unwrap();
    let mut producer = log.producer(Durability::Os).unwrap();
    let none: &[(&str, Option<&[u8]>)] = &[];
    let now = 1_700_000_000_000_u64;
    for (key, at) in [("a", 0), ("a", 500), ("ab", 400), ("a", 999), ("b", 700)] {
        let mut batch = BatchBuilder::new();
        let value = (now + at).to_string();
        batch.push(0, Some(key.as_bytes()), Some(value.as_bytes()), none).unwrap();
        producer.append(&topic, 0, &mut batch).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let app = App::new("job", windows).log(dir.path()).event_time_ahead_max(days(1_000_000));
    let handle = app.start().unwrap();
    wait_until_idle(&handle);
    let store: Store<Windowed<String>, u64> = handle.store("n").unwrap();
    let start = i64::try_from(now).unwrap();
    let window = |key: &str| Windowed { key: key.to_owned(), start, end: start + 1_000 };
    let fetch = |key: &str, from, to| {
        let rows = store.fetch(&key.to_owned(), from..to);
        rows.collect::<streams::Result<Vec<_>>>().unwrap()
    };
    assert_eq!(fetch("a", i64::MIN, i64::MAX), [(window("a"), 3)]);
    assert_eq!(fetch("a", start, start + 1), [(window("a"), 3)]);
    assert_eq!(fetch("a", start + 1, i64::MAX), []);
    assert_eq!(fetch("a", i64::MIN, start), []);
    assert_eq!(store.get(&window("b")).unwrap(), Some(1));
    let mut with_a = store.prefix("a").collect::<streams::Result<Vec<_>>>().unwrap();
    with_a.sort();
    assert_eq!(with_a, [(window("a"), 3), (window("ab"), 1)]);
    handle.stop();
    handle.wait().unwrap();
}

#[test]
fn other_types_an_unknown_store_and_a_job_that_has_ended_are_errors() {
    let dir = directory(10);
    let handle = start(dir.path(), counts);
    wait_until_idle(&handle);
    let unknown = handle.store::<String, u64>("count").unwrap_err();
    assert_eq!(unknown.code(), "S030");
    assert_eq!(unknown.help()[0], "did you mean `counts`?");
    let types = handle.store::<String, i64>("counts").unwrap_err();
    assert_eq!(types.code(), "S033");
    let said = "store `counts` holds String -> u64, and was asked for String -> i64";
    assert_eq!(types.to_string(), said);
    let store: Store<String, u64> = handle.store("counts").unwrap();
    assert_eq!(store.get(&"0/0".to_owned()).unwrap(), Some(1));
    handle.stop();
    while !handle.wait_timeout(secs(60)) {}
    assert_eq!(store.get(&"0/0".to_owned()).unwrap_err().code(), "S034");
    let mut rows = store.range(..);
    assert_eq!(rows.next().unwrap().unwrap_err().code(), "S034");
    assert!(rows.next().is_none(), "after an error there is nothing");
    handle.wait().unwrap();
}
