//! The directory of a partition: its segments, and the small files beside them.

use std::collections::BTreeMap;
use std::path::Path;

use super::segment::{self, At, LogFacts};
use super::{FileKind, Item, Teller, commits};
use crate::ids::Offset;
use crate::partition::compaction::checkpoint::{self, Checkpoint};
use crate::partition::trim::LOG_START_FILE;
use crate::partition::upkeep::HOLDERS_FILE;
use crate::partition::{leader_epochs, snapshot, text_file, topic_id};
use crate::segment::layout::{Kind, base_offset};

/// What the batches of the directory hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    Records,
    Commits,
}

/// Whether a directory with these names is one of a partition.
pub(super) fn is_partition(names: &[String]) -> bool {
    names.iter().any(|name| kind_of(name) != FileKind::Other)
}

fn kind_of(name: &str) -> FileKind {
    if base_offset(name).is_some() {
        return match Kind::of(name) {
            Some(Kind::OffsetIndex) => FileKind::OffsetIndex,
            Some(Kind::TimeIndex) => FileKind::TimeIndex,
            Some(Kind::TxnIndex) => FileKind::TransactionIndex,
            Some(Kind::Seal) => FileKind::Seal,
            Some(Kind::Log) | None => FileKind::Log,
        };
    }
    match name {
        leader_epochs::FILE_NAME => FileKind::LeaderEpochs,
        LOG_START_FILE => FileKind::LogStart,
        topic_id::FILE_NAME => FileKind::PartitionMetadata,
        checkpoint::FILE_NAME | HOLDERS_FILE => FileKind::Text,
        _ if text_file::numbered(name, snapshot::SUFFIX).is_some() => FileKind::ProducerSnapshot,
        _ if name.ends_with(".quarantine") => FileKind::Quarantine,
        _ => FileKind::Other,
    }
}

/// Tells all files: the batches of each segment first, then what is made from them.
pub(super) fn tell(teller: &mut Teller<'_>, dir: &Path, names: &[String], contents: Contents) {
    teller.tell(&Item::Directory { path: dir });
    let mut segments: BTreeMap<Offset, Vec<(Kind, &str)>> = BTreeMap::new();
    let mut others = Vec::new();
    for name in names {
        match (base_offset(name), Kind::of(name)) {
            (Some(base), Some(kind)) => segments.entry(base).or_default().push((kind, name)),
            _ => others.push(name.as_str()),
        }
    }
    // Where compaction has been, offsets may be missing; a file that is damaged says so itself.
    let checkpoint = Checkpoint::read(teller.storage, dir, false).unwrap_or_default();
    let bases: Vec<Offset> = segments.keys().copied().collect();
    // Until then the old segments may be gone, or some of them.
    let swap = others.iter().find(|name| name.ends_with(".log.swap"));
    if let Some(name) = swap {
        teller.note(&format!("{name} takes the place of compacted segments at the next start"));
    }
    let has_swap = swap.is_some();
    let mut end: Option<Offset> = None;
    for (index, (base, mut files)) in segments.into_iter().enumerate() {
        let (is_last, gaps_below) = (index + 1 == bases.len(), checkpoint.gaps_below);
        let at = At { dir, base_offset: base, is_last, gaps_below };
        files.sort_by_key(|(kind, _)| *kind != Kind::Log);
        let mut facts = None;
        for (kind, name) in files {
            if kind == Kind::Log {
                let mut found = log(teller, at, name, contents);
                if end.is_some_and(|end| end != base && !has_swap) {
                    let end = end.unwrap_or_default();
                    teller.problem(None, &format_args!("the segment before ends at offset {end}"));
                }
                let next = bases.get(index + 1).filter(|next| **next <= checkpoint.gaps_below);
                found.reach(next.copied().unwrap_or(0));
                end = Some(found.end_offset);
                facts = Some(found);
            } else {
                segment::beside(teller, at, name, kind, facts.as_ref());
            }
        }
    }
    if end.is_none() && !has_swap {
        teller.problem(None, &"there is no .log file");
    }
    for name in others {
        small_file(teller, dir, name, end);
    }
}

fn log(teller: &mut Teller<'_>, at: At<'_>, name: &str, contents: Contents) -> LogFacts {
    match contents {
        Contents::Records => segment::log(teller, at, name, &mut segment::records),
        Contents::Commits => segment::log(teller, at, name, &mut commits::record),
    }
}

fn small_file(teller: &mut Teller<'_>, dir: &Path, name: &str, end: Option<Offset>) {
    match kind_of(name) {
        FileKind::ProducerSnapshot => producers(teller, dir, name),
        FileKind::LeaderEpochs => epochs(teller, dir, name, end),
        FileKind::LogStart => {
            let Some(bytes) = teller.whole(dir, name, FileKind::LogStart) else { return };
            proven_text(teller, &bytes);
        }
        FileKind::Text => {
            let Some(bytes) = teller.whole(dir, name, FileKind::Text) else { return };
            proven_text(teller, &bytes);
        }
        FileKind::PartitionMetadata => {
            let Some(bytes) = teller.whole(dir, name, FileKind::PartitionMetadata) else { return };
            lines(teller, &bytes);
            if topic_id::parse(&bytes).is_none() {
                teller.problem(None, &"it holds no topic id");
            }
        }
        kind => teller.other(dir, name, kind),
    }
}

/// A text file of the log, whose last line proves it.
pub(super) fn proven_text(teller: &mut Teller<'_>, bytes: &[u8]) -> Option<String> {
    let Some(text) = text_file::prove(bytes) else {
        teller.problem(None, &"its checksum does not fit, or is missing");
        return None;
    };
    for line in text.lines() {
        teller.tell(&Item::Line(line));
    }
    Some(text.to_owned())
}

fn lines(teller: &mut Teller<'_>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.lines().for_each(|line| teller.tell(&Item::Line(line))),
        Err(bad) => teller.problem(Some(bad.valid_up_to() as u64), &"it is no text"),
    }
}

fn producers(teller: &mut Teller<'_>, dir: &Path, name: &str) {
    let Some(bytes) = teller.whole(dir, name, FileKind::ProducerSnapshot) else { return };
    let Some(state) = snapshot::decode(&bytes) else {
        teller.problem(None, &"it is no snapshot of producers, or not as it was written");
        return;
    };
    for (producer_id, entry) in state.iter() {
        let last = entry.batches.back().map(|batch| (batch.last_sequence, batch.last_offset));
        teller.tell(&Item::Producer {
            producer_id,
            producer_epoch: entry.producer_epoch,
            last,
            coordinator_epoch: entry.coordinator_epoch,
            open_from: entry.open.map(|span| span.first_offset),
            last_seen: entry.last_seen,
        });
    }
}

fn epochs(teller: &mut Teller<'_>, dir: &Path, name: &str, end: Option<Offset>) {
    let Some(bytes) = teller.whole(dir, name, FileKind::LeaderEpochs) else { return };
    let text = std::str::from_utf8(&bytes).ok();
    let Some(epochs) = text.and_then(leader_epochs::LeaderEpochs::parse) else {
        teller.problem(None, &"it is no list of leader epochs");
        return;
    };
    for (epoch, start_offset) in epochs.iter() {
        teller.tell(&Item::LeaderEpoch { epoch, start_offset });
        if end.is_some_and(|end| start_offset > end) {
            teller.problem(None, &"the epoch starts behind the end of the partition");
        }
    }
}
