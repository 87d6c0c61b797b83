//! Changelogs that are compacted, or deleted, beside a job that is killed: stores see every tombstone and
//! every record that they still need.
//!
//! ```text
//!   rounds of input, the cleaner at any step, kills at any step, the cleaner again before each start
//!     --> what a job on whole changelogs gives
//!   all stores lost, once more --> the same: what is left of a compacted changelog folds to the stores
//! ```
//!
//! A log that keeps nothing for anybody shows that it can fail, where it compacts and where it deletes.

use super::*;
use crate::dsl::topic;
use crate::key::Windowed;
use crate::time::{secs, tumbling};

const IN: Topic<String, u64> = topic("in");
const USERS: Topic<String, String> = topic("users");
const SEEN: Topic<String, String> = topic("seen");
const SUMS: Topic<String, u64> = topic("sums");
const WINDOWS: Topic<Windowed<String>, u64> = topic("windows");

/// A table whose rows come and go, windows whose rows go when they close, and rows that stay.
fn topology(t: &mut Topology) {
    let users = t.table(USERS, "users");
    let seen = t.stream(IN);
    seen.left_join(&users, |n, user| format!("{n} {user:?}")).to(SEEN);
    t.stream(IN).aggregate("sums", |sum: &mut u64, n| *sum += n).to(SUMS);
    t.stream(IN).window(tumbling(secs(1))).count("windows").on_close().to(WINDOWS);
}

const COMPACT: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("segment.bytes", "512"),
    ("min.cleanable.dirty.ratio", "0"),
    ("delete.retention.ms", "0"),
];
const DELETE: &[(&str, &str)] =
    &[("cleanup.policy", "delete"), ("segment.bytes", "512"), ("retention.ms", "1")];

const KEYS: u64 = 7;
/// A few seconds before a driver's clock begins: too old for changelogs that are deleted, and for no other.
const START_MS: i64 = 1_767_225_590_000;

/// Each key is seen, some without a user: users come and go from round to round.
fn send_round(d: &mut TestDriver, round: u64) {
    let at = START_MS + i64::try_from(round * 300).unwrap();
    for key in 0..KEYS {
        let user = (!(key + round).is_multiple_of(3)).then(|| format!("user-{round}"));
        d.send_record(USERS, Some(format!("k{key}")), user, at, Headers::none());
    }
    d.run().unwrap();
    for key in 0..KEYS {
        d.send_at(IN, format!("k{key}"), round, at + i64::try_from(key).unwrap());
    }
    d.run().unwrap();
    // Markers are as young as the clock says.
    d.wall_clock(Duration::from_secs(1));
}

type Seen = BTreeMap<String, Vec<String>>;
type Results = (Seen, BTreeMap<String, u64>, Vec<(Windowed<String>, u64)>);

fn read(d: &mut TestDriver) -> Results {
    let mut seen = Seen::new();
    d.read(SEEN).into_iter().for_each(|(key, text)| seen.entry(key).or_default().push(text));
    let mut windows = d.read(WINDOWS);
    windows.sort();
    (seen, d.read(SUMS).into_iter().collect(), windows)
}

fn results(mut d: TestDriver, lose_stores: bool) -> Results {
    (0..20).for_each(|round| send_round(&mut d, round));
    if lose_stores {
        d.stop();
        d.engine.lose_stores();
    }
    (20..24).for_each(|round| send_round(&mut d, round));
    d.advance_to(START_MS + 1_000_000);
    read(&mut d)
}

fn cleaned(cleanup: &'static [(&'static str, &'static str)], seed: u64) -> TestDriver {
    let mut d = TestDriver::new(topology).partitions(2).seed(seed).crash_every(40);
    d.engine.settings.cache.flush_every_ms = 10;
    d.engine.log.cleanup = cleanup;
    d
}

#[test]
fn stores_see_all_that_they_need_of_changelogs_that_are_cleaned() {
    let expected = results(TestDriver::new(topology).partitions(2), false);
    let (mut crashes, mut gone) = (0, [0, 0]);
    for seed in 0..24 {
        for (which, cleanup) in [COMPACT, DELETE].into_iter().enumerate() {
            let mut d = cleaned(cleanup, seed);
            (0..20).for_each(|round| send_round(&mut d, round));
            crashes += d.crashes();
            gone[which] += d.engine.log.cleaned_offsets().unwrap();
            let lose_stores = cleanup == COMPACT;
            let found = results(cleaned(cleanup, seed), lose_stores);
            assert_eq!(found, expected, "seed {seed}, {cleanup:?}");
        }
    }
    assert!(crashes > 100, "{crashes}");
    assert!(gone.iter().all(|gone| *gone > 1_000), "{gone:?} offsets were cleaned");
}

#[test]
fn a_cleaner_that_keeps_nothing_for_stores_is_found_out() {
    let expected = results(TestDriver::new(topology).partitions(2), false);
    for cleanup in [COMPACT, DELETE] {
        let is_wrong = |seed| {
            let mut d = cleaned(cleanup, seed);
            d.engine.log.forgets_holders = true;
            results(d, false) != expected
        };
        assert!((0..24).any(is_wrong), "{cleanup:?}");
    }
}

/// Of a store that was taken away its changelog is let go of; what is on the disk may be older than that.
#[test]
fn a_store_that_comes_back_knows_what_its_changelog_has_lost_meanwhile() {
    fn without_users(t: &mut Topology) {
        t.stream(IN).aggregate("sums", |sum: &mut u64, n| *sum += n).to(SUMS);
        t.stream(IN).window(tumbling(secs(1))).count("windows").on_close().to(WINDOWS);
    }
    let seen = |mut d: TestDriver| {
        (0..10).for_each(|round| send_round(&mut d, round));
        d.crash();
        d.engine.build = Arc::new(without_users);
        (10..14).for_each(|round| send_round(&mut d, round));
        d.crash();
        d.engine.build = Arc::new(topology);
        (14..18).for_each(|round| send_round(&mut d, round));
        read(&mut d).0
    };
    let expected = seen(TestDriver::new(topology).partitions(2));
    for seed in 0..24 {
        assert_eq!(seen(cleaned(COMPACT, seed)), expected, "seed {seed}");
    }
}
