//! How far event time was: in front of a stretch, and at the end of its replay.
//!
//! ```text
//!   event time   ....:...:.:|:.::..:.:.::.:|....
//!                           |              |
//!          max over all before: M          clocks of the replay: C, by partition
//!
//!   a window [s, e) lies wholly inside:   s > M   and   e + grace <= the smallest C
//! ```
//!
//! Why by event times and not by offsets: what decides about a window is whether a record outside of the
//! stretch belongs to it. None in front of it does when all of them are older than its start; none
//! behind it when the clock of its own partition has passed its end plus grace, because it is late.
//!
//! Invariants
//! * M is never smaller than the event time of a record in front of the stretch.

use std::collections::BTreeMap;

use crate::app::App;
use crate::broker::{
    Broker, LogTopic, Merged, ReplayBroker, SourceTopic, Span, Stretches, View, first_not_older,
    timestamp_at, whole,
};
use crate::dsl::Assembly;
use crate::error::Result;
use crate::ids::TaskId;
use crate::processor::{Context, Entry};
use crate::record::RawRecord;
use crate::runtime::InputTime;

/// The smallest clock of the partitions of each source topic.
pub(super) type Clocks = BTreeMap<[u8; 16], i64>;

/// The clocks of the source topics, as they were last committed.
pub(super) fn at_the_end(broker: &ReplayBroker, id: &str) -> Result<Clocks> {
    let committed = broker.committed(id)?;
    let mut clocks = Clocks::new();
    for topic in broker.topics()? {
        let clock = |partition| {
            let of = |p: &&crate::broker::Position| p.topic == topic.id && p.partition == partition;
            let position = committed.iter().find(of)?;
            InputTime::decode(&position.metadata).map(|time| time.clock)
        };
        let smallest = (0..topic.partitions).map(|p| clock(p).unwrap_or(i64::MIN)).min();
        clocks.insert(topic.id, smallest.unwrap_or(i64::MIN));
    }
    Ok(clocks)
}

/// Takes event times from the records of one source topic.
struct EventTimes {
    entry: Box<dyn Entry>,
    input: usize,
    from_value: bool,
    ctx: Context,
}

impl EventTimes {
    fn new(app: &App, topic: &str, partition: u32) -> Result<Option<Self>> {
        let Assembly { graph, entries, .. } = app.assemble()?;
        let input = graph.inputs().iter().position(|(_, name)| *name == topic);
        let from_value = graph.takes_event_time(topic);
        let ctx = Context::new(TaskId { subtopology: 0, partition }, entries.len(), Vec::new());
        let Some(input) = input else { return Ok(None) };
        let entry = entries.into_iter().nth(input).flatten();
        Ok(entry.map(|entry| Self { entry, input, from_value, ctx }))
    }

    /// The event time of a record that moves the clock; one that does not decode never did.
    fn of(&mut self, record: &RawRecord<'_>) -> Option<i64> {
        if self.from_value && record.value.is_none() {
            return None;
        }
        self.entry.timestamp(&self.ctx, self.input, record).ok()
    }
}

/// The extremes of the event times of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extremes {
    pub(super) smallest: i64,
    pub(super) largest: i64,
}

/// Reads a range of one partition for its event times; `None`: it has none.
pub(super) fn extremes(
    app: &App,
    topic: &LogTopic,
    partition: u32,
    span: Span,
) -> Result<Option<Extremes>> {
    if span.next >= span.end {
        return Ok(None);
    }
    let Some(mut times) = EventTimes::new(app, topic.name().as_str(), partition)? else {
        return Ok(None);
    };
    let part = (topic.clone(), partition, span);
    let mut records = Merged::new(Stretches::new(View::of(app.log_dir()), [part]));
    let mut found: Option<Extremes> = None;
    while let Some(time) = records.next(|_, record| times.of(record))? {
        let Some(time) = time else { continue };
        found = Some(match found {
            None => Extremes { smallest: time, largest: time },
            Some(Extremes { smallest, largest }) => {
                Extremes { smallest: smallest.min(time), largest: largest.max(time) }
            }
        });
    }
    Ok(found)
}

/// A bound for the event times of all records of a topic in front of its stretch: none is larger.
/// `i64::MIN`: there are none.
pub(super) fn before(app: &App, source: &SourceTopic) -> Result<i64> {
    let mut view = View::of(app.log_dir());
    let ahead = app.settings().event_time_ahead_max_ms;
    let topic = &source.topic;
    let mut most = i64::MIN;
    let all = view.with(|log| whole(log, topic))?;
    for ((partition, all), span) in (0..).zip(all).zip(&source.spans) {
        let (start, from) = (all.next, span.span.next);
        if start > 0 {
            // What retention has removed is not younger than what came behind it, as far as can be known.
            let oldest = view.with(|log| timestamp_at(log, topic, partition, start))?;
            most = most.max(oldest.unwrap_or(i64::MAX).saturating_add(ahead));
        }
        if from <= start {
            continue;
        }
        // An event time is never further ahead of its record than the limit: records that are older than
        // twice that can be left out, if what is read says more than what is left out could.
        let here = view.with(|log| timestamp_at(log, topic, partition, from))?;
        let since = here.unwrap_or(i64::MAX).saturating_sub(ahead).saturating_sub(ahead);
        let near = view.with(|log| first_not_older(log, topic, partition, since, from))?;
        let near = near.map_or(from, |(offset, _)| offset).max(start);
        let read = extremes(app, topic, partition, Span { next: near, end: from })?;
        let read = read.map_or(i64::MIN, |extremes| extremes.largest);
        let unread = if near > start { since.saturating_add(ahead) } else { i64::MIN };
        if unread <= read {
            most = most.max(read);
            continue;
        }
        let rest = extremes(app, topic, partition, Span { next: start, end: near })?;
        most = most.max(read).max(rest.map_or(i64::MIN, |extremes| extremes.largest));
    }
    Ok(most)
}
