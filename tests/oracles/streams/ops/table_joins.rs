//! Joins with tables: `stream_table_join`, `stream_global_join`, `table_table_join`.

use std::rc::Rc;
use std::time::Duration;

use ::streams::prelude::*;
use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::{Graph, op};
use super::super::values::{Joiner, OracleKey, Val};
use super::{Matches, joiner_of, matches_of};
use crate::json;
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
    if b.graph.is_windowed(json::text(node, "left")?)? {
        let (left, right) = (b.windowed_table(node, "left")?, b.windowed_table(node, "right")?);
        let both = joined(&left, &right, &b.store(), matches, join);
        return Ok(Built::WindowedTable(Rc::new(both)));
    }
    let (left, right) = (b.table(node, "left")?, b.table(node, "right")?);
    Ok(Built::Table(Rc::new(joined(&left, &right, &b.store(), matches, join))))
}

fn joined<K: Key>(
    left: &Table<K, Val>,
    right: &Table<K, Val>,
    store: &str,
    matches: Matches,
    join: Joiner,
) -> Table<K, Val> {
    match matches {
        Matches::Inner => left.join(right, store, move |l, r| join(&l, &r)),
        Matches::Left => {
            left.left_join(right, store, move |l, r: Option<Val>| join(&l, &r.unwrap_or_default()))
        }
        Matches::Outer => left.outer_join(right, store, move |l: Option<Val>, r: Option<Val>| {
            join(&l.unwrap_or_default(), &r.unwrap_or_default())
        }),
    }
}

fn with_table<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    let (matches, join) = (matches_of(node)?, joiner_of(node)?);
    let (table, stream) = (b.table(node, "right")?, b.values(node, "left")?);
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
    let stream = b.values(node, "left")?;
    let right_key = b.graph.key_type_before(node, "right")?;
    let key = move |value: &Val| K::from_text(value.text().split_once(',')?.1, &right_key);
    Ok(Built::Stream(match matches {
        Matches::Inner => stream.join_global(&table, key, move |l, r| join(&l, &r)),
        _ => stream.left_join_global(&table, key, move |l, r| join(&l, &r.unwrap_or_default())),
    }))
}
