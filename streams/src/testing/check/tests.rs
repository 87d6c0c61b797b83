//! The check itself: it passes jobs that are exactly-once, and catches runtimes and jobs that are not.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::dsl::{Topic, topic};
use crate::key::{NoKey, Windowed};
use crate::settings::Mistake;
use crate::time::{millis, secs, session, sliding, tumbling, within};

const CLICKS: Topic<NoKey, String> = topic("clicks");
const USERS: Topic<String, String> = topic("users");
const NUMBERS: Topic<String, u64> = topic("numbers");
const SEEN: Topic<String, String> = topic("seen");
const COUNTS: Topic<String, u64> = topic("counts");
const MINUTES: Topic<Windowed<String>, u64> = topic("minutes");
const NEAR: Topic<Windowed<String>, String> = topic("near");
const PAIRS: Topic<String, String> = topic("pairs");

/// A table, a join, a count, windows, and two streams that meet.
fn topology(t: &mut Topology) {
    let users = t.table(USERS, "users");
    let clicks = || |page: &String| page.clone();
    t.stream(CLICKS).key_by(clicks()).join(&users, |page, user| page + &user).to(SEEN);
    t.stream(CLICKS).key_by(clicks()).count("counts").to(COUNTS);
    let windows = t.stream(CLICKS).key_by(clicks()).window(tumbling(secs(1)).grace(millis(100)));
    windows.count("minutes").on_close().to(MINUTES);
    let (left, right) = (t.stream(USERS), t.stream(USERS).filter(|user| user.len() > 2));
    left.left_join_within(right, within(millis(60)), "pairs", |l, r| l + &r.unwrap_or_default())
        .to(PAIRS);
}

fn inputs() -> Inputs {
    let mut inputs = Inputs::new();
    for i in 0..20_i64 {
        inputs = inputs.send_at(USERS, format!("k{}", i % 5), format!("u{i}"), i * 10);
    }
    for i in 0..300_i64 {
        inputs = inputs.send_at(CLICKS, NoKey, format!("k{}", i % 7), 1_000 + i * 20);
    }
    inputs
}

/// One store, quick to run again.
fn sums(t: &mut Topology) {
    t.stream(NUMBERS).aggregate("sums", |sum: &mut u64, n| *sum += n).to(COUNTS);
}

fn keyed() -> Inputs {
    let send = |all: Inputs, n: u64| all.send(NUMBERS, format!("k{}", n * n % 101), n);
    (0..1_500).fold(Inputs::new(), send)
}

#[test]
fn a_job_that_is_exactly_once_passes() {
    let checked = check_exactly_once(topology, inputs(), 12);
    assert_eq!((checked.seeds, checked.not_compared.len()), (12, 0));
    assert!(checked.crashes > 5, "{checked:?}");
}

/// Sessions, sliding windows, and two streams whose rows may still be met.
fn grow(t: &mut Topology) {
    let sessions = t.stream(CLICKS).key_by(|page| page.clone()).window(session(millis(150)));
    sessions.count("visits").on_close().to(MINUTES);
    let sliding = t.stream(USERS).window(sliding(millis(40)));
    sliding.count("near").on_close().map(|n| n.to_string()).to(NEAR);
    let (left, right) = (t.stream(USERS), t.stream(USERS).filter(|user| user.len() > 2));
    left.left_join_within(right, within(secs(60)), "pairs", |l, r| l + &r.unwrap_or_default())
        .to(PAIRS);
}

#[test]
fn a_job_whose_rows_change_their_place_in_time_passes() {
    check_exactly_once(grow, inputs().advance_to(7_010), 12);
}

#[test]
fn every_broken_runtime_is_caught() {
    let mut missed = Vec::new();
    for mistake in [
        Mistake::StoreBeforeCommit,
        Mistake::SkipChangelogRecord,
        Mistake::OverlapFlushes,
        Mistake::LateCheckpoint,
        Mistake::FlushUndecidedRows,
        Mistake::CommitChangedRows,
    ] {
        let broken = move |mut driver: TestDriver| {
            driver.engine.settings.mistake = Some(mistake);
            driver
        };
        let found = Check::new(sums, keyed()).seeds(60).with(broken).run();
        missed.extend(found.is_ok().then_some(mistake));
    }
    assert!(missed.is_empty(), "{missed:?}");
    check_exactly_once(sums, keyed(), 20);
}

#[test]
fn a_job_that_counts_outside_of_its_state_is_caught_and_the_seed_repeats_it() {
    let calls = AtomicU64::new(0);
    let counts_calls = move |t: &mut Topology| {
        let calls = calls.fetch_add(1_000, Ordering::Relaxed);
        let next = AtomicU64::new(calls);
        t.stream(USERS).map(move |_| next.fetch_add(1, Ordering::Relaxed)).to(COUNTS);
    };
    let found = Check::new(counts_calls, inputs()).seeds(10).run().unwrap_err();
    assert_eq!(found.cause, Cause::NotDeterministic);
    let message = found.to_string();
    assert!(message.contains("topic `counts`, key \"k"), "{message}");
    let test = "testing::check::tests::a_job_that_counts_outside_of_its_state_is_caught_and_the_seed_repeats_it";
    assert!(message.ends_with(&format!("SEED={} cargo test {test}", found.seed)), "{message}");
}

#[test]
fn a_job_whose_answer_depends_on_arrival_is_told_so() {
    let keeps_last = |t: &mut Topology| {
        let by_length = t.stream(CLICKS).key_by(|page| page.len().to_string());
        by_length.aggregate("last", |last: &mut String, page| *last = page).to(SEEN);
    };
    let found = Check::new(keeps_last, inputs()).seeds(50).run().unwrap_err();
    assert_eq!(found.cause, Cause::Interleaving, "{found}");
}

#[test]
fn a_job_that_fails_is_no_success() {
    let fails = |t: &mut Topology| {
        t.stream(USERS).try_map(|user| user.parse::<u64>()).to(COUNTS);
    };
    let found = Check::new(fails, inputs()).seeds(3).run().unwrap_err();
    assert_eq!(found.cause, Cause::Failed);
    let told = found.to_string();
    assert!(told.contains("error[S031]"), "{told}");
}
