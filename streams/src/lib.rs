//! Stream processing on an embedded log: exactly-once by default, no cluster to install.
//!
//! ```
//! use streams::prelude::*;
//!
//! #[derive(Clone, Serialize, Deserialize)]
//! struct Click { page: String, at: i64 }
//!
//! const CLICKS: Topic<NoKey, Click> = topic("clicks");
//! const COUNTS: Topic<Windowed<String>, u64> = topic("page-counts");
//!
//! fn topology(t: &mut Topology) {
//!     t.stream(CLICKS)
//!         .event_time(|c| c.at)
//!         .key_by(|c| c.page.clone())
//!         .window(tumbling(mins(1)).grace(secs(10)))
//!         .count("clicks-per-page")
//!         .on_close()
//!         .to(COUNTS);
//! }
//!
//! let mut d = TestDriver::new(topology).partitions(4).seed(7).crash_every(50);
//! d.send(CLICKS, NoKey, Click { page: "/home".into(), at: 5_000 });
//! d.send(CLICKS, NoKey, Click { page: "/home".into(), at: 40_000 });
//! d.advance_to(70_000);
//! let minute = Windowed { key: "/home".to_string(), start: 0, end: 60_000 };
//! assert_eq!(d.read(COUNTS), [(minute, 2)]);
//! ```
//!
//! It is not: a cluster manager, a query language, or a replacement for Apache Kafka's replication.
//!
//! Reference: Kafka Streams (KIP-28, KIP-129, KIP-447).

mod app;
mod at;
pub mod broker;
mod codec;
mod dsl;
mod error;
pub mod guide;
mod ids;
mod key;
mod letter;
mod on_error;
mod operator;
pub mod prelude;
mod printer;
mod processor;
mod query;
mod read;
mod record;
mod replay;
mod runtime;
mod settings;
mod shape;
mod store;
pub mod testing;
mod time;
mod tool;
mod topology;

pub use app::{App, Handle};
pub use at::{At, Moment, ago};
pub use codec::{Bincode, Codec, CodecError, Data, Json};
pub use dsl::{
    Cogroup, Cogrouped, CogroupedWindows, Either, GlobalTable, GroupedTable, SaysWhen, Sessions,
    Spans, Split, Stream, Table, Topic, TopicTypes, Topology, Ways, Window, WindowTable,
    WindowedStream, cogroup, topic,
};
pub use dsl::{
    KeyValueStore, SessionStore, StoreOptions, TableView, VersionPut, VersionedStore, WindowStore,
    store,
};
pub use error::{Error, Result};
pub use ids::{InvalidName, StoreName, TaskId};
pub use key::{Key, KeyError, NoKey, RecordKey, Windowed};
pub use letter::{DeadLetter, LetterValue};
pub use on_error::OnError;
pub use operator::{
    BoxError, Ctx, Processed, Processor, StateStore, StoreLink, Tick, Timer, TimerKind, Timers,
};
pub use operator::{KeptRecord, KeptRecords, OpenSession, OpenSessions};
pub use processor::Record;
pub use query::{Rows, Store, TextKey};
pub use read::{Log, LogRecord, LogRecords, ReadStream, Reading};
pub use record::RecordPosition;
pub use replay::{Compared, Comparison, Difference, Replay, Report, Stretch};
pub use runtime::{HoldingBack, Progress};
pub use store::StoreError;
pub use time::{
    Hopping, JoinWindow, Session, Since, Sliding, Tumbling, Windows, days, hopping, hours, millis,
    mins, secs, session, since, sliding, tumbling, within,
};
