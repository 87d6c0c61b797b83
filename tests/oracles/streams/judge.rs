//! Recorded outputs against those of a run, and the rules by which they may differ.
//!
//! Invariants
//! * A difference by design is shown, not claimed: rows that Kafka loses are told by its store's bounds;
//!   a case is run again without the inputs that a rule names, and must then give the recorded
//!   outputs; a join's outputs must be those of a model of our rule, where a model of Kafka's rule
//!   gives the recorded ones.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::graph::Graph;
use super::join_model::{self, Rule};
use super::ops::Matches;
use super::ops::windows::{Emit, Shape, Window};
use super::values::OracleKey;
use super::{Found, Input, Row, Step, execute, fk_model};
use crate::report::{Outcome, Stop, failed};

/// Why outputs differ on purpose.
type Differences = BTreeSet<&'static str>;

const NULL_KEYS_COUNT: &str =
    "source time counts every record that a task reads, also those with a null key";
const FINAL_RESULTS_KEPT: &str = "every window gives its final result; Kafka loses those that one record takes past the \
     retention of its store (size + grace)";
const ORDER_BETWEEN_KEYS: &str = "the order between keys within a commit is free";
const NULL_KEYS_BEHIND_KEY_BY: &str =
    "every record has a key behind `key_by`: one without it is left out in front of it";
const LATE_IN_INNER_JOIN: &str = "a record that comes when the source time has passed it by both differences and grace is late, \
     whichever side comes first; Kafka joins it with rows that the newest record of their own side \
     leaves in the store";
const LATE_NEVER_MEETS: &str = "a late record meets nothing, and what has spoken alone never matches later; Kafka joins what \
     its stores still hold, and lets unmatched records speak when it next looks at them";

/// Runs the case; a failure that a rule explains is a difference.
pub(super) fn judge<K: OracleKey>(case: &Value, graph: &Graph, steps: &[Step]) -> Outcome {
    let found = execute::<K>(graph, steps)?;
    let reason = match compare(graph, steps, &found) {
        Ok(differences) => return differs(differences),
        Err(reason) => reason,
    };
    if case["implementation_specific"] == true {
        return Err(Stop::Differs(format!("implementation specific; {reason}")));
    }
    if let Some(quirk) = case["quirk"].as_str() {
        return Err(Stop::Differs(format!("quirk of Kafka: {quirk}; {reason}")));
    }
    if let Some(rule) = by_join_rules(graph, steps, &found) {
        return differs(Differences::from([rule]));
    }
    if let Some(rules) = by_foreign_join_rules(graph, steps, &found) {
        return differs(rules);
    }
    // Kafka's stream-stream joins count them too.
    let is_counted = |step: &&Step| !step.has_null_key() || !step.out.is_empty();
    let counted: Vec<Step> = steps.iter().filter(is_counted).cloned().collect();
    if !graph.has_stream_join && counted.len() < steps.len() {
        let again = execute::<K>(graph, &counted)?;
        if let Ok(mut differences) = compare(graph, &counted, &again) {
            differences.insert(NULL_KEYS_COUNT);
            return differs(differences);
        }
    }
    Err(failed(reason))
}

fn differs(differences: Differences) -> Outcome {
    if differences.is_empty() {
        return Ok(());
    }
    Err(Stop::Differs(differences.into_iter().collect::<Vec<_>>().join("; ")))
}

/// What differs on purpose, or the first step that differs otherwise.
fn compare(graph: &Graph, steps: &[Step], found: &[Found]) -> Result<Differences, String> {
    let mut differences = Differences::new();
    let mut newest = i64::MIN;
    for (step, found) in steps.iter().zip(found) {
        if let Input::Record { key, timestamp, .. } = &step.input {
            newest = newest.max(if key.is_null() { i64::MIN } else { *timestamp });
        }
        for sink in &graph.sinks {
            let topic = sink.topic.as_str();
            let empty = Vec::new();
            let expected = step.out.get(topic).unwrap_or(&empty);
            let found = found.get(topic).unwrap_or(&empty);
            if is_same(graph.is_unordered, expected, found) {
                continue;
            }
            let is_left_out = step.null_key_to().is_some_and(|topic| graph.is_keyed_again(topic));
            if found.is_empty() && is_left_out {
                differences.insert(NULL_KEYS_BEHIND_KEY_BY);
                continue;
            }
            let is_kept = |row: &&Row| !is_lost_by_kafka(sink.window, row, newest);
            let kept: Vec<Row> = found.iter().filter(is_kept).cloned().collect();
            if kept.len() < found.len() {
                differences.insert(FINAL_RESULTS_KEPT);
            }
            if is_same(graph.is_unordered, expected, &kept) {
                continue;
            }
            if by_key(expected) != by_key(&kept) {
                let (index, expected, found) = (step.index, json!(expected), json!(found));
                return Err(format!("step {index}: to {topic}: expected {expected}, got {found}"));
            }
            differences.insert(ORDER_BETWEEN_KEYS);
        }
    }
    Ok(differences)
}

fn is_same(is_unordered: bool, expected: &[Row], found: &[Row]) -> bool {
    if is_unordered { sorted(expected) == sorted(found) } else { expected == found }
}

fn sorted(rows: &[Row]) -> Vec<String> {
    let mut texts: Vec<String> = rows.iter().map(|row| json!(row).to_string()).collect();
    texts.sort();
    texts
}

/// The rows of each key, in order.
fn by_key(rows: &[Row]) -> BTreeMap<String, Vec<&Row>> {
    let mut keys: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        keys.entry(row[0].to_string()).or_default().push(row);
    }
    keys
}

/// Kafka keeps a window of emit-final for size + grace behind the newest window's start. When one
/// record takes the time further than that, the window leaves the store before it has spoken.
fn is_lost_by_kafka(window: Option<Window>, row: &Row, newest: i64) -> bool {
    let (Some(window), Some(start)) = (window, row[0]["start"].as_i64()) else { return false };
    let Shape::Time { size, advance } = window.shape else { return false };
    let (size_ms, advance) =
        (i64::try_from(size).unwrap_or(i64::MAX), i64::try_from(advance).unwrap_or(i64::MAX));
    let kept_ms = size_ms.saturating_add(i64::try_from(window.grace_ms).unwrap_or(i64::MAX));
    let newest_start = newest.saturating_sub(newest.rem_euclid(advance));
    window.emit == Emit::Final && start <= newest_start.saturating_sub(kept_ms)
}

/// The rule by which a join differs: ours gives what was found, and Kafka's what was recorded.
fn by_join_rules(graph: &Graph, steps: &[Step], found: &[Found]) -> Option<&'static str> {
    let join = graph.only_join()?;
    let kafka = join_model::outputs(&join, steps, Rule::Kafka)?;
    let ours = join_model::outputs(&join, steps, Rule::Headwater)?;
    let empty = Vec::new();
    let is_recorded = steps.iter().zip(&kafka).all(|(step, rows)| {
        is_same(graph.is_unordered, step.out.get(join.sink).unwrap_or(&empty), rows)
    });
    let is_found = found
        .iter()
        .zip(&ours)
        .all(|(found, rows)| sorted(found.get(join.sink).unwrap_or(&empty)) == sorted(rows));
    let rule =
        if join.join.matches == Matches::Inner { LATE_IN_INNER_JOIN } else { LATE_NEVER_MEETS };
    (is_recorded && is_found).then_some(rule)
}

/// The rules by which a join by foreign key differs.
fn by_foreign_join_rules(graph: &Graph, steps: &[Step], found: &[Found]) -> Option<Differences> {
    let join = graph.only_foreign_join()?;
    let of = found.iter().map(|found| found.get(join.sink).map(Vec::as_slice).unwrap_or_default());
    let found: Vec<&[Row]> = of.collect();
    fk_model::differences(&join, steps, &found).map(|rules| rules.into_iter().collect())
}
