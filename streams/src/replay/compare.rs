//! Sets what a job wrote then against what its replay wrote: only results that the stretch decides.
//!
//! ```text
//!   windowed    windows wholly inside (see `clocks`): the last value of each key and window
//!   stateless   records older than none before the stretch, younger than none behind it: all, by key
//!   any other   only when everything was read again: the last value of each key
//! ```
//!
//! Why the last value: an output that tells each change tells them commit by commit, and commits fall
//! where they like.
//!
//! Invariants
//! * the same job on the same input has no difference, wherever its stretch begins and ends.
//! * a deleted key equals an absent one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::clocks::{Clocks, before, extremes};
use super::late::{Lateness, OfOutput};
use super::report::{Compared, Comparison, Difference, Report};
use crate::app::App;
use crate::broker::{
    Merged, SourceTopic, Span, Stretches, View, find_topic, first_not_older, whole,
};
use crate::dsl::{Assembly, TopicTypes};
use crate::error::{Error, Result};
use crate::key::{RecordKey, Windowed};
use crate::record::RawRecord;
use crate::time::Span as WindowSpan;
use crate::topology::{Closing, Nature};

/// What a topic holds of each key: one value, or all of them in order of their bytes.
type Held = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

/// Everything that a comparison looks at.
pub(super) struct Compare<'a> {
    pub(super) app: &'a App,
    pub(super) assembly: &'a Assembly,
    pub(super) found: &'a [SourceTopic],
    pub(super) suffix: &'a str,
    /// The clocks at the end of the replay.
    pub(super) clocks: &'a Clocks,
    /// What is known of records that were late then, or are now.
    pub(super) lateness: &'a Lateness<'a>,
}

/// Which records of an output are compared, and how.
struct Rule<'a> {
    /// Records that are older are none of them.
    since: i64,
    keep: Box<dyn Fn(&RawRecord<'_>) -> bool + 'a>,
    /// Whether all values of a key count, or the last one.
    all: bool,
}

impl Compare<'_> {
    pub(super) fn run(&self, report: &Report) -> Result<Vec<Compared>> {
        let outputs = self.assembly.graph.outputs();
        let each = outputs.into_iter().map(|(then, nature)| {
            let now = format!("{then}{}", self.suffix);
            let late = self.late(&then, &nature);
            let comparison = match self.rule(&nature, late)? {
                Ok(rule) => self.compare(&report.dir, (&then, &now), (&nature, late), &rule)?,
                Err(reason) => Comparison::Left { reason },
            };
            Ok(Compared { then, now, comparison })
        });
        each.collect()
    }

    /// What is known of late records, where an output has windows.
    fn late(&self, output: &str, nature: &Nature) -> Option<OfOutput<'_>> {
        match nature {
            Nature::Windowed(closing) => self.lateness.of_output(output, closing.window),
            _ => None,
        }
    }

    fn rule<'a>(
        &'a self,
        nature: &'a Nature,
        late: Option<OfOutput<'a>>,
    ) -> Result<Result<Rule<'a>, String>> {
        match nature {
            Nature::Windowed(closing) => self.windows(closing, late),
            Nature::Stateless(topics) => self.stateless(topics),
            Nature::History => self.history(),
        }
    }

    fn source(&self, name: &str) -> Option<&SourceTopic> {
        self.found.iter().find(|source| source.topic.name().as_str() == name)
    }

    fn windows<'a>(
        &'a self,
        closing: &'a Closing,
        late: Option<OfOutput<'a>>,
    ) -> Result<Result<Rule<'a>, String>> {
        let (mut after, mut closed_to) = (i128::from(i64::MIN), i128::from(i64::MAX));
        for (name, lag) in &closing.lags {
            let Some(source) = self.source(name) else { continue };
            let lag = i128::from(*lag);
            let before = before(self.app, source)?;
            if before > i64::MIN {
                after = after.max(i128::from(before) + lag);
            }
            let clock = self.clocks.get(&source.topic.id().0).copied().unwrap_or(i64::MIN);
            if clock == i64::MIN {
                let reason =
                    format!("a partition of {name} has no record in the stretch: no window closes");
                return Ok(Err(reason));
            }
            closed_to = closed_to.min(i128::from(clock) - lag);
        }
        let window = closing.window;
        let keep = move |record: &RawRecord<'_>| {
            window_of(record.key).is_some_and(|(start, end)| {
                // Until then a record may have come that counted, whichever grace was the larger one.
                let grace = late.map_or(window.grace_ms(), |late| late.grace_ms(start));
                let span = WindowSpan { start, end };
                let deadline = window.with_grace(grace).deadline(span);
                let is_behind = after == i128::from(i64::MIN) || window.depends_from(span) > after;
                is_behind && deadline <= closed_to
            })
        };
        let since = i64::try_from(after).unwrap_or(i64::MAX);
        Ok(Ok(Rule { since, keep: Box::new(keep), all: false }))
    }

    fn stateless(&self, topics: &[String]) -> Result<Result<Rule<'_>, String>> {
        let (mut after, mut until) = (i64::MIN, i64::MAX);
        for source in topics.iter().filter_map(|name| self.source(name)) {
            after = after.max(before(self.app, source)?);
            until = until.min(self.behind(source)?.unwrap_or(i64::MAX));
        }
        if after >= until {
            let reason = "records in the stretch are as old as records outside of it".to_owned();
            return Ok(Err(reason));
        }
        let keep = move |record: &RawRecord<'_>| {
            let time = record.timestamp;
            (after == i64::MIN || time > after) && (until == i64::MAX || time < until)
        };
        Ok(Ok(Rule { since: after, keep: Box::new(keep), all: true }))
    }

    /// The smallest event time of the records behind a stretch.
    fn behind(&self, source: &SourceTopic) -> Result<Option<i64>> {
        let mut view = View::of(self.app.log_dir());
        let all = view.with(|log| whole(log, &source.topic))?;
        let mut smallest: Option<i64> = None;
        for ((partition, all), span) in (0..).zip(all).zip(&source.spans) {
            let span = Span { next: span.span.end, end: all.end };
            if let Some(found) = extremes(self.app, &source.topic, partition, span)? {
                let known = smallest.unwrap_or(i64::MAX);
                smallest = Some(known.min(found.smallest));
            }
        }
        Ok(smallest)
    }

    fn history(&self) -> Result<Result<Rule<'_>, String>> {
        for source in self.found {
            if source.spans.iter().any(|span| span.span.next > 0) {
                return Ok(Err("its state before --from is missing".to_owned()));
            }
            if self.behind(source)?.is_some() {
                let name = source.topic.name();
                return Ok(Err(format!("{name} goes on behind the stretch")));
            }
        }
        Ok(Ok(Rule { since: i64::MIN, keep: Box::new(|_| true), all: false }))
    }

    fn compare(
        &self,
        scratch: &Path,
        (then, now): (&str, &str),
        (nature, late): (&Nature, Option<OfOutput<'_>>),
        rule: &Rule<'_>,
    ) -> Result<Comparison> {
        let left = |reason: String| Ok(Comparison::Left { reason });
        let was = match held(self.app.log_dir(), then, rule) {
            Err(Error::UnknownTopic { .. }) => {
                return left("the job has not written it".to_owned());
            }
            was => was?,
        };
        let is = held(scratch, now, rule)?;
        let windowed = is_windowed(nature);
        let known =
            if windowed { Known::of(&was, begins_late(self.app.log_dir(), then)?) } else { None };
        let text = Text { types: self.assembly.types.get(then), windowed, known, late };
        Ok(count(&was, &is, &text))
    }
}

/// Whether retention has removed what was written first to a topic.
fn begins_late(dir: &Path, name: &str) -> Result<bool> {
    let spans = View::of(dir).with(|log| whole(log, &find_topic(log, dir, name)?))?;
    Ok(spans.iter().any(|span| span.next > 0))
}

/// What is known of the windows that were written then.
#[derive(Clone, Copy, Debug)]
struct Known {
    first: i64,
    last: i64,
    begins_late: bool,
}

impl Known {
    fn of(then: &Held, begins_late: bool) -> Option<Self> {
        let starts = || then.keys().filter_map(|key| Some(window_of(Some(key))?.0));
        Some(Self { first: starts().min()?, last: starts().max()?, begins_late })
    }

    /// Why a window that starts there is not there any more.
    fn removed(self, start: i64) -> Option<String> {
        (self.begins_late && start < self.first)
            .then(|| "retention has removed what was written first".to_owned())
    }

    /// Why it has not been written yet.
    fn behind(self, start: i64) -> Option<String> {
        (start > self.last)
            .then(|| "nothing that late was written then: is the job behind?".to_owned())
    }
}

fn is_windowed(nature: &Nature) -> bool {
    matches!(nature, Nature::Windowed(_))
}

/// Start and end of the window in a key.
fn window_of(key: Option<&[u8]>) -> Option<(i64, i64)> {
    let key = Windowed::<Vec<u8>>::decode(key).ok()??;
    Some((key.start, key.end))
}

/// What a topic holds, by the rule.
fn held(dir: &Path, name: &str, rule: &Rule<'_>) -> Result<Held> {
    let mut view = View::of(dir);
    let (topic, spans) = view.with(|log| {
        let topic = find_topic(log, dir, name)?;
        let mut spans = whole(log, &topic)?;
        for (partition, span) in (0..).zip(&mut spans) {
            if rule.since > i64::MIN {
                let first = first_not_older(log, &topic, partition, rule.since, span.end)?;
                span.next = first.map_or(span.end, |(offset, _)| offset);
            }
        }
        Ok((topic, spans))
    })?;
    let parts = (0..).zip(spans).map(|(partition, span)| (topic.clone(), partition, span));
    let mut records = Merged::new(Stretches::new(view, parts));
    let mut held = Held::new();
    while records
        .next(|_, record| {
            if (rule.keep)(record) {
                take(&mut held, record, rule.all);
            }
        })?
        .is_some()
    {}
    held.values_mut().for_each(|values| values.sort_unstable());
    Ok(held)
}

fn take(held: &mut Held, record: &RawRecord<'_>, all: bool) {
    let key = record.key.unwrap_or_default();
    match (record.value, all) {
        (None, true) => {}
        (None, false) => {
            held.remove(key);
        }
        (Some(value), true) => held.entry(key.to_vec()).or_default().push(value.to_vec()),
        (Some(value), false) => {
            held.insert(key.to_vec(), vec![value.to_vec()]);
        }
    }
}

/// How keys and values are shown.
struct Text<'a> {
    types: Option<&'a TopicTypes>,
    windowed: bool,
    known: Option<Known>,
    late: Option<OfOutput<'a>>,
}

impl Text<'_> {
    fn difference(
        &self,
        key: &[u8],
        then: Option<&Vec<Vec<u8>>>,
        now: Option<&Vec<Vec<u8>>>,
    ) -> Difference {
        let bytes = key;
        let shown = self.types.map_or(Value::Null, |types| (types.key)(Some(key)));
        let window = if self.windowed { window_of(Some(key)) } else { None };
        let shown = match (window, shown.get("key")) {
            (Some(_), Some(inner)) => inner.clone(),
            _ => shown,
        };
        let key = match shown {
            Value::String(text) => text,
            Value::Null if key.is_empty() => "null".to_owned(),
            Value::Null => key.escape_ascii().to_string(),
            other => other.to_string(),
        };
        let known = self.known.filter(|_| then.is_none());
        let reason = window.and_then(|(start, end)| {
            let late = || self.late.and_then(|late| late.reason(bytes, (start, end)));
            let removed = known.and_then(|known| known.removed(start));
            removed.or_else(late).or_else(|| known.and_then(|known| known.behind(start)))
        });
        let none = Vec::new();
        let (was, is) = (then.unwrap_or(&none), now.unwrap_or(&none));
        let side = |values: &Vec<Vec<u8>>, others: &Vec<Vec<u8>>| match &values[..] {
            [value] if others.len() < 2 => self.value(value),
            // Where there are several of a key, those that both have say nothing.
            _ => {
                let own: Vec<String> =
                    less(values, others).map(|value| self.value(value)).collect();
                format!("[{}] of {}", own.join(", "), values.len())
            }
        };
        let (then, now) = (then.map(|was| side(was, is)), now.map(|is| side(is, was)));
        Difference { key, window, then, now, reason }
    }

    fn value(&self, value: &[u8]) -> String {
        let shown = self.types.and_then(|types| (types.value)(Some(value)).ok());
        shown.map_or_else(|| value.escape_ascii().to_string(), |value| value.to_string())
    }
}

/// The values that the others lack; both are sorted.
fn less<'a>(values: &'a [Vec<u8>], others: &'a [Vec<u8>]) -> impl Iterator<Item = &'a Vec<u8>> {
    let mut others = others.iter().peekable();
    values.iter().filter(move |value| {
        while others.next_if(|other| other < value).is_some() {}
        others.next_if_eq(value).is_none()
    })
}

/// Counts the keys of both by what became of them.
fn count(then: &Held, now: &Held, text: &Text<'_>) -> Comparison {
    let (mut same, mut differ, mut only_then, mut only_now) = (0, 0, 0, 0);
    let keys: BTreeSet<&Vec<u8>> = then.keys().chain(now.keys()).collect();
    let mut differences = Vec::new();
    for key in keys {
        let (was, is) = (then.get(key), now.get(key));
        match (was, is) {
            (Some(was), Some(is)) if was == is => {
                same += 1;
                continue;
            }
            (Some(_), Some(_)) => differ += 1,
            (Some(_), None) => only_then += 1,
            (None, _) => only_now += 1,
        }
        differences.push(text.difference(key, was, is));
    }
    differences.sort_by(|a, b| (a.window, &a.key).cmp(&(b.window, &b.key)));
    differences.truncate(Report::DIFFERENCES_MAX);
    Comparison::Counted { same, differ, only_then, only_now, differences }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(of: &[(&str, &[&str])]) -> Held {
        let bytes = |text: &&str| text.as_bytes().to_vec();
        let row =
            |(key, values): &(&str, &[&str])| (bytes(key), values.iter().map(bytes).collect());
        of.iter().map(row).collect()
    }

    #[test]
    fn each_key_is_the_same_differs_or_is_on_one_side_only() {
        let then = held(&[("a", &["1"]), ("b", &["2"]), ("c", &["3"])]);
        let now = held(&[("a", &["1"]), ("b", &["2", "2"]), ("d", &["4"])]);
        let Comparison::Counted { same, differ, only_then, only_now, differences } =
            count(&then, &now, &Text { types: None, windowed: false, known: None, late: None })
        else {
            panic!("it counts");
        };
        assert_eq!((same, differ, only_then, only_now), (1, 1, 1, 1));
        let said: Vec<_> =
            differences.iter().map(|d| (&*d.key, d.then.as_deref(), d.now.as_deref())).collect();
        let expected = [
            ("b", Some("[] of 1"), Some("[2] of 2")),
            ("c", Some("3"), None),
            ("d", None, Some("4")),
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn the_last_value_of_a_key_counts_and_a_null_value_takes_it_away() {
        let record = |key: &'static str, value: Option<&'static str>| RawRecord {
            offset: 0,
            timestamp: 0,
            key: Some(key.as_bytes()),
            value: value.map(str::as_bytes),
            headers: None,
        };
        let mut rows = Held::new();
        for (key, value) in [("a", Some("1")), ("a", Some("2")), ("b", Some("1")), ("b", None)] {
            take(&mut rows, &record(key, value), false);
        }
        assert_eq!(rows, held(&[("a", &["2"])]));
    }

    #[test]
    fn a_window_that_was_not_written_then_says_why_where_that_is_known() {
        let key = |start: i64| {
            let mut bytes = Vec::new();
            Windowed { key: b"k".to_vec(), start, end: start + 1 }.encode(&mut bytes);
            bytes
        };
        let then: Held = [(key(10), vec![]), (key(20), vec![])].into();
        let known = |begins_late| Known::of(&then, begins_late).unwrap();
        assert!(known(false).behind(30).unwrap().contains("is the job behind?"));
        assert!(known(true).removed(5).unwrap().contains("retention"));
        assert_eq!((known(false).removed(5), known(true).removed(15)), (None, None));
        assert_eq!((known(true).behind(20), known(true).behind(5)), (None, None));
        assert!(Known::of(&Held::new(), true).is_none());
    }
}
