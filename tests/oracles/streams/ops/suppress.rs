//! `suppress`: until windows close, or until a time limit (`at_most_every`). By records or bytes there is
//! no such operator.

use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::Graph;
use super::super::values::OracleKey;
use super::windows::Emit;
use crate::report::Outcome;

pub(super) const OPS: &[&str] = &["suppress"];

pub(super) fn missing(_: &Graph, node: &Value) -> Option<String> {
    let is_until_close = node["until"] == "window_closes";
    (!is_until_close).then(|| "suppress (until a time limit)".to_owned())
}

pub(super) fn build<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    match b.before(node, "from")? {
        // Only the last result of a window, when it closes: that is what final results are.
        Built::Windows(windows) => Ok(Built::Windows(windows.when(Emit::Suppressed))),
        _ => Err(b.no(node, "from", "windows")),
    }
}
