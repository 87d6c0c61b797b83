//! What a user writes a job with: typed topics, streams, tables, windows.
//!
//! Why typed: the codec belongs to the topic, so a wrong sink does not compile.
//!
//! Invariants
//! * these types only build: they never see records, offsets, files or threads.

mod assembly;
mod at_most_every;
mod cogroup;
mod counted;
mod fold;
mod foreign_join;
mod global;
mod grace_join;
mod join;
mod listed_types;
mod process;
mod repartition;
mod row_types;
mod sources;
mod split;
mod steps;
mod stores;
mod stream;
mod stream_join;
mod table;
mod table_group;
mod table_join;
mod table_map;
mod to_topic_of;
mod topic;
mod versioned;
mod windowed;
mod with_key;

pub(crate) use assembly::Assembly;
pub use assembly::{TopicTypes, Topology};
pub use cogroup::{Cogroup, Cogrouped, CogroupedWindows, Either, cogroup};
pub use global::GlobalTable;
pub(crate) use row_types::RowTypes;
pub use split::{Split, Ways};
pub use stores::{
    KeyValueStore, SessionStore, StoreOptions, TableView, VersionPut, VersionedStore, WindowStore,
    store,
};
pub use stream::Stream;
pub use table::Table;
pub use table_group::GroupedTable;
pub use topic::{Topic, topic};
pub use windowed::{SaysWhen, Sessions, Spans, Window, WindowTable, WindowedStream};
