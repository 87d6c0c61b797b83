//! Cuts a graph into sub-topologies and says how many partitions each has. Pure.
//!
//! Why: a task is a sub-topology times a partition; what lies between two of them goes through a
//! repartition topic.
//!
//! Invariants
//! * two nodes are in one sub-topology exactly if edges connect them.
//! * sub-topologies are numbered by their first node.
//! * a sub-topology has as many partitions as its largest source topic; a repartition topic has as
//!   many as the sub-topology that writes it.

use std::collections::BTreeMap;

use super::{Graph, Kind, NodeId};
use crate::error::{Error, Result};
use crate::ids::StoreName;
use crate::letter::letters_topic;

/// A topic that a sub-topology reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceDecl {
    /// Number of the input, over the whole topology: the index of its clock.
    pub(crate) input: usize,
    pub(crate) topic: String,
    /// The sub-topology that writes it, if it is a repartition topic.
    pub(crate) upstream: Option<usize>,
}

/// A connected part of the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subtopology {
    pub(crate) sources: Vec<SourceDecl>,
    pub(crate) stores: Vec<StoreName>,
    /// Topics written, user topics, repartition topics and that of dead letters alike.
    pub(crate) sinks: Vec<String>,
}

impl Graph {
    /// Which sub-topology each node belongs to.
    pub(crate) fn membership(&self) -> Vec<usize> {
        let mut group: Vec<usize> = (0..self.nodes.len()).collect();
        for (NodeId(id), node) in self.iter() {
            for &NodeId(input) in &node.inputs {
                let (a, b) = (root(&group, id), root(&group, input));
                group[a.max(b)] = a.min(b);
            }
        }
        let mut numbers = BTreeMap::new();
        (0..self.nodes.len())
            .map(|id| {
                let next = numbers.len();
                *numbers.entry(root(&group, id)).or_insert(next)
            })
            .collect()
    }

    /// The inputs of the whole topology in node order: their node and topic.
    pub(crate) fn inputs(&self) -> Vec<(NodeId, &str)> {
        self.iter()
            .filter_map(|(id, node)| match &node.kind {
                Kind::Source { topic, .. } | Kind::RepartitionSource { topic } => {
                    Some((id, topic.as_str()))
                }
                _ => None,
            })
            .collect()
    }

    /// The sub-topologies in order.
    pub(crate) fn subtopologies(&self) -> Vec<Subtopology> {
        let membership = self.membership();
        let count = membership.iter().max().map_or(0, |max| max + 1);
        let mut parts = vec![Subtopology::default(); count];
        for (input, (NodeId(id), topic)) in self.inputs().into_iter().enumerate() {
            let upstream = match self.nodes[id].kind {
                Kind::RepartitionSource { .. } => self.writer_of(topic, &membership),
                _ => None,
            };
            parts[membership[id]].sources.push(SourceDecl {
                input,
                topic: topic.to_owned(),
                upstream,
            });
        }
        for (NodeId(id), node) in self.iter() {
            let part = &mut parts[membership[id]];
            match &node.kind {
                Kind::Aggregate { store, .. } | Kind::WindowAggregate { store, .. } => {
                    part.stores.push(store.clone());
                }
                Kind::Sink { topic } | Kind::RepartitionSink { topic, .. }
                    if !part.sinks.contains(topic) =>
                {
                    part.sinks.push(topic.clone());
                }
                _ => {}
            }
            let letters = letters_topic(&self.id);
            if self.writes_letters(node) && !part.sinks.contains(&letters) {
                part.sinks.push(letters);
            }
        }
        parts
    }

    fn writer_of(&self, repartition: &str, membership: &[usize]) -> Option<usize> {
        self.iter().find_map(|(NodeId(id), node)| match &node.kind {
            Kind::RepartitionSink { topic, .. } if topic == repartition => Some(membership[id]),
            _ => None,
        })
    }
}

fn root(group: &[usize], mut id: usize) -> usize {
    while group[id] != id {
        id = group[id];
    }
    id
}

/// How many partitions each sub-topology has, given those of the user's source topics.
///
/// # Errors
///
/// [`Error::NotCopartitioned`] when a sub-topology with a store reads topics of different counts.
pub(crate) fn partition_counts(
    parts: &[Subtopology],
    of_topic: &BTreeMap<String, u32>,
) -> Result<Vec<u32>> {
    let mut counts: Vec<u32> = Vec::with_capacity(parts.len());
    for index in 0..parts.len() {
        counts.push(count_of(parts, index, of_topic));
    }
    for part in parts.iter().filter(|part| !part.stores.is_empty()) {
        let sized = |source: &SourceDecl| source_count(parts, source, of_topic);
        let Some((first, rest)) = part.sources.split_first() else { continue };
        if let Some(other) = rest.iter().find(|other| sized(other) != sized(first)) {
            return Err(Error::NotCopartitioned {
                left: first.topic.clone(),
                left_partitions: sized(first),
                right: other.topic.clone(),
                right_partitions: sized(other),
            });
        }
    }
    Ok(counts)
}

fn count_of(parts: &[Subtopology], index: usize, of_topic: &BTreeMap<String, u32>) -> u32 {
    let counts = parts[index].sources.iter().map(|source| source_count(parts, source, of_topic));
    counts.max().unwrap_or(0)
}

fn source_count(
    parts: &[Subtopology],
    source: &SourceDecl,
    of_topic: &BTreeMap<String, u32>,
) -> u32 {
    match source.upstream {
        Some(upstream) => count_of(parts, upstream, of_topic),
        None => of_topic.get(&source.topic).copied().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Carries;

    fn graph() -> Graph {
        let mut g = Graph::new("app");
        let a = g.add(Kind::Source { topic: "a".into(), event_time: false }, &[]);
        let f = g.add(Kind::Filter, &[a]);
        let topic = || "app-s-repartition".to_owned();
        g.add(Kind::RepartitionSink { topic: topic(), carries: Carries::Key }, &[f]);
        let r = g.add(Kind::RepartitionSource { topic: topic() }, &[]);
        let b = g.add(Kind::Source { topic: "b".into(), event_time: false }, &[]);
        let m = g.add(Kind::Merge, &[r, b]);
        let store = StoreName::new("s").unwrap();
        let s = g.add(Kind::Aggregate { store, what: "count" }, &[m]);
        g.add(Kind::Sink { topic: "out".into() }, &[s]);
        g
    }

    #[test]
    fn a_repartition_topic_cuts_the_graph() {
        let parts = graph().subtopologies();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].sinks, ["app-s-repartition"]);
        let topics: Vec<_> = parts[1].sources.iter().map(|s| (&*s.topic, s.upstream)).collect();
        assert_eq!(topics, [("app-s-repartition", Some(0)), ("b", None)]);
    }

    #[test]
    fn state_over_inputs_of_different_counts_is_refused() {
        let parts = graph().subtopologies();
        let counts = |a, b| {
            let of = BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
            partition_counts(&parts, &of)
        };
        assert_eq!(counts(4, 4).unwrap(), [4, 4]);
        assert!(matches!(counts(4, 6), Err(Error::NotCopartitioned { .. })));
    }
}
