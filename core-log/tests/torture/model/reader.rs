//! What a group has read and what it was told of its commits.
//!
//! Invariants
//! * Below a committed position everything visible was delivered, as it is.
//! * A commit that was acknowledged is never taken back, and what was read below it stays.

use std::collections::BTreeMap;

use core_log::Offset;

use super::{IN, Model, READERS, Shown, name};

/// Positions by the index of their partition.
type Positions = BTreeMap<usize, Offset>;

#[derive(Clone, Debug, Default)]
pub(super) struct Reader {
    delivered: BTreeMap<(usize, Offset), String>,
    /// Where this member is.
    at: Positions,
    acknowledged: Positions,
    /// Commits since then, of which nothing is known.
    tried: Vec<Positions>,
}

impl Model {
    /// A new member begins where the last commit says.
    pub(crate) fn reader_starts(&mut self) {
        self.reader.at.clear();
    }

    /// A record was read.
    pub(crate) fn delivered(&mut self, part: usize, offset: Offset, text: String) {
        let Reader { delivered, at, .. } = &mut self.reader;
        let next = at.insert(part, offset + 1).unwrap_or(0);
        let before = delivered.insert((part, offset), text.clone());
        if offset < next || before.as_ref().is_some_and(|before| *before != text) {
            let name = name(part);
            self.wrong = Some(format!("{name}@{offset}: read {text} at {next}, was {before:?}"));
        }
    }

    /// The group is about to commit.
    pub(crate) fn reader_commits(&mut self, positions: Positions) {
        self.reader.tried.push(positions);
    }

    /// It was acknowledged.
    pub(crate) fn reader_committed(&mut self, positions: &Positions) {
        self.reader.tried.clear();
        self.reader.acknowledged.extend(positions);
        for (part, position) in positions {
            self.floor[*part] = self.floor[*part].max(*position);
        }
    }
}

impl Reader {
    /// How many records were read, and how many offsets are done with.
    pub(super) fn counts(&self) -> (usize, i64) {
        (self.delivered.len(), self.acknowledged.values().sum())
    }

    pub(super) fn check(&self, shown: &Shown) -> Result<(), String> {
        let none = Positions::new();
        let found = shown.positions.get(READERS).unwrap_or(&none);
        let mut possible = vec![self.acknowledged.clone()];
        for positions in &self.tried {
            let mut after = self.acknowledged.clone();
            after.extend(positions);
            possible.push(after);
        }
        if !possible.contains(found) {
            return Err(format!("{READERS} is at {found:?}, committed was one of {possible:?}"));
        }
        for (part, position) in found {
            let seen = &shown.parts[*part];
            if *position > seen.end {
                return Err(format!("{READERS} is at {position} of {}, beyond", name(*part)));
            }
            let below = seen.records.range(..position);
            for (offset, text) in below {
                if self.delivered.get(&(*part, *offset)) != Some(text) {
                    return Err(format!("{}@{offset}: {READERS} skipped {text}", name(*part)));
                }
            }
            let is_kept = |at: &Offset| *part == IN && (seen.start..*position).contains(at);
            let read = self.delivered.iter().filter(|((of, at), _)| of == part && is_kept(at));
            for ((_, offset), text) in read {
                if seen.records.get(offset) != Some(text) {
                    return Err(format!(
                        "in-0@{offset}: {READERS} had read {text}, and it is gone"
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn take_for_fact(&mut self, shown: &Shown) {
        self.acknowledged = shown.positions.get(READERS).cloned().unwrap_or_default();
        self.tried.clear();
        self.at.clear();
        let position = |part: usize| self.acknowledged.get(&part).copied().unwrap_or(0);
        let mut delivered = std::mem::take(&mut self.delivered);
        delivered.retain(|(part, offset), _| *offset < position(*part));
        self.delivered = delivered;
    }
}
