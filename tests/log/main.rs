//! The embedded log through its public API: against a model, on files, and looked at from outside.

#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

#[path = "../support/examples.rs"]
mod example_binaries;
mod examples;
mod files;
mod model;
mod owner;
mod support;
mod time;
