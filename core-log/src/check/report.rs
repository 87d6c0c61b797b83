//! What a look at everything found, for a person and for a program.
//!
//! Why kinds: what a start mends by itself is no reason to worry, and what nobody can mend is.

use std::fmt;
use std::path::{Path, PathBuf};

use super::look::Look;
use super::partition::PartitionLook;
use crate::ids::Offset;
use crate::segment::{Examined, WITNESS_LOST};

/// What a finding means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FindingKind {
    /// Something was put aside earlier. Nothing has to be done.
    Kept,
    /// The next start mends it by itself: an index that is made again, a torn tail that is cut.
    Rebuildable,
    /// It contradicts something else and cannot be decided: restore it from a copy, or live with it.
    Doubtful,
    /// Bytes that were synced once are gone or wrong. A repair can bring the rest back into service.
    Damage,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it means.
    pub kind: FindingKind,
    /// The file.
    pub path: PathBuf,
    /// Where in the file, in bytes; `None` for the file as a whole.
    pub position: Option<u64>,
    /// The offsets that cannot be read, the second one exclusive; `None` where no records are concerned.
    pub offsets: Option<(Offset, Offset)>,
    /// What is wrong.
    pub reason: String,
}

impl Finding {
    pub(super) fn of_file(kind: FindingKind, path: &Path, reason: &str) -> Self {
        let (path, reason) = (path.to_owned(), reason.to_owned());
        Self { kind, path, position: None, offsets: None, reason }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            FindingKind::Kept => "kept",
            FindingKind::Rebuildable => "rebuildable",
            FindingKind::Doubtful => "DOUBTFUL",
            FindingKind::Damage => "DAMAGE",
        };
        write!(f, "{kind}: {}", self.path.display())?;
        if let Some(position) = self.position {
            write!(f, " at byte {position}")?;
        }
        if let Some((first, next)) = self.offsets {
            write!(f, " (offsets {first} to {next}, exclusive)")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// What a look at everything found. Its text has one line for each finding, and one that says how much
/// was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// Partitions that were read.
    pub partitions: u64,
    /// Segments that were read.
    pub segments: u64,
    /// Batches whose checksum is right.
    pub batches: u64,
    /// Bytes of segments that were read.
    pub bytes: u64,
}

impl VerifyReport {
    /// Whether nothing is damaged and nothing doubtful: a start makes the rest again by itself.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.kind < FindingKind::Doubtful)
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let Self { partitions, segments, batches, bytes, .. } = self;
        let verdict = if self.is_sound() { "sound" } else { "NOT SOUND" };
        write!(
            f,
            "{verdict}: read {partitions} partitions, {segments} segments, {batches} batches, \
             {bytes} bytes"
        )
    }
}

pub(super) fn report(look: &Look) -> VerifyReport {
    let mut report = VerifyReport::default();
    let lost = [("meta.properties", &look.meta_lost), ("topics.checkpoint", &look.topics_lost)];
    for (name, reason) in lost {
        if let Some(reason) = reason {
            let path = look.path(name);
            report.findings.push(Finding::of_file(FindingKind::Damage, &path, reason));
        }
    }
    commits(look, &mut report);
    for partition in &look.partitions {
        report.partitions += 1;
        report.segments += partition.segments.len() as u64;
        report.batches += partition.replay.batches;
        report.bytes += partition.segments.iter().map(|segment| segment.bytes()).sum::<u64>();
        report.findings.extend(partition.findings.iter().cloned());
        damage(partition, &mut report.findings);
    }
    report
}

fn commits(look: &Look, report: &mut VerifyReport) {
    if let Some(damage) = &look.commits.loaded.contents.damage {
        report.findings.push(Finding {
            kind: FindingKind::Damage,
            path: damage.path.clone(),
            position: Some(damage.position),
            offsets: None,
            reason: damage.reason.clone(),
        });
    }
    for (producer_id, epoch) in &look.commits.torn {
        let reason = format!(
            "the transaction of producer {producer_id}, epoch {epoch}, is committed in one partition \
             and aborted in another"
        );
        let path = look.path(crate::log::directory::COMMITS_DIR);
        report.findings.push(Finding::of_file(FindingKind::Doubtful, &path, &reason));
    }
}

/// What a start would call damage, or cut.
fn damage(look: &PartitionLook, findings: &mut Vec<Finding>) {
    if !look.has_directory {
        let reason = "the partition's directory is missing";
        findings.push(Finding::of_file(FindingKind::Damage, &look.place.dir, reason));
        return;
    }
    if look.log_start.is_none() {
        let path = look.place.dir.join("log-start-offset");
        let reason = "it is missing or its checksum does not fit: deleted records may be back";
        findings.push(Finding::of_file(FindingKind::Damage, &path, reason));
    }
    for hole in look.holes() {
        let is_tail = hole.is_torn_tail(look.witness);
        findings.push(Finding {
            kind: if is_tail { FindingKind::Rebuildable } else { FindingKind::Damage },
            path: hole.path.clone(),
            position: Some(hole.position),
            offsets: (!is_tail && hole.next > hole.first).then_some((hole.first, hole.next)),
            reason: if is_tail {
                format!("{} bytes behind what was synced are no batch: {}", hole.bytes, hole.reason)
            } else {
                hole.reason
            },
        });
    }
    for (index, segment) in look.segments.iter().enumerate() {
        if look.has_stale_seal(index) && look.holes().iter().all(|hole| hole.segment != Some(index))
        {
            let reason = "it speaks of another file than the one beside it";
            findings.push(Finding::of_file(FindingKind::Damage, &segment.seal_path, reason));
        }
    }
    for segment in look.segments.iter().filter(|segment| segment.is_another) {
        let reason = "its batches are good, and not those that were sealed: restore it from a copy, or \
                      accept it by removing the seal";
        findings.push(Finding::of_file(FindingKind::Doubtful, &segment.path, reason));
    }
}

/// Bytes or offsets that are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) path: PathBuf,
    /// Which of the partition's segments has it; `None`: it lies between two files.
    pub(super) segment: Option<usize>,
    pub(super) position: u64,
    pub(super) bytes: u64,
    pub(super) first: Offset,
    pub(super) next: Offset,
    pub(super) reason: String,
    is_in_last: bool,
}

impl Hole {
    /// Whether the next start cuts it by itself.
    pub(super) fn is_torn_tail(&self, witness: Offset) -> bool {
        self.is_in_last && witness != WITNESS_LOST && self.first >= witness
    }
}

impl PartitionLook {
    /// Everything that is missing, in order of offsets.
    pub(super) fn holes(&self) -> Vec<Hole> {
        let mut holes = Vec::new();
        let witness = if self.witness == WITNESS_LOST { 0 } else { self.witness };
        let log_start = self.log_start.unwrap_or(0);
        let file = |base: Offset| self.place.dir.join(format!("{base:020}.log"));
        let missing = |first: Offset, next: Offset| Hole {
            path: file(first),
            segment: None,
            position: 0,
            bytes: 0,
            first,
            next,
            reason: "the file is missing".to_owned(),
            is_in_last: false,
        };
        match self.segments.first() {
            None => {
                let at = witness.max(log_start);
                holes.push(missing(at, at));
            }
            Some(first) if self.log_start.is_some_and(|start| start < first.base_offset) => {
                holes.push(missing(log_start, first.base_offset));
            }
            Some(_) => {}
        }
        for (index, segment) in self.segments.iter().enumerate() {
            let next_base = self.segments.get(index + 1).map(|next| next.base_offset);
            let end = next_base.unwrap_or(witness);
            let has_bad_end = segment.stretches.last().is_some_and(|last| last.bad.is_some());
            for stretch in segment.stretches.iter().filter(|stretch| stretch.bad.is_some()) {
                let is_at_end = stretch.to == segment.bytes();
                let next =
                    if is_at_end { end.max(stretch.first_offset) } else { stretch.next_offset };
                holes.push(Hole {
                    path: segment.path.clone(),
                    segment: Some(index),
                    position: stretch.from,
                    bytes: stretch.to - stretch.from,
                    first: stretch.first_offset,
                    next,
                    reason: stretch.bad.clone().unwrap_or_default(),
                    is_in_last: next_base.is_none(),
                });
            }
            if next_base.is_none() && segment.has_gaps {
                // The last segment is never compacted: one is gone that followed.
                let ends = holes.last().map_or(Offset::MIN, |hole: &Hole| hole.next);
                let ends = ends.max(self.compacted_end(segment));
                holes.push(missing(ends, end.max(ends)));
                continue;
            }
            let ends_early = match next_base {
                Some(next) => self.ends_early(segment, next),
                None => Some(segment.end_offset()).filter(|ends| !has_bad_end && *ends < end),
            };
            let Some(ends) = ends_early else { continue };
            if next_base.is_some() && segment.sealed_end == Some(ends) {
                holes.push(missing(ends, end));
                continue;
            }
            holes.push(Hole {
                path: segment.path.clone(),
                segment: Some(index),
                position: segment.bytes(),
                bytes: 0,
                first: ends,
                next: end,
                reason: format!("the file ends, and there were batches up to offset {end}"),
                is_in_last: false,
            });
        }
        holes
    }

    /// Where a segment ends whose bytes are good and which should reach up to `end`; `None` when it does.
    pub(super) fn ends_early(&self, segment: &Examined, end: Offset) -> Option<Offset> {
        let is_good = segment.stretches.last().is_none_or(|last| last.bad.is_none());
        let ends = match segment.sealed_end {
            // Compaction may have been at it.
            None if end <= self.gaps_below => end,
            _ => self.compacted_end(segment),
        };
        (is_good && ends < end).then_some(ends)
    }

    /// Where a segment ends of which compaction may have taken the last batches: its seal says so, if it is
    /// as long as when it was sealed.
    pub(super) fn compacted_end(&self, segment: &Examined) -> Offset {
        let is_whole = segment.sealed_bytes == Some(segment.bytes());
        let sealed = segment.sealed_end.filter(|end| is_whole && *end <= self.gaps_below);
        segment.end_offset().max(sealed.unwrap_or(Offset::MIN))
    }
}
