//! The owner's socket on real directories.

use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::protocol::{Answer, REQUEST_BYTES_MAX, read_line};
use super::{AttachedLog, LogView, with_socket_path};
use crate::commit::OffsetCommit;
use crate::config::{Durability, TopicSettings};
use crate::consumer::{FetchSource, PartitionReader};
use crate::error::Error;
use crate::format::{BatchBuilder, NO_HEADERS};
use crate::ids::GroupId;
use crate::log::Log;
use crate::owner::LogOptions;
use crate::partition::FetchBound;

fn batch(value: &str) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    batch.push(1, None, Some(value.as_bytes()), NO_HEADERS).unwrap();
    batch
}

fn values(source: impl FetchSource, topic: &crate::Topic, bound: FetchBound) -> Vec<String> {
    let mut reader = PartitionReader::new(source, topic, 0, 0, bound);
    let mut values = Vec::new();
    while let Some(batch) = reader.next_batch(100).unwrap() {
        for record in batch.records() {
            values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    values
}

#[test]
fn another_reader_sees_what_the_owner_writes_and_skips_what_it_aborts() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("t", TopicSettings::with_partitions(2)).unwrap();
    let mut producer = log.transactional_producer("job", Durability::Os).unwrap();
    for (n, commits) in [true, false, true].into_iter().enumerate() {
        let transaction = producer.begin().unwrap();
        transaction.append(&topic, 0, &mut batch(&n.to_string())).unwrap();
        if commits {
            transaction.commit(&[]).map(drop).unwrap()
        } else {
            transaction.abort().unwrap()
        }
    }
    let view = LogView::open(dir.path()).unwrap();
    assert!(matches!(view, LogView::Attached(_)));
    assert_eq!(view.topics().unwrap(), std::slice::from_ref(&topic));
    assert_eq!(view.offsets(topic.id(), 0).unwrap(), log.offsets(topic.id(), 0).unwrap());
    assert_eq!(view.offset_for_time(topic.id(), 0, 1).unwrap(), Some((0, 1)));
    assert_eq!(values(view.clone(), &topic, FetchBound::LastStable), ["0", "2"]);
    let beyond = view.fetch(topic.id(), 0, 99, 10, FetchBound::LogEnd);
    assert!(matches!(beyond, Err(Error::OffsetOutOfRange { requested: 99, start: 0, end: 6 })));
    let missing = view.fetch(topic.id(), 2, 0, 10, FetchBound::LogEnd);
    assert!(matches!(missing, Err(Error::UnknownPartition { partition: 2, partitions: 2, .. })));
    log.close().unwrap();
    assert!(matches!(LogView::open(dir.path()).unwrap(), LogView::Owned(_)));
}

#[test]
fn another_reader_sees_the_positions_that_a_group_has_committed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("t", TopicSettings::with_partitions(2)).unwrap();
    let group = GroupId::new("job").unwrap();
    let position = |partition: u32| OffsetCommit {
        group: group.clone(),
        topic: topic.id(),
        partition,
        offset: 0,
        leader_epoch: -1,
        metadata: vec![0, 255, b'"'].into(),
    };
    let mut producer = log.transactional_producer("job", Durability::Os).unwrap();
    let transaction = producer.begin().unwrap();
    transaction.commit(&[position(0), position(1)]).unwrap();
    let attached = AttachedLog::connect(dir.path()).unwrap();
    assert_eq!(attached.committed(&group).unwrap(), [position(0), position(1)]);
    assert_eq!(attached.committed(&GroupId::new("other").unwrap()).unwrap(), []);
}

#[test]
fn a_follower_is_woken_by_the_owners_next_record() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let attached = AttachedLog::connect(dir.path()).unwrap();
    let seen = attached.changes().unwrap();
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let mut now = seen;
            while now == seen {
                now = attached.wait(seen, Duration::from_secs(60)).unwrap();
            }
            values(attached.clone(), &topic, FetchBound::LastStable)
        });
        log.producer(Durability::Os).unwrap().append(&topic, 0, &mut batch("new")).unwrap();
        assert_eq!(follower.join().unwrap(), ["new"]);
    });
}

#[test]
fn a_directory_with_a_very_long_path_has_a_socket_too() {
    let dir = tempfile::tempdir().unwrap();
    let long: PathBuf = dir.path().join("x".repeat(120)).join("y".repeat(120));
    let log = Log::open(&long).unwrap();
    log.create_topic("t", TopicSettings::default()).unwrap();
    assert_eq!(AttachedLog::connect(&long).unwrap().topics().unwrap().len(), 1);
}

#[test]
fn a_log_without_a_socket_is_locked_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let _log = LogOptions::new().background(false).open(dir.path()).unwrap();
    assert!(matches!(LogView::open(dir.path()), Err(Error::DirectoryLocked { pid: Some(_), .. })));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(LogView::open(empty.path()), Err(Error::DirectoryMissing { .. })));
}

#[test]
fn a_directory_that_is_let_go_in_time_can_be_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let waiting = |timeout| LogOptions::new().lock_timeout(timeout).open(dir.path());
    let refused = waiting(Duration::from_millis(20));
    assert!(matches!(refused, Err(Error::DirectoryLocked { .. })), "{refused:?}");
    std::thread::scope(|scope| {
        let (begins, begun) = std::sync::mpsc::channel();
        let next = scope.spawn(move || {
            begins.send(()).unwrap();
            waiting(Duration::from_secs(60)).map(drop)
        });
        begun.recv().unwrap();
        log.close().unwrap();
        next.join().unwrap().unwrap();
    });
}

#[test]
fn nonsense_and_endless_requests_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _log = Log::open(dir.path()).unwrap();
    let connect = || with_socket_path(dir.path(), |path| UnixStream::connect(path)).unwrap();
    let mut stream = connect();
    stream.write_all(b"{\"get\":\"everything\"}\n").unwrap();
    let line = read_line(&mut BufReader::new(stream), 1_000).unwrap().unwrap();
    assert!(matches!(serde_json::from_str(&line).unwrap(), Answer::Failed(_)), "{line}");
    let mut stream = connect();
    // The owner hangs up when the line is too long: then a write or the read fails.
    let endless = vec![b'x'; REQUEST_BYTES_MAX + 1];
    let written = stream.write_all(&endless);
    let answer = read_line(&mut BufReader::new(stream), 1_000);
    assert!(written.is_err() || !matches!(answer, Ok(Some(_))));
}

#[test]
fn the_seventeenth_client_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _log = Log::open(dir.path()).unwrap();
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let client = AttachedLog::connect(dir.path()).unwrap();
            client.changes().unwrap();
            client
        })
        .collect();
    let refused = AttachedLog::connect(dir.path()).and_then(|client| client.changes());
    assert!(matches!(refused, Err(Error::Owner { .. })), "{refused:?}");
    assert!(clients.iter().all(|client| client.changes().is_ok()));
}

#[test]
fn a_log_survives_a_killed_owner_whose_socket_stayed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    log.producer(Durability::Os).unwrap().append(&topic, 0, &mut batch("a")).unwrap();
    drop(log);
    let log = Log::open(dir.path()).unwrap();
    assert!(!log.recovery().was_closed);
    assert_eq!(values(log, &topic, FetchBound::LastStable), ["a"]);
    assert!(AttachedLog::connect(dir.path()).is_err());
}

/// An answer that comes after its reader gave up must not be taken for that of the next request.
#[test]
fn a_late_answer_is_not_taken_for_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(crate::log::directory::SOCKET);
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for answers in [&["nonsense\n{\"Changes\":1}\n"][..], &["{\"Changes\":2}\n"]] {
                let (stream, _) = listener.accept().unwrap();
                let mut input = BufReader::new(&stream);
                for answer in answers {
                    read_line(&mut input, REQUEST_BYTES_MAX).unwrap().unwrap();
                    (&stream).write_all(answer.as_bytes()).unwrap();
                }
                assert_eq!(read_line(&mut input, REQUEST_BYTES_MAX).unwrap_or(None), None);
            }
        });
        let attached = AttachedLog::connect(dir.path()).unwrap();
        let follower = attached.clone();
        assert!(matches!(attached.changes(), Err(Error::Owner { .. })));
        assert_eq!(follower.changes().unwrap(), 2);
        drop((attached, follower));
    });
}

/// A handler that panicked or hung in the client's own thread would hold the log open.
#[test]
fn questions_are_answered_by_the_owners_handler_and_the_log_goes_on_whatever_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let attached = AttachedLog::connect(dir.path()).unwrap();
    assert!(matches!(attached.ask("who"), Err(Error::NobodyAnswers { .. })));
    log.answer_with(|question| match question {
        "panic" => std::panic::resume_unwind(Box::new("on purpose")),
        "much" => "x".repeat(9 << 20),
        other => format!("\u{e9} {other}\n"),
    });
    assert_eq!(attached.ask("who\n\"").unwrap(), "\u{e9} who\n\"\n");
    for refused in ["panic", "much", &"x".repeat(9_000)] {
        assert!(matches!(attached.ask(refused), Err(Error::Owner { .. })));
    }
    // Every byte of it becomes six.
    assert!(attached.ask(&"\u{1}".repeat(8_000)).is_ok());
    assert_eq!(attached.topics().unwrap(), []);
    log.close().unwrap();
    assert!(matches!(LogView::open(dir.path()).unwrap(), LogView::Owned(_)));
}
