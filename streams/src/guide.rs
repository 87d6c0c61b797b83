//! The guide: what to know beside the documentation of each method.
//!
//! Why inside the crate: every block of code in it is compiled and run with the tests.

#[doc = include_str!("guide/operators.md")]
pub mod operators {}

#[doc = include_str!("guide/time.md")]
pub mod time {}

#[doc = include_str!("guide/exactly_once.md")]
pub mod exactly_once {}

#[doc = include_str!("guide/testing.md")]
pub mod testing {}

#[doc = include_str!("guide/kafka_streams.md")]
pub mod kafka_streams {}
