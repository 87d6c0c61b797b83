//! Grouping, and folds without windows: `group_by_key`, `group_by`, `count`, `aggregate`, `reduce`.
//!
//! A fold belongs to the family of what is in front of it: behind `windowed` to `windows.rs`, behind
//! `table_group_by` to `table_ops.rs`, behind `cogroup` to `cogroup.rs`.

use std::rc::Rc;

use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::{Graph, op};
use super::super::values::{Adder, OracleKey, Val, adder, reducer};
use super::{cogroup, table_ops, windows};
use crate::json;
use crate::report::{Outcome, unsupported};

pub(super) const OPS: &[&str] = &["group_by_key", "group_by", "count", "aggregate", "reduce"];

pub(super) fn missing(_: &Graph, _: &Value) -> Option<String> {
    None
}

/// How the records of a key are folded.
#[derive(Clone, Debug)]
pub(super) enum Fold {
    /// Counted.
    Count,
    /// Added to a first value.
    Aggregate(Val, Adder),
    /// The first one, and the others added to it.
    Reduce(Adder),
}

pub(super) type Add = Box<dyn Fn(&mut Val, Val) + Send>;

impl Fold {
    pub(super) fn of(node: &Value) -> Outcome<Self> {
        match op(node) {
            "count" => Ok(Self::Count),
            "aggregate" => Self::starting_from(&node["init"], json::text(node, "adder")?),
            _ => {
                let name = json::text(node, "reducer")?;
                let add = reducer(name).ok_or_else(|| unsupported(format!("reducer {name}")))?;
                Ok(Self::Reduce(add))
            }
        }
    }

    fn starting_from(init: &Value, name: &str) -> Outcome<Self> {
        let add = adder(name).ok_or_else(|| unsupported(format!("adder {name}")))?;
        Ok(Self::Aggregate(Val::from_json(init).unwrap_or_default(), add))
    }

    /// What adds a value to a row that starts from a first value, by the name of the adder.
    pub(super) fn added_to(init: &Value, name: &str) -> Outcome<Add> {
        let add = Self::starting_from(init, name)?.adder();
        add.ok_or_else(|| unsupported(format!("adder {name}")))
    }

    /// The same for sessions: Kafka merges the first value in front of a session at each record of it.
    pub(super) fn added_to_sessions(init: &Value, name: &str, merge: Adder) -> Outcome<Add> {
        let add = adder(name).ok_or_else(|| unsupported(format!("adder {name}")))?;
        let init = Val::from_json(init).unwrap_or_default();
        Ok(Box::new(move |row, value| {
            let known = if *row == Val::Null { init.clone() } else { merge(&init, row) };
            *row = add(&known, &value);
        }))
    }

    /// What adds a value to a row; `None` for a count.
    pub(super) fn adder(self) -> Option<Add> {
        match self {
            Self::Count => None,
            Self::Aggregate(init, add) => Some(Box::new(move |row, value| {
                *row = if *row == Val::Null { add(&init, &value) } else { add(row, &value) };
            })),
            Self::Reduce(add) => Some(Box::new(move |row, value| {
                *row = if *row == Val::Null { value } else { add(row, &value) };
            })),
        }
    }
}

pub(super) fn build<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    match op(node) {
        "group_by_key" | "group_by" => grouped(b, node),
        _ => match b.graph.op_before(node, "from") {
            "windowed" => windows::fold(b, node),
            "table_group_by" => table_ops::fold(b, node),
            "cogroup" => cogroup::fold(b, node),
            _ => fold(b, node),
        },
    }
}

fn grouped<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    let stream = b.stream(node, "from")?;
    match (op(node), node["mapper"].as_str()) {
        // The same key again: a repartition topic of one partition changes nothing.
        ("group_by_key", _) | ("group_by", Some("noop")) => Ok(Built::Stream(stream)),
        ("group_by", Some("value_as_key")) => Ok(Built::Stream(stream.key_by(|value| {
            K::from_text(&value.text(), "string").expect("keys of such cases are texts")
        }))),
        (op, mapper) => Err(unsupported(format!("{op} {}", mapper.unwrap_or_default()))),
    }
}

fn fold<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    let fold = Fold::of(node)?;
    let (stream, store) = (b.values(node, "from")?, b.store());
    if let Fold::Reduce(add) = fold {
        return Ok(Built::Table(Rc::new(stream.reduce(&store, move |row, v| add(&row, &v)))));
    }
    Ok(match fold.adder() {
        None => Built::Counts(Rc::new(stream.count(&store))),
        Some(add) => Built::Table(Rc::new(stream.aggregate(&store, add))),
    })
}
