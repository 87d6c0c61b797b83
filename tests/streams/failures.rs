//! What stops a job, with which code, and that nothing of it is written.

use streams::Error;
use streams::prelude::*;
use streams::testing::TestRecord;

use crate::jobs::{CLICKS, COUNTS, Click, click, clickstream};

const IN: Topic<String, u64> = topic("in");
const OUT: Topic<String, u64> = topic("out");

#[test]
fn a_record_that_does_not_decode_stops_the_job_at_the_same_offset_every_time() {
    fn copy(t: &mut Topology) {
        t.stream(CLICKS).to(COPY);
    }
    const COPY: Topic<NoKey, Click> = topic("copy");
    let mut d = TestDriver::new(copy);
    for at in 0..3 {
        d.send(CLICKS, NoKey, click("ana", "/", at));
    }
    d.run().unwrap();
    d.send(CLICKS, NoKey, click("ana", "/", 3));
    d.send_bytes("clicks", 0, br#"{"user":"ana","page":"/home"}"#);
    d.send(CLICKS, NoKey, click("ana", "/", 5));
    let written = d.read_committed(COPY).len();
    for _ in 0..3 {
        let error = d.run().unwrap_err();
        assert_eq!(error.code(), "S002");
        match &error {
            Error::Decode { topic, partition, offset, kind, reason, evidence } => {
                assert_eq!((topic.as_str(), *partition, *kind), ("clicks", 0, "Click"));
                assert_eq!(*offset, 4);
                assert!(reason.contains("missing field `at`"), "{reason}");
                assert!(evidence.contains("/home"), "{evidence}");
            }
            other => panic!("{other}"),
        }
        d.crash();
        let doubled = d.read_committed(COPY).len();
        assert!(doubled <= 1, "the good record before it at most, and once: {doubled}");
    }
    assert_eq!(written, 3);
}

#[test]
fn an_event_time_too_far_ahead_stops_the_job() {
    let mut d = TestDriver::new(clickstream).event_time_ahead_max(hours(1));
    let now = 1_767_225_600_000;
    d.send(CLICKS, NoKey, click("ana", "/", now + 3_600_000));
    d.run().unwrap();
    d.send(CLICKS, NoKey, click("ana", "/", now + 3_600_001));
    let error = d.run().unwrap_err();
    assert_eq!(error.code(), "S022");
    assert!(matches!(error, Error::EventTimeAhead { offset: 1, ahead_ms: 3_600_001, .. }));
    d.wall_clock(hours(1));
    assert!(d.run().is_err(), "the record's timestamp is what counts, not the clock at reading");
}

#[test]
fn mistakes_of_a_topology_are_named_before_anything_runs() {
    fn late_event_time(t: &mut Topology) {
        t.stream(IN).map(|n| n).event_time(|_| 0).to(OUT);
    }
    fn one_store_twice(t: &mut Topology) {
        t.stream(IN).count("n").to(OUT);
        t.stream(IN).count("n").to(OUT);
    }
    fn bad_name(t: &mut Topology) {
        t.stream(IN).count("n/m").to(OUT);
    }
    fn no_size(t: &mut Topology) {
        t.stream(IN).window(tumbling(secs(0))).count("n").on_close().for_each(|_| ());
    }
    fn two_types(t: &mut Topology) {
        const AGAIN: Topic<String, String> = topic("in");
        t.stream(IN).to(OUT);
        t.stream(AGAIN).for_each(|_| ());
    }
    fn in_a_circle(t: &mut Topology) {
        t.stream(IN).map(|n| n + 1).to(IN);
    }
    fn nothing(_: &mut Topology) {}
    let code = |topology: fn(&mut Topology)| TestDriver::new(topology).run().unwrap_err().code();
    assert_eq!(code(late_event_time), "S018");
    assert_eq!(code(one_store_twice), "S018");
    assert_eq!(code(bad_name), "S024");
    assert_eq!(code(no_size), "S018");
    assert_eq!(code(two_types), "S018");
    assert_eq!(code(in_a_circle), "S018");
    assert_eq!(code(nothing), "S018");
}

#[test]
fn what_was_committed_before_a_failure_stays_and_what_was_not_is_not_there() {
    let mut d = TestDriver::new(clickstream);
    d.send(CLICKS, NoKey, click("ana", "/", 1_000));
    d.run().unwrap();
    d.send(CLICKS, NoKey, click("ana", "/", 2_000));
    d.send(CLICKS, NoKey, click("ana", "/", 500_000));
    d.send_bytes("clicks", 0, b"{}");
    assert!(d.run().is_err());
    assert!(d.read_committed(COUNTS).len() <= 1);
}

const TEXTS: Topic<String, String> = topic("texts");
const COPIES: Topic<String, String> = topic("copies");
const LAST: Topic<String, String> = topic("last");
/// As large as a record may be in a topic's largest batch, less what lies around it.
const LARGE: usize = 1_048_588 - 200;

#[test]
fn a_small_record_before_one_as_large_as_a_batch_may_be_does_not_make_the_batch_too_large() {
    fn topology(t: &mut Topology) {
        t.stream(TEXTS).to(COPIES);
        t.stream(TEXTS)
            .key_by(|text| text[..1].to_owned())
            .aggregate("last", |last: &mut String, text: String| *last = text)
            .to(LAST);
    }
    let mut d = TestDriver::new(topology);
    for (letter, len) in [("a", 60_000), ("b", LARGE), ("c", 60_000)] {
        d.send(TEXTS, letter.into(), letter.repeat(len));
    }
    d.run().unwrap();
    let lens = |texts: Vec<TestRecord<String, String>>| {
        let mut lens: Vec<usize> =
            texts.into_iter().flat_map(|r| r.value).map(|text| text.len()).collect();
        lens.sort_unstable();
        lens
    };
    assert_eq!(lens(d.read_committed(COPIES)), [60_000, 60_000, LARGE]);
    assert_eq!(lens(d.read_committed(LAST)), [60_000, 60_000, LARGE]);
}

#[test]
fn a_record_that_is_too_large_alone_stops_the_job_before_anything_of_its_transaction_is_written() {
    fn topology(t: &mut Topology) {
        t.stream(TEXTS).map(|text| text.repeat(2)).to(COPIES);
    }
    let mut d = TestDriver::new(topology);
    d.send(TEXTS, "a".into(), "a".into()).send(TEXTS, "b".into(), "b".repeat(LARGE));
    assert_eq!(d.run().unwrap_err().code(), "S025");
    d.crash();
    assert!(d.read_committed(COPIES).len() <= 1);
}

/// What a job writes for itself is its own: a user's topic of that name would be taken for rows.
#[test]
fn topics_that_the_job_keeps_for_itself_are_refused() {
    fn to_its_changelog(t: &mut Topology) {
        t.stream(IN).count("n").to(topic("test-n-changelog"));
    }
    fn from_its_repartition(t: &mut Topology) {
        t.stream(IN).key_by(|n| *n).count("n").to(topic("counts"));
        t.stream(topic::<u64, u64>("test-n-repartition")).to(topic("copy"));
    }
    for topology in [to_its_changelog, from_its_repartition] {
        let error = TestDriver::new(topology).run().unwrap_err();
        assert_eq!(error.code(), "S018", "{error}");
    }
}

#[test]
fn a_name_that_no_topic_can_have_is_refused_before_anything_is_created() {
    fn bad_output(t: &mut Topology) {
        t.stream(IN).to(OUT);
        t.stream(IN).to(topic("no/good"));
    }
    let mut d = TestDriver::new(bad_output);
    d.send(IN, "a".into(), 1);
    for _ in 0..2 {
        assert_eq!(d.run().unwrap_err().code(), "S024");
    }
    let dir = tempfile::tempdir().unwrap();
    let start = |id: &str, topology: fn(&mut Topology)| {
        App::new(id, topology).log(dir.path().join("log")).start().err().map(|e| e.code())
    };
    fn copy(t: &mut Topology) {
        t.stream(IN).to(OUT);
    }
    assert_eq!(start("job", bad_output), Some("S024"));
    assert_eq!(start("my job", copy), Some("S024"));
    assert_eq!(start("", copy), Some("S024"));
    assert_eq!(start(&"x".repeat(250), copy), Some("S024"));
    assert!(!dir.path().join("log").exists(), "the log was not even opened");
}
