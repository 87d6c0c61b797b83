//! What the layers below say, as errors of the log.
//!
//! Invariants
//! * Nothing that a layer says is left out.

use super::Error;
use crate::format::{BatchOverflow, DecodeError};
use crate::ids::InvalidName;

impl From<InvalidName> for Error {
    fn from(refused: InvalidName) -> Self {
        Self::InvalidName { kind: refused.kind, name: refused.name, reason: refused.reason }
    }
}

impl From<DecodeError> for Error {
    fn from(bad: DecodeError) -> Self {
        Self::Decode(bad)
    }
}

impl From<BatchOverflow> for Error {
    fn from(overflow: BatchOverflow) -> Self {
        Self::BatchTooLarge { bytes: overflow.bytes, max_bytes: overflow.max_bytes }
    }
}
