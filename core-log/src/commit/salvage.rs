//! What can still be read of damaged commit records, and the records that take their place.
//!
//! Why: a commit that lies behind damage was acknowledged like any other; only what is gone may be lost.
//!
//! ```text
//!   | snapshot | commit |xxxxxx| commit | ...    every whole record counts, wherever it lies
//!        +---------+--------------+
//!                  v
//!   one snapshot in a new file; the old bytes stay in quarantine
//! ```
//!
//! Invariants
//! * The old bytes are durable in a file of their own before anything takes their place.
//! * The new file begins behind every offset that any marker or witness names, so that what proves the
//!   old records proves nothing of the new ones.
//!
//! On crash: the plan is made again from what is there; the copy is made a second time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::PRODUCER_ID_BLOCK;
use super::journal::{Contents, Journal, next_record};
use super::offsets::OffsetTable;
use super::record::{CommitRecord, CommitsRecord, PartitionOffset, Snapshot};
use crate::error::{Error, Result};
use crate::format::BatchHeader;
use crate::ids::{
    GroupId, Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition, TransactionalId,
};
use crate::partition::text_file;
use crate::storage::Storage;

/// What is left of damaged commit records.
#[derive(Clone, Debug)]
pub(crate) struct Salvage {
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) records: Vec<(Offset, CommitsRecord)>,
    /// Bytes that are no record.
    pub(crate) bad_bytes: u64,
    /// The offset behind the last record that can be read.
    pub(crate) next_offset: Offset,
}

/// A transaction that a marker in one partition proves to be committed, and that is open in others.
#[derive(Clone, Debug)]
pub(crate) struct Proven {
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) written: Vec<PartitionOffset>,
}

/// Finds every whole record, also behind damage.
pub(crate) fn salvage(contents: &Contents) -> Salvage {
    let bytes = &contents.bytes;
    let mut found = Salvage { snapshot: None, records: Vec::new(), bad_bytes: 0, next_offset: 0 };
    let mut at = 0;
    while at < bytes.len() {
        let header = BatchHeader::parse(&bytes[at..]).ok();
        let record = header.and_then(|header| {
            let (record, length) = next_record(bytes, at, header.base_offset).ok()?;
            Some((header.base_offset, record, length))
        });
        let Some((offset, record, length)) = record else {
            at += 1;
            found.bad_bytes += 1;
            continue;
        };
        at += length;
        found.next_offset = found.next_offset.max(offset + 1);
        match record {
            CommitsRecord::Snapshot(snapshot) => found.snapshot = Some(snapshot),
            other => found.records.push((offset, other)),
        }
    }
    found
}

impl Salvage {
    /// The groups of which something can still be read.
    pub(crate) fn groups(&self) -> BTreeSet<GroupId> {
        let kept = self.snapshot.iter().flat_map(|snapshot| &snapshot.offsets);
        let kept = kept.map(|stored| stored.commit.group.clone());
        let of_commits = self.commits().flat_map(|(_, commit)| &commit.offsets);
        kept.chain(of_commits.map(|offset| offset.group.clone())).collect()
    }

    fn commits(&self) -> impl Iterator<Item = (Offset, &CommitRecord)> {
        let live = self.snapshot.iter().flat_map(|snapshot| &snapshot.live);
        let live = live.map(|(at, commit)| (*at, commit));
        live.chain(self.records.iter().filter_map(|(at, record)| match record {
            CommitsRecord::Commit(commit) => Some((*at, commit)),
            _ => None,
        }))
    }

    /// Whether a record that can be read decides this transaction.
    pub(crate) fn decides(&self, producer_id: ProducerId, epoch: ProducerEpoch) -> bool {
        self.commits().any(|(_, c)| c.producer_id == producer_id && c.producer_epoch == epoch)
    }

    /// The snapshot that takes the place of all this, to be written at `at`.
    pub(crate) fn rebuild(
        &self,
        at: Offset,
        synced: &BTreeMap<TopicPartition, Offset>,
        proven: &[Proven],
        producer_id_max: i64,
    ) -> Snapshot {
        let kept = self.snapshot.clone().unwrap_or_default();
        let mut producer_ids_end =
            kept.producer_ids_end.max(producer_id_max.saturating_add(1 + PRODUCER_ID_BLOCK));
        for (_, record) in &self.records {
            if let CommitsRecord::ProducerIds { end, .. } = record {
                producer_ids_end = producer_ids_end.max(*end);
            }
        }
        let live: BTreeMap<Offset, CommitRecord> =
            self.commits().map(|(at, commit)| (at, commit.clone())).collect();
        let mut witnesses = synced.clone();
        let of_commits = live.values().flat_map(|commit| &commit.witnesses);
        for known in kept.witnesses.iter().chain(of_commits) {
            // A partition that was repaired ends where it ends, whatever was known of it.
            witnesses.entry(known.partition).or_insert(known.offset);
        }
        let offsets = OffsetTable::from_snapshot(kept.offsets);
        let proven = proven.iter().zip(at - i64::try_from(proven.len()).unwrap_or(0)..);
        let proven = proven.map(|(proven, at)| (at, proven.record()));
        Snapshot {
            // No start of the machine has this name: whatever was not synced may be gone.
            boot_id: String::new(),
            producer_ids_end,
            offsets: offsets.iter().cloned().collect(),
            witnesses: witnesses
                .into_iter()
                .map(|(partition, offset)| PartitionOffset { partition, offset })
                .collect(),
            live: live.into_iter().chain(proven).collect(),
        }
    }
}

impl Proven {
    fn record(&self) -> CommitRecord {
        CommitRecord {
            transactional_id: TransactionalId::new("proven-by-a-marker")
                .expect("the name follows the rules"),
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            survives_power_loss: true,
            commits_synced: 0,
            written: self.written.clone(),
            witnesses: Vec::new(),
            offsets: Vec::new(),
        }
    }
}

/// Puts `snapshot` in the place of damaged commit records; answers where the old bytes are.
pub(crate) fn replace(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    contents: &Contents,
    snapshot: Snapshot,
    at: Offset,
    now: Timestamp,
) -> Result<Option<PathBuf>> {
    storage.create_dir_all(dir).map_err(|e| Error::io(dir, "create", e))?;
    let above = dir.parent().unwrap_or(dir);
    storage.sync_dir(above).map_err(|e| Error::io(above, "sync", e))?;
    let kept = if contents.bytes.is_empty() {
        None
    } else {
        let stem = contents.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("journal");
        let name = text_file::unused(storage.as_ref(), dir, stem)?;
        text_file::replace(storage.as_ref(), dir, &name, &contents.bytes)?;
        Some(dir.join(name))
    };
    // Must be AFTER the copy is durable: this removes the file that it replaces.
    Journal::create(storage, dir, snapshot, at, now)?;
    Ok(kept)
}
