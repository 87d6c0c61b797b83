//! What of an output is the same in every run of one input: which records, in which order. Pure.
//!
//! Why: a check that compares more than a job promises cries wolf, and one that compares less sleeps.
//!
//! ```text
//!   source ............... each record, in order          -> filter, map, ..      the same
//!   key by, repartition .. each record, in any order
//!   window, on_close ..... each record (one per window)
//!   count, table, on_update, table join ..    the last value of each key: commits fall where they like
//!   changes, filtered or under other keys ..  which of them there are depends on commits: nothing
//! ```
//!
//! Invariants
//! * a step that is not known here is as unsure as what comes to it, and unsure behind changes.

use std::collections::BTreeMap;

use super::{Emit, Graph, Kind, NodeId};

/// What two runs of one input have in common at an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Each record, those of one key in order.
    InOrder,
    /// Each record.
    InAnyOrder,
    /// The last value of each key.
    Last,
    /// Nothing: what is told depends on when commits fall.
    Unsure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Each {
        is_ordered: bool,
    },
    /// Changes of a table; whether its rows change with the records that are read, or by commits.
    Changes {
        is_immediate: bool,
    },
    /// Changes on their way to a fold that takes old values back.
    Grouped,
    Unsure,
}

impl Graph {
    /// The user's topics that the job writes, and what two runs have in common there.
    pub(crate) fn told(&self) -> BTreeMap<String, Told> {
        let mut flows: Vec<Flow> = Vec::with_capacity(self.nodes.len());
        let mut outputs: BTreeMap<String, Told> = BTreeMap::new();
        // Inputs have lower numbers, and so has the writer of a repartition topic than its reader.
        for (_, node) in self.iter() {
            let inputs: Vec<Flow> = match &node.kind {
                Kind::RepartitionSource { topic } => self
                    .iter()
                    .filter(|(_, other)| {
                        matches!(&other.kind, Kind::RepartitionSink { topic: t, .. } if t == topic)
                    })
                    .filter_map(|(NodeId(id), _)| flows.get(id).copied())
                    .collect(),
                _ => node.inputs.iter().filter_map(|input| flows.get(input.0).copied()).collect(),
            };
            let flow = behind(&node.kind, &inputs);
            flows.push(flow);
            if let Kind::Sink { topic } = &node.kind {
                let told = match flow {
                    Flow::Each { is_ordered: true } => Told::InOrder,
                    Flow::Each { is_ordered: false } => Told::InAnyOrder,
                    Flow::Changes { .. } => Told::Last,
                    Flow::Grouped | Flow::Unsure => Told::Unsure,
                };
                let both = |known: &mut Told| *known = together(*known, told);
                outputs.entry(topic.clone()).and_modify(both).or_insert(told);
            }
        }
        outputs
    }
}

/// Two sinks on one topic: nothing says which of them writes first.
fn together(one: Told, other: Told) -> Told {
    match (one, other) {
        (Told::InOrder | Told::InAnyOrder, Told::InOrder | Told::InAnyOrder) => Told::InAnyOrder,
        _ => Told::Unsure,
    }
}

fn behind(kind: &Kind, inputs: &[Flow]) -> Flow {
    let is_each = inputs.iter().all(|flow| matches!(flow, Flow::Each { .. }));
    let is_ordered = inputs.iter().all(|flow| *flow == Flow::Each { is_ordered: true });
    let is_known = inputs.iter().all(|flow| *flow != Flow::Unsure);
    let same = match inputs {
        [] => Flow::Each { is_ordered: true },
        [only] => *only,
        _ if is_each => Flow::Each { is_ordered },
        _ => Flow::Unsure,
    };
    match kind {
        Kind::Source { .. } => Flow::Each { is_ordered: true },
        Kind::GlobalTable { .. } => Flow::Changes { is_immediate: true },
        Kind::Map
        | Kind::TryMap
        | Kind::Inspect
        | Kind::Merge
        | Kind::RepartitionSink { .. }
        | Kind::Sink { .. } => same,
        Kind::RepartitionSource { .. } => match same {
            Flow::Each { .. } => Flow::Each { is_ordered: false },
            other => other,
        },
        Kind::KeyBy | Kind::MapWithKey | Kind::FlatMapWithKey if is_each => {
            Flow::Each { is_ordered: false }
        }
        Kind::GroupBy if is_known => Flow::Grouped,
        Kind::Aggregate { .. } | Kind::Table { .. } if is_each => {
            Flow::Changes { is_immediate: true }
        }
        Kind::Aggregate { .. } if inputs.iter().all(|flow| *flow == Flow::Grouped) => {
            Flow::Changes { is_immediate: false }
        }
        Kind::Table { .. } | Kind::TableTableJoin { .. } if is_known => {
            Flow::Changes { is_immediate: false }
        }
        Kind::Subscriptions { .. } | Kind::ForeignJoin { .. } if is_known => {
            Flow::Changes { is_immediate: false }
        }
        Kind::WindowAggregate { emit: Emit::OnUpdate, .. } if is_each => {
            Flow::Changes { is_immediate: false }
        }
        // One record for each window of a key.
        Kind::WindowAggregate { .. } if is_each => Flow::Each { is_ordered: true },
        Kind::TableJoin { .. } => match inputs {
            [stream, Flow::Changes { is_immediate: true }] => *stream,
            [stream] => *stream,
            _ => Flow::Unsure,
        },
        _ if is_each => Flow::Each { is_ordered },
        _ => Flow::Unsure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StoreName;
    use crate::time::{Windows, secs, tumbling};
    use crate::topology::{Carries, JoinKind};

    fn name(text: &str) -> StoreName {
        StoreName::new(text).unwrap()
    }

    fn source(g: &mut Graph, topic: &str) -> NodeId {
        g.add(Kind::Source { topic: topic.into(), event_time: false }, &[])
    }

    fn through(g: &mut Graph, from: NodeId) -> NodeId {
        let topic = || "r".to_owned();
        g.add(Kind::RepartitionSink { topic: topic(), carries: Carries::Value }, &[from]);
        g.add(Kind::RepartitionSource { topic: topic() }, &[])
    }

    fn out(g: &Graph, from: NodeId) -> Told {
        let mut g = g.clone();
        g.add(Kind::Sink { topic: "out".into() }, &[from]);
        g.told()["out"]
    }

    #[test]
    fn records_keep_their_order_until_they_take_another_key() {
        let mut g = Graph::new("app");
        let s = source(&mut g, "in");
        let f = g.add(Kind::Filter, &[s]);
        assert_eq!(out(&g, f), Told::InOrder);
        let k = g.add(Kind::KeyBy, &[f]);
        assert_eq!(out(&g, k), Told::InAnyOrder);
        let r = through(&mut g, k);
        assert_eq!(out(&g, r), Told::InAnyOrder);
        let window = |emit| Kind::WindowAggregate {
            store: name("w"),
            what: "count",
            window: Windows::from(tumbling(secs(1))),
            emit,
        };
        let (closed, updated) =
            (g.add(window(Emit::OnClose), &[r]), g.add(window(Emit::OnUpdate), &[r]));
        assert_eq!(out(&g, closed), Told::InOrder, "one record for each window");
        assert_eq!(out(&g, updated), Told::Last);
        let mut twice = g.clone();
        twice.add(Kind::Sink { topic: "out".into() }, &[s]);
        assert_eq!(out(&twice, f), Told::InAnyOrder, "two sinks write one topic");
    }

    #[test]
    fn changes_tell_the_last_value_until_they_are_filtered_or_take_other_keys() {
        let mut g = Graph::new("app");
        let s = source(&mut g, "in");
        let counts = g.add(Kind::Aggregate { store: name("c"), what: "count" }, &[s]);
        assert_eq!(out(&g, counts), Told::Last);
        let mapped = g.add(Kind::Map, &[counts]);
        assert_eq!(out(&g, mapped), Told::Last);
        let filtered = g.add(Kind::Filter, &[counts]);
        assert_eq!(out(&g, filtered), Told::Unsure);
        let rekeyed = g.add(Kind::KeyBy, &[counts]);
        assert_eq!(out(&g, rekeyed), Told::Unsure);
        let again = g.add(Kind::Aggregate { store: name("d"), what: "count" }, &[rekeyed]);
        assert_eq!(out(&g, again), Told::Unsure, "how many changes there were depends on commits");
        let groups = g.add(Kind::GroupBy, &[counts]);
        let grouped = through(&mut g, groups);
        let sums = g.add(Kind::Aggregate { store: name("s"), what: "aggregate" }, &[grouped]);
        assert_eq!(out(&g, sums), Told::Last, "old values are taken back");
        let join = |store| Kind::TableJoin { store: name(store), join: JoinKind::Left };
        let (direct, late) = (g.add(join("c"), &[s, counts]), g.add(join("s"), &[s, sums]));
        assert_eq!(out(&g, direct), Told::InOrder);
        assert_eq!(out(&g, late), Told::Unsure, "its rows change when commits fall");
    }
}
