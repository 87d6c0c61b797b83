//! A stream-stream join as two rules see it: Kafka's and Headwater's. Pure.
//!
//! ```text
//!   record --> pairs with rows of the other side --> alone, at once or later, or never
//!
//!                         Kafka                                 Headwater
//!   a row meets what      is read before the newest record of   has a source time below the row's time
//!                         its own side is before + after +      + 1 + grace + its side's difference; +
//!                         grace ahead of it                     both, if its side never speaks alone
//!   a late record         meets what stays, or speaks at once   is one that comes after that time of
//!                                                               its own, and meets nothing
//!   unmatched rows speak  before the next record that moves     when that time is there
//!                         the time, if a look seems worth it
//!   and then              may still match                       never match
//! ```
//!
//! Why two models: where a case differs, it must differ by these rules and by nothing else.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::graph::OnlyJoin;
use super::ops::Matches;
use super::values::Val;
use super::{Input, Row, Step};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Kafka,
    Headwater,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Left,
    Right,
}

/// A record that a side keeps; its number tells records of one key and time apart.
#[derive(Clone, Debug)]
struct Kept {
    number: usize,
    key: Value,
    value: Val,
    time: i64,
    has_matched: bool,
}

struct Model<'a> {
    join: &'a OnlyJoin<'a>,
    rule: Rule,
    rows: [Vec<Kept>; 2],
    newest: [i64; 2],
    time: i64,
    /// Time, side (right first), key and number of the rows that may yet speak alone.
    waiting: BTreeSet<(i64, std::cmp::Reverse<Side>, String, usize)>,
    /// Kafka's guess of the oldest of them: the last one it looked at.
    looked_at: i64,
    out: Vec<Row>,
}

/// The outputs of each step; `None` where the model does not apply.
pub(super) fn outputs(join: &OnlyJoin<'_>, steps: &[Step], rule: Rule) -> Option<Vec<Vec<Row>>> {
    let mut model = Model {
        join,
        rule,
        rows: [Vec::new(), Vec::new()],
        newest: [i64::MIN; 2],
        time: i64::MIN,
        waiting: BTreeSet::new(),
        looked_at: i64::MAX,
        out: Vec::new(),
    };
    let mut all = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let Input::Record { topic, key, value, timestamp, .. } = &step.input else { return None };
        let value = Val::from_json(value)?;
        for (side, name) in [(Side::Left, join.left), (Side::Right, join.right)] {
            if name == topic {
                // A record of a join with itself arrives twice.
                let number = number * 2 + side as usize;
                let kept = Kept {
                    number,
                    key: key.clone(),
                    value: value.clone(),
                    time: *timestamp,
                    has_matched: false,
                };
                model.take(side, kept);
            }
        }
        all.push(std::mem::take(&mut model.out));
    }
    Some(all)
}

impl Model<'_> {
    fn reach(&self, side: Side) -> (i64, i64) {
        let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let (before, after) = (ms(self.join.join.before_ms), ms(self.join.join.after_ms));
        if side == Side::Left { (before, after) } else { (after, before) }
    }

    fn grace(&self) -> i64 {
        i64::try_from(self.join.join.grace_ms).unwrap_or(i64::MAX)
    }

    fn speaks(&self, side: Side) -> bool {
        match self.join.join.matches {
            Matches::Inner => false,
            Matches::Left => side == Side::Left,
            Matches::Outer => true,
        }
    }

    /// When a record of this side speaks alone.
    fn deadline(&self, side: Side, time: i64) -> i64 {
        time.saturating_add(self.reach(side).1).saturating_add(self.grace()).saturating_add(1)
    }

    /// When the time of a record of this side is up: it is late if it comes then, and what comes then
    /// does not meet it.
    fn until(&self, side: Side, time: i64) -> i64 {
        let deadline = self.deadline(side, time);
        if self.speaks(side) { deadline } else { deadline.saturating_add(self.reach(side).0) }
    }

    fn say(&mut self, key: &Value, left: &Val, right: &Val, time: i64) {
        let value = (self.join.join.joiner)(left, right).to_json();
        self.out.push([key.clone(), value, json!(time), json!([])]);
    }

    fn say_alone(&mut self, side: Side, row: &Kept) {
        match side {
            Side::Left => self.say(&row.key, &row.value, &Val::Null, row.time),
            Side::Right => self.say(&row.key, &Val::Null, &row.value, row.time),
        }
    }

    fn take(&mut self, side: Side, row: Kept) {
        self.time = self.time.max(row.time);
        if row.value == Val::Null || (row.key.is_null() && !self.speaks(side)) {
            return self.close();
        }
        if row.key.is_null() {
            self.say_alone(side, &row);
            return self.close();
        }
        if self.rule == Rule::Kafka && row.time == self.time {
            self.look(side);
        }
        self.meet(side, row);
        self.close();
    }

    fn meet(&mut self, side: Side, mut row: Kept) {
        if self.rule == Rule::Headwater && self.time >= self.until(side, row.time) {
            return;
        }
        let (before, after) = self.reach(side);
        let range = row.time.saturating_sub(before)..=row.time.saturating_add(after);
        let other = if side == Side::Left { Side::Right } else { Side::Left };
        let mut met: Vec<Kept> = self.rows[other as usize]
            .iter()
            .filter(|found| found.key == row.key && range.contains(&found.time))
            .filter(|found| self.is_met(other, found))
            .cloned()
            .collect();
        met.sort_by_key(|found| (found.time, found.number));
        for found in &met {
            row.has_matched = true;
            self.forget(other, found);
            let time = row.time.max(found.time);
            match side {
                Side::Left => self.say(&row.key, &row.value, &found.value, time),
                Side::Right => self.say(&row.key, &found.value, &row.value, time),
            }
        }
        self.newest[side as usize] = self.newest[side as usize].max(row.time);
        if self.speaks(side) && !row.has_matched {
            if self.rule == Rule::Kafka && row.time.saturating_add(after) < self.time {
                self.say_alone(side, &row);
            } else {
                self.looked_at = self.looked_at.min(row.time);
                self.waiting.insert(waiting(side, &row));
            }
        }
        self.rows[side as usize].push(row);
    }

    /// Whether a row in reach is still there for a record that comes now.
    fn is_met(&self, side: Side, found: &Kept) -> bool {
        let (before, after) = self.reach(side);
        let kept = before.saturating_add(after).saturating_add(self.grace());
        match self.rule {
            Rule::Kafka => found.time > self.newest[side as usize].saturating_sub(kept),
            Rule::Headwater => self.time < self.until(side, found.time),
        }
    }

    /// A row that has matched no longer waits; in Kafka neither do others of its key and time.
    fn forget(&mut self, side: Side, found: &Kept) {
        let (time, reversed, key, number) = waiting(side, found);
        let is_of_kafka = self.rule == Rule::Kafka;
        self.waiting.retain(|entry| {
            (entry.0, entry.1, &entry.2) != (time, reversed, &key)
                || (!is_of_kafka && entry.3 != number)
        });
    }

    /// Kafka looks for rows that can speak when a record moves the time, unless the oldest row that it
    /// remembers seems too young for this side.
    fn look(&mut self, side: Side) {
        let grace = self.grace();
        let seems_young =
            self.looked_at.saturating_add(self.reach(side).1).saturating_add(grace) >= self.time;
        if seems_young || self.join.join.matches == Matches::Inner {
            return;
        }
        self.looked_at = i64::MAX;
        let mut is_open = [false; 2];
        for entry in self.waiting.clone() {
            self.looked_at = entry.0;
            if is_open == [true, true] {
                return;
            }
            let std::cmp::Reverse(side) = entry.1;
            if self.time < self.deadline(side, entry.0) {
                is_open[side as usize] = true;
                continue;
            }
            self.speak(&entry);
        }
    }

    /// Ours speak as soon as the time is there.
    fn close(&mut self) {
        if self.rule == Rule::Kafka {
            return;
        }
        for entry in self.waiting.clone() {
            let std::cmp::Reverse(side) = entry.1;
            if self.time >= self.deadline(side, entry.0) {
                self.speak(&entry);
            }
        }
    }

    fn speak(&mut self, entry: &(i64, std::cmp::Reverse<Side>, String, usize)) {
        self.waiting.remove(entry);
        let std::cmp::Reverse(side) = entry.1;
        let row = self.rows[side as usize].iter().find(|row| row.number == entry.3).cloned();
        if let Some(row) = row {
            self.say_alone(side, &row);
        }
    }
}

fn waiting(side: Side, row: &Kept) -> (i64, std::cmp::Reverse<Side>, String, usize) {
    (row.time, std::cmp::Reverse(side), row.key.to_string(), row.number)
}
