//! The streams suite: topologies run by the TestDriver, on the real runtime and the real log.
//!
//! Every random test prints its seed on failure; the same seed takes the same steps.

#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

mod at_most_every;
mod checked;
mod checkers;
mod clock_replay;
mod determinism;
mod driver_on_disk;
mod equal;
mod errors;
mod failures;
mod folds;
mod foreign_joins;
mod fused;
mod global_tables;
mod jobs;
mod large_values;
mod late_then;
mod lifecycle;
mod nexmark;
mod operators;
mod ordered;
mod processors;
mod queries;
mod read;
mod replay;
mod reset;
mod seams;
mod settings;
mod silence;
mod state;
mod stateless;
mod stream_joins;
mod table_joins;
mod table_ops;
mod tables;
mod threads;
mod time;
mod timers;
mod versioned;
mod window_models;
mod window_replays;
mod windows;
