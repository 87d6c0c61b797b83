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
