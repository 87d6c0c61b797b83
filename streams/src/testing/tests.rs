//! Resets, builds with other types and other windows, on a log whose power fails after any operation.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::dsl::topic;
use crate::ids::StoreName;
use crate::key::Windowed;
use crate::runtime::JobPlan;
use crate::time::{secs, tumbling};

const IN: Topic<String, u64> = topic("in");
const SUMS: Topic<String, u64> = topic("sums");
const TOTALS: Topic<u64, u64> = topic("totals");

/// Each record is one; behind the first store there is a repartition and another store.
fn sums(t: &mut Topology) {
    t.stream(IN).aggregate("sums", |sum: &mut u64, n| *sum += n).to(SUMS);
    t.stream(IN).key_by(|_| 0_u64).count("totals").to(TOTALS);
}

const KEYS: u64 = 6;
const ROUNDS: u64 = 10;
const RESET_TO: i64 = 4;

fn send_round(d: &mut TestDriver) {
    for key in 0..KEYS {
        let partition = u32::try_from(key % 2).unwrap();
        d.send_to(IN, partition, key.to_string(), 1);
    }
}

fn driver(seed: u64) -> TestDriver {
    let mut d = TestDriver::new(sums).partitions(2).seed(seed);
    (0..ROUNDS).for_each(|_| send_round(&mut d));
    d.run().unwrap();
    d.stop();
    d
}

/// What the stores say, once every key has come once more.
fn rows(d: &mut TestDriver) -> (BTreeMap<String, u64>, Option<u64>) {
    send_round(d);
    let sums = d.read(SUMS).into_iter().collect();
    (sums, d.read(TOTALS).last().map(|(_, total)| *total))
}

/// The rows of a job that has read every record from an offset on; a partition has three keys.
fn expected(from: i64) -> (BTreeMap<String, u64>, Option<u64>) {
    let each = ROUNDS + 1;
    let read = |key: u64| {
        let offset = |round: u64| i64::try_from(round * KEYS / 2 + key / 2).unwrap();
        u64::try_from((0..each).filter(|&round| offset(round) >= from).count()).unwrap()
    };
    let sums: BTreeMap<String, u64> = (0..KEYS).map(|key| (key.to_string(), read(key))).collect();
    let total = sums.values().sum();
    (sums, Some(total))
}

#[test]
fn a_reset_has_happened_wholly_or_not_at_all_wherever_the_power_fails() {
    let mut whole = driver(0);
    whole.reset_to(RESET_TO).unwrap();
    let (reset, kept) = (expected(RESET_TO), expected(0));
    assert_eq!(rows(&mut whole), reset);
    let (mut done_in_the_end, mut undone) = (0, 0);
    for seed in 0..8 {
        for operations in 0.. {
            let mut d = driver(seed);
            d.engine.log.power_off_after(operations);
            let outcome = d.reset_to(RESET_TO);
            d.crash();
            let (found, at) = (rows(&mut d), format!("seed {seed}, after {operations} operations"));
            assert!(found == kept || found == reset, "{at}: {found:?}");
            if outcome.is_ok() {
                assert_eq!(found, reset, "{at}: it was done");
                break;
            }
            *if found == reset { &mut done_in_the_end } else { &mut undone } += 1;
        }
    }
    // The power fails between the append of the commit record and its sync: either may come of it.
    assert!(done_in_the_end > 0 && undone > 20, "{done_in_the_end} done, {undone} not");
}

#[test]
fn a_second_reset_and_crashes_behind_one_change_nothing_else() {
    let mut d = driver(3);
    d.reset_to(20).unwrap();
    d.crash();
    d.reset_to(RESET_TO).unwrap();
    d.crash();
    d.run().unwrap();
    d.crash();
    assert_eq!(rows(&mut d), expected(RESET_TO));
    let restored = d.restored();
    d.stop();
    d.run().unwrap();
    assert_eq!(
        d.restored(),
        restored,
        "a clean stop leaves nothing to restore, also after a reset"
    );
    let beyond = d.reset_to(10_000).unwrap_err();
    assert_eq!(beyond.code(), "S032");
    assert_eq!(beyond.to_string(), "in-0 has no offset 10000: it ends at 33");
}

mod older {
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub(super) struct User {
        pub(super) name: String,
    }
}

mod newer {
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Default, Serialize, Deserialize)]
    pub(super) struct User {
        pub(super) name: String,
        pub(super) country: String,
    }
}

const OLDER: Topic<String, older::User> = topic("users-by-key");
const NEWER: Topic<String, newer::User> = topic("users-by-key");

fn keeps_older(t: &mut Topology) {
    t.stream(IN)
        .aggregate("users", |user: &mut older::User, n| user.name = n.to_string())
        .to(OLDER);
}

fn keeps_newer(t: &mut Topology) {
    let newer = |user: &mut newer::User, n: u64| {
        user.name = n.to_string();
        user.country = "is".to_owned();
    };
    t.stream(IN).aggregate("users", newer).to(NEWER);
}

#[test]
fn rows_of_another_build_are_refused_until_they_are_void() {
    let mut d = TestDriver::new(keeps_older).seed(5);
    d.send(IN, "ana".into(), 1).run().unwrap();
    d.stop();
    d.engine.build = Arc::new(keeps_newer);
    let refused = d.run().unwrap_err();
    assert_eq!(refused.code(), "S005");
    assert_eq!(
        refused.to_string(),
        "store `users` holds User{name:String}; this build has User{name:String, country:String}"
    );
    assert!(refused.help().iter().any(|line| line.contains("reset --to start --yes")));
    // The changelog has the rows too: without the state directory they are no less there.
    d.engine.stores = super::stores::Stores::in_memory(1);
    d.crash();
    assert_eq!(d.run().unwrap_err().code(), "S005");
    // The build that wrote them goes on.
    d.engine.build = Arc::new(keeps_older);
    d.send(IN, "bob".into(), 2).run().unwrap();
    d.stop();
    d.read_committed(OLDER);
    d.engine.build = Arc::new(keeps_newer);
    d.engine.reset_stopped(crate::runtime::ResetTo::Start).unwrap();
    d.crash();
    d.send(IN, "cid".into(), 3).run().unwrap();
    let users = d.read(NEWER);
    let last: Vec<&str> = users.iter().rev().take(3).map(|(_, user)| &*user.country).collect();
    assert_eq!(last, ["is"; 3], "all rows were built anew");
    d.stop();
    d.engine.build = Arc::new(keeps_older);
    assert_eq!(d.run().unwrap_err().code(), "S005", "now the rows are the newer build's");
}

const WINDOWS: Topic<Windowed<u64>, u64> = topic("windows");

fn graced(grace: u64) -> impl Fn(&mut Topology) + Send + Sync {
    move |t| {
        let windows = tumbling(secs(60)).grace(secs(grace));
        t.stream(IN).key_by(|n| *n).window(windows).count("counts").on_close().to(WINDOWS);
    }
}

/// Grace, largest event time read before and operator's time of each period, as the log has them.
fn periods(d: &mut TestDriver) -> Vec<(i64, i64, i64)> {
    d.stop();
    let broker = d.engine.log.broker(i64::MAX).unwrap();
    let (settings, build) = (d.engine.settings.clone(), Arc::clone(&d.engine.build));
    let mut plan = JobPlan::of_existing(settings, build, &broker).unwrap();
    plan.load_positions(&broker).unwrap();
    let (in_force, _) =
        plan.windows_then().unwrap().remove(&StoreName::new("counts").unwrap()).unwrap();
    in_force.periods().iter().map(|p| (p.window.grace_ms(), p.read_to, p.time)).collect()
}

#[test]
fn another_grace_is_no_other_type_and_is_taken_down_with_where_it_begins() {
    const NEVER: i64 = i64::MIN;
    for seed in 0..4 {
        let mut d = TestDriver::new(graced(0)).seed(seed);
        d.send_at(IN, "ana".into(), 1, 100_000).send_at(IN, "ana".into(), 2, 70_000);
        assert_eq!(periods(&mut d), [(0, NEVER, NEVER)]);
        d.engine.build = Arc::new(graced(10));
        d.send_at(IN, "ana".into(), 1, 130_000);
        let two = [(0, NEVER, NEVER), (10_000, 100_000, 100_000)];
        assert_eq!(periods(&mut d), two);
        d.crash();
        assert_eq!(periods(&mut d), two, "the same again is no other period");
        // What was written of windows up to there may be of any run before.
        d.reset_to(0).unwrap();
        assert_eq!(periods(&mut d)[0], (10_000, 130_000, NEVER));
        d.engine.build = Arc::new(graced(20));
        d.send_at(IN, "ana".into(), 1, 140_000);
        let after = [(10_000, 130_000, NEVER), (20_000, 130_000, 130_000)];
        assert_eq!(periods(&mut d), after);
        // A job may be reset before it has ever been started with its grace.
        d.engine.build = Arc::new(graced(30));
        d.engine.reset_stopped(crate::runtime::ResetTo::Start).unwrap();
        assert_eq!(periods(&mut d), [(30_000, 140_000, NEVER)]);
    }
}
