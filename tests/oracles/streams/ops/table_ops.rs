//! Steps of tables: `to_table`, `table_filter_value_not`, `table_map_values_upper`, `table_group_by`, and
//! the folds with subtraction behind it.

use std::rc::Rc;

use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::{Graph, op};
use super::super::values::{Adder, OracleKey, Val, adder, reducer};
use crate::json;
use crate::report::{Outcome, unsupported};

pub(super) const OPS: &[&str] =
    &["to_table", "table_filter_value_not", "table_map_values_upper", "table_group_by"];

pub(super) fn missing(_: &Graph, _: &Value) -> Option<String> {
    None
}

pub(super) fn build<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    match op(node) {
        "to_table" => match b.before(node, "from")? {
            Built::WindowedStream(stream) => {
                let store = b.store();
                Ok(Built::WindowedTable(Rc::new(stream.table(&store))))
            }
            Built::Windows(windows) => {
                Ok(Built::WindowedTable(Rc::new(windows.speak().table(&b.store()))))
            }
            before => {
                let stream = before.stream().ok_or_else(|| b.no(node, "from", "a stream"))?;
                Ok(Built::Table(Rc::new(stream.table(&b.store()))))
            }
        },
        "table_filter_value_not" => {
            let not = json::text(node, "not")?.to_owned();
            let keep = move |value: &Val| value.text() != not;
            match b.before(node, "from")? {
                Built::Windows(windows) => Ok(Built::Windows(windows.filter(b.store(), keep))),
                Built::WindowedTable(table) => {
                    Ok(Built::WindowedTable(Rc::new(table.filter(keep))))
                }
                before => {
                    let table = before.table().ok_or_else(|| b.no(node, "from", "a table"))?;
                    Ok(Built::Table(Rc::new(table.filter(keep))))
                }
            }
        }
        "table_map_values_upper" => {
            let upper = |value: Val| Val::Text(value.text().to_uppercase());
            match b.before(node, "from")? {
                Built::Windows(windows) => Ok(Built::Windows(windows.map(upper))),
                Built::WindowedTable(table) => Ok(Built::WindowedTable(Rc::new(table.map(upper)))),
                before => {
                    let table = before.table().ok_or_else(|| b.no(node, "from", "a table"))?;
                    Ok(Built::Table(Rc::new(table.map(upper))))
                }
            }
        }
        // What groups belongs to the fold behind it.
        other => Err(unsupported(other)),
    }
}

/// `count`, `aggregate` or `reduce` behind `table_group_by`.
pub(super) fn fold<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    let group = b.graph.before(node, "from")?;
    let table = b.table(group, "from")?;
    let of_value =
        |value: &Val| K::from_text(&value.text(), "string").expect("such groups are texts");
    let groups = match group["mapper"].as_str().unwrap_or_default() {
        "noop" => table.group_by(|key, value: &Val| (key.clone(), value.clone())),
        "value_as_key" => table.group_by(move |_, value| (of_value(value), value.clone())),
        "aggtest_group" => {
            let has_group = |key: &K| !matches!(key.to_json().as_str(), Some("null" | "NULL"));
            let kept = table.filter_with_key(move |key, _| has_group(key));
            kept.group_by(move |_, value| (of_value(value), value.clone()))
        }
        other => return Err(unsupported(format!("table_group_by {other}"))),
    };
    let store = b.store();
    if op(node) == "count" {
        return Ok(Built::Counts(Rc::new(groups.count(&store))));
    }
    let folds: (fn(&str) -> Option<Adder>, Val) = match op(node) {
        "reduce" => (reducer, Val::Null),
        _ => (adder, Val::from_json(&node["init"]).unwrap_or_default()),
    };
    let named = |field: &str| {
        let name = json::text(node, field)?;
        (folds.0)(name).ok_or_else(|| unsupported(format!("{field} {name}")))
    };
    let (add, subtract) = (named("adder")?, named("subtractor")?);
    Ok(Built::Table(Rc::new(if op(node) == "reduce" {
        groups.reduce(&store, move |a, b| add(&a, &b), move |a, b| subtract(&a, &b))
    } else {
        let init = folds.1;
        let first = move |row: &Val| if *row == Val::Null { init.clone() } else { row.clone() };
        let add = move |row: &mut Val, value: Val| *row = add(&first(row), &value);
        groups.aggregate(&store, add, move |row, value| *row = subtract(row, &value))
    })))
}
