//! A stream without a key cannot be counted.

use streams::prelude::*;

const CLICKS: Topic<NoKey, String> = topic("clicks");

pub fn topology(t: &mut Topology) {
    drop(t.stream(CLICKS).count("n"));
}
