//! Cuts a graph into sub-topologies. Pure.
//!
//! Why: a task is a sub-topology times a partition; what lies between two of them goes through a
//! repartition topic.
//!
//! Invariants
//! * two nodes are in one sub-topology exactly if edges connect them.
//! * sub-topologies are numbered by their first node.
//! * within one, inputs that meet other than through a global table are one group: if it keeps state
//!   by key, all of them must have the same number of partitions.

use std::collections::{BTreeMap, BTreeSet};

use super::{Graph, Kind, NodeId};
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
    /// Its partitions, if it is a repartition topic and the user chose them.
    pub(crate) chosen: Option<u32>,
    /// Every task reads all of its partitions, before anything else.
    pub(crate) is_global: bool,
    /// Its records are taken in the order of source time.
    pub(crate) is_ordered: bool,
    /// At equal timestamps the input of the smallest rank is read first.
    pub(crate) rank: usize,
    /// Inputs of one group meet each other's records by key.
    pub(crate) group: usize,
}

/// A connected part of the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subtopology {
    pub(crate) sources: Vec<SourceDecl>,
    pub(crate) stores: Vec<StoreName>,
    /// Topics written, user topics, repartition topics and that of dead letters alike.
    pub(crate) sinks: Vec<String>,
    /// Groups of inputs that keep state by key.
    pub(crate) keyed_groups: BTreeSet<usize>,
}

impl Graph {
    /// Which sub-topology each node belongs to.
    pub(crate) fn membership(&self) -> Vec<usize> {
        self.connected(|_| true)
    }

    /// Which connected part each node belongs to, over edges from the nodes that count.
    fn connected(&self, counts: impl Fn(&Kind) -> bool) -> Vec<usize> {
        let mut group: Vec<usize> = (0..self.nodes.len()).collect();
        for (NodeId(id), node) in self.iter() {
            let inputs = node.inputs.iter().map(|input| input.0);
            for input in inputs.filter(|&input| counts(&self.nodes[input].kind)) {
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
                Kind::Source { topic, .. }
                | Kind::RepartitionSource { topic }
                | Kind::GlobalTable { topic, .. } => Some((id, topic.as_str())),
                _ => None,
            })
            .collect()
    }

    /// The sub-topologies in order.
    pub(crate) fn subtopologies(&self) -> Vec<Subtopology> {
        let membership = self.membership();
        let count = membership.iter().max().map_or(0, |max| max + 1);
        let mut parts = vec![Subtopology::default(); count];
        let groups = self.connected(|kind| !matches!(kind, Kind::GlobalTable { .. }));
        let ranks = self.ranks();
        for (input, (NodeId(id), topic)) in self.inputs().into_iter().enumerate() {
            let upstream = match self.nodes[id].kind {
                Kind::RepartitionSource { .. } => self.writer_of(topic, &membership),
                _ => None,
            };
            parts[membership[id]].sources.push(SourceDecl {
                input,
                topic: topic.to_owned(),
                upstream,
                chosen: self.chosen.get(topic).copied(),
                is_global: matches!(self.nodes[id].kind, Kind::GlobalTable { .. }),
                is_ordered: self.ordered.contains(topic),
                rank: ranks[id],
                group: groups[id],
            });
        }
        for (NodeId(id), node) in self.iter() {
            let part = &mut parts[membership[id]];
            part.stores.extend(node.kind.stores().into_iter().cloned());
            if node.kind.is_keyed() {
                part.keyed_groups.insert(groups[id]);
            }
            match &node.kind {
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
}
