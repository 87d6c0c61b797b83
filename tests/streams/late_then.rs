//! A replay with another grace says how many records were late then, or are now, and says nothing where
//! that cannot be known.
//!
//! The model goes over the clicks of each partition in order, with both graces, and shares no code with
//! `streams`.

use std::collections::BTreeMap;
use std::path::Path;

use streams::prelude::*;
use streams::{Comparison, Difference};

use crate::jobs::{CLICKS, COUNTS, Click, MINUTE, clicks};
use crate::replay::{app, counted, results, run, wait_until_idle, write};

const PARTITIONS: u32 = 4;

fn counting(t: &mut Topology, grace: u64) {
    t.stream(CLICKS)
        .event_time(|c| c.at)
        .filter(|c| !c.user.starts_with("bot-"))
        .key_by(|c| c.page.clone())
        .window(tumbling(mins(1)).grace(secs(grace)))
        .count("clicks-per-page")
        .on_close()
        .to(COUNTS);
}

fn none(t: &mut Topology) {
    counting(t, 0);
}

fn ten(t: &mut Topology) {
    counting(t, 10);
}

fn twenty(t: &mut Topology) {
    counting(t, 20);
}

/// By page and window: how many clicks are late by the first grace and not by the second.
type Late = BTreeMap<(String, i64), u64>;

fn late_by(input: &[(u32, Click)], first: i64, second: i64) -> Late {
    let mut clocks: BTreeMap<u32, i64> = BTreeMap::new();
    let mut late = Late::new();
    for (partition, click) in input {
        let clock = clocks.entry(*partition).or_insert(i64::MIN);
        *clock = (*clock).max(click.at);
        let start = click.at.div_euclid(MINUTE) * MINUTE;
        let is_late = |grace: i64| *clock >= start + MINUTE + grace * 1_000;
        if !click.user.starts_with("bot-") && is_late(first) && !is_late(second) {
            *late.entry((click.page.clone(), start)).or_default() += 1;
        }
    }
    late
}

fn value(side: &Option<String>) -> u64 {
    side.as_ref().map_or(0, |value| value.parse().unwrap())
}

fn place(difference: &Difference) -> (String, i64) {
    (difference.key.clone(), difference.window.unwrap().0)
}

fn reasons(differences: &[Difference]) -> BTreeMap<(String, i64), Option<String>> {
    differences.iter().map(|difference| (place(difference), difference.reason.clone())).collect()
}

fn said(count: u64, one: &str, many: &str, grace: u64) -> String {
    let records =
        if count == 1 { format!("1 record {one}") } else { format!("{count} records {many}") };
    format!("{records}: grace {grace} s")
}

fn were(count: u64, grace: u64) -> String {
    said(count, "was late then", "were late then", grace)
}

/// The windows of the model that a comparison has looked at: those that the job of the replay closed
/// behind the stretch's beginning.
fn compared(late: Late, after: i64, closed_to: i64) -> Late {
    late.into_iter().filter(|((_, s), _)| *s > after && s + MINUTE <= closed_to).collect()
}

fn smallest_clock(input: &[(u32, Click)]) -> i64 {
    let mut clocks: BTreeMap<u32, i64> = BTreeMap::new();
    for (partition, click) in input {
        let clock = clocks.entry(*partition).or_insert(i64::MIN);
        *clock = (*clock).max(click.at);
    }
    *clocks.values().min().unwrap()
}

#[test]
fn what_was_late_then_is_the_reason_of_exactly_the_windows_that_differ() {
    let dir = tempfile::tempdir().unwrap();
    let input = clicks(5, PARTITIONS, 150, 5_000);
    write(dir.path(), &input);
    run(dir.path(), none);
    for from in [0, 40] {
        let stretch = app(dir.path(), ten).replay(At::Offset(from), At::End).compare();
        let report = stretch.run().unwrap();
        let before = input.iter().take(usize::try_from(from).unwrap() * 4);
        let after = before.map(|(_, click)| click.at).max().unwrap_or(i64::MIN);
        let closed_to = smallest_clock(&input) - 10_000;
        let model = compared(late_by(&input, 0, 10), after, closed_to);
        let (_, differences) = counted(&report);
        let expected = model.iter().map(|(place, late)| (place.clone(), Some(were(*late, 0))));
        assert_eq!(reasons(differences), expected.collect(), "from {from}");
        assert!(model.len() > 5 && model.values().any(|late| *late > 1), "{model:?}");
        for difference in differences {
            let more = value(&difference.now) - value(&difference.then);
            assert_eq!(more, model[&place(difference)], "{difference:?}");
        }
    }
}

#[test]
fn what_is_late_now_is_told_the_other_way_round() {
    let dir = tempfile::tempdir().unwrap();
    let input = clicks(6, PARTITIONS, 150, 5_000);
    write(dir.path(), &input);
    run(dir.path(), twenty);
    // Also while the job runs that owns the log.
    let handle = app(dir.path(), twenty).start().unwrap();
    wait_until_idle(&handle);
    let report = app(dir.path(), none).replay(At::Start, At::End).compare().run().unwrap();
    handle.stop();
    handle.wait().unwrap();
    let (_, differences) = counted(&report);
    // Windows that the live job has not closed are not compared, though the replay has.
    let closed_to = smallest_clock(&input) - 20_000;
    let model = compared(late_by(&input, 0, 20), i64::MIN, closed_to);
    let are = |late: u64| said(late, "is late now", "are late now", 0);
    let expected = model.iter().map(|(place, late)| (place.clone(), Some(are(*late))));
    assert_eq!(reasons(differences), expected.collect());
    assert!(model.len() > 5);
    for difference in differences {
        let less = value(&difference.then) - value(&difference.now);
        assert_eq!(less, model[&place(difference)], "{difference:?}");
    }
}

fn topics(dir: &Path) -> Vec<String> {
    let log = core_log::Log::open(dir).unwrap();
    let names = log.topics().unwrap().iter().map(|topic| topic.name().to_string()).collect();
    log.close().unwrap();
    names
}

#[test]
fn the_same_grace_gives_no_reason_no_difference_and_nothing_to_count() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &clicks(5, PARTITIONS, 150, 5_000));
    run(dir.path(), none);
    let report = app(dir.path(), none).replay(At::Start, At::End).compare().run().unwrap();
    let ([same, rest @ ..], differences) = counted(&report);
    assert!(same > 10 && rest == [0, 0, 0] && differences.is_empty(), "{report:?}");
    assert!(!topics(&report.dir).contains(&"job-late-then".to_owned()));
}

/// A job that has had two graces: each window is told of the one that it was decided by, and those that
/// both had a part in are told of none.
#[test]
fn each_window_is_told_of_the_grace_that_was_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let input = clicks(7, PARTITIONS, 400, 20_000);
    let (first, rest) = input.split_at(600);
    write(dir.path(), first);
    run(dir.path(), none);
    write(dir.path(), rest);
    run(dir.path(), ten);
    // The same again is no other period.
    run(dir.path(), ten);
    let report = app(dir.path(), twenty).replay(At::Start, At::End).compare().run().unwrap();
    let (_, differences) = counted(&report);
    let (early, later) = (late_by(&input, 0, 20), late_by(&input, 10, 20));
    // A job that starts again may wait for partitions that are behind.
    let (sure, read_to) =
        (smallest_clock(first) - MINUTE, first.iter().map(|(_, click)| click.at).max().unwrap());
    let mut seen = [0; 3];
    for difference in differences {
        let place = place(difference);
        let start = place.1;
        let more = value(&difference.now) - value(&difference.then);
        match difference.reason.as_deref() {
            Some(reason) if start + MINUTE + 10_000 <= smallest_clock(first) => {
                assert_eq!((reason, more), (&*were(early[&place], 0), early[&place]));
                seen[0] += 1;
            }
            Some(reason) => {
                assert!(start > read_to, "{difference:?}");
                assert_eq!((reason, more), (&*were(later[&place], 10), later[&place]));
                seen[2] += 1;
            }
            None => {
                assert!(start + MINUTE > sure && start <= read_to, "{difference:?}");
                seen[1] += 1;
            }
        }
    }
    assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
}

/// What wrote its windows before they were written down may have had any grace.
#[test]
fn a_job_under_another_store_name_explains_nothing_that_it_did_not_write() {
    fn renamed(t: &mut Topology) {
        t.stream(CLICKS)
            .event_time(|c| c.at)
            .filter(|c| !c.user.starts_with("bot-"))
            .key_by(|c| c.page.clone())
            .window(tumbling(mins(1)).grace(secs(10)))
            .count("by-another-name")
            .on_close()
            .to(COUNTS);
    }
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &clicks(5, PARTITIONS, 150, 5_000));
    run(dir.path(), none);
    let report = app(dir.path(), renamed).replay(At::Start, At::End).compare().run().unwrap();
    let (_, differences) = counted(&report);
    assert!(!differences.is_empty());
    assert!(differences.iter().all(|d| d.reason.is_none()), "{differences:?}");
    assert!(matches!(&report.compared[0].comparison, Comparison::Counted { .. }));
    assert!(!results(&report.dir, "page-counts-replay").is_empty());
}
