//! The rows of one store at one moment, asked as a running job is asked.
//!
//! ```text
//!   workers -- every committed row --> Snapshot (rows in memory) <-- Desk <-- Store<K, V>
//! ```
//!
//! Why a copy: a test holds a store while it sends more; a worker's rows are its own.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::Result;
use crate::ids::StoreName;
use crate::processor::RowKinds;
use crate::runtime::Control;
use crate::runtime::query::{FoundRow, Query, Told, look};
use crate::store::layout::{self, KIND_ROW};
use crate::store::{Backend, CacheOptions, Flusher, MemoryBackend, RowCache};

/// Rows of the partitions of one store.
pub(super) struct Snapshot {
    store: StoreName,
    parts: Mutex<Vec<(u32, RowCache)>>,
}

impl Snapshot {
    /// Of these rows; partitions without a row count too.
    pub(super) fn of(store: StoreName, rows: Vec<(u32, Vec<FoundRow>)>) -> Result<Self> {
        let bytes = MemoryBackend::new(0).open(std::slice::from_ref(&store))?.remove(0);
        let (flusher, _) = Flusher::held();
        let mut parts = Vec::new();
        for (partition, rows) in rows {
            let stored = |row: FoundRow| {
                let mut key = partition.to_be_bytes().to_vec();
                layout::key_of(KIND_ROW, &row.key, &mut key);
                let mut value = row.timestamp.to_be_bytes().to_vec();
                value.extend_from_slice(&row.value);
                (Bytes::from(key), Some(Bytes::from(value)))
            };
            bytes.write(&rows.into_iter().map(stored).collect::<Vec<_>>())?;
            let options = CacheOptions::default();
            let rows = RowCache::open(Arc::clone(&bytes), partition, options, flusher.clone());
            parts.push((partition, rows));
        }
        Ok(Self { store, parts: Mutex::new(parts) })
    }

    /// What answers for it.
    pub(super) fn control(self) -> Arc<Control> {
        let control = Arc::new(Control::default());
        control.desk.open(move |query| {
            self.answer(query);
            true
        });
        control
    }

    fn answer(&self, query: Query) {
        query.answer_whole(0, |question| {
            let mut told = Told::default();
            for (partition, rows) in self.parts.lock().iter_mut() {
                look(&self.store, *partition, RowKinds::One(KIND_ROW), rows, question, &mut told)?;
            }
            Ok(told)
        });
    }
}
