//! A job over fresh records beside many other rows of its stores: the cost must not depend on those.
//!
//! ```text
//!   build: ROWS other rows, and number 0   --job--> in RocksDB
//!   each run: fresh records of few keys    --job--> measured
//!   verify: everything that the job wrote, against the same numbers in a plain loop
//! ```

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;
use std::path::Path;

use streams::prelude::*;

use crate::compare::report;
use crate::cost::Cost;
use crate::job;
use crate::records::{COUNTS, PARTITIONS, RECEIPTS, app};
use crate::windows::WINDOWS;

/// A job and its records, each made of a number.
pub(crate) struct Beside {
    pub(crate) what: &'static str,
    pub(crate) topology: fn(&mut Topology),
    /// Writes so many other rows; answers how many records that are.
    pub(crate) build: fn(&Path, u64) -> u64,
    /// Writes the records of these numbers; answers how many they are.
    pub(crate) fill: fn(&Path, Range<u64>) -> u64,
    /// How many records a number has.
    pub(crate) records_each: u64,
    /// Compares what the job wrote with what it should have, for all numbers below this one.
    pub(crate) verify: fn(&Path, u64) -> Compared,
}

/// How many results were compared, or what is wrong.
pub(crate) type Compared = Result<usize, String>;

impl Beside {
    /// Millions of records per CPU-second beside so many other rows.
    fn measure(&self, records: u64, rows: u64, runs: u64) -> f64 {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let dir = dir.path();
        // Made here, they keep results of long ago until these are compared; a job's own topics would not.
        for results in [RECEIPTS.name(), COUNTS.name(), WINDOWS.name()] {
            job::write(dir, results, PARTITIONS, 0..0, |_, _| {});
        }
        let built = (self.build)(dir, rows) + (self.fill)(dir, 0..1);
        job::run(app(self.topology), dir, built);
        let numbers = records / self.records_each;
        let mut costs: Vec<Cost> = Vec::new();
        for run in 0..=runs {
            let written = (self.fill)(dir, 1 + run * numbers..1 + (run + 1) * numbers);
            let cost = job::run(app(self.topology), dir, written);
            if run > 0 {
                costs.push(cost);
            }
        }
        let name = format!("{}: job, {rows} other rows", self.what);
        let reached = report(&name, (numbers * self.records_each) as f64, &costs);
        match (self.verify)(dir, 1 + (runs + 1) * numbers) {
            Ok(results) => println!("{:<42} {results} results verified", ""),
            Err(difference) => panic!("{name}: WRONG: {difference}"),
        }
        reached
    }

    /// The same beside each of these numbers of rows.
    pub(crate) fn run(&self, records: u64, rows: &[u64], runs: u64) {
        let mut fewest = None;
        for rows in rows {
            let reached = self.measure(records, *rows, runs);
            let fewest = *fewest.get_or_insert(reached);
            println!("{:<42} ratio to the fewest rows {:.2}", "", reached / fewest);
        }
    }
}

fn written<K: RecordKey, V: Data>(
    dir: &Path,
    topic: Topic<K, V, Bincode>,
) -> impl Iterator<Item = (K, Option<V>)> {
    let log = Log::open(dir).expect("the log of the run");
    log.read(topic).into_iter().map(|record| {
        let record = record.expect("a result decodes");
        (record.key.expect("a result has a key"), record.value)
    })
}

/// Whether a topic has exactly these records, in any order.
pub(crate) fn same_records<K: RecordKey + Debug, V: Data + Debug>(
    dir: &Path,
    topic: Topic<K, V, Bincode>,
    expected: impl Iterator<Item = (K, V)>,
) -> Compared {
    let digest = |records: &mut dyn Iterator<Item = (K, Option<V>)>| {
        records.fold((0_usize, 0_u64), |(count, sum), record| {
            (count + 1, sum.wrapping_add(fingerprint(&format!("{record:?}"))))
        })
    };
    let expected = digest(&mut expected.map(|(key, value)| (key, Some(value))));
    let found = digest(&mut written(dir, topic));
    if expected == found {
        Ok(found.0)
    } else {
        Err(format!(
            "{} records with digest {:x}, not {} with {:x}",
            found.0, found.1, expected.0, expected.1
        ))
    }
}

/// Whether the last value of each key is the expected one, among the keys that are asked about.
pub(crate) fn same_rows<K: RecordKey + Ord + Debug, V: Data + PartialEq + Debug>(
    dir: &Path,
    topic: Topic<K, V, Bincode>,
    is_asked: impl Fn(&K) -> bool,
    expected: &BTreeMap<K, V>,
) -> Compared {
    let mut found = BTreeMap::new();
    for (key, value) in written(dir, topic).filter(|(key, _)| is_asked(key)) {
        match value {
            Some(value) => found.insert(key, value),
            None => found.remove(&key),
        };
    }
    for key in expected.keys().chain(found.keys()) {
        if expected.get(key) != found.get(key) {
            return Err(format!("{key:?}: {:?}, not {:?}", found.get(key), expected.get(key)));
        }
    }
    Ok(found.len())
}

/// FNV-1a.
fn fingerprint(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}
