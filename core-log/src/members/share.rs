//! Records that are handed out one by one: which are done, held, or free, in one partition. Pure.
//!
//! ```text
//!            start                                       next
//!   done ...   |  held  done  free  held  done   ...      |  not looked at yet
//!
//!   free --claim--> held --accept, reject--> done         start moves over what is done
//!     ^              |
//!     +-- release, lock ended, holder gone; after too many deliveries: done
//! ```
//!
//! Why a window: what is done lies in pieces; the piece up to the first record that is not done is one
//! committed offset, the rest is a bitmap beside it, which has a limit.
//!
//! Metadata of the committed offset: the bytes `hws1`, then one bit for each offset from the committed one
//! on, lowest bit first, set for what is done; zero bytes at the end are left out.
//!
//! Invariants
//! * A record is held by at most one consumer; only its holder may say that it is done, while its lock lasts.
//! * `start..next` spans at most `SPAN_MAX` offsets, so the bitmap always fits, and at most as many records
//!   as the settings allow are held or done in it.
//!
//! On crash: the window comes back from the committed offset and its bitmap; what was held is free again,
//! and deliveries count from none.
//! Reference: KIP-932; Kafka `SharePartition`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use crate::ids::Offset;

/// What metadata of a share group begins with.
const MAGIC: &[u8; 4] = b"hws1";

/// So many offsets fit into the metadata of one committed offset.
const SPAN_MAX: i64 = (4096 - 4) * 8;

/// Who holds records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HolderId(pub(crate) u64);

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// It is done with.
    Accept,
    /// Somebody else may have it.
    Release,
    /// It can never be done, and is not delivered again.
    Reject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Held { by: HolderId, until: Duration },
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    state: State,
    deliveries: u32,
}

/// How records are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) lock: Duration,
    pub(crate) deliveries: u32,
    /// Records of one partition that are held, or done with one in front of them that is not.
    pub(crate) records: usize,
}

/// One partition of a share group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    start: Offset,
    next: Offset,
    entries: BTreeMap<Offset, Entry>,
    /// Whether something is done that is not committed yet.
    pub(crate) is_dirty: bool,
}

impl Window {
    /// A window that begins at a committed offset, with what is done behind it.
    pub(crate) fn from_committed(start: Offset, metadata: &[u8]) -> Self {
        let bits = metadata.strip_prefix(MAGIC).unwrap_or_default();
        let done = (start..).zip(bits.iter().flat_map(|byte| (0..8).map(move |n| byte >> n & 1)));
        let entry = Entry { state: State::Done, deliveries: 0 };
        let entries = done.filter(|(_, bit)| *bit == 1).map(|(offset, _)| (offset, entry));
        Self { start, next: start, entries: entries.collect(), is_dirty: false }
    }

    /// What to commit: the first offset that is not done, and the bitmap of what is done behind it.
    pub(crate) fn to_committed(&self) -> (Offset, Vec<u8>) {
        let mut metadata = MAGIC.to_vec();
        let done = self.entries.iter().filter(|(_, entry)| entry.state == State::Done);
        for (offset, _) in done {
            let Ok(bit) = usize::try_from(offset - self.start) else { continue };
            let at = MAGIC.len() + bit / 8;
            if metadata.len() <= at {
                metadata.resize(at + 1, 0);
            }
            metadata[at] |= 1 << (bit % 8);
        }
        if metadata.len() == MAGIC.len() {
            metadata.clear();
        }
        (self.start, metadata)
    }

    /// Where the last record ends that is done.
    pub(crate) fn done_end(&self) -> Offset {
        let mut ascending = self.entries.iter().rev();
        let last = ascending.find(|(_, entry)| entry.state == State::Done);
        last.map_or(self.start, |(offset, _)| offset + 1)
    }

    /// Offsets that are done behind the start.
    pub(crate) fn done(&self) -> impl Iterator<Item = Offset> {
        let done = self.entries.iter().filter(|(_, entry)| entry.state == State::Done);
        done.map(|(offset, _)| *offset)
    }

    /// What was done at these offsets is not what is there now.
    pub(crate) fn forget(&mut self, offsets: &BTreeSet<Offset>) {
        self.entries.retain(|offset, _| !offsets.contains(offset));
    }

    /// Where to look for a record that is free; `None` when nothing may be handed out now.
    pub(crate) fn first_free(&self, limits: &Limits) -> Option<Offset> {
        let free = self.entries.iter().find(|(_, entry)| entry.state == State::Free);
        free.map(|(offset, _)| *offset).or_else(|| self.may_grow(limits).then_some(self.next))
    }

    fn may_grow(&self, limits: &Limits) -> bool {
        // Where all that is known is done, something new must be taken, or else nothing ever is.
        let has_room = self.entries.len() < limits.records
            || self.entries.values().all(|entry| entry.state == State::Done);
        has_room && self.next - self.start < SPAN_MAX
    }

    /// Takes at most `most` of what was read from `read.start` up to `read.end`: records at these offsets,
    /// which ascend. Answers offsets and deliveries.
    pub(crate) fn claim(
        &mut self,
        read: Range<Offset>,
        offsets: &[Offset],
        by: HolderId,
        now: Duration,
        (most, limits): (usize, &Limits),
    ) -> Vec<(Offset, u32)> {
        let mut claimed = Vec::new();
        if read.start > self.next {
            // The window went back meanwhile: look again.
            return claimed;
        }
        for (offset, entry) in self.entries.range_mut(read.clone()) {
            // Compaction has taken it meanwhile.
            if entry.state == State::Free && offsets.binary_search(offset).is_err() {
                entry.state = State::Done;
                self.is_dirty = true;
            }
        }
        let held = State::Held { by, until: now.saturating_add(limits.lock) };
        let mut is_whole = true;
        for offset in offsets.iter().copied().filter(|offset| *offset >= self.start) {
            if claimed.len() == most {
                is_whole = false;
                break;
            }
            if offset < self.next || self.entries.contains_key(&offset) {
                self.next = self.next.max(offset + 1);
                if let Some(entry) = self.entries.get_mut(&offset)
                    && entry.state == State::Free
                {
                    *entry = Entry { state: held, deliveries: entry.deliveries + 1 };
                    claimed.push((offset, entry.deliveries));
                }
                continue;
            }
            if !self.may_grow(limits) || offset - self.start >= SPAN_MAX {
                self.pass_over(offset);
                is_whole = false;
                break;
            }
            self.entries.insert(offset, Entry { state: held, deliveries: 1 });
            self.next = offset + 1;
            claimed.push((offset, 1));
        }
        if is_whole {
            self.pass_over(read.end);
        }
        self.advance();
        claimed
    }

    /// There is no record from `next` up to `end`.
    fn pass_over(&mut self, end: Offset) {
        self.next = self.next.max(end.min(self.start + SPAN_MAX));
        self.advance();
    }

    /// A holder says what became of a record; false: it does not hold it (any more).
    pub(crate) fn acknowledge(
        &mut self,
        offset: Offset,
        by: HolderId,
        now: Duration,
        what: Acknowledge,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(&offset) else { return false };
        match entry.state {
            State::Held { by: holder, until } if holder == by && now < until => {}
            _ => return false,
        }
        entry.state = match what {
            Acknowledge::Release => State::Free,
            Acknowledge::Accept | Acknowledge::Reject => State::Done,
        };
        if entry.state == State::Done {
            self.is_dirty = true;
            self.advance();
        }
        true
    }

    /// Frees what was held for too long; what was delivered too often is done. Answers how many records
    /// were freed, and the offsets of those that are given up.
    pub(crate) fn expire(&mut self, now: Duration, limits: &Limits) -> (usize, Vec<Offset>) {
        self.free(limits, |until, _| until <= now)
    }

    /// Frees what a holder held that is gone.
    pub(crate) fn free_of(&mut self, holder: HolderId, limits: &Limits) -> (usize, Vec<Offset>) {
        self.free(limits, |_, by| by == holder)
    }

    fn free(
        &mut self,
        limits: &Limits,
        is_over: impl Fn(Duration, HolderId) -> bool,
    ) -> (usize, Vec<Offset>) {
        let mut freed = 0;
        for entry in self.entries.values_mut() {
            if let State::Held { by, until } = entry.state
                && is_over(until, by)
            {
                entry.state = State::Free;
                freed += 1;
            }
        }
        // Also what was released by its holder, the last time that it could be.
        let given_up = self.give_up(limits);
        (freed, given_up)
    }

    /// Records that are free and were delivered as often as they may are done.
    pub(crate) fn give_up(&mut self, limits: &Limits) -> Vec<Offset> {
        let mut given_up = Vec::new();
        for (offset, entry) in &mut self.entries {
            if entry.state == State::Free && entry.deliveries >= limits.deliveries {
                entry.state = State::Done;
                given_up.push(*offset);
            }
        }
        self.is_dirty |= !given_up.is_empty();
        self.advance();
        given_up
    }

    /// When the first lock ends.
    pub(crate) fn first_end(&self) -> Option<Duration> {
        let until = |entry: &Entry| match entry.state {
            State::Held { until, .. } => Some(until),
            State::Free | State::Done => None,
        };
        self.entries.values().filter_map(until).min()
    }

    /// The partition holds `start..end` only: what is below is gone, what is beyond was lost.
    pub(crate) fn clip(&mut self, start: Offset, end: Offset) {
        self.entries.retain(|offset, _| (start..end).contains(offset));
        self.start = self.start.clamp(start, end.max(start));
        self.next = self.next.clamp(self.start, end.max(self.start));
        self.is_dirty = true;
        self.advance();
    }

    /// The start moves over what is done.
    fn advance(&mut self) {
        let before = self.start;
        while let Some((offset, entry)) = self.entries.first_key_value() {
            if *offset < self.next && entry.state == State::Done {
                self.entries.pop_first();
            } else {
                break;
            }
        }
        let first = self.entries.keys().next().copied().unwrap_or(self.next);
        self.start = first.min(self.next).max(before);
    }
}

#[cfg(test)]
mod tests;
