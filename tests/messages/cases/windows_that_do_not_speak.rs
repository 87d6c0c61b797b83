//! A windowed result must say when it speaks.

use streams::prelude::*;

const CLICKS: Topic<NoKey, String> = topic("clicks");

const COUNTS: Topic<Windowed<String>, u64> = topic("counts");

pub fn topology(t: &mut Topology) {
    let pages = t.stream(CLICKS).key_by(|page| page.clone());
    pages.window(tumbling(mins(1))).count("n").to(COUNTS);
}
