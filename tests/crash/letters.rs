//! Dead letters of a job that is killed: each record that does not decode is there once, and what the
//! job counted is as if those records had never been.

use std::path::Path;

use core_log::{BatchBuilder, Durability, Log};

use crate::child::{Spec, number};
use crate::compare::told;
use crate::directory::{LOG_TIME_MS, Stored, batch_of, create, open, read};
use crate::jobs::{Clicks, Job, PARTITIONS, Placed, last_clicks, model};
use crate::random::Random;
use crate::stores::unlike_their_changelogs;

const CLICKS: usize = 60_000;
/// Written before the last run, so that no machine is slow enough for a job to be done before.
const LAST: usize = 6_000;
/// Among so many clicks there is one record that is none.
const BETWEEN: usize = 60;
const KILLS: u64 = 8;

/// A record that does not decode: where it is, and its value.
type Bad = (u32, i64, String);

/// Writes clicks with other records among them, and returns those.
fn write(dir: &Path, input: &[Placed]) -> Vec<Bad> {
    let log = open(dir);
    let topic = log.topic("clicks").unwrap();
    let mut producer = log.producer(Durability::Os).unwrap();
    let mut bad = Vec::new();
    for (index, some) in input.chunks(BETWEEN).enumerate() {
        for run in some.chunk_by(|a, b| a.0 == b.0) {
            producer.append(&topic, run[0].0, &mut batch_of(run)).unwrap();
        }
        let partition = u32::try_from(index).unwrap() % PARTITIONS;
        let offset = log.offsets(topic.id(), partition).unwrap().log_end_offset;
        let value = format!("no click {index}");
        let mut batch = BatchBuilder::new();
        let headers: &[(&str, Option<&[u8]>)] = &[("trace", Some(b"7"))];
        batch.push(LOG_TIME_MS + 1, Some(b"key"), Some(value.as_bytes()), headers).unwrap();
        producer.append(&topic, partition, &mut batch).unwrap();
        bad.push((partition, offset, value));
    }
    drop(producer);
    log.close().unwrap();
    bad.sort();
    bad
}

/// The letters, in the words of what was written.
fn letters(log: &Log) -> Vec<Bad> {
    let all = read(log, "clickstream-dlq");
    assert!(all.iter().all(|letter| letter.timestamp == LOG_TIME_MS + 1));
    assert!(all.iter().all(|letter| letter.key.as_deref() == Some(b"key")));
    assert!(
        all.iter().all(|letter| letter.headers[0] == ("trace".to_owned(), Some(b"7".to_vec())))
    );
    all.iter().map(bad_of).collect()
}

fn bad_of(letter: &Stored) -> Bad {
    let header = |name: &str| {
        let name = format!("__streams.errors.{name}");
        let found = letter.headers.iter().find(|(key, _)| *key == name);
        String::from_utf8(found.unwrap().1.clone().unwrap()).unwrap()
    };
    assert_eq!((header("topic"), header("code")), ("clicks".to_owned(), "S002".to_owned()));
    let value = String::from_utf8(letter.value.clone().unwrap()).unwrap();
    (header("partition").parse().unwrap(), header("offset").parse().unwrap(), value)
}

#[test]
fn each_record_that_does_not_decode_is_a_letter_once_however_often_the_job_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let job = Job::Clickstream;
    let mut input = Clicks::of_seed(11).more(CLICKS);
    input.extend(last_clicks(&input));
    create(dir.path(), job, &[], true);
    let (first, last) = input.split_at(input.len() - LAST);
    let mut bad = write(dir.path(), first);
    let mut random = Random::new(11);
    let spec = Spec { sets_aside: true, ..Spec::busy(dir.path(), job, 4) };
    let mut before = 0;
    for kill in 0..KILLS {
        let mut child = spec.spawn();
        let share = u64::try_from(CLICKS).unwrap() / (KILLS + 2);
        let enough = random.below(share);
        child.wait_for(|line| number(line, "in").is_some_and(|read| read > enough));
        child.kill();
        let log = open(dir.path());
        let so_far = letters(&log);
        log.close().unwrap();
        assert!(so_far.len() >= before, "letters are gone after kill {kill}");
        before = so_far.len();
    }
    assert!(before > 0, "all kills came before the first letter");
    bad.append(&mut write(dir.path(), last));
    bad.sort();
    spec.spawn().succeed();

    let log = open(dir.path());
    let mut found = letters(&log);
    // Each partition has its letters in order, so that sorting by offset changes nothing within one.
    assert!(found.is_sorted_by_key(|&(partition, offset, _)| (partition, offset)));
    found.sort();
    assert_eq!(found, bad);
    assert!(told(&log) == model(job, &input).written_by(job), "not what the model says");
    let wrong = unlike_their_changelogs(dir.path(), &log, job);
    assert!(wrong.is_empty(), "{wrong:#?}");
    log.close().unwrap();
}
