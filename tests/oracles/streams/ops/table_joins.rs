//! Joins with tables: `stream_table_join`, `stream_global_join`, `table_table_join`.

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::{Graph, op};
use super::super::values::{OracleKey, Val};
use super::{Matches, joiner_of, matches_of};
use crate::report::{Outcome, unsupported};

pub(super) const OPS: &[&str] = &["stream_table_join", "stream_global_join", "table_table_join"];

pub(super) fn missing(_: &Graph, _: &Value) -> Option<String> {
    None
}

pub(super) fn build<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    match op(node) {
        "stream_table_join" => with_table(b, node),
        "stream_global_join" => with_global(b, node),
        _ => tables(b, node),
    }
}

fn tables<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    let (matches, join) = (matches_of(node)?, joiner_of(node)?);
    let (left, right) = (b.table(node, "left")?, b.table(node, "right")?);
    let store = b.store();
    Ok(Built::Table(Rc::new(match matches {
        Matches::Inner => left.join(&right, &store, move |l, r| join(&l, &r)),
        Matches::Left => {
            left.left_join(&right, &store, move |l, r| join(&l, &r.unwrap_or_default()))
        }
        Matches::Outer => left.outer_join(&right, &store, move |l: Option<Val>, r: Option<Val>| {
            join(&l.unwrap_or_default(), &r.unwrap_or_default())
        }),
    })))
}

fn with_table<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    let (matches, join) = (matches_of(node)?, joiner_of(node)?);
    let (table, stream) = (b.table(node, "right")?, b.stream(node, "left")?);
    if let Some(ms) = node["grace_ms"].as_u64() {
        let (grace, store) = (Duration::from_millis(ms), b.store());
        return Ok(Built::Stream(match matches {
            Matches::Inner => {
                stream.join_with_grace(&table, grace, &store, move |l, r| join(&l, &r))
            }
            _ => stream.left_join_with_grace(&table, grace, &store, move |l, r| {
                join(&l, &r.unwrap_or_default())
            }),
        }));
    }
    Ok(Built::Stream(match matches {
        Matches::Inner => stream.join(&table, move |l, r| join(&l, &r)),
        _ => stream.left_join(&table, move |l, r| join(&l, &r.unwrap_or_default())),
    }))
}

fn with_global<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    let (matches, join) = (matches_of(node)?, joiner_of(node)?);
    let mapper = node["key_mapper"].as_str().unwrap_or("?");
    if mapper != "after_comma" {
        return Err(unsupported(format!("key_mapper {mapper}")));
    }
    let Built::Global(table) = b.before(node, "right")? else {
        return Err(b.no(node, "right", "a global table"));
    };
    let stream = b.stream(node, "left")?;
    let key = |value: &Val| K::from_text(value.text().split_once(',')?.1);
    Ok(Built::Stream(match matches {
        Matches::Inner => stream.join_global(&table, key, move |l, r| join(&l, &r)),
        _ => stream.left_join_global(&table, key, move |l, r| join(&l, &r.unwrap_or_default())),
    }))
}
