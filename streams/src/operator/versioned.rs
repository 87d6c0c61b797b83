//! A table that knows what its rows were: its latest rows in one store, their versions in another.
//!
//! ```text
//!   VersionedWriter --+--> versions (history)  --> looked up as of a time
//!                     `--> rows (latest)       --> changes, looked up as of now
//! ```
//!
//! Why two stores: the latest rows are those of any table, found by one hash lookup; only what looks
//! back pays for history.
//!
//! Invariants
//! * the latest version is the one with the largest timestamp; one that came out of order finds its
//!   place in history and is not passed on.
//! * a version older than history is counted as late, and changes nothing.
//!
//! Reference: Kafka Streams KIP-889, KIP-914.

use crate::codec::Data;
use crate::error::Result;
use crate::ids::StoreName;
use crate::processor::{Changelog, Context, ProcessKeyed, RowKinds, Shared, Stateful};
use crate::store::{Checkpoint, Overlay, Put, RowCache, StoreError, Stored, Versions, View};
use crate::time::Stamp;

/// Keeps every version, and the latest one as the row.
pub(crate) struct VersionedWriter<V> {
    pub(crate) rows: Shared<Overlay<V>>,
    pub(crate) versions: Shared<Versions<V>>,
}

impl<V: Data> ProcessKeyed<V> for VersionedWriter<V> {
    fn process(
        &mut self,
        ctx: &mut Context,
        key: &[u8],
        value: Option<V>,
        stamp: Stamp,
    ) -> Result<()> {
        let put = self.versions.borrow_mut().put(key, stamp.timestamp, value.clone())?;
        match put {
            Put::Latest => {
                let mut rows = self.rows.borrow_mut();
                let place = rows.find(key)?;
                rows.at(place).replace(value, stamp);
            }
            Put::Until(_) => {}
            Put::Refused => {
                ctx.late(self.rows.borrow().store(), key, stamp.timestamp, stamp.source_time);
            }
        }
        Ok(())
    }
}

/// The rows of a versioned table, now and as of a time.
pub(crate) struct VersionedView<V> {
    pub(crate) rows: Shared<Overlay<V>>,
    pub(crate) versions: Shared<Versions<V>>,
}

impl<V: Data> View<V> for VersionedView<V> {
    fn get(&self, key: &[u8]) -> Result<Option<Stored<V>>, StoreError> {
        self.rows.get(key)
    }

    fn passed_on(&self, key: &[u8]) -> Result<Option<Stored<V>>, StoreError> {
        self.rows.passed_on(key)
    }

    fn get_as_of(&self, key: &[u8], timestamp: i64) -> Result<Option<Stored<V>>, StoreError> {
        match self.rows.get(key)? {
            Some(latest) if latest.timestamp <= timestamp => Ok(Some(latest)),
            _ => self.versions.borrow_mut().get_as_of(key, timestamp),
        }
    }

    fn history_ms(&self) -> Option<i64> {
        Some(self.versions.borrow().history_ms())
    }
}

/// The store of the versions.
pub(crate) struct VersionStore<V> {
    store: StoreName,
    versions: Shared<Versions<V>>,
}

impl<V: Data> VersionStore<V> {
    pub(crate) fn new(store: StoreName, versions: Shared<Versions<V>>) -> Self {
        Self { store, versions }
    }
}

impl<V: Data> Stateful for VersionStore<V> {
    fn store(&self) -> &StoreName {
        &self.store
    }

    fn open(&mut self, rows: RowCache) -> Result<()> {
        Ok(self.versions.borrow_mut().open(rows)?)
    }

    fn row_kinds(&self) -> RowKinds {
        RowKinds::One(self.versions.borrow().kind())
    }

    fn prepare(&mut self, changelog: &mut Changelog<'_>) -> Result<()> {
        let mut versions = self.versions.borrow_mut();
        versions.prepare(|timestamp, key, value| changelog.push(timestamp, key, value))
    }

    fn committed(&mut self, checkpoint: Option<Checkpoint>, now_ms: i64) -> Result<()> {
        self.versions.borrow_mut().committed(checkpoint, now_ms);
        Ok(())
    }

    fn changed_rows(&self) -> usize {
        self.versions.borrow().len()
    }

    fn with_rows(&mut self, look: &mut dyn FnMut(&mut RowCache) -> Result<()>) -> Result<()> {
        look(self.versions.borrow_mut().behind())
    }
}
