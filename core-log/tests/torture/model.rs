//! What the writers of a workload were told, and what must be there after a start.
//!
//! ```text
//!   attempts, in the order in which they were made        what a reader of committed records sees
//!   batch 0  plain   acknowledged at 0..2      ----->     0 1 2
//!   batch 1  txn 0   acknowledged at 3         ----->     3      if txn 0 was committed
//!   batch 2  plain   in doubt                  ----->     -      or at the next offsets
//! ```
//!
//! Why nothing of how a log works: a checker that shares a rule with what it checks shares its
//! mistakes. It knows offsets, acknowledgements and what they promise.
//!
//! Invariants
//! * Each record has a value of its own, so that one that is there twice, or in another place, shows.
//! * What a start has shown is a fact: no later end of the process or the machine may take it away.

mod kept;
mod keyed;
mod reader;

use std::collections::{BTreeMap, BTreeSet};

use core_log::{Offset, Timestamp};

pub(crate) use kept::{OLD_RETENTION_BYTES, OLD_RETENTION_MS};
use keyed::Compaction;
pub(crate) use keyed::KEYED_RETENTION_MS;
use reader::Reader;

/// Topics and partitions of the workloads.
pub(crate) const PARTITIONS: [(&str, u32); 7] =
    [("in", 0), ("out", 0), ("out", 1), ("trim", 0), ("busy", 0), ("keyed", 0), ("old", 0)];
pub(crate) const IN: usize = 0;
pub(crate) const OUT: usize = 1;
pub(crate) const TRIM: usize = 3;
/// It is compacted, and this one keeps little.
pub(crate) const KEYED: usize = 5;
pub(crate) const OLD: usize = 6;

/// The group whose transactions copy `in` to `out`, `Sync`; and one whose commits are not synced.
pub(crate) const JOB: &str = "job";
pub(crate) const IDLE: &str = "idle";
/// A group that reads and commits, `Sync`.
pub(crate) const READERS: &str = "readers";

/// How the log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In order, or the process was killed: what was written is there.
    Killed,
    /// The power went: what was synced is there.
    PowerCut,
}

/// What a writer knows of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Open,
    Aborted,
    Committed,
    /// The commit failed: recovery decides.
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) struct Txn {
    pub(crate) group: &'static str,
    pub(crate) is_sync: bool,
    pub(crate) fate: Fate,
    /// When it began.
    at: Timestamp,
    /// Committed positions, by the index of their partition.
    pub(crate) positions: BTreeMap<usize, Offset>,
    is_settled: bool,
}

/// One append that was tried.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) part: usize,
    pub(crate) values: Vec<String>,
    pub(crate) txn: Option<usize>,
    /// Its first offset, once that was acknowledged.
    pub(crate) first: Option<Offset>,
    /// When it was written.
    pub(crate) at: Timestamp,
}

impl Batch {
    fn end(&self) -> Option<Offset> {
        let count = Offset::try_from(self.values.len()).expect("a few");
        self.first.map(|first| first + count)
    }
}

/// What a reader sees of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    pub(crate) records: BTreeMap<Offset, String>,
}

/// What a log shows after a start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) parts: Vec<Seen>,
    /// Positions by group and partition.
    pub(crate) positions: BTreeMap<&'static str, BTreeMap<usize, Offset>>,
}

impl Shown {
    /// Whether a batch lies below the start of its partition, as far as is known.
    fn has_deleted(&self, batch: &Batch) -> bool {
        let start = self.parts[batch.part].start;
        start > 0 && batch.end().is_none_or(|end| end <= start)
    }
}

impl Seen {
    /// The records of a batch that are not there.
    fn missing(&self, batch: &Batch) -> Vec<String> {
        let first = batch.first.expect("it has an offset");
        let offsets = (first..).zip(&batch.values);
        let missing = offsets.filter(|(offset, _)| !self.records.contains_key(offset));
        missing.map(|(_, value)| value.clone()).collect()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) batches: Vec<Batch>,
    pub(crate) txns: Vec<Txn>,
    /// Offsets below these survive a power cut.
    floor: [Offset; PARTITIONS.len()],
    /// Offsets below these survive a kill.
    written: [Offset; PARTITIONS.len()],
    /// Records below these were deleted, for sure and at most.
    pub(crate) deleted: [Offset; PARTITIONS.len()],
    pub(crate) deleted_tried: [Offset; PARTITIONS.len()],
    /// That of `OLD` before the last maintenance.
    deleted_before: Offset,
    /// What the writers' clock shows.
    pub(crate) now: Timestamp,
    compaction: Compaction,
    reader: Reader,
    positions: BTreeMap<&'static str, BTreeMap<usize, Offset>>,
    gone: BTreeSet<String>,
    /// What showed before the end.
    wrong: Option<String>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            batches: Vec::new(),
            txns: Vec::new(),
            floor: [0; PARTITIONS.len()],
            written: [0; PARTITIONS.len()],
            deleted: [0; PARTITIONS.len()],
            deleted_tried: [0; PARTITIONS.len()],
            deleted_before: 0,
            now: 0,
            compaction: Compaction::default(),
            reader: Reader::default(),
            positions: BTreeMap::from([(JOB, BTreeMap::new()), (IDLE, BTreeMap::new())]),
            gone: BTreeSet::new(),
            wrong: None,
        }
    }

    /// A transaction begins; answers its number.
    pub(crate) fn begin(&mut self, group: &'static str, is_sync: bool) -> usize {
        let (fate, at, positions) = (Fate::Open, self.now, BTreeMap::new());
        self.txns.push(Txn { group, is_sync, fate, at, positions, is_settled: false });
        self.txns.len() - 1
    }

    /// An append is tried; answers its number.
    pub(crate) fn tried(&mut self, part: usize, values: Vec<String>, txn: Option<usize>) -> usize {
        self.batches.push(Batch { part, values, txn, first: None, at: self.now });
        self.batches.len() - 1
    }

    /// It was acknowledged; `is_synced`: with the promise to survive a power cut.
    pub(crate) fn acknowledged(&mut self, batch: usize, first: Offset, is_synced: bool) {
        let batch = &mut self.batches[batch];
        batch.first = Some(first);
        let (part, end) = (batch.part, batch.end().expect("it has an offset"));
        self.written[part] = self.written[part].max(end);
        if is_synced {
            self.floor[part] = self.floor[part].max(end);
        }
    }

    /// A commit was acknowledged.
    pub(crate) fn committed(&mut self, txn: usize) {
        self.txns[txn].fate = Fate::Committed;
        if !self.txns[txn].is_sync {
            return;
        }
        for batch in self.batches.iter().filter(|batch| batch.txn == Some(txn)) {
            let end = batch.end().expect("a transaction with a failed append is not committed");
            self.floor[batch.part] = self.floor[batch.part].max(end);
        }
        for (part, position) in &self.txns[txn].positions {
            self.floor[*part] = self.floor[*part].max(*position);
        }
    }

    /// Compares what a start shows with all that was promised, and takes it for a fact.
    pub(crate) fn settle(&mut self, shown: &Shown, end: End) -> Result<(), String> {
        self.wrong.take().map_or(Ok(()), Err)?;
        let (mut visible, mut replaced) = (Vec::new(), BTreeSet::new());
        for (part, seen) in shown.parts.iter().enumerate() {
            self.check_bounds(part, seen, end)?;
            visible.extend(match part {
                KEYED => self.check_keyed(seen, end, &mut replaced)?,
                _ => self.check_part(part, seen, end)?,
            });
        }
        self.check_txns(&visible, &replaced, shown, end)?;
        self.check_positions(shown, end)?;
        self.check_copies(shown)?;
        self.reader.check(shown)?;
        self.take_for_fact(shown, &visible);
        Ok(())
    }

    fn check_bounds(&self, part: usize, seen: &Seen, end: End) -> Result<(), String> {
        let name = name(part);
        if seen.end < self.floor[part] {
            return Err(format!("{name} ends at {}, synced was {}", seen.end, self.floor[part]));
        }
        if end == End::Killed && seen.end < self.written[part] {
            return Err(format!("{name} ends at {}, written was {}", seen.end, self.written[part]));
        }
        let (least, most) = (self.deleted[part], self.deleted_tried[part]);
        if seen.start < least || seen.start > most {
            return Err(format!("{name} starts at {}, deleted was {least}..={most}", seen.start));
        }
        Ok(())
    }

    /// Each visible record is one that was written here, in the order of writing, and none is missing.
    /// Answers the batches that are visible, with their first offset.
    fn check_part(
        &self,
        part: usize,
        seen: &Seen,
        end: End,
    ) -> Result<Vec<(usize, Offset)>, String> {
        let name = name(part);
        let mut rest = seen.records.iter().peekable();
        let mut visible = Vec::new();
        let here = self.batches.iter().enumerate().filter(|(_, batch)| batch.part == part);
        for (index, batch) in here {
            let first_value = rest.peek().map(|(_, value)| *value);
            let skipped = first_value
                .and_then(|value| batch.values.iter().position(|wanted| wanted == value));
            let Some(skipped) = skipped else {
                let is_in_log = batch.end().is_some_and(|end| end <= seen.end && end > seen.start);
                // A tail without promise goes with the power, and a marker of the start may take its place.
                let may_be_lost = end == End::PowerCut
                    && first_value.is_none()
                    && batch.end().is_some_and(|end| end > self.floor[part]);
                if is_in_log && batch.txn.is_none() && !may_be_lost {
                    return Err(format!("{name}: {batch:?} is gone, next is {first_value:?}"));
                }
                continue;
            };
            let (at, _) = rest.peek().expect("it was looked at");
            let first = **at - Offset::try_from(skipped).expect("a few");
            if batch.first.is_some_and(|known| known != first)
                || (skipped > 0 && **at != seen.start)
            {
                return Err(format!("{name}: {batch:?} is at {first}, less {skipped} of it"));
            }
            for (offset, wanted) in (first..).zip(&batch.values).skip(skipped) {
                if rest.next() != Some((&offset, wanted)) {
                    return Err(format!("{name}@{offset}: a part of {batch:?} is missing"));
                }
            }
            visible.push((index, first));
        }
        match rest.next() {
            None => Ok(visible),
            Some((offset, value)) if self.gone.contains(value) => {
                Err(format!("{name}@{offset}: {value} had been lost or aborted, and is back"))
            }
            Some((offset, value)) => Err(format!("{name}@{offset}: {value} is there out of place")),
        }
    }

    fn check_txns(
        &mut self,
        visible: &[(usize, Offset)],
        replaced: &BTreeSet<usize>,
        shown: &Shown,
        end: End,
    ) -> Result<(), String> {
        let visible: BTreeSet<usize> = visible.iter().map(|(batch, _)| *batch).collect();
        for (number, txn) in self.txns.iter_mut().enumerate() {
            let own = self.batches.iter().enumerate().filter(|(_, b)| b.txn == Some(number));
            let (mut seen, mut missing) = (0, 0);
            for (index, batch) in own {
                if visible.contains(&index) {
                    seen += 1;
                } else if !shown.has_deleted(batch) && !replaced.contains(&index) {
                    missing += 1;
                }
            }
            // Without sync it is whole for a killed process only.
            let may_be_torn = !txn.is_sync && !txn.is_settled && end == End::PowerCut;
            let must_be_whole = txn.is_settled || txn.is_sync || end == End::Killed;
            let wrong = match txn.fate {
                Fate::Open | Fate::Aborted if seen > 0 => "was not committed and is visible",
                Fate::Committed if missing > 0 && must_be_whole => "was committed and is gone",
                _ if seen > 0 && missing > 0 && !may_be_torn => "is torn",
                _ => "",
            };
            if !wrong.is_empty() {
                return Err(format!("transaction {number} {wrong}: {seen} seen, {txn:?}"));
            }
            if !txn.is_settled {
                txn.fate = if seen > 0 { Fate::Committed } else { Fate::Aborted };
            }
        }
        Ok(())
    }

    fn check_positions(&mut self, shown: &Shown, end: End) -> Result<(), String> {
        let none = BTreeMap::new();
        for group in [JOB, IDLE] {
            let found = shown.positions.get(group).unwrap_or(&none);
            for (part, position) in found {
                if *position > shown.parts[*part].end {
                    return Err(format!("{group} is at {position} of {}, beyond", name(*part)));
                }
            }
            let new = self.txns.iter().filter(|txn| !txn.is_settled && txn.group == group);
            let mut expected = self.positions[group].clone();
            let mut possible = vec![expected.clone()];
            for txn in new.filter(|txn| txn.fate == Fate::Committed || !txn.is_sync) {
                let mut after = expected.clone();
                after.extend(&txn.positions);
                possible.push(after.clone());
                if txn.fate == Fate::Committed {
                    expected = after;
                }
            }
            // Positions without sync may go back when the power goes, to any that were committed.
            let is_loose = group == IDLE && end == End::PowerCut;
            if *found != expected && !(is_loose && possible.contains(found)) {
                return Err(format!("{group} is at {found:?}, expected {expected:?}"));
            }
            self.positions.insert(group, found.clone());
        }
        Ok(())
    }

    /// What the job has read is what it has written, each once.
    fn check_copies(&self, shown: &Shown) -> Result<(), String> {
        let position = self.positions[JOB].get(&IN).copied().unwrap_or(0);
        let read: Vec<&str> =
            shown.parts[IN].records.range(..position).map(|(_, v)| &**v).collect();
        let copies = shown.parts[OUT].records.values().filter_map(|value| value.split_once('c'));
        let written: Vec<&str> = copies.map(|(original, _)| original).collect();
        if read == written {
            return Ok(());
        }
        Err(format!("the job has read {read:?} up to {position} and written {written:?}"))
    }

    fn take_for_fact(&mut self, shown: &Shown, visible: &[(usize, Offset)]) {
        let visible: BTreeMap<usize, Offset> = visible.iter().copied().collect();
        let mut kept = Vec::new();
        let mut floor = [0; PARTITIONS.len()];
        for (index, mut batch) in std::mem::take(&mut self.batches).into_iter().enumerate() {
            if let Some(first) = visible.get(&index) {
                batch.first = Some(*first);
                if batch.part == KEYED {
                    self.gone.extend(shown.parts[KEYED].missing(&batch));
                }
                floor[batch.part] = batch.end().expect("it has an offset");
                kept.push(batch);
            } else if !shown.has_deleted(&batch) {
                self.gone.extend(batch.values);
            }
        }
        self.batches = kept;
        self.txns.iter_mut().for_each(|txn| txn.is_settled = true);
        self.floor = floor;
        self.written = floor;
        for (part, seen) in shown.parts.iter().enumerate() {
            self.floor[part] = self.floor[part].max(seen.start);
            self.deleted[part] = seen.start;
        }
        self.deleted_tried = self.deleted;
        self.reader.take_for_fact(shown);
    }
}

fn name(part: usize) -> String {
    let (topic, partition) = PARTITIONS[part];
    format!("{topic}-{partition}")
}
