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

#[path = "support/compare.rs"]
mod compare;
#[path = "support/cost.rs"]
mod cost;
#[path = "support/hand_loop.rs"]
mod hand_loop;
#[path = "support/job.rs"]
mod job;

use std::collections::HashMap;
use std::sync::OnceLock;

use compare::{Work, in_turn, report};
use core_log::RecordRef;
use cost::{Cost, is_chosen, setting};
use hand_loop::Out;
use job::Written;
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

fn counted(clicks: Stream<NoKey, Click>) {
    clicks
        .event_time(|c| c.at)
        .filter(|c| !c.user.starts_with("bot-"))
        .key_by(|c| c.page.clone())
        .window(tumbling(mins(1)).grace(secs(10)))
        .count("clicks-per-page")
        .on_close()
        .to(COUNTS);
}

/// How many pages there are: a thousand, or as many as PAGES says.
fn pages() -> u64 {
    static PAGES: OnceLock<u64> = OnceLock::new();
    *PAGES.get_or_init(|| setting("PAGES", 1_000))
}

/// A click of about 120 bytes in bincode; a thousand records per second of event time.
fn click(i: u64) -> Click {
    let mixed = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let user = if mixed.is_multiple_of(20) {
        "bot-crawler".into()
    } else {
        format!("user-{}", mixed % 50_000)
    };
    Click {
        user,
        page: format!("/products/{}", mixed % pages()),
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

fn filled(records: u64, json: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut value = Vec::new();
    job::write(dir.path(), JSON.name(), PARTITIONS, 0..records, |n, write| {
        let click = click(n);
        encode(&click, json, &mut value);
        write(Written { time: click.at, key: None, value: &value });
    });
    dir
}

fn run_job(records: u64, json: bool, threads: usize, durability: Durability) -> Cost {
    let app = if json {
        App::new("clickstream", |t| counted(t.stream(JSON)))
    } else {
        App::new("clickstream", |t| counted(t.stream(COMPACT)))
    };
    let dir = filled(records, json);
    job::run(app.threads(threads).durability(durability), dir.path(), records)
}

struct Loop {
    json: bool,
    counts: HashMap<(String, i64), u64>,
    clocks: [i64; PARTITIONS as usize],
    closed_to: i64,
}

impl hand_loop::Work for Loop {
    fn record(&mut self, partition: usize, record: &RecordRef<'_>, _: &mut Out) {
        let value = record.value.expect("a value");
        let click: Click = if self.json {
            <Json as Codec<Click>>::decode(value).expect("a click")
        } else {
            <Bincode as Codec<Click>>::decode(value).expect("a click")
        };
        self.clocks[partition] = self.clocks[partition].max(click.at);
        if click.user.starts_with("bot-") {
            return;
        }
        let start = click.at.div_euclid(60_000) * 60_000;
        if start + 70_000 > self.closed_to {
            *self.counts.entry((click.page, start)).or_insert(0) += 1;
        }
    }

    /// Results of closed windows.
    fn commit(&mut self, out: &mut Out) {
        let now = self.clocks.iter().copied().min().unwrap_or(i64::MIN);
        self.closed_to = now;
        self.counts.retain(|(page, start), count| {
            let open = start + 70_000 > now;
            if !open {
                let value = count.to_string();
                out.push(start + 59_999, Some(page.as_bytes()), value.as_bytes());
            }
            open
        });
    }
}

fn run_loop(records: u64, json: bool, durability: Durability) -> Cost {
    let dir = filled(records, json);
    let clocks = [i64::MIN; PARTITIONS as usize];
    let mut work = Loop { json, counts: HashMap::new(), clocks, closed_to: i64::MIN };
    hand_loop::run(dir.path(), JSON.name(), durability, &mut work)
}

fn main() {
    let (records, runs) = (setting("RECORDS", 1_000_000), setting("RUNS", 5));
    println!(
        "clickstream: {records} records, {PARTITIONS} partitions, {runs} runs after a warm-up"
    );
    for json in [false, true] {
        for (mode, durability) in [("Sync", Durability::Sync), ("Os", Durability::Os)] {
            let codec = if json { "JSON" } else { "bincode" };
            if !is_chosen(codec) {
                continue;
            }
            let works: [Work<'_>; 3] = [
                Box::new(|| run_job(records, json, 1, durability)),
                Box::new(|| run_job(records, json, 2, durability)),
                Box::new(|| run_loop(records, json, durability)),
            ];
            let [one, two, by_loop] = in_turn(runs, works);
            let count = records as f64;
            let raw = report(&format!("{codec} {mode} hand-written loop"), count, &by_loop);
            for (threads, costs) in [one, two].iter().enumerate() {
                let name = format!("{codec} {mode} job, {} thread(s)", threads + 1);
                let reached = report(&name, count, costs);
                println!("{:<42} ratio to the loop {:.2}", "", reached / raw);
            }
        }
    }
}
