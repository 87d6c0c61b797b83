//! A record that does not decode: the job stops at it, every time, and writes nothing of the
//! transaction that would have contained it.

use std::path::Path;

use core_log::{BatchBuilder, Durability, NO_HEADERS};

use crate::child::Spec;
use crate::compare::{Output, output, told};
use crate::directory::{LOG_TIME_MS, create, extend, open, positions};
use crate::jobs::{Clicks, Job, Placed, last_clicks, model};
use crate::stores::{inspect, unaccounted};

const PARTITION: u32 = 2;
const BAD: &[u8] = br#"{"user":"ana","page":"/home"}"#;

fn append_bad(dir: &Path) {
    let log = open(dir);
    let topic = log.topic("clicks").unwrap();
    let mut batch = BatchBuilder::new();
    batch.push(LOG_TIME_MS, None, Some(BAD), NO_HEADERS).unwrap();
    log.producer(Durability::Os).unwrap().append(&topic, PARTITION, &mut batch).unwrap();
    log.close().unwrap();
}

/// Checks what a stopped job left, and returns its output.
fn look(dir: &Path, job: Job, input: &[Placed], bad: i64) -> Output {
    let log = open(dir);
    let at = positions(&log, job).get(&("clicks".to_owned(), PARTITION)).copied().unwrap_or(0);
    assert!(at <= bad, "the position {at} lies behind the record {bad} that was never processed");
    let found = inspect(dir, &log, job);
    assert!(found.problems.is_empty(), "{:#?}", found.problems);
    assert_eq!(unaccounted(&log, job, input), None, "a part of a transaction was written");
    let expected = model(job, input);
    let told = told(&log);
    for (window, count) in &told.counts {
        assert_eq!(expected.counts.get(window), Some(count), "{window:?}");
    }
    for (window, row) in &told.activity {
        assert_eq!(expected.activity.get(window), Some(row), "{window:?}");
    }
    let output = output(&log, job);
    log.close().unwrap();
    output
}

fn stops_at_the_same_offset_every_time(job: Job) {
    let dir = tempfile::tempdir().unwrap();
    let mut clicks = Clicks::of_seed(5);
    let mut input = clicks.more(60_000);
    create(dir.path(), job, &input, true);
    append_bad(dir.path());
    let bad = i64::try_from(input.iter().filter(|(p, _)| *p == PARTITION).count()).unwrap();
    let mut rest = clicks.more(20_000);
    rest.extend(last_clicks(&rest));
    extend(dir.path(), &rest);
    input.extend(rest);

    let mut before = Output::default();
    for _ in 0..3 {
        let mut child = Spec::busy(dir.path(), job, 5).spawn();
        let status = child.wait();
        assert_eq!(status.code(), Some(1), "{:?}", child.lines);
        let said = child.lines.last().unwrap();
        let start = format!("error[S002]: clicks-{PARTITION}@{bad} does not decode as Click: ");
        assert!(said.starts_with(&start) && said.contains("missing field `at`"), "{said}");
        let after = look(dir.path(), job, &input, bad);
        for (key, said) in &before.sequences {
            assert!(after.sequences[key].starts_with(said), "{key:?} was said otherwise before");
        }
        before = after;
    }
    assert!(!before.sequences.is_empty(), "nothing was committed before the bad record");
}

#[test]
fn a_record_that_does_not_decode_stops_the_clickstream_at_its_offset_every_time() {
    stops_at_the_same_offset_every_time(Job::Clickstream);
}

#[test]
fn a_record_that_does_not_decode_stops_two_hops_at_its_offset_every_time() {
    stops_at_the_same_offset_every_time(Job::TwoHops);
}
