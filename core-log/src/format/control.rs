//! Control batches: the markers that end a transaction in a partition.
//!
//! Why: a marker says for one producer that everything it has open in this partition is committed
//! or aborted; readers act on it, and recovery counts on it.
//!
//! A control batch is a batch with the control and the transactional attribute, without sequence,
//! that holds exactly one record:
//!
//! ```text
//!   key     version i16 (0)   type i16: 0 abort, 1 commit
//!   value   version i16 (0)   coordinator epoch i32
//! ```
//!
//! Reference: Kafka `ControlRecordType`, `EndTransactionMarker`.

use super::builder::BatchBuilder;
use super::record::{NO_HEADERS, RecordRef};
use super::{Attributes, BatchView, DecodeError};
use crate::ids::Timestamp;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlType {
    /// Its records never count.
    Abort,
    /// Its records count.
    Commit,
}

/// The one record of a control batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// How the transaction ended.
    pub control_type: ControlType,
    /// Which life of the coordinator decided that.
    pub coordinator_epoch: i32,
}

/// The size of a control batch in bytes.
pub const MARKER_BATCH_LEN: usize = 78;

impl EndTransactionMarker {
    /// The attributes of a control batch.
    pub const ATTRIBUTES: Attributes = Attributes::TRANSACTIONAL.with(Attributes::CONTROL);

    /// A batch that holds this marker, to be stamped with [`Self::ATTRIBUTES`] and sequence -1.
    #[must_use]
    pub fn to_batch(self, timestamp: Timestamp) -> BatchBuilder {
        let control_type: i16 = match self.control_type {
            ControlType::Abort => 0,
            ControlType::Commit => 1,
        };
        let mut key = [0; 4];
        key[2..].copy_from_slice(&control_type.to_be_bytes());
        let mut value = [0; 6];
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        let mut builder = BatchBuilder::new();
        builder
            .push(timestamp, Some(&key), Some(&value), NO_HEADERS)
            .expect("a marker is smaller than any batch may be");
        builder
    }

    /// Reads the record of a control batch.
    ///
    /// # Errors
    ///
    /// [`DecodeError::InvalidRecord`]: it is not the end of a transaction.
    pub fn from_record(record: &RecordRef<'_>) -> Result<Self, DecodeError> {
        let invalid = |reason| DecodeError::InvalidRecord { index: 0, reason };
        let key = record.key.and_then(|key| key.first_chunk::<4>());
        let &[_, _, high, low] = key.ok_or_else(|| invalid("a marker's key is too short"))?;
        let control_type = match i16::from_be_bytes([high, low]) {
            0 => ControlType::Abort,
            1 => ControlType::Commit,
            _ => return Err(invalid("a control record does not end a transaction")),
        };
        let value = record.value.and_then(|value| value.first_chunk::<6>());
        let &[_, _, a, b, c, d] = value.ok_or_else(|| invalid("a marker's value is too short"))?;
        Ok(Self { control_type, coordinator_epoch: i32::from_be_bytes([a, b, c, d]) })
    }

    /// Reads the marker of a control batch.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]: the batch is malformed, or no end of a transaction.
    pub fn from_batch(batch: &BatchView<'_>) -> Result<Self, DecodeError> {
        let missing = DecodeError::InvalidRecord { index: 0, reason: "a control batch is empty" };
        let record = batch.records().next().unwrap_or(Err(missing))?;
        Self::from_record(&record)
    }
}
