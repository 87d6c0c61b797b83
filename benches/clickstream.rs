//! How much of a hand-written loop's speed the clickstream job keeps.
//!
//! Both read the same log in the same run: the job with repartition topic, changelog, RocksDB and
//! exactly-once commits; the loop with a hash map, and one transaction for results and offsets every
//! 100 ms. Printed for bincode and JSON values, 1 and 2 threads, `Sync` and `Os`: records per second,
//! records per CPU-second (user + system of the process), and the ratio of the medians of the latter.
//!
//! Run it with `make bench` (five runs of a million records each), or with `RECORDS` and `RUNS` set.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use core_log::{
    BatchBuilder, FetchBound, GroupId, Log, OffsetCommit, PartitionReader, Topic as LogTopic,
    TopicSettings,
};
use streams::prelude::*;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Click {
    user: String,
    page: String,
    referrer: String,
    agent: String,
    at: i64,
}

const JSON: Topic<NoKey, Click> = topic("clicks");
const COMPACT: Topic<NoKey, Click, Bincode> = topic("clicks").bincode();
const COUNTS: Topic<Windowed<String>, u64> = topic("page-counts");
const PARTITIONS: u32 = 4;
const NO_HEADERS: &[(&str, Option<&[u8]>)] = &[];

fn job(clicks: Stream<NoKey, Click>) {
    clicks
        .event_time(|c| c.at)
        .filter(|c| !c.user.starts_with("bot-"))
        .key_by(|c| c.page.clone())
        .window(tumbling(mins(1)).grace(secs(10)))
        .count("clicks-per-page")
        .on_close()
        .to(COUNTS);
}

/// A click of about 120 bytes in bincode; a thousand pages, a thousand records per second of event time.
fn click(i: u64) -> Click {
    let mixed = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let user = if mixed.is_multiple_of(20) {
        "bot-crawler".into()
    } else {
        format!("user-{}", mixed % 50_000)
    };
    Click {
        user,
        page: format!("/products/{}", mixed % 1_000),
        referrer: "https://search.example/?q=headwater".into(),
        agent: "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0".into(),
        at: 1_700_000_000_000 + i64::try_from(i).unwrap_or(0),
    }
}

fn encode(click: &Click, json: bool, out: &mut Vec<u8>) {
    out.clear();
    if json {
        <Json as Codec<Click>>::encode(click, out).expect("a click is JSON");
    } else {
        <Bincode as Codec<Click>>::encode(click, out).expect("a click is bincode");
    }
}

fn write(dir: &Path, records: u64, json: bool) {
    let log = Log::open(dir).expect("an empty directory");
    let settings = TopicSettings { partitions: PARTITIONS, ..TopicSettings::default() };
    let topic = log.create_topic("clicks", settings).expect("a new topic");
    let mut producer = log.producer(Durability::Os).expect("a producer");
    let (mut batch, mut value) = (BatchBuilder::new(), Vec::new());
    let chunk = 256;
    for first in (0..records).step_by(chunk) {
        for i in first..(first + 256).min(records) {
            let click = click(i);
            encode(&click, json, &mut value);
            batch.push(click.at, None, Some(&value), NO_HEADERS).expect("it fits");
        }
        let partition = u32::try_from(first / 256 % u64::from(PARTITIONS)).expect("below 4");
        producer.append(&topic, partition, &mut batch).expect("an append");
        batch.clear();
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

struct Cost {
    wall: f64,
    cpu: f64,
}

fn measured(work: impl FnOnce()) -> Cost {
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    work();
    Cost { wall: wall.elapsed().as_secs_f64(), cpu: cpu_seconds() - cpu }
}

fn run_job(dir: &Path, records: u64, json: bool, threads: usize, durability: Durability) -> Cost {
    let app = if json {
        App::new("clickstream", |t| job(t.stream(JSON)))
    } else {
        App::new("clickstream", |t| job(t.stream(COMPACT)))
    };
    measured(|| {
        let app = app.log(dir).threads(threads).durability(durability);
        let handle = app.start().expect("the job starts");
        while handle.progress().records_in < records
            && !handle.wait_timeout(Duration::from_millis(1))
        {}
        handle.stop();
        handle.wait().expect("a clean stop");
    })
}

struct Loop<'a> {
    log: &'a Log,
    out: LogTopic,
    counts: HashMap<(String, i64), u64>,
    closed_to: i64,
}

impl Loop<'_> {
    fn count(&mut self, click: Click) {
        if click.user.starts_with("bot-") {
            return;
        }
        let start = click.at.div_euclid(60_000) * 60_000;
        if start + 70_000 > self.closed_to {
            *self.counts.entry((click.page, start)).or_insert(0) += 1;
        }
    }

    /// Results of closed windows and the offsets, in one transaction.
    fn commit(&mut self, clocks: &[i64], transaction: core_log::Transaction, at: &[OffsetCommit]) {
        let now = clocks.iter().copied().min().unwrap_or(i64::MIN);
        let mut batch = BatchBuilder::new();
        self.closed_to = now;
        self.counts.retain(|(page, start), count| {
            let open = start + 70_000 > now;
            if !open {
                let value = count.to_string();
                let (key, value) = (Some(page.as_bytes()), Some(value.as_bytes()));
                batch.push(start + 59_999, key, value, NO_HEADERS).expect("it fits");
                if batch.len_bytes() >= 64 * 1024 {
                    transaction.append(&self.out, 0, &mut batch).expect("an append");
                    batch.clear();
                }
            }
            open
        });
        if !batch.is_empty() {
            transaction.append(&self.out, 0, &mut batch).expect("an append");
        }
        transaction.commit(at).expect("a commit");
    }
}

fn run_loop(dir: &Path, json: bool, durability: Durability) -> Cost {
    measured(|| {
        let log = Log::open(dir).expect("the log");
        let topic = log.topic("clicks").expect("clicks");
        let out = log.create_topic("loop-counts", TopicSettings::default()).expect("a topic");
        let mut producer = log.transactional_producer("loop", durability).expect("a producer");
        let mut work = Loop { log: &log, out, counts: HashMap::new(), closed_to: i64::MIN };
        let reader =
            |p| PartitionReader::new(work.log.clone(), &topic, p, 0, FetchBound::LastStable);
        let mut readers: Vec<_> = (0..PARTITIONS).map(reader).collect();
        let mut clocks = [i64::MIN; PARTITIONS as usize];
        let mut last = Instant::now();
        loop {
            let mut any = false;
            for (p, reader) in readers.iter_mut().enumerate() {
                let Some(batch) = reader.next_batch(256 * 1024).expect("a fetch") else { continue };
                any = true;
                for record in batch.records() {
                    let value = record.expect("a record").value.expect("a value");
                    let click: Click = if json {
                        <Json as Codec<Click>>::decode(value).expect("a click")
                    } else {
                        <Bincode as Codec<Click>>::decode(value).expect("a click")
                    };
                    clocks[p] = clocks[p].max(click.at);
                    work.count(click);
                }
            }
            if !any || last.elapsed() >= Duration::from_millis(100) {
                let group = GroupId::new("loop").expect("a name");
                let positions = readers.iter().zip(0..).map(|(reader, partition)| OffsetCommit {
                    group: group.clone(),
                    topic: topic.id(),
                    partition,
                    offset: reader.position(),
                    leader_epoch: -1,
                    metadata: Bytes::new(),
                });
                let positions: Vec<_> = positions.collect();
                let transaction = producer.begin().expect("a transaction");
                work.commit(&clocks, transaction, &positions);
                last = Instant::now();
            }
            if !any {
                break;
            }
        }
        log.close().expect("a clean close");
    })
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn spread(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2], figures[0], figures[figures.len() - 1])
}

fn report(name: &str, records: f64, costs: &[Cost]) -> f64 {
    let (per_cpu, low, high) = spread(costs.iter().map(|c| records / c.cpu / 1e6).collect());
    let (per_second, ..) = spread(costs.iter().map(|c| records / c.wall / 1e6).collect());
    println!(
        "{name:<34} {per_second:>8.2} M/s {per_cpu:>8.2} M per CPU-second (min {low:.2}, max {high:.2})"
    );
    per_cpu
}

fn main() {
    let (records, runs) = (setting("RECORDS", 1_000_000), setting("RUNS", 5));
    println!(
        "clickstream: {records} records, {PARTITIONS} partitions, {runs} runs after a warm-up"
    );
    for json in [false, true] {
        for (mode, durability) in [("Sync", Durability::Sync), ("Os", Durability::Os)] {
            let codec = if json { "JSON" } else { "bincode" };
            let (mut by_loop, mut by_job) = (Vec::new(), [Vec::new(), Vec::new()]);
            for run in 0..=runs {
                let mut costs = Vec::new();
                for threads in [1, 2] {
                    let dir = tempfile::tempdir().expect("a temporary directory");
                    write(dir.path(), records, json);
                    costs.push(run_job(dir.path(), records, json, threads, durability));
                }
                let dir = tempfile::tempdir().expect("a temporary directory");
                write(dir.path(), records, json);
                let hand_written = run_loop(dir.path(), json, durability);
                if run > 0 {
                    by_loop.push(hand_written);
                    by_job.iter_mut().zip(costs).for_each(|(list, cost)| list.push(cost));
                }
            }
            let count = records as f64;
            let raw = report(&format!("{codec} {mode} hand-written loop"), count, &by_loop);
            for (threads, costs) in by_job.iter().enumerate() {
                let name = format!("{codec} {mode} job, {} thread(s)", threads + 1);
                let reached = report(&name, count, costs);
                println!("{:<34} ratio to the loop {:.2}", "", reached / raw);
            }
        }
    }
}
