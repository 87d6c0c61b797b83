//! How far each store with windows is, by what is committed.
//!
//! Why from positions: whoever asks has no task. A job that starts with another grace writes down where
//! the one before it ended, and a replay looks at a job that may run elsewhere.
//!
//! Invariants
//! * the time of a store is that of the task that is furthest behind, and never ahead of what a task
//!   that opens now would say.

use std::collections::BTreeMap;

use super::input::smallest;
use super::plan::JobPlan;
use crate::error::Result;
use crate::ids::StoreName;
use crate::time::Period;
use crate::topology::{Kind, NodeId};

impl JobPlan {
    /// The windows of each store in this build, as a period that begins where the job is.
    pub(super) fn window_times(&self) -> Result<BTreeMap<StoreName, Period>> {
        let is_windowed = |kind: &Kind| matches!(kind, Kind::WindowAggregate { .. });
        if !self.graph.iter().any(|(_, node)| is_windowed(&node.kind)) {
            return Ok(BTreeMap::new());
        }
        let assembly = self.assemble()?;
        let membership = assembly.graph.membership();
        let mut all = BTreeMap::new();
        for (node, op) in &assembly.timed {
            let kind = &assembly.graph.nodes[node.0].kind;
            let Kind::WindowAggregate { store, window, .. } = kind else { continue };
            let (op, part) = (op.borrow(), membership[node.0]);
            let mut time: Option<i64> = None;
            for partition in 0..self.counts[part] {
                let clocks = self.committed_clocks(part, partition, assembly.entries.len())?;
                let here = op.inputs().time(&clocks);
                time = Some(time.map_or(here, |known| known.min(here)));
            }
            let (time, read_to) = (time.unwrap_or(i64::MIN), self.read_to(*node)?);
            all.insert(store.clone(), Period { window: *window, read_to, time });
        }
        Ok(all)
    }

    /// The clocks of a task's inputs as it would open them.
    fn committed_clocks(&self, part: usize, partition: u32, inputs: usize) -> Result<Vec<i64>> {
        let mut clocks = vec![i64::MIN; inputs];
        for source in self.parts[part].sources.iter().filter(|source| !source.is_global) {
            let Some(topic) = self.topics.get(&source.topic) else { continue };
            clocks[source.input] = if partition >= topic.partitions {
                i64::MAX
            } else {
                let time = self.input_time(topic, partition)?;
                match self.watermarks(source, time.as_ref()) {
                    Some(watermarks) => smallest(&watermarks),
                    None => time.map_or(i64::MIN, |time| time.clock),
                }
            };
        }
        Ok(clocks)
    }

    /// No event time that was read for a node is larger.
    fn read_to(&self, node: NodeId) -> Result<i64> {
        let mut most = i64::MIN;
        for name in self.graph.timed_sources(node) {
            let Some(topic) = self.topics.get(name) else { continue };
            for partition in 0..topic.partitions {
                let time = self.input_time(topic, partition)?;
                most = most.max(time.map_or(i64::MIN, |time| time.clock));
            }
        }
        Ok(most)
    }
}
