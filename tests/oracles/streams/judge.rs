//! Recorded outputs against those of a run, and the rules by which they may differ.
//!
//! Invariants
//! * A difference by design is shown, not claimed: rows that Kafka loses are told by its store's bounds;
//!   a case is run again without the inputs that a rule names, and must then give the recorded
//!   outputs; a join's outputs must be those of a model of our rule, where a model of Kafka's rule
//!   gives the recorded ones.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::graph::{Graph, Sink};
use super::join_model::{self, Rule};
use super::ops::windows::{Emit, Shape, Window};
use super::ops::{Matches, sliding_model};
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

const NULL_VALUES_COUNT: &str =
    "source time counts every record that a task reads, also those with a null key or value";
const SESSIONS_TOLD_ANEW: &str = "a session that a record leaves with the same start and end is told anew; Kafka without a record \
     cache takes it back first";
const SLIDING_BY_RULE: &str = "a sliding window has every record of its stretch that came before its deadline, and gives its \
     final result then; Kafka makes a new one from its neighbours, which lack what came too late for them, \
     loses what its store has dropped, and does not count null values for its time";
const WINDOWS_KEPT: &str = "a table has every window that was told; Kafka's join does not see those behind the retention of \
     their store (size + grace)";
const NOTHING_STAYS_NOTHING: &str = "the delete of a row that is not there says nothing behind a map; Kafka repeats the result that \
     a left or outer join has without it";
const SESSIONS_LET_OUT: &str = "a session is final when no record can reach it; Kafka's suppression lets it out a millisecond \
     before that, and again when a record does";
const DELETES_OF_NOTHING: &str = "a delete is passed on where there was a row that was passed on";
const ONE_CHANGE: &str = "a row that changes by several ways changes once per commit; Kafka passes each way on \
     (KAFKA-6443)";

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
    let is_sliding = |sink: &Sink| sliding_model::explains(graph, sink, steps, &found);
    if graph.topics.len() == 1 && graph.sinks.iter().all(|sink| is_sliding(sink) == Some(true)) {
        return differs(Differences::from([SLIDING_BY_RULE]));
    }
    if let Some(rules) = by_foreign_join_rules(graph, steps, &found) {
        return differs(rules);
    }
    // Kafka's stream-stream joins count them too.
    let is_sliding = |sink: &Sink| {
        sink.window.is_some_and(|window| matches!(window.shape, Shape::Sliding { .. }))
    };
    let skips_nulls = graph.sinks.iter().all(is_sliding);
    let is_counted = |step: &&Step| {
        let is_skipped = step.has_null_key() || (skips_nulls && step.null_value_to().is_some());
        !is_skipped || !step.out.is_empty()
    };
    let counted: Vec<Step> = steps.iter().filter(is_counted).cloned().collect();
    if !graph.has_stream_join && counted.len() < steps.len() {
        let again = execute::<K>(graph, &counted)?;
        if let Ok(mut differences) = compare(graph, &counted, &again) {
            let reason = if skips_nulls { NULL_VALUES_COUNT } else { NULL_KEYS_COUNT };
            differences.insert(reason);
            return differs(differences);
        }
    }
    if let Some(topic) = graph.waiting_topic() {
        let is_counted = |step: &&Step| step.null_value_to() != Some(topic) || !step.out.is_empty();
        let counted: Vec<Step> = steps.iter().filter(is_counted).cloned().collect();
        let again = execute::<K>(graph, &counted)?;
        if let Ok(mut differences) = compare(graph, &counted, &again) {
            differences.insert(NULL_VALUES_COUNT);
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
    let (mut told, mut early) = (BTreeMap::new(), Vec::new());
    for (step, found) in steps.iter().zip(found) {
        if let Input::Record { key, timestamp, .. } = &step.input {
            newest = newest.max(if key.is_null() { i64::MIN } else { *timestamp });
        }
        for sink in &graph.sinks {
            let topic = sink.topic.as_str();
            let empty = Vec::new();
            let expected = step.out.get(topic).unwrap_or(&empty);
            let found = found.get(topic).unwrap_or(&empty);
            let known = told.entry(topic).or_insert_with(Known::default);
            let repeated = known.recorded.repeats(expected);
            let (heard, said) = (known.recorded.hear(expected), known.ours.hear(found));
            if is_same(graph.is_unordered, expected, found) {
                continue;
            }
            let recorded = without_early(sink.window, newest, expected, &mut early);
            let ours = without_let_out(found, &mut early);
            let is_early = recorded.len() < expected.len() || ours.len() < found.len();
            if is_early && by_key(&recorded) == by_key(&ours) {
                differences.insert(SESSIONS_LET_OUT);
                continue;
            }
            let once = told_once(sink.window, expected);
            if once.len() < expected.len() && is_same(graph.is_unordered, &once, found) {
                differences.insert(SESSIONS_TOLD_ANEW);
                continue;
            }
            let is_left_out = step.null_key_to().is_some_and(|topic| graph.is_keyed_again(topic));
            if found.is_empty() && is_left_out {
                differences.insert(NULL_KEYS_BEHIND_KEY_BY);
                continue;
            }
            let deletes = step.null_value_to().is_some();
            if deletes && repeated && found.is_empty() && graph.maps_a_table {
                differences.insert(NOTHING_STAYS_NOTHING);
                continue;
            }
            if !sink.is_windowed && is_same(graph.is_unordered, &heard, &said) {
                differences.insert(DELETES_OF_NOTHING);
                continue;
            }
            if graph.joins_tables(&sink.from) && is_last_of_each(&heard, &said) {
                differences.insert(ONE_CHANGE);
                continue;
            }
            let lost = sink.window.filter(|window| window.emit == Emit::Final);
            let is_kept = |row: &&Row| !is_lost_by_kafka(lost.or(sink.joined_window), row, newest);
            let kept: Vec<Row> = found.iter().filter(is_kept).cloned().collect();
            if kept.len() < found.len() {
                let is_joined = sink.joined_window.is_some();
                differences.insert(if is_joined { WINDOWS_KEPT } else { FINAL_RESULTS_KEPT });
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

/// The rows that a topic says there are, as recorded and as ours.
#[derive(Default)]
struct Known {
    recorded: Present,
    ours: Present,
}

#[derive(Default)]
struct Present(BTreeMap<String, Value>);

impl Present {
    /// Takes rows in, and answers them without deletes of what is not there.
    fn hear(&mut self, rows: &[Row]) -> Vec<Row> {
        let mut heard = |row: &&Row| {
            let key = row[0].to_string();
            if row[1].is_null() {
                return self.0.remove(&key).is_some();
            }
            self.0.insert(key, row[1].clone());
            true
        };
        rows.iter().filter(|row| heard(row)).cloned().collect()
    }

    /// Whether rows say nothing but what has been said.
    fn repeats(&self, rows: &[Row]) -> bool {
        rows.iter().all(|row| self.0.get(&row[0].to_string()) == Some(&row[1]))
    }
}

/// Whether one row of each key was found, and it is the last one recorded.
fn is_last_of_each(expected: &[Row], found: &[Row]) -> bool {
    let (expected, found) = (by_key(expected), by_key(found));
    found.values().all(|rows| rows.len() == 1)
        && expected.len() == found.len()
        && expected.iter().zip(&found).all(|(e, f)| e.0 == f.0 && e.1.last() == f.1.last())
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

/// The rows without those that take back a session that is told anew in the same step.
fn told_once(window: Option<Window>, rows: &[Row]) -> Vec<Row> {
    let is_session = window.is_some_and(|window| matches!(window.shape, Shape::Session { .. }));
    let again = |row: &Row| rows.iter().any(|other| other[0] == row[0] && !other[1].is_null());
    rows.iter().filter(|row| !(is_session && row[1].is_null() && again(row))).cloned().collect()
}

/// The rows without the sessions that Kafka's suppression lets out at the last millisecond at which a
/// record can reach them; those are put to the early ones.
fn without_early(
    window: Option<Window>,
    newest: i64,
    rows: &[Row],
    early: &mut Vec<Row>,
) -> Vec<Row> {
    let reach_ms = window.and_then(|window| match (window.shape, window.emit) {
        (Shape::Session { gap }, Emit::Suppressed) => gap.checked_add(window.grace_ms),
        _ => None,
    });
    let at_last = |row: &Row| {
        let end = row[0]["end"].as_i64().and_then(|end| end.checked_add_unsigned(reach_ms?));
        end == Some(newest)
    };
    early.extend(rows.iter().filter(|row| at_last(row)).cloned());
    rows.iter().filter(|row| !at_last(row)).cloned().collect()
}

/// The rows without the sessions that were let out early, as they were then.
fn without_let_out(rows: &[Row], early: &mut Vec<Row>) -> Vec<Row> {
    let mut is_new = |row: &&Row| match early.iter().position(|early| early == *row) {
        Some(at) => {
            early.swap_remove(at);
            false
        }
        None => true,
    };
    rows.iter().filter(|row| is_new(row)).cloned().collect()
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
    start <= newest_start.saturating_sub(kept_ms)
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
