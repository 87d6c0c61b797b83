//! What the live job said of records that a replay judges otherwise: late then, or late now.
//!
//! ```text
//!   live log     positions of changelogs: the windows that each store had, and when     `InForce`
//!   replay       per commit: records of each window that are late by one of both rules  `<id>-late-then`
//!   comparison   both, where the live job has decided a window under one grace alone
//! ```
//!
//! Why both rules can be applied to one record: a window that is compared starts behind every event time
//! in front of the stretch, so the clock that a record of it had in its partition is the same again.
//!
//! Invariants
//! * where the live job has counted under more than one grace, or under one that nobody wrote down, no
//!   reason is given; nor where its windows of another step come in.
//! * counts are those of all that the replay has read, however often it was killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::app::App;
use crate::broker::{Merged, Stretches, View, committed, find_topic, has_left, topics_of, whole};
use crate::error::{Error, Result};
use crate::ids::StoreName;
use crate::processor::{Judged, JudgedRows};
use crate::runtime::{JobPlan, decode_judged};
use crate::time::{InForce, Ms, Span, Windows};
use crate::topology::{Graph, Kind, late_topic};

/// How many windows are told apart; beyond that no reason is given at all.
const WINDOWS_MAX: usize = 100_000;

/// The windows that the stores of the live job have had, and the time of each in its last commit.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    stores: BTreeMap<StoreName, (InForce, i64)>,
}

impl Live {
    /// As it is in the live log. A job that is too different from this build is not known; nor is one whose
    /// owner, of another version perhaps, does not say what it has committed.
    pub(super) fn of(app: &App) -> Result<Self> {
        let left = View::of(app.log_dir()).with(|log| {
            let topics = topics_of(log)?;
            match committed(log, app.id()) {
                Err(error) if has_left(&error) => {
                    tracing::debug!(%error, "nothing is known of late records");
                    Ok((topics, Vec::new()))
                }
                committed => Ok((topics, committed?)),
            }
        })?;
        let (settings, build) = (app.settings().clone(), Arc::clone(app.build()));
        let log = app.log_dir().display().to_string();
        let plan = JobPlan::as_left(settings, build, left, &log);
        let stores = plan.and_then(|plan| plan.windows_then()).unwrap_or_default();
        Ok(Self { stores })
    }

    /// The windows of stores that have judged otherwise than those of this build.
    pub(super) fn other_than(&self, graph: &Graph) -> BTreeMap<StoreName, InForce> {
        let now = windows_of(graph);
        let other = self.stores.iter().filter_map(|(store, (in_force, _))| {
            let differs = now.get(store).is_some_and(|window| in_force.differ_from(*window));
            differs.then(|| (store.clone(), in_force.clone()))
        });
        other.collect()
    }
}

fn windows_of(graph: &Graph) -> BTreeMap<StoreName, Windows> {
    let windows = graph.iter().filter_map(|(_, node)| match &node.kind {
        Kind::WindowAggregate { store, window, .. } => Some((store.clone(), *window)),
        _ => None,
    });
    windows.collect()
}

/// All that a comparison knows of records that are late.
pub(super) struct Lateness<'a> {
    graph: &'a Graph,
    live: Live,
    /// `None`: too many windows.
    rows: Option<JudgedRows>,
}

impl<'a> Lateness<'a> {
    /// Of a replay that is over, and began when the live job was as in `before`.
    pub(super) fn of(app: &App, graph: &'a Graph, before: &Live, scratch: &Path) -> Result<Self> {
        let other = before.other_than(graph);
        if other.is_empty() {
            return Ok(Self { graph, live: Live::default(), rows: None });
        }
        let mut live = Live::of(app)?;
        // What has begun meanwhile was not counted by.
        live.stores.retain(|store, (in_force, _)| other.get(store) == Some(&*in_force));
        Ok(Self { graph, live, rows: counted(scratch, &late_topic(app.id()))? })
    }

    /// What is known of one output.
    pub(super) fn of_output(&self, name: &str, window: Windows) -> Option<OfOutput<'_>> {
        let store = self.graph.only_windows_of(name)?;
        let (in_force, time) = self.live.stores.get(store)?;
        Some(OfOutput { store, in_force, time: *time, window, rows: self.rows.as_ref() })
    }
}

/// The counts of all commits of a replay, added up.
fn counted(scratch: &Path, name: &str) -> Result<Option<JudgedRows>> {
    let mut view = View::of(scratch);
    let located = view.with(|log| {
        let topic = find_topic(log, scratch, name)?;
        let spans = whole(log, &topic)?;
        Ok((topic, spans))
    });
    let (topic, spans) = match located {
        Err(Error::UnknownTopic { .. }) => return Ok(None),
        located => located?,
    };
    let parts = (0..).zip(spans).map(|(partition, span)| (topic.clone(), partition, span));
    let mut records = Merged::new(Stretches::new(view, parts));
    let mut rows = JudgedRows::new();
    while let Some(found) = records.next(|_, record| {
        record.key.zip(record.value).and_then(|(key, value)| decode_judged(key, value))
    })? {
        let Some((store, window, judged)) = found else { continue };
        rows.entry((store, window)).or_default().add(judged);
        if rows.len() > WINDOWS_MAX {
            return Ok(None);
        }
    }
    Ok(Some(rows))
}

/// The windows of one output, then and now.
#[derive(Clone, Copy)]
pub(super) struct OfOutput<'a> {
    store: &'a StoreName,
    in_force: &'a InForce,
    /// How far the live job is.
    time: i64,
    window: Windows,
    rows: Option<&'a JudgedRows>,
}

impl OfOutput<'_> {
    /// The larger grace of both for a window that starts there: until then a record may have counted.
    pub(super) fn grace_ms(&self, start: i64) -> i64 {
        let then = self.in_force.counted_by(start);
        let then = then.filter(|then| then.are_like(&self.window));
        then.map_or(0, |then| then.grace_ms()).max(self.window.grace_ms())
    }

    /// Why a window differs.
    pub(super) fn reason(&self, key: &[u8], (start, end): (i64, i64)) -> Option<String> {
        let judged = self.rows?.get(&(self.store.clone(), key.to_vec()))?;
        let then = self.in_force.decided(Span { start, end }, self.time)?;
        said(*judged, then, self.window)
    }
}

fn said(judged: Judged, then: Windows, now: Windows) -> Option<String> {
    let records = |count: u64, one: &str, many: &str| match count {
        1 => format!("1 record {one}"),
        count => format!("{count} records {many}"),
    };
    match judged {
        Judged { late_then: 0, late_now: 0 } => None,
        Judged { late_then: 0, late_now } => Some(format!(
            "{} late now: grace {}",
            records(late_now, "is", "are"),
            spaced(now.grace_ms())
        )),
        Judged { late_then, .. } => Some(format!(
            "{} late then: grace {}",
            records(late_then, "was", "were"),
            spaced(then.grace_ms())
        )),
    }
}

/// Number and unit apart: `10 s`.
fn spaced(ms: i64) -> String {
    let text = Ms(ms).to_string();
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    format!("{number} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Shape;

    #[test]
    fn a_reason_names_how_many_and_the_grace_that_made_them_late() {
        let window = |grace_ms| Windows::of(Shape::Tumbling { size: 60_000 }, grace_ms).unwrap();
        let reason = |late_then, late_now| {
            said(Judged { late_then, late_now }, window(10_000), window(1_500))
        };
        assert_eq!(reason(4, 0).unwrap(), "4 records were late then: grace 10 s");
        assert_eq!(reason(1, 0).unwrap(), "1 record was late then: grace 10 s");
        assert_eq!(reason(0, 1).unwrap(), "1 record is late now: grace 1500 ms");
        assert_eq!(reason(0, 2).unwrap(), "2 records are late now: grace 1500 ms");
        assert_eq!(reason(0, 0), None);
        assert_eq!((spaced(0), spaced(120_000)), ("0 s".to_owned(), "2 m".to_owned()));
    }
}
