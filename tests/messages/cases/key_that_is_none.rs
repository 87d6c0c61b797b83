//! Keys are of types that have an order of bytes.

use streams::prelude::*;

const CLICKS: Topic<NoKey, String> = topic("clicks");

pub fn topology(t: &mut Topology) {
    drop(t.stream(CLICKS).key_by(|_| 0.5_f64));
}
