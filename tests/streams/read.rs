//! Topics read again, typed: from offsets and times, beside a job, around what does not decode.

use std::future::poll_fn;
use std::path::Path;

use core_log::{BatchBuilder, Durability, LogOptions, NO_HEADERS, TopicSettings};
use futures::Stream;
use streams::prelude::*;

const VISITS: Topic<String, u64> = topic("visits");
const NOW_MS: i64 = 1_700_000_000_000;

type Item = (u32, i64, i64, u64);

/// Two partitions: the record with value `n` is written at second `n`, even ones to partition 0. Every
/// other transaction is aborted, and the last one is open until the directory is left.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let log = core_log::Log::open(dir.path()).unwrap();
    let visits = log.create_topic("visits", TopicSettings::with_partitions(2)).unwrap();
    let mut producer = log.transactional_producer("writer", Durability::Os).unwrap();
    for n in 0..10_u32 {
        for value in [1_000 + n, n] {
            let mut batch = BatchBuilder::new();
            let (time, value_text) = (NOW_MS + i64::from(n) * 1_000, value.to_string());
            batch.push(time, Some(b"ana"), Some(value_text.as_bytes()), NO_HEADERS).unwrap();
            let transaction = producer.begin().unwrap();
            transaction.append(&visits, n % 2, &mut batch).unwrap();
            if value == n {
                transaction.commit(&[]).unwrap();
            } else {
                transaction.abort().unwrap();
            }
        }
    }
    log.close().unwrap();
    dir
}

fn append(dir: &Path, partition: u32, time: i64, value: &str) {
    // A reader that was dropped may still be looking at it for a moment.
    let log = LogOptions::new().lock_timeout(secs(30)).open(dir).unwrap();
    let visits = log.topic("visits").unwrap();
    let mut batch = BatchBuilder::new();
    batch.push(time, Some(b"ana"), Some(value.as_bytes()), NO_HEADERS).unwrap();
    log.producer(Durability::Os).unwrap().append(&visits, partition, &mut batch).unwrap();
    log.close().unwrap();
}

fn items(dir: &Path, from: At, until: At) -> Vec<Item> {
    let records = Log::open(dir).unwrap().read(VISITS).from(from).until(until);
    let item = |record: streams::LogRecord<String, u64>| {
        assert_eq!((record.topic, record.key.as_deref()), ("visits", Some("ana")));
        (record.partition, record.offset, record.timestamp, record.value.unwrap())
    };
    records.into_iter().map(|record| item(record.unwrap())).collect()
}

fn values(dir: &Path, from: At, until: At) -> Vec<u64> {
    items(dir, from, until).into_iter().map(|(.., value)| value).collect()
}

fn at_second(second: i64) -> At {
    At::Time((NOW_MS + second * 1_000).into())
}

/// The only item of a reading that cannot begin.
fn refused(dir: &Path, from: At, until: At) -> (&'static str, String) {
    let mut records = Log::open(dir).unwrap().read(VISITS).from(from).until(until).into_iter();
    let error = records.next().unwrap().unwrap_err();
    assert!(records.next().is_none(), "an error that is not one record's is the last item");
    assert!(!error.help().is_empty(), "{error}");
    (error.code(), error.to_string())
}

#[test]
fn committed_records_come_in_the_order_of_their_times_over_all_partitions() {
    let dir = directory();
    let all = items(dir.path(), At::Start, At::End);
    assert_eq!(all.iter().map(|item| item.3).collect::<Vec<_>>(), (0..10).collect::<Vec<u64>>());
    assert!(all.iter().all(|item| u64::from(item.0) == item.3 % 2));
    // Each committed record has an aborted one, and two markers, beside it.
    assert_eq!(
        all.iter().map(|item| item.1).collect::<Vec<_>>(),
        [2, 2, 6, 6, 10, 10, 14, 14, 18, 18]
    );
}

#[test]
fn a_reading_begins_and_ends_at_offsets_and_times() {
    let dir = directory();
    let read = |from, until| values(dir.path(), from, until);
    assert_eq!(read(At::Offset(7), At::End), [4, 5, 6, 7, 8, 9]);
    assert_eq!(read(At::Offset(6), At::Offset(11)), [2, 3, 4, 5]);
    assert_eq!(read(At::Start, At::Offset(1_000)), (0..10).collect::<Vec<u64>>());
    for second in 0..10 {
        // What the index finds first is aborted.
        let from: Vec<u64> = (u64::try_from(second).unwrap()..10).collect();
        assert_eq!(read(at_second(second), At::End), from);
        assert_eq!(
            read(At::Start, at_second(second)),
            (0..10 - from.len() as u64).collect::<Vec<_>>()
        );
    }
    assert_eq!(read(at_second(10), At::End), [0_u64; 0], "there is nothing yet");
    assert_eq!(read(ago(hours(1)), At::End), [0_u64; 0]);
    assert_eq!(read(At::End, At::End), [0_u64; 0]);
    assert_eq!(read(At::Time("2023-11-14T22:13:28Z".into()), At::End), [8, 9]);
}

#[test]
fn a_place_that_is_none_is_the_error_of_the_reading() {
    let dir = directory();
    let (code, text) = refused(dir.path(), At::Offset(21), At::End);
    assert_eq!(code, "S032");
    assert!(text.contains("offset 21 lies behind the end of visits"), "{text}");
    assert!(text.contains("0: 20, 1: 20") && text.contains("2023-11-14T22:13:29Z"), "{text}");
    let (code, text) = refused(dir.path(), At::Time("noon".into()), At::End);
    assert_eq!((code, &*text), ("S032", "`noon` is no time"));
    for (from, until) in
        [(At::Offset(9), At::Offset(3)), (at_second(5), at_second(2)), (At::End, At::Start)]
    {
        let (code, text) = refused(dir.path(), from, until);
        assert!(code == "S032" && text.contains("before it begins"), "{text}");
    }
    let log = core_log::Log::open(dir.path()).unwrap();
    let visits = log.topic("visits").unwrap();
    log.delete_records(visits.id(), 1, 7).unwrap();
    log.close().unwrap();
    for from in [At::Offset(6), at_second(3)] {
        let (code, text) = refused(dir.path(), from, At::End);
        assert!(code == "S007" && text.starts_with("visits-1: records from "), "{text}");
        assert!(text.ends_with("but the log has offsets 7 to 20"), "{text}");
    }
    assert_eq!(values(dir.path(), At::Start, At::End), [0, 2, 4, 5, 6, 7, 8, 9]);
    assert_eq!(values(dir.path(), at_second(5), At::End), [5, 6, 7, 8, 9]);
}

#[test]
fn an_unknown_topic_and_a_missing_log_are_told() {
    let dir = directory();
    let visit: Topic<String, u64> = topic("visit");
    let mut records = Log::open(dir.path()).unwrap().read(visit).into_iter();
    let error = records.next().unwrap().unwrap_err();
    assert_eq!(error.code(), "S004");
    assert!(error.help()[0].contains("did you mean `visits`?"), "{:?}", error.help());
    let missing = dir.path().join("missing");
    assert_eq!(Log::open(&missing).unwrap_err().code(), "S016");
    assert!(!missing.exists(), "a reader makes nothing");
}

#[test]
fn a_reading_goes_on_behind_what_does_not_decode() {
    let dir = directory();
    append(dir.path(), 0, NOW_MS + 8_500, "\"eight and a half\"");
    append(dir.path(), 1, NOW_MS + 10_000, "10");
    let records = Log::open(dir.path()).unwrap().read(VISITS).from(at_second(8));
    let seen: Vec<Result<u64, String>> = records
        .into_iter()
        .map(|item| match item {
            Ok(record) => Ok(record.value.unwrap()),
            Err(error) => {
                assert_eq!(error.code(), "S002");
                Err(error.to_string())
            }
        })
        .collect();
    let [Ok(8), Err(bad), Ok(9), Ok(10)] = &seen[..] else { panic!("{seen:?}") };
    assert!(bad.starts_with("visits-0@20 does not decode as u64"), "{bad}");
}

/// Who reads does not own the log between two looks at it, and a job that starts meanwhile is asked.
#[test]
fn a_job_can_start_while_a_reading_is_under_way() {
    let dir = directory();
    let mut records = Log::open(dir.path()).unwrap().read(VISITS).into_iter();
    let mut next = || records.next().unwrap().unwrap().value.unwrap();
    assert_eq!([next(), next()], [0, 1]);
    let app = App::new("job", |t: &mut Topology| t.stream(VISITS).for_each(|_| ()));
    let handle = app.log(dir.path()).start().unwrap();
    assert_eq!([next(), next()], [2, 3]);
    assert_eq!(values(dir.path(), At::Offset(18), At::End), [8, 9], "through the job");
    handle.stop();
    handle.wait().unwrap();
    assert_eq!([next(), next(), next(), next(), next(), next()], [4, 5, 6, 7, 8, 9]);
    assert!(records.next().is_none());
}

#[test]
fn a_stream_has_the_items_of_the_iterator_and_never_blocks() {
    let dir = directory();
    append(dir.path(), 0, NOW_MS + 8_500, "oops");
    let log = Log::open(dir.path()).unwrap();
    let said = |item: Option<streams::Result<streams::LogRecord<String, u64>>>| {
        item.map(|item| item.map_err(|error| error.to_string()))
    };
    let mut expected = log.read(VISITS).into_iter();
    let mut stream = Box::pin(log.read(VISITS).stream());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    loop {
        let item = runtime.block_on(poll_fn(|cx| stream.as_mut().poll_next(cx)));
        let (item, expected) = (said(item), said(expected.next()));
        assert_eq!(item, expected);
        if item.is_none() {
            break;
        }
    }
    // A stream that is dropped early lets its thread go: the log can be owned.
    drop(log.read(VISITS).stream());
    append(dir.path(), 0, NOW_MS + 11_000, "11");
    assert_eq!(values(dir.path(), at_second(11), At::End), [11]);
}
