//! The queries of Nexmark as jobs, their input, and what a plain loop over it says.
//!
//! ```text
//!   generator --> events --> single, people, prices, windows     the jobs, each with its model
//!                                 `-- query: the judge
//! ```
//!
//! The bench runs them over many events, the tests over few with crashes.

pub(crate) mod events;
pub(crate) mod generator;
pub(crate) mod people;
pub(crate) mod prices;
pub(crate) mod query;
pub(crate) mod single;
pub(crate) mod windows;
