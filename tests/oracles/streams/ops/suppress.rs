//! `suppress`: until windows close, or until a time limit (`at_most_every`). By records or bytes there is
//! no such operator.

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::Graph;
use super::super::values::OracleKey;
use super::windows::Emit;
use crate::json;
use crate::report::Outcome;

pub(super) const OPS: &[&str] = &["suppress"];

pub(super) fn missing(_: &Graph, node: &Value) -> Option<String> {
    let limited = ["max_records", "max_bytes"].into_iter().find(|limit| node[limit].is_number());
    limited.map(|limit| format!("suppress ({limit}: there is no such operator)"))
}

pub(super) fn build<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    let before = b.before(node, "from")?;
    if node["until"] == "window_closes" {
        // Only the last result of a window, when it closes: that is what final results are.
        return match before {
            Built::Windows(windows) => Ok(Built::Windows(windows.when(Emit::Suppressed))),
            _ => Err(b.no(node, "from", "windows")),
        };
    }
    let period = Duration::from_millis(json::number(node, "limit_ms")?.try_into().unwrap_or(0));
    match before {
        Built::Table(table) => Ok(Built::Table(Rc::new(table.at_most_every(period)))),
        Built::Windows(windows) => {
            let table = windows.speak().table(&b.store());
            Ok(Built::WindowedTable(Rc::new(table.at_most_every(period))))
        }
        Built::Counts(table) => Ok(Built::Counts(Rc::new(table.at_most_every(period)))),
        Built::WindowedTable(table) => {
            Ok(Built::WindowedTable(Rc::new(table.at_most_every(period))))
        }
        _ => Err(b.no(node, "from", "a table")),
    }
}
