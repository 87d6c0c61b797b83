//! A log directory between two runs of a job: written before, read after.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::jobs::{Job, PARTITIONS, Placed, users};
use core_log::{
    BatchBuilder, Durability, FetchBound, GroupId, Log, LogOptions, NO_HEADERS, PartitionReader,
    TopicSettings,
};

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

/// How long to wait for a directory: a child that is forked at this moment holds, until it is another
/// program, whatever this process has just closed.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Opens the log of a job that does not run.
pub(crate) fn open(dir: &Path) -> Log {
    LogOptions::new().lock_timeout(LOCK_PATIENCE).open(dir).unwrap()
}

/// Makes the log of a job with its input in it. `small`: segments that roll all the time, also those of
/// the topics that the job would make for itself; its output topics are made in any case.
pub(crate) fn create(dir: &Path, job: Job, input: &[Placed], small: bool) {
    let log = open(dir);
    create_topics(&log, job, small);
    append(&log, input);
    log.close().unwrap();
}

/// Appends to the log of a job that does not run.
pub(crate) fn extend(dir: &Path, input: &[Placed]) {
    let log = open(dir);
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
    }
    // The clicks are of 1970: where retention comes by during a long run, results of that time would go.
    let outputs = job.final_outputs().iter().chain(job.updated_outputs());
    let mut names: Vec<String> = outputs.map(|&name| name.to_owned()).collect();
    if small {
        names.extend(job.stores().iter().map(|(store, _)| job.changelog(store)));
        names.extend(job.repartitions().iter().map(|name| job.repartition(name)));
    }
    for name in names {
        log.create_topic(&name, settings.clone()).unwrap();
    }
    if job == Job::Joins {
        log.create_topic("users", settings.clone()).unwrap();
        write_users(log);
    }
    log.create_topic("clicks", settings).unwrap();
}

/// The table's rows, older than every click.
fn write_users(log: &Log) {
    let topic = log.topic("users").unwrap();
    let mut producer = log.producer(Durability::Os).unwrap();
    for (user, group) in users() {
        let mut batch = BatchBuilder::new();
        let json = serde_json::to_vec(&group).unwrap();
        batch.push(0, Some(user.as_bytes()), Some(&json), NO_HEADERS).unwrap();
        let partition = core_log::partition_for(user.as_bytes(), PARTITIONS);
        producer.append(&topic, partition, &mut batch).unwrap();
    }
}

/// Appends input in order, a batch for each run of one partition.
fn append(log: &Log, input: &[Placed]) {
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
