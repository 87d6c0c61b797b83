//! Records of a repartition partition that wait for their turn: what `.ordered()` holds back.
//!
//! Why: behind a repartition records arrive as the upstream tasks happened to send them. Those of a
//! source time are all there once the watermark has passed it; taken by (source time, upstream task,
//! offset) they come in one order, whatever ran ahead.
//!
//! ```text
//!   partition   a7  b3  a9  b4  w5   ..         a, b: upstream tasks; w5: no record below 5 comes any more
//!               released:  b3 b4    held: a7 a9
//!   committed:  the offset of a7, and (read to: after w5, released to: b4)
//! ```
//!
//! Nothing is stored for it. What is committed is the offset of the first record that is held, and the
//! place of the last one that was released: a restart reads from there again, before anything else, and
//! leaves out what lies before that place. The topic is not purged behind it.
//!
//! Invariants
//! * a record is released only when the watermark is greater than its source time.
//! * `bytes` stays below the limit, apart from one record: the last places are given up first, and are
//!   read again when it is their turn; every record at `cut` or behind it is in the log only.
//!
//! On crash: read again, see above.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::{Headers, RawRecord};
use crate::operator::envelope::{put_varint, take_varint, unzigzag, zigzag};

/// What a record takes beside its bytes.
const OVERHEAD_BYTES: usize = 160;

/// The order in which records are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) source_time: i64,
    /// The upstream task.
    pub(crate) upstream: u32,
    pub(crate) offset: i64,
}

/// How far an ordered partition was when its position was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrderedTo {
    /// Records up to here, exclusive, had been read.
    pub(crate) read_to: i64,
    /// The last one of them that had been released.
    pub(crate) released: Option<Place>,
}

impl OrderedTo {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(zigzag(self.read_to), out);
        out.push(u8::from(self.released.is_some()));
        if let Some(Place { source_time, upstream, offset }) = self.released {
            put_varint(zigzag(source_time), out);
            put_varint(u64::from(upstream), out);
            put_varint(zigzag(offset), out);
        }
    }

    /// `None`: not what `encode` wrote.
    pub(crate) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let read_to = unzigzag(take_varint(bytes).ok()?);
        let (&has_released, rest) = bytes.split_first()?;
        *bytes = rest;
        let released = match has_released {
            0 => None,
            1 => Some(Place {
                source_time: unzigzag(take_varint(bytes).ok()?),
                upstream: u32::try_from(take_varint(bytes).ok()?).ok()?,
                offset: unzigzag(take_varint(bytes).ok()?),
            }),
            _ => return None,
        };
        Some(Self { read_to, released })
    }
}

/// A record that waits.
#[derive(Debug)]
pub(crate) struct HeldRecord {
    offset: i64,
    timestamp: i64,
    key: Option<Box<[u8]>>,
    value: Option<Box<[u8]>>,
    headers: Option<Headers>,
}

impl HeldRecord {
    fn of(record: &RawRecord<'_>) -> Self {
        Self {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(Box::from),
            value: record.value.map(Box::from),
            headers: record.headers.cloned(),
        }
    }

    fn bytes(&self) -> usize {
        let len = |part: &Option<Box<[u8]>>| part.as_ref().map_or(0, |part| part.len());
        let headers = self.headers.iter().flat_map(Headers::iter);
        let in_headers: usize = headers
            .map(|header| header.key.len() + header.value.as_ref().map_or(0, |value| value.len()))
            .sum();
        OVERHEAD_BYTES + len(&self.key) + len(&self.value) + in_headers
    }

    pub(crate) fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The record as it was read.
    pub(crate) fn raw(&self) -> RawRecord<'_> {
        RawRecord {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self.headers.as_ref(),
        }
    }
}

/// What one partition holds back. Pure.
#[derive(Debug)]
pub(crate) struct Held {
    bytes_max: usize,
    bytes: usize,
    records: BTreeMap<Place, HeldRecord>,
    offsets: BTreeSet<i64>,
    /// The first place that was given up.
    cut: Option<Place>,
    /// No record that was given up lies before this offset.
    given_up_from: Option<i64>,
    released: Option<Place>,
    /// What had been read, and released of it, when the position was committed.
    before: Option<OrderedTo>,
}

impl Held {
    pub(crate) fn new(bytes_max: usize, before: Option<OrderedTo>) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            records: BTreeMap::new(),
            offsets: BTreeSet::new(),
            cut: None,
            given_up_from: None,
            released: before.and_then(|before| before.released),
            before,
        }
    }

    /// Takes a record that was read.
    pub(crate) fn take(&mut self, place: Place, record: &RawRecord<'_>) {
        let is_done = |before: OrderedTo| {
            place.offset < before.read_to && before.released.is_some_and(|last| place <= last)
        };
        if self.before.is_some_and(is_done) {
            return;
        }
        if self.cut.is_some_and(|cut| place >= cut) {
            self.give_up(place);
            return;
        }
        let record = HeldRecord::of(record);
        self.bytes += record.bytes();
        self.offsets.insert(place.offset);
        self.records.insert(place, record);
        while self.bytes > self.bytes_max && self.records.len() > 1 {
            let Some((last, record)) = self.records.pop_last() else { break };
            self.bytes -= record.bytes();
            self.offsets.remove(&last.offset);
            self.give_up(last);
        }
    }

    fn give_up(&mut self, place: Place) {
        self.cut = Some(self.cut.map_or(place, |cut| cut.min(place)));
        let from = self.given_up_from.map_or(place.offset, |from| from.min(place.offset));
        self.given_up_from = Some(from);
    }

    /// The record whose turn is next, unless it must be read again.
    pub(crate) fn first(&self) -> Option<(Place, &HeldRecord)> {
        self.records.first_key_value().map(|(place, record)| (*place, record))
    }

    /// The place whose turn is next.
    pub(crate) fn next_place(&self) -> Option<Place> {
        self.records.first_key_value().map(|(place, _)| *place).or(self.cut)
    }

    /// Takes out the first record.
    pub(crate) fn release(&mut self) -> Option<HeldRecord> {
        let (place, record) = self.records.pop_first()?;
        self.bytes -= record.bytes();
        self.offsets.remove(&place.offset);
        self.released = self.released.max(Some(place));
        Some(record)
    }

    /// Where to read again what was given up, if that is what comes next. The caller then hands over all
    /// records from there to where it has read.
    pub(crate) fn begin_again(&mut self) -> Option<i64> {
        if !self.records.is_empty() {
            return None;
        }
        self.cut.take()?;
        let from = self.given_up_from.take();
        // What was released lies before all that was given up.
        self.before = Some(OrderedTo { read_to: i64::MAX, released: self.released });
        from
    }

    /// What was given up has been read again, up to here.
    pub(crate) fn read_again(&mut self, read_to: i64) {
        self.before = Some(OrderedTo { read_to, released: self.released });
    }

    /// The first offset that must be read again after a restart; `None`: nothing is held.
    pub(crate) fn first_offset(&self) -> Option<i64> {
        let held = self.offsets.first().copied();
        held.into_iter().chain(self.given_up_from).min()
    }

    /// What is committed beside the position.
    pub(crate) fn ordered_to(&self, read_to: i64) -> OrderedTo {
        OrderedTo { read_to, released: self.released }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(source_time: i64, upstream: u32, offset: i64) -> Place {
        Place { source_time, upstream, offset }
    }

    fn raw(offset: i64, value: &[u8]) -> RawRecord<'_> {
        RawRecord { offset, timestamp: offset, key: None, value: Some(value), headers: None }
    }

    proptest! {
        /// Whatever the limit, and wherever a restart falls: all records, once each, in order.
        #[test]
        fn records_come_in_order_with_little_memory_and_after_restarts(
            log in prop::collection::vec((0i64..20, 0u32..3), 0..60),
            limit in 1usize..2_000,
            restart_after in 0usize..60,
        ) {
            let all: Vec<Place> =
                (0..).zip(&log).map(|(offset, &(t, up))| place(t, up, offset)).collect();
            let mut sorted = all.clone();
            sorted.sort_unstable();
            let end = i64::try_from(all.len()).unwrap();
            let read = |held: &mut Held, from: i64| {
                all.iter().filter(|p| p.offset >= from).for_each(|p| held.take(*p, &raw(p.offset, b"v")));
            };
            let mut held = Held::new(limit, None);
            read(&mut held, 0);
            let mut released = Vec::new();
            while let Some(next) = held.next_place() {
                prop_assert!(held.bytes <= limit || held.records.len() == 1);
                if released.len() == restart_after {
                    let (from, to) = (held.first_offset().unwrap_or(end), held.ordered_to(end));
                    held = Held::new(limit, Some(to));
                    read(&mut held, from);
                    prop_assert_eq!(held.next_place(), Some(next));
                }
                if let Some(from) = held.begin_again() {
                    read(&mut held, from);
                    held.read_again(end);
                }
                let record = held.release().unwrap();
                prop_assert_eq!(record.offset, next.offset);
                released.push(next);
                prop_assert!(released.len() <= sorted.len());
            }
            prop_assert_eq!(released, sorted);
        }

        #[test]
        fn what_is_committed_survives(read_to: i64, last in any::<Option<(i64, u32, i64)>>()) {
            let released = last.map(|(t, upstream, offset)| place(t, upstream, offset));
            let to = OrderedTo { read_to, released };
            let mut bytes = Vec::new();
            to.encode(&mut bytes);
            let mut rest = &bytes[..];
            prop_assert_eq!(OrderedTo::decode(&mut rest), Some(to));
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_record_that_comes_after_its_turn_is_released_at_once_not_dropped() {
        let before = OrderedTo { read_to: 10, released: Some(place(5, 0, 8)) };
        let mut held = Held::new(1_000, Some(before));
        held.take(place(4, 0, 9), &raw(9, b"known"));
        held.take(place(4, 0, 10), &raw(10, b"new"));
        assert_eq!(held.release().map(|record| record.offset), Some(10));
        assert_eq!(held.ordered_to(11).released, Some(place(5, 0, 8)));
    }
}
