//! A log directory between two runs of a job: written before, read after.
//!
//! "Equal", for two directories: per output topic and key the same sequence of (value, timestamp,
//! headers); where a topic is written on update, the same last value per key. Bytes are compared, so
//! nothing that a decoder would forgive is forgiven. Offsets and the order between keys are free.

use std::collections::BTreeMap;
use std::path::Path;

use core_log::{
    BatchBuilder, Durability, FetchBound, GroupId, Log, NO_HEADERS, PartitionReader, TopicSettings,
};
use streams::prelude::*;

use crate::jobs::{Activity, Expected, Job, PARTITIONS, Placed};

/// Every record's timestamp in the log; the jobs take event times from the values.
pub(crate) const LOG_TIME_MS: i64 = 1_767_225_600_000;
const SMALL_SEGMENT_BYTES: u32 = 128 << 10;
const BATCH_RECORDS: usize = 200;

/// A record as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) partition: u32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) timestamp: i64,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

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
    let key = left.keys().chain(right.keys()).filter(|&key| left.get(key) != right.get(key)).min()?;
    let count = left.keys().filter(|&key| left.get(key) != right.get(key)).count();
    let (l, r) = (left.get(key), right.get(key));
    Some(format!("{count} differ; the first is {key:?}:\n  {l:?}\n  {r:?}"))
}

/// Makes the log of a job with its input in it. `small`: segments that roll all the time, also those of
/// the topics that the job would make for itself.
pub(crate) fn create(dir: &Path, job: Job, input: &[Placed], small: bool) {
    let log = Log::open(dir).unwrap();
    create_topics(&log, job, small);
    append(&log, input);
    log.close().unwrap();
}

pub(crate) fn create_topics(log: &Log, job: Job, small: bool) {
    let mut settings = TopicSettings {
        partitions: PARTITIONS,
        retention_ms: None,
        segment_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        ..TopicSettings::default()
    };
    if small {
        settings.segment_bytes = SMALL_SEGMENT_BYTES;
        let outputs = job.final_outputs().iter().chain(job.updated_outputs());
        let mut names: Vec<String> = outputs.map(|&name| name.to_owned()).collect();
        for (store, _) in job.stores() {
            names.extend([job.changelog(store), job.repartition(store)]);
        }
        for name in names {
            log.create_topic(&name, settings.clone()).unwrap();
        }
    }
    log.create_topic("clicks", settings).unwrap();
}

/// Appends input in order, a batch for each run of one partition.
pub(crate) fn append(log: &Log, input: &[Placed]) {
    let topic = log.topic("clicks").unwrap();
    let mut producer = log.producer(Durability::Os).unwrap();
    for run in input.chunk_by(|a, b| a.0 == b.0).flat_map(|run| run.chunks(BATCH_RECORDS)) {
        producer.append(&topic, run[0].0, &mut batch_of(run)).unwrap();
    }
}

/// A batch of clicks of one partition.
pub(crate) fn batch_of(run: &[Placed]) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    for (_, click) in run {
        let json = serde_json::to_vec(click).unwrap();
        batch.push(LOG_TIME_MS, None, Some(&json), NO_HEADERS).unwrap();
    }
    batch
}

/// The committed records of a topic from the log's start, partition by partition; none if the topic
/// does not exist yet.
pub(crate) fn read(log: &Log, topic: &str) -> Vec<Stored> {
    let Ok(topic) = log.topic(topic) else { return Vec::new() };
    let mut all = Vec::new();
    for partition in 0..topic.partitions() {
        let start = log.offsets(topic.id(), partition).unwrap().log_start_offset;
        let bound = FetchBound::LastStable;
        let mut reader = PartitionReader::new(log.clone(), &topic, partition, start, bound);
        while let Some(batch) = reader.next_batch(1 << 20).unwrap() {
            for record in batch.records().map(Result::unwrap) {
                let headers = record.headers.iter();
                all.push(Stored {
                    partition,
                    offset: record.offset,
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    timestamp: record.timestamp,
                    headers: headers.map(|(k, v)| (k.to_owned(), v.map(<[u8]>::to_vec))).collect(),
                });
            }
        }
    }
    all
}

/// Where the job goes on, by topic and partition.
pub(crate) fn positions(log: &Log, job: Job) -> BTreeMap<(String, u32), i64> {
    let topics = log.topics().unwrap();
    let name = |id| topics.iter().find(|t| t.id() == id).unwrap().name().as_str().to_owned();
    let committed = log.committed(&GroupId::new(job.id()).unwrap()).unwrap();
    committed.into_iter().map(|c| ((name(c.topic), c.partition), c.offset)).collect()
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
