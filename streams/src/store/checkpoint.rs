//! How far a store itself reflects its changelog: as it is read now, and as a crash would leave it.
//!
//! Why two: without a write-ahead log a flush reaches the disk when the store likes. What the changelog must
//! keep is decided by what a restart would find, not by what was written.
//!
//! On crash: the durable checkpoint, or a later one, is what is found.

use super::layout::{Checkpoint, KIND_CHECKPOINT, PREFIX_BYTES, store_key};
use super::{ByteStore, StoreError};

/// The checkpoint of a store partition.
pub(super) fn current(
    store: &dyn ByteStore,
    partition: u32,
) -> Result<Option<Checkpoint>, StoreError> {
    let bytes = store.get(&key(partition))?;
    decode(store, partition, bytes)
}

/// The one that a crash at this moment would leave.
pub(super) fn durable(
    store: &dyn ByteStore,
    partition: u32,
) -> Result<Option<Checkpoint>, StoreError> {
    let bytes = store.get_durable(&key(partition))?;
    decode(store, partition, bytes)
}

fn key(partition: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(PREFIX_BYTES + 1);
    store_key(partition, &[KIND_CHECKPOINT], &mut key);
    key
}

fn decode(
    store: &dyn ByteStore,
    partition: u32,
    bytes: Option<Vec<u8>>,
) -> Result<Option<Checkpoint>, StoreError> {
    let Some(bytes) = bytes else { return Ok(None) };
    let corrupt = || StoreError::Corrupt {
        store: store.name().clone(),
        reason: format!("the checkpoint of partition {partition} does not decode"),
    };
    Checkpoint::decode(&bytes).map(Some).ok_or_else(corrupt)
}
