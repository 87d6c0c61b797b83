//! Everything that a job's file needs, with one `use`.

pub use serde::{Deserialize, Serialize};

pub use crate::app::{App, Handle};
pub use crate::at::{At, ago};
pub use crate::broker::Durability;
pub use crate::codec::{Bincode, Codec, Data, Json};
pub use crate::dsl::{
    GlobalTable, GroupedTable, Sessions, Stream, Table, Topic, Topology, Window, WindowTable,
    WindowedStream, cogroup, topic,
};
pub use crate::dsl::{
    KeyValueStore, SessionStore, TableView, VersionPut, VersionedStore, WindowStore, store,
};
pub use crate::key::{Key, NoKey, RecordKey, Windowed};
pub use crate::on_error::OnError;
pub use crate::operator::{Ctx, Processed, Processor, StateStore, Tick, Timer, TimerKind, Timers};
pub use crate::processor::Record;
pub use crate::query::Store;
pub use crate::read::Log;
pub use crate::record::Headers;
pub use crate::replay::{Replay, Report};
pub use crate::testing::TestDriver;
pub use crate::time::{
    Hopping, JoinWindow, Session, Since, Sliding, Tumbling, days, hopping, hours, millis, mins,
    secs, session, since, sliding, tumbling, within,
};
