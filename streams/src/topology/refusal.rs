//! Which steps may refuse records, and what then: the policy of each, and the topic of dead letters.
//! Pure.
//!
//! Invariants
//! * the topic of dead letters is a part of the topology exactly if some step can write to it.

use super::{Graph, Kind, Node};
use crate::letter::letters_topic;
use crate::on_error::OnError;

impl Kind {
    /// Whether it takes a policy: it decodes what others wrote, or asks a closure that may say no.
    pub(crate) fn may_refuse(&self) -> bool {
        matches!(
            self,
            Self::Source { .. }
                | Self::GlobalTable { .. }
                | Self::TryMap
                | Self::SinkOf
                | Self::Process { .. }
        )
    }
}

impl Graph {
    /// What a step does with records that it cannot take; `None` for one that takes all.
    pub(crate) fn policy(&self, node: &Node) -> Option<OnError> {
        node.kind.may_refuse().then(|| node.on_error.unwrap_or(self.on_error))
    }

    /// Whether a step writes dead letters.
    pub(crate) fn writes_letters(&self, node: &Node) -> bool {
        self.policy(node) == Some(OnError::DeadLetter)
    }

    /// The topic of dead letters, if there can be any.
    pub(crate) fn letters_topic(&self) -> Option<String> {
        self.nodes.iter().any(|node| self.writes_letters(node)).then(|| letters_topic(&self.id))
    }
}
