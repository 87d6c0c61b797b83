//! A query as a job, and the judge of what it wrote.
//!
//! ```text
//!   events --job--> what the log says --.
//!      |                                 >-- equal? --> how many results, or the first difference
//!      `----plain loop over a map ------'
//! ```
//!
//! Equal is: for each key the same sequence of values and timestamps; where results are updates, whose
//! number depends on when commits fall, the same last value. Records without a key are compared
//! partition by partition, as a job that only passes records on keeps them where they are.

use std::collections::BTreeMap;
use std::fmt::Debug;

use streams::prelude::*;

use super::generator::Input;

/// One of the queries.
pub(crate) trait Query: 'static {
    type Key: RecordKey;
    type Value: Data;
    /// Its number and what it asks.
    const NAME: &'static str;
    const OUT: Topic<Self::Key, Self::Value, Bincode>;

    fn topology(t: &mut Topology);

    /// Compares what the job wrote with what a plain loop over the events says: how many results, or the
    /// first difference.
    fn verdict(input: Input, said: Vec<Said<Self::Key, Self::Value>>) -> Verdict;
}

/// How many results, or what is wrong.
pub(crate) type Verdict = Result<usize, String>;

/// A record that a job wrote.
pub(crate) struct Said<K, V> {
    pub(crate) partition: u32,
    pub(crate) key: Option<K>,
    pub(crate) value: Option<V>,
    pub(crate) timestamp: i64,
}

/// Values and timestamps in order, for each key or partition.
pub(crate) type Sequences<K, V> = BTreeMap<K, Vec<(V, i64)>>;

/// Whether each partition has the expected sequence.
pub(crate) fn same_partitions<V: PartialEq + Debug>(
    expected: &Sequences<u32, V>,
    said: Vec<Said<NoKey, V>>,
) -> Verdict {
    let mut found = Sequences::new();
    for said in said {
        let value = said.value.ok_or("a record without a value")?;
        found.entry(said.partition).or_default().push((value, said.timestamp));
    }
    same(expected, &found)?;
    Ok(found.values().map(Vec::len).sum())
}

/// Whether each key has the expected sequence.
pub(crate) fn same_sequences<K: Ord + Debug, V: PartialEq + Debug>(
    expected: &Sequences<K, V>,
    said: Vec<Said<K, V>>,
) -> Verdict {
    let mut found = Sequences::new();
    for said in said {
        let key = said.key.ok_or("a record without a key")?;
        let value = said.value.ok_or("a record without a value")?;
        found.entry(key).or_default().push((value, said.timestamp));
    }
    same(expected, &found)?;
    Ok(found.values().map(Vec::len).sum())
}

/// Whether the last value of each key is the expected one; a deleted key equals an absent one.
pub(crate) fn same_rows<K: Ord + Debug, V: PartialEq + Debug>(
    expected: &BTreeMap<K, V>,
    said: Vec<Said<K, V>>,
) -> Verdict {
    let mut found = BTreeMap::new();
    for said in said {
        let key = said.key.ok_or("a record without a key")?;
        match said.value {
            Some(value) => found.insert(key, value),
            None => found.remove(&key),
        };
    }
    same(expected, &found)?;
    Ok(found.len())
}

fn same<K: Ord + Debug, V: PartialEq + Debug>(
    expected: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
) -> Result<(), String> {
    if expected.is_empty() {
        return Err("the events give no result: there is nothing to compare".to_owned());
    }
    for key in expected.keys().chain(found.keys()) {
        let (expected, found) = (expected.get(key), found.get(key));
        if expected != found {
            let short = |text: String| text.chars().take(300).collect::<String>();
            return Err(format!(
                "{key:?}: found {}, expected {}",
                short(format!("{found:?}")),
                short(format!("{expected:?}"))
            ));
        }
    }
    Ok(())
}

/// The clock of the slowest partition once all events are read: windows close by it.
pub(crate) fn slowest_clock(input: Input) -> i64 {
    let mut clocks: BTreeMap<u32, i64> = BTreeMap::new();
    for (partition, event) in input.events() {
        let clock = clocks.entry(partition).or_insert(i64::MIN);
        *clock = event.at().max(*clock);
    }
    clocks.into_values().min().unwrap_or(i64::MIN)
}
