//! What the parts of the data path cost: batches, keys, values, the choice of a partition.
//!
//! Whole pipelines have programs of their own beside this file; here one change of one part shows.
//! Run it with `make bench`, or `cargo bench --profile dev --bench parts`.

use std::hint::black_box;

use bytes::Bytes;
use core_log::{BatchBuilder, NO_HEADERS, partition_for};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use streams::prelude::*;

const RECORDS: i64 = 500;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Click {
    user: String,
    page: String,
    at: i64,
}

fn click(i: i64) -> Click {
    Click { user: format!("user-{i}"), page: format!("/products/{}", i % 100), at: i }
}

/// A producer's batch of 100-byte values.
fn batch() -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    for i in 0..RECORDS {
        batch.push(i, Some(b"a key"), Some(&[7; 100]), NO_HEADERS).expect("it fits");
    }
    batch
}

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    group.throughput(Throughput::Elements(RECORDS.unsigned_abs()));
    group.bench_function("encode 100-byte records", |b| {
        b.iter_batched_ref(BatchBuilder::new, |_| black_box(batch()), BatchSize::SmallInput);
    });
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = core_log::Log::open(dir.path()).expect("an empty directory");
    let topic = log.create_topic("t", core_log::TopicSettings::default()).expect("a new topic");
    let mut producer = log.producer(Durability::Os).expect("a producer");
    producer.append(&topic, 0, &mut batch()).expect("an append");
    let bound = core_log::FetchBound::LastStable;
    let mut reader = core_log::PartitionReader::new(log.clone(), &topic, 0, 0, bound);
    let read = reader.next_batch(1 << 20).expect("a fetch").expect("a batch");
    let bytes: Bytes = read.bytes().clone();
    group.bench_function("checksum and decode 100-byte records", |b| {
        b.iter(|| {
            let view = core_log::BatchView::parse(&bytes).expect("a batch");
            view.verify_crc().expect("whole bytes");
            view.records().map(|r| r.expect("a record").value.map_or(0, <[u8]>::len)).sum::<usize>()
        });
    });
    group.finish();
}

fn keys(c: &mut Criterion) {
    let mut group = c.benchmark_group("key");
    let key = Windowed { key: "/products/17".to_owned(), start: 60_000, end: 120_000 };
    let mut bytes = Vec::new();
    group.bench_function("encode a windowed string", |b| {
        b.iter(|| {
            bytes.clear();
            black_box(&key).encode(&mut bytes);
            bytes.len()
        });
    });
    bytes.clear();
    key.encode(&mut bytes);
    group.bench_function("decode a windowed string", |b| {
        b.iter(|| Windowed::<String>::decode(Some(black_box(&bytes))));
    });
    group.bench_function("choose a partition", |b| {
        b.iter(|| partition_for(black_box(b"/products/17"), 12));
    });
    group.finish();
}

fn values(c: &mut Criterion) {
    let mut group = c.benchmark_group("value");
    let click = click(12_345);
    let (mut json, mut compact) = (Vec::new(), Vec::new());
    <Json as Codec<Click>>::encode(&click, &mut json).expect("a click is JSON");
    <Bincode as Codec<Click>>::encode(&click, &mut compact).expect("a click is bincode");
    group.bench_function("decode JSON", |b| {
        b.iter(|| <Json as Codec<Click>>::decode(black_box(&json)));
    });
    group.bench_function("decode bincode", |b| {
        b.iter(|| <Bincode as Codec<Click>>::decode(black_box(&compact)));
    });
    group.finish();
}

criterion_group!(parts, batches, keys, values);
criterion_main!(parts);
