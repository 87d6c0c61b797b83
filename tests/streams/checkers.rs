//! The red witnesses: a deliberately broken variant for each checker, which it must catch.

use std::collections::BTreeMap;

use core_log::Broken;
use streams::prelude::*;
use streams::testing::Mistake;

use crate::equal::latest;
use crate::jobs::{CLICKS, COUNTS, clicks, clickstream, model, send_all, written};

const IN: Topic<String, u64> = topic("in");
const SUMS: Topic<String, u64> = topic("sums");

fn sums(t: &mut Topology) {
    t.stream(IN).aggregate("sums", |sum: &mut u64, n| *sum += n).to(SUMS);
}

/// The crash check of the state suite: whether the sums are right for this seed.
fn sums_are_right(seed: u64, mistake: Option<Mistake>) -> bool {
    let mut d = TestDriver::new(sums).partitions(2).seed(seed).crash_every(20);
    if let Some(mistake) = mistake {
        d = d.mistake(mistake);
    }
    for round in 0..200_u64 {
        d.send(IN, format!("k{}", round % 5), 1);
    }
    let rows = latest(&d.read_records(SUMS));
    rows.len() == 5 && rows.values().all(|&sum| sum == 40)
}

/// The same with rows that some transactions leave alone, and with more commits between two crashes.
fn many_sums_are_right(seed: u64, mistake: Option<Mistake>) -> bool {
    let mut d = TestDriver::new(sums).partitions(2).seed(seed).crash_every(120);
    if let Some(mistake) = mistake {
        d = d.mistake(mistake);
    }
    let mut expected = BTreeMap::new();
    for round in 0..1_500_u64 {
        let key = format!("k{}", round * round % 101);
        *expected.entry(key.clone()).or_insert(0) += round;
        d.send(IN, key, round);
    }
    latest(&d.read_records(SUMS)) == expected
}

/// The same for the clickstream over a log with a mistake.
fn clickstream_is_right(seed: u64, broken: Option<Broken>) -> bool {
    let input = clicks(seed, 3, 40, 60_000);
    let (counts, _) = model(&input);
    let mut d = TestDriver::new(clickstream).partitions(3).seed(seed).crash_every(15);
    if let Some(broken) = broken {
        d = d.broken_log(broken);
    }
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        send_all(&mut d, &input);
        d.advance_to(1 << 40);
        written(&d.read_records(COUNTS))
    }));
    told.is_ok_and(|told| told == counts)
}

const SEEDS: std::ops::Range<u64> = 0..40;

#[test]
fn the_checkers_pass_what_is_right() {
    assert!(SEEDS.step_by(4).all(|seed| sums_are_right(seed, None)));
    assert!(SEEDS.step_by(4).all(|seed| many_sums_are_right(seed, None)));
    assert!(SEEDS.step_by(4).all(|seed| clickstream_is_right(seed, None)));
}

#[test]
fn a_store_written_before_the_commit_point_is_caught() {
    assert!(SEEDS.into_iter().any(|s| !sums_are_right(s, Some(Mistake::StoreBeforeCommit))));
}

#[test]
fn a_changelog_record_left_out_is_caught() {
    assert!(SEEDS.into_iter().any(|s| !sums_are_right(s, Some(Mistake::SkipChangelogRecord))));
}

/// The flushes of a store that overlap, that carry another commit's checkpoint or that see rows which
/// are not decided yet or not theirs any more: a store and its changelog must be one after every crash.
#[test]
fn each_broken_flush_is_caught() {
    for mistake in [
        Mistake::OverlapFlushes,
        Mistake::LateCheckpoint,
        Mistake::FlushUndecidedRows,
        Mistake::CommitChangedRows,
    ] {
        let caught = SEEDS.into_iter().any(|seed| !many_sums_are_right(seed, Some(mistake)));
        assert!(caught, "{mistake:?}");
    }
}

#[test]
fn a_lost_marker_is_caught() {
    let broken = Broken::LoseMarker;
    assert!(SEEDS.into_iter().any(|s| !clickstream_is_right(s, Some(broken))));
}

/// A source whose offsets are committed before its data is synced. The writer promises nothing, the
/// job everything: what it has consumed and counted survives a power cut with its commit, and new
/// records never take the offsets of lost ones.
#[test]
fn offsets_committed_before_their_data_is_synced_are_caught() {
    fn kept(seed: u64, broken: Option<Broken>) -> bool {
        let mut d = TestDriver::new(clickstream).partitions(1).seed(seed).unsynced_sends();
        if let Some(broken) = broken {
            d = d.broken_log(broken);
        }
        for at in 0..10 {
            d.send(CLICKS, NoKey, crate::jobs::click("ana", "/", at));
        }
        d.run().unwrap();
        d.crash();
        for at in 10..20 {
            d.send(CLICKS, NoKey, crate::jobs::click("ana", "/", at));
        }
        d.advance_to(1 << 40);
        let counted: u64 = d.read(COUNTS).iter().map(|(_, n)| n).sum();
        (counted, d.read_committed(CLICKS).len()) == (20, 20)
    }
    assert!(SEEDS.into_iter().all(|seed| kept(seed, None)));
    let broken = Some(Broken::SkipConsumedSync);
    assert!(SEEDS.into_iter().any(|seed| !kept(seed, broken)));
}
