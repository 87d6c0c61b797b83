//! Rejects topologies that contradict themselves, before anything runs. Pure.
//!
//! Invariants
//! * everything refused here names the step and the edit that mends it.

use std::collections::BTreeSet;

use super::{Graph, Kind};
use crate::error::{Error, Result};
use crate::time::Ms;

impl Graph {
    /// Checks what single steps could not see.
    ///
    /// # Errors
    ///
    /// [`Error::Topology`].
    pub(crate) fn validate(&self) -> Result<()> {
        if self.nodes.is_empty() {
            return refuse("it has no steps", "start with `t.stream(TOPIC)`");
        }
        let mut stores = BTreeSet::new();
        let mut read = BTreeSet::new();
        for node in &self.nodes {
            match &node.kind {
                Kind::Aggregate { store, .. } | Kind::WindowAggregate { store, .. }
                    if !stores.insert(store) =>
                {
                    return refuse(
                        &format!("two steps call their store `{store}`"),
                        "give each stateful step a name of its own",
                    );
                }
                Kind::Source { topic, .. } => {
                    read.insert(topic);
                }
                _ => {}
            }
            if let Kind::WindowAggregate { store, window, .. } = &node.kind
                && window.size_ms() < 1
            {
                return refuse(
                    &format!("the windows of `{store}` have a size of {}", Ms(window.size_ms())),
                    "use at least one millisecond: `tumbling(secs(10))`",
                );
            }
        }
        for node in &self.nodes {
            if let Kind::Sink { topic } = &node.kind
                && read.contains(topic)
            {
                return refuse(
                    &format!("it reads topic `{topic}` and writes to it"),
                    "write to a topic of another name",
                );
            }
        }
        Ok(())
    }
}

fn refuse(reason: &str, help: &str) -> Result<()> {
    Err(Error::Topology { reason: reason.to_owned(), help: help.to_owned() })
}
