//! Batching producers on the in-memory storage: plain, full, failing, closed and dropped.

use std::path::Path;
use std::task::Waker;

use super::super::acknowledgement::Acknowledged;
use super::*;
use crate::clock::ManualClock;
use crate::config::{Durability, TimestampType, TopicSettings};
use crate::consumer::PartitionReader;
use crate::error::Recourse;
use crate::format::Compression;
use crate::ids::Offset;
use crate::locks::block_on;
use crate::owner::LogOptions;
use crate::partition::FetchBound;
use crate::storage::memory::{At, Call, Effect, Fault, Keep, MemoryStorage};

const SECOND: Duration = Duration::from_secs(1);
const FOR_LONG: Duration = Duration::from_secs(3_600);

/// A log without threads, whose clock stands still.
fn quiet(storage: &MemoryStorage) -> (Log, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let options = LogOptions::new().storage(Arc::new(storage.clone())).background(false);
    (options.clock(Arc::<ManualClock>::clone(&clock)).open("/data").unwrap(), clock)
}

/// A log with threads, on the machine's clock.
fn busy(storage: &MemoryStorage) -> Log {
    LogOptions::new().storage(Arc::new(storage.clone())).open("/data").unwrap()
}

fn lingering() -> ProducerSettings {
    ProducerSettings { linger: FOR_LONG, delivery_timeout: 2 * FOR_LONG, ..Default::default() }
}

fn values(log: &Log, topic: &Topic, partition: u32) -> Vec<String> {
    let mut reader = PartitionReader::new(log, topic, partition, 0, FetchBound::LastStable);
    let mut values = Vec::new();
    while let Some(batch) = reader.next_batch(1 << 20).unwrap() {
        for record in batch.records() {
            values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    values
}

fn sync_fault(nth_file: &str) -> Fault {
    let at = At::Path(Call::Sync, nth_file.to_owned());
    Fault::once(at, Effect::Error(std::io::ErrorKind::Other))
}

#[test]
fn records_come_back_with_everything_that_they_were_sent_with() {
    let (log, _clock) = quiet(&MemoryStorage::new(1));
    let topic = log.create_topic("t", TopicSettings::with_partitions(2)).unwrap();
    let producer = log.batching_producer(lingering()).unwrap();
    let headers: &[(&str, Option<&[u8]>)] = &[("a", Some(b"1")), ("b", None), ("a", Some(b""))];
    let record = Record { headers, partition: Some(1), ..Record::keyed(b"key", b"value") };
    let sent = producer.send(&topic, record).unwrap();
    let tombstone = Record {
        value: None,
        timestamp: Some(999_000),
        partition: Some(1),
        ..Record::keyed(b"gone", b"")
    };
    let second = producer.send(&topic, tombstone).unwrap();
    assert!(values(&log, &topic, 1).is_empty(), "it lingers");
    let expected = |offset, timestamp| Acknowledged { partition: 1, offset, timestamp };
    assert_eq!(sent.wait().unwrap(), expected(0, 1_000_000));
    assert_eq!(block_on(second).unwrap(), expected(1, 999_000));
    let mut reader = PartitionReader::new(&log, &topic, 1, 0, FetchBound::LastStable);
    let batch = reader.next_batch(1 << 20).unwrap().unwrap();
    let records: Vec<_> = batch.records().map(Result::unwrap).collect();
    assert_eq!((records[0].key, records[0].value), (Some(&b"key"[..]), Some(&b"value"[..])));
    assert_eq!(records[0].headers.iter().collect::<Vec<_>>(), headers);
    assert_eq!((records[1].key, records[1].value), (Some(&b"gone"[..]), None));
    assert_eq!(producer.statistics().records_acknowledged, 2);
    producer.close(SECOND).unwrap();
}

#[test]
fn what_is_acknowledged_survives_a_power_cut_and_the_rest_may_not() {
    let storage = MemoryStorage::new(1);
    let (log, clock) = quiet(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let settings = ProducerSettings::default();
    let producer = log.batching_producer(settings).unwrap();
    let first = producer.send(&topic, Record::new(b"a")).unwrap();
    clock.advance(Duration::from_millis(5));
    // Whoever sends next finds the first batch due, with its own record in it.
    producer.send(&topic, Record::new(b"b")).unwrap();
    assert!(first.wait_timeout(Duration::ZERO).is_some());
    producer.send(&topic, Record::new(b"lingers")).unwrap();
    let (after, _clock) = quiet(&storage.crash_image(Keep::None));
    let topic = after.topic("t").unwrap();
    assert_eq!(values(&after, &topic, 0), ["a", "b"]);
}

#[test]
fn a_failed_sync_is_waited_for_and_nothing_is_doubled_or_reordered() {
    for threads in [false, true] {
        let storage = MemoryStorage::new(1);
        let log = if threads { busy(&storage) } else { quiet(&storage).0 };
        let topic = log.create_topic("t", TopicSettings::with_partitions(2)).unwrap();
        let producer = log.batching_producer(lingering()).unwrap();
        let send = |partition, value: &str| {
            let record = Record { partition: Some(partition), ..Record::new(value.as_bytes()) };
            producer.send(&topic, record).unwrap()
        };
        send(0, "a");
        producer.flush().unwrap();
        let sent = [send(0, "b"), send(1, "x"), send(0, "c")];
        storage.inject(sync_fault("/t-0/"));
        producer.flush().unwrap();
        let offsets = sent.each_ref().map(|sent| sent.wait().unwrap().offset);
        assert_eq!(offsets, [1, 0, 2]);
        send(0, "d");
        producer.flush().unwrap();
        assert_eq!(values(&log, &topic, 0), ["a", "b", "c", "d"]);
        assert_eq!(values(&log, &topic, 1), ["x"]);
        assert_eq!(producer.statistics().retries, 1);
        let durable = storage.crash_image(Keep::None);
        let (after, _clock) = quiet(&durable);
        assert_eq!(values(&after, &after.topic("t").unwrap(), 0), ["a", "b", "c", "d"]);
    }
}

#[test]
fn every_failing_operation_is_survived_without_loss_doubles_or_disorder() {
    let mut faults = 0;
    for nth in 0..60 {
        let storage = MemoryStorage::new(1);
        let (log, _clock) = quiet(&storage);
        let small = TopicSettings { segment_bytes: 256, ..TopicSettings::with_partitions(2) };
        let topic = log.create_topic("t", small).unwrap();
        let settings = ProducerSettings { batch_bytes: 0, ..lingering() };
        let producer = log.batching_producer(settings).unwrap();
        let at = At::Operation(storage.operations() + nth);
        storage.inject(Fault::once(at, Effect::Error(std::io::ErrorKind::Other)));
        let mut sent = [Vec::new(), Vec::new()];
        for n in 0..12_u32 {
            let partition = usize::try_from(n % 2).unwrap();
            let value = n.to_string();
            let record = Record { partition: Some(n % 2), ..Record::new(value.as_bytes()) };
            producer.send(&topic, record).unwrap();
            sent[partition].push(value);
        }
        producer.flush().unwrap();
        faults += producer.statistics().retries;
        producer.close(SECOND).unwrap();
        let (after, _clock) = quiet(&storage.crash_image(Keep::None));
        let topic = after.topic("t").unwrap();
        assert_eq!(values(&after, &topic, 0), sent[0], "operation {nth} failed");
        assert_eq!(values(&after, &topic, 1), sent[1], "operation {nth} failed");
    }
    assert!(faults > 10, "only {faults} faults struck");
}

#[test]
fn a_disk_that_stays_broken_is_given_up_and_the_record_is_said_to_be_in_doubt() {
    let storage = MemoryStorage::new(1);
    let (log, _clock) = quiet(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let producer = log.batching_producer(lingering()).unwrap();
    let sent = producer.send(&topic, Record::new(b"a")).unwrap();
    let at = At::Path(Call::Sync, "/t-0/".to_owned());
    storage.inject(Fault::forever(at, Effect::Error(std::io::ErrorKind::Other)));
    match sent.wait() {
        Err(error @ Error::NotAcknowledged { is_in_doubt: true, .. }) => {
            assert!(error.to_string().ends_with("may have been written"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(producer.statistics().records_failed, 1);
    storage.clear_faults();
    // Another record goes on behind whatever became of that one.
    let next = producer.send(&topic, Record::new(b"b")).unwrap().wait().unwrap();
    let found = values(&log, &topic, 0);
    assert_eq!(found.last().map(String::as_str), Some("b"));
    assert_eq!(usize::try_from(next.offset).unwrap(), found.len() - 1);
}

#[test]
fn what_lingers_longer_than_its_deadline_is_given_up_unwritten() {
    let (log, clock) = quiet(&MemoryStorage::new(1));
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let settings = ProducerSettings { delivery_timeout: FOR_LONG, ..lingering() };
    let producer = log.batching_producer(settings).unwrap();
    let sent = producer.send(&topic, Record::new(b"a")).unwrap();
    clock.advance(FOR_LONG);
    let refused = sent.wait().unwrap_err();
    assert!(matches!(&refused, Error::NotAcknowledged { is_in_doubt: false, cause, .. }
        if matches!(**cause, Error::TimedOut { .. })));
    assert_eq!(refused.recourse(), Recourse::Retry);
    assert!(values(&log, &topic, 0).is_empty());
}

#[test]
fn a_full_buffer_gives_the_record_back_and_senders_wait_their_turn() {
    let storage = MemoryStorage::new(1);
    let log = busy(&storage);
    let topic = log.create_topic("t", TopicSettings::with_partitions(1)).unwrap();
    let settings = ProducerSettings {
        buffer_bytes: 1_000,
        record_bytes_max: 1_000,
        bytes_per_second_max: Some(2_000),
        block_max: FOR_LONG,
        ..lingering()
    };
    let producer = log.batching_producer(settings).unwrap();
    let value = [7; 600];
    producer.send(&topic, Record::new(&value)).unwrap();
    match producer.try_send(&topic, Record::new(&value)) {
        Err(TrySendError::Full(record)) => assert_eq!(record.value, Some(&value[..])),
        other => panic!("{other:?}"),
    }
    // Each of these waits for the one before, by the rate.
    let second = producer.send(&topic, Record::new(&value)).unwrap();
    let third = block_on(producer.send_async(&topic, Record::new(&value))).unwrap();
    block_on(producer.flush_async()).unwrap();
    assert_eq!(block_on(third).unwrap().offset, 2);
    assert_eq!(second.wait().unwrap().offset, 1);
    producer.close(SECOND).unwrap();
}

#[test]
fn a_sender_that_finds_no_room_in_time_is_told_so() {
    let (log, _clock) = quiet(&MemoryStorage::new(1));
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let settings = ProducerSettings {
        buffer_bytes: 1_000,
        record_bytes_max: 1_000,
        bytes_per_second_max: Some(1),
        ..lingering()
    };
    let producer = log.batching_producer(settings).unwrap();
    producer.send(&topic, Record::new(&[7; 800])).unwrap();
    let mut second = producer.send(&topic, Record::new(&[7; 800])).unwrap();
    let refused = producer.send(&topic, Record::new(&[7; 800]));
    assert!(matches!(refused, Err(Error::TimedOut { .. })), "{refused:?}");
    // Nobody would wake a task when the rate allows the next batch: none may wait for that.
    let mut context = Context::from_waker(Waker::noop());
    let mut sent = producer.send_async(&topic, Record::new(&[7; 800]));
    let refused = Pin::new(&mut sent).poll(&mut context);
    assert!(matches!(refused, Poll::Ready(Err(Error::TimedOut { .. }))), "{refused:?}");
    let refused = Pin::new(&mut second).poll(&mut context);
    assert!(matches!(refused, Poll::Ready(Err(Error::TimedOut { .. }))), "{refused:?}");
    let refused = Pin::new(&mut producer.flush_async()).poll(&mut context);
    assert!(matches!(refused, Poll::Ready(Err(Error::TimedOut { .. }))), "{refused:?}");
}

#[test]
fn a_future_that_is_dropped_leaves_its_turn_to_others() {
    let log = busy(&MemoryStorage::new(1));
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let settings = ProducerSettings { buffer_bytes: 1_000, record_bytes_max: 1_000, ..lingering() };
    let producer = log.batching_producer(settings).unwrap();
    producer.send(&topic, Record::new(&[7; 800])).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut waiting = producer.send_async(&topic, Record::new(&[7; 800]));
    assert!(Pin::new(&mut waiting).poll(&mut context).is_pending());
    assert!(!producer.core.state().turns.is_empty());
    drop(waiting);
    assert!(producer.core.state().turns.is_empty());
}

#[test]
fn records_that_the_log_would_refuse_are_refused_before_they_join_others() {
    let (log, _clock) = quiet(&MemoryStorage::new(1));
    let small = TopicSettings { max_batch_bytes: 500, ..TopicSettings::default() };
    let topic = log.create_topic("t", small).unwrap();
    let producer = log.batching_producer(lingering()).unwrap();
    let good = producer.send(&topic, Record::new(b"good")).unwrap();
    let at = |timestamp| Record { timestamp: Some(timestamp), ..Record::new(b"x") };
    let refused = producer.send(&topic, at(1_000_000 + 3_600_001));
    assert!(matches!(refused, Err(Error::TimestampTooFarAhead { .. })));
    let refused = producer.send(&topic, Record { partition: Some(1), ..Record::new(b"x") });
    assert!(matches!(refused, Err(Error::UnknownPartition { partitions: 1, .. })));
    let refused = producer.send(&topic, Record::new(&[0; 500]));
    assert!(matches!(refused, Err(Error::BatchTooLarge { max_bytes: 500, .. })));
    assert_eq!(good.wait().unwrap().offset, 0);
    assert_eq!(values(&log, &topic, 0), ["good"]);
}

#[test]
fn a_record_without_a_key_does_not_take_those_with_one_from_a_compacted_topic() {
    let (log, _clock) = quiet(&MemoryStorage::new(1));
    let compacted = TopicSettings::from_kafka([("cleanup.policy", "compact")]).unwrap();
    let topic = log.create_topic("t", compacted).unwrap();
    let producer = log.batching_producer(lingering()).unwrap();
    let good = producer.send(&topic, Record::keyed(b"key", b"good")).unwrap();
    let refused = producer.send(&topic, Record::new(b"without"));
    assert!(matches!(refused, Err(Error::KeyMissing { .. })));
    assert_eq!(good.wait().unwrap().offset, 0);

    let mut transaction = log.transaction("job").unwrap();
    transaction.send(&topic, Record::keyed(b"key", b"better")).unwrap();
    let refused = transaction.send(&topic, Record::new(b"without"));
    assert!(matches!(refused, Err(Error::KeyMissing { .. })));
    transaction.commit().unwrap();
    assert_eq!(values(&log, &topic, 0), ["good", "better"]);
}

#[test]
fn a_topic_that_stamps_its_records_takes_them_whatever_their_time() {
    let (log, _clock) = quiet(&MemoryStorage::new(1));
    let stamped =
        TopicSettings { timestamp_type: TimestampType::LogAppend, ..TopicSettings::default() };
    let topic = log.create_topic("t", stamped).unwrap();
    let producer = log.batching_producer(lingering()).unwrap();
    let record = Record { timestamp: Some(i64::MAX), ..Record::new(b"a") };
    producer.send(&topic, record).unwrap().wait().unwrap();
    assert_eq!(values(&log, &topic, 0), ["a"]);
}

#[test]
fn a_producer_that_is_dropped_leaves_nobody_waiting() {
    for threads in [false, true] {
        let storage = MemoryStorage::new(1);
        let log = if threads { busy(&storage) } else { quiet(&storage).0 };
        let topic = log.create_topic("t", TopicSettings::default()).unwrap();
        let producer = log.batching_producer(lingering()).unwrap();
        let sent = producer.send(&topic, Record::new(b"a")).unwrap();
        let flush = producer.flush_async();
        drop(producer);
        let outcome = sent.wait();
        // The flush had asked for it: it may have been written before the end.
        if let Err(error) = outcome {
            assert!(
                matches!(&error, Error::NotAcknowledged { is_in_doubt: false, cause, .. }
                if matches!(**cause, Error::ProducerClosed)),
                "{error:?}"
            );
            assert!(block_on(flush).is_err());
        } else {
            block_on(flush).unwrap();
        }
    }
}

#[test]
fn closing_writes_what_was_sent_and_takes_nothing_more() {
    let log = busy(&MemoryStorage::new(1));
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let producer = log.batching_producer(lingering()).unwrap();
    let sent: Vec<_> =
        (0..100).map(|_| producer.send(&topic, Record::new(b"a")).unwrap()).collect();
    producer.core.close(Abandon::No);
    let refused = producer.send(&topic, Record::new(b"late"));
    assert!(matches!(refused, Err(Error::ProducerClosed)));
    producer.close(FOR_LONG).unwrap();
    let offsets: Vec<Offset> = sent.iter().map(|sent| sent.wait().unwrap().offset).collect();
    assert_eq!(offsets, (0..100).collect::<Vec<_>>());
    log.close().unwrap();
}

#[test]
fn a_log_that_is_closed_under_a_producer_answers_every_record() {
    let log = busy(&MemoryStorage::new(1));
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let producer = log.batching_producer(lingering()).unwrap();
    let sent = producer.send(&topic, Record::new(b"a")).unwrap();
    log.close().unwrap();
    let refused = producer.flush().unwrap_err();
    assert!(
        matches!(&refused, Error::NotAcknowledged { is_in_doubt: false, cause, .. }
        if matches!(**cause, Error::Closed)),
        "{refused:?}"
    );
    assert!(sent.wait().is_err());
    assert!(producer.close(SECOND).is_ok());
}

#[test]
fn many_threads_and_tasks_share_a_producer_and_each_keeps_its_order() {
    let log = busy(&MemoryStorage::new(1));
    let topic = log.create_topic("t", TopicSettings::with_partitions(3)).unwrap();
    let settings = ProducerSettings {
        batch_bytes: 200,
        linger: Duration::ZERO,
        buffer_bytes: 4_000,
        record_bytes_max: 1_000,
        ..ProducerSettings::default()
    };
    let producer = log.batching_producer(settings).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (producer, topic) = (&producer, &topic);
            scope.spawn(move || {
                let key = format!("key-{thread}");
                let mut last = -1;
                for n in 0..500 {
                    let value = format!("{thread} {n}");
                    let record = Record::keyed(key.as_bytes(), value.as_bytes());
                    let sent = if n % 2 == 0 {
                        producer.send(topic, record).unwrap()
                    } else {
                        block_on(producer.send_async(topic, record)).unwrap()
                    };
                    if n % 50 == 0 {
                        let offset = sent.wait().unwrap().offset;
                        assert!(offset > last);
                        last = offset;
                    }
                }
            });
        }
    });
    producer.flush().unwrap();
    let mut next = [0; 4];
    for partition in 0..3 {
        for value in values(&log, &topic, partition) {
            let (thread, n) = value.split_once(' ').unwrap();
            let thread: usize = thread.parse().unwrap();
            assert_eq!(n.parse::<u32>().unwrap(), next[thread], "order of one key");
            next[thread] += 1;
        }
    }
    assert_eq!(next, [500; 4]);
    let statistics = producer.statistics();
    assert_eq!((statistics.records_acknowledged, statistics.records_failed), (2_000, 0));
    assert_eq!(statistics.buffered_bytes, 0);
    producer.close(SECOND).unwrap();
}

#[test]
fn acknowledgements_of_the_operating_system_and_of_intervals_need_no_sync() {
    for durability in [Durability::Os, Durability::Interval(FOR_LONG)] {
        let storage = MemoryStorage::new(1);
        let (log, _clock) = quiet(&storage);
        let topic = log.create_topic("t", TopicSettings::default()).unwrap();
        let settings = ProducerSettings { durability, ..lingering() };
        let producer = log.batching_producer(settings).unwrap();
        producer.send(&topic, Record::new(b"a")).unwrap().wait().unwrap();
        assert!(storage.read_file(Path::new("/data/t-0/00000000000000000000.log")).is_ok());
        let lost = quiet(&storage.crash_image(Keep::None)).0;
        assert!(values(&lost, &lost.topic("t").unwrap(), 0).is_empty());
        let kept = quiet(&storage.kill_image()).0;
        assert_eq!(values(&kept, &kept.topic("t").unwrap(), 0), ["a"]);
    }
}

#[test]
fn a_compressed_batch_that_is_sent_again_is_written_once() {
    let storage = MemoryStorage::new(1);
    let (log, _clock) = quiet(&storage);
    let topic = log.create_topic("t", TopicSettings::default()).unwrap();
    let settings = ProducerSettings { compression: Compression::Zstd, ..lingering() };
    let producer = log.batching_producer(settings).unwrap();
    for _ in 0..100 {
        producer.send(&topic, Record::new(b"the same text again and again")).unwrap();
    }
    storage.inject(sync_fault("/t-0/"));
    producer.flush().unwrap();
    assert_eq!(producer.statistics().retries, 1);
    assert_eq!(values(&log, &topic, 0), vec!["the same text again and again"; 100]);
    let fetched = log.fetch(topic.id(), 0, 0, 1 << 20, FetchBound::LastStable).unwrap();
    assert!(fetched.batches.len() < 500, "{} bytes", fetched.batches.len());
}
