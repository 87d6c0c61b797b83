//! What a driver has to show: outputs, tables, stores, late records, dead letters.
//!
//! Invariants
//! * only what is committed is seen.

use std::collections::BTreeMap;

use super::snapshot::Snapshot;
use super::{TestDriver, TestRecord};
use crate::broker::StoredRecord;
use crate::codec::{Codec, Data};
use crate::dsl::Topic;
use crate::error::Result;
use crate::key::{Key, RecordKey};
use crate::letter::{DeadLetter, letters_topic};
use crate::processor::LateRecord;
use crate::query::Store;

impl TestDriver {
    /// What was written to an output topic since the last `read` of it, after processing everything:
    /// keys and values of records that have both, each partition in order, merged by timestamp.
    ///
    /// # Panics
    ///
    /// If the job fails (see [`run`](Self::run)), or records do not decode as the topic's types.
    pub fn read<K: RecordKey, V: Data, C: Codec<V>>(
        &mut self,
        topic: Topic<K, V, C>,
    ) -> Vec<(K, V)> {
        let records = self.read_records(topic);
        records.into_iter().filter_map(|r| Some((r.key?, r.value?))).collect()
    }

    /// As [`read`](Self::read), with everything that a record has, tombstones included.
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    pub fn read_records<K: RecordKey, V: Data, C: Codec<V>>(
        &mut self,
        topic: Topic<K, V, C>,
    ) -> Vec<TestRecord<K, V>> {
        self.run().expect("the job failed");
        self.read_committed(topic)
    }

    /// As [`read_records`](Self::read_records), without running the job first.
    ///
    /// # Panics
    ///
    /// If records do not decode as the topic's types.
    pub fn read_committed<K: RecordKey, V: Data, C: Codec<V>>(
        &mut self,
        topic: Topic<K, V, C>,
    ) -> Vec<TestRecord<K, V>> {
        let from = self.read.entry(topic.name()).or_default();
        let stored =
            self.engine.log.read(topic.name(), from).expect("the log in memory is readable");
        let mut lanes: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for record in stored {
            lanes.entry(record.partition).or_default().push(record);
        }
        let mut lanes: Vec<_> =
            lanes.into_values().map(|lane| lane.into_iter().peekable()).collect();
        let mut merged = Vec::new();
        loop {
            let heads = lanes.iter_mut().enumerate();
            let times = heads.filter_map(|(i, lane)| lane.peek().map(|r| (r.timestamp, i)));
            let Some((_, lane)) = times.min() else { return merged };
            let record = lanes[lane].next().expect("it was peeked at");
            merged.push(TestRecord {
                partition: record.partition,
                offset: record.offset,
                key: K::decode(record.key.as_deref()).expect("an output key decodes"),
                value: record.value.map(|v| C::decode(&v).expect("an output value decodes")),
                timestamp: record.timestamp,
                headers: record.headers,
            });
        }
    }

    /// How many records came late, over all committed transactions.
    ///
    /// # Panics
    ///
    /// If the job fails; see [`run`](Self::run).
    pub fn late(&mut self) -> u64 {
        self.run().expect("the job failed");
        self.engine.counters.late
    }

    /// The late records themselves, as (store, encoded key, timestamp, source time), sorted.
    ///
    /// # Panics
    ///
    /// If the job fails; see [`run`](Self::run).
    pub fn late_records(&mut self) -> Vec<(String, Vec<u8>, i64, i64)> {
        self.run().expect("the job failed");
        self.engine.late.sort();
        let plain =
            |l: &LateRecord| (l.store.to_string(), l.key.clone(), l.timestamp, l.source_time);
        self.engine.late.iter().map(plain).collect()
    }

    /// The dead letters of all committed transactions, partition by partition, each in order.
    ///
    /// # Panics
    ///
    /// If the job fails; see [`run`](Self::run).
    pub fn dead_letters(&mut self) -> Vec<DeadLetter> {
        self.run().expect("the job failed");
        let topic = letters_topic(&self.engine.settings.id);
        let stored = self.engine.log.read(&topic, &mut Vec::new());
        let letter = |r: StoredRecord| {
            DeadLetter::read(r.key.as_deref(), r.value.as_deref(), r.timestamp, &r.headers)
        };
        let letters = stored.expect("the log in memory is readable").into_iter();
        letters.map(|record| letter(record).expect("the job writes letters only")).collect()
    }

    /// How many records a step could not take and left out, over all committed transactions.
    ///
    /// # Panics
    ///
    /// If the job fails; see [`run`](Self::run).
    pub fn skipped(&mut self) -> u64 {
        self.run().expect("the job failed");
        self.engine.counters.skipped
    }

    /// What `.print(..)` has printed so far, after processing everything; with crashes, lines of
    /// repeated transactions come again.
    ///
    /// # Panics
    ///
    /// If the job fails; see [`run`](Self::run).
    pub fn printed(&mut self) -> Vec<String> {
        self.run().expect("the job failed");
        self.engine.settings.printer.lines()
    }

    /// Null keys and null values that a step had to leave out, over all committed transactions.
    #[must_use]
    pub fn nulls(&self) -> (u64, u64) {
        (self.engine.counters.null_keys, self.engine.counters.null_values)
    }

    /// The latest value of each key of an output topic, in the order of the keys, after processing
    /// everything; deleted keys are not there. All records count, also those that were read before.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const WORDS: Topic<NoKey, String> = topic("words");
    /// const COUNTS: Topic<String, u64> = topic("counts");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(WORDS).key_by(|word| word.clone()).count("counts-by-word").to(COUNTS);
    /// }
    /// let mut d = TestDriver::new(topology);
    /// d.send(WORDS, NoKey, "sea".into()).run()?;
    /// d.send(WORDS, NoKey, "sea".into()).send(WORDS, NoKey, "land".into());
    /// assert_eq!(format!("{:?}", d.table(COUNTS)), r#"{"land": 1, "sea": 2}"#);
    /// # Ok::<(), streams::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    pub fn table<K: Key, V: Data, C: Codec<V>>(&mut self, topic: Topic<K, V, C>) -> BTreeMap<K, V> {
        let from = self.read.remove(topic.name());
        let records = self.read_records(topic);
        self.read.remove(topic.name());
        self.read.extend(from.map(|from| (topic.name(), from)));
        let mut table = BTreeMap::new();
        for record in records {
            let Some(key) = record.key else { continue };
            match record.value {
                Some(value) => table.insert(key, value),
                None => table.remove(&key),
            };
        }
        table
    }

    /// A store of the job as it is now, after processing everything, read as
    /// [`Handle::store`](crate::Handle::store) reads it: get, range, prefix, and fetch for windows. What is
    /// processed later does not show in it.
    ///
    /// ```
    /// use streams::prelude::*;
    /// const WORDS: Topic<NoKey, String> = topic("words");
    /// const COUNTS: Topic<String, u64> = topic("counts");
    /// fn topology(t: &mut Topology) {
    ///     t.stream(WORDS).key_by(|word| word.clone()).count("counts-by-word").to(COUNTS);
    /// }
    /// let mut d = TestDriver::new(topology).partitions(3);
    /// d.send(WORDS, NoKey, "sea".into()).send(WORDS, NoKey, "seal".into());
    /// let counts = d.store("counts-by-word")?;
    /// assert_eq!(counts.get(&"sea".to_string())?, Some(1_u64));
    /// let rows: Vec<(String, u64)> = counts.prefix("se").collect::<streams::Result<_>>()?;
    /// assert_eq!(rows, [("sea".to_string(), 1), ("seal".to_string(), 1)]);
    /// # Ok::<(), streams::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// * S030: the job has no such store.
    /// * S033: it has, with other types.
    /// * What stopped the job; see [`run`](Self::run).
    pub fn store<K: RecordKey, V: Data>(&mut self, name: &str) -> Result<Store<K, V>> {
        self.run()?;
        let store = self.engine.catalog()?.typed::<K, V>(name)?;
        let rows = self.engine.rows_of(&store)?;
        Ok(Store::new(store.clone(), Snapshot::of(store, rows)?.control()))
    }
}
