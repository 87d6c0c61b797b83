//! Steps from header to header through a `.log` file.
//!
//! Why: lookups, rebuilds and recovery need every batch's header and none of its records. Small
//! batches are read many at a time; large ones are stepped over.
//!
//! Invariants
//! * The offsets of a segment's batches follow each other without a gap, from its base offset on;
//!   where compaction has been, they ascend.
//! * A step never goes behind the end that was given.

use std::io;

use crate::format::{BatchHeader, DecodeError, HEADER_LEN};
use crate::ids::Offset;
use crate::storage::File;

/// How much is read at once while batches are small.
const WINDOW_BYTES: usize = 64 * 1024;
/// From this size on a batch is stepped over.
const LARGE_BATCH_BYTES: usize = 4096;
/// How much is checksummed or copied at once.
pub(super) const CHUNK_BYTES: usize = 1024 * 1024;

/// What is wrong with the bytes at some position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadBatch {
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    #[error("the batch begins at offset {found}, {expected} is next")]
    Gap { expected: Offset, found: Offset },
    #[error("the batch goes on behind the end of the file, which holds {available} bytes more")]
    BehindEnd { available: u64 },
}

/// One step: a good batch, or what is wrong with the next one.
#[derive(Debug)]
pub(crate) enum Step {
    Batch { position: u64, header: BatchHeader, header_bytes: [u8; HEADER_LEN] },
    Bad(BadBatch),
}

pub(crate) struct Walk<'a> {
    file: &'a dyn File,
    end: u64,
    position: u64,
    expected: Offset,
    gaps_below: Offset,
    window: Vec<u8>,
    window_start: u64,
    large: bool,
}

impl<'a> Walk<'a> {
    /// Walks from the batch at `position`, which begins at offset `expected`, to `end`.
    pub(crate) fn new(file: &'a dyn File, position: u64, expected: Offset, end: u64) -> Self {
        Self {
            file,
            end,
            position,
            expected,
            gaps_below: Offset::MIN,
            window: Vec::new(),
            window_start: 0,
            large: false,
        }
    }

    /// Offsets may be missing in front of this one: compaction has been there.
    pub(crate) fn with_gaps_below(mut self, offset: Offset) -> Self {
        self.gaps_below = offset;
        self
    }

    /// Where the next batch begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The offset that the next batch begins with, or begins behind where compaction has been.
    pub(crate) fn expected(&self) -> Offset {
        self.expected
    }

    /// The next batch; `None` exactly at the end. After a bad one the walk stays where it is.
    pub(crate) fn step(&mut self) -> io::Result<Option<Step>> {
        let available = self.end.saturating_sub(self.position);
        if available == 0 {
            return Ok(None);
        }
        if available < HEADER_LEN as u64 {
            return Ok(Some(Step::Bad(BadBatch::BehindEnd { available })));
        }
        let header_bytes = self.read_header(available)?;
        let header = match BatchHeader::parse(&header_bytes) {
            Ok(header) => header,
            Err(malformed) => return Ok(Some(Step::Bad(malformed.into()))),
        };
        if !follows(self.expected, header.base_offset, self.gaps_below) {
            let (expected, found) = (self.expected, header.base_offset);
            return Ok(Some(Step::Bad(BadBatch::Gap { expected, found })));
        }
        if header.total_len() as u64 > available {
            return Ok(Some(Step::Bad(BadBatch::BehindEnd { available })));
        }
        let position = self.position;
        self.position += header.total_len() as u64;
        self.expected = header.next_offset();
        self.large = header.total_len() >= LARGE_BATCH_BYTES;
        Ok(Some(Step::Batch { position, header, header_bytes }))
    }

    fn read_header(&mut self, available: u64) -> io::Result<[u8; HEADER_LEN]> {
        let in_window = self.position.checked_sub(self.window_start).and_then(|start| {
            let start = usize::try_from(start).ok()?;
            self.window.get(start..)?.first_chunk().copied()
        });
        if let Some(bytes) = in_window {
            return Ok(bytes);
        }
        if self.large {
            let mut bytes = [0; HEADER_LEN];
            self.file.read_exact_at(&mut bytes, self.position)?;
            return Ok(bytes);
        }
        let len = usize::try_from(available).map_or(WINDOW_BYTES, |left| left.min(WINDOW_BYTES));
        self.window.resize(len, 0);
        self.window_start = self.position;
        self.file.read_exact_at(&mut self.window, self.position)?;
        Ok(*self.window.first_chunk().expect("at least a header is available"))
    }
}

/// Whether a batch that begins at `found` may follow where `expected` is next.
pub(super) fn follows(expected: Offset, found: Offset, gaps_below: Offset) -> bool {
    found == expected || (found > expected && found <= gaps_below)
}

/// Verifies the checksum of a batch without holding all of it.
pub(super) fn verify_checksum(
    file: &dyn File,
    position: u64,
    header: &BatchHeader,
    buffer: &mut Vec<u8>,
) -> io::Result<Result<(), DecodeError>> {
    const COVERED_FROM: u64 = 21;
    let (mut at, end) = (position + COVERED_FROM, position + header.total_len() as u64);
    let mut actual = 0;
    while at < end {
        let len = usize::try_from(end - at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        buffer.resize(len.max(buffer.len()), 0);
        file.read_exact_at(&mut buffer[..len], at)?;
        actual = crc32c::crc32c_append(actual, &buffer[..len]);
        at += len as u64;
    }
    let expected = header.crc;
    Ok(if actual == expected {
        Ok(())
    } else {
        Err(DecodeError::ChecksumMismatch { expected, actual })
    })
}
