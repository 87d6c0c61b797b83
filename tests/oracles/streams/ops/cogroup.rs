//! `cogroup(parts[{from, adder}])`, and the folds behind it, in windows and without.

use std::rc::Rc;

use ::streams::prelude::*;
use ::streams::{Cogrouped, CogroupedWindows, Spans};
use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::{Graph, op};
use super::super::values::{Adder, OracleKey, Val, merger};
use super::folds::Fold;
use super::windows::{Emit, Shape, Window, Windows};
use crate::json;
use crate::report::{Outcome, Stop, unsupported};

pub(super) const OPS: &[&str] = &["cogroup"];

pub(super) fn missing(_: &Graph, node: &Value) -> Option<String> {
    let parts = node["parts"].as_array().map_or(0, Vec::len);
    (parts == 0 || parts > 3).then(|| format!("cogroup of {parts} streams"))
}

pub(super) fn build<K: OracleKey>(_: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    Err(unsupported(format!("{} without a fold", op(node))))
}

/// `aggregate` behind `cogroup`.
pub(super) fn fold<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    let parts = b.graph.before(node, "from")?;
    together(b, node, parts, None)
}

/// `aggregate` behind `windowed` behind `cogroup`.
pub(super) fn fold_in_windows<K: OracleKey>(
    b: &mut Building<'_, K>,
    node: &Value,
    windowed: &Value,
) -> Outcome<Built<K>> {
    let parts = b.graph.before(windowed, "from")?;
    together(b, node, parts, Some(windowed))
}

/// The streams of a `cogroup`, folded together.
fn together<K: OracleKey>(
    b: &mut Building<'_, K>,
    node: &Value,
    parts: &Value,
    windowed: Option<&Value>,
) -> Outcome<Built<K>> {
    let store = b.store();
    let merge = windowed.filter(|windowed| windowed["window"]["type"] == "session");
    let merge = merge.map(|_| merger_of(node)).transpose()?;
    let mut part = |part: &Value| {
        let name = json::text(part, "adder")?;
        let add = match merge {
            Some(merge) => Fold::added_to_sessions(&node["init"], name, merge)?,
            None => Fold::added_to(&node["init"], name)?,
        };
        Ok::<_, Stop>((b.values(part, "from")?, add))
    };
    match json::list(parts, "parts")? {
        [one] => {
            let (stream, add) = part(one)?;
            finish(cogroup(&store).with(stream, add), node, windowed)
        }
        [one, two] => {
            let ((a, f), (b, g)) = (part(one)?, part(two)?);
            finish(cogroup(&store).with(a, f).with(b, g), node, windowed)
        }
        [one, two, three] => {
            let ((a, f), (b, g), (c, h)) = (part(one)?, part(two)?, part(three)?);
            finish(cogroup(&store).with(a, f).with(b, g).with(c, h), node, windowed)
        }
        _ => Err(unsupported("a cogroup of more than three streams")),
    }
}

fn merger_of(node: &Value) -> Outcome<Adder> {
    let name = json::text(node, "merger")?;
    merger(name).ok_or_else(|| unsupported(format!("merger {name}")))
}

fn finish<K: OracleKey, V: Data>(
    streams: Cogrouped<K, Val, V>,
    node: &Value,
    windowed: Option<&Value>,
) -> Outcome<Built<K>> {
    let Some(windowed) = windowed else { return Ok(Built::Table(Rc::new(streams.table()))) };
    let Window { shape, grace_ms, emit } = Window::of(windowed)?;
    let grace = millis(grace_ms);
    Ok(Built::Windows(match shape {
        Shape::Time { size, advance } if size == advance => {
            spans(streams.window(tumbling(millis(size)).grace(grace)), emit)
        }
        Shape::Time { size, advance } => {
            spans(streams.window(hopping(millis(size), millis(advance)).grace(grace)), emit)
        }
        Shape::Sliding { difference } => {
            spans(streams.window(sliding(millis(difference)).grace(grace)), emit)
        }
        Shape::Session { gap } => {
            let merge = merger_of(node)?;
            let sessions = streams.window(session(millis(gap)).grace(grace));
            let table = sessions.merged_by(move |row, later| *row = merge(row, &later));
            Windows::new(emit, table, |value| value)
        }
    }))
}

fn spans<K: OracleKey, V: Data>(
    windows: CogroupedWindows<K, Val, V, Spans>,
    emit: Emit,
) -> Windows<K> {
    Windows::speaking(emit, move |emit| match emit {
        Emit::Update => windows.on_update(),
        Emit::Final | Emit::Suppressed => windows.on_close(),
    })
}
