//! A stream that goes nowhere is a warning.

use streams::prelude::*;

const CLICKS: Topic<NoKey, String> = topic("clicks");

pub fn topology(t: &mut Topology) {
    t.stream(CLICKS).filter(|page| page != "/");
}
