//! What is stored must be a record type.

use streams::prelude::*;

pub struct Click {
    pub page: String,
}

const CLICKS: Topic<NoKey, Click> = topic("clicks");

pub fn topology(t: &mut Topology) {
    drop(t.stream(CLICKS));
}
