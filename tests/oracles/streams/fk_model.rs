//! A join by foreign key as Headwater's rule has it, and how Kafka's records may differ from it. Pure.
//!
//! ```text
//!                           Kafka                                Headwater
//!   timestamp of a result   after a change of the left row the   the larger of its two rows, whichever
//!                           larger of both, after one of the     changed last; of a result that is gone,
//!                           right row that of the right row      of the record that took it away
//!   no result, as before    a tombstone                          nothing
//! ```
//!
//! Why a model: where a case differs, it must differ by these rules and by nothing else. Values are the
//! same in both.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::graph::OnlyForeignJoin;
use super::ops::Matches;
use super::ops::fk::foreign_key;
use super::values::Val;
use super::{Input, Row, Step};

pub(super) const NO_TOMBSTONE: &str = "a row that has no result and had none is not passed on; Kafka sends tombstones for some of them";
pub(super) const TIMES_OF_BOTH: &str = "a result has the larger timestamp of its two rows, so it does not depend on which one came last; \
     Kafka gives it that of the right row when that has changed, and a tombstone the larger of both";

/// The latest rows of one side.
struct Side {
    /// How long a versioned table keeps old rows.
    retention_ms: Option<i64>,
    newest: i64,
    /// With the timestamps of deletes.
    rows: BTreeMap<String, (Option<Val>, i64)>,
}

impl Side {
    fn new(retention_ms: Option<i64>) -> Self {
        Self { retention_ms, newest: i64::MIN, rows: BTreeMap::new() }
    }

    /// Whether a record is the latest of its key now.
    fn put(&mut self, key: &str, value: Option<Val>, timestamp: i64) -> bool {
        self.newest = self.newest.max(timestamp);
        if let Some(retention_ms) = self.retention_ms {
            let is_old = self.rows.get(key).is_some_and(|(_, latest)| timestamp < *latest);
            if is_old || timestamp < self.newest.saturating_sub(retention_ms) {
                return false;
            }
        }
        self.rows.insert(key.to_owned(), (value, timestamp));
        true
    }

    fn get(&self, key: &str) -> Option<(&Val, i64)> {
        self.rows.get(key).and_then(|(value, at)| Some((value.as_ref()?, *at)))
    }
}

struct Model<'a> {
    join: &'a OnlyForeignJoin<'a>,
    left: Side,
    right: Side,
    results: BTreeMap<String, Val>,
    out: Vec<Row>,
}

impl Model<'_> {
    /// What a left row gives after a record with this timestamp.
    fn settle(&mut self, key: &str, timestamp: i64, right_changed: bool) {
        let mut at = timestamp;
        let mut result = None;
        if let Some((left, left_at)) = self.left.get(key) {
            let right = foreign_key(left).and_then(|foreign| self.right.get(&foreign));
            let other_at = if right_changed { Some(left_at) } else { right.map(|(_, at)| at) };
            let join = self.join.join;
            result = match (right, join.matches) {
                (Some((right, _)), _) => Some((join.join)(left, right)),
                (None, Matches::Inner) => None,
                (None, _) => Some((join.join)(left, &Val::Null)),
            };
            at = at.max(other_at.unwrap_or(at));
        }
        let before = match result.clone() {
            Some(value) => self.results.insert(key.to_owned(), value),
            None => self.results.remove(key),
        };
        if before.is_some() || result.is_some() {
            let value = result.as_ref().map_or(Value::Null, Val::to_json);
            self.out.push([json!(key), value, json!(at), json!([])]);
        }
    }

    fn take(&mut self, topic: &str, key: &str, value: Option<Val>, timestamp: i64) {
        if topic == self.join.left {
            if self.left.put(key, value, timestamp) {
                self.settle(key, timestamp, false);
            }
        } else if topic == self.join.right && self.right.put(key, value, timestamp) {
            let names = |row: &Option<Val>| row.as_ref().and_then(foreign_key);
            let named = self.left.rows.iter();
            let named = named.filter(|(_, (row, _))| names(row).as_deref() == Some(key));
            for left in named.map(|(left, _)| left.clone()).collect::<Vec<_>>() {
                self.settle(&left, timestamp, true);
            }
        }
    }
}

/// The outputs of each step; `None` where the model does not apply.
fn outputs(join: &OnlyForeignJoin<'_>, steps: &[Step]) -> Option<Vec<Vec<Row>>> {
    let (left, right) = (Side::new(join.retention_ms.0), Side::new(join.retention_ms.1));
    let mut model = Model { join, left, right, results: BTreeMap::new(), out: Vec::new() };
    let mut all = Vec::new();
    for step in steps {
        let Input::Record { topic, key, value, timestamp, .. } = &step.input else { return None };
        let value = if value.is_null() { None } else { Some(Val::from_json(value)?) };
        if !key.is_null() {
            model.take(topic, key.as_str()?, value, *timestamp);
        }
        all.push(std::mem::take(&mut model.out));
    }
    Some(all)
}

/// The rules by which a join differs: the model gives what was found, and its values are the recorded
/// ones.
pub(super) fn differences(
    join: &OnlyForeignJoin<'_>,
    steps: &[Step],
    found: &[&[Row]],
) -> Option<Vec<&'static str>> {
    let ours = outputs(join, steps)?;
    let mut differences = Vec::new();
    for ((step, ours), found) in steps.iter().zip(&ours).zip(found) {
        let recorded = step.out.get(join.sink).map(Vec::as_slice).unwrap_or_default();
        if by_key(ours)? != by_key(found)? {
            return None;
        }
        let (ours, mut recorded) = (by_key(ours)?, by_key(recorded)?);
        let before = recorded.len();
        recorded.retain(|key, row| ours.contains_key(key) || !row[1].is_null());
        differences.extend((recorded.len() < before).then_some(NO_TOMBSTONE));
        let values = |rows: &BTreeMap<String, &Row>| -> Vec<(String, Value)> {
            rows.iter().map(|(key, row)| (key.clone(), row[1].clone())).collect()
        };
        if values(&ours) != values(&recorded) {
            return None;
        }
        differences.extend((ours != recorded).then_some(TIMES_OF_BOTH));
    }
    Some(differences)
}

/// The row of each key; `None`: a step gives two for one.
fn by_key(rows: &[Row]) -> Option<BTreeMap<String, &Row>> {
    let by_key: BTreeMap<String, &Row> = rows.iter().map(|row| (row[0].to_string(), row)).collect();
    (by_key.len() == rows.len()).then_some(by_key)
}
