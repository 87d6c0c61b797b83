//! The codecs that a batch may be compressed with: their numbers, names and one way in and out.
//!
//! Why here: whoever reads a batch must not care how it was compressed, and no bytes, however
//! crafted, may cost more memory than the caller allows. Each codec's framing lives in one file.
//!
//! ```text
//!   attributes, bits 0 to 2:   0 none   1 gzip   2 snappy   3 lz4   4 zstd   5 to 7 unassigned
//!
//!   batch:  header, 61 bytes | records, compressed as one block (framing of the codec)
//! ```
//!
//! Invariants
//! * What is decompressed is never larger than the limit that is passed in; what would be is an
//!   error ([`DecodeError::DecompressedTooLarge`]), found before that much was set aside.
//! * A length that stands in the bytes sizes nothing beyond what the bytes could hold at the codec's
//!   best ratio.
//!
//! Reference: Kafka `CompressionType`, `Compression`; KIP-390 for the levels.

mod gzip;
mod lz4;
mod snappy;
#[cfg(test)]
mod tests;
mod xxh32;
mod zstd;

use std::fmt;
use std::str::FromStr;

use super::DecodeError;

/// The most that the records of one compressed batch may take once they are decompressed: 128 MiB.
///
/// Kafka has no such limit. It is 128 times the default of `max.message.bytes`, which counts the
/// compressed batch; a batch that would exceed it is refused when it is written.
pub const DECOMPRESSED_BYTES_MAX: usize = 128 << 20;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy with xerial framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// Every codec, by number.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this number.
    ///
    /// # Errors
    ///
    /// [`DecodeError::InvalidField`]: no codec has it.
    pub fn from_number(number: u8) -> Result<Self, DecodeError> {
        Self::ALL
            .get(usize::from(number))
            .copied()
            .ok_or(DecodeError::InvalidField { field: "compression", value: number.into() })
    }

    /// The codec's number in the attributes of a batch.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The codec's name in Kafka's settings of producers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the batches of a topic are compressed (`compression.type`).
///
/// ```
/// use core_log::format::{Compression, CompressionType};
///
/// assert_eq!("producer".parse(), Ok(CompressionType::Producer));
/// assert_eq!("zstd".parse(), Ok(CompressionType::Always(Compression::Zstd)));
/// assert_eq!(CompressionType::Always(Compression::None).to_string(), "uncompressed");
/// assert!("brotli".parse::<CompressionType>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer of each batch says; the default.
    #[default]
    Producer,
    /// With this codec, whatever the producer says.
    Always(Compression),
}

impl CompressionType {
    /// The name in Kafka's topic settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Always(Compression::None) => "uncompressed",
            Self::Always(codec) => codec.name(),
        }
    }

    /// The codec for a batch whose producer asks for `produced`.
    #[must_use]
    pub fn codec(self, produced: Compression) -> Compression {
        match self {
            Self::Producer => produced,
            Self::Always(codec) => codec,
        }
    }
}

impl fmt::Display for CompressionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text is no value of `compression.type`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no compression type: producer, uncompressed, gzip, snappy, lz4 or zstd")]
pub struct UnknownCompression {
    /// The text.
    pub name: String,
}

impl FromStr for CompressionType {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, UnknownCompression> {
        if name == Self::Producer.name() {
            return Ok(Self::Producer);
        }
        let mut all = Compression::ALL.into_iter().map(Self::Always);
        all.find(|one| one.name() == name)
            .ok_or_else(|| UnknownCompression { name: name.to_owned() })
    }
}

/// Appends `bytes` to `out`, compressed at the level that Kafka uses by default (gzip 6, zstd 3; lz4
/// in its fast mode).
pub fn compress(codec: Compression, bytes: &[u8], out: &mut Vec<u8>) {
    match codec {
        Compression::None => out.extend_from_slice(bytes),
        Compression::Gzip => gzip::compress(bytes, out),
        Compression::Snappy => snappy::compress(bytes, out),
        Compression::Lz4 => lz4::compress(bytes, out),
        Compression::Zstd => zstd::compress(bytes, out),
    }
}

/// Decompresses all of `bytes`, into at most `max_bytes`.
///
/// # Errors
///
/// * [`DecodeError::DecompressedTooLarge`]: there is more.
/// * [`DecodeError::Decompress`]: the bytes are not what the codec writes.
///
/// ```
/// use core_log::format::{Compression, compression};
///
/// let mut packed = Vec::new();
/// compression::compress(Compression::Zstd, &[7; 1000], &mut packed);
/// assert!(packed.len() < 100);
/// assert_eq!(compression::decompress(Compression::Zstd, &packed, 1000)?, [7; 1000]);
/// assert!(compression::decompress(Compression::Zstd, &packed, 999).is_err());
/// # Ok::<(), core_log::DecodeError>(())
/// ```
pub fn decompress(
    codec: Compression,
    bytes: &[u8],
    max_bytes: usize,
) -> Result<Vec<u8>, DecodeError> {
    let mut output = Output { bytes: Vec::new(), codec, max_bytes };
    match codec {
        Compression::None => output.append(bytes)?,
        Compression::Gzip => gzip::decompress(bytes, &mut output)?,
        Compression::Snappy => snappy::decompress(bytes, &mut output)?,
        Compression::Lz4 => lz4::decompress(bytes, &mut output)?,
        Compression::Zstd => zstd::decompress(bytes, &mut output)?,
    }
    Ok(output.bytes)
}

/// What has been decompressed so far, and how much it may become.
struct Output {
    bytes: Vec<u8>,
    codec: Compression,
    max_bytes: usize,
}

impl Output {
    fn malformed(&self, reason: &'static str) -> DecodeError {
        DecodeError::Decompress { codec: self.codec.name(), reason }
    }

    fn too_large(&self) -> DecodeError {
        DecodeError::DecompressedTooLarge { codec: self.codec.name(), max_bytes: self.max_bytes }
    }

    /// How much more there may be.
    fn left(&self) -> usize {
        self.max_bytes - self.bytes.len()
    }

    /// Makes room for `more` bytes, filled with zeros, and answers them. Grows by doubling, never
    /// beyond the limit.
    fn room(&mut self, more: usize) -> Result<&mut [u8], DecodeError> {
        let start = self.bytes.len();
        if more > self.left() {
            return Err(self.too_large());
        }
        let needed = start + more;
        if needed > self.bytes.capacity() {
            let capacity = self.bytes.capacity().saturating_mul(2).clamp(needed, self.max_bytes);
            self.bytes.reserve_exact(capacity - start);
        }
        self.bytes.resize(needed, 0);
        Ok(&mut self.bytes[start..])
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.room(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }
}
