//! Sparse map from offsets to positions in one segment's `.log` file.
//!
//! Why: a fetch must find its first batch without scanning the segment; one entry per
//! `index_interval_bytes` keeps the file small enough to stay cached.
//!
//! Entry (8 bytes, big-endian), strictly increasing in both fields:
//!
//! ```text
//!   0        4        8
//!   +--------+--------+
//!   | offset | pos    |   offset: of the batch's last record, less the base offset (u32)
//!   +--------+--------+   pos:    byte in the .log file where that batch starts (u32)
//! ```
//!
//! Invariants
//! * Every position is the start of a batch that is in the `.log` file; the reader proves that
//!   with the batch's header before it relies on it.
//!
//! On crash: rebuilt from the `.log` file. Covered by the checksum in the seal.
//! Reference: Kafka `OffsetIndex`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::locks::Mutex;

use crate::storage::Storage;

pub(crate) const ENTRY_LEN: usize = 8;
/// Entries that are read at once.
const PAGE_ENTRIES: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    /// The last offset of a batch, less the base offset.
    pub(crate) relative: u32,
    /// Where that batch starts.
    pub(crate) position: u32,
}

impl OffsetEntry {
    pub(crate) fn decode(bytes: &[u8; ENTRY_LEN]) -> Self {
        let &[a, b, c, d, e, f, g, h] = bytes;
        Self {
            relative: u32::from_be_bytes([a, b, c, d]),
            position: u32::from_be_bytes([e, f, g, h]),
        }
    }
}

/// The entry in front of an offset, and where the entry behind that one points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Floor {
    /// The last entry whose offset is not larger.
    pub(crate) entry: Option<OffsetEntry>,
    /// The position of the entry that follows it, or of the first one.
    pub(crate) next_position: Option<u32>,
}

pub(crate) fn encode(entries: &[OffsetEntry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_LEN);
    for entry in entries {
        bytes.extend_from_slice(&entry.relative.to_be_bytes());
        bytes.extend_from_slice(&entry.position.to_be_bytes());
    }
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Vec<OffsetEntry> {
    bytes.as_chunks::<ENTRY_LEN>().0.iter().map(OffsetEntry::decode).collect()
}

/// Finds the floor of `relative` among entries that are in memory.
pub(crate) fn floor(entries: &[OffsetEntry], relative: u32) -> Floor {
    let behind = entries.partition_point(|entry| entry.relative <= relative);
    Floor {
        entry: behind.checked_sub(1).map(|index| entries[index]),
        next_position: entries.get(behind).map(|entry| entry.position),
    }
}

/// The index of a sealed segment: in its file, of which the page used last stays in memory, so
/// that reading on costs no further lookup.
#[derive(Debug)]
pub(crate) struct OffsetIndexFile {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    entries: usize,
    page: Mutex<Option<Page>>,
}

/// Neighbouring entries: those of one page, and the first of the next.
#[derive(Debug)]
struct Page {
    number: usize,
    entries: Vec<OffsetEntry>,
}

impl Page {
    /// Whether the floor of `relative`, and what follows it, are in this page.
    fn covers(&self, relative: u32, last_page: usize) -> bool {
        let after_first = self.number == 0
            || self.entries.first().is_some_and(|first| first.relative <= relative);
        let before_next = self.number == last_page
            || self.entries.last().is_some_and(|next| relative < next.relative);
        after_first && before_next
    }
}

impl OffsetIndexFile {
    pub(crate) fn new(storage: &Arc<dyn Storage>, path: &Path, entries: usize) -> Self {
        let (storage, path) = (Arc::clone(storage), path.to_owned());
        Self { storage, path, entries, page: Mutex::new(None) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn floor(&self, relative: u32) -> io::Result<Floor> {
        if self.entries == 0 {
            return Ok(Floor::default());
        }
        let last_page = (self.entries - 1) / PAGE_ENTRIES;
        let mut cached = self.page.lock();
        if let Some(page) = cached.as_ref().filter(|page| page.covers(relative, last_page)) {
            return Ok(floor(&page.entries, relative));
        }
        let file = self.storage.open_read_only(&self.path)?;
        let (mut low, mut high) = (0, last_page);
        while low < high {
            let middle = (low + high).div_ceil(2);
            let mut bytes = [0; ENTRY_LEN];
            file.read_exact_at(&mut bytes, (middle * PAGE_ENTRIES * ENTRY_LEN) as u64)?;
            if OffsetEntry::decode(&bytes).relative <= relative {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        let first = low * PAGE_ENTRIES;
        let count = (PAGE_ENTRIES + 1).min(self.entries - first);
        let mut bytes = vec![0; count * ENTRY_LEN];
        file.read_exact_at(&mut bytes, (first * ENTRY_LEN) as u64)?;
        let page = Page { number: low, entries: decode(&bytes) };
        let found = floor(&page.entries, relative);
        *cached = Some(page);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    #[test]
    fn entries_have_kafkas_bytes() {
        let entries =
            [(29, 342), (49, 684)].map(|(relative, position)| OffsetEntry { relative, position });
        let bytes = encode(&entries);
        assert_eq!(crate::format::hex::to_hex(&bytes), "0000001d0000015600000031000002ac");
        assert_eq!(decode(&bytes), entries);
    }

    #[test]
    fn the_file_finds_what_the_memory_finds_for_every_offset() {
        for count in [0u32, 1, 511, 512, 513, 1300] {
            let entries: Vec<_> = (0..count)
                .map(|n| OffsetEntry { relative: n * 3 + 2, position: (n + 1) * 10 })
                .collect();
            let memory = MemoryStorage::new(1);
            let path = Path::new("/x.index");
            memory.create(path).unwrap().write_all_at(&encode(&entries), 0).unwrap();
            let storage: Arc<dyn Storage> = Arc::new(memory.clone());
            let file = OffsetIndexFile::new(&storage, path, entries.len());
            for relative in
                (0..count * 3 + 5).chain([u32::MAX]).chain((0..count * 3).rev().step_by(7))
            {
                assert_eq!(file.floor(relative).unwrap(), floor(&entries, relative), "{relative}");
            }
        }
    }

    #[test]
    fn reading_on_in_a_sealed_segment_reads_no_index() {
        let entries: Vec<_> =
            (0..5000).map(|n| OffsetEntry { relative: n, position: n + 1 }).collect();
        let memory = MemoryStorage::new(1);
        let path = Path::new("/x.index");
        memory.create(path).unwrap().write_all_at(&encode(&entries), 0).unwrap();
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let file = OffsetIndexFile::new(&storage, path, entries.len());
        file.floor(1024).unwrap();
        let before = memory.reads();
        for relative in 1024..1536 {
            file.floor(relative).unwrap();
        }
        assert_eq!(memory.reads(), before);
    }
}
