//! Steps that see keys, splits, several topics as one stream, and topics that records name.

use std::collections::BTreeMap;

use streams::Error;
use streams::prelude::*;

use crate::equal::{latest, per_key};

const IN: Topic<String, u64> = topic("in");
const OUT: Topic<String, u64> = topic("out");
const TEXT: Topic<String, String> = topic("text");

fn k(name: &str) -> String {
    name.to_owned()
}

/// Runs a job over a record with a key, one without a key, and a tombstone.
fn three_kinds(job: impl Fn(Stream<String, u64>) + Send + Sync + 'static) -> TestDriver {
    let mut d = TestDriver::new(move |t: &mut Topology| job(t.stream(IN)));
    d.send_at(IN, k("a"), 1, 10);
    d.send_record(IN, None, Some(2), 20, Headers::none());
    d.send_record(IN, Some(k("a")), None, 30, Headers::none());
    d.run().unwrap();
    d
}

#[test]
fn a_step_that_sees_keys_leaves_out_records_without_one_and_lets_tombstones_pass() {
    let passes = |job: fn(Stream<String, u64>)| {
        let mut d = three_kinds(job);
        let said: Vec<_> = d.read_records(OUT).into_iter().map(|r| (r.key, r.value)).collect();
        (said, d.nulls())
    };
    let both = vec![(Some(k("a")), Some(1)), (Some(k("a")), None)];
    assert_eq!(passes(|s| s.filter_with_key(|k, n| k == "a" && *n > 0).to(OUT)), (both, (1, 0)));
    let both = vec![(Some(k("a")), Some(1)), (Some(k("a")), None)];
    assert_eq!(passes(|s| s.inspect_with_key(|_, _| ()).to(OUT)), (both, (1, 0)));
    let both = vec![(Some(k("a")), Some(11)), (Some(k("a")), None)];
    assert_eq!(passes(|s| s.map_values_with_key(|_, n| n + 10).to(OUT)), (both, (1, 0)));
    let more = [Some(1), Some(2), None].map(|n| (Some(k("a")), n)).to_vec();
    let twice = |s: Stream<String, u64>| {
        s.flat_map_values_with_key(|_, n| [n, n + 1]).to(OUT);
    };
    assert_eq!(passes(twice), (more, (1, 0)));
    let one = vec![(Some(k("a1")), Some(1))];
    assert_eq!(passes(|s| s.map_with_key(|k, n| (format!("{k}{n}"), n)).to(OUT)), (one, (1, 1)));
    let two = vec![(Some(k("a")), Some(1)), (Some(k("b")), Some(1))];
    let parted = |s: Stream<String, u64>| {
        s.flat_map_with_key(|k, n| [(k, n), ("b".to_owned(), n)]).to(OUT);
    };
    assert_eq!(passes(parted), (two, (1, 1)));
    let one = vec![(Some(k("a1")), Some(1))];
    assert_eq!(passes(|s| s.key_by_with_key(|k, n| format!("{k}{n}")).to(OUT)), (one, (1, 1)));
}

#[test]
fn a_new_key_from_key_and_value_meets_its_like_whatever_crashes() {
    fn topology(t: &mut Topology) {
        let words = t.stream(TEXT).flat_map_with_key(|user, text: String| {
            text.split(' ').map(|w| (w.to_owned(), user.clone())).collect::<Vec<_>>()
        });
        words.count("by-word").to(OUT);
    }
    for seed in 0..20 {
        let mut d = TestDriver::new(topology).partitions(3).seed(seed).crash_every(3);
        for user in 0..12 {
            d.send(TEXT, format!("u{user}"), k(if user % 2 == 0 { "to be" } else { "be or" }));
        }
        let counts = latest(&d.read_records(OUT));
        let expected = BTreeMap::from([(k("be"), 12), (k("or"), 6), (k("to"), 6)]);
        assert_eq!(counts, expected, "seed {seed}");
    }
}

#[test]
fn a_split_sends_each_record_one_way_and_what_nobody_takes_with_the_rest() {
    const WAYS: [Topic<String, u64>; 4] = [topic("w0"), topic("w1"), topic("w2"), topic("others")];
    fn topology(t: &mut Topology) {
        let split = t.stream(IN).split().case(|n| *n < 10).case_with_key(|k, _| k == "b");
        let (small, of_b, large, others) = split.case(|n| *n > 99).rest();
        small.to(WAYS[0]);
        of_b.to(WAYS[1]);
        drop(large);
        others.to(WAYS[3]);
    }
    let mut d = TestDriver::new(topology).partitions(2).crash_every(2);
    for (key, n) in [("a", 1), ("b", 2), ("b", 50), ("a", 50), ("a", 500)] {
        d.send_at(IN, k(key), n, 5);
    }
    d.send_record(IN, Some(k("b")), None, 5, Headers::none());
    d.send_record(IN, None, Some(60), 5, Headers::none());
    let mut small = d.read(WAYS[0]);
    small.sort();
    assert_eq!(small, [(k("a"), 1), (k("b"), 2)], "the first case that says yes");
    assert_eq!(d.read(WAYS[1]), [(k("b"), 50)]);
    let mut others: Vec<_> =
        d.read_records(WAYS[3]).into_iter().map(|r| (r.key, r.value)).collect();
    others.sort();
    let expected = [(None, Some(60)), (Some(k("a")), Some(50)), (Some(k("b")), None)];
    assert_eq!(others, expected, "no case is asked about a missing key or value");
}

#[test]
fn event_times_and_policies_are_said_for_all_topics_of_a_stream_at_once() {
    const LATER: Topic<Windowed<String>, u64> = topic("later");
    fn job(t: &mut Topology) {
        t.stream_matching(topic::<String, u64>("part-.*"))
            .event_time(|n| i64::try_from(*n).unwrap())
            .on_error(OnError::Skip)
            .window(tumbling(millis(100)))
            .count("n")
            .on_close()
            .to(LATER);
    }
    let mut d = TestDriver::new(job).partitions(1);
    for n in [10, 20, 110] {
        d.send(topic("part-a"), k("x"), n);
        d.send(topic("part-b"), k("x"), n + 1);
    }
    d.send_bytes("part-b", 0, b"{");
    let window = Windowed { key: k("x"), start: 0, end: 100 };
    assert_eq!(d.read(LATER), [(window, 4)], "both clocks have passed its end");
    assert_eq!(d.skipped(), 1);
}

#[test]
fn topics_of_a_pattern_are_taken_up_when_the_job_starts_and_kept_until_it_ends() {
    fn job(t: &mut Topology) {
        t.stream_matching(topic::<String, u64>("part-[a-z]")).count("n").to(OUT);
    }
    let mut d = TestDriver::new(job).partitions(2);
    d.send(topic("part-a"), k("x"), 1u64).run().unwrap();
    d.send(topic("part-b"), k("x"), 1u64).send(topic("part-77"), k("x"), 1u64);
    assert_eq!(latest(&d.read_records(OUT)), BTreeMap::from([(k("x"), 1)]));
    d.crash();
    assert_eq!(latest(&d.read_records(OUT)), BTreeMap::from([(k("x"), 2)]), "the new one too");
}

#[test]
fn a_pattern_that_takes_nothing_or_is_none_or_takes_what_is_written_is_refused() {
    let fails = |pattern: &'static str| {
        let job = move |t: &mut Topology| t.stream_matching(topic::<String, u64>(pattern)).to(OUT);
        TestDriver::new(job).run().unwrap_err()
    };
    let error = fails("part-.*");
    assert_eq!(error.code(), "S004");
    assert!(matches!(&error, Error::NoTopicMatches { pattern, .. } if pattern == "part-.*"));
    assert_eq!(fails("part-(").code(), "S018");
    assert_eq!(fails("o.*").code(), "S018", "it would read what it writes at the next start");
    let twice = |t: &mut Topology| t.stream_many([IN, IN]).to(OUT);
    assert_eq!(TestDriver::new(twice).run().unwrap_err().code(), "S018");
    let nothing = |t: &mut Topology| t.stream_many::<String, u64, Json>([]).to(OUT);
    assert_eq!(TestDriver::new(nothing).run().unwrap_err().code(), "S018");
}

/// Even numbers to one topic, odd ones to another, tombstones to a third.
fn by_parity(t: &mut Topology) {
    t.stream(IN).to_topic_of(Json, |record| match record.value {
        Some(n) if n % 2 == 0 => "even",
        Some(_) => "odd",
        None => "gone",
    });
}

#[test]
fn topics_that_records_name_get_the_same_records_whatever_crashes() {
    const NAMED: [Topic<String, u64>; 3] = [topic("even"), topic("odd"), topic("gone")];
    let run = |mut d: TestDriver| {
        for n in 0..60 {
            d.send_at(IN, format!("u{}", n % 7), n, i64::try_from(n).unwrap());
        }
        d.send_record(IN, Some(k("u1")), None, 99, Headers::none());
        NAMED.map(|named| per_key(&d.read_records(named)))
    };
    let calm = run(TestDriver::new(by_parity).partitions(3));
    assert_eq!(calm.each_ref().map(|t| t.values().map(Vec::len).sum::<usize>()), [30, 30, 1]);
    for seed in 0..20 {
        let job = TestDriver::new(by_parity).partitions(3).seed(seed).crash_every(5);
        assert_eq!(run(job), calm, "seed {seed}");
    }
}

#[test]
fn names_that_are_not_to_be_had_go_where_refused_records_go() {
    fn job(t: &mut Topology) {
        t.stream(TEXT).to_topic_of(Json, |record| record.value.clone().unwrap_or_default());
        t.stream(IN).count("n").to(OUT);
    }
    let mut d = TestDriver::new(job).on_error(OnError::DeadLetter);
    for name in ["fine", "in", "text", "../etc", "", "__commits", "test-n-changelog", "test-dlq"] {
        d.send(TEXT, k("x"), k(name));
    }
    assert_eq!(d.read(topic("fine")), [(k("x"), k("fine"))]);
    let letters = d.dead_letters();
    let reasons: Vec<&str> = letters.iter().map(|letter| &*letter.message).collect();
    assert_eq!(letters.len(), 7, "{reasons:?}");
    assert!(reasons[0].contains("names topic `in`, which the job reads"), "{}", reasons[0]);

    let mut d = TestDriver::new(job);
    let error = d.send(TEXT, k("x"), k("a b")).run().unwrap_err();
    assert_eq!(error.code(), "S024", "by default the job stops");
}

#[test]
fn a_task_names_so_many_topics_and_no_more() {
    fn job(t: &mut Topology) {
        t.stream(IN).to_topic_of(Json, |record| format!("n{}", record.value.unwrap_or(0)));
    }
    let mut d = TestDriver::new(job);
    for n in 0..256 {
        d.send(IN, k("x"), n);
    }
    d.run().unwrap();
    let error = d.send(IN, k("x"), 300).run().unwrap_err();
    assert_eq!(error.code(), "S031");
    let is_reason = |reason: &str| reason.contains("have already named 256");
    assert!(matches!(&error, Error::Refused { reason, .. } if is_reason(reason)), "{error}");
}
