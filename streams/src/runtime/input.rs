//! The inputs of a task: which record is next, and how far each input is.
//!
//! ```text
//!   metadata of a committed position (version 1):
//!   0         1            9
//!   +---------+------------+-------------------------------------------+
//!   | version | clock i64  | count varint, watermarks zigzag varint .. |
//!   +---------+------------+-------------------------------------------+
//!   the watermarks are those read so far, by upstream partition; none for a source topic
//! ```
//!
//! Why in the metadata: a clock that is not committed with its offset would be behind after a crash,
//! and windows would stay open that had closed, or for ever.
//!
//! Invariants
//! * inputs are merged by (timestamp, input) while they have records.
//! * the clock of a repartition input is the smallest watermark of its upstream tasks; one that has not
//!   spoken holds it at `i64::MIN`.

use std::time::Duration;

use crate::broker::{RawRecord, Reader, Records, TopicRef};
use crate::error::Result;
use crate::operator::envelope::{put_varint, take_varint, unzigzag, zigzag};

const VERSION: u8 = 1;

/// What is committed beside an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InputTime {
    pub(crate) clock: i64,
    pub(crate) watermarks: Vec<i64>,
}

impl InputTime {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.clock.to_be_bytes());
        put_varint(u64::try_from(self.watermarks.len()).expect("a count fits 64 bits"), &mut out);
        for &watermark in &self.watermarks {
            put_varint(zigzag(watermark), &mut out);
        }
        out
    }

    /// `None`: not what `encode` wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION], rest) = bytes.split_first_chunk::<1>()? else { return None };
        let (clock, mut rest) = rest.split_first_chunk::<8>()?;
        let count = take_varint(&mut rest).ok()?;
        let mut watermarks = Vec::new();
        for _ in 0..count {
            watermarks.push(unzigzag(take_varint(&mut rest).ok()?));
        }
        rest.is_empty().then_some(Self { clock: i64::from_be_bytes(*clock), watermarks })
    }
}

/// One partition that a task reads.
pub(crate) struct Input {
    /// Number of the input over the whole topology: the index of its clock.
    pub(crate) number: usize,
    pub(crate) topic: TopicRef,
    pub(crate) partition: u32,
    /// Watermarks by upstream partition; `None` for a source topic.
    pub(crate) watermarks: Option<Vec<i64>>,
    reader: Box<dyn Reader>,
    records: Records,
    next: usize,
    /// Whether there is something to commit.
    pub(crate) moved: bool,
    /// Whether a record was read in the running transaction.
    pub(crate) has_read: bool,
    /// When records were last read, or it was opened, by the monotonic clock: as of the last commit.
    pub(crate) read_at: Duration,
    /// When it was last passed over since then.
    pub(crate) raised_at: Option<Duration>,
}

impl Input {
    pub(crate) fn new(
        number: usize,
        topic: TopicRef,
        partition: u32,
        watermarks: Option<Vec<i64>>,
        reader: Box<dyn Reader>,
        now: Duration,
    ) -> Self {
        Self {
            number,
            topic,
            partition,
            watermarks,
            reader,
            records: Records::default(),
            next: 0,
            moved: false,
            has_read: false,
            read_at: now,
            raised_at: None,
        }
    }

    /// The running transaction ends at `now`.
    pub(crate) fn settle(&mut self, now: Duration) {
        self.moved = false;
        if std::mem::take(&mut self.has_read) {
            (self.read_at, self.raised_at) = (now, None);
        }
    }

    /// Whether there is a record to be processed, reading more if need be.
    pub(crate) fn fill(&mut self) -> Result<bool> {
        while self.next == self.records.len() {
            match self.reader.poll()? {
                Some(records) => (self.records, self.next) = (records, 0),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The record that [`fill`](Self::fill) found.
    pub(crate) fn head(&self) -> Option<RawRecord<'_>> {
        self.records.get(self.next)
    }

    /// The head has been processed.
    pub(crate) fn advance(&mut self) {
        self.next += 1;
        self.moved = true;
        self.has_read = true;
    }

    /// Where to go on after a restart.
    pub(crate) fn position(&self) -> i64 {
        self.head().map_or_else(|| self.reader.position(), |record| record.offset)
    }

    /// Takes in what upstream tasks said and returns the input's clock.
    pub(crate) fn heard(&mut self, said: &[(u32, i64)]) -> i64 {
        let Some(watermarks) = &mut self.watermarks else { return i64::MIN };
        for &(partition, watermark) in said {
            let known = usize::try_from(partition).ok().and_then(|p| watermarks.get_mut(p));
            if let Some(known) = known {
                *known = (*known).max(watermark);
            }
        }
        smallest(watermarks)
    }
}

/// The clock of an input over the watermarks of its upstream tasks.
pub(crate) fn smallest(watermarks: &[i64]) -> i64 {
    watermarks.iter().copied().min().unwrap_or(i64::MIN)
}

/// Which input is next: the smallest (timestamp, input) among those that have a record.
pub(crate) fn choose(heads: &[Option<i64>]) -> Option<usize> {
    let present = heads.iter().enumerate().filter_map(|(i, head)| head.map(|t| (t, i)));
    present.min().map(|(_, i)| i)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn metadata_survives(clock: i64, watermarks: Vec<i64>) {
            let time = InputTime { clock, watermarks };
            prop_assert_eq!(InputTime::decode(&time.encode()), Some(time));
        }

        #[test]
        fn arbitrary_metadata_never_panics(bytes: Vec<u8>) {
            if let Some(time) = InputTime::decode(&bytes) {
                prop_assert!(time.watermarks.len() <= bytes.len());
            }
        }
    }

    #[test]
    fn the_earliest_record_is_next_and_ties_go_to_the_first_input() {
        assert_eq!(choose(&[Some(5), Some(3), None]), Some(1));
        assert_eq!(choose(&[Some(3), Some(3)]), Some(0));
        assert_eq!(choose(&[None, None]), None);
    }

    #[test]
    fn a_silent_upstream_task_holds_the_clock() {
        assert_eq!(smallest(&[7, i64::MIN]), i64::MIN);
        assert_eq!(smallest(&[7, 5]), 5);
    }
}
