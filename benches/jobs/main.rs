//! What single steps of a job cost: no state, a count, joins, windows and stores beside much other state.
//!
//! ```text
//!   filter, map          log to log, exactly-once          beside: hand-written loop over the same log
//!   count by key         topic, changelog, RocksDB         beside: hand-written loop with a hash map
//!   joins, windows,      ROWS other rows in their stores   beside: themselves with fewer rows
//!   stores
//! ```
//!
//! Keys are their topic's, so nothing goes through a repartition topic but what a foreign key needs. The
//! other rows are built once for each number of them, outside of the measured time, and lie in RocksDB
//! then: the cost must not depend on them. After the runs everything that a job wrote is compared with
//! what a plain loop says. Printed as in `clickstream`; commits wait for the disk (`Sync`).
//!
//! Run it with `make bench`, or with `RECORDS`, `RUNS`, and `ROWS` (a list of numbers of rows) set:
//! `RECORDS=200000 ROWS=0,100000 cargo bench --profile dev --bench jobs -- stream-table`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod beside;
#[path = "../support/compare.rs"]
mod compare;
#[path = "../support/cost.rs"]
mod cost;
#[path = "../support/hand_loop.rs"]
mod hand_loop;
#[path = "../support/job.rs"]
mod job;
mod joins;
mod loops;
mod records;
mod stores;
mod windows;

use cost::{is_chosen, setting};
use records::PARTITIONS;

fn main() {
    let (records, runs) = (setting("RECORDS", 1_000_000), setting("RUNS", 5));
    let rows = std::env::var("ROWS").unwrap_or_else(|_| "0,1000000,10000000".to_owned());
    let rows: Vec<u64> = rows.split(',').filter_map(|number| number.trim().parse().ok()).collect();
    println!("jobs: {records} records, {PARTITIONS} partitions, Sync, {runs} runs after a warm-up");
    if is_chosen("filter, map") {
        loops::filter_map(records, runs);
    }
    if is_chosen("count by key") {
        loops::count_by_key(records, runs);
    }
    let beside = joins::JOINS.iter().chain(&windows::KINDS).chain(&stores::KINDS);
    for job in beside.filter(|job| is_chosen(job.what)) {
        job.run(records, &rows, runs);
    }
}
