//! Steps that keep nothing: `merge`, `to_stream`, `map_identity_marks_repartition`; `repartition` has no
//! case yet.

use ::streams::prelude::*;
use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::{Graph, inputs, op};
use super::super::values::{OracleKey, Val};
use crate::report::{Outcome, unsupported};

pub(super) const OPS: &[&str] = &["merge", "to_stream", "map_identity_marks_repartition"];

pub(super) fn missing(_: &Graph, _: &Value) -> Option<String> {
    None
}

pub(super) fn build<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    match op(node) {
        "merge" => {
            let mut streams = Vec::new();
            for before in inputs(node) {
                match b.build(before)? {
                    Built::Stream(stream) => streams.push(stream),
                    _ => return Err(unsupported("a merge of what is no stream")),
                }
            }
            let merged = streams.into_iter().reduce(Stream::merge);
            merged.map(Built::Stream).ok_or_else(|| unsupported("format: a merge of nothing"))
        }
        "to_stream" => Ok(match b.before(node, "from")? {
            Built::Windows(windows) => Built::WindowedStream(windows.speak()),
            Built::WindowedTable(table) => Built::WindowedStream(table.updates()),
            Built::WindowedStream(stream) => Built::WindowedStream(stream),
            other => {
                let stream = other.stream().ok_or_else(|| b.no(node, "from", "a table"))?;
                Built::Stream(stream)
            }
        }),
        _ => same_key(b, node),
    }
}

/// The records of a topic under their keys again, so that a repartition topic follows.
fn same_key<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    let before = b.graph.before(node, "from")?;
    if op(before) != "stream" {
        return Err(unsupported("map_identity_marks_repartition behind another step"));
    }
    let topic = b.topic(before)?;
    // A record without a key has none to be given again.
    let keyed = b.t.stream(topic).filter(|value| value.key::<K>().is_some());
    let key = |value: &Val| value.key::<K>().expect("the others were filtered out");
    Ok(Built::Stream(keyed.key_by(key).map(Val::plain)))
}
