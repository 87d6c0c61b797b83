//! Steps of tables: `to_table`, `table_filter_value_not`, `table_map_values_upper`, `table_group_by`, and
//! the folds with subtraction behind it.

use std::rc::Rc;

use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::{Graph, op};
use super::super::values::OracleKey;
use crate::report::{Outcome, unsupported};

pub(super) const OPS: &[&str] =
    &["to_table", "table_filter_value_not", "table_map_values_upper", "table_group_by"];

pub(super) fn missing(_: &Graph, node: &Value) -> Option<String> {
    (op(node) != "to_table").then(|| op(node).to_owned())
}

pub(super) fn build<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    match op(node) {
        "to_table" => match b.before(node, "from")? {
            Built::WindowedStream(stream) => {
                let store = b.store();
                Ok(Built::WindowedTable(Rc::new(stream.table(&store))))
            }
            Built::Stream(stream) => {
                let store = b.store();
                Ok(Built::Table(Rc::new(stream.table(&store))))
            }
            _ => Err(b.no(node, "from", "a stream")),
        },
        other => Err(unsupported(other)),
    }
}

/// `count`, `aggregate` or `reduce` behind `table_group_by`.
pub(super) fn fold<K: OracleKey>(_: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    Err(unsupported(format!("table {}", op(node))))
}
