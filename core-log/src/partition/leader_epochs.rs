//! Which leader epoch wrote which offsets of one partition. Pure, with its file's layout.
//!
//! Why: after a power cut the same offsets can be given to other records. Whoever remembers a
//! position (a store's checkpoint) remembers the epoch beside it, and sees that it no longer fits.
//!
//! `leader-epoch-checkpoint`, text: the version (0), the count, then one line `epoch start-offset`
//! for each epoch. Epochs and start offsets ascend. No line means epoch 0 from the beginning.
//!
//! On crash: replaced as a whole, before the first batch of a new epoch is written; a file that is
//! not readable is made again from the batches, which carry their epoch.
//! Reference: Kafka `LeaderEpochFileCache`.

use std::fmt::Write;

use crate::ids::Offset;

/// The name of the file.
pub(crate) const FILE_NAME: &str = "leader-epoch-checkpoint";

/// Epochs and where they start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    starts: Vec<(i32, Offset)>,
}

impl LeaderEpochs {
    /// Those of a partition that begins.
    pub(crate) fn first() -> Self {
        Self { starts: vec![(0, 0)] }
    }

    /// The epoch in which the log writes now.
    pub(crate) fn current(&self) -> i32 {
        self.starts.last().map_or(0, |(epoch, _)| *epoch)
    }

    /// The epoch of the record at `offset`.
    pub(crate) fn at(&self, offset: Offset) -> i32 {
        let behind = self.starts.partition_point(|(_, start)| *start <= offset);
        behind.checked_sub(1).map_or(0, |index| self.starts[index].0)
    }

    /// Begins an epoch higher than any before, at `start`.
    pub(crate) fn raise(&mut self, start: Offset) {
        let next = self.current().saturating_add(1);
        self.starts.retain(|(_, known)| *known < start);
        self.starts.push((next, start));
    }

    /// Learns the epoch of a batch; batches come in order.
    pub(crate) fn observe(&mut self, epoch: i32, base_offset: Offset) {
        if epoch > self.current() || (self.starts.is_empty() && epoch != 0) {
            self.starts.retain(|(_, known)| *known < base_offset);
            self.starts.push((epoch, base_offset));
        }
    }

    /// All epochs and where they start, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i32, Offset)> + '_ {
        self.starts.iter().copied()
    }

    /// The file's text.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("0\n{}\n", self.starts.len());
        for (epoch, start) in &self.starts {
            writeln!(text, "{epoch} {start}").expect("writing to a string cannot fail");
        }
        text
    }

    /// Reads the file's text; `None` when it is not one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != "0" {
            return None;
        }
        let count: usize = lines.next()?.parse().ok()?;
        // No line is shorter than 4 bytes, whatever the count claims.
        let mut starts: Vec<(i32, Offset)> = Vec::with_capacity(count.min(text.len() / 4));
        for line in lines {
            if starts.len() == count {
                return None;
            }
            let (epoch, start) = line.split_once(' ')?;
            let entry = (epoch.parse().ok()?, start.parse().ok()?);
            if starts.last().is_some_and(|last| last.0 >= entry.0 || last.1 >= entry.1) {
                return None;
            }
            starts.push(entry);
        }
        (starts.len() == count).then_some(Self { starts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_epoch_that_started_before_it() {
        let epochs = LeaderEpochs::parse("0\n3\n0 0\n2 3\n5 4\n").unwrap();
        let of = |offset| epochs.at(offset);
        assert_eq!([of(-1), of(0), of(2), of(3), of(4), of(99)], [0, 0, 0, 2, 5, 5]);
        assert_eq!(LeaderEpochs::default().at(7), 0);
    }

    #[test]
    fn an_epoch_that_wrote_nothing_gives_way_but_its_number_is_not_used_again() {
        let mut epochs = LeaderEpochs::default();
        epochs.raise(100);
        epochs.raise(80);
        assert_eq!(epochs.to_text(), "0\n1\n2 80\n");
        let mut first = LeaderEpochs::first();
        assert_eq!((first.to_text().as_str(), first.current()), ("0\n1\n0 0\n", 0));
        first.raise(5);
        assert_eq!(first.to_text(), "0\n2\n0 0\n1 5\n");
        assert_eq!(LeaderEpochs::parse(&epochs.to_text()), Some(epochs));
    }

    #[test]
    fn what_is_not_such_a_file_is_refused() {
        for bad in
            ["", "1\n0\n", "0\n2\n0 0\n", "0\n2\n1 0\n0 5\n", "0\n2\n0 5\n1 5\n", "0\n1\nx 0\n"]
        {
            assert_eq!(LeaderEpochs::parse(bad), None, "{bad:?}");
        }
    }
}
