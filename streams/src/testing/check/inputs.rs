//! Input for a check: records of several topics, encoded once and sent in each run.

use crate::codec::{Codec, Data};
use crate::dsl::Topic;
use crate::key::RecordKey;
use crate::record::Headers;
use crate::testing::TestDriver;

/// Where the clocks end unless the test says otherwise, behind the largest timestamp: one day.
const BEHIND_MS: i64 = 86_400_000;
/// 2026-01-01T00:00:00Z: where records without a timestamp begin.
const START_MS: i64 = 1_767_225_600_000;

/// The records that a check sends, in this order.
///
/// ```
/// use streams::prelude::*;
/// use streams::testing::Inputs;
/// const USERS: Topic<String, String> = topic("users");
/// const CLICKS: Topic<NoKey, String> = topic("clicks");
/// let inputs = Inputs::new()
///     .send_at(USERS, "ana".into(), "PT".into(), 0)
///     .send_at(CLICKS, NoKey, "ana".into(), 1_000)
///     .advance_to(60_000);
/// assert_eq!(inputs.len(), 2);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "inputs do nothing until they are checked"]
pub struct Inputs {
    records: Vec<Sent>,
    advance_to: Option<i64>,
}

#[derive(Clone, Debug)]
struct Sent {
    topic: &'static str,
    key: Option<Vec<u8>>,
    /// What of the key decides the partition.
    places: Vec<u8>,
    value: Option<Vec<u8>>,
    timestamp: i64,
    headers: Headers,
}

impl Inputs {
    /// No records yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A record, one millisecond after the one before it.
    ///
    /// # Panics
    ///
    /// If the value cannot be encoded.
    pub fn send<K: RecordKey, V: Data, C: Codec<V>>(
        self,
        topic: Topic<K, V, C>,
        key: K,
        value: V,
    ) -> Self {
        let last = self.records.last().map_or(START_MS, |sent| sent.timestamp);
        self.send_at(topic, key, value, last.saturating_add(1))
    }

    /// A record with a timestamp of its own, in milliseconds since 1970.
    ///
    /// # Panics
    ///
    /// If the value cannot be encoded.
    pub fn send_at<K: RecordKey, V: Data, C: Codec<V>>(
        self,
        topic: Topic<K, V, C>,
        key: K,
        value: V,
        timestamp: i64,
    ) -> Self {
        self.send_record(topic, Some(key), Some(value), timestamp, Headers::none())
    }

    /// A record with everything that a record can have: null keys and values, headers.
    ///
    /// # Panics
    ///
    /// If the value cannot be encoded.
    pub fn send_record<K: RecordKey, V: Data, C: Codec<V>>(
        mut self,
        topic: Topic<K, V, C>,
        key: Option<K>,
        value: Option<V>,
        timestamp: i64,
        headers: Headers,
    ) -> Self {
        let mut bytes = Vec::new();
        let key = key.is_some_and(|key| key.encode(&mut bytes)).then_some(bytes);
        let places = key.as_deref().map(|key| K::partition_bytes(key).to_vec());
        let value = value.map(|value| {
            let mut bytes = Vec::new();
            C::encode(&value, &mut bytes).expect("a test sends values that its codec can write");
            bytes
        });
        let (topic, places) = (topic.name(), places.unwrap_or_default());
        self.records.push(Sent { topic, key, places, value, timestamp, headers });
        self
    }

    /// How far the clocks of all sources are raised when everything has been processed, so that windows
    /// close and joins let records speak alone; one day behind the largest timestamp by default.
    pub fn advance_to(mut self, to: i64) -> Self {
        self.advance_to = Some(to);
        self
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn end(&self) -> i64 {
        let newest = self.records.iter().map(|sent| sent.timestamp).max();
        self.advance_to.unwrap_or_else(|| newest.unwrap_or(START_MS).saturating_add(BEHIND_MS))
    }

    pub(super) fn send_all(&self, driver: &mut TestDriver) {
        for sent in &self.records {
            let (topic, key) = (sent.topic, sent.key.as_deref());
            let partition = match key {
                Some(_) => {
                    let partitions = driver.engine.partitions_for(topic);
                    crate::broker::partition_for(&sent.places, partitions)
                }
                None => driver.next_turn(topic),
            };
            let value = sent.value.as_deref();
            driver.put(topic, partition, sent.timestamp, key, value, &sent.headers);
        }
    }
}
