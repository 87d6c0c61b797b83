//! Event time: the counterexamples that its rules were made against, each by name.

use std::collections::BTreeMap;

use streams::prelude::*;

use crate::equal::per_key;
use crate::jobs::{
    CLICKS, COUNTS, Click, MINUTE, PER_PAGE, click, clicks, clickstream, model, send_all, two_hops,
    written,
};

/// Far past every click of the suite.
const LATER: i64 = 1 << 40;

#[test]
fn counts_per_minute() {
    let mut d = TestDriver::new(clickstream).partitions(4).seed(7).crash_every(50);
    d.send(CLICKS, NoKey, click("ana", "/home", 5_000));
    d.send(CLICKS, NoKey, click("bob", "/home", 40_000));
    d.advance_to(70_000);
    let minute = Windowed { key: "/home".to_owned(), start: 0, end: MINUTE };
    assert_eq!(d.read(COUNTS), [(minute, 2)]);
    assert_eq!(d.late(), 0);
}

#[test]
fn a_window_stays_open_until_every_clock_has_passed_it() {
    let mut d = TestDriver::new(clickstream).partitions(2);
    d.send_to(CLICKS, 0, NoKey, click("ana", "/", 5_000));
    d.send_to(CLICKS, 1, NoKey, click("bob", "/", 500_000));
    assert_eq!(d.read(COUNTS), []);
    d.send_to(CLICKS, 0, NoKey, click("ana", "/", 69_999));
    assert_eq!(d.read(COUNTS), [], "the window closes at its end plus grace");
    d.send_to(CLICKS, 0, NoKey, click("ana", "/", 70_000));
    assert_eq!(d.read(COUNTS).len(), 1);
}

/// Upstream tasks that progress unevenly, one a minute ahead of the next: the late records and the
/// final results are those of the model in every interleaving, with crashes anywhere.
#[test]
fn uneven_partitions_give_the_models_answer_in_every_interleaving() {
    for partitions in 1..=4 {
        for seed in 0..12 {
            let input = clicks(seed, partitions, 60, MINUTE);
            let (counts, late) = model(&input);
            let mut d = TestDriver::new(clickstream).partitions(partitions).seed(seed);
            if seed % 2 == 1 {
                d = d.crash_every(40);
            }
            send_all(&mut d, &input);
            d.advance_to(LATER);
            let told = written(&d.read_records(COUNTS));
            assert_eq!(told, counts, "seed {seed}, {partitions} partitions");
            assert_eq!(d.late(), late, "seed {seed}, {partitions} partitions");
        }
    }
}

#[test]
fn two_repartitions_give_one_answer_whatever_the_seed_and_the_crashes() {
    for partitions in [1, 3] {
        let input = clicks(3, partitions, 50, MINUTE);
        let mut answers = BTreeMap::new();
        for seed in 0..10 {
            let mut d = TestDriver::new(two_hops).partitions(partitions).seed(seed);
            if seed > 4 {
                d = d.crash_every(30);
            }
            send_all(&mut d, &input);
            d.advance_to(LATER).advance_to(2 * LATER);
            let output = per_key(&d.read_records(PER_PAGE));
            assert!(!output.is_empty());
            answers.insert(seed, (output, d.late_records()));
        }
        let first = answers[&0].clone();
        for (seed, answer) in answers {
            assert_eq!(answer, first, "seed {seed}, {partitions} partitions");
        }
    }
}

#[test]
fn three_repartitions_lose_nothing_and_call_nothing_late_that_came_in_time() {
    const LAST: Topic<Windowed<String>, u64> = topic("last");
    fn three_hops(t: &mut Topology) {
        t.stream(CLICKS)
            .event_time(|c| c.at)
            .key_by(|c| c.user.clone())
            .window(tumbling(secs(10)).grace(secs(30)))
            .count("per-user")
            .on_close()
            .key_by(|n| format!("{}", n % 2))
            .window(tumbling(secs(20)))
            .count("odd-and-even")
            .on_close()
            .key_by(|_| "all".to_owned())
            .window(tumbling(secs(40)))
            .aggregate("sum", |sum: &mut u64, n| *sum += n)
            .on_close()
            .to(LAST);
    }
    let input = clicks(5, 3, 60, MINUTE);
    for seed in 0..6 {
        let mut d = TestDriver::new(three_hops).partitions(3).seed(seed).crash_every(60);
        send_all(&mut d, &input);
        for step in 1..=3 {
            d.advance_to(step * LATER);
        }
        let windows: u64 = d.read(LAST).iter().map(|(_, n)| n).sum();
        let mut clocks = BTreeMap::new();
        let mut first_hop: BTreeMap<(String, i64), ()> = BTreeMap::new();
        let mut late = 0;
        for (partition, c) in &input {
            let clock = clocks.entry(*partition).or_insert(i64::MIN);
            *clock = (*clock).max(c.at);
            let start = c.at.div_euclid(10_000) * 10_000;
            if *clock >= start + 40_000 {
                late += 1;
            } else {
                first_hop.insert((c.user.clone(), start), ());
            }
        }
        assert_eq!(d.late(), late, "seed {seed}: only the first hop has late records");
        assert_eq!(windows, u64::try_from(first_hop.len()).unwrap(), "seed {seed}");
    }
}

/// After a crash, watermarks that were read and not committed must come again with the records, or
/// windows stay open for ever.
#[test]
fn a_crash_between_watermark_and_commit_closes_the_window_all_the_same() {
    for seed in 0..40 {
        let mut d = TestDriver::new(clickstream).partitions(2).seed(seed).crash_every(1);
        d.send_to(CLICKS, 0, NoKey, click("ana", "/", 1_000));
        d.send_to(CLICKS, 1, NoKey, click("bob", "/", 2_000));
        d.send_to(CLICKS, 0, NoKey, click("ana", "/", 90_000));
        d.send_to(CLICKS, 1, NoKey, click("bob", "/", 91_000));
        let closed = d.read(COUNTS);
        assert_eq!(closed.len(), 1, "seed {seed}");
        d.crash();
        assert_eq!(d.read(COUNTS), [], "seed {seed}: and only once");
    }
}

/// Watermark records must not cause commits that cause watermark records.
#[test]
fn a_job_without_input_comes_to_rest() {
    let mut d = TestDriver::new(two_hops).partitions(3);
    send_all(&mut d, &clicks(1, 3, 20, 0));
    d.advance_to(LATER);
    let commits = d.commits();
    d.run().unwrap();
    d.crash();
    d.run().unwrap();
    assert_eq!(d.commits(), commits, "nothing came, so nothing was committed");
}

/// Results carry their largest timestamp, so the next window of size one and grace 0 must not call
/// them late: the watermark lags by size plus grace, not by grace.
#[test]
fn results_of_a_window_are_in_time_for_the_next_window_with_grace_0() {
    const OUT: Topic<Windowed<String>, u64> = topic("out");
    fn chained(t: &mut Topology) {
        t.stream(CLICKS)
            .event_time(|c| c.at)
            .key_by(|c| c.page.clone())
            .window(tumbling(mins(1)).grace(secs(10)))
            .count("first")
            .on_close()
            .key_by(|_| "all".to_owned())
            .window(tumbling(millis(1)))
            .aggregate("second", |sum: &mut u64, n| *sum += n)
            .on_close()
            .to(OUT);
    }
    for seed in 0..10 {
        let mut d = TestDriver::new(chained).partitions(2).seed(seed);
        for at in (0..400_000).step_by(500) {
            d.send_to(CLICKS, 0, NoKey, click("u", "/a", at));
            d.send_to(CLICKS, 1, NoKey, click("u", "/b", at + 100_000));
        }
        d.advance_to(LATER).advance_to(2 * LATER);
        assert_eq!(d.late(), 0, "seed {seed}");
        let total: u64 = d.read(OUT).iter().map(|(_, n)| n).sum();
        assert_eq!(total, 1_600, "seed {seed}");
    }
}

/// The topic behind a table moves no clock of a stream, also when the table is restored from rows that
/// lie far in the future.
#[test]
fn a_tables_topic_never_moves_the_clock_of_a_stream() {
    const TOTALS: Topic<String, u64> = topic("totals");
    fn both(t: &mut Topology) {
        let clicks = t.stream(CLICKS).event_time(|c| c.at);
        clicks.key_by(|c| c.page.clone()).count("totals").to(TOTALS);
        t.stream(CLICKS)
            .key_by(|c| c.page.clone())
            .window(tumbling(mins(1)))
            .count("clicks-per-page")
            .on_close()
            .to(COUNTS);
    }
    let mut d = TestDriver::new(both).partitions(2);
    d.send_to(CLICKS, 0, NoKey, click("ana", "/", 9_000_000));
    d.run().unwrap();
    d.crash();
    d.send_to(CLICKS, 1, NoKey, click("bob", "/", 1_000));
    d.send_to(CLICKS, 1, NoKey, click("bob", "/", 2_000));
    d.run().unwrap();
    assert_eq!(d.late(), 0);
    assert_eq!(d.read(COUNTS), []);
}

/// One record with a far future timestamp: only the records of its own partition that follow suffer.
#[test]
fn a_record_from_the_far_future_makes_only_its_own_partition_late() {
    let mut d = TestDriver::new(clickstream).partitions(2);
    d.send_to(CLICKS, 0, NoKey, click("ana", "/", LATER));
    for at in [1_000, 2_000, 3_000] {
        d.send_to(CLICKS, 0, NoKey, click("ana", "/", at));
        d.send_to(CLICKS, 1, NoKey, click("bob", "/", at));
    }
    d.advance_to(LATER);
    assert_eq!(d.late(), 3);
    let minute = Windowed { key: "/".to_owned(), start: 0, end: MINUTE };
    assert_eq!(d.read(COUNTS), [(minute, 3)]);
}

/// Extreme timestamps are inputs like any other.
#[test]
fn records_at_the_ends_of_time_are_counted() {
    fn per_window(at: i64) -> (i64, i64) {
        let mut d = TestDriver::new(clickstream);
        d.send(CLICKS, NoKey, click("ana", "/", at));
        assert_eq!(d.late(), 0, "{at}");
        d.advance_to(i64::MAX);
        match &d.read(COUNTS)[..] {
            [(window, 1)] => (window.start, window.end),
            [] => (0, 0),
            more => panic!("{at}: {more:?}"),
        }
    }
    let (start, end) = per_window(i64::MIN);
    assert!(start == i64::MIN && end > i64::MIN && end < i64::MIN + MINUTE);
    assert_eq!(per_window(-1), (-MINUTE, 0));
    assert_eq!(per_window(0), (0, MINUTE));
    assert_eq!(per_window(i64::MAX), (0, 0), "a window past the last timestamp never closes");
}

#[test]
fn a_null_value_has_no_event_time_and_moves_no_clock() {
    let mut d = TestDriver::new(clickstream);
    d.send(CLICKS, NoKey, click("ana", "/", 1_000));
    d.send_record(CLICKS, Some(NoKey), None::<Click>, LATER, Headers::none());
    d.send(CLICKS, NoKey, click("ana", "/", 2_000));
    assert_eq!(d.late(), 0);
    assert_eq!(d.nulls(), (0, 1), "it cannot be given a key, and says so");
}

/// A step that is added later has its own repartition topic, which must hear of all clocks, also of
/// those that stand still.
#[test]
fn a_window_added_to_a_running_jobs_topology_closes_like_the_others() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    const ADDED: Topic<Windowed<String>, u64> = topic("added");
    let is_added = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&is_added);
    let topology = move |t: &mut Topology| {
        clickstream(t);
        if says.load(Ordering::Relaxed) {
            let clicks = t.stream(CLICKS).key_by(|c| c.user.clone());
            clicks.window(tumbling(mins(1))).count("clicks-per-user").on_close().to(ADDED);
        }
    };
    let mut d = TestDriver::new(topology).partitions(2);
    d.send_to(CLICKS, 0, NoKey, click("ana", "/", 500_000));
    d.send_to(CLICKS, 1, NoKey, click("bob", "/", 700_000));
    d.stop();
    is_added.store(true, Ordering::Relaxed);
    d.send_to(CLICKS, 0, NoKey, click("ana", "/", 510_000));
    d.send_to(CLICKS, 0, NoKey, click("ana", "/", 600_000));
    let minute = |key: &str| Windowed { key: key.to_owned(), start: 480_000, end: 540_000 };
    assert_eq!(d.read(COUNTS), [(minute("/"), 2)]);
    assert_eq!(d.read(ADDED), [(minute("ana"), 1)], "partition 1 has been past it all the time");
    let commits = d.commits();
    d.stop();
    d.run().unwrap();
    assert_eq!(d.commits(), commits, "saying it again is not worth a commit of its own");
}
