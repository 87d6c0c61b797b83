//! "Equal", for two directories, and the comparison with the model.
//!
//! Per output topic and key the same sequence of (value, timestamp, headers); where a topic is written
//! on update, the same last value per key. Bytes are compared, so nothing that a decoder would forgive
//! is forgiven. Offsets and the order between keys are free.

use std::collections::BTreeMap;
use std::path::Path;

use core_log::Log;
use streams::prelude::*;

use crate::child::{Spec, number};
use crate::directory::{Stored, create, open, read};
use crate::jobs::{Activity, Expected, Job, Placed, model};
use crate::stores::unlike_their_changelogs;

/// What is said of one key, in order.
type Said = Vec<(Option<Vec<u8>>, i64, Vec<(String, Option<Vec<u8>>)>)>;

/// All that "Equal" compares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Output {
    /// By topic and key.
    pub(crate) sequences: BTreeMap<(String, Option<Vec<u8>>), Said>,
    /// By topic and key.
    pub(crate) latest: BTreeMap<(String, Vec<u8>), Vec<u8>>,
}

impl Output {
    /// Where the first difference is; `None`: Equal.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        first_difference(&self.sequences, &other.sequences)
            .or_else(|| first_difference(&self.latest, &other.latest))
    }
}

/// The first key under which two maps differ, with both values.
pub(crate) fn first_difference<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    left: &BTreeMap<K, V>,
    right: &BTreeMap<K, V>,
) -> Option<String> {
    let key =
        left.keys().chain(right.keys()).filter(|&key| left.get(key) != right.get(key)).min()?;
    let count = left.keys().filter(|&key| left.get(key) != right.get(key)).count();
    let (l, r) = (left.get(key), right.get(key));
    Some(format!("{count} differ; the first is {key:?}:\n  {l:?}\n  {r:?}"))
}

/// Runs the same input without a kill: what it writes is what a killed job must have written.
fn undisturbed(job: Job, input: &[Placed]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), job, input, false);
    let lines = Spec::new(dir.path(), job).spawn().succeed();
    let last = lines.iter().rev().find(|line| line.starts_with("read=")).unwrap();
    assert_eq!(number(last, "late"), Some(model(job, input).late), "{last}");
    let log = open(dir.path());
    let output = output(&log, job);
    log.close().unwrap();
    output
}

/// A job that has read all of `input` and stopped cleanly: source, stores, model and "Equal".
pub(crate) fn verify(dir: &Path, job: Job, input: &[Placed], story: &str) {
    let log = open(dir);
    assert_eq!(read(&log, "clicks").len(), input.len(), "{story}");
    let wrong = unlike_their_changelogs(dir, &log, job);
    assert!(wrong.is_empty(), "{story}: {wrong:#?}");
    assert!(told(&log) == model(job, input).written_by(job), "{story}: not what the model says");
    let difference = output(&log, job).difference(&undisturbed(job, input));
    assert_eq!(difference, None, "{story}: not Equal");
    log.close().unwrap();
}

/// What the job has written.
pub(crate) fn output(log: &Log, job: Job) -> Output {
    let mut output = Output::default();
    for &name in job.final_outputs() {
        for record in read(log, name) {
            let said = output.sequences.entry((name.to_owned(), record.key)).or_default();
            said.push((record.value, record.timestamp, record.headers));
        }
    }
    for &name in job.updated_outputs() {
        for record in read(log, name) {
            let key = (name.to_owned(), record.key.unwrap());
            match record.value {
                Some(value) => output.latest.insert(key, value),
                None => output.latest.remove(&key),
            };
        }
    }
    output
}

/// The output in the words of the model; the counters are left at zero.
pub(crate) fn told(log: &Log) -> Expected {
    let mut told = Expected::default();
    for record in read(log, "page-counts") {
        let (key, start) = windowed::<String>(&record);
        let count = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        let twice = told.counts.insert((key, start), (count, record.timestamp));
        assert!(twice.is_none(), "a window closed twice: {record:?}");
    }
    for record in read(log, "activity") {
        let key = windowed::<u32>(&record);
        let row: Activity = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        let twice = told.activity.insert(key, (row, record.timestamp));
        assert!(twice.is_none(), "a window closed twice: {record:?}");
    }
    for record in read(log, "page-totals") {
        let key = String::from_utf8(record.key.unwrap()).unwrap();
        told.totals.insert(key, serde_json::from_slice(&record.value.unwrap()).unwrap());
    }
    for record in read(log, "meetings") {
        *told.meetings.entry(String::from_utf8(record.key.unwrap()).unwrap()).or_default() += 1;
    }
    for record in read(log, "places") {
        let user = String::from_utf8(record.key.unwrap()).unwrap();
        told.places.insert(user, serde_json::from_slice(&record.value.unwrap()).unwrap());
    }
    told
}

fn windowed<K: Key>(record: &Stored) -> (K, i64) {
    let key = Windowed::<K>::decode(record.key.as_deref()).unwrap().unwrap();
    (key.key, key.start)
}

#[test]
fn a_doubled_a_lost_and_a_changed_record_are_differences() {
    let said = |values: &[u8]| -> Output {
        let said = values.iter().map(|&v| (Some(vec![v]), 7, Vec::new())).collect();
        let key = ("t".to_owned(), Some(vec![1]));
        Output { sequences: BTreeMap::from([(key, said)]), ..Output::default() }
    };
    assert_eq!(said(&[1, 2]).difference(&said(&[1, 2])), None);
    for other in [&[1, 2, 2][..], &[1], &[2, 1], &[1, 3]] {
        assert!(said(&[1, 2]).difference(&said(other)).is_some(), "{other:?}");
        assert!(said(other).difference(&said(&[1, 2])).is_some(), "{other:?}");
    }
}
