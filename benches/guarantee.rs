//! What exactly-once costs: the same job with transactions and without, side by side.
//!
//! Without transactions the job appends through idempotent producers, and each commit syncs what was
//! written and consumed and then commits the positions: at-least-once, with as many syncs. Two jobs, one
//! that copies every record and one that counts by key behind a repartition, with records of 100 bytes and
//! 1 KiB, `Sync` and `Os`, commits every 100 ms. The two take turns in who goes first. Printed: medians of
//! records per CPU-second (user + system of the process) and per second, and what exactly-once loses.
//!
//! Run it with `cargo bench --profile dev --bench guarantee`; `RECORDS` (of 100 bytes; a quarter of that of
//! 1 KiB) and `RUNS` may be set.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::path::Path;
use std::time::{Duration, Instant};

use core_log::{BatchBuilder, Log, TopicSettings};
use streams::prelude::*;

const IN: Topic<String, String, Bincode> = topic("in").bincode();
const OUT: Topic<String, String, Bincode> = topic("out").bincode();
const COUNTS: Topic<String, u64, Bincode> = topic("counts").bincode();
const PARTITIONS: u32 = 4;
const KEYS: u64 = 1_000;
const NO_HEADERS: &[(&str, Option<&[u8]>)] = &[];

#[derive(Clone, Copy, PartialEq)]
enum Guarantee {
    ExactlyOnce,
    AtLeastOnce,
}

fn copy(t: &mut Topology) {
    t.stream(IN).filter(|text| !text.is_empty()).to(OUT);
}

fn count(t: &mut Topology) {
    t.stream(IN).key_by(|text| text[..8].to_owned()).count("counts").to(COUNTS);
}

/// Records of about that many bytes, key included.
fn write(dir: &Path, records: u64, bytes: usize) {
    let log = Log::open(dir).expect("an empty directory");
    let settings = TopicSettings { partitions: PARTITIONS, ..TopicSettings::default() };
    let topic = log.create_topic("in", settings).expect("a new topic");
    let mut producer = log.producer(Durability::Os).expect("a producer");
    let (mut batch, mut value) = (BatchBuilder::new(), Vec::new());
    for i in 0..records {
        let key = format!("{:08}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & 0xff_ffff);
        let hot = format!("{:08}", (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % KEYS);
        let text = format!("{hot}{}", "x".repeat(bytes.saturating_sub(30)));
        value.clear();
        <Bincode as Codec<String>>::encode(&text, &mut value).expect("text is bincode");
        batch
            .push(1_700_000_000_000, Some(key.as_bytes()), Some(&value), NO_HEADERS)
            .expect("it fits");
        if batch.len_bytes() >= 32 * 1024 || i + 1 == records {
            let partition = u32::try_from(i / 16 % u64::from(PARTITIONS)).expect("below 4");
            producer.append(&topic, partition, &mut batch).expect("an append");
            batch.clear();
        }
    }
    log.close().expect("a clean close");
}

/// User and system time of this process, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has it");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks: f64 =
        fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime");
    ticks / 100.0
}

/// Records per CPU-second and per second, in thousands.
fn run(app: App, guarantee: Guarantee, records: u64) -> (f64, f64) {
    let app = match guarantee {
        Guarantee::ExactlyOnce => app,
        Guarantee::AtLeastOnce => app.at_least_once_to_measure(),
    };
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let handle = app.start().expect("the job starts");
    while handle.progress().records_in < records && !handle.wait_timeout(Duration::from_millis(1)) {
    }
    handle.stop();
    handle.wait().expect("a clean stop");
    let thousands = records as f64 / 1_000.0;
    (thousands / (cpu_seconds() - cpu), thousands / wall.elapsed().as_secs_f64())
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn compare(name: &str, job: fn(&mut Topology), records: u64, bytes: usize, durability: Durability) {
    let mut figures = [Vec::new(), Vec::new()];
    for round in 0..=setting("RUNS", 5) {
        let mut both = [Guarantee::ExactlyOnce, Guarantee::AtLeastOnce];
        if round % 2 == 1 {
            both.reverse();
        }
        for guarantee in both {
            let dir = tempfile::tempdir().expect("a temporary directory");
            write(dir.path(), records, bytes);
            let app = App::new("job", job).log(dir.path()).durability(durability);
            let figure = run(app.commit_every(millis(100)), guarantee, records);
            if round > 0 {
                figures[usize::from(guarantee == Guarantee::AtLeastOnce)].push(figure);
            }
        }
    }
    let [exactly, at_least] = figures.map(|list| {
        (median(list.iter().map(|(cpu, _)| *cpu)), median(list.iter().map(|(_, wall)| *wall)))
    });
    let lost = |exactly: f64, at_least: f64| 100.0 * (1.0 - exactly / at_least);
    println!(
        "{name:<26} {:>7.0} {:>7.0} {:>6.1} %    {:>7.0} {:>7.0} {:>6.1} %",
        exactly.0,
        at_least.0,
        lost(exactly.0, at_least.0),
        exactly.1,
        at_least.1,
        lost(exactly.1, at_least.1),
    );
}

fn main() {
    let records = setting("RECORDS", 2_000_000);
    println!("exactly-once against at-least-once: commits every 100 ms, {PARTITIONS} partitions");
    println!("{:<26} k records per CPU-second       k records per second", "");
    println!("{:<26} exactly at least    lost    exactly at least    lost", "");
    for (mode, durability) in [("Sync", Durability::Sync), ("Os", Durability::Os)] {
        for (size, bytes, records) in [("100 B", 100, records), ("1 KiB", 1_024, records / 4)] {
            compare(&format!("copy, {size}, {mode}"), copy, records, bytes, durability);
            compare(&format!("count, {size}, {mode}"), count, records, bytes, durability);
        }
    }
}
