//! What a user writes a job with: typed topics, streams, tables, windows.
//!
//! Why typed: the codec belongs to the topic, so a wrong sink does not compile.
//!
//! Invariants
//! * these types only build: they never see records, offsets, files or threads.

mod assembly;
mod counted;
mod global;
mod join;
mod repartition;
mod row_types;
mod sources;
mod split;
mod steps;
mod stream;
mod stream_join;
mod table;
mod to_topic_of;
mod topic;
mod windowed;
mod with_key;

pub(crate) use assembly::Assembly;
pub use assembly::{TopicTypes, Topology};
pub use global::GlobalTable;
pub(crate) use row_types::RowTypes;
pub use split::{Split, Ways};
pub use stream::Stream;
pub use table::Table;
pub use topic::{Topic, topic};
pub use windowed::{SaysWhen, WindowTable, WindowedStream};
