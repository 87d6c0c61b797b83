//! Rejects topologies that contradict themselves, before anything runs. Pure.
//!
//! Invariants
//! * everything refused here names the step and the edit that mends it.

use std::collections::BTreeSet;

use super::{Emit, Graph, Kind, Node, Pattern, changelog_topic, clock_topic};
use crate::error::{Error, Result};
use crate::ids::check_name;

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
        self.check_patterns()?;
        self.check_repartitions()?;
        let mut stores = BTreeSet::new();
        let mut read = BTreeSet::new();
        for node in &self.nodes {
            if let Some(store) = node.kind.stores().into_iter().find(|store| !stores.insert(*store))
            {
                return refuse(
                    &format!("two steps call their store `{store}`"),
                    "give each stateful step a name of its own",
                );
            }
            if let Kind::Source { topic, .. } | Kind::GlobalTable { topic, .. } = &node.kind
                && !read.insert(topic)
            {
                // A task's places in the two would be told apart by nothing.
                return refuse(
                    &format!("a global table is kept of topic `{topic}`, which is read twice"),
                    "look up one global table everywhere, or take a `t.table(..)` of the topic",
                );
            }
            if let Kind::WindowAggregate { store, window, emit, .. } = &node.kind {
                if let Some((what, help)) = window.mistake() {
                    return refuse(&format!("the windows of `{store}` {what}"), help);
                }
                if window.never_close() && *emit == Emit::OnClose {
                    return refuse(
                        &format!("the window of `{store}` never closes, so it would never speak"),
                        "let it speak at each commit: `.on_update()`",
                    );
                }
            }
        }
        for (id, node) in self.iter() {
            if let Kind::Store { store, .. } = &node.kind
                && !self.nodes.iter().any(|other| other.inputs.contains(&id))
            {
                return refuse(
                    &format!("no processor uses store `{store}`"),
                    "list it in the processor's `fn stores(&self)`, or leave it out",
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
        let own: BTreeSet<String> = self
            .nodes
            .iter()
            .flat_map(|n| self.own_topics(n))
            .chain(self.letters_topic())
            .chain([clock_topic(&self.id)])
            .collect();
        own.iter().try_for_each(|topic| check_name("topic", topic))?;
        for node in &self.nodes {
            let (Kind::Source { topic, .. }
            | Kind::GlobalTable { topic, .. }
            | Kind::Sink { topic }) = &node.kind
            else {
                continue;
            };
            if !self.patterns.contains(topic) {
                check_name("topic", topic)?;
            }
            if own.contains(topic) {
                return refuse(
                    &format!("it keeps topic `{topic}` for itself"),
                    "use a topic of another name, or give the store another one",
                );
            }
        }
        Ok(())
    }

    /// No topic is written that a pattern would take at the next start.
    fn check_patterns(&self) -> Result<()> {
        for pattern in &self.patterns {
            // It was read when it was said.
            let Ok(pattern_read) = Pattern::new(pattern) else { continue };
            for node in &self.nodes {
                if let Kind::Sink { topic } = &node.kind
                    && pattern_read.takes(topic)
                {
                    return refuse(
                        &format!("it writes to topic `{topic}`, which `{pattern}` matches"),
                        "write to a topic of another name, or match fewer",
                    );
                }
            }
        }
        Ok(())
    }

    /// Each repartition topic has one writer: two steps that would share one are told apart.
    fn check_repartitions(&self) -> Result<()> {
        let mut written = BTreeSet::new();
        for node in &self.nodes {
            if let Kind::RepartitionSink { topic, .. } = &node.kind
                && !written.insert(topic)
            {
                return refuse(
                    &format!("two steps would send records through topic `{topic}`"),
                    "name the way of one of them: `.repartition(\"by-user\", 4)` in front of the step",
                );
            }
        }
        match self.chosen.iter().find(|(_, partitions)| **partitions == 0) {
            Some((topic, _)) => refuse(
                &format!("repartition topic `{topic}` would have no partitions"),
                "give it at least one: `.repartition(\"by-user\", 4)`",
            ),
            None => Ok(()),
        }
    }

    /// The internal topics that a step brings with it.
    fn own_topics(&self, node: &Node) -> Vec<String> {
        if let Kind::RepartitionSink { topic, .. } = &node.kind {
            return vec![topic.clone()];
        }
        node.kind.stores().into_iter().map(|store| changelog_topic(&self.id, store)).collect()
    }
}

fn refuse(reason: &str, help: &str) -> Result<()> {
    Err(Error::Topology { reason: reason.to_owned(), help: help.to_owned() })
}
