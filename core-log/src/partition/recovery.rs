//! Opening a partition: what is there is proven or rebuilt, a torn tail is cut, damage is named.
//!
//! ```text
//!   log-start-offset -> remove segments below it -> sealed segments by their seals
//!     -> producers from the newest snapshot that proves itself, else from the batches behind an older one
//!     -> active segment: kept below the witness, rewritten and synced beyond it, cut at the first bad batch
//!     -> leader epoch raised when something may have been lost
//! ```
//!
//! Why one path: a new, a cleanly closed, a killed and a damaged partition differ only in what is
//! found.
//!
//! Invariants
//! * Below the witness nothing is cut: the partition is then readable up to the damage only.
//! * The epoch is raised before anything is appended, whenever offsets could be given away twice.
//! * Everything that is served is on the disk when this returns.
//! * The files of the log start and of the epochs are there from the beginning on, so that one that is
//!   missing is noticed.
//!
//! On crash: every step can be done again; the raise is repeated as long as the log has not recorded
//! that it was recovered in this start of the machine.
//! Reference: Kafka `LogLoader`.

use std::path::Path;
use std::sync::Arc;

use crate::locks::{Mutex, RwLock};

use super::first_files;
use super::leader_epochs::{self, LeaderEpochs};
use super::promises::Promises;
use super::replay::Replay;
use super::sync_group::SyncGroup;
use super::text_file::{self, Text};
use super::trim::{LOG_START_FILE, parse_log_start};
use super::unrecorded::{Recorded, Search, UnrecordedMarkers};
use super::upkeep::Upkeep;
use super::{Partition, PartitionOptions, Shared, Writer, snapshot};
use crate::error::{Error, Result};
use crate::ids::{Offset, TopicPartition};
use crate::segment::cleaned;
use crate::segment::{
    Damage, Place, Recovered, Segment, SegmentWriter, TailReport, WITNESS_LOST, recover_active,
};

/// What opening a partition needs to know.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    pub(crate) id: TopicPartition,
    pub(crate) place: Arc<Place>,
    pub(crate) options: PartitionOptions,
    /// Below this offset everything was synced; [`WITNESS_LOST`] when nobody knows.
    pub(crate) witness: Offset,
    /// What was not synced may be gone without a trace: the machine has been started again.
    pub(crate) may_have_lost: bool,
    /// The partition is being made: nothing of it needs to be there.
    pub(crate) is_new: bool,
    /// Below this offset another log wrote it: its producers are not those of this log, and what its
    /// markers say is about its own commits.
    pub(crate) adopted_below: Offset,
    /// The commits that have a record; `None` when nobody knows, or nobody asks.
    pub(crate) recorded: Option<Recorded>,
}

/// What opening a partition found.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) partition: Partition,
    pub(crate) tail: TailReport,
    /// The file that keeps the log start cannot be believed.
    pub(crate) log_start_lost: bool,
    /// The largest producer id in any batch that was looked at, and in the snapshots.
    pub(crate) producer_id_max: i64,
    /// The largest claim of a commit marker that a commit record was synced; see `commit`.
    pub(crate) commit_claim: i32,
    /// Commit markers that no witness covers and that have no commit record.
    pub(crate) unrecorded: Option<UnrecordedMarkers>,
}

/// Opens, and recovers if needed, one partition.
///
/// # Errors
///
/// What the disk says. Damage is not an error: the partition says so itself.
pub(crate) fn open(shared: &Shared, request: OpenRequest) -> Result<Opened> {
    let storage = &shared.storage;
    let dir = &request.place.dir;
    let is_there = storage.exists(dir).map_err(|e| Error::io(dir, "look for", e))?;
    if !is_there && !request.is_new {
        // Must not be made again, or else nobody would miss what was in it.
        let damage = Some(missing(dir, 0, "its directory is missing too"));
        let found = Found { damage, ..Found::default() };
        let upkeep = Upkeep::open(shared, &request.place, false)?;
        let replay = Replay::new(0, Some(LeaderEpochs::default()));
        return found.finish(shared, request, replay, upkeep);
    }
    storage.create_dir_all(dir).map_err(|e| Error::io(dir, "create", e))?;
    cleaned::settle(storage, &request.place)?;
    let mut bases = Segment::list(storage.as_ref(), &request.place)?;
    let is_compacted = request.options.compaction.is_some();
    if request.is_new && bases.is_empty() {
        let topic = request.id.topic;
        first_files::create(storage.as_ref(), &request.place, topic, is_compacted)?;
    }
    let stored = read_log_start(shared, &request)?;
    // A start that cannot be read is where the files begin.
    let log_start = stored.unwrap_or_else(|| bases.first().copied().unwrap_or(0));
    if stored.is_some() {
        remove_below(shared, &request, &mut bases, log_start)?;
    }
    let mut replay = Replay::new(shared.clock.now_ms(), read_epochs(shared, &request)?);
    replay.adopted_below = request.adopted_below;
    let log_start_lost = stored.is_none();
    let mut found = Found { log_start, log_start_lost, ..Found::default() };
    let witness = request.witness.max(log_start);
    replay.search = Search::new(request.recorded.clone(), witness.max(request.adopted_below));
    let upkeep = Upkeep::open(shared, &request.place, is_compacted)?;
    if let Some(&first) = bases.first().filter(|first| **first > log_start) {
        // Must not be taken for a later start: that is written down before a segment goes.
        found.damage = Some(missing(dir, log_start, &format!("the log goes on at offset {first}")));
    } else if let Some((&last, sealed)) = bases.split_last() {
        found.open_sealed(shared, &request, sealed, last, upkeep.gaps_below())?;
        found.load_producers(shared, &request, last, &mut replay)?;
        if found.damage.is_none() {
            found.open_active(shared, &request, last, witness, &mut replay)?;
        }
    } else if !request.is_new {
        // The first segment is on the disk before a topic is in the list.
        let reason = match witness {
            WITNESS_LOST => "a partition has one from the beginning on".to_owned(),
            witness => format!("the log was synced up to offset {witness}"),
        };
        found.damage = Some(missing(dir, log_start, &reason));
    } else {
        let writer =
            SegmentWriter::create(storage, &request.place, log_start, request.options.segment)?;
        found.segments.push(Arc::clone(writer.segment()));
        found.writer = Some(writer);
    }
    found.finish(shared, request, replay, upkeep)
}

fn missing(dir: &Path, base_offset: Offset, why: &str) -> Damage {
    let path = dir.join(format!("{base_offset:020}.log"));
    let reason = format!("the file is missing: {why}");
    Damage { path, position: 0, offset: base_offset, reason }
}

/// Where the log starts; `None` when the file cannot be believed, or is missing.
fn read_log_start(shared: &Shared, request: &OpenRequest) -> Result<Option<Offset>> {
    let path = request.place.dir.join(LOG_START_FILE);
    let stored = match text_file::read(shared.storage.as_ref(), &path)? {
        Text::Proven(text) => parse_log_start(&request.place, &text),
        // Only who brings files that this log did not write has none.
        Text::Missing if request.is_new => Some(0),
        Text::Missing | Text::Damaged => None,
    };
    Ok(stored)
}

/// Segments wholly below the log start are leftovers of a removal that did not finish.
fn remove_below(
    shared: &Shared,
    request: &OpenRequest,
    bases: &mut Vec<Offset>,
    log_start: Offset,
) -> Result<()> {
    let gone = bases.windows(2).take_while(|pair| pair[1] <= log_start).count();
    let below = bases.get(gone).map_or(log_start, |first_kept| log_start.min(*first_kept));
    bases.drain(..gone);
    Segment::remove_files_below(shared.storage.as_ref(), &request.place, below)
}

/// The epochs of the file; `None` when it must be made again.
fn read_epochs(shared: &Shared, request: &OpenRequest) -> Result<Option<LeaderEpochs>> {
    let path = request.place.dir.join(leader_epochs::FILE_NAME);
    let Some(bytes) = text_file::read_bytes(shared.storage.as_ref(), &path)? else {
        return Ok(request.is_new.then(LeaderEpochs::default));
    };
    Ok(std::str::from_utf8(&bytes).ok().and_then(LeaderEpochs::parse))
}

/// What is there.
#[derive(Debug, Default)]
struct Found {
    log_start: Offset,
    log_start_lost: bool,
    segments: Vec<Arc<Segment>>,
    /// Sealed segments whose index of aborted transactions must be made again.
    aborted_lost: Vec<Offset>,
    writer: Option<SegmentWriter>,
    tail: TailReport,
    damage: Option<Damage>,
}

impl Found {
    fn open_sealed(
        &mut self,
        shared: &Shared,
        request: &OpenRequest,
        sealed: &[Offset],
        last: Offset,
        gaps_below: Offset,
    ) -> Result<()> {
        for (index, &base) in sealed.iter().enumerate() {
            let next = sealed.get(index + 1).copied().unwrap_or(last);
            let (storage, place) = (&shared.storage, &request.place);
            let options = request.options.segment;
            let opened = if base < gaps_below {
                Segment::open_compacted(storage, place, (base, next), gaps_below, options)?
            } else {
                Segment::open_sealed(storage, place, base, options)?
            };
            if opened.aborted_lost {
                self.aborted_lost.push(base);
            }
            let end = opened.segment.end_offset();
            let size = opened.segment.size();
            self.segments.push(opened.segment);
            self.damage = opened.damage.or_else(|| {
                (end != next).then(|| Damage {
                    path: request.place.dir.join(format!("{base:020}.log")),
                    position: size,
                    offset: end,
                    reason: format!("the next segment begins at offset {next}"),
                })
            });
            if self.damage.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Finds out what was known of the producers at the base of the active segment, or where damage
    /// begins: what is open there must not be seen, as nobody knows its fate.
    fn load_producers(
        &mut self,
        shared: &Shared,
        request: &OpenRequest,
        last: Offset,
        replay: &mut Replay,
    ) -> Result<()> {
        let (storage, dir) = (shared.storage.as_ref(), &request.place.dir);
        let first_base = self.segments.first().map_or(last, |segment| segment.base_offset());
        let last_base = match (&self.damage, self.segments.last()) {
            (Some(_), Some(damaged)) => damaged.base_offset(),
            _ => last,
        };
        let first_doubtful =
            if replay.epochs_lost { Some(first_base) } else { self.aborted_lost.first().copied() };
        let usable = |base: Offset| first_doubtful.is_none_or(|doubtful| base <= doubtful);
        // One that lies elsewhere was left by a close, for who reads closed logs: it knows nothing of what
        // was written behind it.
        let is_base = |base| base == last || self.segments.iter().any(|s| s.base_offset() == base);
        let mut from = 0;
        for base in snapshot::list(storage, dir)?.into_iter().rev() {
            if base > last && self.damage.is_none() {
                snapshot::remove(storage, dir, base)?;
            }
            // One that compaction left in the middle of a segment would hide what lies behind it there.
            if base > last_base || !is_base(base) || !usable(base) {
                continue;
            }
            if let Some(producers) = snapshot::read(storage, dir, base)? {
                replay.start_from(producers);
                if base > replay.adopted_below {
                    // It is of this log, which had forgotten the others by then.
                    replay.adopted_below = 0;
                }
                from = base;
                break;
            }
        }
        for index in 0..self.segments.len() {
            let segment = Arc::clone(&self.segments[index]);
            if segment.base_offset() < from {
                if request.may_have_lost {
                    replay.search_sealed(&segment)?;
                }
                continue;
            }
            if index > 0 {
                snapshot::write_if_lost(storage, dir, segment.base_offset(), &replay.producers)?;
            }
            let (aborted, damage) = replay.segment(&segment)?;
            if self.aborted_lost.contains(&segment.base_offset()) {
                segment.replace_aborted(aborted)?;
            }
            if damage.is_some() {
                self.damage = damage;
                self.segments.truncate(index + 1);
                break;
            }
        }
        if self.damage.is_none() && !self.segments.is_empty() {
            snapshot::write_if_lost(storage, dir, last, &replay.producers)?;
        }
        Ok(())
    }

    fn open_active(
        &mut self,
        shared: &Shared,
        request: &OpenRequest,
        last: Offset,
        witness: Offset,
        replay: &mut Replay,
    ) -> Result<()> {
        let options = request.options.segment;
        let recovered = recover_active(
            &shared.storage,
            &request.place,
            last,
            witness.max(last),
            options,
            &mut |header, marker| replay.visit(header, marker),
        )?;
        match recovered {
            Recovered::Writable { mut writer, report } => {
                for aborted in replay.aborted.drain(..) {
                    writer.append_aborted(aborted);
                }
                self.segments.push(Arc::clone(writer.segment()));
                self.tail = report;
                self.writer = Some(writer);
            }
            Recovered::Damaged { segment, damage } => {
                segment.replace_aborted(std::mem::take(&mut replay.aborted))?;
                self.segments.push(segment);
                self.damage = Some(damage);
            }
        }
        Ok(())
    }

    fn finish(
        self,
        shared: &Shared,
        request: OpenRequest,
        mut replay: Replay,
        upkeep: Upkeep,
    ) -> Result<Opened> {
        let log_end = match &self.damage {
            Some(damage) => damage.offset,
            None => self.segments.last().map_or(self.log_start, |segment| segment.end_offset()),
        };
        // Epochs that are made again from the batches lack one that has written none yet.
        let is_doubtful = request.may_have_lost || self.tail.cut_bytes > 0 || replay.epochs_lost;
        let must_raise = self.damage.is_none() && is_doubtful;
        if must_raise {
            replay.epochs.raise(log_end);
        }
        if must_raise || replay.epochs_lost {
            let text = replay.epochs.to_text();
            let (storage, dir) = (shared.storage.as_ref(), &request.place.dir);
            text_file::replace(storage, dir, leader_epochs::FILE_NAME, text.as_bytes())?;
        }
        if self.damage.is_none() {
            replay.forget_adopted(log_end);
        }
        let first_open = replay.producers.first_open_offset();
        let last_stable = super::open_transactions::last_stable_offset(first_open, log_end);
        let partition = Partition {
            id: request.id,
            place: request.place,
            shared: shared.clone(),
            options: RwLock::new(request.options),
            writer: Mutex::new(Writer {
                log: self.writer,
                producers: replay.producers,
                promises: Promises::default(),
                sync_due: None,
            }),
            segments: RwLock::new(Arc::new(self.segments)),
            trimming: Mutex::new(()),
            upkeep,
            log_start: self.log_start.into(),
            last_stable: last_stable.into(),
            high_watermark: log_end.into(),
            log_end: log_end.into(),
            // Recovery has synced all that it kept. A damaged partition keeps its witness, or else the
            // next start could take the damage for a torn tail.
            syncs: SyncGroup::new(match request.witness {
                WITNESS_LOST => log_end,
                witness => log_end.max(witness),
            }),
            epochs: replay.epochs,
            damage: self.damage,
        };
        Ok(Opened {
            partition,
            tail: self.tail,
            log_start_lost: self.log_start_lost,
            producer_id_max: replay.producer_id_max,
            commit_claim: replay.commit_claim,
            unrecorded: replay.search.found(),
        })
    }
}
