//! Compressed batches through the log: written as topic or producer say, read everywhere.

use super::*;
use crate::format::{Compression, CompressionType};
use crate::storage::memory::{At, Effect, Fault};

fn fill(codec: Compression, tag: &str) -> BatchBuilder {
    let mut batch = BatchBuilder::with_compression(codec);
    for n in 0..50 {
        let value = format!("{tag} {n} and text that is the same in every record");
        batch.push(n * 10, None, Some(value.as_bytes()), NO_HEADERS).unwrap();
    }
    batch
}

fn codecs_of(log: &Log, topic: &Topic) -> Vec<Compression> {
    let mut fetched = log.fetch(topic.id(), 0, 0, 1 << 20, FetchBound::LastStable).unwrap().batches;
    let mut codecs = Vec::new();
    while let Some(batch) = crate::RecordBatch::split_from(&mut fetched).unwrap() {
        codecs.push(batch.header().attributes.compression().unwrap());
    }
    codecs
}

fn topic_with(log: &Log, name: &str, compression: CompressionType) -> Topic {
    log.create_topic(name, TopicSettings { compression, ..TopicSettings::default() }).unwrap()
}

#[test]
fn a_topic_takes_the_codec_of_the_producer_or_has_its_own() {
    let storage = MemoryStorage::new(1);
    let mut names = Vec::new();
    {
        let log = open(&storage);
        let mut producer = log.producer(Durability::Os).unwrap();
        for compression in [CompressionType::Producer]
            .into_iter()
            .chain(Compression::ALL.map(CompressionType::Always))
        {
            let topic = topic_with(&log, compression.name(), compression);
            for codec in Compression::ALL {
                producer.append(&topic, 0, &mut fill(codec, codec.name())).unwrap();
            }
            let expected: Vec<_> = Compression::ALL.map(|codec| compression.codec(codec)).into();
            assert_eq!(codecs_of(&log, &topic), expected, "{compression}");
            names.push(compression.name());
        }
    }
    // A kill later they are read as before, also from a time inside a compressed batch.
    let log = open(&storage.kill_image());
    for name in names {
        let topic = log.topic(name).unwrap();
        assert_eq!(topic.settings().compression.name(), name);
        let mut reader = PartitionReader::new(log.clone(), &topic, 0, 120, FetchBound::LastStable);
        let mut seen = 120;
        while let Some(batch) = reader.next_batch(1 << 20).unwrap() {
            for record in batch.records().map(Result::unwrap) {
                let codec = Compression::ALL[usize::try_from(seen / 50).unwrap()];
                let expected = format!("{codec} {} and", seen % 50);
                assert_eq!(record.offset, seen);
                assert!(record.value.unwrap().starts_with(expected.as_bytes()));
                seen += 1;
            }
        }
        assert_eq!(seen, 250);
        assert_eq!(log.offset_for_time(topic.id(), 0, 333).unwrap(), Some((34, 340)));
        assert_eq!(reader.seek_to_time(485).unwrap(), Some((49, 490)));
    }
}

#[test]
fn the_largest_batch_is_counted_as_it_is_written() {
    let log = open(&MemoryStorage::new(1));
    let mut producer = log.producer(Durability::Os).unwrap();
    let settings = TopicSettings { max_batch_bytes: 1000, ..TopicSettings::default() };
    let topic = log.create_topic("small", settings).unwrap();
    let refused = producer.append(&topic, 0, &mut fill(Compression::None, "x")).unwrap_err();
    assert!(matches!(refused, Error::BatchTooLarge { max_bytes: 1000, bytes } if bytes > 2000));
    producer.append(&topic, 0, &mut fill(Compression::Zstd, "x")).unwrap();
}

#[test]
fn markers_and_aborts_are_the_same_in_a_compressed_topic() {
    let log = open(&MemoryStorage::new(1));
    let topic = topic_with(&log, "t", CompressionType::Always(Compression::Lz4));
    let mut producer = log.transactional_producer("id", Durability::Os).unwrap();
    for (tag, is_kept) in [("kept", true), ("gone", false), ("kept", true)] {
        let transaction = producer.begin().unwrap();
        transaction.append(&topic, 0, &mut fill(Compression::Gzip, tag)).unwrap();
        if is_kept {
            transaction.commit(&[]).unwrap();
        } else {
            transaction.abort().unwrap();
        }
    }
    let mut reader = PartitionReader::new(log.clone(), &topic, 0, 0, FetchBound::LastStable);
    let mut count = 0;
    while let Some(batch) = reader.next_batch(1 << 20).unwrap() {
        for record in batch.records().map(Result::unwrap) {
            assert!(record.value.unwrap().starts_with(b"kept"));
            count += 1;
        }
    }
    assert_eq!(count, 100);
}

#[test]
fn a_batch_that_is_sent_again_after_a_crash_is_there_once_whatever_its_codec() {
    let storage = MemoryStorage::new(3);
    let log = open(&storage);
    let topic = topic_with(&log, "t", CompressionType::Always(Compression::Zstd));
    let mut producer = log.producer(Durability::Sync).unwrap();
    producer.append(&topic, 0, &mut fill(Compression::None, "a")).unwrap();
    let mut batch = fill(Compression::Snappy, "b");
    let next = At::Operation(storage.operations() + 2);
    storage.inject(Fault::once(next, Effect::Error(std::io::ErrorKind::Other)));
    producer.append(&topic, 0, &mut batch).unwrap_err();
    producer.append(&topic, 0, &mut batch).unwrap();
    assert_eq!(log.offsets(topic.id(), 0).unwrap().log_end_offset, 100);
}
