//! How a job goes: what the log says of it, and, while it runs, what it says of itself.
//!
//! ```text
//!   log        committed positions and clocks, ends          always
//!   workers    rows, sizes, open windows                     while it runs, or where stores are open
//!   progress   counts, commit times, restarts                while it runs
//! ```
//!
//! Invariants
//! * positions and clocks are those of one commit; ends are read right after it.
//! * clocks are compared as the runtime compares them: the smallest of those that a window depends on.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::questions::StoreLine;
use crate::broker::{Broker, Scope, TopicRef};
use crate::error::Result;
use crate::runtime::{InputTime, JobPlan, Progress};
use crate::topology::{JoinKind, Kind, NodeId};

/// Partitions of which the next unread record is looked at, for the lag in time.
const LOOKED_AT_MAX: usize = 256;

/// Everything that `status` shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) job: String,
    /// `None`: it does not run.
    pub(crate) running: Option<Live>,
    pub(crate) sources: Vec<SourceLine>,
    pub(crate) windows: Vec<WindowLine>,
    /// Empty where stores were not looked at.
    pub(crate) stores: Vec<StoreLine>,
}

/// What a running job says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Live {
    pub(crate) pid: u32,
    pub(crate) uptime_ms: i64,
    pub(crate) progress: Progress,
    /// How long commits took, in microseconds: the median, and what one in a hundred exceeds.
    pub(crate) commit_us: Option<(u64, u64)>,
}

/// One partition of a source topic. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SourceLine {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    /// Tables are kept of it: its times hold nothing back.
    pub(crate) is_table: bool,
    /// `None`: nothing of it was ever committed.
    pub(crate) position: Option<i64>,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) lag: i64,
    /// For how long the first unread record has been there, by its timestamp.
    pub(crate) lag_ms: Option<i64>,
    /// The largest event time read from it.
    pub(crate) event_time: Option<i64>,
    /// For how long nothing has come, as far as the running job has seen.
    pub(crate) silent_ms: Option<i64>,
}

/// The windows of one store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WindowLine {
    pub(crate) store: String,
    /// How long after the end that its key shows a window closes.
    pub(crate) delay_ms: i64,
    /// Windows that end no later are closed.
    pub(crate) closed_to: Option<i64>,
    /// The source partition whose clock is behind all others: number of its line in `sources`.
    pub(crate) held_by: Option<usize>,
}

/// A topic's id and a partition.
type Place = ([u8; 16], u32);

/// Since when the ends of source partitions have not moved.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    /// By topic and partition: the end, and when it was first seen there.
    seen: Mutex<BTreeMap<Place, (i64, Duration)>>,
}

impl Silence {
    /// For how long it has been silent, as seen from now on.
    fn observe(&self, topic: [u8; 16], partition: u32, end: i64, now: Duration) -> i64 {
        let mut seen = self.seen.lock();
        let known = seen.entry((topic, partition)).or_insert((end, now));
        if known.0 != end {
            *known = (end, now);
        }
        i64::try_from(now.saturating_sub(known.1).as_millis()).unwrap_or(i64::MAX)
    }

    /// Looks at the ends of all source partitions.
    pub(crate) fn look(&self, plan: &JobPlan, broker: &dyn Broker) -> Result<()> {
        let now = broker.monotonic();
        for (topic, _) in plan.source_topics()? {
            for partition in 0..topic.partitions {
                let end = broker.bounds(&topic, partition)?.committed_end;
                self.observe(topic.id, partition, end, now);
            }
        }
        Ok(())
    }
}

/// Committed positions with their times.
type Positions = BTreeMap<Place, (i64, Option<InputTime>)>;

/// Puts together what the log says, and what the job has said.
pub(crate) fn gather(
    plan: &JobPlan,
    broker: &dyn Broker,
    running: Option<(Live, &Silence)>,
    stores: Vec<StoreLine>,
) -> Result<Status> {
    let committed = broker.committed(&plan.settings.id)?.into_iter();
    let positions: Positions = committed
        .map(|p| ((p.topic, p.partition), (p.offset, InputTime::decode(&p.metadata))))
        .collect();
    let mut sources = Vec::new();
    let mut looked_at = 0;
    for (topic, is_table) in plan.source_topics()? {
        for partition in 0..topic.partitions {
            let silence = running.as_ref().map(|(_, silence)| *silence);
            let line = source_line(broker, &positions, &topic, partition, silence)?;
            let mut line = SourceLine { is_table, ..line };
            if line.lag > 0 && looked_at < LOOKED_AT_MAX {
                looked_at += 1;
                line.lag_ms = lag_ms(broker, &topic, &line)?;
            }
            sources.push(line);
        }
    }
    let windows = windows(plan, &positions, &sources);
    let running = running.map(|(live, _)| live);
    Ok(Status { job: plan.settings.id.clone(), running, sources, windows, stores })
}

fn source_line(
    broker: &dyn Broker,
    positions: &Positions,
    topic: &TopicRef,
    partition: u32,
    silence: Option<&Silence>,
) -> Result<SourceLine> {
    let bounds = broker.bounds(topic, partition)?;
    let end = bounds.committed_end;
    let position = positions.get(&(topic.id, partition));
    let known = position.and_then(|(_, time)| time.as_ref()).map(|time| time.clock);
    let offset = position.map(|(offset, _)| *offset);
    let lag = end.saturating_sub(offset.unwrap_or(bounds.start)).max(0);
    Ok(SourceLine {
        topic: topic.name.to_string(),
        partition,
        is_table: false,
        position: offset,
        start: bounds.start,
        end,
        lag,
        lag_ms: (lag == 0).then_some(0),
        event_time: known.filter(|&clock| clock > i64::MIN),
        silent_ms: silence.map(|s| s.observe(topic.id, partition, end, broker.monotonic())),
    })
}

/// How old the first unread record is.
fn lag_ms(broker: &dyn Broker, topic: &TopicRef, line: &SourceLine) -> Result<Option<i64>> {
    let offset = line.position.unwrap_or(line.start);
    if offset < line.start {
        return Ok(None);
    }
    let mut reader = broker.reader(topic, line.partition, offset, Scope::Committed)?;
    let records = reader.poll()?;
    let first = records.as_ref().and_then(|records| records.get(0));
    Ok(first.map(|record| broker.now_ms().saturating_sub(record.timestamp).max(0)))
}

fn windows(plan: &JobPlan, positions: &Positions, sources: &[SourceLine]) -> Vec<WindowLine> {
    let graph = &plan.graph;
    let membership = graph.membership();
    let mut lines = Vec::new();
    for (node, kind) in graph.iter().map(|(id, node)| (id, &node.kind)) {
        let Kind::WindowAggregate { store, window, .. } = kind else { continue };
        if window.never_close() {
            continue;
        }
        let part = membership[node.0];
        let inputs = graph.time_inputs(node);
        let time = |partition| {
            let clocks = inputs.iter().map(|&(input, lag)| {
                clock(plan, positions, part, input, partition).saturating_sub(lag)
            });
            clocks.min().unwrap_or(i64::MIN)
        };
        let time = (0..plan.counts[part]).map(time).min().unwrap_or(i64::MIN);
        let known = time > i64::MIN && time < i64::MAX;
        lines.push(WindowLine {
            store: store.to_string(),
            delay_ms: window.delay_ms(),
            closed_to: known.then(|| time.saturating_sub(window.delay_ms())),
            held_by: held_by(plan, part, sources),
        });
    }
    lines
}

/// The committed clock of an input in one task.
fn clock(plan: &JobPlan, positions: &Positions, part: usize, input: usize, partition: u32) -> i64 {
    let declared = plan.parts[part].sources.iter().find(|source| source.input == input);
    let topic = declared.and_then(|source| plan.topics.get(&source.topic));
    let (Some(source), Some(topic)) = (declared, topic) else { return i64::MIN };
    if partition >= topic.partitions {
        return i64::MAX;
    }
    let time = positions.get(&(topic.id, partition)).and_then(|(_, time)| time.as_ref());
    let Some(time) = time else { return i64::MIN };
    match source.upstream {
        None => time.clock,
        // A task that has not spoken yet is not in the list.
        Some(upstream) if time.watermarks.len() < usize_of(plan.counts[upstream]) => i64::MIN,
        Some(_) => time.watermarks.iter().copied().min().unwrap_or(i64::MIN),
    }
}

fn usize_of(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Of all source partitions that a part of the topology depends on, the one that is least far.
fn held_by(plan: &JobPlan, part: usize, sources: &[SourceLine]) -> Option<usize> {
    let (mut parts, mut at) = (vec![part], 0);
    let mut topics: Vec<&str> = Vec::new();
    while let Some(&part) = parts.get(at) {
        at += 1;
        for source in &plan.parts[part].sources {
            match source.upstream {
                None => topics.push(&source.topic),
                Some(upstream) if parts.contains(&upstream) => {}
                Some(upstream) => parts.push(upstream),
            }
        }
    }
    let streams = sources.iter().enumerate().filter(|(_, line)| !line.is_table);
    let ours = streams.filter(|(_, line)| topics.contains(&&*line.topic));
    ours.min_by_key(|(_, line)| line.event_time.unwrap_or(i64::MIN)).map(|(at, _)| at)
}

impl crate::topology::Graph {
    /// The inputs whose clocks a step looks at, each with how far results lag it on the way there.
    fn time_inputs(&self, node: NodeId) -> Vec<(usize, i64)> {
        let inputs = self.inputs();
        let mut found = Vec::new();
        let mut above: Vec<(NodeId, i64)> =
            self.nodes[node.0].inputs.iter().map(|&input| (input, 0)).collect();
        while let Some((id, lag)) = above.pop() {
            if let Some(input) = inputs.iter().position(|(source, _)| *source == id) {
                found.push((input, lag));
            }
            let own = match &self.nodes[id.0].kind {
                Kind::WindowAggregate { window, .. } => window.lag_ms(),
                Kind::StreamJoin { window, join: JoinKind::Inner, .. } => window.inner_lag_ms(),
                Kind::StreamJoin { window, .. } => window.lag_ms(),
                Kind::AtMostEvery { every_ms: lag_ms, .. }
                | Kind::GraceJoin { grace_ms: lag_ms, .. } => *lag_ms,
                _ => 0,
            };
            let node = &self.nodes[id.0];
            // What a stream looks up does not count.
            let looks_up = matches!(node.kind, Kind::TableJoin { .. } | Kind::GraceJoin { .. });
            let counting = if looks_up { 1 } else { usize::MAX };
            let next = node.inputs.iter().take(counting);
            above.extend(next.map(|&input| (input, lag.saturating_add(own))));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_since_the_end_last_moved() {
        let silence = Silence::default();
        let at = |end, seconds| silence.observe([1; 16], 0, end, Duration::from_secs(seconds));
        assert_eq!([at(5, 10), at(5, 12), at(6, 13), at(6, 14)], [0, 2_000, 0, 1_000]);
        assert_eq!(silence.observe([1; 16], 1, 5, Duration::from_secs(20)), 0);
    }
}
