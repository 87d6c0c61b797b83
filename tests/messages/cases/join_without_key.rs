//! A stream without a key cannot be joined with a table.

use streams::prelude::*;

const CLICKS: Topic<NoKey, String> = topic("clicks");

const PAGES: Topic<String, String> = topic("pages");

pub fn topology(t: &mut Topology) {
    let pages = t.table(PAGES, "pages");
    t.stream(CLICKS).join(&pages, |click, page| format!("{click}{page}")).for_each(|_| ());
}
