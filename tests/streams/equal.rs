//! "Equal": the same sequence of (value, timestamp, headers) for each key of a topic.
//!
//! Offsets, partitions and the order between keys are free.

use std::collections::BTreeMap;

use streams::testing::TestRecord;

/// What was said of each key, in order.
pub(crate) fn per_key<K: Ord + Clone, V: Clone>(
    records: &[TestRecord<K, V>],
) -> BTreeMap<Option<K>, Vec<(Option<V>, i64)>> {
    let mut by_key: BTreeMap<Option<K>, Vec<(Option<V>, i64)>> = BTreeMap::new();
    for record in records {
        let said = by_key.entry(record.key.clone()).or_default();
        said.push((record.value.clone(), record.timestamp));
    }
    by_key
}

/// The last value of each key; a deleted key equals an absent one.
pub(crate) fn latest<K: Ord + Clone, V: Clone>(records: &[TestRecord<K, V>]) -> BTreeMap<K, V> {
    let mut rows = BTreeMap::new();
    for record in records {
        let Some(key) = record.key.clone() else { continue };
        match record.value.clone() {
            Some(value) => rows.insert(key, value),
            None => rows.remove(&key),
        };
    }
    rows
}
