//! A topic of another type takes no counts.

use streams::prelude::*;

const CLICKS: Topic<NoKey, String> = topic("clicks");

const COUNTS: Topic<Windowed<String>, i32> = topic("counts");

pub fn topology(t: &mut Topology) {
    let pages = t.stream(CLICKS).key_by(|page| page.clone());
    pages.window(tumbling(mins(1))).count("n").on_close().to(COUNTS);
}
