//! Which input of a task is read first where timestamps are equal, and which steps hear of a record only
//! at the commit. Pure.
//!
//! Why: a stream that looks up a table should find what was said at the same time, and the order in
//! which a user names topics must not decide what a job writes. And a table passes a record on later than
//! the clock of its input says: a window behind it that looked at that clock would close without it.
//!
//! ```text
//!   users ----- table --+                 rank 0
//!   accounts ----------join -- table --+  rank 1
//!   clicks --------------------------join  rank 2
//! ```
//!
//! Invariants
//! * the inputs of a table come before those of a stream that looks it up, through any number of joins.
//! * where two streams look each other up, the order in which the topology names them decides.
//! * a step behind the updates of a table, through whatever lies between, has its time at the commit.

use std::collections::BTreeSet;

use super::{Graph, Kind, NodeId};

impl Graph {
    /// The rank of each node that is an input; 0 for all others.
    pub(crate) fn ranks(&self) -> Vec<usize> {
        let mut before: BTreeSet<(usize, usize)> = BTreeSet::new();
        for node in &self.nodes {
            let (
                Kind::TableJoin { .. }
                | Kind::GraceJoin { .. }
                | Kind::Subscriptions { .. }
                | Kind::Process { .. },
                &[stream, ref tables @ ..],
            ) = (&node.kind, &node.inputs[..])
            else {
                continue;
            };
            for &table in tables {
                let tables = self.inputs_of(table);
                for &stream in self.inputs_of(stream).difference(&tables) {
                    before.extend(tables.iter().map(|&table| (table, stream)));
                }
            }
        }
        let mut ranks = vec![0; self.nodes.len()];
        // A path has no more edges than there are nodes; more rounds would only follow a circle.
        for _ in 0..self.nodes.len() {
            for &(table, stream) in &before {
                ranks[stream] = ranks[stream].max(ranks[table] + 1);
            }
        }
        ranks
    }

    /// The steps that take what a table passes on once per commit, at once or through other steps.
    pub(crate) fn behind_updates(&self) -> BTreeSet<NodeId> {
        let mut behind = BTreeSet::new();
        for (id, node) in self.iter() {
            let taken = match (&node.kind, &node.inputs[..]) {
                // What is looked up is not passed on.
                (
                    Kind::TableJoin { .. } | Kind::GraceJoin { .. } | Kind::Process { .. },
                    [stream, ..],
                ) => std::slice::from_ref(stream),
                (_, inputs) => inputs,
            };
            let is_late = |input: &NodeId| {
                let kind = &self.nodes[input.0].kind;
                let is_table = matches!(
                    kind,
                    Kind::Table { .. }
                        | Kind::VersionedTable { .. }
                        | Kind::Aggregate { .. }
                        | Kind::TableTableJoin { .. }
                        | Kind::ForeignJoin { .. }
                );
                // One that never closes passes its rows on as a table does.
                let never =
                    matches!(kind, Kind::WindowAggregate { window, .. } if window.never_close());
                is_table || never || behind.contains(input)
            };
            if taken.iter().any(is_late) {
                behind.insert(id);
            }
        }
        behind
    }

    /// The inputs whose records reach a node inside its sub-topology.
    fn inputs_of(&self, node: NodeId) -> BTreeSet<usize> {
        let (mut seen, mut found, mut open) = (BTreeSet::new(), BTreeSet::new(), vec![node.0]);
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let is_store = matches!(self.nodes[id].kind, Kind::Store { .. });
            if self.nodes[id].inputs.is_empty() && !is_store {
                found.insert(id);
            }
            open.extend(self.nodes[id].inputs.iter().map(|input| input.0));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StoreName;
    use crate::topology::JoinKind;

    fn source(g: &mut Graph, topic: &str) -> NodeId {
        g.add(Kind::Source { topic: topic.to_owned(), event_time: false }, &[])
    }

    fn join(g: &mut Graph, stream: NodeId, table: NodeId) -> NodeId {
        let store = StoreName::new("s").unwrap();
        g.add(Kind::TableJoin { store, join: JoinKind::Inner }, &[stream, table])
    }

    #[test]
    fn tables_come_before_what_looks_them_up_in_whatever_order_they_are_named() {
        let mut g = Graph::new("app");
        let clicks = source(&mut g, "clicks");
        let accounts = source(&mut g, "accounts");
        let users = source(&mut g, "users");
        let joined = join(&mut g, accounts, users);
        join(&mut g, clicks, joined);
        let ranks = g.ranks();
        assert_eq!([ranks[users.0], ranks[accounts.0], ranks[clicks.0]], [0, 1, 2]);
    }

    #[test]
    fn a_step_is_behind_the_updates_that_it_takes_and_not_behind_those_that_it_looks_up() {
        let mut g = Graph::new("app");
        let (clicks, users) = (source(&mut g, "clicks"), source(&mut g, "users"));
        let table = g.add(Kind::Table { store: StoreName::new("t").unwrap() }, &[users]);
        let joined = join(&mut g, clicks, table);
        let mapped = g.add(Kind::Map, &[table]);
        let merged = g.add(Kind::Merge, &[joined, mapped]);
        let again = join(&mut g, mapped, table);
        assert_eq!(g.behind_updates(), BTreeSet::from([mapped, merged, again]));
    }

    #[test]
    fn streams_that_look_each_other_up_still_have_an_order() {
        let mut g = Graph::new("app");
        let (a, b) = (source(&mut g, "a"), source(&mut g, "b"));
        join(&mut g, a, b);
        join(&mut g, b, a);
        assert_eq!(g.ranks().len(), 4);
    }
}
