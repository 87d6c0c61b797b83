//! After a reset a job says what a fresh one says that has read nothing else.

use streams::prelude::*;

use crate::equal::per_key;
use crate::jobs::{
    CLICKS, COUNTS, Click, GRACE, MINUTE, PER_PAGE, clicks, clickstream, send_all, two_hops,
};

const PARTITIONS: u32 = 3;
const EACH: u64 = 120;

fn driver(topology: fn(&mut Topology), seed: u64) -> TestDriver {
    TestDriver::new(topology).partitions(PARTITIONS).seed(seed)
}

/// Clicks whose offset in their partition is at least `from`.
fn rest(input: &[(u32, Click)], from: usize) -> Vec<(u32, Click)> {
    let mut next = [0; PARTITIONS as usize];
    let behind = |(partition, _): &&(u32, Click)| {
        let offset = &mut next[usize::try_from(*partition).unwrap()];
        *offset += 1;
        *offset > from
    };
    input.iter().filter(behind).cloned().collect()
}

#[test]
fn a_job_that_was_reset_equals_a_fresh_one_over_that_stretch() {
    for seed in 0..4 {
        let input = clicks(seed, PARTITIONS, EACH, MINUTE);
        let end = input.iter().map(|(_, click)| click.at).max().unwrap() + 3 * MINUTE + GRACE;
        for (topology, topic) in [(clickstream as fn(&mut Topology), COUNTS), (two_hops, PER_PAGE)]
        {
            for from in [0, 37, 119, 120] {
                let mut d = driver(topology, seed);
                if seed % 2 == 1 {
                    d = d.crash_every(60);
                }
                send_all(&mut d, &input);
                // Every other time in the middle of it, with windows open and records on their way.
                if seed % 4 < 2 {
                    d.advance_to(end);
                }
                d.run().unwrap();
                d.read_committed(topic);
                let late = d.late();
                d.reset_to(i64::try_from(from).unwrap()).unwrap();
                d.advance_to(end);
                let again = per_key(&d.read_records(topic));
                let mut fresh = driver(topology, seed + 100);
                send_all(&mut fresh, &rest(&input, from));
                fresh.advance_to(end);
                let expected = per_key(&fresh.read_records(topic));
                assert_eq!(again, expected, "seed {seed}, from {from}");
                assert_eq!(d.late() - late, fresh.late(), "seed {seed}, from {from}");
                assert_eq!(expected.is_empty(), from == 120, "there is something to compare");
            }
        }
    }
}

#[test]
fn a_job_goes_on_after_a_reset_to_its_end() {
    let mut d = driver(clickstream, 9);
    let click = |at| Click { user: "ana".into(), page: "/".into(), at };
    d.send_to(CLICKS, 0, NoKey, click(5)).send_to(CLICKS, 0, NoKey, click(6));
    d.run().unwrap();
    // Offsets 0 and 1 are there; what was counted of them is void.
    let refused = d.reset_to(2).unwrap_err();
    assert_eq!(refused.code(), "S032", "the other partitions have none: {refused}");
    d.send_to(CLICKS, 1, NoKey, click(7)).send_to(CLICKS, 1, NoKey, click(8));
    d.send_to(CLICKS, 2, NoKey, click(7)).send_to(CLICKS, 2, NoKey, click(8));
    d.reset_to(2).unwrap();
    d.send_to(CLICKS, 0, NoKey, click(9));
    d.advance_to(2 * MINUTE);
    let window = Windowed { key: "/".to_owned(), start: 0, end: MINUTE };
    assert_eq!(d.read(COUNTS), [(window, 1)]);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    page: String,
    country: String,
}

const VISITS: Topic<String, String> = topic("visits");
const USERS: Topic<String, String> = topic("users");
const SEEN: Topic<String, Seen> = topic("seen");

fn joined(t: &mut Topology) {
    let users = t.table(USERS, "users");
    t.stream(VISITS).join(&users, |page, country| Seen { page, country }).to(SEEN);
}

/// The rows of a table are void after a reset: read on from where it was, it would be empty.
#[test]
fn a_table_is_read_whole_again_wherever_its_streams_go() {
    let mut d = driver(joined, 5);
    for user in 0..9 {
        d.send(USERS, format!("u{user}"), format!("c{user}"));
    }
    d.run().unwrap();
    for user in 0..9 {
        d.send(VISITS, format!("u{user}"), "/first".into());
    }
    d.run().unwrap();
    assert_eq!(d.read(SEEN).len(), 9);
    // Where some partitions have fewer, nobody can go.
    d.reset_to(0).unwrap();
    let again = d.read(SEEN);
    assert_eq!(again.len(), 9);
    assert!(again.iter().all(|(user, seen)| seen.country == user.replace('u', "c")), "{again:?}");
    d.send(VISITS, "u3".into(), "/second".into());
    let seen = Seen { page: "/second".into(), country: "c3".into() };
    assert_eq!(d.read(SEEN), [("u3".to_owned(), seen)]);
}
