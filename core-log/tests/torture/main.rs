//! A log that is ended in every way that a machine knows, at every operation, again and again: what was
//! promised is there, nothing is there twice, and it goes on.
//!
//! ```text
//!   seed -> workload -> end (power cut, kill, error, full disk) -> start -> compare -> more of it -> ..
//! ```
//!
//! Seeds take turns: workloads of transactions that copy, and workloads of a compacted topic, retention, a
//! group that reads and a producer of single records.
//!
//! A short slice runs with the other tests. `make torture TIME=30m` runs the same suites until the time
//! is up, with other seeds each minute; `TORTURE_SEED=n` repeats one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod budget;
mod copying;
mod ends;
mod faults;
mod look;
mod model;
mod random;
mod upkeep;
mod world;
