//! The operators, one a file.
//!
//! Invariants
//! * a null value passes filter and map untouched, without calling the closure; a branch sends
//!   it with the rest; aggregates count and skip it.
//! * no operator reads a clock, an offset or a file.

mod aggregate;
mod at_most_every;
mod branch;
mod children;
mod combine;
mod due;
pub(crate) mod envelope;
mod filter;
mod flat_map;
mod fold;
mod for_each;
mod foreign_join;
mod global;
mod grace_join;
mod inspect;
mod join_buffer;
pub(crate) mod join_row;
mod kept;
mod key_by;
mod key_windows;
mod keyed;
mod map;
mod print;
mod process;
mod repartition;
mod sink;
mod sink_of;
mod source;
mod split;
mod stream_join;
mod subscriptions;
mod table;
mod table_group;
mod table_join;
mod table_map;
mod table_table_join;
mod timers;
mod try_map;
mod versioned;
mod window_aggregate;
mod with_key;

pub(crate) use aggregate::{Aggregate, Fold};
pub(crate) use at_most_every::{AtMostEvery, SaidView, Waiting, split_waiting};
pub(crate) use branch::Branch;
pub(crate) use children::{Children, SharedNext};
pub(crate) use combine::{Combines, CountSink, decode_count};
pub(crate) use filter::Filter;
pub(crate) use flat_map::FlatMap;
pub(crate) use fold::{Folds, LateTo, WithHeaders};
pub(crate) use for_each::ForEach;
pub(crate) use foreign_join::{Answer, AskRight, Joined, LeftRows, Subscription, TakeAnswer};
pub(crate) use global::GlobalEntry;
pub(crate) use grace_join::{GraceJoin, Held, Matched, Patience, split_held};
pub(crate) use inspect::Inspect;
pub(crate) use join_buffer::JoinBuffer;
pub(crate) use kept::{Ages, Kept, Now};
pub(crate) use key_by::KeyBy;
pub(crate) use key_windows::KeyedWindows;
pub use key_windows::{KeptRecord, KeptRecords, OpenSession, OpenSessions};
pub(crate) use keyed::{Keyed, KeyedWithHeaders};
pub(crate) use map::Map;
pub(crate) use print::Print;
pub use process::{
    BoxError, Ctx, Processed, Processor, StateStore, StoreLink, Tick, Timer, Timers,
};
pub(crate) use process::{Core, ProcessStep, UsedStore};
pub(crate) use repartition::{RepartitionEntry, RepartitionSink, StreamEntry};
pub(crate) use sink::Sink;
pub(crate) use sink_of::SinkOf;
pub(crate) use source::{SourceEntry, SourceSettings, evidence, short_name};
pub(crate) use split::{Case, Split};
pub(crate) use stream_join::{LeftSide, Pair, RightSide, Says, StreamJoin};
pub(crate) use subscriptions::{Answers, Subscribe, SubscriptionStore, TellLeft};
pub(crate) use table::{Change, NewValue, TableStore, TableWriter};
pub(crate) use table_group::{ChangeFold, GroupOf, Regroup, TableAggregate, Valueless};
pub(crate) use table_join::TableJoin;
pub(crate) use table_map::{MapChanges, MapView, RowMap};
pub(crate) use table_table_join::{JoinView, LeftChanges, RightChanges, RowOf, TableTableJoin};
pub use timers::TimerKind;
pub(crate) use timers::{TimerRows, split_timer};
pub(crate) use try_map::TryMap;
pub(crate) use versioned::{VersionStore, VersionedView, VersionedWriter};
pub(crate) use window_aggregate::{WindowAggregate, WindowStep, decode_key};
pub(crate) use with_key::{
    FilterWithKey, FlatMapValuesWithKey, FlatMapWithKey, ForEachWithKey, InspectWithKey,
    KeyByWithKey, MapValuesWithKey, MapWithKey,
};
