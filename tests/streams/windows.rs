//! Windows of every kind against plain models: which records are in which window, whatever the order in
//! which partitions are read, wherever commits fall, whatever crashes.
//!
//! What each window must hold is said by the models of `window_models`.

use proptest::prelude::*;
use streams::prelude::*;

use crate::window_models::{
    COUNTS, LATE, LATER, SEEN, SETS, Seen, Sets, add, both, final_results, hopping_model, keyed,
    last_results, put, run, seen, session_model, session_model_in_order, sliding_model,
};

#[test]
fn hopping_windows_hold_what_the_model_says_in_every_interleaving() {
    let job = |t: &mut Topology| {
        let windows = keyed(t).window(hopping(millis(100), millis(30)).grace(millis(40)));
        windows.aggregate("sets", put).on_close().to(SETS);
    };
    for seed in 0..16 {
        let partitions = 1 + u32::try_from(seed % 4).unwrap();
        let input = seen(seed, partitions, 50, 20, 150);
        let (sets, late) = hopping_model(&input, 100, 30, 40);
        let mut d = run(job, &input, (partitions, seed, seed % 2 == 1), 40);
        assert_eq!(final_results(&d.read_records(SETS)), sets, "seed {seed}");
        assert_eq!(d.late(), late, "seed {seed}");
        assert!(late > 0, "the input has records that are late");
    }
}

#[test]
fn a_window_since_a_moment_counts_what_comes_from_then_on_and_lets_time_pass() {
    const AGAIN: Topic<Windowed<Windowed<String>>, u64> = topic("again");
    let job = |t: &mut Topology| {
        let all = keyed(t).window(since(500)).count("since").on_update();
        all.window(tumbling(secs(1))).count("changes").on_close().to(AGAIN);
    };
    let all =
        |t: &mut Topology| keyed(t).window(since(500)).aggregate("sets", put).on_update().to(SETS);
    for seed in 0..6 {
        let input = seen(seed, 3, 60, 20, 150);
        let mut sets = Sets::new();
        for (_, record) in input.iter().filter(|(_, record)| record.at >= 500) {
            add(&mut sets, record, 500, i64::MAX);
        }
        let mut d = run(all, &input, (3, seed, seed % 2 == 1), 25);
        let mut told = last_results(&d.read_records(SETS));
        told.retain(|(_, _, _), (_, at)| *at < LATER);
        assert_eq!(told, sets, "seed {seed}");
        assert_eq!(d.late(), 0);
        // What waits behind it closes all the same.
        let mut d = run(job, &input, (3, seed, false), 25);
        assert!(!d.read(AGAIN).is_empty());
    }
}

#[test]
fn sessions_hold_what_the_model_says_in_every_interleaving() {
    let job = |t: &mut Topology| {
        let windows = keyed(t).window(session(millis(35)).grace(secs(10)));
        windows.aggregate("sets", put, both).on_close().to(SETS);
    };
    let updates = |t: &mut Topology| {
        let windows = keyed(t).window(session(millis(35)).grace(secs(10)));
        windows.aggregate("sets", put, both).on_update().to(SETS);
    };
    for seed in 0..16 {
        let partitions = 1 + u32::try_from(seed % 4).unwrap();
        let input = seen(seed, partitions, 50, 30, 150);
        let sets = session_model(&input, 35);
        let how = (partitions, seed, seed % 2 == 1);
        let mut d = run(job, &input, how, 40);
        assert_eq!(final_results(&d.read_records(SETS)), sets, "seed {seed}");
        assert_eq!(d.late(), 0);
        let mut d = run(updates, &input, how, 7);
        assert_eq!(last_results(&d.read_records(SETS)), sets, "updates, seed {seed}");
    }
}

#[test]
fn sliding_windows_hold_what_the_model_says_in_every_interleaving() {
    let job = |t: &mut Topology| {
        let windows = keyed(t).window(sliding(millis(50)).grace(millis(40)));
        windows.aggregate("sets", put).on_close().to(SETS);
    };
    for seed in 0..16 {
        let partitions = 1 + u32::try_from(seed % 4).unwrap();
        let input = seen(seed, partitions, 50, 20, 150);
        let (sets, late) = sliding_model(&input, 50, 40);
        let mut d = run(job, &input, (partitions, seed, seed % 2 == 1), 40);
        assert_eq!(final_results(&d.read_records(SETS)), sets, "seed {seed}");
        assert_eq!(d.late(), late, "seed {seed}");
        assert!(late > 0, "the input has records that are late");
    }
}

/// A record of one partition: key, step forward in time, and how far behind it is.
fn steps() -> impl Strategy<Value = Vec<(u32, Seen)>> {
    let one = (0_u8..3, 0_i64..40, prop_oneof![3 => Just(0_i64), 2 => 0_i64..120]);
    prop::collection::vec(one, 1..40).prop_map(|steps| {
        let mut now = -100;
        let record = |(i, (key, step, behind)): (usize, (u8, i64, i64))| {
            now += step;
            let id = u64::try_from(i).unwrap();
            (0, Seen { key: format!("k{key}"), id, at: now - behind })
        };
        steps.into_iter().enumerate().map(record).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_records_end_in_the_models_windows(
        input in steps(),
        grace in prop_oneof![Just(0_i64), 0_i64..100],
        commit_every in 1_usize..12,
        crashes: bool,
    ) {
        let grace_ms = millis(u64::try_from(grace).unwrap());
        let how = (1, 6, crashes);
        let (sets, late) = hopping_model(&input, 50, 20, grace);
        let mut d = run(move |t| {
            let windows = keyed(t).window(hopping(millis(50), millis(20)).grace(grace_ms));
            windows.aggregate("sets", put).on_close().to(SETS);
        }, &input, how, commit_every);
        prop_assert_eq!(final_results(&d.read_records(SETS)), sets, "hopping");
        prop_assert_eq!(d.late(), late);

        let (sets, late) = session_model_in_order(&input, 20, grace);
        let mut d = run(move |t| {
            let windows = keyed(t).window(session(millis(20)).grace(grace_ms)).late_to(LATE);
            windows.aggregate("sets", put, both).on_close().to(SETS);
        }, &input, how, commit_every);
        prop_assert_eq!(final_results(&d.read_records(SETS)), sets.clone(), "sessions");
        prop_assert_eq!(d.late(), late);
        prop_assert_eq!(d.read(LATE).len(), usize::try_from(late).unwrap());
        let mut d = run(move |t| {
            let windows = keyed(t).window(session(millis(20)).grace(grace_ms));
            windows.aggregate("sets", put, both).on_update().to(SETS);
        }, &input, how, commit_every);
        prop_assert_eq!(last_results(&d.read_records(SETS)), sets, "updates of sessions");

        let (sets, late) = sliding_model(&input, 30, grace);
        let mut d = run(move |t| {
            let windows = keyed(t).window(sliding(millis(30)).grace(grace_ms));
            windows.aggregate("sets", put).on_close().to(SETS);
        }, &input, how, commit_every);
        prop_assert_eq!(final_results(&d.read_records(SETS)), sets.clone(), "sliding");
        prop_assert_eq!(d.late(), late);
        let mut d = run(move |t| {
            let windows = keyed(t).window(sliding(millis(30)).grace(grace_ms)).late_to(LATE);
            windows.aggregate("sets", put).on_update().to(SETS);
        }, &input, how, commit_every);
        prop_assert_eq!(last_results(&d.read_records(SETS)), sets, "updates of sliding windows");
        prop_assert_eq!(d.read(LATE).len(), usize::try_from(late).unwrap());
    }
}

/// Behind one job's windows of each kind with grace 0 another window with grace 0: nothing is late, as
/// the watermark behind lags by what an open window may still say.
#[test]
fn results_of_windows_are_in_time_for_the_windows_behind_them() {
    const NEXT: Topic<Windowed<u64>, u64> = topic("next");
    fn chain<G>(windows: WindowedStream<String, Seen, G>) {
        let results = windows.count("first").on_close().key_by(|count| *count);
        results.window(tumbling(millis(1))).count("next").on_close().to(NEXT);
    }
    for seed in 0..8 {
        let mut input = seen(seed, 2, 60, 20, 1);
        input.sort_by_key(|(_, record)| record.at);
        for job in [
            (|t| chain(keyed(t).window(hopping(millis(100), millis(30))))) as fn(&mut Topology),
            |t| chain(keyed(t).window(sliding(millis(70)))),
            |t| chain(keyed(t).window(session(millis(30)))),
        ] {
            let mut d = run(job, &input, (2, seed, seed % 2 == 1), 30);
            let counted: u64 = d.read(NEXT).iter().map(|(_, count)| count).sum();
            assert!(counted > 10, "{counted} windows, seed {seed}");
            assert_eq!(d.late(), 0, "seed {seed}");
        }
    }
}

/// One record from far ahead: only the records of its own partition that follow are late.
#[test]
fn a_record_from_the_future_harms_its_own_partition_alone() {
    for kind in ["hopping", "sliding", "session"] {
        let job = move |t: &mut Topology| {
            let stream = keyed(t);
            match kind {
                "hopping" => stream
                    .window(hopping(millis(100), millis(50)).grace(millis(500)))
                    .count("n")
                    .on_close(),
                "sliding" => {
                    stream.window(sliding(millis(100)).grace(millis(500))).count("n").on_close()
                }
                _ => stream.window(session(millis(100)).grace(millis(500))).count("n").on_close(),
            }
            .to(COUNTS);
        };
        let mut d = TestDriver::new(job).partitions(2).seed(3);
        let at = |at: i64| Seen { key: "k".to_owned(), id: 0, at };
        d.send_to(SEEN, 0, NoKey, at(1_000));
        d.send_to(SEEN, 1, NoKey, at(1_000));
        d.send_to(SEEN, 1, NoKey, at(3_000_000));
        d.send_to(SEEN, 1, NoKey, at(1_200));
        d.send_to(SEEN, 0, NoKey, at(1_100));
        assert_eq!(d.late(), 1, "{kind}: that which followed it in its partition");
        assert_eq!(d.read(COUNTS), [], "{kind}: the other partition holds windows open");
        d.send_to(SEEN, 0, NoKey, at(2_000_000));
        assert!(!d.read(COUNTS).is_empty(), "{kind}");
        assert_eq!(d.late(), 1, "{kind}");
    }
}

/// A partition without records holds windows open; passed over, it does not; back with old records, they
/// are late only by its own clock.
#[test]
fn a_silent_partition_holds_windows_of_every_kind_open_until_it_is_passed_over() {
    for kind in ["hopping", "sliding", "session"] {
        let job = move |t: &mut Topology| {
            let stream = keyed(t);
            match kind {
                "hopping" => stream.window(hopping(millis(100), millis(50))).count("n").on_close(),
                "sliding" => stream.window(sliding(millis(100))).count("n").on_close(),
                _ => stream.window(session(millis(100))).count("n").on_close(),
            }
            .to(COUNTS);
        };
        let mut d = TestDriver::new(job).partitions(2).seed(5).idle_after(secs(10));
        let at = |at: i64| Seen { key: "k".to_owned(), id: 0, at };
        d.send_to(SEEN, 0, NoKey, at(1_000)).send_to(SEEN, 0, NoKey, at(5_000));
        assert_eq!(d.read(COUNTS), [], "{kind}");
        d.wall_clock(secs(11));
        d.send_to(SEEN, 0, NoKey, at(5_001));
        d.wall_clock(secs(11));
        assert!(!d.read(COUNTS).is_empty(), "{kind}");
        d.crash();
        d.send_to(SEEN, 1, NoKey, at(1_050));
        assert_eq!(d.late(), 1, "{kind}: its clock was raised to the other's");
    }
}

#[test]
fn times_at_the_ends_of_the_range_neither_panic_nor_hang() {
    const IN: Topic<String, u64> = topic("in");
    let job = |t: &mut Topology| {
        let year = days(365);
        let out = |n: &str| format!("{n}-n");
        let s = t.stream(IN).window(hopping(year, days(1)));
        s.count(&out("hopping")).on_close().for_each(|_| ());
        t.stream(IN).window(sliding(year)).count(&out("sliding")).on_close().to(COUNTS);
        t.stream(IN).window(session(year)).count(&out("session")).on_update().for_each(|_| ());
        t.stream(IN).window(since(i64::MIN)).count(&out("since")).on_update().for_each(|_| ());
    };
    for order in
        [[i64::MIN, -1, 0, i64::MAX], [i64::MAX, 0, -1, i64::MIN], [0, i64::MIN, i64::MAX, -1]]
    {
        let mut d = TestDriver::new(job).event_time_ahead_max(std::time::Duration::MAX);
        for at in order {
            d.send_at(IN, "k".into(), 1, at);
            d.run().unwrap();
        }
        d.crash();
        d.run().unwrap();
    }
}

#[test]
fn windows_that_cannot_be_are_refused_with_what_to_write_instead() {
    let refused = |job: fn(Stream<String, Seen>)| {
        let mut d = TestDriver::new(move |t: &mut Topology| job(keyed(t)));
        let error = d.run().unwrap_err();
        assert_eq!(error.code(), "S018");
        error.to_string()
    };
    let said = refused(|s| {
        s.window(hopping(days(3_650), millis(1))).count("n").on_close().for_each(|_| ());
    });
    assert!(said.contains("each record would be in 315360000000 of them"), "{said}");
    let said =
        refused(|s| s.window(hopping(secs(1), secs(2))).count("n").on_close().for_each(|_| ()));
    assert!(said.contains("the windows of `n` of 1s begin every 2s"), "{said}");
    let said = refused(|s| s.window(since(0)).count("n").on_close().for_each(|_| ()));
    assert!(said.contains("never closes"), "{said}");
}

#[test]
fn late_records_keep_their_key_value_time_and_headers() {
    const IN: Topic<String, u64> = topic("in");
    const KEPT: Topic<String, u64> = topic("kept");
    let direct = |t: &mut Topology| {
        let windows = t.stream(IN).window(hopping(millis(20), millis(10)));
        windows.late_to(KEPT).count("n").on_close().for_each(|_| ());
    };
    let behind = |t: &mut Topology| {
        let windows = t.stream(IN).key_by(|n| format!("k{n}")).window(session(millis(10)));
        windows.late_to(KEPT).count("n").on_close().for_each(|_| ());
    };
    for (job, key) in [(direct as fn(&mut Topology), "a"), (behind, "k7")] {
        let mut d = TestDriver::new(job).partitions(3).idle_after(std::time::Duration::ZERO);
        let mut headers = Headers::none();
        headers.push("trace", Some(b"x".to_vec().into()));
        d.send_record(IN, Some("a".to_owned()), Some(1), 100, Headers::none());
        d.send_record(IN, Some("a".to_owned()), Some(7), 50, headers.clone());
        d.crash();
        let found = d.read_records(KEPT);
        assert_eq!(found.len(), 1);
        let record = &found[0];
        let (k, value) = (record.key.as_deref(), record.value);
        assert_eq!((k, value, record.timestamp), (Some(key), Some(7), 50));
        assert_eq!(record.headers, headers);
        assert_eq!(d.late(), 1);
    }
}

#[test]
fn a_session_that_comes_and_goes_within_one_commit_leaves_no_trace() {
    const IN: Topic<String, u64> = topic("in");
    let job = |t: &mut Topology| {
        let windows = t.stream(IN).window(session(millis(10)).grace(secs(1)));
        windows.reduce("sum", |a, b| a + b).on_update().to(COUNTS);
    };
    let mut d = TestDriver::new(job);
    let told = |d: &mut TestDriver| -> Vec<(i64, i64, Option<u64>, i64)> {
        let all = d.read_records(COUNTS).into_iter();
        all.map(|r| (r.key.as_ref().unwrap().start, r.key.unwrap().end, r.value, r.timestamp))
            .collect()
    };
    for (value, at) in [(1, 0), (2, 15), (4, 8)] {
        d.send_at(IN, "k".into(), value, at);
    }
    assert_eq!(told(&mut d), [(0, 15, Some(7), 15)]);
    d.send_at(IN, "k".into(), 8, 30).send_at(IN, "k".into(), 16, 22);
    let told = told(&mut d);
    assert_eq!(told[told.len() - 2..], [(0, 15, None, 15), (0, 30, Some(31), 30)]);
}

/// When a session has grown since it was put to the windows that end, the time alone moves it there: in
/// a transaction that changes no row.
#[test]
fn what_grew_closes_although_a_transaction_between_has_moved_only_the_time() {
    const IN: Topic<String, u64> = topic("in");
    for on_disk in [false, true] {
        let job = |t: &mut Topology| {
            let counted = t.stream(IN).filter(|value| *value > 0);
            counted.window(session(millis(40))).count("visits").on_close().to(COUNTS);
        };
        let disk = tempfile::tempdir().unwrap();
        let mut d = TestDriver::new(job);
        if on_disk {
            d = d.stores_on_disk(disk.path());
        }
        for (value, at) in [(1, 76), (1, 116), (0, 126), (0, 200)] {
            d.send_at(IN, "k".into(), value, at);
            d.run().unwrap();
        }
        let closed = d.read(COUNTS);
        assert_eq!(closed, [(Windowed { key: "k".to_owned(), start: 76, end: 116 }, 2)]);
    }
}
