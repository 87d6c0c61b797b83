//! Counts on their way to a repartition topic: records of one key and the same windows leave as one.
//!
//! Why here: the consumer only counts, so what is known on this side need not travel record by record. A
//! key that comes a thousand times between two hand-overs is one record, encoded, routed, read and looked
//! up once, in each of its windows where these overlap.
//!
//! ```text
//!   record --late, null, or keys hardly repeat--> as it is
//!      `----> partials by (key, windows): count, largest timestamp, largest source time
//!                 `-- full, or everything is handed over --> repartition topic
//! ```
//!
//! Invariants
//! * a partial is of records that all its windows take: those of one stretch between two steps.
//! * a record that is late for a window leaves as it is: the consumer judges and counts each of them.
//!   One that is in time stays so under the largest source time of its partial, which belong to records
//!   that are in time too.
//! * partials leave before the watermark of a commit, which may be greater than their source times.
//! * where keys hardly repeat, records leave as they are for a while.
//!
//! On crash: gone with the transaction, and so are the positions of the records.

use std::hash::BuildHasher;
use std::marker::PhantomData;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::envelope;
use crate::codec::{Bincode, Codec};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::processor::{Context, Process, Record, Shared};
use crate::record::Headers;
use crate::time::{Span, Stamp, Windows};

/// Keys and windows that are kept at most.
const PARTIALS_MAX: usize = 8 * 1024;
/// Records after which everything leaves, so that what follows can go on in the same transaction.
const RECORDS_MAX: usize = 16 * 1024;
/// Where fewer records than this share a partial, they leave as they are for that many records.
const PAYS_FROM: usize = 2;
const REST_RECORDS: usize = 256 * 1024;
/// Fewer records say nothing of how often keys repeat.
const JUDGED_FROM: usize = 1_024;

/// What gathers records before they leave.
pub(crate) trait Combines {
    /// Emits what has been gathered.
    fn flush(&mut self, ctx: &mut Context) -> Result<()>;
}

/// The first and the last of the windows that records share; `None`: there are no windows.
type Pane = Option<(Span, Span)>;

/// What is known of one key and pane.
struct Partial {
    hash: u64,
    /// Where its key begins in `keys`; it ends where the next one begins.
    key_at: usize,
    pane: Pane,
    count: u64,
    stamp: Stamp,
}

/// Counts records in front of a repartition topic.
pub(crate) struct CountSink<K> {
    topic: String,
    output: usize,
    /// The windows that are counted in, if there are any.
    window: Option<Windows>,
    hasher: DefaultHashBuilder,
    places: HashTable<usize>,
    partials: Vec<Partial>,
    keys: Vec<u8>,
    /// Records in the partials.
    taken: usize,
    /// Records that leave as they are before it is tried again.
    rest: usize,
    key: Vec<u8>,
    value: Vec<u8>,
    types: PhantomData<fn() -> K>,
}

impl<K: Key> CountSink<K> {
    pub(crate) fn new(topic: String, output: usize, window: Option<Windows>) -> Self {
        Self {
            topic,
            output,
            window,
            hasher: DefaultHashBuilder::default(),
            places: HashTable::new(),
            partials: Vec::new(),
            keys: Vec::new(),
            taken: 0,
            rest: 0,
            key: Vec::new(),
            value: Vec::new(),
            types: PhantomData,
        }
    }

    /// Emits a record as it is.
    fn pass(&mut self, ctx: &mut Context, stamp: Stamp, is_null: bool) -> Result<()> {
        self.value.clear();
        if is_null {
            envelope::null(stamp, &mut self.value);
        } else {
            envelope::key_only(stamp, &mut self.value);
        }
        let (routed_by, none) = (K::partition_bytes(&self.key), Headers::none());
        let (key, value) = (Some(&*self.key), Some(&*self.value));
        ctx.emit(self.output, Some(routed_by), stamp.timestamp, key, value, &none)
    }

    fn key_of(&self, place: usize) -> &[u8] {
        let end = self.partials.get(place + 1).map_or(self.keys.len(), |next| next.key_at);
        &self.keys[self.partials[place].key_at..end]
    }

    fn add(&mut self, pane: Pane, stamp: Stamp) {
        let starts = pane.map(|(first, last)| (first.start, last.start));
        let hash = self.hasher.hash_one((starts, &*self.key));
        let is_it =
            |&place: &usize| self.partials[place].pane == pane && self.key_of(place) == &*self.key;
        let found = self.places.find(hash, is_it).copied();
        self.taken += 1;
        if let Some(place) = found {
            let partial = &mut self.partials[place];
            partial.count += 1;
            partial.stamp.timestamp = partial.stamp.timestamp.max(stamp.timestamp);
            partial.stamp.source_time = partial.stamp.source_time.max(stamp.source_time);
            return;
        }
        let place = self.partials.len();
        self.partials.push(Partial { hash, key_at: self.keys.len(), pane, count: 1, stamp });
        self.keys.extend_from_slice(&self.key);
        let partials = &self.partials;
        self.places.insert_unique(hash, place, |&place| partials[place].hash);
    }
}

impl<K: Key, V> Process<K, V> for CountSink<K> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        let Some(key) = &record.key else {
            ctx.counters.null_keys += 1;
            return Ok(());
        };
        self.key.clear();
        key.encode(&mut self.key);
        let stamp = record.stamp();
        if record.value.is_none() {
            return self.pass(ctx, stamp, true);
        }
        // A judge looks at each record, by two graces.
        if self.rest > 0 || ctx.judge.is_some() {
            self.rest = self.rest.saturating_sub(1);
            return self.pass(ctx, stamp, false);
        }
        let pane = match &self.window {
            None => None,
            Some(windows) => {
                let mut all = windows.windows_of(stamp.timestamp);
                // The first one closes first.
                let first = all.next().filter(|&span| !windows.is_late(span, stamp.source_time));
                let Some(first) = first else { return self.pass(ctx, stamp, false) };
                Some((first, all.next_back().unwrap_or(first)))
            }
        };
        self.add(pane, stamp);
        if self.partials.len() >= PARTIALS_MAX || self.taken >= RECORDS_MAX {
            return self.flush(ctx);
        }
        Ok(())
    }
}

impl<K: Key, V> Process<K, V> for Shared<CountSink<K>> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        self.borrow_mut().process(ctx, record)
    }
}

impl<K: Key> Combines for CountSink<K> {
    fn flush(&mut self, ctx: &mut Context) -> Result<()> {
        let none = Headers::none();
        for place in 0..self.partials.len() {
            let Partial { count, stamp, .. } = self.partials[place];
            self.value.clear();
            if count == 1 {
                envelope::key_only(stamp, &mut self.value);
            } else {
                envelope::begin_value(stamp, &mut self.value);
                Bincode::encode(&count, &mut self.value).map_err(|e| Error::Encode {
                    topic: self.topic.clone(),
                    reason: e.to_string(),
                })?;
            }
            let key = self.key_of(place);
            let (routed_by, value) = (K::partition_bytes(key), Some(&*self.value));
            ctx.emit(self.output, Some(routed_by), stamp.timestamp, Some(key), value, &none)?;
        }
        if self.taken >= JUDGED_FROM && self.taken < PAYS_FROM * self.partials.len() {
            self.rest = REST_RECORDS;
        }
        self.places.clear();
        self.partials.clear();
        self.keys.clear();
        self.taken = 0;
        Ok(())
    }
}

/// How many records a repartition record stands for.
pub(crate) fn decode_count(bytes: Option<&[u8]>) -> Result<u64, String> {
    bytes.map_or(Ok(1), |bytes| Bincode::decode(bytes).map_err(|e| e.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::broker::{Broker, Scope, SimulatedLog};
    use crate::ids::TaskId;
    use crate::operator::envelope::Envelope;
    use crate::processor::Output;
    use crate::time::{hopping, millis, tumbling};

    /// What a partition of a repartition topic gets: key, timestamp, source time, count (0: null).
    type Got = (String, i64, i64, u64);

    /// Sends (key, timestamp, source time, null?) and hands everything over at the end.
    fn sent(window: Option<Windows>, records: &[(&str, i64, i64, bool)]) -> Vec<Got> {
        let mut log = SimulatedLog::new(1, 0);
        log.ensure_topic("r", 1).unwrap();
        let broker = log.broker(i64::MAX).unwrap();
        let topic = broker.topics().unwrap().into_iter().find(|t| &*t.name == "r").unwrap();
        let transaction = broker.producer("job").unwrap().begin().unwrap();
        let task = TaskId { subtopology: 0, partition: 0 };
        let outputs = vec![Some(Output::new(topic.clone(), &broker))];
        let mut ctx = Context::new(task, 1, outputs);
        ctx.begin(Arc::clone(&transaction));
        let mut sink = CountSink::<String>::new("r".to_owned(), 0, window);
        for &(key, timestamp, source_time, is_null) in records {
            let (key, value) = (Some(key.to_owned()), (!is_null).then_some(()));
            let headers = Headers::none();
            sink.process(&mut ctx, Record { key, value, timestamp, source_time, headers }).unwrap();
        }
        sink.flush(&mut ctx).unwrap();
        ctx.flush().unwrap();
        let mut reader = broker.reader(&topic, 0, 0, Scope::Own).unwrap();
        let mut got = Vec::new();
        while let Some(records) = reader.poll().unwrap() {
            for raw in (0..records.len()).filter_map(|i| records.get(i)) {
                let key = String::from_utf8(raw.key.unwrap().to_vec()).unwrap();
                got.push(match envelope::decode(raw.value.unwrap(), raw.timestamp).unwrap() {
                    Envelope::KeyOnly { source_time } => (key, raw.timestamp, source_time, 1),
                    Envelope::Record { source_time, value: None } => {
                        (key, raw.timestamp, source_time, 0)
                    }
                    Envelope::Record { source_time, value } => {
                        (key, raw.timestamp, source_time, decode_count(value).unwrap())
                    }
                    Envelope::Watermarks(_) => panic!("nobody sent watermarks"),
                });
            }
        }
        got
    }

    #[test]
    fn records_of_one_key_leave_as_one_with_the_largest_times() {
        let records = [("a", 5, 20, false), ("b", 7, 7, false), ("a", 9, 10, false)];
        let a = ("a".to_owned(), 9, 20, 2);
        assert_eq!(sent(None, &records), [a, ("b".to_owned(), 7, 7, 1)]);
    }

    #[test]
    fn late_records_and_nulls_leave_one_by_one_and_windows_are_apart() {
        let windows = Windows::from(tumbling(millis(10)).grace(millis(5)));
        let records = [
            ("a", 5, 14, false),
            ("a", 6, 15, false),
            ("a", 7, 16, false),
            ("a", 8, 8, true),
            ("a", 9, 9, false),
            ("a", 10, 10, false),
        ];
        let got = sent(Some(windows), &records);
        let a = |timestamp, source_time, count| ("a".to_owned(), timestamp, source_time, count);
        assert_eq!(got, [a(6, 15, 1), a(7, 16, 1), a(8, 8, 0), a(9, 14, 2), a(10, 10, 1)]);
        let of_nine = windows.windows_of(9).next().unwrap();
        assert!(!windows.is_late(of_nine, 14), "nor is what is left");
    }

    #[test]
    fn records_between_two_steps_of_hopping_windows_leave_as_one() {
        let window = Windows::from(hopping(millis(10), millis(4)).grace(millis(5)));
        // Starts at 12 and 16; at 8, 12 and 16; at 12 and 16 again; then those of 8 have closed.
        let times = [(18, 18), (17, 20), (19, 22), (16, 23), (17, 22)];
        let records = times.map(|(at, source_time)| ("a", at, source_time, false));
        let got = sent(Some(window), &records);
        let a = |timestamp, source_time, count| ("a".to_owned(), timestamp, source_time, count);
        assert_eq!(got, [a(16, 23, 1), a(19, 22, 2), a(17, 22, 2)]);
        for (_, timestamp, source_time, _) in &got[1..] {
            let mut all = window.windows_of(*timestamp);
            assert!(
                all.all(|span| !window.is_late(span, *source_time)),
                "what was in time stays so"
            );
        }
    }

    #[test]
    fn every_record_is_counted_once_however_often_keys_repeat() {
        for keys in [7, 9_000, 40_000] {
            let names: Vec<String> = (0..keys).map(|key| format!("k{key}")).collect();
            let records: Vec<_> = (0..60_000).map(|i| (&*names[i % keys], 1, 1, false)).collect();
            let got = sent(None, &records);
            let mut counts: BTreeMap<String, u64> = BTreeMap::new();
            got.iter()
                .for_each(|(key, _, _, count)| *counts.entry(key.clone()).or_default() += count);
            assert_eq!(counts.values().sum::<u64>(), 60_000);
            assert_eq!(counts.len(), keys);
            assert_eq!(got.len() < 1_000, keys == 7, "{} records for {keys} keys", got.len());
        }
    }
}
