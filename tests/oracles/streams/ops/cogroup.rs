//! `cogroup(parts[{from, adder}])`, and the folds behind it, in windows and without.

use std::rc::Rc;

use ::streams::{Cogrouped, cogroup};
use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::{Graph, op};
use super::super::values::{OracleKey, Val};
use super::folds::Fold;
use crate::json;
use crate::report::{Outcome, unsupported};

pub(super) const OPS: &[&str] = &["cogroup"];

pub(super) fn missing(_: &Graph, _: &Value) -> Option<String> {
    None
}

pub(super) fn build<K: OracleKey>(_: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    Err(unsupported(format!("{} without a fold", op(node))))
}

/// `aggregate` behind `cogroup`.
pub(super) fn fold<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    let parts = b.graph.before(node, "from")?;
    Ok(Built::Table(Rc::new(together(b, parts, &node["init"])?.table())))
}

/// `aggregate` behind `windowed` behind `cogroup`.
pub(super) fn fold_in_windows<K: OracleKey>(
    _: &mut Building<'_, K>,
    _: &Value,
    _: &Value,
) -> Outcome<Built<K>> {
    Err(unsupported("cogroup in windows"))
}

/// The streams of a `cogroup`, each with what adds its values.
fn together<K: OracleKey>(
    b: &mut Building<'_, K>,
    node: &Value,
    init: &Value,
) -> Outcome<Cogrouped<K, Val>> {
    let store = b.store();
    let mut so_far = None;
    for part in json::list(node, "parts")? {
        let stream = b.stream(part, "from")?;
        let add = Fold::added_to(init, json::text(part, "adder")?)?;
        so_far = Some(match so_far {
            None => cogroup(&store).with(stream, add),
            Some(others) => Cogrouped::with(others, stream, add),
        });
    }
    so_far.ok_or_else(|| unsupported("a cogroup of nothing"))
}
