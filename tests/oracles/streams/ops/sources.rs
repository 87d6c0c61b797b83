//! Topics: `stream`, `table` (kv or versioned), `global_table`.

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::{Graph, op};
use super::super::values::OracleKey;
use crate::json;
use crate::report::Outcome;

pub(super) const OPS: &[&str] = &["stream", "table", "global_table"];

pub(super) fn missing(_: &Graph, _: &Value) -> Option<String> {
    None
}

pub(super) fn build<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    let topic = b.topic(node)?;
    match op(node) {
        "table" if node["store"] == "versioned" => {
            let history = json::number(node, "history_retention_ms")?;
            let history = Duration::from_millis(history.try_into().unwrap_or_default());
            let store = b.store();
            Ok(Built::Table(Rc::new(b.t.versioned_table(topic, &store, history))))
        }
        "table" => {
            let store = b.store();
            Ok(Built::Table(Rc::new(b.t.table(topic, &store))))
        }
        "global_table" => {
            let store = b.store();
            Ok(Built::Global(Rc::new(b.t.global_table(topic, &store))))
        }
        _ => Ok(Built::Stream(b.t.stream(topic))),
    }
}
