//! `fk_join`: a table that looks another up by a key that its value names.

use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::{Graph, op};
use super::super::values::OracleKey;
use crate::report::{Outcome, unsupported};

pub(super) const OPS: &[&str] = &["fk_join"];

pub(super) fn missing(_: &Graph, node: &Value) -> Option<String> {
    Some(op(node).to_owned())
}

pub(super) fn build<K: OracleKey>(_: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    Err(unsupported(op(node)))
}
