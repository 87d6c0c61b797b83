//! The same seed and the same calls take the same steps.

use streams::prelude::*;
use streams::testing::TestRecord;

use crate::jobs::{MINUTE, PER_PAGE, clicks, send_all, two_hops};

const CHANGELOG: Topic<Windowed<String>, (String, u64), Bincode> =
    topic("test-visits-per-user-changelog").bincode();

type Trace = (
    Vec<TestRecord<Windowed<String>, u64>>,
    Vec<TestRecord<Windowed<String>, (String, u64)>>,
    Vec<(String, Vec<u8>, i64, i64)>,
    (u64, u64, u64),
);

fn trace(seed: u64) -> Trace {
    let mut d = TestDriver::new(two_hops).partitions(3).seed(seed).crash_every(25);
    send_all(&mut d, &clicks(seed, 3, 40, MINUTE));
    d.advance_to(1 << 40);
    let late = d.late_records();
    let output = d.read_records(PER_PAGE);
    let rows = d.read_records(CHANGELOG);
    (output, rows, late, (d.crashes(), d.commits(), d.restored()))
}

/// Down to offsets: where commits and crashes fell, what recovery kept, and in which order rows went to
/// the changelog.
#[test]
fn a_seed_repeats_its_run() {
    for seed in 0..6 {
        let first = trace(seed);
        assert!(first.3.0 > 0, "seed {seed}: it crashed");
        assert!(!first.0.is_empty() && !first.1.is_empty(), "seed {seed}");
        assert_eq!(first, trace(seed), "seed {seed}");
    }
    assert_ne!(trace(1).3, trace(2).3, "another seed takes other steps");
}
