//! A stream without a key cannot be windowed.

use streams::prelude::*;

const CLICKS: Topic<NoKey, String> = topic("clicks");

pub fn topology(t: &mut Topology) {
    drop(t.stream(CLICKS).window(tumbling(mins(1))));
}
