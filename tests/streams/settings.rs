//! Long runs of one producer, and what a plan refuses.

use streams::prelude::*;

use crate::equal::latest;

const IN: Topic<String, u64> = topic("in");
const SUMS: Topic<String, u64> = topic("sums");

/// After 32 767 transactions of each of the two producers their epochs are used up and new producer ids
/// follow, without a pause and without a record counted twice or not at all.
#[test]
fn the_epochs_roll_over_after_32_767_commits_each() {
    fn sums(t: &mut Topology) {
        t.stream(IN).aggregate("sums", |sum: &mut u64, n| *sum += n).to(SUMS);
    }
    let mut d = TestDriver::new(sums);
    let rounds = 65_600;
    for round in 1..=rounds {
        d.send(IN, "a".into(), 1);
        d.run().unwrap();
        if round == 65_580 {
            d.crash();
        }
    }
    assert!(d.commits() >= rounds, "{} commits", d.commits());
    assert_eq!(latest(&d.read_records(SUMS))["a"], rounds);
}
