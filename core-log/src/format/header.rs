//! The header of a record batch.
//!
//! Why apart: lookups and recovery read headers without the records behind them.
//!
//! 61 bytes, big-endian; the checksum covers everything from byte 21 to the end:
//!
//! ```text
//!    0  base offset         i64    given by the log
//!    8  length              i32    bytes behind this field
//!   12  leader epoch        i32    given by the log
//!   16  magic               i8     2
//!   17  checksum            u32    CRC-32C of bytes 21..
//!   21  attributes          i16    0-2 codec  3 stamped by the log  4 transactional  5 control
//!                                  6 the base timestamp is a delete horizon
//!   23  last offset delta   i32
//!   27  base timestamp      i64
//!   35  max timestamp       i64
//!   43  producer id         i64    -1: none
//!   51  producer epoch      i16    -1: none
//!   53  base sequence       i32    -1: none
//!   57  record count        i32
//!   61  records
//! ```
//!
//! Invariants
//! * A [`BatchHeader`] that was parsed has a length of at least a header, an offset range that
//!   does not overflow, and no negative count.
//!
//! Reference: Kafka `DefaultRecordBatch`.

use super::{Compression, DecodeError};
use crate::ids::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// The size of a batch's header in bytes.
pub const HEADER_LEN: usize = 61;

/// The largest offset at which a batch can begin, so that the one behind its last record is an offset.
pub const BASE_OFFSET_MAX: Offset = i64::MAX - i32::MAX as i64 - 1;

/// Bytes in front of what the length field counts.
pub(super) const LENGTH_END: usize = 12;
/// Where the part begins that the checksum covers.
pub(super) const CHECKSUM_END: usize = 21;
const MAGIC: u8 = 2;

/// The attribute bits of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    /// No compression, timestamps from the producer, not transactional.
    pub const NONE: Self = Self(0);
    /// All records carry the time of the append, which is the max timestamp.
    pub const LOG_APPEND_TIME: Self = Self(1 << 3);
    /// Part of a transaction.
    pub const TRANSACTIONAL: Self = Self(1 << 4);
    /// Holds a marker instead of records.
    pub const CONTROL: Self = Self(1 << 5);
    /// The base timestamp says until when tombstones stay.
    pub const DELETE_HORIZON: Self = Self(1 << 6);

    /// These bits and the `other` ones.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits, with the number of this codec.
    #[must_use]
    pub fn with_compression(self, codec: Compression) -> Self {
        Self((self.0 & !0x07) | i16::from(codec.number()))
    }

    /// The codec of the records.
    ///
    /// # Errors
    ///
    /// [`DecodeError::InvalidField`]: a number that no codec has.
    pub fn compression(self) -> Result<Compression, DecodeError> {
        Compression::from_number(self.0.to_be_bytes()[1] & 0x07)
    }
}

/// The header of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// Bytes behind the length field.
    pub length: i32,
    /// The leader epoch in which the log took the batch.
    pub leader_epoch: i32,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// The last record's offset, less the base offset.
    pub last_offset_delta: i32,
    /// What the records' timestamps are counted from.
    pub base_timestamp: Timestamp,
    /// The largest timestamp.
    pub max_timestamp: Timestamp,
    /// Who wrote it.
    pub producer_id: ProducerId,
    /// In which life.
    pub producer_epoch: ProducerEpoch,
    /// The number that the producer gave to the first record.
    pub base_sequence: i32,
    /// How many records there are.
    pub record_count: i32,
}

impl BatchHeader {
    /// Parses the first [`HEADER_LEN`] bytes; the records need not be there.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]: too few bytes, another magic, or a value that no batch has.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let truncated = DecodeError::Truncated { needed: HEADER_LEN, available: bytes.len() };
        let header = bytes.first_chunk::<HEADER_LEN>().ok_or(truncated)?;
        if header[16] != MAGIC {
            return Err(DecodeError::UnsupportedMagic { magic: header[16] });
        }
        let parsed = Self {
            base_offset: i64::from_be_bytes(field(header, 0)),
            length: i32::from_be_bytes(field(header, 8)),
            leader_epoch: i32::from_be_bytes(field(header, 12)),
            crc: u32::from_be_bytes(field(header, 17)),
            attributes: Attributes(i16::from_be_bytes(field(header, 21))),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: i64::from_be_bytes(field(header, 27)),
            max_timestamp: i64::from_be_bytes(field(header, 35)),
            producer_id: ProducerId(i64::from_be_bytes(field(header, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(field(header, 51))),
            base_sequence: i32::from_be_bytes(field(header, 53)),
            record_count: i32::from_be_bytes(field(header, 57)),
        };
        parsed.check()?;
        Ok(parsed)
    }

    fn check(&self) -> Result<(), DecodeError> {
        let invalid = |field, value| Err(DecodeError::InvalidField { field, value });
        if usize::try_from(self.length).map_or(true, |length| length < HEADER_LEN - LENGTH_END) {
            return invalid("length", self.length.into());
        }
        if self.last_offset_delta < 0 {
            return invalid("last offset delta", self.last_offset_delta.into());
        }
        if !(0..=BASE_OFFSET_MAX).contains(&self.base_offset) {
            return invalid("base offset", self.base_offset);
        }
        if i64::from(self.record_count) > i64::from(self.last_offset_delta) + 1
            || self.record_count < 0
        {
            return invalid("record count", self.record_count.into());
        }
        Ok(())
    }

    /// Writes the header to the front of `bytes`.
    pub(super) fn write(&self, bytes: &mut [u8; HEADER_LEN]) {
        bytes[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        bytes[16] = MAGIC;
        bytes[17..21].copy_from_slice(&self.crc.to_be_bytes());
        bytes[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        bytes[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.0.to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.0.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }

    /// The size of the whole batch in bytes.
    #[must_use]
    pub fn total_len(&self) -> usize {
        usize::try_from(self.length).expect("checked when the header was parsed") + LENGTH_END
    }

    /// The offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset + Offset::from(self.last_offset_delta)
    }

    /// The offset behind the last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.last_offset() + 1
    }

    /// The number of the last record, as its producer counts; it wraps to 0.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// Whether the batch holds a marker.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes.contains(Attributes::CONTROL)
    }

    /// Whether the batch is part of a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes.contains(Attributes::TRANSACTIONAL)
    }

    /// Whether the producer can be asked for sequences: it has an id.
    #[must_use]
    pub fn has_producer_id(&self) -> bool {
        self.producer_id.0 >= 0
    }
}

fn field<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    *header[at..].first_chunk().expect("all fields lie within the header")
}
