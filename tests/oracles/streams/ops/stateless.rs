//! Steps that keep nothing: `merge`, `to_stream`, `map_identity_marks_repartition`, `repartition`.

use ::streams::prelude::*;
use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::{Graph, inputs, op};
use super::super::values::OracleKey;
use crate::report::{Outcome, unsupported};

pub(super) const OPS: &[&str] =
    &["merge", "to_stream", "map_identity_marks_repartition", "repartition"];

pub(super) fn missing(_: &Graph, _: &Value) -> Option<String> {
    None
}

pub(super) fn build<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    match op(node) {
        "merge" => {
            let mut streams = Vec::new();
            for before in inputs(node) {
                let stream = b.build(before)?.stream();
                streams.push(stream.ok_or_else(|| unsupported("a merge of what is no stream"))?);
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
        "repartition" => {
            let stream = b.stream(node, "from")?;
            Ok(Built::Stream(stream.repartition_as(&b.store())))
        }
        // The same key again, so that a repartition topic follows. A record without one is left out.
        _ => Ok(Built::Stream(b.stream(node, "from")?.map_with_key(|key, value| (key, value)))),
    }
}
