//! The operators, one a file.
//!
//! Invariants
//! * a null value passes filter and map untouched, without calling the closure; a branch sends
//!   it with the rest; aggregates count and skip it.
//! * no operator reads a clock, an offset or a file.

mod aggregate;
mod branch;
mod children;
mod combine;
pub(crate) mod envelope;
mod filter;
mod flat_map;
mod for_each;
mod global;
mod inspect;
mod join_buffer;
pub(crate) mod join_row;
mod key_by;
mod keyed;
mod map;
mod print;
mod repartition;
mod sink;
mod sink_of;
mod source;
mod split;
mod stream_join;
mod table;
mod table_join;
mod try_map;
mod window_aggregate;
mod with_key;

pub(crate) use aggregate::{Add, Aggregate};
pub(crate) use branch::Branch;
pub(crate) use children::{Children, SharedNext};
pub(crate) use combine::{Combines, CountSink, decode_count};
pub(crate) use filter::Filter;
pub(crate) use flat_map::FlatMap;
pub(crate) use for_each::ForEach;
pub(crate) use global::GlobalEntry;
pub(crate) use inspect::Inspect;
pub(crate) use join_buffer::JoinBuffer;
pub(crate) use key_by::KeyBy;
pub(crate) use keyed::Keyed;
pub(crate) use map::Map;
pub(crate) use print::Print;
pub(crate) use repartition::{RepartitionEntry, RepartitionSink, StreamEntry};
pub(crate) use sink::Sink;
pub(crate) use sink_of::SinkOf;
pub(crate) use source::{SourceEntry, SourceSettings, evidence, short_name};
pub(crate) use split::{Case, Split};
pub(crate) use stream_join::{LeftSide, Pair, RightSide, Says, StreamJoin};
pub(crate) use table::{Change, NewValue, TableStore, TableWriter};
pub(crate) use table_join::TableJoin;
pub(crate) use try_map::TryMap;
pub(crate) use window_aggregate::WindowAggregate;
pub(crate) use with_key::{
    FilterWithKey, FlatMapValuesWithKey, FlatMapWithKey, ForEachWithKey, InspectWithKey,
    KeyByWithKey, MapValuesWithKey, MapWithKey,
};
