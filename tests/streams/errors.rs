//! Records that a step cannot take: left out, or set aside, exactly once, and what they do not touch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use core_log::{Log, TopicSettings};
use streams::prelude::*;
use streams::{DeadLetter, Error, LetterValue};

use crate::equal::latest;
use crate::jobs::{CLICKS, COUNTS, click, clicks, clickstream, model, written};

const IN: Topic<String, u64> = topic("in");
/// The same topic for those who write nonsense into it.
const NONSENSE: Topic<String, String> = topic("in");
const ALSO: Topic<String, u64> = topic("also");
const OUT: Topic<String, u64> = topic("out");
const SUMS: Topic<String, u64> = topic("sums");

fn copy(t: &mut Topology) {
    t.stream(IN).to(OUT);
}

/// Numbers below ten; the others are refused.
fn small(n: u64) -> Result<u64, String> {
    if n < 10 { Ok(n) } else { Err(format!("{n} is too large")) }
}

fn trace() -> Headers {
    let mut headers = Headers::none();
    headers.push("trace", Some(Bytes::from_static(b"7")));
    headers.push("none", None);
    headers
}

fn text(bytes: Option<&[u8]>) -> Option<&str> {
    bytes.map(|bytes| std::str::from_utf8(bytes).unwrap())
}

fn source(letter: &DeadLetter) -> Option<String> {
    letter.source.as_ref().map(ToString::to_string)
}

#[test]
fn what_does_not_decode_is_skipped_and_counted() {
    let mut d = TestDriver::new(copy).partitions(2).on_error(OnError::Skip).crash_every(3);
    for n in 0..20 {
        d.send(IN, format!("k{n}"), n).send(NONSENSE, format!("k{n}"), "seven".into());
    }
    let mut values: Vec<u64> = d.read(OUT).into_iter().map(|(_, n)| n).collect();
    values.sort_unstable();
    assert_eq!(values, (0..20).collect::<Vec<_>>());
    assert_eq!(d.skipped(), 20);
    assert_eq!(d.dead_letters(), []);
}

#[test]
fn a_dead_letter_is_the_record_as_it_was_read_with_the_reason() {
    let mut d = TestDriver::new(copy).on_error(OnError::DeadLetter);
    d.send(IN, "a".into(), 1);
    d.send_record(NONSENSE, Some("b".into()), Some("seven".into()), 77, trace());
    d.send(IN, "c".into(), 2);
    assert_eq!(d.read(OUT), [("a".to_owned(), 1), ("c".to_owned(), 2)]);
    let letters = d.dead_letters();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(source(letter).as_deref(), Some("in-0@1"));
    assert_eq!((letter.exception.as_str(), letter.code.as_str()), ("decode", "S002"));
    assert!(letter.message.starts_with("in-0@1 does not decode as u64: "), "{}", letter.message);
    assert_eq!((letter.step.as_str(), letter.form), ("0 read in", LetterValue::Original));
    assert_eq!(text(letter.key.as_deref()), Some("b"));
    assert_eq!(text(letter.value.as_deref()), Some("\"seven\""));
    assert_eq!((letter.timestamp, &letter.headers), (77, &trace()));
    assert_eq!(d.skipped(), 0);
}

#[test]
fn a_key_that_does_not_decode_is_a_dead_letter_too() {
    const NUMBERED: Topic<u64, u64> = topic("numbered");
    const NAMED: Topic<String, u64> = topic("numbered");
    fn topology(t: &mut Topology) {
        t.stream(NUMBERED).on_error(OnError::DeadLetter).for_each(|_| ());
    }
    let mut d = TestDriver::new(topology);
    d.send(NUMBERED, 7, 1).send(NAMED, "abc".into(), 2).send_bytes("numbered", 0, b"3");
    let letters = d.dead_letters();
    assert_eq!(letters.len(), 1, "a null key is no key that does not decode: {letters:?}");
    assert!(letters[0].message.contains("takes 8 bytes, here are 3"), "{}", letters[0].message);
    assert_eq!(text(letters[0].key.as_deref()), Some("abc"));
}

#[test]
fn an_event_time_too_far_ahead_is_set_aside_and_moves_no_clock() {
    let now = 1_767_225_600_000;
    for policy in [OnError::Skip, OnError::DeadLetter] {
        let mut d = TestDriver::new(clickstream).event_time_ahead_max(hours(1)).on_error(policy);
        d.send(CLICKS, NoKey, click("ana", "/", now));
        d.send(CLICKS, NoKey, click("eve", "/", now + 3_600_001));
        d.send_bytes("clicks", 0, b"{}");
        d.send(CLICKS, NoKey, click("bob", "/", now + 1));
        d.run().unwrap();
        assert_eq!(d.read_committed(COUNTS), [], "no window has closed");
        assert_eq!(d.late(), 0, "bob's click came in time");
        d.advance_to(now + 70_000);
        let counts: Vec<u64> = d.read(COUNTS).into_iter().map(|(_, n)| n).collect();
        assert_eq!(counts, [2], "{policy:?}");
        let kinds: Vec<_> = d.dead_letters().into_iter().map(|l| (l.exception, l.code)).collect();
        match policy {
            OnError::Skip => assert_eq!((d.skipped(), kinds), (2, vec![])),
            _ => {
                let expected = [("event-time", "S022"), ("decode", "S002")];
                assert_eq!(kinds, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
            }
        }
    }
}

#[test]
fn a_value_that_try_map_refuses_stops_the_job_by_default() {
    fn topology(t: &mut Topology) {
        t.stream(IN).filter(|_| true).try_map(small).to(OUT);
    }
    let mut d = TestDriver::new(topology);
    d.send(IN, "a".into(), 1).send(IN, "a".into(), 12);
    for _ in 0..2 {
        let error = d.run().unwrap_err();
        assert_eq!(error.code(), "S031");
        assert_eq!(error.to_string(), "step 2 try map refused in-0@1: 12 is too large");
        assert!(matches!(error, Error::Refused { record: Some(at), .. } if at.offset == 1));
        d.crash();
    }
    assert!(d.read_committed(OUT).len() <= 1);
}

#[test]
fn a_value_that_try_map_refuses_is_a_letter_in_json_with_its_key_and_headers() {
    fn topology(t: &mut Topology) {
        t.stream(IN).flat_map(|n| [n, n + 1]).try_map(small).on_error(OnError::DeadLetter).to(OUT);
    }
    let mut d = TestDriver::new(topology).partitions(3).crash_every(1);
    d.send_record(IN, Some("k".into()), Some(9), 5, trace());
    d.send_record(IN, Some("k".into()), None, 6, trace());
    assert_eq!(d.read_records(OUT).len(), 2, "the nine and the tombstone");
    let letters = d.dead_letters();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((text(letter.value.as_deref()), letter.form), (Some("10"), LetterValue::Json));
    assert_eq!((text(letter.key.as_deref()), letter.timestamp), (Some("k"), 5));
    assert_eq!((&letter.headers, letter.exception.as_str()), (&trace(), "refused"));
    assert!(source(letter).unwrap().starts_with("in-"), "{letter:?}");
    assert_eq!(letter.step, "2 try map");
}

#[test]
fn a_value_without_a_form_in_json_is_a_letter_in_bincode() {
    const PAIRS: Topic<String, BTreeMap<(u8, u8), u8>, Bincode> = topic("pairs").bincode();
    fn topology(t: &mut Topology) {
        let refuse = |_| Err::<u64, _>("no");
        t.stream(PAIRS).try_map(refuse).on_error(OnError::DeadLetter).to(OUT);
    }
    let mut d = TestDriver::new(topology);
    d.send(PAIRS, "k".into(), BTreeMap::from([((1, 2), 3)]));
    let letters = d.dead_letters();
    assert_eq!(
        (letters[0].form, letters[0].value.as_deref()),
        (LetterValue::Bincode, Some(&[1, 1, 2, 3][..]))
    );
}

/// A result of a window comes from no record that was read.
#[test]
fn a_refused_result_names_no_source() {
    fn topology(t: &mut Topology) {
        t.stream(IN)
            .key_by(|n| n % 2)
            .window(tumbling(secs(1)))
            .count("per-second")
            .on_close()
            .try_map(|n| if n == 1 { Ok(n) } else { Err("not one") })
            .on_error(OnError::DeadLetter)
            .for_each(|_| ());
    }
    let mut d = TestDriver::new(topology).partitions(2).seed(3).crash_every(2);
    for (n, at) in [(1, 10), (3, 20), (4, 30)] {
        d.send_at(IN, "k".into(), n, at);
    }
    d.advance_to(5_000);
    let letters = d.dead_letters();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((source(letter), text(letter.value.as_deref())), (None, Some("2")));
    assert_eq!(letter.timestamp, 20, "its own: the largest of its records");
    assert_eq!(letter.key.as_ref().unwrap().len(), 8 + 16, "the key and its window");
    assert!(letter.message.contains("refused a result that came from state: not one"));
}

#[test]
fn a_step_may_say_otherwise_than_the_job() {
    fn topology(t: &mut Topology) {
        t.stream(IN).on_error(OnError::DeadLetter).try_map(small).to(OUT);
        t.stream(ALSO).try_map(small).on_error(OnError::Fail).to(OUT);
    }
    let mut d = TestDriver::new(topology).on_error(OnError::Skip);
    d.send(IN, "a".into(), 12).send(NONSENSE, "a".into(), "x".into()).send(IN, "a".into(), 3);
    d.send_bytes("also", 0, b"x");
    assert_eq!(d.read(OUT), [("a".to_owned(), 3)]);
    assert_eq!((d.skipped(), d.dead_letters().len()), (2, 1));
    d.send(ALSO, "a".into(), 12);
    assert_eq!(d.run().unwrap_err().code(), "S031");
}

#[test]
fn a_policy_that_cannot_be_meant_is_a_mistake_of_the_topology() {
    fn behind_a_filter(t: &mut Topology) {
        t.stream(IN).filter(|_| true).on_error(OnError::Skip).to(OUT);
    }
    fn two_of_one_topic(t: &mut Topology) {
        t.stream(IN).on_error(OnError::Skip).to(OUT);
        t.stream(IN).on_error(OnError::Fail).for_each(|_| ());
    }
    fn own_letters(t: &mut Topology) {
        t.stream(IN).on_error(OnError::DeadLetter).to(topic("test-dlq"));
    }
    fn no_letters(t: &mut Topology) {
        t.stream(IN).to(topic("test-dlq"));
    }
    let outcome = |topology: fn(&mut Topology)| {
        let mut d = TestDriver::new(topology);
        d.send(IN, "a".into(), 1);
        d.run().map_err(|error| error.code())
    };
    assert_eq!(outcome(behind_a_filter), Err("S018"));
    assert_eq!(outcome(two_of_one_topic), Err("S018"));
    assert_eq!(outcome(own_letters), Err("S018"));
    assert_eq!(outcome(no_letters), Ok(()), "a job without letters may call a topic as it likes");
}

/// With two inputs, records are decoded before it is known whose turn it is.
#[test]
fn a_record_that_does_not_decode_waits_for_its_turn() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&seen);
    let topology = move |t: &mut Topology| {
        let list = Arc::clone(&list);
        let timed = t.stream(IN).event_time(|n| i64::try_from(*n).unwrap());
        timed.merge(t.stream(ALSO)).for_each(move |n| list.lock().unwrap().push(*n));
    };
    let mut d = TestDriver::new(topology);
    d.send_record(NONSENSE, Some("a".into()), Some("x".into()), 1_000, Headers::none());
    for n in 0..20 {
        d.send_at(ALSO, "a".into(), n, i64::try_from(n).unwrap());
    }
    assert_eq!(d.run().unwrap_err().code(), "S002");
    let mut all = std::mem::take(&mut *seen.lock().unwrap());
    all.dedup();
    assert_eq!(all, (0..20).collect::<Vec<_>>(), "everything older came first");
}

#[test]
fn an_event_time_is_asked_for_once_and_refused_once() {
    let calls = Arc::new(Mutex::new(0));
    let count = Arc::clone(&calls);
    let topology = move |t: &mut Topology| {
        let count = Arc::clone(&count);
        let timed = t.stream(IN).event_time(move |n| {
            *count.lock().unwrap() += 1;
            i64::try_from(*n).unwrap()
        });
        timed.merge(t.stream(ALSO)).to(OUT);
    };
    let mut d =
        TestDriver::new(topology).event_time_ahead_max(secs(1)).on_error(OnError::DeadLetter);
    for n in 0..10 {
        d.send_at(IN, "a".into(), n * 1_000, 2_000).send_at(ALSO, "a".into(), n, 2_500);
    }
    assert_eq!(d.read(OUT).len(), 4 + 10);
    assert_eq!((d.dead_letters().len(), *calls.lock().unwrap()), (6, 10));
}

/// A letter is larger than its record, and may be older or younger than what others may write.
#[test]
fn a_record_as_large_or_as_far_ahead_as_its_topic_takes_has_room_among_the_letters() {
    let mut d = TestDriver::new(copy).on_error(OnError::DeadLetter).event_time_ahead_max(secs(1));
    d.send(NONSENSE, "a".into(), "x".repeat(1_048_588 - 200));
    d.send_record(NONSENSE, Some("a".into()), Some("y".into()), i64::MAX, Headers::none());
    d.send_record(NONSENSE, Some("a".into()), Some("z".into()), -1, Headers::none());
    let letters = d.dead_letters();
    let times: Vec<i64> = letters.iter().map(|letter| letter.timestamp).collect();
    assert_eq!(times[1..], [i64::MAX, -1]);
    assert_eq!(letters[0].value.as_ref().unwrap().len(), 1_048_588 - 198);
}

#[test]
fn the_topic_of_dead_letters_is_there_only_if_a_step_can_write_to_it() {
    let topics = |policy: OnError| {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path()).unwrap();
        log.create_topic("in", TopicSettings::with_partitions(3)).unwrap();
        log.close().unwrap();
        let handle = App::new("copy", copy).log(dir.path()).on_error(policy).start().unwrap();
        handle.stop();
        handle.wait().unwrap();
        let log = Log::open(dir.path()).unwrap();
        let letters = log.topic("copy-dlq").map(|topic| topic.partitions()).ok();
        log.close().unwrap();
        letters
    };
    assert_eq!(topics(OnError::Fail), None);
    assert_eq!(topics(OnError::Skip), None);
    assert_eq!(topics(OnError::DeadLetter), Some(3));
}

/// What may differ between two runs is left out: offsets of the letters, the order of partitions.
fn told(letters: &[DeadLetter]) -> BTreeMap<String, Vec<(String, String)>> {
    let mut told: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for letter in letters {
        let source = letter.source.as_ref().unwrap();
        let value = text(letter.value.as_deref()).unwrap().to_owned();
        let said = told.entry(format!("{}-{}", source.topic, source.partition)).or_default();
        said.push((
            letter.source.as_ref().unwrap().to_string(),
            format!("{} {value}", letter.step),
        ));
    }
    told
}

#[test]
fn a_letter_that_is_lost_doubled_or_changed_is_a_difference() {
    let mut d = TestDriver::new(copy).on_error(OnError::DeadLetter);
    d.send(NONSENSE, "a".into(), "x".into()).send(NONSENSE, "a".into(), "y".into());
    let right = d.dead_letters();
    assert_eq!(right.len(), 2);
    let mut doubled = right.clone();
    doubled.push(right[1].clone());
    let turned: Vec<_> = right.iter().rev().cloned().collect();
    for wrong in [&right[..1], &doubled, &turned] {
        assert_ne!(told(&right), told(wrong));
    }
}

/// Every third record does not decode, every fifth of the others is refused: whatever crashes there
/// are, each of them is a letter once, and the sums are those of the rest.
#[test]
fn no_letter_is_lost_or_doubled_by_crashes() {
    fn topology(t: &mut Topology) {
        t.stream(IN)
            .try_map(|n| if n % 5 == 0 { Err("a multiple of five") } else { Ok(n) })
            .key_by(|n| format!("rest {}", n % 4))
            .aggregate("sums", |sum: &mut u64, n| *sum += n)
            .to(SUMS);
    }
    let run = |seed: u64, crash_every: Option<u64>| {
        let mut d =
            TestDriver::new(topology).partitions(3).seed(seed).on_error(OnError::DeadLetter);
        if let Some(records) = crash_every {
            d = d.crash_every(records);
        }
        for n in 0..240_u64 {
            if n % 3 == 0 {
                d.send(NONSENSE, format!("k{n}"), format!("no {n}"));
            } else {
                d.send(IN, format!("k{n}"), n);
            }
            if n % 50 == 0 {
                d.run().unwrap();
            }
        }
        let rows = latest(&d.read_records(SUMS));
        (told(&d.dead_letters()), rows, d.crashes())
    };
    let (letters, rows, _) = run(0, None);
    let expected = 80 + (0..240).filter(|n| n % 3 != 0 && n % 5 == 0).count();
    assert_eq!(letters.values().map(Vec::len).sum::<usize>(), expected);
    let taken = (0..240_u64).filter(|n| n % 3 != 0 && n % 5 != 0);
    assert_eq!(rows.values().sum::<u64>(), taken.sum::<u64>());
    let mut crashes = 0;
    for seed in 0..16 {
        let (told, sums, crashed) = run(seed, Some(15));
        assert_eq!((&told, &sums), (&letters, &rows), "seed {seed}");
        crashes += crashed;
    }
    assert!(crashes > 100, "only {crashes} crashes");
}

/// Windows over what is left are those of a job that never saw the rest.
#[test]
fn windows_are_those_of_the_records_that_were_taken() {
    for seed in 0..12 {
        let input = clicks(seed, 3, 40, 60_000);
        let (counts, late) = model(&input);
        let mut d =
            TestDriver::new(clickstream).partitions(3).seed(seed).on_error(OnError::DeadLetter);
        d = d.crash_every(12);
        let mut bad = 0;
        for (index, (partition, click)) in input.iter().enumerate() {
            if index % 4 == 0 {
                d.send_bytes("clicks", *partition, format!("bad {index}").as_bytes());
                bad += 1;
            }
            d.send_to(CLICKS, *partition, NoKey, click.clone());
        }
        d.advance_to(1 << 40);
        assert_eq!(written(&d.read_records(COUNTS)), counts, "seed {seed}");
        assert_eq!((d.late(), d.dead_letters().len()), (late, bad), "seed {seed}");
    }
}
