//! How a task gets its stores and inputs: as the last commit left them.
//!
//! Invariants
//! * a store is brought up to its changelog before the operator that owns it sees a record.
//! * an input begins at its committed position, with the clock that was committed beside it.

use std::sync::Arc;

use super::{StorePartition, Stores, Task};
use crate::broker::{Broker, Scope, TopicRef};
use crate::error::{Error, Result};
use crate::processor::{Shared, Stateful};
use crate::runtime::input::{
    GlobalPosition, Input, LoggedRaise, Ordering, global_position, smallest,
};
use crate::runtime::plan::JobPlan;
use crate::runtime::restore::{ChangelogPlace, restore};
use crate::topology::{NodeId, SourceDecl, changelog_topic};

impl Task {
    pub(super) fn open_store(
        &mut self,
        plan: &JobPlan,
        (node, op): (NodeId, Shared<dyn Stateful>),
        broker: &dyn Broker,
        stores: &dyn Stores,
    ) -> Result<()> {
        let name = op.borrow().store().clone();
        let changelog = plan.topic(&changelog_topic(&plan.settings.id, &name))?.clone();
        let mut rows = stores.open(&name, self.id.partition)?;
        let partition = self.id.partition;
        let origin = plan.origin(&changelog, partition);
        let holder = plan.settings.id.clone();
        let place = ChangelogPlace { topic: &changelog, partition, origin, holder: &holder };
        self.restored += restore(broker, place, &*op.borrow(), &mut rows)?;
        op.borrow_mut().open(rows)?;
        self.stores.push(StorePartition { node, op, changelog, holder, batch: broker.batch() });
        Ok(())
    }

    pub(super) fn open_input(
        &mut self,
        plan: &JobPlan,
        source: &SourceDecl,
        broker: &Arc<dyn Broker>,
    ) -> Result<Vec<GlobalPosition>> {
        let topic = plan.topic(&source.topic)?.clone();
        if self.id.partition >= topic.partitions {
            // Nothing can ever come from there, so nothing waits for it.
            self.ctx.clocks[source.input] = i64::MAX;
            return Ok(Vec::new());
        }
        let partition = self.id.partition;
        let position = plan.position(&topic, partition);
        let time = plan.input_time(&topic, partition)?;
        let scope = if source.upstream.is_some() { Scope::Own } else { Scope::Committed };
        let start = match position {
            Some(position) => position.offset,
            None => broker.bounds(&topic, partition)?.start,
        };
        let watermarks = plan.watermarks(source, time.as_ref());
        self.ctx.clocks[source.input] = match (&watermarks, &time) {
            // What is held back has not been passed.
            (Some(_), Some(time)) if source.is_ordered => time.clock,
            (Some(_), None) if source.is_ordered => i64::MIN,
            (Some(watermarks), _) => smallest(watermarks),
            (None, Some(time)) => time.clock,
            (None, None) => i64::MIN,
        };
        let reader = broker.reader(&topic, partition, start, scope)?;
        let now = broker.monotonic();
        let raises = broker.logged_raises(&topic, partition).into_iter();
        let raises = raises.map(|(next_offset, raised_to)| LoggedRaise { next_offset, raised_to });
        let before = time.as_ref().and_then(|time| time.ordered);
        let ordering = source.is_ordered.then(|| {
            let limit = plan.settings.limits.held_bytes_max;
            let said = watermarks.as_deref().unwrap_or_default();
            Ordering::new(limit, before, broker).with_watermarks(said)
        });
        if before.is_some() && ordering.is_none() {
            return Err(was_ordered(&topic));
        }
        let readings = broker.logged_readings(&topic, partition);
        self.repeats_clock |= readings.is_some();
        let input = Input::new(source.input, topic, partition, watermarks, reader, now);
        let input = input.repeating(raises.collect()).reading(readings.unwrap_or_default());
        self.inputs.push(match ordering {
            Some(ordering) => input.ordered(ordering).holding_again()?,
            None => input,
        });
        Ok(time.map_or_else(Vec::new, |time| time.globals))
    }

    /// All partitions of a global table, each from where this task was in it.
    pub(super) fn open_global(
        &mut self,
        plan: &JobPlan,
        source: &SourceDecl,
        broker: &dyn Broker,
        carried: &[GlobalPosition],
    ) -> Result<()> {
        let topic = plan.topic(&source.topic)?.clone();
        for partition in 0..topic.partitions {
            let start = match global_position(carried, topic.id, partition) {
                Some(offset) => offset,
                None => broker.bounds(&topic, partition)?.start,
            };
            let reader = broker.reader(&topic, partition, start, Scope::Committed)?;
            let (topic, now) = (topic.clone(), broker.monotonic());
            let input = Input::new(source.input, topic, partition, None, reader, now);
            self.inputs.push(input.global());
        }
        Ok(())
    }
}

/// Some of what lies behind the committed position was taken before what lies in front of it.
fn was_ordered(topic: &TopicRef) -> Error {
    Error::Topology {
        reason: format!("topic `{}` was read in order, and is not any more", topic.name),
        help: "keep `.ordered()`, or give the repartition another name".to_owned(),
    }
}
