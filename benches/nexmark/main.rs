//! The queries of Nexmark as jobs: what they cost, and that their results are right.
//!
//! ```text
//!   generator --> log (4 partitions) --> job, exactly-once, Sync --> log
//!       |                                                             |
//!       `--> plain loop over the same events ----------- equal? ------'
//! ```
//!
//! Printed for each query: events per CPU-second (user + system of the process; every event counts, also
//! those that a query drops), events per second, and how many results were compared, in every run. The
//! input is written and the results are checked outside of the measured time.
//!
//! Run it with `cargo bench --profile dev --bench nexmark`; `EVENTS`, `RUNS`, `THREADS` and `SEED` may be
//! set, and words name the queries: `EVENTS=500000 cargo bench --profile dev --bench nexmark -- q3 q8`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "../support/cost.rs"]
mod cost;
#[path = "../support/job.rs"]
mod job;
mod queries;

use std::path::Path;

use cost::{Cost, is_chosen, setting, spread};
use job::Written;
use queries::events::{EVENTS, Event};
use queries::generator::Input;
use queries::people::{LocalItems, NewUsers};
use queries::prices::{CategoryPrices, SellerPrices};
use queries::query::{Query, Said};
use queries::single::{Currency, PassThrough, Selection};
use queries::windows::{HighestBid, HotItems};
use streams::prelude::*;

const PARTITIONS: u32 = 4;
/// Events per second of event time, as published.
const RATE: u64 = 10_000;

fn write(dir: &Path, input: Input) {
    let mut value = Vec::new();
    job::write(dir, EVENTS.name(), PARTITIONS, 0..input.count, |n, write| {
        let event = input.event(n);
        value.clear();
        <Bincode as Codec<Event>>::encode(&event, &mut value).expect("an event is bincode");
        write(Written { time: event.at(), key: None, value: &value });
    });
}

fn said<Q: Query>(dir: &Path) -> Vec<Said<Q::Key, Q::Value>> {
    let log = Log::open(dir).expect("the log of the run");
    let records = log.read(Q::OUT).into_iter();
    let said = records.map(|record| {
        let record = record.expect("a result decodes");
        let (key, value, timestamp) = (record.key, record.value, record.timestamp);
        Said { partition: record.partition, key, value, timestamp }
    });
    said.collect()
}

/// One run on a log of its own: its cost, and how many results it had.
fn run<Q: Query>(input: Input, threads: usize) -> (Cost, usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    write(dir.path(), input);
    // Made here, it keeps results of events of long ago until they are read, however long a run takes.
    job::write(dir.path(), Q::OUT.name(), PARTITIONS, 0..0, |_, _| {});
    // Every partition has records until the end: none is passed over, however long a run takes.
    let app = App::new("nexmark", Q::topology).threads(threads).idle_after(hours(1));
    let cost = job::run(app, dir.path(), input.count);
    match Q::verdict(input, said::<Q>(dir.path())) {
        Ok(results) => (cost, results),
        Err(difference) => panic!("{}, {input:?}: WRONG: {difference}", Q::NAME),
    }
}

fn measure<Q: Query>(input: Input, threads: usize, runs: u64) {
    if !is_chosen(Q::NAME) {
        return;
    }
    let runs: Vec<(Cost, usize)> = (0..=runs).map(|_| run::<Q>(input, threads)).collect();
    let millions = input.count as f64 / 1e6;
    // The first run warms up. The clock of a process ticks a hundred times a second.
    let costs = || runs.iter().skip(1).map(|(cost, _)| cost);
    let (per_cpu, low, high) = spread(costs().map(|cost| millions / cost.cpu.max(0.01)).collect());
    let (wall, ..) = spread(costs().map(|cost| cost.wall).collect());
    let results = runs.first().map_or(0, |(_, results)| *results);
    println!(
        "{:<26} {per_cpu:>7.2} M ({low:.2} to {high:.2}) {:>8.2} M {wall:>8.2} s   {results} results verified",
        Q::NAME,
        millions / wall
    );
}

fn main() {
    let (events, runs) = (setting("EVENTS", 2_000_000), setting("RUNS", 5));
    let threads = usize::try_from(setting("THREADS", 1)).expect("a number of threads");
    let input =
        Input { seed: setting("SEED", 1), count: events, rate: RATE, partitions: PARTITIONS };
    println!(
        "nexmark: {events} events, {PARTITIONS} partitions, {threads} thread(s), exactly-once, Sync, {runs} runs after a warm-up"
    );
    println!("{:<26} {:>27} {:>10} {:>10}", "query", "events per CPU-second", "per second", "wall");
    measure::<PassThrough>(input, threads, runs);
    measure::<Currency>(input, threads, runs);
    measure::<Selection>(input, threads, runs);
    measure::<LocalItems>(input, threads, runs);
    measure::<CategoryPrices>(input, threads, runs);
    measure::<HotItems>(input, threads, runs);
    measure::<SellerPrices>(input, threads, runs);
    measure::<HighestBid>(input, threads, runs);
    measure::<NewUsers>(input, threads, runs);
}
