//! Rejects topologies that contradict themselves, before anything runs. Pure.
//!
//! Invariants
//! * everything refused here names the step and the edit that mends it.

use std::collections::BTreeSet;

use super::{Graph, Kind, Node, changelog_topic, clock_topic};
use crate::error::{Error, Result};
use crate::ids::check_name;
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
        self.check_names()?;
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

    /// Names of topics and of the job, and that no topic of the user is one of the job's own.
    fn check_names(&self) -> Result<()> {
        check_name("job", &self.id)?;
        let mut own: BTreeSet<String> =
            self.nodes.iter().filter_map(|n| self.own_topic(n)).collect();
        own.insert(clock_topic(&self.id));
        own.iter().try_for_each(|topic| check_name("topic", topic))?;
        for node in &self.nodes {
            let (Kind::Source { topic, .. } | Kind::Sink { topic }) = &node.kind else { continue };
            check_name("topic", topic)?;
            if own.contains(topic) {
                return refuse(
                    &format!("it keeps topic `{topic}` for itself"),
                    "use a topic of another name, or give the store another one",
                );
            }
        }
        Ok(())
    }

    /// The internal topic that a step brings with it.
    fn own_topic(&self, node: &Node) -> Option<String> {
        match &node.kind {
            Kind::Aggregate { store, .. } | Kind::WindowAggregate { store, .. } => {
                Some(changelog_topic(&self.id, store))
            }
            Kind::RepartitionSink { topic, .. } => Some(topic.clone()),
            _ => None,
        }
    }
}

fn refuse(reason: &str, help: &str) -> Result<()> {
    Err(Error::Topology { reason: reason.to_owned(), help: help.to_owned() })
}
