//! How much of a raw loop's speed the log keeps: appending, reading, and waiting for the disk.
//!
//! ```text
//!   append    batches of 64 KiB, Os      beside: encode batch + crc32c + write(2); for 1 KiB records write(2)
//!   read      whole batches, verified    beside: pread + crc32c
//!   Sync      one record at a time       beside: write(2) + fdatasync, with as many bytes in each
//!   commit    a record in P partitions   beside: P fdatasyncs in parallel, then one
//!   latency   append to poll, open loop  beside: a hand-over through a condition
//!   send      single records, batched by the producer
//!   descriptors  4 000 partitions      beside: the 16 busy ones of them alone
//! ```
//!
//! Printed: records per second, records per CPU-second (user + system of the process), and the ratio
//! of the medians of the latter; for `Sync`, where the disk is what takes the time, of wall clocks.
//!
//! Run it with `make bench`, or with `RECORDS` (of 100 bytes; a tenth of them of 1 KiB), `SYNCS` and
//! `RUNS` set: `RECORDS=200000 RUNS=3 cargo bench --profile dev --bench log -- read`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and opens raw files")]

#[path = "log/batching.rs"]
mod batching;
#[path = "log/commits.rs"]
mod commits;
#[path = "support/compare.rs"]
mod compare;
#[path = "support/cost.rs"]
mod cost;
#[path = "log/descriptors.rs"]
mod descriptors;
#[path = "log/latency.rs"]
mod latency;
#[path = "log/syncs.rs"]
mod syncs;
#[path = "log/watched.rs"]
mod watched;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use compare::{Work, in_turn, report};
use core_log::{
    BatchBuilder, BatchHeader, Durability, FetchBound, HEADER_LEN, Log, NO_HEADERS,
    PartitionReader, Topic, TopicSettings,
};
use cost::{is_chosen, measured, setting};

const CHUNK: usize = 64 * 1024;
/// How often everything is read in a run: once is too short for a clock of a hundred ticks a second.
const PASSES: u64 = 4;

/// Records of one size in so many topics.
#[derive(Clone, Copy)]
struct Load {
    records: u64,
    bytes: usize,
    topics: usize,
}

fn main() {
    let (records, runs) = (setting("RECORDS", 5_000_000), setting("RUNS", 5));
    println!("log: {records} records of 100 bytes, {runs} runs after a warm-up, batches of 64 KiB");
    for topics in [1, 100, 1_000] {
        let small = Load { records, bytes: 100, topics };
        for load in [small, Load { records: records / 10, bytes: 1024, topics }] {
            if is_chosen("append") {
                appends(load, runs);
            }
            if is_chosen("read") {
                reads(load, runs);
            }
        }
    }
    if is_chosen("send") {
        sends(records, runs);
    }
    if is_chosen("Sync") {
        syncs::syncs(setting("SYNCS", 400), runs);
    }
    if is_chosen("commit") {
        commits::transactions(setting("SYNCS", 400) / 4, runs);
    }
    if is_chosen("descriptors") {
        descriptors::descriptors(records / 2, runs);
    }
    if is_chosen("latency") {
        latency::latencies(records.min(200_000), runs, |dir| {
            let (log, mut topics) = open(dir, 1);
            (log, topics.remove(0))
        });
    }
}

fn sends(records: u64, runs: u64) {
    let send = || {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (log, topics) = open(dir.path(), 1);
        batching::send_all(&log, &topics[0], records)
    };
    let works: [Work<'_>; 1] = [Box::new(send)];
    let [costs] = in_turn(runs, works);
    report("send, Os, batches of 16 KiB, 100 B", records as f64, &costs);
}

fn name(what: &str, load: &Load) -> String {
    format!("{what} {} B, {} topic(s)", load.bytes, load.topics)
}

fn ratio(ours: f64, raw: f64) {
    println!("{:<42} ratio to the raw loop {:.2}", "", ours / raw);
}

fn open(dir: &Path, topics: usize) -> (Log, Vec<Topic>) {
    let log = Log::open(dir).expect("the log");
    let topic = |n: usize| {
        let name = format!("topic-{n}");
        let found = log.topic(&name);
        found.or_else(|_| log.create_topic(&name, TopicSettings::default())).expect("a topic")
    };
    let topics = (0..topics).map(topic).collect();
    (log, topics)
}

/// Fills batches and hands them over, to one topic after the other.
fn append_all(load: &Load, topics: &[Topic], mut append: impl FnMut(&Topic, &mut BatchBuilder)) {
    let (value, mut batch) = (vec![7; load.bytes], BatchBuilder::new());
    let mut next = topics.iter().cycle();
    for time in 0..i64::try_from(load.records).expect("a small number") {
        batch.push(time, None, Some(&value), NO_HEADERS).expect("it fits");
        if batch.len_bytes() + load.bytes + 64 > CHUNK {
            append(next.next().expect("a cycle"), &mut batch);
            batch.clear();
        }
    }
    if !batch.is_empty() {
        append(next.next().expect("a cycle"), &mut batch);
    }
}

fn appends(load: Load, runs: u64) {
    let ours = || {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (log, topics) = open(dir.path(), load.topics);
        let mut producer = log.producer(Durability::Os).expect("a producer");
        measured(|| {
            append_all(&load, &topics, |topic, batch| {
                producer.append(topic, 0, batch).expect("an append");
            });
        })
    };
    let raw = || {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let open = |n| File::create(dir.path().join(format!("{n}"))).expect("a new file");
        let mut files: Vec<File> = (0..load.topics).map(open).collect();
        measured(|| {
            if load.bytes < 1024 {
                encode_raw(&load, &mut files)
            } else {
                write_raw(&load, &mut files)
            }
        })
    };
    let works: [Work<'_>; 2] = [Box::new(ours), Box::new(raw)];
    let [ours, raw] = in_turn(runs, works);
    let count = load.records as f64;
    let beside = if load.bytes < 1024 { "raw encode + crc32c + write" } else { "raw write" };
    let raw = report(&name(beside, &load), count, &raw);
    ratio(report(&name("append, Os", &load), count, &ours), raw);
}

/// Record batches written by hand: what a log cannot do without.
fn encode_raw(load: &Load, files: &mut [File]) {
    let (value, mut buffer) = (vec![7; load.bytes], vec![0; HEADER_LEN]);
    let (mut file, mut count) = (0, 0_u32);
    for _ in 0..load.records {
        let from = buffer.len();
        buffer.extend_from_slice(&[0; 2]);
        buffer.extend_from_slice(&[0, 0]);
        varint(&mut buffer, count * 2);
        buffer.push(1);
        varint(&mut buffer, u32::try_from(load.bytes).expect("a small record") * 2);
        buffer.extend_from_slice(&value);
        buffer.push(0);
        // Two bytes of length, zigzag: records of 100 bytes need as many.
        let len = u16::try_from((buffer.len() - from - 2) * 2).expect("a small record");
        let low = u8::try_from(len & 0x7f).expect("seven bits") | 0x80;
        buffer[from..from + 2]
            .copy_from_slice(&[low, u8::try_from(len >> 7).expect("a short one")]);
        count += 1;
        if buffer.len() + load.bytes + 64 > CHUNK {
            let crc = crc32c::crc32c(&buffer[21..]);
            buffer[17..21].copy_from_slice(&crc.to_be_bytes());
            files[file].write_all(&buffer).expect("a write");
            file = (file + 1) % files.len();
            buffer.truncate(HEADER_LEN);
            count = 0;
        }
    }
}

fn varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}

fn write_raw(load: &Load, files: &mut [File]) {
    let bytes = u64::try_from(load.bytes).expect("a small record");
    let chunk = vec![7; CHUNK];
    let per_chunk = u64::try_from(CHUNK).expect("64 KiB") / bytes;
    for n in 0..load.records / per_chunk {
        let file = usize::try_from(n).expect("a small number") % files.len();
        files[file].write_all(&chunk).expect("a write");
    }
}

fn reads(load: Load, runs: u64) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (log, topics) = open(dir.path(), load.topics);
    let mut producer = log.producer(Durability::Os).expect("a producer");
    append_all(&load, &topics, |topic, batch| {
        producer.append(topic, 0, batch).expect("an append");
    });
    let passes = |pass: &dyn Fn() -> u64| {
        measured(|| (0..PASSES).for_each(|_| assert_eq!(pass(), load.records)))
    };
    let ours = || passes(&|| read_log(&log, &topics));
    let raw = || passes(&|| read_raw(dir.path(), load.topics));
    let works: [Work<'_>; 2] = [Box::new(ours), Box::new(raw)];
    let [ours, raw] = in_turn(runs, works);
    let count = (load.records * PASSES) as f64;
    let raw = report(&name("raw pread + crc32c", &load), count, &raw);
    ratio(report(&name("read, verified, each record", &load), count, &ours), raw);
}

fn read_log(log: &Log, topics: &[Topic]) -> u64 {
    let (mut records, mut bytes) = (0, 0);
    for topic in topics {
        let mut reader = PartitionReader::new(log, topic, 0, 0, FetchBound::LastStable);
        while let Some(batch) = reader.next_batch(4 * CHUNK).expect("a fetch") {
            for record in batch.records() {
                bytes += record.expect("a record").value.map_or(0, <[u8]>::len);
                records += 1;
            }
        }
    }
    std::hint::black_box(bytes);
    records
}

/// Whole batches and their checksums, without looking at records.
fn read_raw(dir: &Path, topics: usize) -> u64 {
    let (mut records, mut buffer) = (0, vec![0; 4 * CHUNK]);
    for path in log_files(dir, topics) {
        let file = File::open(path).expect("a segment");
        let mut position = 0;
        loop {
            let len = file.read_at(&mut buffer, position).expect("a read");
            let mut rest = &buffer[..len];
            while let Ok(header) = BatchHeader::parse(rest) {
                let Some((batch, next)) = rest.split_at_checked(header.total_len()) else { break };
                assert_eq!(crc32c::crc32c(&batch[21..]), header.crc);
                records += u64::try_from(header.record_count).expect("a count");
                rest = next;
            }
            let taken = len - rest.len();
            position += u64::try_from(taken).expect("a length");
            if taken == 0 {
                break;
            }
        }
    }
    records
}

/// The first segment of each topic, wherever the log keeps it.
fn log_files(dir: &Path, topics: usize) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the log's directory") {
        let path = entry.expect("an entry").path();
        let segment = path.join("00000000000000000000.log");
        let is_topic = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("topic-"));
        if is_topic && segment.exists() {
            found.push(segment);
        }
    }
    assert_eq!(found.len(), topics, "one partition for each topic");
    found
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().max(Duration::from_nanos(1)).as_secs_f64()
}

fn one_record() -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    batch.push(0, None, Some(&[7; 100]), NO_HEADERS).expect("it fits");
    batch
}

fn write_and_sync(file: &mut File, records: usize) {
    let bytes = vec![7; records * (one_record().len_bytes())];
    file.write_all(&bytes).expect("a write");
    file.sync_data().expect("a sync");
}
