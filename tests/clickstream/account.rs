//! The verifier on real logs: what a job left is exact, and each way to falsify it is noticed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use core_log::{BatchBuilder, Durability, FetchBound, Log, NO_HEADERS, PartitionReader, Topic};

use super::verifier::{Account, Error, verify};
use super::{requests, succeed};

/// What a demo of ten minutes leaves, eight clicks a minute, all on one page: minutes 0 to 7 are closed,
/// the last two are open. Never opened, only copied.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap().keep();
        let file = dir.join("access.log");
        fs::write(&file, requests()).unwrap();
        succeed(&dir.join("log"), &["--access-log", file.to_str().unwrap()]);
        dir.join("log")
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The segments of a partition, in order.
fn segments(partition: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(partition).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<PathBuf> =
        names.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    logs.sort();
    logs
}

/// The account of the template after `falsify` has been at its log.
fn account_after(falsify: impl FnOnce(&Log)) -> Account {
    let dir = tempfile::tempdir().unwrap();
    copy(template(), dir.path());
    let log = Log::open(dir.path()).unwrap();
    falsify(&log);
    let account = verify(&log).unwrap();
    log.close().unwrap();
    account
}

/// A record of a topic: where it lies, and its key and value.
type Found = (u32, i64, Option<Vec<u8>>, Option<Vec<u8>>);

fn records(log: &Log, topic: &Topic) -> Vec<Found> {
    let mut found = Vec::new();
    for partition in 0..topic.partitions() {
        let mut reader =
            PartitionReader::new(log.clone(), topic, partition, 0, FetchBound::LastStable);
        while let Some(batch) = reader.next_batch(1 << 20).unwrap() {
            for record in batch.records().map(Result::unwrap) {
                let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                found.push((partition, record.offset, owned(record.key), owned(record.value)));
            }
        }
    }
    found
}

fn append(log: &Log, topic: &Topic, (partition, _, key, value): &Found) {
    let mut batch = BatchBuilder::new();
    batch.push(0, key.as_deref(), value.as_deref(), NO_HEADERS).unwrap();
    log.producer(Durability::Os).unwrap().append(topic, *partition, &mut batch).unwrap();
}

const CHANGELOG: &str = "clickstream-clicks-per-page-changelog";

/// The last row that the store's changelog holds.
fn last_row(log: &Log) -> (Topic, Found) {
    let changelog = log.topic(CHANGELOG).unwrap();
    let row = records(log, &changelog).into_iter().rfind(|(.., value)| value.is_some()).unwrap();
    (changelog, row)
}

#[test]
fn what_the_job_left_is_exact() {
    let account = account_after(|_| {});
    assert!(account.is_exact(), "{account:?}");
    assert_eq!((account.written, account.in_closed, account.in_open), (80, 64, 16));
}

#[test]
fn a_result_that_is_written_twice_is_noticed() {
    let account = account_after(|log| {
        let counts = log.topic("page-counts").unwrap();
        append(log, &counts, &records(log, &counts)[3]);
    });
    assert_eq!((account.lost, account.twice, account.is_exact()), (0, 8, false), "{account:?}");
}

#[test]
fn a_result_that_is_missing_is_noticed() {
    let account = account_after(|log| {
        let counts = log.topic("page-counts").unwrap();
        let (partition, offset, ..) = records(log, &counts)[0];
        log.delete_records(counts.id(), partition, offset + 1).unwrap();
    });
    assert_eq!((account.lost, account.twice, account.is_exact()), (8, 0, false), "{account:?}");
}

#[test]
fn an_open_window_that_is_gone_or_counted_too_high_is_noticed() {
    let gone = account_after(|log| {
        let (changelog, (partition, offset, key, _)) = last_row(log);
        append(log, &changelog, &(partition, offset, key, None));
    });
    assert_eq!((gone.lost, gone.twice, gone.is_exact()), (8, 0, false), "{gone:?}");
    let high = account_after(|log| {
        let (changelog, (partition, offset, key, _)) = last_row(log);
        append(log, &changelog, &(partition, offset, key, Some(vec![9])));
    });
    assert_eq!((high.lost, high.twice, high.is_exact()), (0, 1, false), "{high:?}");
}

#[test]
fn a_click_that_the_job_did_not_count_is_noticed() {
    let account = account_after(|log| {
        let clicks = log.topic("clicks").unwrap();
        let last = records(log, &clicks).pop().unwrap();
        append(log, &clicks, &last);
    });
    assert_eq!((account.lost, account.twice, account.is_exact()), (1, 0, false), "{account:?}");
}

#[test]
fn a_record_whose_bytes_have_changed_is_no_account_at_all() {
    let dir = tempfile::tempdir().unwrap();
    copy(template(), dir.path());
    let log = Log::open(dir.path()).unwrap();
    let counts = log.topic("page-counts").unwrap();
    let (partition, ..) = records(&log, &counts)[0];
    log.close().unwrap();
    // The last result of all: before it may lie results of transactions that were rolled back.
    let partition = dir.path().join(format!("page-counts-{partition}"));
    let mut falsified = false;
    for path in segments(&partition).into_iter().rev() {
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(5).rposition(|window| window == b"/home") {
            bytes[at] = b'_';
            fs::write(&path, bytes).unwrap();
            falsified = true;
            break;
        }
    }
    assert!(falsified);
    let log = Log::open(dir.path()).unwrap();
    let outcome = verify(&log);
    assert!(matches!(outcome, Err(Error::Log(_))), "{outcome:?}");
}
