//! Does what a plan says.
//!
//! Why step by step: a crash may come in between, and the next plan begins with what it finds.
//!
//! ```text
//!   bad bytes -> quarantine, synced -> the seal is set aside -> good bytes, markers and fillers
//!     -> NAME.repair, synced -> renamed to NAME, synced -> the seal goes
//!   the next start makes seal and indexes again
//! ```
//!
//! Invariants
//! * A file is replaced as a whole, by a rename, after what it loses is durable elsewhere.
//! * The seal goes last: it proves how transactions ended whose markers are lost, until these are back.
//!
//! On crash: before the rename the old file is there, behind it the new one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::partition::Doubt;
use super::plan::{Fill, RepairPlan, Work};
use crate::commit::salvage;
use crate::error::{Error, Result};
use crate::format::filler::filler;
use crate::format::{ControlType, EndTransactionMarker, Stamp};
use crate::ids::{LogId, Offset, ProducerEpoch};
use crate::log::directory::{self, COMMITS_DIR};
use crate::partition::trim::{LOG_START_FILE, log_start_text};
use crate::partition::{text_file, topic_id};
use crate::segment::{Examined, Place};
use crate::storage::{File, Storage};

/// How much is copied at once.
const CHUNK_BYTES: usize = 1 << 20;
/// No batch spans more offsets.
const SPAN_MAX: Offset = i32::MAX as Offset;

impl RepairPlan {
    /// Does it; answers the files that hold what was taken out. The log can be opened afterwards.
    ///
    /// # Errors
    ///
    /// What the disk says: what was done stays done, and a new plan holds the rest.
    pub fn execute(self) -> Result<Vec<PathBuf>> {
        let mut kept = Vec::new();
        for (action, work) in self.actions.iter().zip(&self.works) {
            tracing::info!(%action, "repair");
            self.run(work, &mut kept)?;
        }
        Ok(kept)
    }

    fn run(&self, work: &Work, kept: &mut Vec<PathBuf>) -> Result<()> {
        let owned = &self.look.owned;
        let (storage, dir) = (owned.storage.as_ref(), &*owned.dir);
        match work {
            Work::Segment { place, segment, holes } => {
                take_out(storage, place, segment, holes, kept)
            }
            Work::Seal { path } => remove(storage, path),
            Work::Make { place, fill } => make(storage, place, fill),
            Work::Begin { place, at } => begin(storage, dir, place, *at),
            Work::LogStart { place, at } => {
                keep_aside(storage, &place.dir, LOG_START_FILE, kept)?;
                text_file::write(storage, &place.dir, LOG_START_FILE, &log_start_text(place, *at))
            }
            Work::TopicId { place, id } => {
                keep_aside(storage, &place.dir, topic_id::FILE_NAME, kept)?;
                topic_id::write(storage, &place.dir, *id)
            }
            Work::Topics => {
                keep_aside(storage, dir, "topics.checkpoint", kept)?;
                directory::write_topics(storage, dir, self.look.topics.iter())
            }
            Work::Commits { synced } => {
                self.sync_partitions()?;
                let commits = &self.look.commits;
                let at = commits.next_offset + i64::try_from(commits.proven.len()).unwrap_or(0) + 1;
                let snapshot =
                    commits.salvage.rebuild(at, synced, &commits.proven, commits.producer_id_max);
                let (contents, now) = (&commits.loaded.contents, owned.clock.now_ms());
                let commits_dir = dir.join(COMMITS_DIR);
                let old =
                    salvage::replace(&owned.storage, &commits_dir, contents, snapshot, at, now)?;
                kept.extend(old);
                Ok(())
            }
            Work::Id => {
                keep_aside(storage, dir, "meta.properties", kept)?;
                let mut random = [0; 16];
                storage
                    .random_bytes(&mut random)
                    .map_err(|e| Error::io(dir, "make an id for", e))?;
                directory::write_meta(storage, dir, LogId::from_random(random))
            }
        }
    }

    /// The new commit records witness all that is good, also where nobody knows what was synced.
    fn sync_partitions(&self) -> Result<()> {
        let storage = self.look.owned.storage.as_ref();
        for look in self.look.partitions.iter().filter(|look| look.is_witness_lost()) {
            let Some(last) = look.segments.last() else { continue };
            let file = storage.open(&last.path).map_err(|e| Error::io(&last.path, "open", e))?;
            file.sync().map_err(|e| Error::io(&last.path, "sync", e))?;
        }
        Ok(())
    }
}

/// Copies a file that is about to be replaced, if there is one.
fn keep_aside(
    storage: &dyn Storage,
    dir: &Path,
    name: &str,
    kept: &mut Vec<PathBuf>,
) -> Result<()> {
    if let Some(bytes) = text_file::read_bytes(storage, &dir.join(name))? {
        let aside = text_file::unused(storage, dir, name)?;
        text_file::replace(storage, dir, &aside, &bytes)?;
        kept.push(dir.join(aside));
    }
    Ok(())
}

fn take_out(
    storage: &dyn Storage,
    place: &Place,
    segment: &Examined,
    holes: &[Fill],
    kept: &mut Vec<PathBuf>,
) -> Result<()> {
    let (dir, path) = (&place.dir, &segment.path);
    let read = |e| Error::io(path, "read", e);
    let log = storage.open_read_only(path).map_err(|e| Error::io(path, "open", e))?;
    for hole in holes.iter().filter(|hole| hole.bytes > 0) {
        let stem = format!("{:020}.{}", segment.base_offset, hole.position);
        let aside = dir.join(text_file::unused(storage, dir, &stem)?);
        let file = storage.create(&aside).map_err(|e| Error::io(&aside, "create", e))?;
        copy(&*log, hole.position, hole.bytes, &*file, &mut 0)
            .map_err(|e| Error::io(&aside, "write", e))?;
        file.sync().map_err(|e| Error::io(&aside, "sync", e))?;
        kept.push(aside);
    }
    let seal = &segment.seal_path;
    let aside = PathBuf::from(format!("{}.repair", seal.display()));
    if storage.exists(seal).map_err(|e| Error::io(seal, "look for", e))? {
        storage.rename(seal, &aside).map_err(|e| Error::io(seal, "rename", e))?;
    }
    // Must be BEFORE the file is replaced: the copies are durable, and no seal speaks of another file.
    storage.sync_dir(dir).map_err(|e| Error::io(dir, "sync", e))?;
    let len = log.len().map_err(read)?;
    replace(storage, path, |file| {
        let (mut from, mut to) = (0, 0);
        for hole in holes {
            copy(&*log, from, hole.position - from, file, &mut to)?;
            put(file, &hole.batches(), &mut to)?;
            from = hole.position + hole.bytes;
        }
        copy(&*log, from, len - from, file, &mut to)
    })?;
    // Must be AFTER the file is replaced: with the seal goes what is known of markers that are lost.
    remove(storage, &aside)
}

fn remove(storage: &dyn Storage, path: &Path) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    if storage.exists(path).map_err(|e| Error::io(path, "look for", e))? {
        storage.remove_file(path).map_err(|e| Error::io(path, "remove", e))?;
    }
    storage.sync_dir(dir).map_err(|e| Error::io(dir, "sync", e))
}

/// A segment that is missing: of batches without records, if any were in it.
fn make(storage: &dyn Storage, place: &Place, fill: &Fill) -> Result<()> {
    let mut first = fill.first;
    loop {
        let next = fill.next.min(first + SPAN_MAX);
        let path = place.dir.join(format!("{first:020}.log"));
        let piece = Fill {
            first,
            next,
            doubts: if first == fill.first { fill.doubts.clone() } else { Vec::new() },
            ..*fill
        };
        // One that outlived its file speaks of another.
        remove(storage, &place.dir.join(format!("{first:020}.seal")))?;
        replace(storage, &path, |file| put(file, &piece.batches(), &mut 0))?;
        if next == fill.next {
            return Ok(());
        }
        first = next;
    }
}

/// A partition of which nothing is left goes on where it was synced.
fn begin(storage: &dyn Storage, top: &Path, place: &Place, at: Offset) -> Result<()> {
    let dir = &place.dir;
    storage.create_dir_all(dir).map_err(|e| Error::io(dir, "create", e))?;
    storage.sync_dir(top).map_err(|e| Error::io(top, "sync", e))?;
    text_file::write(storage, dir, LOG_START_FILE, &log_start_text(place, at))?;
    replace(storage, &dir.join(format!("{at:020}.log")), |_file| Ok(()))
}

/// Puts a new file in the place of `path`.
fn replace(
    storage: &dyn Storage,
    path: &Path,
    write: impl Fn(&dyn File) -> std::io::Result<()>,
) -> Result<()> {
    let aside = PathBuf::from(format!("{}.repair", path.display()));
    if storage.exists(&aside).map_err(|e| Error::io(&aside, "look for", e))? {
        storage.remove_file(&aside).map_err(|e| Error::io(&aside, "remove", e))?;
    }
    let file: Arc<dyn File> = storage.create(&aside).map_err(|e| Error::io(&aside, "create", e))?;
    write(&*file).map_err(|e| Error::io(&aside, "write", e))?;
    file.sync().map_err(|e| Error::io(&aside, "sync", e))?;
    storage.rename(&aside, path).map_err(|e| Error::io(path, "rename", e))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    storage.sync_dir(dir).map_err(|e| Error::io(dir, "sync", e))
}

fn put(file: &dyn File, bytes: &[u8], at: &mut u64) -> std::io::Result<()> {
    file.write_all_at(bytes, *at)?;
    *at += bytes.len() as u64;
    Ok(())
}

fn copy(from: &dyn File, at: u64, len: u64, to: &dyn File, end: &mut u64) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut done = 0;
    while done < len {
        let take = usize::try_from(len - done).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        from.read_exact_at(&mut buffer[..take], at + done)?;
        put(to, &buffer[..take], end)?;
        done += take as u64;
    }
    Ok(())
}

impl Fill {
    /// Markers for transactions that ended here, and batches without records for the other offsets.
    fn batches(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut at = self.first;
        for doubt in &self.doubts {
            if at < self.next {
                bytes.extend_from_slice(&marker(doubt, at, self.leader_epoch));
                at += 1;
            }
        }
        while at < self.next {
            let next = self.next.min(at + SPAN_MAX);
            bytes.extend_from_slice(&filler(at, next, self.leader_epoch));
            at = next;
        }
        bytes
    }
}

/// Ends a transaction whose marker is lost. It proves no commit record.
fn marker(doubt: &Doubt, at: Offset, leader_epoch: i32) -> Vec<u8> {
    let control_type = doubt.ended.unwrap_or(ControlType::Abort);
    let mut batch = EndTransactionMarker { control_type, coordinator_epoch: 0 }.to_batch(-1);
    batch.stamp(&Stamp {
        base_offset: at,
        leader_epoch,
        attributes: EndTransactionMarker::ATTRIBUTES,
        producer_id: doubt.producer_id,
        producer_epoch: ProducerEpoch(doubt.producer_epoch.0.saturating_add(1)),
        base_sequence: -1,
    });
    batch.bytes().to_vec()
}
