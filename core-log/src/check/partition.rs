//! Reads everything of one partition: all batches, also behind damage, and what they say of producers.
//!
//! Why a replay of its own: a start stops at damage, as it may decide nothing behind it.
//!
//! ```text
//!   |== good ==|xx hole xx|== good ==|      a transaction that is open in front of a hole and whose
//!        txn a |    ?     | txn a+1         producer begins the next one behind it has ended in the hole
//! ```
//!
//! Invariants
//! * Nothing is changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::report::{Finding, FindingKind};
use crate::error::{Error, Result};
use crate::format::{BatchHeader, ControlType, EndTransactionMarker};
use crate::ids::{Offset, ProducerEpoch, ProducerId, TopicId, TopicPartition};
use crate::log::opening::place;
use crate::partition::compaction::checkpoint::Checkpoint;
use crate::partition::leader_epochs::{self, LeaderEpochs};
use crate::partition::producer_state::{Claim, OpenSpan, ProducerState};
use crate::partition::snapshot;
use crate::partition::text_file::{self, Text};
use crate::partition::topic_id::{self, Stored};
use crate::partition::trim::{LOG_START_FILE, parse_log_start};
use crate::segment::{Examination, Examined, Next, Place, Segment, WITNESS_LOST, cleaned, examine};
use crate::storage::Storage;
use crate::topic::Topic;

/// What a partition holds.
#[derive(Debug)]
pub(super) struct PartitionLook {
    pub(super) id: TopicPartition,
    pub(super) place: Arc<Place>,
    pub(super) witness: Offset,
    pub(super) has_directory: bool,
    /// The topic that the directory names, where that is another one.
    pub(super) other_topic_id: Option<TopicId>,
    /// What the file says; `None` when it cannot be believed.
    pub(super) log_start: Option<Offset>,
    pub(super) segments: Vec<Examined>,
    /// Below this offset batches may be missing: compaction took them.
    pub(super) gaps_below: Offset,
    /// What is wrong with files that can be made again.
    pub(super) findings: Vec<Finding>,
    pub(super) replay: Replay,
}

impl PartitionLook {
    pub(super) fn name(&self) -> String {
        format!("{}-{}", self.place.topic, self.place.partition)
    }

    /// The offset behind the last good batch.
    pub(super) fn end_offset(&self) -> Offset {
        self.segments.last().map_or(0, Examined::end_offset)
    }
}

/// How a transaction ended whose marker is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) producer_id: ProducerId,
    pub(super) producer_epoch: ProducerEpoch,
    pub(super) span: OpenSpan,
    /// The first offset of the hole in which it ended.
    pub(super) hole: Offset,
    /// What an index that proves itself says; `None` when nothing does.
    pub(super) ended: Option<ControlType>,
}

/// What the batches say, in order.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) producers: ProducerState,
    /// Transactions that ended, by producer and the epoch of the marker.
    pub(super) ended: BTreeMap<(ProducerId, i16), ControlType>,
    pub(super) doubts: Vec<Doubt>,
    pub(super) producer_id_max: i64,
    pub(super) commit_claim: i32,
    pub(super) leader_epoch: i32,
    pub(super) batches: u64,
    /// Below this offset another log wrote: its producers and its commits are not this log's.
    adopted_below: Offset,
    /// Whether a batch of this log was seen.
    has_own: bool,
    /// Transactions that are open at the end, behind a hole or at one.
    at_end: Vec<Doubt>,
    /// Transactions that were open in front of a hole and of which nothing has come since.
    open_at_hole: BTreeMap<ProducerId, Offset>,
}

impl Replay {
    fn visit(&mut self, header: &BatchHeader, marker: Option<EndTransactionMarker>) {
        self.batches += 1;
        self.leader_epoch = self.leader_epoch.max(header.leader_epoch);
        let is_adopted = header.base_offset < self.adopted_below;
        if !is_adopted && !self.has_own {
            self.has_own = true;
            self.forget_adopted();
        }
        if !header.has_producer_id() {
            return;
        }
        let id = header.producer_id;
        self.producer_id_max = self.producer_id_max.max(id.0);
        if let Some(marker) = marker {
            // It has the epoch behind that of its transaction, or the same one where Kafka wrote it.
            self.end_in_hole(id, ProducerEpoch(header.producer_epoch.0.saturating_sub(1)));
            if !is_adopted {
                self.ended.insert((id, header.producer_epoch.0), marker.control_type);
            }
            if !is_adopted && marker.control_type == ControlType::Commit {
                self.commit_claim = self.commit_claim.max(marker.coordinator_epoch);
            }
            let epoch = marker.coordinator_epoch;
            self.producers.apply_marker(id, header.producer_epoch, epoch, 0);
        } else if !header.is_control() {
            self.batch_of(id, header);
        }
    }

    /// What comes next has been at this offset, and is lost.
    fn hole(&mut self, at: Offset) {
        for (id, ..) in self.producers.open() {
            self.open_at_hole.entry(id).or_insert(at);
        }
    }

    /// What another log left open was aborted when its files were taken over: a marker is lost in a hole.
    fn forget_adopted(&mut self) {
        for id in self.open_at_hole.keys().copied().collect::<Vec<_>>() {
            self.end_in_hole(id, ProducerEpoch(i16::MAX));
        }
        self.producers = ProducerState::default();
    }

    /// A producer is heard of again: a transaction of an earlier epoch that was open in front of a hole has
    /// ended in it.
    fn end_in_hole(&mut self, id: ProducerId, epoch: ProducerEpoch) {
        let Some(hole) = self.open_at_hole.remove(&id) else { return };
        let entry = self.producers.get(id);
        let open = entry.and_then(|entry| Some((entry.producer_epoch, entry.open?)));
        if let Some((earlier, span)) = open.filter(|(earlier, _)| *earlier < epoch) {
            self.doubt(id, earlier, span, hole);
        }
    }

    fn batch_of(&mut self, id: ProducerId, header: &BatchHeader) {
        self.end_in_hole(id, header.producer_epoch);
        let claim = Claim {
            producer_id: id,
            producer_epoch: header.producer_epoch,
            first_sequence: header.base_sequence,
            record_count: header.last_offset_delta.saturating_add(1),
            is_transactional: header.is_transactional(),
        };
        self.producers.apply_batch(&claim, header.base_offset, header.last_offset(), 0);
    }

    fn doubt(&mut self, id: ProducerId, epoch: ProducerEpoch, span: OpenSpan, hole: Offset) {
        self.doubts.push(Doubt { producer_id: id, producer_epoch: epoch, span, hole, ended: None });
        self.producers.apply_marker(id, ProducerEpoch(epoch.0.saturating_add(1)), 0, 0);
    }

    /// Answers what the indexes of aborted transactions say of markers that are lost.
    fn settle(&mut self, segments: &[Examined]) {
        for doubt in &mut self.doubts {
            let holder = segments.iter().rfind(|segment| segment.base_offset <= doubt.hole);
            let holder = holder.filter(|s| s.sealed_end.is_some_and(|end| doubt.hole < end));
            let Some(aborted) = holder.and_then(|segment| segment.aborted.as_ref()) else {
                continue;
            };
            let is_aborted = aborted.iter().any(|entry| {
                entry.producer_id == doubt.producer_id
                    && entry.first_offset == doubt.span.first_offset
            });
            let ended = if is_aborted { ControlType::Abort } else { ControlType::Commit };
            doubt.ended.get_or_insert(ended);
        }
    }

    /// Transactions that are open where the partition now ends too early.
    fn doubt_open(&mut self, end: Offset) {
        let open: Vec<_> = self.producers.open().collect();
        for (producer_id, producer_epoch, span) in open {
            let hole = self.open_at_hole.get(&producer_id).copied().unwrap_or(end);
            self.at_end.push(Doubt { producer_id, producer_epoch, span, hole, ended: None });
        }
    }

    /// Decides what is doubtful by what the other partitions and the commit records say. What nothing
    /// decides and may still be open is left to the next start.
    pub(super) fn decide(
        &mut self,
        segments: &[Examined],
        elsewhere: impl Fn(ProducerId, ProducerEpoch) -> Option<ControlType>,
    ) {
        self.settle(segments);
        let adopted_below = self.adopted_below;
        let elsewhere = |doubt: &Doubt| {
            let is_own = doubt.span.first_offset >= adopted_below;
            is_own.then(|| elsewhere(doubt.producer_id, doubt.producer_epoch)).flatten()
        };
        for doubt in self.doubts.iter_mut().filter(|doubt| doubt.ended.is_none()) {
            doubt.ended = elsewhere(doubt);
        }
        // A clean close leaves an index of the last segment too, and no transaction open.
        let last = segments.last().filter(|last| last.aborted.is_some());
        for mut doubt in std::mem::take(&mut self.at_end) {
            doubt.ended = elsewhere(&doubt);
            let is_in_last = last.is_some_and(|last| {
                last.base_offset <= doubt.hole
                    && last.sealed_end.is_some_and(|end| doubt.hole < end)
            });
            if doubt.ended.is_some() || is_in_last {
                self.doubts.push(doubt);
            }
        }
        self.settle(segments);
    }
}

/// Whether a directory is that of a partition.
pub(super) fn is_partition(storage: &dyn Storage, dir: &Path) -> bool {
    let names = storage.list(dir).unwrap_or_default();
    names.iter().any(|name| name == LOG_START_FILE || text_file::numbered(name, ".log").is_some())
}

/// Reads a partition whole.
pub(super) fn look(
    storage: &dyn Storage,
    dir: &Path,
    topic: &Topic,
    number: u32,
    witness: Offset,
) -> Result<PartitionLook> {
    let place = Arc::new(place(dir, topic, number));
    let mut look = PartitionLook {
        id: topic.partition(number),
        witness,
        has_directory: true,
        other_topic_id: None,
        log_start: None,
        segments: Vec::new(),
        gaps_below: Offset::MIN,
        findings: Vec::new(),
        replay: Replay {
            producer_id_max: -1,
            adopted_below: topic.adopted_below_in(number),
            ..Replay::default()
        },
        place,
    };
    let dir = look.place.dir.clone();
    if !storage.exists(&dir).map_err(|e| Error::io(&dir, "look for", e))? {
        look.has_directory = false;
        return Ok(look);
    }
    look.read_positions(storage)?;
    let swaps = cleaned::decided(storage, &look.place)?;
    let mut bases = Segment::list(storage, &look.place)?;
    bases.retain(|base| !swaps.iter().any(|swap| swap.replaces(*base)));
    bases.extend(swaps.iter().map(|swap| swap.base_offset));
    bases.sort_unstable();
    let log_start = look.log_start.unwrap_or(0);
    let is_compacted = topic.settings().cleanup.compaction().is_some();
    let gaps_below = Checkpoint::read(storage, &dir, is_compacted)?.gaps_below;
    look.gaps_below = gaps_below;
    // Those in front lie below the log start: a removal that did not finish.
    let gone = bases.windows(2).take_while(|pair| pair[1] <= log_start).count();
    for (index, base_offset) in bases.iter().enumerate().skip(gone) {
        look.compare_snapshot(storage, *base_offset)?;
        let next_base = bases.get(index + 1).copied();
        let is_swap = swaps.iter().any(|swap| swap.base_offset == *base_offset);
        let what = Examination { base_offset: *base_offset, next_base, gaps_below, is_swap };
        let replay = &mut look.replay;
        let examined = examine(storage, &look.place, what, &mut |next| match next {
            Next::Batch(header, marker) => replay.visit(header, marker),
            Next::Hole(at) => replay.hole(at),
        })?;
        for (path, reason) in &examined.beside {
            look.findings.push(rebuildable(path, reason));
        }
        if let Some(end) = next_base.and_then(|next| look.ends_early(&examined, next)) {
            look.replay.hole(end);
        }
        look.segments.push(examined);
    }
    if let Some(last) = look.segments.last().filter(|last| last.has_gaps) {
        let end = look.compacted_end(last);
        look.replay.hole(end);
    }
    let end = look.end_offset();
    let ends_early = look.witness != WITNESS_LOST && end < look.witness;
    let has_bad_end = look.segments.last().and_then(|last| last.stretches.last());
    let has_bad_end = has_bad_end.is_some_and(|last| last.bad.is_some());
    if ends_early || has_bad_end || !look.replay.open_at_hole.is_empty() {
        look.replay.doubt_open(end);
    }
    look.note_kept(storage)?;
    Ok(look)
}

fn rebuildable(path: &Path, reason: &str) -> Finding {
    Finding::of_file(FindingKind::Rebuildable, path, reason)
}

impl PartitionLook {
    fn read_positions(&mut self, storage: &dyn Storage) -> Result<()> {
        let path = self.place.dir.join(LOG_START_FILE);
        self.log_start = match text_file::read(storage, &path)? {
            Text::Proven(text) => parse_log_start(&self.place, &text),
            Text::Missing | Text::Damaged => None,
        };
        let path = self.place.dir.join(leader_epochs::FILE_NAME);
        let bytes = text_file::read_bytes(storage, &path)?;
        let text = bytes.as_deref().map(std::str::from_utf8);
        match text {
            None => self.findings.push(rebuildable(&path, "it is missing")),
            Some(text) if text.ok().and_then(LeaderEpochs::parse).is_none() => {
                self.findings.push(rebuildable(&path, "it holds no epochs"));
            }
            Some(_) => {}
        }
        let path = self.place.dir.join(topic_id::FILE_NAME);
        match topic_id::read(storage, &self.place.dir)? {
            Stored::Missing => self.findings.push(rebuildable(&path, "it is missing")),
            Stored::Unreadable => self.findings.push(rebuildable(&path, "it holds no topic id")),
            Stored::Id(id) if id != self.id.topic => {
                let reason = format!(
                    "it names topic {id}, and not {}: restore the directory from a copy, or accept it \
                     by a repair",
                    self.id.topic
                );
                self.findings.push(Finding::of_file(FindingKind::Doubtful, &path, &reason));
                self.other_topic_id = Some(id);
            }
            Stored::Id(_) => {}
        }
        Ok(())
    }

    /// Compares what a snapshot says of producers with what the batches in front of it say.
    fn compare_snapshot(&mut self, storage: &dyn Storage, base_offset: Offset) -> Result<()> {
        let dir = &self.place.dir;
        let path = snapshot::path(dir, base_offset);
        if !storage.exists(&path).map_err(|e| Error::io(&path, "look for", e))? {
            return Ok(());
        }
        let Some(stored) = snapshot::read(storage, dir, base_offset)? else {
            self.findings.push(rebuildable(&path, "its checksum does not fit"));
            return Ok(());
        };
        // It may well know batches that are gone by now.
        let differs = |id: ProducerId, last: Offset| {
            let entry = stored.get(id).and_then(|entry| entry.batches.back());
            entry.is_some_and(|batch| batch.last_offset < last)
        };
        let of_batches = self.replay.producers.iter();
        let wrong = of_batches
            .filter_map(|(id, entry)| Some((id, entry.batches.back()?.last_offset)))
            .find(|(id, last)| differs(*id, *last));
        if let Some((id, _)) = wrong {
            let reason = format!("it does not know the last batch of producer {id}");
            self.findings.push(Finding::of_file(FindingKind::Doubtful, &path, &reason));
        }
        Ok(())
    }

    /// What earlier recoveries and repairs have put aside.
    fn note_kept(&mut self, storage: &dyn Storage) -> Result<()> {
        let dir: PathBuf = self.place.dir.clone();
        for name in storage.list(&dir).map_err(|e| Error::io(&dir, "list", e))? {
            if name.ends_with(".quarantine") {
                let why = "bytes that were taken out; nothing needs them";
                self.findings.push(Finding::of_file(FindingKind::Kept, &dir.join(name), why));
            }
        }
        Ok(())
    }
}
