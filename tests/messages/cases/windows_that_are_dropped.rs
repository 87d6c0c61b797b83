//! A windowed result that goes nowhere is a warning.

use streams::prelude::*;

const CLICKS: Topic<NoKey, String> = topic("clicks");

pub fn topology(t: &mut Topology) {
    let pages = t.stream(CLICKS).key_by(|page| page.clone());
    pages.window(tumbling(mins(1))).count("n");
}
