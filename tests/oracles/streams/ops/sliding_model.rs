//! Sliding windows as two rules see them: Kafka's and Headwater's. Pure.
//!
//! ```text
//!                   Kafka                                     Headwater
//!   a record is     each window that there is, and in those   each window of its stretch that its clock had
//!   added to        it makes, if they have not closed         not passed, whenever that window is made
//!   a new window    what the window next to it holds          all such records
//!   starts with
//!   final results   out of a store that keeps 2 differences   when the window has closed
//!                   + grace, or out of a buffer, a
//!                   millisecond before the window closes
//! ```
//!
//! Why two models: where a case differs, it must differ by these rules and by nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::graph::{Graph, Sink, op};
use super::super::values::Val;
use super::super::{Found, Input, Row, Step};
use super::FOLDS;
use super::folds::Fold;
use super::windows::{Emit, Shape, Window};
use crate::json;

/// Start, then what the window holds and the largest time in it.
type Windows = BTreeMap<i64, (Val, i64)>;

struct Rules<'a> {
    window: Window,
    fold: &'a Fold,
    difference: i64,
    grace: i64,
    time: i64,
    /// Windows that have spoken for good, by key.
    over: BTreeSet<(String, i64)>,
    /// What Kafka's buffer holds back until windows close.
    held: BTreeMap<(String, i64), (Value, (Val, i64))>,
    /// Kafka's store keeps windows up to 2 differences + grace behind the newest one.
    newest: i64,
    out: Vec<Row>,
}

/// Whether the outputs to a sink are those of our rule, where the recorded ones are those of Kafka's.
pub(in super::super) fn explains(
    graph: &Graph,
    sink: &Sink,
    steps: &[Step],
    found: &[Found],
) -> Option<bool> {
    let window = sink.window?;
    let Shape::Sliding { difference } = window.shape else { return None };
    let mut node = graph.node(&sink.from).ok()?;
    while !FOLDS.contains(&op(node)) {
        node = graph.node(json::text(node, "from").ok()?).ok()?;
    }
    let fold = Fold::of(node).ok()?;
    let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let rules = || Rules {
        window,
        fold: &fold,
        difference: ms(difference),
        grace: ms(window.grace_ms),
        time: i64::MIN,
        over: BTreeSet::new(),
        held: BTreeMap::new(),
        newest: i64::MIN,
        out: Vec::new(),
    };
    let (kafka, ours) = (kafka(rules(), steps)?, headwater(rules(), steps)?);
    let empty = Vec::new();
    let is_recorded = |(step, rows): (&Step, &Vec<Row>)| {
        sorted(step.out.get(&sink.topic).unwrap_or(&empty)) == sorted(rows)
    };
    let is_found = |(found, rows): (&Found, &Vec<Row>)| {
        sorted(found.get(sink.topic.as_str()).unwrap_or(&empty)) == sorted(rows)
    };
    Some(steps.iter().zip(&kafka).all(is_recorded) && found.iter().zip(&ours).all(is_found))
}

fn sorted(rows: &[Row]) -> Vec<String> {
    let mut texts: Vec<String> = rows.iter().map(|row| json!(row).to_string()).collect();
    texts.sort();
    texts
}

/// Key, value and time of each step.
fn record(step: &Step) -> Option<(&Value, &Value, i64)> {
    let Input::Record { key, value, timestamp, .. } = &step.input else { return None };
    Some((key, value, *timestamp))
}

impl Rules<'_> {
    fn added(&self, known: Option<&Val>, value: &Val) -> Val {
        match (self.fold, known) {
            (Fold::Count, Some(Val::Number(n))) => Val::Number(n + 1),
            (Fold::Count, _) => Val::Number(1),
            (Fold::Reduce(_), None) => value.clone(),
            (Fold::Aggregate(init, add), None) => add(init, value),
            (Fold::Reduce(add) | Fold::Aggregate(_, add), Some(known)) => add(known, value),
        }
    }

    fn first_start(&self, at: i64) -> i64 {
        (at - self.difference).max(0)
    }

    /// Whether a clock has passed a window.
    fn is_over(&self, start: i64, clock: i64) -> bool {
        clock > start + self.difference + self.grace
    }

    fn say(&mut self, key: &Value, start: i64, (value, at): &(Val, i64)) {
        let key = json!({ "key": key, "start": start, "end": start + self.difference });
        self.out.push([key, value.to_json(), json!(at), json!([])]);
    }

    /// Windows that close now speak, once.
    fn close(&mut self, keys: &BTreeMap<String, (Value, Windows)>) {
        if self.window.emit == Emit::Update {
            return;
        }
        for (name, (key, windows)) in keys {
            for (start, said) in windows {
                if self.is_over(*start, self.time) && self.over.insert((name.clone(), *start)) {
                    self.say(key, *start, said);
                }
            }
        }
    }

    fn told(&mut self, key: &Value, start: i64, said: &(Val, i64)) {
        if self.window.emit == Emit::Update {
            self.say(key, start, said);
        }
    }

    /// Kafka has put a window into its store.
    fn put(&mut self, key: &Value, start: i64, said: &(Val, i64)) {
        self.newest = self.newest.max(start);
        self.told(key, start, said);
        if self.window.emit == Emit::Suppressed {
            self.held.insert((key.to_string(), start), (key.clone(), said.clone()));
        }
    }

    /// What Kafka says when its time has moved: out of its store, where windows it has lost say nothing, or
    /// out of the buffer in front of it, a millisecond earlier.
    fn kafka_closes(&mut self, keys: &BTreeMap<String, (Value, Windows)>) {
        if self.window.emit == Emit::Final {
            let lost = self.newest.saturating_sub(2 * self.difference + self.grace);
            let is_lost = |start: &i64| *start <= lost;
            for (name, (_, windows)) in keys {
                self.over.extend(
                    windows.keys().filter(|start| is_lost(start)).map(|s| (name.clone(), *s)),
                );
            }
            self.close(keys);
        }
        let ends = self.time.saturating_sub(self.difference + self.grace);
        let due: Vec<_> = self.held.keys().filter(|(_, start)| *start <= ends).cloned().collect();
        for place in due {
            if let Some((key, said)) = self.held.remove(&place) {
                self.say(&key, place.1, &said);
            }
        }
    }
}

fn headwater(mut rules: Rules<'_>, steps: &[Step]) -> Option<Vec<Vec<Row>>> {
    let mut records: Vec<(String, Val, i64, i64)> = Vec::new();
    let mut keys: BTreeMap<String, (Value, Windows)> = BTreeMap::new();
    let mut all = Vec::new();
    for step in steps {
        let (key, value, at) = record(step)?;
        rules.time = rules.time.max(at);
        let name = key.to_string();
        if !key.is_null() && !value.is_null() {
            records.push((name.clone(), Val::from_json(value)?, at, rules.time));
            let windows = all_windows(&rules, &records, &name);
            let known = keys.entry(name).or_insert_with(|| (key.clone(), Windows::new()));
            let before = std::mem::replace(&mut known.1, windows.clone());
            for (start, said) in &windows {
                if before.get(start) != Some(said) {
                    rules.told(key, *start, said);
                }
            }
        }
        rules.close(&keys);
        all.push(std::mem::take(&mut rules.out));
    }
    Some(all)
}

/// Every window of a key from all its records, the long way.
fn all_windows(rules: &Rules<'_>, records: &[(String, Val, i64, i64)], key: &str) -> Windows {
    let own: Vec<_> = records.iter().filter(|(name, ..)| name == key).collect();
    let mut windows = Windows::new();
    for (_, _, at, clock) in &own {
        for start in [rules.first_start(*at), at + 1] {
            if rules.is_over(start, *clock) || windows.contains_key(&start) {
                continue;
            }
            let mut whole: Option<(Val, i64)> = None;
            for (_, value, at, clock) in &own {
                let covers = start <= *at && *at <= start + rules.difference;
                if covers && !rules.is_over(start, *clock) {
                    let newest = whole.as_ref().map_or(*at, |(_, known)| *known.max(at));
                    let known = whole.as_ref().map(|(known, _)| known);
                    whole = Some((rules.added(known, value), newest));
                }
            }
            windows.extend(whole.map(|whole| (start, whole)));
        }
    }
    windows
}

fn kafka(mut rules: Rules<'_>, steps: &[Step]) -> Option<Vec<Vec<Row>>> {
    let mut keys: BTreeMap<String, (Value, Windows)> = BTreeMap::new();
    let mut all = Vec::new();
    for step in steps {
        let (key, value, at) = record(step)?;
        if !key.is_null() && !value.is_null() {
            rules.time = rules.time.max(at);
            if !rules.is_over(at + 1, rules.time) {
                let value = Val::from_json(value)?;
                let known = keys.entry(key.to_string());
                let (_, windows) = known.or_insert_with(|| (key.clone(), Windows::new()));
                kafka_takes(&mut rules, windows, key, &value, at);
            }
            rules.kafka_closes(&keys);
        }
        all.push(std::mem::take(&mut rules.out));
    }
    Some(all)
}

/// `KStreamSlidingWindowAggregate`: `processInOrder` and `processEarly`.
fn kafka_takes(rules: &mut Rules<'_>, windows: &mut Windows, key: &Value, value: &Val, at: i64) {
    let is_early = at < rules.difference;
    let found: Vec<(i64, (Val, i64))> = windows
        .range((at - 2 * rules.difference).max(0)..=at + 1)
        .map(|(start, said)| (*start, said.clone()))
        .collect();
    let mut put = |rules: &mut Rules<'_>, start: i64, known: Option<&(Val, i64)>| {
        if rules.is_over(start, rules.time) {
            return;
        }
        let newest = known.map_or(at, |(_, newest)| at.max(*newest));
        let said = (rules.added(known.map(|(known, _)| known), value), newest);
        rules.put(key, start, &said);
        windows.insert(start, said);
    };
    let (mut left, mut right, mut previous) = (None, None, None);
    let (mut has_left, mut combined) = (false, None);
    for (start, said) in &found {
        let end = start + rules.difference;
        if is_early && *start == 0 {
            combined = Some(said);
            previous = Some(said.1).filter(|newest| *newest < at);
        } else if !is_early && end < at {
            (left, previous) = (Some(said), Some(said.1));
        } else if !is_early && end == at {
            has_left = true;
            previous = Some(said.1).filter(|newest| *newest < at).or(previous);
            put(rules, *start, Some(said));
        } else if *start <= at {
            right = Some(said);
            put(rules, *start, Some(said));
        }
    }
    let has = |start: i64| found.iter().any(|(known, _)| *known == start);
    if is_early {
        right = right.or(combined);
    }
    let behind = previous.map(|previous| previous + 1);
    let reaches = |start: &i64| !has(*start) && (is_early || start + rules.difference >= at);
    if let Some(start) = behind.filter(reaches) {
        put(rules, start, None);
    }
    if is_early {
        put(rules, 0, combined);
    } else if !has_left {
        let is_near = previous.is_some_and(|previous| at - rules.difference <= previous);
        put(rules, at - rules.difference, left.filter(|_| is_near));
    }
    if let Some(said) = right.filter(|(_, newest)| *newest > at && !has(at + 1)) {
        rules.put(key, at + 1, said);
        windows.insert(at + 1, said.clone());
    }
}
