//! What operators do with values, keys, timestamps, headers and tombstones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use streams::broker::Header;
use streams::prelude::*;

use crate::equal::{latest, per_key};

const IN: Topic<String, u64> = topic("in");
const ALSO: Topic<String, u64> = topic("also");
const OUT: Topic<String, u64> = topic("out");
const SUMS: Topic<String, u64, Bincode> = topic("sums").bincode();

fn headers() -> Headers {
    let value = |v: &'static [u8]| Some(Bytes::from_static(v));
    let list =
        [("trace", value(b"1")), ("empty", value(b"")), ("none", None), ("trace", value(b"2"))];
    list.into_iter().map(|(key, value)| Header { key: key.to_owned(), value }).collect()
}

#[test]
fn timestamps_headers_and_tombstones_pass_through_operators_and_sinks() {
    fn topology(t: &mut Topology) {
        t.stream(IN).filter(|n| *n > 0).map(|n| n + 1).flat_map(|n| [n, n * 10]).to(OUT);
    }
    let mut d = TestDriver::new(topology).partitions(3).crash_every(1);
    d.send_record(IN, Some("a".into()), Some(1), 77, headers());
    d.send_record(IN, Some("a".into()), None, 78, headers());
    d.send_record(IN, Some("a".into()), Some(0), 79, headers());
    let out = d.read_records(OUT);
    let said: Vec<_> = out.iter().map(|r| (r.value, r.timestamp)).collect();
    assert_eq!(said, [(Some(2), 77), (Some(20), 77), (None, 78)]);
    assert!(out.iter().all(|r| r.headers == headers() && r.key.as_deref() == Some("a")));
}

#[test]
fn values_timestamps_and_tombstones_pass_through_a_repartition() {
    fn topology(t: &mut Topology) {
        let rekeyed = t.stream(IN).key_by(|n| format!("k{n}"));
        rekeyed.merge(t.stream(ALSO)).aggregate("sums", |sum: &mut u64, n| *sum += n).to(SUMS);
    }
    let mut d = TestDriver::new(topology).partitions(4).seed(3).crash_every(2);
    d.send_at(IN, "x".into(), 5, 1_000).send_at(ALSO, "k5".into(), 7, 3_000);
    d.send_at(IN, "y".into(), 5, 2_000);
    d.send_record(ALSO, Some("k5".into()), None, 9_000, headers());
    let out = d.read_records(SUMS);
    let rows = latest(&out);
    assert_eq!(rows, BTreeMap::from([("k5".to_owned(), 17)]));
    assert_eq!(out.last().unwrap().timestamp, 3_000, "the largest of the records counted");
    assert_eq!(d.nulls(), (0, 1), "the tombstone reached the aggregate, which skips and counts it");
}

#[test]
fn a_merge_takes_the_records_of_both_streams() {
    fn topology(t: &mut Topology) {
        let one = t.stream(IN).map(|n| n * 2);
        one.merge(t.stream(ALSO)).to(OUT);
    }
    let mut d = TestDriver::new(topology).partitions(2).seed(5).crash_every(3);
    for n in 0..20 {
        d.send_at(IN, "a".into(), n, 10).send_at(ALSO, "a".into(), n + 100, 20);
    }
    let mut values: Vec<u64> = d.read(OUT).into_iter().map(|(_, n)| n).collect();
    values.sort_unstable();
    let mut expected: Vec<u64> = (0..20).flat_map(|n| [n * 2, n + 100]).collect();
    expected.sort_unstable();
    assert_eq!(values, expected);
}

#[test]
fn inputs_of_one_task_are_merged_by_timestamp_while_they_have_records() {
    fn topology(t: &mut Topology) {
        let one = t.stream(IN);
        one.merge(t.stream(ALSO)).to(OUT);
    }
    let mut d = TestDriver::new(topology);
    for n in 0..10 {
        d.send_at(IN, "a".into(), n, i64::try_from(2 * n).unwrap());
    }
    for n in 0..10 {
        d.send_at(ALSO, "a".into(), n, i64::try_from(2 * n + 1).unwrap());
    }
    let times: Vec<i64> = d.read_records(OUT).iter().map(|r| r.timestamp).collect();
    assert_eq!(times, (0..20).collect::<Vec<_>>());
}

#[test]
fn for_each_sees_every_value() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&seen);
    let topology = move |t: &mut Topology| {
        let list = Arc::clone(&list);
        t.stream(IN).for_each(move |n| list.lock().unwrap().push(*n));
    };
    let mut d = TestDriver::new(topology);
    d.send(IN, "a".into(), 1).send(IN, "b".into(), 2);
    d.run().unwrap();
    assert_eq!(*seen.lock().unwrap(), [1, 2]);
}

#[test]
fn one_topic_read_twice_gives_two_streams() {
    fn topology(t: &mut Topology) {
        t.stream(IN).filter(|n| n % 2 == 0).to(OUT);
        t.stream(IN).key_by(|n| format!("{}", n % 3)).count("by-rest").to(SUMS);
    }
    let mut d = TestDriver::new(topology).partitions(2).seed(1).crash_every(4);
    for n in 0..30 {
        d.send(IN, format!("k{n}"), n);
    }
    assert_eq!(d.read(OUT).len(), 15);
    let rows = latest(&d.read_records(SUMS));
    assert_eq!(rows.values().copied().collect::<Vec<_>>(), [10, 10, 10]);
}

#[test]
fn a_table_says_each_changed_row_once_per_commit() {
    fn topology(t: &mut Topology) {
        t.stream(IN).count("counts").to(SUMS);
    }
    let mut d = TestDriver::new(topology).seed(2);
    for _ in 0..500 {
        d.send(IN, "a".into(), 1);
    }
    let out = d.read_records(SUMS);
    assert_eq!(out.last().unwrap().value, Some(500));
    assert!(out.len() < 500, "500 changes of one row in {} records", out.len());
    let said = per_key(&out);
    let mut values: Vec<_> = said[&Some("a".to_owned())].iter().map(|(v, _)| v.unwrap()).collect();
    let sorted = values.clone();
    values.sort_unstable();
    assert_eq!(values, sorted, "a count only grows");
}

#[test]
fn on_update_ends_with_the_values_of_on_close() {
    const OPEN: Topic<Windowed<String>, u64> = topic("open");
    const CLOSED: Topic<Windowed<String>, u64> = topic("closed");
    fn topology(t: &mut Topology) {
        let window = tumbling(secs(1)).grace(secs(1));
        t.stream(IN).window(window).count("open").on_update().to(OPEN);
        t.stream(IN).window(window).count("closed").on_close().to(CLOSED);
    }
    for seed in 0..6 {
        let mut d = TestDriver::new(topology).partitions(2).seed(seed).crash_every(9);
        for n in 0..60_u64 {
            let at = i64::try_from((n * 7_919) % 6_000).unwrap();
            d.send_at(IN, format!("k{}", n % 3), n, at);
        }
        d.advance_to(1 << 40);
        let open = latest(&d.read_records(OPEN));
        let closed = latest(&d.read_records(CLOSED));
        assert!(!closed.is_empty());
        assert_eq!(open, closed, "seed {seed}");
    }
}

#[test]
fn a_null_key_is_counted_and_reaches_no_state() {
    fn topology(t: &mut Topology) {
        t.stream(IN).count("counts").to(SUMS);
    }
    let mut d = TestDriver::new(topology);
    d.send_record(IN, None, Some(1), 5, Headers::none()).send(IN, "a".into(), 1);
    assert_eq!(latest(&d.read_records(SUMS)).len(), 1);
    assert_eq!(d.nulls(), (1, 0));
}

#[test]
fn output_partitions_are_chosen_by_the_inner_key_of_a_window() {
    const CLOSED: Topic<Windowed<String>, u64> = topic("closed");
    fn topology(t: &mut Topology) {
        t.stream(IN).window(tumbling(millis(10))).count("n").on_close().to(CLOSED);
    }
    let mut d = TestDriver::new(topology).partitions(8);
    for n in 0..40 {
        d.send_at(IN, "one key".into(), n, i64::try_from(n).unwrap() * 10);
    }
    d.advance_to(1_000);
    let out = d.read_records(CLOSED);
    assert_eq!(out.len(), 40);
    assert!(out.iter().all(|r| r.partition == out[0].partition));
}

/// A value may take more bytes in a job's own topics than it took in its source.
#[test]
fn values_that_grow_in_bincode_pass_a_repartition_and_a_store() {
    const LISTS: Topic<String, Vec<f64>> = topic("lists");
    const LAST: Topic<String, Vec<f64>> = topic("last");
    fn topology(t: &mut Topology) {
        t.stream(LISTS)
            .key_by(|list| list.len().to_string())
            .aggregate("last", |last: &mut Vec<f64>, list| *last = list)
            .to(LAST);
    }
    let mut d = TestDriver::new(topology).partitions(2);
    d.send(LISTS, "a".into(), vec![0.0; 200_000]);
    d.run().unwrap();
    d.crash();
    let last = d.read(LAST);
    assert_eq!((last.len(), last[0].1.len()), (1, 200_000));
}

#[test]
fn a_branch_sends_each_record_one_way_and_null_values_with_the_rest() {
    const EVEN: Topic<String, u64> = topic("even");
    const REST: Topic<String, u64> = topic("rest");
    fn topology(t: &mut Topology) {
        let (even, rest) = t.stream(IN).branch(|n| n % 2 == 0);
        even.to(EVEN);
        rest.to(REST);
    }
    let mut d = TestDriver::new(topology).partitions(3).seed(4).crash_every(3);
    for n in 0..20 {
        d.send_record(IN, Some(format!("k{n}")), Some(n), 7, headers());
    }
    d.send_record(IN, Some("gone".into()), None, 8, headers());
    let (even, rest) = (d.read_records(EVEN), d.read_records(REST));
    assert!(even.iter().all(|r| r.value.is_some_and(|n| n % 2 == 0)), "{even:?}");
    assert_eq!((even.len(), rest.len()), (10, 11));
    let tombstone = rest.iter().find(|r| r.value.is_none()).unwrap();
    assert_eq!((tombstone.key.as_deref(), tombstone.timestamp), (Some("gone"), 8));
    assert!(even.iter().chain(&rest).all(|r| r.headers == headers()));
}

#[test]
fn branches_may_go_on_as_streams_do_and_meet_again() {
    fn topology(t: &mut Topology) {
        let (large, small) = t.stream(IN).key_by(|n| format!("{}", n % 3)).branch(|n| *n >= 10);
        small.map(|n| n + 1_000).merge(large).aggregate("sums", |s: &mut u64, n| *s += n).to(SUMS);
    }
    let mut d = TestDriver::new(topology).partitions(4).seed(9).crash_every(5);
    for n in 0..30 {
        d.send(IN, format!("k{n}"), n);
    }
    let rows = latest(&d.read_records(SUMS));
    let sum = |rest: u64| {
        (0..30).filter(|n| n % 3 == rest).map(|n| if n < 10 { n + 1_000 } else { n }).sum()
    };
    let expected = (0..3).map(|rest| (rest.to_string(), sum(rest)));
    assert_eq!(rows, expected.collect());
}

#[test]
fn records_of_a_branch_that_nobody_uses_are_counted_as_filtered() {
    let dir = tempfile::tempdir().unwrap();
    let log = core_log::Log::open(dir.path()).unwrap();
    log.create_topic("in", core_log::TopicSettings::with_partitions(2)).unwrap();
    let mut batch = core_log::BatchBuilder::new();
    for n in 0..10 {
        let json = n.to_string();
        batch.push(0, Some(b"k"), Some(json.as_bytes()), core_log::NO_HEADERS).unwrap();
    }
    let mut producer = log.producer(Durability::Os).unwrap();
    producer.append(&log.topic("in").unwrap(), 0, &mut batch).unwrap();
    drop(producer);
    log.close().unwrap();
    let app = App::new("branch", |t: &mut Topology| {
        let (small, _large) = t.stream(IN).branch(|n| *n < 3);
        small.to(OUT);
    });
    let handle = app.log(dir.path()).start().unwrap();
    while handle.progress().records_in < 10 {
        assert!(!handle.wait_timeout(millis(5)), "the job ended");
    }
    handle.stop();
    let progress = handle.wait().unwrap();
    assert_eq!((progress.records_out, progress.filtered), (3, 7));
}

#[test]
fn inspect_sees_every_value_and_changes_nothing() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&seen);
    let topology = move |t: &mut Topology| {
        let list = Arc::clone(&list);
        t.stream(IN).inspect(move |n| list.lock().unwrap().push(*n)).to(OUT);
    };
    let mut d = TestDriver::new(topology);
    d.send_record(IN, Some("a".into()), Some(1), 7, headers());
    d.send_record(IN, Some("a".into()), None, 8, headers());
    let out = d.read_records(OUT);
    assert_eq!(*seen.lock().unwrap(), [1], "a null value is not shown");
    let said: Vec<_> = out.iter().map(|r| (r.value, r.timestamp, &r.headers)).collect();
    assert_eq!(said, [(Some(1), 7, &headers()), (None, 8, &headers())]);
}

#[test]
fn print_writes_one_line_a_record_whatever_is_in_it() {
    const TEXTS: Topic<NoKey, String> = topic("texts");
    fn topology(t: &mut Topology) {
        t.stream(TEXTS).print("text\n[x]");
        t.stream(IN).key_by(|n| (n % 2, "k".to_owned())).print("number");
    }
    let mut d = TestDriver::new(topology);
    d.send(TEXTS, NoKey, "two\nlines \u{20ac}".into());
    d.send_record(TEXTS, None, None, 5, headers());
    d.run().unwrap();
    d.send(IN, "a".into(), 3);
    let expected = [
        "[text [x]] null \"two\\nlines \u{20ac}\"",
        "[text [x]] null null",
        "[number] [1,\"k\"] 3",
    ];
    assert_eq!(d.printed(), expected);
}
