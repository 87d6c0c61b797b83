//! `stream_stream_join`: two streams that meet within a time.

use ::streams::prelude::*;
use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::Graph;
use super::super::values::{Joiner, OracleKey};
use super::{Matches, joiner_of, matches_of};
use crate::json;
use crate::report::Outcome;

pub(super) const OPS: &[&str] = &["stream_stream_join"];

pub(super) fn missing(_: &Graph, node: &Value) -> Option<String> {
    // A window may lie wholly before or behind its record, which a `Duration` cannot say.
    let is_negative = |name: &str| node[name].as_i64() < Some(0);
    (is_negative("before_ms") || is_negative("after_ms"))
        .then(|| "stream_stream_join with a negative difference".to_owned())
}

/// What a node says of its join.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Join {
    pub(in super::super) before_ms: u64,
    pub(in super::super) after_ms: u64,
    pub(in super::super) grace_ms: u64,
    pub(in super::super) matches: Matches,
    pub(in super::super) joiner: Joiner,
}

impl Join {
    pub(in super::super) fn of(node: &Value) -> Outcome<Self> {
        Ok(Self {
            before_ms: json::narrow(node, "before_ms")?,
            after_ms: json::narrow(node, "after_ms")?,
            grace_ms: json::narrow(node, "grace_ms")?,
            matches: matches_of(node)?,
            joiner: joiner_of(node)?,
        })
    }
}

pub(super) fn build<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    let Join { before_ms, after_ms, grace_ms, matches, joiner: join } = Join::of(node)?;
    let (left, right) = (b.values(node, "left")?, b.values(node, "right")?);
    let name = b.store();
    let window = within(millis(before_ms)).after(millis(after_ms)).grace(millis(grace_ms));
    Ok(Built::Stream(match matches {
        Matches::Inner => left.join_within(right, window, &name, move |l, r| join(&l, &r)),
        Matches::Left => left
            .left_join_within(right, window, &name, move |l, r| join(&l, &r.unwrap_or_default())),
        Matches::Outer => left.outer_join_within(right, window, &name, move |l, r| {
            join(&l.unwrap_or_default(), &r.unwrap_or_default())
        }),
    }))
}
