//! How far a partition was compacted.
//!
//! `cleaner-offset-checkpoint`, text that proves itself:
//!
//! ```text
//!   first-dirty 42      everything below was cleaned
//!   gaps-below 50       below this offset may be missing: a pass up to here was begun
//! ```
//!
//! Invariants
//! * `gaps-below` is durable before a segment with gaps is in place, `first-dirty` only behind it.
//!
//! On crash: replaced as a whole. Without it, or with one that is damaged, the partition is cleaned from
//! its beginning again, and gaps are no damage where the topic is compacted.
//! Reference: Kafka `OffsetCheckpointFile`, which has one such file for all partitions.

use std::path::Path;

use crate::error::Result;
use crate::format::header::BASE_OFFSET_MAX;
use crate::ids::Offset;
use crate::partition::text_file::{self, Text};
use crate::storage::Storage;

pub(crate) const FILE_NAME: &str = "cleaner-offset-checkpoint";

/// How far a partition was compacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) first_dirty: Offset,
    pub(crate) gaps_below: Offset,
}

impl Checkpoint {
    /// Nothing is known: it may have been compacted or not.
    const UNKNOWN: Self = Self { first_dirty: 0, gaps_below: BASE_OFFSET_MAX };

    /// Reads the file of a partition; one that is not there was never compacted, unless its topic is.
    pub(crate) fn read(storage: &dyn Storage, dir: &Path, is_compacted: bool) -> Result<Self> {
        Ok(match text_file::read(storage, &dir.join(FILE_NAME))? {
            Text::Proven(text) => Self::parse(&text).unwrap_or(Self::UNKNOWN),
            Text::Missing if !is_compacted => Self::default(),
            Text::Missing | Text::Damaged => Self::UNKNOWN,
        })
    }

    /// Replaces the file; durable when this returns.
    pub(crate) fn write(&self, storage: &dyn Storage, dir: &Path) -> Result<()> {
        text_file::write(storage, dir, FILE_NAME, &self.to_text())
    }

    pub(crate) fn to_text(self) -> String {
        format!("first-dirty {}\ngaps-below {}\n", self.first_dirty, self.gaps_below)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut offset = |label| -> Option<Offset> {
            let offset = lines.next()?.strip_prefix(label)?.parse().ok()?;
            (0..=BASE_OFFSET_MAX).contains(&offset).then_some(offset)
        };
        Some(Self { first_dirty: offset("first-dirty ")?, gaps_below: offset("gaps-below ")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_reads_back_from_its_text_and_nothing_else_does() {
        let checkpoint = Checkpoint { first_dirty: 42, gaps_below: 50 };
        assert_eq!(Checkpoint::parse(&checkpoint.to_text()), Some(checkpoint));
        for bad in ["", "first-dirty 1\n", "first-dirty -1\ngaps-below 1\n", "gaps-below 1\n"] {
            assert_eq!(Checkpoint::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn gaps_are_possible_where_nothing_says_that_there_are_none() {
        let memory = crate::storage::memory::MemoryStorage::new(1);
        let dir = Path::new("/");
        let read = |is_compacted| Checkpoint::read(&memory, dir, is_compacted).unwrap();
        assert_eq!((read(false).gaps_below, read(true).gaps_below), (0, BASE_OFFSET_MAX));
        let checkpoint = Checkpoint { first_dirty: 1, gaps_below: 2 };
        checkpoint.write(&memory, dir).unwrap();
        assert_eq!((read(false), read(true)), (checkpoint, checkpoint));
        memory.rot(Path::new("/cleaner-offset-checkpoint"), 3, 1).unwrap();
        assert_eq!(read(false), Checkpoint::UNKNOWN);
    }
}
