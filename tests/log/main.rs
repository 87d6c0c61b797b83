//! The embedded log through its public API: against a model, on files, and looked at from outside.

mod files;
mod model;
mod owner;
mod support;
mod time;
