//! The streams suite: topologies run by the TestDriver, on the real runtime and the real log.
//!
//! Every random test prints its seed on failure; the same seed takes the same steps.

mod checkers;
mod equal;
mod failures;
mod jobs;
mod operators;
mod settings;
mod state;
mod threads;
mod time;
