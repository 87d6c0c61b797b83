//! The inputs of a task: which record is next, and how far each input is.
//!
//! ```text
//!   metadata of a committed position:
//!   0         1            9
//!   +---------+------------+-------------------------------------------+--------------------------+
//!   | version | clock i64  | count varint, watermarks zigzag varint .. | global positions (2 only)|
//!   +---------+------------+-------------------------------------------+--------------------------+
//!   the watermarks are those read so far, by upstream partition; none for a source topic
//!
//!   global positions: count varint, then for each
//!   | topic id (16) | partition varint | offset zigzag varint |
//!
//!   version 3, of an ordered input: global positions, perhaps none, and how far it is ordered (held.rs)
//! ```
//!
//! Why in the metadata: a clock that is not committed with its offset would be behind after a crash,
//! and windows would stay open that had closed, or for ever. A global table is read by every task, each
//! at its own pace, while a group has one position for a partition: so those of a task travel with
//! its first own input.
//!
//! Invariants
//! * inputs are merged by (timestamp, rank) while they have records; a table ranks before the streams
//!   that look it up, and partitions of global tables come before everything.
//! * the clock of a repartition input is the smallest watermark of its upstream tasks; one that has not
//!   spoken holds it at `i64::MIN`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::held::{Held, OrderedTo, Place};
use crate::broker::{Broker, RawRecord, Reader, Records, TopicRef};
use crate::error::Result;
use crate::operator::envelope::{put_varint, take_varint, unzigzag, zigzag};

/// Without global positions.
const VERSION_OWN: u8 = 1;
/// With global positions.
const VERSION_GLOBAL: u8 = 2;
/// Of an ordered input.
const VERSION_ORDERED: u8 = 3;

/// How far a task has read one partition of a global table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GlobalPosition {
    pub(crate) topic: [u8; 16],
    pub(crate) partition: u32,
    pub(crate) offset: i64,
}

/// What is committed beside an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InputTime {
    pub(crate) clock: i64,
    pub(crate) watermarks: Vec<i64>,
    pub(crate) globals: Vec<GlobalPosition>,
    /// How far an ordered input is.
    pub(crate) ordered: Option<OrderedTo>,
}

impl InputTime {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let has_globals = !self.globals.is_empty();
        let mut out = vec![match self.ordered {
            Some(_) => VERSION_ORDERED,
            None if has_globals => VERSION_GLOBAL,
            None => VERSION_OWN,
        }];
        out.extend_from_slice(&self.clock.to_be_bytes());
        put_count(self.watermarks.len(), &mut out);
        for &watermark in &self.watermarks {
            put_varint(zigzag(watermark), &mut out);
        }
        if has_globals || self.ordered.is_some() {
            put_count(self.globals.len(), &mut out);
            for global in &self.globals {
                out.extend_from_slice(&global.topic);
                put_varint(u64::from(global.partition), &mut out);
                put_varint(zigzag(global.offset), &mut out);
            }
        }
        if let Some(ordered) = &self.ordered {
            ordered.encode(&mut out);
        }
        out
    }

    /// `None`: not what `encode` wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[version], rest) = bytes.split_first_chunk::<1>()?;
        let (clock, mut rest) = rest.split_first_chunk::<8>()?;
        let count = take_varint(&mut rest).ok()?;
        let mut watermarks = Vec::new();
        for _ in 0..count {
            watermarks.push(unzigzag(take_varint(&mut rest).ok()?));
        }
        let mut globals = Vec::new();
        match version {
            VERSION_OWN => {}
            VERSION_GLOBAL | VERSION_ORDERED => {
                for _ in 0..take_varint(&mut rest).ok()? {
                    let (topic, after) = rest.split_first_chunk::<16>()?;
                    rest = after;
                    let partition = u32::try_from(take_varint(&mut rest).ok()?).ok()?;
                    let offset = unzigzag(take_varint(&mut rest).ok()?);
                    globals.push(GlobalPosition { topic: *topic, partition, offset });
                }
            }
            _ => return None,
        }
        let ordered =
            if version == VERSION_ORDERED { Some(OrderedTo::decode(&mut rest)?) } else { None };
        let clock = i64::from_be_bytes(*clock);
        rest.is_empty().then_some(Self { clock, watermarks, globals, ordered })
    }
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    put_varint(u64::try_from(count).expect("a count fits 64 bits"), out);
}

/// Where a task goes on in a partition of a global table, by what its own inputs carry. The one that
/// carries it changes with the topology; positions only grow.
pub(crate) fn global_position<'a>(
    carried: impl IntoIterator<Item = &'a GlobalPosition>,
    topic: [u8; 16],
    partition: u32,
) -> Option<i64> {
    let same = carried.into_iter().filter(|g| g.topic == topic && g.partition == partition);
    same.map(|global| global.offset).max()
}

/// A raise of a partition's clock that was written down: before the record at this offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LoggedRaise {
    pub(crate) next_offset: i64,
    pub(crate) raised_to: i64,
}

/// One partition that a task reads.
pub(crate) struct Input {
    /// Number of the input over the whole topology: the index of its clock.
    pub(crate) number: usize,
    pub(crate) topic: TopicRef,
    pub(crate) partition: u32,
    /// Watermarks by upstream partition; `None` for a source topic.
    pub(crate) watermarks: Option<Vec<i64>>,
    /// A partition of a global table: read before all others, and no clock of the task.
    pub(crate) is_global: bool,
    reader: Box<dyn Reader>,
    records: Records,
    next: usize,
    /// Whether the reader had nothing when it was last asked.
    dry: bool,
    /// Whether there is something to commit.
    pub(crate) moved: bool,
    /// Whether a record was read in the running transaction.
    pub(crate) has_read: bool,
    /// When records were last read, or it was opened, by the monotonic clock: as of the last commit.
    pub(crate) read_at: Duration,
    /// When it was last passed over since then.
    pub(crate) raised_at: Option<Duration>,
    /// Raises to repeat: each before the record at its offset.
    raises: VecDeque<LoggedRaise>,
    /// What was read from the clock on the wall, the same way.
    readings: VecDeque<(i64, i64)>,
    /// What it holds back, if its records are taken in the order of source time.
    pub(crate) ordering: Option<Ordering>,
}

/// What an ordered input has beside its reader.
pub(crate) struct Ordering {
    pub(crate) held: Held,
    /// No record below it comes any more.
    pub(crate) watermark: i64,
    /// What had been read when the position was committed.
    pub(crate) before_to: i64,
    /// Reads again what was given up.
    pub(crate) broker: Arc<dyn Broker>,
}

impl Ordering {
    pub(crate) fn new(
        bytes_max: usize,
        before: Option<OrderedTo>,
        broker: &Arc<dyn Broker>,
    ) -> Self {
        Self {
            held: Held::new(bytes_max, before),
            watermark: i64::MIN,
            before_to: before.map_or(i64::MIN, |before| before.read_to),
            broker: Arc::clone(broker),
        }
    }
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
            is_global: false,
            reader,
            records: Records::default(),
            next: 0,
            dry: false,
            moved: false,
            has_read: false,
            read_at: now,
            raised_at: None,
            raises: VecDeque::new(),
            readings: VecDeque::new(),
            ordering: None,
        }
    }

    /// The same input, which repeats raises that an earlier run of the job has written down.
    pub(crate) fn repeating(self, mut raises: Vec<LoggedRaise>) -> Self {
        raises.sort_unstable();
        Self { raises: raises.into(), ..self }
    }

    /// The same input, before whose records the clock on the wall is what an earlier run has read:
    /// (offset, time), in the order in which it did.
    pub(crate) fn reading(self, readings: Vec<(i64, i64)>) -> Self {
        Self { readings: readings.into(), ..self }
    }

    /// The next time on the wall that was read before its next record.
    pub(crate) fn repeat_reading(&mut self) -> Option<i64> {
        let &(next_offset, now_ms) = self.readings.front()?;
        if next_offset > self.position() {
            return None;
        }
        self.readings.pop_front();
        Some(now_ms)
    }

    /// The time up to which it was passed over before its next record.
    pub(crate) fn repeat_raises(&mut self) -> Option<i64> {
        if self.raises.is_empty() {
            return None;
        }
        let position = self.position();
        let mut to = None;
        while self.raises.front().is_some_and(|raise| raise.next_offset <= position) {
            to = to.max(self.raises.pop_front().map(|raise| raise.raised_to));
        }
        to
    }

    /// The running transaction ends at `now`.
    pub(crate) fn settle(&mut self, now: Duration) {
        self.moved = false;
        if std::mem::take(&mut self.has_read) {
            (self.read_at, self.raised_at) = (now, None);
        }
    }

    /// The same input as a partition of a global table.
    pub(crate) fn global(self) -> Self {
        Self { is_global: true, ..self }
    }

    /// Asks the reader again, if it had nothing.
    pub(crate) fn look_again(&mut self) {
        self.dry = false;
    }

    /// Whether there is a record to be processed, reading more if need be. A reader that had nothing is
    /// asked again only after [`look_again`](Self::look_again).
    pub(crate) fn fill(&mut self) -> Result<bool> {
        while self.next == self.records.len() {
            if self.dry {
                return Ok(false);
            }
            match self.reader.poll()? {
                Some(records) => (self.records, self.next) = (records, 0),
                None => self.dry = true,
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

    /// The same input, whose records are taken in the order of source time.
    pub(crate) fn ordered(self, ordering: Ordering) -> Self {
        Self { ordering: Some(ordering), ..self }
    }

    /// The head of an ordered input goes to those that wait.
    pub(crate) fn take_head(&mut self, place: Place) {
        if let (Some(ordering), Some(record)) = (&mut self.ordering, self.records.get(self.next)) {
            ordering.held.take(place, &record);
        }
    }

    /// Where to go on after a restart.
    pub(crate) fn position(&self) -> i64 {
        let held = self.ordering.as_ref().and_then(|ordering| ordering.held.first_offset());
        held.unwrap_or_else(|| self.read_position())
    }

    /// How far an ordered input is.
    pub(crate) fn ordered_to(&self) -> Option<OrderedTo> {
        let ordering = self.ordering.as_ref()?;
        let read_to = self.read_position().max(ordering.before_to);
        Some(ordering.held.ordered_to(read_to))
    }

    /// The offset of the next record to be read.
    pub(crate) fn read_position(&self) -> i64 {
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

/// Which input is next: the smallest (timestamp, place) among those that have a record.
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
        fn metadata_survives(
            clock: i64,
            watermarks: Vec<i64>,
            globals in prop::collection::vec((any::<[u8; 16]>(), any::<u32>(), any::<i64>()), 0..5),
            read_to: Option<i64>,
        ) {
            let global = |(topic, partition, offset)| GlobalPosition { topic, partition, offset };
            let globals = globals.into_iter().map(global).collect();
            let ordered = read_to.map(|read_to| OrderedTo { read_to, released: None });
            let time = InputTime { clock, watermarks, globals, ordered };
            prop_assert_eq!(InputTime::decode(&time.encode()), Some(time));
        }

        #[test]
        fn arbitrary_metadata_never_panics(bytes: Vec<u8>) {
            if let Some(time) = InputTime::decode(&bytes) {
                prop_assert!(time.watermarks.len() + time.globals.len() <= bytes.len());
            }
        }
    }

    #[test]
    fn metadata_without_global_positions_is_what_it_always_was() {
        let ordered = None;
        let time = InputTime { clock: 1, watermarks: vec![-1], globals: Vec::new(), ordered };
        assert_eq!(time.encode(), [1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
        let globals = vec![GlobalPosition { topic: [7; 16], partition: 3, offset: 2 }];
        let time = InputTime { clock: 1, watermarks: vec![], globals, ordered };
        let mut golden = vec![2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
        golden.extend_from_slice(&[7; 16]);
        golden.extend_from_slice(&[3, 4]);
        assert_eq!(time.encode(), golden);
    }

    #[test]
    fn a_global_position_is_the_furthest_that_any_input_carries() {
        let at =
            |topic, partition, offset| GlobalPosition { topic: [topic; 16], partition, offset };
        let carried = [at(1, 0, 5), at(1, 0, 9), at(1, 1, 20), at(2, 0, 30)];
        assert_eq!(global_position(&carried, [1; 16], 0), Some(9));
        assert_eq!(global_position(&carried, [3; 16], 0), None);
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
