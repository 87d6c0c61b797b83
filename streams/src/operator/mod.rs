//! The operators, one a file.
//!
//! Invariants
//! * a null value passes filter and map untouched, without calling the closure; aggregates count and
//!   skip it.
//! * no operator reads a clock, an offset or a file.

mod aggregate;
mod children;
pub(crate) mod envelope;
mod filter;
mod flat_map;
mod for_each;
mod key_by;
mod keyed;
mod map;
mod repartition;
mod sink;
mod source;
mod window_aggregate;

pub(crate) use aggregate::{Add, Aggregate};
pub(crate) use children::{Children, SharedNext};
pub(crate) use filter::Filter;
pub(crate) use flat_map::FlatMap;
pub(crate) use for_each::ForEach;
pub(crate) use key_by::KeyBy;
pub(crate) use keyed::Keyed;
pub(crate) use map::Map;
pub(crate) use repartition::{RepartitionEntry, RepartitionSink};
pub(crate) use sink::Sink;
pub(crate) use source::{SourceEntry, SourceSettings, evidence, short_name};
pub(crate) use window_aggregate::WindowAggregate;
