//! The crash suite: real processes on real directories, killed with SIGKILL and compared.
//!
//! What a kill leaves is what the operating system has: nothing in memory, all that was written. (Power
//! loss, which loses unsynced writes too, is played through in memory by the suites of `core-log` and
//! `streams`.)
//!
//! ```text
//!   cargo test --test crash                            the slice for every run of the gates
//!   CRASHES=1000 cargo test --test crash killed        as many kills for each of the killed jobs
//!   CRASH_SEED=7 cargo test --test crash killed        the same input and the same choices
//! ```
//!
//! A failure prints its seed. Input, settings and the choice of each kill follow from it; where exactly
//! the kill falls also depends on the machine.

#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

mod aborted;
mod child;
mod compare;
mod directory;
mod driver;
mod jobs;
mod kills;
mod letters;
mod owner;
mod processors;
mod random;
mod replay;
mod reset;
mod restart;
mod stores;
mod undecodable;
mod witnesses;
