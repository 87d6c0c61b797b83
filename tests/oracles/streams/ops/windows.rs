//! `windowed`, and the folds behind it. Windows of a new type get an arm in `missing` and in `fold`, and a
//! [`Shape`].

use ::streams::prelude::*;
use serde_json::Value;

use super::super::build::{Building, Built};
use super::super::graph::{Graph, op};
use super::super::values::{Adder, OracleKey, Val, merger};
use super::cogroup;
use super::folds::Fold;
use crate::json;
use crate::report::{Outcome, unsupported};

pub(super) const OPS: &[&str] = &["windowed"];

pub(super) fn missing(_: &Graph, node: &Value) -> Option<String> {
    match node["window"]["type"].as_str().unwrap_or("no type") {
        "time" | "sliding" | "session" => None,
        other => Some(format!("{other} windows")),
    }
}

/// Which windows, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Shape {
    Time { size: u64, advance: u64 },
    Sliding { difference: u64 },
    Session { gap: u64 },
}

/// Windows, and when their results speak.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Window {
    pub(in super::super) shape: Shape,
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
        let window = &node["window"];
        let shape = match window["type"].as_str() {
            Some("sliding") => Shape::Sliding { difference: json::narrow(window, "diff_ms")? },
            Some("session") => Shape::Session { gap: json::narrow(window, "gap_ms")? },
            _ => {
                let size = json::narrow(window, "size_ms")?;
                Shape::Time { size, advance: window["advance_ms"].as_u64().unwrap_or(size) }
            }
        };
        Ok(Self {
            shape,
            grace_ms: json::narrow(window, "grace_ms")?,
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

    /// Results that say themselves how they speak.
    pub(super) fn speaking(
        emit: Emit,
        speak: impl FnOnce(Emit) -> Stream<Windowed<K>, Val> + 'static,
    ) -> Self {
        Self { emit, speak: Box::new(speak) }
    }

    /// The same results with other values.
    pub(super) fn map(self, map: impl Fn(Val) -> Val + Send + 'static) -> Self {
        let speak = self.speak;
        Self::speaking(self.emit, move |emit| speak(emit).map(map))
    }

    /// The results that are kept. One that was told and is not kept any more is deleted.
    pub(super) fn filter(
        self,
        store: String,
        keep: impl Fn(&Val) -> bool + Send + 'static,
    ) -> Self {
        let speak = self.speak;
        Self::speaking(self.emit, move |emit| match emit {
            Emit::Update => speak(emit).table(&store).filter(keep).updates(),
            // A final result is the only one of its window.
            Emit::Final | Emit::Suppressed => speak(emit).filter(keep),
        })
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
    let (stream, store, grace) = (b.stream(windowed, "from")?, b.store(), millis(window.grace_ms));
    Ok(Built::Windows(match window.shape {
        Shape::Time { size, advance } if size == advance => {
            in_spans(stream.window(tumbling(millis(size)).grace(grace)), &store, window, fold)
        }
        Shape::Time { size, advance } => {
            let windows = hopping(millis(size), millis(advance)).grace(grace);
            in_spans(stream.window(windows), &store, window, fold)
        }
        Shape::Sliding { difference } => {
            let windows = sliding(millis(difference)).grace(grace);
            in_spans(stream.window(windows), &store, window, fold)
        }
        Shape::Session { gap } => {
            let sessions = stream.window(session(millis(gap)).grace(grace));
            in_sessions(sessions, &store, window, fold, node)?
        }
    }))
}

/// Kafka's reducers are not asked where nothing is known yet, or a null is.
fn reduced(add: Adder, known: Val, value: Val) -> Val {
    if known == Val::Null { value } else { add(&known, &value) }
}

fn in_spans<K: OracleKey>(
    stream: WindowedStream<K, Val>,
    store: &str,
    window: Window,
    fold: Fold,
) -> Windows<K> {
    match fold {
        Fold::Count => Windows::new(window.emit, stream.count(store), Val::count),
        Fold::Reduce(add) => {
            let table = stream.reduce(store, move |known, value| reduced(add, known, value));
            Windows::new(window.emit, table, |value| value)
        }
        Fold::Aggregate(init, add) => {
            let add = move |row: &mut Val, value: Val| {
                *row = if *row == Val::Null { add(&init, &value) } else { add(row, &value) };
            };
            Windows::new(window.emit, stream.aggregate(store, add), |value| value)
        }
    }
}

/// Kafka merges the initial value in front of a session at each record of it; here it is part of what
/// adds a record.
fn in_sessions<K: OracleKey>(
    stream: WindowedStream<K, Val, Sessions>,
    store: &str,
    window: Window,
    fold: Fold,
    node: &Value,
) -> Outcome<Windows<K>> {
    Ok(match fold {
        Fold::Count => Windows::new(window.emit, stream.count(store), Val::count),
        Fold::Reduce(add) => {
            let table = stream.reduce(store, move |known, value| reduced(add, known, value));
            Windows::new(window.emit, table, |value| value)
        }
        Fold::Aggregate(init, add) => {
            let name = node["merger"].as_str().unwrap_or_default();
            let merge = merger(name).ok_or_else(|| unsupported(format!("merger {name}")))?;
            let add = move |row: &mut Val, value: Val| {
                let known = if *row == Val::Null { init.clone() } else { merge(&init, row) };
                *row = add(&known, &value);
            };
            let both = move |row: &mut Val, later: Val| *row = merge(row, &later);
            Windows::new(window.emit, stream.aggregate(store, add, both), |value| value)
        }
    })
}
