//! The files of one segment: batches, indexes, seal.
//!
//! Checks: each header, checksum and record; offsets that follow each other; entries of indexes that
//! ascend and point at batches; everything that the seal says.

use std::path::Path;
use std::sync::Arc;

use super::{FileKind, Item, Teller};
use crate::format::{BatchHeader, BatchView, EndTransactionMarker, HEADER_LEN};
use crate::ids::{Offset, Timestamp};
use crate::segment::layout::{
    FileDigest, Kind, OffsetEntry, SEAL_LEN, Seal, Step, Walk, offset_index, time_index, txn_index,
};
use crate::storage::File;

/// What the `.log` file says, for the checks of the files beside it.
pub(super) struct LogFacts {
    file: Option<Arc<dyn File>>,
    base_offset: Offset,
    /// Behind the last good batch.
    end_position: u64,
    pub(super) end_offset: Offset,
    largest_timestamp: Timestamp,
    headers_digest: u32,
    /// Where the seal says that the file ends, and what was read up to there.
    seal: Option<Seal>,
    front: Option<(Offset, Timestamp, u32)>,
    /// No segment follows: it may have been written on behind its seal, which says nothing of its indexes.
    is_last: bool,
}

/// Where a segment is.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) dir: &'a Path,
    pub(super) base_offset: Offset,
    pub(super) is_last: bool,
    /// Offsets may be missing in front of this one: compaction has been there.
    pub(super) gaps_below: Offset,
}

/// The seal beside a `.log` file, when it is one.
fn seal_of(teller: &Teller<'_>, at: At<'_>) -> Option<Seal> {
    let file = teller.storage.open_read_only(&at.dir.join(Kind::Seal.file_name(at.base_offset)));
    let mut bytes = [0; SEAL_LEN];
    file.and_then(|file| file.read_exact_at(&mut bytes, 0)).ok()?;
    Seal::decode(&bytes).filter(|seal| seal.fits(at.base_offset))
}

impl LogFacts {
    fn new(teller: &Teller<'_>, at: At<'_>) -> Self {
        let mut facts = Self {
            file: None,
            base_offset: at.base_offset,
            end_position: 0,
            end_offset: at.base_offset,
            largest_timestamp: i64::MIN,
            headers_digest: 0,
            seal: seal_of(teller, at),
            front: None,
            is_last: at.is_last,
        };
        facts.look_at_seal();
        facts
    }

    fn look_at_seal(&mut self) {
        if self.seal.is_some_and(|seal| seal.log_len == self.end_position) {
            self.front = Some((self.end_offset, self.largest_timestamp, self.headers_digest));
        }
    }
}

/// Reads a `.log` file to its end, or to the first batch that cannot be stepped over.
pub(super) fn log(
    teller: &mut Teller<'_>,
    at: At<'_>,
    name: &str,
    each: &mut dyn FnMut(&mut Teller<'_>, &BatchView<'_>),
) -> LogFacts {
    let mut facts = LogFacts::new(teller, at);
    let opened = teller.storage.open_read_only(&at.dir.join(name));
    let opened = opened.and_then(|file| Ok((file.len()?, file)));
    let (len, file) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            teller.tell(&Item::File { name, kind: FileKind::Log, bytes: 0 });
            teller.problem(None, &format_args!("the file cannot be read: {error}"));
            return facts;
        }
    };
    teller.tell(&Item::File { name, kind: FileKind::Log, bytes: len });
    facts.file = Some(Arc::clone(&file));
    let mut walk = Walk::new(&*file, 0, at.base_offset, len).with_gaps_below(at.gaps_below);
    loop {
        let position = walk.position();
        match walk.step() {
            Ok(None) => return facts,
            Ok(Some(Step::Batch { position, header, header_bytes })) => {
                teller.tell(&Item::Batch { position, header: &header });
                if let Err(what) = batch(teller, &*file, position, &header, each) {
                    teller.problem(Some(position), &what);
                }
                facts.headers_digest = crc32c::crc32c_append(facts.headers_digest, &header_bytes);
                facts.largest_timestamp = facts.largest_timestamp.max(header.max_timestamp);
                (facts.end_position, facts.end_offset) = (walk.position(), walk.expected());
                facts.look_at_seal();
            }
            Ok(Some(Step::Bad(bad))) => {
                let left = len - position;
                teller.problem(Some(position), &format_args!("{bad}; {left} bytes are not read"));
                return facts;
            }
            Err(error) => {
                let what = format!("the file cannot be read: {error}");
                teller.problem(Some(position), &what);
                return facts;
            }
        }
    }
}

/// Looks into one batch, which is there as a whole.
fn batch(
    teller: &mut Teller<'_>,
    file: &dyn File,
    position: u64,
    header: &BatchHeader,
    each: &mut dyn FnMut(&mut Teller<'_>, &BatchView<'_>),
) -> Result<(), String> {
    let mut bytes = vec![0; header.total_len()];
    let read = file.read_exact_at(&mut bytes, position);
    read.map_err(|error| format!("the batch cannot be read: {error}"))?;
    let view = BatchView::parse(&bytes).map_err(|bad| bad.to_string())?;
    view.verify_crc().map_err(|bad| bad.to_string())?;
    each(teller, &view);
    Ok(())
}

/// Tells the records, or the marker, of a batch.
pub(super) fn records(teller: &mut Teller<'_>, batch: &BatchView<'_>) {
    if batch.header().is_control() {
        match EndTransactionMarker::from_batch(batch) {
            Ok(marker) => teller.tell(&Item::Marker(marker)),
            Err(bad) => teller.problem(None, &format_args!("the marker: {bad}")),
        }
        return;
    }
    for record in batch.records() {
        match record {
            Ok(record) => teller.tell(&Item::Record(record)),
            Err(bad) => teller.problem(None, &bad),
        }
    }
}

/// One of the files beside the `.log` file.
pub(super) fn beside(
    teller: &mut Teller<'_>,
    at: At<'_>,
    name: &str,
    kind: Kind,
    facts: Option<&LogFacts>,
) {
    let base_offset = at.base_offset;
    let told_as = match kind {
        Kind::Log => FileKind::Log,
        Kind::OffsetIndex => FileKind::OffsetIndex,
        Kind::TimeIndex => FileKind::TimeIndex,
        Kind::TxnIndex => FileKind::TransactionIndex,
        Kind::Seal => FileKind::Seal,
    };
    let Some(bytes) = teller.whole(at.dir, name, told_as) else { return };
    if facts.is_none() {
        teller.problem(None, &"there is no .log file beside it");
    }
    match kind {
        Kind::Log => {}
        Kind::OffsetIndex => offsets(teller, &bytes, base_offset, facts),
        Kind::TimeIndex => times(teller, &bytes, base_offset, facts),
        Kind::TxnIndex => aborted(teller, &bytes, base_offset, facts),
        Kind::Seal => seal(teller, at, &bytes, facts),
    }
}

/// The entries in front of room that was set aside and not used; Kafka cuts that at a clean close.
fn used<'a, const N: usize>(teller: &mut Teller<'_>, bytes: &'a [u8]) -> &'a [[u8; N]] {
    let (entries, rest) = bytes.as_chunks::<N>();
    if !rest.is_empty() {
        let what = format!("{} bytes are left over behind the last entry", rest.len());
        teller.problem(Some((bytes.len() - rest.len()) as u64), &what);
    }
    let used = entries.iter().rposition(|entry| *entry != [0; N]).map_or(0, |last| last + 1);
    // A whole entry of zeros can only be the first one of a segment's times, at the epoch.
    if used < entries.len() && entries.len() > 1 {
        teller.note(&format!("room for {} more entries is set aside", entries.len() - used));
        return &entries[..used];
    }
    entries
}

fn offsets(teller: &mut Teller<'_>, bytes: &[u8], base_offset: Offset, facts: Option<&LogFacts>) {
    let mut before: Option<OffsetEntry> = None;
    for (index, entry) in used::<{ offset_index::ENTRY_LEN }>(teller, bytes).iter().enumerate() {
        let entry = OffsetEntry::decode(entry);
        let offset = base_offset.saturating_add(entry.relative.into());
        teller.tell(&Item::Offset { offset, position: entry.position.into() });
        let at = Some((index * offset_index::ENTRY_LEN) as u64);
        if before.is_some_and(|b| b.relative >= entry.relative || b.position >= entry.position) {
            teller.problem(at, &"the entry does not ascend");
        }
        before = Some(entry);
        if let Some(facts) = facts
            && let Err(what) = facts.require_batch(entry.position.into(), offset)
        {
            teller.problem(at, &what);
        }
    }
}

impl LogFacts {
    /// A batch begins at `position` and ends with `last_offset`.
    fn require_batch(&self, position: u64, last_offset: Offset) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        if position >= self.end_position {
            return Err(format!("no good batch begins at position {position}"));
        }
        let mut bytes = [0; HEADER_LEN];
        let read = file.read_exact_at(&mut bytes, position);
        read.map_err(|error| format!("position {position} cannot be read: {error}"))?;
        match BatchHeader::parse(&bytes) {
            Ok(header) if header.last_offset() == last_offset => Ok(()),
            Ok(header) => {
                let found = header.last_offset();
                Err(format!("the batch at position {position} ends with offset {found}"))
            }
            Err(bad) => Err(format!("no batch begins at position {position}: {bad}")),
        }
    }

    fn contains(&self, offset: Offset) -> bool {
        (self.base_offset..self.end_offset).contains(&offset)
    }
}

fn times(teller: &mut Teller<'_>, bytes: &[u8], base_offset: Offset, facts: Option<&LogFacts>) {
    let mut before: Option<(Timestamp, Offset)> = None;
    for (index, entry) in used::<{ time_index::ENTRY_LEN }>(teller, bytes).iter().enumerate() {
        for entry in time_index::decode(entry) {
            let offset = base_offset.saturating_add(entry.relative.into());
            teller.tell(&Item::Time { timestamp: entry.timestamp, offset });
            let at = Some((index * time_index::ENTRY_LEN) as u64);
            if before.is_some_and(|(time, last)| time >= entry.timestamp || last > offset) {
                teller.problem(at, &"the entry does not ascend");
            }
            before = Some((entry.timestamp, offset));
            let Some(facts) = facts else { continue };
            if !facts.contains(offset) {
                teller.problem(at, &format_args!("the segment has no offset {offset}"));
            } else if entry.timestamp > facts.largest_timestamp {
                teller.problem(at, &"no record of the segment is as young");
            }
        }
    }
}

fn aborted(teller: &mut Teller<'_>, bytes: &[u8], base_offset: Offset, facts: Option<&LogFacts>) {
    let Some(entries) = txn_index::decode(bytes) else {
        teller.problem(None, &"it is no list of aborted transactions");
        return;
    };
    for (index, entry) in entries.into_iter().enumerate() {
        let (first, last) = (entry.first_offset, entry.last_offset);
        teller.tell(&Item::Aborted(entry));
        let at = Some((index * txn_index::ENTRY_LEN) as u64);
        if first > last || last < base_offset {
            teller.problem(at, &"the transaction does not end in this segment");
        } else if facts.is_some_and(|facts| !facts.contains(last)) {
            teller.problem(at, &format_args!("the segment has no offset {last}"));
        }
    }
}

fn seal(teller: &mut Teller<'_>, at: At<'_>, bytes: &[u8], facts: Option<&LogFacts>) {
    let Some(seal) = Seal::decode(bytes).filter(|seal| seal.fits(at.base_offset)) else {
        teller.problem(None, &"it is no seal of this segment, or not as it was written");
        return;
    };
    let Seal { log_len, end_offset, largest_timestamp, .. } = seal;
    teller.tell(&Item::Seal { log_bytes: log_len, end_offset, largest_timestamp });
    let Some(facts) = facts else { return };
    if log_len != facts.end_position && !facts.is_last {
        let bytes = facts.end_position;
        teller.problem(None, &format_args!("the .log file has {bytes} good bytes"));
    } else if facts.front != Some((end_offset, largest_timestamp, seal.headers_digest)) {
        teller.problem(None, &"the headers in the .log file are not those that were sealed");
    }
    if facts.is_last {
        return;
    }
    let files = [
        (Kind::OffsetIndex, seal.offset_index),
        (Kind::TimeIndex, seal.time_index),
        (Kind::TxnIndex, seal.txn_index),
    ];
    for (kind, digest) in files {
        let name = kind.file_name(at.base_offset);
        if !is_sealed(teller, &at.dir.join(&name), digest) {
            teller.problem(None, &format_args!("{name} is not the one that was sealed"));
        }
    }
}

fn is_sealed(teller: &Teller<'_>, path: &Path, digest: FileDigest) -> bool {
    let found = teller.storage.open_read_only(path).and_then(|file| {
        // Must be BEFORE room is made for it, or else a seal could ask for any.
        if file.len()? != u64::from(digest.len) {
            return Ok(None);
        }
        let mut bytes = vec![0; digest.len as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Some(FileDigest::of(&bytes)))
    });
    match found {
        Ok(found) => found == Some(digest),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound && digest.len == 0,
    }
}
