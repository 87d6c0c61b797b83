//! The codecs that a batch may be compressed with, by number and name.
//!
//! Why: this build reads and writes uncompressed batches only; one that is compressed is refused,
//! and the refusal names the codec.
//!
//! ```text
//!   attributes, bits 0 to 2:   0 none   1 gzip   2 snappy   3 lz4   4 zstd   5 to 7 unassigned
//! ```
//!
//! Reference: Kafka `CompressionType`.

use super::DecodeError;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
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
    /// The codec with this number.
    ///
    /// # Errors
    ///
    /// [`DecodeError::InvalidField`]: no codec has it.
    pub fn from_number(number: u8) -> Result<Self, DecodeError> {
        match number {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            _ => Err(DecodeError::InvalidField { field: "compression", value: number.into() }),
        }
    }

    /// The codec's name in Kafka's settings.
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

    /// Refuses every codec that this build cannot read.
    ///
    /// # Errors
    ///
    /// [`DecodeError::CompressionUnsupported`], with the codec's name.
    pub fn require_supported(self) -> Result<(), DecodeError> {
        match self {
            Self::None => Ok(()),
            codec => Err(DecodeError::CompressionUnsupported { codec: codec.name() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_have_kafkas_numbers_and_unassigned_ones_are_refused() {
        let names: Vec<_> =
            (0..8).map(|n| Compression::from_number(n).map(Compression::name)).collect();
        assert_eq!(names[..5], ["none", "gzip", "snappy", "lz4", "zstd"].map(Ok));
        assert!(names[5..].iter().all(Result::is_err));
    }
}
