//! `cogroup(parts[{from, adder}])`, and the folds behind it, in windows and without.

use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::{Graph, op};
use super::super::values::OracleKey;
use crate::report::{Outcome, unsupported};

pub(super) const OPS: &[&str] = &["cogroup"];

pub(super) fn missing(_: &Graph, node: &Value) -> Option<String> {
    Some(op(node).to_owned())
}

pub(super) fn build<K: OracleKey>(_: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    Err(unsupported(format!("{} without a fold", op(node))))
}

/// `aggregate` behind `cogroup`.
pub(super) fn fold<K: OracleKey>(_: &mut Building<'_, K>, _: &Value) -> Outcome<Built<K>> {
    Err(unsupported("cogroup"))
}

/// `aggregate` behind `windowed` behind `cogroup`.
pub(super) fn fold_in_windows<K: OracleKey>(
    _: &mut Building<'_, K>,
    _: &Value,
    _: &Value,
) -> Outcome<Built<K>> {
    Err(unsupported("cogroup in windows"))
}
