//! The ops of streams-trace/1, one file for each family.
//!
//! ```text
//!   sources      stream table global_table            suppress     suppress
//!   stateless    merge to_stream repartition ..       cogroup      cogroup, and folds behind it
//!   folds        group_by_key group_by count ..       stream_joins stream_stream_join
//!   windows      windowed, and folds behind it        table_joins  stream_table_join, table_table_join ..
//!   table_ops    to_table table_filter.. table_group_by, and folds behind it       fk  fk_join
//! ```
//!
//! Each family has `OPS`, the ops that are its own; `missing`, which names what a node needs that is not
//! there; and `build`, which makes it. Windows of a new type: `windows.rs`; table aggregates: `table_ops.rs`;
//! versioned tables: `sources.rs` and `table_joins.rs`; foreign keys: `fk.rs`; cogroups: `cogroup.rs`.
//!
//! Invariants
//! * What a family names as missing is never built; what a build refuses all the same is `unsupported`.

pub(super) mod cogroup;
pub(super) mod fk;
pub(super) mod folds;
pub(super) mod sliding_model;
pub(super) mod sources;
pub(super) mod stateless;
pub(super) mod stream_joins;
pub(super) mod suppress;
pub(super) mod table_joins;
pub(super) mod table_ops;
pub(super) mod windows;

use serde_json::Value;

use super::build::{Building, Built};
use super::graph::{Graph, op};
use super::values::{Joiner, OracleKey, joiner};
use crate::json;
use crate::report::{Outcome, unsupported};

/// Nodes that fold the records of each key.
pub(super) const FOLDS: [&str; 3] = ["count", "aggregate", "reduce"];

type Missing = fn(&Graph, &Value) -> Option<String>;
type Build<K> = fn(&mut Building<'_, K>, &Value) -> Outcome<Built<K>>;

const FAMILIES: [(&[&str], Missing); 10] = [
    (sources::OPS, sources::missing),
    (stateless::OPS, stateless::missing),
    (folds::OPS, folds::missing),
    (windows::OPS, windows::missing),
    (table_ops::OPS, table_ops::missing),
    (suppress::OPS, suppress::missing),
    (cogroup::OPS, cogroup::missing),
    (stream_joins::OPS, stream_joins::missing),
    (table_joins::OPS, table_joins::missing),
    (fk::OPS, fk::missing),
];

/// In the order of `FAMILIES`.
fn builds<K: OracleKey>() -> [Build<K>; 10] {
    [
        sources::build,
        stateless::build,
        folds::build,
        windows::build,
        table_ops::build,
        suppress::build,
        cogroup::build,
        stream_joins::build,
        table_joins::build,
        fk::build,
    ]
}

fn family(node: &Value) -> Option<usize> {
    FAMILIES.iter().position(|(ops, _)| ops.contains(&op(node)))
}

/// What a node needs that is not there.
pub(super) fn missing(graph: &Graph, node: &Value) -> Option<String> {
    match family(node) {
        Some(family) => FAMILIES[family].1(graph, node),
        None if op(node).is_empty() => Some("a node without `op`".to_owned()),
        None => Some(op(node).to_owned()),
    }
}

/// What a node gives.
pub(super) fn build<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    let family = family(node).ok_or_else(|| unsupported(op(node)))?;
    builds()[family](b, node)
}

/// Which records of a join speak without a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matches {
    /// None.
    Inner,
    /// The left side's.
    Left,
    /// Those of both sides.
    Outer,
}

/// The kind of a join.
pub(super) fn matches_of(node: &Value) -> Outcome<Matches> {
    match json::text(node, "kind")? {
        "inner" => Ok(Matches::Inner),
        "left" => Ok(Matches::Left),
        "outer" => Ok(Matches::Outer),
        other => Err(unsupported(format!("{other} join"))),
    }
}

/// What a join makes of two values.
pub(super) fn joiner_of(node: &Value) -> Outcome<Joiner> {
    let name = json::text(node, "joiner")?;
    joiner(name).ok_or_else(|| unsupported(format!("joiner {name}")))
}
