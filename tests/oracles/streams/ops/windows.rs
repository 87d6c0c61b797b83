//! `windowed`, and the folds behind it. Windows of a new type get an arm in `window_missing` and in
//! `fold`, and fields in [`Window`].

use ::streams::prelude::*;
use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::{Graph, op};
use super::super::values::{OracleKey, Val};
use super::cogroup;
use super::folds::Fold;
use crate::json;
use crate::report::{Outcome, unsupported};

pub(super) const OPS: &[&str] = &["windowed"];

pub(super) fn missing(_: &Graph, node: &Value) -> Option<String> {
    let window = &node["window"];
    let size = window["size_ms"].as_i64();
    match window["type"].as_str().unwrap_or("no type") {
        "time" if window["advance_ms"].is_null() || window["advance_ms"].as_i64() == size => None,
        "time" => Some("hopping windows".to_owned()),
        other => Some(format!("{other} windows")),
    }
}

/// A tumbling window, and when its results speak.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Window {
    pub(in super::super) size_ms: u64,
    pub(in super::super) grace_ms: u64,
    pub(in super::super) emit: Emit,
}

/// When a window speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Emit {
    /// At each change.
    Update,
    /// When it closes.
    Final,
    /// When it closes, out of Kafka's suppression buffer.
    Suppressed,
}

impl Window {
    /// Of a `windowed` node.
    pub(in super::super) fn of(node: &Value) -> Outcome<Self> {
        let shape = &node["window"];
        Ok(Self {
            size_ms: json::narrow(shape, "size_ms")?,
            grace_ms: json::narrow(shape, "grace_ms")?,
            emit: if node["emit"] == "final" { Emit::Final } else { Emit::Update },
        })
    }
}

type Speak<K> = Box<dyn FnOnce(Emit) -> Stream<Windowed<K>, Val>>;

/// Results in windows that have yet to say when they speak.
pub(in super::super) struct Windows<K> {
    emit: Emit,
    speak: Speak<K>,
}

impl<K: OracleKey> Windows<K> {
    /// The results, where `map` makes values of them.
    pub(super) fn new<A: Data>(
        emit: Emit,
        table: WindowTable<K, A>,
        map: impl Fn(A) -> Val + Send + 'static,
    ) -> Self {
        let speak = move |emit| match emit {
            Emit::Update => table.on_update().map(map),
            Emit::Final | Emit::Suppressed => table.on_close().map(map),
        };
        Self { emit, speak: Box::new(speak) }
    }

    /// The same, speaking at another time.
    pub(super) fn when(self, emit: Emit) -> Self {
        Self { emit, ..self }
    }

    /// The results when their nodes say that they speak.
    pub(in super::super) fn speak(self) -> Stream<Windowed<K>, Val> {
        (self.speak)(self.emit)
    }
}

pub(super) fn build<K: OracleKey>(_: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    Err(unsupported(format!("{} without a fold", op(node))))
}

/// `count`, `aggregate` or `reduce` behind `windowed`.
pub(super) fn fold<K: OracleKey>(b: &mut Building<'_, K>, node: &Value) -> Outcome<Built<K>> {
    let windowed = b.graph.before(node, "from")?;
    if b.graph.op_before(windowed, "from") == "cogroup" {
        return cogroup::fold_in_windows(b, node, windowed);
    }
    let (window, fold) = (Window::of(windowed)?, Fold::of(node)?);
    let (stream, store) = (b.stream(windowed, "from")?, b.store());
    let shape = tumbling(millis(window.size_ms)).grace(millis(window.grace_ms));
    let stream = stream.window(shape);
    Ok(Built::Windows(match fold.adder() {
        None => Windows::new(window.emit, stream.count(&store), Val::Number),
        Some(add) => Windows::new(window.emit, stream.aggregate(&store, add), |value| value),
    }))
}
