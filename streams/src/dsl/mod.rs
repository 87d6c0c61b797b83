//! What a user writes a job with: typed topics, streams, tables, windows.
//!
//! Why typed: the codec belongs to the topic, so a wrong sink does not compile.
//!
//! Invariants
//! * these types only build: they never see records, offsets, files or threads.

mod assembly;
mod global;
mod join;
mod process;
mod repartition;
mod row_types;
mod steps;
mod stream;
mod stores;
mod stream_join;
mod table;
mod topic;
mod windowed;

pub(crate) use assembly::Assembly;
pub use assembly::{TopicTypes, Topology};
pub use global::GlobalTable;
pub(crate) use row_types::RowTypes;
pub use stores::{
    KeyValueStore, SessionStore, StoreOptions, TableView, VersionPut, VersionedStore, WindowStore,
    store,
};
pub use stream::Stream;
pub use table::Table;
pub use topic::{Topic, topic};
pub use windowed::{SaysWhen, WindowTable, WindowedStream};
