//! What is kept beside the records of a partition: how far it was compacted, who still needs it, and
//! files on their way out.
//!
//! Why holders: a store that reflects a partition up to some offset must see every tombstone behind it;
//! it does not read what is there, only what changes.
//!
//! `holders`, text that proves itself, one line for each holder:
//!
//! ```text
//!   42 job-1      everything below offset 42 was seen
//! ```
//!
//! Invariants
//! * A holder that is new, or goes back, is durable before its call returns; one that goes on is durable
//!   before anything is removed because of it.
//! * While the file cannot be believed nothing is removed.
//!
//! On crash: a holder may have gone back; what it needs is still there.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use crate::locks::Mutex;

use super::compaction::checkpoint::Checkpoint;
use super::text_file::{self, Text};
use super::{Partition, Shared};
use crate::error::{Error, Result};
use crate::ids::{GroupId, Offset};
use crate::segment::Place;
use crate::storage::Storage;

pub(crate) const HOLDERS_FILE: &str = "holders";

/// What is kept beside the records of a partition.
#[derive(Debug)]
pub(crate) struct Upkeep {
    /// Held during a pass: there is one at a time.
    pub(super) cleaning: Mutex<Checkpoint>,
    holders: Mutex<Holders>,
    /// Files that are removed when their time has come, by the monotonic clock.
    aside: Mutex<VecDeque<(Duration, PathBuf)>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Holders {
    now: BTreeMap<GroupId, Offset>,
    durable: BTreeMap<GroupId, Offset>,
    /// The file is damaged: nobody knows who needs what.
    is_lost: bool,
}

impl Upkeep {
    /// Reads what there is.
    pub(crate) fn open(shared: &Shared, place: &Place, is_compacted: bool) -> Result<Self> {
        let storage = shared.storage.as_ref();
        let checkpoint = Checkpoint::read(storage, &place.dir, is_compacted)?;
        let holders = match text_file::read(storage, &place.dir.join(HOLDERS_FILE))? {
            Text::Missing => Holders::default(),
            Text::Proven(text) => Holders::parse(&text).unwrap_or_else(Holders::lost),
            Text::Damaged => Holders::lost(),
        };
        if holders.is_lost {
            tracing::warn!(
                dir = %place.dir.display(),
                "the file `holders` is damaged: nothing is removed until somebody holds the \
                 partition again, or releases it"
            );
        }
        let (cleaning, holders) = (Mutex::new(checkpoint), Mutex::new(holders));
        Ok(Self { cleaning, holders, aside: Mutex::default() })
    }

    /// Offsets may be missing in front of this one.
    pub(crate) fn gaps_below(&self) -> Offset {
        self.cleaning.lock().gaps_below
    }

    /// The first offset that somebody has not seen, durably.
    pub(crate) fn held(&self, shared: &Shared, place: &Place) -> Result<Option<Offset>> {
        let mut holders = self.holders.lock();
        if holders.is_lost {
            return Ok(Some(0));
        }
        holders.settle(shared, place)?;
        Ok(holders.now.values().min().copied())
    }

    /// Removes these files when the delay has passed.
    pub(crate) fn set_aside(&self, shared: &Shared, delay: Duration, files: Vec<PathBuf>) {
        let due = shared.clock.monotonic().saturating_add(delay);
        self.aside.lock().extend(files.into_iter().map(|file| (due, file)));
    }

    /// Removes the files whose time has come.
    pub(crate) fn remove_due(&self, storage: &dyn Storage, monotonic: Duration) -> Result<()> {
        let mut aside = self.aside.lock();
        while let Some((_, path)) = aside.pop_front_if(|(due, _)| *due <= monotonic) {
            match storage.remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(&path, "remove", error));
                }
                _gone => {}
            }
        }
        Ok(())
    }
}

impl Holders {
    fn lost() -> Self {
        Self { is_lost: true, ..Self::default() }
    }

    fn settle(&mut self, shared: &Shared, place: &Place) -> Result<()> {
        if self.now == self.durable && !self.is_lost {
            return Ok(());
        }
        let mut text = String::new();
        for (holder, offset) in &self.now {
            writeln!(text, "{offset} {holder}").expect("writing to a string cannot fail");
        }
        let written = text_file::write(shared.storage.as_ref(), &place.dir, HOLDERS_FILE, &text);
        shared.health.guard(written)?;
        self.durable.clone_from(&self.now);
        self.is_lost = false;
        Ok(())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut now = BTreeMap::new();
        for line in text.lines() {
            let (offset, holder) = line.split_once(' ')?;
            now.insert(GroupId::new(holder).ok()?, offset.parse().ok()?);
        }
        Some(Self { durable: now.clone(), now, is_lost: false })
    }
}

impl Partition {
    /// Keeps everything from `offset` on that `holder` has not seen.
    ///
    /// # Errors
    ///
    /// A failed write is a crash of the log.
    pub(crate) fn hold(&self, holder: &GroupId, offset: Offset) -> Result<()> {
        self.shared.health.check()?;
        let mut holders = self.upkeep.holders.lock();
        let before = holders.now.insert(holder.clone(), offset);
        let goes_on = before.is_some_and(|before| before <= offset) && !holders.is_lost;
        if goes_on { Ok(()) } else { holders.settle(&self.shared, &self.place) }
    }

    /// Nothing is kept for `holder` any more.
    ///
    /// # Errors
    ///
    /// A failed write is a crash of the log.
    pub(crate) fn release(&self, holder: &GroupId) -> Result<()> {
        self.shared.health.check()?;
        let mut holders = self.upkeep.holders.lock();
        holders.now.remove(holder);
        holders.settle(&self.shared, &self.place)
    }

    /// Removes files whose time has come.
    ///
    /// # Errors
    ///
    /// What the disk says: they stay for the next call.
    pub(crate) fn remove_due_files(&self, monotonic: Duration) -> Result<()> {
        self.upkeep.remove_due(self.shared.storage.as_ref(), monotonic)
    }
}
