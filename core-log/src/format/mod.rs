//! Kafka's record batch v2, byte for byte. Pure: bytes in, values out, no files and no clocks.
//!
//! Why: appends, fetches, recovery and tools must agree on every byte, and on what a bad byte is.
//! Each layout lives in one file, with its diagram.
//!
//! Invariants
//! * No bytes, however broken, make a decoder panic, loop for ever or allocate more than they hold.
//! * What is decoded borrows from the bytes; nothing is copied. Compressed records are decompressed
//!   once for each batch that is read, into at most [`DECOMPRESSED_BYTES_MAX`].
//!
//! Reference: Kafka `DefaultRecordBatch`, `DefaultRecord`; KIP-98.

#[cfg(any(test, feature = "test-util"))]
pub(crate) mod again;
pub mod batch;
pub mod builder;
pub mod compression;
pub mod control;
pub(crate) mod filler;
pub mod header;
#[cfg(test)]
pub(crate) mod hex;
pub mod record;
pub(crate) mod rewrite;
pub mod varint;

pub use batch::{BatchView, RecordBatch, Records};
pub use builder::{BatchBuilder, BatchOverflow, Stamp};
pub use compression::{Compression, CompressionType, DECOMPRESSED_BYTES_MAX, UnknownCompression};
pub use control::{ControlType, EndTransactionMarker};
pub use header::{Attributes, BatchHeader, HEADER_LEN};
pub use record::{Headers, NO_HEADERS, RecordRef};

/// Bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("{needed} bytes are needed, {available} are there")]
    Truncated {
        /// How many bytes the batch or record needs.
        needed: usize,
        /// How many there are.
        available: usize,
    },
    /// Not a batch of version 2.
    #[error("magic is {magic}, only 2 is known")]
    UnsupportedMagic {
        /// The byte that was found.
        magic: u8,
    },
    /// A field of a batch header has a value that no batch has.
    #[error("{field} is {value}")]
    InvalidField {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// The checksum does not fit the bytes.
    #[error("the checksum is {expected:#010x}, the bytes give {actual:#010x}")]
    ChecksumMismatch {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        actual: u32,
    },
    /// A number of variable length is too long or does not end.
    #[error("a varint does not end within its bytes")]
    InvalidVarint,
    /// A record contradicts itself or its batch.
    #[error("record {index} is malformed: {reason}")]
    InvalidRecord {
        /// Which record of the batch, from 0.
        index: i32,
        /// What is wrong.
        reason: &'static str,
    },
    /// Compressed records are not what their codec writes.
    #[error("the records cannot be decompressed ({codec}): {reason}")]
    Decompress {
        /// The codec's name.
        codec: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// Compressed records become larger than they may.
    #[error(
        "the records become larger than {max_bytes} bytes when they are decompressed ({codec})"
    )]
    DecompressedTooLarge {
        /// The codec's name.
        codec: &'static str,
        /// The limit.
        max_bytes: usize,
    },
}
